//! The relay: publishes what the event log holds, until the broker has acknowledged it.
//!
//! If the process dies after the publish and before the delete, the event is published again; every
//! reader is gated by version, so that is harmless. Any number of relays may run.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::amnesia::{check_streams, compare_first, connection, publish_unsettled};
use crate::context::put;
use crate::crash;
use crate::database::{Database, LoggedEvent};
use crate::fault::Fault;
use crate::limits;
use crate::nats::{STREAMS, stream_of};
use crate::outcome::{Handed, Range};
use crate::shell::Shell;

/// Publishes until the service stops and what is in hand is done.
pub(crate) async fn run(shell: Arc<Shell>, database: Database, mut committed: mpsc::Receiver<Handed>) {
    let mut poll = tokio::time::interval(limits::RELAY_POLL);
    let mut check = tokio::time::interval(limits::STREAM_CHECK);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // the connection that the streams were last compared on; a new one may lead to a broker that forgot
    let mut compared_on = 0;
    let mut handed = Vec::new();
    let mut began = Instant::now();
    let mut taken = began;
    loop {
        let done = tokio::select! {
            received = committed.recv_many(&mut handed, limits::RELAY_TOGETHER) => {
                if received == 0 { break; }
                tokio::time::sleep_until(began + limits::RELAY_PAUSE).await;
                began = Instant::now();
                while handed.len() < limits::RELAY_TOGETHER && let Ok(more) = committed.try_recv() {
                    handed.push(more);
                }
                taken = handed.last().map_or(taken, |last| last.since);
                let handed = together(handed.drain(..));
                // one slow publish is no overload; more than one round of them is
                if !committed.is_empty() {
                    shell.published.begin(handed.since);
                }
                let done = match compare_first(&shell, &database, &mut compared_on).await {
                    Ok(()) => publish_and_forget(&shell, &database, compared_on, handed).await,
                    // they wait in the outbox, as they do anyway
                    Err(fault) => Err(fault),
                };
                shell.published.end();
                done
            }
            _ = poll.tick() => {
                // what waits in memory was committed after what was taken last; the poll leaves it alone
                let newer = if committed.is_empty() { Duration::ZERO } else { taken.elapsed() };
                let waited = limits::LEFT_OVER_AFTER + newer;
                match compare_first(&shell, &database, &mut compared_on).await {
                    Ok(()) => match publish_left_over(&shell, &database, compared_on, waited).await {
                        // what is committed meanwhile takes turns with it
                        Ok(true) => {
                            poll.reset_immediately();
                            Ok(())
                        }
                        done => done.map(drop),
                    },
                    Err(fault) => Err(fault),
                }
            }
            _ = check.tick() => check_streams(&shell, &database, compared_on).await.map(|connection| compared_on = connection),
            () = shell.stopped() => break,
        };
        if let Err(fault) = done {
            tracing::warn!(%fault, "relay");
        }
    }
    committed.close();
    while let Some(handed) = committed.recv().await {
        if let Err(fault) = publish_and_forget(&shell, &database, compared_on, handed).await {
            tracing::warn!(%fault, "relay, while stopping");
        }
    }
}

fn together(parts: impl Iterator<Item = Handed>) -> Handed {
    let mut all = Handed::of(vec![]);
    for part in parts {
        all.since = all.since.min(part.since);
        all.events.extend(part.events);
        all.ranges.extend(part.ranges);
    }
    all
}

/// Publishes events and deletes the rows under which they waited. A row goes when all of its events are acknowledged; if the
/// process dies before that, or the connection on which the streams were compared is gone, all of them are published again.
async fn publish_and_forget(shell: &Shell, database: &Database, compared_on: u64, handed: Handed) -> Result<(), Fault> {
    for (stream, _) in STREAMS {
        let of_stream: Vec<&LoggedEvent> = handed.events.iter().filter(|event| event.stream == stream).collect();
        let ranges: Vec<&Range> = handed.ranges.iter().filter(|range| range.stream == stream).collect();
        if of_stream.is_empty() {
            if !ranges.is_empty() {
                // their month was put aside
                tracing::error!(stream, ?ranges, "events that wait for the broker are no longer in the log; they are given up");
                database.within(forget(database, &ranges, stream, &Place::default(), &[])).await?;
            }
            continue;
        }
        crash::point("publish-before");
        let publishes: Vec<_> =
            of_stream.chunks(limits::PUBLISH_MAX).map(|batch| publish_or_single_out(&shell.jetstream, batch).boxed()).collect();
        let published: Vec<Result<Acknowledged, Fault>> =
            futures::stream::iter(publishes).buffered(limits::PUBLISHES_AT_ONCE).collect().await;
        let mut last = Place::default();
        let mut refused = Vec::new();
        for result in published {
            match result {
                Ok(published) => {
                    last = last.max(published.last);
                    refused.extend(published.refused.iter().map(|event| event.log_id));
                }
                Err(fault) => {
                    database.within(postpone(database, &ranges)).await?;
                    return Err(fault);
                }
            }
        }
        if stream == "EVENTS" && last.sequence > 0 && shell.published.note(last.sequence) {
            tracing::warn!(stream, last.sequence, "the broker acknowledges below what it had acknowledged");
            publish_unsettled(database, stream).await?;
            shell.compare.notify_one();
        }
        if connection(shell) != compared_on {
            return Err(Fault::Transient("the connection is a new one; what was published waits for the comparison".into()));
        }
        crash::point("publish-after");
        database.within(forget(database, &ranges, stream, &last, &refused)).await?;
        crash::point("publish-after-delete");
        metrics::counter!("tranche_events_published_total").increment(of_stream.len() as u64);
    }
    Ok(())
}

