//! Two cells: each database has the customers of some slots, and a request that reaches the wrong one creates nothing.

use std::process::Command;
use std::time::Duration;

use devstack::install::find_or_install_haproxy;
use devstack::process::{Process, free_port, local};
use devstack::{or_skip, workspace};
use fixtures::client::Asked;
use fixtures::until;
use futures::future::join_all;
use migrator::move_slots;
use nix::sys::signal::Signal;
use reqwest::Method;

use crate::support::{Answer, ORDERS, Service, an_order, new_key, service};

const ANN: &str = "ann";
/// Her slot.
const SLOT: &str = "{[294,295)}";

/// Two services, each with a database; the first one has all customers.
async fn cells() -> [Service; 2] {
    let start = || service().variable("identity", "header").start();
    let cells = [start().await, start().await];
    for (cell, slots) in cells.iter().zip(["{[0,1024)}", "{}"]) {
        cell.sql(&format!("SELECT own_slots('orders', '{slots}')")).await;
    }
    cells
}

async fn move_ann(from: &Service, to: &Service) {
    move_slots(from.database_url(), to.database_url(), "orders", SLOT).await.unwrap();
}

fn order(cell: &Service, customer: &str, key: &str) -> Asked {
    cell.order(key, &an_order()).field("x-user-id", customer)
}

fn get(cell: &Service, path: &str) -> Asked {
    cell.request(Method::GET, path, &[("x-user-id", ANN)], "")
}

#[tokio::test]
async fn a_customer_of_another_cell_is_refused_and_keeps_the_orders_that_were_acknowledged() {
    applies_to!(Servers, Partitions);
    let [old, new] = cells().await;
    let key = new_key();
    let first = order(&old, ANN, &key).created().await;
    let list = get(&old, ORDERS).expect(200).await;
    move_ann(&old, &new).await;

    // The key was new in Redis, and is new again.
    let other = new_key();
    let record = |cell: &Service, key: &str| cell.record_of(key).replace("9:anonymous", "3:ann");
    let refused = order(&old, ANN, &other).problem(421, "misdirected").await;
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert!(!old.redis_has(&record(&old, &other)).await);
    let refused = |asked: Asked| asked.problem(421, "misdirected");
    refused(order(&old, ANN, &other).field("if-match", list.the("etag"))).await;
    refused(order(&old, ANN, &other).field("if-match", "\"00\"")).await;
    refused(get(&old, ORDERS)).await;
    refused(get(&old, &format!("{ORDERS}/01970000-0000-7000-8000-000000000000"))).await;
    refused(get(&old, &format!("/api/v1/idempotency-keys/{other}"))).await;
    assert!(old.logs().contains("postgres: MD421 slot 294 of orders is not in this database"), "{}", old.logs());
    assert_eq!(old.all_stored().await, 1);

    // In both, as long as the old rows are there: they never change.
    for cell in [&old, &new] {
        for forgets in [false, true] {
            if forgets {
                cell.redis_command(&["DEL", &record(cell, &key)]).await;
            }
            order(cell, ANN, &key).replay_of(&first).await;
        }
        assert_eq!(get(cell, first.the("location")).expect(200).await.body, first.body);
    }
    assert_eq!(get(&new, ORDERS).expect(200).await.json()["orders"].as_array().map(Vec::len), Some(1));
    order(&new, ANN, &other).created().await;
    old.sql("DELETE FROM orders").await;
    // The record is of another history now.
    until("the retry is refused", async || order(&old, ANN, &key).await.status == 421).await;
    refused(get(&old, first.the("location"))).await;

    move_ann(&new, &old).await;
    order(&old, ANN, &key).replay_of(&first).await;
    order(&old, ANN, &other).replayed().await;
    refused(order(&new, ANN, &new_key())).await;
}

/// They share a statement, which fails for all of them.
#[tokio::test]
async fn a_batch_with_a_customer_of_another_cell_creates_the_other_orders() {
    applies_to!(Servers);
    let [old, new] = cells().await;
    move_ann(&old, &new).await;
    for _ in 0..5 {
        let others = join_all((0..15).map(|n| order(&old, &format!("customer-{n}"), "k").expect(201)));
        let ann = order(&old, ANN, "k").problem(421, "misdirected");
        tokio::join!(others, ann);
    }
    assert_eq!(old.all_stored().await, 15);
}

/// The example in deploy/cells, with a map that changes.
#[tokio::test]
async fn haproxy_routes_each_customer_to_the_cell_of_its_slot() {
    applies_to!(Servers);
    let test = "haproxy_routes_each_customer";
    let Some(program) = or_skip(test, find_or_install_haproxy(false)) else {
        return;
    };
    let [a, b] = cells().await;
    move_slots(a.database_url(), b.database_url(), "orders", "{[512,1024)}").await.unwrap();
    let example = workspace::root().join("deploy/cells");
    let map = a.folder().join("slots.map");
    std::fs::copy(example.join("slots.map"), &map).unwrap();
    let address = local(free_port().unwrap());
    let start = || {
        let mut command = Command::new(&program);
        command.arg("-f").arg(example.join("haproxy.cfg")).env("LISTEN", address.to_string()).env("SLOTS", &map);
        command.env("CELL_A", a.address().to_string()).env("CELL_B", b.address().to_string());
        let mut process = Process::start("haproxy", &mut command, Signal::SIGTERM).unwrap();
        process.wait_until(Duration::from_secs(20), || std::net::TcpStream::connect(address).is_ok()).unwrap();
        process
    };
    let through = |customer: &str| {
        let request = reqwest::Client::new().post(format!("http://{address}{ORDERS}"));
        Asked::new(request).json(&an_order()).field("idempotency-key", "k").field("x-user-id", customer)
    };
    let customers: Vec<String> = (0..30).map(|n| format!("customer-{n}")).chain([ANN.to_owned()]).collect();
    let first: Vec<Answer> = {
        let _haproxy = start();
        join_all(customers.iter().map(|customer| through(customer).created())).await
    };
    let stored = [a.all_stored().await, b.all_stored().await];
    assert!(stored.iter().all(|stored| *stored > 5) && stored[0] + stored[1] == 31, "{stored:?}");

    // The map is older than the move, and then new.
    move_ann(&a, &b).await;
    a.sql("DELETE FROM orders WHERE customer_id = 'ann'").await;
    let outdated = start();
    through(ANN).problem(421, "misdirected").await;
    drop(outdated);
    std::fs::write(&map, "294 cell-b\n0:511 cell-a\n512:1023 cell-b\n").unwrap();
    let _haproxy = start();
    for (customer, first) in customers.iter().zip(&first) {
        until("HAProxy serves", async || through(customer).await.status != 503).await;
        through(customer).replay_of(first).await;
    }
}
