//! The pages' figures of speed are those that `cargo xtask bench --growth` wrote into docs/growth.json.

use serde_json::Value;

use crate::read;

#[test]
fn the_pages_have_the_figures_of_the_bench() {
    let report: Value = serde_json::from_str(&read("docs/growth.json")).unwrap();
    let lines = report["lines"].as_array().unwrap();
    let figures = |name: &str| {
        let is_it = |line: &&Value| line["grows"] == "clients" && line["value"] == 64 && line["name"] == name;
        let line = lines.iter().find(is_it).unwrap();
        let host = &line["processor"];
        let host = host.get("host").or(host.get(0)).and_then(Value::as_f64).unwrap();
        let hundreds = (line["rate"]["median"].as_f64().unwrap() / 100.0).round();
        (format!("{host:.0}"), format!("{},{}00", hundreds.div_euclid(10.0), hundreds.rem_euclid(10.0)))
    };
    let ((create, creations), (replay, replays)) = (figures("create"), figures("replay"));
    for (page, figures) in [
        ("README.md", format!("creates {creations} orders or replays {replays}")),
        ("docs/capacity.md", format!("creation | {create} µs")),
        ("docs/capacity.md", format!("{create} us + 0.05 x {replay} us")),
    ] {
        assert!(read(page).contains(&figures), "{page} does not have: {figures}");
    }
}
