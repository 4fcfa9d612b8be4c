//! Measures how cost grows: with the number of clients, of stored orders, of bytes in an order, and of one customer's
//! orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use devstack::Host;

use crate::contestants::{CREATE, FLOOR, GOAL_CONNECTIONS, LIST, REPLAY};
use crate::environment::{Environment, PreparedRow};
use crate::figures::{Grows, Line};
use crate::load::Requests;
use crate::rounds::{compare, warm_up};
use crate::stored_orders::fill;

/// The numbers of clients.
const CLIENTS: [usize; 5] = [1, 16, 64, 256, 1024];

/// The sizes of an order's JSON, in bytes. The last one is the largest body that is accepted.
const ORDER_BYTES: [usize; 5] = [200, 1024, 4096, 16_384, 65_536];

/// The numbers of orders that one customer has; the others have none.
const OF_CUSTOMER: [u64; 3] = [0, 1_000, 1_000_000];

/// How many customers have the stored orders.
const CUSTOMERS: u32 = 10_000;

/// The hash partitions of the table whose orders become more.
const PARTITIONS: u32 = 8;

/// Measures all growth, and the bytes of an order, on one host: Spin where it is there.
pub async fn measure(environment: &Environment) -> Result<(Vec<Line>, f64)> {
    let host = environment.options.hosts.last();
    let run = Run { environment, host: host.context("there is no host")? };
    let mut lines = run.orders_of_customer().await?;
    lines.extend(run.stored_orders().await?);
    lines.extend(run.order_bytes().await?);
    let (clients, order_bytes) = run.clients().await?;
    lines.extend(clients);
    Ok((lines, order_bytes))
}

/// Measures creation with many more clients than saturate the host, before and after few, while one busy loop per core
/// takes processor time away.
pub async fn under_overload(environment: &Environment) -> Result<Vec<Line>> {
    let host = environment.options.hosts.last().context("there is no host")?;
    let mut row = environment.prepare(CREATE, host).await?;
    row.requests.may_be_refused = true;
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let stop = stop.clone();
        std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
    }
    let mut lines = Vec::new();
    for clients in [GOAL_CONNECTIONS, 16 * GOAL_CONNECTIONS, 4] {
        let measured = compare(environment, &[&row], clients).await?;
        lines.extend(measured.iter().filter_map(|m| m.line(Grows::Clients, clients as u64, &measured)));
    }
    stop.store(true, Ordering::Relaxed);
    Ok(lines)
}

struct Run<'r> {
    environment: &'r Environment,
    host: &'r Host,
}

impl Run<'_> {
    /// Also returns the bytes of an order in the table that the component has filled, with its share of the indexes.
    async fn clients(&self) -> Result<(Vec<Line>, f64)> {
        let mut prepared = Vec::new();
        let mut created = None;
        for row in [FLOOR, CREATE, REPLAY] {
            let mut row = self.environment.prepare(row, self.host).await?;
            row.requests.may_be_refused = true;
            if row.row == CREATE {
                created = Some(row.storage.clone());
            }
            prepared.push((0, row));
        }
        let lines = self.measure(Grows::Clients, prepared, &CLIENTS).await?;
        let database = created.context("nothing was created")?.database().await?;
        let bytes = "SELECT pg_total_relation_size('orders')::float8 / count(*) FROM orders";
        Ok((lines, database.query_one(bytes, &[]).await?.try_get(0)?))
    }

    async fn order_bytes(&self) -> Result<Vec<Line>> {
        let mut prepared = Vec::new();
        for bytes in ORDER_BYTES {
            for row in [CREATE, REPLAY] {
                let name = format!("{} {bytes}", row.name);
                let storage = self.environment.storage(&name).await?;
                let requests = Requests { order: order_of(bytes), ..Requests::default() };
                let served = self.environment.serve(row, self.host, storage, requests);
                prepared.push((bytes as u64, served.await?));
            }
        }
        self.measure(Grows::OrderBytes, prepared, &[]).await
    }

    async fn orders_of_customer(&self) -> Result<Vec<Line>> {
        let mut prepared = Vec::new();
        for orders in OF_CUSTOMER {
            for row in [CREATE, LIST] {
                let name = format!("{} of customer {orders}", row.name);
                let mut storage = self.environment.storage(&name).await?;
                fill(&mut storage, orders, 0).await?;
                let requests = Requests::default();
                let served = self.environment.serve(row, self.host, storage, requests);
                prepared.push((orders, served.await?));
            }
        }
        self.measure(Grows::OrdersOfCustomer, prepared, &[]).await
    }

    async fn stored_orders(&self) -> Result<Vec<Line>> {
        let Some(most) = self.environment.options.stored_orders else {
            return Ok(Vec::new());
        };
        let mut prepared = Vec::new();
        for orders in [0, most / 10, most] {
            let name = format!("partitioned {orders}");
            let storage = self.environment.partitioned_storage(&name, PARTITIONS);
            let mut storage = storage.await?;
            storage.identity = "header";
            fill(&mut storage, orders, CUSTOMERS).await?;
            let requests = Requests { customers: CUSTOMERS, ..Requests::default() };
            let served = self.environment.serve(CREATE, self.host, storage, requests);
            prepared.push((orders, served.await?));
        }
        self.measure(Grows::StoredOrders, prepared, &[]).await
    }

    /// Measures rows in turns, each with its value of what grows. With numbers of clients, those are the values.
    async fn measure(&self, grows: Grows, prepared: Vec<(u64, PreparedRow)>, clients: &[usize]) -> Result<Vec<Line>> {
        eprintln!("{}:", grows.name());
        let (values, prepared): (Vec<u64>, Vec<PreparedRow>) = prepared.into_iter().unzip();
        warm_up(self.environment, &prepared)?;
        let rows: Vec<&PreparedRow> = prepared.iter().collect();
        let mut lines = Vec::new();
        for connections in match clients {
            [] => &[GOAL_CONNECTIONS],
            clients => clients,
        } {
            let measured = compare(self.environment, &rows, *connections).await?;
            for (measurement, value) in measured.iter().zip(&values) {
                let value = match clients {
                    [] => *value,
                    _ => *connections as u64,
                };
                lines.extend(measurement.line(grows, value, &measured));
            }
        }
        Ok(lines)
    }
}

/// An order of so many bytes: up to a hundred items, the most that an order has, and white space for the rest.
fn order_of(bytes: usize) -> String {
    let item = |number: usize| {
        let sku = format!("{number:064}");
        format!(r#"{{"sku":"{sku}","quantity":2,"unitPrice":1250}}"#)
    };
    let around = r#"{"currency":"EUR","items":[]}"#.len();
    let items = ((bytes - around) / (item(0).len() + 1)).clamp(1, 100);
    let items: Vec<String> = (0..items).map(item).collect();
    let order = format!(r#"{{"currency":"EUR","items":[{}]}}"#, items.join(","));
    let space = " ".repeat(bytes.saturating_sub(order.len()));
    order + &space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_its_size_and_at_most_a_hundred_items() {
        for bytes in ORDER_BYTES {
            let order = order_of(bytes);
            assert_eq!(order.len(), bytes);
            let order: serde_json::Value = serde_json::from_str(&order).unwrap();
            let items = order.pointer("/items").and_then(|items| items.as_array());
            assert!((1..=100).contains(&items.unwrap().len()));
        }
    }
}
