//! Measures how cost grows: with the number of clients, of stored orders, of bytes in an order, and of one customer's orders.

use anyhow::{Context, Result};
use devstack::Host;
use serde::{Deserialize, Serialize};

use crate::contestants::{CREATE, FLOOR, LIST, REPLAY, Row, row_named};
use crate::environment::{Environment, PreparedRow, Storage};
use crate::figures::{Line, Machine, Measurement};
use crate::generator::Requests;
use crate::options::{GOAL_CONNECTIONS, Options, ROUNDS, host_name};
use crate::report::lines;
use crate::rounds::{compare, warm_up};
use crate::statistics::median;
use crate::stored_orders::fill_in_bulk;

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

/// The default of the most stored orders that are measured.
pub const MOST_ORDERS: u64 = 50_000_000;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Grows {
    /// The clients that send requests at the same time.
    Clients,
    /// The orders in the table, which is partitioned.
    StoredOrders,
    /// The bytes of an order's JSON.
    OrderBytes,
    /// The orders of the customer who sends the requests.
    OrdersOfCustomer,
}

impl Grows {
    /// All of them, in the order of the table and the charts.
    pub const ALL: [Self; 4] = [
        Self::Clients,
        Self::StoredOrders,
        Self::OrderBytes,
        Self::OrdersOfCustomer,
    ];

    /// Its name in tables and charts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::StoredOrders => "stored orders",
            Self::OrderBytes => "bytes of an order",
            Self::OrdersOfCustomer => "orders of the customer",
        }
    }
}

/// The result of `cargo xtask bench --growth`.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrowthReport {
    /// The machine.
    pub machine: Machine,
    /// The host.
    pub host: String,
    /// The number of rounds that each figure is the median of.
    pub rounds: usize,
    /// One line for each value of what grows, and each row.
    pub lines: Vec<GrowthLine>,
}

/// What one row reaches at one value of what grows.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrowthLine {
    /// What grows.
    pub grows: Grows,
    /// How much of it there is.
    pub value: u64,
    /// The share of responses that are not a success, 0 to 1.
    pub refused: f64,
    /// The figures.
    #[serde(flatten)]
    pub line: Line,
}

/// Measures all growth on one host: Spin where it is there.
pub async fn measure(
    options: &Options,
    environment: &Environment,
    machine: Machine,
) -> Result<GrowthReport> {
    let host = options.hosts.last().context("there is no host")?;
    let run = Run {
        options,
        environment,
        host,
    };
    let mut lines = run.orders_of_customer().await?;
    lines.extend(run.stored_orders().await?);
    lines.extend(run.order_bytes().await?);
    lines.extend(run.clients().await?);
    Ok(GrowthReport {
        machine,
        host: host_name(host),
        rounds: ROUNDS,
        lines,
    })
}

struct Run<'r> {
    options: &'r Options,
    environment: &'r Environment,
    host: &'r Host,
}

impl Run<'_> {
    async fn clients(&self) -> Result<Vec<GrowthLine>> {
        let mut prepared = Vec::new();
        for name in [FLOOR, CREATE, REPLAY] {
            let row = row_named(name).context("there is no such row")?;
            let mut row = self
                .environment
                .prepare(self.options, row, self.host)
                .await?;
            row.requests.may_be_refused = true;
            prepared.push(row);
        }
        warm_up(self.options, &prepared)?;
        let rows: Vec<&PreparedRow> = prepared.iter().collect();
        let mut all = Vec::new();
        for connections in CLIENTS {
            let measured = compare(self.options, self.environment, &rows, connections).await?;
            let value = connections as u64;
            let values = measured.iter().map(|_| value).collect();
            all.extend(growth_lines(Grows::Clients, values, &measured));
        }
        Ok(all)
    }

    async fn order_bytes(&self) -> Result<Vec<GrowthLine>> {
        let mut prepared = Vec::new();
        for bytes in ORDER_BYTES {
            for name in [CREATE, REPLAY] {
                let storage = self.environment.storage(&format!("{name} {bytes}")).await?;
                let requests = Requests {
                    order: order_of(bytes),
                    ..Requests::default()
                };
                let row = row_named(name).context("there is no such row")?;
                let row = self.serve(row, storage, requests).await?;
                prepared.push((bytes as u64, row));
            }
        }
        self.measure(Grows::OrderBytes, prepared).await
    }

    async fn orders_of_customer(&self) -> Result<Vec<GrowthLine>> {
        let mut prepared = Vec::new();
        let create = row_named(CREATE).context("there is no such row")?;
        for orders in OF_CUSTOMER {
            for row in [create, LIST] {
                let name = format!("{} of customer {orders}", row.name);
                let mut storage = self.environment.storage(&name).await?;
                fill_in_bulk(&mut storage, orders, 0).await?;
                let row = self.serve(row, storage, Requests::default()).await?;
                prepared.push((orders, row));
            }
        }
        self.measure(Grows::OrdersOfCustomer, prepared).await
    }

    async fn stored_orders(&self) -> Result<Vec<GrowthLine>> {
        let Some(most) = self.options.stored_orders else {
            return Ok(Vec::new());
        };
        let mut prepared = Vec::new();
        for orders in [0, most / 10, most] {
            let name = format!("partitioned {orders}");
            let storage = self.environment.partitioned_storage(&name, PARTITIONS);
            let mut storage = storage.await?;
            storage.identity = "header";
            fill_in_bulk(&mut storage, orders, CUSTOMERS).await?;
            let requests = Requests {
                customers: CUSTOMERS,
                ..Requests::default()
            };
            let row = row_named(CREATE).context("there is no such row")?;
            prepared.push((orders, self.serve(row, storage, requests).await?));
        }
        self.measure(Grows::StoredOrders, prepared).await
    }

    async fn serve(&self, row: Row, storage: Storage, requests: Requests) -> Result<PreparedRow> {
        self.environment
            .prepare_ours(self.host, row, storage, requests)
            .await
    }

    /// Measures rows in turns, each with its value of what grows.
    async fn measure(
        &self,
        grows: Grows,
        prepared: Vec<(u64, PreparedRow)>,
    ) -> Result<Vec<GrowthLine>> {
        eprintln!("{}:", grows.name());
        let (values, prepared): (Vec<u64>, Vec<PreparedRow>) = prepared.into_iter().unzip();
        warm_up(self.options, &prepared)?;
        let rows: Vec<&PreparedRow> = prepared.iter().collect();
        let measured = compare(self.options, self.environment, &rows, GOAL_CONNECTIONS).await?;
        Ok(growth_lines(grows, values, &measured))
    }
}

fn growth_lines(grows: Grows, values: Vec<u64>, measured: &[Measurement]) -> Vec<GrowthLine> {
    let refused = measured
        .iter()
        .map(|of_row| median(of_row.samples.iter().map(|sample| sample.refused)));
    let lines = values.into_iter().zip(refused).zip(lines(measured, &[]));
    lines
        .map(|((value, refused), line)| GrowthLine {
            grows,
            value,
            refused: refused.unwrap_or(0.0),
            line,
        })
        .collect()
}

/// An order of so many bytes: of up to a hundred items, and white space for the rest, because an order has no more items.
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
