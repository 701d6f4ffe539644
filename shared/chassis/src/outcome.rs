//! What a transaction leaves besides the service's own changes: events, answers and asked summaries, written
//! in one statement.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::database::LoggedEvent;
use crate::fault::Fault;

/// Events of one block of log ids: a block's number stands above these bits.
const BLOCK_BITS: u32 = 12;
const BLOCK: usize = 1 << BLOCK_BITS;

/// An answer that is stored under its key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kept {
    /// Made of subject, actor and key.
    pub id: Uuid,
    /// Subject of the command.
    pub subject: &'static str,
    /// Who sent it.
    pub actor: String,
    /// Its key.
    pub key: String,
    /// Hash of the request.
    pub hash: Vec<u8>,
    /// The answer.
    pub reply: String,
}

/// What is written at the end of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Events in their order.
    pub events: Vec<LoggedEvent>,
    /// Answers.
    pub answers: Vec<Kept>,
    /// Kind and id of aggregates whose summary is due, in the order of their keys.
    pub summaries: BTreeSet<(&'static str, Uuid)>,
}

impl Outcome {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.answers.is_empty() && self.summaries.is_empty()
    }
}

/// The key of a row of `outbox_pending`: events of one stream in a range of the log that wait for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First log id.
    pub first: i64,
    /// Last log id.
    pub last: i64,
    /// The stream.
    pub stream: &'static str,
}

/// What a transaction hands to the relay.
#[derive(Debug)]
pub struct Handed {
    /// Since when it waits for the broker.
    pub since: Instant,
    /// Its events, with their log ids.
    pub events: Vec<LoggedEvent>,
    /// The rows under which they wait.
    pub ranges: Vec<Range>,
}

impl Handed {
    /// Events that wait from now on.
    pub(crate) fn of(events: Vec<LoggedEvent>) -> Handed {
        Handed { since: Instant::now(), events, ranges: vec![] }
    }
}

/// The events of one stream in one block, by their places.
struct Places {
    first: usize,
    last: usize,
    stream: &'static str,
    events: i32,
}

