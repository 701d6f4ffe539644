//! The handlers: load what a batch touches, decide each command, store what changed.

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{
    CallLine, Commitment, CommitmentChange, ExcuseInvestor, Investor, InvestorChange, RecordCommitment, RegisterInvestor,
};
use ::domain::rejection::check_text;
use ::domain::{Reason, Rejection, calendar};
use chassis::{Answers, Batch, Fault, Follow, Handle, Seen, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use crate::domain::{self, FundCopy};
use crate::{CapitalCalls, store};

mod calls;
mod issue;
mod payments;
mod show;

impl Follow<Fund> for CapitalCalls {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        store::copy_funds(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_funds(tx, ids).await
    }
}

impl Follow<Allocation> for CapitalCalls {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        store::copy_allocations(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_allocations(tx, ids).await
    }
}

impl Handle<RegisterInvestor> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RegisterInvestor>) -> Result<Answers<Investor>, Fault> {
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let checked = check_text("name", &body.name, 200).and_then(|()| check_email(body.email.as_deref()));
            answers.push(checked.map(|()| Investor {
                id: tx.new_id(),
                version: 1,
                created_at: tx.now(),
                name: body.name.clone(),
                email: body.email.clone(),
                status: "active".into(),
            }));
            if let Some(Ok(investor)) = answers.last() {
                added.push(investor.clone());
                tx.emit(context, investor, InvestorChange::Registered)?;
            }
        }
        store::insert_investors(tx, &added).await?;
        Ok(answers)
    }
}

fn check_email(email: Option<&str>) -> Result<(), Rejection> {
    let Some(email) = email else { return Ok(()) };
    check_text("email", email, 254)?;
    match email.split_once('@') {
        Some((local, host)) if !local.is_empty() && host.contains('.') && !email.contains(char::is_whitespace) => Ok(()),
        _ => Err(Reason::InvalidText.with(format!("email {email:?} is not a mail address"))),
    }
}

impl Handle<RecordCommitment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordCommitment>) -> Result<Answers<Commitment>, Fault> {
        let funds = store::funds(tx, &batch.ids(|command| command.fund_id)).await?;
        let investors = store::known_investors(tx, &batch.ids(|command| command.investor_id)).await?;
        let mut answers: Answers<Commitment> =
            batch.iter().map(|sent| commitment(tx, sent, funds.get(&sent.body.fund_id), &investors)).collect();
        let wanted: Vec<Commitment> = answers.iter().flatten().cloned().collect();
        let added = store::insert_commitments(tx, &wanted).await?;
        for (answer, Sent { context, .. }) in answers.iter_mut().zip(batch.iter()) {
            match answer {
                Ok(commitment) if added.contains(&commitment.id) => tx.emit(context, commitment, CommitmentChange::Recorded)?,
                Ok(commitment) => {
                    *answer =
                        Err(Reason::CommitmentExists.with(format!("investor {} and fund {}", commitment.investor_id, commitment.fund_id)));
                }
                Err(_) => {}
            }
        }
        Ok(answers)
    }
}

fn commitment(tx: &Tx, sent: &Sent<RecordCommitment>, fund: Option<&FundCopy>, investors: &[Uuid]) -> Result<Commitment, Rejection> {
    let RecordCommitment { fund_id, investor_id, amount, currency, effective_on } = sent.body;
    sent.context.actor.check_fund(fund_id)?;
    let fund = fund.ok_or_else(|| Reason::UnknownFund.with(format!("fund {fund_id}")))?;
    let amount = domain::amount_in(fund.currency, amount, currency)?;
    calendar::plausible_date("effective_on", effective_on)?;
    if !investors.contains(&investor_id) {
        return Err(Reason::UnknownInvestor.with(format!("investor {investor_id}")));
    }
    Ok(Commitment {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        fund_id,
        investor_id,
        currency: fund.currency,
        amount,
        effective_on,
        called: fund.currency.zero(),
        unfunded: amount,
        excused_from: vec![],
        status: domain::commitment_status(amount),
    })
}

impl Handle<ExcuseInvestor> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ExcuseInvestor>) -> Result<Answers<Commitment>, Fault> {
        let mut commitments = store::lock_commitments_by_id(tx, &batch.ids(|command| command.commitment_id)).await?;
        let allocations = store::allocations(tx, &batch.ids(|command| command.allocation_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let allocation = allocations.get(&body.allocation_id);
            let excused = match commitments.get_mut(&body.commitment_id) {
                None => Err(Reason::UnknownCommitment.with(format!("commitment {}", body.commitment_id))),
                Some(commitment) => context
                    .actor
                    .check_fund(commitment.fund_id)
                    .and_then(|()| check_text("reason", &body.reason, calls::REASON_CHARACTERS_MAX))
                    .and_then(|()| domain::excuse(commitment, body.allocation_id, allocation))
                    .map(|()| commitment.clone()),
            };
            if let Ok(commitment) = &excused {
                let change = CommitmentChange::Excused { allocation_id: body.allocation_id, reason: body.reason.clone() };
                tx.emit(context, commitment, change)?;
            }
            answers.push(excused);
        }
        let excuses: Vec<(&Commitment, Uuid)> = answers
            .iter()
            .zip(batch.iter())
            .filter_map(|(answer, sent)| answer.as_ref().ok().map(|commitment| (commitment, sent.body.allocation_id)))
            .collect();
        store::add_excuses(tx, &excuses).await?;
        Ok(answers)
    }
}

/// The business date of a line's fund.
fn today_of(tx: &Tx, line: &CallLine) -> NaiveDate {
    tx.today(calendar::timezone(&line.timezone).unwrap_or_default())
}
