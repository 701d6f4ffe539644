//! Commitments, and the entries that they are made of.

use std::collections::HashMap;

use ::domain::Amount;
use ::domain::messages::capital_calls::{Commitment, CommitmentEntry, CommitmentStatus};
use chassis::row::{column, decimals, sorted_ids};
use chassis::{Fault, RowExt, Tx, row};
use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{self, Draw, Recorded};

fn commitment(row: &PgRow) -> Result<Commitment, Error> {
    let currency = row.parsed("currency")?;
    let mut commitment = Commitment {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        investor_id: row.try_get("investor_id")?,
        currency,
        amount: row.amount("amount", currency)?,
        effective_on: row.try_get("effective_on")?,
        called: row.amount("called", currency)?,
        unfunded: row.amount("unfunded", currency)?,
        drawn_transferred: row.amount("drawn_transferred", currency)?,
        released_on: row.try_get("released_on")?,
        defaulted_on: row.try_get("defaulted_on")?,
        remedy: row.try_get::<Option<String>, _>("remedy")?.map(|_| row.named("remedy")).transpose()?,
        excused_from: row.try_get("excused_from")?,
        status: CommitmentStatus::Active,
    };
    commitment.status = domain::commitment_status(&commitment);
    Ok(commitment)
}

/// Adds commitments; returns the ids of those whose investor had none to the fund before.
pub async fn insert_commitments(tx: &mut Tx, commitments: &[Commitment]) -> Result<Vec<Uuid>, Fault> {
    let added = sqlx::query_scalar(
        "insert into commitments (id, version, created_at, fund_id, investor_id, currency, amount, effective_on, called, unfunded,
                                  drawn_transferred)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[],
                              $7::numeric[], $8::date[], $9::numeric[], $10::numeric[], $11::numeric[])
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
    .bind(decimals(commitments, |commitment| commitment.drawn_transferred))
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

/// Writes commitments that are locked.
pub async fn save_commitments(tx: &mut Tx, commitments: &[&Commitment]) -> Result<(), Fault> {
    sqlx::query(
        "update commitments
         set version = new.version, called = new.called, unfunded = new.unfunded, amount = new.amount,
             drawn_transferred = new.drawn_transferred, released_on = new.released_on, effective_on = new.effective_on,
             defaulted_on = new.defaulted_on, remedy = new.remedy
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[], $7::date[], $8::date[],
                     $9::date[], $10::text[])
              as new (id, version, called, unfunded, amount, drawn_transferred, released_on, effective_on, defaulted_on, remedy)
         where commitments.id = new.id",
    )
    .bind(column(commitments, |commitment| commitment.id))
    .bind(column(commitments, |commitment| commitment.version))
    .bind(decimals(commitments, |commitment| commitment.called))
    .bind(decimals(commitments, |commitment| commitment.unfunded))
    .bind(decimals(commitments, |commitment| commitment.amount))
    .bind(decimals(commitments, |commitment| commitment.drawn_transferred))
    .bind(column(commitments, |commitment| commitment.released_on))
    .bind(column(commitments, |commitment| commitment.effective_on))
    .bind(column(commitments, |commitment| commitment.defaulted_on))
    .bind(column(commitments, |commitment| commitment.remedy.as_ref().map(row::name)))
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

