//! A digest of everything that makes two requests the same.

use std::fmt;

use base16ct::lower;
use sha2::{Digest, Sha256};

use crate::key::KeyScope;
use crate::resource::Document;

/// SHA-256 over everything that makes two requests the same, [`KeyScope`] included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a request that stores this document.
    pub fn of(scope: &KeyScope, method: &str, path: &str, document: &Document) -> Self {
        // Names the collection and the algorithm, so that a later algorithm cannot give the same value by accident.
        const ALGORITHM: &str = " fingerprint 1";
        let mut hash = Sha256::new();
        hash.update(((scope.collection.len() + ALGORITHM.len()) as u64).to_be_bytes());
        hash.update(scope.collection.as_bytes());
        hash.update(ALGORITHM.as_bytes());
        for part in [scope.customer.as_str(), scope.key.as_str(), method, path, document.as_str()] {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// The value, as stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A value read back from a store.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// In lower-case hexadecimal.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lower::encode_string(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::Customer;
    use crate::key::IdempotencyKey;

    fn scope(collection: &'static str, customer: &str, key: &str) -> KeyScope {
        KeyScope {
            collection,
            customer: Customer::named(customer).expect("a name"),
            key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
        }
    }

    fn of(scope: &KeyScope, method: &str, path: &str, document: &str) -> Fingerprint {
        Fingerprint::of(scope, method, path, &Document::from_text(document))
    }

    #[test]
    fn every_part_counts() {
        let base = of(&scope("orders", "c", "k"), "POST", "/orders", "{}");
        assert_eq!(base, of(&scope("orders", "c", "k"), "POST", "/orders", "{}"));
        for other in [
            of(&scope("refunds", "c", "k"), "POST", "/orders", "{}"),
            of(&scope("orders", "d", "k"), "POST", "/orders", "{}"),
            of(&scope("orders", "c", "l"), "POST", "/orders", "{}"),
            of(&scope("orders", "c", "k"), "PUT", "/orders", "{}"),
            of(&scope("orders", "c", "k"), "POST", "/order", "s{}"),
            of(&scope("orders", "c", "k"), "POST", "/orders", "[]"),
            of(&scope("orders", "ck", "x"), "POST", "/orders", "{}"),
        ] {
            assert_ne!(base, other);
        }
    }

    /// Records and rows hold fingerprints of earlier releases: a changed value makes every retry slower.
    #[test]
    fn the_value_does_not_change() {
        let scope = KeyScope { customer: Customer::anonymous(), ..scope("orders", "c", "k") };
        let fingerprint = of(&scope, "POST", "/api/v1/orders", r#"{"currency":"EUR"}"#);
        assert_eq!(fingerprint.to_string(), EXPECTED);
    }

    /// SHA-256, computed apart from this code, over each part after its length in 8 bytes.
    const EXPECTED: &str = "e86c91c2551b97c5acff6fc4ad502372835d73446ab7699018fe9c0d36a911e3";
}
