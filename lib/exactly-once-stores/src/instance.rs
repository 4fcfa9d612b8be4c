//! What outlives a request, for all requests of an instance; and what one request has used of the stores.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use exactly_once::breaker::{Breaker, State};
use exactly_once::group_commit::{Group, Ticket};
use exactly_once::history::HistoryMonitor;
use exactly_once::ports::{Clock, Probe};
use exactly_once::single_flight::SingleFlight;
use exactly_once::{Collection, KnownHistory};

use crate::deadline::{Budget, Timer, Watch};
use crate::kept::Kept;
use crate::outage::{Outage, Said};
use crate::platform::{Place, Platform};
use crate::redis::Command;
use crate::redis::cluster::{MOVED, Slots, redirection, url_at};
use crate::sql::Statements;
use crate::{postgres, sqlite};

/// What the requests of one instance share: it uses one database and one Redis.
pub struct Instance<P: Platform> {
    signals: P::Signals,
    watch: Rc<Watch<P>>,
    tables: RefCell<Vec<Rc<Table<P>>>>,
    pub(crate) history: RefCell<HistoryMonitor>,
    pub(crate) asking: SingleFlight<P::Signals>,
    pub(crate) kept: Rc<Kept<P::Connection>>,
    pub(crate) database_outage: Outage,
    /// How many statements in a row have timed out.
    pub(crate) time_outs: Cell<u32>,
    nodes: RefCell<Vec<Rc<Node<P>>>>,
    slots: RefCell<Slots<Rc<Node<P>>>>,
    pub(crate) redis_outage: Outage,
    pub(crate) said: Said,
    probing: SingleFlight<P::Signals>,
    /// The last probes of Redis and of the database, and when they ended.
    probed: Cell<Option<(Duration, (Probe, Probe))>>,
}

/// How long every caller gets the result of the same probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The table of a collection.
pub(crate) struct Table<P: Platform> {
    pub collection: Collection,
    pub statements: Statements,
    pub group: Rc<Group<P::Signals>>,
}

/// A Redis, or a node of a cluster.
pub(crate) struct Node<P: Platform> {
    pub url: String,
    pub connection: RefCell<Option<Rc<P::Link>>>,
    pub dialing: SingleFlight<P::Signals>,
    pub breaker: RefCell<Breaker>,
}

impl<P: Platform> Node<P> {
    /// Whether its breaker allows a command now.
    pub fn admits(&self, clock: &impl Clock) -> bool {
        let breaker = &mut self.breaker.borrow_mut();
        breaker.is_closed() || breaker.admits(clock.now())
    }
}

impl<P: Platform> Instance<P> {
    /// An instance that has served no request.
    pub fn new(signals: P::Signals) -> Self {
        Self {
            watch: Rc::new(Watch::new(signals.clone())),
            tables: RefCell::default(),
            history: RefCell::default(),
            asking: SingleFlight::new(signals.clone()),
            kept: Rc::default(),
            database_outage: Outage::default(),
            time_outs: Cell::default(),
            nodes: RefCell::default(),
            slots: RefCell::default(),
            redis_outage: Outage::default(),
            said: Said::default(),
            probing: SingleFlight::new(signals.clone()),
            probed: Cell::default(),
            signals,
        }
    }

    pub(crate) fn table(&self, collection: &Collection, place: Place<'_>) -> Rc<Table<P>> {
        let mut tables = self.tables.borrow_mut();
        if let Some(table) = tables.iter().find(|t| t.collection.name == collection.name) {
            return table.clone();
        }
        let statements = match place {
            Place::Postgres { .. } => postgres::statements(collection),
            Place::Sqlite => sqlite::statements(collection),
        };
        let table = self.new_table(collection, statements);
        tables.push(table.clone());
        table
    }

    fn new_table(&self, collection: &Collection, statements: Statements) -> Rc<Table<P>> {
        Rc::new(Table { collection: *collection, statements, group: Rc::new(Group::new(self.signals.clone())) })
    }

    /// Sends a copy of these statements about a collection: they need not be formatted once more.
    pub fn copy_statements(&self, collection: &Collection, statements: &Statements) {
        let table = self.new_table(collection, statements.clone());
        self.tables.borrow_mut().push(table);
    }

    /// The node with this URL.
    fn node(&self, url: &str) -> Rc<Node<P>> {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(node) = nodes.iter().find(|node| node.url == url) {
            return node.clone();
        }
        let node = Rc::new(Node {
            url: url.to_owned(),
            connection: RefCell::default(),
            dialing: SingleFlight::new(self.signals.clone()),
            breaker: RefCell::default(),
        });
        nodes.push(node.clone());
        node
    }

    /// The node to send a command to: the one with this URL, unless that is a cluster's.
    pub(crate) fn node_for(&self, url: &str, command: &Command) -> Rc<Node<P>> {
        let guess = self.slots.borrow().guess(command).cloned();
        guess.unwrap_or_else(|| self.node(url))
    }

    /// The node that another one has named in an error, if that is what the error says.
    pub(crate) fn redirected(&self, from: &Node<P>, command: &Command, error: &str) -> Option<Rc<Node<P>>> {
        let node = self.node(&url_at(&from.url, redirection(error, MOVED)?)?);
        self.slots.borrow_mut().learn(command, node.clone());
        Some(node)
    }

