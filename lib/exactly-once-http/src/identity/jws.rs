//! JSON Web Signature in its compact form (RFC 7515).

use serde_json::Value;

use super::keys::{KeySet, decode};
use exactly_once::json;

/// The longest token that is verified, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The payload of a token that one of the keys has signed. Until the signature is verified, nothing in the token is
/// believed except which key to try.
pub fn payload(token: &str, keys: &KeySet) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header = json::parse(&decode(header)?).ok()?;
    // Extensions that a verifier must understand (section 4.1.11): this one understands none.
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

/// Whether `typ` is absent (RFC 7519 section 5.1) or names an access token. A token that the issuer signs with the same
/// key for another purpose, such as a logout token or a security event, has another type (RFC 8725 section 3.11).
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
