//! Tests with hand-written histories: a correct one, and for each kind of violation one that has only that.

use std::convert::Infallible;

use serde_json::json;

use super::*;

const KEY: &str = "k";
const FIRST: &str = "01890000-0000-7000-8000-000000000001";
const SECOND: &str = "01890000-0000-7000-8000-000000000002";

fn order(quantity: u64) -> Order {
    Order {
        currency: "EUR".to_owned(),
        items: vec![Item {
            sku: "A-1".to_owned(),
            quantity,
            unit_price: 1250,
        }],
        note: None,
    }
}

fn row(order_id: &str, quantity: u64) -> Row {
    Row {
        key: KEY.to_owned(),
        order_id: order_id.to_owned(),
        order: order(quantity),
        total: 1250 * i64::try_from(quantity).unwrap(),
        based_on: None,
    }
}

fn acknowledgement(order_id: &str, quantity: u64) -> String {
    json!({
        "orderId": order_id,
        "status": "accepted",
        "currency": "EUR",
        "items": [{"sku": "A-1", "quantity": quantity, "unitPrice": 1250}],
        "note": null,
        "total": 1250 * quantity,
        "createdAt": "2026-01-01T00:00:00.000Z",
    })
    .to_string()
}

fn refusal(kind: &str, order_id: &str) -> String {
    json!({"type": format!("urn:problem-type:orders:{kind}"), "orderId": order_id}).to_string()
}

/// Builds a history event by event; each event is 10 ms after the one before.
#[derive(Default)]
struct HistoryBuilder {
    events: Vec<Event>,
    requests: u64,
    rows: Vec<Row>,
    /// `If-Match` of the next request.
    condition: Option<String>,
}

impl HistoryBuilder {
    fn happens(mut self, what: What) -> Self {
        let t_ms = 10 * self.events.len() as u64;
        self.events.push(Event { t_ms, what });
        self
    }

