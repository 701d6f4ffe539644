//! The life of a capital call: drafted, revised, issued, amended, cancelled, rescinded; and who pays what of it.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Fund, Office, id, items, lines, payment, today};

fn expenses(amount: &str, due_on: &str) -> Value {
    json!({"purposes": [{"kind": "expenses", "amount": amount, "inside_commitment": true}], "due_on": due_on})
}

async fn submit(office: &Office, fund: &Fund, call: Value) -> (Uuid, String, Value) {
    let accepted = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), call).await.expect(202);
    let call_id = id(&accepted, "capital_call_id");
    (call_id, format!("/capital-calls/{call_id}"), accepted)
}

fn items_of<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap_or_else(|| panic!("no {field} in {value:#}"))
}

fn amounts(call: &Value, field: &str) -> Vec<String> {
    lines(call).iter().map(|line| line[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_draft_is_revised_submitted_revised_again_and_issued_as_it_was_approved() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let mut draft = expenses("600000.00", "2099-06-30");
    draft["draft"] = json!(true);
    let (call_id, call, accepted) = submit(&office, &fund, draft).await;
    assert_eq!(office.manager.get(&call).await.expect(200)["status"], "draft");
    let revised =
        json!({"purposes": [{"kind": "expenses", "amount": "1200000.00", "inside_commitment": true}], "reason": "more is needed"});
    office.manager.post(&format!("{call}/amend"), revised.clone()).await.expect(202);
    assert_eq!(office.manager.post(&format!("{call}/amend"), revised).await.refused(422), "nothing_amended");
    office.treasurer.post(&format!("{call}/submit"), json!({})).await.refused(403);
    let stale = json!({"written_from": "what the draft said before"});
    assert_eq!(office.manager.post(&format!("{call}/submit"), stale).await.refused(409), "call_says_otherwise");
    let read = json!({"written_from": office.manager.get(&call).await.expect(200)["content_hash"]});
    office.manager.post(&format!("{call}/submit"), read).await.expect(202);
    assert_eq!(office.manager.post(&format!("{call}/submit"), json!({})).await.refused(409), "call_not_draft");
    // one vote, then the content changes: the vote is void, and both must vote on the other content
    let pending = format!("/approvals?status=pending&subject_id={call_id}");
    let first = id(&items(&office.ann.until(&pending, |page| !items(page).is_empty()).await)[0], "id");
    office.ann.post(&format!("/approvals/{first}/votes"), json!({"decision": "approve"})).await.expect(200);
    let urgent = json!({"due_on": "2099-07-31", "priority": "urgent", "reason": "closing moved"});
    office.manager.post(&format!("{call}/amend"), urgent).await.expect(202);
    let second = office.ann.until(&pending, |page| items(page).first().is_some_and(|approval| id(approval, "id") != first)).await;
    assert_eq!((items(&second).len(), &items(&second)[0]["priority"]), (1, &json!("urgent")));
    assert_eq!(
        office.bob.post(&format!("/approvals/{first}/votes"), json!({"decision": "approve"})).await.refused(409),
        "approval_decided"
    );
    assert_eq!(office.ann.get(&format!("/approvals/{first}")).await.expect(200)["status"], "voided");
    office.approve(call_id).await;
    let issued = office.manager.until(&call, |call| call["decision"] == "issued").await;
    assert_eq!((issued["due_on"].as_str(), amounts(&issued, "amount")), (Some("2099-07-31"), vec!["600000.00".into(), "600000.00".into()]));
    office.manager.until(&format!("/workflows/{}", id(&accepted, "workflow_id")), |workflow| workflow["status"] == "completed").await;
    assert_eq!(office.manager.post(&format!("{call}/cancel"), json!({"reason": "late"})).await.refused(409), "call_not_cancellable");
}

#[tokio::test]
async fn what_is_cancelled_before_its_issue_ends_its_workflow_and_its_approval() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let (call_id, call, accepted) = submit(&office, &fund, expenses("1500000.00", "2099-06-30")).await;
    let pending = format!("/approvals?status=pending&subject_id={call_id}");
    office.ann.until(&pending, |page| !items(page).is_empty()).await;
    office.manager.post(&format!("{call}/cancel"), json!({"reason": ""})).await.refused(422);
    let cancelled = office.manager.post(&format!("{call}/cancel"), json!({"reason": "the deal fell through"})).await.expect(200);
    assert_eq!((&cancelled["status"], &cancelled["decided_because"]), (&json!("cancelled"), &json!("the deal fell through")));
    let workflow =
        office.manager.until(&format!("/workflows/{}", id(&accepted, "workflow_id")), |workflow| workflow["status"] == "failed").await;
    assert_eq!(workflow["error"]["code"], "withdrawn", "{workflow:#}");
    office.ann.until(&pending, |page| items(page).is_empty()).await;
    assert_eq!(office.manager.post(&format!("{call}/rescind"), json!({"reason": "?"})).await.refused(409), "call_not_issued");
    office.manager.post(&format!("/capital-calls/{}/cancel", Uuid::nil()), json!({"reason": "?"})).await.refused(404);
}

#[tokio::test]
async fn an_amendment_moves_the_differences_and_a_rescission_gives_everything_back() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let issued = office.call(&fund, allocation, "1000.00", "2099-06-30").await;
    let call = format!("/capital-calls/{}", id(&issued, "id"));
    let first = id(&lines(&issued)[0], "id");
    office.pay(first, "450.00", "in time").await;
    // both halves become 400: what was paid above that is credit, then 700: the credit pays for it
    let amended_to = |amount: &str| json!({"purposes": [{"kind": "investment", "allocation_id": allocation, "amount": amount, "inside_commitment": true}], "reason": "the price changed"});
    let states = [("800.00", ["400.00", "50.00", "0.00"], "400.00"), ("1400.00", ["450.00", "0.00", "250.00"], "450.00")];
    for (number, (amount, [paid, unapplied, outstanding], in_all)) in (1..).zip(states) {
        office.manager.post(&format!("{call}/amend"), amended_to(amount)).await.expect(202);
        let amended = office.manager.until(&call, |call| call["amendment"] == number).await;
        let line = lines(&amended).iter().find(|line| id(line, "id") == first).unwrap();
        let found = [&line["paid"], &line["unapplied"], &line["outstanding"]].map(|value| value.as_str().unwrap());
        assert_eq!((found, amended["paid"].as_str()), ([paid, unapplied, outstanding], Some(in_all)), "{amended:#}");
        let metrics = |metrics: &Value| metrics["called"] == amount && metrics["paid_in"] == paid && metrics["unapplied"] == unapplied;
        office.manager.until(&format!("/funds/{}/metrics", fund.id), metrics).await;
        office.manager.until(&format!("/allocations/{allocation}"), |of| of["called"] == amount && of["paid"] == paid).await;
    }
    assert_eq!(office.manager.post(&format!("{call}/amend"), amended_to("500001.00")).await.refused(409), "call_exceeds_allocation");
    // what cannot be placed, and what changes nothing, is refused when it is asked for
    let too_much = json!({"purposes": [{"kind": "expenses", "amount": "99000000.00", "inside_commitment": true}], "reason": "far more"});
    let refused = office.manager.post(&format!("{call}/amend"), too_much).await;
    assert_eq!(refused.refused(409), "call_exceeds_unfunded");
    assert_eq!(office.manager.post(&format!("{call}/amend"), amended_to("1400.00")).await.refused(422), "nothing_amended");
    // one that must be voted on waits, and nothing else may be asked for meanwhile; it may be given up
    let large = json!({"purposes": [{"kind": "expenses", "amount": "1000000.00", "inside_commitment": true}], "reason": "more"});
    office.manager.post(&format!("{call}/amend"), large.clone()).await.expect(202);
    assert_eq!(office.manager.post(&format!("{call}/amend"), large).await.refused(409), "amendment_pending");
    let kept = office.manager.post(&format!("{call}/cancel"), json!({"reason": "no more"})).await.expect(200);
    assert_eq!((&kept["status"], &kept["amending"]), (&json!("partially_funded"), &Value::Null));

    let rescinded = office.manager.post(&format!("{call}/rescind"), json!({"reason": "the deal fell through"})).await.expect(200);
    assert_eq!((&rescinded["status"], &rescinded["paid"]), (&json!("rescinded"), &json!("0.00")));
    let after = office.manager.get(&call).await.expect(200);
    assert_eq!(
        (amounts(&after, "amount"), amounts(&after, "unapplied").contains(&"450.00".into())),
        (vec!["0.00".into(), "0.00".into()], true)
    );
    assert_eq!(
        office.treasurer.post(&format!("/call-lines/{first}/payments"), payment("1.00", "late")).await.refused(409),
        "call_rescinded"
    );
    assert_eq!(office.manager.post(&format!("{call}/rescind"), json!({"reason": "again"})).await.refused(409), "call_rescinded");
    let given_back = |metrics: &Value| {
        metrics["called"] == "0.00"
            && metrics["paid_in"] == "0.00"
            && metrics["unapplied"] == "450.00"
            && metrics["unfunded"] == "2000000.00"
            && metrics["lines"] == 0
    };
    office.manager.until(&format!("/funds/{}/metrics", fund.id), given_back).await;
    office.manager.until(&format!("/allocations/{allocation}"), |of| of["called"] == "0.00" && of["paid"] == "0.00").await;
    let line = office.auditor.get(&format!("/call-lines/{first}")).await.expect(200);
    let moved: Vec<_> =
        items_of(&line, "entries").iter().map(|entry| (entry["amount"].as_str().unwrap(), entry["paid"].as_str().unwrap())).collect();
    assert_eq!(moved, [("-100.00", "-50.00"), ("300.00", "50.00"), ("-700.00", "-450.00")], "{line:#}");
    // the allocation may be called for again
    office.call(&fund, allocation, "500000.00", "2099-06-30").await;
}

