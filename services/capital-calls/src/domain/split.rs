//! Who pays how much of a call.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::{
    CallContent, Commitment, LineAdjustment, LinePreview, LinePurpose, Purpose, PurposeKind, Rounding, ShareExplained, ShareReason,
};
use ::domain::money::Ratio;
use ::domain::pro_rata::{self, Because, Claim, Share, Shortfall};
use ::domain::{Amount, Currency, Reason, Rejection};
use rust_decimal::Decimal;
use uuid::Uuid;

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
}

impl<'a> Terms<'a> {
    /// Those of what a call says.
    pub fn of(content: &'a CallContent) -> Terms<'a> {
        Terms { purposes: &content.purposes, adjustments: &content.adjustments, rounding: content.rounding }
    }
}

/// Purposes that the same investors share.
struct Group {
    /// Places of the purposes.
    places: Vec<usize>,
    kind: Kind,
    /// Places of the commitments that do not take part.
    excused: Vec<usize>,
}

/// What a group does to the unfunded commitments. Groups are split in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Inside,
    Outside,
    Return,
}

fn groups(terms: Terms<'_>, commitments: &[Commitment]) -> Vec<Group> {
    let mut groups: BTreeMap<(Kind, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for (place, purpose) in terms.purposes.iter().enumerate() {
        let kind = match purpose.kind {
            PurposeKind::RecallableReturn => Kind::Return,
            _ if purpose.inside_commitment => Kind::Inside,
            _ => Kind::Outside,
        };
        let is_excused = |commitment: &Commitment| purpose.allocation_id.is_some_and(|id| commitment.excused_from.contains(&id));
        let excused = commitments.iter().enumerate().filter(|(_, commitment)| is_excused(commitment)).map(|(at, _)| at).collect();
        groups.entry((kind, excused)).or_default().push(place);
    }
    groups.into_iter().map(|((kind, excused), places)| Group { places, kind, excused }).collect()
}

/// One investor's part while it is found.
#[derive(Clone, Default)]
struct Part {
    /// Minor units by the purposes' places; a return is negative.
    cells: BTreeMap<usize, i128>,
    inside: i128,
    shares: Vec<ShareExplained>,
}

/// One line an investor, pro rata to the commitments.
///
/// The part inside the commitments is capped by what each investor has unfunded, the rest goes to the others; the part outside is
/// not capped; a return is shared like the part outside and taken off. Each investor's total of the purposes that the same
/// investors share is fixed first and then split over them, so that the sums over investors and over purposes are both exact.
pub fn split_call(terms: Terms<'_>, commitments: &[Commitment], currency: Currency) -> Result<Vec<LinePreview>, Rejection> {
    if commitments.is_empty() {
        return Err(Reason::NoCommitments.with("no investor has a commitment to the fund that is effective by the due date"));
    }
    let groups = groups(terms, commitments);
    let wanted = adjusted(terms, &groups, commitments, currency)?;
    let mut parts = vec![Part::default(); commitments.len()];
    for (group, wanted) in groups.iter().zip(&wanted) {
        split_group(terms, group, wanted, commitments, currency, &mut parts)?;
    }
    let lines = commitments.iter().zip(parts).map(|(commitment, part)| line(terms.purposes, commitment, part, currency));
    let lines: Vec<LinePreview> = lines.filter(|line| !line.purposes.is_empty()).collect();
    if let Some(line) = lines.iter().find(|line| !line.amount.is_positive()) {
        return Err(
            Reason::NetCallNotPositive.with(format!("investor {} would owe {} after the return is netted", line.investor_id, line.amount))
        );
    }
    for line in &lines {
        check_unfunded(line.investor_id, line.unfunded_after)?;
        if line.unfunded_after > line.commitment && line.impact_on_unfunded.is_positive() {
            let why = format!("investor {} would have {} unfunded of {}", line.investor_id, line.unfunded_after, line.commitment);
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

/// What is wanted of each investor in one group: an exact share, or a cap; by the commitments' places, in minor units.
#[derive(Clone, Default)]
struct Wanted {
    given: BTreeMap<usize, i128>,
    caps: BTreeMap<usize, i128>,
}

/// Spreads each adjustment over the groups that the investor takes part in, by what they are about.
fn adjusted(terms: Terms<'_>, groups: &[Group], commitments: &[Commitment], currency: Currency) -> Result<Vec<Wanted>, Rejection> {
    let mut wanted = vec![Wanted::default(); groups.len()];
    for adjustment in terms.adjustments {
        let at = commitments.iter().position(|commitment| commitment.investor_id == adjustment.investor_id).ok_or_else(|| {
            Reason::AdjustmentMismatch
                .with(format!("investor {} has no commitment that is effective by the due date", adjustment.investor_id))
        })?;
        let takes_part = |group: &Group| group.kind != Kind::Return && !group.excused.contains(&at);
        let claims: Vec<Claim> = groups
            .iter()
            .zip(0u128..)
            .map(|(group, number)| {
                let total = if takes_part(group) { total(terms.purposes, group, currency) } else { 0 };
                Claim { id: Uuid::from_u128(number), weight: total, cap: Some(total) }
            })
            .collect();
        let amount = adjustment.amount.or(adjustment.cap).unwrap_or_default();
        let spread = match pro_rata::split(amount.minor(currency), &claims) {
            Ok(spread) => spread,
            // a cap above everything is none
            Err(_) if adjustment.amount.is_none() => continue,
            Err(Shortfall(missing)) => {
                let why =
                    format!("investor {} is given {} more than is called of it", adjustment.investor_id, currency.from_minor(missing));
                return Err(Reason::AdjustmentMismatch.with(why));
            }
        };
        for (((group, wanted), claim), units) in groups.iter().zip(&mut wanted).zip(claims).zip(spread) {
            if takes_part(group) && claim.weight > 0 {
                let of_group = if adjustment.amount.is_some() { &mut wanted.given } else { &mut wanted.caps };
                of_group.insert(at, units);
            }
        }
    }
    Ok(wanted)
}

fn total(purposes: &[Purpose], group: &Group, currency: Currency) -> i128 {
    group.places.iter().map(|place| purposes[*place].amount.minor(currency)).sum()
}

fn split_group(
    terms: Terms<'_>,
    group: &Group,
    wanted: &Wanted,
    commitments: &[Commitment],
    currency: Currency,
    parts: &mut [Part],
) -> Result<(), Rejection> {
    let columns: Vec<i128> = group.places.iter().map(|place| terms.purposes[*place].amount.minor(currency)).collect();
    let all: i128 = columns.iter().sum();
    let given: i128 = wanted.given.values().sum();
    if given > all {
        let why = format!("the amounts that are given are {} more than {}", currency.from_minor(given - all), currency.from_minor(all));
        return Err(Reason::AdjustmentMismatch.with(why));
    }
    let room = |at: usize| (commitments[at].unfunded.minor(currency) - parts[at].inside).max(0);
    let above = wanted.given.iter().find(|(at, units)| group.kind == Kind::Inside && **units > room(**at));
    if let Some((at, units)) = above {
        let (investor, units, unfunded) = (commitments[*at].investor_id, currency.from_minor(*units), currency.from_minor(room(*at)));
        return Err(Reason::CallExceedsUnfunded.with(format!("investor {investor} is given {units}, and has {unfunded} unfunded")));
    }
    let claims: Vec<Claim> = commitments
        .iter()
        .enumerate()
        .map(|(at, commitment)| {
            let sits_out = group.excused.contains(&at) || wanted.given.contains_key(&at);
            let unfunded = (group.kind == Kind::Inside).then(|| room(at));
            let cap = unfunded.into_iter().chain(wanted.caps.get(&at).copied()).min();
            Claim { id: commitment.investor_id, weight: if sits_out { 0 } else { commitment.amount.minor(currency) }, cap }
        })
        .collect();
    let cumulative = terms.rounding == Rounding::Cumulative && group.kind == Kind::Inside && group.excused.is_empty();
    let drawn = |at: usize| (commitments[at].amount - commitments[at].unfunded).minor(currency) + parts[at].inside;
    let split = if cumulative { split_to_date(all - given, &claims, drawn) } else { pro_rata::split_explained(all - given, &claims) };
    let mut shares = split.map_err(|Shortfall(missing)| {
        let missing = currency.from_minor(missing);
        let whom = if group.excused.is_empty() { "" } else { " of those who are not excused" };
        Reason::CallExceedsUnfunded.with(format!("{missing} {} cannot be placed inside the commitments{whom}", currency.code()))
    })?;
    for (at, units) in &wanted.given {
        shares[*at] = Share { units: *units, ..Share::default() };
    }
    let rows: Vec<(Uuid, i128)> = claims.iter().zip(&shares).map(|(claim, share)| (claim.id, share.units)).collect();
    for (at, row) in pro_rata::split_rows(&rows, &columns).into_iter().enumerate() {
        let sign = if group.kind == Kind::Return { -1 } else { 1 };
        let part = &mut parts[at];
        part.cells.extend(group.places.iter().zip(row).map(|(place, units)| (*place, sign * units)));
        if group.kind != Kind::Outside {
            part.inside += sign * shares[at].units;
        }
        if shares[at].units > 0 || claims[at].weight > 0 {
            part.shares.push(explained(group, &claims[at], &shares[at], wanted.given.contains_key(&at), all, currency));
        }
    }
    Ok(())
}

/// Rounds what each has been called to date, and takes off what was called before. Where commitments have changed since, somebody
/// may have been called more than that: the others share the rest in proportion to what they lack.
fn split_to_date(total: i128, claims: &[Claim], drawn: impl Fn(usize) -> i128) -> Result<Vec<Share>, Shortfall> {
    let before: i128 = (0..claims.len()).filter(|at| claims[*at].weight > 0).map(&drawn).sum();
    let uncapped: Vec<Claim> = claims.iter().map(|claim| Claim { cap: None, ..*claim }).collect();
    let to_date = pro_rata::split_explained(before + total, &uncapped)?;
    let lacks = |at: usize| if claims[at].weight > 0 { (to_date[at].units - drawn(at)).max(0) } else { 0 };
    let lacking: Vec<Claim> = claims.iter().enumerate().map(|(at, claim)| Claim { weight: lacks(at), ..*claim }).collect();
    let mut shares = match pro_rata::split_explained(total, &lacking) {
        Ok(shares) => shares,
        // those who lack something have no room left: everybody shares
        Err(_) => pro_rata::split_explained(total, claims)?,
    };
    for (share, to_date) in shares.iter_mut().zip(&to_date) {
        if share.because != Because::Capped {
            *share = Share { units: share.units, ..*to_date };
        }
    }
    Ok(shares)
}

fn explained(group: &Group, claim: &Claim, share: &Share, given: bool, all: i128, currency: Currency) -> ShareExplained {
    let because = match share.because {
        _ if given => ShareReason::Given,
        Because::Capped => ShareReason::Capped,
        Because::RoundedUp => ShareReason::RoundedUp,
        Because::RoundedDown => ShareReason::RoundedDown,
    };
    let of = if given { all } else { share.of };
    ShareExplained {
        purposes: group.places.clone(),
        total: currency.from_minor(of),
        exact: if given { Ratio(currency.from_minor(share.units).decimal()) } else { exact(of, claim.weight, share.weights, currency) },
        amount: currency.from_minor(share.units),
        because,
    }
}

/// `total * weight / weights` in units of the currency, cut off after [`EXACT_DECIMALS`] more decimals than it has.
fn exact(total: i128, weight: i128, weights: i128, currency: Currency) -> Ratio {
    let power = 10i128.pow(EXACT_DECIMALS);
    let product = total * weight;
    let (whole, rest) = (product.checked_div(weights).unwrap_or_default(), product.checked_rem(weights).unwrap_or_default());
    let fraction = (rest * power).checked_div(weights).unwrap_or_default();
    Ratio(Decimal::from_i128_with_scale(whole * power + fraction, currency.decimals() + EXACT_DECIMALS).normalize())
}
