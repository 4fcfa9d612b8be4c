//! The clients. Customers register against a rival, log in, retry what was not acknowledged and repeat what was; one
//! more client delivers events out of order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{EVENTS_TOKEN, TOKEN};
use crate::run::millis;

/// How many customers there are, each with one client.
pub const CUSTOMERS: usize = 8;
/// Longer than the services' own deadlines.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What was acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub customer: String,
    /// In minor units.
    pub amount: i64,
    /// The id of an order; `None` if it is a deposit.
    pub order_id: Option<String>,
}

/// Where the shop is, and what it has acknowledged, by the key of the request.
pub struct Shop {
    http: Client,
    pub hosts: Vec<SocketAddr>,
    stopping: AtomicBool,
    acknowledged: Mutex<BTreeMap<String, Acknowledged>>,
    accounts: Mutex<Accounts>,
}

/// What was acknowledged of accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// The e-mail and the id of each registration.
    pub registered: Vec<(String, String)>,
    /// The e-mails and tokens of log-ins.
    pub tokens: Vec<(String, String)>,
    /// Orders that were shown under another customer's token.
    pub shown: Vec<String>,
}

impl Shop {
    /// A shop that has acknowledged nothing.
    pub fn new(hosts: Vec<SocketAddr>) -> Result<Self> {
        let http = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy();
        Ok(Self {
            http: http.build().context("setting up the HTTP client")?,
            hosts,
            stopping: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            accounts: Mutex::default(),
        })
    }

    /// Tells the clients to begin nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// What was acknowledged, by the key of the request.
    pub fn acknowledged(&self) -> MutexGuard<'_, BTreeMap<String, Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was acknowledged of accounts.
    pub fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A URL of one of the hosts.
    fn url(&self, path: &str, rng: &mut StdRng) -> String {
        let host = rng.random_range(0..self.hosts.len());
        let host = self.hosts.get(host).map(SocketAddr::to_string);
        format!("http://{}{path}", host.unwrap_or_default())
    }

    /// The response's body, if the status is this one.
    async fn answer(&self, request: RequestBuilder, status: u16, rng: &mut StdRng) -> Option<Value> {
        let (answered, body) = self.exchange(request, rng).await?;
        (answered == status).then_some(body)
    }

    /// The response's status and body. Some clients hang up early.
    async fn exchange(&self, request: RequestBuilder, rng: &mut StdRng) -> Option<(u16, Value)> {
        let patience = match rng.random_bool(0.1) {
            true => millis(rng, 0, 20),
            false => REQUEST_TIMEOUT,
        };
        let answer = timeout(patience, async {
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            let text = answer.text().await.ok()?;
            Some((status, serde_json::from_str(&text).unwrap_or_default()))
        });
        answer.await.ok().flatten()
    }
}

/// A customer that registers an e-mail.
struct Applicant {
    email: String,
    password: String,
    key: String,
}

impl Applicant {
    /// Registers until the shop says that the e-mail is this applicant's, or another one's; or closes.
    async fn register(&self, shop: &Shop, rng: &mut StdRng) {
        let body = json!({"email": self.email, "password": self.password, "firstName": "A", "lastName": "B"});
        while !shop.is_stopping() {
            let url = shop.url("/api/v1/identity/register", rng);
            let request = shop.http.post(url).header("idempotency-key", &self.key).body(body.to_string());
            match shop.exchange(request, rng).await {
                Some((201, user)) => {
                    let id = user.get("id").and_then(Value::as_str).unwrap_or_default();
                    shop.accounts().registered.push((self.email.clone(), id.to_owned()));
                    return;
                }
                Some((409, _)) => return,
                _ => sleep(millis(rng, 10, 200)).await,
            }
        }
    }

