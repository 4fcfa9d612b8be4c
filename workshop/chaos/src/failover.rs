//! Failover: a primary is killed or fenced, its standby is promoted, the links lead to it, and it gets a standby of its
//! own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devstack::process::local;
use devstack::{Postgres, Programs, Redis};
use fixtures::replication::{Replication, crash_while_a_commit_waits, fence, set_replication, wait_for_standby};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::deployment::{Deployment, connect, link};
use crate::fault::command;
use crate::history::{History, Promotion};
use crate::proxy::Link;

/// How long a new replica of Redis may take to have all data.
const TIME_OUT: Duration = Duration::from_secs(20);

/// How a standby of Postgres comes to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failover {
    /// The primary is killed. Commits have waited for the standby.
    Synchronous,
    /// The primary is killed. The standby lacks the last commits.
    Asynchronous,
    /// The standby is cut off, a process whose commit waits for it is killed, and the primary restarts itself: it shows
    /// commits that no standby has. Then the primary is killed.
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

/// The servers that take over.
pub struct Standbys {
    programs: Programs,
    folder: PathBuf,
    /// From any standby to the primary of Postgres.
    replication: Link,
    /// `None` from a promotion until the new primary has a standby.
    postgres: Option<Postgres>,
    /// The primary before a switchover.
    fenced: Option<Postgres>,
    redis: Option<Redis>,
    /// The number of servers started, which is in the names of their folders.
    servers: usize,
}

impl Standbys {
    /// Starts a synchronous standby of Postgres and a replica of Redis.
    pub async fn start(
        programs: &Programs,
        folder: &Path,
        links: &Handle,
        redis: &Redis,
        postgres: &Postgres,
    ) -> Result<Self> {
        let mut standbys = Self {
            programs: programs.clone(),
            folder: folder.to_owned(),
            replication: link(links, local(postgres.port())).await?,
            postgres: None,
            fenced: None,
            redis: None,
            servers: 0,
        };
        standbys.follow_postgres(postgres).await?;
        standbys.follow_redis(redis).await?;
        Ok(standbys)
    }

    fn new_folder(&mut self, store: &str) -> PathBuf {
        self.servers += 1;
        self.folder.join(format!("{store}-{}", self.servers))
    }

    /// Gives the primary a new standby. From then on, commits wait for it.
    async fn follow_postgres(&mut self, primary: &Postgres) -> Result<()> {
        self.replication.refuse(false);
        self.replication.lead_to(local(primary.port()));
        let folder = self.new_folder("postgres");
        let address = self.replication.address();
        let standby = Postgres::start_standby(&self.programs, &folder, address).context("starting a standby")?;
        set_replication(&standby, Replication::Synchronous).await?;
        set_replication(primary, Replication::Synchronous).await?;
        wait_for_standby(primary).await?;
        self.postgres = Some(standby);
        Ok(())
    }

    /// Gives a master a new replica.
    async fn follow_redis(&mut self, master: &Redis) -> Result<()> {
        let folder = self.new_folder("redis");
        let replica = Redis::start(&self.programs, &folder).context("starting a replica")?;
        let port = master.port().to_string();
        let () = command(&replica, &["REPLICAOF", "127.0.0.1", &port])?;
        let deadline = Instant::now() + TIME_OUT;
        loop {
            let state: String = command(&replica, &["INFO", "replication"])?;
            if state.contains("master_link_status:up") {
                break;
            }
            ensure!(Instant::now() < deadline, "the replica of Redis did not get its data within {TIME_OUT:?}");
            sleep(Duration::from_millis(20)).await;
        }
        self.redis = Some(replica);
        Ok(())
    }
}

impl Deployment {
    /// Promotes the standby of Postgres.
    ///
    /// With asynchronous replication the standby is disconnected for `lag` before that, and misses what is committed
    /// meanwhile. With synchronous replication the new primary's commits wait until it has a standby of its own, as
    /// with CloudNativePG's `dataDurability: required`: if it did without, a second failure could lose what it
    /// acknowledges. It gets one at once.
    pub async fn fail_over_postgres(&mut self, failover: Failover, lag: Duration, history: &History) -> Result<()> {
        let from_ms = history.now();
        wait_for_standby(&self.postgres).await?;
        let standby = self.standbys.postgres.take();
        let standby = standby.context("there is no standby")?;
        if failover.loses() {
            set_replication(&standby, Replication::Asynchronous).await?;
            set_replication(&self.postgres, Replication::Asynchronous).await?;
        }
        match failover {
            Failover::Synchronous => {}
            Failover::Asynchronous | Failover::AfterCrash => {
                self.standbys.replication.refuse(true);
                self.standbys.replication.cut();
                sleep(lag).await;
            }
            Failover::Switchover => {
                fence(&self.postgres).await?;
                wait_for_standby(&self.postgres).await?;
            }
        }
        if failover == Failover::AfterCrash {
            crash_while_a_commit_waits(&self.postgres).await?;
            // Clients repeat their requests, and find what must not be acknowledged.
            sleep(lag).await;
        }
        let mut old = std::mem::replace(&mut self.postgres, standby);
        if failover != Failover::Switchover {
            old.kill()?;
        }
        self.postgres.promote()?;
        // No client writes yet: the links still lead to the old primary.
        let stored = connect(&self.postgres).await?.query("SELECT order_id::text FROM orders", &[]).await?;
        let survivors = stored.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
        let promotion = Promotion { from_ms, to_ms: history.now(), loses: failover.loses(), survivors };
        history.events().promotions.push(promotion);
        let address = local(self.postgres.port());
        for linked in &self.hosts {
            match failover {
                Failover::Switchover => linked.postgres.lead_new_to(address),
                _ => linked.postgres.lead_to(address),
            }
        }
        match failover {
            Failover::Switchover => self.standbys.fenced = Some(old),
            _ => old.discard()?,
        }
        if !failover.loses() {
            self.standbys.follow_postgres(&self.postgres).await?;
        }
        Ok(())
    }

    /// Gives the primary of Postgres a standby if it has none, and ends the one before it.
    pub async fn complete_postgres(&mut self) -> Result<()> {
        if let Some(old) = self.standbys.fenced.take() {
            old.discard()?;
        }
        if self.standbys.postgres.is_none() {
            self.standbys.follow_postgres(&self.postgres).await?;
        }
        Ok(())
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
