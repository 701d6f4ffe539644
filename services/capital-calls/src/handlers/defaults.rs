//! Investors who do not pay: notice, default, remedies, and others who pay for them.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    CallLine, CallLineChange, Commitment, CommitmentChange, CommitmentStatus, DeclareDefault, DefaultDeclared, FailureNotice,
    NoticeFailure, PaymentMethod, RecordPayment, RecordRemedy, Remedy, RemedyKind, RemedyRecorded,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::payments::{Desk, Recorded, Reported, publish};
use super::today_of;
use crate::domain::{self, FundCopy};
use crate::{CapitalCalls, store};

/// The refusal of a line that is not there.
pub fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownCallLine.with(format!("call line {id}"))
}

/// The lines with these ids, locked, as of the business dates of their funds.
async fn lock_lines(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, CallLine>, Fault> {
    let mut lines = store::lock_lines(tx, ids).await?;
    for line in lines.values_mut() {
        domain::derive_line(line, today_of(tx, line));
    }
    Ok(lines)
}

async fn funds_of(tx: &mut Tx, lines: &HashMap<Uuid, CallLine>) -> Result<HashMap<Uuid, FundCopy>, Fault> {
    store::funds(tx, &sorted_ids(lines.values().map(|line| line.fund_id))).await
}

fn fund<'a>(funds: &'a HashMap<Uuid, FundCopy>, line: &CallLine) -> Result<&'a FundCopy, Rejection> {
    funds.get(&line.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", line.fund_id)))
}

impl Handle<NoticeFailure> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<NoticeFailure>) -> Result<Answers<CallLine>, Fault> {
        let mut lines = lock_lines(tx, &batch.ids(|command| command.line_id)).await?;
        let funds = funds_of(tx, &lines).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let noticed = match lines.get_mut(&body.line_id) {
                None => Err(unknown(body.line_id)),
                Some(line) => notice(tx, context, body, line, &funds),
            };
            if let Ok(line) = &noticed {
                tx.emit(context, line, CallLineChange::FailureNoticed)?;
            }
            answers.push(noticed);
        }
        store::save_lines(tx, &answers.iter().flatten().collect::<Vec<_>>(), &[]).await?;
        Ok(answers)
    }
}

fn notice(
    tx: &Tx,
    context: &Context,
    body: &NoticeFailure,
    line: &mut CallLine,
    funds: &HashMap<Uuid, FundCopy>,
) -> Result<CallLine, Rejection> {
    context.actor.check_fund(line.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    tx.rules().check_open(&line.fund_type, line.fund_id, Transition::FailureNoticed)?;
    let (fund, today) = (fund(funds, line)?, today_of(tx, line));
    domain::check_failure(line, today)?;
    let rules = tx.rules().rules(&line.fund_type, line.fund_id)?;
    line.failure_notice = Some(FailureNotice {
        noticed_on: today,
        cure_by: domain::business_days_after(fund, &rules, today, rules.cure_business_days)?,
        reason: body.reason.clone(),
        noticed_by: context.actor.user.clone(),
    });
    line.version += 1;
    domain::derive_line(line, today);
    Ok(line.clone())
}

/// The commitments of lines, locked, by fund and investor.
async fn lock_commitments(tx: &mut Tx, lines: &HashMap<Uuid, CallLine>) -> Result<HashMap<(Uuid, Uuid), Commitment>, Fault> {
    let holders: Vec<(Uuid, Uuid)> = lines.values().map(|line| (line.fund_id, line.investor_id)).collect();
    let ids = store::commitment_ids(tx, &holders).await?;
    let commitments = store::lock_commitments_by_id(tx, &sorted_ids(ids.into_values())).await?;
    Ok(commitments.into_values().map(|commitment| ((commitment.fund_id, commitment.investor_id), commitment)).collect())
}

fn commitment_of<'a>(commitments: &'a mut HashMap<(Uuid, Uuid), Commitment>, line: &CallLine) -> Result<&'a mut Commitment, Rejection> {
    let missing = || Reason::UnknownCommitment.with(format!("of investor {} to fund {}", line.investor_id, line.fund_id));
    commitments.get_mut(&(line.fund_id, line.investor_id)).ok_or_else(missing)
}

