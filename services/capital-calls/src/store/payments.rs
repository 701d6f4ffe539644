//! Payments, and the cash that they move.

use std::collections::{BTreeMap, HashMap};

use ::domain::Amount;
use ::domain::messages::capital_calls::{CallLine, Clearing, Payment, PaymentStatus};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
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
        interest: row.amount("interest", currency)?,
        charges: row.amount("charges", currency)?,
        suspended: row.amount("suspended", currency)?,
        refunded: row.amount("refunded", currency)?,
        moved: row.amount("moved", currency)?,
        clears_on: row.try_get("clears_on")?,
        // derived for the business date by whoever loads it
        clearing: Clearing::Cleared,
        source: row.try_get("source")?,
        external_reference: row.try_get("external_reference")?,
        receipt_id: row.try_get("receipt_id")?,
        moved_from: row.try_get("moved_from")?,
        suspense: row.try_get::<Option<Json<_>>, _>("suspense")?.map(|Json(suspense)| suspense),
        reversal: row.try_get::<Option<Json<_>>, _>("reversal")?.map(|Json(reversal)| reversal),
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
                                  applied, unapplied, method, reference, received_on, recorded_by, charges, suspended, clears_on, source,
                                  external_reference, receipt_id, moved_from, suspense, interest)
            select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[],
                                 $9::numeric[], $10::numeric[], $11::numeric[], $12::text[], $13::text[], $14::date[], $15::text[],
                                 $16::numeric[], $17::numeric[], $18::date[], $19::text[], $20::text[], $21::uuid[], $22::uuid[],
                                 $23::jsonb[], $24::numeric[])
         ), moved as (
            update call_lines set version = new.version, paid = new.paid, unapplied = new.unapplied, charges = new.charges,
                                  last_paid_on = new.last_paid_on, interest_paid = new.interest_paid, cured_on = new.cured_on,
                                  interest_due = new.interest_due
            from unnest($25::uuid[], $26::bigint[], $27::numeric[], $28::numeric[], $29::numeric[], $30::date[], $31::numeric[],
                        $32::date[], $33::numeric[])
                 as new (id, version, paid, unapplied, charges, last_paid_on, interest_paid, cured_on, interest_due)
            where call_lines.id = new.id
         ), locked as materialized (
            select id, new.paid from unnest($34::uuid[], $35::numeric[]) as new (id, paid) join capital_calls using (id)
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
    .bind(decimals(added, |payment| payment.charges))
    .bind(decimals(added, |payment| payment.suspended))
    .bind(column(added, |payment| payment.clears_on))
    .bind(column(added, |payment| payment.source.as_deref()))
    .bind(column(added, |payment| payment.external_reference.as_deref()))
    .bind(column(added, |payment| payment.receipt_id))
    .bind(column(added, |payment| payment.moved_from))
    .bind(column(added, |payment| payment.suspense.as_ref().map(Json)))
    .bind(decimals(added, |payment| payment.interest))
    .bind(column(lines, |line| line.id))
    .bind(column(lines, |line| line.version))
    .bind(decimals(lines, |line| line.paid))
    .bind(decimals(lines, |line| line.unapplied))
    .bind(decimals(lines, |line| line.charges))
    .bind(column(lines, |line| line.last_paid_on))
    .bind(decimals(lines, |line| line.interest_paid))
    .bind(column(lines, |line| line.cured_on))
    .bind(decimals(lines, |line| line.interest_due))
    .bind(paid.keys().copied().collect::<Vec<_>>())
    .bind(paid.values().map(|paid| paid.decimal()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What makes two payments look like one: fund, payer, amount and value date.
pub type Look = (Uuid, Uuid, Amount, NaiveDate);

/// One look after the other, by the index of payers, whatever the tables look like when it is planned. While they are empty that index
/// seems to hold one row, and would be gone through as a whole beside the looks: `offset 0` keeps the looks outside. And the index of
/// a fund's payments seems as good: `is not distinct from` is no use of an index.
pub const SIMILAR_PAYMENTS: &str =
    "select distinct on (line_id, payments.amount, payments.received_on, payments.source, method, reference) payments.*
     from unnest($1::uuid[], $2::uuid[], $3::numeric[], $4::date[], $5::text[]) as asked (fund_id, investor_id, amount, received_on, source)
     cross join lateral (
        select * from payments
        where payments.investor_id = asked.investor_id and payments.received_on = asked.received_on and payments.amount = asked.amount
          and payments.fund_id is not distinct from asked.fund_id and (asked.source is null or payments.source is distinct from asked.source)
          and reversal is null and moved_from is null
        offset 0
     ) as payments
     order by line_id, payments.amount, payments.received_on, payments.source, method, reference, payments.id";

/// Payments that count of these funds and investors, with these amounts and value dates, and, where one is given, of another source, each
/// asked for once; of those of a line that say the same of their source, method and reference the first.
pub async fn similar_payments(tx: &mut Tx, to: &[(Look, Option<String>)]) -> Result<Vec<Payment>, Fault> {
    let payments = sqlx::query(SIMILAR_PAYMENTS)
        .bind(column(to, |((fund_id, ..), _)| *fund_id))
        .bind(column(to, |((_, investor_id, ..), _)| *investor_id))
        .bind(decimals(to, |((_, _, amount, _), _)| *amount))
        .bind(column(to, |((.., received_on), _)| *received_on))
        .bind(column(to, |(_, source)| source.as_deref()))
        .try_map(|row| payment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(payments)
}

/// The payments that were reported with these sources and external references. Others who report them wait until the transaction ends.
pub async fn lock_reported(tx: &mut Tx, reported: &[(&str, &str)]) -> Result<Vec<Payment>, Fault> {
    if reported.is_empty() {
        return Ok(vec![]);
    }
    let (sources, references) = (column(reported, |(source, _)| *source), column(reported, |(_, reference)| *reference));
    super::lock_names(tx, "reported", &column(reported, |(source, reference)| format!("{source} {reference}"))).await?;
    let payments = sqlx::query(
        "select payments.* from unnest($1::text[], $2::text[]) as reported (source, external_reference)
         join payments using (source, external_reference)",
    )
    .bind(sources)
    .bind(references)
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments)
}

/// The payments that a system has reported under these names.
pub async fn find_reported(tx: &mut Tx, scope: Option<&[Uuid]>, source: &str, references: &[String]) -> Result<Vec<Payment>, Fault> {
    let found = "select * from payments where source = $1 and external_reference = any($2) and ($3::uuid[] is null or fund_id = any($3))";
    Ok(sqlx::query(found).bind(source).bind(references).bind(scope).try_map(|row| payment(&row)).fetch_all(&mut **tx).await?)
}

/// The parts of a receipt, in the order in which they were recorded.
pub async fn payments_of_receipt(tx: &mut Tx, receipt_id: Uuid) -> Result<Vec<Payment>, Fault> {
    let payments = sqlx::query("select * from payments where receipt_id = $1 and moved_from is null order by id")
        .bind(receipt_id)
        .try_map(|row| payment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(payments)
}

/// One payment.
pub async fn find_payment(tx: &mut Tx, id: Uuid) -> Result<Option<Payment>, Fault> {
    let found = sqlx::query("select * from payments where id = $1");
    Ok(found.bind(id).try_map(|row| payment(&row)).fetch_optional(&mut **tx).await?)
}

/// The lines of payments: they never change.
pub async fn lines_of_payments(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let lines = sqlx::query_scalar("select distinct line_id from payments where id = any($1) order by line_id").bind(ids);
    Ok(lines.fetch_all(&mut **tx).await?)
}

/// Payments with these ids, those whose credit they are, and those that their credit became, with their lines.
pub async fn family(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>, Fault> {
    let family = sqlx::query_as(
        "with recursive family as (
            select id, line_id from payments
            where id in (select unnest($1::uuid[]) union select moved_from from payments where id = any($1) and moved_from is not null)
            union
            select payments.id, payments.line_id from family join payments on payments.moved_from = family.id
         )
         select id, line_id from family",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(family)
}

/// The payments of a family, and those that count for its lines, locked. The lines are locked.
pub async fn lock_payments_with_lines(tx: &mut Tx, family: &[(Uuid, Uuid)]) -> Result<HashMap<Uuid, Payment>, Fault> {
    // by one index each: a join or an `or` would read every payment
    let payments = sqlx::query(
        "select * from payments
         where id in (select unnest($1::uuid[]) union select id from payments where line_id = any($2) and reversal is null)
         order by id for no key update",
    )
    .bind(column(family, |(id, _)| *id))
    .bind(column(family, |(_, line_id)| *line_id))
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments.into_iter().map(|payment| (payment.id, payment)).collect())
}

/// The payments for these calls that count, locked after their lines, in the order in which they were recorded.
pub async fn lock_payments_of_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<Vec<Payment>, Fault> {
    if call_ids.is_empty() {
        return Ok(vec![]);
    }
    let payments = sqlx::query(
        "select * from payments
         where call_id = any($1) and reversal is null order by id for no key update",
    )
    .bind(call_ids)
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments)
}

/// The payments with these ids, locked.
pub async fn lock_payments(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Payment>, Fault> {
    let payments = sqlx::query("select * from payments where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| payment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(payments.into_iter().map(|payment| (payment.id, payment)).collect())
}

/// The payments that count for these lines, in the order in which they were recorded. The lines are locked: nobody changes them.
pub async fn payments_of_lines(tx: &mut Tx, line_ids: &[Uuid]) -> Result<Vec<Payment>, Fault> {
    let payments = sqlx::query("select * from payments where line_id = any($1) and reversal is null order by id")
        .bind(line_ids)
        .try_map(|row| payment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(payments)
}

/// Writes payments that are locked.
pub async fn save_payments(tx: &mut Tx, payments: &[&Payment]) -> Result<(), Fault> {
    if payments.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update payments
         set version = new.version, applied = new.applied, unapplied = new.unapplied, charges = new.charges, suspended = new.suspended,
             refunded = new.refunded, moved = new.moved, suspense = new.suspense, reversal = new.reversal, interest = new.interest
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
                     $9::jsonb[], $10::jsonb[], $11::numeric[])
              as new (id, version, applied, unapplied, charges, suspended, refunded, moved, suspense, reversal, interest)
         where payments.id = new.id and payments.version < new.version",
    )
    .bind(column(payments, |payment| payment.id))
    .bind(column(payments, |payment| payment.version))
    .bind(decimals(payments, |payment| payment.applied))
    .bind(decimals(payments, |payment| payment.unapplied))
    .bind(decimals(payments, |payment| payment.charges))
    .bind(decimals(payments, |payment| payment.suspended))
    .bind(decimals(payments, |payment| payment.refunded))
    .bind(decimals(payments, |payment| payment.moved))
    .bind(column(payments, |payment| payment.suspense.as_ref().map(Json)))
    .bind(column(payments, |payment| payment.reversal.as_ref().map(Json)))
    .bind(decimals(payments, |payment| payment.interest))
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
    /// Kept in suspense.
    pub in_suspense: bool,
}

/// Payments, newest first, before an id.
pub async fn list_payments(tx: &mut Tx, filter: &PaymentFilter<'_>, before: Uuid, limit: i64) -> Result<Vec<Payment>, Fault> {
    let only_scope = filter.scope.is_some() && filter.line_id.or(filter.call_id).or(filter.fund_id).is_none();
    let statement = if filter.in_suspense {
        // few, whatever else is asked
        "select * from payments
         where suspended > 0 and reversal is null and ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or line_id = $2)
           and ($3::uuid is null or call_id = $3) and ($4::uuid is null or fund_id = $4) and id < $5
         order by id desc limit $6"
    } else if only_scope {
        // the newest of each fund: a walk over all payments would be long where the funds have few
        "select newest.*
         from (select distinct unnest($1::uuid[]) as fund_id) as scope
         cross join lateral (
            select * from payments where payments.fund_id = scope.fund_id and id < $5 order by id desc limit $6
         ) as newest
         where $2::uuid is null and $3::uuid is null and $4::uuid is null
         order by id desc limit $6"
    } else {
        "select * from payments
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

/// Those of these payments that were taken back because they were recorded wrongly: their cash is still there.
pub async fn wrongly_recorded(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let wrong = "select id from payments where id = any($1) and (reversal ->> 'cash_stays')::boolean";
    Ok(sqlx::query_scalar(wrong).bind(ids).fetch_all(&mut **tx).await?)
}
