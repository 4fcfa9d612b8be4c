//! The host of a simulated request: each statement and each command is a call that it leaves to the scheduler, until
//! that brings the answer. Everything above it is what the component runs.
//!
//! **Time.** The instance reads the world's clock, which is the same for all requests: how old is what it has heard,
//! whether the breaker is open, when the kept connection is returned. How long a request *waits* it reads from a clock
//! of its own ([`Clock::waited`]), which passes only when a step is about this request's wait. A schedule orders steps
//! and does not date them: a call that another request's time-out overtakes may have been sent just before the end of
//! that time. With one clock the first time-out would be that of all calls under way, and no schedule would have a
//! request that times out beside one that continues.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use exactly_once::ResourceId;
use exactly_once::ports::{Attempt, Clock, ResourceIds};
use exactly_once::signals::Signals;
use exactly_once_stores::BATCH_WINDOW;
use exactly_once_stores::platform::{CommandError, Place, Platform, SendCommand, SendStatement, StatementError};
use exactly_once_stores::postgres::ROWS_OF_ONE;
use exactly_once_stores::redis::{Command, Reply};
use exactly_once_stores::sql::{Row, Statement};

use crate::broken::Break;
use crate::coverage::Event;
use crate::wire;
use crate::world::{Answer, Call, World};

/// Signals between requests. They wake no task: the scheduler polls all waiting requests after each step. The unit
/// tests of the group check that tasks are woken.
#[derive(Clone, Copy)]
pub struct SharedSignals;

impl Signals for SharedSignals {
    type Sender = Rc<()>;
    type Receiver = Pin<Box<dyn Future<Output = ()>>>;

    fn signal(&self) -> (Self::Sender, Self::Receiver) {
        let sender = Rc::new(());
        let receiver = Rc::downgrade(&sender);
        let wait = poll_fn(move |_| match receiver.strong_count() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        });
        (sender, Box::pin(wait))
    }
}

/// What the requests of a run share.
#[derive(Default)]
pub struct Shared {
    /// The stores and the clock.
    pub world: RefCell<World>,
    /// What requests have spawned. Tasks that are not ended keep all of this alive.
    pub tasks: RefCell<Vec<Task>>,
    /// When the first of them goes on.
    first_wakes: Cell<Option<Duration>>,
    polls_task: Cell<bool>,
    /// How often Postgres has closed all connections.
    pub restarts: Cell<u32>,
}

impl Shared {
    /// Time passes.
    pub fn pass(&self, time: Duration) {
        self.world.borrow_mut().pass(time);
        self.first_wakes.set(None);
        let mut tasks = self.tasks.take();
        tasks.retain_mut(|task| self.poll(task).is_pending());
        self.tasks.borrow_mut().append(&mut tasks);
    }

    fn poll(&self, task: &mut Task) -> Poll<()> {
        if task.is_stuck {
            return Poll::Pending;
        }
        self.polls_task.set(true);
        let polled = task.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.polls_task.set(false);
        polled
    }
}

/// What a request has spawned.
pub struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    spawned_by: Weak<State>,
    /// Only for a broken variant.
    is_stuck: bool,
}

/// Why a call has no answer. Nothing at all is a third reason: then the request's time ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The store, or the connection, has failed.
    Down,
    /// Another transaction was in the way.
    Transient,
}

/// What a request learns of its call.
pub type Outcome = Result<Answer, Lost>;

/// A connection to Postgres. Answers arrive in the order of the statements.
#[derive(Clone)]
pub struct Connection(Rc<Line>);

struct Line {
    restarts: Cell<u32>,
    is_used: Cell<bool>,
    /// The statement that its request has abandoned: its answer comes before that of the next one.
    abandoned: RefCell<Option<Rc<Call>>>,
}

/// The last connection of an instance. Only for a broken variant.
pub type LastConnection = Rc<RefCell<Option<Connection>>>;

#[derive(Default)]
struct State {
    shared: Rc<Shared>,
    last: LastConnection,
    /// The call that the scheduler has not taken.
    call: RefCell<Option<Rc<Call>>>,
    outcome: RefCell<Option<Outcome>>,
    /// Whether a call waits for its outcome.
    waits: Cell<bool>,
    /// The request's own clock.
    waited: Cell<Duration>,
    /// The tasks that are woken when it passes, and until when each sleeps.
    sleepers: RefCell<Vec<(Duration, Waker)>>,
    refuses_dial: Cell<bool>,
    mistake: Cell<Option<Break>>,
    events: RefCell<Vec<Event>>,
}