/// Where an event stands in its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The stream's sequence.
    pub sequence: u64,
    /// The subject.
    pub subject: String,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Acknowledged<'a> {
    /// Where the last event stands.
    pub last: Place,
    /// The events that the broker refused.
    pub refused: Vec<&'a LoggedEvent>,
}

/// Publishes a batch of one stream. A few events, and those of a batch that one of them spoils, are published each by itself.
pub async fn publish_or_single_out<'a>(jetstream: &jetstream::Context, batch: &[&'a LoggedEvent]) -> Result<Acknowledged<'a>, Fault> {
    if batch.len() > limits::PUBLISH_SINGLY_MAX {
        match publish(jetstream, batch).await {
            Err(Fault::Fatal(why)) => tracing::error!(%why, "the broker refused a batch"),
            done => return done.map(|last| Acknowledged { last, refused: vec![] }),
        }
    }
    let singly: Vec<_> = batch.iter().map(|event| publish(jetstream, std::slice::from_ref(event)).boxed()).collect();
    let acks: Vec<Result<Place, Fault>> = futures::stream::iter(singly).buffered(limits::PUBLISH_SINGLY_MAX).collect().await;
    let mut done = Acknowledged::default();
    for (event, ack) in batch.iter().zip(acks) {
        match ack {
            Ok(place) => done.last = done.last.max(place),
            Err(Fault::Transient(why)) => return Err(Fault::Transient(why)),
            Err(fault) => {
                tracing::error!(subject = event.subject, log_id = event.log_id, %fault, "the broker does not take an event");
                done.refused.push(event);
            }
        }
    }
    Ok(done)
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
/// syncs to disk a batch instead of one a message). Returns where the last one stands. The
/// fault is fatal when the broker has refused what it was given.
async fn publish(jetstream: &jetstream::Context, events: &[&LoggedEvent]) -> Result<Place, Fault> {
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
            crash::point("publish-in-batch");
            client.publish_with_headers(event.subject.clone(), headers, event.body.clone()).await.map_err(|error| fault(&error))?;
        } else {
            if events.len() > 1 {
                headers.insert("Nats-Batch-Commit", "1");
            }
            let reply =
                client.request_with_headers(event.subject.clone(), headers, event.body.clone()).await.map_err(|error| fault(&error))?;
            last = Some((reply, event.subject.clone()));
        }
    }
    let Some((reply, subject)) = last else { return Ok(Place::default()) };
    let ack: PublishAck = serde_json::from_slice(&reply.payload).map_err(|error| fault(&error))?;
    match ack.error {
        Some(error) => Err(Fault::Fatal(format!("publish: {error}"))),
        None => Ok(Place { sequence: ack.seq, subject }),
    }
}

fn keys<'a>(ranges: &[&'a Range]) -> (Vec<i64>, Vec<&'a str>) {
    ranges.iter().map(|range| (range.first, range.stream)).unzip()
}

