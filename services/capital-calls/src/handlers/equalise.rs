//! Closings as they are carried out: lines that move, new lines, and the call for interest.

use std::collections::{BTreeMap, HashMap, HashSet};

use ::domain::messages::capital_calls::{
    CallContent, CallLineChange, CapitalCall, CapitalCallChange, Closing, ClosingChange, ClosingShare, ClosingView, Commitment,
    CommitmentChange, CommitmentEntry, EntryKind, LinePreview, LinePurpose, Priority, Purpose, PurposeKind, Rounding,
};
use chassis::{Context, Fault, Tx};
use uuid::Uuid;

use super::calls::issued_call;
use super::closings::Plan;
use super::issue::{Books, new_line};
use crate::domain::{self, FundCopy};
use crate::store;

/// What the closings of a batch add.
#[derive(Default)]
pub struct Held {
    closings: Vec<Closing>,
    shares: Vec<(Uuid, ClosingShare)>,
    entries: Vec<CommitmentEntry>,
    joined: HashSet<Uuid>,
    interest_calls: Vec<CapitalCall>,
}

impl Held {
    /// Writes it, with what has moved.
    pub async fn save(self, tx: &mut Tx, books: &Books, calls: &HashMap<Uuid, CapitalCall>) -> Result<(), Fault> {
        let joined: Vec<Commitment> =
            books.firm.commitments.iter().filter(|commitment| self.joined.contains(&commitment.id)).cloned().collect();
        if store::insert_commitments(tx, &joined).await?.len() < joined.len() {
            return Err(Fault::Transient("another commitment of an investor to a fund was recorded meanwhile".into()));
        }
        store::insert_calls(tx, &self.interest_calls).await?;
        store::insert_closings(tx, &self.closings).await?;
        store::insert_closing_shares(tx, &self.shares).await?;
        store::insert_entries(tx, &self.entries).await?;
        books.save(tx, &calls.values().collect::<Vec<_>>()).await
    }
}

/// Carries a plan out.
pub fn hold(
    tx: &mut Tx,
    context: &Context,
    fund: &FundCopy,
    plan: Plan,
    calls: &mut HashMap<Uuid, CapitalCall>,
    books: &mut Books,
    held: &mut Held,
) -> Result<ClosingView, Fault> {
    for (commitment, entry) in &plan.entered {
        tx.emit(context, commitment, CommitmentChange::Changed { entry: entry.clone() })?;
        if entry.kind == EntryKind::Initial {
            held.joined.insert(commitment.id);
        }
        held.entries.push(entry.clone());
    }
    books.put_commitments(plan.entered.iter().map(|(commitment, _)| commitment.clone()));
    for (of_call, previews) in plan.closing.calls.iter().zip(&plan.shared) {
        if let Some(call) = calls.get_mut(&of_call.call_id) {
            share_call_anew(tx, context, fund, &plan, call, previews, books)?;
        }
    }
    if let Some(id) = plan.closing.interest_call_id {
        let call = interest_call(tx, context, fund, &plan, id, books)?;
        held.interest_calls.push(call);
    }
    let Plan { closing, shares, .. } = plan;
    tx.emit(context, &closing, ClosingChange::Held)?;
    held.closings.push(closing.clone());
    held.shares.extend(shares.iter().map(|share| (closing.id, share.clone())));
    Ok(ClosingView { closing, shares })
}

/// Gives the lines of one call what they would be if all had joined at first.
fn share_call_anew(
    tx: &mut Tx,
    context: &Context,
    fund: &FundCopy,
    Plan { closing, entered, terms, today, .. }: &Plan,
    call: &mut CapitalCall,
    previews: &[LinePreview],
    books: &mut Books,
) -> Result<(), Fault> {
    let mut wanted: BTreeMap<Uuid, LinePreview> = previews.iter().map(|preview| (preview.investor_id, preview.clone())).collect();
    let mut changed = false;
    let lines = books.issued.lines.get(&call.id).cloned().unwrap_or_default();
    for (investor_id, lines) in domain::by_investor(&lines) {
        let preview = wanted.remove(&investor_id);
        // who adds to its commitment, or whose lines are past due, owes what is called in addition with the closing: by a line of its own,
        // so that what it owed before keeps its date
        let adds = entered.iter().any(|(commitment, _)| commitment.investor_id == investor_id);
        let is_new = adds || lines.iter().all(|line| line.due_on < *today);
        let with_new = preview.as_ref().filter(|_| is_new).and_then(|preview| domain::divide_with_new(preview, &lines));
        let targets = match with_new {
            Some((targets, new)) => {
                wanted.insert(investor_id, new);
                targets
            }
            None => domain::divide(preview.as_ref(), &lines),
        };
        for (line, target) in lines.into_iter().zip(targets) {
            let mut line = line.clone();
            let (due_on, amendment) = (line.due_on, line.amendment);
            let Some(moved) = domain::amend_line(&mut line, target.as_ref(), due_on, amendment, *today) else { continue };
            line.instructions.clone_from(&fund.instructions);
            call.paid += moved.paid;
            let change =
                CallLineChange::Amended { amount: moved.amount, impact_on_unfunded: moved.impact_on_unfunded, credited: -moved.paid };
            call.paid += books.follow(tx, context, line, moved, change, ("investors joined at a later closing", closing.closed_on))?;
            changed = true;
        }
    }
    for preview in wanted.values() {
        let mut line = new_line(tx, call, fund, preview, *terms, closing.closed_on);
        (line.due_on, line.closing_id) = (closing.due_on, Some(closing.id));
        domain::derive_line(&mut line, *today);
        call.line_count += 1;
        books.add_line(tx, context, line)?;
        changed = true;
    }
    if changed {
        call.version += 1;
        call.status = domain::call_status(call);
        tx.emit(context, &*call, CapitalCallChange::Equalised { closing_id: closing.id })?;
    }
    Ok(())
}

/// The call that asks those who joined for their interest.
fn interest_call(
    tx: &mut Tx,
    context: &Context,
    fund: &FundCopy,
    Plan { closing, owed, terms, today, .. }: &Plan,
    id: Uuid,
    books: &mut Books,
) -> Result<CapitalCall, Fault> {
    let zero = fund.currency.zero();
    let purpose = Purpose { kind: PurposeKind::ClosingInterest, allocation_id: None, amount: closing.interest, inside_commitment: false };
    let mut content = CallContent {
        purposes: vec![purpose],
        amount: closing.interest,
        due_on: closing.due_on,
        priority: Priority::Normal,
        adjustments: vec![],
        rounding: Rounding::PerCall,
        content_hash: String::new(),
    };
    content.content_hash = domain::content_hash(fund.id, &content);
    let mut call = issued_call(tx, context, fund, id, content, closing.closed_on);
    call.line_count = i32::try_from(owed.len()).unwrap_or(i32::MAX);
    tx.emit(context, &call, CapitalCallChange::Issued)?;
    for (investor_id, amount) in owed {
        let part =
            LinePurpose { kind: PurposeKind::ClosingInterest, allocation_id: None, inside_commitment: false, amount: *amount, paid: zero };
        let preview = LinePreview {
            investor_id: *investor_id,
            amount: *amount,
            impact_on_unfunded: zero,
            purposes: vec![part],
            commitment: zero,
            unfunded_before: zero,
            unfunded_after: zero,
            shares: vec![],
        };
        let mut line = new_line(tx, &call, fund, &preview, *terms, closing.closed_on);
        line.closing_id = Some(closing.id);
        domain::derive_line(&mut line, *today);
        books.add_line(tx, context, line)?;
    }
    Ok(call)
}
