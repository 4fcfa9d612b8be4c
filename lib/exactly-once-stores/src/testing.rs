//! A host for unit tests: the stores' responses are scripted, and time passes only while the instance sleeps.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use exactly_once::ports::{Clock, NewResource};
use exactly_once::signals::Signals;
use exactly_once::{Collection, Customer, Document, Fingerprint, History, IdempotencyKey, KeyScope, ResourceId};

use crate::platform::{CommandError, Place, Platform, SendCommand, SendStatement, StatementError};
use crate::redis::{Command, Reply};
use crate::sql::{Row, Statement, Value};

pub(crate) const ORDERS: Collection = Collection { name: "orders", one: "order", path: "/orders" };

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What the database does with a statement.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    Rows(Vec<Row>),
    Error(Option<&'static str>, &'static str),
    /// It returns these rows after that time.
    After(Duration, Vec<Row>),
    Never,
}

/// What Redis does with a command, or with a new connection.
#[derive(Clone, Debug)]
pub(crate) enum RedisScript {
    Reply(Reply),
    Error(&'static str),
    Never,
}

#[derive(Default)]
struct State {
    now: Cell<Duration>,
    statements: RefCell<VecDeque<Script>>,
    commands: RefCell<VecDeque<RedisScript>>,
    dials: RefCell<VecDeque<RedisScript>>,
    /// What was sent, with the number of the connection.
    sent: RefCell<Vec<String>>,
    connections: Cell<u32>,
    lines: RefCell<Vec<String>>,
    tasks: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
    /// The tasks that sleep.
    sleepers: RefCell<Vec<Waker>>,
}

/// The host. Clones share its state.
#[derive(Clone, Default)]
pub(crate) struct TestPlatform(Rc<State>);

impl TestPlatform {
    pub fn statements(&self, scripts: impl IntoIterator<Item = Script>) {
        self.0.statements.borrow_mut().extend(scripts);
    }

    pub fn commands(&self, scripts: impl IntoIterator<Item = RedisScript>) {
        self.0.commands.borrow_mut().extend(scripts);
    }

    pub fn dials(&self, scripts: impl IntoIterator<Item = RedisScript>) {
        self.0.dials.borrow_mut().extend(scripts);
    }

    pub fn pass(&self, time: Duration) {
        self.0.now.set(self.0.now.get() + time);
        self.0.sleepers.take().iter().for_each(Waker::wake_by_ref);
    }

    /// What was sent since the last call of this.
    pub fn sent(&self) -> Vec<String> {
        self.0.sent.take()
    }

    /// What was logged since the last call of this.
    pub fn lines(&self) -> Vec<String> {
        self.0.lines.take()
    }

    /// Runs the futures, and what was spawned. Time passes in steps of a millisecond while none can continue.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = Box::pin(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            // What the tasks wake goes on in the same millisecond.
            self.run_tasks();
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.pass(MS);
        }
        panic!("the future waits for ever");
    }

    fn run_tasks(&self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut tasks = self.0.tasks.take();
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        self.0.tasks.borrow_mut().append(&mut tasks);
    }

    /// How many tasks have not ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks.borrow().len()
    }

    /// All tasks die.
    pub fn end_tasks(&self) {
        drop(self.0.tasks.take());
    }

    /// Time passes, and spawned tasks run.
    pub fn idle(&self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.pass(MS);
            self.run_tasks();
        }
    }

    fn note(&self, connection: u32, what: &str) {
        let first = what.trim_start_matches("SELECT * FROM ").split_whitespace().take(3).collect::<Vec<_>>();
        let line = format!("{connection} {}", first.join(" "));
        self.0.sent.borrow_mut().push(line);
    }

    async fn answer(&self) -> Result<Vec<Row>, StatementError> {
        let script = self.0.statements.borrow_mut().pop_front();
        match script.expect("a script for every statement") {
            Script::Rows(rows) => Ok(rows),
            Script::Error(sqlstate, text) => {
                Err(StatementError { sqlstate: sqlstate.map(str::to_owned), text: text.to_owned() })
            }
            Script::After(time, rows) => {
                self.sleep(time).await;
                Ok(rows)
            }
            Script::Never => std::future::pending().await,
        }
    }

    fn connection(&self) -> u32 {
        self.0.connections.set(self.0.connections.get() + 1);
        self.0.connections.get()
    }
}

impl Clock for TestPlatform {
    fn now(&self) -> Duration {
        self.0.now.get()
    }

    async fn sleep(&self, time: Duration) {
        let end = self.now() + time;
        poll_fn(|cx| match self.now() >= end {
            true => Poll::Ready(()),
            false => {
                self.0.sleepers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }
}

/// Ready once the sender is dropped; [`TestPlatform::run`] polls without being woken.
pub(crate) struct Receiver(Weak<()>);

impl Future for Receiver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.strong_count() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct TestSignals;

impl Signals for TestSignals {
    type Sender = Rc<()>;
    type Receiver = Receiver;

    fn signal(&self) -> (Rc<()>, Receiver) {
        let sender = Rc::new(());
        let receiver = Receiver(Rc::downgrade(&sender));
        (sender, receiver)
    }
}

impl Platform for TestPlatform {
    type Signals = TestSignals;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.tasks.borrow_mut().push(Box::pin(task));
    }

    fn write_line(&self, line: String) {
        self.0.lines.borrow_mut().push(line);
    }
}

impl SendStatement for TestPlatform {
    type Connection = u32;

    async fn connect(&self, _: Place<'_>) -> Result<u32, StatementError> {
        Ok(self.connection())
    }

    async fn rows(&self, connection: &u32, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
        self.note(*connection, statement.sql);
        self.answer().await
    }

    async fn count(&self, connection: &u32, statement: &Statement<'_>) -> Result<usize, StatementError> {
        self.note(*connection, &format!("count: {}", statement.sql));
        Ok(self.answer().await?.len())
    }
}

impl SendCommand for TestPlatform {
    type Link = u32;

    async fn dial(&self, _: &str) -> Result<u32, CommandError> {
        let connection = self.connection();
        self.note(connection, "dial");
        let script = self.0.dials.borrow_mut().pop_front();
        redis(script.unwrap_or(RedisScript::Reply(Reply::Nil))).await?;
        Ok(connection)
    }

    async fn send(&self, link: &u32, command: &Command) -> Result<Reply, CommandError> {
        self.note(*link, command.name);
        let script = self.0.commands.borrow_mut().pop_front();
        redis(script.expect("a script for every command")).await
    }
}

async fn redis(script: RedisScript) -> Result<Reply, CommandError> {
    match script {
        RedisScript::Reply(reply) => Ok(reply),
        RedisScript::Error(text) => Err(CommandError { text: text.to_owned() }),
        RedisScript::Never => std::future::pending().await,
    }
}

/// A row with these columns.
pub(crate) fn row_of(columns: impl IntoIterator<Item = (&'static str, Value)>) -> Row {
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    Row::new(names.into_iter().map(str::to_owned).collect(), values)
}

/// The column of a database's history.
pub(crate) fn history_column(byte: u8) -> (&'static str, Value) {
    ("history", Value::Bytes(vec![byte; History::BYTES]))
}

/// A resource to be inserted.
pub(crate) fn new_order() -> NewResource {
    let scope = KeyScope {
        collection: "orders",
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(b"k").expect("a key"),
    };
    let document = Document::from_text(r#"{"note":"a \"note\""}"#);
    NewResource {
        id: ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
        fingerprint: Fingerprint::of(&scope, "POST", "/", &document),
        document,
        scope,
    }
}
