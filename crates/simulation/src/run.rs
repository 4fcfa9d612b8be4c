//! One run: takes steps as a driver chooses them, and checks what must hold after each.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use orders::group_commit::Group;
use orders::http::Problem;
use orders::idempotency::{Progress, Record};
use orders::reading::ListState;
use orders::stores::redis::Reply;

use crate::check::{Checker, Violation};
use crate::coverage::Coverage;
use crate::fault::{Fault, Point};
use crate::port::{Instance, Port, SharedSignals, SharedWorld};
use crate::scenario::{Condition, Protocol, Running, Scenario, ClientRequest};
use crate::world::{Answer, Call, Snapshot, World};

/// Calls that one request may make: beyond that it does not end by itself.
const MAX_CALLS: u32 = 20;

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The request that this client has under way.
    Client(usize),
    /// A call that was left in flight, by its number; a store executes it now.
    Landing(usize),
}

/// A step, and what goes wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who takes it.
    pub actor: Actor,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

/// A step that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// By whom.
    pub actor: Actor,
    /// At which call a fault could be placed; `None` where none can.
    pub point: Option<Point>,
}

/// Chooses the next step out of those that can be taken; there is always one.
pub trait Driver {
    /// The choice, or `None` to end the run here.
    fn next(&mut self, enabled: &[Enabled]) -> Option<Step>;
}

/// A violation, and the steps that led to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub violation: Violation,
    /// All steps up to then.
    pub steps: Vec<Step>,
    /// The same in words.
    pub trace: Vec<String>,
}

struct Request {
    running: Running,
    port: Port,
    /// `None`: it waits for another request of its instance.
    call: Option<Call>,
    calls: u32,
    insertions: u32,
    /// Of an insertion that has begun.
    snapshot: Option<Snapshot>,
    /// Its connection to Postgres is gone.
    cut_off: bool,
}

impl Request {
    fn point(&self) -> Point {
        match (&self.call, self.insertions) {
            (None, _) => Point::Wait,
            (Some(Call::Reserve(..)), _) => Point::Reserve,
            (Some(Call::Set(..)), _) => Point::Finish,
            (Some(Call::InsertAll(..)), _) => Point::InsertNew,
            (Some(Call::Acquire(..)), _) => Point::Lock,
            (Some(Call::Release(..)), _) => Point::Release,
            (Some(Call::Find(..)), _) => Point::Find,
            (Some(Call::Follow(..) | Call::InsertBasedOnUnchecked(..)), _) => Point::Follow,
            (Some(_), 0) => Point::Insert,
            (Some(_), _) => Point::InsertAgain,
        }
    }

    /// An insertion that looks takes two steps: its snapshot, and its execution.
    fn begins(&self) -> bool {
        let point = self.point();
        matches!(point, Point::Insert | Point::InsertAgain | Point::Follow)
            && self.snapshot.is_none()
    }
}

struct Client {
    request: ClientRequest,
    /// The state of the list that it knows.
    known: ListState,
    retries: u32,
    request: Option<Request>,
}

struct InFlight {
    number: usize,
    call: Call,
    snapshot: Option<Snapshot>,
}

struct Run<'r> {
    protocol: &'r dyn Protocol,
    world: SharedWorld,
    instances: Vec<Instance>,
    clients: Vec<Client>,
    in_flight: Vec<InFlight>,
    sent: usize,
    checker: Checker,
    coverage: &'r mut Coverage,
    steps: Vec<Step>,
    trace: Option<Vec<String>>,
}

