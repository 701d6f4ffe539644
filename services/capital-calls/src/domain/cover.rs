//! Others who pay for an investor who has not.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{CallLine, Commitment, LinePreview, LinePurpose};
use ::domain::money::Ratio;
use ::domain::pro_rata::{self, Claim, Row, Shortfall};
use ::domain::{Amount, Currency, interest};
use uuid::Uuid;

/// What others pay of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// By purposes of the line: how much of each.
    pub purposes: Vec<LinePurpose>,
    /// In all.
    pub amount: Amount,
    /// How much of it is inside the commitments.
    pub inside: Amount,
    /// A line for each of the others who pays.
    pub lines: Vec<LinePreview>,
}

/// Splits what is outstanding on a line over the others of its call: pro rata to their commitments, within what they have unfunded for
/// what is inside the commitments, and each at most so many percent of its own part of the call. What cannot be placed stays where it is.
///
/// `commitments` are those of the others as of the new due date, `lines` the lines of the call, `so_far` what each pays for the line
/// already.
pub fn cover(
    line: &CallLine,
    lines: &[CallLine],
    commitments: &[Commitment],
    cap_percent: Ratio,
    so_far: impl Fn(Uuid) -> Amount,
) -> Cover {
    let currency = line.currency;
    let mut own: HashMap<Uuid, Amount> = HashMap::new();
    for line in lines {
        *own.entry(line.investor_id).or_default() += line.amount;
    }
    let others: Vec<&Commitment> = commitments
        .iter()
        .filter(|commitment| {
            commitment.investor_id != line.investor_id && own.get(&commitment.investor_id).is_some_and(|amount| amount.is_positive())
        })
        .collect();
    let mut left: Vec<i128> = others
        .iter()
        .map(|other| (interest::share(own[&other.investor_id], cap_percent, currency) - so_far(other.investor_id)).minor(currency).max(0))
        .collect();
    let mut parts: Vec<(Vec<LinePurpose>, i128)> = vec![(vec![], 0); others.len()];
    let mut covered: Vec<LinePurpose> = Vec::new();
    let mut inside_in_all = 0;
    let all = [open(line, true), open(line, false)].concat();
    let whole = in_full(&all, &others, &left, currency);
    if let Some(rows) = &whole {
        for (part, row) in parts.iter_mut().zip(rows) {
            part.0 = written(&all, row, currency);
            part.1 = inside_of(&all, row);
        }
        inside_in_all = parts.iter().map(|(_, inside)| inside).sum();
        covered.clone_from(&all);
    }
    // what cannot be placed in full is placed inside the commitments first
    let by_side = [(true, open(line, true)), (false, open(line, false))];
    for (inside, purposes) in by_side.into_iter().filter(|_| whole.is_none()) {
        let room = |at: usize| {
            let unfunded = (others[at].unfunded.minor(currency) - parts[at].1).max(0);
            if inside { left[at].min(unfunded) } else { left[at] }
        };
        let claims: Vec<Claim> = others
            .iter()
            .enumerate()
            .map(|(at, other)| Claim { id: other.investor_id, weight: other.amount.minor(currency), cap: Some(room(at)) })
            .collect();
        let wanted: i128 = purposes.iter().map(|part| part.amount.minor(currency)).sum();
        let (placed, shares) = as_much_as_fits(wanted, &claims);
        let columns = columns(&purposes, placed, currency);
        let rows: Vec<Row> = claims.iter().zip(&shares).map(|(claim, &total)| Row { id: claim.id, total, weight: total }).collect();
        for (at, row) in pro_rata::split_rows(&rows, &columns).into_iter().enumerate() {
            left[at] -= shares[at];
            parts[at].1 += if inside { shares[at] } else { 0 };
            parts[at].0.extend(written(&purposes, &row, currency));
        }
        inside_in_all += if inside { placed } else { 0 };
        covered.extend(written(&purposes, &columns, currency));
    }
    let of = |(other, (purposes, inside)): (&&Commitment, (Vec<LinePurpose>, i128))| {
        let impact = currency.from_minor(-inside);
        LinePreview {
            investor_id: other.investor_id,
            amount: purposes.iter().map(|part| part.amount).sum::<Amount>() + currency.zero(),
            impact_on_unfunded: impact,
            purposes,
            commitment: other.amount,
            unfunded_before: other.unfunded,
            unfunded_after: other.unfunded + impact,
            shares: vec![],
        }
    };
    let lines: Vec<LinePreview> = others.iter().zip(parts).map(of).filter(|line| line.amount.is_positive()).collect();
    let amount = covered.iter().map(|part| part.amount).sum::<Amount>() + currency.zero();
    Cover { purposes: covered, amount, inside: currency.from_minor(inside_in_all), lines }
}

