//! Amounts of money: cents between the services, whole units with at most two decimal places for customers.

use std::ops::RangeInclusive;

use serde_json::Value;

/// The currency of all prices.
pub const CURRENCY: &str = "USD";

/// The largest amount of a request, in cents: below it a double is exact to far less than a cent.
pub const MAX_CENTS: i64 = 100_000_000_000;

/// An amount in cents, if it is a whole number of them within the range.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
pub fn cents(amount: f64, range: RangeInclusive<i64>) -> Option<i64> {
    let exact = amount * 100.0;
    let cents = exact.round();
    let is_whole = (exact - cents).abs() < 0.000_1 && cents.abs() < 1e15;
    is_whole.then_some(cents as i64).filter(|cents| range.contains(cents))
}

/// An amount as it is stored and shown: without a fraction where it has none.
#[allow(clippy::cast_precision_loss, reason = "what a request may have; a balance above 2^53 cents is none")]
pub fn units(cents: i64) -> Value {
    match cents % 100 {
        0 => (cents / 100).into(),
        _ => (cents as f64 / 100.0).into(),
    }
}

/// An amount in a sentence.
pub fn told(cents: i64, currency: &str) -> String {
    let sign = if currency == CURRENCY { "$" } else { currency };
    format!("{}.{:02}{sign}", cents / 100, cents.unsigned_abs() % 100)
}
