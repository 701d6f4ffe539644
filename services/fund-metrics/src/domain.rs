//! The arithmetic of the metrics, as functions of differences and sums and nothing else.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::{CallLine, Disposition};
use ::domain::messages::fund_metrics::Figures;
use ::domain::{Amount, Currency};
use chrono::{Datelike, NaiveDate};
use uuid::Uuid;

pub mod analytics;

/// Whose totals they are. The order is the order in which rows are locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// `fund` or `portfolio`.
    pub kind: &'static str,
    /// Id of the fund; nil for the portfolio.
    pub id: Uuid,
    /// Code of the currency.
    pub currency: String,
}

/// By how much totals change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of Figures")]
pub struct Delta {
    pub committed: Amount,
    pub called: Amount,
    pub paid_in: Amount,
    pub impact: Amount,
    pub unapplied: Amount,
    pub allocated: Amount,
    pub commitments: i64,
    pub lines: i64,
    pub lines_paid: i64,
    pub allocations: i64,
}

/// By how much the totals of one due date change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of Collected")]
pub struct DueDelta {
    pub called: Amount,
    pub paid_in: Amount,
    pub lines: i64,
    pub lines_open: i64,
    pub lines_on_time: i64,
    pub lines_late: i64,
    pub funded_on_time: Amount,
    pub funded_late: Amount,
}

/// By how much a number of lines and what they call change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinesDelta {
    /// Number of lines.
    pub lines: i64,
    /// Called by them.
    pub called: Amount,
}

/// What days to fund are counted from. The order is that of the names, and so of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// The due date.
    Due,
    /// The business date of the issue.
    Issue,
}

impl Start {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Start::Due => "due",
            Start::Issue => "issue",
        }
    }
}

/// One place in the histogram of days to fund. Days are whole numbers and few, so that counting the lines of each number keeps the median
/// and every other quantile exact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FundingKey {
    /// Whose lines.
    pub holder: Holder,
    /// What the days are counted from.
    pub start: Start,
    /// First day of the month in which the lines were funded.
    pub month: NaiveDate,
    /// Days until they were funded; below zero when that was before.
    pub days: i32,
}

/// One version of a line, as far as totals go.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are those of CallLine")]
pub struct LineFigures {
    pub due_on: NaiveDate,
    pub called: Amount,
    pub paid: Amount,
    pub impact: Amount,
    pub unapplied: Amount,
    /// None of a line that was kept before issue dates were; it is sent again.
    pub issued_on: Option<NaiveDate>,
    /// See [`funded_on`].
    pub funded_on: Option<NaiveDate>,
}

/// The value date that funded a line: that of what came last, once all is paid. None while something is outstanding, when nothing is
/// called, where its owner does not know the date, and when others paid the rest for an investor who has failed.
pub fn funded_on(line: &CallLine) -> Option<NaiveDate> {
    let is_funded = line.amount.is_positive() && line.paid >= line.amount && line.disposition != Disposition::CoveredByOthers;
    line.last_paid_on.filter(|_| is_funded)
}

/// The first day of a date's month.
pub fn month_of(date: NaiveDate) -> NaiveDate {
    date.with_day(1).unwrap_or(date)
}

impl LineFigures {
    /// What it adds to the totals of its due date; one of which nothing is called any more is none.
    fn due(&self) -> DueDelta {
        let on_time = self.funded_on.is_some_and(|funded_on| funded_on <= self.due_on);
        let late = self.funded_on.is_some() && !on_time;
        let of = |is: bool| if is { self.called } else { Amount::ZERO };
        DueDelta {
            called: self.called,
            paid_in: self.paid,
            lines: i64::from(self.called.is_positive()),
            lines_open: i64::from(self.paid < self.called),
            lines_on_time: i64::from(on_time),
            lines_late: i64::from(late),
            funded_on_time: of(on_time),
            funded_late: of(late),
        }
    }

    /// Its places in the histogram of days to fund; none until it is funded.
    fn funding(&self) -> impl Iterator<Item = (Start, NaiveDate, i32)> + use<> {
        let (due_on, issued_on, funded_on) = (self.due_on, self.issued_on, self.funded_on);
        let starts = [(Start::Due, Some(due_on)), (Start::Issue, issued_on)];
        starts.into_iter().filter_map(move |(start, from)| {
            let (from, funded_on) = (from?, funded_on?);
            let days = funded_on.signed_duration_since(from).num_days();
            Some((start, month_of(funded_on), i32::try_from(days).ok()?))
        })
    }
}

