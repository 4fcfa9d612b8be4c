//! Failover: a primary is killed or fenced, a standby is promoted, the links lead to it, and another standby is made.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devstack::process::local;
use devstack::replication::STANDBYS;
use devstack::{Postgres, Programs, Redis};
use fixtures::replication::{Replication, crash_while_a_commit_waits, fence, set_replication, wait_for_standby};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::deployment::{Deployment, connect, link};
use crate::fault::command;
use crate::history::{History, Promotion};
use crate::proxy::Link;

/// How long a new replica of Redis may take to have all data, and a standby of Postgres to follow a new primary.
const TIME_OUT: Duration = Duration::from_secs(20);
/// How often a standby is asked for its state.
const POLL: Duration = Duration::from_millis(20);

/// How a standby of Postgres comes to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failover {
    /// The primary is killed. Commits have waited for a standby.
    Synchronous,
    /// The primary is killed. The standbys lack the last commits.
    Asynchronous,
    /// The standbys are cut off, a process whose commit waits for them is killed, and the primary restarts itself: it
    /// shows commits that no standby has. Then the primary is killed.
    AfterCrash,
    /// The primary takes no writes any more. It stays up, and so do the connections to it.
    Switchover,
}

impl Failover {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Synchronous, Self::Asynchronous, Self::AfterCrash, Self::Switchover];

    /// Whether acknowledged orders may be lost.
    pub fn loses(self) -> bool {
        self == Self::Asynchronous
    }
}

/// A standby of Postgres.
struct Standby {
    name: &'static str,
    server: Postgres,
    /// Its link to the primary.
    link: Link,
    /// Whether a fault cuts it off.
    is_cut: bool,
}

impl Standby {
    fn cut_off(&self) {
        self.link.refuse(true);
        self.link.cut();
    }

    /// Waits until nothing more arrives from the primary, and says how far its log reaches.
    async fn position(&self) -> Result<i64> {
        let client = connect(&self.server).await?;
        let arrives = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        while client.query_one(arrives, &[]).await?.try_get::<_, i64>(0)? > 0 {
            sleep(POLL).await;
        }
        let position = "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint";
        Ok(client.query_one(position, &[]).await?.try_get(0)?)
    }
}

/// The servers that take over.
pub struct Standbys {
    programs: Programs,
    folder: PathBuf,
    links: Handle,
    /// One less from a promotion until another one is made.
    postgres: Vec<Standby>,
    /// The primary before a switchover.
    fenced: Option<Postgres>,
    redis: Option<Redis>,
    /// The number of servers started, which is in the names of their folders.
    servers: usize,
}

impl Standbys {
    /// None so far. Their links are opened on another runtime.
    pub fn none(programs: &Programs, folder: &Path, links: &Handle) -> Self {
        let (programs, folder, links) = (programs.clone(), folder.to_owned(), links.clone());
        Self { programs, folder, links, postgres: Vec::new(), fenced: None, redis: None, servers: 0 }
    }

    fn new_folder(&mut self, store: &str) -> PathBuf {
        self.servers += 1;
        self.folder.join(format!("{store}-{}", self.servers))
    }

