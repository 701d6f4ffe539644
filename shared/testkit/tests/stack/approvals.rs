//! Votes: many at once, and raced.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Fund, Office, assert_no_deadlocks, id, items};

/// Proposes an allocation that needs two votes; returns its approval.
async fn pending(stack: &Stack, office: &Office, fund: &Fund) -> Value {
    let allocation = json!({"deal_id": office.deal(stack).await, "fund_id": fund.id, "amount": "1000000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", allocation).await.expect(202);
    let path = format!("/approvals?subject_id={}", id(&accepted, "allocation_id"));
    items(&office.ann.until(&path, |page| !items(page).is_empty()).await)[0].clone()
}

fn vote(approval: Uuid, decision: &str) -> Value {
    json!({"approval_id": approval, "decision": decision})
}

#[tokio::test]
async fn votes_in_one_request_count_or_are_refused_each_by_itself() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let mut approvals = Vec::new();
    for _ in 0..4 {
        approvals.push(id(&pending(&stack, &office, &fund).await, "id"));
    }
    let [first, second, third, fourth] = approvals[..] else { panic!("four approvals") };
    office.bob.post(&format!("/approvals/{second}/votes"), json!({"decision": "approve"})).await.expect(200);
    office.bob.post(&format!("/approvals/{fourth}/votes"), json!({"decision": "deny"})).await.expect(200);
    // the third once more, one that is denied, and one that is not there
    let votes = [
        vote(first, "approve"),
        vote(second, "approve"),
        vote(third, "deny"),
        vote(third, "approve"),
        vote(fourth, "approve"),
        vote(Uuid::nil(), "approve"),
    ];
    let send = || office.ann.post_as("/approvals/votes", "many", json!({"votes": votes}));
    let voted = send().await.expect(200);
    assert_eq!((voted["accepted"].as_u64(), voted["refused"].as_u64()), (Some(3), Some(3)));
    let said: Vec<&str> = voted["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| outcome["status"].as_str().or(outcome["problem"]["code"].as_str()).unwrap())
        .collect();
    assert_eq!(said, ["pending", "approved", "denied", "approval_decided", "approval_decided", "unknown_approval"]);
    assert_eq!(send().await.expect(200), voted, "the same answer, and no more votes");
    let of = |id: Uuid| {
        let office = &office;
        async move { office.manager.get(&format!("/approvals/{id}")).await.expect(200) }
    };
    assert_eq!(of(first).await["votes"].as_array().unwrap().len(), 1);
    let workflow = id(&of(second).await, "workflow_id");
    office.manager.until(&format!("/workflows/{workflow}"), |workflow| workflow["status"] == "completed").await;
    for (count, code) in [(0, 400), (501, 413)] {
        let votes: Vec<Value> = (0..count).map(|_| vote(first, "approve")).collect();
        office.ann.post("/approvals/votes", json!({"votes": votes})).await.refused(code);
    }
    assert_eq!(office.analyst.post("/approvals/votes", json!({"votes": [vote(first, "approve")]})).await.refused(403), "forbidden");
}

#[tokio::test]
async fn raced_votes_are_as_many_as_the_tier_asks_for_and_never_the_requesters() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut other = stack.settings.start("workflow", 2).unwrap();
    other.ready().await.unwrap();
    let fund = office.fund(1).await;
    let mut approvals = Vec::new();
    for _ in 0..10 {
        approvals.push(id(&pending(&stack, &office, &fund).await, "id"));
    }
    // the requester is in the committee too
    let mut members: Vec<Client> = (0..5).map(|number| stack.user(&format!("member {number}"), &["committee"])).collect();
    members.push(stack.user("alan", &["committee"]));
    let many = |approvals: Vec<Uuid>| json!({"votes": approvals.iter().map(|id| vote(*id, "approve")).collect::<Vec<_>>()});
    let (forth, back) = (approvals.clone(), approvals.iter().rev().copied().collect::<Vec<_>>());
    let together = members.iter().flat_map(|member| [&forth, &back].map(|order| member.post("/approvals/votes", many(order.clone()))));
    let singly = members.iter().flat_map(|member| {
        approvals.iter().map(move |id| async move { member.post(&format!("/approvals/{id}/votes"), json!({"decision": "approve"})).await })
    });
    let (together, singly) = futures::join!(join_all(together), join_all(singly));
    let counted: u64 = together.into_iter().map(|reply| reply.expect(200)["accepted"].as_u64().unwrap()).sum();
    let counted = counted + singly.iter().filter(|reply| reply.status == 200).count() as u64;
    assert_eq!(counted, 20, "two on each");
    for approval in &approvals {
        let approval = office.manager.get(&format!("/approvals/{approval}")).await.expect(200);
        let who: BTreeSet<&str> = approval["votes"].as_array().unwrap().iter().map(|vote| vote["user"].as_str().unwrap()).collect();
        assert_eq!((approval["status"].as_str(), who.len()), (Some("approved"), 2));
        assert!(!who.contains("alan"), "{approval:#}");
    }
    assert_no_deadlocks(&stack).await;
}

