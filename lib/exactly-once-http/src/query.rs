//! Query parameters, percent-encoding, and the cursor with which a page names the start of the next one.

use std::ops::RangeInclusive;

use exactly_once::ResourceId;
use exactly_once::ports::PageRequest;
use exactly_once::resource::{rfc3339, unix_millis};
use percent_encoding::percent_decode_str;
use uuid::Uuid;

/// The number of resources on a page by default.
const DEFAULT_LIMIT: usize = 20;
/// How many resources a page has at most.
pub const MAX_LIMIT: usize = 100;

/// Only resources that were requested after a time.
const CREATED_AFTER: &str = "createdAfter";

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

/// The page that a query, without its question mark, asks for.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn page_request(query: &str) -> Result<PageRequest, QueryError> {
    let (mut limit, mut after, mut from) = (None, None, None);
    each_parameter(query, &mut |name, value| {
        Ok(match name {
            b"limit" => limit.replace(read_limit(value)?).is_some(),
            b"cursor" => after.replace(read_cursor(value)?).is_some(),
            _ if name == CREATED_AFTER.as_bytes() => from.replace(read_time(value)?).is_some(),
            _ => return Err(QueryError::Unknown),
        })
    })?;
    Ok(PageRequest { limit: limit.unwrap_or(DEFAULT_LIMIT), after, from })
}

/// The query of the page that begins after a resource.
pub fn following(request: &PageRequest, last: ResourceId) -> String {
    let cursor = Uuid::from_bytes(*last.as_bytes());
    let query = format!("limit={}&cursor={}", request.limit, cursor.simple());
    match request.from {
        Some(from) => format!("{query}&{CREATED_AFTER}={}", rfc3339(from.created_at_millis().saturating_sub(1))),
        None => query,
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

fn read_time(value: &[u8]) -> Result<ResourceId, QueryError> {
    let time = std::str::from_utf8(value).ok().and_then(unix_millis);
    let rule = "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)";
    time.map(ResourceId::first_after).ok_or(QueryError::Parameter { name: CREATED_AFTER, rule })
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
        let page = |limit, after| Ok(PageRequest { limit, after, from: None });
        assert_eq!(page_request(""), page(20, None));
        assert_eq!(page_request("limit=1"), page(1, None));
        assert_eq!(page_request("lim%69t=%3100"), page(100, None));
        let both = format!("cursor={ID}&&limit=7");
        assert_eq!(page_request(&both), page(7, Some(id())));
        assert_eq!(following(&PageRequest { limit: 7, after: None, from: None }, id()), format!("limit=7&cursor={ID}"));
    }

    #[test]
    fn a_time_is_kept_by_the_next_page() {
        let from = |time: &str| page_request(&format!("createdAfter={time}")).map(|page| page.from);
        let first = Ok(Some(ResourceId::first_after(1_767_225_600_000)));
        for same in ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.0009+01:00", "2025-12-31T23%3A00:00-01:00"] {
            assert_eq!(from(same), first, "{same}");
        }
        let request = PageRequest { from: first.ok().flatten(), ..PageRequest::newest(7) };
        let next = following(&request, id());
        assert_eq!(next, format!("limit=7&cursor={ID}&createdAfter=2026-01-01T00:00:00.000Z"));
        assert_eq!(page_request(&next), Ok(PageRequest { after: Some(id()), ..request }));
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
            ("createdAfter=2026-01-01T00:00:00Z&createdAfter=2026-01-01T00:00:00Z", QueryError::Repeated),
            ("offset=1", QueryError::Unknown),
            ("Limit=1", QueryError::Unknown),
            ("=", QueryError::Unknown),
        ] {
            assert_eq!(page_request(query), Err(error), "{query}");
        }
        for time in ["", "2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "1767225600", "now"] {
            let refused = page_request(&format!("createdAfter={time}"));
            assert!(matches!(refused, Err(QueryError::Parameter { name: CREATED_AFTER, .. })), "{time}");
        }
    }

    #[test]
    fn percent_codes_are_undone() {
        assert_eq!(decoded("a%2Fb%25%c3"), b"a/b%\xc3");
        assert_eq!(decoded("100%+%zz"), b"100%+%zz");
    }
}
