//! TLS to both stores: used where the URLs ask for it, and only with servers whose certificates are trusted.

use fixtures::Authority;

use crate::support::{Service, an_order, new_key, service};

/// Two stores that offer TLS, with certificates of these authorities.
async fn stores(redis: &Authority, postgres: &Authority) -> Service {
    let identity = |authority: &Authority| authority.issue("127.0.0.1").unwrap();
    service().own_stores_with_tls(identity(redis), identity(postgres)).start().await
}

/// Another host over these stores, which trusts an authority.
async fn served(stores: &mut Service, trusted: &Authority, sslmode: &str) -> Service {
    let roots = stores.folder().join(format!("{}.pem", new_key()));
    std::fs::write(&roots, trusted.certificate()).unwrap();
    service()
        .environment("SSL_CERT_FILE", roots.to_str().unwrap())
        .variable("redis_url", stores.redis().tls_url().unwrap())
        .variable("redis_allowed_host", "rediss://127.0.0.1:*")
        .variable("database_url", format!("{}?sslmode={sslmode}", stores.database_url()))
        // A rejected certificate is a response: no test waits for this long.
        .patient_with_redis()
        .start()
        .await
}

/// How many keys Redis holds.
async fn records(stores: &Service) -> Option<redis::Value> {
    stores.redis_command(&["DBSIZE"]).await
}

#[tokio::test]
async fn orders_are_created_and_replayed_over_tls() {
    applies_to!(Servers);
    let authority = Authority::new("trusted").unwrap();
    let mut stores = stores(&authority, &authority).await;
    let served = served(&mut stores, &authority, "require").await;
    let (key, order) = (new_key(), an_order());
    let first = served.order(&key, &order).created().await;
    served.order(&key, &order).replay_of(&first).await;
    assert_eq!((stores.all_stored().await, records(&stores).await), (1, Some(redis::Value::Int(1))));
    assert!(stores.number("SELECT count(*) FROM pg_stat_ssl WHERE ssl").await > 0);
}

#[tokio::test]
async fn a_postgres_with_a_certificate_of_another_authority_is_refused() {
    applies_to!(Servers);
    let [trusted, other] = ["trusted", "other"].map(|name| Authority::new(name).unwrap());
    let mut stores = stores(&trusted, &other).await;
    // "prefer" permits a server without TLS, but not one with a certificate that cannot be verified.
    for sslmode in ["require", "prefer"] {
        served(&mut stores, &trusted, sslmode).await.new_order().problem(503, "unavailable").await;
        assert_eq!(stores.all_stored().await, 0, "{sslmode}");
    }
}

#[tokio::test]
async fn a_redis_with_a_certificate_of_another_authority_is_not_used() {
    applies_to!(Servers);
    let [trusted, other] = ["trusted", "other"].map(|name| Authority::new(name).unwrap());
    let mut stores = stores(&other, &trusted).await;
    let served = served(&mut stores, &trusted, "require").await;
    let (key, order) = (new_key(), an_order());
    let first = served.order(&key, &order).created().await;
    served.order(&key, &order).replay_of(&first).await;
    assert_eq!((stores.all_stored().await, records(&stores).await), (1, Some(redis::Value::Int(0))));
}
