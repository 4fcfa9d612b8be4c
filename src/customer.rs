//! Who an order belongs to. Keys and orders of different customers never meet.

/// The party a request acts for; part of every key, row and fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Customer(String);

impl Customer {
    /// Everyone, as long as nothing tells callers apart.
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// A customer under the name that an authenticated source gave.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
