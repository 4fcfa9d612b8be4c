//! Clients that behave like real ones: they retry until they get a response, send another order with the same
//! key, change hosts, hang up half-way, share keys, and send a key again long after its acknowledgement. Some
//! send their order with If-Match.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use reqwest::{RequestBuilder, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::history::{Condition, History, Outcome, Promotion, Read, Request};
use crate::order::{Acknowledgement, Order};
use crate::run::millis;

/// Longer than the service's own deadlines of 500 ms and 5 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients ask again for orders that may be lost.
const CONFIRMING: Duration = Duration::from_secs(20);
/// How long clients may take to complete what they have begun after all faults have ended.
const FINISHING: Duration = Duration::from_secs(60);
/// The number of lost orders that are asked for at the same time.
const HEALERS: usize = 16;
/// The approximate number of orders that all clients together begin to send per second.
const ORDERS_PER_SECOND: usize = 150;
/// How often a client looks for the hosts of its customer, which are half of all at least.
const MOST_HOSTS_TRIED: usize = 50;
/// So many orders were begun so shortly before that another client sends them at the same time.
const RECENT: usize = 10;

/// Customers whose clients never send If-Match.
const CUSTOMERS: [&str; 2] = ["ann", "ben"];
/// Customers whose clients always send If-Match.
const LISTS: [&str; 3] = ["cara", "dora", "emil"];
/// The default name of the header that names the customer.
const CUSTOMER: &str = "x-user-id";
const HUNG_UP: &str = "the client hung up";

/// The state that all clients share.
pub struct Shared {
    history: Arc<History>,
    bases: Vec<String>,
    http: reqwest::Client,
    clients: usize,
    /// Clients begin nothing once it is set, and give up when it is over.
    deadline: OnceLock<Instant>,
    sent: AtomicUsize,
    /// What is wanted, as it was first sent.
    all: Mutex<Vec<Wanted>>,
}

/// An order that a client wants to create. It sends the order in one or more requests.
#[derive(Clone, Debug)]
struct Wanted {
    customer: &'static str,
    key: String,
    order: Order,
    /// Whether the client sends If-Match with the ETag of the customer's list.
    conditional: bool,
}

