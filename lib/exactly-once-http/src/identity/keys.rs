//! The keys that verify tokens: a JWK set (RFC 7517), given or fetched. The algorithm comes from the key, never from a
//! token.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use exactly_once_signatures::Key;
use serde_json::Value;

use exactly_once::json;

use super::{Unidentified, jws};
use crate::host::Unfetched;

/// How long the keys are not fetched again because of an unknown key: a stranger can name any number of keys.
const RENEWAL: Duration = Duration::from_secs(60);
/// The same while there is no key at all.
const RETRY: Duration = Duration::from_secs(1);

/// The keys, and where newer ones are.
pub struct Keys {
    url: Option<String>,
    state: Mutex<State>,
}

struct State {
    current: KeySet,
    /// When the keys may be fetched again. It moves when a fetch ends: until then, others wait for it.
    closed_until: Duration,
}

impl Keys {
    /// Keys that do not change.
    pub fn given(set: KeySet) -> Self {
        Self::new(None, set)
    }

    /// Keys that are fetched when the first token arrives, and again when a token names an unknown one. The last good
    /// set is kept while the issuer does not respond.
    pub fn at(url: String) -> Self {
        Self::new(Some(url), KeySet(Vec::new()))
    }

    fn new(url: Option<String>, set: KeySet) -> Self {
        let state = State { current: set, closed_until: Duration::ZERO };
        Self { url, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self) -> Option<&str> {
        self.url.as_deref().filter(|_| cfg!(any(test, feature = "fetch")))
    }

    /// Whether a key that is unknown now may be known after [`Self::renew`].
    pub(crate) fn can_be_renewed(&self) -> bool {
        self.url().is_some()
    }

    /// The payload of a token that one of the keys has signed.
    ///
    /// # Errors
    /// None has, or several fit and the token does not name one.
    pub(crate) fn payload(&self, token: &str) -> Result<Vec<u8>, Unidentified> {
        jws::payload(token, &self.state().current)
    }

    /// Fetches the keys, or waits for the request that does, unless that was done a moment ago. Returns whether there
    /// are any.
    pub(crate) async fn renew(
        &self,
        now: Duration,
        fetch: impl AsyncFnOnce(&str) -> Result<Vec<u8>, Unfetched>,
    ) -> bool {
        let Some(url) = self.url() else {
            return true;
        };
        let is_open = now >= self.state().closed_until;
        if is_open {
            let fetched = fetch(url).await;
            if fetched != Err(Unfetched::AskedByAnother) {
                let body = fetched.ok().and_then(|body| String::from_utf8(body).ok());
                let set = body.and_then(|body| KeySet::parse(&body));
                let mut state = self.state();
                let pause = match (set.is_some(), state.current.0.is_empty()) {
                    // A key may be new since then.
                    (true, true) => Duration::ZERO,
                    (false, true) => RETRY,
                    (_, false) => RENEWAL,
                };
                if let Some(set) = set {
                    state.current = set;
                }
                state.closed_until = now + pause;
            }
        }
        !self.state().current.0.is_empty()
    }
}

/// Named keys.
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
