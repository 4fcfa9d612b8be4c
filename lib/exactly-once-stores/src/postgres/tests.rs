//! Reading rows, and the shape of the statements.

use std::collections::BTreeMap;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::{Customer, IdempotencyKey, KeyScope};

use super::*;

const ORDERS: Collection = Collection {
    name: "orders",
    one: "order",
    path: "/orders",
};

/// A row in memory.
#[derive(Clone, Default)]
struct MemoryRow {
    booleans: BTreeMap<&'static str, bool>,
    texts: BTreeMap<&'static str, String>,
    bytes: BTreeMap<&'static str, Vec<u8>>,
}

impl Row for MemoryRow {
    fn boolean(&self, column: &str) -> Option<bool> {
        self.booleans.get(column).copied()
    }

    fn text(&self, column: &str) -> Option<String> {
        self.texts.get(column).cloned()
    }

    fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        self.bytes.get(column).cloned()
    }
}

fn new_order() -> NewResource {
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

/// The row of an inserted resource, as it is selected.
fn row(new: &NewResource) -> MemoryRow {
    MemoryRow {
        booleans: [("inserted", false)].into(),
        texts: [
            ("id", new.id.to_string()),
            ("document", new.document.as_str().to_owned()),
        ]
        .into(),
        bytes: [
            ("fingerprint", new.fingerprint.as_bytes().to_vec()),
            ("history", vec![1; History::BYTES]),
        ]
        .into(),
    }
}

#[test]
fn a_resource_is_read_as_it_was_inserted() {
    let new = new_order();
    let expected = StoredResource {
        id: new.id,
        fingerprint: new.fingerprint,
        document: new.document.clone(),
    };
    assert_eq!(stored(&row(&new)), Ok(expected.clone()));
    assert_eq!(
        found_in_history(Some(&row(&new))),
        Ok(in_one(Some(expected.clone())))
    );
    assert_eq!(
        insertion(Some(&row(&new))),
        Ok(in_one(Insertion::Existing(expected)))
    );
    let mut inserted = row(&new);
    inserted.booleans.insert("inserted", true);
    assert_eq!(insertion(Some(&inserted)), Ok(in_one(Insertion::Inserted)));
    let nothing = MemoryRow {
        bytes: [("history", vec![1; History::BYTES])].into(),
        ..MemoryRow::default()
    };
    assert_eq!(insertion(Some(&nothing)), Ok(in_one(Insertion::Conflict)));
    assert_eq!(found_in_history(Some(&nothing)), Ok(in_one(None)));
    assert_eq!(found(Some(&nothing)), Ok(None));
}

/// A value in the history of all rows here.
fn in_one<T>(value: T) -> InHistory<T> {
    let history = History::from_bytes(&[1; History::BYTES]).expect("as many bytes as one has");
    InHistory { history, value }
}

/// A server that is no primary does not decide.
#[test]
fn a_row_without_a_history_decides_nothing() {
    let mut standby = row(&new_order());
    standby.bytes.remove("history");
    assert_eq!(insertion(Some(&standby)), Err(Unreadable));
    assert_eq!(found_in_history(Some(&standby)), Err(Unreadable));
    assert!(found(Some(&standby)).is_ok_and(|found| found.is_some()));
    assert_eq!(insertion(None::<&MemoryRow>), Err(Unreadable));
}

#[test]
fn a_row_of_another_program_is_unreadable() {
    for damage in [
        (|row| row.texts.insert("id", "x".into()).is_some()) as fn(&mut MemoryRow) -> bool,
        |row| row.bytes.insert("fingerprint", vec![1]).is_some(),
        |row| row.bytes.remove("fingerprint").is_some(),
        |row| row.texts.remove("document").is_some(),
    ] {
        let mut damaged = row(&new_order());
        assert!(damage(&mut damaged));
        assert_eq!(stored(&damaged), Err(Unreadable));
    }
}

#[test]
fn a_batch_is_json_with_the_documents_as_they_are() {
    let new = new_order();
    let rows = json_rows(&[&new, &new]);
    assert!(
        rows.contains(r#","document":{"note":"a \"note\""}},{"id":"#),
        "{rows}"
    );
    let rows = exactly_once::json::parse(rows.as_bytes()).expect("JSON");
    assert_eq!(rows[1]["id"], new.id.to_string());
    assert_eq!(rows[1]["fingerprint"], new.fingerprint.to_string());
}

#[test]
fn attempts_are_told_by_the_inserted_ids() {
    let (one, mut other) = (new_order(), new_order());
    other.id = ResourceId::parse("01970000-0000-7000-8000-000000000002").expect("an id");
    let batch = [&one, &other];
    let mut inserted = MemoryRow::default();
    inserted.texts.insert("ids", other.id.to_string());
    assert_eq!(
        attempts(&batch, Some(&inserted)),
        [Attempt::Undecided, Attempt::Inserted]
    );
    let none = [Attempt::Undecided, Attempt::Undecided];
    assert_eq!(attempts(&batch, Some(&MemoryRow::default())), none);
    assert_eq!(attempts(&batch, None::<&MemoryRow>), none);
}

#[test]
fn every_placeholder_has_its_parameter_and_its_table() {
    let new = new_order();
    let statements = Statements::of(&ORDERS);
    for Statement { sql, parameters } in [
        statements.insert(&new, Duration::from_secs(2)),
        statements.insert_new(&new),
        statements.insert_all(&[&new]),
        statements.insert_based_on(&new, &Expected::Any, Duration::from_secs(2)),
        statements.find(&new.scope.customer, new.id),
        statements.find_by_key(&new.scope),
        statements.page(&new.scope.customer, None, 1),
        statements.probe(),
    ] {
        let highest = (1..=20).rev().find(|n| sql.contains(&format!("${n}")));
        assert_eq!(highest.unwrap_or(0), parameters.len(), "{sql}");
        assert!(sql.contains("orders") && !sql.contains('{'), "{sql}");
    }
}
