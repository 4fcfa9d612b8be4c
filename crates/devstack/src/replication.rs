//! Streaming replication between two private Postgres servers: a standby, its promotion, and a primary that is killed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::install::{Programs, postgres_program};
use crate::postgres::{Postgres, SUPERUSER, as_user};

const TIME_OUT: Duration = Duration::from_secs(60);
/// How often the state of a standby is asked for.
const POLL: Duration = Duration::from_millis(20);
/// The name of every standby in `synchronous_standby_names`.
const STANDBY: &str = "standby";

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// Until the standby has it on disk; for ever if there is no standby.
    Synchronous,
    /// The primary's own disk: a failover loses what the standby has not received.
    Asynchronous,
}

impl Postgres {
    /// Copies a running server into `folder`, which must be new, and starts a standby there. The standby reaches its
    /// primary at `primary`, which may be the address of a proxy.
    ///
    /// # Errors
    /// `pg_basebackup` fails, or the standby does not start.
    pub fn start_standby(programs: &Programs, folder: &Path, primary: SocketAddr) -> Result<Self> {
        let mut standby = Self::stopped(programs, folder)?;
        let connection = format!(
            "host={} port={} user={SUPERUSER} application_name={STANDBY}",
            primary.ip(),
            primary.port()
        );
        let mut copy = Command::new(postgres_program(&programs.postgres, "pg_basebackup")?);
        copy.args(["--write-recovery-conf", "--wal-method=stream"])
            // Otherwise the copy waits minutes for the primary's next checkpoint.
            .args(["--checkpoint=fast", "--no-sync"])
            .args(["--dbname", &connection])
            .arg("--pgdata")
            .arg(standby.folder.join("data"));
        standby.run(copy)?;
        standby.restart()?;
        Ok(standby)
    }

    /// Makes a standby a primary, on a new timeline. Returns when it accepts writes.
    ///
    /// # Errors
    /// It is no standby, or is not promoted within a minute.
    pub fn promote(&self) -> Result<()> {
        let mut promote = Command::new(postgres_program(&self.program, "pg_ctl")?);
        promote
            .args(["promote", "--wait", "--timeout=60", "--pgdata"])
            .arg(self.folder.join("data"));
        self.run(promote)
    }

    /// Restarts it at the port of a server that is gone: clients find it at the address that they know.
    ///
    /// # Errors
    /// The other server still has the port, or this one does not start.
    pub fn take_over(&mut self, gone: &Self) -> Result<()> {
        self.stop()?;
        self.port = gone.port;
        self.restart()
    }

    /// Ends all its processes without notice, as a machine that fails does.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        // Paused first: between the list and the kill it must not start others. The others go on while the first process
        // is dead: a statement in progress could still commit and be acknowledged.
        process.pause()?;
        let id = process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        process.kill()?;
        for child in children.unwrap_or_default().split_whitespace() {
            // One that has ended meanwhile is no error.
            let _ = kill(Pid::from_raw(child.parse()?), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Kills it and removes its data, but not its log.
    ///
    /// # Errors
    /// The data cannot be removed.
    pub fn discard(mut self) -> Result<()> {
        self.kill()?;
        let data = self.folder.join("data");
        // A killed server leaves a segment of shared memory, which its next start would remove.
        let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let segment = state.lines().nth(6).unwrap_or_default();
        if let Some(id) = segment.split_whitespace().nth(1) {
            let mut remove = Command::new("ipcrm");
            remove.args(["-m", id]).stderr(Stdio::null());
            let _ = as_user(&mut remove, self.owner.as_ref()).status();
        }
        fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))
    }

    /// Sets what commits wait for. A standby keeps the setting for the time when it is promoted.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn set_replication(&self, replication: Replication) -> Result<()> {
        let names = match replication {
            Replication::Synchronous => format!("ANY 1 ({STANDBY})"),
            Replication::Asynchronous => String::new(),
        };
        let mut connection = self.connect().await?;
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        connection.execute(AssertSqlSafe(set)).await?;
        connection.execute("SELECT pg_reload_conf()").await?;
        connection.close().await?;
        Ok(())
    }

    /// Waits until a synchronous standby has all that was committed before this call, and commits wait for it. Only such a
    /// standby may be promoted: right after a crash, a primary shows commits that it has not acknowledged and that its
    /// standby has not yet received.
    ///
    /// # Errors
    /// There is no such standby within a minute.
    pub async fn wait_for_standby(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let now = "SELECT pg_current_wal_insert_lsn()::text";
        let position: String = connection.fetch_one(now).await?.try_get(0)?;
        let has_it = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' \
                            AND sync_state = 'quorum' AND flush_lsn >= '{position}')"
        );
        let deadline = Instant::now() + TIME_OUT;
        loop {
            let row = connection.fetch_one(AssertSqlSafe(has_it.as_str())).await?;
            if row.try_get(0)? {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "no standby was synchronous within {TIME_OUT:?}"
            );
            tokio::time::sleep(POLL).await;
        }
        connection.close().await?;
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url("postgres"))
            .await
            .context("connecting to Postgres")
    }

    /// Runs one of Postgres's programs as the server's user.
    fn run(&self, mut command: Command) -> Result<()> {
        command.current_dir(&self.folder).stdin(Stdio::null());
        let name = command.get_program().display().to_string();
        let output = as_user(&mut command, self.owner.as_ref())
            .output()
            .with_context(|| format!("running {name}"))?;
        ensure!(
            output.status.success(),
            "{name} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
