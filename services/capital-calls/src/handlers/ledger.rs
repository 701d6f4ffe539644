//! Payments and their lines, as cash is taken back or kept for refunds.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{CallLine, CallLineChange, Payment, PaymentChange, Reversal, ReversePayment};
use ::domain::rejection::check_text;
use ::domain::{Amount, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Tx};
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::payments::{PaidMore, save_moved};
use super::today_of;
use crate::domain::Cash;
use crate::{domain, store};

/// Payments and their lines, locked, and what a batch has moved so far.
#[derive(Default)]
pub struct Ledger {
    payments: HashMap<Uuid, Payment>,
    lines: HashMap<Uuid, CallLine>,
    changed_payments: HashSet<Uuid>,
    changed_lines: HashSet<Uuid>,
    paid: PaidMore,
    /// Payments with a refund that is neither paid out nor cancelled.
    pending: Vec<Uuid>,
}

impl Ledger {
    /// Locks payments with all that they touch when they are taken back: what their credit has become, and the other payments of the lines.
    pub async fn lock(tx: &mut Tx, ids: &[Uuid]) -> Result<Ledger, Fault> {
        let family = store::family(tx, ids).await?;
        let lines = store::lock_lines(tx, &sorted_ids(family.into_iter().map(|(_, line_id)| line_id))).await?;
        // credit may have paid another line until then; who waits for that one while it holds lines may be waited for
        let family = store::family(tx, ids).await?;
        if family.iter().any(|(_, line_id)| !lines.contains_key(line_id)) {
            return Err(Fault::Transient("credit of a payment paid another line before the lines were locked".into()));
        }
        let mut payments = store::lock_payments_with_lines(tx, &family).await?;
        for payment in payments.values_mut() {
            if let Some(line) = lines.get(&payment.line_id) {
                domain::derive_payment(payment, today_of(tx, line));
            }
        }
        let pending = store::pending_refunds(tx, &sorted_ids(payments.keys().copied())).await?;
        Ok(Ledger { payments, lines, pending, ..Ledger::default() })
    }

    /// Refuses what cannot be taken back.
    pub fn check(&self, tx: &Tx, context: &Context, body: &ReversePayment) -> Result<Reversal, Rejection> {
        let payment =
            self.payments.get(&body.payment_id).ok_or_else(|| Reason::UnknownPayment.with(format!("payment {}", body.payment_id)))?;
        context.actor.check_fund(payment.fund_id)?;
        check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
        if let Some(line) = self.lines.get(&payment.line_id) {
            calendar::value_date("effective_on", body.effective_on, today_of(tx, line))?;
        }
        if let Some(member) = self.family(payment.id).into_iter().find(|member| self.pending.contains(member)) {
            return Err(Reason::RefundPending.with(format!("a refund of payment {member}")));
        }
        let refunded = |member: &Uuid| self.payments.get(member).is_some_and(|member| member.refunded.is_positive());
        if let Some(member) = self.family(payment.id).into_iter().find(refunded).filter(|_| body.cash_stays) {
            return Err(Reason::NoCredit.with(format!("payment {member} was refunded: that cash is not there any more")));
        }
        // its credit would be the parent's again, and what went back of it or of what it became could go back twice
        if payment.moved_from.is_some()
            && let Some(member) = self.family(payment.id).into_iter().find(refunded)
        {
            return Err(Reason::NoCredit.with(format!("payment {member} was refunded")));
        }
        let reversal = Reversal {
            reason: body.reason.clone(),
            effective_on: body.effective_on,
            reversed_by: context.actor.user.clone(),
            owed_back: payment.currency.zero(),
            cash_stays: body.cash_stays,
        };
        domain::reverse(payment, reversal)
    }

    /// Takes a payment back, and with it what its credit has become; what is its parent's credit is that again.
    pub fn take_back(&mut self, tx: &mut Tx, context: &Context, id: Uuid, reversal: &Reversal) -> Result<Payment, Fault> {
        for member in self.family(id) {
            self.reverse_one(tx, context, member, reversal)?;
        }
        let payment = self.payment(id)?.clone();
        if let Some(parent) = payment.moved_from.filter(|parent| self.payments.get(parent).is_some_and(|parent| parent.reversal.is_none()))
        {
            self.give_back(tx, context, parent, payment.amount)?;
        }
        Ok(payment)
    }

    /// A payment, and what its credit has become.
    fn family(&self, id: Uuid) -> Vec<Uuid> {
        let mut family = vec![id];
        let mut place = 0;
        while let Some(parent) = family.get(place).copied() {
            let is_child = |payment: &&Payment| payment.moved_from == Some(parent) && payment.reversal.is_none();
            family.extend(sorted_ids(self.payments.values().filter(is_child).map(|payment| payment.id)));
            place += 1;
        }
        family
    }

    /// A payment that is locked.
    pub fn find(&self, id: Uuid) -> Option<&Payment> {
        self.payments.get(&id)
    }

