//! Pro rata shares by the largest remainder (Hamilton's method), with caps.
//!
//! All numbers are integer minor units, so that sums are exact.

use uuid::Uuid;

/// One holder's claim on a total.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Who claims; decides ties last.
    pub id: Uuid,
    /// The weight, for example the commitment in minor units; not negative.
    pub weight: i128,
    /// The most that this holder can take, in minor units; none for no limit.
    pub cap: Option<i128>,
}

/// What could not be placed because every claim is at its cap, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall(pub i128);

/// Why a share is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Because {
    /// The fraction of a unit was cut off, if there was one.
    #[default]
    RoundedDown,
    /// One of the units that were left over.
    RoundedUp,
    /// The claim is at its cap.
    Capped,
}

/// A share, and how it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The share, in minor units.
    pub units: i128,
    /// Why it is that.
    pub because: Because,
    /// What was shared when this share was found: all, less what claims at their caps took.
    pub of: i128,
    /// The weight of those who shared it.
    pub weights: i128,
}

/// Splits `total` over `claims` by weight, in the order of `claims`.
///
/// Each share is floored to the minor unit and the left-over units go to the largest fractional
/// remainders; ties by larger weight, then by smaller id. A share above its cap is set to the cap
/// and the rest is distributed again, until no share is above its cap.
///
/// # Errors
/// [`Shortfall`] when the caps together are below `total`, or no claim has a weight.
pub fn split(total: i128, claims: &[Claim]) -> Result<Vec<i128>, Shortfall> {
    split_explained(total, claims).map(|shares| shares.into_iter().map(|share| share.units).collect())
}

/// The same, with how each share came about.
///
/// # Errors
/// See [`split`].
pub fn split_explained(total: i128, claims: &[Claim]) -> Result<Vec<Share>, Shortfall> {
    let mut shares = vec![Share::default(); claims.len()];
    let mut open: Vec<usize> = (0..claims.len()).filter(|&index| claims[index].weight > 0).collect();
    let mut rest = total;
    while rest > 0 {
        if open.is_empty() {
            return Err(Shortfall(rest));
        }
        let round = split_uncapped(rest, claims, &open);
        let over = |&(index, share): &(usize, Share)| claims[index].cap.is_some_and(|cap| share.units > cap);
        if !round.iter().any(over) {
            round.into_iter().for_each(|(index, share)| shares[index] = share);
            return Ok(shares);
        }
        for (index, share) in round.iter().filter(|entry| over(entry)) {
            shares[*index] = Share { units: claims[*index].cap.unwrap_or_default(), because: Because::Capped, ..*share };
            rest -= shares[*index].units;
        }
        open = round.iter().filter(|entry| !over(entry)).map(|&(index, _)| index).collect();
    }
    Ok(shares)
}

fn split_uncapped(total: i128, claims: &[Claim], open: &[usize]) -> Vec<(usize, Share)> {
    let weights: i128 = open.iter().map(|&index| claims[index].weight).sum();
    let floor = |index: usize| Share { units: total * claims[index].weight / weights, because: Because::RoundedDown, of: total, weights };
    let mut round: Vec<(usize, Share)> = open.iter().map(|&index| (index, floor(index))).collect();
    let left_over = total - round.iter().map(|(_, share)| share.units).sum::<i128>();
    let mut order: Vec<usize> = (0..round.len()).collect();
    order.sort_by_key(|&position| {
        let claim = &claims[round[position].0];
        (-(total * claim.weight % weights), -claim.weight, claim.id)
    });
    for position in order.into_iter().take(usize::try_from(left_over).unwrap_or_default()) {
        let share = &mut round[position].1;
        (share.units, share.because) = (share.units + 1, Because::RoundedUp);
    }
    round
}

/// A total that is split over columns.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose it is; decides ties last.
    pub id: Uuid,
    /// The total, in minor units.
    pub total: i128,
    /// Its part of each column: the total again, or what the total is a rounded share by, for example the commitment.
    pub weight: i128,
}

