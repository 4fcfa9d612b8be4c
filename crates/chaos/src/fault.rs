//! What can be broken, how, and how it is mended.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::deployment::{Deployment, RUNNERS};
use crate::proxy::{End, Link};

/// How long our own commands to Redis may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
const MEMORY: &str = "256mb";

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A host is killed, and later served again at its address.
    RunnerKilled,
    /// A host stops running for a while.
    RunnerPaused,
    /// Redis is killed and comes back with what it had.
    RedisKilled,
    /// Redis is killed and comes back with nothing.
    RedisLost,
    /// Redis stops running for a while.
    RedisPaused,
    /// Redis is emptied.
    RedisFlushed,
    /// Redis has no memory left.
    RedisFull,
    /// Postgres stops at once, and later recovers from its log.
    PostgresStopped,
    /// Links to a store.
    Link(Store, Damage),
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// To Redis.
    Redis,
    /// To Postgres.
    Postgres,
}

/// What is done to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its connections are reset, again and again.
    Cut,
    /// Its connections are reset, and no new ones taken.
    Refused,
    /// Nothing gets through.
    Stalled,
    /// One end is told that the other has ended.
    HalfClosed(End),
}

impl Kind {
    /// All that can be broken.
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

    /// Its name, in the history and in what is printed.
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

    /// Whether both can be broken at once and mended one by one.
    pub fn goes_with(self, other: Self) -> bool {
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

/// Something that is to be broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Which hosts it concerns; none if it is a store.
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
    /// Picks the hosts: mostly one, sometimes several.
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

    /// Breaks it.
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

    /// Does again, in the midst of it, what lasts but a moment.
    pub fn repeat(&self, deployment: &mut Deployment) -> Result<()> {
        match self.kind {
            Kind::RedisFlushed | Kind::Link(_, Damage::Cut | Damage::HalfClosed(_)) => {
                self.begin(deployment)
            }
            _ => Ok(()),
        }
    }

    /// Mends it.
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
                // What was half-closed and is still open would stay so for good.
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

/// Tells Redis something, past all links.
fn command(deployment: &Deployment, words: &[&str]) -> Result<()> {
    let talk = || -> redis::RedisResult<()> {
        let client = redis::Client::open(deployment.redis.url())?;
        let mut connection = client.get_connection_with_timeout(COMMAND_PATIENCE)?;
        connection.set_read_timeout(Some(COMMAND_PATIENCE))?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.exec(&mut connection)
    };
    talk().with_context(|| format!("Redis, {}", words.join(" ")))
}

/// All kinds in random order, and again when they are used up: even a short run has all of them.
pub struct Deck(Vec<Kind>);

impl Deck {
    /// A shuffled one.
    pub fn shuffled(rng: &mut impl Rng) -> Self {
        let mut kinds = Kind::all();
        kinds.shuffle(rng);
        Self(kinds)
    }

    /// The next kind that may go with another.
    pub fn draw(&mut self, with: Option<Kind>, rng: &mut impl Rng) -> Option<Kind> {
        if self.0.is_empty() {
            *self = Self::shuffled(rng);
        }
        let fits = |kind: &Kind| with.is_none_or(|other| kind.goes_with(other));
        let at = self.0.iter().position(fits)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_deck_deals_every_kind_before_any_again() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut deck = Deck::shuffled(&mut rng);
        for _ in 0..3 {
            let mut names: Vec<_> = Kind::all()
                .iter()
                .map(|_| deck.draw(None, &mut rng).unwrap().name())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), Kind::all().len());
        }
    }

    #[test]
    fn a_deck_deals_only_what_goes_together() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut deck = Deck::shuffled(&mut rng);
        while let Some(kind) = deck.draw(Some(Kind::RedisPaused), &mut rng) {
            assert!(kind.goes_with(Kind::RedisPaused), "{kind:?}");
        }
        assert!(!deck.0.is_empty(), "what does not fit stays");
    }
}
