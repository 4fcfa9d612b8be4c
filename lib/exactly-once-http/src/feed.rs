//! The feed over HTTP: all customers' new resources as a batch of CloudEvents, for services with the operator's token.

use std::time::Duration;

use exactly_once::feed::{Cursor, FeedError, FeedRequest, next_page};
use exactly_once::json::to_json;
use exactly_once::ports::FeedEntry;
use exactly_once::{Collection, Resource};
use http::{StatusCode, header};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::head::Head;
use crate::host::Host;
use crate::identity::{Unidentified, bearer};
use crate::problem::Problem;
use crate::query::{self, QueryError, each_parameter, number};
use crate::reading::unreadable;
use crate::response::Response;
use crate::settings::Settings;

/// The last segment of the path, beside the collection.
pub(crate) const EVENTS: &str = "events";

/// The number of events on a page by default.
const DEFAULT_LIMIT: usize = 100;
/// How many events a page has at most.
const MAX_FEED_LIMIT: usize = 1000;
/// How long a request may wait for an event, in seconds.
const MAX_WAIT: usize = 20;

/// Responds to a request for the next events.
///
/// # Errors
/// The feed is off or impossible, the token is missing or wrong, the query is invalid, the cursor belongs to another
/// history, or the database does not respond.
pub async fn events(
    resource: &Resource,
    query: &str,
    head: &impl Head,
    host: &impl Host,
    settings: &Settings,
) -> Result<Response, Problem> {
    if settings.events_token.is_empty() {
        return Err(Problem::FeedOff);
    }
    admit(&settings.events_token, head)?;
    let request = read_query(query).map_err(Problem::Query)?;
    let database = host.postgres(settings);
    let target = head.target();
    let (path, _) = target.split_once('?').unwrap_or((&target, ""));
    let page = next_page(&database, host, &request, settings.lock_timeout()).await.map_err(|error| match error {
        FeedError::AnotherHistory => Problem::CursorOfAnotherHistory { feed: path.to_owned() },
        FeedError::Distributed => Problem::FeedOff,
        FeedError::Unavailable => Problem::DatabaseUnavailable,
    })?;
    let mut batch = String::from("[");
    for entry in &page.entries {
        if batch.len() > 1 {
            batch.push(',');
        }
        batch.push_str(&event(resource, entry));
    }
    batch.push(']');
    let next = format!(
        "<{}?limit={}&wait={}&after={}>; rel=\"next\"",
        path,
        request.limit,
        request.wait.as_secs(),
        Uuid::from_bytes(page.next.encode()).simple()
    );
    Ok(Response::of_type(BATCH, StatusCode::OK, batch)
        .with(header::CACHE_CONTROL.as_str(), "no-store")
        .with(header::LINK.as_str(), next))
}

/// The JSON batch format of CloudEvents.
const BATCH: &str = "application/cloudevents-batch+json";

/// Requires an operator's token, such as that of the feed, which opens nothing else. The time of the comparison reveals
/// only the token's length.
///
/// # Errors
/// The request has no token, or another one.
pub fn admit(token: &str, head: &impl Head) -> Result<(), Problem> {
    let values = head.values(header::AUTHORIZATION.as_str());
    let sent = match values.as_slice() {
        [] => Err(Unidentified::NoToken),
        [one] => std::str::from_utf8(one).map_err(|_| Unidentified::InvalidToken),
        _ => Err(Unidentified::InvalidToken),
    };
    let sent = sent.and_then(|sent| bearer(sent).ok_or(Unidentified::NoToken));
    let is_it = sent.map_err(Problem::Unidentified)?.as_bytes().ct_eq(token.as_bytes());
    // Without a configured token nobody is admitted.
    let is_set = !token.is_empty();
    match is_set && is_it.into() {
        true => Ok(()),
        false => Err(Problem::Unidentified(Unidentified::InvalidToken)),
    }
}

/// Reads a query, without its question mark.
fn read_query(query: &str) -> Result<FeedRequest, QueryError> {
    let (mut after, mut limit, mut wait) = (None, None, None);
    each_parameter(query, &mut |name, value| {
        Ok(match name {
            b"after" => after.replace(read_cursor(value)?).is_some(),
            b"limit" => {
                let number = number(value, 1..=MAX_FEED_LIMIT).ok_or(LIMIT)?;
                limit.replace(number).is_some()
            }
            b"wait" => wait.replace(number(value, 0..=MAX_WAIT).ok_or(WAIT)?).is_some(),
            _ => return Err(UNKNOWN),
        })
    })?;
    let wait = u64::try_from(wait.unwrap_or_default()).unwrap_or_default();
    Ok(FeedRequest { after, limit: limit.unwrap_or(DEFAULT_LIMIT), wait: Duration::from_secs(wait) })
}

