//! The analytics of capital calls, from the sums by due date, month of issue and days to fund: what is read grows with the days, not with
//! the lines. Of an investor there are no such sums (see migration 1002); the same columns are made of its few lines, by their index.

use std::collections::BTreeMap;

use ::domain::Currency;
use chassis::{Fault, RowExt, Tx};
use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::analytics::{AGES, Histograms, MonthSums, Period};
use crate::domain::{DueDelta, LinesDelta, Start};

/// Whose lines are asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `fund`, `investor` or `portfolio`.
    pub kind: &'static str,
    /// Their ids; nil for the portfolio.
    pub ids: Vec<Uuid>,
    /// Their business date.
    pub today: NaiveDate,
}

/// Where the columns come from: `$1` is the kind of the holders, `$2` are their ids.
struct Sources {
    due: &'static str,
    issued: &'static str,
    funding: &'static str,
}

const OF_TOTALS: Sources = Sources {
    due: "select currency, due_on, called, paid_in, lines, lines_open, lines_on_time, lines_late, funded_on_time, funded_late
          from due_totals where holder = $1 and holder_id = any($2)",
    issued: "select currency, month, lines, called from issue_totals where holder = $1 and holder_id = any($2)",
    funding: "select currency, start, month, days, lines, called from funding_days where holder = $1 and holder_id = any($2)",
};

const OF_LINES: Sources = Sources {
    due: "select currency, due_on, called, paid as paid_in, (called > 0)::int as lines, (paid < called)::int as lines_open,
                 coalesce(funded_on <= due_on, false)::int as lines_on_time, coalesce(funded_on > due_on, false)::int as lines_late,
                 case when funded_on <= due_on then called else 0 end as funded_on_time,
                 case when funded_on > due_on then called else 0 end as funded_late
          from lines where $1 = 'investor' and investor_id = any($2)",
    issued: "select currency, date_trunc('month', issued_on)::date as month, (called > 0)::int as lines, called
             from lines where $1 = 'investor' and investor_id = any($2) and issued_on is not null",
    funding: "select currency, start, date_trunc('month', funded_on)::date as month, funded_on - day as days, 1 as lines, called
              from lines cross join lateral (values ('due', due_on), ('issue', issued_on)) as starts (start, day)
              where $1 = 'investor' and investor_id = any($2) and funded_on is not null and day is not null",
};

impl Asked {
    fn sources(&self) -> Sources {
        if self.kind == "investor" { OF_LINES } else { OF_TOTALS }
    }
}

/// The sums of due dates; as a select list.
const DUE_SUMS: &str = "sum(called) as called, sum(paid_in) as paid_in, sum(lines)::bigint as lines, sum(lines_open)::bigint as lines_open,
                        sum(lines_on_time)::bigint as lines_on_time, sum(lines_late)::bigint as lines_late,
                        sum(funded_on_time) as funded_on_time, sum(funded_late) as funded_late";

fn due_sums(row: &PgRow) -> Result<DueDelta, Error> {
    Ok(DueDelta {
        called: row.number("called")?,
        paid_in: row.number("paid_in")?,
        lines: row.try_get("lines")?,
        lines_open: row.try_get("lines_open")?,
        lines_on_time: row.try_get("lines_on_time")?,
        lines_late: row.try_get("lines_late")?,
        funded_on_time: row.number("funded_on_time")?,
        funded_late: row.number("funded_late")?,
    })
}

fn lines_sums(row: &PgRow) -> Result<LinesDelta, Error> {
    Ok(LinesDelta { lines: row.try_get("lines")?, called: row.number("called")? })
}

/// The business date of a fund, in its time zone; none of a fund that is not known.
pub async fn fund_today(tx: &mut Tx, fund_id: Uuid) -> Result<Option<NaiveDate>, Fault> {
    let now = tx.now();
    let today = sqlx::query_scalar("select ($1::timestamptz at time zone timezone)::date from funds where id = $2")
        .bind(now)
        .bind(fund_id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(today)
}

/// Whether an investor has a commitment or a line.
pub async fn knows_investor(tx: &mut Tx, investor_id: Uuid) -> Result<bool, Fault> {
    let statement = "select exists (select from commitments where investor_id = $1) or exists (select from lines where investor_id = $1)";
    Ok(sqlx::query_scalar(statement).bind(investor_id).fetch_one(&mut **tx).await?)
}

/// The sums of each due date of a period that has lines, by currency and date.
pub async fn due_dates(tx: &mut Tx, asked: &Asked, period: Period) -> Result<Vec<(Currency, (NaiveDate, DueDelta))>, Fault> {
    let statement = format!(
        "select currency, due_on, {DUE_SUMS} from ({}) as due where due_on between $3 and $4
         group by currency, due_on having sum(lines) > 0 order by currency, due_on",
        asked.sources().due
    );
    let rows = sqlx::query(&statement)
        .bind(asked.kind)
        .bind(&asked.ids)
        .bind(period.from)
        .bind(period.to)
        .try_map(|row: PgRow| Ok((row.parsed("currency")?, (row.try_get("due_on")?, due_sums(&row)?))))
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows)
}

