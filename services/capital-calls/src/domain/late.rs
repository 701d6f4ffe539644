//! Lines that are paid late: interest, cure, and where they stand on a date. Everything goes by value date, so that cash that is
//! recorded late with an early value date corrects what is derived, and cash that was taken back never came.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::{CallLine, LineStanding, LineTiming, OutstandingFrom, Payment};
use ::domain::rules::{DefaultInterest, Rules};
use ::domain::{Amount, Reason, Rejection, interest};
use chrono::{Days, NaiveDate};

use super::{derive_line, payment_status, time_of};

/// What a line is issued with, by the rules of then.
#[derive(Clone, Copy, Debug)]
pub struct LineTerms {
    /// Days after the due date before it is overdue.
    pub grace_days: i32,
    /// Interest when it is paid late.
    pub default_interest: Option<DefaultInterest>,
}

impl LineTerms {
    /// Those of the rules.
    pub fn of(rules: &Rules) -> LineTerms {
        let bears_interest = !rules.default_interest.percent.0.is_zero();
        LineTerms { grace_days: i32::from(rules.grace_days), default_interest: bears_interest.then_some(rules.default_interest) }
    }
}

/// The last day of grace.
pub fn grace_ends(line: &CallLine) -> NaiveDate {
    line.due_on + Days::new(u64::try_from(line.grace_days).unwrap_or_default())
}

/// Whether what cash does depends on all other payments of the line, of which the latest came on `last_paid_on`: it pays before cash that
/// came after it, what was short may be so no more, interest may be due, or a failure cured.
pub fn depends_on_history(line: &CallLine, last_paid_on: Option<NaiveDate>, value_on: NaiveDate) -> bool {
    let back_dated = last_paid_on.is_some_and(|date| date > value_on);
    let late = last_paid_on.max(Some(value_on)) > Some(line.due_on);
    back_dated
        || line.charges.is_positive()
        || line.failure_notice.is_some()
        || line.interest_paid.is_positive()
        || (line.default_interest.is_some() && late)
}

/// Cash that pays principal, by value date.
fn paid_by_date(payments: &[Payment]) -> BTreeMap<NaiveDate, Amount> {
    let mut by_date: BTreeMap<NaiveDate, Amount> = BTreeMap::new();
    for payment in payments.iter().filter(|payment| payment.reversal.is_none() && payment.applied.is_positive()) {
        *by_date.entry(payment.received_on).or_default() += payment.applied;
    }
    by_date
}

/// Cash of a line that pays nothing of it, by value date; also what has gone on or back since.
fn left_by_date(payments: &[Payment]) -> BTreeMap<NaiveDate, Amount> {
    let mut by_date: BTreeMap<NaiveDate, Amount> = BTreeMap::new();
    for payment in payments.iter().filter(|payment| payment.reversal.is_none() && !payment.suspended.is_positive()) {
        *by_date.entry(payment.received_on).or_default() += payment.amount + payment.charges - payment.applied;
    }
    by_date
}

/// What others took over, by when it was there to be paid: when cash came that would have paid it, else when they took it over.
fn covered_by_date(line: &CallLine, payments: &[Payment]) -> Vec<(NaiveDate, Amount)> {
    let mut left = left_by_date(payments);
    let mut covered = Vec::with_capacity(line.covered.len());
    for part in &line.covered {
        let mut open = part.amount;
        for (value_on, cash) in left.range_mut(..part.on) {
            let taken = open.min(*cash);
            (open, *cash) = (open - taken, *cash - taken);
            covered.push((*value_on, taken));
        }
        covered.push((part.on, open));
    }
    covered
}

