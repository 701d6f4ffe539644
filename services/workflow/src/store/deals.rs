//! What was heard of deals, and who waits for news of them.

use std::collections::HashMap;

use ::domain::messages::deals::Deal;
use chassis::row::column;
use chassis::{Fault, RowExt, Seen, Tx};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Instance, instance};
use crate::domain::DealHeard;

/// Keeps the newest of what was heard of each deal; returns the ids of those of which it was news.
pub async fn hear_of_deals(tx: &mut Tx, deals: &[Seen<Deal>]) -> Result<Vec<Uuid>, Fault> {
    let news = sqlx::query_scalar(
        "insert into deals_heard as known (id, epoch, version, stage, replies)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::jsonb[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, stage = excluded.stage, replies = excluded.replies
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning id",
    )
    .bind(column(deals, |seen| seen.state.id))
    .bind(column(deals, |seen| seen.epoch))
    .bind(column(deals, |seen| seen.state.version))
    .bind(column(deals, |seen| seen.state.stage.as_str()))
    .bind(column(deals, |seen| Json(&seen.state.stage_replies)))
    .fetch_all(&mut **tx)
    .await?;
    Ok(news)
}

/// What was heard of these deals, locked against news of them; of one of which nothing was heard there is a row from now on.
pub async fn lock_deals_heard(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, DealHeard>, Fault> {
    let heard = sqlx::query(
        "insert into deals_heard as known (id, epoch, version, stage) select id, 0, 0, '' from unnest($1::uuid[]) as asked (id)
         on conflict (id) do update set id = known.id
         returning id, stage, replies",
    )
    .bind(ids)
    .try_map(|row: PgRow| Ok((row.try_get("id")?, DealHeard { stage: row.try_get("stage")?, replies: row.json("replies")? })))
    .fetch_all(&mut **tx)
    .await?;
    Ok(heard.into_iter().collect())
}

/// The workflows that wait for the next stage of one of these deals, locked.
pub async fn lock_awaiting_deals(tx: &mut Tx, deal_ids: &[Uuid]) -> Result<Vec<Instance>, Fault> {
    let instances = sqlx::query("select * from workflows where awaits_deal = any($1) order by id for no key update")
        .bind(deal_ids)
        .try_map(|row| instance(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(instances)
}
