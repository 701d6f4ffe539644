//! Calls whose purposes are not shared by commitment alone: somebody is excused, asked for a given amount, or has too little unfunded.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::{Commitment, Rounding};
use ::domain::pro_rata::{self, Because, Claim, Row, Share, Shortfall};
use ::domain::{Amount, Currency, Reason, Rejection};
use uuid::Uuid;

use super::split::{Kind, Part, Terms, explained, is_excused, kind_of};

/// Purposes that the same investors share.
struct Group {
    /// Places of the purposes.
    places: Vec<usize>,
    kind: Kind,
    /// Whether somebody is excused.
    excuses: bool,
    /// Sum of the purposes, in minor units.
    total: i128,
    /// Amounts that are given, by the commitments' places.
    given: BTreeMap<usize, i128>,
    /// The commitments of those who share the rest, in minor units; 0 for the others.
    weights: Vec<i128>,
    /// What each has been found to pay.
    shares: Vec<Share>,
}

impl Group {
    fn units(&self, at: usize) -> i128 {
        self.shares.get(at).map_or(0, |share| share.units)
    }

    fn to_share(&self) -> i128 {
        self.total - self.given.values().sum::<i128>()
    }
}

/// Shares group by group: inside the commitments, outside them, returns; of one kind those first that the fewest investors share, as
/// they have the fewest others to go to.
struct Placing<'a> {
    terms: Terms<'a>,
    commitments: &'a [Commitment],
    currency: Currency,
    groups: Vec<Group>,
    /// What each investor may be asked for in all before returns, where that is capped.
    caps: BTreeMap<usize, i128>,
    /// What each has room for in the groups of the kind that is being placed; none for no limit.
    room: Vec<Option<i128>>,
}

/// What each investor pays, found group by group.
pub fn by_groups(terms: Terms<'_>, commitments: &[Commitment], currency: Currency) -> Result<Vec<Part>, Rejection> {
    let mut placing = Placing { terms, commitments, currency, groups: vec![], caps: BTreeMap::new(), room: vec![] };
    placing.groups = placing.groups();
    placing.give()?;
    let (missing_inside, missing) = placing.place(true);
    // a cap that has been spread over the groups may bind one where another has room
    let (missing_inside, missing) =
        if missing_inside + missing > 0 && !placing.caps.is_empty() { placing.place(false) } else { (missing_inside, missing) };
    if missing_inside > 0 {
        let missing = currency.from_minor(missing_inside);
        return Err(Reason::CallExceedsUnfunded
            .with(format!("{missing} {} cannot be placed inside the commitments of those who may be asked", currency.code())));
    }
    if missing > 0 {
        let missing = currency.from_minor(missing);
        return Err(Reason::AdjustmentMismatch.with(format!("{missing} {} is left that nobody may be asked for", currency.code())));
    }
    Ok(placing.parts())
}

