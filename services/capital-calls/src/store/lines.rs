//! Call lines and their entries.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{CallLine, LineEntry, LineStatus, LineTiming};
use ::domain::{CreditorReference, Currency};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

fn line(row: &PgRow) -> Result<CallLine, Error> {
    let currency = row.parsed("currency")?;
    let id = row.try_get("id")?;
    Ok(CallLine {
        id,
        reference: CreditorReference::of(id).as_str().to_owned(),
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        call_id: row.try_get("call_id")?,
        fund_id: row.try_get("fund_id")?,
        fund_type: row.try_get("fund_type")?,
        investor_id: row.try_get("investor_id")?,
        currency,
        amount: row.amount("amount", currency)?,
        impact_on_unfunded: row.amount("impact_on_unfunded", currency)?,
        amendment: row.try_get("amendment")?,
        disposition: row.named("disposition")?,
        paid: row.amount("paid", currency)?,
        unapplied: row.amount("unapplied", currency)?,
        charges: row.amount("charges", currency)?,
        outstanding: row.amount("amount", currency)? - row.amount("paid", currency)?,
        last_paid_on: row.try_get("last_paid_on")?,
        interest_paid: row.amount("interest_paid", currency)?,
        interest_due: row.amount("interest_due", currency)?,
        covered: row.json("covered")?,
        closing_id: row.try_get("closing_id")?,
        default_interest: row.try_get::<Option<Json<_>>, _>("default_interest")?.map(|Json(terms)| terms),
        failure_notice: row.try_get::<Option<Json<_>>, _>("failure_notice")?.map(|Json(notice)| notice),
        default: row.try_get::<Option<Json<_>>, _>("default_declared")?.map(|Json(default)| default),
        cured_on: row.try_get("cured_on")?,
        instructions: row.try_get::<Option<Json<_>>, _>("instructions")?.map(|Json(instructions)| instructions),
        due_on: row.try_get("due_on")?,
        issued_on: row.try_get("issued_on")?,
        grace_days: row.try_get("grace_days")?,
        timezone: row.try_get("timezone")?,
        purposes: row.json("purposes")?,
        // derived for the business date by whoever loads it
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    })
}

/// Adds lines.
pub async fn insert_lines(tx: &mut Tx, lines: &[CallLine]) -> Result<(), Fault> {
    sqlx::query(
        "insert into call_lines (id, version, created_at, call_id, fund_id, fund_type, investor_id, currency, amount,
                                 impact_on_unfunded, paid, unapplied, due_on, issued_on, grace_days, timezone, purposes, amendment,
                                 default_interest, instructions, closing_id)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
                              $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::date[], $14::date[], $15::int[],
                              $16::text[], $17::jsonb[], $18::int[], $19::jsonb[], $20::jsonb[], $21::uuid[])",
    )
    .bind(column(lines, |line| line.id))
    .bind(column(lines, |line| line.version))
    .bind(column(lines, |line| line.created_at))
    .bind(column(lines, |line| line.call_id))
    .bind(column(lines, |line| line.fund_id))
    .bind(column(lines, |line| line.fund_type.as_str()))
    .bind(column(lines, |line| line.investor_id))
    .bind(column(lines, |line| line.currency.code()))
    .bind(decimals(lines, |line| line.amount))
    .bind(decimals(lines, |line| line.impact_on_unfunded))
    .bind(decimals(lines, |line| line.paid))
    .bind(decimals(lines, |line| line.unapplied))
    .bind(column(lines, |line| line.due_on))
    .bind(column(lines, |line| line.issued_on))
    .bind(column(lines, |line| line.grace_days))
    .bind(column(lines, |line| line.timezone.as_str()))
    .bind(column(lines, |line| Json(&line.purposes)))
    .bind(column(lines, |line| line.amendment))
    .bind(column(lines, |line| line.default_interest.as_ref().map(Json)))
    .bind(column(lines, |line| line.instructions.as_ref().map(Json)))
    .bind(column(lines, |line| line.closing_id))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes lines that are locked, and how they changed.
