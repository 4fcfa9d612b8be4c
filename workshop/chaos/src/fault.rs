//! The kinds of faults, how each is injected, and how it is removed.

use std::time::Duration;

use anyhow::{Context, Result};
use devstack::Redis;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::deployment::{Deployment, HOSTS, Linked};
use crate::failover::Failover;
use crate::history::History;
use crate::proxy::{End, Link};

/// How long the commands of this program to Redis may take.
const COMMAND_TIME_OUT: Duration = Duration::from_secs(10);
/// The memory limit of Redis when it is not full.
const MEMORY: &str = "256mb";

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A host is killed, and later started again at its address.
    HostKilled,
    HostPaused,
    /// Redis is killed and restarted with its data.
    RedisKilled,
    /// Redis is killed and restarted without its data.
    RedisLost,
    RedisPaused,
    /// All keys in Redis are deleted.
    RedisFlushed,
    /// Redis has no memory left.
    RedisFull,
    /// The master of Redis is killed, and its replica is promoted, which lacks the last writes.
    RedisFailover,
    /// Postgres stops immediately, and later recovers from its log.
    PostgresStopped,
    /// Postgres shuts down and is started again.
    PostgresRestarted,
    /// One of the standbys of Postgres is cut off from the primary.
    StandbyCut,
    /// A standby of Postgres is promoted.
    PostgresFailover(Failover),
    /// Links to a store are damaged.
    Link(Store, Damage),
}

/// The store that a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    Redis,
    Postgres,
}

/// How a link is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// Its connections are reset, twice.
    Cut,
    /// Its connections are reset, and new ones are rejected.
    Refused,
    /// No bytes pass.
    Stalled,
    /// One end reads the end of the stream.
    HalfClosed(End),
}

impl Kind {
    /// The failovers.
    pub fn failovers() -> Vec<Self> {
        let of_postgres = Failover::ALL.map(Self::PostgresFailover).into_iter();
        of_postgres.chain([Self::RedisFailover]).collect()
    }

    /// All kinds.
    pub fn all() -> Vec<Self> {
        use Damage::{Cut, HalfClosed, Refused, Stalled};
        let of_hosts = [Self::HostKilled, Self::HostPaused];
        let of_redis = [Self::RedisKilled, Self::RedisLost, Self::RedisPaused, Self::RedisFlushed, Self::RedisFull];
        let damages = [Cut, Refused, Stalled, HalfClosed(End::Host), HalfClosed(End::Store)];
        let links = [Store::Redis, Store::Postgres].map(|store| damages.map(|damage| Self::Link(store, damage)));
        let others = of_hosts.into_iter().chain(of_redis).chain([
            Self::PostgresStopped,
            Self::PostgresRestarted,
            Self::StandbyCut,
        ]);
        others.chain(links.into_iter().flatten()).chain(Self::failovers()).collect()
    }

    /// Whether both faults can be active at the same time and be removed one after the other.
    pub fn is_compatible_with(self, other: Self) -> bool {
        let part = |kind| match kind {
            Self::HostKilled | Self::HostPaused => "hosts",
            Self::PostgresStopped | Self::PostgresRestarted => "primary",
            Self::StandbyCut => "standby",
            Self::PostgresFailover(_) => "promotion",
            Self::Link(Store::Redis, _) => "links to redis",
            Self::Link(Store::Postgres, _) => "links to postgres",
            _ => "redis",
        };
        part(self) != part(other) && !self.would_disturb(other) && !other.would_disturb(self)
    }

    /// Whether hosts or Postgres would be unreachable for a failover that needs them: lost orders could not be healed
    /// in time, no commit would wait before the crash, or the primary could not be fenced. (Redis may be: that costs a
    /// few hundred milliseconds.)
    fn would_disturb(self, failover: Self) -> bool {
        let is_down = matches!(self, Self::PostgresStopped | Self::PostgresRestarted);
        let is_unreachable = matches!(self, Self::HostKilled | Self::HostPaused | Self::Link(Store::Postgres, _));
        match failover {
            Self::PostgresFailover(Failover::Asynchronous | Failover::AfterCrash) => is_down || is_unreachable,
            Self::PostgresFailover(Failover::Switchover) => is_down,
            _ => false,
        }
    }
}

/// A fault to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// The numbers of the hosts that it concerns; empty if it concerns a store.
    hosts: Vec<usize>,
    /// In a failover, how long the standby misses all writes before it is promoted.
    lag: Duration,
}

impl Fault {
    /// A fault of this kind for random hosts: at least every second time for one host only.
    pub fn random(kind: Kind, rng: &mut StdRng) -> Self {
        let how_many = match kind {
            Kind::HostKilled | Kind::HostPaused | Kind::Link(..) if rng.random_bool(0.5) => 1,
            Kind::HostKilled | Kind::HostPaused | Kind::Link(..) => rng.random_range(1..=HOSTS),
            _ => 0,
        };
        let mut hosts = (0..HOSTS).sample(rng, how_many);
        hosts.sort_unstable();
        Self { kind, hosts, lag: Duration::from_millis(rng.random_range(200..=1000)) }
    }

