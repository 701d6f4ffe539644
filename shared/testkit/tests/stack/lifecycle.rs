//! The main job, end to end.

use std::time::Duration;

use serde_json::json;
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, id, items, lines, payment, sum};

#[tokio::test]
async fn from_a_deal_event_to_a_funded_allocation_and_back_by_a_reversal() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(3).await;
    let deal = office.deal(&stack).await;

    // proposed by mia, who may not vote, not even with the role
    let proposal = json!({"deal_id": deal, "fund_id": fund.id, "amount": "1000000.00", "security_type": "equity"});
    let accepted = office.manager.post("/allocations", proposal).await.expect(202);
    let allocation = id(&accepted, "allocation_id");
    let workflow = format!("/workflows/{}", id(&accepted, "workflow_id"));
    let waiting = office.manager.get(&workflow).await.expect(200);
    assert_eq!(waiting["status"], "waiting");
    let pending = office.ann.get("/approvals?status=pending").await.expect(200);
    let approval = format!("/approvals/{}", id(&items(&pending)[0], "id"));
    let own_vote = stack.user("mia", &["committee"]).post(&format!("{approval}/votes"), json!({"decision": "approve"})).await;
    assert_eq!(own_vote.refused(403), "requester_may_not_vote");
    office.ann.post(&format!("{approval}/votes"), json!({"decision": "approve", "comment": "fine"})).await.expect(200);
    let again = office.ann.post(&format!("{approval}/votes"), json!({"decision": "approve"})).await;
    assert_eq!(again.refused(409), "already_voted");
    let granted = office.bob.post(&format!("{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
    assert_eq!(granted["status"], "approved");
    let completed = office.manager.until(&workflow, |workflow| workflow["status"] == "completed").await;
    assert_eq!(completed["progress"], 100);
    for step in completed["steps"].as_array().unwrap() {
        assert_eq!(step["status"], "done", "{step:#}");
        assert!(step["finished_at"].is_string(), "{step:#}");
    }
    let active = office.manager.get(&format!("/allocations/{allocation}")).await.expect(200);
    assert_eq!((active["decision"].as_str(), active["status"].as_str()), (Some("active"), Some("committed")));

    // 100.00 over three equal commitments
    let call = office.call(&fund, allocation, "100.00", "2099-12-31").await;
    let mut amounts: Vec<&str> = lines(&call).iter().map(|line| line["amount"].as_str().unwrap()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, ["33.33", "33.33", "33.34"]);
    let call_path = format!("/capital-calls/{}", id(&call, "id"));
    let allocation_path = format!("/allocations/{allocation}");
    office.manager.until(&allocation_path, |allocation| allocation["status"] == "unfunded" && allocation["called"] == "100.00").await;

    // each payment is sent three times with its key, and once with another body
    let mut payments = Vec::new();
    for (number, line) in lines(&call).iter().enumerate() {
        let path = format!("/call-lines/{}/payments", id(line, "id"));
        let key = format!("payment-{number}");
        let body = payment(line["amount"].as_str().unwrap(), "first");
        let first = office.treasurer.post_as(&path, &key, body.clone()).await;
        assert!(!first.replayed);
        for _ in 0..2 {
            let repeated = office.treasurer.post_as(&path, &key, body.clone()).await;
            assert!(repeated.replayed);
            assert_eq!((repeated.status, &repeated.body), (201, &first.body));
        }
        let other = office.treasurer.post_as(&path, &key, payment("1.00", "first")).await;
        assert_eq!(other.refused(409), "idempotency_key_reused");
        payments.push(first.expect(201));
    }
    let funded = office.manager.get(&call_path).await.expect(200);
    assert_eq!((funded["status"].as_str(), funded["paid"].as_str()), (Some("funded"), Some("100.00")));
    office.manager.until(&allocation_path, |allocation| allocation["status"] == "funded").await;
    let metrics_path = format!("/funds/{}/metrics", fund.id);
    let metrics = office.manager.until(&metrics_path, |metrics| metrics["paid_in"] == "100.00" && metrics["allocations"] == 1).await;
    for (figure, expected) in [
        ("committed", "3000000.00"),
        ("called", "100.00"),
        ("outstanding", "0.00"),
        ("overdue", "0.00"),
        ("unfunded", "2999900.00"),
        ("allocated", "1000000.00"),
    ] {
        assert_eq!(metrics[figure], expected, "{figure}");
    }
    assert_eq!((metrics["lines"].as_i64(), metrics["lines_paid"].as_i64(), metrics["commitments"].as_i64()), (Some(3), Some(3), Some(3)));

    // one wire bounces
    let reversal = json!({"reason": "wire bounced", "effective_on": "2026-01-20"});
    let path = format!("/payments/{}/reverse", id(&payments[0], "id"));
    let reversed = office.treasurer.post(&path, reversal.clone()).await.expect(200);
    assert_eq!(reversed["status"], "reversed");
    assert_eq!(office.treasurer.post(&path, reversal).await.refused(409), "payment_reversed");
    let open = office.manager.get(&call_path).await.expect(200);
    assert_eq!(open["status"], "partially_funded");
    let reopened = lines(&open).iter().find(|line| line["id"] == payments[0]["line_id"]).unwrap();
    assert_eq!((reopened["status"].as_str(), reopened["paid"].as_str()), (Some("open"), Some("0.00")));
    office.manager.until(&allocation_path, |allocation| allocation["status"] == "partially_paid").await;
    office.manager.until(&metrics_path, |metrics| metrics["lines_paid"] == 2).await;

    // the refused vote is on record, and the chain holds
    let refusals = office
        .auditor
        .until("/audit/records?aggregate=access&actor=mia", |page| {
            items(page).iter().any(|record| record["body"]["state"]["reason"] == "requester_may_not_vote")
        })
        .await;
    assert!(!items(&refusals).is_empty());
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

#[tokio::test]
async fn a_denied_allocation_gives_its_capacity_back_and_says_why() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("2000000", 1, "2000000").await;
    let deal = office.deal(&stack).await;
    let proposal = json!({"deal_id": deal, "fund_id": fund.id, "amount": "2000000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", proposal.clone()).await.expect(202);
    assert_eq!(office.analyst.get(&format!("/funds/{}", fund.id)).await.expect(200)["status"], "fully_allocated");
    let pending = office.ann.get("/approvals?status=pending").await.expect(200);
    let path = format!("/approvals/{}/votes", id(&items(&pending)[0], "id"));
    assert_eq!(office.ann.post(&path, json!({"decision": "deny", "comment": "too dear"})).await.expect(200)["status"], "denied");
    assert_eq!(office.bob.post(&path, json!({"decision": "approve"})).await.refused(409), "approval_decided");
    let workflow =
        office.analyst.until(&format!("/workflows/{}", id(&accepted, "workflow_id")), |workflow| workflow["status"] == "failed").await;
    assert_eq!(workflow["error"]["code"], "approval_denied");
    assert!(workflow["error"]["recommendation"].as_str().is_some_and(|text| !text.is_empty()));
    let steps: Vec<(&str, &str)> = workflow["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), step["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [("validate", "done"), ("approve", "failed"), ("activate", "skipped"), ("request_stage", "skipped"), ("give_back", "done")]
    );
    assert_eq!(office.analyst.get(&format!("/allocations/{}", id(&accepted, "allocation_id"))).await.expect(200)["status"], "denied");
    assert_eq!(office.analyst.get(&format!("/funds/{}", fund.id)).await.expect(200)["allocated"], "0.00");
    office.analyst.post("/allocations", proposal).await.expect(202);
}

#[tokio::test]
async fn a_call_above_the_tier_waits_for_the_committee_and_a_call_is_split_over_its_purposes() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 3, "1000000").await;
    let allocation = office.allocation(&stack, &fund, "900000").await;
    let purposes = json!([
        {"kind": "investment", "allocation_id": allocation, "amount": "900000.01", "inside_commitment": true},
        {"kind": "management_fee", "amount": "200000.01", "inside_commitment": false},
    ]);
    let path = format!("/funds/{}/capital-calls", fund.id);
    let call = |purposes| json!({"purposes": purposes, "due_on": "2099-12-31", "priority": "high"});
    assert_eq!(office.manager.post(&path, call(purposes)).await.refused(409), "call_exceeds_allocation");
    let purposes = json!([
        {"kind": "investment", "allocation_id": allocation, "amount": "900000.00", "inside_commitment": true},
        {"kind": "management_fee", "amount": "200000.01", "inside_commitment": false},
    ]);
    let preview = office
        .manager
        .post("/capital-calls/preview", json!({"fund_id": fund.id, "purposes": purposes, "due_on": "2099-12-31"}))
        .await
        .expect(200);
    let accepted = office.manager.post(&path, call(purposes)).await.expect(202);
    let call_id = id(&accepted, "capital_call_id");
    let call_path = format!("/capital-calls/{call_id}");
    assert_eq!(office.manager.get(&call_path).await.expect(200)["status"], "pending_approval");
    assert!(lines(&office.manager.get(&call_path).await.expect(200)).is_empty(), "no line before the approval");
    office.approve(call_id).await;
    let issued = office.manager.until(&call_path, |call| call["status"] == "issued").await;
    assert_eq!(sum(lines(&issued), "amount").to_string(), "1100000.01");
    assert_eq!(sum(lines(&issued), "impact_on_unfunded").to_string(), "-900000.00");
    let mut expected: Vec<String> = lines(&preview).iter().map(|line| line["amount"].to_string()).collect();
    let mut amounts: Vec<String> = lines(&issued).iter().map(|line| line["amount"].to_string()).collect();
    expected.sort();
    amounts.sort();
    assert_eq!(amounts, expected, "the preview told the lines");
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["called"] == "900000.00").await;
    office
        .manager
        .until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["called"] == "1100000.01" && metrics["unfunded"] == "2100000.00")
        .await;
}

