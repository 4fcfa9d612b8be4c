//! What is sent, repeated, kept and given up.

use exactly_once::ports::Clock;
use exactly_once::{History, HistorySet, ListState};
use futures::join;

use super::*;
use crate::sql::Value;
use crate::testing::Script::{After, Error, Never, Rows};
use crate::testing::*;

const TIMEOUT: Duration = Duration::from_millis(1000);
const POSTGRES: Place<'static> = Place::Postgres { url: "url" };

struct Fixture {
    platform: TestPlatform,
    instance: Instance<TestPlatform>,
    place: Place<'static>,
}

impl Fixture {
    fn at(place: Place<'static>) -> Self {
        Self { platform: TestPlatform::default(), instance: Instance::new(TestSignals), place }
    }

    fn request(&self) -> Request<TestPlatform> {
        Request::new(&self.instance, self.platform.clone(), true)
    }

    fn database<'r>(&'r self, request: &'r Request<TestPlatform>) -> Database<'r, TestPlatform> {
        let settings = DatabaseSettings { place: self.place, timeout: TIMEOUT, lock_timeout: TIMEOUT * 2 / 5 };
        Database::new(&self.instance, request, settings, &ORDERS)
    }

    /// Runs a call of a new request.
    fn call<T>(&self, call: impl AsyncFnOnce(&Database<'_, TestPlatform>) -> T) -> T {
        let request = self.request();
        let database = self.database(&request);
        self.platform.run(call(&database))
    }

    fn known(&self) -> KnownHistory {
        self.instance.known_history(&self.platform)
    }
}

fn history_of(byte: u8) -> History {
    History::from_bytes(&[byte; History::BYTES]).expect("as many bytes as one has")
}

fn a_row() -> Vec<Row> {
    vec![row_of([history_column(1)])]
}

/// A row of the resource.
fn stored_row() -> Vec<Row> {
    let new = new_order();
    vec![row_of([
        history_column(1),
        ("id", Value::Text(new.id.to_string())),
        ("fingerprint", Value::Bytes(new.fingerprint.as_bytes().to_vec())),
        ("document", Value::Text(new.document.as_str().to_owned())),
    ])]
}

fn inserted_row() -> Vec<Row> {
    vec![row_of([history_column(1), ("inserted", Value::Int64(1))])]
}

/// What is noted of an insertion that is not shared.
fn insertion(connection: u32) -> String {
    format!("{connection} insert_or_find_orders_1($2::text, $3::text, $1::text::uuid,")
}

/// What says that the one resource of a batch was inserted.
fn counted() -> Vec<Row> {
    vec![Row::default(); postgres::ROWS_OF_ONE]
}

/// What SQLite returns to the first statements of a new connection.
fn set_up() -> [Script; 4] {
    let mode = row_of([("journal_mode", Value::Text("wal".into()))]);
    [Rows(vec![]), Rows(vec![mode]), Rows(vec![]), Rows(vec![])]
}

#[test]
fn a_statement_takes_a_connection_and_its_history_is_heard_as_of_when_it_was_sent() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([After(MS * 100, a_row()), Rows(a_row())]);
    assert!(it.call(async |db| db.find_by_key(&new_order().scope).await).is_ok());
    let trusted = exactly_once::history::TRUSTED_FOR;
    it.platform.pass(trusted - MS * 100 - MS);
    assert_eq!(it.known(), KnownHistory::Current(history_of(1).into()));
    it.platform.pass(MS);
    let last = history_of(1).into();
    assert_eq!(it.known(), KnownHistory::Unknown { last });
    assert!(it.call(async |db| db.find_by_key(&new_order().scope).await).is_ok());
    let sent = it.platform.sent();
    assert_eq!(sent, ["1 find_orders_1($1::text, NULL, $2::text)", "2 find_orders_1($1::text, NULL, $2::text)"]);
}