/// What is outstanding, and of how many lines, by currency and age: 0 is not past due, n is the nth bucket.
pub async fn ages(tx: &mut Tx, asked: &Asked, as_of: NaiveDate) -> Result<Vec<(Currency, (usize, ::domain::Amount, i64))>, Fault> {
    let statement = format!(
        "select currency, width_bucket($3::date - due_on, $4::int[]) as age, sum(called - paid_in) as outstanding,
                sum(lines_open)::bigint as lines_open
         from ({}) as due group by currency, age order by currency, age",
        asked.sources().due
    );
    let age = |row: &PgRow| row.try_get::<i32, _>("age").map(|age| usize::try_from(age).unwrap_or(0));
    let rows = sqlx::query(&statement)
        .bind(asked.kind)
        .bind(&asked.ids)
        .bind(as_of)
        .bind(AGES.as_slice())
        .try_map(|row: PgRow| Ok((row.parsed("currency")?, (age(&row)?, row.number("outstanding")?, row.try_get("lines_open")?))))
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows)
}

/// The histograms of days to fund, from due dates and from issues.
pub async fn histograms(tx: &mut Tx, asked: &Asked) -> Result<Histograms, Fault> {
    let statement = format!(
        "select start, days, sum(lines)::bigint as lines from ({}) as funding group by start, days having sum(lines) > 0",
        asked.sources().funding
    );
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(&statement).bind(asked.kind).bind(&asked.ids).fetch_all(&mut **tx).await?;
    let of = |start: &str| rows.iter().filter(|(known, ..)| known == start).map(|(_, days, lines)| (*days, *lines)).collect();
    Ok(["due", "issue"].map(of))
}

/// The same of each investor of a fund, by id after one, at most so many; summed here, from few lines.
pub async fn histograms_of_investors(tx: &mut Tx, fund_id: Uuid, after: Uuid, limit: i64) -> Result<Vec<(Uuid, Histograms)>, Fault> {
    let rows: Vec<(Uuid, Option<String>, Option<i32>, i64)> = sqlx::query_as(
        "with page as materialized (
            select distinct investor_id from commitments where fund_id = $1 and investor_id > $2 order by investor_id limit $3
         )
         select page.investor_id, start, days, count(days)
         from page left join lateral (
            select start, funded_on - day as days
            from lines cross join lateral (values ('due', due_on), ('issue', issued_on)) as starts (start, day)
            where lines.investor_id = page.investor_id and lines.fund_id = $1 and funded_on is not null and day is not null
         ) as funding on true
         group by page.investor_id, start, days",
    )
    .bind(fund_id)
    .bind(after)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    let mut investors: BTreeMap<Uuid, Histograms> = BTreeMap::new();
    for (investor_id, start, days, lines) in rows {
        let [due, issue] = investors.entry(investor_id).or_default();
        if let (Some(start), Some(days)) = (start, days) {
            let histogram = if start == Start::Due.name() { due } else { issue };
            histogram.insert(days, lines);
        }
    }
    Ok(investors.into_iter().collect())
}

/// Reads what one statement knows of a month.
type Reader = fn(&PgRow) -> Result<MonthSums, Error>;

/// What is known of each month of a period, in any order.
pub async fn months(tx: &mut Tx, asked: &Asked, period: Period) -> Result<Vec<(Currency, (NaiveDate, MonthSums))>, Fault> {
    let Sources { due, issued, funding } = asked.sources();
    let due = format!(
        "select currency, date_trunc('month', due_on)::date as month, {DUE_SUMS} from ({due}) as due where due_on between $3 and $4
         group by currency, month"
    );
    let issued = format!(
        "select currency, month, sum(lines)::bigint as lines, sum(called) as called from ({issued}) as issued where month between $3 and $4
         group by currency, month"
    );
    let funded = format!(
        "select currency, month, days, sum(lines)::bigint as lines, sum(called) as called from ({funding}) as funding
         where start = 'due' and month between $3 and $4 group by currency, month, days having sum(lines) > 0"
    );
    let of_due = |row: &PgRow| Ok(MonthSums { due: due_sums(row)?, ..MonthSums::default() });
    let of_issued = |row: &PgRow| Ok(MonthSums { issued: lines_sums(row)?, ..MonthSums::default() });
    let of_funded =
        |row: &PgRow| Ok(MonthSums { funded: BTreeMap::from([(row.try_get("days")?, lines_sums(row)?)]), ..MonthSums::default() });
    let readers: [(&str, Reader); 3] = [(&due, of_due), (&issued, of_issued), (&funded, of_funded)];
    let mut months = Vec::new();
    for (statement, read) in readers {
        let rows = sqlx::query(statement)
            .bind(asked.kind)
            .bind(&asked.ids)
            .bind(period.from)
            .bind(period.to)
            .try_map(|row: PgRow| Ok((row.parsed("currency")?, (row.try_get("month")?, read(&row)?))))
            .fetch_all(&mut **tx)
            .await?;
        months.extend(rows);
    }
    Ok(months)
}

#[cfg(test)]
mod tests;
