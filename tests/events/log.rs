//! The change stream: orders that are committed, late or rolled back, on plain and on partitioned tables. Under load,
//! and with servers that crash: `both` and `debezium`.

use tokio_postgres::Client;

use crate::load::insert;
use crate::stream::{Database, Row};

async fn run(database: &Client, sql: &str) {
    database.batch_execute(sql).await.unwrap();
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| &*row.order_id).collect()
}

#[tokio::test]
async fn an_order_that_commits_late_is_delivered_and_one_that_is_rolled_back_is_not() {
    for partitions in [0, 3] {
        let Some(server) = Database::start(partitions).await else {
            return;
        };
        server.create_slot().await;
        let (late, aborted, prompt) = tokio::join!(server.connect(), server.connect(), server.connect());
        run(&late, "BEGIN").await;
        let late_id = insert(&late, "ada").await;
        run(&aborted, "BEGIN").await;
        insert(&aborted, "ada").await;
        let first = insert(&prompt, "ada").await;
        run(&aborted, "ROLLBACK").await;
        let second = insert(&prompt, "bob").await;

        for confirm in [false, true] {
            assert_eq!(ids(&server.changes(confirm).await), [&first, &second]);
        }
        run(&late, "COMMIT").await;
        assert_eq!(ids(&server.changes(true).await), [&late_id]);
    }
}
