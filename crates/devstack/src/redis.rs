//! A Redis server of our own, set up as a careful user would deploy it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::install::Programs;
use crate::process::{Process, free_port, local};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running Redis, or a stopped one that can be started again on the same port.
pub struct Redis {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Redis {
    /// Starts a server with its data in `folder`.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut redis = Self {
            program: programs.redis_server.clone(),
            folder: std::path::absolute(folder)?,
            port: free_port()?,
            process: None,
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = Process::start("redis-server", &mut command, Signal::SIGTERM)?;
        let port = self.port;
        process
            .wait_until(PATIENCE, || answers(port))
            .with_context(|| format!("see {}", self.folder.join("redis.log").display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again, on the same port with nothing in it.
    pub fn restart_empty(&mut self) -> Result<()> {
        self.kill()?;
        let data = self.folder.join("appendonlydir");
        if data.exists() {
            std::fs::remove_dir_all(&data)
                .with_context(|| format!("removing {}", data.display()))?;
        }
        self.restart()
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM, PATIENCE)?;
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

fn answers(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&local(port), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        // While it reads its data it answers -LOADING.
        Ok(answer == *b"+PONG\r\n")
    };
    ping().unwrap_or(false)
}
