//! Cash for several lines at once, cash that waited for a person, and credit that pays another line.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    CallLine, CallLineChange, Clearing, Payment, PaymentChange, PaymentMethod, PaymentStatus, RECEIPT_PARTS_MAX, Receipt, ReceiptPart,
    RecordPayment, RecordReceipt, ReleasePayment, UseCredit,
};
use ::domain::money::same_currency;
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::late::{Histories, dependent};
use super::payments::{Desk, Recorded, Reported, moved, opening, publish, save_moved};
use super::today_of;
use crate::domain::Cash;
use crate::{CapitalCalls, domain, store};

fn part_of(body: &RecordReceipt, part: &ReceiptPart, first: bool) -> RecordPayment {
    RecordPayment {
        line_id: part.line_id,
        amount: part.amount,
        currency: body.currency,
        method: body.method,
        reference: body.reference.clone(),
        received_on: body.received_on,
        // one part stands for all when the receipt is reported again
        source: body.source.clone().filter(|_| first),
        external_reference: body.external_reference.clone().filter(|_| first),
    }
}

fn parts(body: &RecordReceipt, parts: &[ReceiptPart]) -> Vec<RecordPayment> {
    parts.iter().enumerate().map(|(place, part)| part_of(body, part, place == 0)).collect()
}

/// Gives each open line what is outstanding on it, in order, until nothing is left; the last one gets the rest.
fn spread(body: &RecordReceipt, lines: &[&CallLine]) -> Result<Vec<ReceiptPart>, Rejection> {
    let Some(last) = lines.last() else {
        return Err(Reason::NoLineToPay.with(format!("investor {} has no call line in fund {}", body.investor_id, body.fund_id)));
    };
    let mut left = domain::amount_in(last.currency, body.amount, body.currency)?;
    let mut parts: Vec<ReceiptPart> = Vec::new();
    for line in lines {
        let amount = left.min(line.outstanding);
        if amount.is_positive() {
            parts.push(ReceiptPart { line_id: line.id, amount });
            left -= amount;
        }
    }
    match parts.last_mut() {
        Some(part) => part.amount += left,
        None => parts.push(ReceiptPart { line_id: last.id, amount: left }),
    }
    if parts.len() > RECEIPT_PARTS_MAX {
        return Err(Reason::ReceiptMismatch.with(format!("it would pay {} lines, at most {RECEIPT_PARTS_MAX}", parts.len())));
    }
    Ok(parts)
}

fn check_parts(body: &RecordReceipt, parts: &[ReceiptPart], lines: &HashMap<Uuid, CallLine>) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::ReceiptMismatch.with(why));
    if parts.is_empty() || parts.len() > RECEIPT_PARTS_MAX {
        return refuse(format!("the receipt has {} parts, expected 1 to {RECEIPT_PARTS_MAX}", parts.len()));
    }
    for part in parts {
        match lines.get(&part.line_id) {
            None => return Err(Reason::UnknownCallLine.with(format!("call line {}", part.line_id))),
            Some(line) if (line.fund_id, line.investor_id) != (body.fund_id, body.investor_id) => {
                return refuse(format!("call line {} is not one of investor {} in fund {}", line.id, body.investor_id, body.fund_id));
            }
            Some(line) => domain::amount_in(line.currency, part.amount, body.currency)?,
        };
    }
    let named: std::collections::HashSet<Uuid> = parts.iter().map(|part| part.line_id).collect();
    if named.len() < parts.len() {
        return refuse("a call line is named twice".into());
    }
    let sum: Amount = parts.iter().map(|part| part.amount).sum();
    if sum == body.amount { Ok(()) } else { refuse(format!("the parts come to {sum}, the amount is {}", body.amount)) }
}

