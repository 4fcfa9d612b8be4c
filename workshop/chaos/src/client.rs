//! Clients that behave like real ones: they retry until they get a response, send another order with the same
//! key, change hosts, hang up half-way, share keys, and send a key again long after its acknowledgement. Some
//! send their order with If-Match.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH};
use tokio::time::{sleep, timeout};

use crate::history::{Condition, History, What};
use crate::order::Order;

/// Longer than the service's own deadlines of 500 ms and 5 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients ask again for orders that may be lost.
const CONFIRMING: Duration = Duration::from_secs(20);
/// The number of lost orders that are asked for at the same time.
const HEALERS: usize = 16;
/// The number of acknowledged client requests that a client remembers.
const MEMORY: usize = 500;
/// The approximate number of client requests that all clients together begin per second.
const CLIENT_REQUESTS_PER_SECOND: usize = 150;

/// The state that all clients share.
pub struct Shared {
    history: Arc<History>,
    bases: Vec<String>,
    http: reqwest::Client,
    clients: usize,
    stopping: AtomicBool,
    ops: AtomicU64,
    requests: AtomicU64,
    acknowledged: AtomicU64,
    /// Every client request, with the order that was first sent with its key.
    all: Mutex<Vec<ClientRequest>>,
    /// The number of promotions that may have lost orders.
    losses: AtomicU64,
    /// Acknowledged client requests since the last of them, with their order ids.
    since_loss: Mutex<Vec<(ClientRequest, String)>>,
    /// Client requests that a second or third client sends as well.
    duplicates: Mutex<Vec<ClientRequest>>,
}

/// One order that a client wants to create. The client sends it in one or more HTTP requests.
#[derive(Clone, Debug)]
struct ClientRequest {
    customer: &'static str,
    key: String,
    order: Order,
    /// Whether the client sends If-Match with the ETag of the customer's list.
    conditional: bool,
}

/// Customers whose clients never send If-Match.
const CUSTOMERS: [&str; 2] = ["ann", "ben"];
/// Customers whose clients always send If-Match.
const LISTS: [&str; 3] = ["cara", "dora", "emil"];

impl Shared {
    /// The state before the first request.
    pub fn new(history: Arc<History>, bases: Vec<String>, clients: usize) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .no_proxy()
            .build()
            .context("setting up the HTTP client")?;
        Ok(Self {
            history,
            bases,
            http,
            clients,
            stopping: AtomicBool::new(false),
            ops: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            all: Mutex::default(),
            losses: AtomicU64::new(0),
            since_loss: Mutex::default(),
            duplicates: Mutex::default(),
        })
    }

    /// Tells the clients to begin no client request and to complete those in progress.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The number of HTTP requests sent and the number of acknowledgements.
    pub fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.acknowledged.load(Ordering::Relaxed))
    }

    /// The number of keys used.
    pub fn keys(&self) -> usize {
        lock(&self.all).len()
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a client closes the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HangUp {
    Never,
    After(Duration),
    BeforeTheBody,
}

/// The result of an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Acknowledged, but the order may be lost: the acknowledgement was on its way during a failover, or there is no
    /// such order.
    Unconfirmed,
    Refused,
    Retry,
    HungUp,
}

/// One client.
pub struct Client {
    shared: Arc<Shared>,
    number: usize,
    rng: StdRng,
    /// Client requests that the client gave up after hanging up, and sends again later.
    postponed: Vec<ClientRequest>,
    acknowledged: Vec<ClientRequest>,
    /// Whether it reads every acknowledged order and does not believe an acknowledgement without that.
    confirms: bool,
}

