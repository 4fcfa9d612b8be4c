//! Reading rows, and the shape of the statements.

use std::collections::BTreeMap;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::PageRequest;

use super::*;
use crate::testing::{ORDERS, new_order, row_of};

/// The columns of an inserted resource, as they are selected.
fn columns(new: &NewResource) -> BTreeMap<&'static str, Value> {
    [
        ("inserted", Value::Boolean(false)),
        ("id", Value::Text(new.id.to_string())),
        ("document", Value::Text(new.document.as_str().to_owned())),
        ("fingerprint", Value::Bytes(new.fingerprint.as_bytes().to_vec())),
        ("history", Value::Bytes(vec![1; History::BYTES])),
    ]
    .into()
}

#[test]
fn a_column_is_read_as_its_own_type() {
    let row = row_of([
        ("true", Value::Boolean(true)),
        ("one", Value::Int64(1)),
        ("zero", Value::Int64(0)),
        ("text", Value::Text("t".into())),
        ("bytes", Value::Bytes(vec![1])),
        ("null", Value::Other),
    ]);
    let read = |column| (row.boolean(column), row.text(column), row.bytes(column));
    assert_eq!(read("true"), (Some(true), None, None));
    assert_eq!(read("one"), (Some(true), None, None));
    assert_eq!(read("zero"), (Some(false), None, None));
    assert_eq!(read("text"), (None, Some("t".into()), None));
    assert_eq!(read("bytes"), (None, None, Some(vec![1])));
    assert_eq!(read("null"), (None, None, None));
    assert_eq!(read("missing"), (None, None, None));
}

#[test]
fn a_resource_is_read_as_it_was_inserted() {
    let new = new_order();
    let expected = StoredResource { id: new.id, fingerprint: new.fingerprint, document: new.document.clone() };
    let row = row_of(columns(&new));
    assert_eq!(stored(&row), Ok(expected.clone()));
    assert_eq!(found_in_history(Some(&row)), Ok(in_one(Some(expected.clone()))));
    assert_eq!(insertion(Some(&row)), Ok(in_one(Insertion::Existing(expected))));
    let mut inserted = columns(&new);
    inserted.insert("inserted", Value::Boolean(true));
    let inserted = row_of(inserted);
    assert_eq!(insertion(Some(&inserted)), Ok(in_one(Insertion::Inserted)));
    let nothing = row_of([("history", Value::Bytes(vec![1; History::BYTES]))]);
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
    let mut standby = columns(&new_order());
    standby.remove("history");
    let standby = row_of(standby);
    assert_eq!(insertion(Some(&standby)), Err(Unreadable));
    assert_eq!(found_in_history(Some(&standby)), Err(Unreadable));
    assert!(found(Some(&standby)).is_ok_and(|found| found.is_some()));
    assert_eq!(insertion(None), Err(Unreadable));
}

#[test]
fn a_row_of_another_program_is_unreadable() {
    for (column, damage) in [
        ("id", Value::Text("x".into())),
        ("fingerprint", Value::Bytes(vec![1])),
        ("fingerprint", Value::Other),
        ("document", Value::Other),
    ] {
        let mut damaged = columns(&new_order());
        damaged.insert(column, damage);
        assert_eq!(stored(&row_of(damaged)), Err(Unreadable));
    }
}

