//! The clients: customers, who retry what was not acknowledged and repeat what was, and one who delivers events out of
//! order.

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

    /// A URL of one of the hosts.
    fn url(&self, path: &str, rng: &mut StdRng) -> String {
        let host = rng.random_range(0..self.hosts.len());
        let host = self.hosts.get(host).map(SocketAddr::to_string);
        format!("http://{}{path}", host.unwrap_or_default())
    }

    /// The response's body, if the status is this one. Some clients hang up early.
    async fn answer(&self, request: RequestBuilder, status: u16, rng: &mut StdRng) -> Option<Value> {
        let patience = match rng.random_bool(0.1) {
            true => millis(rng, 0, 20),
            false => REQUEST_TIMEOUT,
        };
        let answer = timeout(patience, async {
            let answer = request.send().await.ok()?;
            let is_expected = answer.status() == status;
            let text = answer.text().await.ok()?;
            serde_json::from_str(&text).ok().filter(|_| is_expected)
        });
        answer.await.ok().flatten()
    }
}

/// A request of a customer's, which is sent until it is acknowledged.
struct Request {
    customer: String,
    key: String,
    amount: i64,
    is_deposit: bool,
}

impl Request {
    async fn send(&self, shop: &Shop, rng: &mut StdRng) {
        let Self { customer, amount, .. } = self;
        let (path, body, status) = match self.is_deposit {
            true => {
                let deposit = json!({"amount": amount, "currency": "EUR"});
                (format!("/api/v1/accounts/{customer}/deposits"), deposit.to_string(), 201)
            }
            false => {
                let order = format!(r#"{{"price":{}.{:02}}}"#, amount / 100, amount % 100);
                ("/api/v1/ordering/orders".to_owned(), order, 202)
            }
        };
        loop {
            let request = shop
                .http
                .post(shop.url(&path, rng))
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {TOKEN}"))
                .header("x-user-id", customer)
                .header("if-match", "*")
                .header("idempotency-key", &self.key)
                .body(body.clone());
            if let Some(answer) = shop.answer(request, status, rng).await {
                let id = answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                let order_id = (!self.is_deposit).then_some(id);
                let acknowledged = Acknowledged { customer: customer.clone(), amount: *amount, order_id };
                shop.acknowledged().insert(self.key.clone(), acknowledged);
                return;
            }
            sleep(millis(rng, 10, 200)).await;
        }
    }
}

/// Pays in and orders, one request after the other, until the shop closes.
pub async fn customer(shop: Arc<Shop>, number: usize, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64 + 1));
    let customer = format!("customer-{number}");
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
        request.send(&shop, &mut rng).await;
        sent.push(request);
        // What was acknowledged long ago is sent again.
        if rng.random_bool(0.1) {
            let again = rng.random_range(0..sent.len());
            if let Some(request) = sent.get(again) {
                request.send(&shop, &mut rng).await;
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
            customer.is_some_and(|name| name.ends_with(['0', '2', '4', '6']))
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
