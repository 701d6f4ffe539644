//! Capital calls and their lines.

use std::collections::HashMap;

use ::domain::ids;
use ::domain::messages::capital_calls::{CallStatus, CapitalCall, ListCapitalCalls};
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
        external_reference: row.try_get("external_reference")?,
        adjustments: row.json("adjustments")?,
        rounding: row.named("rounding")?,
        content_hash: row.try_get("content_hash")?,
        authors: row.try_get("authors")?,
        submitted_at: row.try_get("submitted_at")?,
        notice_days: row.try_get::<Option<i32>, _>("notice_days")?.and_then(|days| days.try_into().ok()),
        amendment: row.try_get("amendment")?,
        amendments_asked: row.try_get("amendments_asked")?,
        amending: row.try_get::<Option<Json<_>>, _>("amending")?.map(|Json(amendment)| amendment),
        covers_line_id: row.try_get("covers_line_id")?,
        decision: row.named("decision")?,
        decided_because: row.try_get("decided_because")?,
        rules: row.json("rules")?,
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
                                    submitted_at, authors, issued_on, line_count, covers_line_id, rules, external_reference, notice_days)
         select id, version, created_at, fund_id, fund_type, currency, amount, purposes, due_on, priority, requested_by, content_hash, decision,
                paid, adjustments, rounding, submitted_at, array(select jsonb_array_elements_text(authors)), issued_on, line_count,
                covers_line_id, rules, external_reference, notice_days
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::numeric[],
                              $8::jsonb[], $9::date[], $10::text[], $11::text[], $12::text[], $13::text[], $14::numeric[], $15::jsonb[],
                              $16::text[], $17::timestamptz[], $18::jsonb[], $19::date[], $20::int[], $21::uuid[], $22::jsonb[], $23::text[], $24::int[])
              as new (id, version, created_at, fund_id, fund_type, currency, amount, purposes, due_on, priority, requested_by, content_hash,
                      decision, paid, adjustments, rounding, submitted_at, authors, issued_on, line_count, covers_line_id, rules,
                      external_reference, notice_days)",
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
    .bind(column(calls, |call| call.issued_on))
    .bind(column(calls, |call| call.line_count))
    .bind(column(calls, |call| call.covers_line_id))
    .bind(column(calls, |call| Json(&call.rules)))
    .bind(column(calls, |call| call.external_reference.as_deref()))
    .bind(column(calls, |call| call.notice_days.map(i32::from)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The calls with these numbers in other systems, by fund and number. Nobody else adds one of them until the transaction ends.
pub async fn lock_references(tx: &mut Tx, named: &[(Uuid, &str)]) -> Result<HashMap<(Uuid, String), Uuid>, Fault> {
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    super::lock_names(tx, "call reference", &column(named, |(fund_id, reference)| format!("{fund_id} {reference}"))).await?;
    let known: Vec<(Uuid, String, Uuid)> = sqlx::query_as(
        "select fund_id, external_reference, id
         from unnest($1::uuid[], $2::text[]) as named (fund_id, external_reference) join capital_calls using (fund_id, external_reference)
         where decision not in ('cancelled', 'rescinded')",
    )
    .bind(column(named, |(fund_id, _)| *fund_id))
    .bind(column(named, |(_, reference)| *reference))
    .fetch_all(&mut **tx)
    .await?;
    Ok(known.into_iter().map(|(fund_id, reference, id)| ((fund_id, reference), id)).collect())
}

/// Keeps others from issuing, changing or taking back calls of these funds, from closing them and from changing what is promised, until
/// the transaction ends: their lines and commitments may not be there yet, so that rows alone do not keep them.
pub async fn lock_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    super::lock_names(tx, "fund", &column(ids, ToString::to_string)).await
}

/// The funds of these calls, in the order of their ids.
pub async fn funds_of_calls(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let funds = "select distinct fund_id from capital_calls where id = any($1) order by fund_id";
    Ok(sqlx::query_scalar(funds).bind(ids).fetch_all(&mut **tx).await?)
}

/// The ids of the calls of a fund that are issued and in force.
pub async fn issued_calls_of_fund(tx: &mut Tx, fund_id: Uuid) -> Result<Vec<Uuid>, Fault> {
    let issued = "select id from capital_calls where fund_id = $1 and decision = 'issued'";
    Ok(sqlx::query_scalar(issued).bind(fund_id).fetch_all(&mut **tx).await?)
}

/// The calls of these funds that were issued, are in force, and call for one of these allocations.
pub async fn issued_calls_for(tx: &mut Tx, fund_ids: &[Uuid], allocation_ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let calls = sqlx::query_scalar(
        "select id from capital_calls
         where fund_id = any($1) and decision = 'issued'
           and exists (select from jsonb_array_elements(purposes) as purpose where (purpose ->> 'allocation_id')::uuid = any($2))",
    )
    .bind(fund_ids)
    .bind(allocation_ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(calls)
}

/// The calls of a fund that were issued before a call and are in force.
pub async fn earlier_calls(tx: &mut Tx, than: &CapitalCall) -> Result<Vec<CapitalCall>, Fault> {
    let calls = sqlx::query("select * from capital_calls where fund_id = $1 and decision = 'issued' and (issued_on, id) < ($2, $3)")
        .bind(than.fund_id)
        .bind(than.issued_on)
        .bind(than.id)
        .try_map(|row| call(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(calls)
}

/// The calls with these ids.
pub async fn calls(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<CapitalCall>, Fault> {
    Ok(sqlx::query("select * from capital_calls where id = any($1)").bind(ids).try_map(|row| call(&row)).fetch_all(&mut **tx).await?)
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
             amendments_asked = new.amendments_asked, authors = array(select jsonb_array_elements_text(new.authors)), rules = new.rules,
             notice_days = new.notice_days,
             entries_seen = case when capital_calls.issued_on is null and new.issued_on is not null
                                 then (select coalesce(max(position), 0) from commitment_entries where fund_id = capital_calls.fund_id)
                                 else entries_seen end
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::numeric[], $5::jsonb[], $6::date[], $7::text[], $8::text[], $9::jsonb[],
                     $10::text[], $11::int[], $12::jsonb[], $13::text[], $14::text[], $15::date[], $16::int[], $17::numeric[], $18::timestamptz[], $19::int[], $20::jsonb[],
                     $21::jsonb[], $22::int[])
              as new (id, version, requested_by, amount, purposes, due_on, priority, content_hash, adjustments, rounding, amendment,
                      amending, decision, decided_because, issued_on, line_count, paid, submitted_at, amendments_asked, authors, rules,
                      notice_days)
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
    .bind(column(calls, |call| Json(&call.rules)))
    .bind(column(calls, |call| call.notice_days.map(i32::from)))
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
    query: &ListCapitalCalls,
    before: Uuid,
    limit: i64,
) -> Result<Vec<CapitalCall>, Fault> {
    let calls = sqlx::query(
        "select * from capital_calls
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2) and id < $3
           and ($5::text is null or external_reference = $5)
         order by id desc limit $4",
    )
    .persistent(false)
    .bind(scope)
    .bind(query.fund_id)
    .bind(before)
    .bind(limit)
    .bind(&query.external_reference)
    .try_map(|row| call(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(calls)
}
