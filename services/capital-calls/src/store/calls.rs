//! Capital calls and their lines.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{CallLine, CallStatus, CapitalCall, LineEntry, LineStatus, LineTiming};
use ::domain::{Currency, ids};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain;

fn call(row: &PgRow) -> Result<CapitalCall, Error> {
    let currency = row.parsed("currency")?;
    let id = row.try_get("id")?;
    let mut call = CapitalCall {
        id,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        fund_type: row.try_get("fund_type")?,
        currency,
        amount: row.amount("amount", currency)?,
        purposes: row.json("purposes")?,
        due_on: row.try_get("due_on")?,
        priority: row.named("priority")?,
        requested_by: row.try_get("requested_by")?,
        workflow_id: ids::workflow_id(id),
        adjustments: row.json("adjustments")?,
        rounding: row.named("rounding")?,
        content_hash: row.try_get("content_hash")?,
        authors: row.try_get("authors")?,
        submitted_at: row.try_get("submitted_at")?,
        amendment: row.try_get("amendment")?,
        amendments_asked: row.try_get("amendments_asked")?,
        amending: row.try_get::<Option<Json<_>>, _>("amending")?.map(|Json(amendment)| amendment),
        decision: row.named("decision")?,
        decided_because: row.try_get("decided_because")?,
        issued_on: row.try_get("issued_on")?,
        line_count: row.try_get("line_count")?,
        paid: row.amount("paid", currency)?,
        status: CallStatus::PendingApproval,
    };
    call.status = domain::call_status(&call);
    Ok(call)
}