    /// A token, unless the password is not the account's, or there is no response.
    async fn login(&self, shop: &Shop, rng: &mut StdRng) -> Option<String> {
        let body = json!({"email": self.email, "password": self.password}).to_string();
        let request = shop.http.post(shop.url("/api/v1/identity/login", rng)).body(body);
        let token = shop.answer(request, 200, rng).await?.get("accessToken")?.as_str()?.to_owned();
        shop.accounts().tokens.push((self.email.clone(), token.clone()));
        Some(token)
    }
}

/// The id of the user that a token names.
async fn who(token: &str, shop: &Shop, rng: &mut StdRng) -> Option<String> {
    let request = shop.http.get(shop.url("/api/v1/identity/me", rng)).bearer_auth(token);
    Some(shop.answer(request, 200, rng).await?.get("id")?.as_str()?.to_owned())
}

/// Two customers register one e-mail at the same time; the one that got it logs in. Returns the token and the
/// customer's id; nothing if the shop has closed.
async fn sign_in(shop: &Shop, number: usize, rng: &mut StdRng) -> Option<(Applicant, String, String)> {
    let applicant = |name: &str| Applicant {
        email: format!("customer-{number}@example.org"),
        password: format!("password of {name}"),
        key: format!("{name}-{number}"),
    };
    let (first, second) = (applicant("customer"), applicant("rival"));
    let mut other = StdRng::seed_from_u64(rng.random());
    tokio::join!(first.register(shop, rng), second.register(shop, &mut other));
    let mut both = [first, second];
    while !shop.is_stopping() {
        if let Some(token) = both[0].login(shop, rng).await
            && let Some(id) = who(&token, shop, rng).await
        {
            let [applicant, _] = both;
            return Some((applicant, token, id));
        }
        both.reverse();
        sleep(millis(rng, 10, 200)).await;
    }
    None
}

/// A request of a customer's, which is sent until it is acknowledged.
struct Request {
    customer: String,
    key: String,
    amount: i64,
    is_deposit: bool,
}

impl Request {
    async fn send(&self, token: &str, shop: &Shop, rng: &mut StdRng) {
        let Self { customer, amount, .. } = self;
        let (path, member, status) = match self.is_deposit {
            true => ("/api/v1/billing/account/deposit", "amount", 204),
            false => ("/api/v1/ordering/orders", "price", 202),
        };
        let body = format!(r#"{{"{member}":{}.{:02}}}"#, amount / 100, amount % 100);
        loop {
            let request = shop
                .http
                .post(shop.url(path, rng))
                .bearer_auth(token)
                // It means nothing here.
                .header("x-user-id", "customer-0")
                .header("if-match", "*")
                .header("idempotency-key", &self.key)
                .body(body.clone());
            if let Some(answer) = shop.answer(request, status, rng).await {
                let id = answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                if !self.is_deposit && rng.random_bool(0.1) {
                    look_at_another_customers(&id, token, shop, rng).await;
                }
                let order_id = (!self.is_deposit).then_some(id);
                let acknowledged = Acknowledged { customer: customer.clone(), amount: *amount, order_id };
                shop.acknowledged().insert(self.key.clone(), acknowledged);
                return;
            }
            sleep(millis(rng, 10, 200)).await;
        }
    }
}

/// Asks for an order with another customer's token, or with one that nobody has signed.
async fn look_at_another_customers(order: &str, token: &str, shop: &Shop, rng: &mut StdRng) {
    let tokens = shop.accounts().tokens.clone();
    let own = tokens.iter().find(|(_, other)| other == token).map(|(email, _)| email);
    let others = tokens.iter().filter(|(email, _)| Some(email) != own).map(|(_, token)| token.clone());
    let others: Vec<String> = others.chain([format!("{token}A")]).collect();
    let Some(other) = others.get(rng.random_range(0..others.len())) else {
        return;
    };
    let request = shop.http.get(shop.url(&format!("/api/v1/ordering/orders/{order}"), rng)).bearer_auth(other);
    if let Some((200, _)) = shop.exchange(request, rng).await {
        shop.accounts().shown.push(order.to_owned());
    }
}

/// Pays in and orders, one request after the other, until the shop closes.
pub async fn customer(shop: Arc<Shop>, number: usize, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64 + 1));
    let Some((applicant, mut token, customer)) = sign_in(&shop, number, &mut rng).await else {
        return Ok(());
    };
    let mut sent: Vec<Request> = Vec::new();
    while !shop.is_stopping() {
        // Orders cost a little more than is paid in: some payments fail.
        let is_deposit = rng.random_bool(0.3);
        let request = Request {
            customer: customer.clone(),
            key: format!("{customer}-{}", sent.len()),
            amount: match is_deposit {
                true => rng.random_range(1..=4000),
                false => rng.random_range(100..=2000),
            },
            is_deposit,
        };
        request.send(&token, &shop, &mut rng).await;
        sent.push(request);
        if rng.random_bool(0.02) {
            token = applicant.login(&shop, &mut rng).await.unwrap_or(token);
        }
        // What was acknowledged long ago is sent again.
        if rng.random_bool(0.1) {
            let again = rng.random_range(0..sent.len());
            if let Some(request) = sent.get(again) {
                request.send(&token, &shop, &mut rng).await;
            }
        }
        sleep(millis(&mut rng, 0, 60)).await;
    }
    Ok(())
}

