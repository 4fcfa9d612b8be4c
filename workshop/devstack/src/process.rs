//! Child processes that end with this process, free ports, and waiting for a server to respond.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::watchdog::Watchdog;

/// How long the rest of a process group may take to disappear after SIGKILL.
const GROUP_TIME_OUT: Duration = Duration::from_secs(1);

/// A running child and the processes that it starts: its process group. Dropping it kills the group.
pub struct Process {
    name: &'static str,
    child: Child,
    group: Pid,
    paused: bool,
    /// Set once the child has ended and its group was killed.
    status: Option<ExitStatus>,
    watchdog: Option<Watchdog>,
}

impl Process {
    /// Starts a child in a process group of its own, so that Ctrl-C reaches it through this process, in
    /// order. The group gets `when_orphaned` if this process ends without ending it.
    pub fn start(name: &'static str, command: &mut Command, when_orphaned: Signal) -> Result<Self> {
        let mut start = || {
            let watchdog = Watchdog::start(when_orphaned)?;
            watchdog.watch(command)?;
            anyhow::Ok((command.spawn()?, watchdog))
        };
        let (child, watchdog) = start().with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name,
            group: Pid::from_raw(i32::try_from(child.id())?),
            child,
            paused: false,
            status: None,
            watchdog: Some(watchdog),
        })
    }

    /// Sends a signal to the whole group, if the child still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_none() {
            killpg(self.group, signal).with_context(|| format!("signalling {}", self.name))?;
        }
        Ok(())
    }

    /// Stops the group from running without ending it: it neither responds nor rejects.
    pub fn pause(&mut self) -> Result<()> {
        self.paused = true;
        self.signal(Signal::SIGSTOP)
    }

    /// Lets the group run again.
    pub fn resume(&mut self) -> Result<()> {
        self.paused = false;
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal that should end the group, and waits until the child has ended. What is left of its
    /// group then is killed.
    pub fn stop(&mut self, signal: Signal, time_out: Duration) -> Result<ExitStatus> {
        if self.paused {
            self.resume()?;
        }
        self.signal(signal)?;
        let deadline = Instant::now() + time_out;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} did not end within {time_out:?} after {signal}", self.name)
    }

    /// Ends the group without notice.
    pub fn kill(&mut self) -> Result<()> {
        if self.exited()?.is_none() {
            self.signal(Signal::SIGKILL)?;
            self.wait()?;
        }
        Ok(())
    }

    /// How the child ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
            if self.status.is_some() {
                self.end_group();
            }
        }
        Ok(self.status)
    }

    /// Waits until the child has ended by itself.
    ///
    /// # Errors
    /// When the system does not say how it ended.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = match self.status {
            Some(status) => return Ok(status),
            None => self.child.wait()?,
        };
        self.status = Some(status);
        self.end_group();
        Ok(status)
    }

    /// Kills what the child has left behind, and waits for it: it could still hold a port. Called once, right
    /// after the child was waited for: later, another group could have its number.
    fn end_group(&mut self) {
        self.watchdog = None;
        let deadline = Instant::now() + GROUP_TIME_OUT;
        while killpg(self.group, Signal::SIGKILL).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until `ready` holds, the process ends, or the time-out is over.
    pub fn wait_until(&mut self, time_out: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + time_out;
        loop {
            if let Some(status) = self.exited()? {
                bail!("{} ended right after its start ({status})", self.name);
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {time_out:?}", self.name);
            }
            // Short: benchmarks measure starts with this.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Drop cannot report an error.
        let _ = self.kill();
    }
}

/// Raises the limit of open files to the maximum for this process and its children: each connection is one.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Ports below the ranges that systems use for outgoing connections. A client that connects to a killed server
/// could otherwise get the server's port for its own end, and the server could not start again.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port on the loopback interface that no process listens on at the moment.
pub fn free_port() -> Result<u16> {
    for _ in 0..1000 {
        // The standard library's hasher has a random seed, which is random enough here.
        let random = RandomState::new().hash_one(std::process::id());
        let port = PORTS.start + u16::try_from(random % PORTS.len() as u64)?;
        if TcpListener::bind(local(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("found no free port on the loopback interface")
}

/// That port on the loopback interface.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
