//! The examples of responses are responses of a running service, but for ids, times, tags and durations; the examples
//! of requests are accepted. The examples of problems are in `problems`.

use fixtures::Served;
use openapi_check::{Answer, same_shape};
use reqwest::Method;
use serde_json::{Value, json};

use crate::document::orders_document;

const ORDERS: &str = "/api/v1/orders";
const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

async fn served(name: &str, variables: &[(&str, &str)]) -> Served {
    let variables = [&[("identity", "none")], variables].concat();
    Served::start_with("spin.toml", name, &variables).await.unwrap()
}

/// Creates an order, or reads if there is none; demands that the response is documented, and returns its status and
/// body.
async fn exchange(service: &Served, path: &str, order: Option<(&str, &Value)>) -> (u16, Value) {
    let method = if order.is_some() { Method::POST } else { Method::GET };
    let url = format!("{}{path}", service.base_url());
    let mut sent = reqwest::Client::new().request(method.clone(), url);
    if let Some((key, order)) = order {
        sent = sent.header("idempotency-key", key).header("content-type", "application/json");
        sent = sent.body(order.to_string());
    }
    let answer = sent.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.text().await.unwrap();
    let fields = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let fields: Vec<(&str, &str)> = fields.collect();
    let (method, path) = (method.as_str(), path.split('?').next().unwrap());
    let answer = Answer { method, path, status, fields: &fields, body: &body };
    let undocumented = orders_document().undocumented(&answer).unwrap();
    assert!(undocumented.is_empty(), "{undocumented:?} in {answer:?}");
    (status, serde_json::from_str(&body).unwrap())
}

/// Demands that a response is the example of that name of the operation.
fn is_example(operation: &str, name: &str, (status, body): (u16, Value)) -> Value {
    let (method, template) = operation.split_once(' ').unwrap();
    let template = template.replace('/', "~1");
    let responses = format!("/paths/{template}/{method}/responses/{status}");
    let pointer = format!("{responses}/content/application~1json/examples/{name}/value");
    let documented = orders_document().at(&pointer);
    let documented = documented.unwrap_or_else(|| panic!("nothing at {pointer}"));
    assert!(same_shape(documented, &body), "{pointer} is not {body}");
    body
}

#[tokio::test]
async fn examples_are_answers_of_the_service() {
    let prefix = ("redis_key_prefix", "openapi_examples:");
    let service = served("openapi_examples", &[prefix]).await;
    let get = async |path: &str| exchange(&service, path, None).await;
    is_example("get /healthz", "ok", get("/healthz").await);
    is_example("get /readyz", "ready", get("/readyz").await);
    is_example("get /api/v1/orders", "empty", get(ORDERS).await);
    let requests = "/paths/~1api~1v1~1orders/post/requestBody/content/application~1json/examples";
    let requests = orders_document().at(requests).unwrap().as_object().unwrap();
    assert!(requests.len() > 1);
    for name in requests.keys().filter(|name| *name != "order") {
        let (status, body) = exchange(&service, ORDERS, Some((name, &requests[name]["value"]))).await;
        assert_eq!(status, 201, "{name}: {body}");
    }
    let order = exchange(&service, ORDERS, Some((KEY, &requests["order"]["value"]))).await;
    let order = is_example("post /api/v1/orders", "order", order);
    let path = format!("{ORDERS}/{}", order["orderId"].as_str().unwrap());
    is_example("get /api/v1/orders/{orderId}", "order", get(&path).await);
    is_example("get /api/v1/orders", "page", get(&format!("{ORDERS}?limit=1")).await);
    let key = get(&format!("/api/v1/idempotency-keys/{KEY}")).await;
    is_example("get /api/v1/idempotency-keys/{key}", "completed", key);
}

#[tokio::test]
async fn examples_are_answers_in_an_outage() {
    let degraded = served("openapi_degraded", &[("redis_url", "redis://127.0.0.1:1")]).await;
    is_example("get /readyz", "degraded", exchange(&degraded, "/readyz", None).await);
    let prefix = ("redis_key_prefix", "openapi_outage:");
    let no_postgres = ("database_url", "postgres://orders@127.0.0.1:1/orders");
    let without = served("openapi_outage", &[no_postgres, prefix]).await;
    is_example("get /readyz", "unavailable", exchange(&without, "/readyz", None).await);
    // Reserved in Redis, and not inserted.
    let order = json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let key = format!("8e03978e-40d5-43dd-bc93-{:012x}", std::process::id());
    exchange(&without, ORDERS, Some((&key, &order))).await;
    let service = served("openapi_in_progress", &[prefix]).await;
    let in_progress = exchange(&service, &format!("/api/v1/idempotency-keys/{key}"), None).await;
    is_example("get /api/v1/idempotency-keys/{key}", "in-progress", in_progress);
}