impl Handle<RecordReceipt> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordReceipt>) -> Result<Answers<Receipt>, Fault> {
        let nothing = ReceiptPart { line_id: Uuid::nil(), amount: Amount::ZERO };
        let heads: Vec<RecordPayment> = batch.iter().map(|sent| part_of(&sent.body, &nothing, true)).collect();
        let reported = Reported::lock(tx, heads.iter()).await?;
        let mut open: Vec<Vec<Uuid>> = Vec::new();
        for Sent { body, .. } in batch.iter() {
            open.push(match &body.parts {
                Some(parts) => parts.iter().map(|part| part.line_id).collect(),
                None => store::payable_lines(tx, body.fund_id, body.investor_id).await?,
            });
        }
        let mut lines = store::lock_lines(tx, &sorted_ids(open.iter().flatten().copied())).await?;
        for line in lines.values_mut() {
            domain::derive_line(line, today_of(tx, line));
        }
        // what is known of the lines, whatever the parts will be: the look of each part is sought when it is there
        let mut desk = Desk::open(tx, [].iter(), &lines, reported).await?;
        let mut answers = Answers::new();
        for (sent, open) in batch.iter().zip(&open) {
            let known = sent.context.actor.check_fund(sent.body.fund_id).and_then(|()| desk.known_receipt(&sent.body));
            answers.push(match known {
                Err(rejection) => Err(rejection),
                Ok(Some(receipt_id)) => known_receipt(tx, &sent.body, receipt_id, &desk).await?,
                Ok(None) => match plan(tx, sent, open, &lines) {
                    Err(rejection) => Err(rejection),
                    Ok(parts) => {
                        desk.look(tx, parts.iter(), &lines).await?;
                        receive(tx, &sent.context, &parts, &mut lines, &mut desk)?
                    }
                },
            });
        }
        desk.save(tx, &lines).await?;
        Ok(answers)
    }
}

fn plan(
    tx: &Tx,
    Sent { context, body, .. }: &Sent<RecordReceipt>,
    open: &[Uuid],
    lines: &HashMap<Uuid, CallLine>,
) -> Result<Vec<RecordPayment>, Rejection> {
    context.actor.check_fund(body.fund_id)?;
    if let Some(given) = &body.parts {
        check_parts(body, given, lines)?;
        return Ok(parts(body, given));
    }
    let mut open: Vec<&CallLine> = open.iter().filter_map(|id| lines.get(id)).collect();
    if let Some(line) = open.first() {
        let rules = tx.rules().rules(&line.fund_type, line.fund_id)?;
        open.sort_by_key(|line| (domain::turn(rules.application_order, line.due_on, line.issued_on, line.outstanding), line.id));
    }
    Ok(parts(body, &spread(body, &open)?))
}

async fn known_receipt(tx: &mut Tx, body: &RecordReceipt, receipt_id: Uuid, desk: &Desk) -> Result<Result<Receipt, Rejection>, Fault> {
    let mut payments = desk.parts_of(receipt_id);
    if payments.is_empty() {
        payments = store::payments_of_receipt(tx, receipt_id).await?;
    }
    let amount: Amount = payments.iter().map(|payment| payment.amount).sum();
    if amount == body.amount {
        return Ok(Ok(Receipt { receipt_id, payments }));
    }
    Ok(Err(Reason::ExternalReferenceReused.with(format!("receipt {receipt_id} of {amount} was reported with it"))))
}

/// Records all parts of a receipt, or none.
fn receive(
    tx: &mut Tx,
    context: &Context,
    parts: &[RecordPayment],
    lines: &mut HashMap<Uuid, CallLine>,
    desk: &mut Desk,
) -> Result<Result<Receipt, Rejection>, Fault> {
    let receipt_id = tx.new_id();
    let before = (lines.clone(), desk.clone());
    let mut payments = Vec::with_capacity(parts.len());
    for part in parts {
        let recorded = match lines.get_mut(&part.line_id) {
            None => Err(Reason::UnknownCallLine.with(format!("call line {}", part.line_id))),
            Some(line) => desk.record(tx, context, part, line, Some(receipt_id)),
        };
        match recorded {
            Ok(recorded) => payments.push((recorded, lines[&part.line_id].clone())),
            Err(rejection) => {
                (*lines, *desk) = before;
                return Ok(Err(rejection));
            }
        }
    }
    for (recorded, line) in &payments {
        if let Recorded::New(payment) = recorded {
            publish(tx, context, payment, line)?;
        }
    }
    desk.histories.publish(tx, context)?;
    Ok(Ok(Receipt { receipt_id, payments: payments.into_iter().map(|(recorded, _)| recorded.payment()).collect() }))
}

