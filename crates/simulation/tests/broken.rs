//! The simulation can fail: it catches each broken variant within a few seconds.

use std::time::{Duration, Instant};

use simulation::broken::{ALL, Break};
use simulation::report::simulate;
use simulation::scenario::Protocol;

/// The time for each variant; most need milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_broken_variant_is_caught() {
    let mut uncaught = Vec::new();
    for broken in &ALL {
        let broken: &'static Break = broken;
        let start = Instant::now();
        let report = simulate(broken, 1, start + TIME_LIMIT, &|_| {});
        match report.finding {
            Some(finding) => {
                println!(
                    "{:<36} caught in {:>6} ms, after {} schedules",
                    broken.name(),
                    start.elapsed().as_millis(),
                    report.coverage.schedules
                );
                println!("{}", finding.text);
                assert!(finding.text.contains("VIOLATION"));
            }
            None => uncaught.push(broken.name()),
        }
    }
    assert!(uncaught.is_empty(), "not caught: {uncaught:?}");
}