    fn payment(&mut self, id: Uuid) -> Result<&mut Payment, Fault> {
        self.payments.get_mut(&id).ok_or_else(|| Fault::Fatal(format!("payment {id} is not locked")))
    }

    fn line(&mut self, id: Uuid) -> Result<&mut CallLine, Fault> {
        self.lines.get_mut(&id).ok_or_else(|| Fault::Fatal(format!("call line {id} is not locked")))
    }

    fn reverse_one(&mut self, tx: &mut Tx, context: &Context, id: Uuid, reversal: &Reversal) -> Result<(), Fault> {
        let payment = self.payment(id)?;
        payment.reversal = Some(Reversal { owed_back: payment.refunded, ..reversal.clone() });
        payment.version += 1;
        payment.status = domain::payment_status(payment);
        let payment = payment.clone();
        self.changed_payments.insert(id);
        tx.emit(context, &payment, PaymentChange::Reversed)?;
        // one in suspense was never applied
        if payment.suspended.is_positive() {
            return Ok(());
        }
        let line = self.line(payment.line_id)?;
        domain::settle(line, -Cash::of(&payment), today_of(tx, line));
        let rules = tx.rules().rules(&line.fund_type, line.fund_id);
        let tolerance = rules.map(|rules| rules.short_payment_tolerance).unwrap_or_default();
        *self.paid.entry(payment.call_id).or_default() -= payment.applied;
        let credit_used = self.pay_anew(tx, context, payment.line_id, tolerance)?;
        let Payment { applied, unapplied, .. } = payment;
        let change = CallLineChange::PaymentReversed { payment_id: id, applied, unapplied, credit_used };
        tx.emit(context, &self.lines[&payment.line_id], change)
    }

    /// Gives a payment credit back that had paid another line.
    fn give_back(&mut self, tx: &mut Tx, context: &Context, id: Uuid, amount: Amount) -> Result<(), Fault> {
        let payment = self.payment(id)?;
        payment.moved -= amount;
        payment.unapplied += amount;
        payment.version += 1;
        payment.status = domain::payment_status(payment);
        let payment = payment.clone();
        self.changed_payments.insert(id);
        tx.emit(context, &payment, PaymentChange::CreditUsed { payment_id: id, amount: -amount })?;
        let line = self.line(payment.line_id)?;
        domain::settle(line, Cash { unapplied: amount, ..Cash::default() }, today_of(tx, line));
        self.pay_anew(tx, context, payment.line_id, Amount::ZERO)?;
        tx.emit(context, &self.lines[&payment.line_id], CallLineChange::CreditUsed { payment_id: id, amount: -amount })
    }

    /// Moves credit of a payment into a refund, or back with a negative amount: then it pays what is outstanding.
    pub fn change_refunded(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        payment_id: Uuid,
        refund_id: Uuid,
        amount: Amount,
    ) -> Result<(), Fault> {
        let payment = self.payment(payment_id)?;
        domain::change_refunded(payment, amount);
        let payment = payment.clone();
        self.changed_payments.insert(payment_id);
        tx.emit(context, &payment, PaymentChange::RefundChanged { refund_id, amount })?;
        let line = self.line(payment.line_id)?;
        domain::settle(line, Cash { unapplied: -amount, ..Cash::default() }, today_of(tx, line));
        self.pay_anew(tx, context, payment.line_id, Amount::ZERO)?;
        tx.emit(context, &self.lines[&payment.line_id], CallLineChange::CreditUsed { payment_id, amount })
    }

    /// Has what is left on a line pay it anew; returns how much of it was credit before.
    fn pay_anew(&mut self, tx: &mut Tx, context: &Context, line_id: Uuid, tolerance: Amount) -> Result<Amount, Fault> {
        let on_line = self.payments.values().filter(|payment| payment.line_id == line_id && payment.reversal.is_none());
        let mut on_line: Vec<Payment> = on_line.cloned().collect();
        self.changed_lines.insert(line_id);
        let line = self.line(line_id)?;
        let (before, charges) = (line.paid, line.charges);
        let changed = domain::pay_anew_within(line, &mut on_line, tolerance, today_of(tx, line));
        let (paid, charged, call_id) = (line.paid - before, line.charges - charges, line.call_id);
        *self.paid.entry(call_id).or_default() += paid;
        for place in changed {
            let payment = &on_line[place];
            tx.emit(context, payment, PaymentChange::Reapplied)?;
            self.changed_payments.insert(payment.id);
            self.payments.insert(payment.id, payment.clone());
        }
        Ok(paid - charged)
    }

    /// Stores what was moved.
    pub async fn save(&self, tx: &mut Tx) -> Result<(), Fault> {
        let changed: Vec<&Payment> = self.payments.values().filter(|payment| self.changed_payments.contains(&payment.id)).collect();
        store::save_payments(tx, &changed).await?;
        let lines = self.lines.values().filter(|line| self.changed_lines.contains(&line.id)).collect();
        save_moved(tx, &[], &store::Moved { lines, paid: self.paid.clone() }).await
    }
}
