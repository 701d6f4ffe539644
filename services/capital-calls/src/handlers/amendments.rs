//! Calls that shall say something else: asked for, and, where they were issued and it is approved, taking effect.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    AmendCapitalCall, Amendment, CallContent, CallDecision, CallLine, CallLineChange, CapitalCall, CapitalCallAccepted, CapitalCallChange,
    LinePreview,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection, ids};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::{
    Firm, REASON_CHARACTERS_MAX, accepted, allocation_ids, check_written_from, give_back, lock_with_firm, note_notice, planned, take,
    today, unknown, written,
};
use super::covers::{check_no_cover, check_not_covered};
use super::issue::{Books, Done, new_line};
use crate::domain::{self, AllocationCopy, FundCopy, LineTerms, Moved, Terms};
use crate::{CapitalCalls, store};

/// What calls that were issued have asked for.
pub struct Issued {
    /// Lines by their calls.
    pub lines: HashMap<Uuid, Vec<CallLine>>,
    /// The last entry of its fund's commitments that each call had seen when it was issued.
    pub seen: HashMap<Uuid, i64>,
}

impl Issued {
    /// What there is of the calls among these that were issued.
    async fn load(tx: &mut Tx, calls: &HashMap<Uuid, CapitalCall>) -> Result<Issued, Fault> {
        let ids = sorted_ids(calls.values().filter(|call| call.decision == CallDecision::Issued).map(|call| call.id));
        let mut lines: HashMap<Uuid, Vec<CallLine>> = HashMap::new();
        for line in store::lines_of_calls(tx, &ids).await? {
            lines.entry(line.call_id).or_default().push(line);
        }
        Ok(Issued { lines, seen: store::entries_seen(tx, &ids).await? })
    }

    /// The lines of a call.
    pub fn lines(&self, call_id: Uuid) -> &[CallLine] {
        self.lines.get(&call_id).map_or(&[], Vec::as_slice)
    }
}

