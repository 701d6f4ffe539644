//! The decisions about funds and allocations, as functions of states and nothing else.

use ::domain::messages::allocation_status::{
    Allocation, AllocationChange, AllocationDecision, Fund, FundStatus, FundingStatus, ProposeAllocation, RegisterFund, SettleWithdrawal,
    Withdrawal,
};
use ::domain::messages::deals::Deal;
use ::domain::money::same_currency;
use ::domain::rejection::check_text;
use ::domain::rules::concentration::{UNSPECIFIED, is_above, limit, percent_of};
use ::domain::rules::{Concentration, Rules, RulesUsed, WhenWithdrawn};
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
    /// What the fund has in deals of the same sector.
    pub of_sector: Amount,
}

/// The sector of a deal.
pub fn sector(deal: &Deal) -> &str {
    deal.sector.as_deref().unwrap_or(UNSPECIFIED)
}

/// Refuses an amount by which too much of the fund were in one place.
fn check_concentration(proposal: &Proposal<'_>, amount: Amount) -> Result<(), Rejection> {
    let Proposal { fund, deal, rules, of_sector, .. } = proposal;
    if is_above(amount, fund.size, rules.deal_percent_max) {
        return Err(Reason::DealConcentration.with(format!(
            "{amount} are {} percent of the {} of fund {}, at most {} may be in one deal",
            percent_of(amount, fund.size).0,
            fund.size,
            fund.id,
            rules.deal_percent_max.0
        )));
    }
    let (sector, in_sector) = (sector(deal), *of_sector + amount);
    match limit(&rules.sector_percents_max, sector) {
        Some(percent) if is_above(in_sector, fund.size, *percent) => Err(Reason::SectorConcentration.with(format!(
            "with {amount}, {in_sector} of the {} of fund {} would be in the sector {sector}, at most {} percent may be",
            fund.size, fund.id, percent.0
        ))),
        _ => Ok(()),
    }
}

