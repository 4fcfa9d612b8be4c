//! Child processes that end with us, free ports, and waiting for a server to answer.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running child. Dropping it kills it.
pub struct Process {
    name: &'static str,
    child: Child,
    paused: bool,
}

impl Process {
    /// Starts a child in a process group of its own, so that Ctrl-C reaches it through us, in order. On
    /// Linux it gets `when_orphaned` if the thread that started it ends first.
    pub fn start(name: &'static str, command: &mut Command, when_orphaned: Signal) -> Result<Self> {
        command.process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: prctl is async-signal-safe, and the closure does nothing else.
        unsafe {
            command.pre_exec(move || Ok(nix::sys::prctl::set_pdeathsig(when_orphaned)?));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = when_orphaned;
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name,
            child,
            paused: false,
        })
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_none() {
            kill(self.pid()?, signal).with_context(|| format!("signalling {}", self.name))?;
        }
        Ok(())
    }

    /// Stops it from running without ending it: it neither answers nor refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.paused = true;
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it run again.
    pub fn resume(&mut self) -> Result<()> {
        self.paused = false;
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal that should end it, and waits until it has.
    pub fn stop(&mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        if self.paused {
            self.resume()?;
        }
        self.signal(signal)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "{} did not end within {patience:?} after {signal}",
            self.name
        )
    }

    /// Ends it without notice.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until `ready` holds, the process ends, or patience does.
    pub fn wait_until(
        &mut self,
        patience: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.exited()? {
                bail!("{} ended right after its start ({status})", self.name);
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {patience:?}", self.name);
            }
            // Short: benchmarks measure starts with this.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and there is nobody to tell otherwise.
        let _ = self.kill();
    }
}

/// Allows this process and its children as many open files as the system grants: one connection is one.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Ports that no usual system takes for outgoing connections. Whoever dials a server that was killed could
/// otherwise be given that very port for their own end, and the server could not come back.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port on the loopback interface that nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    for _ in 0..1000 {
        // The standard library's hasher is seeded at random; nothing here needs more than that.
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
