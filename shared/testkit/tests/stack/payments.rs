//! Cash in full: charges, several lines, suspense, replays, clearing, credit, refunds.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Fund, Office, assert_sums, id, items, lines, payment, payment_on, today};

async fn expenses(office: &Office, fund: &Fund, amount: &str, due_on: &str) -> Value {
    let call = json!({"purposes": [{"kind": "expenses", "amount": amount, "inside_commitment": true}], "due_on": due_on});
    let accepted = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), call).await.expect(202);
    let path = format!("/capital-calls/{}", id(&accepted, "capital_call_id"));
    office.manager.until(&path, |call| call["decision"] == "issued").await
}

async fn line(office: &Office, line: Uuid) -> Value {
    office.auditor.get(&format!("/call-lines/{line}")).await.expect(200)
}

fn parts<'a>(value: &'a Value, fields: &[&str]) -> Vec<&'a str> {
    fields.iter().map(|field| value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value:#}"))).collect()
}

/// Puts rules of a fund in force, and waits until capital-calls follows them.
async fn rule(office: &Office, fund: &Fund, rules: Value, in_force: impl AsyncFn() -> bool) {
    office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200);
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), || in_force()).await, "the rules are in force");
}

#[tokio::test]
async fn cash_that_looks_like_other_cash_waits_for_a_person_and_what_is_reported_again_is_known() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "200.00").await;
    let path = format!("/call-lines/{}/payments", id(&lines(&call)[0], "id"));
    let reported = |amount: &str, reference: &str| json!({"amount": amount, "method": "wire", "reference": "tranche 1", "received_on": "2026-01-15", "source": "bank-eur", "external_reference": reference});
    let first = office.treasurer.post(&path, reported("40.00", "E-1")).await.expect(201);
    // reported once more, under another key: the same payment
    assert_eq!(office.treasurer.post(&path, reported("40.00", "E-1")).await.expect(201)["id"], first["id"]);
    assert_eq!(office.treasurer.post(&path, reported("41.00", "E-1")).await.refused(409), "external_reference_reused");
    let replays = (0..10).map(|_| office.treasurer.post(&path, reported("7.00", "E-2")));
    let ids: Vec<Value> = futures::future::join_all(replays).await.into_iter().map(|reply| reply.expect(201)["id"].clone()).collect();
    assert!(ids.iter().all(|known| *known == ids[0]), "{ids:?}");
    // the same amount on the same day, typed in
    let similar = office.treasurer.post(&path, payment_on("40.00", "by hand", "2026-01-15")).await.expect(201);
    assert_eq!(parts(&similar, &["status", "applied", "suspended"]), ["suspense", "0.00", "40.00"]);
    assert_eq!(similar["suspense"]["similar_to"], first["id"]);
    let after = line(&office, id(&lines(&call)[0], "id")).await;
    assert_eq!(parts(&after, &["paid", "outstanding"]), ["47.00", "53.00"]);
    let of = |payment: &Value, act: &str| format!("/payments/{}/{act}", id(payment, "id"));
    assert_eq!(office.treasurer.post(&of(&first, "release"), json!({"reason": "?"})).await.refused(409), "not_suspended");
    let released = office.treasurer.post(&of(&similar, "release"), json!({"reason": "two wires"})).await.expect(200);
    assert_eq!(parts(&released, &["status", "applied", "suspended"]), ["applied", "40.00", "0.00"]);
    assert_eq!(released["suspense"]["released_by"], "tom");
    // one that is a duplicate is taken back and moves nothing
    let twice = office.treasurer.post(&path, payment_on("40.00", "by hand again", "2026-01-15")).await.expect(201);
    assert_eq!(twice["status"], "suspense");
    let reversal = json!({"reason": "entered twice", "effective_on": "2026-01-16"});
    office.treasurer.post(&of(&twice, "reverse"), reversal).await.expect(200);
    assert_eq!(parts(&line(&office, id(&lines(&call)[0], "id")).await, &["paid", "outstanding"]), ["87.00", "13.00"]);
    let bad = json!({"amount": "1.00", "method": "sepa", "reference": "under_score", "received_on": "2026-01-15"});
    assert_eq!(office.treasurer.post(&path, bad).await.refused(422), "invalid_reference");

    // it is the payer's cash, whichever of its lines it was typed in for; another investor's is another's
    let another = expenses(&office, &fund, "200.00", "2099-12-31").await;
    let line_of = |is_of_payer: bool| {
        let is_it = |line: &&Value| (line["investor_id"] == lines(&call)[0]["investor_id"]) == is_of_payer;
        format!("/call-lines/{}/payments", id(lines(&another).iter().find(is_it).unwrap(), "id"))
    };
    let typed = office.treasurer.post(&line_of(true), payment_on("40.00", "the other call", "2026-01-15")).await.expect(201);
    assert_eq!((&typed["status"], &typed["suspense"]["similar_to"]), (&json!("suspense"), &first["id"]));
    let by_another = office.treasurer.post(&line_of(false), payment_on("40.00", "the other call", "2026-01-15")).await.expect(201);
    assert_eq!(by_another["status"], "applied");
    // the parts of a receipt have its source: what the same source tells beside them is other cash
    let [on_call, on_another] = [&call, &another].map(|call| {
        let is_it = |line: &&Value| line["investor_id"] == lines(&another)[0]["investor_id"];
        id(lines(call).iter().find(is_it).unwrap(), "id")
    });
    let receipt = json!({"fund_id": fund.id, "investor_id": lines(&another)[0]["investor_id"], "amount": "10.00", "method": "wire", "reference": "both",
                         "received_on": "2026-02-02", "source": "bank-eur", "external_reference": "R-1",
                         "parts": [{"line_id": on_call, "amount": "5.00"}, {"line_id": on_another, "amount": "5.00"}]});
    let receipt = office.treasurer.post("/receipts", receipt).await.expect(201);
    assert_eq!([0, 1].map(|place| receipt["payments"][place]["status"].as_str().unwrap()), ["applied", "applied"]);
    let beside = |source: &str| json!({"amount": "5.00", "method": "wire", "reference": "beside", "received_on": "2026-02-02", "source": source, "external_reference": "R-2"});
    for (source, status) in [("bank-eur", "applied"), ("another bank", "suspense")] {
        let recorded = office.treasurer.post(&format!("/call-lines/{on_another}/payments"), beside(source)).await.expect(201);
        assert_eq!(recorded["status"], status, "{source}");
    }
    assert_sums(&stack);
}

