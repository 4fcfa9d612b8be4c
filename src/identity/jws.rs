//! JSON Web Signature in its compact form (RFC 7515).

use super::keys::{KeySet, decode};
use crate::json;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token says, once one of the keys is seen to have signed it. Nothing in it is believed before,
/// save which of our keys to try.
pub fn payload(token: &str, keys: &KeySet) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header = json::parse(&decode(header)?).ok()?;
    // Extensions that must be understood (§4.1.11); none is.
    if header.get("crit").is_some() {
        return None;
    }
    let algorithm = header.get("alg")?.as_str()?;
    let kid = match header.get("kid") {
        Some(kid) => Some(kid.as_str()?),
        None => None,
    };
    let signature = decode(signature)?;
    keys.matching(algorithm, kid)
        .any(|key| key.verifies(signed.as_bytes(), &signature))
        .then(|| decode(payload))?
}
