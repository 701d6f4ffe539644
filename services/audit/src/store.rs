//! All SQL of audit.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::HashSet;

use ::domain::messages::audit::{AuditRecord, ListAuditRecords};
use ::domain::messages::chassis::Logged;
use chassis::row::column;
use chassis::{Fault, Recorded, Tx};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{Content, GENESIS};

/// Records read at once while verifying.
const VERIFY_PAGE: i64 = 2_000;

/// Keeps other replicas from adding records until this transaction ends; returns the last record's
/// number and hash.
pub async fn lock_end(tx: &mut Tx) -> Result<(i64, Vec<u8>), Fault> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('audit records', 0))").execute(&mut **tx).await?;
    let last = sqlx::query_as("select n, hash from records order by n desc limit 1").fetch_optional(&mut **tx).await?;
    Ok(last.unwrap_or((0, GENESIS.to_vec())))
}

/// The ids of those messages that are recorded already.
pub async fn known(tx: &mut Tx, messages: &[Recorded]) -> Result<HashSet<Uuid>, Fault> {
    let key = |message: &Recorded| (message.aggregate_id, message.version, message.epoch, message.source_id);
    known_keys(tx, messages.iter().map(key).collect()).await
}

/// The ids of those events that are recorded already.
pub async fn known_events(tx: &mut Tx, events: &[Logged]) -> Result<HashSet<Uuid>, Fault> {
    let key = |event: &Logged| (event.aggregate_id, event.version, event.epoch, event.event_id);
    known_keys(tx, events.iter().map(key).collect()).await
}

async fn known_keys(tx: &mut Tx, keys: Vec<(Uuid, i64, i32, Uuid)>) -> Result<HashSet<Uuid>, Fault> {
    let known: Vec<Uuid> = sqlx::query_scalar(
        "select source_id
         from unnest($1::uuid[], $2::bigint[], $3::int[], $4::uuid[]) as asked (aggregate_id, version, epoch, source_id)
         join records using (aggregate_id, version, epoch, source_id)",
    )
    .bind(column(&keys, |key| key.0))
    .bind(column(&keys, |key| key.1))
    .bind(column(&keys, |key| key.2))
    .bind(column(&keys, |key| key.3))
    .fetch_all(&mut **tx)
    .await?;
    Ok(known.into_iter().collect())
}

/// Adds records with their hashes.
pub async fn insert(tx: &mut Tx, records: &[(i64, &Recorded, [u8; 32])]) -> Result<(), Fault> {
    sqlx::query(
        "insert into records (n, source_id, subject, aggregate, aggregate_id, epoch, version, actor, correlation_id, at, body, hash)
         select * from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::bigint[], $8::text[],
                              $9::text[], $10::timestamptz[], $11::bytea[], $12::bytea[])",
    )
    .bind(column(records, |record| record.0))
    .bind(column(records, |record| record.1.source_id))
    .bind(column(records, |record| record.1.subject.as_str()))
    .bind(column(records, |record| record.1.aggregate.as_str()))
    .bind(column(records, |record| record.1.aggregate_id))
    .bind(column(records, |record| record.1.epoch))
    .bind(column(records, |record| record.1.version))
    .bind(column(records, |record| record.1.context.actor.user.as_str()))
    .bind(column(records, |record| record.1.context.correlation_id.as_str()))
    .bind(column(records, |record| record.1.at))
    .bind(column(records, |record| record.1.body.as_ref()))
    .bind(column(records, |record| record.2.as_slice()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn record(row: &PgRow) -> Result<AuditRecord, Error> {
    let body: &[u8] = row.try_get("body")?;
    Ok(AuditRecord {
        n: row.try_get("n")?,
        source_id: row.try_get("source_id")?,
        subject: row.try_get("subject")?,
        aggregate: row.try_get("aggregate")?,
        aggregate_id: row.try_get("aggregate_id")?,
        epoch: row.try_get("epoch")?,
        version: row.try_get("version")?,
        actor: row.try_get("actor")?,
        correlation_id: row.try_get("correlation_id")?,
        at: row.try_get("at")?,
        body: serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into()),
        hash: hex::encode(row.try_get::<&[u8], _>("hash")?),
    })
}

/// Records after a number, filtered.
pub async fn list(tx: &mut Tx, filter: &ListAuditRecords, after: i64, limit: i64) -> Result<Vec<AuditRecord>, Fault> {
    let records = sqlx::query(
        "select * from records
         where n > $1 and ($2::text is null or aggregate = $2) and ($3::uuid is null or aggregate_id = $3)
           and ($4::text is null or actor = $4) and ($5::text is null or starts_with(subject, $5))
           and ($6::timestamptz is null or at >= $6) and ($7::timestamptz is null or at < $7)
         order by n limit $8",
    )
    .persistent(false)
    .bind(after)
    .bind(filter.aggregate.as_deref())
    .bind(filter.aggregate_id)
    .bind(filter.actor.as_deref())
    .bind(filter.subject.as_deref())
    .bind(filter.from)
    .bind(filter.to)
    .bind(limit)
    .try_map(|row| record(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(records)
}

/// Shows every record after a number to `look`, in order, a page of them; returns the last number,
/// or none at the end.
pub async fn walk(tx: &mut Tx, after: i64, mut look: impl FnMut(&Content<'_>, &[u8]) + Send) -> Result<Option<i64>, Fault> {
    let rows =
        sqlx::query("select * from records where n > $1 order by n limit $2").bind(after).bind(VERIFY_PAGE).fetch_all(&mut **tx).await?;
    let mut last = None;
    for row in rows {
        let content = Content {
            n: row.try_get("n")?,
            source_id: row.try_get("source_id")?,
            subject: row.try_get("subject")?,
            aggregate: row.try_get("aggregate")?,
            aggregate_id: row.try_get("aggregate_id")?,
            epoch: row.try_get("epoch")?,
            version: row.try_get("version")?,
            actor: row.try_get("actor")?,
            correlation_id: row.try_get("correlation_id")?,
            at: row.try_get("at")?,
            body: row.try_get("body")?,
        };
        look(&content, row.try_get("hash")?);
        last = Some(content.n);
    }
    Ok(last)
}

#[cfg(test)]
mod tests;
