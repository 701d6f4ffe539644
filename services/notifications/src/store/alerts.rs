//! What was heard of, what people are to be told, and what they were told.

use std::collections::HashMap;

use ::domain::messages::allocation_status::Fund;
use ::domain::messages::notifications::Alert;
use chassis::row::column;
use chassis::{Fault, RowExt, Seen, Tx};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

/// What was heard of, by kind.
pub const APPROVALS: &str = "select id, epoch, version from heard where kind = 'approval'";
/// See [`APPROVALS`].
pub const WORKFLOWS: &str = "select id, epoch, version from heard where kind = 'workflow'";
/// See [`APPROVALS`].
pub const ALLOCATIONS: &str = "select id, epoch, version from heard where kind = 'allocation'";
/// See [`APPROVALS`].
pub const FUNDS: &str = "select id, epoch, version from funds";

/// Keeps the newest version of each fund's type.
pub async fn keep_funds(tx: &mut Tx, funds: &[Seen<Fund>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into funds (id, epoch, version, fund_type) select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[])
         on conflict (id) do update set epoch = excluded.epoch, version = excluded.version, fund_type = excluded.fund_type
         where (excluded.epoch, excluded.version) > (funds.epoch, funds.version)",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.fund_type.as_str()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets funds.
pub async fn forget_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from funds where id = any($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// The type of a fund, if it is known.
pub async fn fund_type(tx: &mut Tx, id: Uuid) -> Result<Option<String>, Fault> {
    Ok(sqlx::query_scalar("select fund_type from funds where id = $1").bind(id).fetch_optional(&mut **tx).await?)
}

/// Keeps the newest version of each thing that was heard of; returns the ids of those of which it was news.
pub async fn hear(tx: &mut Tx, kind: &str, seen: &[(Uuid, i32, i64)]) -> Result<Vec<Uuid>, Fault> {
    let news = sqlx::query_scalar(
        "insert into heard as known (id, kind, epoch, version) select id, $4, epoch, version from unnest($1::uuid[], $2::int[], $3::bigint[]) as new (id, epoch, version)
         on conflict (id) do update set epoch = excluded.epoch, version = excluded.version
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning id",
    )
    .bind(column(seen, |(id, ..)| *id))
    .bind(column(seen, |(_, epoch, _)| *epoch))
    .bind(column(seen, |(.., version)| *version))
    .bind(kind)
    .fetch_all(&mut **tx)
    .await?;
    Ok(news)
}

/// Forgets things, and what people were to be told of them; what they were told stays.
pub async fn forget_heard(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from heard where id = any($1)").bind(ids).execute(&mut **tx).await?;
    take_back_alerts(tx, ids).await
}

/// Adds what is to be told, once each.
pub async fn add_alerts(tx: &mut Tx, alerts: &[Alert]) -> Result<(), Fault> {
    if alerts.is_empty() {
        return Ok(());
    }
    let now = tx.system_now();
    sqlx::query(
        "insert into alerts (id, kind, fund_id, subject_id, alert, noted_at)
         select *, $6 from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::jsonb[]) on conflict do nothing",
    )
    .bind(column(alerts, |alert| alert.id))
    .bind(column(alerts, |alert| alert.kind.token()))
    .bind(column(alerts, |alert| alert.fund_id))
    .bind(column(alerts, |alert| alert.subject_id))
    .bind(column(alerts, Json))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes back what has not been told of these things.
pub async fn take_back_alerts(tx: &mut Tx, subject_ids: &[Uuid]) -> Result<(), Fault> {
    if subject_ids.is_empty() {
        return Ok(());
    }
    sqlx::query("delete from alerts where subject_id = any($1) and told_at is null").bind(subject_ids).execute(&mut **tx).await?;
    Ok(())
}

/// The funds and kinds of which something is to be told that was noted before a time, those that have waited longest first. One replica at
/// a time counts what is told in an hour.
pub async fn lock_groups(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    let is_ours: bool =
        sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext(current_schema() || ' alerts'))").fetch_one(&mut **tx).await?;
    if !is_ours {
        return Ok(vec![]);
    }
    let groups = sqlx::query_as(
        "select fund_id, kind from alerts where told_at is null and noted_at <= $1 group by fund_id, kind order by min(noted_at) limit $2",
    );
    Ok(groups.bind(before).bind(limit).fetch_all(&mut **tx).await?)
}

/// What is to be told of a fund and kind, the oldest first, locked.
pub async fn lock_alerts(tx: &mut Tx, (fund_id, kind): (Uuid, &str), before: DateTime<Utc>, limit: i64) -> Result<Vec<Alert>, Fault> {
    let waiting = "select alert from alerts where told_at is null and fund_id = $1 and kind = $2 and noted_at <= $3
                   order by noted_at, id limit $4 for update";
    let waiting = sqlx::query(waiting).bind(fund_id).bind(kind).bind(before).bind(limit);
    Ok(waiting.try_map(|row: PgRow| row.json("alert")).fetch_all(&mut **tx).await?)
}

/// How many alerts of each fund and kind were told since.
pub async fn told_since(tx: &mut Tx, since: DateTime<Utc>) -> Result<HashMap<(Uuid, String), usize>, Fault> {
    let told: Vec<(Uuid, String, i64)> =
        sqlx::query_as("select fund_id, kind, count(*) from alerts where told_at > $1 and not told_with_another group by fund_id, kind")
            .bind(since)
            .fetch_all(&mut **tx)
            .await?;
    Ok(told.into_iter().map(|(fund_id, kind, count)| ((fund_id, kind), usize::try_from(count).unwrap_or(usize::MAX))).collect())
}

/// Marks alerts as told, by themselves or with another one.
pub async fn mark_told(tx: &mut Tx, ids: &[Uuid], alone: &[Alert], now: DateTime<Utc>) -> Result<(), Fault> {
    sqlx::query(
        "update alerts set told_at = $4, told_with_another = new.alert is null, alert = coalesce(new.alert, alerts.alert)
         from unnest($1::uuid[]) as told (id) left join unnest($2::uuid[], $3::jsonb[]) as new (id, alert) using (id)
         where alerts.id = told.id",
    )
    .bind(ids)
    .bind(column(alone, |alert| alert.id))
    .bind(column(alone, Json))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What was told by itself, newest first, before `(told_at, id)`.
pub async fn list_alerts(
    tx: &mut Tx,
    scope: Option<&[Uuid]>,
    fund_id: Option<Uuid>,
    before: (DateTime<Utc>, Uuid),
    limit: i64,
) -> Result<Vec<Alert>, Fault> {
    let alerts = sqlx::query(
        "select alert from alerts
         where not told_with_another and ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2)
           and (told_at, id) < ($3, $4)
         order by told_at desc, id desc limit $5",
    )
    .persistent(false)
    .bind(scope)
    .bind(fund_id)
    .bind(before.0)
    .bind(before.1)
    .bind(limit)
    .try_map(|row: PgRow| row.json("alert"))
    .fetch_all(&mut **tx)
    .await?;
    Ok(alerts)
}