impl Handle<ReleasePayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ReleasePayment>) -> Result<Answers<Payment>, Fault> {
        let payment_ids = batch.ids(|command| command.payment_id);
        let line_ids = store::lines_of_payments(tx, &payment_ids).await?;
        let mut lines = store::lock_lines(tx, &line_ids).await?;
        let mut payments = store::lock_payments(tx, &payment_ids).await?;
        let opening = opening(&lines);
        let mut histories = Histories::default();
        let released = batch.iter().filter_map(|sent| payments.get(&sent.body.payment_id));
        histories.load(tx, &dependent(&lines, released.map(|payment| (payment.line_id, payment.received_on)), |_| false), &[]).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let released = match payments.get_mut(&body.payment_id) {
                None => Err(Reason::UnknownPayment.with(format!("payment {}", body.payment_id))),
                Some(payment) => match lines.get_mut(&payment.line_id) {
                    None => return Err(Fault::Fatal(format!("payment {} has no line", payment.id))),
                    Some(line) => release(tx, context, body, payment, line, &mut histories),
                },
            };
            if let Ok(payment) = &released {
                let Payment { id, applied, unapplied, .. } = *payment;
                tx.emit(context, &lines[&payment.line_id], CallLineChange::PaymentApplied { payment_id: id, applied, unapplied })?;
                tx.emit(context, payment, PaymentChange::Released { reason: body.reason.clone() })?;
                histories.publish(tx, context)?;
            }
            answers.push(released);
        }
        let changed = histories.changed();
        let released = answers.iter().flatten().map(|payment| changed.get(&payment.id).unwrap_or(payment));
        let others = changed.values().filter(|payment| !answers.iter().flatten().any(|released| released.id == payment.id));
        store::save_payments(tx, &released.chain(others).collect::<Vec<_>>()).await?;
        save_moved(tx, &[], &moved(&lines, &opening)).await?;
        Ok(answers)
    }
}

fn release(
    tx: &Tx,
    context: &Context,
    body: &ReleasePayment,
    payment: &mut Payment,
    line: &mut CallLine,
    histories: &mut Histories,
) -> Result<Payment, Rejection> {
    context.actor.check_fund(payment.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    if payment.status != PaymentStatus::Suspense {
        let status = chassis::row::name(&payment.status);
        return Err(Reason::NotSuspended.with(format!("payment {} is {status}", payment.id)));
    }
    let rules = tx.rules().rules(&line.fund_type, line.fund_id)?;
    tx.rules().check_open(&line.fund_type, line.fund_id, Transition::PaymentReleased)?;
    let today = today_of(tx, line);
    domain::derive_line(line, today);
    let paid = domain::pay(line, payment.suspended, None, rules.short_payment_tolerance)?;
    let cash = Cash { value_on: Some(payment.received_on), ..paid };
    domain::settle(line, cash, today);
    (payment.applied, payment.unapplied, payment.charges) = (cash.applied, cash.unapplied, cash.charges);
    payment.suspended = payment.currency.zero();
    if let Some(suspense) = &mut payment.suspense {
        suspense.released_by = Some(context.actor.user.clone());
    }
    payment.version += 1;
    histories.pay_anew(tx, line, payment);
    domain::derive_payment(payment, today);
    Ok(payment.clone())
}

impl Handle<UseCredit> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<UseCredit>) -> Result<Answers<Payment>, Fault> {
        let payment_ids = batch.ids(|command| command.payment_id);
        let line_ids = store::lines_of_payments(tx, &payment_ids).await?;
        let named = batch.iter().map(|sent| sent.body.line_id);
        let children = batch.iter().map(|sent| (sent.body.payment_id, sent.body.line_id));
        let mut lines = store::lock_lines(tx, &sorted_ids(line_ids.into_iter().chain(named.clone()))).await?;
        let mut payments = store::lock_payments(tx, &payment_ids).await?;
        let opening = opening(&lines);
        let mut histories = Histories::default();
        let value_on = |(payment_id, line_id): (Uuid, Uuid)| {
            let (payment, line) = (payments.get(&payment_id)?, lines.get(&line_id)?);
            Some((line_id, credit_value_on(tx, payment, line)))
        };
        let dependent = dependent(&lines, children.filter_map(value_on), |_| false);
        histories.load(tx, &dependent, &[]).await?;
        let mut added: Vec<Payment> = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let used = use_credit(tx, context, body, &mut payments, &mut lines, &mut histories);
            if let Ok(child) = &used {
                let Some(parent) = payments.get(&body.payment_id) else { continue };
                let amount = child.amount;
                tx.emit(context, parent, PaymentChange::CreditUsed { payment_id: child.id, amount })?;
                tx.emit(context, &lines[&parent.line_id], CallLineChange::CreditUsed { payment_id: parent.id, amount })?;
                publish(tx, context, child, &lines[&child.line_id])?;
                histories.publish(tx, context)?;
                added.push(child.clone());
                // a later command of the batch may use credit of what this one has changed
                for (id, changed) in histories.changed() {
                    if let Some(payment) = payments.get_mut(id).filter(|payment| payment.version < changed.version) {
                        payment.clone_from(changed);
                    }
                }
            }
            answers.push(used);
        }
        let changed = histories.changed();
        let parents = payments.values().filter(|payment| added.iter().any(|child| child.moved_from == Some(payment.id)));
        let is_here = |payment: &&Payment| added.iter().any(|child| child.id == payment.id || child.moved_from == Some(payment.id));
        let others = changed.values().filter(|payment| !is_here(payment));
        store::save_payments(tx, &parents.chain(others).collect::<Vec<_>>()).await?;
        let added: Vec<&Payment> = added.iter().map(|child| changed.get(&child.id).unwrap_or(child)).collect();
        save_moved(tx, &added, &moved(&lines, &opening)).await?;
        Ok(answers)
    }
}

