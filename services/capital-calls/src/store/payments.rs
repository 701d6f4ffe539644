//! Payments, and the cash that they move.

use std::collections::{BTreeMap, HashMap};

use ::domain::Amount;
use ::domain::messages::capital_calls::{CallLine, Payment, PaymentStatus};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain;

fn payment(row: &PgRow) -> Result<Payment, Error> {
    let currency = row.parsed("currency")?;
    let mut payment = Payment {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        line_id: row.try_get("line_id")?,
        call_id: row.try_get("call_id")?,
        fund_id: row.try_get("fund_id")?,
        investor_id: row.try_get("investor_id")?,
        currency,
        amount: row.amount("amount", currency)?,
        applied: row.amount("applied", currency)?,
        unapplied: row.amount("unapplied", currency)?,
        method: row.named("method")?,
        reference: row.try_get("reference")?,
        received_on: row.try_get("received_on")?,
        recorded_by: row.try_get("recorded_by")?,
        reversal: row.json("reversal_or_null")?,
        status: PaymentStatus::Applied,
    };
    payment.status = domain::payment_status(&payment);
    Ok(payment)
}

/// What cash moved.
#[derive(Debug, Default)]
pub struct Moved<'a> {
    /// The lines, as they are now.
    pub lines: Vec<&'a CallLine>,
    /// By how much each call is paid more, or less.
    pub paid: BTreeMap<Uuid, Amount>,
}

