//! Capital calls and their lines.

use std::collections::HashMap;

use ::domain::ids;
use ::domain::messages::capital_calls::{CallLine, CallStatus, CapitalCall, LineStatus, LineTiming};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use sqlx::postgres::PgRow;
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
        content_hash: row.try_get("content_hash")?,
        decision: row.named("decision")?,
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
                                    due_on, priority, requested_by, content_hash, decision, paid)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::numeric[],
                              $8::jsonb[], $9::date[], $10::text[], $11::text[], $12::text[], $13::text[], $14::numeric[])",
    )
    .bind(column(calls, |call| call.id))
    .bind(column(calls, |call| call.version))
    .bind(column(calls, |call| call.created_at))
    .bind(column(calls, |call| call.fund_id))
    .bind(column(calls, |call| call.fund_type.as_str()))
    .bind(column(calls, |call| call.currency.code()))
    .bind(decimals(calls, |call| call.amount))
    .bind(column(calls, |call| sqlx::types::Json(&call.purposes)))
    .bind(column(calls, |call| call.due_on))
    .bind(column(calls, |call| row::name(&call.priority)))
    .bind(column(calls, |call| call.requested_by.as_str()))
    .bind(column(calls, |call| call.content_hash.as_str()))
    .bind(column(calls, |call| row::name(&call.decision)))
    .bind(decimals(calls, |call| call.paid))
    .execute(&mut **tx)
    .await?;
    Ok(())
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

/// Writes what was decided about calls.
pub async fn save_decisions(tx: &mut Tx, calls: &[&CapitalCall]) -> Result<(), Fault> {
    sqlx::query(
        "update capital_calls set version = new.version, decision = new.decision, issued_on = new.issued_on, line_count = new.line_count
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::date[], $5::int[]) as new (id, version, decision, issued_on, line_count)
         where capital_calls.id = new.id",
    )
    .bind(column(calls, |call| call.id))
    .bind(column(calls, |call| call.version))
    .bind(column(calls, |call| row::name(&call.decision)))
    .bind(column(calls, |call| call.issued_on))
    .bind(column(calls, |call| call.line_count))
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
                                 impact_on_unfunded, paid, unapplied, due_on, issued_on, grace_days, timezone, purposes)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
                              $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::date[], $14::date[], $15::int[],
                              $16::text[], $17::jsonb[])",
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
    .bind(column(lines, |line| sqlx::types::Json(&line.purposes)))
    .execute(&mut **tx)
    .await?;
    Ok(())
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
