//! Reactions: a service follows the state of other services' aggregates.
//!
//! Messages that wait together are handled in one transaction, the newest version of each aggregate
//! only, and acknowledged after the commit. If the process dies before the acknowledgement the
//! broker delivers again; the service's tables are gated by `(epoch, version)`, so that is harmless.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, AckKind, Message};
use domain::{Aggregate, Event, delivery};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::{Context, get};
use crate::crash;
use crate::database::{Database, Tx};
use crate::dead_letters::{self, Stored};
use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// The newest known state of an aggregate, with the event that brought it.
#[derive(Clone, Debug)]
pub struct Seen<A: Aggregate> {
    /// The state.
    pub state: A,
    /// What happened last.
    pub change: A::Change,
    /// Epoch of the owner.
    pub epoch: i32,
    /// Context for what this leads to.
    pub context: Context,
}

impl<A: Aggregate> Seen<A> {
    fn order(&self) -> (i32, i64) {
        (self.epoch, self.state.version())
    }
}

/// The newest of the states that arrive together.
struct Newest<A: Aggregate>(HashMap<Uuid, Seen<A>>);

impl<A: Aggregate> Newest<A> {
    fn with_capacity(count: usize) -> Newest<A> {
        Newest(HashMap::with_capacity(count))
    }

    /// Keeps a state if it is newer than what is known of its aggregate.
    fn see(&mut self, seen: Seen<A>) {
        if delivery::is_news(self.0.get(&seen.state.id()).map(Seen::order), seen.order()) {
            self.0.insert(seen.state.id(), seen);
        }
    }

    /// One state an aggregate, in the order of the ids.
    fn into_batch(self) -> Vec<Seen<A>> {
        let mut batch: Vec<Seen<A>> = self.0.into_values().collect();
        batch.sort_unstable_by_key(|seen| seen.state.id());
        batch
    }
}

/// A service that reacts to the state of an aggregate.
pub trait Follow<A: Aggregate>: Send + Sync + 'static {
    /// Stores what the service needs of the states, each only where it is newer than what it has.
    /// The batch is in the order of the ids, one entry an aggregate.
    fn follow(&self, tx: &mut Tx, batch: &[Seen<A>]) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Takes back what it keeps of aggregates that their owner has forgotten, because its database was set back. Not asked of
    /// copies that are ids only, or an outsider's.
    fn forget(&self, _tx: &mut Tx, _ids: &[Uuid]) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }
}

/// Reads one message; what cannot be read is refused with the reason.
pub(crate) fn read<A: Aggregate>(headers: Option<&HeaderMap>, payload: &[u8]) -> Result<Seen<A>, String> {
    let event: Event<A, A::Change> = serde_json::from_slice(payload).map_err(|error| format!("body: {error}"))?;
    event.state.check().and_then(|()| event.state.check_change(&event.change)).map_err(|rejection| rejection.to_string())?;
    let epoch = match get(headers, "ce-epoch") {
        None => 1,
        Some(epoch) => epoch.parse().map_err(|_| format!("header ce-epoch {epoch:?} is not a number"))?,
    };
    let mut context = Context::read(headers);
    if context.message_id.is_nil() {
        context.message_id = domain::ids::event_id(event.state.id(), epoch, event.state.version());
        context.correlation_id = context.message_id.to_string();
    }
    Ok(Seen { state: event.state, change: event.change, epoch, context })
}

/// Pulls from a durable consumer, and makes it anew when the broker lost it or falls silent while
/// messages wait.
pub(crate) struct Reader {
    shell: Arc<Shell>,
    stream: &'static str,
    name: String,
    filter: String,
    messages: Option<jetstream::consumer::pull::Stream>,
    began: Instant,
}

impl Reader {
    pub(crate) fn new(shell: Arc<Shell>, stream: &'static str, purpose: &str, filter: String) -> Reader {
        let name = format!("{}__{purpose}", shell.service);
        Reader { shell, stream, name, filter, messages: None, began: Instant::now() }
    }

