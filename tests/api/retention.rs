//! The statements of docs/operations.md, "Retention", as they stand there: orders are archived and erased, and their
//! keys stay spent.

use devstack::workspace;
use fixtures::until;

use crate::support::{ORDERS, Service, an_order, new_key, service};

/// Runs the statements of the document that follow a heading, with these parameters.
async fn run_documented(service: &Service, heading: &str, parameters: &[&str]) {
    let text = std::fs::read_to_string(workspace::root().join("docs/operations.md")).unwrap();
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
async fn an_archived_order_is_replayed_and_an_erased_one_is_gone_and_its_key_is_spent() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let (key, first) = service.first_order().await;
    run_documented(&service, "Archive.", &["anonymous", "2100-01-01"]).await;
    assert_eq!(service.get_order(&first).await.json()["archived"], "cold-storage");
    for _ in 0..2 {
        service.order(&key, &an_order()).replay_of(&first).await;
    }

    let (key, mut order) = (new_key(), an_order());
    order["note"] = "for Ann".into();
    let first = service.order(&key, &order).created().await;
    // The record is completed.
    service.order(&key, &order).replay_of(&first).await;
    run_documented(&service, "Erase a person's data.", &["anonymous"]).await;
    // Until the instance no longer believes in the history that it has heard.
    until("the key is spent", async || !service.order(&key, &order).await.replayed()).await;
    service.order(&key, &order).problem(422, "idempotency-key-reused").await;
    assert_eq!(service.get_order(&first).await.json()["erased"], true);
    assert!(!service.get(ORDERS).await.body.contains("Ann"));
    service.assert_stored(&key, 1).await;
}
