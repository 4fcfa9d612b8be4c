//! The shop, served on the shared stores, and requests to it.

use devstack::scheduler;
use fixtures::client::Asked;
use fixtures::{Served, connect};
use serde_json::{Value, json};

use crate::client::{signing_keys, token};

/// The operator's token.
pub const TOKEN: &str = "t0ken";
const BEARER: (&str, &str) = ("authorization", "Bearer t0ken");
const ORDERS: &str = "/api/v1/ordering/orders";

/// The credentials of a customer who has logged in somewhere else with the shop's key.
fn bearer(customer: &str) -> String {
    let claims = json!({"sub": customer, "iss": "shop", "aud": "shop", "exp": 4_000_000_000_i64});
    format!("Bearer {}", token("k1", &claims))
}

/// The served shop.
pub struct Shop(pub Served);

impl Shop {
    pub async fn served(name: &str) -> Self {
        Self::served_with(name, &[]).await
    }

    pub async fn served_with(name: &str, further: &[(&str, &str)]) -> Self {
        let keys = signing_keys(&["k1"]);
        let own = [
            ("operator_token", TOKEN),
            ("events_token", "feed-t0ken-of-32-or-more-characters"),
            ("signing_keys", keys.as_str()),
        ];
        Self(Served::start_with("showcase/shop/spin.toml", name, &[&own, further].concat()).await.unwrap())
    }

    /// What a customer gets.
    fn get(&self, customer: &str, path: &str) -> Asked {
        self.0.get(path).field("authorization", bearer(customer)).expect(200)
    }

    pub async fn deposit(&self, customer: &str, key: &str, amount: i64, currency: &str) {
        let asked = self.0.post(&format!("/api/v1/accounts/{customer}/deposits")).fields(&[BEARER]);
        let asked = asked.json(&json!({"amount": amount, "currency": currency})).field("idempotency-key", key);
        asked.expect(201).await;
    }

    /// Orders, and returns the order's id.
    pub async fn order(&self, customer: &str, key: &str, price: f64) -> String {
        let fields = [("authorization", &*bearer(customer)), ("if-match", "*"), ("idempotency-key", key)];
        let order = self.0.post(ORDERS).fields(&fields).json(&json!({"price": price})).expect(202).await.json();
        assert_eq!(order["status"], "pending");
        order["id"].as_str().unwrap().to_owned()
    }

    pub async fn shown(&self, customer: &str, order: &str) -> Value {
        self.get(customer, &format!("{ORDERS}/{order}")).await.json()
    }

    /// The list's tag, and the list.
    pub async fn list(&self, customer: &str) -> (String, Value) {
        let list = self.get(customer, ORDERS).await;
        (list.the("etag").to_owned(), list.json())
    }

    pub async fn balances(&self, customer: &str) -> Value {
        let account = self.0.get(&format!("/api/v1/accounts/{customer}")).fields(&[BEARER]);
        account.expect(200).await.json()["balances"].clone()
    }

    pub async fn notifications(&self, customer: &str) -> Vec<Value> {
        let list = self.get(customer, "/api/v1/notifications?limit=100").await.json();
        list.as_array().unwrap().clone()
    }

    pub async fn dead_letters(&self) -> Vec<Value> {
        let list = self.0.get("/api/v1/dead-letters").fields(&[BEARER]).expect(200).await.json();
        list["deadLetters"].as_array().unwrap().clone()
    }

    /// Delivers the dead letters again; the response's text.
    pub async fn replay(&self) -> String {
        self.0.post("/api/v1/dead-letters/replay").fields(&[BEARER]).body("null").await.body
    }

    /// Pulls once: how many events were delivered, and how many rejected.
    pub fn pull(&self) -> (u64, u64) {
        let answer = scheduler::pull(self.0.address(), TOKEN, 0).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (answer["delivered"].as_u64().unwrap(), answer["refused"].as_u64().unwrap())
    }

    pub async fn sql(&self, statements: &str) {
        self.database().await.batch_execute(statements).await.unwrap();
    }

    pub async fn database(&self) -> tokio_postgres::Client {
        connect(&self.0.database_url).await.unwrap()
    }
}