    /// Injects the fault.
    pub async fn begin(&self, deployment: &mut Deployment, history: &History) -> Result<()> {
        match self.kind {
            Kind::PostgresFailover(failover) => deployment.fail_over_postgres(failover, self.lag, history).await,
            Kind::RedisFailover => deployment.fail_over_redis(self.lag).await,
            Kind::HostKilled => self.each(deployment, |linked| linked.host.app.kill()),
            Kind::HostPaused => self.each(deployment, |linked| linked.host.app.pause()),
            Kind::RedisKilled | Kind::RedisLost => deployment.redis.kill(),
            Kind::RedisPaused => deployment.redis.pause(),
            Kind::RedisFlushed => command(&deployment.redis, &["FLUSHALL"]),
            Kind::RedisFull => command(&deployment.redis, &["CONFIG", "SET", "maxmemory", "1"]),
            Kind::PostgresStopped => deployment.postgres.stop_immediately(),
            Kind::PostgresRestarted => deployment.postgres.stop(),
            Kind::StandbyCut => deployment.standbys.cut_one(true),
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
    pub async fn repeat(&self, deployment: &mut Deployment, history: &History) -> Result<()> {
        match self.kind {
            Kind::RedisFlushed | Kind::Link(_, Damage::Cut | Damage::HalfClosed(_)) => {
                self.begin(deployment, history).await
            }
            _ => Ok(()),
        }
    }

    /// Removes the fault.
    pub async fn end(&self, deployment: &mut Deployment) -> Result<()> {
        match self.kind {
            Kind::HostKilled => self.each(deployment, |linked| linked.host.restart()),
            Kind::HostPaused => self.each(deployment, |linked| linked.host.app.resume()),
            Kind::RedisKilled => deployment.redis.restart(),
            Kind::RedisLost => deployment.redis.restart_empty(),
            Kind::RedisPaused => deployment.redis.resume(),
            Kind::RedisFlushed => Ok(()),
            Kind::RedisFull => command(&deployment.redis, &["CONFIG", "SET", "maxmemory", MEMORY]),
            Kind::RedisFailover => deployment.complete_redis().await,
            Kind::PostgresStopped | Kind::PostgresRestarted => deployment.start_postgres(),
            Kind::StandbyCut => deployment.standbys.cut_one(false),
            Kind::PostgresFailover(_) => deployment.complete_postgres().await,
            Kind::Link(_, damage) => self.each_link(deployment, |link| match damage {
                Damage::Refused => link.refuse(false),
                Damage::Stalled => link.stall(false),
                // Half-closed connections would otherwise stay half-closed.
                Damage::Cut | Damage::HalfClosed(_) => link.cut(),
            }),
        }
    }

    fn each(&self, deployment: &mut Deployment, mut act: impl FnMut(&mut Linked) -> Result<()>) -> Result<()> {
        for (number, host) in deployment.hosts.iter_mut().enumerate() {
            if self.hosts.contains(&number) {
                act(host).with_context(|| format!("host {number}"))?;
            }
        }
        Ok(())
    }

    fn each_link(&self, deployment: &mut Deployment, act: impl Fn(&Link)) -> Result<()> {
        self.each(deployment, |linked| {
            match self.kind {
                Kind::Link(Store::Postgres, _) => act(&linked.postgres),
                _ => act(&linked.redis),
            }
            Ok(())
        })
    }
}

/// Sends a command to a Redis server, not through a link.
pub fn command<T: redis::FromRedisValue>(server: &Redis, words: &[&str]) -> Result<T> {
    let send = || -> redis::RedisResult<T> {
        let client = redis::Client::open(server.url())?;
        let mut connection = client.get_connection_with_timeout(COMMAND_TIME_OUT)?;
        connection.set_read_timeout(Some(COMMAND_TIME_OUT))?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut connection)
    };
    send().with_context(|| format!("Redis, {}", words.join(" ")))
}

/// Some kinds in random order, without end: each occurs once before any occurs again, so that even a short run has
/// all of them.
pub struct Sequence {
    kinds: Vec<Kind>,
    next: Vec<Kind>,
}

impl Sequence {
    /// A random sequence of these kinds.
    pub fn shuffled(kinds: Vec<Kind>, rng: &mut impl Rng) -> Self {
        let mut next = kinds.clone();
        next.shuffle(rng);
        Self { kinds, next }
    }

    /// The next kind that is compatible with others.
    pub fn next(&mut self, with: &[Kind], rng: &mut impl Rng) -> Option<Kind> {
        if self.next.is_empty() {
            *self = Self::shuffled(std::mem::take(&mut self.kinds), rng);
        }
        let fits = |kind: &Kind| with.iter().all(|other| kind.is_compatible_with(*other));
        let at = self.next.iter().position(fits)?;
        Some(self.next.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn every_kind_occurs_before_any_occurs_again_and_only_compatible_ones_at_once() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sequence = Sequence::shuffled(Kind::all(), &mut rng);
        for _ in 0..3 {
            let next = Kind::all().into_iter().map(|_| sequence.next(&[], &mut rng).unwrap());
            assert_eq!(next.collect::<std::collections::HashSet<_>>().len(), Kind::all().len());
        }
        while let Some(kind) = sequence.next(&[Kind::RedisPaused], &mut rng) {
            assert!(kind.is_compatible_with(Kind::RedisPaused), "{kind:?}");
        }
        assert!(!sequence.next.is_empty(), "incompatible kinds stay in the sequence");
        let losing = Kind::PostgresFailover(Failover::Asynchronous);
        assert!(!Kind::HostPaused.is_compatible_with(losing) && !losing.is_compatible_with(Kind::HostPaused));
        assert!(Kind::RedisFlushed.is_compatible_with(losing));
        let together = [Kind::StandbyCut, Kind::PostgresStopped, Kind::PostgresFailover(Failover::Synchronous)];
        for (number, kind) in together.iter().enumerate() {
            assert!(together.iter().skip(number + 1).all(|other| kind.is_compatible_with(*other)), "{kind:?}");
        }
    }
}
