//! Who pays how much of a call.

use std::collections::{BTreeMap, HashMap};

use ::domain::messages::capital_calls::{
    CallContent, Commitment, LineAdjustment, LinePreview, LinePurpose, Purpose, PurposeKind, Rounding, ShareExplained, ShareReason,
};
use ::domain::money::Ratio;
use ::domain::pro_rata::{self, Because, Claim, Row, Share};
use ::domain::{Amount, Currency, Reason, Rejection};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::placing::by_groups;

/// Decimals of an exact share beyond the currency's.
const EXACT_DECIMALS: u32 = 6;

/// What a call is split by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What for.
    pub purposes: &'a [Purpose],
    /// Lines that are not what their share would be.
    pub adjustments: &'a [LineAdjustment],
    /// How shares are rounded.
    pub rounding: Rounding,
    /// What investors have drawn, where that is not what is promised less what is unfunded: one of the two is as of another time.
    pub drawn: Option<&'a HashMap<Uuid, Amount>>,
}

impl<'a> Terms<'a> {
    /// Those of what a call says.
    pub fn of(content: &'a CallContent) -> Terms<'a> {
        Terms { purposes: &content.purposes, adjustments: &content.adjustments, rounding: content.rounding, drawn: None }
    }
}

/// What a purpose does to the unfunded commitments, in the order in which it is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Inside,
    Outside,
    Return,
}

pub(super) fn kind_of(purpose: &Purpose) -> Kind {
    match purpose.kind {
        PurposeKind::RecallableReturn => Kind::Return,
        _ if purpose.inside_commitment => Kind::Inside,
        _ => Kind::Outside,
    }
}

pub(super) fn is_excused(commitment: &Commitment, purpose: &Purpose) -> bool {
    purpose.allocation_id.is_some_and(|id| commitment.excused_from.contains(&id))
}

/// One investor's part while it is found.
#[derive(Clone, Default)]
pub(super) struct Part {
    /// Minor units by the purposes' places; a return is negative.
    pub cells: BTreeMap<usize, i128>,
    /// Minor units inside the commitment, less what is returned.
    pub inside: i128,
    /// How they came about.
    pub shares: Vec<ShareExplained>,
}

/// Each investor's total first, by its commitment, then split over the purposes; none where somebody is excused, is asked for a given
/// amount, or has too little unfunded.
fn by_commitments(terms: Terms<'_>, commitments: &[Commitment], currency: Currency) -> Option<Vec<Part>> {
    let is_excused = |commitment: &Commitment| terms.purposes.iter().any(|purpose| is_excused(commitment, purpose));
    if !terms.adjustments.is_empty() || terms.rounding == Rounding::Cumulative || commitments.iter().any(is_excused) {
        return None;
    }
    let kinds: Vec<Kind> = terms.purposes.iter().map(kind_of).collect();
    let signed = |(purpose, kind): (&Purpose, &Kind)| purpose.amount.minor(currency) * if *kind == Kind::Return { -1 } else { 1 };
    let columns: Vec<i128> = terms.purposes.iter().zip(&kinds).map(signed).collect();
    let total = columns.iter().sum::<i128>();
    let weight = |commitment: &Commitment| commitment.amount.minor(currency);
    let claims: Vec<Claim> =
        commitments.iter().map(|commitment| Claim { id: commitment.investor_id, weight: weight(commitment), cap: None }).collect();
    let totals = pro_rata::split_explained(total, &claims).ok().filter(|_| total > 0)?;
    let row = |(claim, share): (&Claim, &Share)| Row { id: claim.id, total: share.units, weight: claim.weight };
    let rows: Vec<Row> = claims.iter().zip(&totals).map(row).collect();
    let of_kind = |cells: &[i128], kind| cells.iter().zip(&kinds).filter(|(_, of)| **of == kind).map(|(units, _)| units).sum::<i128>();
    let part = |((commitment, cells), share): ((&Commitment, Vec<i128>), &Share)| {
        let inside = of_kind(&cells, Kind::Inside);
        // what is less than a unit may turn round, or come to nothing in all
        let turns = cells.iter().zip(&columns).any(|(cell, column)| cell.signum() * column.signum() < 0);
        let cancels = share.units == 0 && cells.iter().any(|cell| *cell != 0);
        (inside <= commitment.unfunded.minor(currency).max(0) && !turns && !cancels).then(|| Part {
            inside: inside + of_kind(&cells, Kind::Return),
            shares: vec![explained((0..cells.len()).collect(), weight(commitment), share, false, currency)],
            cells: cells.into_iter().enumerate().collect(),
        })
    };
    commitments.iter().zip(pro_rata::split_rows(&rows, &columns)).zip(&totals).map(part).collect()
}