    async fn subscribe(&self) -> Result<jetstream::consumer::pull::Stream, Fault> {
        let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("consumer {}: {error}", self.name));
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(self.name.clone()),
            filter_subject: self.filter.clone(),
            ack_policy: jetstream::consumer::AckPolicy::Explicit,
            ack_wait: limits::ACK_WAIT,
            max_ack_pending: 20 * limits::FOLLOW_MAX as i64,
            ..Default::default()
        };
        let stream = self.shell.jetstream.get_stream(self.stream).await.map_err(|error| fault(&error))?;
        let mut consumer = stream.create_consumer(config.clone()).await.map_err(|error| fault(&error))?;
        // looked at after the consumer: another replica reads on meanwhile, and would seem to be ahead of what the stream was before
        let now = self.shell.jetstream.get_stream(self.stream).await.map_err(|error| fault(&error))?;
        if consumer.cached_info().delivered.stream_sequence > now.cached_info().state.last_sequence {
            // the stream was set back, the consumer was not: what is published now would be below where it stands
            tracing::warn!(consumer = self.name, "stands past the end of its stream; reading it from the beginning");
            stream.delete_consumer(&self.name).await.map_err(|error| fault(&error))?;
            consumer = stream.create_consumer(config).await.map_err(|error| fault(&error))?;
        }
        let messages =
            consumer.stream().max_messages_per_batch(limits::FOLLOW_MAX).heartbeat(std::time::Duration::from_secs(5)).messages().await;
        messages.map_err(|error| fault(&error))
    }

    /// The messages that wait together; none when the service stops.
    pub(crate) async fn next(&mut self) -> Option<Vec<Message>> {
        let mut attempt = 0;
        loop {
            if self.messages.is_none() {
                match self.subscribe().await {
                    Ok(messages) => self.messages = Some(messages),
                    Err(fault) => {
                        tracing::warn!(%fault, "reader waits for the broker");
                        attempt += 1;
                        tokio::select! {
                            () = tokio::time::sleep(limits::backoff(attempt)) => continue,
                            () = self.shell.stopped() => return None,
                        }
                    }
                }
            }
            let messages = self.messages.as_mut()?;
            let first = tokio::select! {
                first = tokio::time::timeout(limits::FOLLOW_SILENCE, messages.next()) => first,
                () = self.shell.stopped() => return None,
            };
            let mut next = match first {
                Err(_silent) => {
                    if self.waits_in_vain().await {
                        tracing::warn!(consumer = self.name, "messages wait but none arrives; subscribing anew");
                        self.messages = None;
                    }
                    continue;
                }
                Ok(next) => next,
            };
            // those that come in the meantime are handled together with it
            tokio::time::sleep_until(self.began + limits::FOLLOW_PAUSE).await;
            self.began = Instant::now();
            let mut together = Vec::new();
            loop {
                match next {
                    Some(Ok(message)) => together.push(message),
                    Some(Err(error)) => {
                        tracing::warn!(consumer = self.name, %error, "subscribing anew");
                        self.messages = None;
                        break;
                    }
                    None => {
                        self.messages = None;
                        break;
                    }
                }
                if together.len() == limits::FOLLOW_MAX {
                    break;
                }
                // outside the runtime's budget, which would end every batch at 64
                match tokio::task::unconstrained(messages.next()).now_or_never() {
                    Some(after) => next = after,
                    None => break,
                }
            }
            if !together.is_empty() {
                return Some(together);
            }
        }
    }

    /// Whether messages wait although none arrives, or the consumer is gone or stands past the end of its stream.
    async fn waits_in_vain(&self) -> bool {
        let Ok(stream) = self.shell.jetstream.get_stream(self.stream).await else { return true };
        let Ok(consumer) = stream.consumer_info(&self.name).await else { return true };
        // after the consumer: it may read on in between
        let Ok(stream) = self.shell.jetstream.get_stream(self.stream).await else { return true };
        consumer.num_pending > 0 || consumer.delivered.stream_sequence > stream.cached_info().state.last_sequence
    }
}

/// Acknowledges what is done; a lost acknowledgement only means another delivery.
pub(crate) async fn acknowledge(messages: &[&Message]) {
    for message in messages {
        if let Err(error) = message.ack().await {
            tracing::warn!(%error, "acknowledgement not sent");
        }
    }
}

/// Tells the broker that the messages are still being worked on, and pauses. A transient failure is
/// no delivery of its own, so that an outage never makes a good message look like one that kills.
pub(crate) async fn hold(messages: &[Message], attempt: u32) {
    for message in messages {
        let _ = message.ack_with(AckKind::Progress).await;
    }
    tokio::time::sleep(limits::backoff(attempt)).await;
}

/// Handles an aggregate's events until the service stops.
pub(crate) async fn serve<A: Aggregate, S: Follow<A>>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let mut reader = Reader::new(shell.clone(), A::STREAM, A::KIND, A::filter());
    let mut epoch = None;
    while let Some(messages) = reader.next().await {
        let newest = messages.iter().filter_map(|message| get(message.headers.as_ref(), "ce-epoch")?.parse::<i32>().ok()).max();
        let mut attempt = 0;
        while let Err(fault) = async {
            let met = epochs_met(&database, A::KIND, epoch, newest).await?;
            if epoch.is_some_and(|known| known < met) {
                // the owner's database was set back: what it has forgotten is found by comparing
                shell.compare.notify_one();
            }
            epoch = Some(met);
            handle_suspects_last::<A, S>(&*service, &shell, &database, met, &messages).await
        }
        .await
        {
            tracing::warn!(kind = A::KIND, %fault, "reaction is tried again");
            hold(&messages, attempt).await;
            attempt += 1;
            if shell.is_stopped() {
                return;
            }
        }
    }
}

