//! Orders as clients generate them and as the history contains them. This is deliberately not the product's own
//! type: a mistake in that type must not go unnoticed here.

use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// An order as clients send it. Orders from different JSON texts compare by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub currency: String,
    pub items: Vec<Item>,
    pub note: Option<String>,
}

/// One item of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub sku: String,
    pub quantity: u64,
    /// The price of one unit, in minor units of the currency.
    pub unit_price: i64,
}

impl Order {
    /// A random valid order.
    pub fn random(rng: &mut StdRng) -> Self {
        let currencies = ["EUR", "USD", "JPY", "CHF"];
        let currency = currencies.get(rng.random_range(0..currencies.len())).unwrap_or(&"EUR");
        let item = |rng: &mut StdRng| Item {
            sku: format!("A-{}", rng.random_range(1..1000)),
            quantity: rng.random_range(1..=10_000),
            unit_price: rng.random_range(0..1_000_000),
        };
        Self {
            currency: (*currency).to_owned(),
            items: (0..rng.random_range(1..=4)).map(|_| item(rng)).collect(),
            note: rng.random_bool(0.3).then(|| format!("note „{}“\n", rng.random::<u32>())),
        }
    }

    /// Another order that differs in one value.
    pub fn changed(&self, rng: &mut StdRng) -> Self {
        let mut other = self.clone();
        match other.items.first_mut() {
            Some(item) if rng.random_bool(0.7) => item.unit_price += 1,
            _ => other.note = Some(format!("changed {}", rng.random::<u32>())),
        }
        other
    }

    /// The sum over its items in minor units; `None` on overflow.
    pub fn total(&self) -> Option<i64> {
        self.items.iter().try_fold(0_i64, |total, item| {
            let quantity = i64::try_from(item.quantity).ok()?;
            total.checked_add(item.unit_price.checked_mul(quantity)?)
        })
    }
}

/// The body of a 201.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    pub order_id: String,
    #[serde(flatten)]
    pub order: Order,
    /// Its total, in minor units.
    pub total: i64,
}
