//! Logs: a recorder compares its records with the log of each owner, by the places of the events, and has sent again what it lacks.

use std::sync::Arc;

use domain::messages::chassis::{ListLogged, Logged, Resend};

use crate::fault::Fault;
use crate::limits;
use crate::nats::STREAMS;
use crate::reconcile::{Compared, Reconciler, named};
use crate::record::Record;

/// Compares the records with the log of each owner, from where it ended the last time.
pub(crate) async fn compare<S: Record>(service: Arc<S>, reconciler: Reconciler) -> Vec<Result<Compared, Fault>> {
    let (service, reconciler) = (&*service, &reconciler);
    let logs = S::OWNERS.iter().map(|owner| async move { log(service, reconciler, owner).await.map_err(|fault| named(owner, fault)) });
    futures::future::join_all(logs).await
}

async fn log<S: Record>(service: &S, reconciler: &Reconciler, owner: &str) -> Result<Compared, Fault> {
    let mut compared = Compared { what: format!("log of {owner}"), ..Compared::default() };
    let Some(_turn) = reconciler.turn(&compared.what).await? else { return Ok(compared) };
    let pool = &reconciler.database.pool();
    let known: Option<(i64, i32)> =
        sqlx::query_as("select position, epoch from log_positions where owner = $1").bind(owner).fetch_optional(pool).await?;
    let (position, mut epoch) = known.unwrap_or_default();
    let mut asked = ListLogged { after: position };
    loop {
        let mut missing: Vec<Logged> = Vec::new();
        let (is_last, settled) = loop {
            let page = reconciler.query(owner, &asked).await?;
            if page.epoch != epoch {
                // places of its log are used again by an owner that was set back
                epoch = page.epoch;
                if asked.after > 0 {
                    asked.after = 0;
                    continue;
                }
            }
            asked.after = page.items.last().map_or(asked.after, |last| last.log_id);
            missing.extend(service.missing(&mut reconciler.database.begin().await?, page.items).await?);
            if page.next.is_none() || missing.len() >= limits::VERSIONS_MAX {
                break (page.next.is_none(), page.settled);
            }
        };
        if !missing.is_empty() {
            send_again(service, reconciler, owner, missing, &mut compared).await?;
        }
        // what is still missing is looked at again
        if compared.repaired == compared.differed {
            sqlx::query(
                "insert into log_positions (owner, position, epoch) values ($1, $2, $3)
                 on conflict (owner) do update set position = excluded.position, epoch = excluded.epoch",
            )
            .bind(owner)
            .bind(asked.after.min(settled))
            .bind(epoch)
            .execute(pool)
            .await?;
        }
        if is_last {
            break;
        }
    }
    reconciler.report(&compared).await?;
    Ok(compared)
}

/// Has events sent again that are still missing when everything was read.
async fn send_again<S: Record>(
    service: &S,
    reconciler: &Reconciler,
    owner: &str,
    missing: Vec<Logged>,
    compared: &mut Compared,
) -> Result<(), Fault> {
    let consumers: Vec<(&str, String)> =
        STREAMS.iter().map(|(stream, _)| (*stream, format!("{}__record", reconciler.database.service))).collect();
    reconciler.settle(&consumers).await?;
    let lost = service.missing(&mut reconciler.database.begin().await?, missing).await?;
    if lost.is_empty() {
        return Ok(());
    }
    for event in &lost {
        compared.note(format!("{}: {}/{} was not recorded", event.aggregate_id, event.epoch, event.version));
    }
    for events in lost.chunks(limits::VERSIONS_MAX) {
        let log_ids = events.iter().map(|event| event.log_id).collect();
        reconciler.command(owner, &Resend { ids: vec![], log_ids }).await?;
    }
    reconciler.settle(&consumers).await?;
    let count = lost.len();
    compared.repaired += count - service.missing(&mut reconciler.database.begin().await?, lost).await?.len();
    Ok(())
}