impl Placing<'_> {
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<(Kind, Vec<usize>, Vec<usize>)> = Vec::new();
        for (place, purpose) in self.terms.purposes.iter().enumerate() {
            let kind = kind_of(purpose);
            let who: Vec<usize> = (0..self.commitments.len()).filter(|at| !is_excused(&self.commitments[*at], purpose)).collect();
            match groups.iter_mut().find(|(same, sharing, _)| (*same, sharing.as_slice()) == (kind, who.as_slice())) {
                Some((_, _, places)) => places.push(place),
                None => groups.push((kind, who, vec![place])),
            }
        }
        groups.sort_by_key(|(kind, who, _)| (*kind, who.len()));
        let group = |(kind, who, places): (Kind, Vec<usize>, Vec<usize>)| {
            let mut weights = vec![0; self.commitments.len()];
            who.iter().for_each(|at| weights[*at] = self.minor(self.commitments[*at].amount));
            let total = places.iter().map(|place| self.minor(self.terms.purposes[*place].amount)).sum();
            let excuses = who.len() < weights.len();
            Group { places, kind, excuses, total, given: BTreeMap::new(), weights, shares: vec![] }
        };
        groups.into_iter().map(group).collect()
    }

    fn minor(&self, amount: Amount) -> i128 {
        amount.minor(self.currency)
    }

    /// Gives what is given, and notes caps. An amount is spread over the groups that the investor shares, by what they are about.
    fn give(&mut self) -> Result<(), Rejection> {
        for adjustment in self.terms.adjustments {
            let investor = adjustment.investor_id;
            let at = self.commitments.iter().position(|commitment| commitment.investor_id == investor).ok_or_else(|| {
                Reason::AdjustmentMismatch.with(format!("investor {investor} has no commitment that is effective by the due date"))
            })?;
            if let Some(cap) = adjustment.cap {
                self.caps.insert(at, self.minor(cap));
            }
            let Some(amount) = adjustment.amount else { continue };
            let asks = |group: &Group| if group.kind == Kind::Return || group.weights[at] == 0 { 0 } else { group.total };
            let spread =
                spread(self.minor(amount), self.groups.iter().map(|group| (asks(group), asks(group)))).map_err(|Shortfall(missing)| {
                    let missing = self.currency.from_minor(missing);
                    Reason::AdjustmentMismatch.with(format!("investor {investor} is given {missing} more than is called of it"))
                })?;
            for (group, units) in self.groups.iter_mut().zip(spread) {
                if asks(group) > 0 {
                    group.weights[at] = 0;
                    group.given.insert(at, units);
                }
            }
        }
        if let Some(group) = self.groups.iter().find(|group| group.to_share() < 0) {
            let (more, of) = (self.currency.from_minor(-group.to_share()), self.currency.from_minor(group.total));
            return Err(Reason::AdjustmentMismatch.with(format!("the amounts that are given are {more} more than {of}")));
        }
        for (at, commitment) in self.commitments.iter().enumerate() {
            let given = self.given(Kind::Inside, at);
            if given > 0 && given > self.minor(commitment.unfunded) {
                let (investor, given) = (commitment.investor_id, self.currency.from_minor(given));
                let why = format!("investor {investor} is given {given}, and has {} unfunded", commitment.unfunded);
                return Err(Reason::CallExceedsUnfunded.with(why));
            }
        }
        Ok(())
    }

    fn given(&self, kind: Kind, at: usize) -> i128 {
        self.groups.iter().filter(|group| group.kind == kind).filter_map(|group| group.given.get(&at)).sum()
    }

    /// Places all groups, and says what could not be placed inside the commitments and otherwise, in minor units.
    fn place(&mut self, spreads_caps: bool) -> (i128, i128) {
        self.groups.iter_mut().for_each(|group| group.shares.clear());
        let mut missing = BTreeMap::from([(Kind::Inside, 0), (Kind::Outside, 0), (Kind::Return, 0)]);
        for (kind, missing) in &mut missing {
            self.room = (0..self.commitments.len()).map(|at| self.room_for(*kind, at, spreads_caps)).collect();
            for number in 0..self.groups.len() {
                if self.groups[number].kind == *kind {
                    *missing += self.place_group(number);
                }
            }
        }
        (missing[&Kind::Inside], missing[&Kind::Outside] + missing[&Kind::Return])
    }

    /// What an investor has room for in the groups of one kind, beside what it is given.
    fn room_for(&self, kind: Kind, at: usize, spreads_caps: bool) -> Option<i128> {
        let unfunded = (self.minor(self.commitments[at].unfunded) - self.given(Kind::Inside, at)).max(0);
        let cap = self.caps.get(&at).map(|cap| (cap - self.groups.iter().map(|group| group.units(at)).sum::<i128>()).max(0));
        let of_cap = |group: &Group| {
            let of_all = group.total * group.weights[at] / group.weights.iter().sum::<i128>().max(1);
            if group.kind == Kind::Return || group.weights[at] == 0 { (0, 0) } else { (of_all.max(1), group.total) }
        };
        match kind {
            Kind::Return => None,
            Kind::Outside => cap,
            Kind::Inside => {
                let spread = cap.filter(|_| spreads_caps).and_then(|cap| spread(cap, self.groups.iter().map(of_cap)).ok());
                let inside = |(group, units): (&Group, i128)| if group.kind == Kind::Inside { units } else { 0 };
                let of_cap = spread.map(|spread| self.groups.iter().zip(spread).map(inside).sum::<i128>());
                [Some(unfunded), of_cap.or(cap)].into_iter().flatten().min()
            }
        }
    }

    /// Places one group as far as there is room, and says what is missing.
    fn place_group(&mut self, number: usize) -> i128 {
        let total = self.groups[number].to_share();
        let mut missing = 0;
        loop {
            match self.split(number, total - missing) {
                Ok(shares) => {
                    self.put(number, shares);
                    if missing == 0 || !self.make_room(number, missing, &mut vec![number]) {
                        return missing;
                    }
                    missing = 0;
                }
                Err(Shortfall(more)) => missing += more,
            }
        }
    }

    /// Splits what a group shares within the room that there is, its own included.
    fn split(&self, number: usize, total: i128) -> Result<Vec<Share>, Shortfall> {
        let group = &self.groups[number];
        let cap = |at: usize| self.room[at].map(|room| room + group.units(at));
        let claim = |(at, weight): (usize, &i128)| Claim { id: self.commitments[at].investor_id, weight: *weight, cap: cap(at) };
        let claims: Vec<Claim> = group.weights.iter().enumerate().map(claim).collect();
        if self.terms.rounding == Rounding::Cumulative && group.kind == Kind::Inside && !group.excuses {
            return split_to_date(total, &claims, |at| self.drawn(at));
        }
        pro_rata::split_explained(total, &claims)
    }

    /// What an investor has drawn before the groups that are not placed yet.
    fn drawn(&self, at: usize) -> i128 {
        let Commitment { investor_id, amount, unfunded, .. } = &self.commitments[at];
        let before = self.terms.drawn.and_then(|drawn| drawn.get(investor_id).copied()).unwrap_or(*amount - *unfunded);
        self.minor(before) + self.groups.iter().filter(|group| group.kind == Kind::Inside).map(|group| group.units(at)).sum::<i128>()
    }

    fn put(&mut self, number: usize, shares: Vec<Share>) {
        let group = &mut self.groups[number];
        for (at, room) in self.room.iter_mut().enumerate() {
            let more = shares.get(at).map_or(0, |share| share.units) - group.units(at);
            *room = room.map(|room| room - more);
        }
        group.shares = shares;
    }

    /// Has groups that are placed go to others as far as they can, so that those who share a group have room for more of it; by at most
    /// so many minor units. Says whether they have. (The search of Ford and Fulkerson for a path that augments, with all that can go one
    /// way at once.)
    fn make_room(&mut self, number: usize, wanted: i128, tried: &mut Vec<usize>) -> bool {
        let shares_it: Vec<bool> = self.groups[number].weights.iter().map(|weight| *weight > 0).collect();
        for other in 0..self.groups.len() {
            let group = &self.groups[other];
            let sharing = |at: usize| group.weights[at] > 0;
            let units: Vec<i128> = (0..shares_it.len()).map(|at| if shares_it[at] && sharing(at) { group.units(at) } else { 0 }).collect();
            let movable = wanted.min(units.iter().sum());
            if tried.contains(&other) || group.kind != self.groups[number].kind || movable == 0 {
                continue;
            }
            let has_room_elsewhere = (0..shares_it.len()).any(|at| sharing(at) && !shares_it[at] && self.room[at] != Some(0));
            if !has_room_elsewhere {
                tried.push(other);
                if !self.make_room(other, movable, tried) {
                    continue;
                }
            }
            let moved = self.go_elsewhere(other, &shares_it, &units, movable);
            // without it, the room that was made is theirs
            if moved || !has_room_elsewhere {
                return true;
            }
        }
        false
    }

    /// Moves at most so many units of a group from some of those who share it to the others who do, as far as these have room.
    fn go_elsewhere(&mut self, number: usize, from: &[bool], units: &[i128], most: i128) -> bool {
        let group = &self.groups[number];
        let room = |at: usize| self.room[at].unwrap_or(most);
        let to = |at: usize| if from[at] { (0, 0) } else { (group.weights[at], room(at)) };
        let amount = most.min((0..from.len()).map(to).filter(|(weight, _)| *weight > 0).map(|(_, room)| room).sum());
        let claim = |at: usize, (weight, most)| Claim { id: self.commitments[at].investor_id, weight, cap: Some(most) };
        let less: Vec<Claim> = units.iter().enumerate().map(|(at, units)| claim(at, (*units, *units))).collect();
        let more: Vec<Claim> = (0..from.len()).map(|at| claim(at, to(at))).collect();
        let (Ok(less), Ok(more)) = (pro_rata::split(amount, &less), pro_rata::split(amount, &more)) else {
            return false;
        };
        let mut shares = group.shares.clone();
        for (share, (less, more)) in shares.iter_mut().zip(less.iter().zip(&more)) {
            share.units += more - less;
        }
        let capped: Vec<bool> =
            (0..from.len()).map(|at| less[at] > 0 || shares[at].because == Because::Capped || room(at) == more[at]).collect();
        let open = || (0..from.len()).filter(|at| group.weights[*at] > 0 && !capped[*at]);
        let of: i128 = open().map(|at| shares[at].units).sum();
        let weights: i128 = open().map(|at| group.weights[at]).sum();
        for (at, share) in shares.iter_mut().enumerate() {
            *share = match share.units * weights > of * group.weights[at] {
                _ if capped[at] => Share { because: Because::Capped, ..*share },
                true => Share { units: share.units, because: Because::RoundedUp, of, weights },
                false => Share { units: share.units, because: Because::RoundedDown, of, weights },
            };
        }
        self.put(number, shares);
        amount > 0
    }

    /// What the groups come to, by investor.
    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::default(); self.commitments.len()];
        for group in &self.groups {
            let sign = if group.kind == Kind::Return { -1 } else { 1 };
            let columns: Vec<i128> = group.places.iter().map(|place| self.minor(self.terms.purposes[*place].amount)).collect();
            let pays = |at: usize| group.given.get(&at).copied().unwrap_or_else(|| group.units(at));
            let row = |(at, commitment): (usize, &Commitment)| Row { id: commitment.investor_id, total: pays(at), weight: pays(at) };
            let rows: Vec<Row> = self.commitments.iter().enumerate().map(row).collect();
            for (at, cells) in pro_rata::split_rows(&rows, &columns).into_iter().enumerate() {
                let part = &mut parts[at];
                part.cells.extend(group.places.iter().zip(cells).map(|(place, units)| (*place, sign * units)));
                if group.kind != Kind::Outside {
                    part.inside += sign * pays(at);
                }
                let given = group.given.get(&at).map(|units| Share { units: *units, of: group.total, ..Share::default() });
                let is_given = given.is_some();
                if let Some(share) =
                    given.or_else(|| group.shares.get(at).copied()).filter(|share| share.units > 0 || group.weights[at] > 0)
                {
                    part.shares.push(explained(group.places.clone(), group.weights[at], &share, is_given, self.currency));
                }
            }
        }
        parts
    }
}

