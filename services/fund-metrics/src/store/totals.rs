//! The sums beside the rows: how a batch adds to them, and how they are compared with the rows.

use chassis::row::column;
use chassis::{Fault, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use crate::domain::{Changes, Delta, DueDelta, FundingKey, Holder, LinesDelta};

/// What is kept beside its rows.
pub const TOTALS: [chassis::Total; 4] = [
    (
        "totals of funds and of the portfolio",
        "with facts as (
            select fund_id, currency, amount as committed, 1 as commitments, 0 as called, 0 as paid_in, 0 as impact, 0 as unapplied,
                   0 as lines, 0 as lines_paid, 0 as allocated, 0 as allocations
            from commitments
            union all
            select fund_id, currency, 0, 0, called, paid, impact, unapplied, (called > 0)::int, (called > 0 and paid >= called)::int, 0, 0 from lines
            union all
            select fund_id, currency, 0, 0, 0, 0, 0, 0, 0, 0, amount, active from allocations
         ), computed as (
            select holder, holder_id, currency, array[sum(committed), sum(commitments), sum(called), sum(paid_in), sum(impact), sum(unapplied),
                   sum(lines), sum(lines_paid), sum(allocated), sum(allocations)]::numeric[] as figures
            from facts cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                 as holders (holder, holder_id)
            group by holder, holder_id, currency
         ), kept as (
            select holder, holder_id, currency, array[committed, commitments, called, paid_in, impact, unapplied,
                   lines, lines_paid, allocated, allocations]::numeric[] as figures
            from totals
         )
         select format('%s %s %s', holder, holder_id, currency), coalesce(kept.figures::text, 'nothing'), coalesce(computed.figures::text, 'nothing')
         from kept full join computed using (holder, holder_id, currency)
         where kept.figures is distinct from computed.figures and not (computed.figures is null and 0 = all(kept.figures))",
    ),
    (
        "totals of due dates",
        "with computed as (
            select holder, holder_id, currency, due_on, array[sum(called), sum(paid), count(*) filter (where paid < called),
                   count(*) filter (where called > 0), count(*) filter (where funded_on <= due_on), count(*) filter (where funded_on > due_on),
                   coalesce(sum(called) filter (where funded_on <= due_on), 0),
                   coalesce(sum(called) filter (where funded_on > due_on), 0)]::numeric[] as figures
            from lines cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                 as holders (holder, holder_id)
            group by holder, holder_id, currency, due_on
         ), kept as (
            select holder, holder_id, currency, due_on, array[called, paid_in, lines_open, lines, lines_on_time, lines_late,
                   funded_on_time, funded_late]::numeric[] as figures
            from due_totals
         )
         select format('%s %s %s %s', holder, holder_id, currency, due_on), coalesce(kept.figures::text, 'nothing'), coalesce(computed.figures::text, 'nothing')
         from kept full join computed using (holder, holder_id, currency, due_on)
         where kept.figures is distinct from computed.figures and not (computed.figures is null and 0 = all(kept.figures))",
    ),
    (
        "totals of months of issue",
        "with computed as (
            select holder, holder_id, currency, date_trunc('month', issued_on)::date as month,
                   array[count(*) filter (where called > 0), sum(called)]::numeric[] as figures
            from lines cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                 as holders (holder, holder_id)
            where issued_on is not null
            group by holder, holder_id, currency, month
         ), kept as (
            select holder, holder_id, currency, month, array[lines, called]::numeric[] as figures from issue_totals
         )
         select format('%s %s %s %s', holder, holder_id, currency, month), coalesce(kept.figures::text, 'nothing'), coalesce(computed.figures::text, 'nothing')
         from kept full join computed using (holder, holder_id, currency, month)
         where coalesce(kept.figures, '{0, 0}') is distinct from coalesce(computed.figures, '{0, 0}')",
    ),
    (
        "days to fund",
        "with computed as (
            select holder, holder_id, currency, start, date_trunc('month', funded_on)::date as month, funded_on - day as days,
                   array[count(*), sum(called)]::numeric[] as figures
            from lines cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                 as holders (holder, holder_id)
                 cross join lateral (values ('due', due_on), ('issue', issued_on)) as starts (start, day)
            where funded_on is not null and day is not null
            group by holder, holder_id, currency, start, month, days
         ), kept as (
            select holder, holder_id, currency, start, month, days, array[lines, called]::numeric[] as figures from funding_days
         )
         select format('%s %s %s %s %s %s', holder, holder_id, currency, start, month, days), coalesce(kept.figures::text, 'nothing'), coalesce(computed.figures::text, 'nothing')
         from kept full join computed using (holder, holder_id, currency, start, month, days)
         where coalesce(kept.figures, '{0, 0}') is distinct from coalesce(computed.figures, '{0, 0}')",
    ),
];

