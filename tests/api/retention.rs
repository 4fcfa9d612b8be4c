//! The statements of docs/operations.md, "Retention", as they stand there: orders are archived and erased, and their
//! keys stay spent.

use std::time::{Duration, Instant};

use devstack::workspace;

use crate::support::{Service, an_order, new_key, service};

/// Runs the statements of the document that follow a heading, with these parameters.
async fn run_documented(service: &Service, heading: &str, parameters: &[&str]) {
    let path = workspace::root().join("docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once(&format!("**{heading}")).expect(heading);
    let (_, sql) = after.split_once("```sql\n").unwrap();
    let (sql, _) = sql.split_once("```").unwrap();
    let database = service.database().await.unwrap();
    for statement in sql.split_terminator(';').filter(|sql| !sql.trim().is_empty()) {
        let count = (1..=9).take_while(|n| statement.contains(&format!("${n}"))).count();
        let parameters: Vec<_> =
            parameters[..count].iter().map(|text| text as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
        database.execute(statement, &parameters).await.unwrap();
    }
}

#[tokio::test]
async fn an_archived_order_is_replayed_and_its_stub_shown() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();
    run_documented(&service, "Archive.", &["anonymous", "2100-01-01"]).await;
    let stub = service.get(first.field("location").unwrap()).await;
    assert_eq!(stub.status, 200, "{stub:?}");
    assert_eq!(stub.json()["archived"], "cold-storage");
    for _ in 0..2 {
        service.order(&key, &an_order()).await.assert_replay_of(&first);
    }
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn an_erased_order_is_gone_and_its_key_is_spent() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let (key, mut order) = (new_key(), an_order());
    order["note"] = "for Ann".into();
    let first = service.order(&key, &order).await;
    first.assert_created();
    // The record is completed.
    service.order(&key, &order).await.assert_replay_of(&first);
    run_documented(&service, "Erase a person's data.", &["anonymous"]).await;
    // Until the instance no longer believes in the history that it has heard.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut reused = service.order(&key, &order).await;
    while reused.replayed() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        reused = service.order(&key, &order).await;
    }
    reused.assert_problem(422, "idempotency-key-reused");
    let shown = service.get(first.field("location").unwrap()).await;
    assert_eq!(shown.json()["erased"], true, "{shown:?}");
    let list = service.get("/api/v1/orders").await;
    assert!(!list.body.contains("Ann"), "{list:?}");
    service.assert_stored(&key, 1).await;
}
