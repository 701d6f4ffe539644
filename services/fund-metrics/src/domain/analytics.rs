//! The analytics of capital calls, from sums by day and month: which days are asked for, cohorts, buckets, quantiles, trends.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ::domain::calendar::plausible_date;
use ::domain::messages::fund_metrics::{
    AgeBucket, Collected, CurrencyAgeing, CurrencyCollections, CurrencyTrend, Days, DaysToFund, DueCohort, MonthCohort, MonthTrend,
};
use ::domain::{Amount, Currency, Reason, Rejection};
use chrono::{Months, NaiveDate};
use rust_decimal::Decimal;

use super::{DueDelta, LinesDelta, month_of};

/// Most days of due dates in one answer: a year. Ten currencies of one are well below the megabyte that a NATS message may have.
pub const COHORT_DAYS_MAX: i64 = 366;
/// Months in an answer where none are asked for: a year.
const MONTHS: u16 = 12;
/// Most months of a trend: ten years, the life of a fund.
const MONTHS_MAX: u16 = 120;
/// Where the age buckets begin, in days past due.
pub const AGES: [i32; 5] = [1, 8, 16, 31, 61];

/// Numbers of lines by the days that they took to be funded: from their due dates, and from their issues.
pub type Histograms = [BTreeMap<i32, i64>; 2];

/// Days from a first to a last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first.
    pub from: NaiveDate,
    /// The last.
    pub to: NaiveDate,
    /// The business date that the figures are for.
    pub as_of: NaiveDate,
}

/// The day that is asked for, or today.
pub fn day(as_of: Option<NaiveDate>, today: NaiveDate) -> Result<NaiveDate, Rejection> {
    let as_of = as_of.unwrap_or(today);
    plausible_date("as_of", as_of).map(|()| as_of)
}

fn months_before(date: NaiveDate, months: u16) -> NaiveDate {
    month_of(date).checked_sub_months(Months::new(u32::from(months))).unwrap_or(date)
}

/// The due dates that are asked for: a year to `as_of`, unless said otherwise.
pub fn period(from: Option<NaiveDate>, to: Option<NaiveDate>, as_of: Option<NaiveDate>, today: NaiveDate) -> Result<Period, Rejection> {
    let as_of = day(as_of, today)?;
    let last = to.unwrap_or(as_of);
    plausible_date("to", last)?;
    let from = from.unwrap_or_else(|| months_before(last, MONTHS - 1));
    plausible_date("from", from)?;
    if last < from || (last - from).num_days() >= COHORT_DAYS_MAX {
        return Err(Reason::ImplausibleDate.with(format!("from {from} to {last} are not 1 to {COHORT_DAYS_MAX} days")));
    }
    Ok(Period { from, to: last.min(as_of), as_of })
}

/// The months that are asked for: the days from the first of the first to `as_of`.
pub fn months(months: Option<u16>, as_of: Option<NaiveDate>, today: NaiveDate) -> Result<Period, Rejection> {
    let as_of = day(as_of, today)?;
    let months = months.unwrap_or(MONTHS);
    if !(1..=MONTHS_MAX).contains(&months) {
        return Err(Reason::MalformedRequest.with(format!("months {months} is not between 1 and {MONTHS_MAX}")));
    }
    Ok(Period { from: months_before(as_of, months - 1), to: as_of, as_of })
}

fn count(number: i64) -> Amount {
    Amount::from_decimal(Decimal::from(number))
}

/// What became of lines. `collection_rate` is `paid_in / called`, by count it is lines paid in full by lines.
fn collected(currency: Currency, sums: &DueDelta) -> Collected {
    let exact = |amount: Amount| amount + currency.zero();
    let lines_paid = sums.lines - sums.lines_open;
    Collected {
        called: exact(sums.called),
        paid_in: exact(sums.paid_in),
        outstanding: exact(sums.called - sums.paid_in),
        collection_rate: sums.paid_in.ratio(sums.called),
        lines: sums.lines,
        lines_paid,
        collection_rate_by_count: count(lines_paid).ratio(count(sums.lines)),
        lines_on_time: sums.lines_on_time,
        lines_late: sums.lines_late,
        funded_on_time: exact(sums.funded_on_time),
        funded_late: exact(sums.funded_late),
    }
}

impl DueDelta {
    fn plus(mut self, other: &DueDelta) -> DueDelta {
        self.called += other.called;
        self.paid_in += other.paid_in;
        self.lines += other.lines;
        self.lines_open += other.lines_open;
        self.lines_on_time += other.lines_on_time;
        self.lines_late += other.lines_late;
        self.funded_on_time += other.funded_on_time;
        self.funded_late += other.funded_late;
        self
    }
}

/// Rows of each currency, in the order of their codes.
fn by_currency<T>(rows: Vec<(Currency, T)>) -> Vec<(Currency, Vec<T>)> {
    let mut grouped: BTreeMap<&'static str, (Currency, Vec<T>)> = BTreeMap::new();
    for (currency, row) in rows {
        grouped.entry(currency.code()).or_insert_with(|| (currency, Vec::new())).1.push(row);
    }
    grouped.into_values().collect()
}

