//! One run: takes steps as a driver chooses them, and checks what must hold after each.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use exactly_once::create::ReplayPolicy;
use exactly_once::ports::{Attempt, ConditionalInsertion, Insertion, List};
use exactly_once::{ListState, Progress, Record};
use exactly_once_http::Response;
use exactly_once_stores::redis::Reply;

use crate::check::{Arrival, Asked, Checker, Verdict, Violation};
use crate::client_request::ClientRequest;
use crate::coverage::{Coverage, Event};
use crate::fault::{Fault, PAUSE, Point, SLOW};
use crate::host::{DATABASE_TIMEOUT, REDIS_TIMEOUT};
use crate::kind::Kind;
use crate::port::{Instance, Port, SharedWorld};
use crate::scenario::{Protocol, Running, Scenario};
use crate::tables::{Snapshot, Tables};
use crate::world::{Answer, Call, World};

/// How many calls one request may make. A request with more calls is taken to be in an endless loop.
const MAX_CALLS: u32 = 20;

/// How much time passes after all faults: longer than an instance believes what it has heard, and than a lock's lease.
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

struct Request {
    running: Running,
    port: Port,
    /// `None`: it waits for another request of its instance.
    call: Option<Call>,
    calls: u32,
    insertions: u32,
    /// The snapshot of an insertion that has begun.
    snapshot: Option<Snapshot>,
    /// The row that it has inserted and not committed.
    open: Option<usize>,
    /// Its connection to Postgres is closed.
    disconnected: bool,
    /// What is left of its time for Redis and for Postgres.
    time: [Duration; 2],
    arrival: Arrival,
}

