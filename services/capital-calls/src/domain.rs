//! The decisions of capital calls, as functions of states and nothing else.

use std::collections::HashSet;

use ::domain::calendar::BusinessDays;
use ::domain::messages::capital_calls::{
    ADJUSTMENTS_MAX, CallContent, CallDecision, CallLine, CallStatus, CapitalCall, LineAdjustment, LineStatus, LineTiming, PURPOSES_MAX,
    PinnedInstructions, Priority, Purpose, PurposeKind,
};
use ::domain::money::same_currency;
use ::domain::pro_rata::{self, Claim};
use ::domain::rejection::check_text;
use ::domain::rules::{NOTICE_DAYS_MAX, NoticeDays, Rules};
use ::domain::{Amount, Currency, Money, Reason, Rejection};
use chrono::{Days, NaiveDate};
use sha2::{Digest, Sha256};
use uuid::Uuid;

mod amend;
mod bank;
mod bank_details;
mod closing;
mod commitments;
mod cover;
mod late;
mod notice;
mod open_lines;
mod payments;
mod placing;
mod refunds;
mod split;

pub use amend::{Moved, amend_line, by_investor, cover_call, cover_line, divide, divide_with_new, rescind_line};
pub use bank::{Known, Proposal, line_ranges, masked_entry, propose, written_account, written_alias};
pub use bank_details::{bank_details_status, check_account, confirm, instructions_hash, reject, release, written_instructions};
pub use closing::{Earlier, Equalisation, equalise, is_shared_anew, share_anew};
pub use commitments::{Draw, Recorded, change, commitment_status, draw, effective, enter, excuse, impact, least_unfunded, transfer};
pub use cover::{Cover, cover};
pub use late::{LineTerms, check_default, check_failure, depends_on_history, overdue_history, pay_anew, pay_anew_within, standing};
pub use notice::{NoticeParts, notice};
pub use open_lines::{Member, OpenLine, OpenLines};
pub use payments::{
    Cash, REFERENCE_CHARACTERS_MAX, check_reference, check_source, derive_payment, pay, payment_status, reverse, settle, turn,
};
pub use refunds::{change_refunded, interest_due, refund_status, refundable};
pub use split::{Terms, check_unfunded, split_call};

/// What capital-calls keeps of a fund.
#[derive(Clone, Debug)]
pub struct FundCopy {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Type; chooses the rules.
    pub fund_type: String,
    /// Currency.
    pub currency: Currency,
    /// IANA time zone.
    pub timezone: String,
    /// Calendars of its bank holidays, with `+` between them.
    pub calendar: String,
    /// Its size; none until its owner has told it, since it is copied.
    pub size: Option<Amount>,
    /// Its bank details that are in use.
    pub instructions: Option<PinnedInstructions>,
}

/// What capital-calls keeps of an allocation.
#[derive(Clone, Debug)]
pub struct AllocationCopy {
    /// Id.
    pub id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Amount allocated.
    pub amount: Amount,
    /// Whether it is in force.
    pub active: bool,
    /// Called for it by issued calls.
    pub called: Amount,
}

/// Reads an amount that a person gave in the fund's currency.
pub fn amount_in(currency: Currency, amount: Amount, given: Option<Currency>) -> Result<Amount, Rejection> {
    same_currency(currency, given.unwrap_or(currency))?;
    Ok(Money::positive(amount, currency)?.amount())
}

