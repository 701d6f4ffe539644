//! Refunds.

use std::collections::HashMap;

use ::domain::Amount;
use ::domain::ids;
use ::domain::messages::capital_calls::{Refund, RefundStatus};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain;

fn refund(row: &PgRow) -> Result<Refund, Error> {
    let currency = row.parsed("currency")?;
    let id = row.try_get("id")?;
    let mut refund = Refund {
        id,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        fund_type: row.try_get("fund_type")?,
        investor_id: row.try_get("investor_id")?,
        currency,
        amount: row.amount("amount", currency)?,
        payment_id: row.try_get("payment_id")?,
        closing_id: row.try_get("closing_id")?,
        reason: row.try_get("reason")?,
        requested_by: row.try_get("requested_by")?,
        workflow_id: ids::workflow_id(id),
        content_hash: row.try_get("content_hash")?,
        decision: row.named("decision")?,
        cancelled_because: row.try_get("cancelled_because")?,
        payout: row.try_get::<Option<Json<_>>, _>("payout")?.map(|Json(payout)| payout),
        status: RefundStatus::PendingApproval,
    };
    refund.status = domain::refund_status(&refund);
    Ok(refund)
}

/// Adds refunds.
pub async fn insert_refunds(tx: &mut Tx, refunds: &[Refund]) -> Result<(), Fault> {
    sqlx::query(
        "insert into refunds (id, version, created_at, fund_id, fund_type, investor_id, currency, amount, payment_id, closing_id, reason,
                              requested_by, content_hash, decision)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::numeric[],
                              $9::uuid[], $10::uuid[], $11::text[], $12::text[], $13::text[], $14::text[])",
    )
    .bind(column(refunds, |refund| refund.id))
    .bind(column(refunds, |refund| refund.version))
    .bind(column(refunds, |refund| refund.created_at))
    .bind(column(refunds, |refund| refund.fund_id))
    .bind(column(refunds, |refund| refund.fund_type.as_str()))
    .bind(column(refunds, |refund| refund.investor_id))
    .bind(column(refunds, |refund| refund.currency.code()))
    .bind(decimals(refunds, |refund| refund.amount))
    .bind(column(refunds, |refund| refund.payment_id))
    .bind(column(refunds, |refund| refund.closing_id))
    .bind(column(refunds, |refund| refund.reason.as_str()))
    .bind(column(refunds, |refund| refund.requested_by.as_str()))
    .bind(column(refunds, |refund| refund.content_hash.as_str()))
    .bind(column(refunds, |refund| row::name(&refund.decision)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what was decided about refunds that are locked.
pub async fn save_refunds(tx: &mut Tx, refunds: &[&Refund]) -> Result<(), Fault> {
    sqlx::query(
        "update refunds
         set version = new.version, decision = new.decision, cancelled_because = new.cancelled_because, payout = new.payout
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::jsonb[]) as new (id, version, decision, cancelled_because, payout)
         where refunds.id = new.id",
    )
    .bind(column(refunds, |refund| refund.id))
    .bind(column(refunds, |refund| refund.version))
    .bind(column(refunds, |refund| row::name(&refund.decision)))
    .bind(column(refunds, |refund| refund.cancelled_because.as_deref()))
    .bind(column(refunds, |refund| refund.payout.as_ref().map(Json)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The payments of refunds.
pub async fn payments_of_refunds(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let ids = sqlx::query_scalar("select payment_id from refunds where id = any($1) and payment_id is not null").bind(ids);
    Ok(ids.fetch_all(&mut **tx).await?)
}

/// The refunds with these ids, locked.
pub async fn lock_refunds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Refund>, Fault> {
    let refunds = sqlx::query("select * from refunds where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| refund(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(refunds.into_iter().map(|refund| (refund.id, refund)).collect())
}

/// Which of these payments have a refund that is neither paid out nor cancelled. The payments are locked.
pub async fn pending_refunds(tx: &mut Tx, payment_ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let pending = "select payment_id from refunds where payment_id = any($1) and decision <> 'cancelled' and payout is null";
    Ok(sqlx::query_scalar(pending).bind(payment_ids).fetch_all(&mut **tx).await?)
}

/// What is known of an investor's interest from a closing.
#[derive(Clone, Copy, Debug)]
pub struct InterestOwed {
    /// What it is owed.
    pub owed: Amount,
    /// What those who owe interest owe in all.
    pub in_all: Amount,
    /// What they have paid of it, and is certain.
    pub paid: Amount,
    /// What was paid out to the investor, or is about to be.
    pub paid_out: Amount,
}

/// What investors are owed of closings' interest, by closing and investor. Nobody else asks for it until the end.
pub async fn lock_interest(tx: &mut Tx, of: &[(Uuid, Uuid)]) -> Result<HashMap<(Uuid, Uuid), InterestOwed>, Fault> {
    let (closing_ids, investor_ids) = (column(of, |(closing_id, _)| *closing_id), column(of, |(_, investor_id)| *investor_id));
    let names = column(of, |(closing_id, investor_id)| format!("{closing_id} {investor_id}"));
    super::lock_names(tx, "interest", &names).await?;
    interest_owed(tx, &closing_ids, &investor_ids).await
}

/// What the investors are owed that closings' interest is paid out to, by refund. What is paid stays so until the end.
pub async fn lock_interest_of_refunds(tx: &mut Tx, refunds: &HashMap<Uuid, Refund>) -> Result<HashMap<Uuid, InterestOwed>, Fault> {
    let of_closings: Vec<(Uuid, Uuid)> = refunds.values().filter_map(|refund| Some((refund.closing_id?, refund.investor_id))).collect();
    let closing_ids = column(&of_closings, |(closing_id, _)| *closing_id);
    let owed = interest_owed(tx, &closing_ids, &column(&of_closings, |(_, investor_id)| *investor_id)).await?;
    let of = |refund: &Refund| Some((refund.id, *owed.get(&(refund.closing_id?, refund.investor_id))?));
    Ok(refunds.values().filter_map(of).collect())
}

/// What investors are owed of closings' interest, by closing and investor. The calls that ask for it are locked against who takes cash
/// back; cash that is not certain yet does not count.
async fn interest_owed(tx: &mut Tx, closing_ids: &[Uuid], investor_ids: &[Uuid]) -> Result<HashMap<(Uuid, Uuid), InterestOwed>, Fault> {
    if closing_ids.is_empty() {
        return Ok(HashMap::new());
    }
    sqlx::query(
        "select 1 from closings join capital_calls as call on call.id = interest_call_id
         where closings.id = any($1) order by call.id for share of call",
    )
    .bind(closing_ids)
    .execute(&mut **tx)
    .await?;
    let now = tx.now();
    let owed = sqlx::query(
        "select share.closing_id, share.investor_id, -share.interest as owed, closing.interest as in_all,
                coalesce((select sum(applied - charges) from payments
                          where call_id = closing.interest_call_id and reversal is null
                            and (clears_on is null or clears_on <= ($3 at time zone funds.timezone)::date)), 0) as paid,
                coalesce((select sum(amount) from refunds
                          where refunds.closing_id = share.closing_id and refunds.investor_id = share.investor_id
                            and decision <> 'cancelled'), 0) as paid_out
         from closing_shares as share
         join closings as closing on closing.id = share.closing_id
         join funds on funds.id = closing.fund_id
         where (share.closing_id, share.investor_id) in (select * from unnest($1::uuid[], $2::uuid[])) and share.interest < 0",
    )
    .bind(closing_ids)
    .bind(investor_ids)
    .bind(now)
    .try_map(|row: PgRow| {
        let (owed, in_all) = (row.number("owed")?, row.number("in_all")?);
        let owed = InterestOwed { owed, in_all, paid: row.number("paid")?, paid_out: row.number("paid_out")? };
        Ok(((row.try_get("closing_id")?, row.try_get("investor_id")?), owed))
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(owed.into_iter().collect())
}

/// One refund.
pub async fn find_refund(tx: &mut Tx, id: Uuid) -> Result<Option<Refund>, Fault> {
    Ok(sqlx::query("select * from refunds where id = $1").bind(id).try_map(|row| refund(&row)).fetch_optional(&mut **tx).await?)
}

/// Refunds, newest first, of one fund or of all that may be seen, before an id.
pub async fn list_refunds(
    tx: &mut Tx,
    scope: Option<&[Uuid]>,
    fund_id: Option<Uuid>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Refund>, Fault> {
    let refunds = sqlx::query(
        "select * from refunds
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2) and id < $3
         order by id desc limit $4",
    )
    .persistent(false)
    .bind(scope)
    .bind(fund_id)
    .bind(before)
    .bind(limit)
    .try_map(|row| refund(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(refunds)
}
