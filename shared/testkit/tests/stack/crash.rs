//! Services are killed in the midst of payments: nothing is lost, nothing is doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::{Client, SERVICES, Stack};
use uuid::Uuid;

use crate::office::{Office, id, lines, payment};

/// Payments that are sent while services are killed.
const PAYMENTS: usize = 2_000;
/// Senders at work at once.
const SENDERS: usize = 40;

/// Sends a payment until it is answered, as a careful client does: the same key again and again.
async fn send(client: &Client, line: Uuid, number: usize) -> Value {
    let body = payment("0.01", &format!("p{number}")).to_string().into_bytes();
    loop {
        match client.send("POST", &format!("/call-lines/{line}/payments"), Some(&format!("key-{number}")), Some(body.clone())).await {
            Ok(reply) if reply.status == 201 => return reply.body,
            Ok(reply) if reply.status < 500 && reply.status != 429 => panic!("payment {number} was refused: {:#}", reply.body),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test]
async fn two_thousand_payments_survive_the_death_of_each_service() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 4, "40.00").await;
    let line_ids: Arc<Vec<Uuid>> = Arc::new(lines(&call).iter().map(|line| id(line, "id")).collect());
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (client, line_ids, next, done) = (office.treasurer.clone(), line_ids.clone(), next.clone(), done.clone());
            tokio::spawn(async move {
                let mut recorded = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PAYMENTS {
                        return recorded;
                    }
                    recorded.push(send(&client, line_ids[number % line_ids.len()], number).await);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for (position, service) in SERVICES.iter().enumerate() {
        let share = PAYMENTS * (position + 1) / (SERVICES.len() + 1);
        let reached = testkit::wait::until(Duration::from_secs(120), || async { done.load(Ordering::Relaxed) >= share });
        assert!(reached.await, "payments stopped after {} of {PAYMENTS}", done.load(Ordering::Relaxed));
        stack.crash(service).await;
    }
    let mut ids = std::collections::HashSet::new();
    for sender in senders {
        for payment in sender.await.unwrap() {
            ids.insert(id(&payment, "id"));
        }
    }
    assert_eq!(ids.len(), PAYMENTS, "each key has a payment of its own");
    let database = stack.database().await;
    let stored: i64 = sqlx::query_scalar("select count(*) from capital_calls.payments").fetch_one(&database).await.unwrap();
    assert_eq!(stored, PAYMENTS as i64, "nothing lost, nothing doubled");
    let metrics = office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "20.00").await;
    assert_eq!((metrics["outstanding"].as_str(), metrics["called"].as_str()), (Some("20.00"), Some("40.00")));
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["paid"] == "20.00").await;
    let missing = "select count(*) from capital_calls.event_log where not exists (select from audit.records where source_id = event_id)";
    let complete = testkit::wait::until(Duration::from_secs(30), || async {
        sqlx::query_scalar::<_, i64>(missing).fetch_one(&database).await.unwrap() == 0
    });
    assert!(complete.await, "every event is in the audit record");
    let dead: i64 = sqlx::query_scalar(
        "select (select count(*) from capital_calls.dead_letters) + (select count(*) from fund_metrics.dead_letters)
              + (select count(*) from allocation_status.dead_letters) + (select count(*) from notifications.dead_letters)",
    )
    .fetch_one(&database)
    .await
    .unwrap();
    assert_eq!(dead, 0, "no good message was given up");
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

#[tokio::test]
async fn what_was_accepted_while_the_broker_lost_everything_is_published_again() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    office.pay(id(&lines(&call)[0], "id"), "30.00", "before").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "30.00").await;
    // the reader is away, a payment is accepted, and the broker's store is wiped before it was read
    stack.kill("fund-metrics");
    office.pay(id(&lines(&call)[0], "id"), "20.00", "unread").await;
    let port = stack.nats.port();
    stack.nats.process().kill();
    std::fs::remove_dir_all(stack.folder().join("jetstream")).unwrap();
    stack.nats = testkit::nats::Nats::start_on(stack.folder(), testkit::TEST_PASSWORD, port).unwrap();
    stack.nats.ready().await.unwrap();
    // what the two of them publish, readers need: the rules come back as well
    stack.restart("fund-metrics").await;
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "50.00").await;
    all_are_in_the_stream(&stack).await;
}

