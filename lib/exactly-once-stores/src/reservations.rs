//! Redis, as one request uses it: over one connection to each node that lives as long as the instance, because
//! connecting costs more than a command. No connection reconnects by itself, so any error drops it.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::error::ReservationsUnavailable;
use exactly_once::ports::{Condition, Lock, Locks, Probe, Probes, RecordLookup, Reservation, Reservations};
use exactly_once::{KeyScope, Record};

use crate::instance::{Instance, Node, Request};
use crate::platform::{CommandError, Platform};
use crate::redis::cluster::{ASK, MOVED, redirection};
use crate::redis::locks::{Locking, lock};
use crate::redis::{Command, Records, Reply, record, reservation};

/// How many nodes of a cluster a command is sent to at most: the likely one, the one that it names, and a third one if
/// the key is moved meanwhile.
const NODES_ASKED: u32 = 3;

/// Where Redis is, and what a request may use of it.
#[derive(Clone, Copy, Debug)]
pub struct RedisSettings<'s> {
    /// Its address, if there is a Redis.
    pub url: Option<&'s str>,
    /// The prefix of every name.
    pub prefix: &'s str,
    /// How long a record is kept.
    pub ttl: Duration,
    /// The longest time that a lock is held.
    pub lease: Duration,
    /// How long a request may wait for Redis in all.
    pub timeout: Duration,
}

impl<'s> RedisSettings<'s> {
    fn records(&self) -> Records<'s> {
        Records { prefix: self.prefix, ttl: self.ttl }
    }

    fn locking(&self) -> Locking<'s> {
        Locking { prefix: self.prefix, lease: self.lease }
    }
}

/// Redis, as one request uses it.
pub struct Redis<'r, P: Platform> {
    instance: &'r Instance<P>,
    request: &'r Request<P>,
    settings: RedisSettings<'r>,
}

impl<'r, P: Platform> Redis<'r, P> {
    /// For a request of an instance.
    pub fn new(instance: &'r Instance<P>, request: &'r Request<P>, settings: RedisSettings<'r>) -> Self {
        Self { instance, request, settings }
    }

    /// Sends a command unless the breaker of its node is open.
    async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        self.command(command, true).await
    }

    async fn command(&self, command: Command, guarded: bool) -> Result<Reply, ReservationsUnavailable> {
        let request = self.request;
        let url = self.settings.url.ok_or(ReservationsUnavailable)?;
        let mut node = self.instance.node_for(url, &command);
        let _wait = request.waits_for_redis();
        for _ in 0..NODES_ASKED {
            let rest = request.redis_budget.rest(self.settings.timeout);
            if rest.is_zero() || guarded && !node.admits(request.platform()) {
                break;
            }
            let attempt = self.attempt(&node, &command);
            let answer = request.timer().within(&request.redis_budget, rest, attempt).await;
            match self.noted(&node, &command, answer) {
                Ok(reply) => return Ok(reply),
                Err(Some(other)) => node = other,
                Err(None) => break,
            }
        }
        Err(ReservationsUnavailable)
    }

    /// The reply of a node; otherwise the node that has the key, if this one has named it.
    #[inline(never)]
    fn noted(
        &self,
        node: &Node<P>,
        command: &Command,
        answer: Option<Result<Reply, CommandError>>,
    ) -> Result<Reply, Option<Rc<Node<P>>>> {
        let (platform, outage) = (self.request.platform(), &self.instance.redis_outage);
        let failure = match answer {
            Some(Ok(reply)) => {
                node.breaker.borrow_mut().succeeded();
                outage.succeeded(platform, "redis");
                return Ok(reply);
            }
            Some(Err(error)) => error.text,
            None => "no answer in time".to_owned(),
        };
        let other = self.instance.redirected(node, command, &failure);
        if other.is_some() {
            node.breaker.borrow_mut().succeeded();
        } else {
            outage.failed(platform, "redis", &failure, "requests do without it");
            node.connection.take();
            node.breaker.borrow_mut().failed(platform.now());
        }
        Err(other)
    }

    /// Sends a command over the kept connection, and over a new one if that is dead. A reservation may run twice: the
    /// second one finds the record of the first.
    async fn attempt(&self, node: &Node<P>, command: &Command) -> Result<Reply, CommandError> {
        let connection = self.connection(node).await?;
        match self.send(&connection, command).await {
            Err(error) if redirection(&error.text, MOVED).is_none() => {}
            answered => return answered,
        }
        let is_dead = |kept: &mut Rc<P::Link>| Rc::ptr_eq(kept, &connection);
        node.connection.borrow_mut().take_if(is_dead);
        let another = self.connection(node).await?;
        self.send(&another, command).await
    }

    async fn send(&self, connection: &P::Link, command: &Command) -> Result<Reply, CommandError> {
        self.request.count_trip();
        match self.request.platform().send(connection, command).await {
            // This is about the key or the command, not about the server: other requests need not do without Redis.
            Err(error) if error.text.contains("WRONGTYPE") => Ok(Reply::Refused),
            Err(error) if redirection(&error.text, ASK).is_some() => Ok(Reply::Refused),
            Err(error) if error.text.contains("NOPERM") || error.text.contains("unknown command") => {
                let line = format!("redis: {} is refused: {}", command.name, error.text);
                let kind = format!("redis {}", command.name);
                self.instance.said.once(self.request.platform(), kind, &line);
                Ok(Reply::Refused)
            }
            result => result,
        }
    }

    /// The kept connection, or a new one that is kept from now on. Concurrent requests share one.
    async fn connection(&self, node: &Node<P>) -> Result<Rc<P::Link>, CommandError> {
        loop {
            if let Some(connection) = &*node.connection.borrow() {
                return Ok(connection.clone());
            }
            // If the request that connected has failed, the first that is woken connects.
            let Some(_flight) = node.dialing.join().await else {
                continue;
            };
            let connection = Rc::new(self.request.platform().dial(&node.url).await?);
            *node.connection.borrow_mut() = Some(connection.clone());
            return Ok(connection);
        }
    }
}

