//! One run: takes steps as a driver chooses them, and checks what must hold after each.

#![allow(clippy::indexing_slicing, reason = "actors and their instances are numbered from 0")]

use std::cell::Ref;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use exactly_once::breaker::State;
use exactly_once::create::ReplayPolicy;
use exactly_once::history::OUTAGE;
use exactly_once::ports::{Attempt, Clock, ConditionalInsertion, Insertion, List};
use exactly_once::{ListState, Progress, Record};
use exactly_once_http::Response;
use exactly_once_stores::redis::Reply;

use crate::broken::Break;
use crate::check::{Arrival, Asked, Checker, Invariant, Verdict, Violation};
use crate::client_request::{ClientRequest, Condition};
use crate::coverage::{Coverage, Event};
use crate::fault::{Fault, PAUSE, Point, SLOW};
use crate::host::{LOCK_TIMEOUT, SimulatedHost};
use crate::platform::{LastConnection, Lost, Outcome, Shared, Simulated};
use crate::scenario::{Running, Scenario, start};
use crate::tables::{Snapshot, Tables};
use crate::wire::new_instance;
use crate::world::{Answer, Call, World};

/// How many calls one request may make. A request with more calls is taken to be in an endless loop.
const MAX_CALLS: u32 = 20;

/// How much time passes after all faults: longer than an instance believes a history, and than a lock's lease.
const SETTLING: Duration = Duration::from_secs(10);

/// The actor of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The request of this client that is under way.
    Client(usize),
    /// A store, which executes the delayed call of this number.
    Delayed(usize),
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its actor.
    pub actor: Actor,
    /// The fault in it.
    pub fault: Option<Fault>,
}

/// A step that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// Its actor.
    pub actor: Actor,
    /// The call at which a fault can be placed; `None` where no fault can.
    pub point: Option<Point>,
    /// Its statement waits for another one's commit: only a fault can end the wait from its side.
    pub blocked: bool,
}

impl Enabled {
    /// Whether another request has to do something first.
    pub fn waits(&self) -> bool {
        self.blocked || self.point == Some(Point::Wait)
    }

    /// Whether that fault can be placed in the step.
    pub fn allows(&self, fault: Fault) -> bool {
        self.point.is_some_and(|point| fault.applies_at(point))
            && (!self.blocked || Fault::WHILE_WAITING.contains(&fault))
    }
}

/// Chooses the next step among the enabled ones; there is at least one.
pub trait Driver {
    /// The choice, or `None` to end the run here.
    fn next(&mut self, enabled: &[Enabled]) -> Option<Step>;
}

/// A violation, and the steps that led to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The violation.
    pub violation: Violation,
    /// All steps up to it.
    pub steps: Vec<Step>,
    /// The same as text; empty unless the run was traced.
    pub trace: Vec<String>,
}

/// An instance of the component.
struct Instance {
    stores: Rc<exactly_once_stores::Instance<Simulated>>,
    last: LastConnection,
    /// When a statement failed last.
    failed: Option<Duration>,
}

struct Request {
    running: Running,
    platform: Simulated,
    /// `None`: it waits for another request of its instance.
    call: Option<Rc<Call>>,
    calls: u32,
    insertions: u32,
    /// The snapshot of an insertion that has begun.
    snapshot: Option<Snapshot>,
    /// The row that it has inserted and not committed.
    open: Option<usize>,
    /// Its connection to Postgres is closed.
    disconnected: bool,
    arrival: Arrival,
}

/// Longer than a request may take.
const LONGEST: Duration = Duration::from_secs(3600);

const WAITS_FOR_EVER: &str = "none: a request whose time is over still waits";

/// When the outcome of a call reaches its request, and which; `None` if nothing does.
type Reaction = (Duration, Option<Outcome>);

