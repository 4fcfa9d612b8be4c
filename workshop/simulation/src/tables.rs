//! Postgres as far as the protocol can tell: rows that are only added, unique constraints, snapshots, transactions that
//! are open, failovers that lose the last commits, and rows that are visible although no standby has them.

use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::{
    Attempt, ConditionalInsertion, Insertion, List, NewResource, Page, PageRequest, StoredResource,
};
use exactly_once::{History, KeyScope, ListState, ResourceId};

/// The rows that a statement can see: their number when it began. Commits add rows at the end; a failover ends all
/// statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(usize);

impl Snapshot {
    /// Only for broken variants: without the last commit.
    pub fn earlier(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// How often the committed rows had changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// A row. Its table is that of its scope's collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its collection, customer and key.
    pub scope: KeyScope,
    /// The resource.
    pub resource: StoredResource,
    /// The state that it is based on, if it was created on a condition.
    pub based_on: Option<ListState>,
    /// When it was committed.
    pub committed: Moment,
}

impl Row {
    fn is_in(&self, list: &List) -> bool {
        self.scope.collection == list.collection && self.scope.customer == list.customer
    }

    /// Whether a unique constraint forbids both. All of them are about one list: the primary key contains the customer.
    fn conflicts(&self, new: &NewResource, based_on: Option<ListState>) -> bool {
        let is_second = based_on.is_some() && self.based_on == based_on;
        let is_in_list = self.is_in(&List::from(&new.scope));
        is_in_list && (self.scope == new.scope || self.resource.id == new.id || is_second)
    }
}

/// A row that a failover has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRow {
    /// The row.
    pub row: Row,
    /// The number of the first history that can follow.
    pub history: u64,
    /// Whether it was lost although commits wait for a standby.
    pub synchronous: bool,
    /// When, by the number of changes.
    pub at: Moment,
    /// When, by the clock.
    pub time: Duration,
}

/// A state that a list has come into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// When.
    pub at: Moment,
    list: List,
    /// The state.
    pub state: ListState,
}

/// A row that is inserted and not committed. No statement sees it; statements that conflict with it wait.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenRow {
    number: usize,
    new: NewResource,
    based_on: Option<ListState>,
    /// The list's state with it, in the snapshot of its statement.
    after: ListState,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    rows: Vec<Row>,
    /// How many of the rows a standby has.
    replicated: usize,
    /// Only for a broken variant: whether a statement that finds a row does without a standby.
    pub skips_standbys: bool,
    /// The number of the history, and the incarnation of the server that has drawn it.
    epoch: (u64, u64),
    /// How many failovers there were.
    incarnation: u64,
    /// How many histories were drawn.
    drawn: u64,
    /// Only for a broken variant: whether the number of the server's timeline is the history.
    pub takes_timeline: bool,
    open: Vec<OpenRow>,
    opened: usize,
    lost: Vec<LostRow>,
    states: Vec<StateChange>,
    now: Moment,
}

impl Tables {
    /// All rows, in the order of their commits.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// All rows that failovers have lost.
    pub fn lost(&self) -> &[LostRow] {
        &self.lost
    }

    /// How often the rows have changed.
    pub fn moment(&self) -> Moment {
        self.now
    }

    /// The row of a scope.
    pub fn row_of(&self, scope: &KeyScope) -> Option<&Row> {
        self.rows.iter().find(|row| row.scope == *scope)
    }

    /// The row of a list's resource.
    pub fn row(&self, list: &List, id: ResourceId) -> Option<&Row> {
        let is_it = |row: &&Row| row.is_in(list) && row.resource.id == id;
        self.rows.iter().find(is_it)
    }

    /// A page of a list, newest first. `None` when its `after` is not in the list.
    pub fn page(&self, list: &List, PageRequest { limit, after, from }: PageRequest) -> Option<Page> {
        let mut newest_first = self.rows.iter().rev().filter(|row| row.is_in(list));
        if let Some(after) = after {
            newest_first.find(|row| row.resource.id == after)?;
        }
        let wanted = newest_first.filter(|row| from.is_none_or(|from| row.resource.id >= from));
        let mut resources: Vec<_> = wanted.take(limit.saturating_add(1)).map(|row| row.resource.clone()).collect();
        let more = resources.len() > limit;
        resources.truncate(limit);
        Some(Page { state: self.list_state(list), resources, more })
    }

