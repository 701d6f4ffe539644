//! All SQL of fund metrics.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund};
use ::domain::messages::capital_calls::{CallLine, Commitment};
use ::domain::messages::fund_metrics::{CurrencyFigures, FundMetrics};
use chassis::row::column;
use chassis::{Fault, RowExt, Seen, Tx};
use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{self, Changes, Delta, Due, LineFigures};

pub mod analytics;
mod totals;

pub use totals::{TOTALS, add_changes, next_versions};

/// Copies of what other services own.
pub const FUNDS: &str = "select id, epoch, version from funds";
/// See [`FUNDS`].
pub const COMMITMENTS: &str = "select id, epoch, version from commitments";
/// See [`FUNDS`].
pub const ALLOCATIONS: &str = "select id, epoch, version from allocations";
/// See [`FUNDS`].
pub const LINES: &str = "select id, epoch, version from lines";

/// All that is here is made from events. The versions of the totals are not: they go on, and what readers know of each fund is
/// published once more.
pub const READ_MODEL: chassis::ReadModel = chassis::ReadModel {
    tables: &["funds", "commitments", "allocations", "lines", "totals", "due_totals", "issue_totals", "funding_days"],
    carry_over: &[
        "update totals set version = live.version from {live}.totals as live
         where (totals.holder, totals.holder_id, totals.currency) = (live.holder, live.holder_id, live.currency)",
        "insert into summaries_due (aggregate, aggregate_id) select 'fund_metrics', id from funds on conflict do nothing",
    ],
};

/// Keeps the newest version of each fund; every fund has totals from then on.
pub async fn keep_funds(tx: &mut Tx, funds: &[Seen<Fund>], changes: &mut Changes) -> Result<(), Fault> {
    let changed: Vec<(Uuid, String)> = sqlx::query_as(
        "insert into funds (id, epoch, version, name, currency, timezone)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, name = excluded.name,
             currency = excluded.currency, timezone = excluded.timezone
         where (excluded.epoch, excluded.version) > (funds.epoch, funds.version)
         returning id, currency",
    )
    .bind(column(funds, |seen| seen.state.id))
    .bind(column(funds, |seen| seen.epoch))
    .bind(column(funds, |seen| seen.state.version))
    .bind(column(funds, |seen| seen.state.name.as_str()))
    .bind(column(funds, |seen| seen.state.currency.code()))
    .bind(column(funds, |seen| seen.state.timezone.as_str()))
    .fetch_all(&mut **tx)
    .await?;
    for (id, currency) in changed {
        changes.add(id, &currency, Delta::default());
    }
    Ok(())
}

/// Keeps the newest version of each commitment and adds the differences.
pub async fn keep_commitments(tx: &mut Tx, commitments: &[Seen<Commitment>], changes: &mut Changes) -> Result<(), Fault> {
    let rows = sqlx::query(
        "insert into commitments as known (id, epoch, version, fund_id, investor_id, currency, amount, drawn_transferred)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::numeric[], $8::numeric[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, is_new = false, drawn_transferred = excluded.drawn_transferred,
             previous_amount = known.amount, amount = excluded.amount
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning fund_id, currency, is_new, amount - previous_amount as amount",
    )
    .bind(column(commitments, |seen| seen.state.id))
    .bind(column(commitments, |seen| seen.epoch))
    .bind(column(commitments, |seen| seen.state.version))
    .bind(column(commitments, |seen| seen.state.fund_id))
    .bind(column(commitments, |seen| seen.state.investor_id))
    .bind(column(commitments, |seen| seen.state.currency.code()))
    .bind(column(commitments, |seen| seen.state.amount.decimal()))
    .bind(column(commitments, |seen| seen.state.drawn_transferred.decimal()))
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let delta =
            Delta { committed: row.number("amount")?, commitments: i64::from(row.try_get::<bool, _>("is_new")?), ..Delta::default() };
        changes.add(row.try_get("fund_id")?, row.try_get("currency")?, delta);
    }
    Ok(())
}