#[test]
fn a_statement_in_a_new_incarnation_of_the_server_is_repeated_after_the_epochs_were_drawn() {
    let it = Fixture::at(POSTGRES);
    let without_epoch = || Rows(vec![row_of([("history", Value::Other)])]);
    it.platform.statements([without_epoch(), Rows(vec![]), Rows(inserted_row())]);
    let inserted = it.call(async |db| db.insert_unless_exists(&new_order()).await);
    assert_eq!(inserted.map(|inserted| inserted.value), Ok(Insertion::Inserted));
    let sent = it.platform.sent();
    assert_eq!(sent, [&insertion(1), "2 SELECT draw_missing_epochs()::text AS", &insertion(3)]);
    // A standby draws none.
    it.platform.statements([without_epoch()]);
    for _ in 0..STATEMENT_TRIES {
        it.platform.statements([Error(Some("25006"), "read-only"), Error(None, "ended")]);
    }
    assert!(it.call(async |db| db.find_by_key(&new_order().scope).await).is_err());
}

#[test]
fn a_connection_to_a_server_that_takes_no_writes_is_ended_and_another_one_is_tried() {
    let it = Fixture::at(POSTGRES);
    let read_only = || [Error(Some("25006"), "read-only"), Error(Some("57P01"), "ended")];
    it.platform.statements(read_only().into_iter().chain(read_only()));
    it.platform.statements([Rows(inserted_row())]);
    let inserted = it.call(async |db| {
        assert_eq!(db.insert_new(&new_order()).await, Attempt::Undecided);
        db.insert_unless_exists(&new_order()).await
    });
    assert_eq!(inserted.map(|inserted| inserted.value), Ok(Insertion::Inserted));
    let ends: Vec<_> = it.platform.sent().into_iter().filter(|sent| sent.contains("pg_terminate")).collect();
    assert_eq!(ends.len(), 2, "each on its connection: {ends:?}");
    assert!(it.platform.lines()[0].starts_with("postgres: down: 25006"));
}

#[test]
fn a_table_with_a_fault_is_not_ready_and_the_log_says_what_to_run() {
    let it = Fixture::at(POSTGRES);
    for fault in [Value::Other, Value::Text("numbers repeat; run: SELECT".into())] {
        let row = row_of([history_column(1), ("fault", fault.clone())]);
        it.platform.statements(vec![Rows(vec![row]); PROBES_AT_ONCE]);
        assert_eq!(it.call(async |db| db.probe().await).is_up(), fault == Value::Other);
    }
    assert_eq!(it.platform.lines(), ["postgres: numbers repeat; run: SELECT"]);
}

#[test]
fn postgres_is_asked_again_after_a_transient_failure_while_another_wait_for_a_lock_has_time() {
    let it = Fixture::at(POSTGRES);
    let failures = ["40001", "40P01", "55P03", "57014"].map(|code| Error(Some(code), "in the way"));
    it.platform.statements(failures);
    it.platform.statements([Rows(stored_row())]);
    let request = it.request();
    let database = it.database(&request);
    let found = it.platform.run(database.find_by_key(&new_order().scope));
    assert!(found.is_ok_and(|found| found.value.is_some()));
    assert_eq!(request.trips(), 5);
    assert_eq!(it.known(), KnownHistory::Current(history_of(1).into()));

    it.platform.statements(vec![Error(Some("40001"), "in the way"); 8]);
    assert!(it.platform.run(database.find_by_key(&new_order().scope)).is_err());
    assert_eq!(request.trips(), 13, "at most eight tries");
    // The server is up.
    assert_eq!(it.known(), KnownHistory::Current(history_of(1).into()));
    assert_eq!(it.platform.lines().len(), 4, "one line for each code");
}

#[test]
fn postgres_is_not_asked_again_when_a_wait_for_a_lock_would_take_all_of_the_time() {
    let it = Fixture::at(POSTGRES);
    let request = it.request();
    let database = it.database(&request);
    it.platform.statements([After(TIMEOUT * 3 / 5, a_row()), Error(Some("55P03"), "lock")]);
    let scope = new_order().scope;
    let find = || database.find_by_key(&scope);
    assert!(it.platform.run(find()).is_ok());
    assert_eq!(database.rest(), TIMEOUT * 2 / 5);
    assert!(it.platform.run(find()).is_err());
    assert_eq!(request.trips(), 2);
}

