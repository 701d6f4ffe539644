//! The decisions about funds and allocations, as functions of states and nothing else.

use ::domain::messages::allocation_status::{
    Allocation, AllocationDecision, Fund, FundStatus, FundingStatus, ProposeAllocation, RegisterFund,
};
use ::domain::messages::deals::{Deal, STAGES_CLOSED_TO_ALLOCATION};
use ::domain::money::same_currency;
use ::domain::rejection::check_text;
use ::domain::rules::{Rules, RulesUsed};
use ::domain::{Amount, Money, Reason, Rejection, calendar, ids};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Vintage years that can be meant.
const VINTAGE_YEARS: std::ops::RangeInclusive<i32> = 1950..=2100;

/// Checks a fund that is to be registered; returns its size with the currency's decimals.
pub fn check_fund(command: &RegisterFund) -> Result<Amount, Rejection> {
    check_text("name", &command.name, 200)?;
    check_text("fund_type", &command.fund_type, 60)?;
    if !command.fund_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(
            Reason::InvalidText.with(format!("fund_type {:?} has other characters than letters, digits, - and _", command.fund_type))
        );
    }
    if !VINTAGE_YEARS.contains(&command.vintage_year) {
        return Err(Reason::ImplausibleDate.with(format!("vintage_year {} is not between 1950 and 2100", command.vintage_year)));
    }
    calendar::known_calendars(&command.calendar)?;
    calendar::timezone(&command.timezone)?;
    Ok(Money::positive(command.size, command.currency)?.amount())
}

/// What a proposal is decided on.
pub struct Proposal<'a> {
    /// The fund, with what is allocated so far.
    pub fund: &'a Fund,
    /// The deal.
    pub deal: &'a Deal,
    /// The rules in force for the fund.
    pub rules: &'a Rules,
    /// Allocations of the deal that are pending or active.
    pub of_deal: &'a [Allocation],
}

/// Decides whether a fund may allocate an amount to a deal; returns the amount with the currency's
/// decimals. Checks the deal, the amount, the limits, duplicates and the fund's capacity.
pub fn propose(proposal: &Proposal<'_>, command: &ProposeAllocation) -> Result<Amount, Rejection> {
    let Proposal { fund, deal, rules, of_deal } = proposal;
    check_text("security_type", &command.security_type, 60)?;
    rules.check_details(&command.security_type, command.details.as_ref())?;
    same_currency(fund.currency, command.currency.unwrap_or(fund.currency))?;
    let amount = Money::positive(command.amount, fund.currency)?.amount();
    if STAGES_CLOSED_TO_ALLOCATION.contains(&deal.stage.as_str()) {
        return Err(Reason::DealClosedToAllocation.with(format!("deal {} is {}", deal.id, deal.stage)));
    }
    if amount < rules.allocation_min {
        return Err(Reason::AmountBelowMinimum.with(format!("{amount} is below {} of the rules", rules.allocation_min)));
    }
    if amount > rules.allocation_max {
        return Err(Reason::AmountAboveMaximum.with(format!("{amount} is above {} of the rules", rules.allocation_max)));
    }
    if let Some(before) = of_deal.iter().find(|before| before.fund_id == fund.id) {
        return Err(Reason::DuplicateAllocation
            .with(format!("allocation {} of fund {} to deal {} is {}", before.id, fund.id, deal.id, before.status)));
    }
    let most = rules.allocations_per_deal_max;
    if of_deal.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
        return Err(Reason::TooManyAllocations.with(format!(
            "deal {} has {} allocations, at most {most} are allowed",
            deal.id,
            of_deal.len()
        )));
    }
    if fund.allocated + amount > fund.size {
        return Err(Reason::OverCapacity.with(format!(
            "fund {} has {} of {} left, {amount} are asked",
            fund.id,
            fund.size - fund.allocated,
            fund.size
        )));
    }
    Ok(amount)
}

/// Who proposes an allocation, when, and as what.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// The rules by which its limits were checked.
    pub rules: RulesUsed,
}

/// The allocation that a proposal becomes, of an amount as [`propose`] returns it.
pub fn allocation(proposal: &Proposal<'_>, command: &ProposeAllocation, amount: Amount, made: Made) -> Allocation {
    let Proposal { fund, deal, .. } = proposal;
    let mut allocation = Allocation {
        id: made.id,
        version: 1,
        created_at: made.at,
        deal_id: deal.id,
        fund_id: fund.id,
        fund_type: fund.fund_type.clone(),
        currency: fund.currency,
        amount,
        security_type: command.security_type.clone(),
        details: command.details.clone(),
        requested_by: made.by,
        workflow_id: ids::workflow_id(made.id),
        rules: made.rules,
        decision: AllocationDecision::PendingApproval,
        called: fund.currency.zero(),
        paid: fund.currency.zero(),
        funding_status: FundingStatus::Committed,
        status: String::new(),
    };
    derive(&mut allocation);
    allocation
}

/// Takes capacity of a fund, or gives it back with a negative amount.
pub fn take_capacity(fund: &mut Fund, amount: Amount) {
    fund.allocated += amount;
    fund.status = fund_status(fund);
}

/// The status of a fund.
pub fn fund_status(fund: &Fund) -> FundStatus {
    if fund.allocated < fund.size { FundStatus::Open } else { FundStatus::FullyAllocated }
}

/// Puts a pending allocation in force or denies it.
pub fn decide(allocation: &Allocation, denied: bool) -> Result<AllocationDecision, Rejection> {
    match allocation.decision {
        AllocationDecision::PendingApproval if denied => Ok(AllocationDecision::Denied),
        AllocationDecision::PendingApproval => Ok(AllocationDecision::Active),
        _ => Err(Reason::AllocationNotPending.with(format!("allocation {} is {}", allocation.id, allocation.status))),
    }
}

/// Writes the derived parts of an allocation.
pub fn derive(allocation: &mut Allocation) {
    allocation.funding_status = funding_status(allocation.called, allocation.paid);
    allocation.status = match allocation.decision {
        AllocationDecision::Active => name(&allocation.funding_status),
        decided => name(&decided),
    };
}

fn name(value: &impl serde::Serialize) -> String {
    chassis::row::name(value)
}

/// `committed` when nothing is called, `unfunded` when nothing of it is paid, `partially_paid`, `funded`.
pub fn funding_status(called: Amount, paid: Amount) -> FundingStatus {
    match (called.is_positive(), paid.is_positive()) {
        (false, _) => FundingStatus::Committed,
        (true, false) => FundingStatus::Unfunded,
        (true, true) if paid < called => FundingStatus::PartiallyPaid,
        (true, true) => FundingStatus::Funded,
    }
}

mod splitting;

pub use splitting::split_deal;

#[cfg(test)]
mod tests;
