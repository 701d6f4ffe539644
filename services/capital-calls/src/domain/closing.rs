//! Later closings: what each investor would have been called if all had joined at the first one.

use std::collections::{BTreeMap, HashMap, HashSet};

use ::domain::messages::capital_calls::{CallLine, CapitalCall, Commitment, LinePreview, PurposeKind};
use ::domain::money::Ratio;
use ::domain::pro_rata::{self, Claim};
use ::domain::{Amount, Currency, Reason, Rejection, interest};
use chrono::NaiveDate;
use uuid::Uuid;

use super::{Draw, Recorded, Terms, by_investor, effective, split_call};

/// A call that was issued before a closing.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'a> {
    /// The call.
    pub call: &'a CapitalCall,
    /// Its lines.
    pub lines: &'a [CallLine],
    /// The last entry of the fund's commitments that it had seen when it was issued.
    pub seen: Option<i64>,
}

/// Whether a closing shares a call anew: all that are in force, but those that ask for the interest of another closing, or for what an
/// investor in default has not paid.
pub fn is_shared_anew(call: &CapitalCall) -> bool {
    call.issued_on.is_some()
        && call.covers_line_id.is_none()
        && !call.purposes.iter().any(|purpose| purpose.kind == PurposeKind::ClosingInterest)
}

/// Shares calls anew over all commitments, in the order in which they were issued. What was promised at a closing counts for every
/// call, whenever the closing was; other changes of a commitment count for calls that were issued later and are due from then on, as
/// they did. Nobody is excused from what its line asks for.
pub fn share_anew(
    calls: &[Earlier<'_>],
    commitments: &[Commitment],
    entries: &[Recorded],
    currency: Currency,
) -> Result<Vec<Vec<LinePreview>>, Rejection> {
    let mut draws: HashMap<Uuid, Vec<Draw>> = HashMap::new();
    let mut shared = Vec::with_capacity(calls.len());
    for Earlier { call, lines, seen } in calls {
        let of_investor = by_investor(lines);
        let mut drawn_so_far: HashMap<Uuid, Amount> = HashMap::new();
        let joined = commitments.iter().filter_map(|commitment| {
            let undrawn = commitment.amount - commitment.drawn_transferred;
            let before = draws.get(&commitment.investor_id).map_or(&[][..], Vec::as_slice);
            let drawn: Amount = before.iter().map(|draw| draw.impact_on_unfunded).sum();
            drawn_so_far.insert(commitment.investor_id, commitment.drawn_transferred - drawn);
            let now = Commitment { unfunded: undrawn + drawn, ..commitment.clone() };
            let mut then = effective(&now, entries, before.iter().copied(), call.due_on, *seen)?;
            let parts = of_investor.get(&then.investor_id).into_iter().flatten().flat_map(|line| &line.purposes);
            let paid: HashSet<Uuid> = parts.filter(|part| part.amount.is_positive()).filter_map(|part| part.allocation_id).collect();
            then.excused_from.retain(|id| !paid.contains(id));
            Some(then)
        });
        let joined: Vec<Commitment> = joined.collect();
        let content = call.content();
        let previews = split_call(Terms { drawn: Some(&drawn_so_far), ..Terms::of(&content) }, &joined, currency).map_err(|why| {
            Reason::CallNotShareable.with(format!("capital call {}, shared over all who would have joined: {}", call.id, why.detail))
        })?;
        for preview in &previews {
            let draw = Draw { call_id: call.id, due_on: call.due_on, impact_on_unfunded: preview.impact_on_unfunded };
            draws.entry(preview.investor_id).or_default().push(draw);
        }
        shared.push(previews);
    }
    Ok(shared)
}

/// What a closing changes about one call, by investor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equalisation {
    /// By how much the lines change.
    pub moved: BTreeMap<Uuid, Amount>,
    /// Interest: above zero for those who owe it.
    pub interest: BTreeMap<Uuid, Amount>,
    /// What those who owe more owe more in all.
    pub equalised: Amount,
    /// Their interest in all.
    pub interest_in_all: Amount,
}

/// Compares a call's lines with what they would be: those who owe more owe interest on that, those who owe less are owed it by their
/// shares of the call so far.
pub fn equalise(earlier: Earlier<'_>, previews: &[LinePreview], percent: Ratio, closed_on: NaiveDate, currency: Currency) -> Equalisation {
    let mut before: BTreeMap<Uuid, Amount> = BTreeMap::new();
    for line in earlier.lines {
        *before.entry(line.investor_id).or_default() += line.amount;
    }
    let mut moved: BTreeMap<Uuid, Amount> = before.iter().map(|(id, amount)| (*id, -*amount)).collect();
    for preview in previews {
        *moved.entry(preview.investor_id).or_default() += preview.amount;
    }
    moved.retain(|_, amount| *amount != Amount::ZERO);
    let days = interest::days(earlier.call.due_on, closed_on);
    let owes = |(id, amount): (&Uuid, &Amount)| amount.is_positive().then(|| (*id, interest::simple(*amount, percent, days, currency)));
    let mut owed: BTreeMap<Uuid, Amount> = moved.iter().filter_map(owes).collect();
    let interest_in_all = owed.values().copied().sum::<Amount>() + currency.zero();
    let equalised = moved.values().filter(|amount| amount.is_positive()).copied().sum::<Amount>() + currency.zero();
    let relieved: Vec<Uuid> = moved.iter().filter(|(_, amount)| **amount < Amount::ZERO).map(|(id, _)| *id).collect();
    let weight = |id: &Uuid| before.get(id).copied().unwrap_or_default().minor(currency);
    let claims: Vec<Claim> = relieved.iter().map(|id| Claim { id: *id, weight: weight(id), cap: None }).collect();
    // those who owe less did owe something
    let shares = pro_rata::split(interest_in_all.minor(currency), &claims).unwrap_or_default();
    owed.extend(relieved.into_iter().zip(shares).map(|(id, units)| (id, currency.from_minor(-units))));
    owed.retain(|_, amount| *amount != Amount::ZERO);
    Equalisation { moved, interest: owed, equalised, interest_in_all }
}