#[tokio::test]
async fn one_receipt_pays_several_lines_by_the_order_of_the_rules_or_as_it_says() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let investor = fund.investors[0];
    let receipt = |amount: &str, reference: &str| json!({"fund_id": fund.id, "investor_id": investor, "amount": amount, "method": "wire", "reference": reference, "received_on": "2026-01-15"});
    assert_eq!(office.treasurer.post("/receipts", receipt("10.00", "too early")).await.refused(409), "no_line_to_pay");
    let late = expenses(&office, &fund, "100.00", "2099-12-31").await;
    let soon = expenses(&office, &fund, "50.00", "2099-06-30").await;
    let paid = office.treasurer.post("/receipts", receipt("80.00", "one wire")).await.expect(201);
    let payments = paid["payments"].as_array().unwrap();
    let spread: Vec<(&Value, &Value)> = payments.iter().map(|payment| (&payment["call_id"], &payment["applied"])).collect();
    assert_eq!(spread, [(&soon["id"], &json!("50.00")), (&late["id"], &json!("30.00"))]);
    assert!(payments.iter().all(|payment| payment["receipt_id"] == paid["receipt_id"]));
    let late_line = id(&lines(&late)[0], "id");
    let mut said = receipt("75.00", "the rest and more");
    said["parts"] = json!([{"line_id": late_line, "amount": "74.00"}]);
    assert_eq!(office.treasurer.post("/receipts", said.clone()).await.refused(422), "receipt_mismatch");
    said["parts"] = json!([{"line_id": late_line, "amount": "75.00"}]);
    (said["source"], said["external_reference"]) = (json!("bank"), json!("R-1"));
    let more = office.treasurer.post("/receipts", said.clone()).await.expect(201);
    assert_eq!(more["payments"][0]["unapplied"], "5.00");
    assert_eq!(office.treasurer.post("/receipts", said.clone()).await.expect(201)["receipt_id"], more["receipt_id"], "reported again");
    said["amount"] = json!("76.00");
    said["parts"][0]["amount"] = json!("76.00");
    assert_eq!(office.treasurer.post("/receipts", said).await.refused(409), "external_reference_reused");
    // everything is paid: the cash is credit of the newest line
    let credit = office.treasurer.post("/receipts", receipt("3.00", "too much")).await.expect(201);
    assert_eq!(parts(&credit["payments"][0], &["applied", "unapplied"]), ["0.00", "3.00"]);
    let other = office.fund(1).await;
    let mut foreign = receipt("1.00", "someone else's line");
    (foreign["fund_id"], foreign["investor_id"]) = (json!(other.id), json!(other.investors[0]));
    foreign["parts"] = json!([{"line_id": late_line, "amount": "1.00"}]);
    assert_eq!(office.treasurer.post("/receipts", foreign).await.refused(422), "receipt_mismatch");
    assert_sums(&stack);
}

