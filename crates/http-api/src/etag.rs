//! Entity tags, and the conditions on them: one for reading, one for creating (RFC 9110 section 8.8.3, section 13.1).

use std::fmt;

use http::{StatusCode, header};
use protocol::ListState;
use protocol::condition::Expected;
use protocol::hex::hex;
use sha2::{Digest, Sha256};

use crate::head::{Head, text};
use crate::response::Response;

/// A strong entity tag: 128 bits of a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a list in that state.
    pub fn of_state(state: &ListState) -> Self {
        Self(state.to_string())
    }

    /// The tag of a complete representation.
    pub fn of_representation(body: &str) -> Self {
        let digest = Sha256::digest(body.as_bytes());
        Self(hex(digest.get(..16).unwrap_or_default()))
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl Response {
    /// This answer with its tag, or 304 to a client that has it already. An answer belongs to one customer, and caches
    /// do not know how the customer was identified: none may share it, and each must revalidate it.
    pub(super) fn unless_known(self, etag: &ETag, head: &impl Head) -> Self {
        let known = if_none_match(head, etag);
        let answer = if known {
            Self {
                status: StatusCode::NOT_MODIFIED,
                headers: Vec::new(),
                body: String::new(),
            }
        } else {
            self
        };
        answer
            .with(header::ETAG.as_str(), etag.to_string())
            .with(header::CACHE_CONTROL.as_str(), "private, no-cache")
    }
}

/// Whether the field is there and names the tag, or any. Tags are compared weakly. Values that are not a list of
/// tags name none.
fn if_none_match(head: &impl Head, etag: &ETag) -> bool {
    let values = head.values(header::IF_NONE_MATCH.as_str());
    values.iter().filter_map(|value| text(value)).any(|value| {
        let tags = || tags(value).into_iter().flatten();
        value.trim() == "*" || tags().any(|tag| tag.opaque == etag.0)
    })
}

/// The expected states of the list, if the field is there (RFC 9110 section 13.1.1). Tags are compared strongly: weak
/// tags, tags of other things and values that are not a list of tags name no state.
pub(super) fn if_match(head: &impl Head) -> Option<Expected> {
    let values = head.values(header::IF_MATCH.as_str());
    if values.is_empty() {
        return None;
    }
    let texts = || values.iter().filter_map(|value| text(value));
    if texts().any(|value| value.trim() == "*") {
        return Some(Expected::Any);
    }
    let tags = texts().filter_map(tags).flatten();
    let strong = tags.filter(|tag| !tag.weak);
    let states = strong.filter_map(|tag| ListState::parse(tag.opaque));
    Some(Expected::OneOf(states.collect()))
}

/// A tag as the client sent it.
struct Tag<'v> {
    weak: bool,
    opaque: &'v str,
}

/// The tags of a list; `None` when the text is not one. Commas may be part of a tag.
fn tags(mut list: &str) -> Option<Vec<Tag<'_>>> {
    let mut tags = Vec::new();
    loop {
        list = list.trim_start_matches([' ', '\t', ',']);
        if list.is_empty() {
            return Some(tags);
        }
        let quoted = list.strip_prefix("W/").unwrap_or(list);
        let weak = quoted != list;
        let (opaque, rest) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag { weak, opaque });
        list = rest.trim_start_matches([' ', '\t']);
        if !list.is_empty() && !list.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Method, TestHead};

    const TAG: &str = "\"000102030405060708090a0b0c0d0eff\"";

    fn head<'t>(fields: &'t [(&'t str, &'t str)]) -> TestHead<'t> {
        TestHead {
            method: Method::Get,
            target: "/",
            fields,
        }
    }

    fn known(values: &[&str]) -> bool {
        let fields: Vec<_> = values
            .iter()
            .map(|value| ("if-none-match", *value))
            .collect();
        let state = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        let etag = ETag::of_state(&ListState::from_bytes(&state).expect("a state"));
        assert_eq!(etag.to_string(), TAG);
        let head = head(&fields);
        let answer = Response::json(StatusCode::OK, "{}".into()).unless_known(&etag, &head);
        assert!(answer.headers.contains(&("etag", TAG.to_owned())));
        let not_modified = answer.status == StatusCode::NOT_MODIFIED;
        assert_eq!(not_modified, answer.body.is_empty());
        not_modified
    }

    #[test]
    fn a_tag_is_found_in_lists_and_compared_weakly() {
        for values in [
            &[TAG][..],
            &[&format!("W/{TAG}")],
            &["*"],
            &[" * "],
            &[&format!("\"a,b\" ,W/\"x\",, {TAG}")],
            &[&format!("{TAG},")],
            &["\"x\"", TAG],
            &["nonsense", TAG],
        ] {
            assert!(known(values), "{values:?}");
        }
        for values in [
            &[][..],
            &[""],
            &["\"*\""],
            &[&format!("\"x{}\"", TAG.trim_matches('"'))],
            &["\"x\", \"y\""],
            &[TAG.trim_matches('"')],
            &[&TAG.to_uppercase()],
            &[&format!("w/{TAG}")],
            &[&format!("\"x\" {TAG}")],
            &[&format!("\"x{TAG}")],
            &[&format!("{TAG} nonsense")],
        ] {
            assert!(!known(values), "{values:?}");
        }
    }

    #[test]
    fn a_condition_for_creating_names_strong_tags_of_lists() {
        let expected = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("if-match", *value)).collect();
            if_match(&head(&fields))
        };
        let state = ListState::parse(TAG.trim_matches('"')).expect("a state");
        let of = |states: &[ListState]| Some(Expected::OneOf(states.to_vec()));
        assert_eq!(expected(&[]), None);
        assert_eq!(expected(&[" * "]), Some(Expected::Any));
        assert_eq!(expected(&[TAG]), of(&[state]));
        assert_eq!(expected(&["\"x\"", TAG]), of(&[state]));
        assert_eq!(
            expected(&[&format!("\"a,b\" ,W/{TAG},, {TAG}")]),
            of(&[state])
        );
        for nothing in [
            "",
            "\"*\"",
            "nonsense",
            &format!("W/{TAG}"),
            &TAG.to_uppercase(),
            TAG.trim_matches('"'),
            &format!("{TAG} nonsense"),
            &TAG.replace("00", "+0"),
        ] {
            assert_eq!(expected(&[nothing]), of(&[]), "{nothing:?}");
        }
    }

    #[test]
    fn representations_have_tags_of_their_own() {
        let of = ETag::of_representation;
        assert_eq!(of("a").to_string().len(), TAG.len());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}
