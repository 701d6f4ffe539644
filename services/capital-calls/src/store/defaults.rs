//! What is done about investors who do not pay.

use std::collections::HashMap;

use ::domain::Amount;
use ::domain::messages::capital_calls::Remedy;
use chassis::row::column;
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

/// Adds remedies.
pub async fn insert_remedies(tx: &mut Tx, remedies: &[Remedy]) -> Result<(), Fault> {
    sqlx::query(
        "insert into remedies (id, line_id, commitment_id, at, kind, amount, effective_on, reason, recorded_by, payment_id)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::numeric[], $7::date[], $8::text[],
                              $9::text[], $10::uuid[])",
    )
    .bind(column(remedies, |remedy| remedy.id))
    .bind(column(remedies, |remedy| remedy.line_id))
    .bind(column(remedies, |remedy| remedy.commitment_id))
    .bind(column(remedies, |remedy| remedy.at))
    .bind(column(remedies, |remedy| row::name(&remedy.kind)))
    .bind(column(remedies, |remedy| remedy.amount.map(Amount::decimal)))
    .bind(column(remedies, |remedy| remedy.effective_on))
    .bind(column(remedies, |remedy| remedy.reason.as_str()))
    .bind(column(remedies, |remedy| remedy.recorded_by.as_str()))
    .bind(column(remedies, |remedy| remedy.payment_id))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn remedy(row: &PgRow) -> Result<Remedy, Error> {
    let currency = row.parsed("currency")?;
    let has_amount = row.try_get::<bool, _>("has_amount")?;
    Ok(Remedy {
        id: row.try_get("id")?,
        line_id: row.try_get("line_id")?,
        commitment_id: row.try_get("commitment_id")?,
        at: row.try_get("at")?,
        kind: row.named("kind")?,
        amount: has_amount.then(|| row.amount("amount", currency)).transpose()?,
        effective_on: row.try_get("effective_on")?,
        reason: row.try_get("reason")?,
        recorded_by: row.try_get("recorded_by")?,
        payment_id: row.try_get("payment_id")?,
    })
}

/// The issued calls that ask others for what investors of these calls have not paid, and so on.
pub async fn cover_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let covers = sqlx::query_scalar(
        "with recursive covers as (
            select call.id from capital_calls as call join call_lines as line on line.id = covers_line_id
            where line.call_id = any($1) and decision = 'issued'
            union
            select call.id from covers join call_lines as line on line.call_id = covers.id
            join capital_calls as call on call.covers_line_id = line.id and decision = 'issued'
         )
         select id from covers order by id",
    );
    Ok(covers.bind(call_ids).fetch_all(&mut **tx).await?)
}

/// What others were asked for lines in default so far, by line and investor.
pub async fn covered_so_far(tx: &mut Tx, line_ids: &[Uuid]) -> Result<HashMap<(Uuid, Uuid), Amount>, Fault> {
    let covered = sqlx::query(
        "select covers_line_id, investor_id, sum(line.amount) as amount
         from capital_calls as call join call_lines as line on line.call_id = call.id
         where covers_line_id = any($1) group by covers_line_id, investor_id",
    )
    .bind(line_ids)
    .try_map(|row: PgRow| Ok(((row.try_get("covers_line_id")?, row.try_get("investor_id")?), row.number("amount")?)))
    .fetch_all(&mut **tx)
    .await?;
    Ok(covered.into_iter().collect())
}

/// The remedies of a line, as they were recorded.
pub async fn remedies_of_line(tx: &mut Tx, line_id: Uuid) -> Result<Vec<Remedy>, Fault> {
    let remedies = sqlx::query(
        "select remedy.*, remedy.amount is not null as has_amount, currency
         from remedies as remedy join commitments on commitments.id = commitment_id
         where line_id = $1 order by remedy.id",
    )
    .bind(line_id)
    .try_map(|row| remedy(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(remedies)
}
