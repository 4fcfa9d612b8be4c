//! A private Postgres server. Postgres refuses to run as root, so root runs it as another user.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};

use crate::install::Programs;
use crate::process::{Process, free_port, local};
use crate::tls::Identity;

const TIME_OUT: Duration = Duration::from_secs(60);

/// The superuser. The servers listen on the loopback interface only, and need no password there.
pub(crate) const SUPERUSER: &str = "orders";

/// A running Postgres, or a stopped one that can be started again on the same port.
pub struct Postgres {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) owner: Option<User>,
    pub(crate) port: u16,
    tls: bool,
    pub(crate) process: Option<Process>,
}

impl Postgres {
    /// Starts a server with its data in `folder`, which is set up first if it is new. Another folder is used
    /// where the server's user cannot enter this one.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        Self::start_with(programs, folder, None)
    }

    /// Starts a server that offers TLS, on the same port.
    pub fn start_with_tls(programs: &Programs, folder: &Path, identity: &Identity) -> Result<Self> {
        Self::start_with(programs, folder, Some(identity))
    }

    fn start_with(programs: &Programs, folder: &Path, identity: Option<&Identity>) -> Result<Self> {
        let mut postgres = Self::stopped(programs, folder)?;
        let (folder, owner) = (&postgres.folder, postgres.owner.as_ref());
        if !folder.join("data/PG_VERSION").exists() {
            initialise(programs, folder, owner)?;
        }
        if let Some(identity) = identity {
            write_owned(&folder.join("server.crt"), &identity.certificate, owner)?;
            write_owned(&folder.join("server.key"), &identity.key, owner)?;
        }
        postgres.tls = identity.is_some();
        postgres.restart()?;
        Ok(postgres)
    }

    /// A server that does not run yet, without data unless the folder has them.
    pub(crate) fn stopped(programs: &Programs, folder: &Path) -> Result<Self> {
        let owner = owner()?;
        let folder = Self::folder_for(folder, owner.as_ref())?;
        Ok(Self { program: programs.postgres.clone(), folder, owner, port: free_port()?, tls: false, process: None })
    }

    /// The folder itself, or one in /var/tmp if this process runs as root in a folder (such as /root) that
    /// the server's user may not enter.
    fn folder_for(folder: &Path, owner: Option<&User>) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let Some(owner) = owner else {
            return Ok(folder);
        };
        chown(&folder, Some(owner.uid), Some(owner.gid))?;
        let reachable = as_user(Command::new("test").arg("-w").arg(&folder), Some(owner)).status()?.success();
        if reachable {
            return Ok(folder);
        }
        let elsewhere = outside(&folder);
        fs::create_dir_all(&elsewhere)?;
        chown(&elsewhere, Some(owner.uid), Some(owner.gid))?;
        Ok(elsewhere)
    }

    /// Removes what [`Self::start`] has put into `folder`, or into the folder used instead.
    pub fn remove(folder: &Path) -> Result<()> {
        for folder in [folder.to_path_buf(), outside(folder)] {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// Removes the data of all servers whose folders are in `folder` and have names that begin with `postgres`.
    pub fn remove_all(folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("postgres") {
                Self::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The URL of one of its databases.
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
            // Several served applications at once, each with Spin's pool of 64; two dozen in benchmarks on two hosts.
            .args(["-c", "max_connections=2000"])
            // Even SIGQUIT waits this long for a connection that was rejected but has not sent its startup
            // packet, as behind a stalled link.
            .args(["-c", "authentication_timeout=5"])
            // A standby that lost its connection comes back soon, and finds what it missed.
            .args(["-c", "wal_retrieve_retry_interval=200ms"])
            .args(["-c", "wal_keep_size=64MB"]);
        if self.tls {
            for (setting, file) in [("cert", "server.crt"), ("key", "server.key")] {
                let path = self.folder.join(file);
                let setting = format!("ssl_{setting}_file={}", path.display());
                command.args(["-c", &setting]);
            }
            command.args(["-c", "ssl=on"]);
        }
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        as_user(&mut command, self.owner.as_ref());
        let mut process = Process::start("postgres", &mut command, Signal::SIGINT)?;
        let (port, data) = (self.port, self.folder.join("data"));
        process
            .wait_until(TIME_OUT, || {
                // The status line says "ready" only when connections are accepted.
                fs::read_to_string(data.join("postmaster.pid"))
                    .is_ok_and(|pid| pid.lines().nth(7).is_some_and(|s| s.trim() == "ready"))
                    && TcpStream::connect(local(port)).is_ok()
            })
            .with_context(|| format!("see {}", self.folder.join("postgres.log").display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts PgBouncer with four connections to the server at a URL, for one transaction at a time. Returns its URL.
    pub fn start_pooler(program: &Path, folder: &Path, url: &str) -> Result<(Process, String)> {
        let port = free_port()?;
        let (server, database) = url.rsplit_once('/').context("a URL with a database")?;
        let (_, server_port) = server.rsplit_once(':').context("a URL with a port")?;
        let user = owner()?.map_or_else(String::new, |user| format!("user = {}", user.name));
        let settings = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={server_port} user={SUPERUSER}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 500\n{user}\n"
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings)?;
        let log = fs::File::create(folder.join("pgbouncer.log"))?;
        let mut command = Command::new(program);
        command.arg(file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::start("pgbouncer", &mut command, Signal::SIGTERM)?;
        process.wait_until(TIME_OUT, || TcpStream::connect(local(port)).is_ok())?;
        Ok((process, format!("postgres://{SUPERUSER}@127.0.0.1:{port}/{database}")))
    }

    /// Shuts it down cleanly, without waiting for its clients.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Ends it at once, as a crash would. It recovers from its write-ahead log at the next start.
    pub fn stop_immediately(&mut self) -> Result<()> {
        self.end(Signal::SIGQUIT)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(signal, TIME_OUT)?;
        }
        Ok(())
    }

    /// Makes it hang for new connections: the kernel accepts them, and Postgres does not respond. Open
    /// connections continue, because Postgres serves each from a process group of its own.
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

/// The user that the server runs as if this process runs as root.
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

pub(crate) fn as_user<'c>(command: &'c mut Command, user: Option<&User>) -> &'c mut Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Writes a file as Postgres demands it of private keys: only the server's user may read it.
fn write_owned(path: &Path, text: &str, owner: Option<&User>) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let Some(owner) = owner {
        chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

/// The folder in /var/tmp that is used instead of this one.
fn outside(folder: &Path) -> PathBuf {
    let name: String =
        folder.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
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
    let output = as_user(&mut command, owner).output().context("running initdb")?;
    ensure!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
