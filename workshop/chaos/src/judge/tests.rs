//! Short histories, each with the table after it and the verdict that it must get. A history is a list of steps, each
//! 10 ms after the one before:
//! - `A new a`: a request with order A that got 201 with the id a; `A replay a found`, `A replay a 404`: marked as a
//!   replay, and the order was read; `A none`, `A head`: no response, or the head of a 201; `B used a`: 422; `A 503`
//! - `A=t 412`: with `If-Match: t`, which was read 15 ms before; `2:A new b`: of another key; `~A new a`: sent before
//!   the step before it
//! - `lose a`: a failover with asynchronous replication, after which a is stored; `replace`, `switch`: one that loses
//!   nothing, and a switchover; `fault`: any; `wait`: 5 s; `end`: all faults have ended

use serde_json::json;

use super::*;
use crate::history::{Condition, Fault};
use crate::order::Item;

const CUSTOMER: &str = "c";

/// An order, named by a capital letter; with a prime it has a note.
fn order(name: &str) -> Order {
    let quantity = name.bytes().next().unwrap().into();
    let note = name.ends_with('\'').then(|| "note".to_owned());
    Order { currency: "EUR".into(), items: vec![Item { sku: "A-1".into(), quantity, unit_price: 10 }], note }
}

/// The body of a 201: of this order, or of the one in `a=B`; with `*` the total is wrong, with `~` the time is another.
fn body(order: &Order, id: &str) -> String {
    let (id, other) = id.split_once('=').map_or((id, None), |(id, name)| (id, Some(self::order(name))));
    let (order, total) = (other.as_ref().unwrap_or(order), order.total().unwrap() + i64::from(id.ends_with('*')));
    let order_id = id.trim_end_matches(['*', '~']);
    json!({"orderId": order_id, "currency": order.currency, "items": order.items, "note": order.note, "total": total,
           "createdAt": if id.ends_with('~') { 1 } else { 0 }})
    .to_string()
}

/// A row such as `a=A`, or `2:a=A=t` of the other key with the ETag that it was created with.
fn row(text: &str) -> Row {
    let (key, row) = text.split_once(':').unwrap_or(("1", text));
    let mut parts = row.split('=');
    let (order_id, name) = (parts.next().unwrap().to_owned(), parts.next().unwrap());
    let based_on = parts.next().map(str::to_owned);
    Row { customer: CUSTOMER.into(), key: key.into(), order_id, order: order(name), based_on }
}

fn events(text: &str) -> Events {
    let mut events = Events::default();
    let mut now = 10;
    for step in text.split(';').map(str::trim) {
        now += 10;
        let (from_ms, to_ms) = (if step.starts_with('~') { now - 15 } else { now }, now + 5);
        let words: Vec<_> = step.trim_start_matches('~').split(' ').collect();
        let survivors = words[1..].iter().map(|&id| id.to_owned()).collect();
        match words[0] {
            "lose" | "replace" | "switch" => {
                let (loses, old_stays) = (words[0] == "lose", words[0] == "switch");
                events.promotions.push(Promotion { from_ms, to_ms, loses, old_stays, survivors });
            }
            "fault" => events.faults.push(Fault { name: "fault".into(), from_ms, to_ms }),
            "wait" => now += HEALING_MS,
            "end" => events.faults_ended_ms = Some(now),
            request => {
                let (key, order_and_tag) = request.split_once(':').unwrap_or(("1", request));
                let (name, tag) = order_and_tag.split_once('=').unwrap_or((order_and_tag, ""));
                let (order, id) = (order(name), words.get(2).copied().unwrap_or_default());
                let refusal = |kind| json!({"type": format!("urn:problem-type:orders:{kind}"), "orderId": id});
                let answer = |status, replayed, body| Outcome::Answer { status, replayed, body };
                let outcome = match words[1] {
                    "new" => answer(201, false, body(&order, id)),
                    "replay" => answer(201, true, body(&order, id)),
                    "used" => answer(422, false, refusal("idempotency-key-reused").to_string()),
                    "invalid" => answer(422, false, refusal("invalid-order").to_string()),
                    "none" => Outcome::NoAnswer { reason: String::new(), head: None },
                    "head" => Outcome::NoAnswer { reason: String::new(), head: Some((201, false)) },
                    status => answer(status.parse().unwrap(), false, String::new()),
                };
                let found = match words.get(3) {
                    Some(&"found") => Some(Some(body(&order, id))),
                    Some(&"differs") => Some(Some(body(&order, &format!("{id}*")))),
                    Some(_) => Some(None),
                    None => None,
                };
                let read = found.map(|found| Read { from_ms: now + 6, to_ms: now + 8, found });
                let condition = (!tag.is_empty()).then(|| Condition { tag: tag.into(), read_ms: from_ms - 15 });
                let (client, host, customer, key) = (0, 0, CUSTOMER, key.into());
                let request = Request { client, host, customer, key, order, condition, from_ms, to_ms, outcome, read };
                events.requests.push(request);
            }
        }
    }
    events
}