/// Reads pages of the feed and delivers their events in random order, some more than once, some only to payments, while
/// the pullers do their work. Only those of every other customer: what it delivers, a puller may forget.
pub async fn deliver_out_of_order(shop: Arc<Shop>, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cursor = String::new();
    while !shop.is_stopping() {
        let url = shop.url(&format!("/api/v1/ordering/events?limit=20{cursor}"), &mut rng);
        let page = shop.http.get(url).header("authorization", format!("Bearer {EVENTS_TOKEN}"));
        let page = shop.answer(page, 200, &mut rng).await;
        let page = page.and_then(|page| page.as_array().cloned());
        let mut events = page.unwrap_or_default();
        events.retain(|event| {
            let customer = event.get("partitionkey").and_then(Value::as_str);
            customer.is_some_and(|id| id.ends_with(['0', '1', '2', '3', '4', '5', '6', '7']))
        });
        let repeated: Vec<Value> = events.iter().filter(|_| rng.random_bool(0.3)).cloned().collect();
        events.extend(repeated);
        events.shuffle(&mut rng);
        for event in events {
            let outcome = deliver(&shop, "/api/v1/payments", &event, &mut rng).await;
            if let Some(outcome) = outcome.filter(|_| rng.random_bool(0.5)) {
                deliver(&shop, "/api/v1/notifications", &outcome, &mut rng).await;
            }
        }
        cursor = random_cursor(&shop, &mut rng).await.unwrap_or_default();
        sleep(millis(&mut rng, 0, 200)).await;
    }
    Ok(())
}

async fn deliver(shop: &Shop, path: &str, event: &Value, rng: &mut StdRng) -> Option<Value> {
    let request = shop
        .http
        .post(shop.url(path, rng))
        .header("content-type", "application/cloudevents+json")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(event.to_string());
    shop.answer(request, 201, rng).await
}

/// The cursor behind some number of events, as a parameter.
async fn random_cursor(shop: &Shop, rng: &mut StdRng) -> Option<String> {
    let limit = rng.random_range(1..=1000);
    let url = shop.url(&format!("/api/v1/ordering/events?limit={limit}"), rng);
    let request = shop.http.get(url).header("authorization", format!("Bearer {EVENTS_TOKEN}"));
    let answer = request.send().await.ok()?;
    let link = answer.headers().get("link")?.to_str().ok()?.to_owned();
    let (_, after) = link.split_once("after=")?;
    let end = after.find(['&', '>'])?;
    Some(format!("&after={}", after.get(..end)?))
}