    /// Makes the standbys that are missing. From then on, each commit waits for a standby.
    async fn complete_postgres(&mut self, primary: &Postgres) -> Result<()> {
        // A standby keeps the setting for the time when it is promoted, and a copy has it as well.
        for server in self.postgres.iter().map(|standby| &standby.server).chain([primary]) {
            set_replication(server, Replication::Synchronous).await?;
        }
        for name in STANDBYS {
            if !self.postgres.iter().any(|standby| standby.name == name) {
                let folder = self.new_folder("postgres");
                let link = link(&self.links, local(primary.port())).await?;
                let started = Postgres::start_standby_named(name, &self.programs, &folder, link.address());
                let server = started.context("starting a standby")?;
                self.postgres.push(Standby { name, server, link, is_cut: false });
            }
        }
        wait_for_standby(primary).await?;
        let connected = self.postgres.iter().filter(|standby| !standby.is_cut).count();
        let (client, deadline) = (connect(primary).await?, Instant::now() + TIME_OUT);
        let following = "SELECT count(*)::int FROM pg_stat_replication WHERE state = 'streaming'";
        while usize::try_from(client.query_one(following, &[]).await?.try_get::<_, i32>(0)?)? < connected {
            ensure!(Instant::now() < deadline, "a standby did not follow the primary within {TIME_OUT:?}");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Cuts the oldest standby off, or no standby.
    pub fn cut_one(&mut self, is_cut: bool) -> Result<()> {
        for (number, standby) in self.postgres.iter_mut().enumerate() {
            standby.is_cut = is_cut && number == 0;
            standby.link.refuse(standby.is_cut);
            if standby.is_cut {
                standby.link.cut();
            }
        }
        Ok(())
    }

    /// Gives a master a new replica.
    async fn follow_redis(&mut self, master: &Redis) -> Result<()> {
        let folder = self.new_folder("redis");
        let replica = Redis::start(&self.programs, &folder).context("starting a replica")?;
        let port = master.port().to_string();
        let () = command(&replica, &["REPLICAOF", "127.0.0.1", &port])?;
        let deadline = Instant::now() + TIME_OUT;
        while !command::<String>(&replica, &["INFO", "replication"])?.contains("master_link_status:up") {
            ensure!(Instant::now() < deadline, "the replica of Redis did not get its data within {TIME_OUT:?}");
            sleep(POLL).await;
        }
        self.redis = Some(replica);
        Ok(())
    }
}

impl Deployment {
    /// Promotes the standby of Postgres that has most of the log: it has all that was acknowledged, and the other one
    /// can follow it.
    ///
    /// With asynchronous replication and after a crash, the standbys miss what is committed during `lag`. With
    /// synchronous replication the new primary's commits wait for the other standby, as with CloudNativePG's
    /// `dataDurability: required`: if it did without, a second failure could lose what it acknowledges.
    pub async fn fail_over_postgres(&mut self, failover: Failover, lag: Duration, history: &History) -> Result<()> {
        let from_ms = history.now();
        let standbys = &mut self.standbys.postgres;
        if failover.loses() {
            for server in standbys.iter().map(|standby| &standby.server).chain([&self.postgres]) {
                set_replication(server, Replication::Asynchronous).await?;
            }
        }
        if let Failover::Asynchronous | Failover::AfterCrash = failover {
            standbys.iter().for_each(Standby::cut_off);
            if failover == Failover::AfterCrash {
                crash_while_a_commit_waits(&self.postgres).await?;
            }
            // After a crash clients repeat their requests, and find what must not be acknowledged.
            sleep(lag).await;
        }
        match failover {
            Failover::Switchover => {
                fence(&self.postgres).await?;
                wait_for_standby(&self.postgres).await?;
            }
            _ => self.postgres.kill()?,
        }
        let mut positions = Vec::new();
        for (number, standby) in standbys.iter().enumerate() {
            standby.cut_off();
            positions.push((standby.position().await?, number));
        }
        let (_, chosen) = positions.into_iter().max().context("there is no standby")?;
        let promoted = standbys.remove(chosen).server;
        promoted.promote()?;
        let old = std::mem::replace(&mut self.postgres, promoted);
        // No client writes yet: the links still lead to the old primary.
        let stored = connect(&self.postgres).await?.query("SELECT order_id::text FROM orders", &[]).await?;
        let survivors = stored.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
        let (loses, old_stays) = (failover.loses(), failover == Failover::Switchover);
        let promotion = Promotion { from_ms, to_ms: history.now(), loses, old_stays, survivors };
        history.events().promotions.push(promotion);
        let address = local(self.postgres.port());
        for linked in &self.hosts {
            match failover {
                Failover::Switchover => linked.postgres.lead_new_to(address),
                _ => linked.postgres.lead_to(address),
            }
        }
        for standby in standbys {
            standby.link.lead_to(address);
            standby.link.refuse(standby.is_cut);
        }
        match failover {
            Failover::Switchover => self.standbys.fenced = Some(old),
            _ => old.discard()?,
        }
        Ok(())
    }

    /// Ends the primary before a switchover, and makes the standby of Postgres that is missing.
    pub async fn complete_postgres(&mut self) -> Result<()> {
        if let Some(old) = self.standbys.fenced.take() {
            old.discard()?;
        }
        self.start_postgres()?;
        self.standbys.complete_postgres(&self.postgres).await
    }

    /// Starts Postgres again, if it is stopped and no other server has taken over.
    pub fn start_postgres(&mut self) -> Result<()> {
        if self.postgres.process_id().is_some() { Ok(()) } else { self.postgres.restart() }
    }

    /// Kills the master of Redis and promotes its replica, which has missed what was written during `lag`.
    pub async fn fail_over_redis(&mut self, lag: Duration) -> Result<()> {
        let replica = self.standbys.redis.take();
        let replica = replica.context("there is no replica")?;
        let () = command(&replica, &["REPLICAOF", "NO", "ONE"])?;
        sleep(lag).await;
        let mut old = std::mem::replace(&mut self.redis, replica);
        old.kill()?;
        for linked in &self.hosts {
            linked.redis.lead_to(local(self.redis.port()));
        }
        Ok(())
    }

    /// Gives the master of Redis a replica.
    pub async fn complete_redis(&mut self) -> Result<()> {
        self.standbys.follow_redis(&self.redis).await
    }
}
