//! What becomes of lines and their payments when their call is changed or taken back.

use ::domain::Amount;
use ::domain::messages::capital_calls::{CallLine, Disposition, LinePreview, LinePurpose, Payment};
use chrono::NaiveDate;

use super::{derive_line, payment_status};

/// By how much a line changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// What is called.
    pub amount: Amount,
    /// What it does to the unfunded commitment.
    pub impact_on_unfunded: Amount,
    /// Cash that is applied; below zero it became credit of the investor, above zero credit was used.
    pub paid: Amount,
}

/// What a line shall be.
struct Target {
    amount: Amount,
    impact_on_unfunded: Amount,
    purposes: Vec<LinePurpose>,
}

impl Target {
    /// Nothing is called.
    fn nothing(line: &CallLine) -> Target {
        Target { amount: line.currency.zero(), impact_on_unfunded: line.currency.zero(), purposes: vec![] }
    }

    /// Moves a line there. What is paid above the new amount becomes credit; credit pays what is called in addition.
    fn put(self, line: &mut CallLine, today: NaiveDate) -> Moved {
        let before = (line.amount, line.impact_on_unfunded, line.paid);
        let gone = line.purposes.iter().filter(|old| !self.purposes.iter().any(|new| is_same(old, new)));
        // a purpose that is gone stays with nothing, so that whoever adds up by purpose sees it go
        let gone: Vec<LinePurpose> = gone.map(|old| LinePurpose { amount: line.currency.zero(), ..old.clone() }).collect();
        line.purposes = self.purposes.into_iter().chain(gone).collect();
        (line.amount, line.impact_on_unfunded) = (self.amount, self.impact_on_unfunded);
        let cash = line.paid + line.unapplied;
        line.paid = cash.min(line.amount);
        line.unapplied = cash - line.paid;
        line.version += 1;
        derive_line(line, today);
        Moved { amount: line.amount - before.0, impact_on_unfunded: line.impact_on_unfunded - before.1, paid: line.paid - before.2 }
    }
}

fn is_same(one: &LinePurpose, other: &LinePurpose) -> bool {
    (one.kind, one.allocation_id) == (other.kind, other.allocation_id)
}

/// The purposes of a line with those of one kind and allocation joined.
fn joined(purposes: &[LinePurpose]) -> Vec<LinePurpose> {
    let mut all: Vec<LinePurpose> = Vec::with_capacity(purposes.len());
    for purpose in purposes {
        match all.iter_mut().find(|other| is_same(other, purpose)) {
            Some(other) => other.amount += purpose.amount,
            None => all.push(purpose.clone()),
        }
    }
    all
}

/// Amends a line to what it would be if the call were issued now as it says; without a preview nothing is called of the investor
/// any more. Returns none, and leaves the line alone, when nothing about it changes.
pub fn amend_line(line: &mut CallLine, to: Option<&LinePreview>, due_on: NaiveDate, amendment: i32, today: NaiveDate) -> Option<Moved> {
    let target = match to {
        Some(preview) => {
            Target { amount: preview.amount, impact_on_unfunded: preview.impact_on_unfunded, purposes: joined(&preview.purposes) }
        }
        None => Target::nothing(line),
    };
    let called = |purposes: &[LinePurpose]| {
        let mut called: Vec<_> = joined(purposes).into_iter().filter(|part| part.amount != line.currency.zero()).collect();
        called.sort_by_key(|part| (format!("{:?}", part.kind), part.allocation_id));
        called.into_iter().map(|part| (part.kind, part.allocation_id, part.amount)).collect::<Vec<_>>()
    };
    let same = (line.amount, line.impact_on_unfunded, line.due_on) == (target.amount, target.impact_on_unfunded, due_on);
    if same && called(&line.purposes) == called(&target.purposes) {
        return None;
    }
    line.due_on = due_on;
    line.amendment = amendment;
    line.disposition = if to.is_none() { Disposition::Excused } else { Disposition::None };
    Some(target.put(line, today))
}

/// Takes a line back: nothing is called any more, and what was paid is credit.
pub fn rescind_line(line: &mut CallLine, today: NaiveDate) -> Moved {
    line.disposition = Disposition::Rescinded;
    Target::nothing(line).put(line, today)
}

/// Applies credit of a line's payments to what is outstanding, or makes credit of what is applied, so that together they apply by
/// `change` more: credit of the oldest payment is used first, and the newest payment becomes credit first. Returns the places of
/// those that changed. The payments are in the order in which they were recorded, and none is reversed.
pub fn reapply(payments: &mut [Payment], change: Amount) -> Vec<usize> {
    let mut left = change;
    let mut changed = Vec::new();
    let order: Vec<usize> = if change.is_positive() { (0..payments.len()).collect() } else { (0..payments.len()).rev().collect() };
    for place in order {
        let payment = &mut payments[place];
        let part = if left.is_positive() { left.min(payment.unapplied) } else { -(-left).min(payment.applied) };
        if part == Amount::ZERO {
            continue;
        }
        payment.applied += part;
        payment.unapplied = payment.amount - payment.applied;
        payment.version += 1;
        payment.status = payment_status(payment);
        left -= part;
        changed.push(place);
    }
    changed
}
