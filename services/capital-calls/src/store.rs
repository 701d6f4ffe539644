//! All SQL of capital calls.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::HashMap;

use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund};
use ::domain::messages::capital_calls::{Commitment, Investor};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Seen, Tx};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{self, AllocationCopy, FundCopy};

/// The aggregates that this service owns and others follow.
pub const INVESTORS: &str = "select id, version from investors";
/// See [`INVESTORS`].
pub const COMMITMENTS: &str = "select id, version from commitments";
/// See [`INVESTORS`].
pub const CALLS: &str = "select id, version from capital_calls";
/// See [`INVESTORS`].
pub const LINES: &str = "select id, version from call_lines";
/// Copies of what allocation-status owns.
pub const FUND_COPIES: &str = "select id, epoch, version from funds";
/// See [`FUND_COPIES`].
pub const ALLOCATION_COPIES: &str = "select id, epoch, version from allocations";

/// What is kept beside its rows.
pub const TOTALS: [chassis::Total; 4] = [
    (
        "paid and unapplied of lines",
        "select id::text, format('%s/%s', paid, line.unapplied), format('%s/%s', applied, payments.unapplied)
         from call_lines as line
         left join (select line_id as id, sum(applied) as applied, sum(unapplied) as unapplied from payments where reversal is null
                    group by line_id) as payments using (id)
         where (paid, line.unapplied) is distinct from (coalesce(applied, 0), coalesce(payments.unapplied, 0))",
    ),
    (
        "paid of calls",
        "select call.id::text, call.paid::text, coalesce(lines.paid, 0)::text
         from capital_calls as call left join (select call_id, sum(paid) as paid from call_lines group by call_id) as lines on call_id = call.id
         where call.paid <> coalesce(lines.paid, 0)",
    ),
    (
        "called and unfunded of commitments",
        "select commitment.id::text, format('%s/%s', called, unfunded), format('%s/%s', coalesce(lines.amount, 0), commitment.amount + coalesce(impact, 0))
         from commitments as commitment
         left join (select fund_id, investor_id, sum(amount) as amount, sum(impact_on_unfunded) as impact from call_lines
                    group by fund_id, investor_id) as lines using (fund_id, investor_id)
         where (called, unfunded) is distinct from (coalesce(lines.amount, 0), commitment.amount + coalesce(impact, 0))",
    ),
    (
        "called of allocations",
        "select id::text, called::text, coalesce(computed, 0)::text
         from allocations
         left join (select (purpose ->> 'allocation_id')::uuid as id, sum((purpose ->> 'amount')::numeric) as computed
                    from capital_calls cross join lateral jsonb_array_elements(purposes) as purpose
                    where decision = 'issued' and purpose ->> 'allocation_id' is not null group by 1) as purposes using (id)
         where called <> coalesce(computed, 0)",
    ),
];

mod calls;
mod payments;

pub use calls::*;
pub use payments::*;

// ---- copies of what allocation-status owns

/// Keeps the newest version of each fund.
pub async fn copy_funds(tx: &mut Tx, funds: &[Seen<Fund>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into funds (id, epoch, version, fund_type, currency, timezone, calendar)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, fund_type = excluded.fund_type,
             currency = excluded.currency, timezone = excluded.timezone, calendar = excluded.calendar
         where (excluded.epoch, excluded.version) > (funds.epoch, funds.version)",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.fund_type.as_str()))
    .bind(column(funds, |seen| seen.state.currency.code()))
    .bind(column(funds, |seen| seen.state.timezone.as_str()))
    .bind(column(funds, |seen| seen.state.calendar.as_str()))
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

/// Forgets copies of funds.
pub async fn forget_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from funds where id = any($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets copies of allocations. One that cash is called for stays, and goes on being reported: a person must decide.
pub async fn forget_allocations(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from allocations where id = any($1) and called = 0").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

fn fund(row: &PgRow) -> Result<FundCopy, Error> {
    Ok(FundCopy {
        id: row.try_get("id")?,
        fund_type: row.try_get("fund_type")?,
        currency: row.parsed("currency")?,
        timezone: row.try_get("timezone")?,
        calendar: row.try_get("calendar")?,
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
        excused_from: row.try_get("excused_from")?,
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

/// The commitments with these ids, locked.
pub async fn lock_commitments_by_id(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Commitment>, Fault> {
    let commitments = sqlx::query("select * from commitments where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| commitment(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(commitments.into_iter().map(|commitment| (commitment.id, commitment)).collect())
}

/// Adds excuses, by commitment; several of one commitment come with rising versions.
pub async fn add_excuses(tx: &mut Tx, excuses: &[(&Commitment, Uuid)]) -> Result<(), Fault> {
    sqlx::query(
        "update commitments set version = new.version, excused_from = excused_from || new.allocation_ids
         from (select id, max(version) as version, array_agg(allocation_id) as allocation_ids
               from unnest($1::uuid[], $2::bigint[], $3::uuid[]) as excuse (id, version, allocation_id) group by id) as new
         where commitments.id = new.id",
    )
    .bind(column(excuses, |(commitment, _)| commitment.id))
    .bind(column(excuses, |(commitment, _)| commitment.version))
    .bind(column(excuses, |(_, allocation_id)| *allocation_id))
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

#[cfg(test)]
mod tests;
