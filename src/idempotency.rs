//! What makes two requests the same: the key a client chose (draft-ietf-httpapi-idempotency-key-header),
//! the fingerprint of what it asked for, and the record in which Redis remembers both.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::customer::Customer;
use crate::hex::hex;
use crate::order::OrderId;

/// The longest key, in characters (all of them ASCII).
pub const MAX_KEY_CHARS: usize = 255;

/// A key that a client chose for one request and all its retries: 1 to [`MAX_KEY_CHARS`] visible ASCII
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

/// Why no key could be taken from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is no `Idempotency-Key` field.
    Missing,
    /// The field is there and is not a key.
    Malformed,
    /// The field is there more than once, with different keys.
    Ambiguous,
}

impl IdempotencyKey {
    /// Takes the key from all values of the `Idempotency-Key` field.
    ///
    /// # Errors
    /// [`KeyError`], also when only one of several values is malformed.
    pub fn from_field_values<'v>(
        values: impl IntoIterator<Item = &'v [u8]>,
    ) -> Result<Self, KeyError> {
        let mut found: Option<Self> = None;
        for value in values {
            let key = Self::parse(value).ok_or(KeyError::Malformed)?;
            match &found {
                Some(first) if *first != key => return Err(KeyError::Ambiguous),
                _ => found = Some(key),
            }
        }
        found.ok_or(KeyError::Missing)
    }

    /// Reads one field value: the draft's Structured Field string (RFC 9651 §3.3.3) or the bare token that
    /// most clients send. Both spellings of a key are the same key.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let key = match value.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted.strip_suffix(b"\"")?)?,
            // A lone quotation mark is a broken Structured Field, not a key somebody chose.
            None if value.contains(&b'"') => return None,
            None => value.to_vec(),
        };
        Self::from_chars(key)
    }

    /// The key of exactly these characters, as a path names it: nothing is trimmed or unquoted.
    pub fn from_chars(key: Vec<u8>) -> Option<Self> {
        let well_formed =
            (1..=MAX_KEY_CHARS).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        if !well_formed {
            return None;
        }
        String::from_utf8(key).ok().map(Self)
    }

    /// The key of an order that was asked for without one: no client can send it.
    pub fn stand_in(order: OrderId) -> Self {
        Self(format!(" {order}"))
    }

    /// The key, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Undoes the escapes of a Structured Field string; `None` for any that does not exist.
fn unquote(inner: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => bytes.next().filter(|b| matches!(b, b'"' | b'\\'))?,
            b'"' => return None,
            plain => plain,
        });
    }
    Some(text)
}

/// Where a request stands: one customer's one key. Redis record, table row and fingerprint are all bound
/// to it, so that nothing stored for one slot can ever answer for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Whose key it is.
    pub customer: Customer,
    /// The key.
    pub key: IdempotencyKey,
}

/// SHA-256 over everything that makes two requests the same, [`Slot`] included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of one request. `canonical_body` is [`crate::order::Draft::canonical`].
    pub fn of(slot: &Slot, method: &str, path: &str, canonical_body: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [
            // Names the algorithm, so that a later one cannot produce the same value by accident.
            "orders fingerprint 1",
            slot.customer.as_str(),
            slot.key.as_str(),
            method,
            path,
            canonical_body,
        ] {
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
        f.write_str(&hex(&self.0))
    }
}

/// How far the order of a record had come when the record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Somebody set out to create the order. It may exist, be under way, or never come to be.
    Reserved,
    /// Postgres was seen to hold the order. Only a row that was read back is ever recorded so.
    Finished,
}

/// What Redis remembers of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How far it had come.
    pub progress: Progress,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The id picked for (reserved) or carried by (finished) the order.
    pub order_id: OrderId,
}

/// The first byte of an encoded record. A record of any other version is not ours to understand.
const RECORD_VERSION: u8 = 1;
const RESERVED: u8 = b'r';
const FINISHED: u8 = b'f';
/// Version, progress, fingerprint, order id.
const RECORD_BYTES: usize = 1 + 1 + 32 + 16;

