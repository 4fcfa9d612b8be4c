//! The kinds of faults, how each is injected, and how it is removed.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::deployment::{Deployment, RUNNERS};
use crate::proxy::{End, Link};

/// How long the commands of this program to Redis may take.
const COMMAND_TIME_OUT: Duration = Duration::from_secs(10);
/// The memory limit of Redis when it is not full.
const MEMORY: &str = "256mb";

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A host is killed, and later started again at its address.
    RunnerKilled,
    /// A host is paused.
    RunnerPaused,
    /// Redis is killed and restarted with its data.
    RedisKilled,
    /// Redis is killed and restarted without its data.
    RedisLost,
    /// Redis is paused.
    RedisPaused,
    /// All keys in Redis are deleted.
    RedisFlushed,
    /// Redis has no memory left.
    RedisFull,
    /// Postgres stops immediately, and later recovers from its log.
    PostgresStopped,
    /// Links to a store are damaged.
    Link(Store, Damage),
}

/// The store that a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Redis.
    Redis,
    /// Postgres.
    Postgres,
}

/// How a link is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its connections are reset, twice.
    Cut,
    /// Its connections are reset, and new ones are refused.
    Refused,
    /// No bytes pass.
    Stalled,
    /// One end reads the end of the stream.
    HalfClosed(End),
}

impl Kind {
    /// All kinds.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::RunnerKilled,
            Self::RunnerPaused,
            Self::RedisKilled,
            Self::RedisLost,
            Self::RedisPaused,
            Self::RedisFlushed,
            Self::RedisFull,
            Self::PostgresStopped,
        ];
        for store in [Store::Redis, Store::Postgres] {
            for damage in [
                Damage::Cut,
                Damage::Refused,
                Damage::Stalled,
                Damage::HalfClosed(End::Host),
                Damage::HalfClosed(End::Store),
            ] {
                all.push(Self::Link(store, damage));
            }
        }
        all
    }

    /// Its name, in the history and in messages.
    pub fn name(self) -> String {
        match self {
            Self::RunnerKilled => "runner killed".to_owned(),
            Self::RunnerPaused => "runner paused".to_owned(),
            Self::RedisKilled => "redis killed, restarted with its data".to_owned(),
            Self::RedisLost => "redis killed, restarted without its data".to_owned(),
            Self::RedisPaused => "redis paused".to_owned(),
            Self::RedisFlushed => "redis flushed".to_owned(),
            Self::RedisFull => "redis out of memory".to_owned(),
            Self::PostgresStopped => "postgres stopped (immediate)".to_owned(),
            Self::Link(store, damage) => {
                let store = match store {
                    Store::Redis => "redis",
                    Store::Postgres => "postgres",
                };
                let damage = match damage {
                    Damage::Cut => "cut",
                    Damage::Refused => "refused",
                    Damage::Stalled => "stalled",
                    Damage::HalfClosed(End::Host) => "half-closed towards the host",
                    Damage::HalfClosed(End::Store) => "half-closed towards the store",
                };
                format!("{store} link {damage}")
            }
        }
    }

    /// Whether both faults can be active at the same time and be removed one after the other.
    pub fn is_compatible_with(self, other: Self) -> bool {
        let part = |kind| match kind {
            Self::RunnerKilled | Self::RunnerPaused => 0,
            Self::RedisKilled
            | Self::RedisLost
            | Self::RedisPaused
            | Self::RedisFlushed
            | Self::RedisFull => 1,
            Self::PostgresStopped => 2,
            Self::Link(Store::Redis, _) => 3,
            Self::Link(Store::Postgres, _) => 4,
        };
        part(self) != part(other)
    }
}

/// A fault to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: Kind,
    /// The numbers of the hosts that it concerns; empty if it concerns a store.
    runners: Vec<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.name())?;
        match self.runners.as_slice() {
            [] => Ok(()),
            [one] => write!(f, " (runner {one})"),
            several => write!(f, " (runners {several:?})"),
        }
    }
}

impl Fault {
    /// A fault of this kind for random hosts: at least every second time for one host only.
    pub fn random(kind: Kind, rng: &mut StdRng) -> Self {
        let how_many = match kind {
            Kind::RunnerKilled | Kind::RunnerPaused | Kind::Link(..) => {
                if rng.random_bool(0.5) {
                    1
                } else {
                    rng.random_range(1..=RUNNERS)
                }
            }
            _ => 0,
        };
        let mut runners = (0..RUNNERS).sample(rng, how_many);
        runners.sort_unstable();
        Self { kind, runners }
    }