impl Handle<AmendCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<AmendCapitalCall>) -> Result<Answers<CapitalCallAccepted>, Fault> {
        let named = allocation_ids(batch.iter().filter_map(|sent| sent.body.purposes.as_ref()).flatten());
        let due = batch.iter().filter_map(|sent| sent.body.due_on);
        let (mut calls, firm) = lock_with_firm(tx, &batch.ids(|command| command.call_id), &named, due).await?;
        let issued = Issued::load(tx, &calls).await?;
        let mut answers = Answers::new();
        for sent in batch.iter() {
            let amended = match calls.get_mut(&sent.body.call_id) {
                None => Err(unknown(sent.body.call_id)),
                Some(call) => ask(tx, sent, call, &firm, &issued).map(|change| (call, change)),
            };
            answers.push(match amended {
                Ok((call, change)) => {
                    tx.emit(&sent.context, &*call, change)?;
                    Ok(accepted(call))
                }
                Err(rejection) => Err(rejection),
            });
        }
        store::save_calls(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

fn ask(
    tx: &Tx,
    Sent { context, body, .. }: &Sent<AmendCapitalCall>,
    call: &mut CapitalCall,
    firm: &Firm,
    issued: &Issued,
) -> Result<CapitalCallChange, Rejection> {
    context.actor.check_fund(call.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    if let Some(amendment) = &call.amending {
        return Err(Reason::AmendmentPending.with(format!("amendment {} of capital call {}", amendment.number, call.id)));
    }
    let is_issued = call.decision == CallDecision::Issued;
    let transition = if is_issued { Transition::CallAmended } else { Transition::CallRevised };
    tx.rules().check_open(&call.fund_type, call.fund_id, transition)?;
    let fund = firm.fund(call.fund_id)?;
    check_written_from(call, body.written_from.as_deref())?;
    let before = call.content();
    let wanted = CallContent {
        purposes: body.purposes.clone().unwrap_or_else(|| before.purposes.clone()),
        due_on: body.due_on.unwrap_or(before.due_on),
        priority: body.priority.unwrap_or(before.priority),
        adjustments: body.adjustments.clone().unwrap_or_else(|| before.adjustments.clone()),
        rounding: body.rounding.unwrap_or(before.rounding),
        ..before.clone()
    };
    match call.decision {
        CallDecision::Cancelled | CallDecision::Rescinded => {
            Err(Reason::CallNotPending.with(format!("capital call {} is {}", call.id, chassis::row::name(&call.status))))
        }
        CallDecision::Draft | CallDecision::PendingApproval => {
            let content = written(fund, wanted, None, firm)?;
            if content.content_hash == before.content_hash {
                return Err(Reason::NothingAmended.with(format!("capital call {} says that already", call.id)));
            }
            if call.decision == CallDecision::PendingApproval {
                planned(tx, fund, &content, firm)?;
            }
            domain::put_content(call, content);
            if call.decision == CallDecision::PendingApproval {
                note_notice(tx, fund, call)?;
            }
            call.rules = tx.rules().used(&fund.fund_type, fund.id);
            if !call.authors.contains(&context.actor.user) {
                call.authors.push(context.actor.user.clone());
            }
            call.version += 1;
            Ok(CapitalCallChange::Revised { reason: body.reason.clone() })
        }
        CallDecision::Issued => {
            // what the call has taken of the allocations is its own to spend again
            let content = written(fund, wanted, None, &without(firm, call))?;
            let number = call.amendments_asked + 1;
            let amendment = Amendment {
                number,
                content,
                reason: body.reason.clone(),
                requested_by: context.actor.user.clone(),
                requested_at: tx.now(),
                workflow_id: ids::derived(&format!("amendment {number}"), ids::workflow_id(call.id)),
            };
            // refused now rather than after the approval; decided again when it takes effect
            plan(tx, call, &amendment, firm, issued)?;
            call.amendments_asked = number;
            call.amending = Some(amendment);
            call.version += 1;
            Ok(CapitalCallChange::AmendmentSubmitted)
        }
    }
}

/// The firm as if a call had taken nothing of its allocations.
fn without(firm: &Firm, call: &CapitalCall) -> Firm {
    let mut allocations = firm.allocations.clone();
    give_back(call, &mut allocations);
    Firm { funds: firm.funds.clone(), commitments: vec![], later: vec![], draws: HashMap::new(), allocations }
}

/// What an amendment does.
struct Plan {
    fund: FundCopy,
    /// Lines as they would be, and what moves.
    moved: Vec<(CallLine, Moved)>,
    /// New lines.
    added: Vec<LinePreview>,
    terms: LineTerms,
    today: NaiveDate,
    allocations: HashMap<Uuid, AllocationCopy>,
}

/// What an amendment of an issued call would do: each line becomes what it would be if the call were issued as it says now.
fn plan(tx: &Tx, call: &CapitalCall, amendment: &Amendment, firm: &Firm, issued: &Issued) -> Result<Plan, Rejection> {
    let fund = firm.fund(call.fund_id)?.clone();
    let content = &amendment.content;
    let lines = issued.lines(call.id);
    check_no_cover(call)?;
    check_not_covered(lines)?;
    let mut allocations = firm.allocations.clone();
    give_back(call, &mut allocations);
    domain::check_purposes(&mut content.purposes.clone(), &fund, None, |id| allocations.get(&id).cloned())?;
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    let today = today(tx, &fund)?;
    if content.due_on != call.due_on {
        domain::check_notice(&fund, &rules, content, today).map_err(|rejection| tx.rules().named(&fund.fund_type, fund.id, rejection))?;
    }
    let mut previews = split_anew(call, content, &fund, firm, issued)?;
    let mut moved = Vec::new();
    for (investor_id, lines) in domain::by_investor(lines) {
        let targets = domain::divide(previews.remove(&investor_id).as_ref(), &lines);
        for (line, target) in lines.into_iter().zip(targets) {
            let mut line = line.clone();
            // who joined later keeps a later date, unless the date is what changes
            let due_on = if content.due_on == call.due_on { line.due_on } else { content.due_on };
            let change = domain::amend_line(&mut line, target.as_ref(), due_on, amendment.number, today);
            if change.is_some() {
                line.instructions.clone_from(&fund.instructions);
            }
            moved.extend(change.map(|change| (line, change)));
        }
    }
    if !previews.is_empty() || moved.iter().any(|(_, change)| change.amount.is_positive()) {
        // what is called in addition is due like a call that is issued now
        domain::check_notice(&fund, &rules, content, today).map_err(|rejection| tx.rules().named(&fund.fund_type, fund.id, rejection))?;
    }
    if moved.is_empty() && previews.is_empty() {
        return Err(Reason::NothingAmended.with(format!("no line of capital call {} would change", call.id)));
    }
    let mut amended = call.clone();
    domain::put_content(&mut amended, content.clone());
    take(&amended, &mut allocations);
    let mut added: Vec<LinePreview> = previews.into_values().collect();
    added.sort_by_key(|preview| preview.investor_id);
    Ok(Plan { fund, moved, added, terms: LineTerms::of(&rules), today, allocations })
}

/// What each investor would pay of an issued call if it said this.
fn split_anew(
    call: &CapitalCall,
    content: &CallContent,
    fund: &FundCopy,
    firm: &Firm,
    issued: &Issued,
) -> Result<HashMap<Uuid, LinePreview>, Rejection> {
    // what the lines have taken of the commitments is theirs to take again
    let taken = domain::by_investor(issued.lines(call.id));
    let mut commitments = firm.effective(fund.id, content.due_on, Some((call.id, issued.seen.get(&call.id).copied())));
    let mut drawn = firm.drawn(fund.id);
    for commitment in &mut commitments {
        for line in taken.get(&commitment.investor_id).into_iter().flatten() {
            domain::draw(commitment, -line.amount, -line.impact_on_unfunded);
            *drawn.entry(commitment.investor_id).or_default() += line.impact_on_unfunded;
        }
    }
    let previews = domain::split_call(Terms { drawn: Some(&drawn), ..Terms::of(content) }, &commitments, fund.currency)?;
    // what was returned, and is no more, may have been called again
    for commitment in &commitments {
        let lines = taken.get(&commitment.investor_id).into_iter().flatten();
        let before: Amount = lines.map(|line| line.impact_on_unfunded).sum();
        let preview = previews.iter().find(|line| line.investor_id == commitment.investor_id);
        let impact = preview.map(|line| line.impact_on_unfunded).unwrap_or_default();
        if impact < before {
            domain::check_unfunded(commitment.investor_id, commitment.unfunded + impact)?;
        }
    }
    Ok(previews.into_iter().map(|preview| (preview.investor_id, preview)).collect())
}

/// Has an issued call say something else.
pub fn amend(tx: &mut Tx, context: &Context, call: &mut CapitalCall, amendment: &Amendment, books: &mut Books) -> Done {
    let Plan { fund, moved, added, terms, today, allocations } = match plan(tx, call, amendment, &books.firm, &books.issued) {
        Ok(plan) => plan,
        Err(rejection) => return Ok(Err(rejection)),
    };
    books.firm.allocations = allocations;
    domain::put_content(call, amendment.content.clone());
    call.amendment = amendment.number;
    call.rules = tx.rules().used(&fund.fund_type, fund.id);
    call.amending = None;
    for (line, moved) in moved {
        call.paid += moved.paid;
        let change = CallLineChange::Amended { amount: moved.amount, impact_on_unfunded: moved.impact_on_unfunded, credited: -moved.paid };
        call.paid += books.follow(tx, context, line, moved, change, (&amendment.reason, today))?;
    }
    call.line_count += i32::try_from(added.len()).unwrap_or(i32::MAX);
    for preview in added {
        let line = new_line(tx, call, &fund, &preview, terms, today);
        books.add_line(tx, context, line)?;
    }
    Ok(Ok(CapitalCallChange::Amended { reason: amendment.reason.clone() }))
}