/// Adds the changes of a batch to the totals, in the order of their keys.
pub async fn add_changes(tx: &mut Tx, changes: &Changes) -> Result<(), Fault> {
    let totals: Vec<(&Holder, &Delta)> = changes.totals.iter().collect();
    sqlx::query(
        "insert into totals (holder, holder_id, currency, version, committed, called, paid_in, impact, unapplied, allocated,
                             commitments, lines, lines_paid, allocations)
         select holder, holder_id, currency, 0, committed, called, paid_in, impact, unapplied, allocated, commitments, lines, lines_paid, allocations
         from unnest($1::text[], $2::uuid[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
                     $9::numeric[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
              as delta (holder, holder_id, currency, committed, called, paid_in, impact, unapplied, allocated,
                        commitments, lines, lines_paid, allocations)
         on conflict (holder, holder_id, currency) do update
         set committed = totals.committed + excluded.committed, called = totals.called + excluded.called,
             paid_in = totals.paid_in + excluded.paid_in, impact = totals.impact + excluded.impact,
             unapplied = totals.unapplied + excluded.unapplied, allocated = totals.allocated + excluded.allocated,
             commitments = totals.commitments + excluded.commitments, lines = totals.lines + excluded.lines,
             lines_paid = totals.lines_paid + excluded.lines_paid, allocations = totals.allocations + excluded.allocations",
    )
    .bind(column(&totals, |(holder, _)| holder.kind))
    .bind(column(&totals, |(holder, _)| holder.id))
    .bind(column(&totals, |(holder, _)| holder.currency.as_str()))
    .bind(column(&totals, |(_, delta)| delta.committed.decimal()))
    .bind(column(&totals, |(_, delta)| delta.called.decimal()))
    .bind(column(&totals, |(_, delta)| delta.paid_in.decimal()))
    .bind(column(&totals, |(_, delta)| delta.impact.decimal()))
    .bind(column(&totals, |(_, delta)| delta.unapplied.decimal()))
    .bind(column(&totals, |(_, delta)| delta.allocated.decimal()))
    .bind(column(&totals, |(_, delta)| delta.commitments))
    .bind(column(&totals, |(_, delta)| delta.lines))
    .bind(column(&totals, |(_, delta)| delta.lines_paid))
    .bind(column(&totals, |(_, delta)| delta.allocations))
    .execute(&mut **tx)
    .await?;
    add_due(tx, changes).await?;
    add_issued(tx, changes).await?;
    add_funding(tx, changes).await
}

async fn add_due(tx: &mut Tx, changes: &Changes) -> Result<(), Fault> {
    let due: Vec<(&(Holder, NaiveDate), &DueDelta)> = changes.due.iter().collect();
    if due.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into due_totals (holder, holder_id, currency, due_on, called, paid_in, lines_open, lines, lines_on_time, lines_late,
                                 funded_on_time, funded_late)
         select * from unnest($1::text[], $2::uuid[], $3::text[], $4::date[], $5::numeric[], $6::numeric[], $7::bigint[],
                              $8::bigint[], $9::bigint[], $10::bigint[], $11::numeric[], $12::numeric[])
         on conflict (holder, holder_id, currency, due_on) do update
         set called = due_totals.called + excluded.called, paid_in = due_totals.paid_in + excluded.paid_in,
             lines_open = due_totals.lines_open + excluded.lines_open, lines = due_totals.lines + excluded.lines,
             lines_on_time = due_totals.lines_on_time + excluded.lines_on_time,
             lines_late = due_totals.lines_late + excluded.lines_late,
             funded_on_time = due_totals.funded_on_time + excluded.funded_on_time,
             funded_late = due_totals.funded_late + excluded.funded_late",
    )
    .bind(column(&due, |((holder, _), _)| holder.kind))
    .bind(column(&due, |((holder, _), _)| holder.id))
    .bind(column(&due, |((holder, _), _)| holder.currency.as_str()))
    .bind(column(&due, |((_, due_on), _)| *due_on))
    .bind(column(&due, |(_, delta)| delta.called.decimal()))
    .bind(column(&due, |(_, delta)| delta.paid_in.decimal()))
    .bind(column(&due, |(_, delta)| delta.lines_open))
    .bind(column(&due, |(_, delta)| delta.lines))
    .bind(column(&due, |(_, delta)| delta.lines_on_time))
    .bind(column(&due, |(_, delta)| delta.lines_late))
    .bind(column(&due, |(_, delta)| delta.funded_on_time.decimal()))
    .bind(column(&due, |(_, delta)| delta.funded_late.decimal()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether a difference is one: most payments fund no line, and change neither its issue nor its days.
fn moves<K>((_, delta): &(&K, &LinesDelta)) -> bool {
    **delta != LinesDelta::default()
}

async fn add_issued(tx: &mut Tx, changes: &Changes) -> Result<(), Fault> {
    let issued: Vec<(&(Holder, NaiveDate), &LinesDelta)> = changes.issued.iter().filter(moves).collect();
    if issued.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into issue_totals (holder, holder_id, currency, month, lines, called)
         select * from unnest($1::text[], $2::uuid[], $3::text[], $4::date[], $5::bigint[], $6::numeric[])
         on conflict (holder, holder_id, month, currency) do update
         set lines = issue_totals.lines + excluded.lines, called = issue_totals.called + excluded.called",
    )
    .bind(column(&issued, |((holder, _), _)| holder.kind))
    .bind(column(&issued, |((holder, _), _)| holder.id))
    .bind(column(&issued, |((holder, _), _)| holder.currency.as_str()))
    .bind(column(&issued, |((_, month), _)| *month))
    .bind(column(&issued, |(_, delta)| delta.lines))
    .bind(column(&issued, |(_, delta)| delta.called.decimal()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_funding(tx: &mut Tx, changes: &Changes) -> Result<(), Fault> {
    let funding: Vec<(&FundingKey, &LinesDelta)> = changes.funding.iter().filter(moves).collect();
    if funding.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into funding_days (holder, holder_id, currency, start, month, days, lines, called)
         select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::date[], $6::int[], $7::bigint[], $8::numeric[])
         on conflict (holder, holder_id, start, month, currency, days) do update
         set lines = funding_days.lines + excluded.lines, called = funding_days.called + excluded.called",
    )
    .bind(column(&funding, |(key, _)| key.holder.kind))
    .bind(column(&funding, |(key, _)| key.holder.id))
    .bind(column(&funding, |(key, _)| key.holder.currency.as_str()))
    .bind(column(&funding, |(key, _)| key.start.name()))
    .bind(column(&funding, |(key, _)| key.month))
    .bind(column(&funding, |(key, _)| key.days))
    .bind(column(&funding, |(_, delta)| delta.lines))
    .bind(column(&funding, |(_, delta)| delta.called.decimal()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Raises the versions of the metrics of funds by one. The totals are locked in the order of their keys.
pub async fn next_versions(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query(
        "with locked as materialized (
            select holder, holder_id, totals.currency
            from totals join funds on funds.id = holder_id and funds.currency = totals.currency
            where holder = 'fund' and holder_id = any($1)
            order by holder, holder_id, totals.currency for no key update of totals
         )
         update totals set version = version + 1 from locked
         where totals.holder = locked.holder and totals.holder_id = locked.holder_id and totals.currency = locked.currency",
    )
    .bind(fund_ids)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
