//! The types of the funds.

use std::collections::BTreeMap;

use ::domain::messages::allocation_status::Fund;
use chassis::row::column;
use chassis::{Fault, Seen, Tx};
use uuid::Uuid;

/// Keeps what is newer than what is known.
pub async fn keep_funds(tx: &mut Tx, funds: &[Seen<Fund>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into funds as known (id, epoch, version, fund_type) select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[])
         on conflict (id) do update set epoch = excluded.epoch, version = excluded.version, fund_type = excluded.fund_type
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.fund_type.as_str()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets funds that their owner has forgotten.
pub async fn forget_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from funds where id = any($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// The types of all funds.
pub async fn fund_types(tx: &mut Tx) -> Result<BTreeMap<Uuid, String>, Fault> {
    let types: Vec<(Uuid, String)> = sqlx::query_as("select id, fund_type from funds").fetch_all(&mut **tx).await?;
    Ok(types.into_iter().collect())
}

/// The type of a fund, if it is known.
pub async fn fund_type(tx: &mut Tx, id: Uuid) -> Result<Option<String>, Fault> {
    Ok(sqlx::query_scalar("select fund_type from funds where id = $1").bind(id).fetch_optional(&mut **tx).await?)
}