/// Splits a total over groups, by weights and with the most that each can take.
fn spread(total: i128, parts: impl Iterator<Item = (i128, i128)>) -> Result<Vec<i128>, Shortfall> {
    let claims: Vec<Claim> =
        parts.zip(0u128..).map(|((weight, most), number)| Claim { id: Uuid::from_u128(number), weight, cap: Some(most) }).collect();
    pro_rata::split(total, &claims)
}

/// Most minor units by which a call may differ from its share for the sake of those before it: what was drawn is less than two units off
/// its share, and what shall be is less than one.
const MAKES_UP_FOR: i128 = 3;

/// Rounds what each has been called to date, and takes off what was called before: so calls make up for how those before them were
/// rounded, and for nothing else. Where somebody was excused or paid for another, or commitments have changed since, the call is split
/// by itself.
fn split_to_date(total: i128, claims: &[Claim], drawn: impl Fn(usize) -> i128) -> Result<Vec<Share>, Shortfall> {
    let before: i128 = (0..claims.len()).filter(|at| claims[*at].weight > 0).map(&drawn).sum();
    let uncapped: Vec<Claim> = claims.iter().map(|claim| Claim { cap: None, ..*claim }).collect();
    let to_date = pro_rata::split_explained(before + total, &uncapped)?;
    let weights: i128 = claims.iter().map(|claim| claim.weight).sum();
    let makes_up = |at: usize| (to_date[at].units - drawn(at)) * weights - total * claims[at].weight;
    if (0..claims.len()).any(|at| claims[at].weight > 0 && makes_up(at).abs() >= MAKES_UP_FOR * weights) {
        return pro_rata::split_explained(total, claims);
    }
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
