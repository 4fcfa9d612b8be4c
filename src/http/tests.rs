//! What can be refused by a request's head, and how problems look.

use serde_json::{Value, json};

use super::query::QueryError;
use super::*;
use crate::idempotency::KeyError;
use crate::order::Draft;

fn post(fields: &[(&str, &str)]) -> Result<Operation, Problem> {
    ask(Method::Post, ORDERS, fields)
}

/// Everything that is judged by the head of a request of a customer's.
fn ask(method: Method, target: &str, fields: &[(&str, &str)]) -> Result<Operation, Problem> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    match route(method, path)? {
        Route::Of(resource) => {
            resource.admit(Customer::anonymous(), query, &fields, Precondition::Key)
        }
        Route::Health | Route::Readiness => panic!("not a customer's"),
    }
}

const KEY: (&str, &str) = ("idempotency-key", "k1");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_creation_needs_a_key_and_json() {
    assert!(matches!(post(&[KEY, JSON]), Ok(Operation::CreateOrder(_))));
    let with_parameter = ("content-type", "Application/JSON; charset=utf-8");
    assert!(post(&[KEY, with_parameter]).is_ok());
    assert!(post(&[KEY, JSON, ("content-length", "65536")]).is_ok());

    assert_eq!(post(&[JSON]), Err(Problem::Key(KeyError::Missing)));
    let space = ("idempotency-key", "k 1");
    assert_eq!(post(&[space, JSON]), Err(Problem::Key(KeyError::Malformed)));
    let other = ("idempotency-key", "k2");
    assert_eq!(
        post(&[KEY, other, JSON]),
        Err(Problem::Key(KeyError::Ambiguous))
    );
    let quoted = ("idempotency-key", "\"k1\"");
    assert!(post(&[KEY, quoted, JSON]).is_ok());

    for content_type in ["text/plain", "application/jsonx", ""] {
        let fields = [KEY, ("content-type", content_type)];
        assert_eq!(post(&fields), Err(Problem::UnsupportedMediaType));
    }
    assert_eq!(post(&[KEY]), Err(Problem::UnsupportedMediaType));
    assert_eq!(post(&[KEY, JSON, JSON]), Err(Problem::UnsupportedMediaType));
    assert_eq!(
        post(&[KEY, JSON, ("content-length", "65537")]),
        Err(Problem::BodyTooLarge)
    );
}

