//! People of the firm are told what they should look at, and not too often.

use futures::StreamExt;
use serde_json::{Value, json};
use testkit::Stack;

use crate::office::{Office, id, items};

#[tokio::test]
async fn people_are_told_of_votes_that_are_missing_of_what_is_stuck_and_of_deals_that_are_off_within_the_limit() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let rules = json!({"alerts_per_hour_max": 3, "stuck_after_hours": 1,
        "approval_tiers": [{"from_amount": "1000", "votes": 1, "role": "committee", "remind_after_hours": 2}]});
    let version = office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200)["version"].clone();
    for service in ["workflow", "notifications"] {
        let known = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
        assert!(testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log(service).contains(&known) }).await);
    }
    // notifications is away while votes are asked for: it tells of them later, three in the hour, the last one of those that are more
    stack.kill("notifications");
    let mut allocations = vec![];
    for _ in 0..6 {
        let body = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": "2000", "security_type": "equity"});
        allocations.push(id(&office.analyst.post("/allocations", body).await.expect(202), "allocation_id"));
    }
    // nobody is told of one that is decided already
    office.approve(allocations[0]).await;
    office.analyst.until(&format!("/allocations/{}", allocations[0]), |allocation| allocation["decision"] == "active").await;
    stack.restart("notifications").await;
    let alerts = format!("/alerts?fund_id={}", fund.id);
    let of = |page: &Value, kind: &str| -> Vec<Value> { items(page).iter().filter(|alert| alert["kind"] == kind).cloned().collect() };
    let counted = |alerts: &[Value]| alerts.iter().map(|alert| 1 + alert["more"].as_u64().unwrap()).sum::<u64>();
    let told = office.ann.until(&alerts, |page| counted(&of(page, "approval_requested")) == 5).await;
    let requested = of(&told, "approval_requested");
    assert_eq!(requested.len(), 3, "{told:#}");
    assert_eq!(requested[0]["roles"], json!(["committee"]));
    assert_eq!(requested[0]["link"], json!(format!("/approvals/{}", requested[0]["subject_id"].as_str().unwrap())));
    assert!(requested[0]["text"].as_str().unwrap().starts_with("allocation of 2000.00 USD by alan needs votes of committee"), "{told:#}");
    // in the next hour there is room again; reminders come by the business clock
    stack.set_clock(2 * 3_600 + 60).await;
    let told = office.ann.until(&alerts, |page| counted(&of(page, "approval_reminder")) == 5).await;
    assert_eq!(of(&told, "approval_reminder").len(), 3);
    assert_eq!(of(&told, "approval_requested").len(), 3, "each thing is told once");
    // a workflow that an admin has paused is told of, and is stuck later
    let workflow = format!("/workflows/{}", domain::ids::workflow_id(allocations[1]));
    office
        .admin
        .post(&format!("{workflow}/actions"), json!({"action": "pause", "reason": "the counterparty is checked"}))
        .await
        .expect(200);
    let told = office.ann.until(&alerts, |page| !of(page, "workflow_paused").is_empty()).await;
    assert_eq!(of(&told, "workflow_paused")[0]["link"], json!(workflow));
    stack.set_clock(5 * 3_600).await;
    office.ann.until(&alerts, |page| !of(page, "workflow_stuck").is_empty()).await;
    // whoever may not see the fund is not shown it
    let token = testkit::client::token(&stack.settings.jwt_secret, "else", &["committee"], Some(&[uuid::Uuid::nil()]), 600);
    assert!(items(&stack.with_token(Some(token)).get("/alerts").await.expect(200)).is_empty());
    // all of it is on the broker for whoever sends it on, with the same ids
    let jetstream = async_nats::jetstream::new(stack.nats_as("notices").await);
    let config = async_nats::jetstream::consumer::pull::OrderedConfig {
        filter_subject: "tranche.notice.approval_requested".into(),
        ..Default::default()
    };
    let stream = jetstream.get_stream("NOTICES").await.unwrap();
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    for alert in requested.iter().rev() {
        let message = messages.next().await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert!(requested.iter().any(|told| told["id"] == body["state"]["id"]), "{alert:#} {body:#}");
    }
    let page = office.ann.page("/alerts").await;
    assert!(page.contains("approval reminder") && page.contains("and 2 more of the kind"), "{page}");
}