/// Runs a scenario to its end: as the driver chooses, then without faults until every client has its
/// answer, then with all that was still in flight.
///
/// # Errors
/// The first violation. `traced`: with its steps in words, which takes time.
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
        in_flight: Vec::new(),
        sent: 0,
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
        let instance = || Rc::new(Group::new(SharedSignals));
        self.instances = (0..scenario.instances.max(1)).map(|_| instance()).collect();
        for request in &scenario.requests {
            self.clients.push(Client {
                request: *request,
                known: World::default().list_state(&request.scope().customer),
                retries: scenario.retries,
                request: None,
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
        self.finale()
    }

    /// Faults are over: each client asks once more and must be answered at once. If anything was in flight,
    /// it lands then, and each client asks again and gets the same.
    fn finale(&mut self) -> Result<(), Violation> {
        self.say(|| "all faults are over".to_owned());
        for client in &mut self.clients {
            client.request = None;
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
            if self.in_flight.is_empty() {
                return Ok(());
            }
            while let Some(landing) = self.in_flight.first().map(|f| f.number) {
                self.land(landing);
                self.check()?;
            }
        }
    }

    fn enabled(&self) -> Vec<Enabled> {
        let requests = self.clients.iter().enumerate().filter_map(|(index, c)| {
            let request = c.request.as_ref()?;
            Some(Enabled {
                actor: Actor::Client(index),
                point: (!request.begins()).then(|| request.point()),
            })
        });
        let landings = self.in_flight.iter().map(|in_flight| Enabled {
            actor: Actor::Landing(in_flight.number),
            point: None,
        });
        requests.chain(landings).collect()
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        self.steps.push(step);
        self.coverage.steps += 1;
        match step.actor {
            Actor::Landing(number) => self.land(number),
            Actor::Client(client) => {
                self.advance(client, step.fault)?;
            }
        }
        self.check()?;
        self.wake_all()
    }

    /// Lets everybody who waits look whether they still have to.
    fn wake_all(&mut self) -> Result<(), Violation> {
        for client in 0..self.clients.len() {
            let waits = |request: &mut Request| request.call.is_none();
            if let Some(request) = self
                .clients
                .get_mut(client)
                .and_then(|c| c.request.take_if(waits))
            {
                self.proceed(client, request)?;
            }
        }
        let is_active = |instance: usize| {
            let count = self.instances.len();
            let members = self.clients.iter().skip(instance).step_by(count);
            let mut requests = members.filter_map(|client| client.request.as_ref());
            requests.any(|request| request.call.is_some() || request.port.gathers())
        };
        let waits_for_nobody = |(index, client): (usize, &Client)| {
            let waits = client.request.as_ref().is_some_and(|r| r.call.is_none());
            waits && !is_active(index % self.instances.len())
        };
        if self.clients.iter().enumerate().any(waits_for_nobody) {
            return Err(Violation::UnexpectedAnswer(
                "none: it waits for nobody".to_owned(),
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.checker.world(&self.world.borrow())
    }

    fn request(&mut self, client: usize) -> Option<&mut Request> {
        self.clients.get_mut(client)?.request.as_mut()
    }

    /// Starts a client's next request, up to its first call.
    fn start(&mut self, client: usize) -> Result<(), Violation> {
        let Some((request, known)) = self.clients.get(client).map(|c| (c.request, c.known)) else {
            return Ok(());
        };
        let instance = self.instances.iter().cycle().nth(client).cloned();
        let Some(instance) = instance else {
            return Ok(());
        };
        let port = Port::new(self.world.clone(), instance);
        if request.condition != Condition::None {
            port.stay_alone();
        }
        let request = Request {
            running: self.protocol.start(&request, known, port.clone()),
            port,
            call: None,
            calls: 0,
            insertions: 0,
            snapshot: None,
            cut_off: false,
        };
        self.proceed(client, request).map(|_| ())
    }

    /// Lets a request run up to its next call or its end. `Ok(true)`: it was answered for good.
    fn proceed(&mut self, client: usize, mut request: Request) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        match request.running.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => {
                let Some((request, known)) = self.clients.get(client).map(|c| (c.request, c.known))
                else {
                    return Ok(false);
                };
                self.say(|| format!("client {client} is answered: {}", words(&outcome)));
                let settled = self
                    .checker
                    .answer(&request, &known, &outcome, &self.world.borrow())?;
                let moved_on = match outcome {
                    Err(Problem::PreconditionFailed { current }) => Some(current),
                    _ => None,
                };
                if let (Some(current), Some(client)) = (moved_on, self.clients.get_mut(client)) {
                    client.known = current;
                }
                if !settled || moved_on.is_some() {
                    self.retry(client)?;
                }
                Ok(settled)
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
                    client.request = Some(Request {
                        call,
                        snapshot: None,
                        cut_off: false,
                        ..request
                    });
                }
                Ok(false)
            }
        }
    }

    fn retry(&mut self, client: usize) -> Result<(), Violation> {
        match self.clients.get_mut(client) {
            Some(state) if state.retries > 0 => {
                state.retries -= 1;
                self.say(|| format!("client {client} tries again"));
                self.start(client)
            }
            _ => Ok(()),
        }
    }

    /// Takes a client's request one step on. `Ok(true)`: it was answered for good.
    fn advance(&mut self, client: usize, fault: Option<Fault>) -> Result<bool, Violation> {
        let snapshot = self.world.borrow().snapshot();
        let Some(request) = self.request(client) else {
            return Ok(false);
        };
        if request.begins() {
            request.snapshot = Some(snapshot);
            self.say(|| format!("client {client}: the insertion begins"));
            return Ok(false);
        }
        let point = request.point();
        if let Some(fault) = fault {
            self.coverage.place(fault, point);
            self.say(|| format!("fault at the next call: {fault}"));
            self.befall(client, fault);
        }
        let Some(mut request) = self.clients.get_mut(client).and_then(|c| c.request.take()) else {
            return Ok(false);
        };
        if let Some(call) = request.call.take() {
            let answer = self.answer(&request, &call, snapshot, fault);
            self.say(|| format!("client {client}: {point:?} -> {}", short(&answer)));
            request.insertions += u32::from(matches!(point, Point::Insert | Point::InsertAgain));
            request.port.answer(answer);
        } else {
            self.say(|| format!("client {client} waits no longer for others"));
            request.port.lose_patience();
        }
        if let Some(Fault::DiesBefore | Fault::DiesAfter | Fault::DiesInFlight) = fault {
            self.say(|| format!("client {client}'s request dies"));
            drop(request);
            self.retry(client)?;
            return Ok(false);
        }
        self.proceed(client, request)
    }

    /// Has a call executed, or not, or later, and gives the answer that its request gets.
    fn answer(
        &mut self,
        request: &Request,
        call: &Call,
        snapshot: Snapshot,
        fault: Option<Fault>,
    ) -> Answer {
        let unawaited = matches!(call, Call::InsertUnawaited(_));
        let leaves = matches!(fault, Some(Fault::DiesInFlight | Fault::Hangs)) || unawaited;
        if leaves && !request.cut_off {
            self.in_flight.push(InFlight {
                number: self.sent,
                call: call.clone(),
                snapshot: request.snapshot,
            });
            self.sent += 1;
        }
        if unawaited {
            return Answer::Postgres(orders::ports::Insertion::Inserted);
        }
        if leaves || request.cut_off || matches!(fault, Some(Fault::DiesBefore | Fault::Refuses)) {
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

    /// Faults of the stores themselves, before the call.
    fn befall(&mut self, client: usize, fault: Fault) {
        let Some(request) = self.request(client) else {
            return;
        };
        let call = request.call.clone();
        let scope = call.as_ref().and_then(Call::scope);
        match (fault, scope) {
            (Fault::Flush, _) => self.world.borrow_mut().flush(),
            (Fault::Evict, Some(scope)) => self.world.borrow_mut().evict(scope),
            (Fault::Evict, None) => {
                if let Some(Call::Acquire(customer, _) | Call::Release(customer, _)) = &call {
                    self.world.borrow_mut().evict_lock(customer);
                }
            }
            (Fault::Rollback, _) => self.world.borrow_mut().roll_back(),
            (Fault::FutureRecord, Some(scope)) => {
                let like = call.as_ref().and_then(record_like);
                self.world.borrow_mut().plant_future_record(scope, like);
            }
            (Fault::PostgresRestart, _) => {
                self.in_flight.retain(|f| !f.call.is_postgres());
                for client in &mut self.clients {
                    if let Some(request) = &mut client.request {
                        request.cut_off |= request.snapshot.is_some();
                    }
                }
            }
            _ => {}
        }
    }

    fn land(&mut self, number: usize) {
        let Some(index) = self.in_flight.iter().position(|f| f.number == number) else {
            return;
        };
        let landing = self.in_flight.remove(index);
        let mut world = self.world.borrow_mut();
        let snapshot = landing.snapshot.unwrap_or_else(|| world.snapshot());
        // Nobody waits for it any more; a broken variant's own sending is executed like any other.
        let call = match landing.call {
            Call::InsertUnawaited(order) => Call::Insert(order),
            call => call,
        };
        let answer = world.execute(&call, snapshot);
        drop(world);
        self.say(|| format!("a call in flight lands -> {}", short(&answer)));
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

fn record_like(call: &Call) -> Option<Record> {
    if let Call::Reserve(_, record) | Call::Set(_, record) = call {
        return Some(*record);
    }
    let order = call.order()?;
    Some(Record {
        progress: Progress::InProgress,
        fingerprint: order.fingerprint,
        order_id: order.order_id,
    })
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Nothing => "no answer".to_owned(),
        Answer::Redis(Reply::Bytes(bytes)) => match Record::decode(bytes) {
            Some(record) => format!("{:?}, order {}", record.progress, record.order_id),
            None => String::from_utf8_lossy(bytes).into_owned(),
        },
        Answer::Redis(reply) => format!("{reply:?}"),
        Answer::Postgres(orders::ports::Insertion::Existing(order)) => {
            format!("existing order {}", order.order_id)
        }
        Answer::Postgres(insertion) => format!("{insertion:?}"),
        Answer::Conditional(insertion) => format!("{insertion:?}"),
        Answer::Found(found) => format!("found: {}", found.is_some()),
        Answer::Attempts(attempts) => format!("{attempts:?}"),
    }
}

fn words(outcome: &crate::scenario::Outcome) -> impl fmt::Display {
    match outcome {
        Ok(response) => {
            let replayed = response
                .headers
                .iter()
                .any(|(n, _)| *n == "idempotent-replayed");
            let how = if replayed { "replayed" } else { "created" };
            format!("{} {how} {}", response.status, response.body)
        }
        Err(problem) => format!("{} {problem:?}", problem.status()),
    }
}