pub async fn save_lines(tx: &mut Tx, lines: &[&CallLine], entries: &[LineEntry]) -> Result<(), Fault> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update call_lines
         set version = new.version, amount = new.amount, impact_on_unfunded = new.impact_on_unfunded, paid = new.paid,
             unapplied = new.unapplied, due_on = new.due_on, purposes = new.purposes, amendment = new.amendment, disposition = new.disposition,
             charges = new.charges, last_paid_on = new.last_paid_on, interest_paid = new.interest_paid, failure_notice = new.failure_notice,
             default_declared = new.default_declared, cured_on = new.cured_on, instructions = new.instructions,
             interest_due = new.interest_due, covered = new.covered
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[], $7::date[], $8::jsonb[], $9::int[],
                     $10::text[], $11::numeric[], $12::date[], $13::numeric[], $14::jsonb[], $15::jsonb[], $16::date[], $17::jsonb[],
                     $18::numeric[], $19::jsonb[])
              as new (id, version, amount, impact_on_unfunded, paid, unapplied, due_on, purposes, amendment, disposition, charges,
                      last_paid_on, interest_paid, failure_notice, default_declared, cured_on, instructions, interest_due, covered)
         where call_lines.id = new.id",
    )
    .bind(column(lines, |line| line.id))
    .bind(column(lines, |line| line.version))
    .bind(decimals(lines, |line| line.amount))
    .bind(decimals(lines, |line| line.impact_on_unfunded))
    .bind(decimals(lines, |line| line.paid))
    .bind(decimals(lines, |line| line.unapplied))
    .bind(column(lines, |line| line.due_on))
    .bind(column(lines, |line| Json(&line.purposes)))
    .bind(column(lines, |line| line.amendment))
    .bind(column(lines, |line| row::name(&line.disposition)))
    .bind(decimals(lines, |line| line.charges))
    .bind(column(lines, |line| line.last_paid_on))
    .bind(decimals(lines, |line| line.interest_paid))
    .bind(column(lines, |line| line.failure_notice.as_ref().map(Json)))
    .bind(column(lines, |line| line.default.as_ref().map(Json)))
    .bind(column(lines, |line| line.cured_on))
    .bind(column(lines, |line| line.instructions.as_ref().map(Json)))
    .bind(decimals(lines, |line| line.interest_due))
    .bind(column(lines, |line| Json(&line.covered)))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "insert into line_entries (id, line_id, version, at, amount, impact_on_unfunded, paid, reason, recorded_by, effective_on)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::numeric[], $6::numeric[], $7::numeric[], $8::text[],
                              $9::text[], $10::date[])",
    )
    .bind(column(entries, |entry| entry.id))
    .bind(column(entries, |entry| entry.line_id))
    .bind(column(entries, |entry| entry.version))
    .bind(column(entries, |entry| entry.at))
    .bind(decimals(entries, |entry| entry.amount))
    .bind(decimals(entries, |entry| entry.impact_on_unfunded))
    .bind(decimals(entries, |entry| entry.paid))
    .bind(column(entries, |entry| entry.reason.as_str()))
    .bind(column(entries, |entry| entry.recorded_by.as_str()))
    .bind(column(entries, |entry| entry.effective_on))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The lines of these calls, locked, in the order of their ids.
pub async fn lock_lines_of_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<Vec<CallLine>, Fault> {
    if call_ids.is_empty() {
        return Ok(vec![]);
    }
    let lines = sqlx::query("select * from call_lines where call_id = any($1) order by id for no key update")
        .bind(call_ids)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(lines)
}

