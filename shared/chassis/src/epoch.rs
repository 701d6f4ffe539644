//! A new epoch: after a service's database was set back to an older copy, its readers know versions that it has forgotten,
//! and would not take the same versions again. So the epoch is raised, and the state of every aggregate published in it: a
//! newer epoch is newer, whatever the version.
//!
//! Done in pages; if the process dies between two of them, the next run goes on where it ended.

use std::sync::atomic::Ordering;

use domain::ids;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::{Database, LoggedEvent};
use crate::fault::Fault;
use crate::limits;
use crate::relay::logged;

/// Raises the epoch and writes the newest state of every aggregate into the log, to be published when the service serves.
/// Returns the epoch and how many states were written.
pub(crate) async fn raise(database: &Database) -> Result<(i32, usize), Fault> {
    // seconds since 2020: above every epoch that was used before, also by what the older copy does not know of
    // whoever writes holds the lock shared until its commit: from this one on everybody writes under the new epoch
    let mut transaction = database.pool().begin().await?;
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(current_schema() || ' epoch', 0))").execute(&mut *transaction).await?;
    let epoch: i32 = sqlx::query_scalar(
        "update service_state
         set epoch = case when snapshot_after is null
                          then greatest(epoch + 1, extract(epoch from clock_timestamp() - timestamptz '2020-01-01 00:00+00')::int)
                          else epoch end,
             snapshot_after = coalesce(snapshot_after, '00000000-0000-0000-0000-000000000000')
         returning epoch",
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    database.epoch.store(epoch, Ordering::Relaxed);
    let mut states = 0;
    loop {
        let mut tx = database.begin().await?;
        let after: Uuid = sqlx::query_scalar("select snapshot_after from service_state for update").fetch_one(&mut *tx).await?;
        let newest: Vec<LoggedEvent> = sqlx::query(
            "select distinct on (aggregate_id) log_id, event_id, subject, aggregate, aggregate_id, epoch, version, at,
                    actor, correlation_id, causation_id, traceparent, body
             from event_log
             where stream = 'EVENTS' and aggregate <> 'divergence' and aggregate_id > $1 and epoch < $2
             order by aggregate_id, epoch desc, version desc limit $3",
        )
        .bind(after)
        .bind(epoch)
        .bind(limits::BATCH_MAX as i64)
        .try_map(|row: PgRow| logged(&row))
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = newest.last() else {
            sqlx::query("update service_state set snapshot_after = null").execute(&mut *tx).await?;
            tx.commit().await?;
            return Ok((epoch, states));
        };
        sqlx::query("update service_state set snapshot_after = $1").bind(last.aggregate_id).execute(&mut *tx).await?;
        states += newest.len();
        for event in newest {
            tx.emit_logged(LoggedEvent { log_id: 0, event_id: ids::event_id(event.aggregate_id, epoch, event.version), epoch, ..event });
        }
        tx.commit().await?;
    }
}
