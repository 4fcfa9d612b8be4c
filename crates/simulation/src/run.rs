//! One run: takes steps as a driver chooses them, and checks what must hold after each.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_api::Response;
use protocol::ports::{Insertion, List};
use protocol::{ListState, Progress, Record};
use stores::redis::Reply;

use crate::check::{Checker, Verdict, Violation};
use crate::client_request::ClientRequest;
use crate::coverage::Coverage;
use crate::fault::{Fault, Point};
use crate::kind::Kind;
use crate::port::{Instance, Port, SharedWorld};
use crate::scenario::{Protocol, Running, Scenario};
use crate::world::{Answer, Call, Snapshot, World};

/// How many calls one request may make. A request with more calls is taken to be in an endless loop.
const MAX_CALLS: u32 = 20;

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
    /// Its connection to Postgres is closed.
    disconnected: bool,
}

impl Request {
    fn point(&self) -> Point {
        match (&self.call, self.insertions) {
            (None, _) => Point::Wait,
            (Some(Call::Reserve(..)), _) => Point::Reserve,
            (Some(Call::Set(..)), _) => Point::Complete,
            (Some(Call::Withdraw(..)), _) => Point::Withdraw,
            (Some(Call::InsertAll(..)), _) => Point::InsertNew,
            (Some(Call::Acquire(..)), _) => Point::Acquire,
            (Some(Call::Release(..)), _) => Point::Release,
            (Some(Call::Find(..)), _) => Point::Find,
            (Some(Call::InsertBasedOn(..) | Call::InsertBasedOnUnchecked(..)), _) => {
                Point::InsertBasedOn
            }
            (Some(_), 0) => Point::Insert,
            (Some(_), _) => Point::InsertAgain,
        }
    }