#[test]
fn what_postgres_refuses_is_logged_once_and_is_no_outage() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements(vec![Error(Some("42P01"), "no orders\nat 1"); 2 * PROBES_AT_ONCE]);
    for _ in 0..2 {
        assert!(!it.call(async |db| db.probe().await.is_up()));
    }
    assert_eq!(it.platform.lines(), ["postgres: 42P01 no orders"]);
    assert_eq!(it.known(), KnownHistory::Unknown { last: HistorySet::default() });
}

#[test]
fn an_outage_is_logged_and_makes_the_history_unreachable() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Error(Some("57P03"), "starts"), Error(None, "no route"), Never]);
    for _ in 0..2 {
        assert!(it.call(async |db| db.find_by_key(&new_order().scope).await).is_err());
        assert_eq!(it.known(), KnownHistory::Unreachable { last: HistorySet::default() });
    }
    let down = "postgres: down: 57P03 starts; requests are answered 503";
    assert_eq!(it.platform.lines(), [down]);
    let request = it.request();
    let database = it.database(&request);
    assert!(it.platform.run(database.find_by_key(&new_order().scope)).is_err());
    assert_eq!(database.rest(), Duration::ZERO);
    assert!(request.database_time() >= TIMEOUT && request.database_time() < TIMEOUT + MS * 5);
    it.platform.pass(Duration::from_secs(2));
    it.platform.statements(vec![Rows(a_row()); PROBES_AT_ONCE]);
    assert!(it.call(async |db| db.probe().await.is_up()));
    assert_eq!(it.platform.lines(), ["postgres: back after 3 s"]);
}

#[test]
fn one_question_for_the_history_serves_all_that_ask_at_the_same_time() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([After(MS * 10, a_row())]);
    let requests = [it.request(), it.request()];
    let [one, other] = [0, 1].map(|n| it.database(&requests[n]));
    let known = it.platform.run(async { join!(one.ask_history(), other.ask_history()) });
    let current = KnownHistory::Current(history_of(1).into());
    assert_eq!(known, (current, current));
    assert_eq!(it.platform.sent().len(), 1);
}

#[test]
fn no_statement_is_sent_that_its_request_would_abandon() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Never]);
    let request = it.request();
    let database = it.database(&request);
    let attempt = it.platform.run(database.insert_new(&new_order()));
    assert_eq!((attempt, database.rest()), (Attempt::Undecided, Duration::ZERO));
    assert_eq!(it.platform.sent().len(), 1);
    let inserted = it.platform.run(database.insert_unless_exists(&new_order()));
    assert_eq!(inserted.map(|inserted| inserted.value), Err(DatabaseError::Unavailable));
    assert!(it.platform.sent().is_empty());
}

#[test]
fn after_two_time_outs_in_a_row_connections_are_tested() {
    let it = Fixture::at(POSTGRES);
    let ask = || it.call(async |db| db.insert_unless_exists(&new_order()).await).map(|inserted| inserted.value);
    it.platform.statements([Never, Never]);
    assert!(ask().is_err() && ask().is_err());
    it.platform.sent();
    // Two dead connections, and one that is not.
    it.platform.statements([Never, Never, Rows(a_row()), Rows(inserted_row())]);
    assert_eq!(ask(), Ok(Insertion::Inserted));
    let test = |connection| format!("{connection} SELECT database_history() AS");
    assert_eq!(it.platform.sent(), [test(3), test(4), test(5), insertion(5)]);
    it.platform.statements([Rows(inserted_row())]);
    assert_eq!(ask(), Ok(Insertion::Inserted), "no test after an answer");
    // A server that is slow is asked in the end.
    it.platform.statements([Never, Never]);
    assert!(ask().is_err() && ask().is_err());
    it.platform.statements([Never, Never, Never, Never, After(MS * 500, inserted_row())]);
    assert_eq!(ask(), Ok(Insertion::Inserted));
}