/// Adds calls.
pub async fn insert_calls(tx: &mut Tx, calls: &[CapitalCall]) -> Result<(), Fault> {
    sqlx::query(
        "insert into capital_calls (id, version, created_at, fund_id, fund_type, currency, amount, purposes,
                                    due_on, priority, requested_by, content_hash, decision, paid, adjustments, rounding,
                                    submitted_at, authors)
         select id, version, created_at, fund_id, fund_type, currency, amount, purposes, due_on, priority, requested_by, content_hash, decision,
                paid, adjustments, rounding, submitted_at, array(select jsonb_array_elements_text(authors))
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::numeric[],
                              $8::jsonb[], $9::date[], $10::text[], $11::text[], $12::text[], $13::text[], $14::numeric[], $15::jsonb[],
                              $16::text[], $17::timestamptz[], $18::jsonb[])
              as new (id, version, created_at, fund_id, fund_type, currency, amount, purposes, due_on, priority, requested_by, content_hash,
                      decision, paid, adjustments, rounding, submitted_at, authors)",
    )
    .bind(column(calls, |call| call.id))
    .bind(column(calls, |call| call.version))
    .bind(column(calls, |call| call.created_at))
    .bind(column(calls, |call| call.fund_id))
    .bind(column(calls, |call| call.fund_type.as_str()))
    .bind(column(calls, |call| call.currency.code()))
    .bind(decimals(calls, |call| call.amount))
    .bind(column(calls, |call| Json(&call.purposes)))
    .bind(column(calls, |call| call.due_on))
    .bind(column(calls, |call| row::name(&call.priority)))
    .bind(column(calls, |call| call.requested_by.as_str()))
    .bind(column(calls, |call| call.content_hash.as_str()))
    .bind(column(calls, |call| row::name(&call.decision)))
    .bind(decimals(calls, |call| call.paid))
    .bind(column(calls, |call| Json(&call.adjustments)))
    .bind(column(calls, |call| row::name(&call.rounding)))
    .bind(column(calls, |call| call.submitted_at))
    .bind(column(calls, |call| Json(&call.authors)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps others from issuing, changing or taking back these calls until the transaction ends: their lines may not be there yet, so
/// that rows alone do not keep them.
pub async fn lock_changes(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query(
        "select pg_advisory_xact_lock(hashtextextended(current_schema() || ' call ' || id, 0))
         from (select unnest($1::uuid[]) as id order by 1) as calls",
    )
    .bind(ids)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The ids of the calls among these that are issued.
pub async fn issued_calls(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let issued = "select id from capital_calls where id = any($1) and decision = 'issued'";
    Ok(sqlx::query_scalar(issued).bind(ids).fetch_all(&mut **tx).await?)
}

/// The calls with these ids, locked.
pub async fn lock_calls(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, CapitalCall>, Fault> {
    let calls = sqlx::query("select * from capital_calls where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| call(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(calls.into_iter().map(|call| (call.id, call)).collect())
}

/// Writes calls that are locked.
pub async fn save_calls(tx: &mut Tx, calls: &[&CapitalCall]) -> Result<(), Fault> {
    sqlx::query(
        "update capital_calls
         set version = new.version, requested_by = new.requested_by, amount = new.amount, purposes = new.purposes, due_on = new.due_on,
             priority = new.priority, content_hash = new.content_hash, adjustments = new.adjustments, rounding = new.rounding,
             amendment = new.amendment, amending = new.amending, decision = new.decision, decided_because = new.decided_because,
             issued_on = new.issued_on, line_count = new.line_count, paid = new.paid, submitted_at = new.submitted_at,
             amendments_asked = new.amendments_asked, authors = array(select jsonb_array_elements_text(new.authors))
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::numeric[], $5::jsonb[], $6::date[], $7::text[], $8::text[], $9::jsonb[],
                     $10::text[], $11::int[], $12::jsonb[], $13::text[], $14::text[], $15::date[], $16::int[], $17::numeric[], $18::timestamptz[], $19::int[], $20::jsonb[])
              as new (id, version, requested_by, amount, purposes, due_on, priority, content_hash, adjustments, rounding, amendment,
                      amending, decision, decided_because, issued_on, line_count, paid, submitted_at, amendments_asked, authors)
         where capital_calls.id = new.id and capital_calls.version <> new.version",
    )
    .bind(column(calls, |call| call.id))
    .bind(column(calls, |call| call.version))
    .bind(column(calls, |call| call.requested_by.as_str()))
    .bind(decimals(calls, |call| call.amount))
    .bind(column(calls, |call| Json(&call.purposes)))
    .bind(column(calls, |call| call.due_on))
    .bind(column(calls, |call| row::name(&call.priority)))
    .bind(column(calls, |call| call.content_hash.as_str()))
    .bind(column(calls, |call| Json(&call.adjustments)))
    .bind(column(calls, |call| row::name(&call.rounding)))
    .bind(column(calls, |call| call.amendment))
    .bind(column(calls, |call| call.amending.as_ref().map(Json)))
    .bind(column(calls, |call| row::name(&call.decision)))
    .bind(column(calls, |call| call.decided_because.as_deref()))
    .bind(column(calls, |call| call.issued_on))
    .bind(column(calls, |call| call.line_count))
    .bind(decimals(calls, |call| call.paid))
    .bind(column(calls, |call| call.submitted_at))
    .bind(column(calls, |call| call.amendments_asked))
    .bind(column(calls, |call| Json(&call.authors)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Raises the versions of calls by one; returns the calls.
pub async fn next_versions(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<CapitalCall>, Fault> {
    let calls = sqlx::query(
        "with locked as materialized (
            select id from capital_calls where id = any($1) order by id for no key update
         )
         update capital_calls set version = version + 1 from locked where capital_calls.id = locked.id
         returning capital_calls.*",
    )
    .bind(ids)
    .try_map(|row| call(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(calls)
}

/// One call.
pub async fn find_call(tx: &mut Tx, id: Uuid) -> Result<Option<CapitalCall>, Fault> {
    Ok(sqlx::query("select * from capital_calls where id = $1").bind(id).try_map(|row| call(&row)).fetch_optional(&mut **tx).await?)
}

/// Calls, newest first, of one fund or of all that may be seen, before an id.
pub async fn list_calls(
    tx: &mut Tx,
    scope: Option<&[Uuid]>,
    fund_id: Option<Uuid>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<CapitalCall>, Fault> {
    let calls = sqlx::query(
        "select * from capital_calls
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2) and id < $3
         order by id desc limit $4",
    )
    .persistent(false)
    .bind(scope)
    .bind(fund_id)
    .bind(before)
    .bind(limit)
    .try_map(|row| call(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(calls)
}

// ---- call lines

fn line(row: &PgRow) -> Result<CallLine, Error> {
    let currency = row.parsed("currency")?;
    Ok(CallLine {
        id: row.try_get("id")?,
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
        outstanding: row.amount("amount", currency)? - row.amount("paid", currency)?,
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
                                 impact_on_unfunded, paid, unapplied, due_on, issued_on, grace_days, timezone, purposes, amendment)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
                              $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::date[], $14::date[], $15::int[],
                              $16::text[], $17::jsonb[], $18::int[])",
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
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes lines that are locked, and how they changed.
pub async fn save_lines(tx: &mut Tx, lines: &[CallLine], entries: &[LineEntry]) -> Result<(), Fault> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update call_lines
         set version = new.version, amount = new.amount, impact_on_unfunded = new.impact_on_unfunded, paid = new.paid,
             unapplied = new.unapplied, due_on = new.due_on, purposes = new.purposes, amendment = new.amendment, disposition = new.disposition
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[], $7::date[], $8::jsonb[], $9::int[],
                     $10::text[]) as new (id, version, amount, impact_on_unfunded, paid, unapplied, due_on, purposes, amendment, disposition)
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
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "insert into line_entries (id, line_id, version, at, amount, impact_on_unfunded, paid, reason, recorded_by)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::numeric[], $6::numeric[], $7::numeric[], $8::text[],
                              $9::text[])",
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
