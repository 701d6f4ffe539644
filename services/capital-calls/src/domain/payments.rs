//! What cash does to a line.

use std::ops::Neg;

use ::domain::messages::capital_calls::{CallLine, Clearing, Disposition, Payment, PaymentMethod, PaymentStatus, Reversal};
use ::domain::rejection::check_text;
use ::domain::rules::ApplicationOrder;
use ::domain::{Amount, Currency, Reason, Rejection};
use chrono::NaiveDate;

use super::{amount_in, derive_line};

/// Longest reference: what remittance information holds (SWIFT field 70, ISO 20022 `Ustrd`).
pub const REFERENCE_CHARACTERS_MAX: usize = 140;
/// What the payment related information of an ACH addenda record holds (Nacha, record type 7).
const ACH_CHARACTERS_MAX: usize = 80;
/// Longest check number: that of the MICR line (ANSI X9.27), with the words that people put before it.
const CHECK_CHARACTERS_MAX: usize = 40;

/// What a payment does to its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cash {
    /// Part that reduces what is outstanding.
    pub applied: Amount,
    /// Part above it.
    pub unapplied: Amount,
    /// What banks took on the way, within the tolerance: part of what is applied that never came.
    pub charges: Amount,
    /// Value date, of cash that comes.
    pub value_on: Option<NaiveDate>,
}

impl Neg for Cash {
    type Output = Cash;
    fn neg(self) -> Cash {
        Cash { applied: -self.applied, unapplied: -self.unapplied, charges: -self.charges, value_on: None }
    }
}

impl Cash {
    /// What of a payment stands on its line.
    pub fn of(payment: &Payment) -> Cash {
        Cash { applied: payment.applied, unapplied: payment.unapplied, charges: payment.charges, value_on: Some(payment.received_on) }
    }
}

/// Applies cash to a line, up to what is outstanding; the excess becomes unapplied credit. What is short by no more than the tolerance
/// counts as paid.
pub fn pay(line: &CallLine, amount: Amount, given: Option<Currency>, tolerance: Amount) -> Result<Cash, Rejection> {
    let amount = amount_in(line.currency, amount, given)?;
    if line.disposition == Disposition::Rescinded {
        return Err(Reason::CallRescinded.with(format!("call line {} of capital call {}", line.id, line.call_id)));
    }
    let zero = line.currency.zero();
    let short = line.outstanding - amount;
    let charges = if short.is_positive() && short <= tolerance { short } else { Amount::ZERO };
    let applied = (amount + charges).min(line.outstanding);
    Ok(Cash { applied: applied + zero, unapplied: amount + charges - applied + zero, charges: charges + zero, value_on: None })
}

/// Adds cash to a line, or takes it away. What is the latest value date after something is taken away, the payments that are left
/// say.
pub fn settle(line: &mut CallLine, cash: Cash, today: NaiveDate) {
    line.version += 1;
    line.paid += cash.applied;
    line.unapplied += cash.unapplied;
    line.charges += cash.charges;
    if cash.applied.is_positive() {
        line.last_paid_on = line.last_paid_on.max(cash.value_on);
    }
    derive_line(line, today);
}

/// Takes a payment back, once.
pub fn reverse(payment: &Payment, reversal: Reversal) -> Result<Reversal, Rejection> {
    match &payment.reversal {
        Some(before) => {
            Err(Reason::PaymentReversed.with(format!("payment {} was reversed with effect from {}", payment.id, before.effective_on)))
        }
        None if reversal.effective_on < payment.received_on => {
            let why = format!(
                "payment {} was received on {}, it cannot be reversed from {}",
                payment.id, payment.received_on, reversal.effective_on
            );
            Err(Reason::ImplausibleDate.with(why))
        }
        None => Ok(reversal),
    }
}

/// The status of a payment.
pub fn payment_status(payment: &Payment) -> PaymentStatus {
    match payment.reversal {
        Some(_) => PaymentStatus::Reversed,
        None if payment.suspended.is_positive() => PaymentStatus::Suspense,
        None if payment.unapplied.is_positive() => PaymentStatus::Overpaid,
        None => PaymentStatus::Applied,
    }
}

/// Writes the derived parts of a payment.
pub fn derive_payment(payment: &mut Payment, today: NaiveDate) {
    payment.clearing = if payment.clears_on.is_some_and(|date| date > today) { Clearing::Clearing } else { Clearing::Cleared };
    payment.status = payment_status(payment);
}

/// Refuses a reference that the payment method does not carry: a wire and an internal transfer take 140 characters of text, SEPA 140 of
/// its Latin set (EPC217-08), ACH 80 of ASCII, and that of a check ends with its number.
pub fn check_reference(method: PaymentMethod, reference: &str) -> Result<(), Rejection> {
    check_text("reference", reference, REFERENCE_CHARACTERS_MAX)?;
    let refuse = |why: &str| Err(Reason::InvalidReference.with(format!("reference {reference:?} {why}")));
    match method {
        PaymentMethod::Wire | PaymentMethod::InternalTransfer => Ok(()),
        PaymentMethod::Sepa => {
            let carried = |byte: u8| byte.is_ascii_alphanumeric() || b"/-?:().,'+ ".contains(&byte);
            match reference.bytes().all(carried) {
                true => Ok(()),
                false => refuse("has characters that SEPA does not carry: letters, digits, spaces and / - ? : ( ) . , ' + are"),
            }
        }
        PaymentMethod::Ach if !reference.is_ascii() => refuse("has characters that are not ASCII"),
        PaymentMethod::Ach if reference.len() > ACH_CHARACTERS_MAX => refuse("has more than the 80 characters of an ACH addenda record"),
        PaymentMethod::Ach => Ok(()),
        PaymentMethod::Check => match reference.len() <= CHECK_CHARACTERS_MAX && reference.ends_with(|last: char| last.is_ascii_digit()) {
            true => Ok(()),
            false => refuse("does not end with the number of the check, within 40 characters"),
        },
    }
}

/// Refuses a source without an external reference, or the other way round.
pub fn check_source(source: Option<&str>, external_reference: Option<&str>) -> Result<(), Rejection> {
    match (source, external_reference) {
        (None, None) => Ok(()),
        (Some(source), Some(reference)) => {
            check_text("source", source, 100)?;
            check_text("external_reference", reference, REFERENCE_CHARACTERS_MAX)
        }
        _ => Err(Reason::InvalidReference.with("source and external_reference are given together")),
    }
}

/// When it is the turn of a line to be paid: the least comes first, of equal ones that with the least id.
pub fn turn(order: ApplicationOrder, due_on: NaiveDate, issued_on: NaiveDate, outstanding: Amount) -> (Option<NaiveDate>, Amount) {
    match order {
        ApplicationOrder::OldestDue => (Some(due_on), Amount::ZERO),
        ApplicationOrder::OldestIssued => (Some(issued_on), Amount::ZERO),
        ApplicationOrder::SmallestOutstanding => (None, outstanding),
    }
}