/// Interest that has accrued by the end of a date: simple, on principal, actual/365, from the due date on; rounded once, capped. It runs
/// to the value date of what pays the principal, for what others took over to the date of [`covered_by_date`], and for the rest to the
/// date.
pub fn accrued(line: &CallLine, payments: &[Payment], as_of: NaiveDate) -> Amount {
    let zero = line.currency.zero();
    let Some(terms) = line.default_interest else { return zero };
    let free_until = if terms.free_in_grace { grace_ends(line) } else { line.due_on };
    let units = |amount: Amount, until: NaiveDate| {
        let days = if until > free_until { interest::days(line.due_on, until) } else { 0 };
        amount.minor(line.currency) * i128::from(days)
    };
    let paid = paid_by_date(payments);
    let outstanding = line.amount - paid.values().copied().sum();
    let of_paid: i128 = paid.iter().map(|(value_on, amount)| units(*amount, as_of.min(*value_on))).sum();
    let of_covered: i128 = covered_by_date(line, payments).into_iter().map(|(until, amount)| units(amount, as_of.min(until))).sum();
    let unit_days = of_paid + of_covered + units(outstanding, as_of);
    let called = line.amount + line.covered.iter().map(|part| part.amount).sum();
    let cap = interest::share(called, terms.cap_percent, line.currency);
    interest::simple(line.currency.from_minor(unit_days), terms.percent, 1, line.currency).min(cap)
}

/// Has all cash of a line pay again by its value dates, principal before interest: what is called first, then the interest that accrued
/// until that was paid in full, the rest is credit. Writes whether a failure was cured. The payments are all that count for the line, in
/// any order. Bank charges count while all of the cash is short by no more; they are those of the payment that came last. Returns the
/// places of those that changed.
pub fn pay_anew(line: &mut CallLine, payments: &mut [Payment], today: NaiveDate) -> Vec<usize> {
    pay_anew_within(line, payments, Amount::ZERO, today)
}

/// The same, where what is short by no more than a tolerance counts as paid, too: after cash went away the line stands as if that had
/// never come.
pub fn pay_anew_within(line: &mut CallLine, payments: &mut [Payment], tolerance: Amount, today: NaiveDate) -> Vec<usize> {
    let parts = |payment: &Payment| (payment.applied, payment.interest, payment.unapplied, payment.charges);
    let before: Vec<(Amount, Amount, Amount, Amount)> = payments.iter().map(parts).collect();
    let zero = line.currency.zero();
    let mut by_value_date: Vec<usize> = (0..payments.len()).filter(|place| !payments[*place].suspended.is_positive()).collect();
    by_value_date.sort_by_key(|place| (payments[*place].received_on, payments[*place].id));
    let cash_of = |payment: &Payment| payment.applied + payment.interest + payment.unapplied - payment.charges;
    let short = line.amount - by_value_date.iter().map(|place| cash_of(&payments[*place])).sum();
    let last = by_value_date.iter().rfind(|place| cash_of(&payments[**place]).is_positive()).copied();
    let counts_as_paid = last.is_some() && short.is_positive() && short <= line.charges.max(tolerance);
    line.charges = if counts_as_paid { short } else { zero };
    // charges count as paid, and never become credit
    let mut left = line.amount - line.charges;
    (line.paid, line.interest_paid, line.unapplied) = (line.charges, zero, zero);
    for place in &by_value_date {
        let payment = &mut payments[*place];
        let cash = cash_of(payment);
        let part = cash.min(left);
        payment.charges = if Some(*place) == last { line.charges } else { zero };
        (payment.applied, payment.interest, payment.unapplied) = (payment.charges + part, zero, cash - part);
        line.paid += part;
        line.unapplied += cash - part;
        left -= part;
    }
    let last_paid_on = paid_by_date(payments).last_key_value().map(|(value_on, _)| *value_on);
    let last_covered_on = line.covered.iter().map(|part| part.on).max();
    let paid_in_full = last_paid_on.max(last_covered_on).filter(|_| line.paid >= line.amount);
    let mut interest = paid_in_full.map_or(zero, |date| accrued(line, payments, date));
    let mut settled_on = paid_in_full;
    for place in by_value_date {
        let payment = &mut payments[place];
        let part = interest.min(payment.unapplied);
        if part.is_positive() {
            payment.interest += part;
            payment.unapplied -= part;
            line.interest_paid += part;
            line.unapplied -= part;
            interest -= part;
            settled_on = settled_on.max(Some(payment.received_on));
        }
    }
    line.last_paid_on = last_paid_on;
    let in_time = |date: &NaiveDate| line.failure_notice.as_ref().is_some_and(|notice| *date <= notice.cure_by);
    line.interest_due = interest;
    line.cured_on = settled_on.filter(|_| !interest.is_positive()).filter(in_time);
    derive_line(line, today);
    let mut changed = Vec::new();
    for (place, (payment, before)) in payments.iter_mut().zip(before).enumerate() {
        if parts(payment) != before {
            payment.version += 1;
            changed.push(place);
        }
        payment.status = payment_status(payment);
    }
    changed
}

