//! Calls before their issue, and changes that are asked for: written down, submitted, revised, cancelled.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    CallContent, CallDecision, CallStatus, CancelCapitalCall, CapitalCall, CapitalCallAccepted, CapitalCallChange, Commitment, LinePreview,
    Purpose, SubmitCapitalCall, SubmitDraft,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Currency, Reason, Rejection, calendar, ids};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use crate::domain::{self, AllocationCopy, Draw, FundCopy, Recorded, Terms};
use crate::{CapitalCalls, store};

/// Longest reason of an amendment, a cancellation or a rescission.
pub const REASON_CHARACTERS_MAX: usize = 500;
/// Longest number of a call in another system.
const EXTERNAL_REFERENCE_CHARACTERS_MAX: usize = 140;

/// Most bytes of what a call says, so that its events hold it and an amendment beside it.
const CONTENT_BYTES_MAX: usize = 20 << 10;

/// The ids of the allocations that purposes name, sorted, each once.
pub fn allocation_ids<'a>(purposes: impl Iterator<Item = &'a Purpose>) -> Vec<Uuid> {
    sorted_ids(purposes.filter_map(|purpose| purpose.allocation_id))
}

/// What calls are checked against.
pub struct Firm {
    /// Copies of the funds.
    pub funds: HashMap<Uuid, FundCopy>,
    /// The commitments to them.
    pub commitments: Vec<Commitment>,
    /// Entries of the commitments that take effect after the first date that is asked for, or that an issued call has not seen.
    pub later: Vec<Recorded>,
    /// The lines that are due after that date of those whose commitments such entries change, by fund and investor.
    pub draws: HashMap<(Uuid, Uuid), Vec<Draw>>,
    /// Copies of the allocations.
    pub allocations: HashMap<Uuid, AllocationCopy>,
}

impl Firm {
    /// What there is of funds and allocations, for calls that are due on one of these dates, and those that are issued.
    pub async fn load(
        tx: &mut Tx,
        fund_ids: &[Uuid],
        allocation_ids: &[Uuid],
        due: impl Iterator<Item = NaiveDate>,
        issued: &[Uuid],
    ) -> Result<Firm, Fault> {
        let from = due.min();
        let later = store::entries_after(tx, fund_ids, from, issued).await?;
        Ok(Firm {
            funds: store::funds(tx, fund_ids).await?,
            commitments: store::commitments(tx, fund_ids).await?,
            draws: store::draws_after(tx, &later, from).await?,
            later,
            allocations: store::allocations(tx, allocation_ids).await?,
        })
    }

