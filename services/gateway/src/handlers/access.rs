//! Who read or tried what, on `tranche.access.*`. A record is acknowledged by the broker before the
//! answer leaves, so that nothing is shown that is not recorded.

use std::sync::Arc;
use std::time::Duration;

use ::domain::Rejection;
use ::domain::messages::chassis::{Access, AccessChange};
use chassis::database::LoggedEvent;
use chassis::{Context, Shell, limits, relay};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Records that may wait; further requests wait for a place.
const QUEUE: usize = 4_096;
/// Records that are published together.
const TOGETHER: usize = 500;
/// An answer waits for its record for so long; then it leaves, unless its route wants the record first.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A record and whoever waits for it.
type Waiting = (LoggedEvent, oneshot::Sender<()>);

/// Writes access records.
pub struct Recorder {
    shell: Arc<Shell>,
    queue: mpsc::Sender<Waiting>,
}

/// The request that a record is about.
pub struct Attempt<'a> {
    /// The context.
    pub context: &'a Context,
    /// HTTP method.
    pub method: &'a str,
    /// Path and query.
    pub resource: &'a str,
    /// HTTP status of the answer.
    pub status: u16,
    /// The refusal, if it was one.
    pub refusal: Option<&'a Rejection>,
}

impl Recorder {
    /// Starts the task that publishes records.
    pub fn start(shell: Arc<Shell>) -> Recorder {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(publish(shell.clone(), waiting));
        Recorder { shell, queue }
    }

    /// Records an attempt and waits until the broker has it; false when that is not so in time.
    pub async fn record(&self, attempt: Attempt<'_>) -> bool {
        let clock = &self.shell.clock;
        let access = Access {
            id: clock.new_id(),
            at: clock.now(),
            user: attempt.context.actor.user.clone(),
            roles: attempt.context.actor.roles.clone(),
            resource: attempt.resource.chars().take(2_000).collect(),
            method: attempt.method.into(),
            status: attempt.status,
            reason: attempt.refusal.map(|rejection| rejection.reason),
            detail: attempt.refusal.map(|rejection| rejection.detail.chars().take(2_000).collect()),
        };
        let change = if attempt.refusal.is_some() { AccessChange::Refused } else { AccessChange::Read };
        let event = match LoggedEvent::of(attempt.context, &access, change, 1, access.at) {
            Ok(event) => event,
            Err(fault) => {
                tracing::error!(%fault, "access cannot be recorded");
                return false;
            }
        };
        let (recorded, done) = oneshot::channel();
        let recorded = async { self.queue.send((event, recorded)).await.is_ok() && done.await.is_ok() };
        let recorded = tokio::time::timeout(WAIT_MAX, recorded).await.unwrap_or(false);
        if !recorded {
            tracing::warn!(user = access.user, resource = access.resource, "the broker has not acknowledged an access record yet");
        }
        recorded
    }
}

async fn publish(shell: Arc<Shell>, mut waiting: mpsc::Receiver<Waiting>) {
    let places = Arc::new(Semaphore::new(limits::PUBLISHES_AT_ONCE));
    while let Ok(place) = places.clone().acquire_owned().await {
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, TOGETHER).await == 0 {
            return;
        }
        let shell = shell.clone();
        tokio::spawn(async move {
            publish_together(&shell, batch).await;
            drop(place);
        });
    }
}

/// Publishes records until the broker has them; one that it refuses goes to the log of the process.
async fn publish_together(shell: &Shell, batch: Vec<Waiting>) {
    let events: Vec<&LoggedEvent> = batch.iter().map(|(event, _)| event).collect();
    let mut attempt = 0;
    let published = loop {
        match relay::publish_or_single_out(&shell.jetstream, &events).await {
            Ok(published) => break published,
            Err(fault) => tracing::warn!(%fault, "access records are published again"),
        }
        tokio::time::sleep(limits::backoff(attempt)).await;
        attempt += 1;
    };
    for event in published.refused {
        tracing::error!(record = %String::from_utf8_lossy(&event.body), "access record that the broker does not take");
    }
    for (_, recorded) in batch {
        let _ = recorded.send(());
    }
}
