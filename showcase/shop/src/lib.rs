//! The puller: reads the events of orders from a feed, delivers each to payments, and the event that payments returns
//! to notifications. What is here needs no host; the rest is in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use exactly_once::Collection;

/// The names that problems are told with.
pub const PULLER: Collection = Collection { name: "dead_letters", one: "dead_letter", path: "/api/v1/dead-letters" };

/// A service that gets an event, and returns one for the next service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// Gets the events of the feed.
    Payments,
    /// Gets the events that payments returns.
    Notifications,
}

impl Consumer {
    /// Its name in the table of dead letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Notifications => "notifications",
        }
    }

    /// The consumer of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Payments, Self::Notifications];
        all.into_iter().find(|consumer| consumer.name() == name)
    }

    /// Where it takes events.
    pub fn path(self) -> &'static str {
        match self {
            Self::Payments => "/api/v1/payments",
            Self::Notifications => "/api/v1/notifications",
        }
    }

    /// The service that gets the event that this one returns.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Payments => Some(Self::Notifications),
            Self::Notifications => None,
        }
    }
}

/// What the response to a delivery means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event had its effect, now or before.
    Accepted,
    /// The consumer would reject this event again: the chain goes on without it.
    Refused,
    /// The fault is not the event's: the puller stops here, and the next pull delivers it again.
    Later,
}

impl Verdict {
    /// The meaning of a status.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Accepted,
            400 | 413 | 415 | 422 => Self::Refused,
            _ => Self::Later,
        }
    }
}

/// The cursor in the `Link` field of a page: the value of `after`, as it is written there.
pub fn next_cursor(link: &str) -> Option<&str> {
    let next = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    let (target, _) = rest.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|parameter| parameter.strip_prefix("after="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_read_from_the_link_to_the_next_page() {
        for (link, cursor) in [
            ("</api/v1/events?after=a%3D&limit=5>; rel=\"next\"", Some("a%3D")),
            ("<http://h/e?limit=5&after=b>; rel=\"next\"", Some("b")),
            ("</first?after=x>; rel=\"first\", </next?after=y>; rel=\"next\"", Some("y")),
            ("</api/v1/events>; rel=\"next\"", None),
            ("</api/v1/events?after=a>; rel=\"first\"", None),
            ("", None),
        ] {
            assert_eq!(next_cursor(link), cursor, "{link}");
        }
    }

    #[test]
    fn only_the_faults_of_an_event_are_final() {
        for (status, verdict) in [
            (201, Verdict::Accepted),
            (400, Verdict::Refused),
            (422, Verdict::Refused),
            (401, Verdict::Later),
            (404, Verdict::Later),
            (408, Verdict::Later),
            (429, Verdict::Later),
            (500, Verdict::Later),
            (503, Verdict::Later),
        ] {
            assert_eq!(Verdict::of(status), verdict, "{status}");
        }
    }
}