/// The host of one request. Clones are the same host.
#[derive(Clone)]
pub struct Simulated(Rc<State>);

impl Simulated {
    /// The host of a new request.
    pub fn new(shared: Rc<Shared>, last: LastConnection) -> Self {
        let state = State::default();
        Self(Rc::new(State { shared, last, ..state }))
    }

    /// Makes a mistake from now on.
    pub fn set_mistake(&self, mistake: Option<Break>) {
        self.0.mistake.set(mistake);
    }

    fn makes(&self, mistake: Break) -> bool {
        self.0.mistake.get() == Some(mistake)
    }

    /// What all requests share.
    pub fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// The call that the request waits for, once.
    pub fn take_call(&self) -> Option<Rc<Call>> {
        self.0.call.borrow_mut().take()
    }

    /// Leaves the outcome to the request's call, which finds it when it is polled. Redis may refuse a new connection.
    pub fn answer(&self, outcome: Outcome, refuses_dial: bool) {
        *self.0.outcome.borrow_mut() = Some(outcome);
        self.0.refuses_dial.set(refuses_dial);
    }

    /// Whether the request is the leader and waits for the batch to fill: nothing else is as short.
    pub fn fills_batch(&self) -> bool {
        self.sleeps_for().is_some_and(|time| time <= BATCH_WINDOW)
    }

    /// Whether the request waits for the outcome of the call that was taken.
    pub fn waits_for_outcome(&self) -> bool {
        self.0.waits.get() && self.has_no_call()
    }

    /// Whether the scheduler has taken every call.
    pub fn has_no_call(&self) -> bool {
        self.0.call.borrow().is_none()
    }

    /// What has happened since the last call of this.
    pub fn take_events(&self) -> Vec<Event> {
        self.0.events.take()
    }

    /// How long the request sleeps at least; `None` if it does not.
    fn sleeps_for(&self) -> Option<Duration> {
        let sleepers = self.0.sleepers.borrow();
        let times = sleepers.iter().map(|(end, _)| end.saturating_sub(self.0.waited.get()));
        times.filter(|time| !time.is_zero()).min()
    }

    /// For how long nothing ends the request's wait: neither it nor a task. `None` if nothing ever will.
    pub fn rests_for(&self) -> Option<Duration> {
        let wakes = self.shared().first_wakes.get();
        let rests = wakes.map(|wakes| wakes.saturating_sub(self.now()));
        self.sleeps_for().into_iter().chain(rests).min()
    }

    /// The request has ended early, and what it has spawned with it.
    pub fn ends(&self) {
        let mut tasks = self.shared().tasks.take();
        let is_own = |task: &mut Task| Weak::ptr_eq(&task.spawned_by, &Rc::downgrade(&self.0));
        let ended: Vec<Task> = match self.makes(Break::WatchNotHandedOver) {
            true => {
                tasks.iter_mut().filter_map(|task| is_own(task).then_some(task)).for_each(|task| task.is_stuck = true);
                Vec::new()
            }
            false => tasks.extract_if(.., is_own).collect(),
        };
        self.shared().tasks.borrow_mut().append(&mut tasks);
        drop(ended);
    }

    /// The request waits for that long.
    pub fn wait(&self, time: Duration) {
        self.0.waited.set(self.0.waited.get() + time);
        self.shared().pass(time);
        for (_, waker) in self.0.sleepers.take() {
            waker.wake();
        }
    }

    fn see(&self, event: Event) {
        self.0.events.borrow_mut().push(event);
    }

    /// Leaves a call to the scheduler, and waits for the outcome.
    async fn call(&self, call: Rc<Call>) -> Outcome {
        *self.0.call.borrow_mut() = Some(call);
        self.0.waits.set(true);
        let _waiting = Waiting(self);
        let heard = || self.0.outcome.borrow_mut().take();
        let outcome = poll_fn(|_| heard().map_or(Poll::Pending, Poll::Ready)).await;
        let mistake = self.0.mistake.get();
        outcome.map(|answer| match mistake {
            Some(mistake) => mistake.answer(answer),
            None => answer,
        })
    }

    fn call_of(&self, call: Option<Call>) -> Option<Rc<Call>> {
        let call = match self.0.mistake.get() {
            Some(mistake) => mistake.call(call?),
            None => call?,
        };
        Some(Rc::new(call))
    }