impl Request {
    fn point(&self) -> Point {
        match (self.call.as_deref(), self.insertions) {
            (None, _) => Point::Wait,
            _ if self.open.is_some() => Point::Commit,
            (Some(Call::Reserve(..)), _) => Point::Reserve,
            (Some(Call::Set(..)), _) => Point::Complete,
            (Some(Call::Withdraw(..) | Call::Delete(_)), _) => Point::Withdraw,
            (Some(Call::InsertAll(..)), _) => Point::InsertNew,
            (Some(Call::Acquire(..)), _) => Point::Acquire,
            (Some(Call::Release(..)), _) => Point::Release,
            (Some(Call::Find(..)), _) => Point::Find,
            (Some(Call::AskHistory | Call::DrawHistory), _) => Point::AskHistory,
            (Some(Call::InsertBasedOn(..) | Call::InsertBasedOnUnchecked(..) | Call::InsertBasedOnOld(..)), _) => {
                Point::InsertBasedOn
            }
            (Some(_), 0) => Point::Insert,
            (Some(_), _) => Point::InsertAgain,
        }
    }

    /// Whether the next step takes the snapshot of an insertion that reads; its execution is a step of its own.
    fn begins(&self) -> bool {
        let point = self.point();
        matches!(point, Point::Insert | Point::InsertAgain | Point::InsertBasedOn) && self.snapshot.is_none()
    }

    /// Whether its statement waits for another one's end.
    fn is_blocked(&self, world: &World) -> bool {
        let must_wait = |call: &Call| world.must_wait(call, self.snapshot);
        !self.begins() && !self.disconnected && self.open.is_none() && self.call.as_deref().is_some_and(must_wait)
    }

    fn poll(&mut self) -> Poll<Response> {
        let mut context = Context::from_waker(Waker::noop());
        self.running.as_mut().poll(&mut context)
    }

    /// Lets its time pass until it gives up what it waits for, at most for that long.
    fn wait(&mut self, mut longest: Duration) -> Poll<Response> {
        let has_call = self.call.is_some();
        let mut polled = match longest.is_zero() {
            true => Poll::Pending,
            // A request that has died has woken it.
            false => self.poll(),
        };
        let still_waits = |it: &Self| match has_call {
            true => it.platform.waits_for_outcome(),
            false => it.platform.has_no_call(),
        };
        while polled.is_pending() && !longest.is_zero() && still_waits(self) {
            let may_end = |_: &Duration| self.platform.waited(Duration::ZERO) < LONGEST;
            let Some(time) = self.platform.rests_for().filter(may_end) else {
                break;
            };
            let time = time.min(longest);
            longest -= time;
            self.platform.wait(time);
            polled = self.poll();
        }
        polled
    }
}

struct Client {
    request: ClientRequest,
    /// The state of the list that it knows.
    known: ListState,
    retries: u32,
    /// Its request that is under way.
    running: Option<Request>,
}

/// A call that its request no longer waits for, and that its store has not executed.
struct DelayedCall {
    number: usize,
    call: Rc<Call>,
    snapshot: Option<Snapshot>,
    /// The row that it has inserted and not committed.
    open: Option<usize>,
}

struct Run<'r> {
    mistake: Option<Break>,
    shared: Rc<Shared>,
    policy: ReplayPolicy,
    instances: Vec<Instance>,
    clients: Vec<Client>,
    delayed: Vec<DelayedCall>,
    /// The number of the next delayed call.
    next_delayed: usize,
    checker: Checker,
    coverage: &'r mut Coverage,
    steps: Vec<Step>,
    trace: Option<Vec<String>>,
}

/// Runs a scenario to its end: first as the driver chooses, then without faults until every client has its final
/// response, then with the calls that are still delayed.
///
/// # Errors
/// The first violation; with a trace, which takes time, if `traced`.
pub fn run(
    mistake: Option<Break>,
    scenario: &Scenario,
    driver: &mut dyn Driver,
    coverage: &mut Coverage,
    traced: bool,
) -> Result<(), Box<Failure>> {
    coverage.schedules += 1;
    let mut run = Run {
        mistake,
        shared: Rc::default(),
        policy: scenario.policy,
        instances: Vec::new(),
        clients: Vec::new(),
        delayed: Vec::new(),
        next_delayed: 0,
        checker: Checker::default(),
        coverage,
        steps: Vec::new(),
        trace: traced.then(Vec::new),
    };
    let outcome = run.all(scenario, driver);
    run.shared.tasks.take();
    outcome.map_err(|violation| Box::new(Failure { violation, steps: run.steps, trace: run.trace.unwrap_or_default() }))
}

