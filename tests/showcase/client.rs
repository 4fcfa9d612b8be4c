//! What the examples' tests share: tokens that they sign themselves, requests as Go's client sends them, and what is
//! said of a response.

use fixtures::Served;
use fixtures::client::Answer;
use serde_json::{Value, json};

/// The secret of the key `k1`, and of `k2`, for tokens that tests sign themselves.
pub const SECRETS: [(&str, [u8; 32]); 2] = [("k1", [1; 32]), ("k2", [2; 32])];

/// The variable `signing_keys` with these keys.
pub fn signing_keys(kids: &[&str]) -> String {
    let keys: Vec<Value> = SECRETS
        .iter()
        .filter(|(kid, _)| kids.contains(kid))
        .map(|(kid, secret)| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "d": encode(secret)}))
        .collect();
    json!({"keys": keys}).to_string()
}

/// A token that one of [`SECRETS`] has signed.
pub fn token(kid: &str, claims: &Value) -> String {
    use ed25519_dalek::{Signer, SigningKey};
    let (_, secret) = SECRETS.iter().find(|(name, _)| *name == kid).unwrap();
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = SigningKey::from_bytes(secret).sign(signed.as_bytes());
    format!("{signed}.{}", encode(&signature.to_bytes()))
}

/// base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    Base64UrlUnpadded::encode_string(bytes)
}

/// The claims of a token, which is not verified.
pub fn claims(token: &str) -> Value {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap()
}

/// What a test says of a response, whatever API it is of.
pub trait Checked {
    /// The body of a response with this status.
    fn expect(self, status: u16) -> Value;
    /// That it is a problem (RFC 9457) with this status.
    fn is_problem(&self, status: u16);
}

impl Checked for Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    #[track_caller]
    fn is_problem(&self, status: u16) {
        assert_eq!((self.status, self.the("content-type")), (status, "application/problem+json"), "{}", self.body);
        assert_eq!(self.json()["status"], status);
    }
}

/// Sends a request; with a body it is a POST of JSON, as Go's client sends it, without a `Content-Type`.
pub async fn send(service: &Served, path: &str, fields: &[(&str, &str)], body: Option<&Value>) -> Answer {
    match body {
        Some(body) => service.post(path).fields(fields).body(body.to_string()).await,
        None => service.get(path).fields(fields).await,
    }
}
