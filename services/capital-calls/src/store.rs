//! All SQL of capital calls.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::HashMap;

use ::domain::Amount;
use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund};
use ::domain::messages::capital_calls::Investor;
use ::domain::rules::WhenWithdrawn;
use ::domain::rules::concentration::UNSPECIFIED;
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Seen, Tx};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{AllocationCopy, FundCopy};

/// The aggregates that this service owns and others follow.
pub const INVESTORS: &str = "select id, version from investors";
/// See [`INVESTORS`].
pub const COMMITMENTS: &str = "select id, version from commitments";
/// See [`INVESTORS`].
pub const CALLS: &str = "select id, version from capital_calls";
/// See [`INVESTORS`].
pub const LINES: &str = "select id, version from call_lines";
/// See [`INVESTORS`].
pub const CLOSINGS: &str = "select id, version from closings";
/// See [`INVESTORS`].
pub const BANK_ENTRIES: &str = "select id, version from bank_entries";
/// See [`INVESTORS`].
pub const BANK_DETAILS: &str = "select id, version from bank_details";
/// See [`INVESTORS`].
pub const REFUNDS: &str = "select id, version from refunds";
/// Copies of what allocation-status owns.
pub const FUND_COPIES: &str = "select id, epoch, version from funds";
/// See [`FUND_COPIES`].
pub const ALLOCATION_COPIES: &str = "select id, epoch, version from allocations";