#[tokio::test]
async fn groups_vote_in_their_order_and_denials_end_it_as_the_tier_says() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let tier = json!({"from_amount": "1000", "votes": 1, "role": "fund_manager", "then": [{"votes": 1, "role": "committee"}], "in_sequence": true, "denials": 2});
    office.admin.put(&format!("/rules/fund:{}", fund.id), json!({"approval_tiers": [tier]})).await.expect(200);
    office.manager.until(&format!("/rules/fund:{}", fund.id), |rules| rules["effective"]["approval_tiers"][0]["denials"] == 2).await;
    let path = |approval: &Value| format!("/approvals/{}/votes", id(approval, "id"));
    let (approve, deny) = (json!({"decision": "approve"}), json!({"decision": "deny"}));
    let granted = pending(&stack, &office, &fund).await;
    assert_eq!(office.ann.post(&path(&granted), approve.clone()).await.refused(409), "not_your_turn");
    assert_eq!(office.treasurer.post(&path(&granted), approve.clone()).await.refused(403), "role_may_not_vote");
    office.manager.post(&path(&granted), approve.clone()).await.expect(200);
    assert_eq!(office.ann.post(&path(&granted), deny.clone()).await.expect(200)["status"], "pending", "one denial of two");
    let voted = office.bob.post(&path(&granted), approve.clone()).await.expect(200);
    assert_eq!((voted["status"].as_str(), voted["votes"][2]["role"].as_str()), (Some("approved"), Some("committee")));
    office.analyst.until(&format!("/workflows/{}", id(&granted, "workflow_id")), |workflow| workflow["status"] == "completed").await;
    let denied = pending(&stack, &office, &fund).await;
    office.manager.post(&path(&denied), deny.clone()).await.expect(200);
    let other = stack.user("max", &["fund_manager"]);
    assert_eq!(other.post(&path(&denied), deny).await.expect(200)["status"], "denied");
    office.analyst.until(&format!("/workflows/{}", id(&denied, "workflow_id")), |workflow| workflow["status"] == "failed").await;
}