impl Request {
    fn point(&self) -> Point {
        match (&self.call, self.insertions) {
            (None, _) => Point::Wait,
            _ if self.open.is_some() => Point::Commit,
            (Some(Call::Reserve(..)), _) => Point::Reserve,
            (Some(Call::Set(..)), _) => Point::Complete,
            (Some(Call::Withdraw(..) | Call::Delete(_)), _) => Point::Withdraw,
            (Some(Call::InsertAll(..)), _) => Point::InsertNew,
            (Some(Call::Acquire(..)), _) => Point::Acquire,
            (Some(Call::Release(..)), _) => Point::Release,
            (Some(Call::Find(..)), _) => Point::Find,
            (Some(Call::AskHistory), _) => Point::AskHistory,
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
        matches!(point, Point::Insert | Point::InsertAgain | Point::InsertBasedOn)
            && self.snapshot.is_none()
            && !self.is_out_of_time()
    }

    fn is_postgres(&self) -> bool {
        self.call.as_ref().is_none_or(Call::is_postgres)
    }

    /// What is left of its time for the store that it calls.
    fn time(&mut self) -> &mut Duration {
        let [redis, postgres] = &mut self.time;
        match self.call.as_ref().is_none_or(Call::is_postgres) {
            true => postgres,
            false => redis,
        }
    }

    /// Whether its time for the store that it calls is over: nothing is sent.
    fn is_out_of_time(&self) -> bool {
        let [redis, postgres] = self.time;
        self.call.is_some() && if self.is_postgres() { postgres } else { redis }.is_zero()
    }

    /// The longest time that it waits for the answer to its call.
    fn longest_wait(&mut self) -> Duration {
        let left = *self.time();
        match self.point() {
            Point::Wait if self.port.awaits_history() => left,
            // The rest is for a statement of its own.
            Point::InsertNew | Point::Wait => left.min(DATABASE_TIMEOUT / 2),
            _ => left,
        }
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
    call: Call,
    snapshot: Option<Snapshot>,
    /// The row that it has inserted and not committed.
    open: Option<usize>,
}

struct Run<'r> {
    protocol: &'r dyn Protocol,
    world: SharedWorld,
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
/// answer, then with the calls that are still delayed.
///
/// # Errors
/// The first violation; with a trace, which takes time, if `traced`.
pub fn run(
    protocol: &dyn Protocol,
    scenario: &Scenario,
    driver: &mut dyn Driver,
    coverage: &mut Coverage,
    traced: bool,
) -> Result<(), Box<Failure>> {
    coverage.schedules += 1;
    let mut run = Run {
        protocol,
        world: Rc::new(RefCell::new(World::default())),
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
    outcome.map_err(|violation| {
        Box::new(Failure {
            violation,
            steps: run.steps,
            trace: run.trace.unwrap_or_default(),
        })
    })
}

impl Run<'_> {
    fn all(&mut self, scenario: &Scenario, driver: &mut dyn Driver) -> Result<(), Violation> {
        let instances = 0..scenario.instances.max(1);
        self.instances = instances.map(|_| Instance::new()).collect();
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
                        self.world.borrow_mut().pass(PAUSE);
                        self.world.borrow_mut().expire_locks();
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

    /// After all faults, each client repeats its request once and must get its final answer. If calls are still
    /// delayed, they are executed then, and each client repeats its request once more and must get the same answer.
    fn settle(&mut self) -> Result<(), Violation> {
        self.note(|| "all faults are over".to_owned());
        for client in &mut self.clients {
            client.running = None;
            client.retries = 0;
        }
        // Postgres ends statements that their requests have abandoned.
        self.delayed.retain(|delayed| delayed.open.is_none());
        self.world.borrow_mut().tables.roll_back_all();
        loop {
            self.world.borrow_mut().expire_locks();
            self.world.borrow_mut().pass(SETTLING);
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

    /// Repeats a client's request alone and without faults. The answer must be final, and if it says that the list has
    /// changed, that to the next request, which expects the list as it is now.
    fn repeat(&mut self, client: usize) -> Result<(), Violation> {
        let Some(request) = self.clients.get(client).map(|c| c.request) else {
            return Ok(());
        };
        let lost = self.checker.to_be_restored(&request, &self.world.borrow());
        for tries_left in [true, false] {
            self.start(client)?;
            let mut verdict = None;
            while self.request(client).is_some() {
                verdict = self.advance(client, None)?;
                self.check()?;
            }
            match verdict {
                Some(Verdict::ListChanged(_)) if tries_left => {}
                Some(Verdict::Final) => break,
                _ => return Err(Violation::Stuck(request)),
            }
        }
        let world = self.world.borrow();
        match lost {
            Some(id) if world.tables.row_of(&request.scope()).map(|row| row.resource.id) != Some(id) => {
                Err(Violation::NotRestored(request.scope()))
            }
            _ => Ok(()),
        }
    }

    fn enabled(&self) -> Vec<Enabled> {
        let world = self.world.borrow();
        let requests = self.clients.iter().enumerate().filter_map(|(index, c)| {
            let request = c.running.as_ref()?;
            let can_fail = !request.begins() && !request.is_out_of_time();
            let blocked = |call| request.open.is_none() && world.must_wait(call, request.snapshot);
            Some(Enabled {
                actor: Actor::Client(index),
                point: can_fail.then(|| request.point()),
                blocked: can_fail && !request.disconnected && request.call.as_ref().is_some_and(blocked),
            })
        });
        let delayed = self
            .delayed
            .iter()
            .filter(|delayed| delayed.open.is_some() || !world.must_wait(&delayed.call, delayed.snapshot));
        let delayed = delayed.map(|delayed| Enabled {
            actor: Actor::Delayed(delayed.number),
            point: None,
            blocked: false,
        });
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
            if let Some(request) = self.clients.get_mut(client).and_then(|c| c.running.take_if(waits)) {
                self.proceed(client, request)?;
            }
        }
        let count = self.instances.len();
        let others = |client: usize| self.clients.iter().skip(client % count).step_by(count);
        let is_active = |client: usize, kind: Kind| {
            let same_group = others(client).filter(|client| client.request.kind == kind);
            let mut requests = same_group.filter_map(|client| client.running.as_ref());
            requests.any(|request| request.call.is_some() || request.port.fills_batch())
        };
        let is_asked = |client: usize| {
            let mut requests = others(client).filter_map(|client| client.running.as_ref());
            requests.any(|request| request.call == Some(Call::AskHistory))
        };
        let waits_in_vain = |(index, client): (usize, &Client)| match &client.running {
            Some(request) if request.port.awaits_history() => !is_asked(index),
            Some(request) if request.call.is_none() => !is_active(index, client.request.kind),
            _ => false,
        };
        if self.clients.iter().enumerate().any(waits_in_vain) {
            return Err(Violation::UnexpectedAnswer(
                "none: the request waits, and no request that it waits for is active".to_owned(),
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.checker.world(&self.world.borrow(), self.coverage)
    }

    fn request(&mut self, client: usize) -> Option<&mut Request> {
        self.clients.get_mut(client)?.running.as_mut()
    }

    /// Starts a client's next request, up to its first call.
    fn start(&mut self, client: usize) -> Result<(), Violation> {
        let Some((request, known)) = self.clients.get(client).map(|c| (c.request, c.known)) else {
            return Ok(());
        };
        let Some(instance) = self.instances.get(client % self.instances.len()) else {
            return Ok(());
        };
        let port = Port::new(self.world.clone(), request.kind, instance);
        let world = self.world.borrow();
        let arrival = Arrival {
            moment: world.tables.moment(),
            time: world.now(),
            heard: instance.last_history(world.now()),
        };
        drop(world);
        let request = Request {
            running: self.protocol.start(&request, self.policy, known, port.clone()),
            port,
            call: None,
            calls: 0,
            insertions: 0,
            snapshot: None,
            open: None,
            disconnected: false,
            time: [REDIS_TIMEOUT, DATABASE_TIMEOUT],
            arrival,
        };
        self.proceed(client, request).map(|_| ())
    }

    /// Lets a request run up to its next call or its end. Returns what its answer means for the client.
    fn proceed(&mut self, client: usize, mut request: Request) -> Result<Option<Verdict>, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        match request.running.as_mut().poll(&mut context) {
            Poll::Ready(response) => {
                let arrival = request.arrival;
                drop(request);
                self.answered(client, arrival, &response).map(Some)
            }
            Poll::Pending => {
                let call = request.port.take_call();
                request.calls += u32::from(call.is_some());
                if request.calls > MAX_CALLS {
                    return Err(Violation::UnexpectedAnswer(
                        "none: a request that does not end".to_owned(),
                    ));
                }
                if let Some(client) = self.clients.get_mut(client) {
                    client.running = Some(Request {
                        call,
                        snapshot: None,
                        open: None,
                        disconnected: false,
                        ..request
                    });
                }
                Ok(None)
            }
        }
    }

    /// Checks an answer, and repeats the request where the client does that.
    fn answered(&mut self, client: usize, arrival: Arrival, response: &Response) -> Result<Verdict, Violation> {
        self.note(|| format!("client {client} is answered: {}", describe(response)));
        let instance = client % self.instances.len();
        let outage = self.instances.get(instance);
        let Some(state) = self.clients.get_mut(client) else {
            return Ok(Verdict::Final);
        };
        let asked = Asked {
            request: state.request,
            known: state.known,
            policy: self.policy,
            arrival,
            outage: outage.is_some_and(|instance| instance.knew_of_outage(arrival.time)),
        };
        let world = self.world.borrow();
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
        match self.clients.get_mut(client) {
            Some(state) if state.retries > 0 => {
                state.retries -= 1;
                self.note(|| format!("client {client} tries again"));
                self.start(client)
            }
            _ => Ok(()),
        }
    }

    /// Takes one step of a client's request. Returns what its answer means for the client, if it has one.
    fn advance(&mut self, client: usize, fault: Option<Fault>) -> Result<Option<Verdict>, Violation> {
        let snapshot = self.world.borrow().tables.snapshot();
        let Some(request) = self.request(client) else {
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
        let Some(mut request) = self.clients.get_mut(client).and_then(|c| c.running.take()) else {
            return Ok(None);
        };
        if request.call.is_none() {
            self.note(|| format!("client {client} stops waiting for others"));
            // A leader's batch window is short. A waiter's time is not.
            if !request.port.fills_batch() {
                let waited = request.longest_wait();
                *request.time() -= waited;
            }
            request.port.end_wait();
        } else if let Some(answer) = self.answer(&mut request, fault) {
            self.note(|| format!("client {client}: {point:?} -> {}", short(&answer)));
            request.insertions += u32::from(matches!(point, Point::Insert | Point::InsertAgain));
            request.port.answer(answer);
        } else {
            self.note(|| format!("client {client}: inserted, not committed"));
            if let Some(client) = self.clients.get_mut(client) {
                client.running = Some(request);
            }
            return Ok(None);
        }
        if let Some(Fault::DiesBefore | Fault::DiesAfter | Fault::DiesCallDelayed) = fault {
            self.note(|| format!("client {client}'s request dies"));
            drop(request);
            self.retry(client)?;
            return Ok(None);
        }
        self.proceed(client, request)
    }

    /// Executes a request's call now, later or never, as the fault says, and returns the answer that the request gets.
    /// `None`: it has inserted a row, and commits it in its next step.
    fn answer(&mut self, request: &mut Request, fault: Option<Fault>) -> Option<Answer> {
        let Some(call) = request.call.clone() else {
            return Some(Answer::Nothing);
        };
        if request.is_out_of_time() {
            self.coverage.see(Event::NotSent);
            return Some(Answer::Nothing);
        }
        let unawaited = matches!(call, Call::InsertUnawaited(_));
        let is_delayed = matches!(fault, Some(Fault::DiesCallDelayed | Fault::TimesOut)) || unawaited;
        if fault == Some(Fault::TimesOut) {
            let waited = request.longest_wait();
            *request.time() -= waited;
            self.world.borrow_mut().pass(waited);
        }
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
            return Some(Answer::Postgres(Insertion::Inserted));
        }
        if is_delayed || request.disconnected {
            return Some(Answer::Nothing);
        }
        let mut world = self.world.borrow_mut();
        if let Some(Fault::DiesBefore | Fault::Refuses) = fault {
            if let Some(open) = request.open {
                world.tables.roll_back(open);
            }
            return Some(Answer::Nothing);
        }
        let snapshot = request.snapshot.unwrap_or_else(|| world.tables.snapshot());
        let at_once = matches!(fault, Some(Fault::DiesAfter | Fault::AnswerLost | Fault::Slow));
        let answer = match (request.open, &call) {
            (Some(open), _) => {
                let state = world.tables.commit(open);
                Answer::Conditional(ConditionalInsertion::Inserted(state))
            }
            (None, Call::InsertBasedOn(new, expected)) if !at_once => {
                match world.tables.begin_based_on(new, expected, snapshot) {
                    Ok(open) => {
                        request.open = Some(open);
                        return None;
                    }
                    Err(nothing_inserted) => Answer::Conditional(nothing_inserted),
                }
            }
            _ => world.execute(&call, snapshot),
        };
        Some(match fault {
            Some(Fault::AnswerLost) => Answer::Nothing,
            Some(Fault::Garbage) => Answer::Redis(Reply::Bytes(b"garbage".to_vec())),
            Some(Fault::Slow) => {
                let waited = SLOW.min(*request.time());
                *request.time() -= waited;
                world.pass(waited);
                match waited < SLOW {
                    true => {
                        self.coverage.see(Event::TooLate);
                        Answer::Nothing
                    }
                    false => answer,
                }
            }
            _ => answer,
        })
    }

    /// Applies a fault of the stores themselves, before the call.
    fn damage_stores(&mut self, client: usize, fault: Fault) {
        let Some(request) = self.request(client) else {
            return;
        };
        let call = request.call.clone();
        let scope = call.as_ref().and_then(Call::scope);
        let mut world = self.world.borrow_mut();
        match (fault, scope) {
            (Fault::Flush, _) => world.flush(),
            (Fault::Evict, Some(scope)) => world.evict(scope),
            (Fault::Evict, None) => {
                if let Some(Call::Acquire(list, _) | Call::Release(list, _)) = &call {
                    world.evict_lock(list);
                }
            }
            (Fault::Rollback, _) => world.roll_back(),
            (Fault::FutureRecord, Some(scope)) => {
                let like = call.as_ref().and_then(record_like);
                world.plant_future_record(scope, like);
            }
            (Fault::PostgresRestart | Fault::Failover, _) => {
                world.tables.roll_back_all();
                if fault == Fault::Failover {
                    let now = world.now();
                    world.tables.fail_over(now);
                }
                self.delayed.retain(|delayed| !delayed.call.is_postgres());
                for client in &mut self.clients {
                    if let Some(request) = &mut client.running {
                        request.disconnected |= request.snapshot.is_some();
                    }
                }
            }
            (Fault::TimePasses, _) => {
                world.pass(PAUSE);
                world.expire_locks();
            }
            _ => {}
        }
    }

    fn execute_delayed(&mut self, number: usize) {
        let is_it = |delayed: &DelayedCall| delayed.number == number;
        let Some(index) = self.delayed.iter().position(is_it) else {
            return;
        };
        let delayed = self.delayed.remove(index);
        let mut world = self.world.borrow_mut();
        let snapshot = delayed.snapshot.unwrap_or_else(|| world.tables.snapshot());
        // Postgres executes an insertion that a broken variant does not wait for like any other.
        let call = match delayed.call {
            Call::InsertUnawaited(new) => Call::Insert(new),
            call => call,
        };
        let answer = match delayed.open {
            Some(open) => {
                let state = world.tables.commit(open);
                Answer::Conditional(ConditionalInsertion::Inserted(state))
            }
            None => world.execute(&call, snapshot),
        };
        let landed = match &answer {
            Answer::Postgres(insertion) => *insertion == Insertion::Inserted,
            Answer::Conditional(insertion) => {
                matches!(insertion, ConditionalInsertion::Inserted(_))
            }
            Answer::Attempts(attempts) => attempts.contains(&Attempt::Inserted),
            _ => false,
        };
        if landed {
            self.coverage.see(Event::LandedLate);
        }
        drop(world);
        self.note(|| format!("a delayed call is executed -> {}", short(&answer)));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

fn record_like(call: &Call) -> Option<Record> {
    if let Call::Reserve(_, record) | Call::Set(_, record) = call {
        return Some(*record);
    }
    let new = call.new_resource()?;
    Some(Record {
        progress: Progress::InProgress,
        fingerprint: new.fingerprint,
        id: new.id,
    })
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Nothing => "no answer".to_owned(),
        Answer::Redis(Reply::Bytes(bytes)) => match Record::decode(bytes) {
            Some(record) => format!("{:?}, id {}", record.progress, record.id),
            None => String::from_utf8_lossy(bytes).into_owned(),
        },
        Answer::Redis(reply) => format!("{reply:?}"),
        Answer::Postgres(Insertion::Existing(stored)) => {
            format!("existing resource {}", stored.id)
        }
        Answer::Postgres(insertion) => format!("{insertion:?}"),
        Answer::Conditional(insertion) => format!("{insertion:?}"),
        Answer::Found(found) => format!("found: {}", found.is_some()),
        Answer::History => "the history".to_owned(),
        Answer::Attempts(attempts) => format!("{attempts:?}"),
    }
}

fn describe(response: &Response) -> impl fmt::Display {
    let mut fields = response.headers.iter();
    let replayed = fields.any(|(name, _)| *name == "idempotent-replayed");
    let replayed = if replayed { " (replayed)" } else { "" };
    format!("{}{replayed} {}", response.status, response.body)
}
