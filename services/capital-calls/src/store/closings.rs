//! Later closings.

use std::collections::HashMap;

use ::domain::Currency;
use ::domain::messages::capital_calls::{Closing, ClosingShare, ClosingView};
use ::domain::money::Ratio;
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

/// Adds closings.
pub async fn insert_closings(tx: &mut Tx, closings: &[Closing]) -> Result<(), Fault> {
    sqlx::query(
        "insert into closings (id, version, created_at, fund_id, currency, closed_on, due_on, interest_percent, committed, equalised,
                               interest, interest_call_id, calls, recorded_by)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::date[], $7::date[], $8::numeric[],
                              $9::numeric[], $10::numeric[], $11::numeric[], $12::uuid[], $13::jsonb[], $14::text[])",
    )
    .bind(column(closings, |closing| closing.id))
    .bind(column(closings, |closing| closing.version))
    .bind(column(closings, |closing| closing.created_at))
    .bind(column(closings, |closing| closing.fund_id))
    .bind(column(closings, |closing| closing.currency.code()))
    .bind(column(closings, |closing| closing.closed_on))
    .bind(column(closings, |closing| closing.due_on))
    .bind(column(closings, |closing| closing.interest_percent.0))
    .bind(decimals(closings, |closing| closing.committed))
    .bind(decimals(closings, |closing| closing.equalised))
    .bind(decimals(closings, |closing| closing.interest))
    .bind(column(closings, |closing| closing.interest_call_id))
    .bind(column(closings, |closing| Json(&closing.calls)))
    .bind(column(closings, |closing| closing.recorded_by.as_str()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds what closings mean for each investor.
pub async fn insert_closing_shares(tx: &mut Tx, shares: &[(Uuid, ClosingShare)]) -> Result<(), Fault> {
    sqlx::query(
        "insert into closing_shares (closing_id, investor_id, equalised, interest)
         select * from unnest($1::uuid[], $2::uuid[], $3::numeric[], $4::numeric[])",
    )
    .bind(column(shares, |(closing_id, _)| *closing_id))
    .bind(column(shares, |(_, share)| share.investor_id))
    .bind(decimals(shares, |(_, share)| share.equalised))
    .bind(decimals(shares, |(_, share)| share.interest))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn closing(row: &PgRow) -> Result<Closing, Error> {
    let currency = row.parsed("currency")?;
    Ok(Closing {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        currency,
        closed_on: row.try_get("closed_on")?,
        due_on: row.try_get("due_on")?,
        interest_percent: Ratio(row.try_get("interest_percent")?),
        committed: row.amount("committed", currency)?,
        equalised: row.amount("equalised", currency)?,
        interest: row.amount("interest", currency)?,
        interest_call_id: row.try_get("interest_call_id")?,
        calls: row.json("calls")?,
        recorded_by: row.try_get("recorded_by")?,
        status: "held".into(),
    })
}

fn share(row: &PgRow, currency: Currency) -> Result<ClosingShare, Error> {
    Ok(ClosingShare {
        investor_id: row.try_get("investor_id")?,
        equalised: row.amount("equalised", currency)?,
        interest: row.amount("interest", currency)?,
    })
}

/// One closing, with what it means for each investor.
pub async fn find_closing(tx: &mut Tx, id: Uuid) -> Result<Option<ClosingView>, Fault> {
    let found = sqlx::query("select * from closings where id = $1").bind(id).try_map(|row| closing(&row)).fetch_optional(&mut **tx).await?;
    let Some(closing) = found else { return Ok(None) };
    let shares = sqlx::query("select * from closing_shares where closing_id = $1 order by investor_id")
        .bind(id)
        .try_map(|row| share(&row, closing.currency))
        .fetch_all(&mut **tx)
        .await?;
    Ok(Some(ClosingView { closing, shares }))
}

/// The funds of closings.
pub async fn funds_of_closings(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Uuid>, Fault> {
    let funds: Vec<(Uuid, Uuid)> =
        sqlx::query_as("select id, fund_id from closings where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    Ok(funds.into_iter().collect())
}
