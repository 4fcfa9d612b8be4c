//! Locks as Redis scripts: each is one command, and so one step.

use std::time::Duration;

use exactly_once::KeyScope;
use exactly_once::ports::Lock;

use super::{Command, Reply, delete_if_equal};

/// Set-if-absent. The holder acquires its own lock again: a duplicate may, and the command may be sent twice. For
/// another holder it returns the rest of the lease, in milliseconds.
const ACQUIRE: &str = "\
    local holder = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[2]) \
    if holder == false or holder == ARGV[1] then return false end \
    return redis.call('PTTL', KEYS[1])";

/// Where locks are stored, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Locking<'s> {
    /// The prefix of every name.
    pub prefix: &'s str,
    /// The lease: the longest time that a lock is held.
    pub lease: Duration,
}

impl Locking<'_> {
    /// What a reservation and a lock need, on a name that nothing else has: read the reply with [`lock`].
    pub fn probe(&self) -> Command {
        acquire(&format!("{}probe", self.prefix), "probe", "1")
    }

    /// Takes the lock of a scope's list unless another key holds it; read the reply with [`lock`].
    pub fn acquire(&self, scope: &KeyScope) -> Command {
        let lease = self.lease.as_millis().to_string();
        acquire(&self.key(scope), scope.key.as_str(), &lease)
    }

    /// Releases the lock of a scope's list if the key still has it: after the lease has ended, another one may.
    pub fn release(&self, scope: &KeyScope) -> Command {
        delete_if_equal(self.key(scope), scope.key.as_str().into())
    }

    /// The name of the lock of a scope's list. In a record's name a number follows the collection.
    pub fn key(&self, scope: &KeyScope) -> String {
        format!("{}{}:lock:{}", self.prefix, scope.collection, scope.customer.as_str())
    }
}

fn acquire(key: &str, holder: &str, lease: &str) -> Command {
    Command { name: "EVAL", arguments: [ACQUIRE, "1", key, holder, lease].map(Into::into).into() }
}

/// What a reply to [`Locking::acquire`] says. Another program has written a value without a lease, which would last for
/// ever.
pub fn lock(reply: Reply) -> Option<Lock> {
    match reply {
        Reply::Nil => Some(Lock::Acquired),
        Reply::Refused => None,
        Reply::Bytes(milliseconds) => {
            let milliseconds = str::from_utf8(&milliseconds).ok()?.parse().ok()?;
            let remaining = Duration::from_millis(milliseconds);
            Some(Lock::Held { remaining })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_locks() {
        assert_eq!(lock(Reply::Nil), Some(Lock::Acquired));
        let remaining = Duration::from_millis(1500);
        let held = lock(Reply::Bytes(b"1500".to_vec()));
        assert_eq!(held, Some(Lock::Held { remaining }));
        for no_lock in [Reply::Refused, Reply::Bytes(b"-1".to_vec())] {
            assert_eq!(lock(no_lock), None);
        }
    }
}
