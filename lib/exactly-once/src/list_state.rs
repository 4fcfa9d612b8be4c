//! The state of a customer's list: a value that changes when a resource is added.

use std::fmt;

use base16ct::lower;

/// A digest over the resources that a customer has in a collection. It changes when one is added.
///
/// In Postgres it is the first 16 bytes of SHA-256 over the customer, the newest resource's id and the sequence numbers
/// of the newest 256 resources. The newest resource alone is not enough: sequence numbers are drawn before their
/// transactions commit, so a resource can appear below one that is visible already. The digest misses a resource whose
/// insertion commits after 256 resources with higher numbers. The id has 74 random bits, which make the digest
/// unguessable for other customers; the customer's name makes even empty lists different. Computing it takes one
/// descent of the index on customer and number, and at most 256 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListState([u8; 16]);

impl ListState {
    /// Reads the form that this service prints: 32 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let state = Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes());
        (state.to_string() == text).then_some(state)
    }

    /// A value that came from a store.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// In lower-case hexadecimal.
impl fmt::Display for ListState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lower::encode_string(&self.0))
    }
}
