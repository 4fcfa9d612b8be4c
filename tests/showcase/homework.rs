//! What the ancestors' own clients do, told again: two collections of the one, with 8 and 13 requests, its race for one
//! ETag, the other's 9 requests, and what a client may get wrong. Their files are not here; docs/from-the-homework.md
//! says which request is which.

use std::time::{Duration, Instant};

use devstack::scheduler::Puller;
use fixtures::Served;
use fixtures::client::Answer;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Checked, claims, send, token};
use crate::shop::support::{Shop, TOKEN};

const REGISTER: &str = "/api/v1/identity/register";
const LOGIN: &str = "/api/v1/identity/login";
const ME: &str = "/api/v1/identity/me";
const ACCOUNT: &str = "/api/v1/billing/account";
const DEPOSIT: &str = "/api/v1/billing/account/deposit";
const ORDERS: &str = "/api/v1/ordering/orders";
const NOTIFICATIONS: &str = "/api/v1/notifications";

/// How long their collections wait for an order to be paid.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client with one token, which sends what it has read in the last list as its condition.
struct Client<'s> {
    shop: &'s Shop,
    bearer: String,
}

impl Client<'_> {
    /// Registers and logs in: two requests. Returns the user, too.
    async fn new<'s>(shop: &'s Shop, email: &str) -> (Client<'s>, Value) {
        let base = &shop.0;
        let user = json!({"email": email, "password": "correct horse", "firstName": "Ada", "lastName": "Byron"});
        let user = send(base, REGISTER, &[], Some(&user)).await.expect(201);
        let login = json!({"email": email, "password": "correct horse"});
        let issued = send(base, LOGIN, &[], Some(&login)).await.expect(200);
        let issued = issued["accessToken"].as_str().unwrap();
        assert_eq!((&claims(issued)["userId"], &claims(issued)["email"]), (&user["id"], &user["email"]));
        (Client { shop, bearer: format!("Bearer {issued}") }, user)
    }

    async fn get(&self, path: &str) -> Answer {
        send(&self.shop.0, path, &[("authorization", &self.bearer)], None).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)], body: Value) -> Answer {
        let fields = [&[("authorization", self.bearer.as_str())], fields].concat();
        send(&self.shop.0, path, &fields, Some(&body)).await
    }

    async fn amount(&self) -> Value {
        self.get(ACCOUNT).await.expect(200)["amount"].clone()
    }

    /// The tag of the list, and how many orders it has.
    async fn list(&self) -> (String, usize) {
        let list = self.get(ORDERS).await;
        let tag = list.the("etag").to_owned();
        (tag, list.expect(200).as_array().unwrap().len())
    }

    /// The status of an order that is no longer pending, in time.
    async fn outcome(&self, order: &Value) -> Value {
        let path = format!("{ORDERS}/{}", order["id"].as_str().unwrap());
        let start = Instant::now();
        loop {
            let order = self.get(&path).await.expect(200);
            if order["status"] != "pending" {
                return order["status"].clone();
            }
            assert!(start.elapsed() < PATIENCE, "still pending");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest message, of so many, in time.
    async fn told(&self, count: usize) -> String {
        let start = Instant::now();
        loop {
            let all = self.get(NOTIFICATIONS).await.expect(200);
            let all = all.as_array().unwrap();
            if all.len() == count {
                return all[0]["message"].as_str().unwrap().to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "{all:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn the_collection_of_eight() {
    let shop = Shop::served("homework_8").await;
    let _puller = Puller::start(shop.0.address(), TOKEN);
    // 1 and 2: register, log in.
    let (client, _) = Client::new(&shop, "ada@example.org").await;
    // 3: pay in.
    client.post(DEPOSIT, &[], json!({"amount": 1000})).await.expect(204);
    // 4: an order that the account covers. No If-Match, no key, no Content-Type.
    let order = client.post(ORDERS, &[], json!({"price": 600})).await.expect(202);
    assert_eq!(client.outcome(&order).await, "succeeded");
    // 5 and 6: the money and the message.
    assert_eq!(client.amount().await, 400);
    assert_eq!(client.told(1).await, "Your order for 600.00$ has been succesfully processed.");
    // 7: an order that it does not cover.
    let order = client.post(ORDERS, &[], json!({"price": 600})).await.expect(202);
    assert_eq!(client.outcome(&order).await, "failed");
    // 8: the message; the money is what it was.
    assert_eq!(client.told(2).await, "Your order for 600.00$ was not fulfilled due to: not enough money.");
    assert_eq!(client.amount().await, 400);
}

#[tokio::test]
async fn the_collection_of_thirteen() {
    let shop = Shop::served_with("homework_13", &[("if_match", "required")]).await;
    let _puller = Puller::start(shop.0.address(), TOKEN);
    // 1 to 3: register, log in, who am I.
    let (client, user) = Client::new(&shop, "ada@example.org").await;
    assert_eq!(client.get(ME).await.expect(200), user);
    // 4 and 5: an account is empty before the first deposit.
    assert_eq!(client.amount().await, 0);
    client.post(DEPOSIT, &[("idempotency-key", "d1")], json!({"amount": 1000})).await.expect(204);
    // 6: the list, whose tag is the condition of the first order.
    let (empty, count) = client.list().await;
    assert_eq!(count, 0);
    // 7 to 9: without a condition, with the tag, and with the same tag again.
    client.post(ORDERS, &[], json!({"price": 600})).await.is_problem(428);
    let order = client.post(ORDERS, &[("if-match", &empty)], json!({"price": 600})).await.expect(202);
    client.post(ORDERS, &[("if-match", &empty)], json!({"price": 600})).await.is_problem(412);
    // 10 and 11: the list has one order and another tag, with which the next order is another one.
    let (after, count) = client.list().await;
    assert!(count == 1 && after != empty);
    let second = client.post(ORDERS, &[("if-match", &after)], json!({"price": 600})).await.expect(202);
    assert_eq!(client.outcome(&order).await, "succeeded");
    assert_eq!(client.outcome(&second).await, "failed");
    // 12 and 13: one was paid, and the message of the other is the newest.
    assert_eq!(client.amount().await, 400);
    assert!(client.told(2).await.ends_with("not enough money."));
    // A deposit that is sent again counts once.
    let again = client.post(DEPOSIT, &[("idempotency-key", "d1")], json!({"amount": 1000})).await;
    assert_eq!(again.the("idempotent-replayed"), "true");
    assert_eq!(client.amount().await, 400);
}

#[tokio::test]
async fn of_ten_orders_with_one_etag_one_succeeds() {
    let shop = Shop::served("homework_race").await;
    let (client, _) = Client::new(&shop, "ada@example.org").await;
    let (tag, _) = client.list().await;
    let fields = [("if-match", tag.as_str())];
    let answers = join_all((0..10).map(|_| client.post(ORDERS, &fields, json!({"price": 600})))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(202), 1, "{answers:?}");
    assert_eq!(count(409) + count(412), 9, "{answers:?}");
    assert_eq!(client.list().await.1, 1);
}

/// The other ancestor identifies nobody and needs a key: `showcase/order-by-key` has its API.
#[tokio::test]
async fn the_other_ancestors_nine() {
    let service = Served::start("showcase/order-by-key/spin.toml", "homework_9").await.unwrap();
    let base = &service;
    let list = format!("/?profileId={}", "3f2a8f5e-52a3-4c1c-9d0f-0f4b6f6c1a11");
    let order = async |key: &str, quantity: u32| {
        let body = json!({"productQuantity": quantity});
        send(base, &list, &[("idempotency-key", key)], Some(&body)).await
    };
    // 1 to 3: nothing is there; an order; it is there.
    assert_eq!(send(base, &list, &[], None).await.expect(200), json!([]));
    let first = order("k1", 2).await.expect(201);
    let shown = json!({"id": first, "productQuantity": 2});
    assert_eq!(send(base, &list, &[], None).await.expect(200), json!([shown]));
    // 4 to 6: the key again, with the same and with another body, is the same order.
    assert_eq!(order("k1", 2).await.expect(201), first);
    assert_eq!(order("k1", 3).await.expect(201), first);
    assert_eq!(send(base, &list, &[], None).await.expect(200), json!([shown]));
    // 7 to 9: another key is another order, and without a key there is none.
    assert_ne!(order("k2", 3).await.expect(201), first);
    send(base, &list, &[], Some(&json!({"productQuantity": 2}))).await.is_problem(400);
    assert_eq!(send(base, &list, &[], None).await.expect(200).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_client_gets_wrong_is_a_problem_and_stores_nothing() {
    let shop = Shop::served("homework_bad").await;
    let (client, user) = Client::new(&shop, "ada@example.org").await;
    for amount in [json!(0), json!(-1), json!(10.005), json!(0.001), json!(1e300), json!("1000"), json!(null)] {
        let refused = client.post(DEPOSIT, &[], json!({"amount": amount})).await;
        refused.is_problem(422);
        assert_eq!(refused.json()["violations"][0]["pointer"], "/amount", "{amount}");
    }
    client.post(DEPOSIT, &[], json!({"amount": 1, "currency": "EUR"})).await.is_problem(422);
    client.post(ORDERS, &[], json!({"price": 600, "status": "succeeded"})).await.is_problem(422);
    client.post(ORDERS, &[("if-match", "*")], json!({"price": 600})).await.is_problem(428);
    let with = |member: &str, value: Value| {
        let mut claims = json!({"sub": user["id"], "iss": "shop", "aud": "shop", "exp": 4_000_000_000_i64});
        claims[member] = value;
        format!("Bearer {}", token("k1", &claims))
    };
    let unknown = json!({"sub": user["id"], "iss": "shop", "aud": "shop", "exp": 4_000_000_000_i64});
    let strangers = [
        with("iss", json!("https://another.example")),
        with("aud", json!("another shop")),
        with("exp", json!(1_000_000_000)),
        format!("Bearer {}", token("k2", &unknown)),
        format!("{}x", client.bearer),
        "Bearer".to_owned(),
        "Basic YWRhOng=".to_owned(),
    ];
    for bearer in strangers {
        let stranger = Client { shop: &shop, bearer };
        for path in [ACCOUNT, ORDERS, NOTIFICATIONS, ME] {
            stranger.get(path).await.is_problem(401);
        }
        stranger.post(DEPOSIT, &[], json!({"amount": 1000})).await.is_problem(401);
        stranger.post(ORDERS, &[], json!({"price": 600})).await.is_problem(401);
    }
    // The gateway's header means nothing here.
    let named = [("x-user-id", user["id"].as_str().unwrap())];
    send(&shop.0, ORDERS, &named, None).await.is_problem(401);
    assert_eq!((client.amount().await, client.list().await.1), (json!(0), 0));
    assert_eq!(client.get(NOTIFICATIONS).await.expect(200), json!([]));
}

#[tokio::test]
async fn without_the_keys_of_tokens_nobody_is_let_in_and_the_client_is_told_to_come_again() {
    let missing = ("jwt_keys_url", "http://self.alt/api/v1/identity/nothing");
    let shop = Shop::served_with("homework_keys", &[missing]).await;
    let (client, _) = Client::new(&shop, "ada@example.org").await;
    let answer = client.get(ORDERS).await;
    answer.is_problem(503);
    assert_eq!(answer.the("retry-after"), "1");
    Client { shop: &shop, bearer: "Bearer x".to_owned() }.get(ORDERS).await.is_problem(401);
    client.get(ME).await.expect(200);
}