#[tokio::test]
async fn a_check_clears_later_charges_are_tolerated_and_methods_may_be_forbidden() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "200.00").await;
    let [first, second] = [0, 1].map(|place| id(&lines(&call)[place], "id"));
    let today = today();
    let check = |amount: &str| json!({"amount": amount, "method": "check", "reference": "no. 1042", "received_on": today});
    let mut of_next_year = check("1.00");
    of_next_year["received_on"] = json!(today + chrono::Days::new(365));
    let refused = office.treasurer.post(&format!("/call-lines/{first}/payments"), of_next_year).await;
    assert_eq!(refused.refused(422), "implausible_date", "default interest is not charged for a year that has not been");
    let paid = office.treasurer.post(&format!("/call-lines/{first}/payments"), check("130.00")).await.expect(201);
    assert_eq!(paid["clearing"], "clearing");
    assert!(paid["clears_on"].as_str().unwrap() > today.to_string().as_str(), "{paid:#}");
    assert_eq!(parts(&line(&office, first).await, &["status", "unapplied"]), ["overpaid", "30.00"]);
    let refund = json!({"reason": "paid too much"});
    assert_eq!(office.treasurer.post(&format!("/payments/{}/refunds", id(&paid, "id")), refund).await.refused(409), "not_cleared");
    let rules = json!({"short_payment_tolerance": "15.00", "payment_methods": ["wire"]});
    let in_force = async || {
        let refused = office.treasurer.post(&format!("/call-lines/{second}/payments"), check("0.01")).await;
        refused.status == 409 && refused.text("code") == "payment_method_not_allowed"
    };
    rule(&office, &fund, rules, in_force).await;
    let outstanding = line(&office, second).await["outstanding"].as_str().unwrap().parse::<domain::Amount>().unwrap();
    let short = (outstanding - "15.00".parse().unwrap()).to_string();
    let paid = office.treasurer.post(&format!("/call-lines/{second}/payments"), payment(&short, "less charges")).await.expect(201);
    assert_eq!(paid["status"], "applied");
    assert_eq!(parts(&line(&office, second).await, &["status", "outstanding", "charges"]), ["paid", "0.00", "15.00"]);
    // when it bounces, the charges are nothing that was paid
    let reversal = json!({"reason": "returned", "effective_on": "2026-01-20"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&paid, "id")), reversal).await.expect(200);
    assert_eq!(parts(&line(&office, second).await, &["outstanding", "charges"]), [outstanding.to_string().as_str(), "0.00"]);
    assert_sums(&stack);
}

