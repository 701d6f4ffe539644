//! The relay: publishes what the event log holds, until the broker has acknowledged it.
//!
//! If the process dies after the publish and before the delete, the event is published again; every
//! reader is gated by version, so that is harmless. Any number of relays may run.

use async_nats::HeaderMap;
use async_nats::jetstream;
use serde::Deserialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::context::put;
use crate::database::{Database, LoggedEvent};
use crate::fault::Fault;
use crate::limits;
use crate::nats::{STREAMS, ensure_streams};
use crate::shell::Shell;

/// Publishes until the service stops and what is in hand is done.
pub async fn run(shell: std::sync::Arc<Shell>, database: Database, mut committed: mpsc::Receiver<Vec<LoggedEvent>>) {
    let mut poll = tokio::time::interval(limits::RELAY_POLL);
    let mut check = tokio::time::interval(limits::STREAM_CHECK);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut handed = Vec::new();
    loop {
        let done = tokio::select! {
            received = committed.recv_many(&mut handed, 64) => {
                if received == 0 { break; }
                publish_and_forget(&shell, &database, handed.drain(..).flatten().collect()).await
            }
            _ = poll.tick() => publish_left_over(&shell, &database).await,
            _ = check.tick() => compare_streams(&shell, &database).await,
            () = shell.stopped() => break,
        };
        if let Err(fault) = done {
            tracing::warn!(%fault, "relay");
        }
    }
    committed.close();
    while let Some(events) = committed.recv().await {
        if let Err(fault) = publish_and_forget(&shell, &database, events).await {
            tracing::warn!(%fault, "relay, while stopping");
        }
    }
}

async fn publish_and_forget(shell: &Shell, database: &Database, events: Vec<LoggedEvent>) -> Result<(), Fault> {
    for (stream, _) in STREAMS {
        let of_stream: Vec<&LoggedEvent> = events.iter().filter(|event| event.stream == stream).collect();
        for batch in of_stream.chunks(limits::PUBLISH_MAX) {
            let log_ids: Vec<i64> = batch.iter().map(|event| event.log_id).collect();
            match publish(&shell.jetstream, batch).await {
                Ok(last_seq) => forget(database, &log_ids, stream, last_seq).await?,
                // one event spoils the others: each by itself, and only those that are refused wait
                Err(Fault::Fatal(why)) => {
                    tracing::error!(stream, %why, "the broker refused a batch");
                    for event in batch {
                        match publish(&shell.jetstream, &[event]).await {
                            Ok(last_seq) => forget(database, &[event.log_id], stream, last_seq).await?,
                            Err(fault) => {
                                tracing::error!(subject = event.subject, log_id = event.log_id, %fault, "event cannot be published; it is tried again");
                                postpone(database, &[event.log_id]).await?;
                            }
                        }
                    }
                }
                Err(fault) => {
                    postpone(database, &log_ids).await?;
                    return Err(fault);
                }
            }
        }
    }
    Ok(())
}

/// The headers of an event: CloudEvents 1.0, binary mode.
fn headers(event: &LoggedEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, "ce-specversion", "1.0");
    put(&mut headers, "ce-id", &event.event_id.to_string());
    let (kind, _) = event.subject.rsplit_once('.').unwrap_or((&event.subject, ""));
    put(&mut headers, "ce-type", if event.subject.starts_with("tranche.evt.") { kind } else { &event.subject });
    put(&mut headers, "ce-source", "/tranche");
    put(&mut headers, "ce-subject", &event.aggregate_id.to_string());
    put(&mut headers, "ce-time", &event.at.to_rfc3339());
    put(&mut headers, "ce-datacontenttype", "application/json");
    put(&mut headers, "ce-dataschema", &format!("/schemas/events/{}.v{}.json", event.aggregate, domain::registry::SCHEMA_VERSION));
    put(&mut headers, "ce-aggregate", &event.aggregate);
    put(&mut headers, "ce-aggregateid", &event.aggregate_id.to_string());
    put(&mut headers, "ce-aggregateversion", &event.version.to_string());
    put(&mut headers, "ce-epoch", &event.epoch.to_string());
    put(&mut headers, "ce-correlationid", &event.correlation_id);
    put(&mut headers, "ce-causationid", &event.causation_id);
    put(&mut headers, "ce-actor", &event.actor);
    if let Some(traceparent) = &event.traceparent {
        headers.insert("traceparent", traceparent.as_str());
    }
    headers
}

#[derive(Deserialize)]
struct PublishAck {
    #[serde(default)]
    seq: u64,
    error: Option<serde_json::Value>,
}

/// Publishes events of one stream: one by itself, several as an atomic batch (all or none; four
/// syncs to disk a batch instead of one a message). Returns the stream's sequence of the last one. The
/// fault is fatal when the broker has refused what it was given.
pub async fn publish(jetstream: &jetstream::Context, events: &[&LoggedEvent]) -> Result<u64, Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("publish: {error}"));
    let client = jetstream.client();
    let batch_id = client.new_inbox();
    let batch_id = batch_id.rsplit('.').next().unwrap_or_default();
    let mut last = None;
    for (position, event) in events.iter().enumerate() {
        let mut headers = headers(event);
        if events.len() > 1 {
            headers.insert("Nats-Batch-Id", batch_id);
            headers.insert("Nats-Batch-Sequence", (position + 1).to_string());
        }
        if position + 1 < events.len() {
            client.publish_with_headers(event.subject.clone(), headers, event.body.clone()).await.map_err(|error| fault(&error))?;
        } else {
            if events.len() > 1 {
                headers.insert("Nats-Batch-Commit", "1");
            }
            let reply =
                client.request_with_headers(event.subject.clone(), headers, event.body.clone()).await.map_err(|error| fault(&error))?;
            last = Some(reply);
        }
    }
    let Some(reply) = last else { return Ok(0) };
    let ack: PublishAck = serde_json::from_slice(&reply.payload).map_err(|error| fault(&error))?;
    match ack.error {
        Some(error) => Err(Fault::Fatal(format!("publish: {error}"))),
        None => Ok(ack.seq),
    }
}

