//! Compares documents that differ by what is new each time: ids, times, tags, and how long something took.

use serde_json::Value;

/// Whether two documents are equal but for ids, times, tags and durations, which are of the same form.
pub fn same_shape(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    b.get(name).is_some_and(|other| match name.as_str() {
                        "latencyMs" => value.is_number() && other.is_number(),
                        _ => same_shape(value, other),
                    })
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_shape(a, b))
        }
        (Value::String(a), Value::String(b)) => form(a) == form(b),
        (a, b) => a == b,
    }
}

/// A text with its ids, times and tags replaced: runs of hexadecimal digits that are at least eight long and groups of
/// them, and the digits of times.
pub fn form(text: &str) -> String {
    let mut out = String::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (word, after) = rest.split_at(end);
        out.push_str(wildcard(word).unwrap_or(word));
        rest = after;
    }
    out
}

fn wildcard(word: &str) -> Option<&'static str> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    if groups == [8, 4, 4, 4, 12] && word.split('-').all(is_hex) {
        return Some("<id>");
    }
    if word.len() == 32 && is_hex(word) {
        return Some("<tag>");
    }
    let pattern: String = word
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    (pattern == "0000-00-00T00:00:00.000Z").then_some("<time>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_new_each_time_may_differ() {
        let order = |id: &str, at: &str, note: &str| json!({"orderId": id, "at": at, "note": note});
        let first = order(
            "01a200a8-c63f-7136-bf4f-05cf9d2ee2a7",
            "2026-11-22T00:29:50.527Z",
            "n",
        );
        let second = order(
            "01a2018a-6c9e-77d5-a30f-88dacc22e94a",
            "2026-11-23T10:29:50.000Z",
            "n",
        );
        assert!(same_shape(&first, &second));
        assert!(!same_shape(
            &first,
            &order("7", "2026-11-22T00:29:50.527Z", "n")
        ));
        let third = order(
            "01a2018a-6c9e-77d5-a30f-88dacc22e94a",
            "2026-11-23T10:29:50Z",
            "n",
        );
        assert!(!same_shape(&first, &third));
        let mut fourth = second.clone();
        fourth["note"] = json!("m");
        assert!(!same_shape(&first, &fourth));
        assert!(same_shape(
            &json!({"latencyMs": 1.5}),
            &json!({"latencyMs": 2})
        ));
        assert!(!same_shape(&json!([1]), &json!([1, 2])));
        assert_eq!(
            form("/a?limit=1&cursor=01a2018a6c9e77d5a30f88dacc22e94a"),
            "/a?limit=1&cursor=<tag>"
        );
    }
}
