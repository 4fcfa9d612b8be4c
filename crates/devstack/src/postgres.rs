//! A Postgres server of our own. Postgres refuses to run as root, so root runs it as somebody else.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};

use crate::install::Programs;
use crate::process::{Process, free_port, local};

const PATIENCE: Duration = Duration::from_secs(60);

/// The superuser of our clusters. They listen on the loopback interface only and trust it.
const SUPERUSER: &str = "orders";

/// A running Postgres, or a stopped one that can be started again on the same port.
pub struct Postgres {
    program: PathBuf,
    folder: PathBuf,
    owner: Option<User>,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server with its data in `folder`, which is set up first if it is new. The folder is moved
    /// to [`Self::folder_for`] where its server cannot reach it.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        let owner = owner()?;
        let folder = Self::folder_for(folder, owner.as_ref())?;
        if !folder.join("data/PG_VERSION").exists() {
            initialise(programs, &folder, owner.as_ref())?;
        }
        let mut postgres = Self {
            program: programs.postgres.clone(),
            folder,
            owner,
            port: free_port()?,
            process: None,
        };
        postgres.restart()?;
        Ok(postgres)
    }

    /// The folder itself, or one in /var/tmp if root works in a folder (such as /root) that the server's
    /// own user may not enter.
    fn folder_for(folder: &Path, owner: Option<&User>) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let Some(owner) = owner else {
            return Ok(folder);
        };
        chown(&folder, Some(owner.uid), Some(owner.gid))?;
        let reachable = as_user(Command::new("test").arg("-w").arg(&folder), Some(owner))
            .status()?
            .success();
        if reachable {
            return Ok(folder);
        }
        let elsewhere = outside(&folder);
        fs::create_dir_all(&elsewhere)?;
        chown(&elsewhere, Some(owner.uid), Some(owner.gid))?;
        Ok(elsewhere)
    }

    /// Removes what [`Self::start`] has put into `folder`, or in its stead elsewhere.
    pub fn remove(folder: &Path) -> Result<()> {
        for folder in [folder.to_path_buf(), outside(folder)] {
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// Where one of its databases is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it again, on the same port with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.stop_immediately()?;
        let log = fs::File::create(self.folder.join("postgres.log"))?;
        let mut command = Command::new(&self.program);
        command
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", "fsync=on"])
            // Several served applications at once, each with Spin's pool of 64; a dozen in benchmarks.
            .args(["-c", "max_connections=1000"])
            // Even SIGQUIT waits for whoever was turned away at the door but has not said a word yet, as
            // behind a stalled link: for this long.
            .args(["-c", "authentication_timeout=5"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        as_user(&mut command, self.owner.as_ref());
        let mut process = Process::start("postgres", &mut command, Signal::SIGINT)?;
        let (port, data) = (self.port, self.folder.join("data"));
        process
            .wait_until(PATIENCE, || {
                // The status line says "ready" only when connections are taken.
                fs::read_to_string(data.join("postmaster.pid"))
                    .is_ok_and(|pid| pid.lines().nth(7).is_some_and(|s| s.trim() == "ready"))
                    && TcpStream::connect(local(port)).is_ok()
            })
            .with_context(|| format!("see {}", self.folder.join("postgres.log").display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it in good order, without waiting for its clients.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Ends it at once, as a crash would: it recovers from its log at the next start.
    pub fn stop_immediately(&mut self) -> Result<()> {
        self.end(Signal::SIGQUIT)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(signal, PATIENCE)?;
        }
        Ok(())
    }

    /// Makes it accept nothing new: connections are taken by the kernel and never answered. What is open
    /// goes on, because those are processes of their own.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::pause)
    }

    /// Ends [`Self::pause`].
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::resume)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killing the postmaster alone would leave its children behind.
        let _ = self.stop_immediately();
    }
}

/// Who the server runs as: us, or, where we are root, somebody without rights.
fn owner() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("Postgres refuses to run as root, and there is no user postgres or nobody to run it as")
}

fn as_user<'c>(command: &'c mut Command, user: Option<&User>) -> &'c mut Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// A folder in /var/tmp that belongs to this one.
fn outside(folder: &Path) -> PathBuf {
    let name: String = folder
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Path::new("/var/tmp").join(format!("orders-stack{name}"))
}

fn initialise(programs: &Programs, folder: &Path, owner: Option<&User>) -> Result<()> {
    let mut command = Command::new(&programs.initdb);
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-U", SUPERUSER, "--auth=trust", "-E", "UTF8", "--locale=C"])
        .current_dir(folder)
        .stdin(Stdio::null());
    let output = as_user(&mut command, owner)
        .output()
        .context("running initdb")?;
    ensure!(
        output.status.success(),
        "initdb failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
