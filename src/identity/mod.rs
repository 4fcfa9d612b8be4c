//! Who is asking: how the service is told, and how far it believes it.

mod jws;
mod jwt;
mod keys;

use crate::customer::Customer;

pub use jwt::TokenRules;
pub use keys::KeySet;

/// How customers are told apart. Holds secrets: not `Debug`.
pub enum Identity {
    /// Not at all: everybody is [`Customer::anonymous`].
    None,
    /// A gateway in front has authenticated the customer and names it in this field, whose every other
    /// value it removes.
    Header(String),
    /// By a signed token that the customer bears (RFC 6750, RFC 7519).
    Jwt(Box<TokenRules>),
}

/// Why nobody knows who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// The gateway did not name one customer.
    NotNamed,
    /// There is no bearer token.
    NoToken,
    /// The token is not valid here.
    InvalidToken,
    /// It was valid once.
    ExpiredToken,
}

impl Identity {
    /// The field that tells, if one does.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Header(name) => Some(name),
            Self::Jwt(_) => Some("authorization"),
        }
    }

    /// The customer, by all values of [`Self::field`]. `now` is in seconds since the Unix epoch, and is asked
    /// only where it matters.
    ///
    /// # Errors
    /// [`Unidentified`] unless there is exactly one value and it tells.
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
            Self::Header(_) => only()
                .and_then(Customer::named)
                .ok_or(Unidentified::NotNamed),
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

/// The token of `Bearer` credentials (RFC 6750 §2.1); `None` for those of another scheme.
fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials
        .trim()
        .split_once(' ')
        .unwrap_or((credentials.trim(), ""));
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests;
