//! JSON Web Signature in its compact form (RFC 7515).

use super::keys::{KeySet, decode};
use protocol::json;

/// The longest token that is verified, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The payload of a token that one of the keys has signed. Before that, nothing in the token is believed, except which of
/// our keys to try.
pub fn payload(token: &str, keys: &KeySet) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header = json::parse(&decode(header)?).ok()?;
    // Extensions that a verifier must understand (section 4.1.11): we understand none.
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
