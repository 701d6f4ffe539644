//! Cash that goes back to investors.

use ::domain::messages::capital_calls::{Clearing, Payment, Refund, RefundDecision, RefundStatus};
use ::domain::{Amount, Currency, Reason, Rejection};

use super::amount_in;

/// How much of a payment's credit is to be refunded: all of it, or the amount that was asked for.
pub fn refundable(payment: &Payment, amount: Option<Amount>) -> Result<Amount, Rejection> {
    if payment.reversal.is_some() {
        return Err(Reason::PaymentReversed.with(format!("payment {} has no credit to be refunded", payment.id)));
    }
    let amount = amount.map_or(Ok(payment.unapplied), |amount| amount_in(payment.currency, amount, None))?;
    if !amount.is_positive() || amount > payment.unapplied {
        return Err(
            Reason::NoCredit.with(format!("payment {} has credit of {}, {amount} is to be refunded", payment.id, payment.unapplied))
        );
    }
    if payment.clearing == Clearing::Clearing {
        let date = payment.clears_on.map(|date| date.to_string()).unwrap_or_default();
        return Err(Reason::NotCleared.with(format!("payment {} clears on {date}", payment.id)));
    }
    Ok(amount)
}

/// Moves credit of a payment into a refund, or back with a negative amount.
pub fn change_refunded(payment: &mut Payment, amount: Amount) {
    payment.unapplied -= amount;
    payment.refunded += amount;
    payment.version += 1;
    payment.status = super::payment_status(payment);
}

/// What of a closing's interest an investor can be paid now: its part of what those who owe interest have paid, cut off to the minor
/// unit, less what was paid out or is about to be.
pub fn interest_due(owed: Amount, in_all: Amount, paid: Amount, paid_out: Amount, currency: Currency) -> Amount {
    let [owed, in_all, paid] = [owed, in_all, paid].map(|amount| amount.minor(currency));
    // the units that are cut off come with the last payment: then `paid` is all of it
    let share = owed.checked_mul(paid).and_then(|product| product.checked_div(in_all)).unwrap_or_default();
    currency.from_minor(share) - paid_out
}

/// The status of a refund.
pub fn refund_status(refund: &Refund) -> RefundStatus {
    match refund.decision {
        RefundDecision::PendingApproval => RefundStatus::PendingApproval,
        RefundDecision::Cancelled => RefundStatus::Cancelled,
        RefundDecision::Approved if refund.payout.is_some() => RefundStatus::Paid,
        RefundDecision::Approved => RefundStatus::Approved,
    }
}
