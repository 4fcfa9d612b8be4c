//! Conditional requests (RFC 9110 section 13): conditions on a resource or list that is read, and on the list to which
//! a resource is added.

use exactly_once::ListState;
use exactly_once::condition::Expected;
use http::{StatusCode, header};

use crate::etag::ETag;
use crate::head::{Head, text};
use crate::outcome::Outcome;
use crate::problem::Problem;
use crate::response::Response;

/// The length of a [`ListState`] as text.
const STATE_CHARS: usize = 32;

impl Response {
    /// This response with its tag, or 304 if the client has it already. A response belongs to one customer: no cache
    /// may share it, and each cache must revalidate it. A proxy that compressed it would change its tag.
    ///
    /// # Errors
    /// `If-Match` does not name the tag. It is evaluated first (RFC 9110 section 13.2.2).
    pub(super) fn if_expected(self, etag: &ETag, head: &impl Head) -> Result<Self, Problem> {
        check_if_match(head, Some(etag))?;
        let known = if_none_match(head, etag);
        let answer = if known {
            Self { status: StatusCode::NOT_MODIFIED, headers: Vec::new(), body: String::new(), outcome: Outcome::Read }
        } else {
            self
        };
        Ok(answer
            .with(header::ETAG.as_str(), etag.to_string())
            .with(header::CACHE_CONTROL.as_str(), "private, no-cache, no-transform"))
    }
}

/// Evaluates `If-Match` of a request that reads something that exists. `etag` is its tag, if it has one. Tags are
/// compared strongly (RFC 9110 section 13.1.1).
///
/// # Errors
/// The header is present, is not `*` and does not name the tag.
pub(super) fn check_if_match(head: &impl Head, etag: Option<&ETag>) -> Result<(), Problem> {
    let values = head.values(header::IF_MATCH.as_str());
    let names_it = |value: &str| {
        let mut tags = tags(value).into_iter().flatten();
        let is_it = |tag: Tag| !tag.weak && etag.is_some_and(|etag| tag.opaque == etag.opaque());
        value.trim() == "*" || tags.any(is_it)
    };
    if values.is_empty() || values.iter().filter_map(|value| text(value)).any(names_it) {
        return Ok(());
    }
    Err(Problem::Changed { etag: etag.cloned() })
}

/// Evaluates `If-None-Match` of a creation. The list always exists, so `*` never holds (RFC 9110 section 13.1.2). The
/// list's tag could change between this check and the insertion.
///
/// # Errors
/// The header is present.
pub(super) fn refuse_if_none_match(head: &impl Head) -> Result<(), Problem> {
    let values = head.values(header::IF_NONE_MATCH.as_str());
    if values.is_empty() {
        return Ok(());
    }
    let any = |value: &Vec<u8>| text(value).is_some_and(|value| value.trim() == "*");
    match values.iter().any(any) {
        true => Err(Problem::ListExists),
        false => Err(Problem::UnsupportedCondition),
    }
}

/// Whether the header is present and names the tag or `*`. Tags are compared weakly. Values that are not a list of
/// tags name none.
fn if_none_match(head: &impl Head, etag: &ETag) -> bool {
    let values = head.values(header::IF_NONE_MATCH.as_str());
    values.iter().filter_map(|value| text(value)).any(|value| {
        let tags = || tags(value).into_iter().flatten();
        value.trim() == "*" || tags().any(|tag| tag.opaque == etag.opaque())
    })
}

/// The expected states of the list, if the header is present. Foreign tags name no state.
///
/// RFC 9110 section 13.1.1 demands a strong comparison, because two representations may share a weak tag. Here a tag
/// names a state, and all tags of this service are strong: one that comes back weak, or with a suffix, was changed by a
/// proxy that compressed the response, and names the same state.
///
/// # Errors
/// A value is not a list of tags. With a 412, the client would send it again in the same form.
pub(super) fn if_match(head: &impl Head) -> Result<Option<Expected>, Problem> {
    let values = head.values(header::IF_MATCH.as_str());
    let mut states = Vec::new();
    for value in &values {
        let value = text(value).unwrap_or_default();
        if value.trim() == "*" {
            return Ok(Some(Expected::Any));
        }
        let tags = tags(value).filter(|tags| !tags.is_empty());
        let tags = tags.ok_or(Problem::MalformedCondition)?.into_iter();
        states.extend(tags.filter_map(|tag| named_state(tag.opaque)));
    }
    Ok((!values.is_empty()).then_some(Expected::OneOf(states)))
}

