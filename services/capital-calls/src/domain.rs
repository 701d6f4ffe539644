//! The decisions of capital calls, as functions of states and nothing else.

use ::domain::messages::capital_calls::{
    CallDecision, CallLine, CallStatus, CapitalCall, Commitment, CommitmentStatus, LinePreview, LinePurpose, LineStatus, LineTiming,
    Payment, PaymentStatus, Purpose, PurposeKind, Reversal,
};
use ::domain::money::same_currency;
use ::domain::pro_rata::{self, Claim};
use ::domain::{Amount, Currency, Money, Reason, Rejection};
use chrono::{Days, NaiveDate};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Most purposes of one call.
pub const PURPOSES_MAX: usize = 50;

/// What capital-calls keeps of a fund.
#[derive(Clone, Debug)]
pub struct FundCopy {
    /// Id.
    pub id: Uuid,
    /// Type; chooses the rules.
    pub fund_type: String,
    /// Currency.
    pub currency: Currency,
    /// IANA time zone.
    pub timezone: String,
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

/// Checks the purposes of a call and writes their amounts with the currency's decimals. Returns the sum.
pub fn check_purposes(
    purposes: &mut [Purpose],
    fund: &FundCopy,
    given: Option<Currency>,
    allocation: impl Fn(Uuid) -> Option<AllocationCopy>,
) -> Result<Amount, Rejection> {
    if purposes.is_empty() || purposes.len() > PURPOSES_MAX {
        return Err(Reason::PurposeMismatch.with(format!("the call has {} purposes, expected 1 to {PURPOSES_MAX}", purposes.len())));
    }
    for position in 0..purposes.len() {
        let purpose = &mut purposes[position];
        purpose.amount = amount_in(fund.currency, purpose.amount, given)?;
        let id = match (purpose.kind, purpose.allocation_id) {
            (PurposeKind::Investment, Some(id)) => id,
            (PurposeKind::Investment, None) => return Err(Reason::PurposeMismatch.with("an investment without allocation_id")),
            (kind, Some(id)) => return Err(Reason::PurposeMismatch.with(format!("{kind:?} with allocation {id}"))),
            (_, None) => continue,
        };
        let wanted: Amount = purposes.iter().filter(|other| other.allocation_id == Some(id)).map(|other| other.amount).sum();
        check_allocation(id, fund, allocation(id), wanted)?;
    }
    Ok(purposes.iter().map(|purpose| purpose.amount).sum::<Amount>() + fund.currency.zero())
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

/// The hash of what is approved: any edit gives another one.
pub fn content_hash(fund_id: Uuid, purposes: &[Purpose], due_on: NaiveDate) -> String {
    let content = serde_json::json!({"fund_id": fund_id, "purposes": purposes, "due_on": due_on});
    let hash = Sha256::digest(content.to_string());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line an investor, pro rata to the commitments.
///
/// The part inside the commitments is capped by what each investor has unfunded, the rest goes to
/// the others; the part outside is not capped. Each investor's totals are fixed first and then
/// split over the purposes, so that the sums over investors and over purposes are both exact.
pub fn split_call(purposes: &[Purpose], commitments: &[Commitment], currency: Currency) -> Result<Vec<LinePreview>, Rejection> {
    if commitments.is_empty() {
        return Err(Reason::NoCommitments.with("no investor has a commitment to the fund that is effective by the due date"));
    }
    let inside = split_part(purposes, commitments, currency, true)?;
    let outside = split_part(purposes, commitments, currency, false)?;
    let mut lines = Vec::with_capacity(commitments.len());
    for (position, commitment) in commitments.iter().enumerate() {
        let mut cells = (inside[position].iter(), outside[position].iter());
        let parts: Vec<LinePurpose> = purposes
            .iter()
            .map(|purpose| {
                let cell = if purpose.inside_commitment { cells.0.next() } else { cells.1.next() };
                let amount = currency.from_minor(cell.copied().unwrap_or_default());
                LinePurpose { kind: purpose.kind, allocation_id: purpose.allocation_id, amount, paid: currency.zero() }
            })
            .filter(|part| part.amount.is_positive())
            .collect();
        let impact: i128 = inside[position].iter().sum();
        let amount: Amount = parts.iter().map(|part| part.amount).sum();
        if amount.is_positive() {
            lines.push(LinePreview {
                investor_id: commitment.investor_id,
                amount,
                impact_on_unfunded: currency.from_minor(-impact),
                purposes: parts,
            });
        }
    }
    Ok(lines)
}

fn split_part(purposes: &[Purpose], commitments: &[Commitment], currency: Currency, inside: bool) -> Result<Vec<Vec<i128>>, Rejection> {
    let columns: Vec<i128> =
        purposes.iter().filter(|purpose| purpose.inside_commitment == inside).map(|purpose| purpose.amount.minor(currency)).collect();
    let claims: Vec<Claim> = commitments
        .iter()
        .map(|commitment| Claim {
            id: commitment.investor_id,
            weight: commitment.amount.minor(currency),
            cap: inside.then(|| commitment.unfunded.minor(currency)),
        })
        .collect();
    let totals = pro_rata::split(columns.iter().sum(), &claims).map_err(|pro_rata::Shortfall(missing)| {
        Reason::CallExceedsUnfunded.with(format!(
            "{} {} cannot be placed inside the commitments",
            currency.from_minor(missing),
            currency.code()
        ))
    })?;
    let rows: Vec<(Uuid, i128)> = claims.iter().map(|claim| claim.id).zip(totals).collect();
    Ok(pro_rata::split_rows(&rows, &columns))
}

/// The commitments to a fund that count for a call due on a date.
pub fn effective(commitments: &[Commitment], fund_id: Uuid, due_on: NaiveDate) -> Vec<Commitment> {
    commitments.iter().filter(|commitment| commitment.fund_id == fund_id && commitment.effective_on <= due_on).cloned().collect()
}

/// Takes an issued line into its commitment.
pub fn draw(commitment: &mut Commitment, line: &LinePreview) {
    commitment.version += 1;
    commitment.called += line.amount;
    commitment.unfunded += line.impact_on_unfunded;
    commitment.status = commitment_status(commitment.unfunded);
}

/// The status of a commitment, from what is unfunded.
pub fn commitment_status(unfunded: Amount) -> CommitmentStatus {
    if unfunded.is_positive() { CommitmentStatus::Active } else { CommitmentStatus::FullyCalled }
}

/// What a payment does to its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentApplied {
    /// Part that reduces what is outstanding.
    pub applied: Amount,
    /// Part above it.
    pub unapplied: Amount,
}

/// Applies cash to a line, up to what is outstanding; the excess becomes unapplied credit.
pub fn pay(line: &CallLine, amount: Amount, given: Option<Currency>) -> Result<PaymentApplied, Rejection> {
    let amount = amount_in(line.currency, amount, given)?;
    let applied = amount.min(line.outstanding);
    Ok(PaymentApplied { applied: applied + line.currency.zero(), unapplied: amount - applied + line.currency.zero() })
}

/// Takes a payment back, once.
pub fn reverse(payment: &Payment, reversal: Reversal) -> Result<Reversal, Rejection> {
    match &payment.reversal {
        Some(before) => {
            Err(Reason::PaymentReversed.with(format!("payment {} was reversed with effect from {}", payment.id, before.effective_on)))
        }
        None => Ok(reversal),
    }
}

/// Adds applied and unapplied cash to a line; negative amounts take it away.
pub fn settle(line: &mut CallLine, applied: Amount, unapplied: Amount, today: NaiveDate) {
    line.version += 1;
    line.paid += applied;
    line.unapplied += unapplied;
    derive_line(line, today);
}

/// Writes the derived parts of a line: what is outstanding, the split of what is paid, the axes.
pub fn derive_line(line: &mut CallLine, today: NaiveDate) {
    line.outstanding = line.amount - line.paid;
    let claims: Vec<Claim> = line
        .purposes
        .iter()
        .zip(0u128..)
        .map(|(part, position)| {
            let amount = part.amount.minor(line.currency);
            Claim { id: Uuid::from_u128(position), weight: amount, cap: Some(amount) }
        })
        .collect();
    // paid never exceeds the amount, which is the sum of the caps
    let shares = pro_rata::split(line.paid.minor(line.currency), &claims).unwrap_or_default();
    for (part, share) in line.purposes.iter_mut().zip(shares) {
        part.paid = line.currency.from_minor(share);
    }
    line.status = line_status(line);
    line.timing = line_timing(line, today);
}

fn line_status(line: &CallLine) -> LineStatus {
    match (line.paid.is_positive(), line.outstanding.is_positive()) {
        (_, false) if line.unapplied.is_positive() => LineStatus::Overpaid,
        (_, false) => LineStatus::Paid,
        (true, true) => LineStatus::PartiallyPaid,
        (false, true) => LineStatus::Open,
    }
}

fn line_timing(line: &CallLine, today: NaiveDate) -> LineTiming {
    let grace_ends = line.due_on + Days::new(u64::try_from(line.grace_days).unwrap_or_default());
    match today {
        _ if !line.outstanding.is_positive() => LineTiming::Settled,
        _ if today < line.due_on => LineTiming::NotDue,
        _ if today == line.due_on => LineTiming::Due,
        _ if today <= grace_ends => LineTiming::Grace,
        _ => LineTiming::Overdue,
    }
}

/// The status of a call, from its decision and what is paid.
pub fn call_status(call: &CapitalCall) -> CallStatus {
    match call.decision {
        CallDecision::PendingApproval => CallStatus::PendingApproval,
        CallDecision::Cancelled => CallStatus::Cancelled,
        CallDecision::Issued if call.paid >= call.amount => CallStatus::Funded,
        CallDecision::Issued if call.paid.is_positive() => CallStatus::PartiallyFunded,
        CallDecision::Issued => CallStatus::Issued,
    }
}

/// The status of a payment.
pub fn payment_status(payment: &Payment) -> PaymentStatus {
    match payment.reversal {
        Some(_) => PaymentStatus::Reversed,
        None if payment.unapplied.is_positive() => PaymentStatus::Overpaid,
        None => PaymentStatus::Applied,
    }
}

#[cfg(test)]
mod tests;
