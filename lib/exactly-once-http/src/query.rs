//! Query parameters, percent-encoding, and the cursor with which a page names the start of the next one.

use std::ops::RangeInclusive;

use exactly_once::ResourceId;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

/// The number of resources on a page by default.
const DEFAULT_LIMIT: usize = 20;
/// How many resources a page has at most.
pub const MAX_LIMIT: usize = 100;

/// The page that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many at most; 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only resources older than this one, which belongs to the customer.
    pub after: Option<ResourceId>,
}

/// Why a query is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// It has an unknown parameter.
    Unknown,
    /// It has a parameter more than once.
    Repeated,
    /// `limit` is not a number from 1 to [`MAX_LIMIT`].
    Limit,
    /// `cursor` is not from one of this customer's pages.
    Cursor,
    /// Another parameter breaks its rule.
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it must be: "must be …".
        rule: &'static str,
    },
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "a parameter is unknown",
            Self::Repeated => "a parameter is repeated",
            Self::Limit => "limit is out of range",
            Self::Cursor => "cursor is not from a page of this customer",
            Self::Parameter { .. } => "a parameter breaks its rule",
        })
    }
}

impl std::error::Error for QueryError {}

impl PageRequest {
    /// Reads a query, without its question mark.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut limit, mut after) = (None, None);
        each_parameter(query, &mut |name, value| {
            Ok(match name {
                b"limit" => limit.replace(read_limit(value)?).is_some(),
                b"cursor" => after.replace(read_cursor(value)?).is_some(),
                _ => return Err(QueryError::Unknown),
            })
        })?;
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after })
    }

    /// The query of the page that begins after a resource.
    pub fn following(&self, last: ResourceId) -> String {
        let cursor = Uuid::from_bytes(*last.as_bytes());
        format!("limit={}&cursor={}", self.limit, cursor.simple())
    }
}

/// Takes a parameter's name and value, and returns whether the name occurred before.
type Take<'t> = dyn FnMut(&[u8], &[u8]) -> Result<bool, QueryError> + 't;

/// Calls `take` with each parameter of a query, decoded.
///
/// # Errors
/// That of `take`, or a name is repeated.
pub(crate) fn each_parameter(query: &str, take: &mut Take<'_>) -> Result<(), QueryError> {
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if take(&decoded(name), &decoded(value))? {
            return Err(QueryError::Repeated);
        }
    }
    Ok(())
}

fn read_limit(value: &[u8]) -> Result<usize, QueryError> {
    number(value, 1..=MAX_LIMIT).ok_or(QueryError::Limit)
}

/// A number in this range, in digits.
pub(crate) fn number(value: &[u8], range: RangeInclusive<usize>) -> Option<usize> {
    let mut number: Option<usize> = None;
    for digit in value {
        let value = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(value)?);
    }
    number.filter(|number| range.contains(number))
}

/// A cursor is the id of the last resource, without hyphens so that clients do not build one by hand. It tells the
/// customer nothing new; a sequence number would tell how many resources all customers have.
pub(crate) fn read_cursor(value: &[u8]) -> Result<ResourceId, QueryError> {
    (value.len() == 32)
        .then(|| Uuid::try_parse_ascii(value).ok())
        .flatten()
        .map(ResourceId::from_uuid)
        .ok_or(QueryError::Cursor)
}

/// The bytes that a part of a path or query encodes. A percent sign without two hexadecimal digits stands for itself.
pub fn decoded(part: &str) -> Vec<u8> {
    percent_decode_str(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0197000000007000800000000000000a";

    fn id() -> ResourceId {
        ResourceId::parse("01970000-0000-7000-8000-00000000000a").expect("an id")
    }

    #[test]
    fn a_query_is_a_limit_and_a_cursor() {
        let page = |limit, after| Ok(PageRequest { limit, after });
        assert_eq!(PageRequest::parse(""), page(20, None));
        assert_eq!(PageRequest::parse("limit=1"), page(1, None));
        assert_eq!(PageRequest::parse("lim%69t=%3100"), page(100, None));
        let both = format!("cursor={ID}&&limit=7");
        assert_eq!(PageRequest::parse(&both), page(7, Some(id())));
        let following = page(7, None).map(|page| page.following(id()));
        assert_eq!(following, Ok(format!("limit=7&cursor={ID}")));
    }

    #[test]
    fn everything_else_is_refused() {
        for (query, error) in [
            ("limit=0", QueryError::Limit),
            ("limit=101", QueryError::Limit),
            ("limit=+1", QueryError::Limit),
            ("limit=", QueryError::Limit),
            ("limit", QueryError::Limit),
            ("limit=99999999999999999999", QueryError::Limit),
            ("limit=1&limit=1", QueryError::Repeated),
            ("cursor=", QueryError::Cursor),
            ("cursor=01970000-0000-7000-8000-00000000000a", QueryError::Cursor),
            ("cursor=0197000000007000800000000000000x", QueryError::Cursor),
            ("offset=1", QueryError::Unknown),
            ("Limit=1", QueryError::Unknown),
            ("=", QueryError::Unknown),
        ] {
            assert_eq!(PageRequest::parse(query), Err(error), "{query}");
        }
    }

    #[test]
    fn percent_codes_are_undone() {
        assert_eq!(decoded("a%2Fb%25%c3"), b"a/b%\xc3");
        assert_eq!(decoded("100%+%zz"), b"100%+%zz");
    }
}
