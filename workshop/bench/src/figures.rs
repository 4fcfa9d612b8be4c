//! What is measured: samples, the medians of a row as a line, and the report with its table.

use std::fmt;

use serde::Serialize;

use crate::contestants::{Contestant, FLOOR, GOAL_CONNECTIONS, Row};
use crate::goals::Goal;

/// All samples of one row with one number of clients.
pub struct Measurement {
    pub row: Row,
    /// The name of the host; `None` for native rows.
    pub host: Option<String>,
    /// The number of clients.
    pub connections: usize,
    /// One sample for each round.
    pub samples: Vec<Sample>,
}

/// What one row reached in one round. Latencies are in microseconds.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Responses per second.
    pub rate: f64,
    /// The share of responses that are not a success, 0 to 1.
    pub refused: f64,
    /// The share of responses that Nagle's algorithm has held back, 0 to 1.
    pub stalls: f64,
    pub p50: f64,
    pub p99: f64,
    pub p99_no_stalls: f64,
    /// `None` where the system does not report it.
    pub processor: Option<ProcessorTime>,
}

/// Microseconds of processor time per response: of the process that serves, of the kernel for it, of Redis, of all
/// processes of Postgres, and of the load generator.
pub type ProcessorTime = [f64; 5];

/// Median and extremes of several values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min: *sorted.first()?, max: *sorted.last()? })
    }

    /// How far the extremes are apart, as a share of the median.
    pub fn width(&self) -> f64 {
        (self.max - self.min) / self.median.max(f64::MIN_POSITIVE)
    }
}

/// The median; `None` if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// The median of the ratios, taken round by round: a disturbance that slows a whole round does not change
/// them.
pub fn median_ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
    median(pairs.map(|(ours, theirs)| ours / theirs))
}

impl Measurement {
    /// One figure, one value for each round.
    pub fn each(&self, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }

    /// The process's own time per response: other load on the machine changes it least of all figures.
    pub fn user(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| Some(sample.processor?[0])))
    }

    fn processor(&self) -> Option<ProcessorTime> {
        let known: Option<Vec<ProcessorTime>> = self.samples.iter().map(|s| s.processor).collect();
        let known = known.filter(|known| !known.is_empty())?;
        Some([0, 1, 2, 3, 4].map(|part| {
            let times = known.iter().filter_map(|times| times.get(part).copied());
            median(times).unwrap_or(0.0)
        }))
    }

    /// The medians, and ratios to other rows of the same run.
    pub fn line(&self, grows: Grows, value: u64, all: &[Measurement]) -> Option<Line> {
        let against = |row: Option<Row>| {
            let other = find(all, row?, self.host.as_deref(), self.connections)?;
            median_ratio(&self.each(|s| s.rate), &other.each(|s| s.rate))
        };
        Some(Line {
            grows,
            value,
            name: self.row.name,
            host: self.host.clone(),
            connections: self.connections,
            user: self.user(),
            rate: Spread::of(self.each(|sample| sample.rate))?,
            refused: median(self.each(|sample| sample.refused))?,
            stalls: median(self.each(|sample| sample.stalls))?,
            p50: median(self.each(|sample| sample.p50))?,
            p99: median(self.each(|sample| sample.p99))?,
            to_native: against(self.row.of(Contestant::Native)),
            to_floor: against(Some(FLOOR)),
            to_bare: against(self.row.of(Contestant::Bare)),
            processor: self.processor(),
        })
    }
}

/// Finds the measurement of a row with a number of clients: on this host, or on none if the row is native.
pub fn find<'m>(all: &'m [Measurement], row: Row, host: Option<&str>, connections: usize) -> Option<&'m Measurement> {
    let host = host.filter(|_| row.contestant != Contestant::Native);
    all.iter().find(|m| m.row == row && m.host.as_deref() == host && m.connections == connections)
}

/// The machine that the figures were measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// The number of cores that the process may use.
    pub cores: usize,
    /// The load average of the last minute before the run. Other processes disturb the measurement.
    pub load_before: String,
}

impl Machine {
    /// This machine, before the run loads it.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let name = cpus.lines().find_map(|l| l.strip_prefix("model name"));
        let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
        let load = read("/proc/loadavg");
        Self {
            processor: name.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// What grows from line to line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Grows {
    /// The clients that send requests at the same time.
    Clients,
    /// The orders in the table, which is partitioned.
    StoredOrders,
    /// The bytes of an order's JSON.
    OrderBytes,
    /// The orders of the customer that sends the requests.
    OrdersOfCustomer,
}

impl Grows {
    /// Its name in tables and charts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::StoredOrders => "stored orders",
            Self::OrderBytes => "bytes of an order",
            Self::OrdersOfCustomer => "orders of the customer",
        }
    }
}