/// The newest epoch of a kind that any replica has met, with what has arrived now; asked of the database when it is not known, and
/// kept there when it is raised.
async fn epochs_met(database: &Database, kind: &str, known: Option<i32>, newest: Option<i32>) -> Result<i32, Fault> {
    match (known, newest) {
        (Some(known), newest) if newest.is_none_or(|newest| newest <= known) => Ok(known),
        (_, newest) => {
            let met = sqlx::query_scalar(
                "insert into epochs_met as known (kind, epoch) values ($1, $2)
                 on conflict (kind) do update set epoch = greatest(known.epoch, excluded.epoch) returning epoch",
            )
            .bind(kind)
            .bind(newest.unwrap_or(0));
            database.within(async { Ok(met.fetch_one(&database.pool()).await?) }).await
        }
    }
}

/// Handles a message that was put aside.
pub(crate) async fn again<A: Aggregate, S: Follow<A>>(service: &S, tx: &mut Tx, stored: &Stored) -> Result<(), Fault> {
    let seen = read::<A>(Some(&stored.headers), &stored.payload).map_err(Fault::Fatal)?;
    service.follow(tx, std::slice::from_ref(&seen)).await
}

/// Handles messages that are read again for a read model that is made anew. What cannot be read was put aside long ago.
pub(crate) async fn refill<A: Aggregate, S: Follow<A>>(service: &S, tx: &mut Tx, messages: &[Message]) -> Result<(), Fault> {
    let mut newest = Newest::<A>::with_capacity(messages.len());
    for message in messages {
        if let Ok(seen) = read::<A>(message.headers.as_ref(), &message.payload) {
            newest.see(seen);
        }
    }
    service.follow(tx, &newest.into_batch()).await
}

/// A message, and how often it was delivered.
#[derive(Clone, Copy)]
struct Delivered<'a> {
    message: &'a Message,
    times: i64,
}

/// A message that kills the process takes its neighbours' deliveries along. So what was delivered
/// often is handled by itself, after the others, from the front and from the back in turn: after two
/// rounds all but the killer are done, and only a message that is alone is ever given up.
async fn handle_suspects_last<A: Aggregate, S: Follow<A>>(
    service: &S,
    shell: &Shell,
    database: &Database,
    epoch: i32,
    messages: &[Message],
) -> Result<(), Fault> {
    let delivered = messages.iter().map(|message| Delivered { message, times: message.info().map_or(1, |info| info.delivered) });
    let (mut suspects, good): (Vec<Delivered>, Vec<Delivered>) =
        delivered.partition(|delivered| delivered.times > limits::DELIVERIES_TOGETHER);
    if !good.is_empty() {
        handle::<A, S>(service, shell, database, epoch, &good).await?;
    }
    if suspects.iter().any(|delivered| delivered.times % 2 == 0) {
        suspects.reverse();
    }
    for suspect in &suspects {
        handle::<A, S>(service, shell, database, epoch, std::slice::from_ref(suspect)).await?;
    }
    Ok(())
}

async fn handle<A: Aggregate, S: Follow<A>>(
    service: &S,
    shell: &Shell,
    database: &Database,
    epoch: i32,
    delivered: &[Delivered<'_>],
) -> Result<(), Fault> {
    let mut readable = Vec::with_capacity(delivered.len());
    let mut newest = Newest::<A>::with_capacity(delivered.len());
    for &Delivered { message, times } in delivered {
        let seen = match read::<A>(message.headers.as_ref(), &message.payload) {
            Ok(_) if times > limits::DELIVERIES_MAX => Err(format!("given up after {times} deliveries")),
            other => other,
        };
        match seen {
            Ok(seen) => {
                // an owner that was set back has published all that it has in its new epoch: the rest it may have forgotten
                if seen.epoch >= epoch {
                    newest.see(seen);
                }
                readable.push(Delivered { message, times });
            }
            Err(reason) => {
                dead_letters::park(shell, database, A::KIND, message, &reason).await?;
                acknowledge(&[message]).await;
            }
        }
    }
    let batch = newest.into_batch();
    match database.within(in_one_transaction(service, database, &batch)).await {
        Ok(()) => {
            metrics::counter!("tranche_events_followed_total", "kind" => A::KIND).increment(readable.len() as u64);
            let done: Vec<&Message> = readable.iter().map(|delivered| delivered.message).collect();
            acknowledge(&done).await;
            crash::point("reader-after-acknowledgement");
            Ok(())
        }
        Err(Fault::Fatal(why)) if readable.len() == 1 => {
            tracing::error!(kind = A::KIND, %why, "event cannot be handled");
            dead_letters::park(shell, database, A::KIND, readable[0].message, &why).await?;
            acknowledge(&[readable[0].message]).await;
            Ok(())
        }
        // one event spoils the others: handle each by itself
        Err(Fault::Fatal(_)) => {
            for one in &readable {
                Box::pin(handle::<A, S>(service, shell, database, epoch, std::slice::from_ref(one))).await?;
            }
            Ok(())
        }
        Err(transient) => Err(transient),
    }
}

async fn in_one_transaction<A: Aggregate, S: Follow<A>>(service: &S, database: &Database, batch: &[Seen<A>]) -> Result<(), Fault> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut tx = database.begin().await?;
    service.follow(&mut tx, batch).await?;
    crash::point("reader-before-commit");
    tx.commit().await?;
    crash::point("reader-after-commit");
    Ok(())
}
