//! Strong entity tags (RFC 9110 section 8.8.3).

use std::fmt;

use base16ct::lower;
use exactly_once::ListState;
use sha2::{Digest, Sha256};

/// A strong entity tag: 128 bits of a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a list in that state.
    pub fn of_state(state: &ListState) -> Self {
        Self(state.to_string())
    }

    /// The tag of a complete representation.
    pub fn of_representation(body: &str) -> Self {
        let digest = Sha256::digest(body.as_bytes());
        Self(lower::encode_string(digest.get(..16).unwrap_or_default()))
    }

    /// The tag without its quotation marks.
    pub fn opaque(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn representations_have_tags_of_their_own() {
        let of = ETag::of_representation;
        assert_eq!(of("a").to_string().len(), 34);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}
