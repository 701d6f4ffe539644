//! All SQL of notifications.

use ::domain::messages::capital_calls::{CallLine, Investor};
use ::domain::messages::notifications::Notice;
use ::domain::{CreditorReference, ids};
use chassis::row::column;
use chassis::{Fault, RowExt, Seen, Tx, row};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::Schedule;

mod alerts;

pub use alerts::*;

/// Copies of what capital-calls owns.
pub const LINES: &str = "select id, epoch, version from lines";
/// See [`LINES`].
pub const INVESTORS: &str = "select id, epoch, version from investors";

/// Keeps the newest version of each line; returns the ids of those whose notices are to be planned: new ones, and those whose call
/// was amended or taken back since.
pub async fn keep_lines(tx: &mut Tx, lines: &[Seen<CallLine>]) -> Result<Vec<Uuid>, Fault> {
    let kept: Vec<(Uuid, bool, bool)> = sqlx::query_as(
        "insert into lines (id, epoch, version, call_id, fund_id, investor_id, currency, amount, outstanding, due_on, timezone, amendment,
                            disposition, instructions)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[],
                              $8::numeric[], $9::numeric[], $10::date[], $11::text[], $12::int[], $13::text[], $14::jsonb[])
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, amount = excluded.amount,
             outstanding = excluded.outstanding, due_on = excluded.due_on, instructions = excluded.instructions,
             amendment = excluded.amendment, disposition = excluded.disposition,
             is_planned = lines.is_planned and (lines.amendment, lines.disposition) = (excluded.amendment, excluded.disposition)
         where (excluded.epoch, excluded.version) > (lines.epoch, lines.version)
         returning id, not is_planned, silenced and outstanding > 0",
    )
    .bind(column(lines, |seen| seen.state.id))
    .bind(column(lines, |seen| seen.epoch))
    .bind(column(lines, |seen| seen.state.version))
    .bind(column(lines, |seen| seen.state.call_id))
    .bind(column(lines, |seen| seen.state.fund_id))
    .bind(column(lines, |seen| seen.state.investor_id))
    .bind(column(lines, |seen| seen.state.currency.code()))
    .bind(column(lines, |seen| seen.state.amount.decimal()))
    .bind(column(lines, |seen| seen.state.outstanding.decimal()))
    .bind(column(lines, |seen| seen.state.due_on))
    .bind(column(lines, |seen| seen.state.timezone.as_str()))
    .bind(column(lines, |seen| seen.state.amendment))
    .bind(column(lines, |seen| row::name(&seen.state.disposition)))
    .bind(column(lines, |seen| seen.state.instructions.as_ref().map(Json)))
    .fetch_all(&mut **tx)
    .await?;
    let reopened: Vec<Uuid> = kept.iter().filter(|(_, _, reopened)| *reopened).map(|(id, _, _)| *id).collect();
    want_again(tx, &reopened).await?;
    Ok(kept.into_iter().filter(|(_, unplanned, _)| *unplanned).map(|(id, _, _)| id).collect())
}

/// Takes back the notices of lines that were planned and not raised: others are planned in their place.
pub async fn take_back_schedules(tx: &mut Tx, line_ids: &[Uuid]) -> Result<(), Fault> {
    if line_ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with planned as (
            update lines set is_planned = true where id = any($1)
         )
         delete from schedules where line_id = any($1) and raised_at is null",
    )
    .bind(line_ids)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What came due while a line was paid is wanted again when a reversal re-opens it.
async fn want_again(tx: &mut Tx, line_ids: &[Uuid]) -> Result<(), Fault> {
    if line_ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with reopened as (
            update lines set silenced = false where id = any($1)
         )
         update schedules set wanted = true where line_id = any($1) and not wanted",
    )
    .bind(line_ids)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps the newest version of each investor.
