//! Prints reports as tables.

use std::fmt;

use crate::figures::{
    Bound, FlagFigures, FlagLine, FlagReport, Goal, Line, Machine, ProcessorTime, Report,
};
use crate::growth::{Grows, GrowthLine, GrowthReport};
use crate::statistics::Spread;

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, load average before the run: {}",
            self.processor, self.cores, self.load_before
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "Each figure is the median of {} rounds. host, redis, pg and wrk: microseconds of processor time \
             per response. guest: the share of the host's processor time that the component's code takes.",
            self.rounds
        )?;
        let mut connections = 0;
        for line in &self.lines {
            if line.connections != connections {
                connections = line.connections;
                writeln!(f, "\n{connections} clients")?;
                writeln!(
                    f,
                    "{:<16} {:>8} {:>15} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6} {:>6} {:>6}  on",
                    "row",
                    "req/s",
                    "min-max",
                    "p50 ms",
                    "p99 ms",
                    "x native",
                    "x floor",
                    "x bare",
                    "host",
                    "redis",
                    "pg",
                    "wrk",
                    "guest",
                )?;
            }
            writeln!(f, "{line}")?;
        }
        let mut host = None;
        for goal in &self.goals {
            let on = goal.host.as_deref().unwrap_or("any host");
            if host != Some(on) {
                host = Some(on);
                let heading = format!("goals on {on}");
                writeln!(
                    f,
                    "\n{heading:<66} {:>10} {:>12}  reached",
                    "goal", "measured"
                )?;
            }
            writeln!(f, "{goal}")?;
        }
        let missed = self.goals.iter().filter(|g| g.is_reached() == Some(false));
        let left_out = self.goals.iter().filter(|g| g.is_reached().is_none());
        writeln!(
            f,
            "\n{} goals: {} missed, {} not measured in this run",
            self.goals.len(),
            missed.count(),
            left_out.count()
        )
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
        let Spread { median, min, max } = self.rate;
        write!(
            f,
            "{:<16} {median:>8.0} {:>15} {:>9.2} {:>9.2} {:>8} {:>8} {:>8}",
            self.name,
            format!("{min:.0}-{max:.0}"),
            self.p50 / 1000.0,
            self.p99 / 1000.0,
            ratio(self.to_native),
            ratio(self.to_floor),
            ratio(self.to_bare),
        )?;
        if let Some(ProcessorTime {
            host,
            redis,
            postgres,
            generator,
        }) = self.processor
        {
            write!(
                f,
                " {host:>7.0} {redis:>6.0} {postgres:>6.0} {generator:>6.0}"
            )?;
        }
        let guest = self
            .guest_share
            .map(|share| format!("{:.0} %", share * 100.0));
        write!(f, " {:>6}", guest.unwrap_or_default())?;
        write!(f, "  {}", self.host.as_deref().unwrap_or("-"))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.bound {
            Bound::AtLeast(bound) => (">=", bound),
            Bound::AtMost(bound) => ("<=", bound),
        };
        let digits = if bound.fract() == 0.0 { 0 } else { 2 };
        let bound = format!("{sign} {bound}{}", self.unit);
        let measured = match self.measured {
            // A whole-numbered bound must not hide the decimals of a small figure.
            Some(measured) if measured.abs() < 10.0 && measured.fract() != 0.0 => {
                format!("{measured:.2}{}", self.unit)
            }
            Some(measured) => format!("{measured:.digits$}{}", self.unit),
            None => "not measured".to_owned(),
        };
        let reached = match self.is_reached() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        write!(f, "{:<66} {bound:>10} {measured:>12}  {reached}", self.name)
    }
}

impl fmt::Display for FlagReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} clients; each figure is the median of {} rounds. total: --max-instance-reuse-count, at once: \
             --max-instance-concurrent-reuse-count, idle: --idle-instance-timeout. stmts: SQL statements per \
             created order. MB: resident memory of the host under load.",
            self.connections, self.rounds
        )?;
        writeln!(
            f,
            "\n{:>22} | {:>43} | {:>36} |",
            "flags", "create", "replay"
        )?;
        let figures = format!("{:>8} {:>9} {:>9} {:>7}", "req/s", "p50 ms", "p99 ms", "MB");
        writeln!(
            f,
            "{:>7} {:>7} {:>6} | {figures} {:>6} | {figures} | on",
            "total", "at once", "idle", "stmts"
        )?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for GrowthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "On {}; each figure is the median of {} rounds. host, redis and pg: microseconds of processor time per \
             response.",
            self.host, self.rounds
        )?;
        for grows in Grows::ALL {
            writeln!(
                f,
                "\n{:>22} {:<8} {:>8} {:>15} {:>7} {:>9} {:>9} {:>7} {:>6} {:>6}",
                grows.name(),
                "row",
                "req/s",
                "min-max",
                "refused",
                "p50 ms",
                "p99 ms",
                "host",
                "redis",
                "pg"
            )?;
            for line in self.lines.iter().filter(|line| line.grows == grows) {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for GrowthLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, min, max } = self.line.rate;
        write!(
            f,
            "{:>22} {:<8} {median:>8.0} {:>15} {:>7} {:>9.2} {:>9.2}",
            self.value,
            self.line.name,
            format!("{min:.0}-{max:.0}"),
            format!("{:.1} %", self.refused * 100.0),
            self.line.p50 / 1000.0,
            self.line.p99 / 1000.0,
        )?;
        if let Some(time) = self.line.processor {
            let ProcessorTime {
                host,
                redis,
                postgres,
                ..
            } = time;
            write!(f, " {host:>7.0} {redis:>6.0} {postgres:>6.0}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FlagLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statements = self.statements_per_creation;
        write!(
            f,
            "{:>7} {:>7} {:>6} | {} {:>6} | {} | {}",
            self.flags.reuse_count,
            self.flags.concurrent_reuse_count,
            self.flags.idle_timeout,
            self.create,
            statements.map_or("-".to_owned(), |count| format!("{count:.2}")),
            self.replay,
            self.host
        )
    }
}

impl fmt::Display for FlagFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.memory.map(|bytes| format!("{:.0}", bytes / 1e6));
        write!(
            f,
            "{:>8.0} {:>9.2} {:>9.2} {:>7}",
            self.rate.median,
            self.p50 / 1000.0,
            self.p99 / 1000.0,
            megabytes.unwrap_or("-".to_owned())
        )
    }
}