#[tokio::test]
async fn partial_full_over_and_duplicate_payments() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    let call_path = format!("/capital-calls/{}", id(&call, "id"));
    let partial = office.pay(line, "40.00", "a").await;
    assert_eq!((partial["applied"].as_str(), partial["unapplied"].as_str()), (Some("40.00"), Some("0.00")));
    let view = office.manager.get(&call_path).await.expect(200);
    assert_eq!((lines(&view)[0]["status"].as_str(), lines(&view)[0]["outstanding"].as_str()), (Some("partially_paid"), Some("60.00")));
    let sent = payment("75.50", "b");
    let over = office.treasurer.post(&format!("/call-lines/{line}/payments"), sent.clone()).await.expect(201);
    assert_eq!(
        (over["status"].as_str(), over["applied"].as_str(), over["unapplied"].as_str()),
        (Some("overpaid"), Some("60.00"), Some("15.50"))
    );
    let duplicate = office.treasurer.post(&format!("/call-lines/{line}/payments"), sent).await;
    assert_eq!(duplicate.refused(409), "duplicate_payment");
    let view = office.manager.get(&call_path).await.expect(200);
    assert_eq!((view["status"].as_str(), lines(&view)[0]["status"].as_str()), (Some("funded"), Some("overpaid")));
    office
        .manager
        .until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["unapplied"] == "15.50" && metrics["paid_in"] == "100.00")
        .await;
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["paid"] == "100.00").await;
    let listed = office.treasurer.get(&format!("/payments?line_id={line}&limit=1")).await.expect(200);
    assert_eq!(items(&listed)[0]["id"], over["id"]);
    let next = office
        .treasurer
        .get(&format!("/payments?line_id={line}&limit=1&cursor={}", listed["next_cursor"].as_str().unwrap()))
        .await
        .expect(200);
    assert_eq!((items(&next)[0]["id"].clone(), next["next_cursor"].is_null()), (partial["id"].clone(), true));
}