/// Decides whether a fund may allocate an amount to a deal; returns the amount with the currency's
/// decimals. Checks the deal, the amount, the limits, duplicates and the fund's capacity.
pub fn propose(proposal: &Proposal<'_>, command: &ProposeAllocation) -> Result<Amount, Rejection> {
    let Proposal { fund, deal, rules, of_deal, .. } = proposal;
    check_text("security_type", &command.security_type, 60)?;
    rules.check_details(&command.security_type, command.details.as_ref())?;
    same_currency(fund.currency, command.currency.unwrap_or(fund.currency))?;
    let amount = Money::positive(command.amount, fund.currency)?.amount();
    if deal.is_off() {
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
    check_concentration(proposal, amount)?;
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
    let Proposal { fund, deal, of_sector, .. } = proposal;
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
        concentration: Some(Concentration {
            deal_percent: percent_of(amount, fund.size),
            sector: sector(deal).to_owned(),
            sector_percent: percent_of(*of_sector + amount, fund.size),
        }),
        withdrawal: None,
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

/// Why an allocation is taken back, and by whom.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What becomes of it.
    pub then: WhenWithdrawn,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Who takes allocations back whose deal will not happen.
pub const DEAL_SYSTEM: &str = "deal-system";

/// What the rules say of an allocation whose deal will not happen. Where they contradict each other, people decide.
pub fn deal_is_off(deal_stage: &str, allocation: &Allocation, rules: &Result<Rules, Rejection>, at: DateTime<Utc>) -> Asked {
    let then = match (rules, allocation.decision) {
        (Err(_), _) => WhenWithdrawn::Alert,
        (Ok(rules), AllocationDecision::PendingApproval) => rules.deal_withdrawn.pending,
        (Ok(rules), _) => rules.deal_withdrawn.active,
    };
    Asked { then, by: DEAL_SYSTEM.into(), reason: format!("the deal is {deal_stage}"), at }
}

/// Takes a pending allocation back, or begins to take back one in force; returns what happened to it.
///
/// # Errors
/// `allocation_not_active` where there is nothing left to take back, or it is being taken back already.
pub fn withdraw(allocation: &mut Allocation, asked: Asked) -> Result<AllocationChange, Rejection> {
    let is_underway = allocation.withdrawal.as_ref().is_some_and(|withdrawal| withdrawal.then != WhenWithdrawn::Alert);
    if is_underway || !allocation.decision.holds_capacity() {
        let state = if is_underway { "being taken back" } else { allocation.status.as_str() };
        return Err(Reason::AllocationNotActive.with(format!("allocation {} is {state}", allocation.id)));
    }
    let Asked { then, by, reason, at } = asked;
    if allocation.decision == AllocationDecision::PendingApproval && then != WhenWithdrawn::Alert {
        allocation.decision = AllocationDecision::Cancelled;
        allocation.withdrawal = None;
        derive(allocation);
        return Ok(AllocationChange::Cancelled { reason });
    }
    let workflow_id = ids::derived(&format!("withdrawal {}", allocation.version + 1), allocation.id);
    allocation.withdrawal = Some(Withdrawal { then, at, by, reason, workflow_id });
    Ok(AllocationChange::WithdrawalAsked)
}

/// Takes back that people are told of an allocation whose deal will happen after all; returns what happened to it.
///
/// # Errors
/// `allocation_not_withdrawn` where nobody is told of it.
pub fn deal_is_on(allocation: &mut Allocation, deal_stage: &str) -> Result<AllocationChange, Rejection> {
    let is_told = |withdrawal: &mut Withdrawal| withdrawal.then == WhenWithdrawn::Alert && withdrawal.by == DEAL_SYSTEM;
    match allocation.withdrawal.take_if(is_told) {
        Some(_) => Ok(AllocationChange::WithdrawalRefused { reason: format!("the deal is {deal_stage} again") }),
        None => Err(Reason::AllocationNotWithdrawn.with(format!("allocation {} is {}", allocation.id, allocation.status))),
    }
}

/// Reduces an allocation that is taken back to what is called for it, cancels it where nothing is, or leaves it as it is; returns what
/// happened to it.
///
/// # Errors
/// `allocation_not_withdrawn`, `call_exceeds_allocation`.
pub fn settle(allocation: &mut Allocation, command: &SettleWithdrawal) -> Result<AllocationChange, Rejection> {
    let of_workflow = |withdrawal: &Withdrawal| withdrawal.workflow_id == command.workflow_id;
    let is_underway = allocation.decision == AllocationDecision::Active && allocation.withdrawal.as_ref().is_some_and(of_workflow);
    let Some(withdrawal) = allocation.withdrawal.take_if(|_| is_underway) else {
        return Err(Reason::AllocationNotWithdrawn.with(format!("allocation {} is {}", allocation.id, allocation.status)));
    };
    if let Some(reason) = &command.kept_because {
        // of a deal that will not happen people are told still; what a person asked for is over
        let is_of_deal = withdrawal.by == DEAL_SYSTEM;
        allocation.withdrawal = is_of_deal.then_some(Withdrawal { then: WhenWithdrawn::Alert, ..withdrawal });
        return Ok(AllocationChange::WithdrawalRefused { reason: reason.clone() });
    }
    let called = allocation.currency.zero() + command.called;
    if called > allocation.amount {
        allocation.withdrawal = Some(withdrawal);
        return Err(
            Reason::CallExceedsAllocation.with(format!("{called} are called of {} of allocation {}", allocation.amount, allocation.id))
        );
    }
    if !called.is_positive() {
        allocation.decision = AllocationDecision::Cancelled;
        derive(allocation);
        return Ok(AllocationChange::Cancelled { reason: withdrawal.reason });
    }
    let by = allocation.amount - called;
    allocation.amount = called;
    Ok(AllocationChange::Reduced { by })
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

pub use splitting::{Taker, split_deal};

#[cfg(test)]
mod tests;
