//! The handlers: load what a batch touches, decide each command, store what changed.

use std::collections::{HashMap, HashSet};

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{
    CallDecision, CallLine, CallLineChange, CapitalCall, CapitalCallAccepted, CapitalCallChange, Commitment, CommitmentChange,
    DecideCapitalCall, Investor, InvestorChange, Purpose, RecordCommitment, RegisterInvestor, SubmitCapitalCall,
};
use ::domain::rejection::check_text;
use ::domain::{Reason, Rejection, calendar, ids};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Follow, Handle, Seen, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use crate::domain::{self, AllocationCopy, FundCopy};
use crate::{CapitalCalls, store};

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
        status: domain::commitment_status(amount),
    })
}

/// The ids of the allocations that purposes name, sorted, each once.
fn allocation_ids<'a>(purposes: impl Iterator<Item = &'a Purpose>) -> Vec<Uuid> {
    sorted_ids(purposes.filter_map(|purpose| purpose.allocation_id))
}

impl Handle<SubmitCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SubmitCapitalCall>) -> Result<Answers<CapitalCallAccepted>, Fault> {
        let fund_ids = batch.ids(|command| command.fund_id);
        let funds = store::funds(tx, &fund_ids).await?;
        let commitments = store::commitments(tx, &fund_ids).await?;
        let allocations = store::allocations(tx, &allocation_ids(batch.iter().flat_map(|sent| &sent.body.purposes))).await?;
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for sent in batch.iter() {
            let submitted = submit(tx, sent, funds.get(&sent.body.fund_id), &commitments, &allocations);
            answers.push(match submitted {
                Ok(call) => {
                    tx.emit(&sent.context, &call, CapitalCallChange::Submitted)?;
                    let accepted = CapitalCallAccepted { workflow_id: call.workflow_id, capital_call_id: call.id };
                    added.push(call);
                    Ok(accepted)
                }
                Err(rejection) => Err(rejection),
            });
        }
        store::insert_calls(tx, &added).await?;
        Ok(answers)
    }
}

fn submit(
    tx: &Tx,
    Sent { context, body, .. }: &Sent<SubmitCapitalCall>,
    fund: Option<&FundCopy>,
    commitments: &[Commitment],
    allocations: &HashMap<Uuid, AllocationCopy>,
) -> Result<CapitalCall, Rejection> {
    context.actor.check_fund(body.fund_id)?;
    let fund = fund.ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", body.fund_id)))?;
    calendar::plausible_date("due_on", body.due_on)?;
    let mut purposes = body.purposes.clone();
    let amount = domain::check_purposes(&mut purposes, fund, body.currency, |id| allocations.get(&id).cloned())?;
    // refused now rather than after the approval; decided again when the call is issued
    domain::split_call(&purposes, &domain::effective(commitments, fund.id, body.due_on), fund.currency)?;
    let id = tx.new_id();
    let mut call = CapitalCall {
        id,
        version: 1,
        created_at: tx.now(),
        fund_id: fund.id,
        fund_type: fund.fund_type.clone(),
        currency: fund.currency,
        amount,
        content_hash: domain::content_hash(fund.id, &purposes, body.due_on),
        purposes,
        due_on: body.due_on,
        priority: body.priority,
        requested_by: context.actor.user.clone(),
        workflow_id: ids::workflow_id(id),
        decision: CallDecision::PendingApproval,
        issued_on: None,
        line_count: 0,
        paid: fund.currency.zero(),
        status: ::domain::messages::capital_calls::CallStatus::PendingApproval,
    };
    call.status = domain::call_status(&call);
    Ok(call)
}

/// What the issue of calls has changed so far in a batch.
struct Issue {
    funds: HashMap<Uuid, FundCopy>,
    commitments: Vec<Commitment>,
    allocations: HashMap<Uuid, AllocationCopy>,
    drawn: HashSet<Uuid>,
    lines: Vec<CallLine>,
}