    /// Injects the fault.
    pub fn begin(&self, deployment: &mut Deployment) -> Result<()> {
        match self.kind {
            Kind::RunnerKilled => self.each(deployment, |runner| runner.app.kill()),
            Kind::RunnerPaused => self.each(deployment, |runner| runner.app.pause()),
            Kind::RedisKilled | Kind::RedisLost => deployment.redis.kill(),
            Kind::RedisPaused => deployment.redis.pause(),
            Kind::RedisFlushed => command(deployment, &["FLUSHALL"]),
            Kind::RedisFull => command(deployment, &["CONFIG", "SET", "maxmemory", "1"]),
            Kind::PostgresStopped => deployment.postgres.stop_immediately(),
            Kind::Link(_, damage) => self.each_link(deployment, |link| match damage {
                Damage::Cut => link.cut(),
                Damage::Refused => {
                    link.refuse(true);
                    link.cut();
                }
                Damage::Stalled => link.stall(true),
                Damage::HalfClosed(end) => link.half_close(end),
            }),
        }
    }

    /// Injects the fault once more if it has no duration.
    pub fn repeat(&self, deployment: &mut Deployment) -> Result<()> {
        match self.kind {
            Kind::RedisFlushed | Kind::Link(_, Damage::Cut | Damage::HalfClosed(_)) => {
                self.begin(deployment)
            }
            _ => Ok(()),
        }
    }

    /// Removes the fault.
    pub fn end(&self, deployment: &mut Deployment) -> Result<()> {
        match self.kind {
            Kind::RunnerKilled => self.each(deployment, |runner| runner.restart()),
            Kind::RunnerPaused => self.each(deployment, |runner| runner.app.resume()),
            Kind::RedisKilled => deployment.redis.restart(),
            Kind::RedisLost => deployment.redis.restart_empty(),
            Kind::RedisPaused => deployment.redis.resume(),
            Kind::RedisFlushed => Ok(()),
            Kind::RedisFull => command(deployment, &["CONFIG", "SET", "maxmemory", MEMORY]),
            Kind::PostgresStopped => deployment.postgres.restart(),
            Kind::Link(_, damage) => self.each_link(deployment, |link| match damage {
                Damage::Refused => link.refuse(false),
                Damage::Stalled => link.stall(false),
                // Half-closed connections would otherwise stay half-closed.
                Damage::Cut | Damage::HalfClosed(_) => link.cut(),
            }),
        }
    }

    fn each(
        &self,
        deployment: &mut Deployment,
        mut act: impl FnMut(&mut crate::deployment::Runner) -> Result<()>,
    ) -> Result<()> {
        for (number, runner) in deployment.runners.iter_mut().enumerate() {
            if self.runners.contains(&number) {
                act(runner).with_context(|| format!("runner {number}"))?;
            }
        }
        Ok(())
    }

    fn each_link(&self, deployment: &mut Deployment, act: impl Fn(&Link)) -> Result<()> {
        self.each(deployment, |runner| {
            match self.kind {
                Kind::Link(Store::Postgres, _) => act(&runner.postgres),
                _ => act(&runner.redis),
            }
            Ok(())
        })
    }
}

/// Sends a command to Redis, not through a link.
fn command(deployment: &Deployment, words: &[&str]) -> Result<()> {
    let send = || -> redis::RedisResult<()> {
        let client = redis::Client::open(deployment.redis.url())?;
        let mut connection = client.get_connection_with_timeout(COMMAND_TIME_OUT)?;
        connection.set_read_timeout(Some(COMMAND_TIME_OUT))?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.exec(&mut connection)
    };
    send().with_context(|| format!("Redis, {}", words.join(" ")))
}

/// All kinds in random order, without end: each kind occurs once before any occurs again, so that even a short
/// run has all of them.
pub struct Sequence(Vec<Kind>);

impl Sequence {
    /// A random sequence.
    pub fn shuffled(rng: &mut impl Rng) -> Self {
        let mut kinds = Kind::all();
        kinds.shuffle(rng);
        Self(kinds)
    }

    /// The next kind that is compatible with another.
    pub fn next(&mut self, with: Option<Kind>, rng: &mut impl Rng) -> Option<Kind> {
        if self.0.is_empty() {
            *self = Self::shuffled(rng);
        }
        let fits = |kind: &Kind| with.is_none_or(|other| kind.is_compatible_with(other));
        let at = self.0.iter().position(fits)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn every_kind_occurs_before_any_occurs_again() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sequence = Sequence::shuffled(&mut rng);
        for _ in 0..3 {
            let mut names: Vec<_> = Kind::all()
                .iter()
                .map(|_| sequence.next(None, &mut rng).unwrap().name())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), Kind::all().len());
        }
    }

    #[test]
    fn only_compatible_kinds_are_combined() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sequence = Sequence::shuffled(&mut rng);
        while let Some(kind) = sequence.next(Some(Kind::RedisPaused), &mut rng) {
            assert!(kind.is_compatible_with(Kind::RedisPaused), "{kind:?}");
        }
        assert!(
            !sequence.0.is_empty(),
            "incompatible kinds stay in the sequence"
        );
    }
}
