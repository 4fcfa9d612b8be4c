//! Reservations in Redis, over one connection that lives as long as the instance: dialling costs more than
//! asking. Spin's connections never reconnect, so any error drops it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use super::deadline::Budget;
use crate::breaker::Breaker;
use crate::error::ReservationsUnavailable;
use crate::http::Probe;
use crate::idempotency::{Record, Slot};
use crate::ports::{Reservation, Reservations, Traces};
use crate::settings::Settings;
use crate::stores::redis::{Command, Records, Reply, ping, trace};

/// What this instance knows of Redis.
struct Link {
    connection: Option<Rc<Connection>>,
    breaker: Breaker,
}

thread_local! {
    static LINK: RefCell<Link> = const {
        RefCell::new(Link { connection: None, breaker: Breaker::closed() })
    };
}

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Redis, as one request may use it.
pub struct RedisReservations<'s> {
    settings: &'s Settings,
    budget: Budget,
}

impl<'s> RedisReservations<'s> {
    /// Starts the request's time for Redis.
    pub fn for_request(settings: &'s Settings) -> Self {
        Self {
            settings,
            budget: Budget::starting_now(settings.redis_timeout),
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
    async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        if !LINK.with_borrow_mut(|link| link.breaker.admits(now())) {
            return Err(ReservationsUnavailable);
        }
        self.command(command).await
    }

    async fn command(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        let outcome = self.budget.spend(self.attempt(&command)).await;
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
            link.connection = None;
            link.breaker.failed(now());
        });
        Err(ReservationsUnavailable)
    }

    /// Over the kept connection; over a new one if there is none or it turns out to be dead. Running a
    /// reservation twice is harmless: the second one finds our own record.
    async fn attempt(&self, command: &Command) -> Result<Reply, Error> {
        if let Some(kept) = LINK.with_borrow(|link| link.connection.clone()) {
            match execute(&kept, command).await {
                Ok(reply) => return Ok(reply),
                Err(_) => forget(&kept),
            }
        }
        let dialled = Rc::new(Connection::open(&self.settings.redis_url).await?);
        let reply = execute(&dialled, command).await?;
        LINK.with_borrow_mut(|link| link.connection = Some(dialled));
        Ok(reply)
    }
}

impl Reservations for RedisReservations<'_> {
    async fn reserve(
        &self,
        slot: &Slot,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.records().reserve(slot, record);
        self.guarded(command).await.map(Reservation::from)
    }

    async fn finish(&self, slot: &Slot, record: &Record) -> Result<(), ReservationsUnavailable> {
        let command = self.records().finish(slot, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl Traces for RedisReservations<'_> {
    async fn look(&self, slot: &Slot) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.records().look(slot);
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

/// Drops the kept connection, if it is still this one.
fn forget(dead: &Rc<Connection>) {
    LINK.with_borrow_mut(|link| {
        link.connection
            .take_if(|connection| Rc::ptr_eq(connection, dead));
    });
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