impl Client {
    /// A client. Seed and number determine what it does, except where responses do.
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            shared,
            number,
            rng: StdRng::seed_from_u64(seed),
            postponed: Vec::new(),
            acknowledged: Vec::new(),
            confirms: false,
        }
    }

    /// Sends client requests until told to stop, and then until each has a final response.
    pub async fn run(mut self) -> Result<()> {
        let pause = 2000 * self.shared.clients as u64 / CLIENT_REQUESTS_PER_SECOND as u64;
        while !self.shared.stopping() {
            let client_request = self.next_client_request();
            self.send_until_answered(client_request).await?;
            sleep(self.millis(0, pause)).await;
        }
        while let Some(client_request) = self.postponed.pop() {
            self.send_until_answered(client_request).await?;
        }
        Ok(())
    }

    fn next_client_request(&mut self) -> ClientRequest {
        let chance = self.rng.random_range(0..100);
        let old = match chance {
            0..15 => self.postponed.pop(),
            15..25 => self.random_acknowledged().map(|acknowledged| self.maybe_changed(acknowledged)),
            25..45 => {
                let duplicate = lock(&self.shared.duplicates).pop();
                duplicate.map(|duplicate| self.maybe_changed(duplicate))
            }
            _ => None,
        };
        old.unwrap_or_else(|| self.new_client_request())
    }

    /// In 30 % of the cases with another order for the same key.
    fn maybe_changed(&mut self, mut client_request: ClientRequest) -> ClientRequest {
        if self.rng.random_bool(0.3) {
            client_request.order = client_request.order.changed(&mut self.rng);
        }
        client_request
    }

    fn new_client_request(&mut self) -> ClientRequest {
        let bytes = self.rng.random();
        let conditional = self.rng.random_bool(0.15);
        let customers = if conditional { &LISTS[..] } else { &CUSTOMERS[..] };
        let at = self.rng.random_range(0..customers.len());
        let client_request = ClientRequest {
            customer: customers.get(at).copied().unwrap_or("ann"),
            conditional,
            key: uuid::Builder::from_random_bytes(bytes).into_uuid().to_string(),
            order: Order::random(&mut self.rng),
        };
        lock(&self.shared.all).push(client_request.clone());
        if self.rng.random_bool(0.15) {
            let others = self.rng.random_range(1..=2);
            let duplicates = std::iter::repeat_n(client_request.clone(), others);
            lock(&self.shared.duplicates).extend(duplicates);
        }
        client_request
    }

    fn random_acknowledged(&mut self) -> Option<ClientRequest> {
        let at = self.rng.random_range(0..self.acknowledged.len().max(1));
        self.acknowledged.get(at).cloned()
    }

    fn remember(&mut self, client_request: ClientRequest) {
        if self.acknowledged.len() < MEMORY {
            self.acknowledged.push(client_request);
        } else {
            let at = self.rng.random_range(0..MEMORY);
            if let Some(old) = self.acknowledged.get_mut(at) {
                *old = client_request;
            }
        }
    }

    /// Sends a client request until its response is final, or postpones it after hanging up.
    async fn send_until_answered(&mut self, client_request: ClientRequest) -> Result<()> {
        let op = self.shared.ops.fetch_add(1, Ordering::Relaxed);
        let mut runner = self.any_runner();
        let mut back_off = 20;
        loop {
            let hang_up = self.hang_up();
            let order = &client_request.order;
            let outcome = self.send(op, runner, &client_request, order, hang_up).await?;
            match outcome {
                Outcome::Acknowledged => {
                    self.remember(client_request);
                    return Ok(());
                }
                Outcome::Refused => return Ok(()),
                Outcome::Unconfirmed => {
                    let deadline = Instant::now() + CONFIRMING;
                    return self.confirm(op, client_request, deadline).await;
                }
                Outcome::HungUp if self.rng.random_bool(0.5) => {
                    self.postponed.push(client_request);
                    return Ok(());
                }
                Outcome::HungUp | Outcome::Retry => {}
            }
            sleep(self.millis(back_off / 2, back_off)).await;
            back_off = (back_off * 2).min(500);
            if self.rng.random_bool(0.5) {
                runner = self.any_runner();
            }
            if !self.shared.stopping() && self.rng.random_bool(0.1) {
                // Another order with the same key, for one request. The order that is stored first stays.
                let other = client_request.order.changed(&mut self.rng);
                self.send(op, runner, &client_request, &other, HangUp::Never).await?;
            }
        }
    }

    /// Repeats a client request that was acknowledged until its order can be read. Without If-Match, so that the other
    /// orders of the list do not matter.
    async fn confirm(&mut self, op: u64, mut client_request: ClientRequest, deadline: Instant) -> Result<()> {
        client_request.conditional = false;
        let confirmed = std::mem::replace(&mut self.confirms, true);
        // The checker reports an order that is not there until then.
        while Instant::now() < deadline {
            let runner = self.any_runner();
            let order = &client_request.order;
            let hang_up = HangUp::Never;
            let outcome = self.send(op, runner, &client_request, order, hang_up);
            if matches!(outcome.await?, Outcome::Acknowledged | Outcome::Refused) {
                break;
            }
            sleep(self.millis(20, 100)).await;
        }
        self.confirms = confirmed;
        Ok(())
    }

    fn any_runner(&mut self) -> usize {
        self.rng.random_range(0..self.shared.bases.len())
    }

    fn hang_up(&mut self) -> HangUp {
        if self.shared.stopping() {
            return HangUp::Never;
        }
        match self.rng.random_range(0..100) {
            0..8 => HangUp::After(self.millis(0, 30)),
            8..12 => HangUp::BeforeTheBody,
            _ => HangUp::Never,
        }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..=to))
    }

    /// Sends one HTTP request. Adds the request and its response to the history.
    async fn send(
        &mut self,
        op: u64,
        runner: usize,
        client_request: &ClientRequest,
        order: &Order,
        hang_up: HangUp,
    ) -> Result<Outcome> {
        let shared = self.shared.clone();
        let request = shared.requests.fetch_add(1, Ordering::Relaxed);
        let body = if self.rng.random_bool(0.1) {
            serde_json::to_string_pretty(order)?
        } else {
            serde_json::to_string(order)?
        };
        let base = shared.bases.get(runner).context("no such runner")?;
        let losses = shared.losses();
        let condition = match client_request.conditional {
            true => {
                let read_ms = shared.history.elapsed_ms()?;
                match tag(&shared.http, base, client_request.customer).await {
                    Some(tag) => Some(Condition { tag, read_ms }),
                    None => return Ok(Outcome::Retry),
                }
            }
            false => None,
        };
        let (client, key) = (self.number, client_request.key.clone());
        shared.history.add(What::Request {
            client,
            op,
            request,
            runner,
            customer: client_request.customer.to_owned(),
            key: key.clone(),
            order: order.clone(),
            condition: condition.clone(),
        })?;
        let mut sending = shared
            .http
            .post(format!("{base}/api/v1/orders"))
            .header(CUSTOMER, client_request.customer)
            .header("idempotency-key", &key)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(condition) = condition {
            sending = sending.header(IF_MATCH, condition.tag);
        }
        Ok(match exchange(sending, hang_up).await {
            Ok((status, replayed, body)) => {
                let order_id = order_id(&body);
                shared.history.add(What::Answer {
                    client,
                    op,
                    request,
                    runner,
                    key,
                    status,
                    replayed,
                    order_id: order_id.clone(),
                    body: body.clone(),
                })?;
                match (status, order_id) {
                    (201, Some(order_id)) => {
                        shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                        let acknowledged = ClientRequest { order: order.clone(), ..client_request.clone() };
                        let read = Acknowledgement { request, base, order_id: &order_id, body: &body };
                        let exists = match replayed || self.confirms {
                            true => shared.read(&acknowledged, read).await?,
                            // Created: the next request for it is a replay.
                            false => Some(true),
                        };
                        let certain = shared.remember(acknowledged, order_id, losses);
                        match exists {
                            Some(true) if certain => Outcome::Acknowledged,
                            None if certain && !self.confirms => Outcome::Acknowledged,
                            _ => Outcome::Unconfirmed,
                        }
                    }
                    (422, _) => Outcome::Refused,
                    _ => Outcome::Retry,
                }
            }
            Err(failure) => {
                let hung_up = failure.reason == HUNG_UP;
                shared.history.add(What::NoAnswer {
                    client,
                    op,
                    request,
                    runner,
                    key,
                    reason: failure.reason,
                    status: failure.head.map(|(status, _)| status),
                    replayed: failure.head.is_some_and(|(_, replayed)| replayed),
                })?;
                if hung_up { Outcome::HungUp } else { Outcome::Retry }
            }
        })
    }
}