impl Handle<DecideCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideCapitalCall>) -> Result<Answers<CapitalCall>, Fault> {
        let mut calls = store::lock_calls(tx, &batch.ids(|command| command.call_id)).await?;
        let fund_ids = sorted_ids(calls.values().map(|call| call.fund_id));
        let mut issue = Issue {
            funds: store::funds(tx, &fund_ids).await?,
            allocations: store::lock_allocations(tx, &allocation_ids(calls.values().flat_map(|call| &call.purposes))).await?,
            commitments: store::lock_commitments(tx, &fund_ids).await?,
            drawn: HashSet::new(),
            lines: vec![],
        };
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let decided = match calls.get_mut(&body.call_id) {
                None => Err(Reason::UnknownCapitalCall.with(format!("capital call {}", body.call_id))),
                Some(call) => decide_call(tx, context, body, call, &mut issue)?,
            };
            answers.push(decided);
        }
        let decided: Vec<&CapitalCall> = answers.iter().flatten().collect();
        store::save_decisions(tx, &decided).await?;
        store::insert_lines(tx, &issue.lines).await?;
        let drawn: Vec<&Commitment> = issue.commitments.iter().filter(|commitment| issue.drawn.contains(&commitment.id)).collect();
        store::save_commitments(tx, &drawn).await?;
        store::save_allocations(tx, &issue.allocations.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// Issues or cancels one call. A refusal leaves `issue` as it was.
fn decide_call(
    tx: &mut Tx,
    context: &Context,
    command: &DecideCapitalCall,
    call: &mut CapitalCall,
    issue: &mut Issue,
) -> Result<Result<CapitalCall, Rejection>, Fault> {
    if call.decision != CallDecision::PendingApproval || call.content_hash != command.content_hash {
        return Ok(Err(Reason::CallNotPending.with(format!(
            "capital call {} is {}, or not what was approved",
            call.id,
            chassis::row::name(&call.decision)
        ))));
    }
    if let Some(reason) = &command.cancelled_because {
        call.decision = CallDecision::Cancelled;
        call.version += 1;
        call.status = domain::call_status(call);
        tx.emit(context, call, CapitalCallChange::Cancelled { reason: reason.clone() })?;
        return Ok(Ok(call.clone()));
    }
    let planned = plan_issue(tx, call, issue);
    let (lines, today) = match planned {
        Ok(planned) => planned,
        Err(rejection) => return Ok(Err(rejection)),
    };
    for purpose in &call.purposes {
        if let Some(allocation) = purpose.allocation_id.and_then(|id| issue.allocations.get_mut(&id)) {
            allocation.called += purpose.amount;
        }
    }
    call.decision = CallDecision::Issued;
    call.version += 1;
    call.issued_on = Some(today);
    call.line_count = i32::try_from(lines.len()).unwrap_or(i32::MAX);
    call.status = domain::call_status(call);
    tx.emit(context, call, CapitalCallChange::Issued)?;
    let of_fund = issue.commitments.iter_mut().filter(|commitment| commitment.fund_id == call.fund_id);
    let mut of_investor: HashMap<Uuid, &mut Commitment> = of_fund.map(|commitment| (commitment.investor_id, commitment)).collect();
    for (line, preview) in &lines {
        tx.emit(context, line, CallLineChange::Issued)?;
        if let Some(commitment) = of_investor.get_mut(&line.investor_id) {
            domain::draw(commitment, preview);
            issue.drawn.insert(commitment.id);
            tx.emit(context, &**commitment, CommitmentChange::Called)?;
        }
    }
    issue.lines.extend(lines.into_iter().map(|(line, _)| line));
    Ok(Ok(call.clone()))
}

type Planned = (Vec<(CallLine, ::domain::messages::capital_calls::LinePreview)>, NaiveDate);

fn plan_issue(tx: &Tx, call: &CapitalCall, issue: &Issue) -> Result<Planned, Rejection> {
    let fund = issue.funds.get(&call.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", call.fund_id)))?;
    let today = tx.today(calendar::timezone(&fund.timezone)?);
    let grace_days = i32::from(tx.rules().rules(&call.fund_type, call.fund_id)?.grace_days);
    domain::check_purposes(&mut call.purposes.clone(), fund, None, |id| issue.allocations.get(&id).cloned())?;
    let previews = domain::split_call(&call.purposes, &domain::effective(&issue.commitments, call.fund_id, call.due_on), call.currency)?;
    let line = |preview: ::domain::messages::capital_calls::LinePreview| {
        let mut line = CallLine {
            id: tx.new_id(),
            version: 1,
            created_at: tx.now(),
            call_id: call.id,
            fund_id: call.fund_id,
            fund_type: call.fund_type.clone(),
            investor_id: preview.investor_id,
            currency: call.currency,
            amount: preview.amount,
            impact_on_unfunded: preview.impact_on_unfunded,
            paid: call.currency.zero(),
            unapplied: call.currency.zero(),
            outstanding: preview.amount,
            due_on: call.due_on,
            issued_on: today,
            grace_days,
            timezone: fund.timezone.clone(),
            purposes: preview.purposes.clone(),
            status: ::domain::messages::capital_calls::LineStatus::Open,
            timing: ::domain::messages::capital_calls::LineTiming::NotDue,
        };
        domain::derive_line(&mut line, today);
        (line, preview)
    };
    Ok((previews.into_iter().map(line).collect(), today))
}

/// The business date of a line's fund.
fn today_of(tx: &Tx, line: &CallLine) -> NaiveDate {
    tx.today(calendar::timezone(&line.timezone).unwrap_or_default())
}
