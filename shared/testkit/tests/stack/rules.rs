//! Rules are changed at run time and are in force in every service within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Reply, Stack};
use uuid::Uuid;

use crate::office::{Fund, Office, deal, id, items, publish_deal};

#[tokio::test]
async fn a_rule_is_in_force_everywhere_within_a_second_without_a_restart() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let scope = format!("fund:{}", fund.id);
    let before = office.manager.get("/rules/global").await.expect(200);
    assert_eq!((before["version"].as_i64(), before["effective"]["allocation_min"].as_str()), (Some(0), Some("1000")));
    let put = office.admin.put(&format!("/rules/{scope}"), json!({"allocation_min": "20000", "grace_days": 3, "approval_tiers": [{"from_amount": "30000", "votes": 1, "role": "committee"}]})).await.expect(200);
    let since = Instant::now();
    assert_eq!(put["version"], 1);
    for service in ["workflow", "allocation-status", "capital-calls", "fund-metrics", "audit", "notifications"] {
        let seen = testkit::wait::until(Duration::from_secs(1), || async {
            stack.log(service).contains(&format!("rules in force scope=\"{scope}\" version=1"))
        });
        assert!(seen.await, "{service} does not know the rules after {:?}", since.elapsed());
    }
    // allocation-status refuses by it, workflow asks for one vote by it, capital-calls grants its grace
    let deal = office.deal(&stack).await;
    let proposal = |amount: &str| json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"});
    assert_eq!(office.analyst.post("/allocations", proposal("19999.99")).await.refused(422), "amount_below_minimum");
    let accepted = office.analyst.post("/allocations", proposal("30000")).await.expect(202);
    let allocation = id(&accepted, "allocation_id");
    let pending = office.ann.get(&format!("/approvals?subject_id={allocation}")).await.expect(200);
    assert_eq!(items(&pending)[0]["tier"]["votes"], 1);
    office.ann.post(&format!("/approvals/{}/votes", id(&items(&pending)[0], "id")), json!({"decision": "approve"})).await.expect(200);
    office.analyst.until(&format!("/allocations/{allocation}"), |allocation| allocation["decision"] == "active").await;
    let call = office.call(&fund, allocation, "100.00", "2099-12-31").await;
    assert_eq!(call["lines"][0]["grace_days"], 3);
    // another fund is not touched
    let other = office.fund(1).await;
    office
        .analyst
        .post(
            "/allocations",
            json!({"deal_id": office.deal(&stack).await, "fund_id": other.id, "amount": "1000", "security_type": "equity"}),
        )
        .await
        .expect(202);
}

