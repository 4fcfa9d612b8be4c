//! Records and locks in Redis, over one connection that lives as long as the instance: connecting costs more than a
//! command. Spin's connections never reconnect, so any error drops it.

use std::cell::RefCell;
use std::time::Instant;

use http_api::settings::{Settings, Store};
use http_api::{Probe, Probes};
use protocol::breaker::{Breaker, State};
use protocol::error::ReservationsUnavailable;
use protocol::ports::{List, Lock, Locks, RecordLookup, Reservation, Reservations};
use protocol::{KeyScope, Record, ResourceId};
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};
use stores::redis::locks::{Locking, lock};
use stores::redis::{Command, Records, Reply, ping, record, reservation};

use crate::deadline::{Budget, Timer, now};
use crate::log::{Outage, RequestLog};
use crate::shared_connection::{self, SharedConnection};

thread_local! {
    static CONNECTION: SharedConnection<Connection> = const { SharedConnection::closed() };
    static BREAKER: RefCell<Breaker> = const { RefCell::new(Breaker::closed()) };
    static OUTAGE: Outage = const { Outage::none("redis") };
}

/// Redis, as one request may use it.
pub struct RedisReservations<'r> {
    /// Where it is, if there is one.
    url: Option<&'r str>,
    settings: &'r Settings,
    timer: &'r Timer,
    log: &'r RequestLog,
    budget: Budget,
}

impl<'r> RedisReservations<'r> {
    /// With the request's time for Redis.
    pub fn for_request(settings: &'r Settings, timer: &'r Timer, log: &'r RequestLog) -> Self {
        let url = match &settings.store {
            Store::Servers { redis_url, .. } => Some(redis_url.as_str()),
            Store::Embedded => None,
        };
        Self {
            url,
            settings,
            timer,
            log,
            budget: Budget::of(settings.redis_timeout),
        }
    }

    fn records(&self) -> Records<'_> {
        Records {
            prefix: &self.settings.redis_key_prefix,
            ttl: self.settings.reservation_ttl,
        }
    }

    fn locking(&self) -> Locking<'_> {
        Locking {
            prefix: &self.settings.redis_key_prefix,
            lease: self.settings.lock_lease,
        }
    }

    /// Sends a command unless the breaker is open.
    async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        if !BREAKER.with_borrow_mut(|breaker| breaker.is_closed() || breaker.admits(now())) {
            return Err(ReservationsUnavailable);
        }
        self.command(command).await
    }

    async fn command(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        let Some(url) = self.url.filter(|_| !self.budget.rest().is_zero()) else {
            return Err(ReservationsUnavailable);
        };
        let _wait = self.log.redis();
        let outcome = self
            .timer
            .within(&self.budget, self.attempt(url, &command))
            .await;
        let failure = match outcome {
            Some(Ok(reply)) => {
                BREAKER.with_borrow_mut(Breaker::succeeded);
                OUTAGE.with(Outage::succeeded);
                return Ok(reply);
            }
            Some(Err(error)) => describe(&error),
            None => "no answer in time".to_owned(),
        };
        OUTAGE.with(|outage| outage.failed(&failure, "requests do without it"));
        CONNECTION.with(SharedConnection::hang_up);
        BREAKER.with_borrow_mut(|breaker| breaker.failed(now()));
        Err(ReservationsUnavailable)
    }

    /// Sends a command over the kept connection, and over a new one if that is dead. A reservation may run twice: the second
    /// one finds our own record.
    async fn attempt(&self, url: &str, command: &Command) -> Result<Reply, Error> {
        let connection = shared_connection::get(&CONNECTION, || Connection::open(url)).await?;
        self.log.count_trip();
        match execute(&connection, command).await {
            Ok(reply) => return Ok(reply),
            Err(_) => CONNECTION.with(|shared| shared.forget(&connection)),
        }
        let another = shared_connection::get(&CONNECTION, || Connection::open(url)).await?;
        self.log.count_trip();
        execute(&another, command).await
    }
}

/// The state of the breaker.
pub fn breaker() -> State {
    BREAKER.with_borrow(|breaker| match breaker.is_closed() {
        true => State::Closed,
        false => breaker.state(now()),
    })
}

impl Reservations for RedisReservations<'_> {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.records().reserve(scope, record);
        self.guarded(command).await.map(reservation)
    }

    async fn complete(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.records().complete(scope, record);
        self.guarded(command).await.map(|_| ())
    }

    async fn withdraw(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.records().withdraw(scope, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl RecordLookup for RedisReservations<'_> {
    async fn find_record(
        &self,
        scope: &KeyScope,
    ) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.records().find_record(scope);
        self.guarded(command).await.map(record)
    }
}

impl Locks for RedisReservations<'_> {
    async fn acquire(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        let command = self.locking().acquire(list, holder);
        lock(self.guarded(command).await?).ok_or(ReservationsUnavailable)
    }

    async fn release(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.locking().release(list, holder);
        self.guarded(command).await.map(|_| ())
    }
}

impl Probes for RedisReservations<'_> {
    /// Asks Redis even when the breaker is open, and tells the breaker the outcome.
    async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.command(ping()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
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
        // This is about the key, not about the server: other requests need not do without Redis.
        Err(Error::Other(text)) if text.contains("WRONGTYPE") => Ok(Reply::WrongType),
        Err(error) => Err(error),
    }
}

/// For the log. Redis's messages name commands and states, but not the address, which may contain a password.
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