#[test]
fn what_a_creation_has_to_bring_along_can_be_set() {
    let admit = |precondition, fields: &[(&'static str, &str)]| {
        let fields = [fields, &[JSON]].concat();
        Resource::NewOrder.admit(
            Customer::anonymous(),
            None,
            &fields.as_slice(),
            precondition,
        )
    };
    let any = ("if-match", "*");
    let conditional = |keyed: bool| {
        Ok(Operation::CreateConditionally(ConditionalRequest {
            customer: Customer::anonymous(),
            key: keyed.then(|| IdempotencyKey::parse(b"k1")).flatten(),
            expected: Expected::Any,
        }))
    };
    let keyless = Err(Problem::Key(KeyError::Missing));
    let unconditional = Err(Problem::PreconditionRequired);
    for (precondition, without_key, without_condition) in [
        (Precondition::Key, keyless.clone(), None),
        (Precondition::Etag, conditional(false), Some(&unconditional)),
        (Precondition::Both, keyless, Some(&unconditional)),
    ] {
        assert_eq!(admit(precondition, &[KEY, any]), conditional(true));
        assert_eq!(admit(precondition, &[any]), without_key);
        match (admit(precondition, &[KEY]), without_condition) {
            (Ok(Operation::CreateOrder(_)), None) => {}
            (refused, expected) => assert_eq!(Some(&refused), expected),
        }
    }
}

#[test]
fn a_lock_is_to_be_waited_for_in_whole_seconds() {
    for (milliseconds, seconds) in [(0, "1"), (1000, "1"), (1001, "2"), (4999, "5")] {
        let remaining = std::time::Duration::from_millis(milliseconds);
        let response = Problem::CollectionLocked { remaining }.into_response();
        assert_eq!(response.status, 409);
        let field = ("retry-after", seconds.to_owned());
        assert!(response.headers.contains(&field), "{milliseconds}");
    }
}

#[test]
fn paths_and_methods() {
    let at = |method: Method, path: &str| ask(method, path, &[]);
    let id = "01970000-0000-7000-8000-000000000001";
    let order = format!("{ORDERS}/{id}");
    assert!(matches!(
        at(Method::Get, &order),
        Ok(Operation::ShowOrder(..))
    ));
    assert!(matches!(
        at(Method::Head, "/api/v1/orders?limit=1"),
        Ok(Operation::ListOrders(_, PageRequest { limit: 1, .. }))
    ));
    assert_eq!(route(Method::Head, "/healthz"), Ok(Route::Health));
    assert_eq!(route(Method::Get, "/readyz"), Ok(Route::Readiness));
    assert_eq!(
        at(Method::Get, &format!("{ORDERS}/nope")),
        Err(Problem::OrderNotFound)
    );
    assert_eq!(
        at(Method::Get, &format!("{ORDERS}?offset=1")),
        Err(Problem::Query(QueryError::Unknown))
    );
    for path in [
        "/",
        "/api/v1/order",
        "/api/v1/orders/",
        "/healthz/",
        "/api/v1/ordersx",
        KEYS,
        "/api/v1/idempotency-keys/",
        "/api/v1/idempotency-keys/a/b",
    ] {
        assert_eq!(
            route(Method::Get, path),
            Err(Problem::UnknownPath),
            "{path}"
        );
    }
    assert_eq!(
        at(Method::Post, &format!("{order}/x")),
        Err(Problem::UnknownPath)
    );
    for (method, path, allow) in [
        (Method::Other, ORDERS, "GET, HEAD, POST"),
        (Method::Post, &order, "GET, HEAD"),
        (Method::Other, "/api/v1/idempotency-keys/k", "GET, HEAD"),
        (Method::Post, "/healthz", "GET, HEAD"),
        (Method::Other, "/readyz", "GET, HEAD"),
    ] {
        let problem = route(method, path).expect_err("not allowed");
        assert_eq!(problem, Problem::MethodNotAllowed { allow });
        let response = problem.into_response();
        assert_eq!(response.status, 405);
        assert!(response.headers.contains(&("allow", allow.to_owned())));
    }
}

#[test]
fn a_key_in_a_path_is_percent_decoded() {
    let key = |name: &str| match ask(Method::Get, &format!("{KEYS}/{name}"), &[]) {
        Ok(Operation::ShowKey(slot)) => slot.key.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(key("a%2Fb%3F%25"), "a/b?%");
    assert_eq!(key("%22k%22"), "\"k\"", "nothing is unquoted");
    for no_key in ["a%20b", "%C3%A9", &"k".repeat(256)] {
        assert_eq!(key(no_key), "Err(KeyNotFound)");
    }
}

#[test]
fn problems_follow_rfc_9457_and_say_what_to_do() {
    let problem = Problem::KeyReused {
        order_id: OrderId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
        differs: vec!["/note".into()],
    };
    let response = problem.into_response();
    assert_eq!(response.status, 422);
    assert_eq!(
        response.headers,
        [("content-type", "application/problem+json".to_owned())]
    );
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(
        body["type"],
        "urn:problem-type:orders:idempotency-key-reused"
    );
    assert_eq!(body["status"], 422);
    assert_eq!(body["orderId"], "01970000-0000-7000-8000-000000000001");
    assert_eq!(body["differs"], json!(["/note"]));
    assert!(
        body["detail"]
            .as_str()
            .is_some_and(|d| d.contains("new key"))
    );
}

#[test]
fn an_invalid_order_is_answered_with_its_violations() {
    let violations = Draft::from_json(&json!({"currency": "EUR"})).expect_err("no items");
    let response = Problem::InvalidOrder(violations).into_response();
    assert_eq!(response.status, 422);
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(
        body["violations"],
        json!([{"pointer": "/items", "detail": "is required"}])
    );
    assert_eq!(
        (&body["orderId"], &body["differs"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn unavailable_asks_to_come_back() {
    for problem in [Problem::OrdersUnavailable, Problem::CreationUndecided] {
        let response = problem.into_response();
        assert_eq!(response.status, 503);
        assert!(response.headers.contains(&("retry-after", "1".to_owned())));
    }
}

#[test]
fn readiness_follows_postgres_and_only_mentions_redis() {
    let probe = |up| Probe {
        up,
        latency_ms: 1.23456,
    };
    for (redis, postgres, code, status) in [
        (true, true, 200, "ready"),
        (false, true, 200, "degraded"),
        (true, false, 503, "unavailable"),
        (false, false, 503, "unavailable"),
    ] {
        let response = ready(probe(redis), probe(postgres));
        assert_eq!(response.status, code);
        let body: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(body["status"], status);
        let word = |up| if up { "up" } else { "down" };
        assert_eq!(body["checks"]["redis"]["status"], word(redis));
        assert_eq!(body["checks"]["postgres"]["status"], word(postgres));
        assert_eq!(body["checks"]["postgres"]["latencyMs"], 1.235);
    }
}
