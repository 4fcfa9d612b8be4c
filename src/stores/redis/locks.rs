//! Locks as Redis scripts: each one command, and so one step.

use std::time::Duration;

use super::{Command, Reply};
use crate::customer::Customer;
use crate::order::OrderId;
use crate::ports::Lock;

/// Set-if-absent. To its holder a lock that is there is acquired: the command may be sent twice. Otherwise
/// what is left of the lease, in milliseconds.
const ACQUIRE: &str = "\
    local holder = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[2]) \
    if holder == false or holder == ARGV[1] then return false end \
    return redis.call('PTTL', KEYS[1])";

/// Compare-and-delete: a lock whose lease is over may be another's by now.
const RELEASE: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
    return 0";

/// Where locks lie, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Locking<'s> {
    /// What every key starts with.
    pub prefix: &'s str,
    /// How long a lock is held at most.
    pub lease: Duration,
}

impl Locking<'_> {
    /// Takes the customer's lock if nobody has it; read the reply with [`lock`].
    pub fn acquire(&self, customer: &Customer, holder: &OrderId) -> Command {
        let mut command = self.eval(ACQUIRE, customer, holder);
        let lease = self.lease.as_millis().to_string();
        command.arguments.push(lease.into_bytes());
        command
    }

    /// Gives the customer's lock up if the holder has it still.
    pub fn release(&self, customer: &Customer, holder: &OrderId) -> Command {
        self.eval(RELEASE, customer, holder)
    }

    fn eval(&self, script: &str, customer: &Customer, holder: &OrderId) -> Command {
        let (key, holder) = (self.key(customer), holder.to_string());
        Command {
            name: "EVAL",
            arguments: [script, "1", &key, &holder].map(Into::into).into(),
        }
    }

    /// The name of a customer's lock. Records' names go on with a number.
    pub fn key(&self, customer: &Customer) -> String {
        format!("{}lock:{}", self.prefix, customer.as_str())
    }
}

/// What came of [`Locking::acquire`]. What has no lease is no lock of ours, and would last for ever.
pub fn lock(reply: Reply) -> Option<Lock> {
    match reply {
        Reply::Nil => Some(Lock::Acquired),
        Reply::WrongType => None,
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
        for no_lock in [Reply::WrongType, Reply::Bytes(b"-1".to_vec())] {
            assert_eq!(lock(no_lock), None);
        }
    }
}