/// One line an investor, pro rata to the commitments.
///
/// The part inside the commitments is capped by what each investor has unfunded, the rest goes to the others; the part outside is
/// not capped; a return is shared like the part outside and taken off. Each investor's total is fixed first and then split over the
/// purposes, so that the sums over investors and over purposes are both exact; where not all share all purposes by their commitments
/// alone, so is the total of those purposes that the same investors share.
pub fn split_call(terms: Terms<'_>, commitments: &[Commitment], currency: Currency) -> Result<Vec<LinePreview>, Rejection> {
    if commitments.is_empty() {
        return Err(Reason::NoCommitments.with("no investor has a commitment to the fund that is effective by the due date"));
    }
    let parts = match by_commitments(terms, commitments, currency) {
        Some(parts) => parts,
        None => by_groups(terms, commitments, currency)?,
    };
    let lines = commitments.iter().zip(parts).map(|(commitment, part)| line(terms.purposes, commitment, part, currency));
    let lines: Vec<LinePreview> = lines.filter(|line| !line.purposes.is_empty()).collect();
    if let Some(line) = lines.iter().find(|line| !line.amount.is_positive()) {
        return Err(
            Reason::NetCallNotPositive.with(format!("investor {} would owe {} after the return is netted", line.investor_id, line.amount))
        );
    }
    let by_commitment = || commitments.iter().map(|commitment| (commitment.investor_id, commitment.amount - commitment.unfunded)).collect();
    let drawn: HashMap<Uuid, Amount> = terms.drawn.cloned().unwrap_or_else(by_commitment);
    for line in &lines {
        // who draws nothing with it may have drawn too much before: others must not be kept from a fee for that
        if line.impact_on_unfunded < Amount::ZERO {
            check_unfunded(line.investor_id, line.unfunded_after)?;
        }
        let returned = line.impact_on_unfunded;
        let drawn = drawn.get(&line.investor_id).copied().unwrap_or_default();
        if returned.is_positive() && returned > drawn {
            let why = format!("investor {} has drawn {drawn}, and is given {returned} back", line.investor_id);
            return Err(Reason::PurposeMismatch.with(format!("more is returned than was called: {why}")));
        }
    }
    Ok(lines)
}

/// Refuses what would leave an investor less than nothing unfunded: what was returned has been called again.
pub fn check_unfunded(investor_id: Uuid, unfunded: Amount) -> Result<(), Rejection> {
    if unfunded < Amount::ZERO {
        return Err(Reason::CallExceedsUnfunded.with(format!("investor {investor_id} would have {unfunded} unfunded")));
    }
    Ok(())
}

fn line(purposes: &[Purpose], commitment: &Commitment, part: Part, currency: Currency) -> LinePreview {
    let cell = |place: &usize| currency.from_minor(part.cells.get(place).copied().unwrap_or_default());
    let of = |(place, purpose): (usize, &Purpose)| LinePurpose {
        kind: purpose.kind,
        allocation_id: purpose.allocation_id,
        inside_commitment: purpose.inside_commitment,
        amount: cell(&place),
        paid: currency.zero(),
    };
    let purposes: Vec<LinePurpose> = purposes.iter().enumerate().map(of).filter(|part| part.amount != currency.zero()).collect();
    let impact = currency.from_minor(-part.inside);
    LinePreview {
        investor_id: commitment.investor_id,
        amount: purposes.iter().map(|part| part.amount).sum::<Amount>() + currency.zero(),
        impact_on_unfunded: impact,
        purposes,
        commitment: commitment.amount,
        unfunded_before: commitment.unfunded,
        unfunded_after: commitment.unfunded + impact,
        shares: part.shares,
    }
}

pub(super) fn explained(purposes: Vec<usize>, weight: i128, share: &Share, given: bool, currency: Currency) -> ShareExplained {
    let because = match share.because {
        _ if given => ShareReason::Given,
        Because::Capped => ShareReason::Capped,
        Because::RoundedUp => ShareReason::RoundedUp,
        Because::RoundedDown => ShareReason::RoundedDown,
    };
    let amount = currency.from_minor(share.units);
    let exact = if given { Ratio(amount.decimal()) } else { exact(share.of, weight, share.weights, currency) };
    ShareExplained { purposes, total: currency.from_minor(share.of), exact, amount, because }
}

/// `total * weight / weights` in units of the currency, cut off after [`EXACT_DECIMALS`] more decimals than it has.
fn exact(total: i128, weight: i128, weights: i128, currency: Currency) -> Ratio {
    let power = 10i128.pow(EXACT_DECIMALS);
    let product = total * weight;
    let (whole, rest) = (product.checked_div(weights).unwrap_or_default(), product.checked_rem(weights).unwrap_or_default());
    let fraction = (rest * power).checked_div(weights).unwrap_or_default();
    Ratio(Decimal::from_i128_with_scale(whole * power + fraction, currency.decimals() + EXACT_DECIMALS).normalize())
}
