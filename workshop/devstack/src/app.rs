//! The application, served by Spin or by the runner, as a child process.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::workspace;

const TIME_OUT: Duration = Duration::from_secs(60);

/// The oldest Spin that can load the component: the first with `wasi:http@0.3.0`.
const MIN_SPIN: (u32, u32) = (4, 1);

/// A program that serves Spin applications.
#[derive(Clone, Debug)]
pub enum Host {
    /// Spin, found on PATH, with its version.
    Spin(String),
    /// The bundled runner, at this path.
    Runner(PathBuf),
}

impl Host {
    /// Spin, if it is on PATH and new enough.
    pub fn spin() -> Option<Self> {
        let output = Command::new("spin").arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().nth(1)?.to_owned();
        let mut parts = version.split('.').map(str::parse);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        ((major, minor) >= MIN_SPIN).then_some(Self::Spin(version))
    }

    /// The host that tests and chaos serve with: Spin when the variable `ORDERS_HOST` is `spin`, otherwise the runner.
    ///
    /// # Errors
    /// Spin is asked for and is not on PATH, or is too old.
    pub fn chosen() -> Result<Self> {
        if std::env::var_os("ORDERS_HOST").is_none_or(|host| host != "spin") {
            return Ok(Self::Runner(workspace::tool("runner")));
        }
        let (major, minor) = MIN_SPIN;
        Self::spin().with_context(|| {
            format!("ORDERS_HOST=spin needs Spin {major}.{minor} or newer on PATH (https://spinframework.dev/install)")
        })
    }

    /// The command that serves the application of a manifest on an address. `variables` are passed in the
    /// environment: other users could read them on the command line.
    pub fn command(&self, manifest: &Path, address: SocketAddr, variables: &[(String, String)]) -> Command {
        let mut command = match self {
            Self::Spin(_) => {
                let mut command = Command::new("spin");
                command.arg("up");
                command
            }
            Self::Runner(path) => Command::new(path),
        };
        command.arg("--from").arg(manifest).args(["--listen", &address.to_string()]);
        for (name, value) in variables {
            let name = name.to_ascii_uppercase();
            command.env(format!("SPIN_VARIABLE_{name}"), value);
        }
        command
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spin(version) => write!(f, "Spin {version}"),
            Self::Runner(_) => f.write_str("the bundled runner, a stand-in for Spin"),
        }
    }
}

/// Where a served application writes its output.
pub enum Output {
    /// The standard output and error of this process.
    Inherit,
    /// A file, which is replaced.
    File(PathBuf),
}

/// A served application.
pub struct App {
    address: SocketAddr,
    process: Process,
}

impl App {
    /// Serves the application of this checkout; returns when it responds on `address`.
    pub fn start(host: &Host, address: SocketAddr, variables: &[(String, String)], output: Output) -> Result<Self> {
        let manifest = workspace::root().join("spin.toml");
        Self::run(host.command(&manifest, address, variables), address, output)
    }

    /// Runs a command that serves an application; returns when it serves `GET /healthz` on `address`.
    pub fn run(mut command: Command, address: SocketAddr, output: Output) -> Result<Self> {
        command.current_dir(workspace::root()).stdin(Stdio::null());
        if let Output::File(path) = &output {
            let log = std::fs::File::create(path)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        let mut process = Process::start("the application", &mut command, Signal::SIGKILL)?;
        process.wait_until(TIME_OUT, || answers(address)).with_context(|| match output {
            Output::Inherit => "the application did not start".to_owned(),
            Output::File(path) => {
                let log = std::fs::read_to_string(path).unwrap_or_default();
                format!("the application did not start; it wrote:\n{log}")
            }
        })?;
        Ok(Self { address, process })
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it with SIGTERM. Both hosts abort requests in flight.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::SIGTERM, TIME_OUT)
    }

    /// Ends it without notice.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Makes it hang, with all processes that it has started.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// Ends the hang.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exited()
    }
}

fn answers(address: SocketAddr) -> bool {
    let get = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status == *b"HTTP/1.1 200")
    };
    get().unwrap_or(false)
}
