//! The steps of a page, over a database that returns what a test has written down.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use futures::executor::block_on;

use super::*;
use crate::ports::{FeedRows, Outlook, Writers};
use crate::resource::{Document, ResourceId};

const ONE: Mark = Mark([1; 8]);
const OTHER: Mark = Mark([2; 8]);

/// Answers in this order, each at its time.
#[derive(Default)]
struct Script {
    looks: RefCell<VecDeque<Outlook>>,
    reads: RefCell<VecDeque<FeedRows>>,
    /// The writers that were asked about.
    among: RefCell<Vec<String>>,
    /// The arguments of the reads.
    read: RefCell<Vec<(i64, i64)>>,
    now: Cell<Duration>,
}

impl Feed for Script {
    async fn look(&self, _: i64, _: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        let names = among.map_or("all".to_owned(), |among| among.0.clone());
        self.among.borrow_mut().push(names);
        let next = self.looks.borrow_mut().pop_front();
        next.ok_or(DatabaseError::Unavailable)
    }

    async fn read(&self, after: i64, last: i64, _: usize) -> Result<FeedRows, DatabaseError> {
        self.read.borrow_mut().push((after, last));
        let next = self.reads.borrow_mut().pop_front();
        next.ok_or(DatabaseError::Unavailable)
    }
}

impl Clock for Script {
    fn now(&self) -> Duration {
        self.now.get()
    }

    async fn sleep(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }
}

fn outlook(last: impl Into<Option<i64>>, writers: &str) -> Outlook {
    Outlook { mark: ONE, last: last.into(), writers: Writers(writers.to_owned()) }
}

fn rows(numbers: &[i64]) -> FeedRows {
    let entry = |seq: &i64| FeedEntry {
        cursor: Cursor { mark: ONE, seq: *seq },
        customer: "c".to_owned(),
        id: ResourceId::parse("01970000-0000-7000-8000-00000000000a").expect("an id"),
        document: Document::from_text("{}"),
    };
    FeedRows { mark: ONE, entries: numbers.iter().map(entry).collect() }
}

/// The numbers of the page, and where the next one begins.
fn page(script: &Script, after: Option<(Mark, i64)>, wait: u64) -> Result<(Vec<i64>, i64), FeedError> {
    let request = FeedRequest {
        after: after.map(|(mark, seq)| Cursor { mark, seq }),
        limit: 10,
        wait: Duration::from_secs(wait),
    };
    let patience = Duration::from_secs(2);
    let page = block_on(next_page(script, script, &request, patience))?;
    let numbers = page.entries.iter().map(|entry| entry.cursor.seq).collect();
    Ok((numbers, page.next.seq))
}

fn script(looks: impl IntoIterator<Item = Outlook>, reads: impl IntoIterator<Item = FeedRows>) -> Script {
    Script {
        looks: RefCell::new(looks.into_iter().collect()),
        reads: RefCell::new(reads.into_iter().collect()),
        ..Script::default()
    }
}

#[test]
fn without_writers_a_page_takes_two_calls() {
    let script = script([outlook(6, "")], [rows(&[5, 6])]);
    assert_eq!(page(&script, None, 0), Ok((vec![5, 6], 6)));
    assert_eq!(*script.read.borrow(), [(0, 6)]);
    assert_eq!(script.now.get(), Duration::ZERO);
}

#[test]
fn the_writers_of_the_first_look_are_waited_for_and_no_others() {
    let looks = [outlook(6, "a,b"), outlook(9, "b"), outlook(12, "")];
    let script = script(looks, [rows(&[5, 6])]);
    assert_eq!(page(&script, Some((ONE, 4)), 0), Ok((vec![5, 6], 6)));
    assert_eq!(*script.among.borrow(), ["all", "a,b", "b"]);
    // Up to the number of the first look: what came after it may have other writers.
    assert_eq!(*script.read.borrow(), [(4, 6)]);
    assert_eq!(script.now.get(), Duration::from_millis(12));
}

#[test]
fn a_writer_that_stays_ends_in_an_empty_page() {
    for (wait, seconds) in [(0, 2), (1, 2), (7, 7)] {
        let looks = std::iter::repeat_with(|| outlook(6, "a"));
        let script = script(looks.take(100), []);
        assert_eq!(page(&script, Some((ONE, 4)), wait), Ok((vec![], 4)));
        assert_eq!(script.now.get(), Duration::from_secs(seconds));
    }
}

#[test]
fn an_empty_page_is_waited_for_and_repeats_the_cursor() {
    let nothing = || std::iter::repeat_with(|| outlook(None, "a"));
    let at_once = script(nothing().take(1), []);
    assert_eq!(page(&at_once, Some((ONE, 4)), 0), Ok((vec![], 4)));
    let late = script(nothing().take(100), []);
    assert_eq!(page(&late, None, 1), Ok((vec![], 0)));
    assert_eq!(late.now.get(), Duration::from_secs(1));
    assert_eq!(late.looks.borrow().len(), 95);
    let looks = nothing().take(2).chain([outlook(5, "")]);
    let soon = script(looks, [rows(&[5])]);
    assert_eq!(page(&soon, Some((ONE, 4)), 20), Ok((vec![5], 5)));
    assert_eq!(soon.now.get(), Duration::from_millis(500));
}

#[test]
fn what_was_deleted_meanwhile_leaves_an_empty_page() {
    let deleted = script([outlook(6, "")], [rows(&[])]);
    assert_eq!(page(&deleted, Some((ONE, 4)), 0), Ok((vec![], 4)));
    let looks = [outlook(6, ""), outlook(7, "a"), outlook(8, "")];
    let then = script(looks, [rows(&[]), rows(&[7])]);
    assert_eq!(page(&then, Some((ONE, 4)), 1), Ok((vec![7], 7)));
    assert_eq!(*then.among.borrow(), ["all", "all", "a"]);
    assert_eq!(*then.read.borrow(), [(4, 6), (4, 7)]);
}

#[test]
fn another_mark_at_any_step_is_another_history() {
    let another = |outlook: Outlook| Outlook { mark: OTHER, ..outlook };
    let at_once = script([another(outlook(6, ""))], []);
    assert_eq!(page(&at_once, Some((ONE, 4)), 0), Err(FeedError::AnotherHistory));
    let looks = [outlook(6, "a"), another(outlook(None, ""))];
    let while_waiting = script(looks, []);
    assert_eq!(page(&while_waiting, None, 0), Err(FeedError::AnotherHistory));
    let reads = [FeedRows { mark: OTHER, ..rows(&[5]) }];
    let at_last = script([outlook(6, "")], reads);
    assert_eq!(page(&at_last, None, 0), Err(FeedError::AnotherHistory));
    let gone = script([], []);
    assert_eq!(page(&gone, None, 0), Err(FeedError::Unavailable));
}

#[test]
fn a_cursor_is_sixteen_bytes() {
    let cursor = Cursor { mark: ONE, seq: 258 };
    let bytes = cursor.encode();
    assert_eq!(bytes, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(Cursor::decode(&bytes), cursor);
}
