//! The one Postgres connection that an instance keeps between group commits. Taking one from the host's
//! pool costs a trip to Postgres, but who keeps one takes it from other instances: Spin has 64 per database.
//! So it goes back when it was idle for a moment, and in any case after a while.

use std::cell::RefCell;
use std::time::Duration;

use spin_sdk::pg::Connection;
use spin_sdk::time::sleep;
use spin_sdk::wasip3::spawn;

/// A connection that nobody used for that long goes back.
const IDLE: Duration = Duration::from_millis(50);

/// How many times as long an instance may keep a connection that is used all the time: 0.5 s.
const TERMS: u32 = 10;

#[derive(Default)]
struct Kept {
    connection: Option<Connection>,
    /// Whether it was used since the caretaker last looked.
    used: bool,
    /// Whether there is a caretaker; it keeps the time.
    watched: bool,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Takes the kept connection out, if there is one. Who does not [`give_back`] it has dropped it.
pub fn take() -> Option<Connection> {
    KEPT.with_borrow_mut(|kept| kept.connection.take())
}

/// Keeps a connection on which nothing is under way.
pub fn give_back(connection: Connection) {
    let unwatched = KEPT.with_borrow_mut(|kept| {
        kept.connection = Some(connection);
        kept.used = true;
        !std::mem::replace(&mut kept.watched, true)
    });
    if unwatched {
        let caretaker = Caretaker;
        spawn(caretaker.watch());
    }
}

/// Lets the connection go in time. Runs on after the answer of the request that it was started by.
struct Caretaker;

impl Caretaker {
    async fn watch(self) {
        for _ in 0..TERMS {
            sleep(IDLE).await;
            let used = KEPT.with_borrow_mut(|kept| std::mem::take(&mut kept.used));
            if !used {
                return;
            }
        }
    }
}

impl Drop for Caretaker {
    /// However it ends: nobody else would.
    fn drop(&mut self) {
        KEPT.with_borrow_mut(|kept| {
            kept.watched = false;
            kept.connection = None;
        });
    }
}
