//! Summarises measurements as the lines of a report.

use crate::contestants::FLOOR;
use crate::figures::{
    Goal, GuestShare, Line, Machine, Measurement, ProcessorTime, Report, Sample, find,
};
use crate::options::{GOAL_CONNECTIONS, ROUNDS, RUNNER};
use crate::statistics::{Spread, median, median_ratio};

/// A report of a run.
pub fn new(machine: Machine, quick: bool, lines: Vec<Line>, goals: Vec<Goal>) -> Report {
    Report {
        machine,
        quick,
        rounds: ROUNDS,
        lines,
        goals,
    }
}

/// This machine, before the run loads it.
pub fn machine() -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let name = cpus.lines().find_map(|l| l.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
    let load = read("/proc/loadavg");
    Machine {
        processor: name.unwrap_or(std::env::consts::ARCH).to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_before: load.split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// The lines of the table.
pub fn lines(measured: &[Measurement], guests: &[GuestShare]) -> Vec<Line> {
    let line = |measurement| line(measurement, measured, guests);
    measured.iter().filter_map(line).collect()
}

fn line(measurement: &Measurement, all: &[Measurement], guests: &[GuestShare]) -> Option<Line> {
    let rates = measurement.rates();
    let against = |name: &str, host: Option<&str>| {
        let other = find(all, name, host, measurement.connections)?;
        median_ratio(&rates, &other.rates())
    };
    let row = &measurement.row;
    let host = measurement.host.as_deref();
    let samples = &measurement.samples;
    Some(Line {
        name: row.name.to_owned(),
        host: measurement.host.clone(),
        connections: measurement.connections,
        rate: Spread::of(rates.iter().copied())?,
        p50: median(measurement.p50s())?,
        p99: median(measurement.p99s())?,
        to_native: row.native().and_then(|name| against(name, None)),
        to_floor: host.and_then(|host| against(FLOOR, Some(host))),
        to_bare: host.and_then(|host| against(row.bare()?, Some(host))),
        processor: processor_time(samples),
        guest_share: guests
            .iter()
            .find(|guest| guest.row == *row)
            .filter(|_| measurement.connections == GOAL_CONNECTIONS && host == Some(RUNNER))
            .map(|guest| guest.share),
    })
}

fn processor_time(samples: &[Sample]) -> Option<ProcessorTime> {
    let of = |part: fn(&ProcessorTime) -> f64| {
        median(
            samples
                .iter()
                .filter_map(|sample| sample.processor.as_ref().map(part)),
        )
    };
    Some(ProcessorTime {
        host: of(|time| time.host)?,
        redis: of(|time| time.redis)?,
        postgres: of(|time| time.postgres)?,
        generator: of(|time| time.generator)?,
    })
}
