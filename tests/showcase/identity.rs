//! Registrations and log-ins over HTTP, on Postgres and on SQLite: one account per e-mail, and nothing told of others.

use std::time::{Duration, Instant};

use fixtures::Served;
use fixtures::client::Answer;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::client::{Checked, claims, send, signing_keys, token};

const STORES: [&str; 2] = ["postgres", "embedded"];
const REGISTER: &str = "/api/v1/identity/register";
const LOGIN: &str = "/api/v1/identity/login";
const ME: &str = "/api/v1/identity/me";

async fn served(name: &str, store: &str, keys: &[&str]) -> Served {
    let variables = [("store", store), ("signing_keys", &signing_keys(keys))];
    Served::start_with("showcase/identity/spin.toml", &format!("{name}_{store}"), &variables).await.unwrap()
}

fn ada() -> Value {
    json!({"email": "ada@example.org", "password": "correct horse", "firstName": "Ada", "lastName": "Byron"})
}

async fn register(service: &Served, key: Option<&str>, body: &Value) -> Answer {
    let key: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    send(service, REGISTER, &key, Some(body)).await
}

async fn login(service: &Served, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    send(service, LOGIN, &[], Some(&body)).await
}

async fn me(service: &Served, token: &str) -> Answer {
    send(service, ME, &[("authorization", &format!("Bearer {token}"))], None).await
}

#[tokio::test]
async fn a_user_registers_once_logs_in_and_is_known_by_the_token() {
    for store in STORES {
        let service = served("identity", store, &["k1"]).await;
        let user = register(&service, Some("r1"), &ada()).await.expect(201);
        let expected = json!({"id": user["id"], "email": "ada@example.org", "firstName": "Ada", "lastName": "Byron"});
        assert_eq!(user, expected);
        let again = register(&service, Some("r1"), &ada()).await;
        assert_eq!(again.the("idempotent-replayed"), "true");
        assert_eq!(again.expect(201), user);

        let issued = login(&service, "ADA@example.org", "correct horse").await;
        assert_eq!(issued.the("cache-control"), "no-store");
        let issued = issued.expect(200)["accessToken"].as_str().unwrap().to_owned();
        let named = claims(&issued);
        assert_eq!((&named["userId"], &named["sub"], &named["email"]), (&user["id"], &user["id"], &user["email"]));
        assert_eq!((&named["iss"], &named["aud"]), (&json!("shop"), &json!("shop")));
        assert_eq!(named["exp"].as_i64(), named["iat"].as_i64().map(|iat| iat + 3600));
        assert_eq!(me(&service, &issued).await.expect(200), user);
        me(&service, "x").await.is_problem(401);
        send(&service, ME, &[], None).await.is_problem(401);
    }
}

#[tokio::test]
async fn another_registration_of_an_e_mail_learns_nothing_of_the_first() {
    for store in STORES {
        let service = served("identity_taken", store, &["k1"]).await;
        register(&service, Some("r1"), &ada()).await.expect(201);
        let with = |member: &str, value: &str| {
            let mut body = ada();
            body[member] = value.into();
            body
        };
        let mut told = Vec::new();
        for (key, body) in [
            (None, ada()),
            (Some("r2"), ada()),
            (Some("r1"), with("password", "another horse")),
            (Some("r1"), with("firstName", "Eve")),
            (Some("r1"), with("email", "Ada@Example.org")),
        ] {
            let answer = register(&service, key, &body).await;
            answer.is_problem(409);
            told.push(answer.body);
        }
        assert!(told.iter().all(|body| *body == told[0]), "{told:?}");
        login(&service, "ada@example.org", "another horse").await.is_problem(401);
        // A key is the registration's, not the world's.
        register(&service, Some("r1"), &with("email", "eve@example.org")).await.expect(201);
    }
}

#[tokio::test]
async fn many_registrations_of_an_e_mail_at_once_make_one_account() {
    for store in STORES {
        let service = served("identity_race", store, &["k1"]).await;
        let keys: Vec<String> = (0..8).map(|n| format!("r{}", n % 4)).collect();
        let body = ada();
        let answers = join_all(keys.iter().map(|key| register(&service, Some(key), &body))).await;
        let created = |answer: &&Answer| answer.status == 201 && !answer.replayed();
        assert_eq!(answers.iter().filter(created).count(), 1, "{answers:?}");
        // The duplicate of the one that has won is a retry; all others have lost.
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer.status == 409).count(), 6, "{answers:?}");
    }
}

