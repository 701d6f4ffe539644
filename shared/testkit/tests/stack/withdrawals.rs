//! Deals that will not happen, and allocations that are taken back; and what the deal system is asked and answers.

use domain::messages::deals::{DealChange, StageReply};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::Stack;
use testkit::deal_system::{DealSystem, Habits};
use uuid::Uuid;

use crate::office::{Fund, Office, assert_no_deadlocks, assert_sums, deal, id, items, lines, publish_deal};

async fn put_rules(stack: &Stack, office: &Office, fund: &Fund, rules: Value) {
    let path = format!("/rules/fund:{}", fund.id);
    let version = office.admin.put(&path, rules).await.expect(200)["version"].as_i64().unwrap();
    for service in ["allocation-status", "workflow"] {
        let known = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
        let heard = testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log(service).contains(&known) });
        assert!(heard.await, "{service} has not heard of the rules");
    }
}

/// The deal system says that a deal will not happen.
async fn withdraw(stack: &Stack, deal_id: Uuid) {
    let mut withdrawn = deal(deal_id, 2);
    withdrawn.state.stage = "withdrawn".into();
    withdrawn.change = DealChange::Withdrawn;
    publish_deal(stack, &withdrawn).await;
}

async fn deal_of(office: &Office, allocation: Uuid) -> Uuid {
    id(&office.analyst.get(&format!("/allocations/{allocation}")).await.expect(200), "deal_id")
}

fn purpose(allocation: Uuid, amount: &str) -> Value {
    json!({"kind": "investment", "allocation_id": allocation, "amount": amount, "inside_commitment": true})
}

async fn call(office: &Office, fund: &Fund, purposes: Value) -> Value {
    let body = json!({"purposes": purposes, "due_on": "2099-12-31", "priority": "normal"});
    let accepted = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), body).await.expect(202);
    office.manager.until(&format!("/capital-calls/{}", id(&accepted, "capital_call_id")), |call| call["decision"] == "issued").await
}

#[tokio::test]
async fn what_is_not_called_of_a_deal_that_is_withdrawn_is_free_again() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    put_rules(&stack, &office, &fund, json!({"deal_withdrawn": {"pending": "cancel", "active": "cancel"}})).await;
    let called = office.allocation(&stack, &fund, "500000").await;
    let paid = call(&office, &fund, json!([purpose(called, "100000")])).await;
    office.pay(id(&lines(&paid)[0], "id"), "50000.00", "first").await;
    let uncalled = office.allocation(&stack, &fund, "70000").await;
    let deal_id = office.deal(&stack).await;
    let large = json!({"deal_id": deal_id, "fund_id": fund.id, "amount": "2000000", "security_type": "equity"});
    let pending = office.analyst.post("/allocations", large.clone()).await.expect(202);
    let approvals = format!("/approvals?subject_id={}", id(&pending, "allocation_id"));
    office.ann.until(&approvals, |page| !items(page).is_empty()).await;
    for of in [deal_of(&office, called).await, deal_of(&office, uncalled).await, deal_id] {
        withdraw(&stack, of).await;
    }
    // reduced to what is called, cancelled where nothing is, and what nobody has decided is not asked for any more
    let reduced = office.analyst.until(&format!("/allocations/{called}"), |allocation| allocation["amount"] == "100000.00").await;
    assert_eq!((reduced["decision"].as_str(), &reduced["withdrawal"]), (Some("active"), &Value::Null));
    office.analyst.until(&format!("/allocations/{uncalled}"), |allocation| allocation["status"] == "cancelled").await;
    office
        .analyst
        .until(&format!("/allocations/{}", id(&pending, "allocation_id")), |allocation| allocation["status"] == "cancelled")
        .await;
    let workflow = format!("/workflows/{}", id(&pending, "workflow_id"));
    let ended = office.analyst.until(&workflow, |workflow| workflow["status"] == "failed").await;
    assert_eq!(ended["error"]["code"], "withdrawn");
    assert_eq!(items(&office.ann.get(&approvals).await.expect(200))[0]["status"], "voided");
    let free = office.analyst.until(&format!("/funds/{}", fund.id), |fund| fund["allocated"] == "100000.00").await;
    assert_eq!(free["status"], "open");
    office.analyst.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["allocated"] == "100000.00").await;
    // nothing more is called for it, what was paid stays, and the deal takes no other allocation
    let body = json!({"purposes": [purpose(called, "1.00")], "due_on": "2099-12-31", "priority": "normal"});
    assert_eq!(office.manager.post(&format!("/funds/{}/capital-calls", fund.id), body).await.refused(409), "call_exceeds_allocation");
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&paid, "id"))).await.expect(200)["paid"], "50000.00");
    assert_eq!(office.analyst.post("/allocations", large).await.refused(409), "deal_closed_to_allocation");
    // once more changes nothing
    withdraw(&stack, deal_of(&office, called).await).await;
    let again = office.manager.post(&format!("/allocations/{uncalled}/withdraw"), json!({"reason": "twice"})).await;
    assert_eq!(again.refused(409), "allocation_not_active");
    office.deal(&stack).await;
    let withdrawals = office.analyst.get(&format!("/workflows?fund_id={}", fund.id)).await.expect(200);
    let of_called = |workflow: &&Value| workflow["subject_kind"] == "withdrawal" && workflow["subject_id"] == called.to_string();
    assert_eq!(items(&withdrawals).iter().filter(of_called).count(), 1);
    // nor does another edit of the deal, which is off as before; a deal that comes back and goes again is another matter
    for (version, stage) in [(3, "withdrawn"), (4, "due_diligence"), (5, "lost")] {
        let mut event = deal(deal_of(&office, called).await, version);
        event.state.stage = stage.into();
        publish_deal(&stack, &event).await;
        office.analyst.until(&format!("/deals/{}", event.state.id), |deal| deal["version"] == version).await;
    }
    let twice = |page: &Value| items(page).iter().filter(of_called).count() == 2;
    office.analyst.until(&format!("/workflows?fund_id={}", fund.id), twice).await;
    assert_sums(&stack);
}