/// A 201 whose order is to be read.
struct Acknowledgement<'a> {
    request: u64,
    base: &'a str,
    order_id: &'a str,
    body: &'a str,
}

impl Shared {
    /// Adds an acknowledged client request, if no promotion that may have lost it has occurred since it was sent; says
    /// whether that is so.
    fn remember(&self, client_request: ClientRequest, order_id: String, losses: u64) -> bool {
        let mut since_loss = lock(&self.since_loss);
        // Under the lock: `heal` counts the promotion before it takes the list.
        let certain = losses == self.losses();
        if certain {
            since_loss.push((client_request, order_id));
        }
        certain
    }

    /// Reads the order of a 201; says whether it exists, if the host answers. Adds that to the history.
    async fn read(&self, client_request: &ClientRequest, acknowledgement: Acknowledgement<'_>) -> Result<Option<bool>> {
        let Acknowledgement { request, base, order_id, body } = acknowledgement;
        let sending =
            self.http.get(format!("{base}/api/v1/orders/{order_id}")).header(CUSTOMER, client_request.customer);
        let Ok((status, _, read)) = exchange(sending, HangUp::Never).await else {
            return Ok(None);
        };
        let found = match status {
            200 => true,
            404 => false,
            _ => return Ok(None),
        };
        self.history.add(What::Read { request, key: client_request.key.clone(), found, agrees: read == body })?;
        Ok(Some(found))
    }
}

/// The default name of the header field that names the customer.
const CUSTOMER: &str = "x-user-id";