/// One row at one value of what grows: medians over the rounds. Latencies are in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub grows: Grows,
    /// How much of it there is.
    pub value: u64,
    /// The row's name.
    pub name: &'static str,
    /// The host's name; `None` for native rows.
    pub host: Option<String>,
    /// The number of clients.
    pub connections: usize,
    /// The host's own processor time per response, in microseconds.
    pub user: Option<Spread>,
    /// Responses per second.
    pub rate: Spread,
    /// The share of responses that are not a success, 0 to 1.
    pub refused: f64,
    /// The share of responses that Nagle's algorithm has held back, 0 to 1.
    pub stalls: f64,
    pub p50: f64,
    pub p99: f64,
    /// Its rate divided by the rate of the native service with the same workload.
    pub to_native: Option<f64>,
    /// Its rate divided by the rate of the floor on the same host.
    pub to_floor: Option<f64>,
    /// Its rate divided by the rate of the bare component with the same workload on the same host.
    pub to_bare: Option<f64>,
    pub processor: Option<ProcessorTime>,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Whether this was a quick run.
    pub quick: bool,
    /// The number of rounds that each figure is the median of.
    pub rounds: usize,
    /// The lines with the same thing that grows are neighbours.
    pub lines: Vec<Line>,
    /// The goals; none of the growth run.
    pub goals: Vec<Goal>,
    /// The bytes of an order in Postgres, with its share of the indexes; only of the growth run.
    pub order_bytes: Option<f64>,
}

/// The greatest spread of a run that says which goals are reached.
const VERDICT_SPREAD: f64 = 0.15;

impl Report {
    /// The greatest spread of a host's own time per response, of the rows with as many clients as most goals.
    fn spread(&self) -> f64 {
        let compared = self.lines.iter().filter(|it| it.host.is_some() && it.connections == GOAL_CONNECTIONS);
        compared.filter_map(|it| Some(it.user?.width())).fold(0.0, f64::max)
    }
}

const COLUMNS: &str = concat!(
    "row            user us  spread    req/s         min-max refused stalls    p50 ms    p99 ms",
    " x native  x floor   x bare system  redis     pg    wrk  on",
);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, rounds) = (&self.machine, self.rounds);
        writeln!(
            f,
            "{}, {} cores, load average before the run: {}\nEach figure is the median of {rounds} rounds. user, \
             system, redis, pg and wrk: microseconds of processor time per response, of the host, of the kernel for \
             it, and of others.",
            machine.processor, machine.cores, machine.load_before
        )?;
        for lines in self.lines.chunk_by(|a, b| a.grows == b.grows) {
            let grows = lines.first().map_or("", |line| line.grows.name());
            writeln!(f, "\n{grows:>22} {COLUMNS}")?;
            lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        if let Some(bytes) = self.order_bytes {
            writeln!(f, "\nAn order takes {bytes:.0} bytes in Postgres, with its indexes.")?;
        }
        for goals in self.goals.chunk_by(|a, b| a.host == b.host) {
            let host = goals.first().map_or("", |goal| goal.host.as_str());
            let heading = format!("goals on {host}");
            writeln!(f, "\n{heading:<50}       goal     measured  reached")?;
            for goal in goals {
                let verdict = match goal.is_reached().filter(|_| self.spread() <= VERDICT_SPREAD) {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "-",
                };
                writeln!(f, "{goal}  {verdict}")?;
            }
        }
        let count = |reached| {
            let goals = self.goals.iter();
            goals.filter(|goal| goal.is_reached() == reached).count()
        };
        let (missed, unmeasured) = (count(Some(false)), count(None));
        match self.goals.len() {
            0 => Ok(()),
            _ if self.spread() > VERDICT_SPREAD => writeln!(
                f,
                "\nNo verdict: the host's own time per response varies by {:.0} % between rounds.",
                self.spread() * 100.0
            ),
            all => writeln!(f, "\n{all} goals: {missed} missed, {unmeasured} not measured"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = format!("{:.0}-{:.0}", self.rate.min, self.rate.max);
        let refused = format!("{:.1} %", self.refused * 100.0);
        let (rate, p50, p99) = (self.rate.median, self.p50 / 1000.0, self.p99 / 1000.0);
        write!(f, "{:>22} {:<13} ", self.value, self.name)?;
        match self.user {
            Some(user) => write!(f, "{:>8.0} {:>5.0} % ", user.median, user.width() * 100.0)?,
            None => write!(f, "{:>8} {:>7} ", "-", "-")?,
        }
        write!(f, "{rate:>8.0} {spread:>15} ")?;
        write!(f, "{refused:>7} {:>4.1} % {p50:>9.2} {p99:>9.2}", self.stalls * 100.0)?;
        for ratio in [self.to_native, self.to_floor, self.to_bare] {
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            write!(f, " {ratio:>8}")?;
        }
        for time in self.processor.iter().flatten().skip(1) {
            write!(f, " {time:>6.0}")?;
        }
        write!(f, "  {}", self.host.as_deref().unwrap_or("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median([3.0, 1.0, 200.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 10.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_ratio_compares_values_of_the_same_round() {
        // The machine is four times slower in the last round; the ratio of each round stays the same.
        let ratio = median_ratio(&[80.0, 84.0, 20.0], &[100.0, 100.0, 25.0]);
        assert_eq!(ratio, Some(0.8));
        assert_eq!(median_ratio(&[1.0], &[0.0]), None);
    }
}