fn places(events: &[LoggedEvent]) -> Vec<Places> {
    let mut ranges: BTreeMap<(usize, &'static str), Places> = BTreeMap::new();
    for (place, event) in events.iter().enumerate() {
        let new = || Places { first: place, last: place, stream: event.stream, events: 0 };
        let range = ranges.entry((place / BLOCK, event.stream)).or_insert_with(new);
        range.last = place;
        range.events += 1;
    }
    ranges.into_values().collect()
}

/// What became of writing.
pub(crate) enum Written {
    /// All is there.
    All(Handed),
    /// The key of an answer is known already.
    KeyKnown,
    /// The events were made under another epoch than this one, which holds now; none while it is being raised.
    UnderOldEpoch(Option<i32>),
}

/// Writes the outcome of a transaction that began in an epoch. The blocks of log ids come from a sequence, so
/// that transactions never wait for each other here.
pub(crate) async fn write(connection: &mut PgConnection, now: DateTime<Utc>, outcome: &mut Outcome, epoch: i32) -> Result<Written, Fault> {
    if outcome.events.is_empty() && outcome.answers.is_empty() {
        mark(connection, &outcome.summaries).await?;
        return Ok(Written::All(Handed::of(vec![])));
    }
    // the same order in every replica: none waits for another in a circle
    outcome.answers.sort_unstable();
    let Outcome { events, answers, summaries } = outcome;
    let places = places(events);
    let column = |text: fn(&LoggedEvent) -> &str| events.iter().map(text).collect::<Vec<&str>>();
    let row = sqlx::query(
        "with blocks as materialized (
            select array_agg(nextval('event_log_blocks')) as ids from generate_series(1, $1)
         ), logged as (
            insert into event_log (log_id, event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                                   at, actor, correlation_id, causation_id, traceparent, body)
            select (ids[1 + ((place - 1) >> $28)] << $28) + ((place - 1) & $29), event_id, stream, subject, aggregate, aggregate_id,
                   epoch, version, at, actor, correlation_id, causation_id, traceparent, body
            from blocks, unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::int[], $8::bigint[],
                                $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[]) with ordinality
                 as event (event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                           at, actor, correlation_id, causation_id, traceparent, body, place)
         ), waiting as (
            insert into outbox_pending (first_log_id, last_log_id, stream, events)
            select (ids[1 + (first_place >> $28)] << $28) + (first_place & $29), (ids[1 + (last_place >> $28)] << $28) + (last_place & $29),
                   stream, events
            from blocks, unnest($15::bigint[], $16::bigint[], $17::text[], $27::int[]) as range (first_place, last_place, stream, events)
         ), marked as (
            insert into summaries_due (aggregate, aggregate_id) select * from unnest($18::text[], $19::uuid[]) on conflict do nothing
         ), answered as (
            insert into idempotency (id, subject, actor, key, request_hash, reply, created_at)
            select id, subject, actor, key, request_hash, reply, $26
            from unnest($20::uuid[], $21::text[], $22::text[], $23::text[], $24::bytea[], $25::text[])
                 as answer (id, subject, actor, key, request_hash, reply)
            on conflict do nothing
            returning 1
         )
         select ids, (select count(*) from answered) as answers, epoch_for_writing() as epoch from blocks",
    )
    .bind(i32::try_from(events.len().div_ceil(BLOCK)).unwrap_or(i32::MAX))
    .bind(events.iter().map(|event| event.event_id).collect::<Vec<_>>())
    .bind(column(|event| event.stream))
    .bind(column(|event| &event.subject))
    .bind(column(|event| &event.aggregate))
    .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.epoch).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.version).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.at).collect::<Vec<_>>())
    .bind(column(|event| &event.actor))
    .bind(column(|event| &event.correlation_id))
    .bind(column(|event| &event.causation_id))
    .bind(events.iter().map(|event| event.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| std::str::from_utf8(&event.body).unwrap_or_default()).collect::<Vec<_>>())
    .bind(places.iter().map(|range| range.first as i64).collect::<Vec<_>>())
    .bind(places.iter().map(|range| range.last as i64).collect::<Vec<_>>())
    .bind(places.iter().map(|range| range.stream).collect::<Vec<_>>())
    .bind(summaries.iter().map(|(kind, _)| *kind).collect::<Vec<_>>())
    .bind(summaries.iter().map(|(_, id)| *id).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.id).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.subject).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.actor.as_str()).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.key.as_str()).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.hash.as_slice()).collect::<Vec<_>>())
    .bind(answers.iter().map(|answer| answer.reply.as_str()).collect::<Vec<_>>())
    .bind(now)
    .bind(places.iter().map(|range| range.events).collect::<Vec<_>>())
    .bind(BLOCK_BITS as i32)
    .bind(BLOCK as i64 - 1)
    .fetch_one(connection)
    .await?;
    if row.try_get::<i64, _>("answers")? < answers.len() as i64 {
        return Ok(Written::KeyKnown);
    }
    let current: Option<i32> = row.try_get("epoch")?;
    if current != Some(epoch) {
        return Ok(Written::UnderOldEpoch(current));
    }
    let blocks: Vec<i64> = row.try_get::<Option<Vec<i64>>, _>("ids")?.unwrap_or_default();
    let log_id = |place: usize| (blocks[place / BLOCK] << BLOCK_BITS) + (place % BLOCK) as i64;
    let mut handed = Handed::of(std::mem::take(events));
    for (place, event) in handed.events.iter_mut().enumerate() {
        event.log_id = log_id(place);
    }
    handed.ranges.extend(places.into_iter().map(|range| Range {
        first: log_id(range.first),
        last: log_id(range.last),
        stream: range.stream,
    }));
    Ok(Written::All(handed))
}

/// Marks summaries as due: all that a reader's transaction leaves, mostly.
async fn mark(connection: &mut PgConnection, summaries: &BTreeSet<(&'static str, Uuid)>) -> Result<(), Fault> {
    sqlx::query("insert into summaries_due (aggregate, aggregate_id) select * from unnest($1::text[], $2::uuid[]) on conflict do nothing")
        .bind(summaries.iter().map(|(kind, _)| *kind).collect::<Vec<_>>())
        .bind(summaries.iter().map(|(_, id)| *id).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