/// What each pays of each purpose where all of it can be placed and nobody is kept from its share: totals first, as those of a call.
fn in_full(purposes: &[LinePurpose], others: &[&Commitment], left: &[i128], currency: Currency) -> Option<Vec<Vec<i128>>> {
    let columns: Vec<i128> = purposes.iter().map(|part| part.amount.minor(currency)).collect();
    let claim = |other: &&Commitment| Claim { id: other.investor_id, weight: other.amount.minor(currency), cap: None };
    let claims: Vec<Claim> = others.iter().map(claim).collect();
    let totals = pro_rata::split(columns.iter().sum(), &claims).ok()?;
    let row = |(claim, &total): (&Claim, &i128)| Row { id: claim.id, total, weight: claim.weight };
    let rows: Vec<Row> = claims.iter().zip(&totals).map(row).collect();
    let cells = pro_rata::split_rows(&rows, &columns);
    let may = |at: usize| totals[at] <= left[at] && inside_of(purposes, &cells[at]) <= others[at].unfunded.minor(currency).max(0);
    (0..others.len()).all(may).then_some(cells)
}

/// Minor units of a row of purposes that are inside the commitments.
fn inside_of(purposes: &[LinePurpose], row: &[i128]) -> i128 {
    purposes.iter().zip(row).filter(|(part, _)| part.inside_commitment).map(|(_, units)| units).sum()
}

/// The purposes with these amounts, in minor units, but for those with none.
fn written(purposes: &[LinePurpose], row: &[i128], currency: Currency) -> Vec<LinePurpose> {
    let some = purposes.iter().zip(row).filter(|(_, units)| **units > 0);
    some.map(|(part, units)| LinePurpose { amount: currency.from_minor(*units), ..part.clone() }).collect()
}

/// What is outstanding on a line, by purposes inside or outside the commitments.
fn open(line: &CallLine, inside: bool) -> Vec<LinePurpose> {
    let zero = line.currency.zero();
    line.purposes
        .iter()
        .filter(|part| part.amount > part.paid && part.inside_commitment == inside)
        .map(|part| LinePurpose { amount: part.amount - part.paid, paid: zero, ..part.clone() })
        .collect()
}

/// Splits as much of a total as the caps leave room for.
fn as_much_as_fits(total: i128, claims: &[Claim]) -> (i128, Vec<i128>) {
    match pro_rata::split(total, claims) {
        Ok(shares) => (total, shares),
        Err(Shortfall(missing)) => {
            let placed = total - missing;
            (placed, pro_rata::split(placed, claims).unwrap_or_else(|_| vec![0; claims.len()]))
        }
    }
}

/// Splits what could be placed over the purposes, pro rata to what is open of each.
fn columns(purposes: &[LinePurpose], placed: i128, currency: Currency) -> Vec<i128> {
    let claims: Vec<Claim> = purposes
        .iter()
        .zip(0u128..)
        .map(|(part, number)| {
            let open = part.amount.minor(currency);
            Claim { id: Uuid::from_u128(number), weight: open, cap: Some(open) }
        })
        .collect();
    // never more than all of them together
    pro_rata::split(placed, &claims).unwrap_or_default()
}