impl Handle<DeclareDefault> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DeclareDefault>) -> Result<Answers<CallLine>, Fault> {
        let mut lines = lock_lines(tx, &batch.ids(|command| command.line_id)).await?;
        let payments = store::payments_of_lines(tx, &sorted_ids(lines.keys().copied())).await?;
        let mut commitments = lock_commitments(tx, &lines).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let declared = match lines.get_mut(&body.line_id) {
                None => Err(unknown(body.line_id)),
                Some(line) => {
                    let today = today_of(tx, line);
                    let of_line: Vec<_> = payments.iter().filter(|payment| payment.line_id == line.id).cloned().collect();
                    let standing = domain::standing(line, &of_line, today);
                    context
                        .actor
                        .check_fund(line.fund_id)
                        .and_then(|()| tx.rules().check_open(&line.fund_type, line.fund_id, Transition::DefaultDeclared))
                        .and_then(|()| declare(context, body, line, &mut commitments, standing.interest_outstanding, today))
                }
            };
            answers.push(match declared {
                Ok((line, commitment)) => {
                    tx.emit(context, &line, CallLineChange::DefaultDeclared)?;
                    tx.emit(context, &commitment, CommitmentChange::Defaulted { line_id: line.id })?;
                    Ok(line)
                }
                Err(rejection) => Err(rejection),
            });
        }
        let declared: Vec<&CallLine> = answers.iter().flatten().collect();
        store::save_lines(tx, &declared, &[]).await?;
        let holders: HashSet<(Uuid, Uuid)> = declared.iter().map(|line| (line.fund_id, line.investor_id)).collect();
        let changed = commitments.iter().filter(|(holder, _)| holders.contains(holder)).map(|(_, commitment)| commitment);
        store::save_commitments(tx, &changed.collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

fn declare(
    context: &Context,
    body: &DeclareDefault,
    line: &mut CallLine,
    commitments: &mut HashMap<(Uuid, Uuid), Commitment>,
    interest_outstanding: Amount,
    today: NaiveDate,
) -> Result<(CallLine, Commitment), Rejection> {
    context.actor.check_fund(line.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    domain::check_default(line, interest_outstanding, today)?;
    let commitment = commitment_of(commitments, line)?;
    line.default = Some(DefaultDeclared { declared_on: today, reason: body.reason.clone(), declared_by: context.actor.user.clone() });
    line.version += 1;
    domain::derive_line(line, today);
    commitment.defaulted_on.get_or_insert(today);
    commitment.remedy = None;
    commitment.version += 1;
    commitment.status = CommitmentStatus::Defaulted;
    Ok((line.clone(), commitment.clone()))
}

impl Handle<RecordRemedy> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordRemedy>) -> Result<Answers<RemedyRecorded>, Fault> {
        let mut lines = lock_lines(tx, &batch.ids(|command| command.line_id)).await?;
        let set_offs: Vec<RecordPayment> = batch.iter().filter_map(|sent| set_off(&sent.body)).collect();
        let reported = Reported::lock(tx, [].iter()).await?;
        let mut desk = Desk::open(tx, set_offs.iter(), &lines, reported).await?;
        desk.trusts = true;
        let mut answers = Answers::new();
        let mut pending = Vec::new();
        for sent in batch.iter() {
            let checked = match lines.get_mut(&sent.body.line_id) {
                None => Err(unknown(sent.body.line_id)),
                Some(line) => check_remedy(tx, sent, line).and_then(|()| match set_off(&sent.body) {
                    None => Ok(None),
                    Some(body) => desk.record(tx, &sent.context, &body, line, None).map(|recorded| Some((recorded, line.clone()))),
                }),
            };
            if let Ok(Some((Recorded::New(payment), line))) = &checked {
                desk.histories.publish(tx, &sent.context)?;
                publish(tx, &sent.context, payment, line)?;
            }
            pending.push(checked);
        }
        desk.save(tx, &lines).await?;
        // commitments last, after the calls that cash moves
        let mut commitments = lock_commitments(tx, &lines).await?;
        let mut remedies = Vec::new();
        for (Sent { context, body, .. }, checked) in batch.iter().zip(pending) {
            let has_paid = matches!(checked, Ok(Some(_)));
            let recorded = checked.and_then(|paid| {
                let line = lines.get(&body.line_id).ok_or_else(|| unknown(body.line_id))?;
                let payment_id = paid.map(|(recorded, _)| recorded.payment().id);
                remedy(tx, context, body, line, commitment_of(&mut commitments, line)?, payment_id)
            });
            if let (true, Err(rejection)) = (has_paid, &recorded) {
                // cash does not move for a remedy that is refused
                return Err(Fault::Fatal(rejection.to_string()));
            }
            if let Ok(RemedyRecorded { remedy, commitment }) = &recorded {
                tx.emit(context, commitment, CommitmentChange::Remedied { remedy: remedy.clone() })?;
                remedies.push(remedy.clone());
            }
            answers.push(recorded);
        }
        store::save_commitments(tx, &commitments.values().collect::<Vec<_>>()).await?;
        store::insert_remedies(tx, &remedies).await?;
        Ok(answers)
    }
}

