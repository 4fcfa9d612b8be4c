//! A private Redis server. It keeps an append-only file and evicts nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::install::Programs;
use crate::process::{Process, free_port, local};
use crate::tls::Identity;

const TIME_OUT: Duration = Duration::from_secs(20);

/// A running Redis, or a stopped one that can be started again on the same port.
pub struct Redis {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    /// Where the other nodes of its cluster reach it, if it is in one.
    cluster_port: Option<u16>,
    process: Option<Process>,
}

impl Redis {
    /// Starts a server with its data in `folder`.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        Self::start_with(programs, folder, None)
    }

    /// Starts a server that also listens for TLS, at [`Self::tls_url`].
    pub fn start_with_tls(programs: &Programs, folder: &Path, identity: &Identity) -> Result<Self> {
        Self::start_with(programs, folder, Some(identity))
    }

    fn start_with(programs: &Programs, folder: &Path, identity: Option<&Identity>) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        if let Some(identity) = identity {
            std::fs::write(folder.join("server.crt"), &identity.certificate)?;
            std::fs::write(folder.join("server.key"), &identity.key)?;
        }
        let mut redis = Self {
            program: programs.redis_server.clone(),
            folder: std::path::absolute(folder)?,
            port: free_port()?,
            tls_port: identity.map(|_| free_port()).transpose()?,
            cluster_port: None,
            process: None,
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts a cluster of three masters, with their data in `folder`.
    pub fn start_cluster(programs: &Programs, folder: &Path) -> Result<Vec<Self>> {
        let (mut nodes, mut first) = (Vec::new(), None);
        for (name, slots) in [("one", "0 5460"), ("two", "5461 10922"), ("three", "10923 16383")] {
            let mut node = Self::start(programs, &folder.join(name))?;
            // By default this is its port with 10,000 more, which may be the end of a connection.
            let cluster_port = free_port()?;
            node.cluster_port = Some(cluster_port);
            node.restart_empty()?;
            let (port, bus) = *first.get_or_insert((node.port, cluster_port));
            for command in [format!("ADDSLOTSRANGE {slots}"), format!("MEET 127.0.0.1 {port} {bus}")] {
                let replied = reply(node.port, &format!("CLUSTER {command}\r\n"))?;
                ensure!(replied.starts_with("+OK"), "{command}: {replied}");
            }
            nodes.push(node);
        }
        let deadline = Instant::now() + TIME_OUT;
        for node in &nodes {
            while !reply(node.port, "CLUSTER INFO\r\n")?.contains("cluster_state:ok") {
                ensure!(Instant::now() < deadline, "the cluster is not ready");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(nodes)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its URL over TLS, if it was started with it.
    pub fn tls_url(&self) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://127.0.0.1:{port}"))
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
        self.kill()?;
        let log = std::fs::File::create(self.folder.join("redis.log"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(&self.folder)
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .args(["--maxmemory", "256mb", "--maxmemory-policy", "noeviction"])
            .args(["--save", "", "--daemonize", "no"])
            // A new replica gets its data at once; by default Redis waits 5 s for others that want them, too.
            .args(["--repl-diskless-sync-delay", "0"]);
        if let Some(port) = self.cluster_port {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        if let Some(port) = self.tls_port {
            command
                .args(["--tls-port", &port.to_string()])
                .arg("--tls-cert-file")
                .arg(self.folder.join("server.crt"))
                .arg("--tls-key-file")
                .arg(self.folder.join("server.key"))
                // Clients have no certificates, so no authority is needed to verify them.
                .args(["--tls-auth-clients", "no"]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::start("redis-server", &mut command, Signal::SIGTERM)?;
        let port = self.port;
        process
            .wait_until(TIME_OUT, || answers(port))
            .with_context(|| format!("see {}", self.folder.join("redis.log").display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again, on the same port with nothing in it.
    pub fn restart_empty(&mut self) -> Result<()> {
        self.kill()?;
        let data = self.folder.join("appendonlydir");
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
        }
        self.restart()
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM, TIME_OUT)?;
        }
        Ok(())
    }

    /// Ends it without notice.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Makes it hang.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::pause)
    }

    /// Ends the hang.
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::resume)
    }
}

/// The beginning of the reply to a command.
fn reply(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&local(port), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(command.as_bytes())?;
    let mut reply = [0; 100];
    let length = stream.read(&mut reply)?;
    Ok(String::from_utf8_lossy(reply.get(..length).unwrap_or_default()).into_owned())
}

/// While it loads its data it replies -LOADING.
fn answers(port: u16) -> bool {
    reply(port, "PING\r\n").is_ok_and(|reply| reply == "+PONG\r\n")
}