impl Run<'_> {
    fn all(&mut self, scenario: &Scenario, driver: &mut dyn Driver) -> Result<(), Violation> {
        let instances = 0..scenario.instances.max(1);
        let is_used = |kind| scenario.requests.iter().any(|request| request.kind == kind);
        let instance =
            |_| Instance { stores: Rc::new(new_instance(is_used)), last: LastConnection::default(), failed: None };
        self.instances = instances.map(instance).collect();
        for request in &scenario.requests {
            self.clients.push(Client {
                request: *request,
                known: Tables::default().list_state(&List::from(&request.scope())),
                retries: scenario.retries,
                running: None,
            });
        }
        let mut in_turn = 0..scenario.in_turn.min(self.clients.len());
        let mut at_once = in_turn.end..self.clients.len();
        loop {
            let enabled = self.enabled();
            let any_client = enabled.iter().any(|enabled| matches!(enabled.actor, Actor::Client(_)));
            if !any_client {
                if let Some(client) = in_turn.next() {
                    self.start(client)?;
                } else if at_once.is_empty() {
                    break;
                } else {
                    if at_once.start > 0 {
                        self.pause(PAUSE);
                    }
                    at_once.try_for_each(|client| self.start(client))?;
                }
                continue;
            }
            if enabled.iter().any(|enabled| enabled.blocked) {
                self.coverage.see(Event::Waited);
            }
            let Some(step) = driver.next(&enabled) else {
                break;
            };
            self.take(step)?;
        }
        self.settle()
    }

    /// After all faults, each client repeats its request once and must get its final response. If calls are still
    /// delayed, they are executed then, and each client repeats its request once more and must get the same response.
    fn settle(&mut self) -> Result<(), Violation> {
        self.note(|| "all faults are over".to_owned());
        for client in &mut self.clients {
            client.running = None;
            client.retries = 0;
        }
        // Postgres ends statements that their requests have abandoned.
        self.delayed.retain(|delayed| delayed.open.is_none());
        self.shared.world.borrow_mut().tables.roll_back_all();
        loop {
            self.pause(SETTLING);
            for client in 0..self.clients.len() {
                self.repeat(client)?;
            }
            if self.delayed.is_empty() {
                return Ok(());
            }
            while let Some(number) = self.delayed.first().map(|delayed| delayed.number) {
                self.execute_delayed(number);
                self.check()?;
            }
        }
    }

    /// Time passes, in which all leases end.
    fn pause(&mut self, time: Duration) {
        self.shared.world.borrow_mut().expire_locks();
        self.shared.pass(time);
    }

    fn world(&self) -> Ref<'_, World> {
        self.shared.world.borrow()
    }

    /// Repeats a client's request alone and without faults. The response must be final. If it says that the list has
    /// changed, the next request expects the list as it is now, and its response must be final.
    fn repeat(&mut self, client: usize) -> Result<(), Violation> {
        let request = self.clients[client].request;
        let lost = self.checker.to_be_restored(&request, &self.shared.world.borrow());
        for tries_left in [true, false] {
            self.start(client)?;
            let reserves = request.has_key() && request.condition != Condition::Missing;
            let first = self.request(client).and_then(|running| running.call.as_deref());
            if reserves && !matches!(first, Some(Call::Reserve(..))) {
                return Err(Invariant::WithoutRedis.with(request));
            }
            let mut verdict = None;
            while self.request(client).is_some() {
                verdict = self.advance(client, None)?;
                self.check()?;
            }
            match verdict {
                Some(Verdict::ListChanged(_)) if tries_left => {}
                Some(Verdict::Final) => break,
                _ => return Err(Invariant::Stuck.with(request)),
            }
        }
        let world = self.shared.world.borrow();
        match lost {
            Some(id) if world.tables.row_of(&request.scope()).map(|row| row.resource.id) != Some(id) => {
                Err(Invariant::NotRestored.of(&request.scope()))
            }
            _ => Ok(()),
        }
    }

    fn enabled(&self) -> Vec<Enabled> {
        let world = self.shared.world.borrow();
        let requests = self.clients.iter().enumerate().filter_map(|(index, c)| {
            let request = c.running.as_ref()?;
            Some(Enabled {
                actor: Actor::Client(index),
                point: (!request.begins()).then(|| request.point()),
                blocked: request.is_blocked(&world),
            })
        });
        let delayed = self
            .delayed
            .iter()
            .filter(|delayed| delayed.open.is_some() || !world.must_wait(&delayed.call, delayed.snapshot));
        let delayed =
            delayed.map(|delayed| Enabled { actor: Actor::Delayed(delayed.number), point: None, blocked: false });
        requests.chain(delayed).collect()
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        self.steps.push(step);
        self.coverage.steps += 1;
        match step.actor {
            Actor::Delayed(number) => self.execute_delayed(number),
            Actor::Client(client) => {
                self.advance(client, step.fault)?;
            }
        }
        self.check()?;
        self.poll_waiting()
    }

    /// Polls the requests that wait for others. Each must have a request to wait for.
    fn poll_waiting(&mut self) -> Result<(), Violation> {
        for client in 0..self.clients.len() {
            let waits = |request: &mut Request| request.call.is_none();
            if let Some(request) = self.clients[client].running.take_if(waits) {
                self.proceed(client, request)?;
            }
        }
        let count = self.instances.len();
        let is_active = |client: usize| {
            let others = self.clients.iter().skip(client % count).step_by(count);
            let mut requests = others.filter_map(|client| client.running.as_ref());
            requests.any(|request| request.call.is_some() || request.platform.fills_batch())
        };
        let waits = |client: &Client| client.running.as_ref().is_some_and(|request| request.call.is_none());
        let mut clients = self.clients.iter().enumerate();
        if clients.any(|(index, client)| waits(client) && !is_active(index)) {
            let why = "none: the request waits, and no request that it waits for is active";
            return Err(Invariant::UnexpectedAnswer.with(why));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.checker.world(&self.shared.world.borrow(), self.coverage)
    }

    fn request(&self, client: usize) -> Option<&Request> {
        self.clients[client].running.as_ref()
    }

    fn instance(&mut self, client: usize) -> &mut Instance {
        let count = self.instances.len();
        &mut self.instances[client % count]
    }

    /// Starts a client's next request, up to its first call.
    fn start(&mut self, client: usize) -> Result<(), Violation> {
        let Client { request, known, .. } = self.clients[client];
        let instance = &self.instances[client % self.instances.len()];
        let platform = Simulated::new(self.shared.clone(), instance.last.clone());
        let arrival = Arrival {
            moment: self.world().tables.moment(),
            time: self.world().now(),
            heard: instance.stores.known_history(&platform).last(),
        };
        if instance.stores.breaker(&platform) == State::Open {
            self.coverage.see(Event::BreakerOpen);
        }
        let host = SimulatedHost::new(&request, self.policy, instance.stores.clone(), platform.clone());
        let request = Request {
            running: start(&request, known, host, self.mistake),
            platform,
            call: None,
            calls: 0,
            insertions: 0,
            snapshot: None,
            open: None,
            disconnected: false,
            arrival,
        };
        self.proceed(client, request).map(|_| ())
    }

    /// Lets a request run up to its next call or its end. Returns what its response means for the client.
    fn proceed(&mut self, client: usize, mut request: Request) -> Result<Option<Verdict>, Violation> {
        let polled = request.poll();
        self.reached(client, request, polled)
    }

    /// A request has reached its next call, or its end.
    fn reached(
        &mut self,
        client: usize,
        mut request: Request,
        polled: Poll<Response>,
    ) -> Result<Option<Verdict>, Violation> {
        for event in request.platform.take_events() {
            self.coverage.see(event);
            if event == Event::NotSent {
                self.note_failure(client);
            }
        }
        match polled {
            Poll::Ready(response) => {
                let arrival = request.arrival;
                drop(request);
                self.answered(client, arrival, &response).map(Some)
            }
            Poll::Pending => {
                let call = request.platform.take_call();
                request.calls += u32::from(call.is_some());
                if request.calls > MAX_CALLS {
                    return Err(Invariant::UnexpectedAnswer.with("none: a request that does not end"));
                }
                self.clients[client].running =
                    Some(Request { call, snapshot: None, open: None, disconnected: false, ..request });
                Ok(None)
            }
        }
    }

    /// Checks a response, and repeats the request where the client does that.
    fn answered(&mut self, client: usize, arrival: Arrival, response: &Response) -> Result<Verdict, Violation> {
        self.note(|| format!("client {client} is answered: {}", describe(response)));
        let failed = self.instance(client).failed;
        let state = &mut self.clients[client];
        let asked = Asked {
            request: state.request,
            known: state.known,
            policy: self.policy,
            arrival,
            outage: failed.is_some_and(|failed| failed + OUTAGE > arrival.time),
        };
        let world = self.shared.world.borrow();
        let verdict = self.checker.answer(&asked, response, &world, self.coverage)?;
        drop(world);
        if let Verdict::ListChanged(current) = verdict {
            state.known = current;
        }
        if verdict != Verdict::Final {
            self.retry(client)?;
        }
        Ok(verdict)
    }

    fn retry(&mut self, client: usize) -> Result<(), Violation> {
        let retries = &mut self.clients[client].retries;
        if *retries == 0 {
            return Ok(());
        }
        *retries -= 1;
        self.note(|| format!("client {client} tries again"));
        self.start(client)
    }

    /// Takes one step of a client's request. Returns what its response means for the client, if it has one.
    fn advance(&mut self, client: usize, fault: Option<Fault>) -> Result<Option<Verdict>, Violation> {
        let snapshot = self.shared.world.borrow().tables.snapshot();
        let Some(request) = &mut self.clients[client].running else {
            return Ok(None);
        };
        if request.begins() {
            request.snapshot = Some(snapshot);
            self.note(|| format!("client {client}: the insertion begins"));
            return Ok(None);
        }
        let point = request.point();
        if let Some(fault) = fault {
            self.coverage.place(fault, point);
            self.note(|| format!("fault at the next call: {fault}"));
            self.damage_stores(client, fault);
        }
        let Some(mut request) = self.clients[client].running.take() else {
            return Ok(None);
        };
        let Some(call) = request.call.clone() else {
            if fault.is_some() {
                return self.dies(client, request);
            }
            self.note(|| format!("client {client} stops waiting for others"));
            let polled = request.wait(Duration::MAX);
            if polled.is_pending() && request.platform.has_no_call() {
                return Err(Invariant::UnexpectedAnswer.with(WAITS_FOR_EVER));
            }
            if polled.is_ready() {
                // Its time was over: it has sent no statement, and takes the database for lost.
                self.coverage.see(Event::NotSent);
                self.note_failure(client);
            }
            return self.reached(client, request, polled);
        };
        let reaction = self.react(&mut request, &call, fault);
        if let Some(Fault::DiesBefore | Fault::DiesAfter | Fault::DiesCallDelayed) = fault {
            return self.dies(client, request);
        }
        let Some((time, outcome)) = reaction else {
            self.note(|| format!("client {client}: inserted, not committed"));
            self.clients[client].running = Some(request);
            return Ok(None);
        };
        request.insertions += u32::from(matches!(point, Point::Insert | Point::InsertAgain));
        let mut polled = request.wait(time);
        let is_heard = request.platform.waits_for_outcome();
        let failed = match outcome.filter(|_| is_heard) {
            Some(outcome) => {
                self.note(|| format!("client {client}: {point:?} -> {}", short(&outcome)));
                let failed = outcome == Err(Lost::Down);
                request.platform.answer(outcome, fault == Some(Fault::Refuses));
                polled = request.poll();
                failed
            }
            None if is_heard => return Err(Invariant::UnexpectedAnswer.with(WAITS_FOR_EVER)),
            None => {
                self.note(|| format!("client {client}: {point:?} -> no answer in time"));
                if fault == Some(Fault::Slow) {
                    self.coverage.see(Event::TooLate);
                }
                true
            }
        };
        // Of a shared statement that fails, an instance learns nothing about the history.
        if failed && call.is_postgres() && point != Point::InsertNew {
            self.note_failure(client);
        }
        let verdict = self.reached(client, request, polled)?;
        let next = self.request(client).and_then(|request| request.call.as_ref());
        let again = next == Some(&call);
        match fault {
            Some(Fault::Conflicts) if again => self.coverage.see(Event::Repeated),
            Some(Fault::AnswerLost) if again && !call.is_postgres() => self.coverage.see(Event::Resent),
            _ => {}
        }
        Ok(verdict)
    }

    fn dies(&mut self, client: usize, request: Request) -> Result<Option<Verdict>, Violation> {
        self.note(|| format!("client {client}'s request dies"));
        let platform = request.platform.clone();
        drop(request);
        platform.ends();
        self.retry(client)?;
        Ok(None)
    }

    /// The client's instance has sent a statement that failed or timed out.
    fn note_failure(&mut self, client: usize) {
        let now = self.world().now();
        self.instance(client).failed = Some(now);
    }

    /// Executes a request's call now, later or never, as the fault says. `None`: it has inserted a row, and commits it
    /// in its next step.
    fn react(&mut self, request: &mut Request, call: &Rc<Call>, fault: Option<Fault>) -> Option<Reaction> {
        let at_once = |outcome| Some((Duration::ZERO, Some(outcome)));
        let unawaited = matches!(**call, Call::InsertUnawaited(_));
        let is_delayed = matches!(fault, Some(Fault::DiesCallDelayed | Fault::TimesOut)) || unawaited;
        if is_delayed && !request.disconnected {
            self.delayed.push(DelayedCall {
                number: self.next_delayed,
                call: call.clone(),
                snapshot: request.snapshot,
                open: request.open,
            });
            self.next_delayed += 1;
        }
        if unawaited {
            return at_once(Ok(Answer::Postgres(Insertion::Inserted)));
        }
        if is_delayed {
            return Some((Duration::MAX, None));
        }
        if request.disconnected {
            return at_once(Err(Lost::Down));
        }
        let mut world = self.shared.world.borrow_mut();
        if let Some(Fault::DiesBefore | Fault::Refuses | Fault::Conflicts) = fault {
            let waited = match request.is_blocked(&world) {
                true => LOCK_TIMEOUT,
                false => Duration::ZERO,
            };
            if let Some(open) = request.open {
                world.tables.roll_back(open);
            }
            return match fault {
                Some(Fault::Conflicts) => Some((waited, Some(Err(Lost::Transient)))),
                _ => at_once(Err(Lost::Down)),
            };
        }
        let in_one_step =
            matches!(fault, Some(Fault::DiesAfter | Fault::AnswerLost | Fault::CrashWhileWaiting | Fault::Slow));
        let rows_before = world.tables.rows().len();
        let answer = match (request.open, request.snapshot, &**call) {
            (None, Some(snapshot), Call::InsertBasedOn(new, expected)) if !in_one_step => {
                match world.tables.begin_based_on(new, expected, snapshot) {
                    Ok(open) => {
                        request.open = Some(open);
                        return None;
                    }
                    Err(nothing_inserted) => Answer::Conditional(nothing_inserted),
                }
            }
            (open, snapshot, call) => execute(&mut world, call, snapshot, open),
        };
        match fault {
            Some(Fault::AnswerLost) => at_once(Err(Lost::Down)),
            Some(Fault::CrashWhileWaiting) => {
                world.tables.lose_wait(rows_before);
                drop(world);
                self.close_connections();
                at_once(Err(Lost::Down))
            }
            Some(Fault::Garbage) => at_once(Ok(Answer::Redis(Reply::Bytes(b"garbage".to_vec())))),
            Some(Fault::Slow) => Some((SLOW, Some(Ok(answer)))),
            _ => at_once(Ok(answer)),
        }
    }

    /// Applies a fault of the stores themselves, before the call.
    fn damage_stores(&mut self, client: usize, fault: Fault) {
        let Some(request) = self.request(client) else {
            return;
        };
        let call = request.call.clone();
        let scope = call.as_deref().and_then(Call::scope);
        let mut world = self.shared.world.borrow_mut();
        match (fault, scope) {
            (Fault::Flush, _) => world.flush(),
            (Fault::Evict, Some(scope)) => world.evict(scope),
            (Fault::Evict, None) => {
                if let Some(Call::Acquire(scope) | Call::Release(scope)) = call.as_deref() {
                    world.evict_lock(&List::from(scope));
                }
            }
            (Fault::Rollback, _) => world.roll_back(),
            (Fault::FutureRecord, Some(scope)) => {
                let like = call.as_deref().and_then(record_like);
                world.plant_future_record(scope, like);
            }
            (Fault::PostgresRestart | Fault::Failover | Fault::Promotion, _) => {
                let now = world.now();
                match fault {
                    Fault::PostgresRestart => world.tables.roll_back_all(),
                    _ => world.tables.fail_over(fault == Fault::Promotion, now),
                }
                drop(world);
                self.close_connections();
            }
            (Fault::TimePasses, _) => {
                drop(world);
                self.pause(PAUSE);
            }
            _ => {}
        }
    }

    /// Postgres closes all connections.
    fn close_connections(&mut self) {
        self.shared.restarts.update(|restarts| restarts + 1);
        self.delayed.retain(|delayed| !delayed.call.is_postgres());
        for client in &mut self.clients {
            if let Some(request) = &mut client.running {
                request.disconnected |= request.snapshot.is_some();
            }
        }
    }

    fn execute_delayed(&mut self, number: usize) {
        let is_it = |delayed: &DelayedCall| delayed.number == number;
        let Some(index) = self.delayed.iter().position(is_it) else {
            return;
        };
        let delayed = self.delayed.remove(index);
        let mut world = self.shared.world.borrow_mut();
        // Postgres executes an insertion that a broken variant does not wait for like any other.
        let call = match &*delayed.call {
            Call::InsertUnawaited(new) => Rc::new(Call::Insert(new.clone())),
            _ => delayed.call,
        };
        let answer = execute(&mut world, &call, delayed.snapshot, delayed.open);
        let landed = match &answer {
            Answer::Postgres(insertion) => *insertion == Insertion::Inserted,
            Answer::Conditional(insertion) => matches!(insertion, ConditionalInsertion::Inserted(_)),
            Answer::Attempts(attempts) => attempts.contains(&Attempt::Inserted),
            _ => false,
        };
        if landed {
            self.coverage.see(Event::LandedLate);
        }
        drop(world);
        self.note(|| format!("a delayed call is executed -> {}", short(&Ok(answer))));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

/// Executes a call in one step, or commits the row that it has inserted.
fn execute(world: &mut World, call: &Call, snapshot: Option<Snapshot>, open: Option<usize>) -> Answer {
    match open {
        Some(open) => Answer::Conditional(ConditionalInsertion::Inserted(world.tables.commit(open))),
        None => world.execute(call, snapshot.unwrap_or_else(|| world.tables.snapshot())),
    }
}

fn record_like(call: &Call) -> Option<Record> {
    if let Call::Reserve(_, record) | Call::Set(_, record) = call {
        return Some(*record);
    }
    let new = call.new_resource()?;
    Some(Record { progress: Progress::InProgress, fingerprint: new.fingerprint, id: new.id })
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Ok(Answer::Redis(Reply::Bytes(bytes))) => match Record::decode(bytes) {
            Some(record) => format!("{:?}, id {}", record.progress, record.id),
            None => String::from_utf8_lossy(bytes).into_owned(),
        },
        Ok(Answer::Postgres(Insertion::Existing(stored))) => format!("existing resource {}", stored.id),
        Ok(Answer::Found(found)) => format!("found: {}", found.is_some()),
        Ok(answer) => format!("{answer:?}"),
        Err(lost) => format!("no answer: {lost:?}"),
    }
}

fn describe(response: &Response) -> impl fmt::Display {
    let mut fields = response.headers.iter();
    let replayed = fields.any(|(name, _)| *name == "idempotent-replayed");
    let replayed = if replayed { " (replayed)" } else { "" };
    format!("{}{replayed} {}", response.status, response.body)
}