/// The state that a tag names: nginx makes a tag weak, Apache and others add `-gzip` or `;br`.
fn named_state(opaque: &str) -> Option<ListState> {
    let (state, suffix) = opaque.split_at_checked(STATE_CHARS)?;
    let is_own = suffix.is_empty() || suffix.starts_with(['-', ';']);
    ListState::parse(state).filter(|_| is_own)
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
        TestHead { method: Method::Get, target: "/", fields }
    }

    fn known(values: &[&str]) -> bool {
        let fields: Vec<_> = values.iter().map(|value| ("if-none-match", *value)).collect();
        let state = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        let etag = ETag::of_state(&ListState::from_bytes(&state).expect("a state"));
        assert_eq!(etag.to_string(), TAG);
        let head = head(&fields);
        let answer = Response::json(StatusCode::OK, "{}".into()).if_expected(&etag, &head);
        let answer = answer.expect("no If-Match");
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
    fn a_condition_for_creating_names_states_of_the_list() {
        let expected = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("if-match", *value)).collect();
            if_match(&head(&fields))
        };
        let state = ListState::parse(TAG.trim_matches('"')).expect("a state");
        let of = |states: &[ListState]| Ok(Some(Expected::OneOf(states.to_vec())));
        assert_eq!(expected(&[]), Ok(None));
        assert_eq!(expected(&[" * "]), Ok(Some(Expected::Any)));
        assert_eq!(expected(&[TAG]), of(&[state]));
        assert_eq!(expected(&["\"x\"", TAG]), of(&[state]));
        assert_eq!(expected(&[&format!("\"a,b\" ,W/{TAG},, {TAG}")]), of(&[state, state]));
        for suffix in ["-gzip", "--gzip", ";br"] {
            assert_eq!(expected(&[&TAG.replace("ff\"", &format!("ff{suffix}\""))]), of(&[state]), "{suffix:?}");
        }
        for nothing in ["\"*\"", &TAG.replace("ff", "ffgzip"), &TAG.to_uppercase(), &TAG.replace("00", "+0")] {
            assert_eq!(expected(&[nothing]), of(&[]), "{nothing:?}");
        }
        for malformed in ["", ",", "nonsense", TAG.trim_matches('"'), &format!("{TAG} nonsense"), "\u{e9}"] {
            let error = Err(Problem::MalformedCondition);
            assert_eq!(expected(&[TAG, malformed]), error, "{malformed:?}");
        }
    }

    #[test]
    fn if_match_is_judged_when_reading_and_before_if_none_match() {
        let state = ListState::parse(TAG.trim_matches('"')).expect("a state");
        let etag = ETag::of_state(&state);
        let read = |fields: &[(&str, &str)]| {
            let answer = Response::json(StatusCode::OK, "{}".into());
            let answer = answer.if_expected(&etag, &head(fields));
            answer.map(|answer| answer.status.as_u16())
        };
        let weak = format!("W/{TAG}");
        let changed = Err(Problem::Changed { etag: Some(etag.clone()) });
        for good in [TAG, "*", &format!("\"x\", {TAG}")] {
            assert_eq!(read(&[("if-match", good)]), Ok(200), "{good}");
        }
        for bad in ["\"x\"", &weak, "", "nonsense"] {
            assert_eq!(read(&[("if-match", bad)]), changed, "{bad}");
        }
        let known = ("if-none-match", TAG);
        assert_eq!(read(&[("if-match", TAG), known]), Ok(304));
        assert_eq!(read(&[("if-match", "\"x\""), known]), changed);
        // A representation without a tag matches no tag.
        assert_eq!(check_if_match(&head(&[("if-match", "*")]), None), Ok(()));
        assert_eq!(check_if_match(&head(&[("if-match", TAG)]), None), Err(Problem::Changed { etag: None }));
    }

    #[test]
    fn a_creation_is_refused_on_if_none_match() {
        let refused = |value| refuse_if_none_match(&head(&[("if-none-match", value)]));
        assert_eq!(refused(" * "), Err(Problem::ListExists));
        assert_eq!(refused(TAG), Err(Problem::UnsupportedCondition));
        assert_eq!(refused(""), Err(Problem::UnsupportedCondition));
        assert_eq!(refuse_if_none_match(&head(&[])), Ok(()));
    }
}