/// The collections of a period, from the sums of its due dates.
pub fn collections(period: Period, rows: Vec<(Currency, (NaiveDate, DueDelta))>) -> Vec<CurrencyCollections> {
    let of_currency = |(currency, dates): (Currency, Vec<(NaiveDate, DueDelta)>)| {
        let mut months: BTreeMap<NaiveDate, DueDelta> = BTreeMap::new();
        for (due_on, sums) in &dates {
            let month = months.entry(month_of(*due_on)).or_default();
            *month = month.plus(sums);
        }
        let total = months.values().fold(DueDelta::default(), DueDelta::plus);
        CurrencyCollections {
            currency,
            from: period.from,
            to: period.to,
            as_of: period.as_of,
            total: collected(currency, &total),
            months: months.into_iter().map(|(month, sums)| MonthCohort { month, collected: collected(currency, &sums) }).collect(),
            due_dates: dates.iter().map(|(due_on, sums)| DueCohort { due_on: *due_on, collected: collected(currency, sums) }).collect(),
        }
    };
    by_currency(rows).into_iter().map(of_currency).collect()
}

/// What is outstanding by age, from its sums: of age 0 is what is not past due, of age n what belongs into the bucket that begins with the
/// nth of [`AGES`].
pub fn ageing(as_of: NaiveDate, rows: Vec<(Currency, (usize, Amount, i64))>) -> Vec<CurrencyAgeing> {
    let of_currency = |(currency, ages): (Currency, Vec<(usize, Amount, i64)>)| {
        let sum = |wanted: RangeInclusive<usize>| {
            let counted = ages.iter().filter(|(age, ..)| wanted.contains(age));
            counted.fold((currency.zero(), 0), |(outstanding, lines), (_, amount, number)| (outstanding + *amount, lines + number))
        };
        let bucket = |(place, days_from): (usize, &i32)| {
            let (outstanding, lines) = sum(place + 1..=place + 1);
            AgeBucket { days_from: *days_from, days_to: AGES.get(place + 1).map(|next| next - 1), outstanding, lines }
        };
        let ((not_overdue, lines_not_overdue), (overdue, lines_overdue)) = (sum(0..=0), sum(1..=AGES.len()));
        let buckets = AGES.iter().enumerate().map(bucket).collect();
        CurrencyAgeing { currency, as_of, not_overdue, lines_not_overdue, overdue, lines_overdue, buckets }
    };
    by_currency(rows).into_iter().map(of_currency).collect()
}

/// Quantiles of a histogram, exact, by nearest rank (Hyndman and Fan 1996, definition 1): of n lines the one at place `ceil(n * part)` in
/// the order of their days.
pub fn days(histogram: &BTreeMap<i32, i64>) -> Days {
    let lines: i64 = histogram.values().sum();
    let quantile = |tenths: i64| {
        let rank = (lines * tenths + 9) / 10;
        let reaches = |counted: &mut i64, (days, number): (&i32, &i64)| {
            *counted += number;
            Some((*days, *counted))
        };
        histogram.iter().scan(0, reaches).find(|(_, counted)| lines > 0 && *counted >= rank).map(|(days, _)| days)
    };
    let sum = histogram.iter().map(|(days, number)| i64::from(*days) * number).sum();
    Days { lines, median: quantile(5), p90: quantile(9), average: count(sum).ratio(count(lines)) }
}

/// Days to fund, from the histograms of those from due dates and from issues.
pub fn days_to_fund([due, issue]: &Histograms) -> DaysToFund {
    DaysToFund { from_due: days(due), from_issue: days(issue) }
}

/// What is known of one month.
#[derive(Clone, Debug, Default)]
pub struct MonthSums {
    /// Lines issued in it.
    pub issued: LinesDelta,
    /// Lines due in it.
    pub due: DueDelta,
    /// Lines funded in it, by the days that they took from their due dates.
    pub funded: BTreeMap<i32, LinesDelta>,
}

/// The trend over the months of a period.
pub fn trends(period: Period, rows: Vec<(Currency, (NaiveDate, MonthSums))>) -> Vec<CurrencyTrend> {
    let of_currency = |(currency, known): (Currency, Vec<(NaiveDate, MonthSums)>)| {
        let mut sums: BTreeMap<NaiveDate, MonthSums> = BTreeMap::new();
        for (month, one) in known {
            let sum = sums.entry(month).or_default();
            sum.issued.add(one.issued);
            sum.due = sum.due.plus(&one.due);
            for (days, lines) in one.funded {
                sum.funded.entry(days).or_default().add(lines);
            }
        }
        let next = |month: &NaiveDate| month.checked_add_months(Months::new(1));
        let months = std::iter::successors(Some(period.from), next).take_while(|month| *month <= period.to);
        let of_month = |month| month_trend(currency, month, &sums.remove(&month).unwrap_or_default());
        CurrencyTrend { currency, as_of: period.as_of, months: months.map(of_month).collect() }
    };
    by_currency(rows).into_iter().map(of_currency).collect()
}

fn month_trend(currency: Currency, month: NaiveDate, sums: &MonthSums) -> MonthTrend {
    MonthTrend {
        month,
        issued: sums.issued.called + currency.zero(),
        lines_issued: sums.issued.lines,
        collected: collected(currency, &sums.due),
        funded: sums.funded.values().map(|lines| lines.called).sum::<Amount>() + currency.zero(),
        days_to_fund: days(&sums.funded.iter().map(|(days, lines)| (*days, lines.lines)).collect()),
    }
}

#[cfg(test)]
mod tests;