pub async fn keep_investors(tx: &mut Tx, investors: &[Seen<Investor>]) -> Result<(), Fault> {
    sqlx::query(
        "insert into investors (id, epoch, version, email)
         select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[])
         on conflict (id) do update set epoch = excluded.epoch, version = excluded.version, email = excluded.email
         where (excluded.epoch, excluded.version) > (investors.epoch, investors.version)",
    )
    .bind(column(investors, |seen| seen.state.id))
    .bind(column(investors, |seen| seen.epoch))
    .bind(column(investors, |seen| seen.state.version))
    .bind(column(investors, |seen| seen.state.email.as_deref()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds schedules that are not there yet.
pub async fn add_schedules(tx: &mut Tx, schedules: &[(Uuid, DateTime<Utc>, Schedule)]) -> Result<(), Fault> {
    sqlx::query(
        "insert into schedules (line_id, rule, kind, send_at)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) on conflict do nothing",
    )
    .bind(column(schedules, |(line_id, _, _)| *line_id))
    .bind(column(schedules, |(_, _, schedule)| schedule.rule.as_str()))
    .bind(column(schedules, |(_, _, schedule)| schedule.kind.token()))
    .bind(column(schedules, |(_, send_at, _)| *send_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn notice(row: &PgRow, now: DateTime<Utc>) -> Result<Notice, Error> {
    let currency = row.parsed("currency")?;
    let line_id: Uuid = row.try_get("line_id")?;
    let rule: String = row.try_get("rule")?;
    Ok(Notice {
        id: ids::derived(&format!("notice/{rule}"), line_id),
        kind: row.named("kind")?,
        rule,
        at: now,
        line_id,
        call_id: row.try_get("call_id")?,
        fund_id: row.try_get("fund_id")?,
        investor_id: row.try_get("investor_id")?,
        email: row.try_get("email")?,
        amount: row.amount("amount", currency)?,
        outstanding: row.amount("outstanding", currency)?,
        currency,
        due_on: row.try_get("due_on")?,
        reference: CreditorReference::of(line_id).as_str().to_owned(),
        instructions: row.try_get::<Option<Json<_>>, _>("instructions")?.map(|Json(instructions)| instructions),
    })
}

/// Marks the notices that are due as raised, at most so many, and returns them, earliest first, and whether more may be due. Those that
/// another replica holds are left out, and those of an investor who is not known yet. Nobody is reminded of a line that is paid:
/// what comes due while it is stays unraised, so that a payment writes nothing here.
pub async fn take_due(tx: &mut Tx, limit: i64) -> Result<(Vec<Notice>, bool), Fault> {
    let now = tx.now();
    // the lines are locked too: one that is re-opened meanwhile must find what was silenced
    let due: Vec<(Uuid, String, bool)> = sqlx::query_as(
        "select line_id, rule, kind = 'capital_call' or outstanding > 0 from schedules join lines on lines.id = line_id
         join investors on investors.id = lines.investor_id
         where raised_at is null and wanted and send_at <= $1
         order by send_at, line_id limit $2 for no key update of schedules, lines skip locked",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    let more = due.len() as i64 == limit;
    let (raised, silenced): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, _, is_to_be_raised)| *is_to_be_raised);
    if !silenced.is_empty() {
        sqlx::query(
            "with silenced as (
                update schedules set wanted = false from unnest($1::uuid[], $2::text[]) as due (line_id, rule)
                where (schedules.line_id, schedules.rule) = (due.line_id, due.rule)
             )
             update lines set silenced = true where id = any($1) and not silenced",
        )
        .bind(column(&silenced, |(line_id, ..)| *line_id))
        .bind(column(&silenced, |(_, rule, _)| rule.as_str()))
        .execute(&mut **tx)
        .await?;
    }
    if raised.is_empty() {
        return Ok((vec![], more));
    }
    let notices = sqlx::query(
        "with raised as (
            update schedules set raised_at = $3 from unnest($1::uuid[], $2::text[]) as due (line_id, rule)
            where (schedules.line_id, schedules.rule) = (due.line_id, due.rule)
            returning schedules.*
         )
         select raised.*, lines.*, investors.email
         from raised join lines on lines.id = raised.line_id
         join investors on investors.id = lines.investor_id
         order by send_at, line_id",
    )
    .bind(column(&raised, |(line_id, ..)| *line_id))
    .bind(column(&raised, |(_, rule, _)| rule.as_str()))
    .bind(now)
    .try_map(|row| notice(&row, now))
    .fetch_all(&mut **tx)
    .await?;
    Ok((notices, more))
}

/// A mail that is due.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The notice.
    pub notice: Notice,
    /// Whom to send it to.
    pub recipient: String,
    /// Times that it was tried.
    pub attempts: i32,
}

/// Adds a mail for each notice whose investor has an address.
pub async fn add_deliveries(tx: &mut Tx, notices: &[Notice]) -> Result<(), Fault> {
    let now = tx.now();
    let by_mail: Vec<(&Notice, &str)> = notices.iter().filter_map(|notice| Some((notice, notice.email.as_deref()?))).collect();
    sqlx::query(
        "insert into deliveries (notice_id, recipient, notice, created_at, due_at)
         select *, $4, $5 from unnest($1::uuid[], $2::text[], $3::jsonb[])
         on conflict do nothing",
    )
    .bind(column(&by_mail, |(notice, _)| notice.id))
    .bind(column(&by_mail, |(_, email)| *email))
    .bind(column(&by_mail, |(notice, _)| Json(*notice)))
    .bind(now)
    .bind(tx.system_now())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes mails that are due, and keeps them from other replicas until `lease`.
pub async fn claim_deliveries(tx: &mut Tx, limit: i64, lease: DateTime<Utc>) -> Result<Vec<Delivery>, Fault> {
    let now = tx.system_now();
    let claimed = sqlx::query(
        "update deliveries set due_at = $3, attempts = attempts + 1
         where notice_id in (select notice_id from deliveries where due_at <= $1 order by due_at limit $2 for update skip locked)
         returning notice, recipient, attempts",
    )
    .bind(now)
    .bind(limit)
    .bind(lease)
    .try_map(|row: PgRow| {
        Ok(Delivery { notice: row.json("notice")?, recipient: row.try_get("recipient")?, attempts: row.try_get("attempts")? })
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(claimed)
}

/// Records what came of a mail: sent, to be tried again, or given up.
pub async fn record_delivery(tx: &mut Tx, notice_id: Uuid, error: Option<&str>, again_at: Option<DateTime<Utc>>) -> Result<(), Fault> {
    let now = tx.now();
    sqlx::query(
        "update deliveries set error = $2, due_at = $3, sent_at = case when $2::text is null then $4 end
         where notice_id = $1 and sent_at is null",
    )
    .bind(notice_id)
    .bind(error)
    .bind(again_at)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The text form of a kind, for a subject line.
pub fn kind_name(notice: &Notice) -> String {
    row::name(&notice.kind).replace('_', " ")
}

/// Forgets lines and what was to be sent about them; what was sent stays.
pub async fn forget_lines(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("with schedules as (delete from schedules where line_id = any($1)) delete from lines where id = any($1)")
        .bind(ids)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Forgets investors.
pub async fn forget_investors(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("delete from investors where id = any($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