#[tokio::test]
async fn a_notice_is_data_with_the_totals_before_and_after_it() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    submit_and_issue(&office, &fund, expenses("400000.00", "2099-05-31")).await;
    let purposes = json!([{"kind": "reserve", "amount": "1000.00", "inside_commitment": true}, {"kind": "management_fee", "amount": "200.00", "inside_commitment": false},
                          {"kind": "recallable_return", "amount": "400.00", "inside_commitment": true}]);
    let call = submit_and_issue(&office, &fund, json!({"purposes": purposes, "due_on": "2099-06-30"})).await;
    let line = &lines(&call)[0];
    let path = format!("/call-lines/{}/notice", id(line, "id"));
    let notice = office.auditor.get(&path).await.expect(200);
    let totals = |of: &str| {
        ["commitment", "called_before", "unfunded_before", "called", "impact_on_unfunded", "called_after", "unfunded_after"]
            .map(|field| notice[of][field].as_str().unwrap().to_owned())
    };
    assert_eq!(totals("investor_totals"), ["1000000.00", "200000.00", "800000.00", "400.00", "-300.00", "200400.00", "799700.00"]);
    assert_eq!(totals("fund_totals"), ["2000000.00", "400000.00", "1600000.00", "800.00", "-600.00", "400800.00", "1599400.00"]);
    let impacts: Vec<&str> = items_of(&notice, "transactions").iter().map(|part| part["impact_on_unfunded"].as_str().unwrap()).collect();
    assert_eq!(impacts, ["-500.00", "0.00", "200.00"]);
    assert_eq!(
        (&notice["fees"][0]["fund_amount"], &notice["fees"][0]["commitment_percent"], &notice["fees"][0]["amount"]),
        (&json!("200.00"), &json!("50"), &json!("100.00"))
    );
    assert_eq!((&notice["wire_reference"], notice["format"].as_str()), (&line["reference"], Some("ILPA-style capital call notice")));
    // after it is what the metrics say
    let metrics =
        |metrics: &Value| metrics["called"] == "400800.00" && metrics["unfunded"] == "1599400.00" && metrics["committed"] == "2000000.00";
    office.manager.until(&format!("/funds/{}/metrics", fund.id), metrics).await;
    let reply = reqwest::Client::new()
        .get(format!("{}/api/v1{path}.csv", stack.gateway()))
        .header("authorization", format!("Bearer {}", testkit::client::token(&stack.settings.jwt_secret, "olga", &["auditor"], None, 60)))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.headers()["content-type"], "text/csv; charset=utf-8");
    let text = reply.text().await.unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0].len(), rows[1].len()), (4, 37, 37), "{text}");
    let column = |name: &str| rows[0].iter().position(|column| *column == name).unwrap();
    assert_eq!((rows[2][column("transaction")], rows[2][column("investor_unfunded_after")]), ("management_fee", "799700.00"));
}

