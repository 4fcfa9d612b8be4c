//! The shop, served on the shared stores, and requests to it.

use devstack::scheduler;
use fixtures::Served;
use reqwest::{Client, Response};
use serde_json::{Value, json};

/// The operator's token.
pub const TOKEN: &str = "t0ken";
const BEARER: (&str, &str) = ("authorization", "Bearer t0ken");
const JSON: (&str, &str) = ("content-type", "application/json");
const ORDERS: &str = "/api/v1/ordering/orders";

/// The served shop.
pub struct Shop(pub Served);

impl Shop {
    pub async fn served(name: &str) -> Self {
        let tokens = [("operator_token", TOKEN), ("events_token", "feed-t0ken-of-32-or-more-characters")];
        let served = Served::start_with("showcase/shop/spin.toml", name, &tokens);
        Self(served.await.unwrap())
    }

    async fn send(&self, path: &str, fields: &[(&str, &str)], body: Option<String>) -> Response {
        let url = format!("{}{path}", self.0.base_url());
        let mut request = match body {
            None => Client::new().get(url),
            Some(body) => Client::new().post(url).body(body),
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)], body: &Value) -> Response {
        let fields = [&[BEARER], fields].concat();
        self.send(path, &fields, Some(body.to_string())).await
    }

    pub async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let answer = self.send(path, fields, None).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn deposit(&self, customer: &str, key: &str, amount: i64, currency: &str) {
        let path = format!("/api/v1/accounts/{customer}/deposits");
        let body = json!({"amount": amount, "currency": currency});
        let fields = [JSON, ("idempotency-key", key)];
        assert_eq!(self.post(&path, &fields, &body).await.status(), 201);
    }

    /// Orders, and returns the order's id.
    pub async fn order(&self, customer: &str, key: &str, price: f64) -> String {
        let fields = [JSON, ("x-user-id", customer), ("if-match", "*"), ("idempotency-key", key)];
        let body = json!({"price": price}).to_string();
        let created = self.send(ORDERS, &fields, Some(body)).await;
        assert_eq!(created.status(), 202);
        let order: Value = serde_json::from_str(&created.text().await.unwrap()).unwrap();
        assert_eq!(order["status"], "pending");
        order["id"].as_str().unwrap().to_owned()
    }

    pub async fn shown(&self, customer: &str, order: &str) -> Value {
        let path = format!("{ORDERS}/{order}");
        self.get(&path, &[("x-user-id", customer)]).await
    }

    /// The list's tag, and the list.
    pub async fn list(&self, customer: &str) -> (String, Value) {
        let answer = self.send(ORDERS, &[("x-user-id", customer)], None).await;
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let list = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        (tag, list)
    }

    pub async fn balances(&self, customer: &str) -> Value {
        let path = format!("/api/v1/accounts/{customer}");
        self.get(&path, &[BEARER]).await["balances"].clone()
    }

    pub async fn notifications(&self, customer: &str) -> Vec<Value> {
        let path = "/api/v1/notifications?limit=100";
        let list = self.get(path, &[("x-user-id", customer)]).await;
        list["notifications"].as_array().unwrap().clone()
    }

    pub async fn dead_letters(&self) -> Vec<Value> {
        let list = self.get("/api/v1/dead-letters", &[BEARER]).await;
        list["deadLetters"].as_array().unwrap().clone()
    }

    /// Pulls once: how many events were delivered, and how many rejected.
    pub fn pull(&self) -> (u64, u64) {
        let answer = scheduler::pull(self.0.address(), TOKEN, 0).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (answer["delivered"].as_u64().unwrap(), answer["refused"].as_u64().unwrap())
    }

    pub async fn database(&self) -> tokio_postgres::Client {
        let url = &self.0.database_url;
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}