#[tokio::test]
async fn credit_pays_the_next_call_and_comes_back_when_that_is_undone_or_goes_when_the_cash_bounces() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let one = expenses(&office, &fund, "100.00", "2099-06-30").await;
    let two = expenses(&office, &fund, "60.00", "2099-07-31").await;
    let [one, two] = [one, two].map(|call| id(&lines(&call)[0], "id"));
    let paid = office.pay(one, "150.00", "for both").await;
    let credit = format!("/payments/{}/credit", id(&paid, "id"));
    assert_eq!(office.treasurer.post(&credit, json!({"line_id": two, "amount": "50.01"})).await.refused(409), "no_credit");
    let moved = office.treasurer.post(&credit, json!({"line_id": two})).await.expect(201);
    assert_eq!(parts(&moved, &["amount", "applied", "method"]), ["50.00", "50.00", "internal_transfer"]);
    assert_eq!(moved["moved_from"], paid["id"]);
    assert_eq!(parts(&line(&office, one).await, &["paid", "unapplied"]), ["100.00", "0.00"]);
    assert_eq!(parts(&line(&office, two).await, &["paid", "outstanding"]), ["50.00", "10.00"]);
    let reversed = |from: &str| json!({"reason": "undone", "effective_on": from});
    let today = today().to_string();
    office.treasurer.post(&format!("/payments/{}/reverse", id(&moved, "id")), reversed(&today)).await.expect(200);
    assert_eq!(parts(&line(&office, one).await, &["paid", "unapplied"]), ["100.00", "50.00"]);
    assert_eq!(parts(&line(&office, two).await, &["paid", "outstanding"]), ["0.00", "60.00"]);
    office.treasurer.post(&credit, json!({"line_id": two, "amount": "20.00"})).await.expect(201);
    assert_sums(&stack);
    // the cash bounces: what its credit paid is not paid either
    office.treasurer.post(&format!("/payments/{}/reverse", id(&paid, "id")), reversed("2026-01-20")).await.expect(200);
    for (line_id, outstanding) in [(one, "100.00"), (two, "60.00")] {
        assert_eq!(parts(&line(&office, line_id).await, &["paid", "unapplied", "outstanding"]), ["0.00", "0.00", outstanding]);
    }
    assert_sums(&stack);
    office
        .manager
        .until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "0.00" && metrics["unapplied"] == "0.00")
        .await;
}

#[tokio::test]
async fn a_refund_is_kept_approved_and_paid_out_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line_id = id(&lines(&call)[0], "id");
    let paid = office.pay(line_id, "130.00", "too much").await;
    let refunds = format!("/payments/{}/refunds", id(&paid, "id"));
    let ask = |amount: &str| json!({"amount": amount, "reason": "paid too much"});
    assert_eq!(office.treasurer.post(&refunds, ask("30.01")).await.refused(409), "no_credit");
    // asked for ten times at once: the credit is kept for as many as there is credit for
    let asked = (0..10).map(|_| office.treasurer.post(&refunds, ask("10.00")));
    let accepted: Vec<Value> =
        futures::future::join_all(asked).await.into_iter().filter(|reply| reply.status == 202).map(|reply| reply.expect(202)).collect();
    assert_eq!(accepted.len(), 3);
    assert_eq!(line(&office, line_id).await["unapplied"], "0.00");
    let reversal = json!({"reason": "returned", "effective_on": "2026-01-20"});
    let reverse = format!("/payments/{}/reverse", id(&paid, "id"));
    assert_eq!(office.treasurer.post(&reverse, reversal.clone()).await.refused(409), "refund_pending");
    let refund = |place: usize| format!("/refunds/{}", id(&accepted[place], "refund_id"));
    let payout = json!({"paid_on": "2026-02-01", "reference": "refund 1"});
    assert_eq!(office.treasurer.post(&format!("{}/payout", refund(0)), payout.clone()).await.refused(409), "refund_not_approved");
    let vote = async |place: usize, decision: &str| {
        let page = format!("/approvals?status=pending&subject_id={}", id(&accepted[place], "refund_id"));
        let page = office.ann.until(&page, |page| !items(page).is_empty()).await;
        let vote = format!("/approvals/{}/votes", id(&items(&page)[0], "id"));
        office.ann.post(&vote, json!({"decision": decision})).await.expect(200);
    };
    vote(0, "approve").await;
    vote(1, "deny").await;
    office.manager.until(&refund(0), |refund| refund["status"] == "approved").await;
    office.manager.until(&refund(1), |refund| refund["status"] == "cancelled").await;
    let cancelled = office.treasurer.post(&format!("{}/cancel", refund(2)), json!({"reason": "used for the next call"})).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    let workflow = format!("/workflows/{}", id(&accepted[2], "workflow_id"));
    office.manager.until(&workflow, |workflow| workflow["status"] == "failed").await;
    assert_eq!(line(&office, line_id).await["unapplied"], "20.00", "what was denied or cancelled is credit again");
    office.treasurer.post(&format!("{}/payout", refund(0)), payout.clone()).await.expect(200);
    assert_eq!(office.treasurer.post(&format!("{}/payout", refund(0)), payout).await.refused(409), "refund_not_pending");
    // what went back is owed when the cash bounces
    let reversed = office.treasurer.post(&reverse, reversal).await.expect(200);
    assert_eq!(reversed["reversal"]["owed_back"], "10.00");
    assert_sums(&stack);
}

