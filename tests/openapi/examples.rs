//! The examples of answers are answers of a running service, but for ids, times, tags and durations; the examples of
//! requests are accepted. The examples of problems are in `problems`.

use fixtures::Served;
use openapi_check::{Answer, same_shape};
use reqwest::Method;
use serde_json::{Value, json};

use crate::document::orders_document;

const ORDERS: &str = "/api/v1/orders";

/// A store that rejects connections.
const NO_REDIS: (&str, &str) = ("redis_url", "redis://127.0.0.1:1");
const NO_POSTGRES: (&str, &str) = ("database_url", "postgres://orders@127.0.0.1:1/orders");

async fn served(name: &str, variables: &[(&str, &str)]) -> Served {
    let variables = [&[("identity", "none")], variables].concat();
    Served::start_with("spin.toml", name, &variables)
        .await
        .unwrap()
}

/// Sends a request, and demands that its response is documented, and that it is the example of that name, if one is
/// given.
async fn exchange(
    service: &Served,
    (method, path): (Method, &str),
    request: Option<(&str, &Value)>,
    example: Option<(&str, &str)>,
) -> Value {
    let url = format!("{}{path}", service.base_url());
    let mut sent = reqwest::Client::new().request(method.clone(), url);
    if let Some((key, body)) = request {
        let fields = [
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        for (name, value) in fields {
            sent = sent.header(name, value);
        }
        sent = sent.body(body.to_string());
    }
    let answer = sent.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.text().await.unwrap();
    let fields: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let answer = Answer {
        method: method.as_str(),
        path: path.split('?').next().unwrap(),
        status,
        fields: &fields,
        body: &body,
    };
    let undocumented = orders_document().undocumented(&answer).unwrap();
    assert!(undocumented.is_empty(), "{undocumented:?} in {answer:?}");
    let body = serde_json::from_str(&body).unwrap();
    if let Some((template, name)) = example {
        let template = template.replace('/', "~1");
        let method = method.as_str().to_lowercase();
        let pointer = format!(
            "/paths/{template}/{method}/responses/{status}/content/application~1json/examples/{name}/value"
        );
        let documented = orders_document().at(&pointer);
        let documented = documented.unwrap_or_else(|| panic!("nothing at {pointer}"));
        assert!(same_shape(documented, &body), "{pointer} is not {body}");
    }
    body
}

#[tokio::test]
async fn examples_are_answers_of_the_service() {
    let service = served(
        "openapi_examples",
        &[("redis_key_prefix", "openapi_examples:")],
    )
    .await;
    let get = |path| (Method::GET, path);
    exchange(&service, get("/healthz"), None, Some(("/healthz", "ok"))).await;
    exchange(&service, get("/readyz"), None, Some(("/readyz", "ready"))).await;
    exchange(&service, get(ORDERS), None, Some((ORDERS, "empty"))).await;

    let request = orders_document().root().pointer(
        "/paths/~1api~1v1~1orders/post/requestBody/content/application~1json/examples/order/value",
    );
    let body = request.unwrap();
    let request = Some(("8e03978e-40d5-43dd-bc93-6894a57f9324", body));
    let post = (Method::POST, ORDERS);
    exchange(&service, post.clone(), Some(("another-key", body)), None).await;
    let order = exchange(&service, post, request, Some((ORDERS, "order"))).await;
    let id = order["orderId"].as_str().unwrap();
    let path = format!("{ORDERS}/{id}");
    let one = Some(("/api/v1/orders/{orderId}", "order"));
    exchange(&service, get(&path), None, one).await;
    let page = format!("{ORDERS}?limit=1");
    exchange(&service, get(&page), None, Some((ORDERS, "page"))).await;
    let key = "/api/v1/idempotency-keys/8e03978e-40d5-43dd-bc93-6894a57f9324";
    let of_key = |name| Some(("/api/v1/idempotency-keys/{key}", name));
    exchange(&service, get(key), None, of_key("completed")).await;
}

#[tokio::test]
async fn examples_are_answers_in_an_outage() {
    let get = |path| (Method::GET, path);
    let degraded = served("openapi_degraded", &[NO_REDIS]).await;
    exchange(
        &degraded,
        get("/readyz"),
        None,
        Some(("/readyz", "degraded")),
    )
    .await;

    let prefix = ("redis_key_prefix", "openapi_outage:");
    let without = served("openapi_outage", &[NO_POSTGRES, prefix]).await;
    let unavailable = Some(("/readyz", "unavailable"));
    exchange(&without, get("/readyz"), None, unavailable).await;
    // Reserved in Redis, and not inserted.
    let order =
        json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let key = format!("8e03978e-40d5-43dd-bc93-{:012x}", std::process::id());
    exchange(&without, (Method::POST, ORDERS), Some((&key, &order)), None).await;
    let service = served("openapi_in_progress", &[prefix]).await;
    let path = format!("/api/v1/idempotency-keys/{key}");
    let in_progress = Some(("/api/v1/idempotency-keys/{key}", "in-progress"));
    exchange(&service, get(&path), None, in_progress).await;
}

#[tokio::test]
async fn examples_of_requests_are_accepted() {
    let service = served("openapi_requests", &[]).await;
    let examples = orders_document().examples();
    let of_requests = examples
        .iter()
        .filter(|(pointer, _)| pointer.contains("/requestBody/"));
    let mut count = 0;
    for (pointer, body) in of_requests {
        let order = exchange(
            &service,
            (Method::POST, ORDERS),
            Some((&format!("k{count}"), body)),
            None,
        )
        .await;
        assert!(order["orderId"].is_string(), "{pointer}: {order}");
        count += 1;
    }
    assert!(count > 1);
}