/// Splits fixed row totals (one per investor) over columns (one per purpose; below zero for what is given back) so that both sums are
/// exact. Returns one row per total. `columns` must add up to the sum of the totals, and each total be within one unit of its share.
///
/// Each cell is its exact share of the column rounded down or up. The units that are left over in a column go to the rows that must
/// take one to come to their total with one unit in each cell that has a remainder, then by the largest remainder; ties by larger
/// weight, then by smaller id. Totals that are no share by weight of anything can ask for more than one unit in a cell.
#[must_use]
pub fn split_rows(rows: &[Row], columns: &[i128]) -> Vec<Vec<i128>> {
    let weights = rows.iter().map(|row| row.weight).sum::<i128>().max(1);
    let remainder = |at: usize, column: i128| (column * rows[at].weight).rem_euclid(weights);
    let floor = |row: &Row| columns.iter().map(|column| (column * row.weight).div_euclid(weights)).collect();
    let mut cells: Vec<Vec<i128>> = rows.iter().map(floor).collect();
    let mut lacks: Vec<i128> = rows.iter().zip(&cells).map(|(row, cells)| row.total - cells.iter().sum::<i128>()).collect();
    for (place, &column) in columns.iter().enumerate() {
        let mut left_over = column - cells.iter().map(|row| row[place]).sum::<i128>();
        let rest = &columns[place..];
        let slack = |at: usize| rest.iter().filter(|column| remainder(at, **column) > 0).map(|_| 1).sum::<i128>() - lacks[at];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_cached_key(|&at| {
            let part = remainder(at, column);
            (part == 0, slack(at), -part, -rows[at].weight, rows[at].id)
        });
        while left_over > 0 && lacks.iter().any(|units| *units > 0) {
            for &at in &order {
                if left_over > 0 && lacks[at] > 0 {
                    cells[at][place] += 1;
                    lacks[at] -= 1;
                    left_over -= 1;
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(id: u128, weight: i128, cap: Option<i128>) -> Claim {
        Claim { id: Uuid::from_u128(id), weight, cap }
    }

    #[test]
    fn one_hundred_over_three_equal_commitments() {
        let claims = [claim(1, 500, None), claim(2, 500, None), claim(3, 500, None)];
        assert_eq!(split(10_000, &claims), Ok(vec![3_334, 3_333, 3_333]));
    }

    #[test]
    fn ties_go_to_the_larger_commitment_then_to_the_smaller_id() {
        assert_eq!(split(1, &[claim(9, 5, None), claim(2, 5, None)]), Ok(vec![0, 1]));
        assert_eq!(split(3, &[claim(1, 1, None), claim(2, 1, None), claim(3, 2, None)]), Ok(vec![1, 1, 1]));
        assert_eq!(split(2, &[claim(1, 1, None), claim(2, 3, None)]), Ok(vec![0, 2]));
    }

    #[test]
    fn a_share_above_its_cap_is_redistributed() {
        let claims = [claim(1, 100, Some(10)), claim(2, 100, None), claim(3, 100, Some(35))];
        assert_eq!(split(90, &claims), Ok(vec![10, 45, 35]));
        assert_eq!(split(90, &[claim(1, 1, Some(40)), claim(2, 1, Some(20))]), Err(Shortfall(30)));
        assert_eq!(split(5, &[]), Err(Shortfall(5)));
    }

    #[test]
    fn rows_and_columns_are_both_exact() {
        let rows = [row(1, 3_334, 1), row(2, 3_333, 1), row(3, 3_333, 1)];
        let cells = split_rows(&rows, &[5_000, 3_000, 2_000]);
        assert_eq!(cells, [[1_667, 1_000, 667], [1_667, 1_000, 666], [1_666, 1_000, 667]]);
        // 1.43 and 4.14 of 5.57: neither is more than a unit off
        let rows = [row(1, 5, 1), row(2, 17, 3), row(3, 17, 3)];
        assert_eq!(split_rows(&rows, &[10, 29]), [[1, 4], [5, 12], [4, 13]]);
        // what is given back is rounded like what is asked for
        assert_eq!(split_rows(&[row(1, 2, 1), row(2, 1, 1), row(3, 1, 1)], &[8, -4]), [[3, -1], [3, -2], [2, -1]]);
    }

    proptest! {
        #[test]
        fn sums_are_exact_error_is_below_one_unit_and_order_does_not_matter(
            total in 1i128..1_000_000_000_000,
            weights in prop::collection::vec(1i128..1_000_000_000_000, 1..40),
            turn in 0usize..40,
        ) {
            let claims: Vec<Claim> = weights.iter().enumerate().map(|(n, &weight)| claim(n as u128, weight, None)).collect();
            let shares = split(total, &claims).unwrap();
            prop_assert_eq!(shares.iter().sum::<i128>(), total);
            let sum: i128 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let off = share * sum - total * weight;
                prop_assert!(off.abs() < sum, "share {} of weight {} is a unit or more off", share, weight);
            }
            let mut turned = claims.clone();
            turned.rotate_left(turn % claims.len());
            let mut again = split(total, &turned).unwrap();
            again.rotate_right(turn % claims.len());
            prop_assert_eq!(again, shares);
        }

        #[test]
        fn caps_hold_and_what_cannot_be_placed_is_named(
            total in 1i128..100_000,
            claims in prop::collection::vec((1i128..1_000, 0i128..10_000), 1..20),
        ) {
            let claims: Vec<Claim> = claims.iter().enumerate().map(|(n, &(weight, cap))| claim(n as u128, weight, Some(cap))).collect();
            let room: i128 = claims.iter().filter_map(|claim| claim.cap).sum();
            match split(total, &claims) {
                Ok(shares) => {
                    prop_assert_eq!(shares.iter().sum::<i128>(), total);
                    prop_assert!(shares.iter().zip(&claims).all(|(share, claim)| *share <= claim.cap.unwrap()));
                }
                Err(Shortfall(missing)) => prop_assert_eq!(missing, total - room),
            }
        }

        #[test]
        fn split_rows_is_exact_both_ways_and_no_cell_is_a_unit_off(
            rows in prop::collection::vec(0i128..100_000, 1..20),
            cuts in prop::collection::vec(0i128..1_000, 1..6),
        ) {
            let total: i128 = rows.iter().sum();
            let weights: Vec<Claim> = cuts.iter().enumerate().map(|(n, &cut)| claim(n as u128, cut + 1, None)).collect();
            let columns = split(total, &weights).unwrap();
            let rows: Vec<Row> = rows.iter().zip(0u128..).map(|(&total, id)| row(id, total, total)).collect();
            let cells = split_rows(&rows, &columns);
            check_sums(&rows, &columns, &cells)?;
            for (row, cells) in rows.iter().zip(&cells) {
                for (cell, column) in cells.iter().zip(&columns) {
                    let off = cell * total - column * row.total;
                    prop_assert!(*cell >= 0 && (off.abs() < total || off == 0), "{} of {:?} in {}", cell, row, column);
                }
            }
        }

        #[test]
        fn shares_by_commitment_are_split_exactly_both_ways(
            weights in prop::collection::vec(1i128..100_000, 1..20),
            columns in prop::collection::vec(1i128..100_000, 1..6),
            back in 0i128..100_000,
        ) {
            let mut columns = columns;
            let sum: i128 = columns.iter().sum();
            columns.push(-back.min(sum - 1));
            let claims: Vec<Claim> = weights.iter().zip(0u128..).map(|(&weight, id)| claim(id, weight, None)).collect();
            let totals = split(columns.iter().sum(), &claims).unwrap();
            let rows: Vec<Row> = claims.iter().zip(totals).map(|(claim, total)| Row { id: claim.id, total, weight: claim.weight }).collect();
            let cells = split_rows(&rows, &columns);
            check_sums(&rows, &columns, &cells)?;
            let all: i128 = weights.iter().sum();
            let off = |(row, cells): (&Row, &Vec<i128>)| cells.iter().zip(&columns).filter(|(cell, column)| (*cell * all - *column * row.weight).abs() >= all).count();
            let (off, many) = (rows.iter().zip(&cells).map(off).sum::<usize>(), rows.len() * columns.len());
            // the totals are rounded for themselves: now and then a cell has to make up for it
            prop_assert!(off * 10 <= many.max(10), "{} of {} cells are a unit off or more", off, many);
        }
    }

    fn row(id: u128, total: i128, weight: i128) -> Row {
        Row { id: Uuid::from_u128(id), total, weight }
    }

    fn check_sums(rows: &[Row], columns: &[i128], cells: &[Vec<i128>]) -> Result<(), TestCaseError> {
        for (place, column) in columns.iter().enumerate() {
            prop_assert_eq!(cells.iter().map(|row| row[place]).sum::<i128>(), *column);
        }
        for (cells, row) in cells.iter().zip(rows) {
            prop_assert_eq!(cells.iter().sum::<i128>(), row.total);
        }
        Ok(())
    }
}