#[tokio::test]
async fn what_was_refunded_of_credit_that_moved_twice_does_not_come_back() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let mut line_ids = Vec::new();
    for due_on in ["2099-06-30", "2099-07-31", "2099-08-31"] {
        let call = expenses(&office, &fund, "100.00", due_on).await;
        line_ids.push(id(&lines(&call)[0], "id"));
    }
    let [first, second, third] = line_ids[..] else { panic!("three lines") };
    let paid = office.pay(first, "200.00", "too much").await;
    let credit = async |payment: &Value, line: Uuid| {
        let path = format!("/payments/{}/credit", id(payment, "id"));
        office.treasurer.post(&path, json!({"line_id": line, "amount": "100.00"})).await.expect(201)
    };
    // what is found later to have been paid before makes credit of what was there
    let moved = credit(&paid, second).await;
    office.pay(second, "100.00", "found later").await;
    let again = credit(&moved, third).await;
    office.pay(third, "100.00", "found later too").await;
    let refund = json!({"amount": "30.00", "reason": "paid too much"});
    let refund = office.treasurer.post(&format!("/payments/{}/refunds", id(&again, "id")), refund).await.expect(202);
    let refund = format!("/refunds/{}", id(&refund, "refund_id"));
    let pending = format!("/approvals?status=pending&subject_id={}", id(&office.manager.get(&refund).await.expect(200), "id"));
    let approval = id(&items(&office.ann.until(&pending, |page| !items(page).is_empty()).await)[0], "id");
    office.ann.post(&format!("/approvals/{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
    office.manager.until(&refund, |refund| refund["status"] == "approved").await;
    office.treasurer.post(&format!("{refund}/payout"), json!({"paid_on": "2026-02-01", "reference": "30"})).await.expect(200);
    let undone = json!({"reason": "undone", "effective_on": today().to_string()});
    for payment in [&moved, &again] {
        let reversed = office.treasurer.post(&format!("/payments/{}/reverse", id(payment, "id")), undone.clone()).await;
        assert_eq!(reversed.refused(409), "no_credit");
    }
    assert_sums(&stack);
}

#[tokio::test]
async fn cash_pays_by_its_value_dates_whenever_it_was_recorded() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let call = expenses(&office, &fund, "100.00", "2026-06-01").await;
    let line_id = id(&lines(&call)[0], "id");
    let pay = async |amount: &str, on: &str| {
        let payment = payment_on(amount, &format!("cash of {on}"), on);
        office.treasurer.post(&format!("/call-lines/{line_id}/payments"), payment).await.expect(201)
    };
    let then = async || {
        let line = office.auditor.get(&format!("/call-lines/{line_id}?as_of=2026-08-02")).await.expect(200);
        let history =
            line["overdue_history"].as_array().unwrap().iter().map(|step| parts(step, &["from", "outstanding"]).join(" ")).collect();
        let on_the_way = office.auditor.get(&format!("/call-lines/{line_id}?as_of=2026-07-01")).await.expect(200);
        (on_the_way["standing"]["outstanding"].as_str().unwrap().to_owned(), line["last_paid_on"].as_str().unwrap().to_owned(), history)
    };
    let standing = |outstanding: &str, last: &str, history: &[&str]| -> (String, String, Vec<String>) {
        (outstanding.into(), last.into(), history.iter().map(|step| (*step).to_owned()).collect())
    };
    let late = pay("100.00", "2026-08-01").await;
    let as_recorded = standing("100.00", "2026-08-01", &["2026-06-01 100.00", "2026-08-01 0.00"]);
    assert_eq!(then().await, as_recorded);
    let early = pay("60.00", "2026-05-20").await;
    assert_eq!(parts(&early, &["applied", "unapplied"]), ["60.00", "0.00"]);
    assert_eq!(then().await, standing("40.00", "2026-08-01", &["2026-06-01 40.00", "2026-08-01 0.00"]));
    let credit = office.auditor.get(&format!("/payments/{}", id(&late, "id"))).await.expect(200);
    assert_eq!(parts(&credit, &["applied", "unapplied", "status"]), ["40.00", "60.00", "overpaid"]);
    // days to fund, and what was paid in time, go by it
    let in_time = |metrics: &Value| metrics["unapplied"] == "60.00" && metrics["paid_in"] == "100.00";
    office.manager.until(&format!("/funds/{}/metrics", fund.id), in_time).await;
    // when the early one bounces, the late one has paid all of it
    let bounced = json!({"reason": "returned", "effective_on": "2026-05-22"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&early, "id")), bounced).await.expect(200);
    assert_eq!(then().await, as_recorded);
    // many at once, in no order
    let batch: Vec<Value> = [("30.00", "2026-05-25"), ("50.00", "2026-05-10"), ("20.00", "2026-05-15")]
        .iter()
        .map(|(amount, on)| {
            let mut payment = payment_on(amount, &format!("cash of {on}"), on);
            payment["line_id"] = json!(line_id);
            payment
        })
        .collect();
    office.treasurer.post("/payments/batch", json!({"payments": batch})).await.expect(200);
    assert_eq!(then().await, standing("0.00", "2026-05-25", &["2026-06-01 0.00"]));
    assert_sums(&stack);
}

