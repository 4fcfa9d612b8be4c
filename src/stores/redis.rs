//! Reservations as Redis commands; locks in [`locks`].

pub mod locks;

use std::time::Duration;

use crate::idempotency::{Record, Slot};
use crate::ports::Reservation;

/// A command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command's name.
    pub name: &'static str,
    /// What follows it.
    pub arguments: Vec<Vec<u8>>,
}

/// What Redis made of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing was there.
    Nil,
    /// A string, or a status.
    Bytes(Vec<u8>),
    /// The key holds something that is not a string.
    WrongType,
}

/// Where records lie, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Records<'s> {
    /// What every key starts with.
    pub prefix: &'s str,
    /// How long a record is kept.
    pub ttl: Duration,
}

impl Records<'_> {
    /// Set-if-absent that returns what is there, in one trip. Needs Redis 7 (`NX` with `GET`).
    pub fn reserve(&self, slot: &Slot, record: &Record) -> Command {
        let mut command = self.set(slot, record);
        command.arguments.extend([b"NX".to_vec(), b"GET".to_vec()]);
        command
    }

    /// Set, whatever is there.
    pub fn finish(&self, slot: &Slot, record: &Record) -> Command {
        self.set(slot, record)
    }

    /// What is there; read the reply with [`trace`].
    pub fn look(&self, slot: &Slot) -> Command {
        Command {
            name: "GET",
            arguments: vec![self.key(slot).into_bytes()],
        }
    }

    fn set(&self, slot: &Slot, record: &Record) -> Command {
        Command {
            name: "SET",
            arguments: vec![
                self.key(slot).into_bytes(),
                record.encode(),
                b"PX".to_vec(),
                self.ttl.as_millis().to_string().into_bytes(),
            ],
        }
    }

    /// The name of a slot's record. The length keeps ("a", "b:c") and ("a:b", "c") apart.
    pub fn key(&self, slot: &Slot) -> String {
        let customer = slot.customer.as_str();
        format!(
            "{}{}:{customer}:{}",
            self.prefix,
            customer.len(),
            slot.key.as_str()
        )
    }
}

/// A sign of life.
pub fn ping() -> Command {
    Command {
        name: "PING",
        arguments: Vec::new(),
    }
}

impl From<Reply> for Reservation {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Nil => Self::Acquired,
            Reply::Bytes(bytes) => {
                Record::decode(&bytes).map_or(Self::Unintelligible, Self::Occupied)
            }
            Reply::WrongType => Self::Unintelligible,
        }
    }
}

/// The record that a reply is, if it is one.
pub fn trace(reply: Reply) -> Option<Record> {
    match Reservation::from(reply) {
        Reservation::Occupied(record) => Some(record),
        Reservation::Acquired | Reservation::Unintelligible => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::Customer;
    use crate::idempotency::{Fingerprint, IdempotencyKey, Progress};
    use crate::order::OrderId;

    #[test]
    fn a_reservation_sets_if_absent_and_a_finishing_always() {
        let records = Records {
            prefix: "p:",
            ttl: Duration::from_secs(2),
        };
        let slot = Slot {
            customer: Customer::named("c").expect("a name"),
            key: IdempotencyKey::parse(b"k").expect("a key"),
        };
        let record = Record {
            progress: Progress::Reserved,
            fingerprint: Fingerprint::of(&slot, "POST", "/", ""),
            order_id: OrderId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
        };
        let always = [
            b"p:1:c:k".to_vec(),
            record.encode(),
            b"PX".into(),
            b"2000".into(),
        ];
        let finish = records.finish(&slot, &record);
        assert_eq!((finish.name, &finish.arguments[..]), ("SET", &always[..]));
        let reserve = records.reserve(&slot, &record);
        let absent = [&always[..], &[b"NX".into(), b"GET".into()]].concat();
        assert_eq!((reserve.name, reserve.arguments), ("SET", absent));
        let look = records.look(&slot);
        assert_eq!((look.name, &look.arguments[..]), ("GET", &always[..1]));
        assert_eq!(trace(Reply::Bytes(record.encode())), Some(record));
        assert_eq!(trace(Reply::Nil), None);
        assert_eq!(ping().name, "PING");
    }

    #[test]
    fn replies_are_read_as_reservations() {
        assert_eq!(Reservation::from(Reply::Nil), Reservation::Acquired);
        for nonsense in [Reply::WrongType, Reply::Bytes(b"garbage".to_vec())] {
            assert_eq!(Reservation::from(nonsense), Reservation::Unintelligible);
        }
    }

    #[test]
    fn no_two_slots_share_a_record() {
        let records = Records {
            prefix: "orders:",
            ttl: Duration::from_secs(1),
        };
        let key = |customer: &str, key: &str| {
            records.key(&Slot {
                customer: Customer::named(customer).expect("a name"),
                key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
            })
        };
        assert_eq!(key("anonymous", "k"), "orders:9:anonymous:k");
        assert_ne!(key("a", "b:c"), key("a:b", "c"));
        assert_ne!(key("a:1", "c"), key("a", "1:c"));
    }
}
