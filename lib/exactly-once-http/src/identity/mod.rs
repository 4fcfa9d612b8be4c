//! Identifies the customer of a request: not at all, by a gateway's header, or by a signed token.
//!
//! No JWT library verifies the tokens. `jsonwebtoken` 10 builds for wasm32-wasip2 with its feature `rust_crypto` (the
//! other one is aws-lc, in C), with the same cryptography crates, most of them one release older. This module would
//! still have to check `typ`, `crit`, short keys, and `iss` where no issuer is set. A component with nothing else has
//! 643 kB with that library and 222 kB with this module (both `opt-level = "s"`), because the library also contains
//! P-384, RSA-PSS, PEM and signing. `jwt-simple` contains more of these, and `josekit` needs OpenSSL. This module
//! implements JWS in compact form and five claims in 200 lines.

mod jws;
mod jwt;
mod keys;

use exactly_once::Customer;

pub use jwt::{TokenRules, Verified};
pub use keys::{KeySet, Keys};

/// How customers are identified. Holds secrets: not `Debug`.
pub enum Identity {
    /// Not at all: every request belongs to [`Customer::anonymous`].
    None,
    /// By a gateway that has authenticated the customer and names it in this header. The gateway removes the header
    /// from the clients' requests.
    Header(String),
    /// By a signed bearer token (RFC 6750, RFC 7519).
    Jwt(Box<TokenRules>),
}

/// Why a request does not identify a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// The gateway did not name one customer.
    NotNamed,
    /// There is no bearer token.
    NoToken,
    /// The token is not valid for this service.
    InvalidToken,
    /// No key fits. The issuer may have a new one.
    UnknownKey,
    /// It does not name its key, and several keys fit.
    KeyNotNamed,
    /// It has expired.
    ExpiredToken,
}

impl std::fmt::Display for Unidentified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotNamed => "the gateway named no customer",
            Self::NoToken => "there is no bearer token",
            Self::InvalidToken | Self::UnknownKey => "the token is not valid",
            Self::KeyNotNamed => "the token does not name its key",
            Self::ExpiredToken => "the token has expired",
        })
    }
}

impl std::error::Error for Unidentified {}

impl Identity {
    /// The header that identifies the customer, if there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Header(name) => Some(name),
            Self::Jwt(_) => Some("authorization"),
        }
    }

    /// The customer, from all values of [`Self::field`]. `now` is in seconds since the Unix epoch; it is called only
    /// when a token is verified.
    ///
    /// # Errors
    /// [`Unidentified`] unless there is exactly one value and it identifies a customer.
    pub fn customer<'v>(
        &self,
        values: impl IntoIterator<Item = &'v [u8]>,
        now: impl FnOnce() -> i64,
    ) -> Result<Customer, Unidentified> {
        let mut values = values.into_iter();
        let (first, second) = (values.next(), values.next());
        let only = || {
            let only = first.filter(|_| second.is_none())?;
            std::str::from_utf8(only).ok()
        };
        match self {
            Self::None => Ok(Customer::anonymous()),
            // A proxy joins two of these headers with a comma: the client's own and the gateway's.
            Self::Header(_) => {
                only().filter(|name| !name.contains(',')).and_then(Customer::named).ok_or(Unidentified::NotNamed)
            }
            #[cfg(not(feature = "tokens"))]
            Self::Jwt(_) => {
                drop(now);
                Err(Unidentified::InvalidToken)
            }
            #[cfg(feature = "tokens")]
            Self::Jwt(rules) => {
                if first.is_none() {
                    return Err(Unidentified::NoToken);
                }
                let credentials = only().ok_or(Unidentified::InvalidToken)?;
                rules.customer(bearer(credentials).ok_or(Unidentified::NoToken)?, now())
            }
        }
    }
}

/// The token of `Bearer` credentials (RFC 6750 section 2.1); `None` for those of another scheme.
pub(crate) fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.trim().split_once(' ').unwrap_or((credentials.trim(), ""));
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests;