/// Keeps the newest version of each allocation and adds the differences.
pub async fn keep_allocations(tx: &mut Tx, allocations: &[Seen<Allocation>], changes: &mut Changes) -> Result<(), Fault> {
    let holds = |seen: &Seen<Allocation>| match seen.state.decision {
        AllocationDecision::Denied | AllocationDecision::Cancelled => rust_decimal::Decimal::ZERO,
        AllocationDecision::PendingApproval | AllocationDecision::Active => seen.state.amount.decimal(),
    };
    let rows = sqlx::query(
        "insert into allocations as known (id, epoch, version, fund_id, currency, amount, active)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::text[], $6::numeric[], $7::bigint[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, previous_amount = known.amount, amount = excluded.amount,
             previous_active = known.active, active = excluded.active
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning fund_id, currency, amount - previous_amount as amount, active - previous_active as active",
    )
    .bind(column(allocations, |seen| seen.state.id))
    .bind(column(allocations, |seen| seen.epoch))
    .bind(column(allocations, |seen| seen.state.version))
    .bind(column(allocations, |seen| seen.state.fund_id))
    .bind(column(allocations, |seen| seen.state.currency.code()))
    .bind(column(allocations, holds))
    .bind(column(allocations, |seen| i64::from(seen.state.decision == AllocationDecision::Active)))
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let delta = Delta { allocated: row.number("amount")?, allocations: row.try_get("active")?, ..Delta::default() };
        changes.add(row.try_get("fund_id")?, row.try_get("currency")?, delta);
    }
    Ok(())
}

/// Keeps the newest version of each line and adds the differences.
pub async fn keep_lines(tx: &mut Tx, lines: &[Seen<CallLine>], changes: &mut Changes) -> Result<(), Fault> {
    let rows = sqlx::query(
        "insert into lines as known (id, epoch, version, fund_id, investor_id, currency, due_on, called, paid, impact, unapplied,
                                     funded_on, issued_on)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::date[],
                              $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::date[], $13::date[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, is_new = false,
             previous_due_on = known.due_on, due_on = excluded.due_on,
             previous_called = known.called, called = excluded.called,
             previous_paid = known.paid, paid = excluded.paid,
             previous_impact = known.impact, impact = excluded.impact,
             previous_unapplied = known.unapplied, unapplied = excluded.unapplied,
             previous_funded_on = known.funded_on, funded_on = excluded.funded_on,
             previous_issued_on = known.issued_on, issued_on = excluded.issued_on
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning *",
    )
    .bind(column(lines, |seen| seen.state.id))
    .bind(column(lines, |seen| seen.epoch))
    .bind(column(lines, |seen| seen.state.version))
    .bind(column(lines, |seen| seen.state.fund_id))
    .bind(column(lines, |seen| seen.state.investor_id))
    .bind(column(lines, |seen| seen.state.currency.code()))
    .bind(column(lines, |seen| seen.state.due_on))
    .bind(column(lines, |seen| seen.state.amount.decimal()))
    .bind(column(lines, |seen| seen.state.paid.decimal()))
    .bind(column(lines, |seen| seen.state.impact_on_unfunded.decimal()))
    .bind(column(lines, |seen| seen.state.unapplied.decimal()))
    .bind(column(lines, |seen| domain::funded_on(&seen.state)))
    .bind(column(lines, |seen| seen.state.issued_on))
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let after = line_figures(&row, "")?;
        let before = if row.try_get("is_new")? { None } else { Some(line_figures(&row, "previous_")?) };
        changes.replace_line(row.try_get("fund_id")?, row.try_get("currency")?, before, Some(after));
    }
    Ok(())
}

/// The figures of a line, or its previous ones.
fn line_figures(row: &PgRow, prefix: &str) -> Result<LineFigures, Error> {
    Ok(LineFigures {
        due_on: row.try_get(&*format!("{prefix}due_on"))?,
        called: row.number(&format!("{prefix}called"))?,
        paid: row.number(&format!("{prefix}paid"))?,
        impact: row.number(&format!("{prefix}impact"))?,
        unapplied: row.number(&format!("{prefix}unapplied"))?,
        funded_on: row.try_get(&*format!("{prefix}funded_on"))?,
        issued_on: row.try_get(&*format!("{prefix}issued_on"))?,
    })
}

