//! Compares documents that differ by what is new each time: ids, times, tags, and how long something took.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// Words that are new each time, each between characters that are in no word.
static NEW: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used, reason = "a literal")]
    Regex::new(concat!(
        r"(?<id>^[[:xdigit:]]{8}(?:-[[:xdigit:]]{4}){3}-[[:xdigit:]]{12}$)|(?<tag>^[[:xdigit:]]{32}$)|",
        r"^[0-9]{4}(?:-[0-9]{2}){2}T(?:[0-9]{2}:){2}[0-9]{2}\.[0-9]{3}Z$"
    ))
    .expect("a pattern")
});

/// Whether two documents are equal but for ids, times, tags and durations, which are of the same form.
pub fn same_shape(a: &Value, b: &Value) -> bool {
    shape(a) == shape(b)
}

fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let of = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                ("latencyMs", Value::Number(_)) => (name.clone(), 0.into()),
                (_, value) => (name.clone(), shape(value)),
            };
            members.iter().map(of).collect()
        }
        Value::Array(elements) => elements.iter().map(shape).collect(),
        Value::String(text) => form(text).into(),
        other => other.clone(),
    }
}

/// A text with its ids, times and tags replaced.
pub fn form(text: &str) -> String {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let parts = text.split_inclusive(|c| !of_word(c)).map(|part| {
        let word = part.trim_end_matches(|c| !of_word(c));
        let kind = |found: &Captures| match (found.name("id"), found.name("tag")) {
            (Some(_), _) => "<id>",
            (_, Some(_)) => "<tag>",
            _ => "<time>",
        };
        NEW.replace(word, kind).into_owned() + part.strip_prefix(word).unwrap_or_default()
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_new_each_time_may_differ() {
        let same = |a: &str, b: &str| same_shape(&json!({"a": [a]}), &json!({"a": [b]}));
        let (id, other) = ("01a200a8-c63f-7136-bf4f-05cf9d2ee2a7", "01a2018a-6c9e-77d5-a30f-88dacc22e94a");
        assert!(same(id, other) && !same(id, "7"));
        assert!(same("2026-11-22T00:29:50.527Z", "2026-11-23T10:29:50.000Z"));
        assert!(!same("2026-11-22T00:29:50.527Z", "2026-11-23T10:29:50Z"));
        assert!(!same("n", "m"));
        assert!(same_shape(&json!({"latencyMs": 1.5}), &json!({"latencyMs": 2})));
        assert!(!same_shape(&json!([1]), &json!([1, 2])));
        let page = "/a?limit=1&cursor=01a2018a6c9e77d5a30f88dacc22e94a";
        assert_eq!(form(page), "/a?limit=1&cursor=<tag>");
    }
}
