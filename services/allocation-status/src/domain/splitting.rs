//! How a deal is split over funds before it is proposed.

use ::domain::messages::allocation_status::{
    Allocation, AllocationsPreview, Fund, PreviewAllocations, ProposeAllocation, Share, SplitBy, TAKERS_MAX,
};
use ::domain::messages::deals::Deal;
use ::domain::money::{Ratio, same_currency};
use ::domain::pro_rata::{self, Claim};
use ::domain::rules::Rules;
use ::domain::rules::concentration::limit;
use ::domain::{Amount, Currency, Money, Problem, Reason, Rejection};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Made, Proposal, allocation, propose, sector};

/// Largest weight that may be given.
const WEIGHT_MAX: i64 = 1_000_000_000;
/// Decimals of a weight that count.
const WEIGHT_DECIMALS: u32 = 9;

/// What one fund may take, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taking {
    pub id: Uuid,
    pub weight: i128,
    /// Less than this is nothing.
    pub least: i128,
    pub most: i128,
}

/// Splits a total by weight, each fund within its limits; gives nothing to those who would get less than their least, the smallest
/// share first. What no fund can take is left out.
pub(super) fn split(total: i128, takings: &[Taking]) -> Vec<i128> {
    let mut weights: Vec<i128> = takings.iter().map(|taking| if taking.most < taking.least { 0 } else { taking.weight }).collect();
    // each round takes one out
    for _ in 0..=takings.len() {
        let claim = |(taking, weight): (&Taking, &i128)| Claim { id: taking.id, weight: *weight, cap: Some(taking.most) };
        let claims: Vec<Claim> = takings.iter().zip(&weights).map(claim).collect();
        let room: i128 = claims.iter().filter(|claim| claim.weight > 0).filter_map(|claim| claim.cap).sum();
        let Ok(shares) = pro_rata::split(total.min(room), &claims) else { break };
        let too_little = (0..takings.len()).filter(|at| weights[*at] > 0 && shares[*at] < takings[*at].least);
        match too_little.min_by_key(|at| (shares[*at], takings[*at].id)) {
            None => return shares,
            Some(at) => weights[at] = 0,
        }
    }
    vec![0; takings.len()]
}

fn weight(query: &PreviewAllocations, fund: &Fund, given: Option<Ratio>) -> Result<i128, Rejection> {
    match query.by {
        SplitBy::Capacity => Ok((fund.size - fund.allocated).minor(fund.currency).max(0)),
        SplitBy::Size => Ok(fund.size.minor(fund.currency)),
        SplitBy::Weight => {
            let refuse = |why: &str| Reason::MalformedRequest.with(format!("the weight of fund {} {why}", fund.id));
            let Ratio(weight) = given.ok_or_else(|| refuse("is missing"))?;
            if weight <= Decimal::ZERO || weight > Decimal::from(WEIGHT_MAX) || weight.normalize().scale() > WEIGHT_DECIMALS {
                return Err(refuse(&format!("is not above 0 and at most {WEIGHT_MAX}, with at most {WEIGHT_DECIMALS} decimals")));
            }
            let units = weight.normalize();
            Ok(units.mantissa() * 10i128.pow(WEIGHT_DECIMALS - units.scale()))
        }
    }
}

/// A fund that may take part.
pub struct Taker {
    /// The fund.
    pub fund: Fund,
    /// The weight that was given.
    pub weight: Option<Ratio>,
    /// Its rules.
    pub rules: Rules,
    /// What it has in deals of the same sector.
    pub of_sector: Amount,
}

impl Taker {
    /// The most that it could take: what it has left, and what its rules allow.
    fn most(&self, sector: &str) -> Amount {
        let Taker { fund, rules, of_sector, .. } = self;
        let of_size = |percent: Ratio| Amount::from_decimal(fund.size.decimal() * percent.0 / Decimal::ONE_HUNDRED);
        let left = (fund.size - fund.allocated).min(rules.allocation_max).min(of_size(rules.deal_percent_max));
        let most = limit(&rules.sector_percents_max, sector).map_or(left, |percent| left.min(of_size(*percent) - *of_sector));
        // not above any of the limits
        fund.currency.from_minor(most.max(Amount::ZERO).minor(fund.currency))
    }
}

fn currency_of(takers: &[Taker]) -> Result<Currency, Rejection> {
    let count = takers.len();
    let Some((first, others)) = takers.split_first().filter(|_| count <= TAKERS_MAX) else {
        return Err(Reason::MalformedRequest.with(format!("the request has {count} funds, expected 1 to {TAKERS_MAX}")));
    };
    for other in others {
        same_currency(first.fund.currency, other.fund.currency)?;
    }
    Ok(first.fund.currency)
}

/// Splits an amount for a deal over funds. A fund that may not take part gets nothing, and says why.
pub fn split_deal(
    query: &PreviewAllocations,
    deal: &Deal,
    takers: Vec<Taker>,
    mut of_deal: Vec<Allocation>,
) -> Result<AllocationsPreview, Rejection> {
    let currency = currency_of(&takers)?;
    let total = Money::positive(query.amount, currency)?.amount().minor(currency);
    let proposal = |fund: &Fund, amount| ProposeAllocation {
        deal_id: deal.id,
        fund_id: fund.id,
        amount,
        currency: Some(currency),
        security_type: query.security_type.clone(),
        details: query.details.clone(),
    };
    let mut takings = Vec::with_capacity(takers.len());
    for taker in &takers {
        let Taker { fund, weight: given, rules, of_sector } = taker;
        let most = taker.most(sector(deal));
        let weight = weight(query, fund, *given)?;
        // as if it took all it can: it has an allocation, or the deal is closed
        let may = most >= rules.allocation_min
            && propose(&Proposal { fund, deal, rules, of_deal: &of_deal, of_sector: *of_sector }, &proposal(fund, most)).is_ok();
        let weight = if may { weight } else { 0 };
        takings.push(Taking { id: fund.id, weight, least: rules.allocation_min.minor(currency), most: most.minor(currency) });
    }
    let units = split(total, &takings);
    let mut preview = AllocationsPreview { currency, shares: vec![], left: currency.zero(), allocations: vec![] };
    let mut left = total;
    for ((Taker { fund, rules, of_sector, .. }, units), taking) in takers.into_iter().zip(units).zip(&takings) {
        // who gets nothing is asked for the least that is something, to say why
        let asked = if units > 0 { units } else { taking.most.max(taking.least) };
        let body = proposal(&fund, currency.from_minor(asked));
        let taken = propose(&Proposal { fund: &fund, deal, rules: &rules, of_deal: &of_deal, of_sector }, &body);
        let problem = match taken {
            Ok(amount) if units > 0 => {
                left -= units;
                // the next one is decided on top of it
                of_deal.push(allocation(
                    &Proposal { fund: &fund, deal, rules: &rules, of_deal: &[], of_sector },
                    &body,
                    amount,
                    Made::default(),
                ));
                preview.allocations.push(body);
                None
            }
            Ok(_) => Some(Reason::AmountBelowMinimum.with(format!("its share would be below {} of the rules", rules.allocation_min))),
            Err(rejection) => Some(rejection),
        };
        let amount = if problem.is_none() { currency.from_minor(units) } else { currency.zero() };
        let most = currency.from_minor(taking.most);
        preview.shares.push(Share { fund_id: fund.id, name: fund.name, amount, most, problem: problem.map(Problem::from) });
    }
    preview.left = currency.from_minor(left);
    Ok(preview)
}