#[tokio::test]
async fn payments_in_one_request_are_accepted_or_refused_each_by_itself_and_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "100.00").await;
    let [first, second] = [0, 1].map(|place| id(&lines(&call)[place], "id"));
    let of = |line: Uuid, amount: &str, reference: &str| {
        let mut payment = payment(amount, reference);
        payment["line_id"] = json!(line);
        payment
    };
    let all = of(second, "50.00", "d");
    let body = json!({"payments": [
        of(first, "20.00", "a"), of(Uuid::nil(), "1.00", "b"), of(first, "40.00", "c"), all,
        // the same again, one on top of the other: nothing is outstanding, so it is the same cash
        all, of(second, "0.001", "e"),
    ]});
    let answer = office.treasurer.post_as("/payments/batch", "batch", body.clone()).await;
    let recorded = answer.clone().expect(200);
    assert_eq!((recorded["accepted"].as_i64(), recorded["refused"].as_i64()), (Some(3), Some(3)));
    let outcomes: Vec<&str> = recorded["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| outcome["problem"]["code"].as_str().unwrap_or_else(|| outcome["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, ["accepted", "unknown_call_line", "accepted", "accepted", "duplicate_payment", "amount_precision"]);
    assert_eq!((&recorded["outcomes"][2]["applied"], &recorded["outcomes"][2]["unapplied"]), (&json!("30.00"), &json!("10.00")));
    let again = office.treasurer.post_as("/payments/batch", "batch", body).await;
    assert_eq!((again.replayed, again.body), (true, answer.body), "the same key gives the same answer and changes nothing");
    let other = office.treasurer.post_as("/payments/batch", "batch", json!({"payments": [of(first, "1.00", "x")]})).await;
    assert_eq!(other.refused(409), "idempotency_key_reused");
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "100.00" && metrics["unapplied"] == "10.00").await;
    let refused = "/audit/records?subject=tranche.access.refused&actor=tom";
    let records = office.auditor.until(refused, |page| items(page).len() >= 4).await;
    assert_eq!(items(&records).len(), 4, "each refusal is recorded: three of the batch, and the reused key");
    let many = json!({"payments": vec![of(first, "1.00", "x"); 10_001]});
    assert_eq!(office.treasurer.post("/payments/batch", many).await.refused(413), "request_too_large");
    assert_eq!(office.treasurer.post("/payments/batch", json!({"payments": []})).await.refused(400), "malformed_request");
    let wrong = office.treasurer.post("/payments/batch", json!({"payments": [{"line_id": first, "amount": 5}]})).await;
    assert!(wrong.text("detail").starts_with("payments[0].amount: "), "{:#}", wrong.body);
    assert_eq!(office.analyst.post("/payments/batch", json!({"payments": []})).await.refused(403), "forbidden");
}

