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
use crate::ports::{Reservation, Reservations};
use crate::settings::Settings;

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

/// What Redis made of a command.
enum Reply {
    Nil,
    Bytes(Vec<u8>),
    /// The key holds something that is not a string.
    WrongType,
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
        let up = self.command("PING", &[]).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }

    /// The length keeps ("a", "b:c") and ("a:b", "c") apart.
    fn key(&self, slot: &Slot) -> RedisParameter {
        let customer = slot.customer.as_str();
        binary(format!(
            "{}{}:{customer}:{}",
            self.settings.redis_key_prefix,
            customer.len(),
            slot.key
        ))
    }

    fn ttl_ms(&self) -> RedisParameter {
        let ttl = self.settings.reservation_ttl.as_millis();
        RedisParameter::Int64(i64::try_from(ttl).unwrap_or(i64::MAX))
    }

    /// One command, unless Redis failed a moment ago.
    async fn guarded(
        &self,
        command: &str,
        arguments: &[RedisParameter],
    ) -> Result<Reply, ReservationsUnavailable> {
        if !LINK.with_borrow_mut(|link| link.breaker.admits(now())) {
            return Err(ReservationsUnavailable);
        }
        self.command(command, arguments).await
    }

    async fn command(
        &self,
        command: &str,
        arguments: &[RedisParameter],
    ) -> Result<Reply, ReservationsUnavailable> {
        let outcome = self.budget.spend(self.attempt(command, arguments)).await;
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
    async fn attempt(&self, command: &str, arguments: &[RedisParameter]) -> Result<Reply, Error> {
        if let Some(kept) = LINK.with_borrow(|link| link.connection.clone()) {
            match execute(&kept, command, arguments).await {
                Ok(reply) => return Ok(reply),
                Err(_) => forget(&kept),
            }
        }
        let dialled = Rc::new(Connection::open(&self.settings.redis_url).await?);
        let reply = execute(&dialled, command, arguments).await?;
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
        let arguments = [
            self.key(slot),
            binary(record.encode()),
            binary("NX"),
            binary("GET"),
            binary("PX"),
            self.ttl_ms(),
        ];
        Ok(match self.guarded("SET", &arguments).await? {
            Reply::Nil => Reservation::Acquired,
            Reply::Bytes(bytes) => {
                Record::decode(&bytes).map_or(Reservation::Unintelligible, Reservation::Occupied)
            }
            Reply::WrongType => Reservation::Unintelligible,
        })
    }

    async fn finish(&self, slot: &Slot, record: &Record) -> Result<(), ReservationsUnavailable> {
        let arguments = [
            self.key(slot),
            binary(record.encode()),
            binary("PX"),
            self.ttl_ms(),
        ];
        self.guarded("SET", &arguments).await.map(|_| ())
    }
}

async fn execute(
    connection: &Connection,
    command: &str,
    arguments: &[RedisParameter],
) -> Result<Reply, Error> {
    match connection.execute(command, arguments.iter().cloned()).await {
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

fn binary(bytes: impl Into<Vec<u8>>) -> RedisParameter {
    RedisParameter::Binary(bytes.into())
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
