//! The customer that a request acts for. Keys and resources of different customers never meet.

/// The longest name of a customer, in Unicode scalar values.
pub const MAX_NAME_CHARS: usize = 128;

/// The name of [`Customer::anonymous`].
const ANONYMOUS: &str = "anonymous";

/// The party that a request acts for; part of every key scope, row and fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Customer(String);

impl Customer {
    /// The one customer of a deployment that does not identify customers.
    pub fn anonymous() -> Self {
        Self(ANONYMOUS.to_owned())
    }

    /// A customer under the name that an authenticated source gave: 1 to [`MAX_NAME_CHARS`] characters, none of them a
    /// control character (Postgres cannot hold U+0000). "anonymous" is reserved: no named customer gets the resources
    /// from the time before customers were named.
    pub fn named(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let well_formed = (1..=MAX_NAME_CHARS).contains(&name.chars().count())
            && !name.chars().any(char::is_control)
            && name != ANONYMOUS;
        well_formed.then_some(Self(name))
    }

    /// The name, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_128_characters_that_can_be_stored() {
        for good in ["c", "auth0|5f7c", "\u{e4} b", &"\u{df}".repeat(128)] {
            assert_eq!(Customer::named(good).as_ref().map(Customer::as_str), Some(good));
        }
        for bad in ["", "a\0", "a\tb", "\u{85}", &"c".repeat(129), "anonymous"] {
            assert_eq!(Customer::named(bad), None, "{bad:?}");
        }
    }
}