    /// Sends a statement, and returns it or the one whose answer comes first, with that answer.
    async fn send_statement(
        &self,
        Connection(line): &Connection,
        statement: &Statement<'_>,
    ) -> Result<(Rc<Call>, Answer), StatementError> {
        let call = self.call_of(wire::of_statement(statement));
        let call = call.ok_or_else(|| error(Lost::Down))?;
        if line.is_used.replace(true) {
            self.see(Event::ConnectionKept);
        }
        if line.restarts.get() != self.shared().restarts.get() {
            self.see(Event::ConnectionDead);
            return Err(error(Lost::Down));
        }
        let earlier = line.abandoned.replace(Some(call.clone()));
        let answered = earlier.clone().unwrap_or(call);
        let outcome = self.call(answered.clone()).await;
        if earlier.is_none() {
            *line.abandoned.borrow_mut() = None;
        }
        line.restarts.set(match outcome {
            Err(Lost::Down) => u32::MAX,
            Ok(_) | Err(Lost::Transient) => self.shared().restarts.get(),
        });
        Ok((answered, outcome.map_err(error)?))
    }
}

fn error(lost: Lost) -> StatementError {
    StatementError { sqlstate: (lost == Lost::Transient).then(|| "40001".to_owned()), text: String::new() }
}

/// Held by a call that waits.
struct Waiting<'p>(&'p Simulated);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.waits.set(false);
        if self.0.take_call().is_some_and(|call| !matches!(*call, Call::InsertAll(_))) {
            self.0.see(Event::NotSent);
        }
    }
}

impl Clock for Simulated {
    fn now(&self) -> Duration {
        self.shared().world.borrow().now()
    }

    fn waited(&self, _: Duration) -> Duration {
        self.0.waited.get()
    }

    async fn sleep(&self, time: Duration) {
        let (own, end) = (self.0.waited.get() + time, self.now() + time);
        poll_fn(|cx| {
            let shared = self.shared();
            if self.now() >= end {
                return Poll::Ready(());
            }
            match shared.polls_task.get() {
                true => shared.first_wakes.set(shared.first_wakes.get().into_iter().chain([end]).min()),
                false => self.0.sleepers.borrow_mut().push((own, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }
}

impl Platform for Simulated {
    type Signals = SharedSignals;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut task = Task { future: Box::pin(task), spawned_by: Rc::downgrade(&self.0), is_stuck: false };
        // It begins to sleep now.
        if self.shared().poll(&mut task).is_pending() {
            self.shared().tasks.borrow_mut().push(task);
        }
    }

    fn write_line(&self, _: String) {}
}

impl SendStatement for Simulated {
    type Connection = Connection;

    /// A part of the step of its first statement: a server that refuses it is like one that fails then.
    async fn connect(&self, _: Place<'_>) -> Result<Connection, StatementError> {
        let mut last = self.0.last.borrow_mut();
        let reused = last
            .take_if(|Connection(line)| self.makes(Break::ConnectionUsedAgain) && line.abandoned.borrow().is_some());
        let connection = reused.unwrap_or_else(|| {
            Connection(Rc::new(Line {
                restarts: Cell::new(self.shared().restarts.get()),
                is_used: Cell::new(false),
                abandoned: RefCell::default(),
            }))
        });
        *last = Some(connection.clone());
        Ok(connection)
    }

    async fn rows(&self, connection: &Connection, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
        let (call, answer) = self.send_statement(connection, statement).await?;
        // It was executed in this very step.
        let history = self.shared().world.borrow().tables.history();
        Ok(vec![wire::row(&call, answer, history)])
    }

    async fn count(&self, connection: &Connection, statement: &Statement<'_>) -> Result<usize, StatementError> {
        Ok(match self.send_statement(connection, statement).await? {
            (_, Answer::Attempts(attempts)) if attempts[..] == [Attempt::Inserted] => ROWS_OF_ONE,
            (_, Answer::Attempts(_)) => 0,
            _ => 1,
        })
    }
}

impl SendCommand for Simulated {
    type Link = ();

    /// A part of the step of the command before or after it.
    async fn dial(&self, _: &str) -> Result<(), CommandError> {
        match self.0.refuses_dial.take() {
            false => Ok(()),
            true => Err(CommandError { text: String::new() }),
        }
    }

    async fn send(&self, (): &(), command: &Command) -> Result<Reply, CommandError> {
        let lost = || CommandError { text: String::new() };
        let call = self.call_of(wire::of_command(command)).ok_or_else(lost)?;
        match self.call(call).await {
            Ok(Answer::Redis(reply)) => Ok(reply),
            _ => Err(lost()),
        }
    }
}

impl ResourceIds for Simulated {
    fn draw(&self) -> ResourceId {
        self.shared().world.borrow_mut().draw_id()
    }
}
