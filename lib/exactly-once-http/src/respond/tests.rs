//! What can be rejected by a request's head.

use exactly_once::condition::Expected;
use exactly_once::key::KeyError;
use exactly_once::members::id;

use super::*;
use crate::creation::ConditionalRequest;
use crate::head::{BodyError, MAX_BODY_BYTES, TestHead};
use crate::query::QueryError;

const COLLECTION: Collection = Collection { name: "orders", one: "order", path: ORDERS };

/// A resource without members.
const RESOURCE: Resource = Resource::new(COLLECTION, &[id("orderId")]);

const ORDERS: &str = "/api/v1/orders";
const KEYS: &str = "/api/v1/idempotency-keys";

/// A body that is an empty object.
struct EmptyObject;

impl Body for EmptyObject {
    async fn read(self, _: Option<u64>, _: usize) -> Result<Vec<u8>, BodyError> {
        Ok(b"{}".to_vec())
    }
}

/// Everything that is evaluated before a store is used, for a request to create an order.
fn post(fields: &[(&str, &str)]) -> Result<CreateOperation, Problem> {
    let head = TestHead { method: Method::Post, target: ORDERS, fields };
    let operation = creation::read_head(&COLLECTION, Customer::anonymous(), &head, Precondition::Key)?;
    futures::executor::block_on(creation::read_document(&RESOURCE, &head, EmptyObject))?;
    Ok(operation)
}

/// Everything that is evaluated by the head of a customer's request.
fn ask(method: Method, target: &str) -> Result<Operation, Problem> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = TestHead { method, target, fields: &[] };
    match route(&COLLECTION, method, path)? {
        Route::OfCustomer(route) => admit(&COLLECTION, route, Customer::anonymous(), query, &head, Precondition::Key),
        Route::Health | Route::Readiness | Route::Feed => panic!("not a customer's"),
    }
}

const KEY: (&str, &str) = ("idempotency-key", "k1");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_creation_needs_a_key_and_json() {
    assert!(matches!(post(&[KEY, JSON]), Ok(CreateOperation::Unconditional(_))));
    let with_parameter = ("content-type", "Application/JSON; charset=utf-8");
    assert!(post(&[KEY, with_parameter]).is_ok());
    assert!(post(&[KEY, JSON, ("content-length", "65536")]).is_ok());

    assert_eq!(post(&[JSON]), Err(Problem::Key(KeyError::Missing)));
    let space = ("idempotency-key", "k 1");
    assert_eq!(post(&[space, JSON]), Err(Problem::Key(KeyError::Malformed)));
    let other = ("idempotency-key", "k2");
    assert_eq!(post(&[KEY, other, JSON]), Err(Problem::Key(KeyError::Ambiguous)));
    let quoted = ("idempotency-key", "\"k1\"");
    assert!(post(&[KEY, quoted, JSON]).is_ok());

    for content_type in ["text/plain", "application/jsonx", ""] {
        let fields = [KEY, ("content-type", content_type)];
        assert_eq!(post(&fields), Err(Problem::UnsupportedMediaType("application/json")));
    }
    assert!(post(&[KEY]).is_ok(), "without a type it is JSON");
    assert_eq!(post(&[KEY, JSON, JSON]), Err(Problem::UnsupportedMediaType("application/json")));
    for coding in ["gzip", "identity, br", "GZIP"] {
        let fields = [KEY, JSON, ("content-encoding", coding)];
        assert_eq!(post(&fields), Err(Problem::UnsupportedContentCoding));
    }
    for none in ["identity", "", "Identity, "] {
        assert!(post(&[KEY, JSON, ("content-encoding", none)]).is_ok());
    }
    assert_eq!(post(&[KEY, JSON, ("content-length", "65537")]), Err(Problem::BodyTooLarge(MAX_BODY_BYTES)));
}

#[test]
fn another_encoding_is_named() {
    struct Bytes(Vec<u8>);

    impl Body for Bytes {
        async fn read(self, _: Option<u64>, _: usize) -> Result<Vec<u8>, BodyError> {
            Ok(self.0)
        }
    }

    let head = TestHead { method: Method::Post, target: ORDERS, fields: &[] };
    for (bytes, is_named) in [
        (&b"\xEF\xBB\xBF{}"[..], true),
        (b"\xFF\xFE{\0}\0", true),
        (b"\xFE\xFF\0{\0}", true),
        (b"{\0}\0", true),
        (b"\0{\0}", true),
        (b"{", false),
        (b"", false),
    ] {
        let read = futures::executor::block_on(creation::read_json(&head, Bytes(bytes.to_vec())));
        let Err(Problem::NotJson(why)) = read else {
            panic!("{bytes:?}: {read:?}");
        };
        assert_eq!(why.0.contains("UTF-8"), is_named, "{bytes:?}: {why:?}");
    }
}

