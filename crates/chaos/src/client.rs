//! Clients as they are: they send and retry until answered, change their mind, change hosts, hang up
//! half-way, share keys, and come back to a key long after it was acknowledged. Some want their order only on
//! the list of orders that they have seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH};
use tokio::time::{sleep, timeout};

use crate::history::{History, What};
use crate::order::Order;

/// Longer than the service's own deadlines, 500 ms and 5 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many acknowledged keys a client remembers.
const MEMORY: usize = 500;
/// About how many wishes all clients together have in a second.
const WISHES_PER_SECOND: usize = 150;

/// What all clients have in common.
pub struct World {
    history: Arc<History>,
    bases: Vec<String>,
    http: reqwest::Client,
    clients: usize,
    stopping: AtomicBool,
    ops: AtomicU64,
    requests: AtomicU64,
    acknowledged: AtomicU64,
    /// Every key and the order that it was first sent with.
    wishes: Mutex<Vec<Wish>>,
    /// Wishes that a second or third client has too.
    shared: Mutex<Vec<Wish>>,
}

/// A key and what its client wants to have for it.
#[derive(Clone, Debug)]
struct Wish {
    customer: &'static str,
    key: String,
    order: Order,
    /// Whether the order is to follow a state of the customer's list.
    conditional: bool,
}

/// Whose orders do not depend on what others do.
const CUSTOMERS: [&str; 2] = ["ann", "ben"];
/// Whose lists several clients want to be the next on.
const LISTS: [&str; 3] = ["cara", "dora", "emil"];

