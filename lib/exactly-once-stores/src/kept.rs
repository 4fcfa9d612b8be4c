//! The one connection to the database that an instance keeps. Taking one from the host's pool costs a round trip to
//! Postgres, but an instance that keeps one takes it from the others: Spin has 64 per database. So a connection to
//! Postgres is returned after a short idle time, and in any case after a longer one. SQLite's stays.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use exactly_once::ports::Clock;

use crate::platform::Platform;

/// The idle time after which the connection is returned.
pub const IDLE: Duration = Duration::from_millis(50);

/// How many idle times an instance may keep a connection that is in use: 0.5 s.
pub const MAX_IDLE_TIMES: u32 = 10;

/// A place for one connection.
pub(crate) struct Kept<C> {
    connection: RefCell<Option<C>>,
    /// Whether it was used since the timer last checked.
    used: Cell<bool>,
    /// Whether an expiry task is running.
    timed: Cell<bool>,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self { connection: RefCell::new(None), used: Cell::default(), timed: Cell::default() }
    }
}

impl<C: 'static> Kept<C> {
    /// Takes the connection, if it is wanted and there is one. A caller that does not put it back has dropped it.
    pub fn take_if(&self, wanted: bool) -> Option<C> {
        self.connection.borrow_mut().take_if(|_| wanted)
    }

    /// Keeps a connection on which no statement is under way.
    pub fn put(&self, connection: C) {
        *self.connection.borrow_mut() = Some(connection);
    }

    /// The same, for a short time.
    pub fn put_for_a_time(self: &Rc<Self>, platform: &impl Platform, connection: C) {
        self.put(connection);
        self.used.set(true);
        if !self.timed.replace(true) {
            let (expiry, clock) = (Expiry(self.clone()), platform.clone());
            platform.spawn(async move { expiry.run(clock).await });
        }
    }
}

/// Returns the connection in time. Runs on after the response of the request that started it.
struct Expiry<C>(Rc<Kept<C>>);

impl<C> Expiry<C> {
    async fn run(self, clock: impl Clock) {
        for _ in 0..MAX_IDLE_TIMES {
            clock.sleep(IDLE).await;
            if !self.0.used.take() {
                return;
            }
        }
    }
}

impl<C> Drop for Expiry<C> {
    /// Runs however the task ends: otherwise the connection would stay.
    fn drop(&mut self) {
        self.0.timed.set(false);
        *self.0.connection.borrow_mut() = None;
    }
}