impl Shared {
    /// The state before the first request.
    pub fn new(history: Arc<History>, bases: Vec<String>, clients: usize) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy();
        Ok(Self {
            history,
            bases,
            http: http.build().context("setting up the HTTP client")?,
            clients,
            deadline: OnceLock::new(),
            sent: AtomicUsize::new(0),
            all: Mutex::default(),
        })
    }

    /// Tells the clients to begin nothing, and to complete what they have begun.
    pub fn stop(&self) {
        self.deadline.get_or_init(|| Instant::now() + FINISHING);
    }

    fn is_stopping(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// The number of requests sent, and of keys.
    pub fn counts(&self) -> (usize, usize) {
        (self.sent.load(Ordering::Relaxed), lock(&self.all).len())
    }

    /// The ETag of a customer's list; `None` if the host does not return it.
    async fn condition(&self, base: &str, customer: &str) -> Option<Condition> {
        let read_ms = self.history.now();
        let list = format!("{base}/api/v1/orders?limit=1");
        let response = self.http.get(list).header(CUSTOMER, customer).send().await.ok()?;
        let tag = response.headers().get(ETAG)?.to_str().ok()?.to_owned();
        Some(Condition { tag, read_ms })
    }

    /// Reads the order of a 201, if the host responds.
    async fn read(&self, base: &str, customer: &str, acknowledgement: &str) -> Option<Read> {
        let Acknowledgement { order_id, .. } = serde_json::from_str(acknowledgement).ok()?;
        let from_ms = self.history.now();
        let get = self.http.get(format!("{base}/api/v1/orders/{order_id}")).header(CUSTOMER, customer);
        let found = match exchange(get, HangUp::Never).await {
            Outcome::Answer { status: 200, body, .. } => Some(body),
            Outcome::Answer { status: 404, .. } => None,
            _ => return None,
        };
        Some(Read { from_ms, to_ms: self.history.now(), found })
    }

    /// Fails if another customer gets the state of the key.
    async fn expect_hidden(&self, base: &str, wanted: &Wanted) -> Result<()> {
        let [ann, ben] = CUSTOMERS;
        let other = if wanted.customer == ann { ben } else { ann };
        let state = format!("{base}/api/v1/idempotency-keys/{}", wanted.key);
        let status = self.http.get(state).header(CUSTOMER, other).send().await?.status();
        let is_hidden = matches!(status, StatusCode::NOT_FOUND | StatusCode::MISDIRECTED_REQUEST);
        ensure!(is_hidden, "{other} got status {status} for the key of {wanted:?}");
        Ok(())
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

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Done,
    /// Acknowledged, but the order may be lost: the acknowledgement was on its way during a failover, or there is no
    /// such order.
    Confirm,
    Retry,
    /// The customer has moved, or is being moved.
    Elsewhere,
    HungUp,
}

/// One client.
pub struct Client {
    shared: Arc<Shared>,
    number: usize,
    rng: StdRng,
    /// The host that it asks.
    host: usize,
    /// What it gave up after hanging up, and sends again later.
    postponed: Vec<Wanted>,
}

impl Client {
    /// A client. Seed and number determine what it does, except where responses do.
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { shared, number, rng: StdRng::seed_from_u64(seed), host: 0, postponed: Vec::new() }
    }

    /// Sends orders until told to stop, and then until each has a final response.
    pub async fn run(mut self) -> Result<()> {
        let pause = 2000 * self.shared.clients as u64 / ORDERS_PER_SECOND as u64;
        while !self.shared.is_stopping() {
            let wanted = self.next();
            self.send_until_answered(wanted).await?;
            sleep(millis(&mut self.rng, 0, pause)).await;
        }
        while let Some(wanted) = self.postponed.pop() {
            self.send_until_answered(wanted).await?;
        }
        Ok(())
    }

    /// A new order; or one that it has postponed, or that was sent long ago or by another client just now.
    fn next(&mut self) -> Wanted {
        let old = match self.rng.random_range(0..100) {
            0..15 => self.postponed.pop(),
            15..25 => self.another(usize::MAX),
            25..40 => self.another(RECENT),
            _ => None,
        };
        old.unwrap_or_else(|| {
            let bytes = self.rng.random();
            let conditional = self.rng.random_bool(0.15);
            let customers = if conditional { &LISTS[..] } else { &CUSTOMERS[..] };
            let at = self.rng.random_range(0..customers.len());
            let wanted = Wanted {
                customer: customers.get(at).copied().unwrap_or("ann"),
                conditional,
                key: uuid::Builder::from_random_bytes(bytes).into_uuid().to_string(),
                order: Order::random(&mut self.rng),
            };
            lock(&self.shared.all).push(wanted.clone());
            wanted
        })
    }

    /// One of the newest orders of all clients; in 30 % of the cases another order for its key.
    fn another(&mut self, newest: usize) -> Option<Wanted> {
        let mut wanted = {
            let all = lock(&self.shared.all);
            let from = all.len().saturating_sub(newest);
            all.get(self.rng.random_range(from..all.len().max(1)))?.clone()
        };
        if self.rng.random_bool(0.3) {
            wanted.order = wanted.order.changed(&mut self.rng);
        }
        Some(wanted)
    }

    /// Sends an order until its response is final, or postpones it after hanging up.
    async fn send_until_answered(&mut self, wanted: Wanted) -> Result<()> {
        self.change_host();
        let mut back_off = 20;
        // The judge reports keys that get no response even when they are sent again.
        while self.shared.deadline.get().is_none_or(|deadline| Instant::now() < *deadline) {
            let hang_up = self.hang_up();
            match self.send(&wanted, hang_up, false).await? {
                Next::Done => return Ok(()),
                Next::Confirm => return self.confirm(wanted, Instant::now() + CONFIRMING).await,
                Next::HungUp if self.rng.random_bool(0.5) => {
                    self.postponed.push(wanted);
                    return Ok(());
                }
                Next::Elsewhere => self.change_host(),
                Next::HungUp | Next::Retry => {}
            }
            sleep(millis(&mut self.rng, back_off / 2, back_off)).await;
            back_off = (back_off * 2).min(500);
            if self.rng.random_bool(0.5) {
                self.change_host();
            }
            if !self.shared.is_stopping() && self.rng.random_bool(0.1) {
                // Another order with the same key, for one request. The order that is stored first stays.
                let other = Wanted { order: wanted.order.changed(&mut self.rng), ..wanted.clone() };
                self.send(&other, HangUp::Never, false).await?;
            }
        }
        Ok(())
    }

    /// Repeats what was acknowledged until it can be read. Without If-Match, so that the other orders of the list do
    /// not matter.
    async fn confirm(&mut self, mut wanted: Wanted, deadline: Instant) -> Result<()> {
        wanted.conditional = false;
        // The judge reports an order that is not there until then.
        while Instant::now() < deadline {
            self.change_host();
            if self.send(&wanted, HangUp::Never, true).await? == Next::Done {
                break;
            }
            sleep(millis(&mut self.rng, 20, 100)).await;
        }
        Ok(())
    }

    fn change_host(&mut self) {
        self.host = self.rng.random_range(0..self.shared.bases.len());
    }

    fn hang_up(&mut self) -> HangUp {
        match self.rng.random_range(0..100) {
            _ if self.shared.is_stopping() => HangUp::Never,
            0..8 => HangUp::After(millis(&mut self.rng, 0, 30)),
            8..12 => HangUp::BeforeTheBody,
            _ => HangUp::Never,
        }
    }

    /// Sends one request, and reads the order of a replay, or of every 201: the next request for an order that was
    /// created is a replay. Adds that to the history.
    async fn send(&mut self, wanted: &Wanted, hang_up: HangUp, reads: bool) -> Result<Next> {
        let shared = self.shared.clone();
        let Wanted { customer, key, order, conditional } = wanted;
        let base = shared.bases.get(self.host).context("no such host")?;
        let condition = match conditional {
            true => shared.condition(base, customer).await,
            false => None,
        };
        if *conditional && condition.is_none() {
            return Ok(Next::Retry);
        }
        let body = match self.rng.random_bool(0.1) {
            true => serde_json::to_string_pretty(order)?,
            false => serde_json::to_string(order)?,
        };
        let mut sending = shared
            .http
            .post(format!("{base}/api/v1/orders"))
            .header(CUSTOMER, *customer)
            .header("idempotency-key", key)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(Condition { tag, .. }) = &condition {
            sending = sending.header(IF_MATCH, tag);
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let from_ms = shared.history.now();
        let outcome = exchange(sending, hang_up).await;
        let to_ms = shared.history.now();
        let (mut read, mut is_read) = (None, true);
        let next = match &outcome {
            Outcome::Answer { status: 201, replayed, body } => {
                if *replayed || reads {
                    read = shared.read(base, customer, body).await;
                    is_read = read.as_ref().map_or(!reads, |read| read.found.is_some());
                }
                if is_read { Next::Done } else { Next::Confirm }
            }
            Outcome::Answer { status: 422, .. } => Next::Done,
            Outcome::Answer { status: 421, .. } => Next::Elsewhere,
            Outcome::NoAnswer { reason, .. } if reason == HUNG_UP => Next::HungUp,
            _ => Next::Retry,
        };
        let is_acknowledged = matches!(outcome, Outcome::Answer { status: 201, .. });
        let spans_loss = shared.history.add(Request {
            client: self.number,
            host: self.host,
            customer,
            key: key.clone(),
            order: order.clone(),
            condition,
            from_ms,
            to_ms,
            outcome,
            read,
        });
        Ok(if spans_loss && is_acknowledged { Next::Confirm } else { next })
    }
}

/// Sends a request, and reads its response unless the client hangs up before.
async fn exchange(request: RequestBuilder, hang_up: HangUp) -> Outcome {
    // With its causes: the error itself only says that a request failed.
    let failed = |error, head| Outcome::NoAnswer { reason: format!("{:#}", anyhow::Error::new(error)), head };
    let hung_up = |head| Outcome::NoAnswer { reason: HUNG_UP.to_owned(), head };
    let patience = match hang_up {
        HangUp::After(patience) => patience,
        HangUp::Never | HangUp::BeforeTheBody => Duration::MAX,
    };
    let response = match timeout(patience, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return failed(error, None),
        Err(_) => return hung_up(None),
    };
    let status = response.status().as_u16();
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    if hang_up == HangUp::BeforeTheBody {
        return hung_up(Some((status, replayed)));
    }
    match response.bytes().await {
        Ok(body) => Outcome::Answer { status, replayed, body: String::from_utf8_lossy(&body).into_owned() },
        Err(error) => failed(error, Some((status, replayed))),
    }
}

/// Repeats the orders that were acknowledged and that a promotion has lost, until they can be read. Call it when the
/// promoted server serves.
pub async fn heal(shared: Arc<Shared>, loss: Promotion, seed: u64) -> Result<()> {
    let lost: HashMap<String, Wanted> = {
        let events = shared.history.events();
        let wanted = |request: &Request| {
            let Request { customer, key, order, .. } = request.clone();
            (key.clone(), Wanted { customer, key, order, conditional: false })
        };
        events.lost_in(&loss).map(|(request, _)| wanted(request)).collect()
    };
    let deadline = Instant::now() + CONFIRMING;
    let first = 2 * shared.clients;
    share_out(shared, lost.into_values().collect(), first..first + HEALERS, seed, Some(deadline)).await
}

/// Sends every order once more, without retries and as it was first sent. Also requests the state of each key as
/// another customer, who must not get it.
pub async fn send_all_again(shared: Arc<Shared>, seed: u64) -> Result<()> {
    let (all, clients) = (lock(&shared.all).clone(), shared.clients);
    share_out(shared, all, clients..2 * clients, seed, None).await
}

/// Lets new clients with these numbers confirm orders until the deadline, or send them once.
async fn share_out(
    shared: Arc<Shared>,
    wanted: Vec<Wanted>,
    clients: std::ops::Range<usize>,
    seed: u64,
    deadline: Option<Instant>,
) -> Result<()> {
    let remaining = Arc::new(Mutex::new(wanted.into_iter()));
    let mut tasks = JoinSet::new();
    for number in clients {
        let (shared, remaining) = (shared.clone(), remaining.clone());
        tasks.spawn(async move {
            let mut client = Client::new(shared.clone(), number, seed);
            loop {
                let Some(mut wanted) = lock(&remaining).next() else {
                    return anyhow::Ok(());
                };
                if let Some(deadline) = deadline {
                    client.confirm(wanted, deadline).await?;
                    continue;
                }
                // Without If-Match, so that the state of the list does not matter.
                wanted.conditional = false;
                client.change_host();
                for _ in 0..MOST_HOSTS_TRIED {
                    if client.send(&wanted, HangUp::Never, false).await? != Next::Elsewhere {
                        break;
                    }
                    client.change_host();
                }
                let base = shared.bases.get(client.host).context("no such host")?;
                shared.expect_hidden(base, &wanted).await?;
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}
