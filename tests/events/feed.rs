//! The feed of the built component under load: one reader, while many clients commit, roll back and commit late, on
//! plain and on partitioned tables.

use std::collections::HashSet;

use crate::contract::assert_valid;
use crate::load::{Count, assert_in_order, create_all, insert};
use crate::service::{Last, Service};
use crate::stream::Database;

/// Of each client.
const TRANSACTIONS: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_is_in_the_feed_once_and_in_order() {
    for partitions in [0, 3] {
        let service = Service::on(Database::plain(partitions).await).await;
        let (last, database) = (Last::default(), service.database.connect().await);
        let creating = async {
            let url = service.database.url();
            let committed = create_all(url, TRANSACTIONS, Count::default()).await;
            *last.lock().unwrap() = Some(insert(&database, "a \"marker\"").await);
            committed
        };
        let mut reader = service.reader();
        let (committed, ()) = tokio::join!(creating, reader.until(&last));

        assert_eq!(reader.restarts, 0);
        let marker = reader.events.pop().unwrap();
        assert_eq!(marker["partitionkey"], "a \"marker\"");
        let delivered: HashSet<&str> = reader.ids().into_iter().collect();
        assert_eq!(delivered.len(), reader.events.len(), "delivered twice");
        let expected: HashSet<&str> = committed.keys().map(|id| &**id).collect();
        assert!(expected.len() > 2000, "{}", expected.len());
        let skipped = expected.difference(&delivered).count();
        assert_eq!(skipped, 0, "of {} orders", expected.len());
        assert_eq!(delivered, expected);
        assert_in_order(reader.ids_and_customers(), &committed);
        reader.events.iter().step_by(50).for_each(assert_valid);
    }
}