#[test]
fn a_batch_of_one_is_counted_and_its_connection_is_kept_for_a_short_time() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Rows(counted()), Rows(vec![]), Rows(counted()), Rows(counted())]);
    let insert = || it.call(async |db| db.insert_new(&new_order()).await);
    assert_eq!(insert(), Attempt::Inserted);
    assert_eq!(insert(), Attempt::Undecided);
    it.platform.idle(MS * 101);
    assert_eq!(insert(), Attempt::Inserted);
    // In use all the time.
    for _ in 0..15 {
        it.platform.idle(MS * 40);
        it.platform.statements([Rows(counted())]);
        insert();
    }
    let connections = it.platform.sent().iter().map(|sent| sent[..1].parse().unwrap()).collect::<Vec<u32>>();
    assert_eq!(connections[..3], [1, 1, 2]);
    assert_eq!(connections.last(), Some(&3), "kept for half a second at most");
}

/// A pooler that mixes up prepared statements executes another pod's text, with these parameters.
#[test]
fn another_text_is_not_taken_for_an_insertion_and_a_pooler_that_executes_it_is_not_ready() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Rows(a_row())]);
    assert_eq!(it.call(async |db| db.insert_new(&new_order()).await), Attempt::Undecided);
    let mut answers = vec![Rows(a_row()); PROBES_AT_ONCE];
    answers[2] = Error(Some("26000"), "unknown");
    it.platform.statements(answers);
    assert_eq!(it.call(async |db| db.probe().await).condition, Condition::Unfit);
    assert_eq!(it.platform.lines(), ["postgres: 26000 unknown; the pooler must keep prepared statements"]);
    let sent = it.platform.sent();
    assert!((2..=9).all(|connection| sent[connection - 1].starts_with(&connection.to_string())), "{sent:?}");
}

#[test]
fn statements_at_the_same_time_use_the_time_of_one() {
    let it = Fixture::at(POSTGRES);
    let request = it.request();
    let database = it.database(&request);
    it.platform.statements(vec![After(TIMEOUT / 5, a_row()); PROBES_AT_ONCE]);
    assert!(it.platform.run(database.probe()).is_up());
    let used = TIMEOUT - database.rest();
    assert!(used >= TIMEOUT / 5 && used < TIMEOUT * 2 / 5, "{used:?}");
    assert_eq!(request.database_time(), used);
}

#[test]
fn a_connection_on_which_a_batch_has_failed_is_not_kept() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Rows(counted()), Error(None, "reset"), Rows(counted())]);
    let insert = || it.call(async |db| db.insert_new(&new_order()).await);
    assert_eq!([insert(), insert(), insert()], [Attempt::Inserted, Attempt::Undecided, Attempt::Inserted]);
    let sent = it.platform.sent();
    assert!(sent[1].starts_with('1') && sent[2].starts_with('2'), "{sent:?}");
    assert_eq!(it.platform.lines().len(), 1);
}

#[test]
fn a_batch_of_several_is_told_by_its_ids() {
    let it = Fixture::at(POSTGRES);
    let (one, mut other) = (new_order(), new_order());
    other.id = ResourceId::parse("01970000-0000-7000-8000-000000000002").expect("an id");
    let ids = row_of([("ids", Value::Text(other.id.to_string()))]);
    it.platform.statements([Rows(vec![ids])]);
    let attempts = it.call(async |db| db.insert_all(&[&one, &other]).await);
    assert_eq!(attempts, Ok(vec![Attempt::Undecided, Attempt::Inserted]));
}

#[test]
fn sqlite_is_read_before_it_inserts_and_keeps_its_connection() {
    let it = Fixture::at(Place::Sqlite);
    let insert = || it.call(async |db| db.insert_unless_exists(&new_order()).await);
    it.platform.statements(set_up());
    it.platform.statements([Rows(stored_row())]);
    let existing = insert().map(|existing| existing.value);
    assert!(matches!(existing, Ok(Insertion::Existing(_))));
    assert_eq!(it.platform.sent().len(), 5, "nothing is inserted");

    it.platform.statements([Rows(a_row()), Rows(inserted_row())]);
    assert_eq!(insert().map(|inserted| inserted.value), Ok(Insertion::Inserted));
    // Another connection has inserted it meanwhile.
    it.platform.statements([Rows(a_row()), Rows(vec![])]);
    let conflict = insert().expect("an answer");
    assert_eq!((conflict.history, conflict.value), (history_of(1), Insertion::Conflict));
    it.platform.idle(Duration::from_secs(60));
    it.platform.statements([Rows(a_row())]);
    assert!(it.call(async |db| db.probe().await.is_up()));
    assert!(it.platform.sent().iter().all(|sent| sent.starts_with('1')));
}

