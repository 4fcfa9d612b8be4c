//! The simulation can fail: it catches each broken variant within a few seconds.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use simulation::broken::Break;
use simulation::coverage::Coverage;
use simulation::exhaustive::exhaust;
use simulation::report::{FIRST, OUTAGES, exhaustive_part, simulate};

/// The time for each variant; most need milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Otherwise every variant would be caught for a mistake of the checker.
#[test]
fn the_protocol_itself_passes() {
    for (scenario, bound) in exhaustive_part() {
        if [FIRST, OUTAGES].contains(&bound) {
            let mut coverage = Coverage::default();
            let outcome = exhaust(None, &scenario, bound, &mut coverage, &AtomicBool::new(false));
            assert!(outcome.is_ok(), "{scenario:?}: {:?}", outcome.err());
        }
    }
}

#[test]
fn the_page_for_students_names_mistakes() {
    let page = include_str!("../../../docs/from-the-homework.md");
    let named = page.split("--mistake ").skip(1).filter_map(|text| text.split(['`', '\n']).next());
    let known: Vec<String> = Break::ALL.iter().map(|mistake| format!("{mistake:?}")).collect();
    let (known, unknown): (Vec<_>, Vec<_>) = named.partition(|name| known.iter().any(|known| known == name));
    assert!(known.len() == 5 && unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_broken_variant_is_caught() {
    let mut uncaught = Vec::new();
    for broken in Break::ALL {
        let start = Instant::now();
        let report = simulate(Some(*broken), 1, start + TIME_LIMIT, &|_| {});
        match report.finding {
            Some(finding) => {
                println!(
                    "{:<100} caught in {:>6} ms, after {} schedules",
                    broken.text(),
                    start.elapsed().as_millis(),
                    report.coverage.schedules
                );
                println!("{}", finding.text);
                assert!(finding.text.contains("VIOLATION"));
            }
            None => uncaught.push(broken.text()),
        }
    }
    assert!(uncaught.is_empty(), "not caught: {uncaught:?}");
}