/// Forgets funds.
pub async fn forget_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from funds where id = any($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets commitments and takes them out of the sums.
pub async fn forget_commitments(tx: &mut Tx, ids: &[Uuid], changes: &mut Changes) -> Result<(), Fault> {
    let statement = "delete from commitments where id = any($1) returning fund_id, currency, amount";
    for row in sqlx::query(statement).bind(ids).fetch_all(&mut **tx).await? {
        let delta = Delta { committed: -row.number("amount")?, commitments: -1, ..Delta::default() };
        changes.add(row.try_get("fund_id")?, row.try_get("currency")?, delta);
    }
    Ok(())
}

/// Forgets allocations and takes them out of the sums.
pub async fn forget_allocations(tx: &mut Tx, ids: &[Uuid], changes: &mut Changes) -> Result<(), Fault> {
    let statement = "delete from allocations where id = any($1) returning fund_id, currency, amount, active";
    for row in sqlx::query(statement).bind(ids).fetch_all(&mut **tx).await? {
        let delta = Delta { allocated: -row.number("amount")?, allocations: -row.try_get::<i64, _>("active")?, ..Delta::default() };
        changes.add(row.try_get("fund_id")?, row.try_get("currency")?, delta);
    }
    Ok(())
}

/// Forgets lines and takes them out of the sums.
pub async fn forget_lines(tx: &mut Tx, ids: &[Uuid], changes: &mut Changes) -> Result<(), Fault> {
    for row in sqlx::query("delete from lines where id = any($1) returning *").bind(ids).fetch_all(&mut **tx).await? {
        changes.replace_line(row.try_get("fund_id")?, row.try_get("currency")?, Some(line_figures(&row, "")?), None);
    }
    Ok(())
}

fn sums(row: &PgRow) -> Result<(Delta, Due), Error> {
    let sums = Delta {
        committed: row.number("committed")?,
        called: row.number("called")?,
        paid_in: row.number("paid_in")?,
        impact: row.number("impact")?,
        unapplied: row.number("unapplied")?,
        allocated: row.number("allocated")?,
        commitments: row.try_get("commitments")?,
        lines: row.try_get("lines")?,
        lines_paid: row.try_get("lines_paid")?,
        allocations: row.try_get("allocations")?,
    };
    let due = Due {
        overdue: row.number("overdue")?,
        lines_overdue: row.try_get("lines_overdue")?,
        called: row.number("due_called")?,
        paid_in: row.number("due_paid_in")?,
    };
    Ok((sums, due))
}

fn fund_metrics(row: &PgRow) -> Result<FundMetrics, Error> {
    let currency = row.parsed("currency")?;
    let (sums, due) = sums(row)?;
    Ok(FundMetrics {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        name: row.try_get("name")?,
        currency,
        as_of: row.try_get("as_of")?,
        figures: domain::figures(currency, &sums, due),
    })
}

/// The metrics of funds by name, after a `(name, id)`; of these funds only, if given.
pub async fn list_fund_metrics(tx: &mut Tx, funds: Option<&[Uuid]>, after: (String, Uuid), limit: i64) -> Result<Vec<FundMetrics>, Fault> {
    let now = tx.now();
    let metrics = sqlx::query(
        "select funds.id, funds.name, funds.currency, days.as_of, due.*, totals.*
         from funds
         join totals on totals.holder = 'fund' and totals.holder_id = funds.id and totals.currency = funds.currency
         cross join lateral (select ($1::timestamptz at time zone funds.timezone)::date as as_of) as days
         cross join lateral (
            select coalesce(sum(called - paid_in) filter (where due_on < days.as_of), 0) as overdue,
                   coalesce(sum(lines_open) filter (where due_on < days.as_of), 0)::bigint as lines_overdue,
                   coalesce(sum(called), 0) as due_called, coalesce(sum(paid_in), 0) as due_paid_in
            from due_totals
            where due_totals.holder = 'fund' and due_totals.holder_id = funds.id and due_totals.currency = funds.currency
              and due_on <= days.as_of
         ) as due
         where ($2::uuid[] is null or funds.id = any($2)) and (funds.name, funds.id) > ($3, $4)
         order by funds.name, funds.id limit $5",
    )
    .persistent(false)
    .bind(now)
    .bind(funds)
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .try_map(|row| fund_metrics(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(metrics)
}

/// The figures of holders of one kind, summed by currency.
pub async fn figures(tx: &mut Tx, kind: &str, ids: &[Uuid]) -> Result<Vec<CurrencyFigures>, Fault> {
    let as_of = tx.now().date_naive();
    let figures = sqlx::query(
        "select totals.currency, sum(committed) as committed, sum(totals.called) as called, sum(totals.paid_in) as paid_in,
                sum(impact) as impact, sum(unapplied) as unapplied, sum(allocated) as allocated,
                sum(commitments)::bigint as commitments, sum(lines)::bigint as lines, sum(lines_paid)::bigint as lines_paid,
                sum(allocations)::bigint as allocations, sum(overdue) as overdue, sum(lines_overdue)::bigint as lines_overdue,
                sum(due_called) as due_called, sum(due_paid_in) as due_paid_in
         from totals
         cross join lateral (
            select coalesce(sum(called - paid_in) filter (where due_on < $3), 0) as overdue,
                   coalesce(sum(lines_open) filter (where due_on < $3), 0) as lines_overdue,
                   coalesce(sum(called), 0) as due_called, coalesce(sum(paid_in), 0) as due_paid_in
            from due_totals
            where due_totals.holder = totals.holder and due_totals.holder_id = totals.holder_id
              and due_totals.currency = totals.currency and due_on <= $3
         ) as due
         where totals.holder = $1 and totals.holder_id = any($2)
         group by totals.currency order by totals.currency",
    )
    .bind(kind)
    .bind(ids)
    .bind(as_of)
    .try_map(|row: PgRow| currency_figures(&row, as_of))
    .fetch_all(&mut **tx)
    .await?;
    Ok(figures)
}

fn currency_figures(row: &PgRow, as_of: NaiveDate) -> Result<CurrencyFigures, Error> {
    let currency = row.parsed("currency")?;
    let (sums, due) = sums(row)?;
    Ok(CurrencyFigures { currency, as_of, figures: domain::figures(currency, &sums, due) })
}

/// The figures of an investor over all funds, by currency; summed here, from few lines.
pub async fn investor_figures(tx: &mut Tx, investor_id: Uuid) -> Result<Vec<CurrencyFigures>, Fault> {
    let as_of = tx.now().date_naive();
    let figures = sqlx::query(
        "with promised as (
            select currency, sum(amount) as committed, sum(drawn_transferred) as drawn_transferred, count(*) as commitments
            from commitments where investor_id = $1 group by currency
         ), asked as (
            select currency, sum(called) as called, sum(paid) as paid_in, sum(impact) as impact, sum(unapplied) as unapplied,
                   count(*) filter (where called > 0) as lines, count(*) filter (where called > 0 and paid >= called) as lines_paid,
                   sum(called - paid) filter (where due_on < $2) as overdue,
                   count(*) filter (where due_on < $2 and paid < called) as lines_overdue,
                   sum(called) filter (where due_on <= $2) as due_called, sum(paid) filter (where due_on <= $2) as due_paid_in
            from lines where investor_id = $1 group by currency
         )
         select currency, coalesce(committed, 0) as committed, coalesce(called, 0) as called, coalesce(paid_in, 0) as paid_in,
                coalesce(impact, 0) - coalesce(drawn_transferred, 0) as impact, coalesce(unapplied, 0) as unapplied, 0::numeric as allocated,
                coalesce(commitments, 0) as commitments, coalesce(lines, 0) as lines, coalesce(lines_paid, 0) as lines_paid,
                0::bigint as allocations, coalesce(overdue, 0) as overdue, coalesce(lines_overdue, 0) as lines_overdue,
                coalesce(due_called, 0) as due_called, coalesce(due_paid_in, 0) as due_paid_in
         from promised full join asked using (currency) order by currency",
    )
    .bind(investor_id)
    .bind(as_of)
    .try_map(|row: PgRow| currency_figures(&row, as_of))
    .fetch_all(&mut **tx)
    .await?;
    Ok(figures)
}

#[cfg(test)]
mod tests;
