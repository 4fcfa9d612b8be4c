//! Streaming replication between two private Postgres servers: a standby, its promotion, and a primary that is killed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::install::{Programs, postgres_program};
use crate::postgres::{Postgres, SUPERUSER, as_user};

/// The names of standbys in `synchronous_standby_names`.
pub const STANDBYS: [&str; 2] = ["standby1", "standby2"];

impl Postgres {
    /// Copies a running server into `folder`, which must be new, and starts the first standby there. It reaches its
    /// primary at `primary`, which may be the address of a proxy.
    ///
    /// # Errors
    /// `pg_basebackup` fails, or the standby does not start.
    pub fn start_standby(programs: &Programs, folder: &Path, primary: SocketAddr) -> Result<Self> {
        let [first, _] = STANDBYS;
        Self::start_standby_named(first, programs, folder, primary)
    }

    /// The same with another of the names.
    ///
    /// # Errors
    /// As with [`Self::start_standby`].
    pub fn start_standby_named(name: &str, programs: &Programs, folder: &Path, primary: SocketAddr) -> Result<Self> {
        let mut standby = Self::stopped(programs, folder)?;
        let (host, port) = (primary.ip(), primary.port());
        let connection = format!("host={host} port={port} user={SUPERUSER} application_name={name}");
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
    /// The server is not a standby, or is not promoted within a minute.
    pub fn promote(&self) -> Result<()> {
        let mut promote = Command::new(postgres_program(&self.program, "pg_ctl")?);
        promote.args(["promote", "--wait", "--timeout=60", "--pgdata"]).arg(self.folder.join("data"));
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
        // Paused first: between the list and the kill it must not start others. The others continue while the first
        // process is dead: a statement in progress could still commit and be acknowledged.
        process.pause()?;
        let id = process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        process.kill()?;
        for child in children.unwrap_or_default().split_whitespace() {
            // A backend that has ended meanwhile is not an error.
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

    /// Runs one of Postgres's programs as the server's user.
    fn run(&self, mut command: Command) -> Result<()> {
        command.current_dir(&self.folder).stdin(Stdio::null());
        let name = command.get_program().display().to_string();
        let output = as_user(&mut command, self.owner.as_ref()).output().with_context(|| format!("running {name}"))?;
        ensure!(
            output.status.success(),
            "{name} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
