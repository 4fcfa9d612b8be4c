//! Tokens (RFC 7519), signed with EdDSA over Ed25519 (RFC 8037), and the public keys that verify them.

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use exactly_once::json;
use serde_json::{Value, json};

/// How long a token is valid, in seconds.
const LIFETIME: i64 = 3600;

/// The keys: the first one signs. The others verify what they have signed before. Secret: not `Debug`.
pub struct SigningKeys(Vec<(String, SigningKey)>);

impl SigningKeys {
    /// Reads a JWK set of private keys, each with its name.
    pub fn parse(text: &str) -> Option<Self> {
        let document = json::parse(text.as_bytes()).ok()?;
        let read = |jwk: &Value| {
            let member = |name: &str| jwk.get(name).and_then(Value::as_str);
            let secret = Base64UrlUnpadded::decode_vec(member("d")?).ok()?;
            let key = SigningKey::from_bytes(secret.as_slice().try_into().ok()?);
            let is_ed25519 = (member("kty")?, member("crv")?) == ("OKP", "Ed25519");
            is_ed25519.then_some((member("kid")?.to_owned(), key))
        };
        let keys: Option<Vec<_>> = document.get("keys")?.as_array()?.iter().map(read).collect();
        keys.filter(|keys| !keys.is_empty()).map(Self)
    }

    /// The public keys (RFC 7517).
    pub fn public(&self) -> String {
        let key = |(kid, key): &(String, SigningKey)| {
            let x = Base64UrlUnpadded::encode_string(key.verifying_key().as_bytes());
            json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x})
        };
        json!({"keys": self.0.iter().map(key).collect::<Vec<_>>()}).to_string()
    }

    /// A token for a user, who logs in at this time, in seconds since the Unix epoch.
    pub fn token(&self, user: &str, email: &str, issuer: &str, audience: &str, now: i64) -> Option<String> {
        let (kid, key) = self.0.first()?;
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
        let claims = json!({
            "sub": user, "userId": user, "email": email,
            "iss": issuer, "aud": audience, "iat": now, "exp": now.checked_add(LIFETIME)?,
        });
        let encode = |part: &[u8]| Base64UrlUnpadded::encode_string(part);
        let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = key.sign(signed.as_bytes());
        Some(format!("{signed}.{}", encode(&signature.to_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use exactly_once_http::identity::{KeySet, Keys, TokenRules, Unidentified, Verified};

    use super::*;

    fn keys(kids: &[&str]) -> SigningKeys {
        let key = |kid: &&str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "d": d(kid)});
        let keys: Vec<Value> = kids.iter().map(key).collect();
        SigningKeys::parse(&json!({"keys": keys}).to_string()).expect("keys")
    }

    /// Another secret for each name.
    fn d(kid: &str) -> String {
        Base64UrlUnpadded::encode_string(&[kid.len() as u8; 32])
    }

    fn customer(token: &str, keys: &SigningKeys, now: i64) -> Result<String, Unidentified> {
        let rules = TokenRules {
            keys: Keys::given(KeySet::parse(&keys.public()).expect("a key set")),
            customer_claim: "userId".to_owned(),
            issuer: Some("i".to_owned()),
            audience: Some("a".to_owned()),
            verified: Verified::default(),
        };
        rules.customer(token, now).map(|customer| customer.as_str().to_owned())
    }

    #[test]
    fn a_token_outlives_a_rotation_of_keys_until_its_key_is_withdrawn() {
        let token = keys(&["old"]).token("u", "ada@example.org", "i", "a", 1000).expect("a token");
        assert_eq!(customer(&token, &keys(&["old"]), 1000), Ok("u".into()));
        assert_eq!(customer(&token, &keys(&["newer", "old"]), 1000), Ok("u".into()));
        assert_eq!(customer(&token, &keys(&["newer"]), 1000), Err(Unidentified::UnknownKey));
        assert_eq!(customer(&token, &keys(&["old"]), 1000 + LIFETIME + 60), Err(Unidentified::ExpiredToken));
        let foreign = keys(&["old"]).token("u", "ada@example.org", "other", "a", 1000).expect("a token");
        assert_eq!(customer(&foreign, &keys(&["old"]), 1000), Err(Unidentified::InvalidToken));
    }

    #[test]
    fn no_secret_is_public_and_what_is_no_key_is_rejected() {
        let public = keys(&["old", "newer"]).public();
        assert!(!public.contains(&d("old")) && !public.contains("\"d\""), "{public}");
        let good = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "d": d("k")});
        for (member, value) in [("kty", "EC"), ("crv", "X25519"), ("d", "c2hvcnQ"), ("d", "no base64!")] {
            let mut bad = good.clone();
            bad[member] = value.into();
            assert!(SigningKeys::parse(&json!({"keys": [bad]}).to_string()).is_none(), "{member} {value}");
        }
        assert!(SigningKeys::parse(r#"{"keys":[]}"#).is_none());
    }
}