impl<P: Platform> Reservations for Redis<'_, P> {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.settings.records().reserve(scope, record);
        self.guarded(command).await.map(reservation)
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.records().complete(scope, record);
        self.guarded(command).await.map(|_| ())
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.records().withdraw(scope, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl<P: Platform> RecordLookup for Redis<'_, P> {
    async fn find_record(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.settings.records().find_record(scope);
        self.guarded(command).await.map(record)
    }
}

impl<P: Platform> Locks for Redis<'_, P> {
    async fn acquire(&self, scope: &KeyScope) -> Result<Lock, ReservationsUnavailable> {
        let command = self.settings.locking().acquire(scope);
        lock(self.guarded(command).await?).ok_or(ReservationsUnavailable)
    }

    async fn release(&self, scope: &KeyScope) -> Result<(), ReservationsUnavailable> {
        let command = self.settings.locking().release(scope);
        self.guarded(command).await.map(|_| ())
    }
}

impl<P: Platform> Probes for Redis<'_, P> {
    /// Asks Redis even when the breaker is open, and tells the breaker the outcome.
    async fn probe(&self) -> Probe {
        let platform = self.request.platform();
        let start = platform.now();
        let reply = self.command(self.settings.locking().probe(), false).await;
        let condition = match reply.map(lock) {
            Ok(Some(_)) => Condition::Up,
            Ok(None) => Condition::Unfit,
            Err(ReservationsUnavailable) => Condition::Unreachable,
        };
        Probe::since(start, platform.now(), condition)
    }
}

#[cfg(test)]
mod tests {
    use exactly_once::breaker::{COOL_DOWN, State};
    use exactly_once::ports::Clock;
    use exactly_once::{Document, Fingerprint, Progress};
    use futures::join;

    use super::*;
    use crate::testing::RedisScript::{Error, Never, Reply as Replies};
    use crate::testing::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    struct Fixture {
        platform: TestPlatform,
        instance: Instance<TestPlatform>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { platform: TestPlatform::default(), instance: Instance::new(TestSignals) }
        }

        fn request(&self) -> Request<TestPlatform> {
            Request::new(&self.instance, self.platform.clone(), true)
        }

        fn redis<'r>(&'r self, request: &'r Request<TestPlatform>) -> Redis<'r, TestPlatform> {
            self.at(request, Some("redis"))
        }

