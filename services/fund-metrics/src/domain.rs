//! The arithmetic of the metrics, as functions of differences and sums and nothing else.

use std::collections::BTreeMap;

use ::domain::messages::fund_metrics::Figures;
use ::domain::{Amount, Currency};
use chrono::NaiveDate;
use uuid::Uuid;

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
#[allow(missing_docs, reason = "the fields are those of Figures")]
pub struct DueDelta {
    pub called: Amount,
    pub paid_in: Amount,
    pub lines_open: i64,
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
}

/// All changes of a batch.
#[derive(Debug, Default)]
pub struct Changes {
    /// Totals.
    pub totals: BTreeMap<Holder, Delta>,
    /// Totals of due dates.
    pub due: BTreeMap<(Holder, NaiveDate), DueDelta>,
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
            // one of which nothing is called any more is none
            let is_line = i64::from(line.called.is_positive());
            let open = i64::from(line.paid < line.called);
            let delta = Delta {
                called: signed(line.called),
                paid_in: signed(line.paid),
                impact: signed(line.impact),
                unapplied: signed(line.unapplied),
                lines: sign * is_line,
                lines_paid: sign * (is_line - open),
                ..Delta::default()
            };
            self.add(fund_id, currency, delta);
            for holder in Self::holders(fund_id, currency) {
                let sum = self.due.entry((holder, line.due_on)).or_default();
                sum.called += signed(line.called);
                sum.paid_in += signed(line.paid);
                sum.lines_open += sign * open;
            }
        }
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