/// The lines with these ids, locked.
pub async fn lock_lines(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, CallLine>, Fault> {
    let lines = sqlx::query("select * from call_lines where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(lines.into_iter().map(|line| (line.id, line)).collect())
}

/// The funds and calls of lines.
pub async fn owners_of_lines(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, (Uuid, Uuid)>, Fault> {
    let owners: Vec<(Uuid, Uuid, Uuid)> =
        sqlx::query_as("select id, fund_id, call_id from call_lines where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    Ok(owners.into_iter().map(|(id, fund_id, call_id)| (id, (fund_id, call_id))).collect())
}

/// The ids of an investor's lines of a fund on which something is outstanding; without any, that of the newest line.
pub async fn payable_lines(tx: &mut Tx, fund_id: Uuid, investor_id: Uuid) -> Result<Vec<Uuid>, Fault> {
    let ids = sqlx::query_scalar(
        "with lines as (
            select id, amount > paid as is_open from call_lines where investor_id = $2 and fund_id = $1 and disposition <> 'rescinded'
         )
         select id from lines where is_open or id = (select max(id::text)::uuid from lines) order by id",
    )
    .bind(fund_id)
    .bind(investor_id)
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids)
}

/// The lines of a call.
pub async fn lines_of_call(tx: &mut Tx, call_id: Uuid) -> Result<Vec<CallLine>, Fault> {
    Ok(sqlx::query("select * from call_lines where call_id = $1 order by id")
        .bind(call_id)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?)
}

/// One line, with how it changed since its issue.
pub async fn find_line(tx: &mut Tx, id: Uuid) -> Result<Option<(CallLine, Vec<LineEntry>)>, Fault> {
    let found = sqlx::query("select * from call_lines where id = $1").bind(id).try_map(|row| line(&row)).fetch_optional(&mut **tx).await?;
    let Some(line) = found else { return Ok(None) };
    let entries = sqlx::query("select * from line_entries where line_id = $1 order by version")
        .bind(id)
        .try_map(|row| entry(&row, line.currency))
        .fetch_all(&mut **tx)
        .await?;
    Ok(Some((line, entries)))
}

fn entry(row: &PgRow, currency: Currency) -> Result<LineEntry, Error> {
    Ok(LineEntry {
        id: row.try_get("id")?,
        line_id: row.try_get("line_id")?,
        at: row.try_get("at")?,
        version: row.try_get("version")?,
        amount: row.amount("amount", currency)?,
        impact_on_unfunded: row.amount("impact_on_unfunded", currency)?,
        paid: row.amount("paid", currency)?,
        reason: row.try_get("reason")?,
        recorded_by: row.try_get("recorded_by")?,
        effective_on: row.try_get("effective_on")?,
    })
}

/// Which lines a list shows.
#[derive(Debug, Default)]
pub struct LineFilter<'a> {
    /// Of these funds.
    pub scope: Option<&'a [Uuid]>,
    /// Of this fund.
    pub fund_id: Option<Uuid>,
    /// Of this call.
    pub call_id: Option<Uuid>,
    /// Of this investor.
    pub investor_id: Option<Uuid>,
}

/// Lines, newest first, before an id.
pub async fn list_lines(tx: &mut Tx, filter: &LineFilter<'_>, before: Uuid, limit: i64) -> Result<Vec<CallLine>, Fault> {
    let only_scope = filter.scope.is_some() && filter.fund_id.or(filter.call_id).or(filter.investor_id).is_none();
    let statement = if only_scope {
        // the newest of each fund, as for payments
        "select newest.* from (select distinct unnest($1::uuid[]) as fund_id) as scope
         cross join lateral (
            select * from call_lines where call_lines.fund_id = scope.fund_id and id < $5 order by id desc limit $6
         ) as newest
         where $2::uuid is null and $3::uuid is null and $4::uuid is null
         order by id desc limit $6"
    } else {
        "select * from call_lines
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2)
           and ($3::uuid is null or call_id = $3) and ($4::uuid is null or investor_id = $4) and id < $5
         order by id desc limit $6"
    };
    let lines = sqlx::query(statement)
        .persistent(false)
        .bind(filter.scope)
        .bind(filter.fund_id)
        .bind(filter.call_id)
        .bind(filter.investor_id)
        .bind(before)
        .bind(limit)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(lines)
}

/// An investor's lines of calls.
pub async fn lines_of_investor(tx: &mut Tx, investor_id: Uuid, call_ids: &[Uuid]) -> Result<Vec<CallLine>, Fault> {
    let lines = sqlx::query("select * from call_lines where investor_id = $1 and call_id = any($2)")
        .bind(investor_id)
        .bind(call_ids)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(lines)
}

/// The lines of calls.
pub async fn lines_of_calls(tx: &mut Tx, call_ids: &[Uuid]) -> Result<Vec<CallLine>, Fault> {
    Ok(sqlx::query("select * from call_lines where call_id = any($1)")
        .bind(call_ids)
        .try_map(|row| line(&row))
        .fetch_all(&mut **tx)
        .await?)
}