#[test]
fn sqlite_says_why_nothing_was_inserted_on_a_condition() {
    let it = Fixture::at(Place::Sqlite);
    let state = |byte| {
        let columns = [history_column(1), ("cursor_known", Value::Int64(1)), ("state", Value::Bytes(vec![byte; 16]))];
        Rows(vec![row_of(columns)])
    };
    let state_of = |byte| ListState::from_bytes(&[byte; 16]).expect("as many bytes as one has");
    let expected = Expected::OneOf(vec![state_of(7)]);
    let insert = || it.call(async |db| db.insert_based_on(&new_order(), &expected).await).map(|i| i.value);
    it.platform.statements(set_up());
    it.platform.statements([Rows(vec![]), state(7), Rows(stored_row())]);
    assert!(matches!(insert(), Ok(ConditionalInsertion::Existing(_))));
    it.platform.statements([Rows(vec![]), state(7), Rows(a_row())]);
    assert_eq!(insert(), Ok(ConditionalInsertion::Conflict));
    it.platform.statements([Rows(vec![]), state(8), Rows(a_row())]);
    assert_eq!(insert(), Ok(ConditionalInsertion::Stale(state_of(8))));
    let sent = it.platform.sent();
    assert!(sent[5].contains("WITH start") && sent[6].contains("SELECT zeroblob(8)"), "{sent:?}");
}

#[test]
fn a_locked_file_is_tried_again_after_a_pause_until_the_time_is_over() {
    let it = Fixture::at(Place::Sqlite);
    it.platform.statements(set_up());
    it.platform.statements(vec![Error(None, "database is locked"); 3]);
    it.platform.statements([Rows(a_row())]);
    let start = it.platform.now();
    assert!(it.call(async |db| db.probe().await.is_up()));
    let waited = it.platform.now() - start;
    assert!(waited >= MS * 60 && waited < MS * 70, "{waited:?}");
    assert!(it.platform.lines().is_empty());

    it.platform.statements(vec![Error(None, "database is locked"); 50]);
    assert!(!it.call(async |db| db.probe().await.is_up()));
    let tries = it.platform.sent().len();
    assert_eq!(tries, 4 + 4 + 50);
    let down = "sqlite: down: the file was locked for all of the time; requests are answered 503";
    assert_eq!(it.platform.lines(), [down]);
}

#[test]
fn a_broken_file_is_an_outage_and_is_opened_again() {
    let it = Fixture::at(Place::Sqlite);
    it.platform.statements(set_up());
    it.platform.statements([Error(None, "disk I/O error")]);
    it.platform.statements(set_up());
    it.platform.statements([Rows(a_row())]);
    assert!(!it.call(async |db| db.probe().await.is_up()));
    assert!(it.call(async |db| db.probe().await.is_up()));
    let sent = it.platform.sent();
    assert!(sent[4].starts_with('1') && sent[5].starts_with('2'), "{sent:?}");
}

#[test]
fn a_database_in_memory_is_refused() {
    let it = Fixture::at(Place::Sqlite);
    let mode = row_of([("journal_mode", Value::Text("memory".into()))]);
    it.platform.statements([Rows(vec![]), Rows(vec![mode])]);
    assert!(!it.call(async |db| db.probe().await.is_up()));
    let lines = it.platform.lines();
    assert!(lines[0].starts_with("sqlite: down: the database is not a file"), "{lines:?}");
}

#[test]
fn a_row_of_another_program_is_logged() {
    let it = Fixture::at(POSTGRES);
    it.platform.statements([Rows(vec![])]);
    let list = it.call(async |db| db.page(&new_order().scope.customer, PageRequest::newest(1)).await);
    assert_eq!(list, Err(DatabaseError::Unavailable));
    assert_eq!(it.platform.lines(), ["database: a stored row is not readable"]);
}
