//! Summaries: aggregates whose figures are sums over others, such as what a call is paid in all.
//!
//! Their rows are right after every transaction, but their events come once a second at most: a
//! payment would otherwise give five events where two say all. A transaction marks the aggregate in `summaries_due`; here
//! the marks are taken, the versions raised, the states published. If the process dies before the commit
//! the marks are still there.
//!
//! Whoever marks holds the row's lock, and here the row is locked before its mark is deleted: so a change is either seen
//! or marked anew.

use std::sync::Arc;

use domain::Aggregate;
use uuid::Uuid;

use crate::crash;
use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// A service that publishes summaries of an aggregate.
pub trait Summarise<A: Aggregate>: Send + Sync + 'static {
    /// Locks the aggregates that were marked by these ids (sorted), raises their versions by one, and returns each with its
    /// mark's id and the change that is published. One that cannot be shown yet is left out, and asked for again.
    fn summarise(&self, tx: &mut Tx, ids: &[Uuid]) -> impl Future<Output = Result<Vec<(Uuid, A, A::Change)>, Fault>> + Send;
}

/// Publishes summaries until the service stops.
pub(crate) async fn serve<A: Aggregate, S: Summarise<A>>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let mut marked = database.summaries.subscribe();
    let mut attempt = 0;
    let mut after = Uuid::nil();
    loop {
        marked.mark_unchanged();
        let pause = match database.within(publish::<A, S>(&*service, &database, after)).await {
            Ok(last) => {
                attempt = 0;
                after = last.unwrap_or_default();
                if last.is_some() { limits::SUMMARY_MORE_PAUSE } else { limits::SUMMARY_PAUSE }
            }
            Err(fault) => {
                tracing::warn!(kind = A::KIND, %fault, "summaries are tried again");
                attempt += 1;
                limits::backoff(attempt)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shell.stopped() => return,
        }
        if !after.is_nil() || attempt > 0 {
            continue;
        }
        tokio::select! {
            _ = marked.changed() => {}
            () = tokio::time::sleep(limits::SUMMARY_POLL) => {}
            () = shell.stopped() => return,
        }
    }
}

/// Publishes the summaries that are due of the next aggregates after an id, in one transaction. Returns the last id, or
/// none when no more are due after it.
async fn publish<A: Aggregate, S: Summarise<A>>(service: &S, database: &Database, after: Uuid) -> Result<Option<Uuid>, Fault> {
    let mut tx = database.begin().await?;
    // one replica at a time: a second one would publish the same states again
    let marks: Vec<Uuid> = sqlx::query_scalar(
        "select aggregate_id from summaries_due
         where aggregate = $1 and aggregate_id > $2
           and pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' summaries ' || $1, 0))
         order by aggregate_id limit $3",
    )
    .bind(A::KIND)
    .bind(after)
    .bind(limits::SUMMARY_MAX as i64)
    .fetch_all(&mut *tx)
    .await?;
    if marks.is_empty() {
        return Ok(None);
    }
    let context = tx.own_context();
    let mut done = Vec::with_capacity(marks.len());
    for (id, state, change) in service.summarise(&mut tx, &marks).await? {
        done.push(id);
        tx.emit(&context, &state, change)?;
    }
    // an aggregate that is not there yet was not locked: its mark stays
    sqlx::query("delete from summaries_due where aggregate = $1 and aggregate_id = any($2)")
        .bind(A::KIND)
        .bind(&done)
        .execute(&mut *tx)
        .await?;
    crash::point("summary-before-commit");
    tx.commit().await?;
    crash::point("summary-after-commit");
    Ok(marks.last().copied().filter(|_| marks.len() == limits::SUMMARY_MAX))
}