    /// A fund.
    pub fn fund(&self, id: Uuid) -> Result<&FundCopy, Rejection> {
        self.funds.get(&id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {id}")))
    }

    /// The commitments to a fund as a call sees them that is due on a date, and has seen these entries where it was issued before.
    pub fn effective(&self, fund_id: Uuid, due_on: NaiveDate, issued: Option<(Uuid, Option<i64>)>) -> Vec<Commitment> {
        let (own, seen) = issued.unzip();
        let of_fund = self.commitments.iter().filter(|commitment| commitment.fund_id == fund_id);
        let as_seen = |commitment: &Commitment| {
            let draws = self.draws.get(&(fund_id, commitment.investor_id)).into_iter().flatten();
            // what the call has drawn itself is given back as a whole
            let of_others = draws.filter(|draw| Some(draw.call_id) != own).copied();
            domain::effective(commitment, &self.later, of_others, due_on, seen.flatten())
        };
        of_fund.filter_map(as_seen).collect()
    }

    /// The least that a commitment has unfunded at the end of a date or later.
    pub fn least_unfunded(&self, commitment: &Commitment, date: NaiveDate) -> Amount {
        let later = self.later.iter().map(|recorded| &recorded.entry);
        let later = later.filter(|entry| entry.commitment_id == commitment.id && entry.effective_on > date);
        domain::least_unfunded(commitment, later.map(domain::impact))
    }

    /// What the investors of a fund have drawn.
    pub fn drawn(&self, fund_id: Uuid) -> HashMap<Uuid, Amount> {
        let of_fund = self.commitments.iter().filter(|commitment| commitment.fund_id == fund_id);
        of_fund.map(|commitment| (commitment.investor_id, commitment.amount - commitment.unfunded)).collect()
    }

    /// The lines that a call would have which is not issued yet.
    pub fn split(&self, fund: &FundCopy, content: &CallContent) -> Result<Vec<LinePreview>, Rejection> {
        let (commitments, drawn) = (self.effective(fund.id, content.due_on, None), self.drawn(fund.id));
        domain::split_call(Terms { drawn: Some(&drawn), ..Terms::of(content) }, &commitments, fund.currency)
    }
}

/// The business date of a fund.
pub fn today(tx: &Tx, fund: &FundCopy) -> Result<NaiveDate, Rejection> {
    Ok(tx.today(calendar::timezone(&fund.timezone)?))
}

/// Checks what a call shall say and writes it out: amounts with the currency's decimals, the sum, the hash.
pub fn written(fund: &FundCopy, mut content: CallContent, given: Option<Currency>, firm: &Firm) -> Result<CallContent, Rejection> {
    calendar::plausible_date("due_on", content.due_on)?;
    content.amount = domain::check_purposes(&mut content.purposes, fund, given, |id| firm.allocations.get(&id).cloned())?;
    domain::check_adjustments(&mut content.adjustments, fund.currency)?;
    content.content_hash = domain::content_hash(fund.id, &content);
    let bytes = serde_json::to_string(&content).map_or(usize::MAX, |text| text.len());
    if bytes > CONTENT_BYTES_MAX {
        return Err(
            Reason::RequestTooLarge.with(format!("what the call says takes {bytes} bytes, at most {CONTENT_BYTES_MAX} are allowed"))
        );
    }
    Ok(content)
}

/// The lines that a call would have if it were issued today.
pub fn planned(tx: &Tx, fund: &FundCopy, content: &CallContent, firm: &Firm) -> Result<Vec<LinePreview>, Rejection> {
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    domain::check_notice(fund, &rules, content, today(tx, fund)?)
        .map_err(|rejection| tx.rules().named(&fund.fund_type, fund.id, rejection))?;
    firm.split(fund, content)
}

impl Handle<SubmitCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SubmitCapitalCall>) -> Result<Answers<CapitalCallAccepted>, Fault> {
        let allocations = allocation_ids(batch.iter().flat_map(|sent| &sent.body.purposes));
        let due = batch.iter().map(|sent| sent.body.due_on);
        let firm = Firm::load(tx, &batch.ids(|command| command.fund_id), &allocations, due, &[]).await?;
        let named = batch.iter().filter_map(|sent| Some((sent.body.fund_id, sent.body.external_reference.as_deref()?)));
        let mut known = store::lock_references(tx, &named.collect::<Vec<_>>()).await?;
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for sent in batch.iter() {
            let submitted = submit(tx, sent, &firm, &known);
            if let Ok(CapitalCall { id, fund_id, external_reference: Some(reference), .. }) = &submitted {
                known.insert((*fund_id, reference.clone()), *id);
            }
            answers.push(match submitted {
                Ok(call) => {
                    let change = if sent.body.draft { CapitalCallChange::Drafted } else { CapitalCallChange::Submitted };
                    tx.emit(&sent.context, &call, change)?;
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
    firm: &Firm,
    known: &HashMap<(Uuid, String), Uuid>,
) -> Result<CapitalCall, Rejection> {
    context.actor.check_fund(body.fund_id)?;
    if let Some(reference) = &body.external_reference {
        check_text("external_reference", reference, EXTERNAL_REFERENCE_CHARACTERS_MAX)?;
        if let Some(id) = known.get(&(body.fund_id, reference.clone())) {
            return Err(Reason::DuplicateCapitalCall.with(format!("capital call {id} has the external_reference {reference:?}")));
        }
    }
    let fund = firm.fund(body.fund_id)?;
    let content = CallContent {
        purposes: body.purposes.clone(),
        amount: fund.currency.zero(),
        due_on: body.due_on,
        priority: body.priority,
        adjustments: body.adjustments.clone(),
        rounding: body.rounding,
        content_hash: String::new(),
    };
    let content = written(fund, content, body.currency, firm)?;
    if !body.draft {
        // refused now rather than after the approval; decided again when the call is issued
        planned(tx, fund, &content, firm)?;
    }
    let mut call = new_call(tx, context, fund, tx.new_id(), content);
    call.external_reference.clone_from(&body.external_reference);
    if !body.draft {
        call.decision = CallDecision::PendingApproval;
        call.submitted_at = Some(tx.now());
        note_notice(tx, fund, &mut call)?;
    }
    call.status = domain::call_status(&call);
    Ok(call)
}

/// A draft of a call that says this.
pub fn new_call(tx: &Tx, context: &Context, fund: &FundCopy, id: Uuid, content: CallContent) -> CapitalCall {
    let mut call = CapitalCall {
        id,
        version: 1,
        created_at: tx.now(),
        fund_id: fund.id,
        fund_type: fund.fund_type.clone(),
        currency: fund.currency,
        amount: content.amount,
        purposes: vec![],
        due_on: content.due_on,
        priority: content.priority,
        requested_by: context.actor.user.clone(),
        authors: vec![context.actor.user.clone()],
        workflow_id: ids::workflow_id(id),
        external_reference: None,
        adjustments: vec![],
        rounding: content.rounding,
        content_hash: String::new(),
        submitted_at: None,
        notice_days: None,
        amendment: 0,
        amendments_asked: 0,
        amending: None,
        covers_line_id: None,
        decision: CallDecision::Draft,
        decided_because: None,
        rules: tx.rules().used(&fund.fund_type, fund.id),
        issued_on: None,
        line_count: 0,
        paid: fund.currency.zero(),
        status: CallStatus::Draft,
    };
    domain::put_content(&mut call, content);
    call
}

/// A call that is in force from a date without anybody's approval.
pub fn issued_call(tx: &Tx, context: &Context, fund: &FundCopy, id: Uuid, content: CallContent, issued_on: NaiveDate) -> CapitalCall {
    let mut call = new_call(tx, context, fund, id, content);
    (call.decision, call.submitted_at, call.issued_on) = (CallDecision::Issued, Some(tx.now()), Some(issued_on));
    call.status = CallStatus::Issued;
    call
}

/// The calls that commands name, locked, and what they are checked against, with the allocations and due dates that they name.
pub async fn lock_with_firm(
    tx: &mut Tx,
    ids: &[Uuid],
    named: &[Uuid],
    due: impl Iterator<Item = NaiveDate>,
) -> Result<(HashMap<Uuid, CapitalCall>, Firm), Fault> {
    let calls = store::lock_calls(tx, ids).await?;
    let fund_ids = sorted_ids(calls.values().map(|call| call.fund_id));
    let allocations = allocation_ids(calls.values().flat_map(|call| &call.purposes));
    let allocations = sorted_ids(allocations.into_iter().chain(named.iter().copied()));
    let issued = sorted_ids(calls.values().filter(|call| call.decision == CallDecision::Issued).map(|call| call.id));
    let firm = Firm::load(tx, &fund_ids, &allocations, due.chain(calls.values().map(|call| call.due_on)), &issued).await?;
    Ok((calls, firm))
}

/// The refusal of a call that is not there.
pub fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownCapitalCall.with(format!("capital call {id}"))
}

/// The answer to what has a workflow follow.
pub fn accepted(call: &CapitalCall) -> CapitalCallAccepted {
    let workflow_id = call.amending.as_ref().map_or(call.workflow_id, |amendment| amendment.workflow_id);
    CapitalCallAccepted { workflow_id, capital_call_id: call.id }
}

impl Handle<SubmitDraft> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SubmitDraft>) -> Result<Answers<CapitalCallAccepted>, Fault> {
        let (mut calls, firm) = lock_with_firm(tx, &batch.ids(|command| command.call_id), &[], std::iter::empty()).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let Some(call) = calls.get_mut(&body.call_id) else {
                answers.push(Err(unknown(body.call_id)));
                continue;
            };
            let checked = context.actor.check_fund(call.fund_id).and_then(|()| submit_draft(tx, call, body, &firm));
            answers.push(match checked {
                Ok(()) => {
                    // who submits asks for it, and may not vote on it
                    call.requested_by.clone_from(&context.actor.user);
                    tx.emit(context, call, CapitalCallChange::Submitted)?;
                    Ok(accepted(call))
                }
                Err(rejection) => Err(rejection),
            });
        }
        store::save_calls(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// Refuses what was written from another content than the call has by now.
pub fn check_written_from(call: &CapitalCall, content_hash: Option<&str>) -> Result<(), Rejection> {
    match content_hash {
        Some(hash) if hash != call.content_hash => {
            Err(Reason::CallSaysOtherwise.with(format!("the content of capital call {} has the hash {}", call.id, call.content_hash)))
        }
        _ => Ok(()),
    }
}

fn submit_draft(tx: &Tx, call: &mut CapitalCall, body: &SubmitDraft, firm: &Firm) -> Result<(), Rejection> {
    if call.decision != CallDecision::Draft {
        return Err(Reason::CallNotDraft.with(format!("capital call {} is {}", call.id, chassis::row::name(&call.status))));
    }
    check_written_from(call, body.written_from.as_deref())?;
    let fund = firm.fund(call.fund_id)?;
    let content = written(fund, call.content(), None, firm)?;
    planned(tx, fund, &content, firm)?;
    call.decision = CallDecision::PendingApproval;
    call.submitted_at = Some(tx.now());
    call.rules = tx.rules().used(&fund.fund_type, fund.id);
    note_notice(tx, fund, call)?;
    call.version += 1;
    call.status = domain::call_status(call);
    Ok(())
}

/// Notes how much notice a call gives.
pub fn note_notice(tx: &Tx, fund: &FundCopy, call: &mut CapitalCall) -> Result<(), Rejection> {
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    call.notice_days = Some(domain::notice_days(fund, &rules, call.due_on, today(tx, fund)?)?);
    Ok(())
}

/// Takes what a call has called for allocations off them.
pub fn give_back(call: &CapitalCall, allocations: &mut HashMap<Uuid, AllocationCopy>) {
    for purpose in &call.purposes {
        if let Some(allocation) = purpose.allocation_id.and_then(|id| allocations.get_mut(&id)) {
            allocation.called -= purpose.amount;
        }
    }
}

/// Adds what a call calls for allocations to them.
pub fn take(call: &CapitalCall, allocations: &mut HashMap<Uuid, AllocationCopy>) {
    for purpose in &call.purposes {
        if let Some(allocation) = purpose.allocation_id.and_then(|id| allocations.get_mut(&id)) {
            allocation.called += purpose.amount;
        }
    }
}

impl Handle<CancelCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CancelCapitalCall>) -> Result<Answers<CapitalCall>, Fault> {
        let mut calls = store::lock_calls(tx, &batch.ids(|command| command.call_id)).await?;
        let mut answers = Answers::new();
        for sent in batch.iter() {
            let cancelled = match calls.get_mut(&sent.body.call_id) {
                None => Err(unknown(sent.body.call_id)),
                Some(call) => sent
                    .context
                    .actor
                    .check_fund(call.fund_id)
                    .and_then(|()| tx.rules().check_open(&call.fund_type, call.fund_id, Transition::CallCancelled))
                    .and_then(|()| cancel(sent, call))
                    .map(|change| (call, change)),
            };
            answers.push(match cancelled {
                Ok((call, change)) => {
                    tx.emit(&sent.context, &*call, change)?;
                    Ok(call.clone())
                }
                Err(rejection) => Err(rejection),
            });
        }
        store::save_calls(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

fn cancel(Sent { context, body, .. }: &Sent<CancelCapitalCall>, call: &mut CapitalCall) -> Result<CapitalCallChange, Rejection> {
    context.actor.check_fund(call.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    let reason = body.reason.clone();
    let change = match call.decision {
        CallDecision::Draft | CallDecision::PendingApproval => {
            call.decision = CallDecision::Cancelled;
            call.decided_because = Some(reason.clone());
            CapitalCallChange::Cancelled { reason }
        }
        CallDecision::Issued if call.amending.is_some() => {
            call.amending = None;
            CapitalCallChange::AmendmentCancelled { reason }
        }
        CallDecision::Issued | CallDecision::Cancelled | CallDecision::Rescinded => {
            let status = chassis::row::name(&call.status);
            return Err(Reason::CallNotCancellable.with(format!("capital call {} is {status} and has no amendment that waits", call.id)));
        }
    };
    call.version += 1;
    call.status = domain::call_status(call);
    Ok(change)
}