#[tokio::test]
async fn layers_are_merged_versions_are_kept_and_nonsense_is_refused() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    for (scope, rules) in [
        ("global", json!({"grace_days": 20, "escalation_days": 9})),
        ("env:development", json!({"grace_days": 15})),
        ("env:production", json!({"grace_days": 99})),
        ("fund-type:buyout", json!({"grace_days": 10})),
        ("fund-type:buyout", json!({"grace_days": 11})),
    ] {
        office.admin.put(&format!("/rules/{scope}"), rules).await.expect(200);
    }
    let effective = |scope: &'static str| {
        let office = &office;
        async move { office.manager.get(&format!("/rules/{scope}")).await.expect(200)["effective"].clone() }
    };
    assert_eq!(
        (effective("global").await["grace_days"].as_i64(), effective("env:development").await["grace_days"].as_i64()),
        (Some(20), Some(15))
    );
    let buyout = office.manager.until("/rules/fund-type:buyout", |rules| rules["effective"]["escalation_days"] == 9).await;
    assert_eq!((buyout["version"].as_i64(), buyout["effective"]["grace_days"].as_i64()), (Some(2), Some(11)));
    let source = |field: &str| (buyout["sources"][field]["scope"].as_str(), buyout["sources"][field]["version"].as_i64());
    assert_eq!((source("grace_days"), source("escalation_days")), ((Some("fund-type:buyout"), Some(2)), (Some("global"), Some(1))));
    assert_eq!(source("notice_business_days"), (Some("env:development"), Some(0)), "what is built in has no version");
    let versions = office.manager.get("/rules/fund-type:buyout/versions").await.expect(200);
    let statuses: Vec<&str> = items(&versions).iter().map(|version| version["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["active", "superseded"]);
    for (scope, rules, code) in [
        ("global", json!({"allocation_min": "0"}), "invalid_rules"),
        ("global", json!({"allocation_min": "200000000"}), "invalid_rules"),
        ("global", json!({"approval_tiers": [{"from_amount": "1", "votes": 0, "role": "committee"}]}), "invalid_rules"),
        ("fund:7", json!({}), "unknown_scope"),
        ("everything", json!({}), "unknown_scope"),
    ] {
        assert_eq!(office.admin.put(&format!("/rules/{scope}"), rules).await.refused(422), code, "{scope}");
    }
    assert_eq!(office.admin.put("/rules/global", json!({"allocation_mim": "5"})).await.refused(400), "malformed_request");
    assert_eq!(office.manager.put("/rules/global", json!({})).await.refused(403), "forbidden");
    let known = |stack: &Stack, service: &str| stack.log(service).matches("rules in force scope=\"fund-type:buyout\" version=2").count();
    for service in ["notifications", "allocation-status"] {
        assert!(testkit::wait::until(Duration::from_secs(1), || async { known(&stack, service) == 1 }).await, "{service}");
    }
    // a replica that was away knows them as soon as it is ready
    stack.crash("notifications").await;
    assert_eq!(known(&stack, "notifications"), 2);
    // the bucket is lost: workflow fills it again, and nobody who starts decides by the defaults meanwhile
    let jetstream = async_nats::jetstream::new(stack.nats_as("ops").await);
    jetstream.get_stream("KV_rules").await.unwrap().purge().await.unwrap();
    stack.crash("allocation-status").await;
    assert_eq!(known(&stack, "allocation-status"), 2, "ready without the rules");
}

/// Puts rules of a fund, and waits until those who decide by them know.
async fn put(stack: &Stack, office: &Office, fund: &Fund, rules: Value) {
    let version = office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200)["version"].as_i64().unwrap();
    let known = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
    for service in ["allocation-status", "capital-calls"] {
        let heard = testkit::wait::until(Duration::from_secs(10), || async { stack.log(service).contains(&known) });
        assert!(heard.await, "{service} has not heard of the rules");
    }
}

async fn propose(office: &Office, fund: &Fund, deal: Uuid, amount: &str) -> Reply {
    office.analyst.post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"})).await
}

async fn investor(office: &Office, of: &str) -> Uuid {
    let body = json!({"name": format!("{of} {}", Uuid::now_v7()), "investor_type": of});
    id(&office.admin.post("/investors", body).await.expect(201), "id")
}

async fn commit(office: &Office, fund: &Fund, investor: Uuid, amount: &str) -> Reply {
    let body = json!({"investor_id": investor, "amount": amount, "effective_on": "2020-01-01"});
    office.admin.post(&format!("/funds/{}/commitments", fund.id), body).await
}

async fn change(office: &Office, commitment: Uuid, kind: &str, amount: &str) -> Reply {
    let body = json!({"kind": kind, "amount": amount, "effective_on": "2026-01-01", "reason": "agreed"});
    office.admin.post(&format!("/commitments/{commitment}/changes"), body).await
}

async fn transfer(office: &Office, commitment: Uuid, to: Uuid, amount: &str) -> Reply {
    let body = json!({"to_investor_id": to, "amount": amount, "effective_on": "2026-02-01", "reason": "sold"});
    office.admin.post(&format!("/commitments/{commitment}/transfers"), body).await
}