    /// What a statement that begins now can see.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.rows.len())
    }

    /// The database's history, if it was drawn in the present incarnation of the server.
    pub fn history(&self) -> Option<History> {
        if self.takes_timeline {
            // Odd, as numbers of histories are even. Every promotion begins the second timeline.
            return history(if self.incarnation == 0 { 1 } else { 3 });
        }
        let (number, incarnation) = self.epoch;
        (incarnation == self.incarnation).then(|| history(2 * number)).flatten()
    }

    /// Draws a history unless there is one.
    pub fn draw_history(&mut self) {
        if self.history().is_none() {
            self.drawn += 1;
            self.epoch = (self.drawn, self.incarnation);
        }
    }

    /// A statement that has found a row, or has refused one because of others, waits until a standby has them.
    pub fn wait_for_standbys(&mut self) {
        if !self.skips_standbys {
            self.replicated = self.rows.len();
        }
    }

    /// A crash has ended the wait of the statement that has inserted the rows after the first `before`.
    pub fn lose_wait(&mut self, before: usize) {
        self.open.clear();
        self.replicated = self.replicated.min(before);
    }

    /// The state of a list.
    pub fn list_state(&self, list: &List) -> ListState {
        state(list, self.rows.iter())
    }

    /// The states that a list was in from that moment on, the earliest first.
    pub fn states_since(&self, list: &List, since: Moment) -> impl DoubleEndedIterator<Item = StateChange> {
        let of_list = |change: &&StateChange| change.list == *list;
        let before = |change: &&StateChange| change.at <= since;
        let first = self.states.iter().filter(of_list).rfind(before);
        let first = first.cloned().unwrap_or_else(|| StateChange {
            at: Moment::default(),
            list: list.clone(),
            state: state(list, std::iter::empty()),
        });
        let changes = self.states.iter().filter(of_list);
        let later: Vec<_> = changes.filter(|change| change.at > since).cloned().collect();
        std::iter::once(first).chain(later)
    }

    /// `exactly_once_stores::sql::Statements::insert`: constraints apply to all rows, everything else sees the
    /// snapshot. Postgres also returns a row that was committed after it, unless the row was deleted meanwhile. This
    /// returns what a request gets in that case: a conflict.
    pub fn insert(&mut self, new: &NewResource, Snapshot(visible): Snapshot) -> Insertion {
        if self.history().is_none() {
            return Insertion::Conflict;
        }
        if self.attempt(new, None) == Attempt::Inserted {
            return Insertion::Inserted;
        }
        self.wait_for_standbys();
        self.rows
            .iter()
            .take(visible)
            .find(|row| row.scope == new.scope)
            .map_or(Insertion::Conflict, |row| Insertion::Existing(row.resource.clone()))
    }

    /// `exactly_once_stores::sql::Statements::insert_based_on`, in the same way, with its commit.
    pub fn insert_based_on(
        &mut self,
        new: &NewResource,
        expected: &Expected,
        snapshot: Snapshot,
    ) -> ConditionalInsertion {
        match self.begin_based_on(new, expected, snapshot) {
            Ok(open) => ConditionalInsertion::Inserted(self.commit(open)),
            Err(nothing_inserted) => nothing_inserted,
        }
    }

    /// The same up to its commit. Returns the number of the row that is not yet committed.
    ///
    /// # Errors
    /// The statement's result when it inserts nothing.
    pub fn begin_based_on(
        &mut self,
        new: &NewResource,
        expected: &Expected,
        snapshot: Snapshot,
    ) -> Result<usize, ConditionalInsertion> {
        if self.history().is_none() {
            return Err(ConditionalInsertion::Conflict);
        }
        let list = List::from(&new.scope);
        let Snapshot(visible) = snapshot;
        let before = state(&list, self.rows.iter().take(visible));
        let is_met = expected.is_met_by(&before);
        let based_on = (*expected != Expected::Any).then_some(before);
        if is_met && !self.rows.iter().any(|row| row.conflicts(new, based_on)) {
            self.opened += 1;
            self.open.push(OpenRow { number: self.opened, new: new.clone(), based_on, after: with(&before, new.id) });
            return Ok(self.opened);
        }
        self.wait_for_standbys();
        let mut visible = self.rows.iter().take(visible);
        Err(match visible.find(|row| row.scope == new.scope) {
            Some(row) => ConditionalInsertion::Existing(row.resource.clone()),
            None if is_met => ConditionalInsertion::Conflict,
            None => ConditionalInsertion::Stale(before),
        })
    }

    /// Commits an open row, and returns the list's state with it in its statement's snapshot.
    pub fn commit(&mut self, number: usize) -> ListState {
        let index = self.open.iter().position(|open| open.number == number);
        #[allow(clippy::expect_used, reason = "the scheduler forgets rows that are undone")]
        let open = self.open.remove(index.expect("an open row"));
        self.push(&open.new, open.based_on);
        open.after
    }

    /// Undoes an open row.
    pub fn roll_back(&mut self, number: usize) {
        self.open.retain(|open| open.number != number);
    }

    /// Undoes all open rows.
    pub fn roll_back_all(&mut self) {
        self.open.clear();
    }

    /// Whether an insertion has to wait for an open row, which forbids it if it is committed. `expected` is the
    /// condition of a conditional one, which waits only if it would insert.
    pub fn must_wait(&self, new: &NewResource, expected: Option<&Expected>, snapshot: Snapshot) -> bool {
        if self.open.is_empty() || self.history().is_none() {
            return false;
        }
        let Snapshot(visible) = snapshot;
        let before = || state(&List::from(&new.scope), self.rows.iter().take(visible));
        let based_on = match expected {
            None | Some(Expected::Any) => None,
            Some(expected) => match before() {
                before if expected.is_met_by(&before) => Some(before),
                _ => return false,
            },
        };
        let is_open = |open: &OpenRow| open.as_row().conflicts(new, based_on);
        self.open.iter().any(is_open) && !self.rows.iter().any(|row| row.conflicts(new, based_on))
    }

    /// Inserts unless a unique constraint forbids it.
    pub fn attempt(&mut self, new: &NewResource, based_on: Option<ListState>) -> Attempt {
        if self.rows.iter().any(|row| row.conflicts(new, based_on)) {
            return Attempt::Undecided;
        }
        self.push(new, based_on);
        Attempt::Inserted
    }

    /// Inserts without checking the constraints.
    pub fn push(&mut self, new: &NewResource, based_on: Option<ListState>) {
        self.now.0 += 1;
        self.rows.push(row(new, based_on, self.now));
        self.replicated = self.rows.len();
        let list = List::from(&new.scope);
        let state = self.list_state(&list);
        self.states.push(StateChange { at: self.now, list, state });
    }

    /// A standby takes over that has followed no other failover, and statements under way are undone. It lacks the
    /// newer half of the rows, or with synchronous replication only those that no standby has.
    pub fn fail_over(&mut self, synchronous: bool, time: Duration) {
        self.now.0 += 1;
        self.open.clear();
        self.incarnation += 1;
        let kept = match synchronous {
            true => self.replicated,
            false => self.rows.len() / 2,
        };
        let lost = self.rows.split_off(kept);
        self.replicated = kept;
        for row in lost {
            let list = List::from(&row.scope);
            self.lost.push(LostRow { row, history: self.drawn + 1, synchronous, at: self.now, time });
            let state = self.list_state(&list);
            self.states.push(StateChange { at: self.now, list, state });
        }
    }
}

