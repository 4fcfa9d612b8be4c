//! Records and locks in Redis, over one connection that lives as long as the instance: connecting costs more than a
//! command. Spin's connections never reconnect, so any error drops it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use exactly_once::breaker::{Breaker, State};
use exactly_once::error::ReservationsUnavailable;
use exactly_once::ports::{List, Lock, Locks, RecordLookup, Reservation, Reservations};
use exactly_once::single_flight::SingleFlight;
use exactly_once::{KeyScope, Record, ResourceId};
use exactly_once_http::settings::{Settings, Store};
use exactly_once_http::{Probe, Probes};
use exactly_once_stores::redis::locks::{Locking, lock};
use exactly_once_stores::redis::{Command, Records, Reply, ping, record, reservation};
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::deadline::{Budget, Timer, now};
use crate::log::{Outage, RequestLog};
use crate::signals::TaskSignals;

/// What this instance knows about Redis.
struct Link {
    connection: Option<Rc<Connection>>,
    breaker: Breaker,
}

thread_local! {
    static LINK: RefCell<Link> = const {
        RefCell::new(Link { connection: None, breaker: Breaker::closed() })
    };
    static CONNECTING: Rc<SingleFlight<TaskSignals>> = Rc::new(SingleFlight::new(TaskSignals));
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
        if !LINK.with_borrow_mut(|link| link.breaker.is_closed() || link.breaker.admits(now())) {
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
                LINK.with_borrow_mut(|link| link.breaker.succeeded());
                OUTAGE.with(Outage::succeeded);
                return Ok(reply);
            }
            Some(Err(error)) => describe(&error),
            None => "no answer in time".to_owned(),
        };
        OUTAGE.with(|outage| outage.failed(&failure, "requests do without it"));
        LINK.with_borrow_mut(|link| {
            link.connection = None;
            link.breaker.failed(now());
        });
        Err(ReservationsUnavailable)
    }

    /// Sends a command over the kept connection, and over a new one if that is dead. A reservation may run twice: the second
    /// one finds our own record.
    async fn attempt(&self, url: &str, command: &Command) -> Result<Reply, Error> {
        let connection = self.connection(url).await?;
        self.log.count_trip();
        match execute(&connection, command).await {
            Ok(reply) => return Ok(reply),
            Err(_) => LINK.with_borrow_mut(|link| link.forget(&connection)),
        }
        let another = self.connection(url).await?;
        self.log.count_trip();
        execute(&another, command).await
    }

    /// The kept connection, or a new one that is kept from now on. Concurrent requests share one.
    async fn connection(&self, url: &str) -> Result<Rc<Connection>, Error> {
        let connecting = CONNECTING.with(Rc::clone);
        loop {
            if let Some(connection) = LINK.with_borrow(|link| link.connection.clone()) {
                return Ok(connection);
            }
            // If the request that connected has failed, the first that is woken connects.
            let Some(_flight) = connecting.join().await else {
                continue;
            };
            let connection = Rc::new(Connection::open(url).await?);
            LINK.with_borrow_mut(|link| link.connection = Some(connection.clone()));
            return Ok(connection);
        }
    }
}

/// The state of the breaker.
pub fn breaker() -> State {
    LINK.with_borrow(|link| match link.breaker.is_closed() {
        true => State::Closed,
        false => link.breaker.state(now()),
    })
}

impl Link {
    /// Drops the kept connection if it is still this one.
    fn forget(&mut self, dead: &Rc<Connection>) {
        self.connection.take_if(|kept| Rc::ptr_eq(kept, dead));
    }
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