    /// Whether the next step takes the snapshot of an insertion that reads; its execution is a step of its own.
    fn begins(&self) -> bool {
        let point = self.point();
        matches!(
            point,
            Point::Insert | Point::InsertAgain | Point::InsertBasedOn
        ) && self.snapshot.is_none()
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
}

struct Run<'r> {
    protocol: &'r dyn Protocol,
    world: SharedWorld,
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
                known: World::default().list_state(&List::from(&request.scope())),
                retries: scenario.retries,
                running: None,
            });
        }
        for client in 0..self.clients.len() {
            self.start(client)?;
        }
        loop {
            let enabled = self.enabled();
            let any_client = enabled
                .iter()
                .any(|enabled| matches!(enabled.actor, Actor::Client(_)));
            if !any_client {
                break;
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
        loop {
            self.world.borrow_mut().expire_locks();
            for client in 0..self.clients.len() {
                self.start(client)?;
                let mut settled = false;
                while self.request(client).is_some() {
                    settled = self.advance(client, None)?;
                    self.check()?;
                }
                if !settled {
                    let request = self.clients.get(client).map(|c| c.request);
                    return Err(request.map_or_else(
                        || Violation::UnexpectedAnswer("none".to_owned()),
                        Violation::Stuck,
                    ));
                }
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

    fn enabled(&self) -> Vec<Enabled> {
        let requests = self.clients.iter().enumerate().filter_map(|(index, c)| {
            let request = c.running.as_ref()?;
            Some(Enabled {
                actor: Actor::Client(index),
                point: (!request.begins()).then(|| request.point()),
            })
        });
        let delayed = self.delayed.iter().map(|delayed| Enabled {
            actor: Actor::Delayed(delayed.number),
            point: None,
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
            if let Some(request) = self
                .clients
                .get_mut(client)
                .and_then(|c| c.running.take_if(waits))
            {
                self.proceed(client, request)?;
            }
        }
        let is_active = |instance: usize, kind: Kind| {
            let count = self.instances.len();
            let members = self.clients.iter().skip(instance).step_by(count);
            let same_group = members.filter(|client| client.request.kind == kind);
            let mut requests = same_group.filter_map(|client| client.running.as_ref());
            requests.any(|request| request.call.is_some() || request.port.fills_batch())
        };
        let waits_in_vain = |(index, client): (usize, &Client)| {
            let waits = client.running.as_ref().is_some_and(|r| r.call.is_none());
            waits && !is_active(index % self.instances.len(), client.request.kind)
        };
        if self.clients.iter().enumerate().any(waits_in_vain) {
            return Err(Violation::UnexpectedAnswer(
                "none: the request waits, and no request of its group is active".to_owned(),
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.checker.world(&self.world.borrow())
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
        let request = Request {
            running: self.protocol.start(&request, known, port.clone()),
            port,
            call: None,
            calls: 0,
            insertions: 0,
            snapshot: None,
            disconnected: false,
        };
        self.proceed(client, request).map(|_| ())
    }

    /// Lets a request run up to its next call or its end. `Ok(true)`: the client has its final answer.
    fn proceed(&mut self, client: usize, mut request: Request) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        match request.running.as_mut().poll(&mut context) {
            Poll::Ready(response) => {
                drop(request);
                self.answered(client, &response)
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
                        disconnected: false,
                        ..request
                    });
                }
                Ok(false)
            }
        }
    }

    /// Checks an answer, and repeats the request where the client does that.
    fn answered(&mut self, client: usize, response: &Response) -> Result<bool, Violation> {
        self.note(|| format!("client {client} is answered: {}", describe(response)));
        let Some(state) = self.clients.get_mut(client) else {
            return Ok(false);
        };
        let (request, known) = (state.request, &mut state.known);
        let world = self.world.borrow();
        let verdict = self.checker.answer(&request, known, response, &world)?;
        drop(world);
        if let Verdict::ListChanged(current) = verdict {
            *known = current;
        }
        if verdict != Verdict::Final {
            self.retry(client)?;
        }
        Ok(verdict != Verdict::Repeat)
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

    /// Takes one step of a client's request. `Ok(true)`: the client has its final answer.
    fn advance(&mut self, client: usize, fault: Option<Fault>) -> Result<bool, Violation> {
        let snapshot = self.world.borrow().snapshot();
        let Some(request) = self.request(client) else {
            return Ok(false);
        };
        if request.begins() {
            request.snapshot = Some(snapshot);
            self.note(|| format!("client {client}: the insertion begins"));
            return Ok(false);
        }
        let point = request.point();
        if let Some(fault) = fault {
            self.coverage.place(fault, point);
            self.note(|| format!("fault at the next call: {fault}"));
            self.damage_stores(client, fault);
        }
        let Some(mut request) = self.clients.get_mut(client).and_then(|c| c.running.take()) else {
            return Ok(false);
        };
        if let Some(call) = request.call.take() {
            let answer = self.answer(&request, &call, snapshot, fault);
            self.note(|| format!("client {client}: {point:?} -> {}", short(&answer)));
            request.insertions += u32::from(matches!(point, Point::Insert | Point::InsertAgain));
            request.port.answer(answer);
        } else {
            self.note(|| format!("client {client} stops waiting for others"));
            request.port.end_wait();
        }
        if let Some(Fault::DiesBefore | Fault::DiesAfter | Fault::DiesCallDelayed) = fault {
            self.note(|| format!("client {client}'s request dies"));
            drop(request);
            self.retry(client)?;
            return Ok(false);
        }
        self.proceed(client, request)
    }

    /// Executes a call now, later or never, as the fault says, and returns the answer that its request gets.
    fn answer(
        &mut self,
        request: &Request,
        call: &Call,
        snapshot: Snapshot,
        fault: Option<Fault>,
    ) -> Answer {
        let unawaited = matches!(call, Call::InsertUnawaited(_));
        let is_delayed =
            matches!(fault, Some(Fault::DiesCallDelayed | Fault::TimesOut)) || unawaited;
        if is_delayed && !request.disconnected {
            self.delayed.push(DelayedCall {
                number: self.next_delayed,
                call: call.clone(),
                snapshot: request.snapshot,
            });
            self.next_delayed += 1;
        }
        if unawaited {
            return Answer::Postgres(Insertion::Inserted);
        }
        if is_delayed
            || request.disconnected
            || matches!(fault, Some(Fault::DiesBefore | Fault::Refuses))
        {
            return Answer::Nothing;
        }
        let snapshot = request.snapshot.unwrap_or(snapshot);
        let answer = self.world.borrow_mut().execute(call, snapshot);
        match fault {
            Some(Fault::AnswerLost) => Answer::Nothing,
            Some(Fault::Garbage) => Answer::Redis(Reply::Bytes(b"garbage".to_vec())),
            _ => answer,
        }
    }

    /// Applies a fault of the stores themselves, before the call.
    fn damage_stores(&mut self, client: usize, fault: Fault) {
        let Some(request) = self.request(client) else {
            return;
        };
        let call = request.call.clone();
        let scope = call.as_ref().and_then(Call::scope);
        match (fault, scope) {
            (Fault::Flush, _) => self.world.borrow_mut().flush(),
            (Fault::Evict, Some(scope)) => self.world.borrow_mut().evict(scope),
            (Fault::Evict, None) => {
                if let Some(Call::Acquire(list, _) | Call::Release(list, _)) = &call {
                    self.world.borrow_mut().evict_lock(list);
                }
            }
            (Fault::Rollback, _) => self.world.borrow_mut().roll_back(),
            (Fault::FutureRecord, Some(scope)) => {
                let like = call.as_ref().and_then(record_like);
                self.world.borrow_mut().plant_future_record(scope, like);
            }
            (Fault::PostgresRestart, _) => {
                self.delayed.retain(|delayed| !delayed.call.is_postgres());
                for client in &mut self.clients {
                    if let Some(request) = &mut client.running {
                        request.disconnected |= request.snapshot.is_some();
                    }
                }
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
        let snapshot = delayed.snapshot.unwrap_or_else(|| world.snapshot());
        // Postgres executes an insertion that a broken variant does not wait for like any other.
        let call = match delayed.call {
            Call::InsertUnawaited(new) => Call::Insert(new),
            call => call,
        };
        let answer = world.execute(&call, snapshot);
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
        Answer::Attempts(attempts) => format!("{attempts:?}"),
    }
}

fn describe(response: &Response) -> impl fmt::Display {
    let mut fields = response.headers.iter();
    let replayed = fields.any(|(name, _)| *name == "idempotent-replayed");
    let replayed = if replayed { " (replayed)" } else { "" };
    format!("{}{replayed} {}", response.status, response.body)
}