/// All changes of a batch.
#[derive(Debug, Default)]
pub struct Changes {
    /// Totals.
    pub totals: BTreeMap<Holder, Delta>,
    /// Totals of due dates.
    pub due: BTreeMap<(Holder, NaiveDate), DueDelta>,
    /// Lines by the month of their issue.
    pub issued: BTreeMap<(Holder, NaiveDate), LinesDelta>,
    /// The histogram of days to fund.
    pub funding: BTreeMap<FundingKey, LinesDelta>,
}

impl Changes {
    /// The totals that something of a fund counts in.
    fn holders(fund_id: Uuid, currency: &str) -> [Holder; 2] {
        [("fund", fund_id), ("portfolio", Uuid::nil())].map(|(kind, id)| Holder { kind, id, currency: currency.to_owned() })
    }

    /// Adds a difference to all totals concerned.
    pub fn add(&mut self, fund_id: Uuid, currency: &str, delta: Delta) {
        for holder in Self::holders(fund_id, currency) {
            let sum = self.totals.entry(holder).or_default();
            sum.committed += delta.committed;
            sum.called += delta.called;
            sum.paid_in += delta.paid_in;
            sum.impact += delta.impact;
            sum.unapplied += delta.unapplied;
            sum.allocated += delta.allocated;
            sum.commitments += delta.commitments;
            sum.lines += delta.lines;
            sum.lines_paid += delta.lines_paid;
            sum.allocations += delta.allocations;
        }
    }

    /// Replaces one version of a line by a newer one, or takes it out.
    pub fn replace_line(&mut self, fund_id: Uuid, currency: &str, before: Option<LineFigures>, after: Option<LineFigures>) {
        for (line, sign) in before.map(|line| (line, -1)).into_iter().chain(after.map(|line| (line, 1))) {
            let signed = |amount: Amount| if sign < 0 { -amount } else { amount };
            let of_due = line.due();
            let lines = LinesDelta { lines: sign * of_due.lines, called: signed(line.called) };
            let delta = Delta {
                called: signed(line.called),
                paid_in: signed(line.paid),
                impact: signed(line.impact),
                unapplied: signed(line.unapplied),
                lines: sign * of_due.lines,
                lines_paid: sign * (of_due.lines - of_due.lines_open),
                ..Delta::default()
            };
            self.add(fund_id, currency, delta);
            for holder in Self::holders(fund_id, currency) {
                let sum = self.due.entry((holder.clone(), line.due_on)).or_default();
                sum.called += signed(of_due.called);
                sum.paid_in += signed(of_due.paid_in);
                sum.lines += sign * of_due.lines;
                sum.lines_open += sign * of_due.lines_open;
                sum.lines_on_time += sign * of_due.lines_on_time;
                sum.lines_late += sign * of_due.lines_late;
                sum.funded_on_time += signed(of_due.funded_on_time);
                sum.funded_late += signed(of_due.funded_late);
                if let Some(issued_on) = line.issued_on {
                    self.issued.entry((holder.clone(), month_of(issued_on))).or_default().add(lines);
                }
                for (start, month, days) in line.funding() {
                    self.funding.entry(FundingKey { holder: holder.clone(), start, month, days }).or_default().add(lines);
                }
            }
        }
    }
}

impl LinesDelta {
    fn add(&mut self, other: LinesDelta) {
        self.lines += other.lines;
        self.called += other.called;
    }
}

/// What is due by a date.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    /// Outstanding of lines due before the date.
    pub overdue: Amount,
    /// Lines among them that are not paid in full.
    pub lines_overdue: i64,
    /// Called by lines due on or before the date.
    pub called: Amount,
    /// Paid of it.
    pub paid_in: Amount,
}

/// The figures, from totals and what is due. Ratios without a base are none.
pub fn figures(currency: Currency, sums: &Delta, due: Due) -> Figures {
    let exact = |amount: Amount| amount + currency.zero();
    Figures {
        committed: exact(sums.committed),
        called: exact(sums.called),
        paid_in: exact(sums.paid_in),
        outstanding: exact(sums.called - sums.paid_in),
        overdue: exact(due.overdue),
        unfunded: exact(sums.committed + sums.impact),
        unapplied: exact(sums.unapplied),
        allocated: exact(sums.allocated),
        called_pct: sums.called.percent(sums.committed),
        collection_rate: due.paid_in.ratio(due.called),
        pic: sums.paid_in.is_positive().then(|| sums.paid_in.ratio(sums.committed)).flatten(),
        commitments: sums.commitments,
        lines: sums.lines,
        lines_paid: sums.lines_paid,
        lines_overdue: due.lines_overdue,
        allocations: sums.allocations,
    }
}

#[cfg(test)]
mod tests;
