//! Redis, as one request uses it: over one connection that lives as long as the instance, because connecting costs more than a
//! command. No connection reconnects by itself, so any error drops it.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::error::ReservationsUnavailable;
use exactly_once::ports::{
    List, Lock, Locks, Probe, Probes, RecordLookup, Reservation, Reservations,
};
use exactly_once::{KeyScope, Record, ResourceId};

use crate::instance::{Instance, Request};
use crate::platform::{CommandError, Platform};
use crate::redis::locks::{Locking, lock};
use crate::redis::{Command, Records, Reply, ping, record, reservation};

/// Where Redis is, and what a request may use of it.
#[derive(Clone, Copy, Debug)]
pub struct RedisSettings<'s> {
    /// Its address, if there is a Redis.
    pub url: Option<&'s str>,
    /// How records are stored.
    pub records: Records<'s>,
    /// How locks are stored.
    pub locking: Locking<'s>,
    /// How long a request may wait for Redis in all.
    pub timeout: Duration,
}

/// Redis, as one request uses it.
pub struct Redis<'r, P: Platform> {
    instance: &'r Instance<P>,
    request: &'r Request<P>,
    settings: RedisSettings<'r>,
}

impl<'r, P: Platform> Redis<'r, P> {
    /// For a request of an instance.
    pub fn new(
        instance: &'r Instance<P>,
        request: &'r Request<P>,
        settings: RedisSettings<'r>,
    ) -> Self {
        Self {
            instance,
            request,
            settings,
        }
    }

    /// Sends a command unless the breaker is open.
    async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        let admitted = {
            let breaker = &mut self.instance.link.borrow_mut().breaker;
            breaker.is_closed() || breaker.admits(self.request.platform().now())
        };
        match admitted {
            true => self.command(command).await,
            false => Err(ReservationsUnavailable),
        }
    }

    async fn command(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        let (request, platform) = (self.request, self.request.platform());
        let rest = request.redis_budget.rest(self.settings.timeout);
        let Some(url) = self.settings.url.filter(|_| !rest.is_zero()) else {
            return Err(ReservationsUnavailable);
        };
        let _wait = request.waits_for_redis();
        let attempt = self.attempt(url, &command);
        let timer = request.timer();
        let failure = match timer.within(&request.redis_budget, rest, attempt).await {
            Some(Ok(reply)) => {
                self.instance.link.borrow_mut().breaker.succeeded();
                self.instance.redis_outage.succeeded(platform, "redis");
                return Ok(reply);
            }
            Some(Err(error)) => error.text,
            None => "no answer in time".to_owned(),
        };
        let outage = &self.instance.redis_outage;
        outage.failed(platform, "redis", &failure, "requests do without it");
        let mut link = self.instance.link.borrow_mut();
        link.connection = None;
        link.breaker.failed(platform.now());
        Err(ReservationsUnavailable)
    }

    /// Sends a command over the kept connection, and over a new one if that is dead. A reservation may run twice: the second
    /// one finds our own record.
    async fn attempt(&self, url: &str, command: &Command) -> Result<Reply, CommandError> {
        let connection = self.connection(url).await?;
        if let Ok(reply) = self.send(&connection, command).await {
            return Ok(reply);
        }
        let is_dead = |kept: &mut Rc<P::Link>| Rc::ptr_eq(kept, &connection);
        self.instance.link.borrow_mut().connection.take_if(is_dead);
        let another = self.connection(url).await?;
        self.send(&another, command).await
    }

    async fn send(&self, connection: &P::Link, command: &Command) -> Result<Reply, CommandError> {
        self.request.count_trip();
        match self.request.platform().send(connection, command).await {
            // This is about the key, not about the server: other requests need not do without Redis.
            Err(error) if error.text.contains("WRONGTYPE") => Ok(Reply::WrongType),
            result => result,
        }
    }

    /// The kept connection, or a new one that is kept from now on. Concurrent requests share one.
    async fn connection(&self, url: &str) -> Result<Rc<P::Link>, CommandError> {
        loop {
            if let Some(connection) = &self.instance.link.borrow().connection {
                return Ok(connection.clone());
            }
            // If the request that connected has failed, the first that is woken connects.
            let Some(_flight) = self.instance.dialing.join().await else {
                continue;
            };
            let connection = Rc::new(self.request.platform().dial(url).await?);
            self.instance.link.borrow_mut().connection = Some(connection.clone());
            return Ok(connection);
        }
    }
}

impl<P: Platform> Reservations for Redis<'_, P> {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.settings.records.reserve(scope, record);
        self.guarded(command).await.map(reservation)
    }

    async fn complete(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.records.complete(scope, record);
        self.guarded(command).await.map(|_| ())
    }

    async fn withdraw(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.records.withdraw(scope, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl<P: Platform> RecordLookup for Redis<'_, P> {
    async fn find_record(
        &self,
        scope: &KeyScope,
    ) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.settings.records.find_record(scope);
        self.guarded(command).await.map(record)
    }
}

impl<P: Platform> Locks for Redis<'_, P> {
    async fn acquire(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        let command = self.settings.locking.acquire(list, holder);
        lock(self.guarded(command).await?).ok_or(ReservationsUnavailable)
    }

    async fn release(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.locking.release(list, holder);
        self.guarded(command).await.map(|_| ())
    }
}

impl<P: Platform> Probes for Redis<'_, P> {
    /// Asks Redis even when the breaker is open, and tells the breaker the outcome.
    async fn probe(&self) -> Probe {
        let platform = self.request.platform();
        let start = platform.now();
        let up = self.command(ping()).await.is_ok();
        Probe::since(start, platform.now(), up)
    }
}
