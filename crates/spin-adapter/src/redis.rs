//! Reservations in Redis, over one connection that lives as long as the instance: dialling costs more than
//! asking. Spin's connections never reconnect, so any error drops it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use super::deadline::{Budget, Timer};
use super::signals::TaskSignals;
use crate::breaker::Breaker;
use crate::error::ReservationsUnavailable;
use crate::group_commit::Signals;
use crate::http::Probe;
use crate::idempotency::{Record, KeyScope};
use crate::ports::{Reservation, Reservations, RecordLookup};
use crate::settings::Settings;
use crate::stores::redis::{Command, Records, Reply, ping, trace};

/// What this instance knows of Redis.
struct Link {
    line: Line,
    breaker: Breaker,
}

/// The connection.
enum Line {
    Down,
    /// One request dials; the others wait to be woken.
    Dialling(Vec<<TaskSignals as Signals>::Sender>),
    Up(Rc<Connection>),
}

thread_local! {
    static LINK: RefCell<Link> = const {
        RefCell::new(Link { line: Line::Down, breaker: Breaker::closed() })
    };
}

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Redis, as one request may use it.
pub struct RedisReservations<'r> {
    pub(super) settings: &'r Settings,
    timer: &'r Timer,
    budget: Budget,
}

impl<'r> RedisReservations<'r> {
    /// With the request's time for Redis.
    pub fn for_request(settings: &'r Settings, timer: &'r Timer) -> Self {
        Self {
            settings,
            timer,
            budget: Budget::of(settings.redis_timeout),
        }
    }

    /// Asks for a sign of life, past the breaker, and tells the breaker.
    pub async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.command(ping()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }

    fn records(&self) -> Records<'_> {
        Records {
            prefix: &self.settings.redis_key_prefix,
            ttl: self.settings.reservation_ttl,
        }
    }

    /// One command, unless Redis failed a moment ago.
    pub(super) async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        if !LINK.with_borrow_mut(|link| link.breaker.is_closed() || link.breaker.admits(now())) {
            return Err(ReservationsUnavailable);
        }
        self.command(command).await
    }

    async fn command(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        let outcome = self
            .timer
            .within(&self.budget, self.attempt(&command))
            .await;
        let failure = match outcome {
            Some(Ok(reply)) => {
                LINK.with_borrow_mut(|link| link.breaker.succeeded());
                return Ok(reply);
            }
            Some(Err(error)) => describe(&error),
            None => "no answer in time".to_owned(),
        };
        eprintln!("orders: redis: {failure}; going without it for a while");
        LINK.with_borrow_mut(|link| {
            link.hang_up();
            link.breaker.failed(now());
        });
        Err(ReservationsUnavailable)
    }

    /// Over the kept connection; over a new one if that turns out to be dead. Running a reservation twice is
    /// harmless: the second one finds our own record.
    async fn attempt(&self, command: &Command) -> Result<Reply, Error> {
        let connection = self.connection().await?;
        match execute(&connection, command).await {
            Ok(reply) => return Ok(reply),
            Err(_) => LINK.with_borrow_mut(|link| link.forget(&connection)),
        }
        let another = self.connection().await?;
        execute(&another, command).await
    }

    /// The kept connection, or a new one that is kept from now on. Those who want one at the same time get
    /// the same.
    async fn connection(&self) -> Result<Rc<Connection>, Error> {
        loop {
            let wait = match LINK.with_borrow_mut(Link::join) {
                Joined::Up(connection) => return Ok(connection),
                Joined::Waits(wait) => wait,
                Joined::Dials(dial) => {
                    let dialled = Rc::new(Connection::open(&self.settings.redis_url).await?);
                    dial.succeeded(&dialled);
                    return Ok(dialled);
                }
            };
            // If the one who dialled has failed, the first to be woken dials.
            wait.await;
        }
    }
}

/// What someone who wants a connection is to do.
enum Joined {
    Up(Rc<Connection>),
    Waits(<TaskSignals as Signals>::Receiver),
    Dials(Dial),
}

impl Link {
    fn join(&mut self) -> Joined {
        match &mut self.line {
            Line::Up(connection) => Joined::Up(connection.clone()),
            Line::Dialling(others) => {
                let (sender, wait) = TaskSignals.signal();
                others.push(sender);
                Joined::Waits(wait)
            }
            Line::Down => {
                self.line = Line::Dialling(Vec::new());
                Joined::Dials(Dial)
            }
        }
    }

    /// Drops the kept connection, if there is one. Who dials goes on dialling.
    fn hang_up(&mut self) {
        if let Line::Up(_) = self.line {
            self.line = Line::Down;
        }
    }

    /// The same, if it is still this one.
    fn forget(&mut self, dead: &Rc<Connection>) {
        if let Line::Up(connection) = &self.line
            && Rc::ptr_eq(connection, dead)
        {
            self.line = Line::Down;
        }
    }
}

/// Held by the one who dials. Others are woken when it is dropped, whatever came of it.
struct Dial;

impl Dial {
    fn succeeded(self, connection: &Rc<Connection>) {
        LINK.with_borrow_mut(|link| link.line = Line::Up(connection.clone()));
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        LINK.with_borrow_mut(|link| {
            if let Line::Dialling(_) = link.line {
                link.line = Line::Down;
            }
        });
    }
}

impl Reservations for RedisReservations<'_> {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.records().reserve(scope, record);
        self.guarded(command).await.map(Reservation::from)
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let command = self.records().complete(scope, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl RecordLookup for RedisReservations<'_> {
    async fn look(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.records().look(scope);
        self.guarded(command).await.map(trace)
    }
}

async fn execute(connection: &Connection, command: &Command) -> Result<Reply, Error> {
    let arguments = command.arguments.iter().cloned();
    let arguments = arguments.map(RedisParameter::Binary);
    match connection.execute(command.name, arguments).await {
        Ok(results) => Ok(match results.into_iter().next() {
            Some(RedisResult::Binary(bytes)) => Reply::Bytes(bytes),
            Some(RedisResult::Status(text)) => Reply::Bytes(text.into_bytes()),
            Some(RedisResult::Int64(number)) => Reply::Bytes(number.to_string().into_bytes()),
            Some(RedisResult::Nil) | None => Reply::Nil,
        }),
        // About the key, not about the server: others' requests need not do without Redis for it.
        Err(Error::Other(text)) if text.contains("WRONGTYPE") => Ok(Reply::WrongType),
        Err(error) => Err(error),
    }
}

fn now() -> Duration {
    STARTED.elapsed()
}

/// For the log. Redis's error texts name commands and states; the address, which may carry a password, is
/// not among them.
fn describe(error: &Error) -> String {
    match error {
        Error::InvalidAddress => {
            "redis_url is invalid, or not in allowed_outbound_hosts".to_owned()
        }
        Error::TooManyConnections => "too many connections".to_owned(),
        Error::TypeError => "unexpected type".to_owned(),
        Error::Other(text) => text.clone(),
    }
}