        fn at<'r>(&'r self, request: &'r Request<TestPlatform>, url: Option<&'r str>) -> Redis<'r, TestPlatform> {
            let settings = RedisSettings { url, prefix: "p:", ttl: MS, lease: MS, timeout: TIMEOUT };
            Redis::new(&self.instance, request, settings)
        }

        /// A reservation of a new request.
        fn reserve(&self) -> Result<Reservation, ReservationsUnavailable> {
            let request = self.request();
            let redis = self.redis(&request);
            self.platform.run(redis.reserve(&new_order().scope, &record_of()))
        }

        fn probe(&self) -> bool {
            let request = self.request();
            self.platform.run(self.redis(&request).probe()).is_up()
        }

        fn breaker(&self) -> State {
            self.instance.breaker(&self.platform)
        }
    }

    fn record_of() -> Record {
        let new = new_order();
        Record {
            progress: Progress::InProgress,
            fingerprint: Fingerprint::of(&new.scope, "POST", "/", &Document::from_text("")),
            id: new.id,
        }
    }

    #[test]
    fn the_connection_is_kept_and_shared() {
        let it = Fixture::new();
        it.platform.commands(vec![Replies(Reply::Nil); 3]);
        let requests = [it.request(), it.request()];
        let [one, other] = [0, 1].map(|n| it.redis(&requests[n]));
        let (scope, record) = (new_order().scope, record_of());
        let both = async { join!(one.reserve(&scope, &record), other.find_record(&scope)) };
        assert_eq!(it.platform.run(both), (Ok(Reservation::Acquired), Ok(None)));
        assert_eq!(it.reserve(), Ok(Reservation::Acquired));
        assert_eq!(it.platform.sent(), ["1 dial", "1 SET", "1 GET", "1 SET"]);
    }

    #[test]
    fn a_command_is_sent_again_over_a_new_connection_if_the_kept_one_is_dead() {
        let it = Fixture::new();
        it.platform.commands([Replies(Reply::Nil), Error("broken pipe"), Replies(Reply::Nil)]);
        assert_eq!(it.reserve(), Ok(Reservation::Acquired));
        let request = it.request();
        let redis = it.redis(&request);
        let reserved = it.platform.run(redis.reserve(&new_order().scope, &record_of()));
        assert_eq!(reserved, Ok(Reservation::Acquired));
        assert_eq!(request.trips(), 2);
        let sent = it.platform.sent();
        assert_eq!(sent, ["1 dial", "1 SET", "1 SET", "2 dial", "2 SET"]);
        assert_eq!(it.breaker(), State::Closed);
        assert!(it.platform.lines().is_empty());
    }

    #[test]
    fn after_a_failure_requests_do_without_redis_until_a_probe_succeeds() {
        let it = Fixture::new();
        it.platform.commands([Error("one"), Error("two")]);
        assert_eq!(it.reserve(), Err(ReservationsUnavailable));
        assert_eq!(it.platform.sent().len(), 4, "two connections");
        assert_eq!(it.platform.lines(), ["redis: down: two; requests do without it"]);
        assert_eq!(it.breaker(), State::Open);
        assert_eq!(it.reserve(), Err(ReservationsUnavailable));
        assert!(it.platform.sent().is_empty());

        it.platform.pass(COOL_DOWN);
        assert_eq!(it.breaker(), State::HalfOpen);
        it.platform.dials([Error("refused")]);
        assert_eq!(it.reserve(), Err(ReservationsUnavailable));
        assert_eq!(it.platform.sent(), ["3 dial"]);
        it.platform.pass(COOL_DOWN);
        it.platform.commands([Replies(Reply::Nil)]);
        assert_eq!(it.reserve(), Ok(Reservation::Acquired));
        assert_eq!(it.breaker(), State::Closed);
        assert_eq!(it.platform.lines(), ["redis: back after 4 s"]);
    }

    #[test]
    fn no_answer_in_time_is_a_failure_and_the_time_is_the_requests() {
        let it = Fixture::new();
        it.platform.commands([Never]);
        let request = it.request();
        let redis = it.redis(&request);
        let start = it.platform.now();
        let (scope, record) = (new_order().scope, record_of());
        assert!(it.platform.run(redis.reserve(&scope, &record)).is_err());
        assert_eq!(it.platform.now() - start, TIMEOUT);
        assert_eq!(request.redis_time(), TIMEOUT);
        assert_eq!(it.breaker(), State::Open);
        it.platform.sent();
        // Nothing is sent, although the breaker would allow it.
        it.platform.pass(COOL_DOWN);
        assert!(it.platform.run(redis.complete(&scope, &record)).is_err());
        assert!(it.platform.sent().is_empty());
    }

    #[test]
    fn a_probe_asks_also_when_the_breaker_is_open_and_closes_it() {
        let it = Fixture::new();
        it.platform.dials([Error("refused")]);
        assert!(!it.probe());
        assert_eq!(it.breaker(), State::Open);
        it.platform.commands([Replies(Reply::Nil)]);
        assert!(it.probe());
        assert_eq!(it.breaker(), State::Closed);
    }

    #[test]
    fn a_cluster_s_other_node_is_asked_and_remembered_and_has_a_breaker_of_its_own() {
        let it = Fixture::new();
        let moved = |node| Error(["- Moved: 1 one:1", "- Moved: 1 two:2"][node]);
        let scopes = [b"k", b"l"]
            .map(|key| KeyScope { key: exactly_once::IdempotencyKey::parse(key).expect("a key"), ..new_order().scope });
        let at = |key: usize| {
            let request = it.request();
            it.platform.run(it.at(&request, Some("redis://u:p@zero")).reserve(&scopes[key], &record_of()))
        };
        it.platform.commands([moved(0), Replies(Reply::Nil), Replies(Reply::Nil)]);
        assert_eq!([at(0), at(0)], [Ok(Reservation::Acquired); 2]);
        assert_eq!(it.platform.sent(), ["1 dial", "1 SET", "2 dial", "2 SET", "2 SET"]);
        // Node after node names another one.
        it.platform.commands([moved(1), moved(0), moved(1)]);
        assert_eq!(at(1), Err(ReservationsUnavailable));
        assert_eq!(it.platform.sent().len(), 4);
        assert_eq!(it.breaker(), State::Closed);
        assert!(it.platform.lines().is_empty());
        // One is down: its keys do without Redis, and those of the other one are there.
        it.platform.commands([Error("one"), Error("two"), Replies(Reply::Nil)]);
        assert_eq!([at(1), at(1)], [Err(ReservationsUnavailable); 2]);
        assert_eq!(at(0), Ok(Reservation::Acquired));
        assert_eq!(it.breaker(), State::Open);
    }

    #[test]
    fn a_key_of_another_type_or_of_a_slot_that_is_being_moved_is_no_outage() {
        for error in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "An error was signalled by the server - Ask: 1 other:6379",
        ] {
            let it = Fixture::new();
            it.platform.commands([Error(error)]);
            assert_eq!(it.reserve(), Ok(Reservation::Unintelligible), "{error}");
            assert_eq!(it.breaker(), State::Closed);
            assert_eq!(it.platform.sent(), ["1 dial", "1 SET"]);
        }
    }

    #[test]
    fn a_command_that_the_user_may_not_send_is_no_outage_and_readiness_says_so() {
        let it = Fixture::new();
        let refused = "NOPERM: User app has no permissions to run the 'eval' command";
        it.platform.commands([Error(refused), Error(refused), Replies(Reply::Nil)]);
        assert!(!it.probe() && !it.probe());
        assert_eq!(it.breaker(), State::Closed);
        assert_eq!(it.reserve(), Ok(Reservation::Acquired));
        assert_eq!(it.platform.sent(), ["1 dial", "1 EVAL", "1 EVAL", "1 SET"]);
        assert_eq!(it.platform.lines(), [format!("redis: EVAL is refused: {refused}")]);
    }

    #[test]
    fn without_an_address_every_call_fails_at_once() {
        let it = Fixture::new();
        let request = it.request();
        let redis = it.at(&request, None);
        assert!(!it.platform.run(redis.probe()).is_up());
        assert!(it.platform.sent().is_empty() && it.platform.lines().is_empty());
        assert_eq!(it.breaker(), State::Closed);
    }

    #[test]
    fn locks_are_commands_as_well() {
        let it = Fixture::new();
        let request = it.request();
        let redis = it.redis(&request);
        let scope = new_order().scope;
        it.platform.commands([
            Replies(Reply::Nil),
            Replies(Reply::Bytes(b"7".into())),
            Replies(Reply::Refused),
            Replies(Reply::Bytes(b"1".into())),
            Replies(Reply::Bytes(b"1".into())),
        ]);
        let acquire = || it.platform.run(redis.acquire(&scope));
        assert_eq!(acquire(), Ok(Lock::Acquired));
        assert_eq!(acquire(), Ok(Lock::Held { remaining: MS * 7 }));
        assert_eq!(acquire(), Err(ReservationsUnavailable));
        assert_eq!(it.platform.run(redis.release(&scope)), Ok(()));
        let record = record_of();
        assert_eq!(it.platform.run(redis.withdraw(&scope, &record)), Ok(()));
        assert_eq!(it.platform.sent().len(), 6);
    }
}