#[tokio::test]
async fn what_is_short_counts_as_charges_only_while_all_of_the_cash_is_short_by_no_more() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 4, "400.00").await;
    let path = format!("/rules/fund:{}", fund.id);
    let version = office.admin.put(&path, json!({"short_payment_tolerance": "5.00"})).await.expect(200)["version"].clone();
    let known = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log("capital-calls").contains(&known) }).await);
    let pay = async |at: usize, amount: &str, received_on: &str| {
        let path = format!("/call-lines/{}/payments", id(&lines(&call)[at], "id"));
        id(&office.treasurer.post(&path, payment_on(amount, amount, received_on)).await.expect(201), "id")
    };
    let figures = async |at: usize| {
        let line = line(&office, id(&lines(&call)[at], "id")).await;
        ["paid", "outstanding", "charges", "unapplied"].map(|figure| line[figure].as_str().unwrap().to_owned())
    };
    // whichever is recorded first
    for (at, [first, second]) in
        [(0, [("98.00", "2026-01-10"), ("100.00", "2026-01-05")]), (1, [("100.00", "2026-01-05"), ("98.00", "2026-01-10")])]
    {
        pay(at, first.0, first.1).await;
        pay(at, second.0, second.1).await;
        assert_eq!(figures(at).await, ["100.00", "0.00", "0.00", "98.00"], "{at}");
    }
    // what was short comes
    pay(2, "98.00", "2026-01-10").await;
    assert_eq!(figures(2).await, ["100.00", "0.00", "2.00", "0.00"]);
    pay(2, "2.00", "2026-01-11").await;
    assert_eq!(figures(2).await, ["100.00", "0.00", "0.00", "0.00"]);
    // what was paid before is gone
    let gone = pay(3, "60.00", "2026-01-05").await;
    pay(3, "38.00", "2026-01-06").await;
    assert_eq!(figures(3).await, ["100.00", "0.00", "2.00", "0.00"]);
    let bounced = json!({"reason": "returned", "effective_on": "2026-01-20"});
    office.treasurer.post(&format!("/payments/{gone}/reverse"), bounced).await.expect(200);
    assert_eq!(figures(3).await, ["38.00", "62.00", "0.00", "0.00"]);
    // both in one request
    let both: Vec<Value> = [("2.00", "2026-01-12"), ("57.00", "2026-01-07"), ("3.00", "2026-01-08")]
        .iter()
        .map(|(amount, on)| payment_to(&lines(&call)[3], amount, on))
        .collect();
    office.treasurer.post("/payments/batch", json!({"payments": both})).await.expect(200);
    assert_eq!(figures(3).await, ["100.00", "0.00", "0.00", "0.00"]);
    assert_sums(&stack);
    let metrics = |metrics: &Value| metrics["paid_in"] == "400.00" && metrics["unapplied"] == "196.00";
    office.manager.until(&format!("/funds/{}/metrics", fund.id), metrics).await;
}