/// Deletes the rows of what was published, but none that has grown since it was read: more waits under it now. What was
/// refused waits on, each event under a row of its own.
async fn forget(database: &Database, ranges: &[&Range], stream: &str, last: &Place, refused: &[i64]) -> Result<(), Fault> {
    // if this is lost in a crash of the server the events are published again: no need to wait for its disk
    let delete = sqlx::query(
        "with lazily as materialized (select set_config('synchronous_commit', 'off', true)),
         gone as (
            delete from outbox_pending as waiting using unnest($1::bigint[], $4::bigint[]) as done (first_log_id, last_log_id)
            where waiting.first_log_id = done.first_log_id and waiting.last_log_id = done.last_log_id and stream = $2
         )
         update relay_state set last_seq = $3, last_subject = $5 from lazily where stream = $2 and last_seq < $3",
    )
    .bind(keys(ranges).0)
    .bind(stream)
    .bind(i64::try_from(last.sequence).unwrap_or(i64::MAX))
    .bind(ranges.iter().map(|range| range.last).collect::<Vec<_>>())
    .bind(&last.subject);
    if refused.is_empty() {
        delete.execute(&database.pool()).await?;
        return Ok(());
    }
    let mut transaction = database.pool().begin().await?;
    delete.execute(&mut *transaction).await?;
    sqlx::query(
        "insert into outbox_pending (first_log_id, last_log_id, stream, events, attempts, next_attempt)
         select log_id, log_id, $2, 1, 1, clock_timestamp() + interval '5 seconds' from unnest($1::bigint[]) as refused (log_id)
         on conflict (first_log_id, stream) do nothing",
    )
    .bind(refused)
    .bind(stream)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

async fn postpone(database: &Database, ranges: &[&Range]) -> Result<(), Fault> {
    let (firsts, streams) = keys(ranges);
    sqlx::query(
        "update outbox_pending
         set attempts = attempts + 1, next_attempt = clock_timestamp() + make_interval(secs => least(attempts, 5))
         from unnest($1::bigint[], $2::text[]) as range (first_log_id, stream)
         where outbox_pending.first_log_id = range.first_log_id and outbox_pending.stream = range.stream",
    )
    .bind(firsts)
    .bind(streams)
    .execute(&database.pool())
    .await?;
    Ok(())
}

pub(crate) fn logged(row: &PgRow) -> Result<LoggedEvent, sqlx::Error> {
    Ok(LoggedEvent {
        log_id: row.try_get("log_id")?,
        event_id: row.try_get("event_id")?,
        stream: stream_of(row.try_get("subject")?),
        subject: row.try_get("subject")?,
        aggregate: row.try_get::<String, _>("aggregate")?.into(),
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

/// Publishes some of what has waited for longer than this: left by a crash, an outage or a full queue. Whether there was any.
async fn publish_left_over(shell: &Shell, database: &Database, compared_on: u64, longer_than: Duration) -> Result<bool, Fault> {
    let waits = database
        .within(async {
            let mut connection = database.pool().acquire().await?;
            depth(&mut connection).await
        })
        .await?;
    shell.outbox_depth.store(waits.new, std::sync::atomic::Ordering::Relaxed);
    metrics::gauge!("tranche_outbox_depth").set(waits.events as f64);
    metrics::gauge!("tranche_outbox_oldest_seconds").set(waits.seconds);
    if waits.events == 0 {
        return Ok(false);
    }
    let handed = database.within(left_over(database, longer_than)).await?;
    if handed.ranges.is_empty() {
        return Ok(false);
    }
    publish_and_forget(shell, database, compared_on, handed).await?;
    Ok(true)
}

/// What waits for the broker.
pub(crate) struct Waits {
    /// How many events.
    pub events: i64,
    /// How many of them were never with the broker.
    pub new: i64,
    /// For how many seconds the oldest has waited.
    pub seconds: f64,
}

/// What waits for the broker.
pub(crate) async fn depth(connection: &mut sqlx::PgConnection) -> Result<Waits, Fault> {
    let (events, new, seconds) = sqlx::query_as(
        "select coalesce(sum(events), 0)::bigint, coalesce(sum(events) filter (where not again), 0)::bigint,
                coalesce(extract(epoch from clock_timestamp() - min(since)), 0)::float8
         from outbox_pending",
    )
    .fetch_one(connection)
    .await?;
    Ok(Waits { events, new, seconds })
}

/// The oldest ranges that have waited, at least one, with about as many events as are published at once.
async fn left_over(database: &Database, longer_than: Duration) -> Result<Handed, Fault> {
    let ranges: Vec<(i64, i64, String)> = sqlx::query_as(
        "select first_log_id, last_log_id, stream
         from (select first_log_id, last_log_id, stream, sum(events) over (order by first_log_id, stream) - events as before
               from (select * from outbox_pending where next_attempt < clock_timestamp() - make_interval(secs => $2)
                     order by first_log_id, stream limit $1) as oldest) as summed
         where before < $1",
    )
    .bind((limits::PUBLISH_MAX * limits::PUBLISHES_AT_ONCE) as i64)
    .bind(longer_than.as_secs_f64())
    .fetch_all(&database.pool())
    .await?;
    let events = sqlx::query(
        "select log_id, event_id, subject, aggregate, aggregate_id, epoch, version, at,
                actor, correlation_id, causation_id, traceparent, body
         from unnest($1::bigint[], $2::bigint[], $3::text[]) as range (first_log_id, last_log_id, stream)
         join event_log on log_id between first_log_id and last_log_id and event_log.stream = range.stream
         order by log_id",
    )
    .bind(ranges.iter().map(|range| range.0).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.1).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.2.as_str()).collect::<Vec<_>>())
    .try_map(|row: PgRow| logged(&row))
    .fetch_all(&database.pool())
    .await?;
    let known = |name: &str| STREAMS.iter().map(|(stream, _)| *stream).find(|stream| *stream == name);
    let range = |(first, last, stream): &(i64, i64, String)| Some(Range { first: *first, last: *last, stream: known(stream)? });
    let ranges = ranges.iter().filter_map(range).collect();
    Ok(Handed { ranges, ..Handed::of(events) })
}
