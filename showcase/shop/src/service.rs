//! The routes of the puller, which are the operator's: any scheduler calls `POST /api/v1/pull`, again and again.
//!
//! The cursor is stored after its page was delivered: a pull that dies is repeated, and consumers know repeated events.
//! Two pulls at once deliver everything twice, in order: each delivers a page only after all pages before it.

use std::pin::pin;
use std::time::Duration;

use cloudevents::MEDIA_TYPE;
use exactly_once_http::{Body, Head, Host, Method, Problem, QueryError, Response, admit, health};
use exactly_once_spin::SpinHost;
use exactly_once_stores::sql::{Parameter, Row, Statement};
use futures::future::{Either, select};
use http::{Method as HttpMethod, Request, StatusCode, header};
use serde_json::{Value, json};
use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::wasip3::http::types::ErrorCode;

use crate::{Consumer, PULLER, Verdict, next_cursor};

/// How many events a pull delivers at most.
const PAGE: usize = 50;
/// How long a consumer may take.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(10);
/// The longest time that the feed may wait for an event, in seconds.
const MAX_WAIT: u64 = 20;
/// How many dead letters a request shows or delivers again.
const MAX_LETTERS: i64 = 100;

/// Answers a request.
async fn respond(head: &impl Head, _: impl Body, host: &SpinHost) -> Response {
    let answer = answer(head, host).await;
    answer.unwrap_or_else(|failure| match failure {
        Failure::Problem(problem) => problem.into_response(&PULLER),
        Failure::NoAnswer(who) => Response::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            PULLER.name,
            "no-answer",
            "A service of the chain has not answered as it should",
            &format!("{who}. Nothing is lost: the next pull delivers the same events."),
        ),
    })
}

/// Why a pull ends early.
enum Failure {
    Problem(Problem),
    /// The service that did not respond, and what happened instead.
    NoAnswer(String),
}

impl<E: Into<Problem>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

async fn answer(head: &impl Head, host: &SpinHost) -> Result<Response, Failure> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if path == "/healthz" {
        return Ok(health());
    }
    let token = host.variable("operator_token").await?;
    admit(&token, head)?;
    let puller = Puller { host, token };
    let body = match (head.method(), path) {
        (Method::Post, "/api/v1/pull") => puller.pull(wait(query)?).await?,
        (Method::Post, "/api/v1/dead-letters/replay") => puller.replay().await?,
        (Method::Get | Method::Head, "/api/v1/dead-letters") => {
            json!({"deadLetters": puller.letters().await?})
        }
        (_, "/api/v1/pull" | "/api/v1/dead-letters/replay") => {
            return Err(Problem::MethodNotAllowed { allow: "POST" }.into());
        }
        (_, "/api/v1/dead-letters") => {
            return Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }.into());
        }
        _ => return Err(Problem::UnknownPath.into()),
    };
    let answer = Response::json(StatusCode::OK, body.to_string());
    Ok(answer.with(header::CACHE_CONTROL.as_str(), "no-store"))
}

/// `wait` in a query: how long the feed may wait for an event, in seconds.
fn wait(query: &str) -> Result<u64, Problem> {
    let seconds = match query.strip_prefix("wait=") {
        Some(text) => text.parse().ok(),
        None if query.is_empty() => Some(0),
        None => None,
    };
    seconds
        .filter(|seconds| *seconds <= MAX_WAIT)
        .ok_or(Problem::Query(QueryError::Parameter { name: "wait", rule: "must be whole seconds, 0 to 20" }))
}

/// The result of delivering an event.
enum Delivery {
    /// All consumers have accepted it.
    Done,
    /// A consumer has rejected the event that it got.
    Refused { consumer: Consumer, event: String, status: u16, reason: String },
}

struct Puller<'h> {
    host: &'h SpinHost,
    token: String,
}

