//! Calls a route of a served application again and again, as a scheduler in production would. Spin has none for HTTP
//! components.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

/// The pause after a call that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than a pull takes.
const TIME_OUT: Duration = Duration::from_secs(60);
/// How long a pull waits for an event, in seconds.
const WAIT: u64 = 2;

/// Pulls until it is dropped. A pull that is under way then continues.
pub struct Puller {
    stopped: Arc<AtomicBool>,
}

impl Puller {
    /// Begins to call `POST /api/v1/pull` on an application, with an operator's token.
    pub fn start(application: SocketAddr, token: &str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, token) = (stopped.clone(), token.to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if pull(application, &token, WAIT).is_err() {
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { stopped }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Pulls once, and returns the response's body.
///
/// # Errors
/// The application cannot be reached, or a service of the chain has not responded as it should.
pub fn pull(application: SocketAddr, token: &str, wait: u64) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&application, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(TIME_OUT))?;
    write!(
        stream,
        "POST /api/v1/pull?wait={wait} HTTP/1.1\r\nHost: {application}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(body.to_owned())
}