fn set_off(body: &RecordRemedy) -> Option<RecordPayment> {
    let amount = body.amount.filter(|_| body.kind == RemedyKind::SetOff)?;
    Some(RecordPayment {
        line_id: body.line_id,
        amount,
        currency: None,
        method: PaymentMethod::InternalTransfer,
        reference: "set off against what the fund owes".into(),
        received_on: body.effective_on,
        source: None,
        external_reference: None,
    })
}

fn check_remedy(tx: &Tx, Sent { context, body, .. }: &Sent<RecordRemedy>, line: &CallLine) -> Result<(), Rejection> {
    context.actor.check_fund(line.fund_id)?;
    let transition = match body.kind {
        RemedyKind::Forfeit => Transition::DefaultForfeited,
        RemedyKind::Sale => Transition::DefaultSold,
        RemedyKind::SetOff => Transition::DefaultSetOff,
        RemedyKind::Reinstate => Transition::DefaultReinstated,
    };
    tx.rules().check_open(&line.fund_type, line.fund_id, transition)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    calendar::plausible_date("effective_on", body.effective_on)?;
    let Some(default) = &line.default else {
        return Err(Reason::NotInDefault.with(format!("call line {}", line.id)));
    };
    match (body.kind, body.amount) {
        (RemedyKind::Reinstate, None) if body.effective_on < default.declared_on => {
            let why = format!("effective_on {} is before the default of {}", body.effective_on, default.declared_on);
            Err(Reason::ImplausibleDate.with(why))
        }
        (RemedyKind::Reinstate, None) => Ok(()),
        (RemedyKind::Reinstate, Some(amount)) => Err(Reason::RemedyMismatch.with(format!("a reinstatement with an amount, {amount}"))),
        (kind, None) => Err(Reason::RemedyMismatch.with(format!("{} without an amount", chassis::row::name(&kind)))),
        (kind, Some(amount)) => {
            let amount = domain::amount_in(line.currency, amount, None)?;
            if kind == RemedyKind::SetOff && amount > line.outstanding {
                let why = format!("call line {} has {} outstanding, {amount} are set off", line.id, line.outstanding);
                return Err(Reason::RemedyMismatch.with(why));
            }
            Ok(())
        }
    }
}

fn remedy(
    tx: &Tx,
    context: &Context,
    body: &RecordRemedy,
    line: &CallLine,
    commitment: &mut Commitment,
    payment_id: Option<Uuid>,
) -> Result<RemedyRecorded, Rejection> {
    let remedy = Remedy {
        id: tx.new_id(),
        line_id: line.id,
        commitment_id: commitment.id,
        at: tx.now(),
        kind: body.kind,
        amount: body.amount.map(|amount| domain::amount_in(line.currency, amount, None)).transpose()?,
        effective_on: body.effective_on,
        reason: body.reason.clone(),
        recorded_by: context.actor.user.clone(),
        payment_id,
    };
    if body.kind != RemedyKind::SetOff && commitment.defaulted_on.is_none() {
        return Err(Reason::NotInDefault.with(format!("commitment {} has been reinstated", commitment.id)));
    }
    commitment.remedy = Some(body.kind);
    if body.kind == RemedyKind::Reinstate {
        commitment.defaulted_on = None;
    }
    commitment.version += 1;
    commitment.status = domain::commitment_status(commitment);
    Ok(RemedyRecorded { remedy, commitment: commitment.clone() })
}
