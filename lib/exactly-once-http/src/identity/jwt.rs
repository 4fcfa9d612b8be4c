//! JSON Web Tokens (RFC 7519): which claims a signed token must have; and the memory of those that were verified.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::Unidentified;
use super::keys::Keys;
use exactly_once::Customer;
use exactly_once::json;
use sha2::{Digest, Sha256};

/// How much clocks may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// The longest token that is read, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The rules for tokens.
pub struct TokenRules {
    /// The keys. One of them must have signed the token.
    pub keys: Keys,
    /// The claim that names the customer; `sub` unless the issuer has one of its own.
    pub customer_claim: String,
    /// The issuer (`iss`) that a token must name. If this is not set, a token with an issuer is rejected: two issuers
    /// may give the same subject to two customers.
    pub issuer: Option<String>,
    /// The audience (`aud`) that a token must name. If this is not set, a token with an audience is rejected: it is
    /// meant for another service (RFC 7519 section 4.1.3).
    pub audience: Option<String>,
    /// What was verified before.
    pub verified: Verified,
}

/// The SHA-256 of tokens that were verified, the customers that they name, and when they expire. A verification takes a
/// third of a creation's time or more, and a client sends its token with every request.
#[derive(Default)]
pub struct Verified(Mutex<Vec<([u8; 32], Customer, f64)>>);

/// As many as Spin's instances serve requests.
const MAX_VERIFIED: usize = 128;

impl Verified {
    fn find(&self, digest: &[u8; 32]) -> Option<(Customer, f64)> {
        let verified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, customer, expires) = verified.iter().find(|(known, ..)| known == digest)?;
        Some((customer.clone(), *expires))
    }

    fn remember(&self, digest: [u8; 32], customer: Customer, expires: f64) {
        let mut verified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() == MAX_VERIFIED {
            verified.clear();
        }
        verified.push((digest, customer, expires));
    }
}

impl TokenRules {
    /// The customer that a token names. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// The token is not valid, or has expired. A token that never expires is not valid.
    pub fn customer(&self, token: &str, now: i64) -> Result<Customer, Unidentified> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Unidentified::InvalidToken);
        }
        let digest = Sha256::digest(token).into();
        let (customer, expires) = match self.verified.find(&digest) {
            Some(known) => known,
            None => {
                let payload = self.keys.payload(token)?;
                let (customer, expires) = self.read(&payload, now).ok_or(Unidentified::InvalidToken)?;
                self.verified.remember(digest, customer.clone(), expires);
                (customer, expires)
            }
        };
        if seconds(now) < expires + LEEWAY { Ok(customer) } else { Err(Unidentified::ExpiredToken) }
    }

    /// The customer and the time of expiry, if all other claims are valid.
    fn read(&self, payload: &[u8], now: i64) -> Option<(Customer, f64)> {
        let claims = json::parse(payload).ok()?;
        let not_before = match claims.get("nbf") {
            Some(time) => time.as_f64()?,
            None => f64::MIN,
        };
        let issued_by_them = match (claims.get("iss"), self.issuer.as_deref()) {
            (None, None) => true,
            (Some(iss), Some(issuer)) => iss == issuer,
            _ => false,
        };
        let meant_for_us = match (claims.get("aud"), self.audience.as_deref()) {
            (None, None) => true,
            (Some(Value::Array(all)), Some(audience)) => all.iter().any(|one| one == audience),
            (Some(one), Some(audience)) => one == audience,
            _ => false,
        };
        if !issued_by_them || !meant_for_us || seconds(now) < not_before - LEEWAY {
            return None;
        }
        let customer = Customer::named(claims.get(&self.customer_claim)?.as_str()?)?;
        Some((customer, claims.get("exp")?.as_f64()?))
    }
}

/// Times in tokens may have fractions. Exact for the next 285 million years.
#[allow(clippy::cast_precision_loss, reason = "seconds fit into 53 bits")]
fn seconds(now: i64) -> f64 {
    now as f64
}
