//! What becomes of lines and their payments when their call is changed or taken back.

use std::collections::BTreeMap;

use ::domain::Amount;
use ::domain::messages::capital_calls::{CallLine, CapitalCall, CoveredPart, Disposition, LinePreview, LinePurpose, Purpose};
use chrono::NaiveDate;
use uuid::Uuid;

use super::{Cover, content_hash, derive_line, put_content};

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
        // charges count as paid, but never become credit: those that are not needed any more count no more
        let cash = line.paid + line.unapplied - line.charges;
        line.charges = line.charges.min((line.amount - cash).max(line.currency.zero()));
        line.paid = (cash + line.charges).min(line.amount);
        line.unapplied = cash + line.charges - line.paid;
        line.version += 1;
        derive_line(line, today);
        Moved { amount: line.amount - before.0, impact_on_unfunded: line.impact_on_unfunded - before.1, paid: line.paid - before.2 }
    }
}

fn is_same(one: &LinePurpose, other: &LinePurpose) -> bool {
    (one.kind, one.allocation_id, one.inside_commitment) == (other.kind, other.allocation_id, other.inside_commitment)
}

/// The purposes of a line with those that are the same joined.
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

/// The lines of a call by their investors, oldest first. One has several where it promised more at a later closing.
pub fn by_investor(lines: &[CallLine]) -> BTreeMap<Uuid, Vec<&CallLine>> {
    let mut of_investor: BTreeMap<Uuid, Vec<&CallLine>> = BTreeMap::new();
    for line in lines {
        of_investor.entry(line.investor_id).or_default().push(line);
    }
    for lines in of_investor.values_mut() {
        lines.sort_by_key(|line| line.id);
    }
    of_investor
}

/// Divides what an investor is called over its lines of the call, oldest first: each keeps what it asks for as far as that is still
/// called, and the newest takes the difference. Nothing is left of any when the investor is not called any more.
pub fn divide(preview: Option<&LinePreview>, lines: &[&CallLine]) -> Vec<Option<LinePreview>> {
    let (Some(preview), Some((newest, older))) = (preview, lines.split_last()) else { return vec![None; lines.len()] };
    let zero = newest.currency.zero();
    let (mut parts, rest) = kept(preview, older, zero);
    parts.push(rest);
    if parts.iter().any(|part| part.amount < zero) {
        // a return is more than what is left for a line: the oldest takes it all
        let nothing = LinePreview { amount: zero, impact_on_unfunded: zero, purposes: vec![], ..preview.clone() };
        parts = vec![nothing; lines.len()];
        parts[0] = preview.clone();
    }
    parts.into_iter().map(Some).collect()
}

/// The same where a line is added for what an investor owes in addition: the others keep what they ask for. None where that cannot be.
pub fn divide_with_new(preview: &LinePreview, lines: &[&CallLine]) -> Option<(Vec<Option<LinePreview>>, LinePreview)> {
    let zero = lines.first()?.currency.zero();
    let (parts, rest) = kept(preview, lines, zero);
    let is_sound = rest.amount.is_positive() && parts.iter().all(|part| part.amount >= zero);
    is_sound.then(|| (parts.into_iter().map(Some).collect(), rest))
}

/// What lines keep of what is called, and the rest.
fn kept(preview: &LinePreview, lines: &[&CallLine], zero: Amount) -> (Vec<LinePreview>, LinePreview) {
    let mut rest = LinePreview { purposes: joined(&preview.purposes), shares: vec![], ..preview.clone() };
    let mut parts = Vec::with_capacity(lines.len());
    for line in lines {
        let mut purposes = Vec::new();
        for asked in joined(&line.purposes) {
            let for_the_same = |called: &LinePurpose| (called.kind, called.allocation_id) == (asked.kind, asked.allocation_id);
            // one that is inside the commitments now, or is so no more, is the same cash
            let place = rest.purposes.iter().position(|called| is_same(called, &asked));
            let Some(place) = place.or_else(|| rest.purposes.iter().position(for_the_same)) else { continue };
            let called = &mut rest.purposes[place];
            // a return is below zero
            let keeps = if asked.amount < Amount::ZERO {
                asked.amount.max(called.amount).min(zero)
            } else {
                asked.amount.min(called.amount).max(zero)
            };
            called.amount -= keeps;
            purposes.push(LinePurpose { amount: keeps, ..called.clone() });
        }
        let amount = purposes.iter().map(|part| part.amount).sum::<Amount>() + zero;
        let impact_on_unfunded = purposes.iter().map(LinePurpose::impact_on_unfunded).sum::<Amount>() + zero;
        rest.amount -= amount;
        rest.impact_on_unfunded -= impact_on_unfunded;
        parts.push(LinePreview { amount, impact_on_unfunded, purposes, shares: vec![], ..preview.clone() });
    }
    rest.purposes.retain(|part| part.amount != zero);
    (parts, rest)
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
        called.sort_by_key(|part| (format!("{:?}", part.kind), part.allocation_id, part.inside_commitment));
        called.into_iter().map(|part| (part.kind, part.allocation_id, part.inside_commitment, part.amount)).collect::<Vec<_>>()
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

/// Takes what others pay off a line.
pub fn cover_line(line: &mut CallLine, cover: &Cover, today: NaiveDate) -> Moved {
    line.disposition = Disposition::CoveredByOthers;
    line.covered.push(CoveredPart { on: today, amount: cover.amount });
    let mut purposes = line.purposes.clone();
    for covered in &cover.purposes {
        let mut left = covered.amount;
        // several of one kind: what is open of each, in their order
        for part in purposes.iter_mut().filter(|part| is_same(part, covered)) {
            let taken = left.min((part.amount - part.paid).max(line.currency.zero()));
            part.amount -= taken;
            left -= taken;
        }
    }
    let target = Target { amount: line.amount - cover.amount, impact_on_unfunded: line.impact_on_unfunded + cover.inside, purposes };
    target.put(line, today)
}

/// Takes what others pay, by a call of its own, off the call.
pub fn cover_call(call: &mut CapitalCall, cover: &Cover) {
    let mut content = call.content();
    for part in &cover.purposes {
        let mut left = part.amount;
        let same = |purpose: &&mut Purpose| {
            (purpose.kind, purpose.allocation_id, purpose.inside_commitment) == (part.kind, part.allocation_id, part.inside_commitment)
        };
        for purpose in content.purposes.iter_mut().filter(same) {
            let taken = left.min(purpose.amount);
            purpose.amount -= taken;
            left -= taken;
        }
    }
    content.purposes.retain(|purpose| purpose.amount.is_positive());
    content.amount -= cover.amount;
    content.content_hash = content_hash(call.fund_id, &content);
    put_content(call, content);
}

/// Takes a line back: nothing is called any more, and what was paid is credit.
pub fn rescind_line(line: &mut CallLine, today: NaiveDate) -> Moved {
    line.disposition = Disposition::Rescinded;
    line.covered.clear();
    Target::nothing(line).put(line, today)
}
