//! A connection that the requests of an instance share. One request opens it; the others wait for it. Whoever finds that it
//! is dead drops it, and the next request opens another.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::LocalKey;

use protocol::group_commit::Signals;

use crate::signals::TaskSignals;

/// A connection, kept in a static of the instance.
pub struct SharedConnection<C>(RefCell<Line<C>>);

enum Line<C> {
    Down,
    /// One request connects; the others wait to be woken.
    Connecting(Vec<<TaskSignals as Signals>::Sender>),
    Up(Rc<C>),
}

/// What a request that needs a connection does.
enum Joined<C> {
    Up(Rc<C>),
    Waits(<TaskSignals as Signals>::Receiver),
    Connects,
}

/// The kept connection, or a new one that is kept from now on.
///
/// # Errors
/// Opening it has failed.
pub async fn get<C: 'static, E>(
    shared: &'static LocalKey<SharedConnection<C>>,
    open: impl AsyncFn() -> Result<C, E>,
) -> Result<Rc<C>, E> {
    loop {
        let wait = match shared.with(SharedConnection::join) {
            Joined::Up(connection) => return Ok(connection),
            Joined::Waits(wait) => wait,
            Joined::Connects => {
                let _guard = ConnectGuard(shared);
                let connection = Rc::new(open().await?);
                shared.with(|shared| shared.0.replace(Line::Up(connection.clone())));
                return Ok(connection);
            }
        };
        // If the request that connected has failed, the first that is woken connects.
        wait.await;
    }
}

impl<C> SharedConnection<C> {
    /// None so far.
    pub const fn closed() -> Self {
        Self(RefCell::new(Line::Down))
    }

    fn join(&self) -> Joined<C> {
        let mut line = self.0.borrow_mut();
        match &mut *line {
            Line::Up(connection) => Joined::Up(connection.clone()),
            Line::Connecting(others) => {
                let (sender, wait) = TaskSignals.signal();
                others.push(sender);
                Joined::Waits(wait)
            }
            Line::Down => {
                *line = Line::Connecting(Vec::new());
                Joined::Connects
            }
        }
    }

    /// Drops the kept connection, if there is one. A request that is connecting continues.
    pub fn hang_up(&self) {
        self.drop_if(|line| matches!(line, Line::Up(_)));
    }

    /// Drops the kept connection if it is still this one.
    pub fn forget(&self, dead: &Rc<C>) {
        self.drop_if(|line| matches!(line, Line::Up(kept) if Rc::ptr_eq(kept, dead)));
    }

    fn drop_if(&self, condition: impl FnOnce(&Line<C>) -> bool) {
        let mut line = self.0.borrow_mut();
        if condition(&line) {
            *line = Line::Down;
        }
    }
}

/// Held by the request that connects. The others are woken when the line changes, whether it succeeded or not.
struct ConnectGuard<C: 'static>(&'static LocalKey<SharedConnection<C>>);

impl<C> Drop for ConnectGuard<C> {
    fn drop(&mut self) {
        self.0
            .with(|shared| shared.drop_if(|line| matches!(line, Line::Connecting(_))));
    }
}
