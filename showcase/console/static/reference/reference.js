// Shows the operations with Swagger UI, and then the entry that the address names, which the operations have moved down.
SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#renderer",
  defaultModelsExpandDepth: 0,
  // No badge of a validator on another host.
  validatorUrl: null,
  onComplete() {
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
    document.documentElement.dataset.ready = "";
  },
});
