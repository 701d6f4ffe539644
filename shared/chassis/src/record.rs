//! Recording: a service that keeps every message of a stream, not only the newest state.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::messages::chassis::Logged;
use uuid::Uuid;

use crate::context::{Context, attributes};
use crate::crash;
use crate::database::{Database, Tx};
use crate::dead_letters::{self, Stored};
use crate::fault::Fault;
use crate::follow::{Reader, acknowledge, hold};
use crate::shell::Shell;

/// One message as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Id of the event; derived from the content where the sender gave none.
    pub source_id: Uuid,
    /// The subject.
    pub subject: String,
    /// Kind of aggregate.
    pub aggregate: String,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Epoch of its owner.
    pub epoch: i32,
    /// Version of the aggregate.
    pub version: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who did it, and as part of what.
    pub context: Context,
    /// The body.
    pub body: Bytes,
}

/// A service that keeps every message.
pub trait Record: Send + Sync + 'static {
    /// The services whose logs are compared with what is kept.
    const OWNERS: &'static [&'static str];
    /// Those of the events that are not kept.
    fn missing(&self, tx: &mut Tx, events: Vec<Logged>) -> impl Future<Output = Result<Vec<Logged>, Fault>> + Send;
    /// Keeps the messages, each once, in the order given.
    fn record(&self, tx: &mut Tx, batch: &[Recorded]) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Earliest time that a message is believed to have happened at; Postgres knows fewer years than chrono.
const TIME_MIN: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// The clock of tests and the demo may be set ahead, at most so far.
const TIME_AHEAD_MAX: TimeDelta = TimeDelta::days(3_650);

fn read(subject: &str, headers: Option<&HeaderMap>, payload: &Bytes, place: impl Fn() -> String, now: DateTime<Utc>) -> Recorded {
    let mut context = Context::read(headers);
    // what comes from outside is known by its place, not by an id and a name that its sender chose
    let is_ours = subject.starts_with("tranche.") || subject.starts_with("deals.cmd.");
    if !is_ours {
        context.message_id = Uuid::new_v5(&domain::ids::NAMESPACE, format!("outside/{}", place()).as_bytes());
        context.correlation_id = context.message_id.to_string();
        context.actor.user = "outside:deals".into();
    }
    let mut recorded = Recorded {
        source_id: if context.message_id.is_nil() { Uuid::new_v5(&domain::ids::NAMESPACE, place().as_bytes()) } else { context.message_id },
        subject: subject.to_owned(),
        aggregate: String::new(),
        aggregate_id: Uuid::nil(),
        epoch: 1,
        version: 0,
        at: now,
        context,
        body: payload.clone(),
    };
    for (name, value) in attributes(headers) {
        match name {
            "ce-aggregate" => recorded.aggregate = value.chars().take(100).collect(),
            "ce-aggregateid" => recorded.aggregate_id = value.parse().unwrap_or_default(),
            "ce-epoch" => recorded.epoch = value.parse().unwrap_or(1),
            "ce-aggregateversion" => recorded.version = value.parse().unwrap_or_default(),
            "ce-time" => {
                let at = value.parse().ok().filter(|at| (TIME_MIN..=now + TIME_AHEAD_MAX).contains(at));
                recorded.at = at.unwrap_or(now);
            }
            _ => {}
        }
    }
    recorded
}

fn read_message(message: &Message, now: DateTime<Utc>) -> Recorded {
    read(&message.subject, message.headers.as_ref(), &message.payload, || dead_letters::place(message), now)
}

/// Keeps a message that was put aside.
pub(crate) async fn again<S: Record>(service: &S, tx: &mut Tx, stored: &Stored) -> Result<(), Fault> {
    let recorded = read(&stored.subject, Some(&stored.headers), &stored.payload, || stored.place.clone(), tx.now());
    service.record(tx, std::slice::from_ref(&recorded)).await
}

/// Records a stream until the service stops.
pub(crate) async fn serve<S: Record>(service: Arc<S>, shell: Arc<Shell>, database: Database, stream: &'static str, filter: &'static str) {
    let mut reader = Reader::new(shell.clone(), stream, "record", filter.to_owned());
    while let Some(messages) = reader.next().await {
        let now = database.clock.now();
        let batch: Vec<Recorded> = messages.iter().map(|message| read_message(message, now)).collect();
        let mut attempt = 0;
        while let Err(fault) = database.within(keep(&*service, &database, &batch)).await {
            if let (Fault::Fatal(_), Err(fault)) = (&fault, keep_singly(&*service, &shell, &database, &messages, &batch).await) {
                tracing::error!(stream, %fault, "recording one by one");
            } else if matches!(fault, Fault::Fatal(_)) {
                break;
            }
            tracing::error!(stream, %fault, "recording is tried again");
            hold(&messages, attempt).await;
            attempt += 1;
            if shell.is_stopped() {
                return;
            }
        }
        acknowledge(&messages.iter().collect::<Vec<_>>()).await;
        crash::point("record-after-acknowledgement");
    }
}

/// One message cannot be kept: each by itself, and that one is put aside.
async fn keep_singly<S: Record>(
    service: &S,
    shell: &Shell,
    database: &Database,
    messages: &[Message],
    batch: &[Recorded],
) -> Result<(), Fault> {
    for (message, recorded) in messages.iter().zip(batch) {
        match database.within(keep(service, database, std::slice::from_ref(recorded))).await {
            Err(Fault::Fatal(why)) => dead_letters::park(shell, database, "record", message, &why).await?,
            done => done?,
        }
    }
    Ok(())
}

async fn keep<S: Record>(service: &S, database: &Database, batch: &[Recorded]) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    service.record(&mut tx, batch).await?;
    crash::point("record-before-commit");
    tx.commit().await?;
    crash::point("record-after-commit");
    Ok(())
}