async fn submit_and_issue(office: &Office, fund: &Fund, call: Value) -> Value {
    let (_, path, _) = submit(office, fund, call).await;
    office.manager.until(&path, |call| call["decision"] == "issued").await
}

#[tokio::test]
async fn credit_that_other_payments_left_pays_when_one_bounces() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    let first = id(&office.pay(line, "60.00", "first").await, "id");
    office.pay(line, "70.00", "second").await;
    let bounced = json!({"reason": "returned", "effective_on": "2026-01-20"});
    office.treasurer.post(&format!("/payments/{first}/reverse"), bounced).await.expect(200);
    let after = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    let line = &lines(&after)[0];
    assert_eq!((&line["paid"], &line["unapplied"], &line["outstanding"]), (&json!("70.00"), &json!("0.00"), &json!("30.00")));
    assert_eq!(after["paid"], "70.00");
}

#[tokio::test]
async fn excused_investors_given_amounts_and_notice_periods() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(3).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let commitments = office.manager.get(&format!("/funds/{}/commitments", fund.id)).await.expect(200);
    let excused = &items(&commitments)[0];
    let path = format!("/commitments/{}/excuses", id(excused, "id"));
    let excuse = json!({"allocation_id": allocation, "reason": "tobacco"});
    assert_eq!(office.manager.post(&path, excuse.clone()).await.expect(200)["excused_from"], json!([allocation]));
    assert_eq!(office.manager.post(&path, excuse).await.refused(409), "already_excused");
    let call = office.call(&fund, allocation, "1000.00", "2099-06-30").await;
    assert_eq!(amounts(&call, "amount"), ["500.00", "500.00"]);
    assert!(lines(&call).iter().all(|line| line["investor_id"] != excused["investor_id"]));

    let mut preview = expenses("100.00", "2099-06-30");
    preview["fund_id"] = json!(fund.id);
    preview["adjustments"] = json!([{"investor_id": excused["investor_id"], "amount": "33.33", "reason": "side letter"}]);
    let shown = office.manager.post("/capital-calls/preview", preview.clone()).await.expect(200);
    let shares: Vec<&Value> = shown["lines"].as_array().unwrap().iter().map(|line| &line["shares"][0]["because"]).collect();
    assert_eq!(shares.iter().filter(|because| **because == "given").count(), 1, "{shown:#}");
    preview["adjustments"] = json!([{"investor_id": excused["investor_id"], "reason": "nothing"}]);
    assert_eq!(office.manager.post("/capital-calls/preview", preview).await.refused(422), "adjustment_mismatch");

    let rules = json!({"notice_business_days": {"normal": 10, "high": 5, "urgent": 1}, "closed_on": ["2026-12-24"]});
    office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200);
    let soon = (today() + chrono::Days::new(3)).to_string();
    let path = format!("/funds/{}/capital-calls", fund.id);
    let short = testkit::wait::until(std::time::Duration::from_secs(10), || async {
        let reply = office.manager.post(&path, expenses("10.00", &soon)).await;
        reply.status == 409 && reply.text("code") == "notice_too_short"
    });
    assert!(short.await, "the notice period is in force");
}
