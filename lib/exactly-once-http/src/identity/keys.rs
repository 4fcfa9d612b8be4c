//! The keys that verify tokens: a JWK set (RFC 7517). The algorithm comes from the key, never from a token.

use base64ct::{Base64UrlUnpadded, Encoding};
use exactly_once_signatures::Key;
use serde_json::Value;

use exactly_once::json;

/// Named keys; at least one.
pub struct KeySet(Vec<NamedKey>);

struct NamedKey {
    kid: Option<String>,
    key: Key,
}

/// A key of a supported kind is broken or too short.
struct Broken;

impl KeySet {
    /// Reads a JWK set. Keys of other kinds and for other uses are left out (RFC 7517 section 5).
    ///
    /// # Errors
    /// `None` when it is not a JWK set, when a key that would be used is broken or too short, or when no key is left.
    pub fn parse(text: &str) -> Option<Self> {
        let document = json::parse(text.as_bytes()).ok()?;
        let jwks = document.get("keys")?.as_array()?;
        let keys: Result<Vec<Option<NamedKey>>, Broken> = jwks.iter().map(read).collect();
        let keys: Vec<NamedKey> = keys.ok()?.into_iter().flatten().collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The keys that may have signed a token with this algorithm and key name. A key without a name does not verify a
    /// token that names a key.
    pub fn matching<'s>(&'s self, algorithm: &'s str, kid: Option<&'s str>) -> impl Iterator<Item = &'s Key> {
        self.0
            .iter()
            .filter(move |named| kid.is_none() || named.kid.as_deref() == kid)
            .map(|named| &named.key)
            .filter(move |key| key.algorithm() == known_as(algorithm))
    }
}

/// The name of an algorithm in [`Key`]: EdDSA has a second one (RFC 9864), for the one curve that is supported.
fn known_as(algorithm: &str) -> &str {
    match algorithm {
        "Ed25519" => "EdDSA",
        other => other,
    }
}

fn read(jwk: &Value) -> Result<Option<NamedKey>, Broken> {
    let text = |name: &str| match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Broken),
    };
    let bytes = |name: &str| {
        let text = text(name)?.ok_or(Broken)?;
        decode(text).ok_or(Broken)
    };
    let kind = text("kty")?.ok_or(Broken)?;
    let made_for = |algorithm: &str| -> Result<bool, Broken> {
        Ok(text("alg")?.is_none_or(|alg| known_as(alg) == algorithm)
            && text("use")?.is_none_or(|usage| usage == "sig")
            && jwk.get("key_ops").is_none_or(|operations| {
                operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
            }))
    };
    let key = match (kind, text("crv")?) {
        ("OKP", Some("Ed25519")) if made_for("EdDSA")? => Key::ed25519(&bytes("x")?),
        ("EC", Some("P-256")) if made_for("ES256")? => Key::p256(&bytes("x")?, &bytes("y")?),
        ("RSA", _) if made_for("RS256")? => Key::rsa(&bytes("n")?, &bytes("e")?),
        ("oct", _) if made_for("HS256")? => Key::hmac(bytes("k")?),
        _ => return Ok(None),
    };
    Ok(Some(NamedKey { kid: text("kid")?.map(ToOwned::to_owned), key: key.ok_or(Broken)? }))
}

/// base64url without padding, as JOSE uses it (RFC 7515 section 2).
pub fn decode(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}