fn history(number: u64) -> Option<History> {
    History::from_bytes(&number.to_be_bytes())
}

impl OpenRow {
    fn as_row(&self) -> Row {
        row(&self.new, self.based_on, Moment::default())
    }
}

fn row(new: &NewResource, based_on: Option<ListState>, committed: Moment) -> Row {
    Row {
        scope: new.scope.clone(),
        resource: StoredResource { id: new.id, fingerprint: new.fingerprint, document: new.document.clone() },
        based_on,
        committed,
    }
}

/// Differs with the collection, the customer and each row of the list, as the real one does.
fn state<'r>(list: &List, rows: impl Iterator<Item = &'r Row>) -> ListState {
    let rows = rows.filter(|row| row.is_in(list));
    // 255 is not a byte of UTF-8: it separates the two names.
    let names = list.collection.bytes().chain([255]);
    let names = names.chain(list.customer.as_str().bytes()).map(u128::from);
    let empty = names.fold(1, mix);
    let ids = rows.map(|row| number(row.resource.id));
    of_number(ids.fold(empty, mix))
}

/// The state of a list in that state with one more resource.
pub fn with(state: &ListState, id: ResourceId) -> ListState {
    let before = u128::from_str_radix(&state.to_string(), 16).unwrap_or_default();
    of_number(mix(before, number(id)))
}

fn mix(sum: u128, part: u128) -> u128 {
    sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(part + 1)
}

fn number(id: ResourceId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

fn of_number(number: u128) -> ListState {
    #[allow(clippy::expect_used, reason = "16 bytes are a state")]
    ListState::from_bytes(&number.to_be_bytes()).expect("a state")
}