/// A payment that fund-metrics has read and one that it has not; and the path of its fund's metrics.
async fn one_read_and_one_unread(stack: &mut Stack, office: &Office) -> (Uuid, String) {
    let (fund, _, call) = office.open_call(stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    office.pay(line, "30.00", "read").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "30.00").await;
    stack.kill("fund-metrics");
    (line, metrics)
}

/// What the reader missed arrives after all, and what comes afterwards as well.
async fn goes_on(stack: &mut Stack, office: &Office, line: Uuid, metrics: &str) {
    stack.restart("fund-metrics").await;
    office.manager.until(metrics, |metrics| metrics["paid_in"] == "50.00").await;
    office.pay(line, "7.00", "after").await;
    office.manager.until(metrics, |metrics| metrics["paid_in"] == "57.00").await;
    all_are_in_the_stream(stack).await;
}

/// Readers have each other way to get what they lack; those outside have the stream only.
async fn all_are_in_the_stream(stack: &Stack) {
    let database = stack.database().await;
    let complete = testkit::wait::until(Duration::from_secs(30), || async {
        let in_stream = stack.event_ids("EVENTS").await;
        let mut lacking = Vec::new();
        for owner in ["workflow", "allocation_status", "capital_calls", "fund_metrics"] {
            let logged = format!("select event_id from {owner}.event_log where stream = 'EVENTS'");
            let logged: Vec<Uuid> = sqlx::query_scalar(&logged).fetch_all(&database).await.unwrap();
            lacking.extend(logged.into_iter().filter(|id| !in_stream.contains(id)));
        }
        lacking.is_empty()
    });
    assert!(complete.await, "the stream lacks events of the logs");
}

#[tokio::test]
async fn a_stream_that_is_deleted_comes_back_with_its_events() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (line, metrics) = one_read_and_one_unread(&mut stack, &office).await;
    office.pay(line, "20.00", "unread").await;
    async_nats::jetstream::new(stack.nats_as("ops").await).delete_stream("EVENTS").await.unwrap();
    goes_on(&mut stack, &office, line, &metrics).await;
}

#[tokio::test]
async fn a_stream_that_is_emptied_gets_its_events_again() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (line, metrics) = one_read_and_one_unread(&mut stack, &office).await;
    office.pay(line, "20.00", "unread").await;
    let stream = async_nats::jetstream::new(stack.nats_as("ops").await).get_stream("EVENTS").await.unwrap();
    stream.purge().await.unwrap();
    goes_on(&mut stack, &office, line, &metrics).await;
}

#[tokio::test]
async fn a_broker_that_is_set_back_to_an_older_copy_gets_what_it_lacks() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (line, metrics) = one_read_and_one_unread(&mut stack, &office).await;
    let (store, copy) = (stack.folder().join("jetstream"), stack.folder().join("older"));
    let port = stack.nats.port();
    stack.nats.stop();
    let copied = std::process::Command::new("cp").arg("-r").arg(&store).arg(&copy).status().unwrap();
    assert!(copied.success());
    stack.nats = testkit::nats::Nats::start_on(stack.folder(), testkit::TEST_PASSWORD, port).unwrap();
    stack.nats.ready().await.unwrap();
    office.pay(line, "20.00", "unread").await;
    let database = stack.database().await;
    let waiting = "select count(*) from capital_calls.outbox_pending";
    let published = testkit::wait::until(Duration::from_secs(20), || async {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&database).await.unwrap() == 0
    });
    assert!(published.await, "the broker has what the copy lacks");
    stack.nats.process().kill();
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    stack.nats = testkit::nats::Nats::start_on(stack.folder(), testkit::TEST_PASSWORD, port).unwrap();
    stack.nats.ready().await.unwrap();
    goes_on(&mut stack, &office, line, &metrics).await;
}
