//! Cash that goes back to investors: asked for, decided, paid out.
//!
//! Credit is kept for a refund from the moment it is asked for, so that it is refunded once. Rows are locked in the order lines,
//! payments, refunds.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    CancelRefund, DecideRefund, Payout, RecordPayout, Refund, RefundAccepted, RefundChange, RefundDecision, RefundStatus,
    RequestInterestPayout, RequestRefund,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection, calendar, ids};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::ledger::Ledger;
use crate::domain::FundCopy;
use crate::{CapitalCalls, domain, store};

/// What a refund is of.
enum Source {
    Payment(Uuid),
    Closing(Uuid),
}

fn new_refund(tx: &Tx, context: &Context, fund: &FundCopy, investor_id: Uuid, amount: Amount, source: &Source, reason: &str) -> Refund {
    let id = tx.new_id();
    let (payment_id, closing_id) = match source {
        Source::Payment(id) => (Some(*id), None),
        Source::Closing(id) => (None, Some(*id)),
    };
    let content = serde_json::json!({"refund": id, "fund_id": fund.id, "investor_id": investor_id, "amount": amount,
                                     "payment_id": payment_id, "closing_id": closing_id, "reason": reason});
    let hash = Sha256::digest(content.to_string());
    Refund {
        id,
        version: 1,
        created_at: tx.now(),
        fund_id: fund.id,
        fund_type: fund.fund_type.clone(),
        investor_id,
        currency: fund.currency,
        amount,
        payment_id,
        closing_id,
        reason: reason.to_owned(),
        requested_by: context.actor.user.clone(),
        workflow_id: ids::workflow_id(id),
        content_hash: hex::encode(hash),
        decision: RefundDecision::PendingApproval,
        cancelled_because: None,
        payout: None,
        status: RefundStatus::PendingApproval,
    }
}

fn accepted(refund: &Refund) -> RefundAccepted {
    RefundAccepted { workflow_id: refund.workflow_id, refund_id: refund.id }
}

impl Handle<RequestRefund> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RequestRefund>) -> Result<Answers<RefundAccepted>, Fault> {
        let payment_ids = batch.ids(|command| command.payment_id);
        let mut ledger = Ledger::lock(tx, &payment_ids).await?;
        let payments = payment_ids.iter().filter_map(|id| ledger.find(*id));
        let funds = store::funds(tx, &sorted_ids(payments.map(|payment| payment.fund_id))).await?;
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let requested = request(tx, context, body, &ledger, &funds);
            if let Ok(refund) = &requested {
                ledger.change_refunded(tx, context, body.payment_id, refund.id, refund.amount)?;
                tx.emit(context, refund, RefundChange::Requested)?;
                added.push(refund.clone());
            }
            answers.push(requested.map(|refund| accepted(&refund)));
        }
        ledger.save(tx).await?;
        store::insert_refunds(tx, &added).await?;
        Ok(answers)
    }
}

fn request(
    tx: &Tx,
    context: &Context,
    body: &RequestRefund,
    ledger: &Ledger,
    funds: &HashMap<Uuid, FundCopy>,
) -> Result<Refund, Rejection> {
    let payment = ledger.find(body.payment_id).ok_or_else(|| Reason::UnknownPayment.with(format!("payment {}", body.payment_id)))?;
    context.actor.check_fund(payment.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    let fund = funds.get(&payment.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", payment.fund_id)))?;
    tx.rules().check_open(&fund.fund_type, fund.id, Transition::RefundRequested)?;
    let amount = domain::refundable(payment, body.amount)?;
    Ok(new_refund(tx, context, fund, payment.investor_id, amount, &Source::Payment(payment.id), &body.reason))
}

impl Handle<RequestInterestPayout> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RequestInterestPayout>) -> Result<Answers<RefundAccepted>, Fault> {
        let asked: Vec<(Uuid, Uuid)> = batch.iter().map(|sent| (sent.body.closing_id, sent.body.investor_id)).collect();
        let mut owed = store::lock_interest(tx, &asked).await?;
        let closings = store::funds_of_closings(tx, &batch.ids(|command| command.closing_id)).await?;
        let funds = store::funds(tx, &sorted_ids(closings.values().copied())).await?;
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let fund = closings.get(&body.closing_id).map(|fund_id| (*fund_id, funds.get(fund_id)));
            let requested = request_interest(tx, context, body, fund, &mut owed);
            if let Ok(refund) = &requested {
                tx.emit(context, refund, RefundChange::Requested)?;
                added.push(refund.clone());
            }
            answers.push(requested.map(|refund| accepted(&refund)));
        }
        store::insert_refunds(tx, &added).await?;
        Ok(answers)
    }
}

fn request_interest(
    tx: &Tx,
    context: &Context,
    RequestInterestPayout { closing_id, investor_id }: &RequestInterestPayout,
    fund: Option<(Uuid, Option<&FundCopy>)>,
    owed: &mut HashMap<(Uuid, Uuid), store::InterestOwed>,
) -> Result<Refund, Rejection> {
    let (fund_id, fund) = fund.ok_or_else(|| Reason::UnknownClosing.with(format!("closing {closing_id}")))?;
    context.actor.check_fund(fund_id)?;
    let fund = fund.ok_or_else(|| Reason::UnknownFund.with(format!("fund {fund_id}")))?;
    let known = owed
        .get_mut(&(*closing_id, *investor_id))
        .ok_or_else(|| Reason::InterestNotPaid.with(format!("investor {investor_id} is owed no interest of closing {closing_id}")))?;
    let amount = domain::interest_due(known.owed, known.in_all, known.paid, known.paid_out, fund.currency);
    if !amount.is_positive() {
        let why = format!("of {} that are owed {} are paid; {} went to the investor", known.in_all, known.paid, known.paid_out);
        return Err(Reason::InterestNotPaid.with(why));
    }
    // the next one of the batch may ask for the same
    known.paid_out += amount;
    Ok(new_refund(tx, context, fund, *investor_id, amount, &Source::Closing(*closing_id), "interest of a later closing"))
}

