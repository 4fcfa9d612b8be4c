//! The violations that a response lists: few and short, whatever a client has sent.

use exactly_once::Violation;
use exactly_once::json::to_json;

/// How many violations a response lists at most.
const MAX_VIOLATIONS: usize = 50;
/// How long they may be in all, in bytes.
const MAX_VIOLATION_BYTES: usize = 8 * 1024;
/// The longest pointer that a response repeats, in bytes.
const MAX_POINTER_BYTES: usize = 256;

/// The first violations as JSON, as many as fit. A client chooses how many there are and how long their pointers:
/// without a limit, a response could be ten times as long as its request.
pub(crate) fn shown(violations: &[Violation]) -> Vec<String> {
    let mut bytes = 0;
    let fits = |violation: &String| {
        bytes += violation.len();
        bytes <= MAX_VIOLATION_BYTES
    };
    let first = violations.iter().take(MAX_VIOLATIONS);
    first.map(violation).take_while(fits).collect()
}

/// One violation. A long pointer is replaced by that of the object that contains the member.
fn violation(Violation { pointer, detail }: &Violation) -> String {
    let (mut parent, mut name) = (pointer.as_str(), "");
    while parent.len() > MAX_POINTER_BYTES {
        parent = parent.rsplit_once('/').map_or("", |(parent, _)| parent);
        name = "a member with a long name ";
    }
    let detail = to_json(&format!("{name}{detail}"));
    format!(r#"{{"detail":{detail},"pointer":{}}}"#, to_json(&parent))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn violations_are_few_and_short_enough() {
        let shown = |pointer: String, count| {
            let shown = shown(&vec![Violation::new(pointer, "is unknown"); count]);
            assert!(shown.join(",").len() < 9 * 1024);
            let first = shown.first().expect("the first");
            (shown.len(), serde_json::from_str::<Value>(first).expect("JSON"))
        };
        let first = json!({"pointer": "/0", "detail": "is unknown"});
        assert_eq!(shown("/0".into(), 50), (50, first.clone()));
        assert_eq!(shown("/0".into(), 7_000), (50, first));
        // Control characters take six bytes each.
        let (few, _) = shown("\u{1}".repeat(256), 50);
        assert!((4..10).contains(&few), "{few}");
        for (pointer, parent) in [
            (format!("/{}", "x".repeat(60_000)), ""),
            (format!("/items/7/{}", "x".repeat(256)), "/items/7"),
            (format!("/{}/y", "x".repeat(256)), ""),
        ] {
            let detail = "a member with a long name is unknown";
            let first = json!({"pointer": parent, "detail": detail});
            assert_eq!(shown(pointer, 1), (1, first));
        }
    }
}