#[tokio::test]
async fn calls_for_a_deal_that_is_withdrawn_are_rescinded_where_they_call_for_nothing_else() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    put_rules(&stack, &office, &fund, json!({"deal_withdrawn": {"pending": "cancel", "active": "rescind"}})).await;
    let (off, on) = (office.allocation(&stack, &fund, "500000").await, office.allocation(&stack, &fund, "500000").await);
    let alone = call(&office, &fund, json!([purpose(off, "100000")])).await;
    let both = call(&office, &fund, json!([purpose(off, "3000"), purpose(on, "4000")])).await;
    let payment = office.pay(id(&lines(&alone)[0], "id"), "50000.00", "first").await;
    withdraw(&stack, deal_of(&office, off).await).await;
    let reduced = office.analyst.until(&format!("/allocations/{off}"), |allocation| allocation["amount"] == "3000.00").await;
    assert_eq!(reduced["decision"], "active");
    let alone = office.manager.get(&format!("/capital-calls/{}", id(&alone, "id"))).await.expect(200);
    assert_eq!((alone["decision"].as_str(), alone["paid"].as_str()), (Some("rescinded"), Some("0.00")));
    let payment = office.treasurer.get(&format!("/payments/{}", id(&payment, "id"))).await.expect(200);
    assert_eq!(payment["unapplied"], "50000.00", "to be refunded");
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&both, "id"))).await.expect(200)["decision"], "issued");
    let workflows = office.manager.get(&format!("/workflows?fund_id={}", fund.id)).await.expect(200);
    let withdrawal = items(&workflows).iter().find(|workflow| workflow["subject_kind"] == "withdrawal").unwrap();
    assert_eq!(withdrawal["status"], "completed");
    let answer = &withdrawal["steps"][2]["answer"];
    assert_eq!((answer["rescinded"][0].as_str(), answer["kept"][0]["call_id"].as_str()), (alone["id"].as_str(), both["id"].as_str()));
    office.analyst.until(&format!("/allocations/{off}"), |allocation| allocation["called"] == "3000.00").await;
    assert_sums(&stack);
}

