//! Recording: a service that keeps every message of a stream, not only the newest state.

use std::sync::Arc;

use async_nats::jetstream::Message;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::context::{Context, get};
use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::follow::{Reader, acknowledge, hold};
use crate::service::Shell;

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
    /// Keeps the messages, each once, in the order given.
    fn record(&self, tx: &mut Tx, batch: &[Recorded]) -> impl Future<Output = Result<(), Fault>> + Send;
}

fn read(message: &Message, now: DateTime<Utc>) -> Recorded {
    let headers = message.headers.as_ref();
    let context = Context::read(headers);
    let number = |name| get(headers, name).and_then(|value| value.parse::<i64>().ok());
    let content = || Uuid::new_v5(&domain::ids::NAMESPACE, &[message.subject.as_bytes(), b"\0", &message.payload].concat());
    Recorded {
        source_id: if context.message_id.is_nil() { content() } else { context.message_id },
        subject: message.subject.to_string(),
        aggregate: get(headers, "ce-aggregate").unwrap_or_default(),
        aggregate_id: get(headers, "ce-aggregateid").and_then(|id| id.parse().ok()).unwrap_or_default(),
        epoch: number("ce-epoch").and_then(|epoch| i32::try_from(epoch).ok()).unwrap_or(1),
        version: number("ce-aggregateversion").unwrap_or_default(),
        at: get(headers, "ce-time").and_then(|at| at.parse().ok()).unwrap_or(now),
        context,
        body: message.payload.clone(),
    }
}

/// Records a stream until the service stops.
pub(crate) async fn serve<S: Record>(service: Arc<S>, shell: Arc<Shell>, database: Database, stream: &'static str, filter: &'static str) {
    let mut reader = Reader::new(shell.clone(), stream, "record", filter.to_owned());
    while let Some(messages) = reader.next().await {
        let now = database.clock.now();
        let batch: Vec<Recorded> = messages.iter().map(|message| read(message, now)).collect();
        let mut attempt = 0;
        while let Err(fault) = keep(&*service, &database, &batch).await {
            tracing::error!(stream, %fault, "recording is tried again");
            hold(&messages, attempt).await;
            attempt += 1;
            if shell.is_stopped() {
                return;
            }
        }
        acknowledge(&messages).await;
    }
}

async fn keep<S: Record>(service: &S, database: &Database, batch: &[Recorded]) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    service.record(&mut tx, batch).await?;
    tx.commit().await
}