#[tokio::test]
async fn overdue_follows_the_business_date() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let due_on = (chrono::DateTime::from_timestamp_millis(time_now()).unwrap().date_naive() + chrono::Days::new(10)).to_string();
    let call = office.call(&fund, allocation, "100.00", &due_on).await;
    let call_path = format!("/capital-calls/{}", id(&call, "id"));
    let metrics_path = format!("/funds/{}/metrics", fund.id);
    assert!(lines(&call).iter().all(|line| line["timing"] == "not_due"));
    office.pay(id(&lines(&call)[0], "id"), "50.00", "in time").await;
    let timing =
        |wanted: &'static str| move |call: &serde_json::Value| lines(call).iter().filter(|line| line["timing"] == wanted).count() == 1;
    for (days, wanted) in [(10, "due"), (11, "grace"), (41, "overdue")] {
        stack.set_clock(days * 86_400).await;
        office.manager.until(&call_path, timing(wanted)).await;
    }
    let metrics = office.manager.until(&metrics_path, |metrics| metrics["overdue"] == "50.00").await;
    assert_eq!((metrics["lines_overdue"].as_i64(), metrics["collection_rate"].as_str()), (Some(1), Some("0.5")));
    office.pay(id(&lines(&call)[1], "id"), "50.00", "late").await;
    office.manager.until(&metrics_path, |metrics| metrics["overdue"] == "0.00" && metrics["collection_rate"] == "1").await;
}

fn time_now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[tokio::test]
async fn a_partition_of_the_event_log_that_is_missing_is_made_while_the_service_runs() {
    let stack = Stack::start().await;
    let database = stack.database().await;
    let newest = "select max(inhrelid::regclass::text) from pg_inherits where inhparent = 'audit.event_log'::regclass";
    let partition: String = sqlx::query_scalar(newest).fetch_one(&database).await.unwrap();
    sqlx::raw_sql(&format!("drop table {partition}")).execute(&database).await.unwrap();
    let is_back = || async { sqlx::query_scalar::<_, String>(newest).fetch_one(&database).await.unwrap() == partition };
    assert!(!is_back().await);
    assert!(testkit::wait::until(Duration::from_secs(30), is_back).await);
}