#[tokio::test]
async fn where_the_rules_say_alert_a_person_takes_an_allocation_back_after_votes_if_the_rules_ask_for_them() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    withdraw(&stack, deal_of(&office, allocation).await).await;
    let path = format!("/allocations/{allocation}");
    let told = office.analyst.until(&path, |allocation| !allocation["withdrawal"].is_null()).await;
    let said = |field: &str| told["withdrawal"][field].as_str().map(str::to_owned).unwrap();
    assert_eq!((said("then"), said("by"), said("reason")), ("alert".into(), "deal-system".into(), "the deal is withdrawn".into()));
    assert_eq!((told["decision"].as_str(), told["amount"].as_str()), (Some("active"), Some("500000.00")));
    let tiers = json!({"approval_tiers": [{"from_amount": "0", "votes": 1, "role": "committee", "kinds": ["withdrawal"]}]});
    put_rules(&stack, &office, &fund, tiers).await;
    let ask = json!({"reason": "the deal fell through", "rescind": true});
    assert_eq!(office.analyst.post(&format!("{path}/withdraw"), ask.clone()).await.refused(403), "forbidden");
    assert_eq!(office.manager.post(&format!("{path}/withdraw"), json!({"reason": ""})).await.refused(422), "invalid_text");
    office.manager.post(&format!("{path}/withdraw"), ask.clone()).await.expect(202);
    assert_eq!(office.manager.post(&format!("{path}/withdraw"), ask.clone()).await.refused(409), "allocation_not_active");
    let approvals = format!("/approvals?status=pending&subject_id={allocation}");
    let approval = id(&items(&office.ann.until(&approvals, |page| !items(page).is_empty()).await)[0], "id");
    let denied = json!({"decision": "deny", "comment": "the seller may come back"});
    office.ann.post(&format!("/approvals/{approval}/votes"), denied).await.expect(200);
    let kept = office.analyst.until(&path, |allocation| allocation["withdrawal"].is_null()).await;
    assert_eq!((kept["decision"].as_str(), kept["amount"].as_str()), (Some("active"), Some("500000.00")));
    // it may be called for again, and taken back later
    let issued = call(&office, &fund, json!([purpose(allocation, "100")])).await;
    office.manager.post(&format!("{path}/withdraw"), ask).await.expect(202);
    let approval = id(&items(&office.ann.until(&approvals, |page| !items(page).is_empty()).await)[0], "id");
    office.ann.post(&format!("/approvals/{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
    office.analyst.until(&path, |allocation| allocation["status"] == "cancelled").await;
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&issued, "id"))).await.expect(200)["decision"], "rescinded");
    assert_sums(&stack);
}

#[tokio::test]
async fn calls_that_race_with_a_withdrawal_are_within_what_stays_allocated() {
    let mut stack = Stack::start().await;
    let mut others = vec![];
    for service in ["capital-calls", "allocation-status", "workflow"] {
        let mut other = stack.settings.start(service, 2).unwrap();
        other.ready().await.unwrap();
        others.push(other);
    }
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    put_rules(&stack, &office, &fund, json!({"deal_withdrawn": {"pending": "cancel", "active": "cancel"}})).await;
    let mut allocations = vec![];
    for _ in 0..12 {
        let allocation = office.allocation(&stack, &fund, "10000").await;
        allocations.push((allocation, deal_of(&office, allocation).await));
    }
    let office = &office;
    let calls = allocations.iter().flat_map(|(allocation, _)| {
        let body = json!({"purposes": [purpose(*allocation, "4000")], "due_on": "2099-12-31", "priority": "normal"});
        let path = format!("/funds/{}/capital-calls", fund.id);
        (0..3).map(move |_| (path.clone(), body.clone()))
    });
    let calls = futures::stream::iter(calls).map(|(path, body)| async move { office.manager.post(&path, body).await.status });
    let withdrawals = async {
        for (number, (_, deal)) in allocations.iter().enumerate() {
            if number == 6 {
                stack.crash("workflow").await;
            }
            withdraw(&stack, *deal).await;
        }
    };
    let (statuses, ()) = futures::join!(calls.buffered(4).collect::<Vec<u16>>(), withdrawals);
    assert!(statuses.iter().all(|status| matches!(status, 202 | 409)), "{statuses:?}");
    let settled = join_all(allocations.iter().map(|(allocation, _)| async move {
        let path = format!("/allocations/{allocation}");
        office
            .analyst
            .until(&path, |state| state["withdrawal"].is_null() && (state["decision"] == "cancelled" || state["amount"] == state["called"]))
            .await
    }));
    let settled = settled.await;
    let total: domain::Amount = settled
        .iter()
        .filter(|allocation| allocation["decision"] == "active")
        .map(|allocation| allocation["amount"].as_str().unwrap().parse::<domain::Amount>().unwrap())
        .sum();
    office.analyst.until(&format!("/funds/{}", fund.id), |fund| fund["allocated"].as_str().unwrap().parse() == Ok(total)).await;
    for allocation in &settled {
        let called = allocation["called"].as_str().unwrap();
        assert!(allocation["decision"] == "active" || called == "0.00", "{allocation:#}");
    }
    // no call is left half way
    office.manager.until(&format!("/workflows?fund_id={}&status=running", fund.id), |page| items(page).is_empty()).await;
    assert_sums(&stack);
    assert_no_deadlocks(&stack).await;
}

