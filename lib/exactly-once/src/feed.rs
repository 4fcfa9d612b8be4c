//! The feed: the resources of all customers in the order of their sequence numbers, page after page. It skips no
//! resource, however late its transaction commits.
//!
//! A transaction draws a number before it commits, so a resource can become visible below one that a reader has seen. A
//! page therefore takes three steps:
//!
//! - **A.** One statement finds N, the greatest number of the page. After its snapshot it finds the *writers*: the
//!   transactions that may have drawn a number and have neither committed nor rolled back.
//! - **B.** [`Feed::look`] is repeated until none of these transactions is a writer any more.
//! - **C.** A later statement, with a later snapshot, reads the page up to N.
//!
//! Step C sees everything that will ever be visible up to N, except what is deleted. Numbers are drawn in ascending
//! order, and N is visible in the snapshot of A. So each transaction with a number up to N had drawn it before that
//! snapshot. Such a transaction is a writer from before it draws a number until every later snapshot sees its end
//! ([`Feed`] demands this). When A looked for writers, the transaction was one, and B waited for its end; or it had
//! ended already. In both cases it ended before the snapshot of C. The rows of A are not enough: a transaction that
//! ended between the snapshot and the look at the writers is in neither.
//!
//! Writers that begin later do not matter, so constant writing does not stop the feed. A resource that was acknowledged
//! before another one was requested comes first, because the statement that inserted it drew its number.
//!
//! A [`Cursor`] is a number and a [`Mark`]. The mark changes when numbers may mean other resources than before, for
//! example after a failover; then the reader starts again.

use std::time::Duration;

use crate::error::DatabaseError;
use crate::ports::{Clock, Feed, FeedEntry};

/// The number before the first one.
const BEGINNING: i64 = 0;

/// How often the database is asked whether there is something new.
const POLL: Duration = Duration::from_millis(250);

/// The first pause in step B: most writers need a few milliseconds. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// What the numbers up to a position mean. With the same mark they mean the same resources; with another mark they may
/// belong to other resources. Opaque: the database computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; Self::BYTES]);

impl Mark {
    /// The length of its encoding.
    pub const BYTES: usize = 8;

    /// The mark of these bytes, if they are as many as one has.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// A position in the feed: after the resource with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The mark of the number.
    pub mark: Mark,
    /// The number.
    pub seq: i64,
}

impl Cursor {
    /// The length of its encoding.
    pub const BYTES: usize = Mark::BYTES + size_of::<i64>();

    /// Its encoding: the mark and the number.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (mark, seq) = bytes.split_at_mut(Mark::BYTES);
        mark.copy_from_slice(&self.mark.0);
        seq.copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// The cursor of an encoding.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, seq @ ..] = *bytes;
        Self { mark: Mark([a, b, c, d, e, f, g, h]), seq: i64::from_be_bytes(seq) }
    }
}

/// The page that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRequest {
    /// Where it begins; without it, at the first resource.
    pub after: Option<Cursor>,
    /// How many resources it has at most.
    pub limit: usize,
    /// How long to wait for a resource where there is none.
    pub wait: Duration,
}

/// Some of the resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// The resources, in the order of their numbers.
    pub entries: Vec<FeedEntry>,
    /// Where the next page begins: where this one began if it is empty.
    pub next: Cursor,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedError {
    /// The numbers up to the cursor may mean other resources than those that the reader has seen.
    AnotherHistory,
    /// The resources are distributed over several servers, whose numbers have no common order.
    Distributed,
    /// The database does not respond.
    Unavailable,
}

impl std::fmt::Display for FeedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AnotherHistory => "the cursor is of another history",
            Self::Distributed => "there is no order of all resources",
            Self::Unavailable => "the database is unavailable",
        })
    }
}

impl std::error::Error for FeedError {}

impl From<DatabaseError> for FeedError {
    fn from(error: DatabaseError) -> Self {
        match error {
            // The feed names no customer.
            DatabaseError::Unavailable | DatabaseError::Elsewhere => Self::Unavailable,
            // The feed sends only numbers that the database can hold: it rejects the feed of a distributed table.
            DatabaseError::ValueRejected => Self::Distributed,
        }
    }
}

/// Reads the next page. It is empty when no further resource appears while the request waits, and when a writer is
/// still undecided after that time or `patience`, whichever is longer. Between two calls, no connection and no lock is
/// held.
///
/// # Errors
/// [`FeedError`].
pub async fn next_page(
    database: &impl Feed,
    clock: &impl Clock,
    request: &FeedRequest,
    patience: Duration,
) -> Result<FeedPage, FeedError> {
    let started = clock.now();
    let seq = request.after.map_or(BEGINNING, |after| after.seq);
    let mut mark = request.after.map(|after| after.mark);
    // From step A until C: the greatest number of the page, and its writers.
    let (mut last, mut among) = (None, None);
    let mut pause = FIRST_PAUSE;
    loop {
        let outlook = database.look(seq, request.limit, among.as_ref()).await?;
        let mark = *mark.get_or_insert(outlook.mark);
        same(mark, outlook.mark)?;
        let mut limit = request.wait;
        last = last.or(outlook.last);
        match last {
            None => pause = POLL,
            Some(up_to) if outlook.writers.0.is_empty() => {
                let read = database.read(seq, up_to, request.limit).await?;
                same(mark, read.mark)?;
                if let Some(newest) = read.entries.last() {
                    return Ok(FeedPage { next: newest.cursor, entries: read.entries });
                }
                // All of them were deleted meanwhile.
                (last, among, pause) = (None, None, POLL);
            }
            Some(_) => {
                pause = match among {
                    None => FIRST_PAUSE,
                    Some(_) => POLL.min(pause * 2),
                };
                among = Some(outlook.writers);
                limit = patience.max(limit);
            }
        }
        let rest = limit.saturating_sub(clock.now().saturating_sub(started));
        if rest.is_zero() {
            return Ok(FeedPage { entries: Vec::new(), next: Cursor { mark, seq } });
        }
        clock.sleep(pause.min(rest)).await;
    }
}

fn same(mark: Mark, now: Mark) -> Result<(), FeedError> {
    match mark == now {
        true => Ok(()),
        false => Err(FeedError::AnotherHistory),
    }
}

#[cfg(test)]
mod tests;
