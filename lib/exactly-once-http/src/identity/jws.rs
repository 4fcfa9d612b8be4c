//! JSON Web Signature in its compact form (RFC 7515).

use serde_json::Value;

use super::keys::{KeySet, decode};
use exactly_once::json;

/// The longest token that is verified, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The payload of a token that one of the keys has signed. Before that, nothing in the token is believed, except which
/// of our keys to try.
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
    if !is_token_type(header.get("typ")) {
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

/// Whether `typ` is that of a token for access, or is absent, as it may be (RFC 7519 section 5.1). What an issuer signs
/// for another purpose with the same key, such as a logout token or a security event, has a type of its own (RFC 8725
/// section 3.11).
fn is_token_type(typ: Option<&Value>) -> bool {
    let Some(typ) = typ else {
        return true;
    };
    // A media type: case does not matter, and "application/" may be left out (RFC 7515 section 4.1.9).
    let Some(name) = typ.as_str().map(str::to_ascii_lowercase) else {
        return false;
    };
    let name = name.strip_prefix("application/").unwrap_or(&name);
    matches!(name, "jwt" | "at+jwt")
}