impl World {
    /// Before anything was sent.
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
            wishes: Mutex::default(),
            shared: Mutex::default(),
        })
    }

    /// Lets clients finish what they have begun, and begin nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// How many requests were sent, and how many orders acknowledged.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.acknowledged.load(Ordering::Relaxed),
        )
    }

    /// How many keys were used.
    pub fn keys(&self) -> usize {
        lock(&self.wishes).len()
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a client hangs up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HangUp {
    Never,
    After(Duration),
    BeforeTheBody,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Again,
    HungUp,
}

/// One client.
pub struct Client {
    world: Arc<World>,
    number: usize,
    rng: StdRng,
    /// Given up half-way, and taken up again later.
    postponed: Vec<Wish>,
    acknowledged: Vec<Wish>,
}

impl Client {
    /// The client of this number; what it does follows from seed and number, as far as answers let it.
    pub fn new(world: Arc<World>, number: usize, seed: u64) -> Self {
        let seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            world,
            number,
            rng: StdRng::seed_from_u64(seed),
            postponed: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// Wishes until told to stop, and then until every wish is answered.
    pub async fn live(mut self) -> Result<()> {
        let pause = 2000 * self.world.clients as u64 / WISHES_PER_SECOND as u64;
        while !self.world.stopping() {
            let wish = self.next_wish();
            self.pursue(wish).await?;
            sleep(self.millis(0, pause)).await;
        }
        while let Some(wish) = self.postponed.pop() {
            self.pursue(wish).await?;
        }
        Ok(())
    }

    fn next_wish(&mut self) -> Wish {
        let chance = self.rng.random_range(0..100);
        let old = match chance {
            0..15 => self.postponed.pop(),
            15..25 => self.recall().map(|wish| self.reconsidered(wish)),
            25..45 => {
                let shared = lock(&self.world.shared).pop();
                shared.map(|wish| self.reconsidered(wish))
            }
            _ => None,
        };
        old.unwrap_or_else(|| self.new_wish())
    }

    /// Mostly the same, sometimes with another order under the same key.
    fn reconsidered(&mut self, mut wish: Wish) -> Wish {
        if self.rng.random_bool(0.3) {
            wish.order = wish.order.changed(&mut self.rng);
        }
        wish
    }

    fn new_wish(&mut self) -> Wish {
        let bytes = self.rng.random();
        let conditional = self.rng.random_bool(0.15);
        let customers = if conditional {
            &LISTS[..]
        } else {
            &CUSTOMERS[..]
        };
        let at = self.rng.random_range(0..customers.len());
        let wish = Wish {
            customer: customers.get(at).copied().unwrap_or("ann"),
            conditional,
            key: uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string(),
            order: Order::random(&mut self.rng),
        };
        lock(&self.world.wishes).push(wish.clone());
        if self.rng.random_bool(0.15) {
            let others = self.rng.random_range(1..=2);
            lock(&self.world.shared).extend(std::iter::repeat_n(wish.clone(), others));
        }
        wish
    }

    fn recall(&mut self) -> Option<Wish> {
        let at = self.rng.random_range(0..self.acknowledged.len().max(1));
        self.acknowledged.get(at).cloned()
    }

    fn remember(&mut self, wish: Wish) {
        if self.acknowledged.len() < MEMORY {
            self.acknowledged.push(wish);
        } else {
            let at = self.rng.random_range(0..MEMORY);
            if let Some(old) = self.acknowledged.get_mut(at) {
                *old = wish;
            }
        }
    }

    /// Asks until answered, or puts the wish off after hanging up.
    async fn pursue(&mut self, wish: Wish) -> Result<()> {
        let op = self.world.ops.fetch_add(1, Ordering::Relaxed);
        let mut runner = self.any_runner();
        let mut back_off = 20;
        loop {
            let hang_up = self.hang_up();
            match self.ask(op, runner, &wish, &wish.order, hang_up).await? {
                Outcome::Acknowledged => {
                    self.remember(wish);
                    return Ok(());
                }
                Outcome::Refused => return Ok(()),
                Outcome::HungUp if self.rng.random_bool(0.5) => {
                    self.postponed.push(wish);
                    return Ok(());
                }
                Outcome::HungUp | Outcome::Again => {}
            }
            sleep(self.millis(back_off / 2, back_off)).await;
            back_off = (back_off * 2).min(500);
            if self.rng.random_bool(0.5) {
                runner = self.any_runner();
            }
            if !self.world.stopping() && self.rng.random_bool(0.1) {
                // A change of mind, taken back at the next try: whichever comes first wins for good.
                let other = wish.order.changed(&mut self.rng);
                self.ask(op, runner, &wish, &other, HangUp::Never).await?;
            }
        }
    }

    fn any_runner(&mut self) -> usize {
        self.rng.random_range(0..self.world.bases.len())
    }

    fn hang_up(&mut self) -> HangUp {
        if self.world.stopping() {
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

    /// Sends one request and tells the history of it and of its answer.
    async fn ask(
        &mut self,
        op: u64,
        runner: usize,
        wish: &Wish,
        order: &Order,
        hang_up: HangUp,
    ) -> Result<Outcome> {
        let world = self.world.clone();
        let request = world.requests.fetch_add(1, Ordering::Relaxed);
        let body = if self.rng.random_bool(0.1) {
            serde_json::to_string_pretty(order)?
        } else {
            serde_json::to_string(order)?
        };
        let base = world.bases.get(runner).context("no such runner")?;
        let condition = match wish.conditional {
            true => match tag(&world.http, base, wish.customer).await {
                Some(tag) => Some(tag),
                None => return Ok(Outcome::Again),
            },
            false => None,
        };
        let (client, key) = (self.number, wish.key.clone());
        world.history.add(What::Request {
            client,
            op,
            request,
            runner,
            key: key.clone(),
            order: order.clone(),
            condition: condition.clone(),
        })?;
        let mut sending = world
            .http
            .post(format!("{base}/api/v1/orders"))
            .header(CUSTOMER, wish.customer)
            .header("idempotency-key", &key)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(condition) = condition {
            sending = sending.header(IF_MATCH, condition);
        }
        Ok(match exchange(sending, hang_up).await {
            Ok((status, replayed, body)) => {
                let order_id = order_id(&body);
                world.history.add(What::Answer {
                    client,
                    op,
                    request,
                    runner,
                    key,
                    status,
                    replayed,
                    order_id,
                    body,
                })?;
                match status {
                    201 => {
                        world.acknowledged.fetch_add(1, Ordering::Relaxed);
                        Outcome::Acknowledged
                    }
                    422 => Outcome::Refused,
                    _ => Outcome::Again,
                }
            }
            Err(failure) => {
                let hung_up = failure.reason == HUNG_UP;
                world.history.add(What::NoAnswer {
                    client,
                    op,
                    request,
                    runner,
                    key,
                    reason: failure.reason,
                    status: failure.head.map(|(status, _)| status),
                    replayed: failure.head.is_some_and(|(_, replayed)| replayed),
                })?;
                if hung_up {
                    Outcome::HungUp
                } else {
                    Outcome::Again
                }
            }
        })
    }
}

/// The field that names the customer, by default.
const CUSTOMER: &str = "x-user-id";

/// The tag of a customer's list, if somebody tells.
async fn tag(http: &reqwest::Client, base: &str, customer: &str) -> Option<String> {
    let list = format!("{base}/api/v1/orders?limit=1");
    let answer = http
        .get(list)
        .header(CUSTOMER, customer)
        .send()
        .await
        .ok()?;
    let tag = answer.headers().get(ETAG)?.to_str().ok()?;
    Some(tag.to_owned())
}

/// That another customer is told nothing of the wish's key.
async fn expect_hidden(http: &reqwest::Client, base: &str, wish: &Wish) -> Result<()> {
    let [ann, ben] = CUSTOMERS;
    let stranger = if wish.customer == ann { ben } else { ann };
    let state = format!("{base}/api/v1/idempotency-keys/{}", wish.key);
    let answer = http.get(state).header(CUSTOMER, stranger).send().await?;
    ensure!(
        answer.status() == StatusCode::NOT_FOUND,
        "asked for the key {} of {}, {stranger} was answered {}",
        wish.key,
        wish.customer,
        answer.status()
    );
    Ok(())
}

const HUNG_UP: &str = "the client hung up";

/// Why there is no answer, and what was read of one: status, and whether it is a replay.
struct Failure {
    reason: String,
    head: Option<(u16, bool)>,
}

async fn exchange(
    request: reqwest::RequestBuilder,
    hang_up: HangUp,
) -> Result<(u16, bool, String), Failure> {
    let failed = |reason: String, head| Failure { reason, head };
    let sent = match hang_up {
        HangUp::After(patience) => timeout(patience, request.send())
            .await
            .map_err(|_| failed(HUNG_UP.to_owned(), None))?,
        HangUp::Never | HangUp::BeforeTheBody => request.send().await,
    };
    let response = sent.map_err(|e| failed(describe(&e), None))?;
    let head = (response.status().as_u16(), is_replay(response.headers()));
    if hang_up == HangUp::BeforeTheBody {
        return Err(failed(HUNG_UP.to_owned(), Some(head)));
    }
    let bytes = response
        .bytes()
        .await
        .map_err(|e| failed(describe(&e), Some(head)))?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok((head.0, head.1, body))
}

fn is_replay(fields: &HeaderMap) -> bool {
    fields
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true")
}

/// With its causes: the error itself only says that a request failed.
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

/// Asks once more for every key there is, with the order that it was first sent with, without a retry; and
/// as somebody else, to whom the key must mean nothing.
pub async fn ask_all_again(world: Arc<World>, seed: u64) -> Result<()> {
    let wishes = Arc::new(Mutex::new(lock(&world.wishes).clone().into_iter()));
    let mut askers = tokio::task::JoinSet::new();
    for number in 0..world.clients {
        let (world, wishes) = (world.clone(), wishes.clone());
        askers.spawn(async move {
            // Other numbers than those of the clients that lived before.
            let mut client = Client::new(world.clone(), world.clients + number, seed);
            loop {
                let Some(mut wish) = lock(&wishes).next() else {
                    return anyhow::Ok(());
                };
                // Whatever the list is like: its own order is found, and a new one must be possible.
                wish.conditional = false;
                let op = world.ops.fetch_add(1, Ordering::Relaxed);
                let runner = client.any_runner();
                client
                    .ask(op, runner, &wish, &wish.order, HangUp::Never)
                    .await?;
                let base = world.bases.get(runner).context("no such runner")?;
                expect_hidden(&world.http, base, &wish).await?;
            }
        });
    }
    while let Some(asked) = askers.join_next().await {
        asked??;
    }
    Ok(())
}