#[tokio::test]
async fn votes_are_delegated_for_a_time_and_nobody_votes_twice_by_it() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let approval = id(&pending(&stack, &office, &fund).await, "id");
    let path = format!("/approvals/{approval}/votes");
    let for_ann = json!({"decision": "approve", "on_behalf_of": "ann", "attachments": [{"name": "memo.pdf", "sha256": "ab".repeat(32)}]});
    assert_eq!(office.treasurer.post(&path, for_ann.clone()).await.refused(403), "no_delegation");
    let now = chrono::DateTime::from_timestamp(testkit_seconds(), 0).unwrap();
    let period = |from: i64, to: i64| {
        let at = |hours: i64| (now + chrono::TimeDelta::hours(hours)).to_rfc3339();
        json!({"granted_to": "tom", "starts_at": at(from), "ends_at": at(to), "reason": "on leave"})
    };
    for (from, to) in [(1, 0), (-9, -1), (0, 24 * 400), (24 * 400, 24 * 401)] {
        assert_eq!(office.ann.post("/delegations", period(from, to)).await.refused(422), "invalid_delegation");
    }
    let to_herself = json!({"granted_to": "ann", "starts_at": now, "ends_at": now + chrono::TimeDelta::hours(1), "reason": "why"});
    assert_eq!(office.ann.post("/delegations", to_herself).await.refused(422), "invalid_delegation");
    assert_eq!(office.analyst.post("/delegations", period(-1, 9)).await.refused(403), "forbidden");
    let delegation = office.ann.post("/delegations", period(-1, 9)).await.expect(201);
    assert_eq!(delegation["status"], "active");
    let voted = office.treasurer.post(&path, for_ann.clone()).await.expect(200);
    let vote = &voted["votes"][0];
    let said = (&vote["user"], &vote["on_behalf_of"], &vote["role"], &vote["attachments"][0]["name"]);
    assert_eq!(said, (&json!("tom"), &json!("ann"), &json!("committee"), &json!("memo.pdf")));
    assert_eq!(office.ann.post(&path, json!({"decision": "approve"})).await.refused(409), "already_voted");
    office.bob.post("/delegations", period(-1, 9)).await.expect(201);
    let for_bob = json!({"decision": "approve", "on_behalf_of": "bob"});
    assert_eq!(office.treasurer.post(&path, for_bob).await.refused(409), "already_voted", "two votes of two members by one person");
    let wrong = json!({"decision": "approve", "attachments": [{"name": "memo.pdf", "sha256": "ab"}]});
    assert_eq!(office.bob.post(&path, wrong).await.refused(422), "invalid_text");
    assert_eq!(office.bob.post(&path, json!({"decision": "approve"})).await.expect(200)["status"], "approved");
    // taken back: it holds no more
    let revoke = format!("/delegations/{}/revoke", id(&delegation, "id"));
    assert_eq!(office.manager.post(&revoke, json!({})).await.refused(404), "unknown_delegation");
    assert_eq!(office.treasurer.post(&revoke, json!({})).await.refused(403), "forbidden");
    assert_eq!(office.ann.post(&revoke, json!({})).await.expect(200)["status"], "revoked");
    let other = id(&pending(&stack, &office, &fund).await, "id");
    assert_eq!(office.treasurer.post(&format!("/approvals/{other}/votes"), for_ann).await.refused(403), "no_delegation");
    assert_eq!(items(&office.treasurer.get("/delegations").await.expect(200)).len(), 2);
    assert_eq!(items(&office.manager.get("/delegations").await.expect(200)).len(), 0);
    assert_eq!(items(&office.auditor.get("/delegations").await.expect(200)).len(), 2);
}