/// The workflow of an allocation, once it waits for the deal system.
async fn waiting(stack: &Stack, office: &Office, fund: &Fund) -> (Uuid, String) {
    let allocation = office.allocation(stack, fund, "5000").await;
    let workflow = format!("/workflows/{}", domain::ids::workflow_id(allocation));
    let waits = office.analyst.until(&workflow, |workflow| workflow["status"] == "waiting").await;
    assert!(waits["expects"].as_str().unwrap().starts_with("the deal system moves the deal"), "{waits:#}");
    (deal_of(office, allocation).await, workflow)
}

#[tokio::test]
async fn the_deal_system_is_asked_again_until_it_answers_and_people_are_told_when_it_does_not() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    put_rules(&stack, &office, &fund, json!({"stage_request": {"stage": "signed", "answer_within_hours": 2, "attempts": 2}})).await;
    let moved = waiting(&stack, &office, &fund).await;
    let accepted = waiting(&stack, &office, &fund).await;
    let refused = waiting(&stack, &office, &fund).await;
    let off = waiting(&stack, &office, &fund).await;
    let silent = waiting(&stack, &office, &fund).await;
    let say = |deal_id: Uuid, stage: &str, reply: Option<(bool, &str, &str)>| {
        let mut event = deal(deal_id, 2);
        event.state.stage = stage.into();
        event.change = DealChange::StageReplied;
        event.state.stage_replies = reply
            .into_iter()
            .map(|(accepted, workflow, reason)| StageReply {
                request_id: domain::ids::derived("stage-request", workflow.rsplit('/').next().unwrap().parse().unwrap()),
                accepted,
                reason: (!accepted).then(|| reason.to_owned()),
            })
            .collect();
        event
    };
    publish_deal(&stack, &say(moved.0, "signed", None)).await;
    publish_deal(&stack, &say(accepted.0, "due_diligence", Some((true, &accepted.1, "")))).await;
    publish_deal(&stack, &say(refused.0, "due_diligence", Some((false, &refused.1, "the term sheet is not signed")))).await;
    publish_deal(&stack, &say(off.0, "lost", None)).await;
    // an answer to somebody else is none
    publish_deal(&stack, &say(silent.0, "due_diligence", Some((true, &moved.1, "")))).await;
    let step = |workflow: &Value| workflow["steps"][3]["status"].as_str().unwrap().to_owned();
    for (workflow, status, code) in
        [(&moved, "done", None), (&accepted, "done", None), (&refused, "skipped", Some("stage_request_refused")), (&off, "skipped", None)]
    {
        let ended = office.analyst.until(&workflow.1, |workflow| workflow["status"] == "completed").await;
        assert_eq!((step(&ended).as_str(), ended["error"]["code"].as_str()), (status, code), "{ended:#}");
    }
    let ops = async_nats::jetstream::new(stack.nats_as("ops").await);
    let asked = || async {
        let stream = ops.get_stream("DEALS").await.unwrap();
        let last = stream.get_last_raw_message_by_subject("deals.cmd.stage-change").await.unwrap();
        let body: Value = serde_json::from_slice(&last.payload).unwrap();
        (body["state"]["attempt"].as_i64().unwrap(), body["state"]["deal_id"].as_str().map(str::to_owned).unwrap())
    };
    assert_eq!(asked().await, (1, silent.0.to_string()));
    stack.set_clock(2 * 3_600 + 60).await;
    let again = testkit::wait::until(std::time::Duration::from_secs(10), || async { asked().await == (2, silent.0.to_string()) });
    assert!(again.await, "it is asked again");
    office.analyst.until(&silent.1, |workflow| workflow["status"] == "waiting").await;
    stack.set_clock(5 * 3_600).await;
    let ended = office.analyst.until(&silent.1, |workflow| workflow["status"] == "completed").await;
    assert_eq!((step(&ended).as_str(), ended["error"]["code"].as_str()), ("skipped", Some("stage_request_unanswered")));
    // whose deal is where it shall be is not asked for it
    let mut there = deal(Uuid::now_v7(), 1);
    there.state.stage = "signed".into();
    publish_deal(&stack, &there).await;
    office.analyst.until(&format!("/deals/{}", there.state.id), |_| true).await;
    let body = json!({"deal_id": there.state.id, "fund_id": fund.id, "amount": "5000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", body).await.expect(202);
    office.analyst.until(&format!("/workflows/{}", id(&accepted, "workflow_id")), |workflow| workflow["status"] == "completed").await;
    assert_eq!(asked().await, (2, silent.0.to_string()));
}