/// The verdict on a history. It ends well if it does not say how it ends: the stored orders are replayed.
fn judged(history: &str, rows: &str) -> Verdict {
    let rows: Vec<_> = rows.split_whitespace().map(row).collect();
    let mut history = history.to_owned();
    if !history.contains("end") {
        history += "; wait; wait; wait; end";
        for Row { key, order_id, order, .. } in &rows {
            let name = char::from(u8::try_from(order.items[0].quantity).unwrap());
            let prime = if order.note.is_some() { "'" } else { "" };
            history += &format!("; {key}:{name}{prime} replay {order_id} found");
        }
    }
    judge(&events(&history), &rows)
}

#[test]
fn each_history_gets_its_verdict() {
    use Violation::{Disagreeing, Duplicate, Lost, Phantom, Unanswered, Unhealed};
    let cases: &[(&[Violation], &str, &str)] = &[
        // Nothing is wrong.
        (&[], "A new a", "a=A"),
        (&[], "A new a; fault; A none; A 503; B used a; A replay a", "a=A"),
        (&[], "A none; A replay a", "a=A"),
        (&[], "A head; A replay a", "a=A"),
        (&[], "A 503; B used a; A none", "a=A"),
        (&[], "A new a; ~A replay a found", "a=A"),
        (&[], "A replay a; ~A new a", "a=A"),
        // An order is created twice.
        (&[Duplicate], "A new a; end; A replay a", "a=A b=A"),
        (&[Duplicate], "A new a; A new a", "a=A"),
        (&[Duplicate], "A head; A new a", "a=A"),
        (&[Duplicate], "A head; A head", "a=A"),
        (&[Duplicate], "A new a; A new b", "a=A"),
        (&[Duplicate], "A new a; A replay b", "a=A"),
        (&[Duplicate], "A replay a; A replay b; A replay a", "a=A"),
        (&[Duplicate], "A new a; replace; A new b", "b=A"),
        // An acknowledged order is lost.
        (&[Lost], "A new a; end; A replay a", ""),
        (&[Lost], "A head; end; A replay a", ""),
        (&[Lost], "A new a; end; A replay a", "b=A"),
        (&[Lost], "A new a; end; A replay a", "a=B"),
        (&[Lost], "A new a; end; A replay a", "2:a=A"),
        (&[Lost], "A new a; replace; end; A replay a", ""),
        // Responses contradict each other, the request or the table.
        (&[Disagreeing], "A new a*; end; A replay a*", "a=A"),
        (&[Disagreeing], "A new a; A replay a~; A replay a", "a=A"),
        (&[Disagreeing], "A new a=A'", "a=A'"),
        (&[Disagreeing], "A replay a differs", "a=A"),
        (&[Disagreeing], "A new a; A used a", "a=A"),
        (&[Disagreeing], "A new a; B used b", "a=A"),
        (&[Disagreeing], "B used a; A new a", "a=A"),
        (&[Disagreeing], "B invalid a", "a=A"),
        (&[Disagreeing], "A 200; A new a", "a=A"),
        (&[Disagreeing], "A 404; A new a", "a=A"),
        (&[Disagreeing], "A 429; A new a", "a=A"),
        (&[Disagreeing], "A 500; A new a", "a=A"),
        // A reading goes from 200 to 404.
        (&[Phantom], "A replay a 404", "a=A"),
        (&[Phantom], "A new a; A replay a found; A replay a 404", "a=A"),
        (&[Phantom], "replace; A new a; A replay a 404", "a=A"),
        (&[], "switch; A new a; A replay a 404", "a=A"),
        (&[Phantom], "switch; A new a; wait; A replay a 404", "a=A"),
        // A key has no response after the faults.
        (&[Unanswered], "A new a; end", "a=A"),
        (&[Unanswered], "A 503; end; ~A new a", "a=A"),
        (&[Unanswered], "A new a; end; A 503", "a=A"),
        (&[Unanswered], "A new a; end; A none", "a=A"),
        (&[Unanswered], "A new a; end; A replay a; 2:A none", "a=A"),
        // 409 and 412.
        (&[Disagreeing], "A 409", "a=A"),
        (&[Disagreeing], "A 412", "a=A"),
        (&[Disagreeing], "A=t 409; A new a", "a=A"),
        (&[Disagreeing], "2:B new b; A=t 409; A new a", "a=A 2:b=B"),
        (&[], "2:B=t new b; A=t 409; A new a", "a=A 2:b=B=t"),
        (&[], "2:B=t none; wait; A=t 409; A new a", "a=A 2:b=B=t"),
        (&[Disagreeing], "2:B=t none; wait; wait; wait; A=t 409; A new a", "a=A 2:b=B=t"),
        (&[Disagreeing], "2:B=t new b; A new a; A=t 409", "a=A 2:b=B=t"),
        (&[], "2:B=t new b; A=t 412; A new a", "a=A 2:b=B=t"),
        (&[Disagreeing], "2:B=t new b; A new a; A=t 412", "a=A 2:b=B=t"),
        (&[Disagreeing], "A=t 412; 2:B=t new b; A new a", "a=A 2:b=B=t"),
        (&[Disagreeing], "2:B=u new b; A=t 412; A new a", "a=A 2:b=B=u"),
        (&[Disagreeing], "A=t 412; A=t new a", "a=A=t"),
        (&[], "2:B none; A=t 412; A new a", "a=A 2:b=B"),
        (&[], "2:B new b; A=t 412; A new a", "a=A 2:b=B"),
        (&[Disagreeing], "2:B new b; fault; fault; A=t 412; A new a", "a=A 2:b=B"),
        (&[Disagreeing], "A=t none; A=t 412; A new a", "a=A"),
        (&[], "switch; 2:B=t new b; fault; fault; A=t 503; A new a", "a=A 2:b=B=t"),
        (&[], "A=t 503; A=u 503; ~replace; fault; fault; A=t 503; A new a", "a=A"),
        (&[Disagreeing], "A=t new a", "a=A=u"),
        (&[], "A=t new a; lose; A new a found", "a=A"),
        (&[Duplicate], "A=t new a; 2:B=t new b", "a=A=t 2:b=B=t"),
        (&[], "2:B=t new b; A new a; lose b; A=t 412; A new a found", "a=A 2:b=B=t"),
        (&[Disagreeing], "replace; fault; fault; A=t 412; A new a", "a=A"),
        (&[], "A=t 412; ~lose; A new a", "a=A"),
        // A failover with asynchronous replication loses an order.
        (&[], "A new a; lose; A new a found", "a=A"),
        (&[], "A new a; lose; A new b found", "b=A"),
        (&[], "A new a; B used a; lose; A new b found; B used b", "b=A"),
        (&[], "A new a; lose; B new b; A used b", "b=B"),
        (&[], "A none; B used a; lose; B new b", "b=B"),
        (&[], "A none; A none; B used a; lose; B used a", "a=A"),
        (&[], "A new a; lose a; A replay a found", "a=A"),
        (&[], "lose; ~A new b; A new a found", "a=A"),
        (&[], "lose; ~A replay b 404; A new a found", "a=A"),
        (&[], "A new a; lose; A replay a 404; A new a found", "a=A"),
        (&[], "A new a; lose; A replay a; A new a found", "a=A"),
        (&[], "A new a; lose; A new b found; lose b; A replay b", "b=A"),
        (&[Unhealed], "A new a; lose; A new a; end; A replay a", "a=A"),
        (&[Unhealed], "A new a; lose; A none; wait; A new a found", "a=A"),
        (&[Unhealed], "lose; ~A new b; A new a; end; A replay a", "a=A"),
        (&[Duplicate], "A new a; lose a; A new a", "a=A"),
        (&[Duplicate], "A new a; lose; A new a found; A new a", "a=A"),
        (&[Phantom], "A new a; lose; A new a 404; A new a found", "a=A"),
        (&[Phantom], "A new a; lose; A new a found; wait; A replay a 404", "a=A"),
        (&[Phantom], "A new a; lose; wait; A replay a 404; A new a found", "a=A"),
        (&[Phantom], "A new a; lose a; A replay a 404", "a=A"),
    ];
    let mut wrong = Vec::new();
    for (expected, history, rows) in cases {
        let verdict = judged(history, rows);
        if !verdict.violations.keys().eq(*expected) {
            wrong.push(format!("{history} | {rows}: {expected:?}, not {:#?}", verdict.violations));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_was_lost_is_counted() {
    let losses = |history, rows| judged(history, rows).losses;
    let healed = losses("A new a; lose; A replay a 404; A new a found", "a=A");
    assert_eq!([healed.lost, healed.healed, healed.with_old_id, healed.taken, healed.early_phantoms], [1, 1, 1, 0, 1]);
    assert_eq!(healed.longest_ms, 18);
    assert_eq!(losses("A new a; lose; A new b found", "b=A").with_old_id, 0);
    assert_eq!(judged("switch; A new a; A replay a found; A replay a 404", "a=A").outdated, 1);
    let taken = losses("A new a; lose; B new b; A used b", "b=B");
    assert_eq!([taken.lost, taken.healed, taken.taken], [1, 0, 1]);
}

#[test]
fn recovery_is_measured_to_the_next_acknowledgement_after_all_faults() {
    let mut events = events("fault; fault; fault; A none; A new a; end; A replay a");
    assert_eq!(recoveries(&events)["fault"], Recovery { faults: 3, longest_ms: 40 });
    // They end one after the other, while the others are active.
    events.faults.iter_mut().zip([41, 43, 45]).for_each(|(fault, to_ms)| fault.to_ms = to_ms);
    assert_eq!(recoveries(&events)["fault"], Recovery { faults: 3, longest_ms: 20 });
}

#[test]
fn the_figures_are_printed() {
    let text =
        judged("A new a; lose; A new a found; 2:B=t new b; 3:B=t 412; 3:B new c", "a=A 2:b=B=t 3:c=B").to_string();
    assert_eq!(
        text,
        "sent 8, acknowledged 7, faults 0, duplicates 0, lost 0, disagreeing 0, phantom replays 0, unanswered after \
         faults ended 0\n\
         keys judged by porcupine: 3; conditional requests: 412 1 (of these not judged 1), 409 0\n\
         postgres failovers, synchronous: 0; acknowledged orders lost 0, not found within 5 s after a switchover 0\n\
         postgres failovers, asynchronous: 1; acknowledged orders lost 1, healed by their retries 1 (with their old \
         id 1), key taken by another order 0, not healed within 5 s 0; longest 8 ms; replays of lost orders in that \
         time 0"
    );
}
