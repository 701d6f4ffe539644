//! Messages that cannot be handled: put aside, grouped, handled again or discarded by a person, each act recorded.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Office, deal, id, items, publish_raw};

const LETTERS: &str = "/services/allocation-status/dead-letters";

/// The admin with parked letters of these bodies.
async fn parked(stack: &Stack, bodies: &[&str]) -> (Client, Vec<Value>) {
    for body in bodies {
        publish_raw(stack, body.as_bytes().to_vec()).await;
    }
    let admin = stack.user("ada", &["admin"]);
    let page = admin.until(LETTERS, |page| items(page).len() == bodies.len()).await;
    let letters = items(&page).clone();
    (admin, letters)
}

#[tokio::test]
async fn parked_messages_are_grouped_by_their_cause_and_discarded_with_a_reason() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (admin, letters) = parked(&stack, &["not json 1", "not json 2", "{}"]).await;
    let groups = admin.get(&format!("{LETTERS}/groups")).await.expect(200);
    let sizes: Vec<i64> = items(&groups).iter().map(|group| group["dead_letters"].as_i64().unwrap()).collect();
    assert_eq!(sizes, [2, 1], "{groups:#}");

    let letter = format!("{LETTERS}/{}", id(&letters[0], "id"));
    assert_eq!(admin.get(&letter).await.expect(200)["status"], "parked");
    let discard = format!("{letter}/discard");
    admin.post(&discard, json!({"reason": ""})).await.refused(422);
    office.treasurer.post(&discard, json!({"reason": "no deal"})).await.refused(403);
    let discarded = admin.post(&discard, json!({"reason": "no deal"})).await.expect(200);
    assert_eq!(
        (&discarded["status"], &discarded["decided_by"], &discarded["note"]),
        (&json!("discarded"), &json!("ada"), &json!("no deal"))
    );
    assert_eq!(admin.post(&discard, json!({"reason": "again"})).await.refused(409), "dead_letter_decided");
    admin.post(&format!("{LETTERS}/{}/discard", Uuid::nil()), json!({"reason": "?"})).await.refused(404);
    admin.get("/services/nobody/dead-letters").await.refused(404);

    let acts = format!("/audit/records?aggregate=dead_letter&aggregate_id={}", id(&letters[0], "id"));
    let acts = office.auditor.until(&acts, |page| items(page).len() == 2).await;
    assert_eq!(items(&acts)[1]["actor"], "ada", "{acts:#}");
}

#[tokio::test]
async fn a_message_that_is_handled_again_counts_once_and_one_that_fails_again_is_parked_again() {
    let stack = Stack::start().await;
    let (admin, letters) = parked(&stack, &["not json"]).await;
    // what an older release could not read, and this one can
    let deal_id = Uuid::now_v7();
    let event = serde_json::to_value(deal(deal_id, 1)).unwrap();
    let database = stack.database().await;
    sqlx::query(
        "insert into allocation_status.dead_letters (id, created_at, reaction, subject, headers, payload, reason, place)
         values ($1, now(), 'deal', 'deals.evt.registered', '{}', $2, 'unknown field', 'DEALS/1/1')",
    )
    .bind(deal_id)
    .bind(event.to_string().into_bytes())
    .execute(&database)
    .await
    .unwrap();
    admin.post(&format!("{LETTERS}/redrive"), json!({})).await.refused(400);
    let released = admin.post(&format!("{LETTERS}/redrive"), json!({"reaction": "deal"})).await.expect(200);
    assert_eq!(released["dead_letters"], 2);
    admin.until(&format!("/deals/{deal_id}"), |deal| deal["version"] == 1).await;
    admin.until(&format!("{LETTERS}/{deal_id}"), |letter| letter["status"] == "redriven" && letter["version"] == 3).await;
    let failed = format!("{LETTERS}/{}", id(&letters[0], "id"));
    admin.until(&failed, |letter| letter["status"] == "parked" && letter["version"] == 3).await;
    // one that has killed its process again and again is given up, and may be discarded
    sqlx::query("update allocation_status.dead_letters set status = 'released', attempts = 10 where id = $1")
        .bind(id(&letters[0], "id"))
        .execute(&database)
        .await
        .unwrap();
    let given_up = |letter: &serde_json::Value| letter["status"] == "parked" && letter["reason"] == "given up after 10 attempts";
    admin.until(&failed, given_up).await;
    // by hand as well
    let mut command = stack.settings.command("allocation-status", 0);
    let output = command.args(["dead-letters", "redrive", &id(&letters[0], "id").to_string()]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("\"dead_letters\": 1"), "{output:?}");
    assert!(
        testkit::wait::until(Duration::from_secs(20), || async { admin.get(&failed).await.expect(200)["version"] == 6 }).await,
        "released and parked once more"
    );
}

#[tokio::test]
async fn a_message_that_kills_its_process_again_and_again_is_given_up() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    stack.kill("allocation-status");
    let killer = Uuid::now_v7();
    publish_raw(&stack, serde_json::to_vec(&deal(killer, 1)).unwrap()).await;
    // ten deliveries that nobody survived to acknowledge
    let stream = async_nats::jetstream::new(stack.nats_as("ops").await).get_stream("DEALS").await.unwrap();
    let consumer: async_nats::jetstream::consumer::PullConsumer = stream.get_consumer("allocation-status__deal").await.unwrap();
    for _ in 0..10 {
        let mut delivered = consumer.fetch().max_messages(1).expires(Duration::from_secs(10)).messages().await.unwrap();
        let message = delivered.next().await.expect("it is delivered again").unwrap();
        message.ack_with(async_nats::jetstream::AckKind::Nak(None)).await.unwrap();
    }
    stack.restart("allocation-status").await;
    let after = office.deal(&stack).await;
    office.analyst.get(&format!("/deals/{killer}")).await.expect(404);
    office.analyst.get(&format!("/deals/{after}")).await.expect(200);
    let page = office.admin.until(&format!("{LETTERS}?status=parked"), |page| !items(page).is_empty()).await;
    assert_eq!(items(&page)[0]["reason"], "given up after 11 deliveries", "{page:#}");
}
