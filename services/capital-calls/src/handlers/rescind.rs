//! Calls that are taken back: by a person, or because an allocation that they call for is.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    AllocationReleased, CallDecision, CallKept, CallLineChange, CapitalCall, CapitalCallChange, ReleaseAllocation, RescindCapitalCall,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use uuid::Uuid;

use super::calls::{REASON_CHARACTERS_MAX, give_back, today};
use super::covers::check_no_cover;
use super::issue::Books;
use crate::domain::{self, FundCopy};
use crate::{CapitalCalls, store};

/// Most calls that are named as rescinded, or as kept: the answer stays with a step of the workflow.
const NAMED_MAX: usize = 20;

impl Handle<RescindCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RescindCapitalCall>) -> Result<Answers<CapitalCall>, Fault> {
        let ids = batch.ids(|command| command.call_id);
        let fund_ids = store::funds_of_calls(tx, &ids).await?;
        store::lock_funds(tx, &fund_ids).await?;
        let covers = store::cover_calls(tx, &ids).await?;
        let (mut calls, mut books) = Books::lock_in_funds(tx, &fund_ids, &sorted_ids(ids.into_iter().chain(covers))).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let may = match calls.get(&body.call_id) {
                None => Err(Reason::UnknownCapitalCall.with(format!("capital call {}", body.call_id))),
                Some(call) => may_rescind(tx, context, body, call, &books),
            };
            answers.push(match may {
                Ok(fund) => {
                    rescind_with_covers(tx, context, body, &mut calls, &mut books, &fund)?;
                    Ok(calls[&body.call_id].clone())
                }
                Err(rejection) => Err(rejection),
            });
        }
        books.save(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// A call, and the calls that ask others for what an investor of one before them has not paid.
fn with_covers(id: Uuid, calls: &HashMap<Uuid, CapitalCall>, books: &Books) -> Vec<Uuid> {
    let mut ids = vec![id];
    let mut place = 0;
    while let Some(id) = ids.get(place).copied() {
        let lines: HashSet<Uuid> = books.issued.lines.get(&id).into_iter().flatten().map(|line| line.id).collect();
        let covers =
            |call: &&CapitalCall| call.decision == CallDecision::Issued && call.covers_line_id.is_some_and(|id| lines.contains(&id));
        ids.extend(sorted_ids(calls.values().filter(covers).map(|call| call.id)));
        place += 1;
    }
    ids
}

fn may_rescind(tx: &Tx, context: &Context, body: &RescindCapitalCall, call: &CapitalCall, books: &Books) -> Result<FundCopy, Rejection> {
    context.actor.check_fund(call.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    check_no_cover(call)?;
    tx.rules().check_open(&call.fund_type, call.fund_id, Transition::CallRescinded)?;
    match call.decision {
        CallDecision::Issued => {
            let fund = books.firm.fund(call.fund_id)?;
            let today = today(tx, fund)?;
            for (investor_id, lines) in domain::by_investor(books.issued.lines(call.id)) {
                // what was returned may have been called again; what was drawn comes back in any case
                let impact: Amount = lines.iter().map(|line| line.impact_on_unfunded).sum();
                let commitment = lines.first().and_then(|line| books.commitment_of(line));
                if let Some(commitment) = commitment.filter(|_| impact.is_positive()) {
                    domain::check_unfunded(investor_id, books.firm.least_unfunded(commitment, today) - impact)?;
                }
            }
            Ok(fund.clone())
        }
        CallDecision::Rescinded => Err(Reason::CallRescinded.with(format!("capital call {}", call.id))),
        _ => Err(Reason::CallNotIssued.with(format!("capital call {} is {}", call.id, chassis::row::name(&call.status)))),
    }
}

fn rescind(
    tx: &mut Tx,
    context: &Context,
    body: &RescindCapitalCall,
    call: &mut CapitalCall,
    books: &mut Books,
    fund: &FundCopy,
) -> Result<(), Fault> {
    let today = today(tx, fund).map_err(|rejection| Fault::Fatal(rejection.to_string()))?;
    for mut line in books.issued.lines.get(&call.id).cloned().unwrap_or_default() {
        let moved = domain::rescind_line(&mut line, today);
        let change =
            CallLineChange::Rescinded { amount: -moved.amount, impact_on_unfunded: -moved.impact_on_unfunded, credited: -moved.paid };
        books.follow(tx, context, line, moved, change, (&body.reason, today))?;
    }
    give_back(call, &mut books.firm.allocations);
    call.decision = CallDecision::Rescinded;
    call.decided_because = Some(body.reason.clone());
    call.amending = None;
    call.paid = call.currency.zero();
    call.version += 1;
    call.status = domain::call_status(call);
    tx.emit(context, call, CapitalCallChange::Rescinded { reason: body.reason.clone() })
}

impl Handle<ReleaseAllocation> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ReleaseAllocation>) -> Result<Answers<AllocationReleased>, Fault> {
        let ids = batch.ids(|command| command.allocation_id);
        let known = store::allocations(tx, &ids).await?;
        let fund_ids = sorted_ids(known.values().map(|allocation| allocation.fund_id));
        store::lock_funds(tx, &fund_ids).await?;
        let called_for = store::issued_calls_for(tx, &fund_ids, &ids).await?;
        let covers = store::cover_calls(tx, &called_for).await?;
        let locked = sorted_ids(called_for.into_iter().chain(covers));
        let (mut calls, mut books) = Books::lock_with(tx, &fund_ids, &locked, &ids).await?;
        let mut answers = Answers::with_capacity(batch.iter().len());
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match known.contains_key(&body.allocation_id) {
                true => Ok(release(tx, context, body, &mut calls, &mut books)?),
                false => Err(Reason::UnknownAllocation.with(format!("allocation {}", body.allocation_id))),
            });
        }
        books.save(tx, &calls.values().collect::<Vec<_>>()).await?;
        let released: Vec<(Uuid, i64)> = batch.iter().map(|sent| (sent.body.allocation_id, sent.body.version)).collect();
        let called = store::release_allocations(tx, &released).await?;
        for answer in answers.iter_mut().flatten() {
            answer.called = called.get(&answer.allocation_id).copied().unwrap_or_default();
        }
        Ok(answers)
    }
}

