//! Tests with hand-written histories: a correct one, and for each kind of violation one that has only that.

use std::convert::Infallible;

use serde_json::json;

use super::*;

const CUSTOMER: &str = "c";
const KEY: &str = "k";
/// The key of the orders of other clients.
const OTHER: &str = "other";
const FIRST: &str = "01890000-0000-7000-8000-000000000001";
const SECOND: &str = "01890000-0000-7000-8000-000000000002";

fn order(quantity: u64) -> Order {
    Order {
        currency: "EUR".to_owned(),
        items: vec![Item { sku: "A-1".to_owned(), quantity, unit_price: 1250 }],
        note: None,
    }
}

fn row(order_id: &str, quantity: u64) -> Row {
    Row {
        customer: CUSTOMER.to_owned(),
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
    condition: Option<Condition>,
    /// The key of the next request and its response, if it is not [`KEY`].
    key: Option<&'static str>,
}

impl HistoryBuilder {
    fn happens(mut self, what: What) -> Self {
        let t_ms = self.now();
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
        let key = self.key.unwrap_or(KEY).to_owned();
        self.happens(What::Request {
            client: 0,
            op: 0,
            request,
            runner: 0,
            customer: CUSTOMER.to_owned(),
            key,
            order: order(quantity),
            condition,
        })
    }

    fn sends_with_if_match(self, tag: &str) -> Self {
        let read_ms = self.now();
        self.sends_with_if_match_read_at(tag, read_ms)
    }

    fn sends_with_if_match_read_at(mut self, tag: &str, read_ms: u64) -> Self {
        let tag = tag.to_owned();
        self.condition = Some(Condition { tag, read_ms });
        self.sends(2)
    }

    fn now(&self) -> u64 {
        10 * self.events.len() as u64
    }

    /// Requests and responses are of the other key from now on, or of [`KEY`] again.
    fn of_another_key(mut self, other: bool) -> Self {
        self.key = other.then_some(OTHER);
        self
    }

    fn answered(self, status: u16, replayed: bool, body: String) -> Self {
        let request = self.requests;
        self.answered_to(request, status, replayed, body)
    }

    fn answered_to(self, request: u64, status: u16, replayed: bool, body: String) -> Self {
        let key = self.key.unwrap_or(KEY).to_owned();
        self.happens(What::Answer { client: 0, op: 0, request, runner: 0, key, status, replayed, order_id: None, body })
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
        self.happens(What::FaultBegin { fault: 0, name, detail: String::new() })
    }

    fn fault_over(self, name: &str) -> Self {
        let name = name.to_owned();
        self.happens(What::FaultEnd { fault: 0, name })
    }

    /// The order of the last response was requested.
    fn read(self, found: bool) -> Self {
        let request = self.requests;
        let key = KEY.to_owned();
        self.happens(What::Read { request, key, found, agrees: true })
    }

    /// A failover of Postgres; these orders are stored on the standby that is promoted.
    fn failover(self, loses: bool, survivors: &[&str]) -> Self {
        let survivors = survivors.iter().map(|&id| id.to_owned()).collect();
        self.fault("failover").happens(What::Promoted { fault: 0, loses, survivors }).fault_over("failover")
    }

    /// Time passes without requests.
    fn later(mut self, ms: u64) -> Self {
        for _ in 0..ms / 10 {
            self = self.fault("none").fault_over("none");
        }
        self
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
    let counted = all_violations(verdict);
    assert_eq!(counted[4..], [0, 0], "{verdict:?}");
    [counted[0], counted[1], counted[2], counted[3]]
}

/// The same, and then phantoms and lost orders that are not healed.
fn all_violations(verdict: &Verdict) -> [u64; 6] {
    let Verdict { duplicates, lost, disagreeing, unanswered, phantoms, unhealed, .. } = *verdict;
    let all = [duplicates, lost, disagreeing, unanswered, phantoms, unhealed];
    let counted: u64 = all.iter().sum();
    assert_eq!(verdict.is_clean(), counted == 0);
    assert_eq!(verdict.examples.is_empty(), counted == 0, "{verdict:?}");
    all
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
        "sent 6, acknowledged 3, faults 1, duplicates 0, lost 0, disagreeing 0, phantom replays 0, unanswered \
         after faults ended 0\n\
         conditional requests: 412 0 (of these not judged 0), 409 0\n\
         postgres failovers, synchronous: 0; acknowledged orders lost 0\n\
         postgres failovers, asynchronous: 0; acknowledged orders lost 0, healed by their retries 0 (with their \
         old id 0), key taken by another order 0, not healed within 5 s 0; longest 0 ms; replays of lost orders \
         in that time 0\n\
         longest time from the end of a fault to the next acknowledgement: 20 ms"
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
    assert_eq!(violations(&history.sends(2).created().ends_well()), DUPLICATE);
}

#[test]
fn two_ids_of_a_key_are_duplicates() {
    let verdict = stored().sends(2).created().sends(2).answered(201, true, acknowledgement(SECOND, 2)).ends_well();
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
    let lost = |row| violations(&HistoryBuilder::default().stored(row).sends(2).created().ends_well());
    let good = row(FIRST, 2);
    assert_eq!(lost(good.clone()), [0; 4]);
    assert_eq!(lost(row(SECOND, 2)), LOST);
    assert_eq!(lost(row(FIRST, 3)), LOST);
    let total = good.total + 1;
    assert_eq!(lost(Row { total, ..good.clone() }), LOST);
    let key = "another".to_owned();
    assert_eq!(lost(Row { key, ..good }), LOST);
}

#[test]
fn bodies_that_differ_in_a_byte_disagree() {
    let body = acknowledgement(FIRST, 2).replace("00.000Z", "00.001Z");
    let verdict = stored().sends(2).created().sends(2).answered(201, true, body).ends_well();
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
    let wrong_row = Row { total: 2501, ..row(FIRST, 2) };
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
    let verdict = stored().sends(2).answered(201, true, "{".to_owned()).ends_well();
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
    Row { based_on: Some(tag.to_owned()), ..row(FIRST, 2) }
}

/// The order of another key, which is based on this state.
fn rival(based_on: Option<&str>) -> Row {
    Row { key: OTHER.to_owned(), based_on: based_on.map(str::to_owned), ..row(SECOND, 2) }
}

fn refused(history: HistoryBuilder, status: u16) -> u64 {
    history.answered(status, false, String::new()).verdict().disagreeing
}

#[test]
fn only_requests_with_if_match_may_get_409_and_412() {
    for status in [409, 412] {
        assert_eq!(refused(stored().sends(2), status), 1, "{status}");
    }
}

#[test]
fn a_412_needs_an_order_that_changed_the_list_before_it() {
    let begin = || HistoryBuilder::default().of_another_key(true);
    let ends = |history: HistoryBuilder| {
        let history = history.of_another_key(false).sends_with_if_match("a");
        refused(history, 412)
    };
    let other = acknowledgement(SECOND, 2);

    let conditional = || begin().stored(rival(Some("a"))).sends(2);
    assert_eq!(ends(conditional()), 0, "requested before");
    let late = HistoryBuilder::default().stored(rival(Some("a")));
    let late = late.sends_with_if_match("a").answered(412, false, String::new()).of_another_key(true).sends(2);
    assert_eq!(late.verdict().disagreeing, 1, "requested later only");
    let elsewhere = begin().stored(rival(Some("b"))).sends(2);
    assert_eq!(ends(elsewhere), 1, "the list is still in this state");
    let of_another_customer = Row { customer: "d".to_owned(), ..rival(Some("a")) };
    assert_eq!(ends(begin().stored(of_another_customer).sends(2)), 1);
    let own = HistoryBuilder::default().stored(following("a")).sends(2);
    assert_eq!(ends(own), 1, "only its own order has changed the list");

    let plain = || begin().stored(rival(None)).sends(2);
    assert_eq!(ends(plain()), 0, "maybe committed in between");
    let before = plain().answered(201, false, other);
    assert_eq!(ends(before), 1, "part of the state");
}

#[test]
fn a_retry_of_an_acknowledged_order_may_not_get_409_or_412() {
    for status in [409, 412] {
        let rival_requested =
            || stored().stored(rival(Some("a"))).of_another_key(true).sends_with_if_match("a").of_another_key(false);
        let history = rival_requested().sends_with_if_match("a");
        assert_eq!(refused(history, status), 0);
        let history = rival_requested().sends(2).created();
        assert_eq!(refused(history.sends_with_if_match("a"), status), 1);
        // Lost meanwhile.
        let history = rival_requested().sends(2).created().failover(true, &[]);
        assert_eq!(refused(history.sends_with_if_match("a"), status), 0);
    }
}

#[test]
fn a_409_needs_a_rival() {
    let rival_at_work = || HistoryBuilder::default().of_another_key(true).sends_with_if_match("a");
    let alone = HistoryBuilder::default().sends_with_if_match("a");
    assert_eq!(refused(alone, 409), 1);
    let plain = HistoryBuilder::default().of_another_key(true).sends(2);
    let plain = plain.of_another_key(false).sends_with_if_match("a");
    assert_eq!(refused(plain, 409), 1);
    let both = rival_at_work().of_another_key(false).sends_with_if_match("a");
    assert_eq!(refused(both, 409), 0);
    let after = |ms| {
        let ended = rival_at_work().unanswered(None).later(ms);
        refused(ended.of_another_key(false).sends_with_if_match("a"), 409)
    };
    assert_eq!(after(4000), 0, "the lease of a dead holder");
    assert_eq!(after(12_000), 1);
}

#[test]
fn a_412_during_a_failover_that_loses_orders_is_not_judged() {
    let during = HistoryBuilder::default()
        .sends_with_if_match("a")
        .fault("failover")
        .answered(412, false, String::new())
        .happens(What::Promoted { fault: 0, loses: true, survivors: Vec::new() })
        .verdict();
    assert_eq!((during.disagreeing, during.refusals.not_judged), (0, 1));
    let lossless = HistoryBuilder::default().sends_with_if_match("a").failover(false, &[]);
    assert_eq!(refused(lossless, 412), 1);
    let tag_of_before = HistoryBuilder::default().failover(true, &[]).sends_with_if_match_read_at("a", 0);
    assert_eq!(refused(tag_of_before, 412), 0);
    let tag_of_after = HistoryBuilder::default().failover(true, &[]).sends_with_if_match("a");
    assert_eq!(refused(tag_of_after, 412), 1);
}

#[test]
fn an_order_created_with_another_etag_disagrees() {
    let verdict = HistoryBuilder::default().stored(following("a")).sends_with_if_match("b").created().verdict();
    assert_eq!(verdict.disagreeing, 1);
}

#[test]
fn a_second_order_with_one_etag_is_a_duplicate() {
    let other = Row { key: "another".to_owned(), ..following("a") };
    let verdict = HistoryBuilder::default().stored(following("a")).stored(other).verdict();
    assert_eq!(verdict.duplicates, 1);
}

const UNHEALED: [u64; 6] = [0, 0, 0, 0, 0, 1];
const PHANTOM: [u64; 6] = [0, 0, 0, 0, 1, 0];

#[test]
fn a_lossless_failover_may_lose_nothing() {
    let history = || stored().sends(2).created();
    let survived = history().failover(false, &[FIRST]).ends_well();
    assert_eq!(all_violations(&survived), [0; 6]);
    assert_eq!(survived.lossless_promotions, 1);
    // Created again, under another id: the first one is lost for ever.
    let lost = HistoryBuilder::default()
        .stored(row(SECOND, 2))
        .sends(2)
        .created()
        .failover(false, &[])
        .sends(2)
        .answered(201, false, acknowledgement(SECOND, 2))
        .verdict();
    assert_eq!((lost.lost, lost.duplicates), (1, 1));
}

#[test]
fn a_lost_order_is_healed_by_a_retry() {
    let verdict = stored()
        .sends(2)
        .created()
        .failover(true, &[]) // serves at 30
        .sends(2)
        .created()
        .read(true) // at 70
        .ends_well();
    assert_eq!(all_violations(&verdict), [0; 6]);
    let losses = Losses { promotions: 1, lost: 1, healed: 1, with_old_id: 1, longest_ms: 40, ..Losses::default() };
    assert_eq!(verdict.losses, losses);

    let another_id = HistoryBuilder::default()
        .stored(row(SECOND, 2))
        .sends(2)
        .created()
        .failover(true, &[])
        .sends(2)
        .answered(201, false, acknowledgement(SECOND, 2))
        .read(true)
        .faults_ended()
        .sends(2)
        .answered(201, true, acknowledgement(SECOND, 2))
        .verdict();
    assert_eq!(all_violations(&another_id), [0; 6]);
    assert_eq!(another_id.losses.with_old_id, 0);
}

#[test]
fn a_lost_order_that_is_not_healed_in_time_is_a_violation() {
    let lost = || stored().sends(2).created().failover(true, &[]);
    let never_read = lost().sends(2).created().ends_well();
    assert_eq!(all_violations(&never_read), UNHEALED);
    let late = lost().later(5000).sends(2).created().read(true);
    let mut late = late.ends_well();
    late.recoveries.clear();
    assert_eq!(all_violations(&late), UNHEALED);
    assert_eq!((late.losses.lost, late.losses.healed), (1, 1));
}

#[test]
fn a_key_of_a_lost_order_may_be_taken_by_another_order() {
    let verdict = HistoryBuilder::default()
        .stored(row(SECOND, 3))
        .sends(2)
        .created()
        .failover(true, &[])
        .sends(3)
        .answered(201, false, acknowledgement(SECOND, 3))
        .faults_ended()
        .sends(2)
        .answered(422, false, refusal("idempotency-key-reused", SECOND))
        .verdict();
    assert_eq!(all_violations(&verdict), [0; 6]);
    assert_eq!((verdict.losses.lost, verdict.losses.taken), (1, 1));
}

#[test]
fn what_a_failover_did_not_lose_may_not_be_created_again() {
    let history = stored().sends(2).created().failover(true, &[FIRST]);
    let verdict = history.sends(2).created().ends_well();
    assert_eq!(all_violations(&verdict), [1, 0, 0, 0, 0, 0]);
    // Lost, and then created twice.
    let history = stored().sends(2).created().failover(true, &[]);
    let twice = history.sends(2).created().sends(2).created().read(true);
    assert_eq!(all_violations(&twice.ends_well()), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn an_acknowledgement_that_was_on_its_way_must_be_confirmed() {
    let on_its_way = || {
        let history = stored().sends(2).failover(true, &[]);
        history.answered(201, false, acknowledgement(SECOND, 2))
    };
    let confirmed = on_its_way().sends(2).created().read(true).ends_well();
    assert_eq!(all_violations(&confirmed), [0; 6]);
    let forgotten = on_its_way().sends(2).created().ends_well();
    assert_eq!(all_violations(&forgotten), UNHEALED);
}

#[test]
fn a_replay_of_an_order_that_does_not_exist_is_a_phantom() {
    let never_lost = stored().sends(2).replayed().read(false).ends_well();
    assert_eq!(all_violations(&never_lost), PHANTOM);

    let lost = || stored().sends(2).created().failover(true, &[]);
    let healed = |history: HistoryBuilder| history.sends(2).created().read(true).ends_well();
    let early = healed(lost().sends(2).replayed().read(false));
    assert_eq!(all_violations(&early), [0; 6]);
    assert_eq!(early.losses.early_phantoms, 1);
    let created = healed(lost().sends(2).created().read(false));
    assert_eq!(created.phantoms, 1, "not from a record");
    let late = healed(lost().later(5000).sends(2).replayed().read(false));
    assert_eq!(late.phantoms, 1);
    // Lost in between.
    let history = stored().sends(2).replayed().failover(true, &[]).read(false);
    assert_eq!(all_violations(&healed(history)), [0; 6]);
}

#[test]
fn an_order_that_differs_from_its_acknowledgement_disagrees() {
    let history = stored().sends(2).replayed();
    let verdict = history.happens(What::Read { request: 1, key: KEY.to_owned(), found: true, agrees: false });
    assert_eq!(violations(&verdict.ends_well()), DISAGREEING);
}
