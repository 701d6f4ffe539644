//! Rules are changed at run time and are in force in every service within a second.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Stack;

use crate::office::{Office, id, items};

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