/// What is kept beside its rows.
pub const TOTALS: [chassis::Total; 6] = [
    (
        "refunded of payments",
        "select payments.id::text, refunded::text, coalesce(computed, 0)::text
         from payments left join (select payment_id as id, sum(amount) as computed from refunds where decision <> 'cancelled'
                                  group by payment_id) as refunds using (id)
         where refunded <> coalesce(computed, 0)",
    ),
    (
        "credit of payments that pays other lines",
        "select payments.id::text, payments.moved::text, coalesce(computed, 0)::text
         from payments left join (select moved_from as id, sum(amount) as computed from payments
                                  where moved_from is not null and reversal is null group by moved_from) as children using (id)
         where payments.reversal is null and payments.moved <> coalesce(computed, 0)",
    ),
    (
        "paid, unapplied, charges, interest and last value date of lines",
        "select id::text, format('%s/%s/%s/%s/%s', paid, line.unapplied, line.charges, line.interest_paid, line.last_paid_on),
                format('%s/%s/%s/%s/%s', applied, payments.unapplied, payments.charges, payments.interest, payments.last_paid_on)
         from call_lines as line
         left join (select line_id as id, sum(applied) as applied, sum(unapplied) as unapplied, sum(charges) as charges,
                           sum(interest) as interest, max(received_on) filter (where applied > 0) as last_paid_on
                    from payments where reversal is null group by line_id) as payments using (id)
         where (paid, line.unapplied, line.charges, line.interest_paid, line.last_paid_on)
               is distinct from (coalesce(applied, 0), coalesce(payments.unapplied, 0), coalesce(payments.charges, 0),
                                 coalesce(payments.interest, 0), payments.last_paid_on)",
    ),
    (
        "paid of calls",
        "select call.id::text, call.paid::text, coalesce(lines.paid, 0)::text
         from capital_calls as call left join (select call_id, sum(paid) as paid from call_lines group by call_id) as lines on call_id = call.id
         where call.paid <> coalesce(lines.paid, 0)",
    ),
    (
        "amount, called and unfunded of commitments",
        "with computed as (
            select commitment.id, coalesce(entries.amount, 0) as amount, coalesce(lines.amount, 0) as called,
                   coalesce(entries.impact, 0) + coalesce(lines.impact, 0) as unfunded,
                   coalesce(entries.amount - entries.impact, 0) as drawn_transferred
            from commitments as commitment
            left join (select commitment_id as id, sum(amount) as amount, sum(impact_on_unfunded) as impact from commitment_entries
                       group by commitment_id) as entries using (id)
            left join (select fund_id, investor_id, sum(amount) as amount, sum(impact_on_unfunded) as impact from call_lines
                       group by fund_id, investor_id) as lines using (fund_id, investor_id)
         )
         select kept.id::text, format('%s/%s/%s/%s', kept.amount, kept.called, kept.unfunded, kept.drawn_transferred),
                format('%s/%s/%s/%s', computed.amount, computed.called, computed.unfunded, computed.drawn_transferred)
         from commitments as kept join computed using (id)
         where (kept.amount, kept.called, kept.unfunded, kept.drawn_transferred)
               <> (computed.amount, computed.called, computed.unfunded, computed.drawn_transferred)",
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

mod bank;
mod bank_accounts;
mod bank_details;
mod calls;
mod closings;
mod commitments;
mod defaults;
mod lines;
mod payments;
mod refunds;

pub use bank::*;
pub use bank_accounts::*;
pub use bank_details::*;
pub use calls::*;
pub use closings::*;
pub use commitments::*;
pub use defaults::*;
pub use lines::*;
pub use payments::*;
pub use refunds::*;

/// Keeps others from what has these names until the transaction ends, in an order that is the same for all: rows that are not there yet
/// cannot be locked.
async fn lock_names(tx: &mut Tx, kind: &str, names: &[String]) -> Result<(), Fault> {
    sqlx::query(
        "select pg_advisory_xact_lock(key)
         from (select distinct hashtextextended(current_schema() || ' ' || $1 || ' ' || name, 0) as key
               from unnest($2::text[]) as names (name) order by 1) as keys",
    )
    .bind(kind)
    .bind(names)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

// ---- copies of what allocation-status owns

/// Keeps the newest version of each fund.
pub async fn copy_funds(tx: &mut Tx, funds: &[Seen<Fund>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into funds (id, epoch, version, fund_type, currency, timezone, calendar, name, size)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::numeric[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, fund_type = excluded.fund_type,
             currency = excluded.currency, timezone = excluded.timezone, calendar = excluded.calendar, name = excluded.name,
             size = excluded.size
         where (excluded.epoch, excluded.version) > (funds.epoch, funds.version)",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.fund_type.as_str()))
    .bind(column(funds, |seen| seen.state.currency.code()))
    .bind(column(funds, |seen| seen.state.timezone.as_str()))
    .bind(column(funds, |seen| seen.state.calendar.as_str()))
    .bind(column(funds, |seen| seen.state.name.as_str()))
    .bind(decimals(funds, |seen| seen.state.size))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps the newest version of each allocation.
pub async fn copy_allocations(tx: &mut Tx, allocations: &[Seen<Allocation>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into allocations (id, epoch, version, fund_id, amount, active, withdrawing)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::numeric[], $6::bool[], $7::bool[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, amount = excluded.amount, active = excluded.active,
             withdrawing = excluded.withdrawing,
             released_version = case when excluded.epoch > allocations.epoch then null else allocations.released_version end
         where (excluded.epoch, excluded.version) > (allocations.epoch, allocations.version)",
    )
    .bind(column(allocations, |seen| seen.state.id))
    .bind(column(allocations, |seen| seen.epoch))
    .bind(column(allocations, |seen| seen.state.version))
    .bind(column(allocations, |seen| seen.state.fund_id))
    .bind(decimals(allocations, |seen| seen.state.amount))
    .bind(column(allocations, |seen| seen.state.decision == AllocationDecision::Active))
    .bind(column(allocations, |seen| seen.state.withdrawal.as_ref().is_some_and(|withdrawal| withdrawal.then != WhenWithdrawn::Alert)))
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
        name: row.try_get("name")?,
        fund_type: row.try_get("fund_type")?,
        currency: row.parsed("currency")?,
        size: row.try_get::<Option<Decimal>, _>("size")?.map(Amount::from_decimal),
        timezone: row.try_get("timezone")?,
        calendar: row.try_get("calendar")?,
        instructions: pinned(row, "bank_details_id", "account", "hash")?,
    })
}

/// The funds with these ids.
pub async fn funds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, FundCopy>, Fault> {
    let now = tx.now();
    let funds = sqlx::query(
        "select funds.*, in_use.*
         from funds
         left join lateral (select id as bank_details_id, account, hash, decision from bank_details as details
                            where details.holder_id = funds.id and details.currency = funds.currency
                              and details.released_at is not null and details.usable_from <= $2
                            order by usable_from desc, id desc limit 1) as in_use on in_use.decision = 'confirmed'
         where funds.id = any($1)",
    )
    .bind(ids)
    .bind(now)
    .try_map(|row| fund(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(funds.into_iter().map(|fund| (fund.id, fund)).collect())
}

fn allocation(row: &PgRow) -> Result<AllocationCopy, Error> {
    Ok(AllocationCopy {
        id: row.try_get("id")?,
        fund_id: row.try_get("fund_id")?,
        amount: row.number("amount")?,
        active: row.try_get::<bool, _>("active")? && !is_released(row)?,
        called: row.number("called")?,
    })
}

/// Whether no more is called for an allocation: it is being taken back, or will be by a version that has not come yet.
fn is_released(row: &PgRow) -> Result<bool, Error> {
    let released: Option<i64> = row.try_get("released_version")?;
    Ok(row.try_get("withdrawing")? || released.is_some_and(|released| row.try_get("version").is_ok_and(|version: i64| version < released)))
}

/// Has no more called for allocations from a version of theirs on; returns what is called for them.
pub async fn release_allocations(tx: &mut Tx, released: &[(Uuid, i64)]) -> Result<HashMap<Uuid, Amount>, Fault> {
    let called: Vec<PgRow> = sqlx::query(
        "update allocations set released_version = new.version
         from (select id, max(version) as version from unnest($1::uuid[], $2::bigint[]) as new (id, version) group by id) as new
         where allocations.id = new.id
         returning allocations.id, called",
    )
    .bind(column(released, |(id, _)| *id))
    .bind(column(released, |(_, version)| *version))
    .fetch_all(&mut **tx)
    .await?;
    called.iter().map(|row| Ok((row.try_get("id")?, row.number("called")?))).collect()
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

// ---- investors

fn investor(row: &PgRow) -> Result<Investor, Error> {
    Ok(Investor {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        investor_type: row.try_get("investor_type")?,
        status: "active".into(),
    })
}

/// Adds investors.
pub async fn insert_investors(tx: &mut Tx, investors: &[Investor]) -> Result<(), Fault> {
    sqlx::query(
        "insert into investors (id, version, created_at, name, email, investor_type)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])",
    )
    .bind(column(investors, |investor| investor.id))
    .bind(column(investors, |investor| investor.version))
    .bind(column(investors, |investor| investor.created_at))
    .bind(column(investors, |investor| investor.name.as_str()))
    .bind(column(investors, |investor| investor.email.as_deref()))
    .bind(column(investors, |investor| investor.investor_type.as_deref()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What these are; who does not say is `unspecified`.
pub async fn investor_types(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, Fault> {
    let types: Vec<(Uuid, String)> = sqlx::query_as("select id, coalesce(investor_type, $2) from investors where id = any($1)")
        .bind(ids)
        .bind(UNSPECIFIED)
        .fetch_all(&mut **tx)
        .await?;
    Ok(types.into_iter().collect())
}

/// What investors of each type have promised to these funds, in all. The funds are locked.
pub async fn promised_by_type(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<HashMap<(Uuid, String), Amount>, Fault> {
    let sums: Vec<PgRow> = sqlx::query(
        "select fund_id, coalesce(investor_type, $2) as investor_type, sum(amount) as amount
         from commitments join investors on investors.id = investor_id
         where fund_id = any($1) group by fund_id, coalesce(investor_type, $2)",
    )
    .bind(fund_ids)
    .bind(UNSPECIFIED)
    .fetch_all(&mut **tx)
    .await?;
    sums.iter().map(|row| Ok(((row.try_get("fund_id")?, row.try_get("investor_type")?), row.number("amount")?))).collect()
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

/// Investors with these ids, by name; those with a commitment to one of these funds, if given.
pub async fn find_investors(tx: &mut Tx, scope: Option<&[Uuid]>, ids: &[Uuid]) -> Result<Vec<Investor>, Fault> {
    let investors = sqlx::query(
        "select * from investors
         where id = any($2)
           and ($1::uuid[] is null or exists (select from commitments where investor_id = investors.id and fund_id = any($1)))
         order by name, id",
    )
    .persistent(false)
    .bind(scope)
    .bind(ids)
    .try_map(|row| investor(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(investors)
}

#[cfg(test)]
mod tests;