impl Puller<'_> {
    /// Delivers the next page of the feed, and stores the cursor behind it.
    async fn pull(&self, wait: u64) -> Result<Value, Failure> {
        let cursor = self.query("SELECT cursor FROM cursors WHERE feed = 'orders'", []);
        let cursor = cursor.await?.first().and_then(|row| row.text("cursor"));
        let feed = self.host.variable("feed").await?;
        let mut feed = format!("{feed}?limit={PAGE}&wait={wait}");
        if let Some(cursor) = &cursor {
            feed = format!("{feed}&after={cursor}");
        }
        let token = self.host.variable("events_token").await?;
        let deadline = DELIVERY_DEADLINE + Duration::from_secs(wait);
        let page = call(HttpMethod::GET, &feed, &token, None, deadline).await;
        let page = page.map_err(|why| Failure::NoAnswer(format!("The feed: {why}")))?;
        if page.status == 410 {
            // The database has another history than the cursor: from the beginning, with what is known already.
            self.query("DELETE FROM cursors WHERE feed = 'orders'", []).await?;
            return Ok(json!({"delivered": 0, "refused": 0, "startedAgain": true}));
        }
        let events = match serde_json::from_slice(&page.body) {
            Ok(Value::Array(events)) if page.status == 200 => events,
            _ => {
                let status = page.status;
                return Err(Failure::NoAnswer(format!("The feed has answered {status}")));
            }
        };
        let mut refused = 0;
        for event in &events {
            let delivery = self.deliver(Consumer::Payments, event.to_string()).await?;
            if let Delivery::Refused { .. } = delivery {
                self.keep(delivery).await?;
                refused += 1;
            }
        }
        if let Some(next) = next_cursor(&page.link).filter(|next| cursor.as_deref() != Some(*next)) {
            self.query(
                "INSERT INTO cursors (feed, cursor) VALUES ('orders', $1) \
                 ON CONFLICT (feed) DO UPDATE SET cursor = EXCLUDED.cursor",
                [next.to_owned()],
            )
            .await?;
        }
        Ok(json!({"delivered": events.len() - refused, "refused": refused}))
    }

    /// Delivers an event to a consumer, the event that it returns to the next one, and so on.
    async fn deliver(&self, first: Consumer, event: String) -> Result<Delivery, Failure> {
        let (mut consumer, mut event) = (first, event);
        loop {
            let path = consumer.path();
            let call = call(HttpMethod::POST, path, &self.token, Some(&event), DELIVERY_DEADLINE);
            let name = consumer.name();
            let answer = call.await.map_err(|why| Failure::NoAnswer(format!("{name}: {why}")))?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            match (Verdict::of(answer.status), consumer.next()) {
                (Verdict::Accepted, Some(next)) => (consumer, event) = (next, text),
                (Verdict::Accepted, None) => return Ok(Delivery::Done),
                (Verdict::Refused, _) => {
                    return Ok(Delivery::Refused { consumer, event, status: answer.status, reason: text });
                }
                (Verdict::Later, _) => {
                    let status = answer.status;
                    return Err(Failure::NoAnswer(format!("{name} has answered {status}")));
                }
            }
        }
    }

    /// Keeps an event that was rejected. One that was rejected before gets the present reason.
    async fn keep(&self, delivery: Delivery) -> Result<(), Failure> {
        let Delivery::Refused { consumer, event, status, reason } = delivery else {
            return Ok(());
        };
        self.query(
            "INSERT INTO dead_letters (consumer, event, status, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (consumer, md5(event)) \
             DO UPDATE SET status = EXCLUDED.status, reason = EXCLUDED.reason, replayed_at = NULL",
            [consumer.name().to_owned(), event, status.to_string(), reason],
        )
        .await?;
        Ok(())
    }

    /// The dead letters that have not been delivered after all, oldest first.
    async fn letters(&self) -> Result<Vec<Value>, Failure> {
        let statement = Statement {
            sql: "SELECT json_build_object('id', id::text, 'consumer', consumer, 'event', event, 'status', status, \
                  'reason', reason, 'keptAt', kept_at)::text AS letter \
                  FROM dead_letters WHERE replayed_at IS NULL ORDER BY id LIMIT $1",
            parameters: vec![Parameter::Int64(MAX_LETTERS)],
        };
        let letters = self.rows(statement).await?;
        let letter = |row: &Row| serde_json::from_str(&row.text("letter")?).ok();
        Ok(letters.iter().filter_map(letter).collect())
    }

    /// Delivers dead letters again, after the consumer, or an event in the table, was corrected.
    async fn replay(&self) -> Result<Value, Failure> {
        let (mut delivered, mut refused) = (0, 0);
        for letter in self.letters().await? {
            let text = |name| letter.get(name).and_then(Value::as_str).unwrap_or_default();
            let Some(consumer) = Consumer::named(text("consumer")) else {
                continue;
            };
            let delivery = self.deliver(consumer, text("event").to_owned()).await?;
            let again = matches!(&delivery, Delivery::Refused { consumer: by, .. } if *by == consumer);
            if let Delivery::Refused { .. } = delivery {
                self.keep(delivery).await?;
                refused += 1;
            } else {
                delivered += 1;
            }
            if !again {
                let done = "UPDATE dead_letters SET replayed_at = clock_timestamp() WHERE id = $1::text::bigint";
                self.query(done, [text("id").to_owned()]).await?;
            }
        }
        Ok(json!({"delivered": delivered, "refused": refused}))
    }

    async fn query<const N: usize>(&self, sql: &str, parameters: [String; N]) -> Result<Vec<Row>, Failure> {
        let parameters = parameters.map(Parameter::Text).to_vec();
        self.rows(Statement { sql, parameters }).await
    }

    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<Row>, Failure> {
        let settings = self.host.settings().await?;
        Ok(self.host.postgres(&settings).rows(statement).await?)
    }
}

/// A response of another component of this application.
struct Answer {
    status: u16,
    link: String,
    body: Vec<u8>,
}

/// Asks another component of this application. An event is sent where there is one.
async fn call(
    method: HttpMethod,
    path: &str,
    token: &str,
    event: Option<&str>,
    deadline: Duration,
) -> Result<Answer, String> {
    let body = event.unwrap_or_default().to_owned();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://self.alt{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    if event.is_some() {
        request = request.header(header::CONTENT_TYPE, MEDIA_TYPE).header(header::CONTENT_LENGTH, body.len());
    }
    let request = request.body(body).map_err(|error| error.to_string())?;
    let exchange = async {
        let response = spin_sdk::http::send(request).await?;
        let status = response.status().as_u16();
        let link = response.headers().get(header::LINK);
        let link = link.and_then(|link| link.to_str().ok()).unwrap_or_default();
        let link = link.to_owned();
        let body = response.into_body().bytes().await?.to_vec();
        Ok(Answer { status, link, body })
    };
    let (exchange, end) = (pin!(exchange), pin!(spin_sdk::time::sleep(deadline)));
    let exchange: Either<(Result<_, ErrorCode>, _), _> = select(exchange, end).await;
    match exchange {
        Either::Left((answer, _)) => answer.map_err(|error| error.to_string()),
        Either::Right(_) => Err("no answer in time".to_owned()),
    }
}

exactly_once_spin::component!(PULLER, respond);
