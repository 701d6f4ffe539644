//! What every reader must bear: the same message again, an older one after a newer one, one that nobody can read, a service that
//! stands still, and one that dies around its commit. The readers are those that the broker knows: a new one is tried too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde_json::Value;
use testkit::process::signal;
use testkit::{Stack, database, wait};

use crate::office::{Office, id, lines};

const STREAMS: [&str; 5] = ["EVENTS", "DEALS", "ACCESS", "NOTICES", "DEAD_LETTERS"];
/// Tables that are not what a reader makes of events.
const OWN: &str =
    "'outbox_pending', 'relay_state', 'idempotency', 'dead_letters', 'summaries_due', 'log_positions', 'service_state', '_sqlx_migrations'";

/// A durable consumer.
#[derive(Clone, Debug)]
struct Reader {
    service: String,
    purpose: String,
    filter: String,
    waiting: u64,
}

async fn readers(stack: &Stack) -> Vec<Reader> {
    let ops = stack.nats_as("ops").await;
    let mut readers = Vec::new();
    for stream in STREAMS {
        let reply = ops.request(format!("$JS.API.CONSUMER.LIST.{stream}"), "{}".into()).await.unwrap();
        let list: Value = serde_json::from_slice(&reply.payload).unwrap();
        for consumer in list["consumers"].as_array().into_iter().flatten() {
            let Some((service, purpose)) = consumer["config"]["durable_name"].as_str().and_then(|name| name.split_once("__")) else {
                continue;
            };
            readers.push(Reader {
                service: service.to_owned(),
                purpose: purpose.to_owned(),
                filter: consumer["config"]["filter_subject"].as_str().unwrap_or_default().to_owned(),
                waiting: consumer["num_pending"].as_u64().unwrap() + consumer["num_ack_pending"].as_u64().unwrap(),
            });
        }
    }
    readers
}

/// Waits until everything is published and read.
async fn quiet(stack: &Stack) {
    let database = stack.database().await;
    let schemas: Vec<String> = services(&readers(stack).await).iter().map(|service| database::schema_of(service)).collect();
    let counts: Vec<String> = schemas
        .iter()
        .map(|schema| format!("(select count(*) from {schema}.outbox_pending) + (select count(*) from {schema}.summaries_due)"))
        .collect();
    let statement = format!("select {}", counts.join(" + "));
    let is_quiet = async || {
        sqlx::query_scalar::<_, i64>(&statement).fetch_one(&database).await.unwrap() == 0
            && readers(stack).await.iter().all(|reader| reader.waiting == 0)
    };
    // twice: what a reader has just committed may lead to more
    let is_quiet = wait::until(Duration::from_secs(40), || async { is_quiet().await && is_quiet().await });
    assert!(is_quiet.await, "{:?}", readers(stack).await.iter().filter(|reader| reader.waiting > 0).collect::<Vec<_>>());
}

fn services(readers: &[Reader]) -> Vec<String> {
    let mut services: Vec<String> = readers.iter().map(|reader| reader.service.clone()).collect();
    services.sort();
    services.dedup();
    services
}

/// A hash of each table that readers make.
async fn made(stack: &Stack) -> BTreeMap<String, String> {
    let database = stack.database().await;
    let mut hashes = BTreeMap::new();
    for service in services(&readers(stack).await) {
        let schema = database::schema_of(&service);
        let tables = format!(
            "select tablename::text from pg_tables where schemaname = '{schema}' and tablename not like 'event_log%' and tablename not in ({OWN})"
        );
        for table in sqlx::query_scalar::<_, String>(&tables).fetch_all(&database).await.unwrap() {
            let hash = format!("select coalesce(md5(string_agg(kept::text, '' order by kept::text)), '') from {schema}.{table} as kept");
            let hash = sqlx::query_scalar(&hash).fetch_one(&database).await.unwrap();
            hashes.insert(format!("{schema}.{table}"), hash);
        }
    }
    hashes
}

/// A message as it stands in a stream.
type Kept = (String, HeaderMap, bytes::Bytes);

async fn all_events(stack: &Stack) -> Vec<Kept> {
    let stream = async_nats::jetstream::new(stack.nats_as("ops").await).get_stream("EVENTS").await.unwrap();
    let mut kept = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        kept.push((message.subject.to_string(), message.headers, message.payload));
    }
    kept
}

async fn publish(stack: &Stack, messages: impl IntoIterator<Item = Kept>) {
    let jetstream = async_nats::jetstream::new(stack.nats_as("ops").await);
    for (subject, headers, payload) in messages {
        // those of an atomic batch were published together once; now each comes alone
        let headers = headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-Batch"));
        let headers = headers.flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone()))).collect();
        jetstream.publish_with_headers(subject, headers, payload).await.unwrap().await.unwrap();
    }
}