    /// The state of Redis's breaker; of a cluster's, one that is not closed.
    pub fn breaker(&self, clock: &impl Clock) -> State {
        let nodes = self.nodes.borrow();
        let mut breakers = nodes.iter().map(|node| node.breaker.borrow()).filter(|breaker| !breaker.is_closed());
        breakers.next().map_or(State::Closed, |breaker| breaker.state(clock.now()))
    }

    /// Whether the host does not permit the database's address.
    pub fn misconfigured(&self) -> bool {
        self.database_outage.misconfigured.get()
    }

    /// The result of `probe`, or of another request's that has ended within the last second or is under way.
    pub async fn probe(&self, clock: &impl Clock, probe: impl Future<Output = (Probe, Probe)>) -> (Probe, Probe) {
        loop {
            let fresh = |(at, _): &(Duration, _)| clock.now().saturating_sub(*at) < PROBE_INTERVAL;
            if let Some((_, probes)) = self.probed.get().filter(fresh) {
                return probes;
            }
            // If the request that probed has died, the first that is woken probes.
            let Some(_flight) = self.probing.join().await else {
                continue;
            };
            let probes = probe.await;
            self.probed.set(Some((clock.now(), probes)));
            return probes;
        }
    }

    /// What is known of the database's history.
    pub fn known_history(&self, clock: &impl Clock) -> KnownHistory {
        self.history.borrow().known(clock.now())
    }
}

/// What one request has used of the stores: of its time for each, and in all.
pub struct Request<P: Platform> {
    timer: Timer<P>,
    pub(crate) redis_budget: Budget,
    pub(crate) database_budget: Budget,
    /// Lets other requests wait for this one's insertion.
    pub(crate) ticket: Cell<Option<Ticket<P::Signals>>>,
    measured: bool,
    redis_time: Waited,
    database_time: Waited,
    trips: Cell<u32>,
}

impl<P: Platform> Request<P> {
    /// A request of an instance that has used nothing. Unless it is `measured` it reads the clock for no measurement.
    pub fn new(instance: &Instance<P>, platform: P, measured: bool) -> Self {
        Self {
            timer: Timer::new(platform, instance.watch.clone()),
            redis_budget: Budget::default(),
            database_budget: Budget::default(),
            ticket: Cell::new(None),
            measured,
            redis_time: Waited::default(),
            database_time: Waited::default(),
            trips: Cell::default(),
        }
    }

    /// The host that it runs on.
    pub fn platform(&self) -> &P {
        self.timer.clock()
    }

    /// Its timer.
    pub fn timer(&self) -> &Timer<P> {
        &self.timer
    }

    /// How long it has waited for Redis.
    pub fn redis_time(&self) -> Duration {
        self.redis_time.total.get()
    }

    /// How long it has waited for the database.
    pub fn database_time(&self) -> Duration {
        self.database_time.total.get()
    }

    /// How many commands and statements it has sent.
    pub fn trips(&self) -> u32 {
        self.trips.get()
    }

    pub(crate) fn count_trip(&self) {
        self.trips.set(self.trips.get() + 1);
    }

    pub(crate) fn waits_for_redis(&self) -> Measurement<'_, P> {
        self.measure(&self.redis_time)
    }

    pub(crate) fn waits_for_database(&self) -> Measurement<'_, P> {
        self.measure(&self.database_time)
    }

    fn measure<'l>(&'l self, waited: &'l Waited) -> Measurement<'l, P> {
        Measurement { clock: self.platform(), waited, since: self.measured.then(|| self.platform().now()) }
    }
}

/// How long a request has waited for a store, and until when that was measured: waits at the same time count once.
#[derive(Default)]
struct Waited {
    total: Cell<Duration>,
    until: Cell<Duration>,
}

/// Measures how long a request waits for a store, until it is dropped.
pub(crate) struct Measurement<'l, P: Platform> {
    clock: &'l P,
    waited: &'l Waited,
    since: Option<Duration>,
}

impl<P: Platform> Drop for Measurement<'_, P> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            let (now, total) = (self.clock.now(), &self.waited.total);
            let since = since.max(self.waited.until.replace(now));
            total.set(total.get() + now.saturating_sub(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use exactly_once::ports::Condition;

    use super::*;
    use crate::testing::{MS, TestPlatform, TestSignals};

    #[test]
    fn callers_share_a_probe_for_a_second() {
        let (platform, instance) = (TestPlatform::default(), Instance::<TestPlatform>::new(TestSignals));
        let probes = |latency_ms| {
            let probe = Probe { condition: Condition::Up, latency_ms };
            (probe, probe)
        };
        let ask = |latency_ms| instance.probe(&platform, async move { probes(latency_ms) }).now_or_never();
        let mut dies = Box::pin(instance.probe(&platform, std::future::pending()));
        assert!(dies.as_mut().now_or_never().is_none());
        assert_eq!(ask(1.0), None, "another one is under way");
        drop(dies);
        assert_eq!(ask(2.0), Some(probes(2.0)));
        platform.pass(PROBE_INTERVAL - MS);
        assert_eq!(ask(3.0), Some(probes(2.0)));
        platform.pass(MS);
        assert_eq!(ask(4.0), Some(probes(4.0)));
    }
}
