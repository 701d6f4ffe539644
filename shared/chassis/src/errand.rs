//! Errands: work that cannot be done inside a transaction, such as asking another service or
//! sending mail. Claimed in one transaction, done without any, recorded in another.
//!
//! If the process dies after the claim, the claim runs out and another replica does the errand
//! again; so an errand must be repeatable (commands carry an idempotency key, mails an id).

use std::sync::Arc;

use futures::StreamExt;

use crate::courier::Courier;
use crate::crash;
use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// A kind of errand.
pub trait Errand: Send + Sync + 'static {
    /// What is claimed.
    type Item: Send + Sync + 'static;
    /// What comes of it.
    type Outcome: Send + 'static;
    /// Most errands done at once.
    const AT_ONCE: usize;
    /// Takes what is due and keeps it from other replicas for a while.
    fn claim(&self, tx: &mut Tx) -> impl Future<Output = Result<Vec<Self::Item>, Fault>> + Send;
    /// Does it. No transaction is open.
    fn run(&self, courier: &Courier, item: &Self::Item) -> impl Future<Output = Self::Outcome> + Send;
    /// Stores what came of it.
    fn record(&self, tx: &mut Tx, done: Vec<(Self::Item, Self::Outcome)>) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Does errands until the service stops; woken by each commit of this process and by a slow poll.
pub(crate) async fn serve<E: Errand>(errand: Arc<E>, shell: Arc<Shell>, database: Database) {
    let courier = shell.courier();
    let mut attempt = 0;
    loop {
        let woken = database.changed.clone();
        let woken = woken.notified();
        match round(&*errand, &courier, &database).await {
            Ok(0) => {
                attempt = 0;
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep(limits::ERRAND_POLL) => {}
                    () = shell.stopped() => return,
                }
            }
            Ok(_) => attempt = 0,
            Err(fault) => {
                tracing::warn!(%fault, "errands are tried again");
                attempt += 1;
                tokio::time::sleep(limits::backoff(attempt)).await;
            }
        }
        if shell.is_stopped() {
            return;
        }
    }
}

async fn round<E: Errand>(errand: &E, courier: &Courier, database: &Database) -> Result<usize, Fault> {
    let claimed = async {
        let mut tx = database.begin().await?;
        let items = errand.claim(&mut tx).await?;
        tx.commit().await?;
        Ok::<_, Fault>(items)
    };
    let items = database.within(claimed).await?;
    if items.is_empty() {
        return Ok(0);
    }
    crash::point("errand-after-claim");
    let done: Vec<(E::Item, E::Outcome)> = futures::stream::iter(items)
        .map(|item| async move {
            let outcome = errand.run(courier, &item).await;
            (item, outcome)
        })
        .buffer_unordered(E::AT_ONCE)
        .collect()
        .await;
    crash::point("errand-after-run");
    let count = done.len();
    let recorded = async {
        let mut tx = database.begin().await?;
        errand.record(&mut tx, done).await?;
        tx.commit().await
    };
    database.within(recorded).await?;
    crash::point("errand-after-record");
    Ok(count)
}
