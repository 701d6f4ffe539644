//! Others who are asked for what an investor in default has not paid.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    CallContent, CallLine, CallLineChange, CapitalCall, CapitalCallChange, CoverShortfall, Disposition, LinePurpose, Priority, Purpose,
    Rounding, ShortfallCovered,
};
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::{REASON_CHARACTERS_MAX, give_back, issued_call, take, today};
use super::defaults::unknown;
use super::issue::{Books, new_line};
use crate::domain::{self, Cover, FundCopy, LineTerms};
use crate::{CapitalCalls, store};

impl Handle<CoverShortfall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CoverShortfall>) -> Result<Answers<ShortfallCovered>, Fault> {
        let owners = store::owners_of_lines(tx, &batch.ids(|command| command.line_id)).await?;
        let fund_ids = sorted_ids(owners.values().map(|(fund_id, _)| *fund_id));
        store::lock_funds(tx, &fund_ids).await?;
        let call_ids = sorted_ids(owners.values().map(|(_, call_id)| *call_id));
        let (mut calls, mut books) = Books::lock_in_funds(tx, &fund_ids, &call_ids).await?;
        let covered = store::covered_so_far(tx, &batch.ids(|command| command.line_id)).await?;
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let call = owners.get(&body.line_id).and_then(|(_, call_id)| calls.get_mut(call_id));
            let planned = call.ok_or_else(|| unknown(body.line_id)).and_then(|call| {
                let plan = plan_cover(tx, context, body, call, &books, &covered)?;
                Ok((call, plan))
            });
            answers.push(match planned {
                Ok((call, plan)) => {
                    let covered = carry_over(tx, context, body, call, plan, &mut books)?;
                    added.push(covered.call.clone());
                    Ok(covered)
                }
                Err(rejection) => Err(rejection),
            });
        }
        store::insert_calls(tx, &added).await?;
        books.save(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

struct CoverPlan {
    fund: FundCopy,
    line: CallLine,
    cover: Cover,
    content: CallContent,
    terms: LineTerms,
    today: NaiveDate,
}

fn plan_cover(
    tx: &Tx,
    context: &Context,
    body: &CoverShortfall,
    call: &CapitalCall,
    books: &Books,
    covered: &HashMap<(Uuid, Uuid), Amount>,
) -> Result<CoverPlan, Rejection> {
    let lines = books.issued.lines(call.id);
    let mut line = lines.iter().find(|line| line.id == body.line_id).cloned().ok_or_else(|| unknown(body.line_id))?;
    context.actor.check_fund(line.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    calendar::plausible_date("due_on", body.due_on)?;
    let fund = books.firm.fund(call.fund_id)?.clone();
    let today = today(tx, &fund)?;
    domain::derive_line(&mut line, today);
    if line.default.is_none() {
        return Err(Reason::NotInDefault.with(format!("call line {}", line.id)));
    }
    if !line.outstanding.is_positive() {
        return Err(Reason::NothingOutstanding.with(format!("call line {}", line.id)));
    }
    if let Some(amendment) = &call.amending {
        return Err(Reason::AmendmentPending.with(format!("amendment {} of capital call {}", amendment.number, call.id)));
    }
    if body.due_on < today {
        return Err(Reason::ImplausibleDate.with(format!("due_on {} is before today, {today}", body.due_on)));
    }
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    tx.rules().check_open(&fund.fund_type, fund.id, Transition::ShortfallCovered)?;
    let mut commitments = books.firm.effective(fund.id, body.due_on, None);
    // who is in default pays for nobody
    commitments.retain(|commitment| commitment.defaulted_on.is_none());
    let so_far = |investor_id: Uuid| covered.get(&(line.id, investor_id)).copied().unwrap_or_default();
    let cover = domain::cover(&line, lines, &commitments, rules.cover_cap_percent, so_far);
    if !cover.amount.is_positive() {
        return Err(Reason::NothingCovered.with(format!("of {} outstanding on call line {}", line.outstanding, line.id)));
    }
    let of = |part: &LinePurpose| Purpose {
        kind: part.kind,
        allocation_id: part.allocation_id,
        amount: part.amount,
        inside_commitment: part.inside_commitment,
    };
    let mut content = CallContent {
        purposes: cover.purposes.iter().map(of).collect(),
        amount: cover.amount,
        due_on: body.due_on,
        priority: Priority::Normal,
        adjustments: vec![],
        rounding: Rounding::PerCall,
        content_hash: String::new(),
    };
    content.content_hash = domain::content_hash(fund.id, &content);
    domain::check_notice(&fund, &rules, &content, today).map_err(|rejection| tx.rules().named(&fund.fund_type, fund.id, rejection))?;
    Ok(CoverPlan { terms: LineTerms::of(&rules), fund, line, cover, content, today })
}

/// Takes what others pay off the line and its call, and asks them for it by a call of its own.
fn carry_over(
    tx: &mut Tx,
    context: &Context,
    body: &CoverShortfall,
    call: &mut CapitalCall,
    plan: CoverPlan,
    books: &mut Books,
) -> Result<ShortfallCovered, Fault> {
    let CoverPlan { fund, mut line, cover, content, terms, today } = plan;
    let mut new = issued_call(tx, context, &fund, tx.new_id(), content, today);
    new.covers_line_id = Some(line.id);
    new.line_count = i32::try_from(cover.lines.len()).unwrap_or(i32::MAX);
    tx.emit(context, &new, CapitalCallChange::Issued)?;
    let moved = domain::cover_line(&mut line, &cover, today);
    let change = CallLineChange::Covered { call_id: new.id, amount: cover.amount, impact_on_unfunded: moved.impact_on_unfunded };
    call.paid += moved.paid;
    call.paid += books.follow(tx, context, line.clone(), moved, change, (&body.reason, today))?;
    give_back(call, &mut books.firm.allocations);
    domain::cover_call(call, &cover);
    take(call, &mut books.firm.allocations);
    take(&new, &mut books.firm.allocations);
    call.version += 1;
    call.status = domain::call_status(call);
    tx.emit(context, &*call, CapitalCallChange::Covered { line_id: line.id, call_id: new.id, amount: cover.amount })?;
    for preview in &cover.lines {
        let mut line = new_line(tx, &new, &fund, preview, terms, today);
        domain::derive_line(&mut line, today);
        books.add_line(tx, context, line)?;
    }
    // as cash and interest stand on it now
    let line = books.issued.lines(call.id).iter().find(|known| known.id == line.id).cloned().unwrap_or(line);
    Ok(ShortfallCovered { line, call: new, covered: cover.amount })
}

/// Refuses a change of a call that asks others for what an investor in default has not paid.
pub fn check_no_cover(call: &CapitalCall) -> Result<(), Rejection> {
    match call.covers_line_id {
        Some(line_id) => Err(Reason::ShortfallCovered.with(format!("capital call {} pays for call line {line_id}", call.id))),
        None => Ok(()),
    }
}

/// Whether others pay for an investor of the call: then it is not shared again.
pub fn check_not_covered(lines: &[CallLine]) -> Result<(), Rejection> {
    match lines.iter().find(|line| line.disposition == Disposition::CoveredByOthers) {
        Some(line) => Err(Reason::ShortfallCovered.with(format!("others pay for call line {} of capital call {}", line.id, line.call_id))),
        None => Ok(()),
    }
}
