//! The one Postgres connection that an instance keeps between group commits. Taking one from the host's pool costs a
//! trip to Postgres, but an instance that keeps one takes it from the others: Spin has 64 per database. So the instance
//! returns it after a short idle time, and in any case after a longer one.

use std::cell::RefCell;
use std::time::Duration;

use spin_sdk::pg::Connection;
use spin_sdk::time::sleep;
use spin_sdk::wasip3::spawn;

/// The idle time after which the connection is returned.
const IDLE: Duration = Duration::from_millis(50);

/// How many idle times an instance may keep a connection that is in use: 0.5 s.
const MAX_IDLE_TIMES: u32 = 10;

#[derive(Default)]
struct Cache {
    connection: Option<Connection>,
    /// Whether it was used since the timer last checked.
    used: bool,
    /// Whether an expiry task is running.
    timed: bool,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Takes the connection out of the cache, if there is one. A caller that does not [`put`] it back has dropped it.
pub fn take() -> Option<Connection> {
    CACHE.with_borrow_mut(|cache| cache.connection.take())
}

/// Puts a connection on which no statement is under way into the cache.
pub fn put(connection: Connection) {
    let untimed = CACHE.with_borrow_mut(|cache| {
        cache.connection = Some(connection);
        cache.used = true;
        !std::mem::replace(&mut cache.timed, true)
    });
    if untimed {
        spawn(Expiry.run());
    }
}

/// Returns the connection in time. Runs on after the answer of the request that started it.
struct Expiry;

impl Expiry {
    async fn run(self) {
        for _ in 0..MAX_IDLE_TIMES {
            sleep(IDLE).await;
            let used = CACHE.with_borrow_mut(|cache| std::mem::take(&mut cache.used));
            if !used {
                return;
            }
        }
    }
}

impl Drop for Expiry {
    /// Runs however the task ends: otherwise the connection would stay.
    fn drop(&mut self) {
        CACHE.with_borrow_mut(|cache| {
            cache.timed = false;
            cache.connection = None;
        });
    }
}
