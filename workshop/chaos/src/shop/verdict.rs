//! Counts what the shop has stored, and compares it with what it has acknowledged to its customers.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use tokio_postgres::Client;

use super::client::{Accounts, Acknowledged};

/// Where the money went.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub faults: BTreeMap<String, usize>,
    /// What was acknowledged.
    pub deposits: usize,
    pub orders: usize,
    /// Payments.
    pub succeeded: usize,
    pub failed: usize,
    /// Payments of an order, and notifications of a payment, beyond the first.
    pub paid_twice: usize,
    /// Acknowledged orders that are not stored, orders without a payment of their price, and payments without a
    /// notification of their outcome.
    pub forgotten: usize,
    /// Money that is there and was not paid in, or is missing: of all customers, in minor units.
    pub money_created: i64,
    pub dead_letters: usize,
    /// Registrations and log-ins that were acknowledged.
    pub accounts: usize,
    pub logins: usize,
    /// E-mails with two accounts, or with another one than was acknowledged; orders that another customer was shown.
    pub mixed_up: usize,
    pub examples: Vec<String>,
}

/// All orders, each with its payment.
const ORDERS: &str = "\
    SELECT order_id::text, orders.customer_id, round((orders.document ->> 'price')::numeric * 100)::bigint, \
           (SELECT count(*) FROM payments WHERE payments.order_id = orders.order_id), \
           (SELECT count(*) FROM payments WHERE payments.order_id = orders.order_id AND refusal IS NULL), \
           (SELECT count(*) FROM payments WHERE payments.order_id = orders.order_id \
                AND amount = round((orders.document ->> 'price')::numeric * 100)::bigint \
                AND payments.customer_id = orders.customer_id), \
           (SELECT count(*) FROM notifications, payments WHERE payments.order_id = orders.order_id \
                AND notifications.document ->> 'orderId' = orders.order_id::text \
                AND (notifications.document ->> 'status' = 'succeeded') = (refusal IS NULL)) \
    FROM orders";

/// The balance and the expenses of each customer.
const MONEY: &str = "\
    SELECT (SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE customer_id = $1), \
           (SELECT coalesce(sum(amount), 0)::bigint FROM payments WHERE customer_id = $1 AND refusal IS NULL)";

impl Verdict {
    /// Reads the tables, in which everything has come to rest.
    pub async fn of(
        acknowledged: &BTreeMap<String, Acknowledged>,
        accounts: &Accounts,
        faults: BTreeMap<String, usize>,
        database: &Client,
    ) -> Result<Self> {
        let mut verdict = Self { faults, ..Self::default() };
        // Without it, counting takes the square of the number of orders.
        database
            .batch_execute(
                "CREATE TEMPORARY TABLE copy AS SELECT * FROM notifications; \
                 CREATE INDEX ON copy ((document ->> 'orderId')); ANALYZE copy",
            )
            .await?;
        let mut stored = BTreeMap::new();
        let sql = ORDERS.replace("FROM notifications,", "FROM copy AS notifications,");
        for row in database.query(&sql, &[]).await? {
            let (id, customer, cents): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let count = |column| -> Result<usize> { Ok(usize::try_from(row.try_get::<_, i64>(column)?)?) };
            let (payments, succeeded, right, told) = (count(3)?, count(4)?, count(5)?, count(6)?);
            verdict.succeeded += succeeded;
            verdict.failed += payments - succeeded;
            let twice = payments.saturating_sub(1) + told.saturating_sub(payments.max(1));
            let is_forgotten = right == 0 || told == 0;
            verdict.paid_twice += twice;
            verdict.forgotten += usize::from(is_forgotten);
            if twice > 0 || is_forgotten {
                verdict.example(format!(
                    "order {id} of {customer}: {payments} payments, {right} of its price, {told} notifications"
                ));
            }
            stored.insert(id, (customer, cents));
        }
        let mut paid_in: BTreeMap<&String, i64> = BTreeMap::new();
        for (key, Acknowledged { customer, amount, order_id }) in acknowledged {
            let deposits = paid_in.entry(customer).or_default();
            let Some(id) = order_id else {
                verdict.deposits += 1;
                *deposits += amount;
                continue;
            };
            verdict.orders += 1;
            if stored.get(id) != Some(&(customer.clone(), *amount)) {
                verdict.forgotten += 1;
                verdict.example(format!("order {id} ({key}) was acknowledged, and is not stored"));
            }
        }
        for (customer, paid_in) in paid_in {
            let row = database.query_one(MONEY, &[customer]).await?;
            let (has, spent): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if has + spent != paid_in {
                verdict.money_created += (has + spent - paid_in).abs();
                verdict.example(format!("{customer} has {has} and has spent {spent}, but has paid in {paid_in}"));
            }
        }
        let users = database.query("SELECT idempotency_key, user_id::text FROM users", &[]).await?;
        let users: Vec<(String, String)> =
            users.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_>>()?;
        (verdict.accounts, verdict.logins) = (accounts.registered.len(), accounts.tokens.len());
        for (email, id) in &accounts.registered {
            let has = users.iter().filter(|(other, _)| other == email).map(|(_, id)| id).collect::<Vec<_>>();
            let acknowledged = accounts.registered.iter().filter(|(other, _)| other == email).count();
            if has != [id] || acknowledged > 1 {
                verdict.mixed_up += 1;
                verdict.example(format!("{email} was acknowledged {acknowledged} times, as {id}, and is {has:?}"));
            }
        }
        for order in &accounts.shown {
            verdict.mixed_up += 1;
            verdict.example(format!("order {order} was shown to another customer"));
        }
        let letters = database.query_one("SELECT count(*) FROM dead_letters", &[]);
        verdict.dead_letters = usize::try_from(letters.await?.try_get::<_, i64>(0)?)?;
        if verdict.dead_letters > 0 {
            verdict.example(format!("{} dead letters", verdict.dead_letters));
        }
        Ok(verdict)
    }

    fn example(&mut self, example: String) {
        self.examples.push(example);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deposits, orders, succeeded, failed, paid_twice, forgotten, money_created, dead_letters, .. } = self;
        let Self { accounts, logins, mixed_up, .. } = self;
        let faults: Vec<String> = self.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        write!(
            f,
            "shop: {accounts} accounts, {logins} log-ins, {deposits} deposits, {orders} orders, {succeeded} paid, \
             {failed} refused; faults: {}\n\
             paid twice {paid_twice}, forgotten {forgotten}, money created {money_created}, \
             dead letters {dead_letters}, accounts mixed up {mixed_up}",
            faults.join(", ")
        )
    }
}