#[test]
fn a_batch_is_json_with_the_documents_as_they_are() {
    let new = new_order();
    let rows = json_rows(&[&new, &new]);
    assert!(rows.contains(r#","document":{"note":"a \"note\""}},{"id":"#), "{rows}");
    let rows = exactly_once::json::parse(rows.as_bytes()).expect("JSON");
    assert_eq!(rows[1]["id"], new.id.to_string());
    assert_eq!(rows[1]["fingerprint"], new.fingerprint.to_string());
}

#[test]
fn attempts_are_told_by_the_inserted_ids() {
    let (one, mut other) = (new_order(), new_order());
    other.id = ResourceId::parse("01970000-0000-7000-8000-000000000002").expect("an id");
    let batch = [&one, &other];
    let inserted = row_of([("ids", Value::Text(other.id.to_string()))]);
    assert_eq!(attempts(&batch, Some(&inserted)), [Attempt::Undecided, Attempt::Inserted]);
    let none = [Attempt::Undecided, Attempt::Undecided];
    assert_eq!(attempts(&batch, Some(&Row::default())), none);
    assert_eq!(attempts(&batch, None), none);
}

const SCHEMA: &str = include_str!("../../schema.sql");

/// A distributed table's server can run the whole statement about a customer: it is one call, of a function of the
/// table, with the customer.
#[test]
fn every_placeholder_has_its_parameter_and_a_statement_about_a_customer_is_one_call_that_names_the_customer() {
    let new = new_order();
    let customer = Parameter::Text(new.scope.customer.as_str().to_owned());
    let statements = crate::postgres::statements(&ORDERS);
    for Statement { sql, parameters } in [
        statements.insert(&new, Duration::from_secs(2)),
        statements.insert_new(&new),
        statements.insert_all(&[&new]),
        statements.insert_based_on(&new, &Expected::Any, Duration::from_secs(2)),
        statements.find(&new.scope.customer, new.id),
        statements.find_by_key(&new.scope),
        statements.page(&new.scope.customer, PageRequest::newest(1)),
        statements.probe(),
    ] {
        let highest = (1..=20).rev().find(|n| sql.contains(&format!("${n}")));
        assert_eq!(highest.unwrap_or(0), parameters.len(), "{sql}");
        assert!(sql.contains("orders") && !sql.contains('{'), "{sql}");
        if [statements.insert_all(&[&new]).sql, statements.probe().sql].contains(&sql) {
            continue;
        }
        let call = ["SELECT * FROM ", "SELECT 1 AS one FROM "].iter().find_map(|start| sql.strip_prefix(start));
        let (name, arguments) = call.and_then(|call| call.strip_suffix(')')?.split_once('(')).expect(sql);
        assert!(SCHEMA.contains(&format!("format('{}(", name.replace("orders", "%s"))), "{sql}");
        assert!(!arguments.contains(['(', ';']), "{sql}");
        let place = parameters.iter().position(|parameter| *parameter == customer).expect("the customer");
        let argument = format!("${}::text", place + 1);
        let place = arguments.split(", ").position(|other| other == argument);
        assert_eq!(place, Some(usize::from(name == "insert_orders_2")), "{sql}");
    }
}

/// Another server runs them: they read rows of their customer, and call what every server has.
#[test]
fn the_functions_of_a_table_use_rows_of_their_customer_and_a_few_functions() {
    let (_, bodies) = SCHEMA.split_once("FUNCTION create_resource_functions").expect("the functions");
    let (bodies, _) = bodies.split_once("$create$;").expect("their end");
    let lines = bodies.lines().filter(|line| !line.trim_start().starts_with("--"));
    let bodies = lines.map(|line| format!("{line} ")).collect::<String>();
    let uses: Vec<&str> = bodies.split("FROM %1$I").skip(1).collect();
    assert_eq!(uses.len(), 10);
    for rest in uses {
        let clause = rest.split([')', ';']).next().unwrap_or_default();
        assert!(clause.contains("customer_id = of_customer"), "FROM %1$I{clause}");
    }
    let mut called: Vec<&str> = bodies
        .match_indices('(')
        .filter_map(|(at, _)| bodies.get(..at)?.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
        .filter(|name| name.contains(|c: char| c.is_ascii_lowercase()))
        .collect();
    called.sort_unstable();
    called.dedup();
    let allowed = "database_history history_of_shard state_of_list wait_for_standbys clock_timestamp decode encode \
                   extract format greatest json_to_recordset max octet_length pg_current_xact_id_if_assigned random \
                   set_config string_to_array sum to_timestamp unnest \
                   expect_slot owns_slot refuse_slot slot_of";
    called.retain(|name| !allowed.split(' ').any(|other| other == *name));
    assert_eq!(called, [""; 0]);
}