#[test]
fn a_creation_needs_what_the_precondition_says() {
    let admit = |precondition, fields: &[(&'static str, &str)]| {
        let head = TestHead { method: Method::Post, target: ORDERS, fields };
        creation::read_head(&COLLECTION, Customer::anonymous(), &head, precondition)
    };
    let any = ("if-match", "*");
    let conditional = Ok(CreateOperation::Conditional(ConditionalRequest {
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(b"k1"),
        expected: Expected::Any,
    }));
    let tag = ("if-match", "\"000102030405060708090a0b0c0d0eff\"");
    let on_a_state = admit(Precondition::Etag, &[tag]);
    assert!(matches!(&on_a_state, Ok(CreateOperation::Conditional(request)) if request.key.is_none()));
    let keyless = Err(Problem::Key(KeyError::Missing));
    let required = Err(Problem::PreconditionRequired);
    for (precondition, without_key, may_lack_condition) in [
        (Precondition::Key, keyless.clone(), true),
        // "*" and no key: every retry would be another order.
        (Precondition::Etag, required.clone(), false),
        (Precondition::Both, keyless, false),
    ] {
        assert_eq!(admit(precondition, &[KEY, any]), conditional);
        assert_eq!(admit(precondition, &[any]), without_key);
        let without_condition = admit(precondition, &[KEY]);
        assert!(match may_lack_condition {
            true => matches!(without_condition, Ok(CreateOperation::Unconditional(_))),
            false => matches!(without_condition, Ok(CreateOperation::WithoutCondition(_))),
        });
    }
    assert_eq!(admit(Precondition::Etag, &[]), required);
}

#[test]
fn paths_and_methods() {
    let at = |method: Method, path: &str| ask(method, path);
    let id = "01970000-0000-7000-8000-000000000001";
    let order = format!("{ORDERS}/{id}");
    assert!(matches!(at(Method::Get, &order), Ok(Operation::Show(..))));
    assert!(matches!(at(Method::Head, "/api/v1/orders?limit=1"), Ok(Operation::List(_, PageRequest { limit: 1, .. }))));
    assert_eq!(route(&COLLECTION, Method::Head, "/healthz"), Ok(Route::Health));
    assert_eq!(route(&COLLECTION, Method::Get, "/readyz"), Ok(Route::Readiness));
    assert_eq!(route(&COLLECTION, Method::Get, "/api/v1/events"), Ok(Route::Feed));
    // Where several collections share an address.
    for (below, expected) in [
        ("healthz", Route::Health),
        ("readyz", Route::Readiness),
        ("events", Route::Feed),
        ("idempotency-keys/k", Route::OfCustomer(CustomerRoute::Key("k"))),
    ] {
        assert_eq!(route(&COLLECTION, Method::Get, &format!("{ORDERS}/{below}")), Ok(expected));
    }
    assert_eq!(at(Method::Get, &format!("{ORDERS}/nope")), Err(Problem::NotFound));
    assert_eq!(at(Method::Get, &format!("{ORDERS}?offset=1")), Err(Problem::Query(QueryError::Unknown)));
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
        assert_eq!(route(&COLLECTION, Method::Get, path), Err(Problem::UnknownPath), "{path}");
    }
    assert_eq!(at(Method::Post, &format!("{order}/x")), Err(Problem::UnknownPath));
    for (method, path, allow) in [
        (Method::Other, ORDERS, "GET, HEAD, POST"),
        (Method::Post, &order, "GET, HEAD"),
        (Method::Other, "/api/v1/idempotency-keys/k", "GET, HEAD"),
        (Method::Post, "/healthz", "GET, HEAD"),
        (Method::Other, "/readyz", "GET, HEAD"),
    ] {
        let problem = route(&COLLECTION, method, path).expect_err("not allowed");
        assert_eq!(problem, Problem::MethodNotAllowed { allow });
        let response = problem.into_response(&COLLECTION);
        assert_eq!(response.status, 405);
        assert!(response.headers.contains(&("allow", allow.to_owned())));
    }
}

#[test]
fn a_key_in_a_path_is_percent_decoded() {
    let key = |name: &str| match ask(Method::Get, &format!("{KEYS}/{name}")) {
        Ok(Operation::ShowKey(scope)) => scope.key.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(key("a%2Fb%3F%25"), "a/b?%");
    assert_eq!(key("%22k%22"), "\"k\"", "nothing is unquoted");
    for no_key in ["a%20b", "%C3%A9", &"k".repeat(256)] {
        assert_eq!(key(no_key), "Err(KeyNotFound)");
    }
}