/// Adds entries.
pub async fn insert_entries(tx: &mut Tx, entries: &[CommitmentEntry]) -> Result<(), Fault> {
    sqlx::query(
        "insert into commitment_entries (id, commitment_id, version, at, kind, amount, impact_on_unfunded, effective_on,
                                         counterpart_id, closing_id, reason, recorded_by, fund_id)
         select entry.*, fund_id
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::text[], $6::numeric[], $7::numeric[],
                     $8::date[], $9::uuid[], $10::uuid[], $11::text[], $12::text[])
              as entry (id, commitment_id, version, at, kind, amount, impact_on_unfunded, effective_on, counterpart_id, closing_id, reason,
                        recorded_by)
         join commitments on commitments.id = entry.commitment_id",
    )
    .bind(column(entries, |entry| entry.id))
    .bind(column(entries, |entry| entry.commitment_id))
    .bind(column(entries, |entry| entry.version))
    .bind(column(entries, |entry| entry.at))
    .bind(column(entries, |entry| row::name(&entry.kind)))
    .bind(decimals(entries, |entry| entry.amount))
    .bind(decimals(entries, |entry| entry.impact_on_unfunded))
    .bind(column(entries, |entry| entry.effective_on))
    .bind(column(entries, |entry| entry.counterpart_id))
    .bind(column(entries, |entry| entry.closing_id))
    .bind(column(entries, |entry| entry.reason.as_str()))
    .bind(column(entries, |entry| entry.recorded_by.as_str()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn entry(row: &PgRow) -> Result<CommitmentEntry, Error> {
    let currency = row.parsed("currency")?;
    Ok(CommitmentEntry {
        id: row.try_get("id")?,
        commitment_id: row.try_get("commitment_id")?,
        version: row.try_get("version")?,
        at: row.try_get("at")?,
        kind: row.named("kind")?,
        amount: row.amount("amount", currency)?,
        impact_on_unfunded: row.amount("impact_on_unfunded", currency)?,
        effective_on: row.try_get("effective_on")?,
        counterpart_id: row.try_get("counterpart_id")?,
        closing_id: row.try_get("closing_id")?,
        reason: row.try_get("reason")?,
        recorded_by: row.try_get("recorded_by")?,
    })
}

/// The entries of these funds' commitments that take effect after a date, or that one of these calls has not seen; all without a date. Not
/// those of closings: they count for every call.
pub async fn entries_after(tx: &mut Tx, fund_ids: &[Uuid], date: Option<NaiveDate>, call_ids: &[Uuid]) -> Result<Vec<Recorded>, Fault> {
    let entries = sqlx::query(
        "select entry.*, currency from commitment_entries as entry join commitments on commitments.id = commitment_id
         where entry.fund_id = any($1) and closing_id is null
           and (entry.effective_on > coalesce($2, '-infinity'::date)
                or position > (select min(entries_seen) from capital_calls where id = any($3)))",
    )
    .bind(fund_ids)
    .bind(date)
    .bind(call_ids)
    .try_map(|row| Ok(Recorded { position: row.try_get("position")?, entry: entry(&row)? }))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// What lines that are due after a date draw on the commitments that these entries change, by fund and investor.
pub async fn draws_after(tx: &mut Tx, entries: &[Recorded], date: Option<NaiveDate>) -> Result<HashMap<(Uuid, Uuid), Vec<Draw>>, Fault> {
    let mut draws: HashMap<(Uuid, Uuid), Vec<Draw>> = HashMap::new();
    let (Some(date), false) = (date, entries.is_empty()) else { return Ok(draws) };
    let commitment_ids = sorted_ids(entries.iter().map(|recorded| recorded.entry.commitment_id));
    let lines = sqlx::query(
        "select line.fund_id, line.investor_id, call_id, due_on, line.currency, impact_on_unfunded
         from commitments join call_lines as line using (investor_id, fund_id)
         where commitments.id = any($1) and due_on > $2 and impact_on_unfunded <> 0",
    )
    .bind(&commitment_ids)
    .bind(date)
    .try_map(|row: PgRow| {
        let draw = Draw {
            call_id: row.try_get("call_id")?,
            due_on: row.try_get("due_on")?,
            impact_on_unfunded: row.amount("impact_on_unfunded", row.parsed("currency")?)?,
        };
        Ok(((row.try_get("fund_id")?, row.try_get("investor_id")?), draw))
    })
    .fetch_all(&mut **tx)
    .await?;
    for (holder, draw) in lines {
        draws.entry(holder).or_default().push(draw);
    }
    Ok(draws)
}

/// The funds of these commitments.
pub async fn funds_of_commitments(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let funds = sqlx::query_scalar("select distinct fund_id from commitments where id = any($1) order by 1").bind(ids);
    Ok(funds.fetch_all(&mut **tx).await?)
}

/// The last entry of its fund's commitments that each of these calls had seen when it was issued.
pub async fn entries_seen(tx: &mut Tx, call_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, Fault> {
    let seen = "select id, entries_seen from capital_calls where id = any($1) and entries_seen is not null";
    let seen: Vec<(Uuid, i64)> = sqlx::query_as(seen).bind(call_ids).fetch_all(&mut **tx).await?;
    Ok(seen.into_iter().collect())
}

/// The entries of these commitments, as they were recorded.
pub async fn entries(tx: &mut Tx, commitment_ids: &[Uuid]) -> Result<Vec<CommitmentEntry>, Fault> {
    let entries = sqlx::query(
        "select entry.*, currency from commitment_entries as entry join commitments on commitments.id = commitment_id
         where commitment_id = any($1) order by commitment_id, entry.version",
    )
    .bind(commitment_ids)
    .try_map(|row| entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// The ids of commitments by fund and investor.
pub async fn commitment_ids(tx: &mut Tx, of: &[(Uuid, Uuid)]) -> Result<HashMap<(Uuid, Uuid), Uuid>, Fault> {
    let ids: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
        "select fund_id, investor_id, id from commitments join unnest($1::uuid[], $2::uuid[]) as asked (fund_id, investor_id)
             using (fund_id, investor_id)",
    )
    .bind(column(of, |(fund_id, _)| *fund_id))
    .bind(column(of, |(_, investor_id)| *investor_id))
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(|(fund_id, investor_id, id)| ((fund_id, investor_id), id)).collect())
}

/// The funds of commitments, and who holds them.
pub async fn holders(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, (Uuid, Uuid)>, Fault> {
    let holders: Vec<(Uuid, Uuid, Uuid)> =
        sqlx::query_as("select id, fund_id, investor_id from commitments where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    Ok(holders.into_iter().map(|(id, fund_id, investor_id)| (id, (fund_id, investor_id))).collect())
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

/// What all have promised to a fund.
pub async fn committed(tx: &mut Tx, fund_id: Uuid) -> Result<Amount, Fault> {
    let sum = sqlx::query("select coalesce(sum(amount), 0) as sum from commitments where fund_id = $1").bind(fund_id);
    Ok(sum.try_map(|row: PgRow| row.number("sum")).fetch_one(&mut **tx).await?)
}

/// One commitment.
pub async fn find_commitment(tx: &mut Tx, id: Uuid) -> Result<Option<Commitment>, Fault> {
    Ok(sqlx::query("select * from commitments where id = $1").bind(id).try_map(|row| commitment(&row)).fetch_optional(&mut **tx).await?)
}

/// What lines had done to a commitment by a date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// What was called by then.
    pub called: Amount,
    /// What that did to what is unfunded.
    pub impact_on_unfunded: Amount,
    /// Cash applied by value date, less reversals by theirs.
    pub paid_in: Amount,
}

/// What the lines of commitments had done to them by the end of a date; by the end of time without one.
pub async fn drawn(tx: &mut Tx, commitments: &[Commitment], as_of: Option<NaiveDate>) -> Result<HashMap<Uuid, Drawn>, Fault> {
    let drawn = sqlx::query(
        "with asked as (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as asked (id, fund_id, investor_id)
         ), lines as (
            select asked.id as commitment_id, line.id, line.amount, line.impact_on_unfunded
            from asked join call_lines as line on line.investor_id = asked.investor_id and line.fund_id = asked.fund_id
            where line.issued_on <= coalesce($4, 'infinity'::date)
         ), undone as (
            select commitment_id, -entry.amount as amount, -entry.impact_on_unfunded as impact
            from lines join line_entries as entry on entry.line_id = lines.id where entry.effective_on > coalesce($4, 'infinity'::date)
         ), called as (
            select commitment_id as id, sum(amount) as called, sum(impact) as impact
            from (select commitment_id, amount, impact_on_unfunded as impact from lines union all select * from undone) as moved
            group by commitment_id
         ), paid as (
            select commitment_id as id, sum(applied) as paid_in
            from lines join payments on payments.line_id = lines.id
            where received_on <= coalesce($4, 'infinity'::date)
              and (reversal is null or (reversal ->> 'effective_on')::date > coalesce($4, 'infinity'::date))
            group by commitment_id
         )
         select id, coalesce(called, 0) as called, coalesce(impact, 0) as impact, coalesce(paid_in, 0) as paid_in
         from asked left join called using (id) left join paid using (id)",
    )
    .bind(column(commitments, |commitment| commitment.id))
    .bind(column(commitments, |commitment| commitment.fund_id))
    .bind(column(commitments, |commitment| commitment.investor_id))
    .bind(as_of)
    .try_map(|row: PgRow| {
        let (called, impact, paid_in) = (row.number("called")?, row.number("impact")?, row.number("paid_in")?);
        Ok((row.try_get("id")?, Drawn { called, impact_on_unfunded: impact, paid_in }))
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(drawn.into_iter().collect())
}