impl Record {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        bytes.push(RECORD_VERSION);
        bytes.push(match self.progress {
            Progress::Reserved => RESERVED,
            Progress::Finished => FINISHED,
        });
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(self.order_id.as_bytes());
        bytes
    }

    /// The record that the bytes are, or `None` for anything else: garbage, or a version from the future.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, progress], rest) = bytes.split_first_chunk::<2>()?;
        let (fingerprint, order_id) = rest.split_first_chunk::<32>()?;
        if version != RECORD_VERSION {
            return None;
        }
        Some(Self {
            progress: match progress {
                RESERVED => Progress::Reserved,
                FINISHED => Progress::Finished,
                _ => return None,
            },
            fingerprint: Fingerprint(*fingerprint),
            order_id: OrderId::from_uuid(Uuid::from_slice(order_id).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(customer: &str, key: &str) -> Slot {
        Slot {
            customer: Customer::named(customer).expect("a name"),
            key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
        }
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(
            IdempotencyKey::parse(b"8e03978e"),
            IdempotencyKey::parse(b" \"8e03978e\" ")
        );
        assert_eq!(
            IdempotencyKey::parse(br#""a\"b\\c""#)
                .expect("a key")
                .as_str(),
            r#"a"b\c"#
        );
        assert_eq!(
            IdempotencyKey::parse(br"a\b").expect("a key").as_str(),
            r"a\b"
        );
    }

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        let longest = "k".repeat(255);
        assert!(IdempotencyKey::parse(longest.as_bytes()).is_some());
        assert!(IdempotencyKey::parse(format!("\"{longest}\"").as_bytes()).is_some());
        for bad in [
            &b""[..],
            b"  ",
            b"\"\"",
            b"a b",
            b"\"a b\"",
            b"\"open",
            b"open\"",
            b"\"",
            br#""a\x""#,
            br#""a\""#,
            br#""a"b""#,
            b"\"a\";q=1",
            b"a\0b",
            b"a\x7fb",
            "k\u{e9}".as_bytes(),
            "k".repeat(256).as_bytes(),
        ] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn exact_characters_are_a_key_as_they_are() {
        let exact = |text: &str| IdempotencyKey::from_chars(text.into());
        assert_eq!(exact("\"a\"").expect("a key").as_str(), "\"a\"");
        for bad in ["", " a", "a b", "\u{e9}", &"k".repeat(256)] {
            assert_eq!(exact(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn several_values_must_agree() {
        let from = |values: &[&'static str]| {
            IdempotencyKey::from_field_values(values.iter().map(|v| v.as_bytes()))
        };
        assert_eq!(from(&[]), Err(KeyError::Missing));
        assert_eq!(from(&["a", "\"a\""]).expect("a key").as_str(), "a");
        assert_eq!(from(&["a", "b"]), Err(KeyError::Ambiguous));
        assert_eq!(from(&["a", ""]), Err(KeyError::Malformed));
    }

    #[test]
    fn every_part_counts_in_a_fingerprint() {
        let of = Fingerprint::of;
        let base = of(&slot("c", "k"), "POST", "/orders", "{}");
        assert_eq!(base, of(&slot("c", "k"), "POST", "/orders", "{}"));
        for other in [
            of(&slot("d", "k"), "POST", "/orders", "{}"),
            of(&slot("c", "l"), "POST", "/orders", "{}"),
            of(&slot("c", "k"), "PUT", "/orders", "{}"),
            of(&slot("c", "k"), "POST", "/order", "s{}"),
            of(&slot("c", "k"), "POST", "/orders", "[]"),
            of(&slot("ck", "x"), "POST", "/orders", "{}"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn records_survive_encoding_and_nothing_else_is_a_record() {
        for progress in [Progress::Reserved, Progress::Finished] {
            let record = Record {
                progress,
                fingerprint: Fingerprint::of(&slot("c", "k"), "POST", "/", ""),
                order_id: OrderId::from_uuid(Uuid::from_u128(7)),
            };
            let bytes = record.encode();
            assert_eq!(bytes.len(), RECORD_BYTES);
            assert_eq!(Record::decode(&bytes), Some(record));

            let mut future = bytes.clone();
            future[0] = 2;
            assert_eq!(Record::decode(&future), None);
            let mut unknown = bytes.clone();
            unknown[1] = b'x';
            assert_eq!(Record::decode(&unknown), None);
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Record::decode(&longer), None);
            for shorter in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..shorter]), None);
            }
        }
    }
}
