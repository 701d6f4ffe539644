//! The upstream deal system: good events are copied, bad ones are put aside.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, deal, publish_deal, publish_raw};

#[tokio::test]
async fn bad_deal_events_are_parked_with_the_reason_and_the_next_good_one_is_processed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let good = serde_json::to_value(deal(Uuid::now_v7(), 1)).unwrap();
    let with = |field: &str, value: Value| {
        let mut event = good.clone();
        event["state"][field] = value;
        event.to_string().into_bytes()
    };
    let mut without_name = good.clone();
    without_name["state"].as_object_mut().unwrap().remove("name");
    let mut said_off = good.clone();
    said_off["change"] = json!({"kind": "withdrawn"});
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (said_off.to_string().into_bytes(), "said to be withdrawn"),
        (b"this is not JSON".to_vec(), "expected"),
        (vec![0xff, 0xfe, 0x00], "expected"),
        (Vec::new(), "EOF"),
        (without_name.to_string().into_bytes(), "missing field `name`"),
        (json!({"state": good["state"]}).to_string().into_bytes(), "missing field `change`"),
        (with("version", json!(0)), "below 1"),
        (with("version", json!("two")), "expected i64"),
        (with("schema_version", json!(99)), "schema_version 99"),
        (with("id", json!("not-an-id")), "UUID"),
        (with("size", json!(12.5)), "string"),
        (with("name", json!("")), "name has 0 characters"),
        (with("company", json!("a\u{0}b")), "company"),
        (with("sector", json!("s".repeat(101))), "sector has 101 characters"),
        (with("stage_replies", json!([{"request_id": "x", "accepted": true}])), "UUID"),
    ];
    for (body, _) in &bad {
        publish_raw(&stack, body.clone()).await;
    }
    let last = Uuid::now_v7();
    publish_deal(&stack, &deal(last, 1)).await;
    office.analyst.until(&format!("/deals/{last}"), |_| true).await;
    let database = stack.database().await;
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from allocation_status.dead_letters order by created_at").fetch_all(&database).await.unwrap();
    assert_eq!(reasons.len(), bad.len(), "{reasons:#?}");
    for (reason, (_, expected)) in reasons.iter().zip(&bad) {
        assert!(reason.contains(expected), "{reason:?} does not say {expected:?}");
    }
    let ops = async_nats::jetstream::new(stack.nats_as("ops").await);
    let copied = testkit::wait::until(std::time::Duration::from_secs(10), || async {
        // workflow reads deals as well
        ops.get_stream("DEAD_LETTERS").await.unwrap().cached_info().state.messages == 2 * bad.len() as u64
    });
    assert!(copied.await, "each dead letter of each reader is copied to the stream");
}

#[tokio::test]
async fn deal_events_may_be_repeated_and_come_in_any_order() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let id = Uuid::now_v7();
    let version = |version: i64, stage: &str| {
        let mut event = deal(id, version);
        event.state.stage = stage.into();
        event
    };
    for event in [version(3, "committed"), version(1, "sourcing"), version(3, "committed"), version(2, "due_diligence")] {
        publish_deal(&stack, &event).await;
    }
    // a later deal proves that the earlier events were handled
    office.deal(&stack).await;
    let seen = office.analyst.get(&format!("/deals/{id}")).await.expect(200);
    assert_eq!((seen["version"].as_i64(), seen["stage"].as_str()), (Some(3), Some("committed")));
}

#[tokio::test]
async fn the_deal_system_is_asked_for_the_next_stage_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let ops = async_nats::jetstream::new(stack.nats_as("ops").await);
    let allocation = office.allocation(&stack, &fund, "5000").await;
    let stream = ops.get_stream("DEALS").await.unwrap();
    let asked = testkit::wait::until(std::time::Duration::from_secs(10), || async {
        stream.get_last_raw_message_by_subject("deals.cmd.stage-change").await.is_ok()
    });
    assert!(asked.await);
    let request = stream.get_last_raw_message_by_subject("deals.cmd.stage-change").await.unwrap();
    let body: Value = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!((body["state"]["allocation_id"].clone(), body["state"]["stage"].as_str()), (json!(allocation), Some("committed")));
    let database = stack.database().await;
    let logged: i64 = sqlx::query_scalar("select count(*) from workflow.event_log where subject = 'deals.cmd.stage-change'")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(logged, 1);
}