async fn forget(database: &Database, log_ids: &[i64], stream: &str, last_seq: u64) -> Result<(), Fault> {
    sqlx::query(
        "with gone as (delete from outbox_pending where log_id = any($1))
         update relay_state set last_seq = greatest(last_seq, $3) where stream = $2",
    )
    .bind(log_ids)
    .bind(stream)
    .bind(i64::try_from(last_seq).unwrap_or(i64::MAX))
    .execute(&database.pool)
    .await?;
    metrics::counter!("tranche_events_published_total").increment(log_ids.len() as u64);
    Ok(())
}

async fn postpone(database: &Database, log_ids: &[i64]) -> Result<(), Fault> {
    sqlx::query(
        "update outbox_pending
         set attempts = attempts + 1, next_attempt = clock_timestamp() + make_interval(secs => least(attempts, 5))
         where log_id = any($1)",
    )
    .bind(log_ids)
    .execute(&database.pool)
    .await?;
    Ok(())
}

fn logged(row: &PgRow) -> Result<LoggedEvent, sqlx::Error> {
    Ok(LoggedEvent {
        log_id: row.try_get("log_id")?,
        event_id: row.try_get("event_id")?,
        stream: row.try_get("stream")?,
        subject: row.try_get("subject")?,
        aggregate: row.try_get("aggregate")?,
        aggregate_id: row.try_get("aggregate_id")?,
        epoch: row.try_get("epoch")?,
        version: row.try_get("version")?,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        correlation_id: row.try_get("correlation_id")?,
        causation_id: row.try_get("causation_id")?,
        traceparent: row.try_get("traceparent")?,
        body: row.try_get::<String, _>("body")?.into(),
    })
}

/// Publishes what has waited for a second or more: left by a crash, an outage or a full queue.
async fn publish_left_over(shell: &Shell, database: &Database) -> Result<(), Fault> {
    let (depth, age): (i64, Option<f64>) = sqlx::query_as(
        "select count(*), extract(epoch from clock_timestamp() - (select at from event_log where log_id = min(outbox_pending.log_id)))::float8
         from outbox_pending",
    )
    .fetch_one(&database.pool)
    .await?;
    shell.outbox_depth.store(depth, std::sync::atomic::Ordering::Relaxed);
    metrics::gauge!("tranche_outbox_depth").set(depth as f64);
    metrics::gauge!("tranche_outbox_oldest_seconds").set(age.unwrap_or_default());
    if depth == 0 {
        return Ok(());
    }
    loop {
        let events: Vec<LoggedEvent> = sqlx::query(
            "select log_id, event_id, stream, subject, aggregate, aggregate_id, epoch, version, at,
                    actor, correlation_id, causation_id, traceparent, body::text as body
             from outbox_pending join event_log using (log_id)
             where next_attempt < clock_timestamp() - interval '1 second'
             order by log_id limit $1",
        )
        .bind(limits::PUBLISH_MAX as i64)
        .try_map(|row: PgRow| logged(&row))
        .fetch_all(&database.pool)
        .await?;
        let full = events.len() == limits::PUBLISH_MAX;
        publish_and_forget(shell, database, events).await?;
        if !full {
            return Ok(());
        }
    }
}

/// Compares each stream with what the relay knows of it. A stream that was made anew, or that ends
/// below what was acknowledged, means that the broker forgot: all its events wait again.
async fn compare_streams(shell: &Shell, database: &Database) -> Result<(), Fault> {
    ensure_streams(&shell.jetstream, shell.config.nats_replicas).await?;
    for (name, _) in STREAMS {
        // what is known is read before the stream, so that a publish in between cannot look like a loss
        let known: Option<(String, i64)> = sqlx::query_as("select created_at, last_seq from relay_state where stream = $1")
            .bind(name)
            .fetch_optional(&database.pool)
            .await?;
        let stream = shell.jetstream.get_stream(name).await.map_err(|error| Fault::Transient(error.to_string()))?;
        let created = stream.cached_info().created.to_rfc3339();
        let last_seq = i64::try_from(stream.cached_info().state.last_sequence).unwrap_or(i64::MAX);
        if known.as_ref().is_some_and(|(known_created, known_seq)| *known_created == created && *known_seq <= last_seq) {
            continue;
        }
        sqlx::query(
            "with again as (
                insert into outbox_pending (log_id) select log_id from event_log where stream = $1 and $4
                on conflict do nothing
             )
             insert into relay_state (stream, created_at, last_seq) values ($1, $2, $3)
             on conflict (stream) do update set created_at = excluded.created_at, last_seq = excluded.last_seq",
        )
        .bind(name)
        .bind(&created)
        .bind(last_seq)
        .bind(known.is_some())
        .execute(&database.pool)
        .await?;
        if known.is_some() {
            tracing::warn!(stream = name, "the broker forgot; publishing again from the event log");
            metrics::counter!("tranche_broker_forgot_total").increment(1);
        }
    }
    Ok(())
}