#[tokio::test]
async fn a_firm_limits_how_much_is_in_one_place_and_closes_what_it_does_not_want() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("1000000", 1, "100000").await;
    let scope = format!("/rules/fund:{}", fund.id);
    let limits = json!({"deal_percent_max": "10", "sector_percents_max": {"software": "15"}, "investor_type_percents_max": {"individual": "20", "*": "50"}});
    put(&stack, &office, &fund, limits).await;
    let mut deals = vec![];
    for sector in ["software", "software", "timber"] {
        let mut event = deal(Uuid::now_v7(), 1);
        event.state.sector = Some(sector.into());
        publish_deal(&stack, &event).await;
        office.analyst.until(&format!("/deals/{}", event.state.id), |_| true).await;
        deals.push(event.state.id);
    }
    assert_eq!(propose(&office, &fund, deals[0], "100000.01").await.refused(422), "deal_concentration");
    let made = propose(&office, &fund, deals[0], "100000").await.expect(202);
    assert_eq!(propose(&office, &fund, deals[1], "50000.01").await.refused(422), "sector_concentration");
    propose(&office, &fund, deals[1], "50000").await.expect(202);
    propose(&office, &fund, deals[2], "90000").await.expect(202);
    let path = format!("/allocations/{}", id(&made, "allocation_id"));
    let allocation = office.analyst.until(&path, |allocation| allocation["decision"] == "active").await;
    assert_eq!(allocation["concentration"], json!({"deal_percent": "10", "sector": "software", "sector_percent": "10"}));
    // 100,000 are promised by somebody who does not say what it is; of the million, 200,000 may be of individuals
    let (one, other) = (investor(&office, "individual").await, investor(&office, "individual").await);
    let fund_of_funds = investor(&office, "fund_of_funds").await;
    let promised = id(&commit(&office, &fund, one, "150000").await.expect(201), "id");
    assert_eq!(commit(&office, &fund, other, "50000.01").await.refused(422), "investor_type_concentration");
    commit(&office, &fund, other, "40000").await.expect(201);
    commit(&office, &fund, fund_of_funds, "500000").await.expect(201);
    assert_eq!(change(&office, promised, "increase", "10000.01").await.refused(422), "investor_type_concentration");
    change(&office, promised, "reduction", "5000").await.expect(200);
    change(&office, promised, "increase", "15000").await.expect(200);
    // a transfer to another individual changes nothing of that; one to a fund of funds would
    transfer(&office, promised, other, "10000").await.expect(200);
    assert_eq!(transfer(&office, promised, fund_of_funds, "1").await.refused(422), "investor_type_concentration");
    // what the firm has closed does not happen, and what would never happen then is closed with it
    let refused = office.admin.put(&scope, json!({"transitions_closed": ["failure_noticed"]})).await;
    assert_eq!(refused.refused(422), "invalid_rules");
    assert!(refused.body["detail"].as_str().unwrap().contains("default_declared stays open"), "{}", refused.body);
    let contradicts = json!({"transitions_closed": ["call_rescinded"], "deal_withdrawn": {"pending": "cancel", "active": "rescind"}});
    assert_eq!(office.admin.put(&scope, contradicts).await.refused(422), "invalid_rules");
    let call = office.call(&fund, id(&allocation, "id"), "1000", "2099-12-31").await;
    let closed = json!({"transitions_closed": ["call_rescinded", "call_amended", "commitment_reduced", "allocation_withdrawn"]});
    put(&stack, &office, &fund, closed).await;
    let call = format!("/capital-calls/{}", id(&call, "id"));
    assert_eq!(office.manager.post(&format!("{call}/rescind"), json!({"reason": "off"})).await.refused(409), "transition_closed");
    let amended = office.manager.post(&format!("{call}/amend"), json!({"reason": "later", "due_on": "2099-11-30"})).await;
    assert_eq!(amended.refused(409), "transition_closed");
    assert_eq!(change(&office, promised, "reduction", "1").await.refused(409), "transition_closed");
    change(&office, promised, "increase", "1").await.expect(200);
    assert_eq!(office.manager.post(&format!("{path}/withdraw"), json!({"reason": "off"})).await.refused(409), "transition_closed");
    put(&stack, &office, &fund, json!({})).await;
    office.manager.post(&format!("{call}/rescind"), json!({"reason": "off"})).await.expect(200);
}