/// The ETag of a customer's list; `None` if the host does not return it.
async fn tag(http: &reqwest::Client, base: &str, customer: &str) -> Option<String> {
    let list = format!("{base}/api/v1/orders?limit=1");
    let response = http.get(list).header(CUSTOMER, customer).send().await.ok()?;
    let tag = response.headers().get(ETAG)?.to_str().ok()?;
    Some(tag.to_owned())
}

/// Fails if another customer gets the state of the client request's key.
async fn expect_hidden(http: &reqwest::Client, base: &str, client_request: &ClientRequest) -> Result<()> {
    let [ann, ben] = CUSTOMERS;
    let other = if client_request.customer == ann { ben } else { ann };
    let state = format!("{base}/api/v1/idempotency-keys/{}", client_request.key);
    let response = http.get(state).header(CUSTOMER, other).send().await?;
    ensure!(
        response.status() == StatusCode::NOT_FOUND,
        "the key {} belongs to {}, but {other} got status {} for it",
        client_request.key,
        client_request.customer,
        response.status()
    );
    Ok(())
}

const HUNG_UP: &str = "the client hung up";

/// Why a response is incomplete, and its head if it was read: status, and whether it is a replay.
struct Failure {
    reason: String,
    head: Option<(u16, bool)>,
}

async fn exchange(request: reqwest::RequestBuilder, hang_up: HangUp) -> Result<(u16, bool, String), Failure> {
    let failed = |reason: String, head| Failure { reason, head };
    let sent = match hang_up {
        HangUp::After(time_out) => {
            timeout(time_out, request.send()).await.map_err(|_| failed(HUNG_UP.to_owned(), None))?
        }
        HangUp::Never | HangUp::BeforeTheBody => request.send().await,
    };
    let response = sent.map_err(|e| failed(describe(&e), None))?;
    let head = (response.status().as_u16(), is_replay(response.headers()));
    if hang_up == HangUp::BeforeTheBody {
        return Err(failed(HUNG_UP.to_owned(), Some(head)));
    }
    let bytes = response.bytes().await.map_err(|e| failed(describe(&e), Some(head)))?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok((head.0, head.1, body))
}

fn is_replay(fields: &HeaderMap) -> bool {
    fields.get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// The error with its causes: the error itself only says that a request failed.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn order_id(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body.get("orderId")?.as_str()?.to_owned())
}

/// Repeats all client requests that were acknowledged since the last loss and whose orders have not survived a
/// promotion, until their orders can be read. Call it when the promoted server serves.
pub async fn heal(shared: Arc<Shared>, survivors: HashSet<String>, seed: u64) -> Result<()> {
    shared.losses.fetch_add(1, Ordering::SeqCst);
    let acknowledged = std::mem::take(&mut *lock(&shared.since_loss));
    let lost: HashMap<String, ClientRequest> = acknowledged
        .into_iter()
        .filter(|(_, order_id)| !survivors.contains(order_id))
        .map(|(client_request, _)| (client_request.key.clone(), client_request))
        .collect();
    let remaining = Arc::new(Mutex::new(lost.into_values()));
    let deadline = Instant::now() + CONFIRMING;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..HEALERS {
        let (shared, remaining) = (shared.clone(), remaining.clone());
        tasks.spawn(async move {
            let mut client = Client::new(shared.clone(), 2 * shared.clients + number, seed);
            loop {
                let Some(client_request) = lock(&remaining).next() else {
                    return anyhow::Ok(());
                };
                let op = shared.ops.fetch_add(1, Ordering::Relaxed);
                client.confirm(op, client_request, deadline).await?;
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}

/// Sends every client request once more, without retries and with the order that was first sent. Also requests
/// the state of each key as another customer, who must not get it.
pub async fn send_all_again(shared: Arc<Shared>, seed: u64) -> Result<()> {
    let remaining = Arc::new(Mutex::new(lock(&shared.all).clone().into_iter()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..shared.clients {
        let (shared, remaining) = (shared.clone(), remaining.clone());
        tasks.spawn(async move {
            // Numbers that no earlier client had.
            let mut client = Client::new(shared.clone(), shared.clients + number, seed);
            loop {
                let Some(mut client_request) = lock(&remaining).next() else {
                    return anyhow::Ok(());
                };
                // Without If-Match, so that the state of the list does not matter.
                client_request.conditional = false;
                let op = shared.ops.fetch_add(1, Ordering::Relaxed);
                let runner = client.any_runner();
                client.send(op, runner, &client_request, &client_request.order, HangUp::Never).await?;
                let base = shared.bases.get(runner).context("no such runner")?;
                expect_hidden(&shared.http, base, &client_request).await?;
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}
