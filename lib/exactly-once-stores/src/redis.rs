//! Records as Redis commands; locks in [`locks`].

pub mod cluster;
pub mod locks;

use std::time::Duration;

use exactly_once::ports::Reservation;
use exactly_once::{KeyScope, Record};

/// A command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command's name.
    pub name: &'static str,
    /// What follows the name.
    pub arguments: Vec<Vec<u8>>,
}

impl Command {
    /// The key that it is about.
    pub fn key(&self) -> &[u8] {
        // A script and the number of its keys come before them.
        let index = if self.name == "EVAL" { 2 } else { 0 };
        self.arguments.get(index).map_or(&[], Vec::as_slice)
    }
}

/// Compare-and-delete, as one command: another request may have replaced the value.
const DELETE_IF_EQUAL: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
    return 0";

fn delete_if_equal(key: String, value: Vec<u8>) -> Command {
    Command { name: "EVAL", arguments: vec![DELETE_IF_EQUAL.into(), b"1".to_vec(), key.into(), value] }
}

/// What Redis returns for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The key does not exist.
    Nil,
    /// A string, or a status.
    Bytes(Vec<u8>),
    /// Redis rejects this command on this key: the key holds something that is not a string, or the user lacks a right.
    Refused,
}

/// Where records are stored, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Records<'s> {
    /// The prefix of every name.
    pub prefix: &'s str,
    /// How long a record is kept.
    pub ttl: Duration,
}

impl Records<'_> {
    /// Set-if-absent that returns the existing value, in one round trip. Needs Redis 7 (`NX` with `GET`).
    pub fn reserve(&self, scope: &KeyScope, record: &Record) -> Command {
        let mut command = self.set(scope, record);
        command.arguments.extend([b"NX".to_vec(), b"GET".to_vec()]);
        command
    }

    /// Set, whatever the scope holds.
    pub fn complete(&self, scope: &KeyScope, record: &Record) -> Command {
        self.set(scope, record)
    }

    /// Deletes the record if the scope still holds exactly this one.
    pub fn withdraw(&self, scope: &KeyScope, record: &Record) -> Command {
        delete_if_equal(self.key(scope), record.encode())
    }

    /// Reads the scope; read the reply with [`record`].
    pub fn find_record(&self, scope: &KeyScope) -> Command {
        Command { name: "GET", arguments: vec![self.key(scope).into_bytes()] }
    }

    fn set(&self, scope: &KeyScope, record: &Record) -> Command {
        Command {
            name: "SET",
            arguments: vec![
                self.key(scope).into_bytes(),
                record.encode(),
                b"PX".to_vec(),
                self.ttl.as_millis().to_string().into_bytes(),
            ],
        }
    }

    /// The name of a scope's record. The length keeps ("a", "b:c") and ("a:b", "c") apart; a collection's name
    /// contains no colon.
    pub fn key(&self, scope: &KeyScope) -> String {
        let customer = scope.customer.as_str();
        format!("{}{}:{}:{customer}:{}", self.prefix, scope.collection, customer.len(), scope.key.as_str())
    }
}

/// What a reply to [`Records::reserve`] says.
pub fn reservation(reply: Reply) -> Reservation {
    match reply {
        Reply::Nil => Reservation::Acquired,
        Reply::Bytes(bytes) => Record::decode(&bytes).map_or(Reservation::Unintelligible, Reservation::Occupied),
        Reply::Refused => Reservation::Unintelligible,
    }
}

/// The record in a reply to [`Records::find_record`], if it is one.
pub fn record(reply: Reply) -> Option<Record> {
    match reservation(reply) {
        Reservation::Occupied(record) => Some(record),
        Reservation::Acquired | Reservation::Unintelligible => None,
    }
}

#[cfg(test)]
mod tests {
    use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, Progress, ResourceId};

    use super::*;

    fn scope(collection: &'static str, customer: &str, key: &str) -> KeyScope {
        KeyScope {
            collection,
            customer: Customer::named(customer).expect("a name"),
            key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
        }
    }

    #[test]
    fn a_reservation_sets_if_absent_and_a_completion_always() {
        let records = Records { prefix: "p:", ttl: Duration::from_secs(2) };
        let scope = scope("orders", "c", "k");
        let record = Record {
            progress: Progress::InProgress,
            fingerprint: Fingerprint::of(&scope, "POST", "/", &Document::from_text("")),
            id: ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
        };
        let always = [b"p:orders:1:c:k".to_vec(), record.encode(), b"PX".into(), b"2000".into()];
        let complete = records.complete(&scope, &record);
        assert_eq!((complete.name, &complete.arguments[..]), ("SET", &always[..]));
        let reserve = records.reserve(&scope, &record);
        let absent = [&always[..], &[b"NX".into(), b"GET".into()]].concat();
        assert_eq!((reserve.name, reserve.arguments), ("SET", absent));
        let find = records.find_record(&scope);
        assert_eq!((find.name, &find.arguments[..]), ("GET", &always[..1]));
        let withdraw = records.withdraw(&scope, &record);
        assert_eq!(withdraw.name, "EVAL");
        assert_eq!(withdraw.arguments[1..], [b"1", &always[0][..], &always[1]]);
        assert_eq!(super::record(Reply::Bytes(record.encode())), Some(record));
        assert_eq!(super::record(Reply::Nil), None);
    }

    #[test]
    fn replies_are_read_as_reservations() {
        assert_eq!(reservation(Reply::Nil), Reservation::Acquired);
        for unreadable in [Reply::Refused, Reply::Bytes(b"garbage".to_vec())] {
            assert_eq!(reservation(unreadable), Reservation::Unintelligible);
        }
    }

    #[test]
    fn no_two_scopes_share_a_record() {
        let records = Records { prefix: "", ttl: Duration::from_secs(1) };
        let key = |collection, customer, key| records.key(&scope(collection, customer, key));
        assert_eq!(key("orders", "somebody", "k"), "orders:8:somebody:k");
        assert_ne!(key("orders", "a", "b:c"), key("orders", "a:b", "c"));
        assert_ne!(key("orders", "a:1", "c"), key("orders", "a", "1:c"));
        assert_ne!(key("orders", "a", "c"), key("refunds", "a", "c"));
    }
}