#[tokio::test]
async fn an_unknown_e_mail_and_a_wrong_password_are_the_same_and_their_number_is_bounded() {
    for store in STORES {
        let service = served("identity_guess", store, &["k1"]).await;
        register(&service, None, &ada()).await.expect(201);
        let timed = async |email: &str| {
            let mut shortest = Duration::MAX;
            let mut body = String::new();
            for _ in 0..5 {
                let start = Instant::now();
                let answer = login(&service, email, "wrong horse").await;
                shortest = shortest.min(start.elapsed());
                answer.is_problem(401);
                body = answer.body;
            }
            (body, shortest)
        };
        let ((known, of_known), (unknown, of_unknown)) =
            (timed("ada@example.org").await, timed("eve@example.org").await);
        assert_eq!(known, unknown);
        let (less, more) = (of_known.min(of_unknown), of_known.max(of_unknown));
        assert!(more < less * 4, "{of_known:?} and {of_unknown:?}");
        // What succeeds is not counted; ten failures are the end of both accounts' log-ins.
        for _ in 0..6 {
            login(&service, "ada@example.org", "correct horse").await.expect(200);
        }
        for email in ["ada@example.org", "eve@example.org"] {
            let guesses = join_all((0..10).map(|_| login(&service, email, "wrong horse"))).await;
            assert_eq!(guesses.iter().filter(|answer| answer.status == 401).count(), 5, "{guesses:?}");
            let refused = login(&service, email, "correct horse").await;
            refused.is_problem(429);
            let rest: u64 = refused.the("retry-after").parse().unwrap();
            assert!((1..=300).contains(&rest), "{rest}");
        }
    }
}

#[tokio::test]
async fn what_is_no_registration_stores_nothing() {
    for store in STORES {
        let service = served("identity_bad", store, &["k1"]).await;
        let long = "x".repeat(10_000);
        for (member, value) in [
            ("email", json!("ada")),
            ("email", json!("ada@example")),
            ("email", json!(null)),
            ("password", json!("short")),
            ("password", json!(long)),
            ("password", json!(12_345_678)),
            ("firstName", json!("")),
            ("admin", json!(true)),
        ] {
            let mut body = ada();
            body[member] = value;
            let answer = register(&service, Some("r1"), &body).await;
            answer.is_problem(422);
            assert_eq!(answer.json()["violations"][0]["pointer"], format!("/{member}"));
            assert!(!answer.body.contains("xxx"), "no password is repeated");
        }
        register(&service, Some("r1"), &json!([])).await.is_problem(422);
        login(&service, "", "").await.is_problem(422);
        send(&service, REGISTER, &[("content-type", "text/plain")], Some(&ada())).await.is_problem(415);
        send(&service, REGISTER, &[], None).await.is_problem(405);
        send(&service, "/api/v1/identity", &[], None).await.is_problem(404);
        // The key and the e-mail are free.
        register(&service, Some("r1"), &ada()).await.expect(201);
    }
}

#[tokio::test]
async fn keys_rotate_with_two_of_them_published() {
    let service = served("identity_keys", "embedded", &["k1", "k2"]).await;
    let published = send(&service, "/.well-known/jwks.json", &[], None).await.expect(200);
    let kids: Vec<&Value> = published["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert_eq!(kids, ["k1", "k2"]);
    assert!(!published.to_string().contains("\"d\""));
    let user = register(&service, None, &ada()).await.expect(201);
    let claims = |iss: &str, exp: i64| json!({"sub": user["id"], "iss": iss, "aud": "shop", "exp": exp});
    let never = 4_000_000_000;
    assert_eq!(me(&service, &token("k2", &claims("shop", never))).await.expect(200), user);
    me(&service, &token("k2", &claims("another", never))).await.is_problem(401);
    me(&service, &token("k2", &claims("shop", 1_000_000_000))).await.is_problem(401);
    let stranger = json!({"sub": "nobody", "iss": "shop", "aud": "shop", "exp": never});
    me(&service, &token("k1", &stranger)).await.is_problem(401);
}
