//! All SQL of capital calls.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::{BTreeMap, HashMap};

use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund};
use ::domain::messages::capital_calls::{
    CallLine, CallStatus, CapitalCall, Commitment, Investor, LineStatus, LineTiming, Payment, PaymentStatus,
};
use ::domain::{Amount, ids};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Seen, Tx, row};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{self, AllocationCopy, FundCopy};

// ---- copies of what allocation-status owns

/// Keeps the newest version of each fund.
pub async fn copy_funds(tx: &mut Tx, funds: &[Seen<Fund>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into funds (id, epoch, version, fund_type, currency, timezone)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, fund_type = excluded.fund_type,
             currency = excluded.currency, timezone = excluded.timezone
         where (excluded.epoch, excluded.version) > (funds.epoch, funds.version)",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.fund_type.as_str()))
    .bind(column(funds, |seen| seen.state.currency.code()))
    .bind(column(funds, |seen| seen.state.timezone.as_str()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps the newest version of each allocation.
pub async fn copy_allocations(tx: &mut Tx, allocations: &[Seen<Allocation>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into allocations (id, epoch, version, fund_id, amount, active)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::numeric[], $6::bool[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, amount = excluded.amount, active = excluded.active
         where (excluded.epoch, excluded.version) > (allocations.epoch, allocations.version)",
    )
    .bind(column(allocations, |seen| seen.state.id))
    .bind(column(allocations, |seen| seen.epoch))
    .bind(column(allocations, |seen| seen.state.version))
    .bind(column(allocations, |seen| seen.state.fund_id))
    .bind(decimals(allocations, |seen| seen.state.amount))
    .bind(column(allocations, |seen| seen.state.decision == AllocationDecision::Active))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn fund(row: &PgRow) -> Result<FundCopy, Error> {
    Ok(FundCopy {
        id: row.try_get("id")?,
        fund_type: row.try_get("fund_type")?,
        currency: row.parsed("currency")?,
        timezone: row.try_get("timezone")?,
    })
}

/// The funds with these ids.
pub async fn funds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, FundCopy>, Fault> {
    let funds = sqlx::query("select * from funds where id = any($1)").bind(ids).try_map(|row| fund(&row)).fetch_all(&mut **tx).await?;
    Ok(funds.into_iter().map(|fund| (fund.id, fund)).collect())
}

fn allocation(row: &PgRow) -> Result<AllocationCopy, Error> {
    Ok(AllocationCopy {
        id: row.try_get("id")?,
        fund_id: row.try_get("fund_id")?,
        amount: row.number("amount")?,
        active: row.try_get("active")?,
        called: row.number("called")?,
    })
}

/// The allocations with these ids.
pub async fn allocations(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, AllocationCopy>, Fault> {
    let allocations =
        sqlx::query("select * from allocations where id = any($1)").bind(ids).try_map(|row| allocation(&row)).fetch_all(&mut **tx).await?;
    Ok(allocations.into_iter().map(|allocation| (allocation.id, allocation)).collect())
}

/// The allocations with these ids, locked against other calls.
pub async fn lock_allocations(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, AllocationCopy>, Fault> {
    let allocations = sqlx::query("select * from allocations where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| allocation(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(allocations.into_iter().map(|allocation| (allocation.id, allocation)).collect())
}

/// Writes what is called for allocations.
pub async fn save_allocations(tx: &mut Tx, allocations: &[&AllocationCopy]) -> Result<(), Fault> {
    sqlx::query(
        "update allocations set called = new.called
         from unnest($1::uuid[], $2::numeric[]) as new (id, called)
         where allocations.id = new.id",
    )
    .bind(column(allocations, |allocation| allocation.id))
    .bind(decimals(allocations, |allocation| allocation.called))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

// ---- investors and commitments

fn investor(row: &PgRow) -> Result<Investor, Error> {
    Ok(Investor {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        status: "active".into(),
    })
}

/// Adds investors.
pub async fn insert_investors(tx: &mut Tx, investors: &[Investor]) -> Result<(), Fault> {
    sqlx::query(
        "insert into investors (id, version, created_at, name, email)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[])",
    )
    .bind(column(investors, |investor| investor.id))
    .bind(column(investors, |investor| investor.version))
    .bind(column(investors, |investor| investor.created_at))
    .bind(column(investors, |investor| investor.name.as_str()))
    .bind(column(investors, |investor| investor.email.as_deref()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The ids among these that are investors.
pub async fn known_investors(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    Ok(sqlx::query_scalar("select id from investors where id = any($1)").bind(ids).fetch_all(&mut **tx).await?)
}

/// Investors by name after a cursor `(name, id)`; those with a commitment to one of these funds, if given.
pub async fn list_investors(tx: &mut Tx, scope: Option<&[Uuid]>, after: (String, Uuid), limit: i64) -> Result<Vec<Investor>, Fault> {
    let investors = sqlx::query(
        "select * from investors
         where ($1::uuid[] is null or exists (select from commitments where investor_id = investors.id and fund_id = any($1)))
           and (name, id) > ($2, $3)
         order by name, id limit $4",
    )
    .persistent(false)
    .bind(scope)
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .try_map(|row| investor(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(investors)
}

fn commitment(row: &PgRow) -> Result<Commitment, Error> {
    let currency = row.parsed("currency")?;
    let unfunded = row.amount("unfunded", currency)?;
    Ok(Commitment {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        investor_id: row.try_get("investor_id")?,
        currency,
        amount: row.amount("amount", currency)?,
        effective_on: row.try_get("effective_on")?,
        called: row.amount("called", currency)?,
        unfunded,
        status: domain::commitment_status(unfunded),
    })
}

/// Adds commitments; returns the ids of those whose investor had none to the fund before.
pub async fn insert_commitments(tx: &mut Tx, commitments: &[Commitment]) -> Result<Vec<Uuid>, Fault> {
    let added = sqlx::query_scalar(
        "insert into commitments (id, version, created_at, fund_id, investor_id, currency, amount, effective_on, called, unfunded)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[],
                              $7::numeric[], $8::date[], $9::numeric[], $10::numeric[])
         on conflict (fund_id, investor_id) do nothing
         returning id",
    )
    .bind(column(commitments, |commitment| commitment.id))
    .bind(column(commitments, |commitment| commitment.version))
    .bind(column(commitments, |commitment| commitment.created_at))
    .bind(column(commitments, |commitment| commitment.fund_id))
    .bind(column(commitments, |commitment| commitment.investor_id))
    .bind(column(commitments, |commitment| commitment.currency.code()))
    .bind(decimals(commitments, |commitment| commitment.amount))
    .bind(column(commitments, |commitment| commitment.effective_on))
    .bind(decimals(commitments, |commitment| commitment.called))
    .bind(decimals(commitments, |commitment| commitment.unfunded))
    .fetch_all(&mut **tx)
    .await?;
    Ok(added)
}

/// The commitments to these funds, in the order of their ids.
pub async fn commitments(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<Vec<Commitment>, Fault> {
    let commitments = sqlx::query("select * from commitments where fund_id = any($1) order by id")
        .bind(fund_ids)
        .try_map(|row| commitment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(commitments)
}

/// The commitments to these funds, locked in the order of their ids.
pub async fn lock_commitments(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<Vec<Commitment>, Fault> {
    let commitments = sqlx::query("select * from commitments where fund_id = any($1) order by id for no key update")
        .bind(fund_ids)
        .try_map(|row| commitment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(commitments)
}

/// Writes what calls changed on commitments.
pub async fn save_commitments(tx: &mut Tx, commitments: &[&Commitment]) -> Result<(), Fault> {
    sqlx::query(
        "update commitments set version = new.version, called = new.called, unfunded = new.unfunded
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[]) as new (id, version, called, unfunded)
         where commitments.id = new.id",
    )
    .bind(column(commitments, |commitment| commitment.id))
    .bind(column(commitments, |commitment| commitment.version))
    .bind(decimals(commitments, |commitment| commitment.called))
    .bind(decimals(commitments, |commitment| commitment.unfunded))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Commitments to a fund after an id.
pub async fn list_commitments(tx: &mut Tx, fund_id: Uuid, after: Uuid, limit: i64) -> Result<Vec<Commitment>, Fault> {
    let commitments = sqlx::query("select * from commitments where fund_id = $1 and id > $2 order by id limit $3")
        .bind(fund_id)
        .bind(after)
        .bind(limit)
        .try_map(|row| commitment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(commitments)
}

// ---- capital calls

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
    let lines = sqlx::query(
        "select * from call_lines
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2)
           and ($3::uuid is null or call_id = $3) and ($4::uuid is null or investor_id = $4) and id < $5
         order by id desc limit $6",
    )
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

// ---- payments

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

/// The payments with these ids, locked.
pub async fn lock_payments(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Payment>, Fault> {
    let payments = sqlx::query(
        "select *, coalesce(reversal, 'null') as reversal_or_null from payments where id = any($1) order by id for no key update",
    )
    .bind(ids)
    .try_map(|row| payment(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(payments.into_iter().map(|payment| (payment.id, payment)).collect())
}

/// Writes reversals.
pub async fn save_reversals(tx: &mut Tx, payments: &[Payment]) -> Result<(), Fault> {
    sqlx::query(
        "update payments set version = new.version, reversal = new.reversal
         from unnest($1::uuid[], $2::bigint[], $3::jsonb[]) as new (id, version, reversal)
         where payments.id = new.id",
    )
    .bind(column(payments, |payment| payment.id))
    .bind(column(payments, |payment| payment.version))
    .bind(column(payments, |payment| sqlx::types::Json(&payment.reversal)))
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
    let payments = sqlx::query(
        "select *, coalesce(reversal, 'null') as reversal_or_null from payments
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or line_id = $2)
           and ($3::uuid is null or call_id = $3) and ($4::uuid is null or fund_id = $4) and id < $5
         order by id desc limit $6",
    )
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

#[cfg(test)]
mod tests;