/// Checks the purposes of a call and writes their amounts with the currency's decimals; those that nothing but their amount tells apart
/// become one. Returns their sum, less what is returned.
pub fn check_purposes(
    purposes: &mut Vec<Purpose>,
    fund: &FundCopy,
    given: Option<Currency>,
    allocation: impl Fn(Uuid) -> Option<AllocationCopy>,
) -> Result<Amount, Rejection> {
    if purposes.is_empty() || purposes.len() > PURPOSES_MAX {
        return Err(Reason::PurposeMismatch.with(format!("the call has {} purposes, expected 1 to {PURPOSES_MAX}", purposes.len())));
    }
    let mut joined: Vec<Purpose> = Vec::with_capacity(purposes.len());
    for purpose in purposes.iter() {
        let amount = amount_in(fund.currency, purpose.amount, given)?;
        match joined.iter_mut().find(|other| **other == Purpose { amount: other.amount, ..purpose.clone() }) {
            Some(other) => other.amount += amount,
            None => joined.push(Purpose { amount, ..purpose.clone() }),
        }
    }
    *purposes = joined;
    for position in 0..purposes.len() {
        let purpose = &mut purposes[position];
        // what was joined may be larger than an amount can be
        purpose.amount = amount_in(fund.currency, purpose.amount, given)?;
        if purpose.kind == PurposeKind::RecallableReturn && !purpose.inside_commitment {
            return Err(Reason::PurposeMismatch.with("a recallable return that does not change the unfunded commitments"));
        }
        if purpose.kind == PurposeKind::ClosingInterest {
            return Err(Reason::PurposeMismatch.with("the interest of a closing is called by the closing only, and not changed"));
        }
        let id = match (purpose.kind, purpose.allocation_id) {
            (PurposeKind::Investment, Some(id)) => id,
            (PurposeKind::Investment, None) => return Err(Reason::PurposeMismatch.with("an investment without allocation_id")),
            (kind, Some(id)) => return Err(Reason::PurposeMismatch.with(format!("{kind:?} with allocation {id}"))),
            (_, None) => continue,
        };
        let wanted: Amount = purposes.iter().filter(|other| other.allocation_id == Some(id)).map(|other| other.amount).sum();
        check_allocation(id, fund, allocation(id), wanted)?;
    }
    let is_return = |purpose: &Purpose| purpose.kind == PurposeKind::RecallableReturn;
    let signed = purposes.iter().map(|purpose| if is_return(purpose) { -purpose.amount } else { purpose.amount });
    let amount = signed.sum::<Amount>() + fund.currency.zero();
    if amount.is_positive() { Ok(amount) } else { Err(Reason::NetCallNotPositive.with(format!("the call comes to {amount}"))) }
}

fn check_allocation(id: Uuid, fund: &FundCopy, allocation: Option<AllocationCopy>, wanted: Amount) -> Result<(), Rejection> {
    let allocation = allocation.ok_or_else(|| Reason::UnknownAllocation.with(format!("allocation {id}")))?;
    if allocation.fund_id != fund.id {
        return Err(Reason::PurposeMismatch.with(format!("allocation {id} does not belong to fund {}", fund.id)));
    }
    if !allocation.active {
        return Err(Reason::AllocationNotActive.with(format!("allocation {id}")));
    }
    if allocation.called + wanted > allocation.amount {
        return Err(Reason::CallExceedsAllocation.with(format!(
            "allocation {id} of {} has {} left to call, {wanted} are asked",
            allocation.amount,
            allocation.amount - allocation.called
        )));
    }
    Ok(())
}

/// Checks the adjustments of a call and writes their amounts with the currency's decimals.
pub fn check_adjustments(adjustments: &mut [LineAdjustment], currency: Currency) -> Result<(), Rejection> {
    if adjustments.len() > ADJUSTMENTS_MAX {
        return Err(
            Reason::AdjustmentMismatch.with(format!("there are {} adjustments, at most {ADJUSTMENTS_MAX} are allowed", adjustments.len()))
        );
    }
    let mut named = HashSet::new();
    for adjustment in adjustments {
        check_text("reason of an adjustment", &adjustment.reason, 500)?;
        let why = |what: &str| Err(Reason::AdjustmentMismatch.with(format!("investor {} {what}", adjustment.investor_id)));
        if !named.insert(adjustment.investor_id) {
            return why("is adjusted twice");
        }
        match (&mut adjustment.amount, &mut adjustment.cap) {
            (Some(given), None) | (None, Some(given)) => *given = Money::positive(*given, currency)?.amount(),
            _ => return why("needs either an amount or a cap"),
        }
    }
    Ok(())
}

/// The hash of what is approved: any edit gives another one.
pub fn content_hash(fund_id: Uuid, content: &CallContent) -> String {
    let CallContent { purposes, amount, due_on, priority, adjustments, rounding, content_hash: _ } = content;
    let content = serde_json::json!({"fund_id": fund_id, "purposes": purposes, "amount": amount, "due_on": due_on, "priority": priority,
                                     "adjustments": adjustments, "rounding": rounding});
    hex::encode(Sha256::digest(content.to_string()))
}

/// Has a call say something else.
pub fn put_content(call: &mut CapitalCall, content: CallContent) {
    let CallContent { purposes, amount, due_on, priority, adjustments, rounding, content_hash } = content;
    (call.purposes, call.amount, call.due_on, call.priority) = (purposes, amount, due_on, priority);
    (call.adjustments, call.rounding, call.content_hash) = (adjustments, rounding, content_hash);
}

/// The earliest due date that the rules allow for a call that is issued on a date.
pub fn earliest_due(fund: &FundCopy, rules: &Rules, priority: Priority, issued_on: NaiveDate) -> Result<NaiveDate, Rejection> {
    business_days_after(fund, rules, issued_on, rules.notice_business_days.of(priority))
}

