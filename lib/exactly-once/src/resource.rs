//! What all kinds of resources have in common: the names of their collection, the stored document, and the id.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;
use uuid::Uuid;

use crate::json;

/// The names of a collection of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection {
    /// The collection's name: lower-case ASCII letters and underscores, such as `orders`. It is the table, and it is
    /// part of every key scope: resources of two collections may share a key and never meet.
    pub name: &'static str,
    /// One of its resources, in lower case, such as `order` or `gift_card`. The id's column is `<one>_id`; its member
    /// is `orderId` or `giftCardId`.
    pub one: &'static str,
    /// The path of the collection, such as `/api/v1/orders`. Part of every fingerprint.
    pub path: &'static str,
}

impl Collection {
    /// The name of the member that has a resource's id.
    #[inline(never)]
    pub fn id_member(&self) -> String {
        let mut member = String::with_capacity(self.one.len() + 2);
        let mut begins = false;
        for char in self.one.chars().chain("_id".chars()) {
            match char {
                '_' => begins = true,
                _ => member.push(if std::mem::take(&mut begins) { char.to_ascii_uppercase() } else { char }),
            }
        }
        member
    }
}

/// Where an API is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Documentation {
    /// The path of its OpenAPI document.
    pub description: &'static str,
    /// The path of its reference, with an entry for each type of problem.
    pub reference: &'static str,
}

/// A canonical JSON document, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Document(String);

impl Document {
    /// The document of a value. Equal values have equal texts, however a client wrote them: serde_json keeps members in
    /// the order of their names. (Where another package turns its feature `preserve_order` on, a retry with members in
    /// another order is recognised by comparing documents.)
    pub fn of(value: &Value) -> Self {
        Self(json::to_json(value))
    }

    /// Wraps a document that was read from a store.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON value; `null` when the text is not JSON, or a member name occurs twice in an object.
    pub fn value(&self) -> Value {
        json::parse(self.0.as_bytes()).unwrap_or_default()
    }
}

/// The name of a resource: a UUID version 7 (RFC 9562), so that it also says when the resource was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(Uuid);

impl ResourceId {
    /// Wraps an id drawn by an [`crate::ports::ResourceIds`] or read from a store.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as 16 bytes, as Redis stores it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads an id from a path. Only the form that this service prints (lower case, hyphens) names a resource.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// When the resource was requested, in milliseconds since the Unix epoch: the first 48 bits of a version 7
    /// UUID. A request that completes an interrupted one reuses its id and so this time: the representation is the
    /// same whichever request completes the creation.
    pub fn created_at_millis(&self) -> i64 {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX)
    }

    /// The least id of a resource that was requested after a time in milliseconds since the Unix epoch. A time that no
    /// id can have becomes the nearest one that an id can have.
    pub fn first_after(unix_millis: i64) -> Self {
        let next = u64::try_from(unix_millis.saturating_add(1)).unwrap_or(0).min((1 << 48) - 1);
        Self(Uuid::from_u128(u128::from(next) << 80))
    }

    /// [`Self::created_at_millis`] as RFC 3339 in UTC with milliseconds.
    pub fn created_at(&self) -> String {
        rfc3339(self.created_at_millis())
    }
}

/// A time in RFC 3339 as milliseconds since the Unix epoch, without what is finer.
pub fn unix_millis(rfc3339: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(rfc3339).ok().map(|time| time.timestamp_millis())
}

/// The end of the year 9999 in milliseconds since the Unix epoch: RFC 3339 has four digits for a year.
const LAST_RFC3339_MILLIS: i64 = 253_402_300_799_999;

/// A time in milliseconds since the Unix epoch as RFC 3339 in UTC with milliseconds. A time after the year 9999, which
/// only an id of another program can have, is the last of that year.
pub fn rfc3339(unix_millis: i64) -> String {
    DateTime::from_timestamp_millis(unix_millis.min(LAST_RFC3339_MILLIS))
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_of_an_id_is_in_camel_case() {
        let of = |one| Collection { name: "", one, path: "" }.id_member();
        assert_eq!([of("order"), of("gift_card")], ["orderId", "giftCardId"]);
    }

    #[test]
    fn only_the_printed_form_is_an_id() {
        let text = "01970000-0000-7000-8000-00000000000a";
        assert_eq!(ResourceId::parse(text).map(|id| id.to_string()), Some(text.to_owned()));
        for other in [
            "",
            "01970000-0000-7000-8000-00000000000A",
            "0197000000007000800000000000000a",
            "{01970000-0000-7000-8000-00000000000a}",
            "01970000-0000-7000-8000-00000000000",
        ] {
            assert_eq!(ResourceId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_time_is_the_first_48_bits() {
        let id = ResourceId::from_uuid(Uuid::from_u128(1_764_000_000_123 << 80 | 7 << 76));
        assert_eq!(id.created_at_millis(), 1_764_000_000_123);
        assert_eq!(id.created_at(), "2025-11-24T16:00:00.123Z");
        let of_another_program = ResourceId::from_uuid(Uuid::max());
        assert_eq!(of_another_program.created_at(), "9999-12-31T23:59:59.999Z");
        let of_millisecond = |millis: u128| ResourceId::from_uuid(Uuid::from_u128(millis << 80 | 7 << 76));
        let first = ResourceId::first_after(1_764_000_000_123);
        assert!(of_millisecond(1_764_000_000_123) < first && first <= of_millisecond(1_764_000_000_124));
        assert_eq!(ResourceId::first_after(-1), ResourceId::from_uuid(Uuid::nil()));
        assert!(ResourceId::first_after(i64::MAX) < of_another_program);
    }
}