#[tokio::test]
async fn ten_thousand_payments_are_recorded_in_one_request() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 20, "500000.00").await;
    let another = expenses(&office, &fund, "100.00", "2099-12-31").await;
    let of_line = |line: &Value| (1..=500).map(|part| payment_to(line, &format!("{part}.00"), "2026-01-15")).collect::<Vec<_>>();
    let payments: Vec<Value> = lines(&call).iter().flat_map(of_line).collect();
    let recorded = office.treasurer.post("/payments/batch", json!({"payments": payments})).await.expect(200);
    assert_eq!((recorded["accepted"].as_i64(), recorded["refused"].as_i64()), (Some(10_000), Some(0)));
    // more than is called of each, 25,000.00, is credit
    let metrics = |metrics: &Value| metrics["paid_in"] == "500000.00" && metrics["unapplied"] == "2005000.00";
    office.manager.until(&format!("/funds/{}/metrics", fund.id), metrics).await;
    // each that is back-dated has all others of its line pay anew: there are not as many in one request
    let back_dated: Vec<Value> = (1..=501).map(|part| payment_to(&lines(&call)[0], &format!("{part}.01"), "2026-01-14")).collect();
    let recorded = office.treasurer.post_patiently("/payments/batch", "back-dated", &json!({"payments": back_dated})).await.expect(200);
    assert_eq!((recorded["accepted"].as_i64(), recorded["refused"].as_i64()), (Some(500), Some(1)));
    assert_eq!(recorded["outcomes"][500]["problem"]["code"], "request_too_large");
    // as many that look alike, and again as many that look like those
    for batch in ["first", "second"] {
        let instalment = |number: i32| {
            let mut instalment = payment_to(&lines(&another)[1], "0.01", "2026-01-15");
            instalment["reference"] = json!(format!("{batch} {number}"));
            (instalment["source"], instalment["external_reference"]) = (json!("bank"), json!(format!("{batch} {number}")));
            instalment
        };
        let payments: Vec<Value> = (0..10_000).map(instalment).collect();
        let recorded = office.treasurer.post_patiently("/payments/batch", batch, &json!({"payments": payments})).await.expect(200);
        assert_eq!(recorded["accepted"], 10_000, "{batch}");
    }
    assert_sums(&stack);
}

fn payment_to(line: &Value, amount: &str, received_on: &str) -> Value {
    let mut payment = payment_on(amount, &format!("part of {amount}"), received_on);
    payment["line_id"] = line["id"].clone();
    payment
}

#[tokio::test]
async fn credit_of_a_cancelled_refund_pays_what_is_open() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line_id = id(&lines(&call)[0], "id");
    let first = office.pay(line_id, "100.00", "first").await;
    let second = office.pay(line_id, "50.00", "second").await;
    let ask = json!({"amount": "50.00", "reason": "paid too much"});
    let refund = office.treasurer.post(&format!("/payments/{}/refunds", id(&second, "id")), ask).await.expect(202);
    let bounced = json!({"reason": "returned", "effective_on": "2026-01-20"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&first, "id")), bounced).await.expect(200);
    assert_eq!(parts(&line(&office, line_id).await, &["paid", "unapplied", "outstanding"]), ["0.00", "0.00", "100.00"]);
    let cancel = format!("/refunds/{}/cancel", id(&refund, "refund_id"));
    office.treasurer.post(&cancel, json!({"reason": "it is owed"})).await.expect(200);
    assert_eq!(parts(&line(&office, line_id).await, &["paid", "unapplied", "outstanding"]), ["50.00", "0.00", "50.00"]);
    let view = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!(view["paid"], "50.00");
    assert_sums(&stack);
}