/// A firm with a call, payments and a reversal; everything is read.
async fn firm(stack: &Stack) -> (Office, uuid::Uuid, String) {
    let office = Office::of(stack);
    let (fund, _, call) = office.open_call(stack, 2, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    office.pay(line, "10.00", "one").await;
    let second = id(&office.pay(line, "5.00", "two").await, "id");
    let reversal = serde_json::json!({"reason": "returned", "effective_on": "2026-01-20"});
    office.treasurer.post(&format!("/payments/{second}/reverse"), reversal).await.expect(200);
    quiet(stack).await;
    (office, line, format!("/funds/{}/metrics", fund.id))
}

#[tokio::test]
async fn the_same_messages_again_and_in_reverse_order_change_nothing() {
    let stack = Stack::start().await;
    firm(&stack).await;
    let (before, events) = (made(&stack).await, all_events(&stack).await);
    assert!(events.len() > 20 && before.len() > 15, "{} events, {} tables", events.len(), before.len());
    publish(&stack, events.clone()).await;
    quiet(&stack).await;
    assert_eq!(made(&stack).await, before, "duplicates");
    publish(&stack, events.into_iter().rev()).await;
    quiet(&stack).await;
    assert_eq!(made(&stack).await, before, "reversed");
}

#[tokio::test]
async fn a_message_that_nobody_can_read_is_put_aside_by_each_reader_and_what_follows_is_read() {
    let stack = Stack::start().await;
    let (office, line, metrics) = firm(&stack).await;
    let mut expected: BTreeMap<(String, String), i64> = BTreeMap::new();
    for reader in readers(&stack).await {
        // whoever records keeps what it cannot read
        if reader.purpose == "record" {
            continue;
        }
        let subject = reader.filter.trim_end_matches(".>").to_owned() + ".poison.-";
        publish(&stack, [(subject, HeaderMap::new(), "no event at all".into())]).await;
        // all who read that kind get it, once for each time that it is sent
        for other in readers(&stack).await.iter().filter(|other| other.purpose != "record" && other.filter == reader.filter) {
            *expected.entry((other.service.clone(), other.purpose.clone())).or_default() += 1;
        }
    }
    assert!(expected.len() >= 10, "{expected:?}");
    let database = stack.database().await;
    let put_aside = wait::until(Duration::from_secs(20), || async { all_put_aside(&database, &expected).await });
    assert!(put_aside.await, "{expected:?}");
    office.pay(line, "7.00", "after").await;
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "17.00").await;
    quiet(&stack).await;
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

async fn all_put_aside(database: &sqlx::PgPool, expected: &BTreeMap<(String, String), i64>) -> bool {
    for ((service, reaction), count) in expected {
        let statement = format!("select count(*) from {}.dead_letters where reaction = $1", database::schema_of(service));
        let letters: i64 = sqlx::query_scalar(&statement).bind(reaction).fetch_one(database).await.unwrap();
        if letters != *count {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_nobody_and_catches_up() {
    let mut stack = Stack::start().await;
    let (office, line, metrics) = firm(&stack).await;
    for service in ["fund-metrics", "notifications", "audit", "allocation-status"] {
        let pid = stack.replicas.get_mut(service).unwrap().process.pid();
        signal(pid, "STOP");
        let since = Instant::now();
        for number in 0..20 {
            office.pay(line, "0.10", &format!("{service} {number}")).await;
        }
        let paid_within = since.elapsed();
        signal(pid, "CONT");
        // each waits for nobody but its own service; the gateway waits two seconds at most for the record of an access
        assert!(paid_within < Duration::from_secs(20), "{service} held up the writer for {paid_within:?}");
    }
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "18.00").await;
    quiet(&stack).await;
}

#[tokio::test]
async fn a_reader_that_dies_before_or_after_its_commit_loses_and_doubles_nothing() {
    let mut stack = Stack::start().await;
    let (office, line, metrics) = firm(&stack).await;
    let (mut paid, events) = (0, all_events(&stack).await);
    for service in services(&readers(&stack).await) {
        let kind = if service == "audit" { "record" } else { "reader" };
        for place in ["before-commit", "after-commit", "after-acknowledgement"] {
            stack.kill(&service);
            stack.settings.variables.push(("FAILPOINTS".into(), format!("{kind}-{place}=1*return")));
            stack.start_again(&service);
            if service != "capital-calls" {
                office.pay(line, "0.50", &format!("{service} {place}")).await;
                paid += 1;
            }
            publish(&stack, events.clone()).await;
            let replica = stack.replicas.get_mut(&service).unwrap();
            let died = wait::until(Duration::from_secs(20), || {
                let ended = !replica.process.is_running();
                async move { ended }
            });
            assert!(died.await, "{service} did not reach {kind}-{place}");
            stack.settings.variables.pop();
            stack.restart(&service).await;
        }
    }
    let paid_in = format!("{}.{:02}", 10 + paid / 2, 50 * (paid % 2));
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == paid_in.as_str()).await;
    quiet(&stack).await;
    let before = made(&stack).await;
    publish(&stack, events).await;
    quiet(&stack).await;
    assert_eq!(made(&stack).await, before);
    for service in services(&readers(&stack).await) {
        for arguments in [&["verify"][..], &["verify", "--recompute"]] {
            let output = stack.settings.command(&service, 0).args(arguments).output().unwrap();
            assert!(output.status.success(), "{service}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