/// Decides refunds that are locked with their payments.
async fn decide_all<C: ::domain::Command<Reply = Refund>>(
    tx: &mut Tx,
    batch: &Batch<C>,
    id: impl Fn(&C) -> Uuid,
    decide: impl Fn(&Context, &C, &mut Refund, Option<&store::InterestOwed>) -> Result<RefundChange, Rejection>,
) -> Result<Answers<Refund>, Fault> {
    let ids = sorted_ids(batch.iter().map(|sent| id(&sent.body)));
    let payment_ids = store::payments_of_refunds(tx, &ids).await?;
    let mut ledger = Ledger::lock(tx, &sorted_ids(payment_ids.into_iter())).await?;
    let mut refunds = store::lock_refunds(tx, &ids).await?;
    let interest = store::lock_interest_of_refunds(tx, &refunds).await?;
    let mut answers = Answers::new();
    for Sent { context, body, .. } in batch.iter() {
        let refund_id = id(body);
        let decided = match refunds.get_mut(&refund_id) {
            None => Err(Reason::UnknownRefund.with(format!("refund {refund_id}"))),
            Some(refund) => decide(context, body, refund, interest.get(&refund_id)).map(|change| (refund, change)),
        };
        answers.push(match decided {
            Err(rejection) => Err(rejection),
            Ok((refund, change)) => {
                refund.version += 1;
                refund.status = domain::refund_status(refund);
                if let (RefundChange::Cancelled, Some(payment_id)) = (&change, refund.payment_id) {
                    ledger.change_refunded(tx, context, payment_id, refund.id, -refund.amount)?;
                }
                tx.emit(context, &*refund, change)?;
                Ok(refund.clone())
            }
        });
    }
    ledger.save(tx).await?;
    store::save_refunds(tx, &refunds.values().collect::<Vec<_>>()).await?;
    Ok(answers)
}

fn not_pending(refund: &Refund) -> Rejection {
    Reason::RefundNotPending.with(format!("refund {} is {}", refund.id, chassis::row::name(&refund.status)))
}

impl Handle<DecideRefund> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideRefund>) -> Result<Answers<Refund>, Fault> {
        let decide = |_: &Context, body: &DecideRefund, refund: &mut Refund, _: Option<&store::InterestOwed>| {
            if refund.status != RefundStatus::PendingApproval || refund.content_hash != body.content_hash {
                return Err(not_pending(refund));
            }
            refund.cancelled_because.clone_from(&body.cancelled_because);
            match &body.cancelled_because {
                Some(_) => refund.decision = RefundDecision::Cancelled,
                None => refund.decision = RefundDecision::Approved,
            }
            Ok(if body.cancelled_because.is_some() { RefundChange::Cancelled } else { RefundChange::Approved })
        };
        decide_all(tx, batch, |body| body.refund_id, decide).await
    }
}

impl Handle<CancelRefund> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CancelRefund>) -> Result<Answers<Refund>, Fault> {
        let decide = |context: &Context, body: &CancelRefund, refund: &mut Refund, _: Option<&store::InterestOwed>| {
            context.actor.check_fund(refund.fund_id)?;
            check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
            if !matches!(refund.status, RefundStatus::PendingApproval | RefundStatus::Approved) {
                return Err(not_pending(refund));
            }
            refund.decision = RefundDecision::Cancelled;
            refund.cancelled_because = Some(body.reason.clone());
            Ok(RefundChange::Cancelled)
        };
        decide_all(tx, batch, |body| body.refund_id, decide).await
    }
}

impl Handle<RecordPayout> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordPayout>) -> Result<Answers<Refund>, Fault> {
        let accounts = store::accounts_of_refunds(tx, &batch.ids(|command| command.refund_id)).await?;
        let now = tx.now();
        let decide = |context: &Context, body: &RecordPayout, refund: &mut Refund, interest: Option<&store::InterestOwed>| {
            context.actor.check_fund(refund.fund_id)?;
            check_text("reference", &body.reference, domain::REFERENCE_CHARACTERS_MAX)?;
            let store::RefundAccount { in_use, cooling_off, timezone } = accounts.get(&refund.id).cloned().unwrap_or_default();
            let today = calendar::business_date(now, calendar::timezone(&timezone).unwrap_or_default());
            calendar::value_date("paid_on", body.paid_on, today)?;
            match refund.status {
                RefundStatus::Approved => {}
                RefundStatus::PendingApproval => return Err(Reason::RefundNotApproved.with(format!("refund {}", refund.id))),
                RefundStatus::Paid | RefundStatus::Cancelled => return Err(not_pending(refund)),
            }
            // what was paid when it was asked for may have gone back since
            if let Some(known) = interest
                && domain::interest_due(known.owed, known.in_all, known.paid, known.paid_out, refund.currency) < Amount::ZERO
            {
                let why = format!("of {} that are owed {} are paid, {} is to go to the investor", known.in_all, known.paid, known.paid_out);
                return Err(Reason::InterestNotPaid.with(why));
            }
            if in_use.is_none() && cooling_off {
                return Err(Reason::BankDetailsCoolingOff.with(format!("investor {} has no others", refund.investor_id)));
            }
            refund.payout = Some(Payout {
                paid_on: body.paid_on,
                reference: body.reference.clone(),
                recorded_by: context.actor.user.clone(),
                instructions: in_use,
            });
            Ok(RefundChange::PaidOut)
        };
        decide_all(tx, batch, |body| body.refund_id, decide).await
    }
}