/// A cursor is 16 bytes in hexadecimal, like that of a list.
fn read_cursor(value: &[u8]) -> Result<Cursor, QueryError> {
    let bytes = query::read_cursor(value).map_err(|_| CURSOR)?;
    Ok(Cursor::decode(bytes.as_bytes()))
}

const CURSOR: QueryError = rule("after", "must come from the Link field of a page");
const LIMIT: QueryError = rule("limit", "must be a number from 1 to 1000");
const WAIT: QueryError = rule("wait", "must be a number of seconds from 0 to 20");
const UNKNOWN: QueryError = rule("The query", "may have only after, limit and wait");

const fn rule(name: &'static str, rule: &'static str) -> QueryError {
    QueryError::Parameter { name, rule }
}

/// The event of a resource. Its source is relative: the component does not know its own host names, and every reader
/// must get the same source.
fn event(resource: &Resource, entry: &FeedEntry) -> String {
    let Collection { name, one, path } = resource.collection;
    let data = resource.event_data(entry.id, &entry.document.value());
    let data = data.unwrap_or_else(|| unreadable(&resource.collection, entry.id));
    format!(
        "{{\"specversion\":\"1.0\",\"type\":\"{name}.{one}.created.v1\",\"source\":\"{path}\",\"id\":\"{id}\",\
         \"time\":\"{}\",\"partitionkey\":{},\"datacontenttype\":\"application/json\",\"data\":{data}}}",
        entry.id.created_at(),
        to_json(&entry.customer),
        id = entry.id,
    )
}

#[cfg(test)]
mod tests {
    use exactly_once::feed::Mark;

    use super::*;
    use crate::head::{Method, TestHead};

    #[test]
    fn only_the_token_opens_the_feed() {
        let admit = |token: &str, fields: &[(&str, &str)]| {
            let head = TestHead { method: Method::Get, target: "/api/v1/events", fields };
            admit(token, &head).map_err(|problem| match problem {
                Problem::Unidentified(why) => why,
                other => panic!("{other:?}"),
            })
        };
        let sent = |value| [("authorization", value)];
        assert_eq!(admit("s3cret", &sent("Bearer s3cret")), Ok(()));
        assert_eq!(admit("s3cret", &sent("bearer  s3cret ")), Ok(()));
        for (fields, why) in [
            (&[][..], Unidentified::NoToken),
            (&sent("Basic s3cret"), Unidentified::NoToken),
            (&sent("s3cret"), Unidentified::NoToken),
            (&sent("Bearer"), Unidentified::InvalidToken),
            (&sent("Bearer s3cre"), Unidentified::InvalidToken),
            (&sent("Bearer s3cret2"), Unidentified::InvalidToken),
            (&sent("Bearer S3cret"), Unidentified::InvalidToken),
            (&[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")], Unidentified::InvalidToken),
        ] {
            assert_eq!(admit("s3cret", fields), Err(why), "{fields:?}");
        }
        for fields in [&[][..], &sent("Bearer"), &sent("Bearer s3cret")] {
            assert!(admit("", fields).is_err());
        }
    }

    #[test]
    fn a_query_is_a_cursor_a_limit_and_a_wait() {
        let of = |after, limit, seconds| Ok(FeedRequest { after, limit, wait: Duration::from_secs(seconds) });
        let mark = Mark::from_bytes(&[255; 8]).expect("a mark");
        let cursor = Cursor { mark, seq: 7 };
        let text = "ffffffffffffffff0000000000000007";
        assert_eq!(read_query(""), of(None, 100, 0));
        let all = format!("limit=1000&after={text}&wait=20");
        assert_eq!(read_query(&all), of(Some(cursor), 1000, 20));
        let escaped = format!("after={}&limit=1", text.replace('7', "%37"));
        assert_eq!(read_query(&escaped), of(Some(cursor), 1, 0));

        let longer = format!("after={text}0");
        for (query, error) in [
            ("limit=0", LIMIT),
            ("limit=1001", LIMIT),
            ("wait=21", WAIT),
            ("wait=1.5", WAIT),
            ("wait=", WAIT),
            ("after=", CURSOR),
            ("after=ffffffffffffffff000000000000000", CURSOR),
            ("after=ffffffff-ffff-ffff-0000-000000000007", CURSOR),
            ("after=fffffffffffffffg0000000000000007", CURSOR),
            (&longer, CURSOR),
            ("cursor=1", UNKNOWN),
            ("wait=1&wait=1", QueryError::Repeated),
        ] {
            assert_eq!(read_query(query), Err(error), "{query}");
        }
    }
}
