//! The key that a client chooses for a request and its retries (draft-ietf-httpapi-idempotency-key-header), and
//! the scope in which the key is unique.

use crate::customer::Customer;
use crate::resource::ResourceId;

/// The longest key, in characters (all of them ASCII).
pub const MAX_KEY_CHARS: usize = 255;

/// A key that a client chose for one request and all its retries: 1 to [`MAX_KEY_CHARS`] visible ASCII
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

/// Why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is no `Idempotency-Key` header.
    Missing,
    /// The header is present and is not a key.
    Malformed,
    /// The header is present more than once, with different keys.
    Ambiguous,
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "Idempotency-Key is missing",
            Self::Malformed => "Idempotency-Key is malformed",
            Self::Ambiguous => "Idempotency-Key is ambiguous",
        })
    }
}

impl std::error::Error for KeyError {}

impl IdempotencyKey {
    /// Takes the key from all values of the `Idempotency-Key` header. A proxy may join a repeated header with commas
    /// (RFC 9110 section 5.3): equal parts are one key.
    ///
    /// # Errors
    /// [`KeyError`], also when only one of several parts is malformed.
    pub fn from_field_values<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Self, KeyError> {
        let mut found: Option<Self> = None;
        for value in values.into_iter().flat_map(parts) {
            let key = Self::parse(value).ok_or(KeyError::Malformed)?;
            match &found {
                Some(first) if *first != key => return Err(KeyError::Ambiguous),
                _ => found = Some(key),
            }
        }
        found.ok_or(KeyError::Missing)
    }

    /// Reads one part of a header value: the draft's Structured Field string (RFC 9651 §3.3.3) or the bare token that
    /// most clients send. Both spellings of a key are the same key.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let key = match value.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted.strip_suffix(b"\"")?)?,
            // A lone quotation mark is a broken Structured Field, not a key that a client chose; a comma separates
            // parts.
            None if value.contains(&b'"') || value.contains(&b',') => return None,
            None => value.to_vec(),
        };
        Self::from_chars(key)
    }

    /// The key of exactly these characters, as a path names it: nothing is trimmed or unquoted.
    pub fn from_chars(key: Vec<u8>) -> Option<Self> {
        let well_formed = (1..=MAX_KEY_CHARS).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        if !well_formed {
            return None;
        }
        String::from_utf8(key).ok().map(Self)
    }

    /// The key of a resource that was requested without one. No client can send it: it contains a space.
    pub fn substitute(id: ResourceId) -> Self {
        Self(format!(" {id}"))
    }

    /// The key, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The parts of a header value, which commas outside of quotation marks separate.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
        byte == b',' && !quoted
    })
}

/// Removes the escapes of a Structured Field string; `None` for an unknown escape.
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

/// One key of one customer in one collection: at most one resource has it. Redis record, table row and fingerprint
/// contain it, so that nothing that is stored for one scope is taken for another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyScope {
    /// The name of the collection.
    pub collection: &'static str,
    /// The customer.
    pub customer: Customer,
    /// The key.
    pub key: IdempotencyKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(IdempotencyKey::parse(b"8e03978e"), IdempotencyKey::parse(b" \"8e03978e\" "));
        assert_eq!(IdempotencyKey::parse(br#""a\"b\\c""#).expect("a key").as_str(), r#"a"b\c"#);
        assert_eq!(IdempotencyKey::parse(br"a\b").expect("a key").as_str(), r"a\b");
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
            b"a,b",
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
        let from = |values: &[&'static str]| IdempotencyKey::from_field_values(values.iter().map(|v| v.as_bytes()));
        assert_eq!(from(&[]), Err(KeyError::Missing));
        assert_eq!(from(&["a", "\"a\""]).expect("a key").as_str(), "a");
        assert_eq!(from(&["a", "b"]), Err(KeyError::Ambiguous));
        for one in ["a,a", "a, a", "\"a\" ,a,\t\"a\""] {
            assert_eq!(from(&[one, "a"]).expect("a key").as_str(), "a", "{one}");
        }
        for (quoted, key) in [(r#""a,b", "a,b""#, "a,b"), (r#""\",\\","\",\\""#, r#"",\"#)] {
            assert_eq!(from(&[quoted]).expect("a key").as_str(), key);
        }
        for other in ["a,b", "a, a, \"b\"", r#""a,b",a,b"#] {
            assert_eq!(from(&[other]), Err(KeyError::Ambiguous), "{other}");
        }
        for broken in ["", "a,", ",a", "a,,a", "a,\"a", "a\",\"a\""] {
            assert_eq!(from(&["a", broken]), Err(KeyError::Malformed), "{broken}");
        }
    }
}