/// Adds payments and writes what cash moved. The lines are locked; the calls are locked here, in the order of their ids.
pub async fn save_moved(tx: &mut Tx, added: &[&Payment], moved: &Moved<'_>) -> Result<(), Fault> {
    let Moved { lines, paid } = moved;
    sqlx::query(
        "with added as (
            insert into payments (id, version, created_at, line_id, call_id, fund_id, investor_id, currency, amount,
                                  applied, unapplied, method, reference, received_on, recorded_by)
            select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[],
                                 $9::numeric[], $10::numeric[], $11::numeric[], $12::text[], $13::text[], $14::date[], $15::text[])
         ), moved as (
            update call_lines set version = new.version, paid = new.paid, unapplied = new.unapplied
            from unnest($16::uuid[], $17::bigint[], $18::numeric[], $19::numeric[]) as new (id, version, paid, unapplied)
            where call_lines.id = new.id
         ), locked as materialized (
            select id, new.paid from unnest($20::uuid[], $21::numeric[]) as new (id, paid) join capital_calls using (id)
            order by id for no key update of capital_calls
         )
         update capital_calls set paid = capital_calls.paid + locked.paid from locked where capital_calls.id = locked.id",
    )
    .bind(column(added, |payment| payment.id))
    .bind(column(added, |payment| payment.version))
    .bind(column(added, |payment| payment.created_at))
    .bind(column(added, |payment| payment.line_id))
    .bind(column(added, |payment| payment.call_id))
    .bind(column(added, |payment| payment.fund_id))
    .bind(column(added, |payment| payment.investor_id))
    .bind(column(added, |payment| payment.currency.code()))
    .bind(decimals(added, |payment| payment.amount))
    .bind(decimals(added, |payment| payment.applied))
    .bind(decimals(added, |payment| payment.unapplied))
    .bind(column(added, |payment| row::name(&payment.method)))
    .bind(column(added, |payment| payment.reference.as_str()))
    .bind(column(added, |payment| payment.received_on))
    .bind(column(added, |payment| payment.recorded_by.as_str()))
    .bind(column(lines, |line| line.id))
    .bind(column(lines, |line| line.version))
    .bind(decimals(lines, |line| line.paid))
    .bind(decimals(lines, |line| line.unapplied))
    .bind(paid.keys().copied().collect::<Vec<_>>())
    .bind(paid.values().map(|paid| paid.decimal()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The payments that count for these lines with these references. The lines are locked.
pub async fn payments_with_references(tx: &mut Tx, references: &[(Uuid, &str)]) -> Result<Vec<Payment>, Fault> {
    let payments = sqlx::query(
        "select payments.*, coalesce(reversal, 'null') as reversal_or_null
         from unnest($1::uuid[], $2::text[]) as asked (line_id, reference)
         join payments on payments.line_id = asked.line_id and payments.reference = asked.reference
         where payments.reversal is null",
    )
    .bind(column(references, |(line_id, _)| *line_id))
    .bind(column(references, |(_, reference)| *reference))
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments)
}

/// One payment.
pub async fn find_payment(tx: &mut Tx, id: Uuid) -> Result<Option<Payment>, Fault> {
    let found = sqlx::query("select *, coalesce(reversal, 'null') as reversal_or_null from payments where id = $1");
    Ok(found.bind(id).try_map(|row| payment(&row)).fetch_optional(&mut **tx).await?)
}

/// The payments with these ids, and those of the same lines that have credit, locked.
pub async fn lock_payments_with_credit(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Payment>, Fault> {
    let lines: Vec<Uuid> = sqlx::query_scalar("select line_id from payments where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    // by one index each: a join or an `or` would read every payment
    let payments = sqlx::query(
        "select *, coalesce(reversal, 'null') as reversal_or_null from payments
         where id in (select unnest($1::uuid[])
                      union
                      select id from payments where line_id = any($2) and unapplied > 0 and reversal is null)
         order by id for no key update",
    )
    .bind(ids)
    .bind(lines)
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments.into_iter().map(|payment| (payment.id, payment)).collect())
}

/// The payments for these calls that count, locked, in the order in which they were recorded.
pub async fn lock_payments_of_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<Vec<Payment>, Fault> {
    if call_ids.is_empty() {
        return Ok(vec![]);
    }
    let payments = sqlx::query(
        "select *, coalesce(reversal, 'null') as reversal_or_null from payments
         where call_id = any($1) and reversal is null order by id for no key update",
    )
    .bind(call_ids)
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments)
}

/// How many payments for these calls count.
pub async fn count_payments_of_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<usize, Fault> {
    let count: i64 = sqlx::query_scalar("select count(*) from payments where call_id = any($1) and reversal is null")
        .bind(call_ids)
        .fetch_one(&mut **tx)
        .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The ids of the payments for these lines that count and have credit.
pub async fn credit(tx: &mut Tx, line_ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let ids = sqlx::query_scalar("select id from payments where line_id = any($1) and reversal is null and unapplied > 0");
    Ok(ids.bind(line_ids).fetch_all(&mut **tx).await?)
}

/// Writes which parts of payments are applied now.
pub async fn save_applied(tx: &mut Tx, payments: &[Payment]) -> Result<(), Fault> {
    if payments.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update payments set version = new.version, applied = new.applied, unapplied = new.unapplied
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[]) as new (id, version, applied, unapplied)
         where payments.id = new.id and payments.version < new.version",
    )
    .bind(column(payments, |payment| payment.id))
    .bind(column(payments, |payment| payment.version))
    .bind(decimals(payments, |payment| payment.applied))
    .bind(decimals(payments, |payment| payment.unapplied))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes reversals.
pub async fn save_reversals(tx: &mut Tx, payments: &[Payment]) -> Result<(), Fault> {
    sqlx::query(
        "update payments set version = new.version, reversal = new.reversal, applied = new.applied, unapplied = new.unapplied
         from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::numeric[], $5::numeric[]) as new (id, version, reversal, applied, unapplied)
         where payments.id = new.id",
    )
    .bind(column(payments, |payment| payment.id))
    .bind(column(payments, |payment| payment.version))
    .bind(column(payments, |payment| sqlx::types::Json(&payment.reversal)))
    .bind(decimals(payments, |payment| payment.applied))
    .bind(decimals(payments, |payment| payment.unapplied))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Which payments a list shows.
#[derive(Debug, Default)]
pub struct PaymentFilter<'a> {
    /// Of these funds.
    pub scope: Option<&'a [Uuid]>,
    /// For this line.
    pub line_id: Option<Uuid>,
    /// For this call.
    pub call_id: Option<Uuid>,
    /// Of this fund.
    pub fund_id: Option<Uuid>,
}

/// Payments, newest first, before an id.
pub async fn list_payments(tx: &mut Tx, filter: &PaymentFilter<'_>, before: Uuid, limit: i64) -> Result<Vec<Payment>, Fault> {
    let only_scope = filter.scope.is_some() && filter.line_id.or(filter.call_id).or(filter.fund_id).is_none();
    let statement = if only_scope {
        // the newest of each fund: a walk over all payments would be long where the funds have few
        "select newest.*, coalesce(newest.reversal, 'null') as reversal_or_null
         from (select distinct unnest($1::uuid[]) as fund_id) as scope
         cross join lateral (
            select * from payments where payments.fund_id = scope.fund_id and id < $5 order by id desc limit $6
         ) as newest
         where $2::uuid is null and $3::uuid is null and $4::uuid is null
         order by id desc limit $6"
    } else {
        "select *, coalesce(reversal, 'null') as reversal_or_null from payments
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or line_id = $2)
           and ($3::uuid is null or call_id = $3) and ($4::uuid is null or fund_id = $4) and id < $5
         order by id desc limit $6"
    };
    let payments = sqlx::query(statement)
        .persistent(false)
        .bind(filter.scope)
        .bind(filter.line_id)
        .bind(filter.call_id)
        .bind(filter.fund_id)
        .bind(before)
        .bind(limit)
        .try_map(|row| payment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(payments)
}