    fn stored(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    fn sends(mut self, quantity: u64) -> Self {
        self.requests += 1;
        let request = self.requests;
        let condition = self.condition.take();
        self.happens(What::Request {
            client: 0,
            op: 0,
            request,
            runner: 0,
            key: KEY.to_owned(),
            order: order(quantity),
            condition,
        })
    }

    fn sends_with_if_match(mut self, tag: &str) -> Self {
        self.condition = Some(tag.to_owned());
        self.sends(2)
    }

    fn answered(self, status: u16, replayed: bool, body: String) -> Self {
        let request = self.requests;
        self.happens(What::Answer {
            client: 0,
            op: 0,
            request,
            runner: 0,
            key: KEY.to_owned(),
            status,
            replayed,
            order_id: None,
            body,
        })
    }

    fn created(self) -> Self {
        self.answered(201, false, acknowledgement(FIRST, 2))
    }

    fn replayed(self) -> Self {
        self.answered(201, true, acknowledgement(FIRST, 2))
    }

    fn unanswered(self, status: Option<u16>) -> Self {
        let request = self.requests;
        self.happens(What::NoAnswer {
            client: 0,
            op: 0,
            request,
            runner: 0,
            key: KEY.to_owned(),
            reason: "gave up".to_owned(),
            status,
            replayed: false,
        })
    }

    fn fault(self, name: &str) -> Self {
        let name = name.to_owned();
        self.happens(What::FaultBegin {
            fault: 0,
            name,
            detail: String::new(),
        })
    }

    fn fault_over(self, name: &str) -> Self {
        let name = name.to_owned();
        self.happens(What::FaultEnd { fault: 0, name })
    }

    fn faults_ended(self) -> Self {
        self.happens(What::FaultsEnded)
    }

    /// All faults end, and the last request has a correct response.
    fn ends_well(self) -> Verdict {
        self.faults_ended().sends(2).replayed().verdict()
    }

    fn verdict(self) -> Verdict {
        let events = self.events.into_iter().map(Ok::<_, Infallible>);
        check(events, &self.rows).unwrap()
    }
}

fn stored() -> HistoryBuilder {
    HistoryBuilder::default().stored(row(FIRST, 2))
}

/// The numbers of violations, in the order in which they are printed.
fn violations(verdict: &Verdict) -> [u64; 4] {
    let Verdict {
        duplicates,
        lost,
        disagreeing,
        unanswered,
        ..
    } = *verdict;
    let counted = duplicates + lost + disagreeing + unanswered;
    assert_eq!(verdict.is_clean(), counted == 0);
    assert_eq!(verdict.examples.is_empty(), counted == 0, "{verdict:?}");
    [duplicates, lost, disagreeing, unanswered]
}

const DUPLICATE: [u64; 4] = [1, 0, 0, 0];
const LOST: [u64; 4] = [0, 1, 0, 0];
const DISAGREEING: [u64; 4] = [0, 0, 1, 0];
const UNANSWERED: [u64; 4] = [0, 0, 0, 1];

#[test]
fn a_correct_history_is_clean_and_counted() {
    let verdict = stored()
        .sends(2)
        .created()
        .fault("redis killed")
        .sends(2)
        .unanswered(None)
        .sends(2)
        .answered(503, false, String::new())
        .sends(3)
        .answered(422, false, refusal("idempotency-key-reused", FIRST))
        .fault_over("redis killed")
        .sends(2)
        .replayed()
        .ends_well();
    assert_eq!(violations(&verdict), [0; 4]);
    assert_eq!(
        verdict.to_string(),
        "sent 6, acknowledged 3, faults 1, duplicates 0, lost 0, disagreeing 0, unanswered after faults \
         ended 0\nlongest time from the end of a fault to the next acknowledgement: 20 ms"
    );
}

#[test]
fn an_order_whose_response_was_not_read_is_no_duplicate() {
    let verdict = stored().sends(2).unanswered(Some(201)).ends_well();
    assert_eq!(violations(&verdict), [0; 4]);
}

#[test]
fn two_rows_of_a_key_are_duplicates() {
    let history = stored().stored(row(SECOND, 2));
    assert_eq!(
        violations(&history.sends(2).created().ends_well()),
        DUPLICATE
    );
}

#[test]
fn two_ids_of_a_key_are_duplicates() {
    let verdict = stored()
        .sends(2)
        .created()
        .sends(2)
        .answered(201, true, acknowledgement(SECOND, 2))
        .ends_well();
    // The second id is in no row, and the answers differ.
    assert_eq!(violations(&verdict), [1, 1, 1, 0]);
}

#[test]
fn created_twice_is_a_duplicate_even_without_the_body() {
    let history = || stored().sends(2).created().sends(2);
    assert_eq!(violations(&history().created().ends_well()), DUPLICATE);
    let head_only = history().unanswered(Some(201));
    assert_eq!(violations(&head_only.ends_well()), DUPLICATE);
}

#[test]
fn an_acknowledged_order_that_is_not_stored_is_lost_once() {
    let verdict = HistoryBuilder::default().sends(2).created().ends_well();
    assert_eq!(violations(&verdict), LOST);
}

#[test]
fn an_order_that_is_not_stored_as_acknowledged_is_lost() {
    let lost = |row| {
        violations(
            &HistoryBuilder::default()
                .stored(row)
                .sends(2)
                .created()
                .ends_well(),
        )
    };
    let good = row(FIRST, 2);
    assert_eq!(lost(good.clone()), [0; 4]);
    assert_eq!(lost(row(SECOND, 2)), LOST);
    assert_eq!(lost(row(FIRST, 3)), LOST);
    let total = good.total + 1;
    assert_eq!(
        lost(Row {
            total,
            ..good.clone()
        }),
        LOST
    );
    let key = "another".to_owned();
    assert_eq!(lost(Row { key, ..good }), LOST);
}

#[test]
fn bodies_that_differ_in_a_byte_disagree() {
    let body = acknowledgement(FIRST, 2).replace("00.000Z", "00.001Z");
    let verdict = stored()
        .sends(2)
        .created()
        .sends(2)
        .answered(201, true, body)
        .ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn an_acknowledgement_of_another_order_disagrees() {
    let verdict = stored().sends(3).created().ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn a_wrong_total_disagrees() {
    let body = acknowledgement(FIRST, 2).replace("2500", "2501");
    let wrong_row = Row {
        total: 2501,
        ..row(FIRST, 2)
    };
    let verdict = HistoryBuilder::default()
        .stored(wrong_row)
        .sends(2)
        .answered(201, false, body.clone())
        .faults_ended()
        .sends(2)
        .answered(201, true, body)
        .verdict();
    assert_eq!(violations(&verdict), [0, 0, 2, 0]);
}

#[test]
fn an_acknowledgement_that_is_no_order_disagrees() {
    let verdict = stored()
        .sends(2)
        .answered(201, true, "{".to_owned())
        .ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn refusing_the_stored_order_disagrees() {
    let body = refusal("idempotency-key-reused", FIRST);
    let verdict = stored().sends(2).answered(422, false, body).ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn refusing_for_an_order_that_is_not_stored_disagrees() {
    let body = refusal("idempotency-key-reused", SECOND);
    let verdict = stored().sends(3).answered(422, false, body).ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn refusing_a_valid_order_disagrees() {
    let body = refusal("invalid-order", FIRST);
    let verdict = stored().sends(3).answered(422, false, body).ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn other_statuses_disagree() {
    for status in [200, 400, 404, 408, 409, 429, 500, 502, 504] {
        let body = acknowledgement(FIRST, 2);
        let verdict = stored().sends(2).answered(status, true, body).ends_well();
        assert_eq!(violations(&verdict), DISAGREEING, "{status}");
    }
}

#[test]
fn a_response_to_no_request_disagrees() {
    let verdict = stored().sends(2).created().replayed().ends_well();
    assert_eq!(violations(&verdict), DISAGREEING);
}

#[test]
fn a_key_without_a_response_after_the_faults_is_unanswered() {
    let early = stored().sends(2).created().faults_ended();
    assert_eq!(violations(&early.verdict()), UNANSWERED);
    let late = stored().sends(2).faults_ended().created();
    assert_eq!(violations(&late.verdict()), UNANSWERED, "sent before");
    let unavailable = stored().faults_ended().sends(2);
    let unavailable = unavailable.answered(503, false, String::new());
    assert_eq!(violations(&unavailable.verdict()), UNANSWERED);
    let broken = stored().faults_ended().sends(2).unanswered(None);
    assert_eq!(violations(&broken.verdict()), UNANSWERED);
    let never_ended = stored().sends(2).created().sends(2).replayed();
    assert_eq!(violations(&never_ended.verdict()), UNANSWERED);
}

#[test]
fn recovery_is_measured_to_the_next_acknowledgement_after_each_fault() {
    let verdict = stored()
        .fault("redis killed")
        .fault_over("redis killed") // at 10
        .sends(2)
        .created() // at 30
        .fault("postgres stopped")
        .fault_over("postgres stopped") // at 50
        .sends(2)
        .answered(503, false, String::new())
        .sends(2)
        .replayed() // at 90
        .ends_well();
    assert_eq!(violations(&verdict), [0; 4]);
    assert_eq!(verdict.longest_recovery_ms(), 40);
    let longest = |name: &str| verdict.recoveries[name].longest_ms;
    assert_eq!(longest("redis killed"), 20);
    assert_eq!(longest("postgres stopped"), 40);
    assert_eq!(verdict.faults, 2);
}

#[test]
fn recovery_begins_when_no_fault_is_active() {
    let verdict = stored()
        .fault("redis flushed")
        .fault("postgres stopped")
        .fault_over("redis flushed") // at 20
        .sends(2)
        .created() // at 40
        .fault_over("postgres stopped") // at 50
        .sends(2)
        .replayed() // at 70
        .ends_well();
    assert_eq!(violations(&verdict), [0; 4]);
    assert_eq!(verdict.recoveries["redis flushed"].longest_ms, 20);
    assert_eq!(verdict.recoveries["postgres stopped"].longest_ms, 20);
}

fn following(tag: &str) -> Row {
    Row {
        based_on: Some(tag.to_owned()),
        ..row(FIRST, 2)
    }
}

#[test]
fn only_requests_with_if_match_may_get_409_and_412() {
    for status in [409, 412] {
        let history = || {
            HistoryBuilder::default()
                .stored(following("a"))
                .sends_with_if_match("b")
        };
        let refused = history().answered(status, false, String::new());
        let verdict = refused
            .sends_with_if_match("a")
            .created()
            .faults_ended()
            .sends(2)
            .replayed()
            .verdict();
        assert!(verdict.is_clean(), "{verdict:?}");

        let plain = stored().sends(2).answered(status, false, String::new());
        assert_eq!(plain.verdict().disagreeing, 1);
    }
}

#[test]
fn an_order_created_with_another_etag_disagrees() {
    let verdict = HistoryBuilder::default()
        .stored(following("a"))
        .sends_with_if_match("b")
        .created()
        .verdict();
    assert_eq!(verdict.disagreeing, 1);
}

#[test]
fn a_second_order_with_one_etag_is_a_duplicate() {
    let other = Row {
        key: "another".to_owned(),
        ..following("a")
    };
    let verdict = HistoryBuilder::default()
        .stored(following("a"))
        .stored(other)
        .verdict();
    assert_eq!(verdict.duplicates, 1);
}