/// From when credit pays another line: the cash is there since it came, but pays it from today on; or from then, where it comes later.
fn credit_value_on(tx: &Tx, parent: &Payment, line: &CallLine) -> NaiveDate {
    today_of(tx, line).max(parent.received_on)
}

fn use_credit(
    tx: &Tx,
    context: &Context,
    body: &UseCredit,
    payments: &mut HashMap<Uuid, Payment>,
    lines: &mut HashMap<Uuid, CallLine>,
    histories: &mut Histories,
) -> Result<Payment, Rejection> {
    let parent = payments.get_mut(&body.payment_id).ok_or_else(|| Reason::UnknownPayment.with(format!("payment {}", body.payment_id)))?;
    context.actor.check_fund(parent.fund_id)?;
    let line = lines.get_mut(&body.line_id).ok_or_else(|| Reason::UnknownCallLine.with(format!("call line {}", body.line_id)))?;
    if (line.fund_id, line.investor_id) != (parent.fund_id, parent.investor_id) || line.id == parent.line_id {
        let why = format!("call line {} is not another one of investor {} in fund {}", line.id, parent.investor_id, parent.fund_id);
        return Err(Reason::ReceiptMismatch.with(why));
    }
    same_currency(parent.currency, line.currency)?;
    tx.rules().check_open(&line.fund_type, line.fund_id, Transition::CreditUsed)?;
    let today = today_of(tx, line);
    domain::derive_line(line, today);
    let room = if parent.reversal.is_some() { Amount::ZERO } else { parent.unapplied.min(line.outstanding) };
    let wanted = body.amount.map_or(Ok(room), |amount| domain::amount_in(line.currency, amount, None))?;
    if !wanted.is_positive() || wanted > room {
        let (unapplied, outstanding) = (parent.unapplied, line.outstanding);
        let why = format!("payment {} has credit of {unapplied}, call line {} has {outstanding} outstanding", parent.id, line.id);
        return Err(Reason::NoCredit.with(why));
    }
    let received_on = credit_value_on(tx, parent, line);
    let cash = Cash { value_on: Some(received_on), ..domain::pay(line, wanted, None, Amount::ZERO)? };
    domain::settle(line, cash, today);
    let zero = line.currency.zero();
    let mut child = Payment {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        line_id: line.id,
        call_id: line.call_id,
        amount: wanted,
        applied: cash.applied,
        unapplied: cash.unapplied,
        interest: zero,
        charges: zero,
        suspended: zero,
        refunded: zero,
        moved: zero,
        method: PaymentMethod::InternalTransfer,
        reference: format!("credit of payment {}", parent.id),
        received_on,
        recorded_by: context.actor.user.clone(),
        source: None,
        external_reference: None,
        moved_from: Some(parent.id),
        suspense: None,
        reversal: None,
        clearing: Clearing::Cleared,
        status: PaymentStatus::Applied,
        ..parent.clone()
    };
    parent.unapplied -= wanted;
    parent.moved += wanted;
    parent.version += 1;
    domain::derive_payment(parent, today);
    histories.note(parent);
    histories.pay_anew(tx, line, &mut child);
    domain::derive_payment(&mut child, today);
    let (parent_line, parent) = (parent.line_id, Cash { unapplied: -wanted, ..Cash::default() });
    if let Some(line) = lines.get_mut(&parent_line) {
        domain::settle(line, parent, today);
    }
    Ok(child)
}