#[tokio::test]
async fn a_pipeline_of_deals_with_repetitions_and_late_news_ends_as_the_deal_system_has_it() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000000", 1, "1000000").await;
    let rules = json!({"deal_withdrawn": {"pending": "cancel", "active": "cancel"}, "allocations_per_deal_max": 1,
        "stage_request": {"stage": "committed", "answer_within_hours": 1, "attempts": 3}});
    put_rules(&stack, &office, &fund, rules).await;
    let habits = Habits { deals: 15, repeats: 30, late: 30, silent: 40, ends: 10, ..Habits::default() };
    let mut system = DealSystem::start(stack.nats_as("deals").await, 7, habits).await.unwrap();
    let (mut allocated, mut hours) = (vec![], 0);
    for step in 0..600 {
        system.step().await.unwrap();
        if system.is_at_rest() && step % 10 == 0 {
            // whoever was not answered asks again
            hours += 2;
            stack.set_clock(hours * 3_600).await;
            if hours > 8 {
                break;
            }
        }
        let due: Vec<Uuid> =
            system.deals().filter(|deal| deal.stage == "term_sheet" || deal.stage == "due_diligence").map(|deal| deal.id).collect();
        for deal_id in due {
            if allocated.iter().any(|(known, _)| *known == deal_id) {
                continue;
            }
            let body = json!({"deal_id": deal_id, "fund_id": fund.id, "amount": "5000", "security_type": "equity"});
            let reply = office.analyst.post("/allocations", body).await;
            // the news of the deal may not have come, or it has ended meanwhile
            if reply.status == 202 {
                allocated.push((deal_id, id(&reply.body, "workflow_id")));
            }
        }
    }
    // whoever was asked last has its time, too
    let workflows = format!("/workflows?fund_id={}&limit=500", fund.id);
    let have_ended = |page: &Value| items(page).iter().all(|workflow| workflow["status"] == "completed" || workflow["status"] == "failed");
    for _ in 0..20 {
        if have_ended(&office.analyst.get(&workflows).await.expect(200)) {
            break;
        }
        hours += 2;
        stack.set_clock(hours * 3_600).await;
        for _ in 0..20 {
            system.step().await.unwrap();
        }
    }
    system.finish().await.unwrap();
    assert!(allocated.len() >= 5, "{} allocations were made", allocated.len());
    // one that starts anew knows what there is
    let again = DealSystem::start(stack.nats_as("deals").await, 7, habits).await.unwrap();
    assert!(again.deals().eq(system.deals()));
    office.analyst.until(&workflows, have_ended).await;
    for deal in system.deals() {
        office
            .analyst
            .until(&format!("/deals/{}", deal.id), |copy| copy["version"] == deal.version && copy["stage"] == deal.stage.as_str())
            .await;
    }
    for (deal_id, workflow) in allocated {
        // one that was proposed just before its deal ended may have been taken back before it was in force
        let has_ended = |workflow: &Value| workflow["status"] == "completed" || workflow["status"] == "failed";
        let workflow = office.analyst.until(&format!("/workflows/{workflow}"), has_ended).await;
        let path = format!("/allocations/{}", id(&workflow, "subject_id"));
        let is_off = system.deals().any(|deal| deal.id == deal_id && deal.is_off());
        assert!(is_off || workflow["status"] == "completed", "{workflow:#}");
        let decision = if is_off { "cancelled" } else { "active" };
        office.analyst.until(&path, |allocation| allocation["decision"] == decision).await;
    }
}
