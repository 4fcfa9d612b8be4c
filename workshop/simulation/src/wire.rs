//! Translates what the component sends into calls of the simulated stores, and their answers into what it reads.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::{Attempt, ConditionalInsertion, Insertion, NewResource, StoredResource};
use exactly_once::{Customer, Document, Fingerprint, History, IdempotencyKey, KeyScope, ListState, Record, ResourceId};
use exactly_once_stores::Instance;
use exactly_once_stores::postgres::statements;
use exactly_once_stores::redis::Command;
use exactly_once_stores::redis::locks::Locking;
use exactly_once_stores::sql::{Parameter, Row, Statement, Statements, Value};

use crate::client_request::SAME;
use crate::kind::Kind;
use crate::platform::{SharedSignals, Simulated};
use crate::world::{Answer, Call};

/// Reads the parameters of a statement about a collection.
type Read = fn(&[Parameter], &'static str) -> Option<Call>;

struct Texts {
    of_kinds: [Statements; 2],
    statements: Vec<(String, Read, &'static str)>,
    /// The script that takes a lock.
    acquire: Vec<u8>,
}

/// The columns of all rows. A row has them all: a missing column and NULL are the same.
const COLUMNS: [&str; 8] = ["history", "inserted", "id", "fingerprint", "document", "before", "after", "ids"];

const KINDS: [Kind; 2] = [Kind::Order, Kind::Refund];

thread_local! {
    static TEXTS: Texts = texts();
    static NAMES: Rc<[String]> = COLUMNS.map(str::to_owned).into();
}

/// The texts of what the component sends, found out by sending it an example.
fn texts() -> Texts {
    let (scope, document) = (SAME.scope(), Document::from_text("{}"));
    let new = NewResource {
        id: ResourceId::from_uuid(uuid::Uuid::nil()),
        fingerprint: Fingerprint::of(&scope, "", "", &document),
        document,
        scope,
    };
    let time = Duration::from_secs(1);
    let of_kinds = KINDS.map(|kind| statements(kind.collection()));
    let of_kind = |(kind, it): (Kind, &Statements)| {
        let name = kind.collection().name;
        let read_batch: Read = |sent, name| Some(Call::InsertAll(batch(name, text(sent, 0)?)?));
        let sent: [(_, Read); 7] = [
            (it.insert(&new, time), |sent, name| Some(Call::Insert(Box::new(resource(name, sent)?)))),
            (it.insert_based_on(&new, &Expected::Any, time), |sent, name| {
                let new = Box::new(resource(name, sent)?);
                Some(Call::InsertBasedOn(new, expected(text(sent, 6)?)?))
            }),
            (it.find_by_key(&new.scope), |sent, name| {
                Some(Call::Find(key_scope(name, text(sent, 0)?, text(sent, 1)?)?))
            }),
            (it.insert_new(&new), read_batch),
            (it.insert_all(&[&new]), read_batch),
            (it.history(), |_, _| Some(Call::AskHistory)),
            (it.draw_epochs(), |_, _| Some(Call::DrawHistory)),
        ];
        sent.map(|(statement, read)| (statement.sql.to_owned(), read, name))
    };
    let locking = Locking { prefix: "", lease: time };
    let acquire = locking.acquire(&new.scope).arguments;
    Texts {
        statements: KINDS.into_iter().zip(&of_kinds).flat_map(of_kind).collect(),
        of_kinds,
        acquire: acquire.into_iter().next().unwrap_or_default(),
    }
}

/// An instance that sends the statements that are known here, about kinds of resources that are `used`.
pub fn new_instance(used: impl Fn(Kind) -> bool) -> Instance<Simulated> {
    let instance = Instance::new(SharedSignals);
    TEXTS.with(|texts| {
        let all = KINDS.into_iter().zip(&texts.of_kinds);
        for (kind, statements) in all.filter(|(kind, _)| used(*kind)) {
            instance.copy_statements(kind.collection(), statements);
        }
    });
    instance
}

/// The call that a statement is.
pub fn of_statement(statement: &Statement<'_>) -> Option<Call> {
    TEXTS.with(|texts| {
        let mut known = texts.statements.iter();
        let (_, read, collection) = known.find(|(sql, ..)| sql == statement.sql)?;
        read(&statement.parameters, collection)
    })
}

fn text(parameters: &[Parameter], index: usize) -> Option<&str> {
    match parameters.get(index)? {
        Parameter::Text(text) => Some(text),
        _ => None,
    }
}

/// The resource in the first parameters.
fn resource(collection: &'static str, parameters: &[Parameter]) -> Option<NewResource> {
    let Some(Parameter::Bytes(fingerprint)) = parameters.get(3) else {
        return None;
    };
    Some(NewResource {
        id: ResourceId::parse(text(parameters, 0)?)?,
        scope: key_scope(collection, text(parameters, 1)?, text(parameters, 2)?)?,
        fingerprint: Fingerprint::from_bytes(fingerprint)?,
        document: Document::from_text(text(parameters, 4)?),
    })
}

fn key_scope(collection: &'static str, customer: &str, key: &str) -> Option<KeyScope> {
    let substitute = || Some(IdempotencyKey::substitute(ResourceId::parse(key.strip_prefix(' ')?)?));
    Some(KeyScope {
        collection,
        customer: Customer::named(customer).unwrap_or_else(Customer::anonymous),
        key: IdempotencyKey::parse(key.as_bytes()).or_else(substitute)?,
    })
}

fn expected(states: &str) -> Option<Expected> {
    if states == "*" {
        return Some(Expected::Any);
    }
    let states = states.split(',').filter(|state| !state.is_empty());
    states.map(ListState::parse).collect::<Option<_>>().map(Expected::OneOf)
}

/// The resources in the argument of the insertion function.
fn batch(collection: &'static str, json: &str) -> Option<Vec<NewResource>> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(json).ok()?;
    let read = |row: &serde_json::Value| {
        let text = |name| row.get(name)?.as_str();
        Some(NewResource {
            id: ResourceId::parse(text("id")?)?,
            scope: key_scope(collection, text("customer_id")?, text("idempotency_key")?)?,
            fingerprint: fingerprint(text("fingerprint")?)?,
            document: Document::of(row.get("document")?),
        })
    };
    rows.iter().map(read).collect()
}

fn fingerprint(hex: &str) -> Option<Fingerprint> {
    let byte = |index: usize| u8::from_str_radix(hex.get(index..index + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Fingerprint::from_bytes(&bytes?)
}

/// The row that Postgres returns for a call.
pub fn row(call: &Call, answer: Answer, in_history: Option<History>) -> Row {
    let mut values = COLUMNS.map(|_| Value::Other);
    let [history, inserted, id, fingerprint, document, before, after, ids] = &mut values;
    *history = in_history.map_or(Value::Other, |history| Value::Bytes(history.as_bytes().to_vec()));
    let mut found = |stored: StoredResource| {
        *id = Value::Text(stored.id.to_string());
        *fingerprint = Value::Bytes(stored.fingerprint.as_bytes().to_vec());
        *document = Value::Text(stored.document.as_str().to_owned());
    };
    match (answer, call) {
        (Answer::Postgres(Insertion::Inserted), _) => *inserted = Value::Boolean(true),
        (Answer::Conditional(ConditionalInsertion::Inserted(state)), _) => {
            *inserted = Value::Boolean(true);
            *after = bytes(&state);
        }
        (Answer::Postgres(Insertion::Existing(stored)), _)
        | (Answer::Conditional(ConditionalInsertion::Existing(stored)), _) => {
            *inserted = Value::Boolean(false);
            found(stored);
        }
        (Answer::Found(Some(stored)), _) => found(stored),
        (Answer::Conditional(ConditionalInsertion::Stale(state)), _) => *before = bytes(&state),
        // The list is in an expected state.
        (Answer::Conditional(ConditionalInsertion::Conflict), Call::InsertBasedOn(_, Expected::OneOf(states))) => {
            *before = states.first().map_or(Value::Other, bytes);
        }
        (Answer::Conditional(ConditionalInsertion::Conflict), _) => *before = Value::Bytes(vec![0; 16]),
        (Answer::Attempts(attempts), Call::InsertAll(batch)) => {
            let all = batch.iter().zip(attempts).filter(|(_, a)| *a == Attempt::Inserted);
            let all: Vec<String> = all.map(|(new, _)| new.id.to_string()).collect();
            *ids = Value::Text(all.join(","));
        }
        _ => {}
    }
    Row::new(NAMES.with(Clone::clone), values.into())
}

fn bytes(state: &ListState) -> Value {
    let number = u128::from_str_radix(&state.to_string(), 16).unwrap_or_default();
    Value::Bytes(number.to_be_bytes().to_vec())
}

/// The call that a command is. The names are without a prefix.
pub fn of_command(Command { name, arguments }: &Command) -> Option<Call> {
    let argument = |index: usize| arguments.get(index).map(Vec::as_slice);
    let text = |index| str::from_utf8(argument(index)?).ok();
    if *name == "SET" {
        let (scope, record) = (named_scope(text(0)?)?, Record::decode(argument(1)?)?);
        return Some(match argument(4) {
            Some(b"NX") => Call::Reserve(scope, record),
            _ => Call::Set(scope, record),
        });
    }
    let key = text(2)?;
    let Some((collection, customer)) = key.split_once(":lock:") else {
        return Some(Call::Withdraw(named_scope(key)?, Record::decode(argument(3)?)?));
    };
    let scope = key_scope(collection_of(collection)?, customer, text(3)?)?;
    Some(match TEXTS.with(|texts| argument(0) == Some(&texts.acquire)) {
        true => Call::Acquire(scope),
        false => Call::Release(scope),
    })
}

fn collection_of(name: &str) -> Option<&'static str> {
    let names = KINDS.map(|kind| kind.collection().name);
    names.into_iter().find(|other| *other == name)
}

/// The scope of a record's name: its collection, the length of its customer's name, that name, and the key.
fn named_scope(name: &str) -> Option<KeyScope> {
    let (collection, rest) = name.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    let (customer, key) = rest.split_at_checked(length.parse().ok()?)?;
    key_scope(collection_of(collection)?, customer, key.strip_prefix(':')?)
}