/// The date so many business days of a fund after a date.
pub fn business_days_after(fund: &FundCopy, rules: &Rules, date: NaiveDate, days: u16) -> Result<NaiveDate, Rejection> {
    BusinessDays::of(&fund.calendar, &rules.closed_on)?.after(date, days)
}

/// How many business days of notice a due date leaves, as far as any rule asks for.
pub fn notice_days(fund: &FundCopy, rules: &Rules, due_on: NaiveDate, today: NaiveDate) -> Result<u16, Rejection> {
    // twice as many days, and a week, have so many business days for sure
    let far = today + Days::new(2 * u64::from(NOTICE_DAYS_MAX) + 7);
    let days = BusinessDays::of(&fund.calendar, &rules.closed_on)?.between(today, due_on.min(far));
    Ok(u16::try_from(days).unwrap_or(NOTICE_DAYS_MAX).min(NOTICE_DAYS_MAX))
}

/// Refuses a due date that leaves less notice than the rules ask for.
pub fn check_notice(fund: &FundCopy, rules: &Rules, content: &CallContent, issued_on: NaiveDate) -> Result<(), Rejection> {
    // without a rule a call may be due whenever it is said to be
    if rules.notice_business_days == NoticeDays::default() {
        return Ok(());
    }
    let earliest = earliest_due(fund, rules, content.priority, issued_on)?;
    if content.due_on >= earliest {
        return Ok(());
    }
    let (due_on, priority) = (content.due_on, chassis::row::name(&content.priority));
    Err(Reason::NoticeTooShort
        .with(format!("a call of {priority} priority issued on {issued_on} is due on {earliest} or later, not on {due_on}")))
}

/// Writes the derived parts of a line: what is outstanding, the split of what is paid, the axes.
pub fn derive_line(line: &mut CallLine, today: NaiveDate) {
    line.outstanding = line.amount - line.paid;
    let claims: Vec<Claim> = line
        .purposes
        .iter()
        .zip(0u128..)
        .map(|(part, position)| {
            let amount = part.amount.minor(line.currency).max(0);
            Claim { id: Uuid::from_u128(position), weight: amount, cap: Some(amount) }
        })
        .collect();
    // what is netted pays like cash; both together never exceed the caps, whose sum is the amount before the return
    let netted: i128 = line.purposes.iter().map(|part| (-part.amount.minor(line.currency)).max(0)).sum();
    let shares = pro_rata::split(line.paid.minor(line.currency) + netted, &claims).unwrap_or_default();
    for (part, share) in line.purposes.iter_mut().zip(shares) {
        part.paid = if part.amount.is_positive() { line.currency.from_minor(share) } else { part.amount };
    }
    line.status = line_status(line);
    line.timing = time_of(line, today);
}

fn line_status(line: &CallLine) -> LineStatus {
    match (line.paid.is_positive(), line.outstanding.is_positive()) {
        (_, false) if line.unapplied.is_positive() => LineStatus::Overpaid,
        (_, false) => LineStatus::Paid,
        (true, true) => LineStatus::PartiallyPaid,
        (false, true) => LineStatus::Open,
    }
}

/// Where a line stands in time.
pub fn time_of(line: &CallLine, today: NaiveDate) -> LineTiming {
    let grace_ends = late::grace_ends(line);
    // a failure is cured with the interest, not before
    let is_uncured = line.failure_notice.is_some() && line.interest_due.is_positive();
    match today {
        _ if !line.outstanding.is_positive() && !is_uncured => LineTiming::Settled,
        _ if line.default.is_some() => LineTiming::Defaulted,
        _ if line.failure_notice.is_some() => LineTiming::DefaultNoticed,
        _ if today < line.due_on => LineTiming::NotDue,
        _ if today == line.due_on => LineTiming::Due,
        _ if today <= grace_ends => LineTiming::Grace,
        _ => LineTiming::Overdue,
    }
}

/// The status of a call, from its decision and what is paid.
pub fn call_status(call: &CapitalCall) -> CallStatus {
    match call.decision {
        CallDecision::Draft => CallStatus::Draft,
        CallDecision::Rescinded => CallStatus::Rescinded,
        CallDecision::PendingApproval => CallStatus::PendingApproval,
        CallDecision::Cancelled => CallStatus::Cancelled,
        CallDecision::Issued if call.paid >= call.amount => CallStatus::Funded,
        CallDecision::Issued if call.paid.is_positive() => CallStatus::PartiallyFunded,
        CallDecision::Issued => CallStatus::Issued,
    }
}

#[cfg(test)]
mod tests;