/// Where a line stands at the end of a date.
pub fn standing(line: &CallLine, payments: &[Payment], as_of: NaiveDate) -> LineStanding {
    let paid: Amount = paid_by_date(payments).range(..=as_of).map(|(_, amount)| *amount).sum();
    let zero = line.currency.zero();
    let outstanding = line.amount - paid + zero;
    let accrued = accrued(line, payments, as_of);
    let paid_by_then = payments.iter().filter(|payment| payment.reversal.is_none() && payment.received_on <= as_of);
    let interest_paid = paid_by_then.map(|payment| payment.interest).sum::<Amount>() + zero;
    let mut then = line.clone();
    then.outstanding = outstanding;
    then.interest_due = accrued - interest_paid;
    then.failure_notice = then.failure_notice.filter(|notice| notice.noticed_on <= as_of);
    then.default = then.default.filter(|default| default.declared_on <= as_of);
    then.cured_on = then.cured_on.filter(|date| *date <= as_of);
    LineStanding {
        as_of,
        outstanding,
        timing: time_of(&then, as_of),
        days_overdue: if outstanding.is_positive() { interest::days(line.due_on, as_of) } else { 0 },
        interest_accrued: accrued,
        interest_outstanding: accrued - interest_paid,
    }
}

/// What was outstanding from the due date on, up to a date.
pub fn overdue_history(line: &CallLine, payments: &[Payment], as_of: NaiveDate) -> Vec<OutstandingFrom> {
    if as_of < line.due_on {
        return vec![];
    }
    let mut outstanding = line.amount;
    let mut history = vec![OutstandingFrom { from: line.due_on, outstanding }];
    for (value_on, amount) in paid_by_date(payments).into_iter().take_while(|(value_on, _)| *value_on <= as_of) {
        outstanding -= amount;
        match history.last_mut() {
            Some(last) if value_on <= line.due_on => last.outstanding = outstanding,
            _ => history.push(OutstandingFrom { from: value_on, outstanding }),
        }
    }
    history
}

/// Refuses a failure notice for a line that is not past due and grace, or that has one.
pub fn check_failure(line: &CallLine, today: NaiveDate) -> Result<(), Rejection> {
    if let Some(notice) = &line.failure_notice {
        return Err(Reason::FailureNoticed.with(format!("call line {} since {}, cure by {}", line.id, notice.noticed_on, notice.cure_by)));
    }
    match line.timing {
        LineTiming::Overdue => Ok(()),
        LineTiming::Settled => Err(Reason::NothingOutstanding.with(format!("call line {}", line.id))),
        _ => Err(Reason::NotOverdue.with(format!(
            "call line {} is due on {}, grace ends on {}, today is {today}",
            line.id,
            line.due_on,
            grace_ends(line)
        ))),
    }
}

/// Refuses a declaration of default before the time for a cure is over, twice, or where everything is paid.
pub fn check_default(line: &CallLine, interest_outstanding: Amount, today: NaiveDate) -> Result<(), Rejection> {
    if let Some(default) = &line.default {
        return Err(Reason::AlreadyInDefault.with(format!("call line {} since {}", line.id, default.declared_on)));
    }
    match &line.failure_notice {
        None => Err(Reason::CureTimeRuns.with(format!("call line {} has no failure notice", line.id))),
        Some(notice) if today <= notice.cure_by => {
            Err(Reason::CureTimeRuns.with(format!("call line {} can be cured until {}, today is {today}", line.id, notice.cure_by)))
        }
        Some(_) if line.cured_on.is_some() || !(line.outstanding.is_positive() || interest_outstanding.is_positive()) => {
            Err(Reason::NothingOutstanding.with(format!("call line {}", line.id)))
        }
        Some(_) => Ok(()),
    }
}
