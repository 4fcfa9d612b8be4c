//! Makes the host calls that the order component makes for a creation or a replay, and nothing else: no
//! validation, no timers, no group commit, a constant response. Its rate is what the host allows to any
//! component that makes these calls for each request. It does not create exactly once.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;
use std::rc::Rc;

use spin_sdk::pg::ParameterValue;
use spin_sdk::redis::{RedisParameter, RedisResult};
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::service;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};
use spin_sdk::wit_bindgen::StreamResult;
use spin_sdk::{pg, redis, variables};
use uuid::Uuid;

/// Inserts one order. The function is the one that the order component calls.
const INSERT: &str = "SELECT FROM insert_orders_2($1::text::json)";

/// The document of the order that the load generator sends.
const DOCUMENT: &str = r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}]}"#;

/// As long as a record of the order component.
const RECORD: [u8; 50] = [b'r'; 50];

/// How long Redis keeps a key, in milliseconds: the order component's default.
const TTL_MS: &str = "86400000";

/// As long as the representation of the order that the load generator sends.
const RESPONSE_BODY: &str = concat!(
    r#"{"orderId":"00000000-0000-7000-8000-000000000000","status":"accepted","currency":"EUR","#,
    r#""items":[{"sku":"A-1","quantity":2,"unitPrice":1250}],"note":null,"total":2500,"#,
    r#""createdAt":"2026-01-01T00:00:00.000Z"}"#
);

/// Room for a body without a declared length.
const BODY_CAPACITY: usize = 4096;

/// The variables, which cost a host call each.
struct Settings {
    redis_url: String,
    database_url: String,
    redis_key_prefix: String,
}

thread_local! {
    static SETTINGS: RefCell<Option<Rc<Settings>>> = const { RefCell::new(None) };
    static REDIS: RefCell<Option<Rc<redis::Connection>>> = const { RefCell::new(None) };
    static POSTGRES: RefCell<Option<Rc<pg::Connection>>> = const { RefCell::new(None) };
}

struct Component;

service::export!(Component);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if let Method::Post = request.get_method() {
            create(request).await?;
            respond(201)
        } else {
            respond(200)
        }
    }
}

/// Reserves the key, and inserts an order if the key is new.
async fn create(request: Request) -> Result<(), ErrorCode> {
    let settings = settings().await?;
    let fields = request.get_headers();
    let key = field(&fields, "idempotency-key").ok_or_else(|| failed("no Idempotency-Key"))?;
    let length = field(&fields, "content-length").and_then(|length| length.parse().ok());
    read_body(request, length).await?;
    let id = Uuid::now_v7();
    if is_reserved(&settings, &key).await.map_err(failed)? {
        return Ok(());
    }
    insert(&settings, &id, &key).await.map_err(failed)
}

async fn settings() -> Result<Rc<Settings>, ErrorCode> {
    if let Some(settings) = SETTINGS.with_borrow(Clone::clone) {
        return Ok(settings);
    }
    let settings = Rc::new(Settings {
        redis_url: variables::get("redis_url").await.map_err(failed)?,
        database_url: variables::get("database_url").await.map_err(failed)?,
        redis_key_prefix: variables::get("redis_key_prefix").await.map_err(failed)?,
    });
    SETTINGS.set(Some(settings.clone()));
    Ok(settings)
}

fn field(fields: &Fields, name: &str) -> Option<String> {
    let value = fields.get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// Reads the body, and drops it.
async fn read_body(request: Request, length: Option<usize>) -> Result<(), ErrorCode> {
    let (_result, result) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Request::consume_body(request, result);
    let mut body = Vec::with_capacity(length.unwrap_or(BODY_CAPACITY));
    while length.is_none_or(|length| body.len() < length) {
        if body.len() == body.capacity() {
            body.reserve(BODY_CAPACITY);
        }
        let (status, read) = stream.read(body).await;
        body = read;
        if let StreamResult::Dropped | StreamResult::Cancelled = status {
            return trailers.await.map(|_| ());
        }
    }
    Ok(())
}

/// One `SET key value NX GET PX ttl`; whether the key existed.
async fn is_reserved(settings: &Settings, key: &str) -> Result<bool, redis::Error> {
    let connection = match REDIS.with_borrow(Clone::clone) {
        Some(connection) => connection,
        None => {
            let opened = Rc::new(redis::Connection::open(&settings.redis_url).await?);
            REDIS.set(Some(opened.clone()));
            opened
        }
    };
    let name = format!("{}orders:9:anonymous:{key}", settings.redis_key_prefix);
    let arguments =
        [name.into_bytes(), RECORD.to_vec(), b"PX".to_vec(), TTL_MS.into(), b"NX".to_vec(), b"GET".to_vec()];
    let results = connection.execute("SET", arguments.map(RedisParameter::Binary)).await?;
    Ok(!matches!(results.first(), Some(RedisResult::Nil) | None))
}

async fn insert(settings: &Settings, id: &Uuid, key: &str) -> Result<(), pg::Error> {
    let connection = match POSTGRES.with_borrow(Clone::clone) {
        Some(connection) => connection,
        None => {
            let opened = Rc::new(pg::Connection::open(&settings.database_url).await?);
            POSTGRES.set(Some(opened.clone()));
            opened
        }
    };
    let created_at = id.get_timestamp().map_or(0, |time| {
        let (seconds, nanoseconds) = time.to_unix();
        seconds * 1000 + u64::from(nanoseconds / 1_000_000)
    });
    let orders = format!(
        "[{{\"id\":\"{id}\",\"customer_id\":\"anonymous\",\"idempotency_key\":\"{key}\",\"fingerprint\":\"{:064x}\",\
         \"document\":{DOCUMENT},\"created_at\":{created_at}}}]",
        0
    );
    connection.execute(INSERT, vec![ParameterValue::Str(orders)]).await?;
    Ok(())
}

/// A response with `Content-Length`, whose body a spawned task writes, as in the order component.
fn respond(status: u16) -> Result<Response, ErrorCode> {
    let fields = [
        ("content-length".to_owned(), RESPONSE_BODY.len().to_string().into_bytes()),
        ("content-type".to_owned(), b"application/json".to_vec()),
    ];
    let fields = Fields::from_list(&fields).map_err(failed)?;
    let (mut body, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Err(ErrorCode::InternalError(None)));
    let (response, _result) = Response::new(fields, Some(contents), trailers);
    response.set_status_code(status).map_err(|()| failed("status"))?;
    spawn(async move {
        let left = body.write_all(RESPONSE_BODY.as_bytes().to_vec()).await;
        drop(body);
        if left.is_empty() {
            // The client may be gone; then this is not read.
            let _ = end.write(Ok(None)).await;
        }
    });
    Ok(response)
}

/// A failed call ends the request with 500, which the bench refuses to count.
fn failed(error: impl std::fmt::Debug) -> ErrorCode {
    eprintln!("bare: {error:?}");
    ErrorCode::InternalError(None)
}