fn testkit_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test]
async fn what_nobody_decides_is_reminded_of_escalated_and_expires_by_the_business_clock() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let tiers = json!([
        {"from_amount": "1000000", "votes": 1, "role": "fund_manager", "remind_after_hours": 2, "escalate_after_hours": 4, "expire_after_hours": 20},
        {"from_amount": "5000000", "votes": 1, "role": "committee", "expire_after_hours": 6},
    ]);
    office.admin.put(&format!("/rules/fund:{}", fund.id), json!({"approval_tiers": tiers})).await.expect(200);
    let line = format!("rules in force scope=\"fund:{}\" version=1", fund.id);
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log("workflow").contains(&line) }).await);
    let [first, second] = [pending(&stack, &office, &fund).await, pending(&stack, &office, &fund).await];
    assert_eq!(first["deadline"]["then"], "remind");
    let path = |approval: &Value| format!("/approvals/{}", id(approval, "id"));
    stack.set_clock(3 * 3_600).await;
    let reminded = office.ann.until(&path(&first), |approval| approval["reminded"] == true).await;
    assert_eq!((&reminded["deadline"]["then"], &reminded["status"]), (&json!("escalate"), &json!("pending")));
    assert_eq!(office.ann.post(&format!("{}/votes", path(&first)), json!({"decision": "approve"})).await.refused(403), "role_may_not_vote");
    stack.set_clock(5 * 3_600).await;
    let escalated = office.ann.until(&path(&first), |approval| approval["tier"]["role"] == "committee").await;
    assert_eq!((&escalated["deadline"]["then"], &escalated["escalates_to"]), (&json!("expire"), &json!([])));
    let workflow = format!("/workflows/{}", id(&first, "workflow_id"));
    assert!(office.ann.get(&workflow).await.expect(200)["expects"].as_str().unwrap().contains("committee"));
    office.ann.until(&path(&second), |approval| approval["tier"]["role"] == "committee").await;
    office.ann.post(&format!("{}/votes", path(&first)), json!({"decision": "approve"})).await.expect(200);
    office.manager.until(&workflow, |workflow| workflow["status"] == "completed").await;
    stack.set_clock(12 * 3_600).await;
    office.ann.until(&path(&second), |approval| approval["status"] == "expired").await;
    let failed =
        office.manager.until(&format!("/workflows/{}", id(&second, "workflow_id")), |workflow| workflow["status"] == "failed").await;
    assert_eq!(failed["error"]["code"], "approval_expired");
    let allocation = format!("/allocations/{}", id(&second, "subject_id"));
    assert_eq!(office.manager.get(&allocation).await.expect(200)["decision"], "denied");
    assert_eq!(office.ann.post(&format!("{}/votes", path(&second)), json!({"decision": "approve"})).await.refused(409), "approval_decided");
}

#[tokio::test]
async fn the_page_of_an_approval_shows_all_that_is_asked_for_by_which_rules_and_what_is_next() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, deal) = (office.fund(1).await, office.deal(&stack).await);
    let name = |body: Value| body["name"].as_str().unwrap().to_owned();
    let names = [format!("/funds/{}", fund.id), format!("/deals/{deal}")];
    let names = [name(office.admin.get(&names[0]).await.expect(200)), name(office.admin.get(&names[1]).await.expect(200))];
    let body = json!({"deal_id": deal, "fund_id": fund.id, "amount": "2500000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", body).await.expect(202);
    let pending = format!("/approvals?status=pending&subject_id={}", id(&accepted, "allocation_id"));
    let pending = office.ann.until(&pending, |page| !items(page).is_empty()).await;
    let approval = &items(&pending)[0];
    let path = format!("/approvals/{}", id(approval, "id"));
    assert!(office.ann.page("/approvals").await.contains(&format!("href=\"{path}\"")));
    let page = office.ann.page(&path).await;
    let hash = approval["content_hash"].as_str().unwrap();
    for said in [
        &names[0],
        &names[1],
        "2500000.00",
        "equity",
        hash,
        "of global 0, env:development 0",
        "Steps to be done: approve, activate",
        "name=\"decision\"",
    ] {
        assert!(page.contains(said), "{said:?} is not in {page}");
    }
    // whoever asked sees the same, and casts no vote
    let page = office.analyst.page(&path).await;
    assert!(page.contains(hash) && !page.contains("name=\"decision\""), "{page}");
    // changes of rules wait for votes there, too
    office.admin.put("/rules/fund-type:venture", json!({"rule_votes": 1})).await.expect(200);
    office.manager.until("/rules/fund-type:venture", |rules| rules["effective"]["rule_votes"] == 1).await;
    let change = json!({"rules": {"grace_days": 3}, "comment": "sooner"});
    let change = office.admin.post("/rules/fund-type:venture/changes", change).await.expect(201);
    let of_rules = format!("/rule-changes/{}", id(&change, "id"));
    assert!(!office.ann.page("/approvals").await.contains(&of_rules), "it has not been simulated");
    office.admin.post(&format!("{of_rules}/simulate"), json!({})).await.expect(200);
    for (person, is_for_me) in [(&office.ann, true), (&office.admin, false)] {
        let page = person.page("/approvals").await;
        let (mine, others) = page.split_once("Waiting for others").unwrap();
        assert_eq!((mine.contains(&of_rules), others.contains(&of_rules)), (is_for_me, !is_for_me), "{page}");
    }
}
