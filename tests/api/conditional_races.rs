//! Of any number of requests on one state of the list, one creates an order, with and without the lock.

use std::time::Duration;

use fixtures::until;
use futures::future::join_all;
use tokio_postgres::Transaction;

use crate::conditional::{ask, ask_at, assert_locked, current, is_locked, refused};
use crate::support::{Answer, Service, an_order, insert_and_stay, new_key, service};

/// Of all responses to requests with one tag, one is a creation; the others were rejected.
fn assert_one_winner(answers: &[Answer]) -> &Answer {
    let created: Vec<_> = answers.iter().filter(|a| a.status == 201).collect();
    assert_eq!(created.len(), 1, "creations: {answers:?}");
    created[0].assert_created();
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        match answer.status {
            409 => assert_locked(answer, 1..=5),
            _ => assert_eq!(refused(answer), created[0].the("etag")),
        }
    }
    created[0]
}

/// Ten at once, spread over so many hosts, five times.
async fn race(service: &Service, hosts: usize, key: fn() -> String) {
    let order = an_order();
    for _ in 0..5 {
        let (before, tag) = (service.all_stored().await, current(service).await);
        let keys: Vec<_> = (0..10).map(|_| key()).collect();
        let keys = keys.iter().enumerate();
        assert_one_winner(&join_all(keys.map(|(n, key)| ask_at(service, n % hosts, key, &tag, &order))).await);
        assert_eq!(service.all_stored().await, before + 1);
    }
}

#[tokio::test]
async fn of_ten_at_once_without_keys_on_two_hosts_one_creates() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().variable("precondition", "etag").instances(2).start().await;
    race(&service, 2, String::new).await;
}

#[tokio::test]
async fn duplicates_on_one_state_are_all_answered_with_their_order() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().instances(2).start().await;
    let order = an_order();
    for round in 1..=20 {
        let (key, tag) = (new_key(), current(&service).await);
        let answers = join_all((0..10).map(|n| ask_at(&service, n % 2, &key, &tag, &order))).await;
        assert!(answers.iter().filter(|answer| !answer.replayed()).count() <= 1, "{answers:?}");
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (201, &answers[0].body));
        }
        assert_eq!(service.all_stored().await, round);
    }
}

#[tokio::test]
async fn of_ten_at_once_without_redis_one_creates() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_redis().instances(2).start().await;
    service.redis().stop().unwrap();
    race(&service, 2, new_key).await;
}

#[tokio::test]
async fn one_creates_while_locks_are_lost_all_the_time() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().own_redis().start().await;
    let flushing = async {
        loop {
            service.redis_command(&["FLUSHALL"]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = race(&service, 1, new_key) => {}
        () = flushing => {}
    }
}

#[tokio::test]
async fn of_two_hundred_on_three_hosts_one_creates_while_redis_is_killed() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_redis().instances(3).start().await;
    let tag = current(&service).await;
    let order = an_order();
    let keys: Vec<_> = (0..200).map(|_| new_key()).collect();
    let ask_all = async |service: &Service| {
        let keys = keys.iter().enumerate();
        join_all(keys.map(|(n, key)| ask_at(service, n % 3, key, &tag, &order))).await
    };
    let redis = service.redis().process_id().expect("a Redis").to_string();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Not asked to end: Redis would go on answering until its next cron, a tenth of a second later.
        let killed = std::process::Command::new("kill").args(["-KILL", &redis]).status();
        assert!(killed.unwrap().success());
    };
    let (answers, ()) = tokio::join!(ask_all(&service), stop);
    let winner = assert_one_winner(&answers);
    assert_eq!(service.all_stored().await, 1);

    service.redis().kill().unwrap();
    // All requests are repeated with the same tag: one is a replay, the others are rejected.
    let again = ask_all(&service).await;
    let (replays, others): (Vec<_>, Vec<_>) = again.iter().partition(|a| a.status == 201);
    assert_eq!(replays.len(), 1);
    replays[0].assert_replay_of(winner);
    others.into_iter().for_each(|answer| drop(refused(answer)));
    assert_eq!(service.all_stored().await, 1);
}

/// Inserts an order that is based on a state, in a transaction that stays open.
async fn follow<'c>(database: &'c mut tokio_postgres::Client, tag: &str) -> Transaction<'c> {
    insert_and_stay(database, "k", Some(tag.trim_matches('"'))).await
}

#[tokio::test]
async fn a_creation_waits_for_the_transaction_on_the_same_state() {
    applies_to!(Servers, Partitions, Distributed);
    for commits in [true, false] {
        let service = service().start().await;
        let tag = current(&service).await;
        let mut database = service.database().await.unwrap();
        let open = follow(&mut database, &tag).await;
        let end = async {
            service.wait_for_lock_waiter().await;
            if !commits {
                return open.rollback().await.unwrap();
            }
            // Plain orders do not queue up behind conditional ones.
            join_all((0..20).map(|_| service.new_order())).await;
            open.commit().await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&service, "mine", &tag), end);
        match commits {
            true => drop(refused(&answer)),
            false => drop(answer.assert_created()),
        }
    }
}

/// Returns when a request holds the lock of the list, or when none does.
async fn wait_until_locked(service: &Service, locked: bool) {
    until("the lock changes", async || is_locked(service).await == locked).await;
}

#[tokio::test]
async fn a_lock_expires_while_its_holder_is_still_creating() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().variable("lock_lease_ms", 700).start().await;
    let tag = current(&service).await;
    let mut database = service.database().await.unwrap();
    let open = follow(&mut database, &tag).await;
    let meanwhile = async {
        wait_until_locked(&service, true).await;
        assert_locked(&ask(&service, &new_key(), &tag).await, 1..=1);
        wait_until_locked(&service, false).await;
        // Now two creations are in progress.
        let second = ask(&service, &new_key(), &tag);
        let end = async {
            wait_until_locked(&service, true).await;
            open.rollback().await.unwrap();
        };
        tokio::join!(second, end).0
    };
    let key = new_key();
    let (first, second) = tokio::join!(ask(&service, &key, &tag), meanwhile);
    assert_one_winner(&[first, second]);
    assert_eq!(service.all_stored().await, 1);
}
