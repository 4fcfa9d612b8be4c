//! JSON Web Signature in its compact form (RFC 7515).

use serde_json::Value;

use super::Unidentified;
use super::keys::{KeySet, decode};
use exactly_once::json;

/// The payload of a token that one of the keys has signed.
///
/// # Errors
/// None has, or several fit and the token does not name one.
pub fn payload(token: &str, keys: &KeySet) -> Result<Vec<u8>, Unidentified> {
    verified(token, keys).unwrap_or(Err(Unidentified::InvalidToken))
}

/// Until the signature is verified, nothing in the token is believed except which key to try. Only one is tried: a
/// forged token costs a verification for each.
fn verified(token: &str, keys: &KeySet) -> Option<Result<Vec<u8>, Unidentified>> {
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
    let mut fitting = keys.matching(algorithm, kid);
    let Some(key) = fitting.next() else {
        return Some(Err(Unidentified::UnknownKey));
    };
    if fitting.next().is_some() {
        return Some(Err(Unidentified::KeyNotNamed));
    }
    let is_signed = key.verifies(signed.as_bytes(), &signature);
    is_signed.then(|| decode(payload))?.map(Ok)
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