/// Rescinds the calls of an allocation that call for nothing else; what stays called is written when all is saved.
fn release(
    tx: &mut Tx,
    context: &Context,
    command: &ReleaseAllocation,
    calls: &mut HashMap<Uuid, CapitalCall>,
    books: &mut Books,
) -> Result<AllocationReleased, Fault> {
    let mut released =
        AllocationReleased { allocation_id: command.allocation_id, called: Amount::default(), rescinded: vec![], kept: vec![] };
    let is_for_it = |call: &&CapitalCall| call.purposes.iter().any(|purpose| purpose.allocation_id == Some(command.allocation_id));
    // those that cover for an investor go with the call that they cover
    let of_allocation = calls.values().filter(is_for_it).filter(|call| call.covers_line_id.is_none());
    for call_id in sorted_ids(of_allocation.map(|call| call.id)) {
        let call = &calls[&call_id];
        if call.decision != CallDecision::Issued {
            continue;
        }
        let is_only_for_it = call.purposes.iter().all(|purpose| purpose.allocation_id == Some(command.allocation_id));
        let may = match &command.rescind_because {
            None => Err("it is not asked for".to_owned()),
            Some(_) if !is_only_for_it => Err("it calls for something else, too".to_owned()),
            Some(reason) => {
                let command = RescindCapitalCall { call_id, reason: reason.clone() };
                may_rescind(tx, context, &command, call, books).map(|fund| (command, fund)).map_err(|rejection| rejection.to_string())
            }
        };
        match may {
            Ok((command, fund)) => {
                rescind_with_covers(tx, context, &command, calls, books, &fund)?;
                if released.rescinded.len() < NAMED_MAX {
                    released.rescinded.push(call_id);
                }
            }
            Err(because) if released.kept.len() < NAMED_MAX => released.kept.push(CallKept { call_id, because }),
            Err(_) => {}
        }
    }
    Ok(released)
}

/// Takes a call back; what others were asked for in place of one of its investors goes with it.
fn rescind_with_covers(
    tx: &mut Tx,
    context: &Context,
    command: &RescindCapitalCall,
    calls: &mut HashMap<Uuid, CapitalCall>,
    books: &mut Books,
    fund: &FundCopy,
) -> Result<(), Fault> {
    for id in with_covers(command.call_id, calls, books).into_iter().rev() {
        if let Some(call) = calls.get_mut(&id) {
            rescind(tx, context, command, call, books, fund)?;
        }
    }
    Ok(())
}
