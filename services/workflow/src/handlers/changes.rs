//! Calls whose content changes, or that are taken back, while their workflow waits: votes on another content are void.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{CallContent, CallDecision, CapitalCall};
use ::domain::messages::workflow::{ApprovalChange, SubjectKind, WorkflowChange};
use ::domain::{Reason, Rejection, ids};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Seen, Tx};
use uuid::Uuid;

use crate::domain;
use crate::store::{self, Instance};

/// What a call's owner says now about a workflow of it.
enum Asked<'a> {
    /// It is as it was, or decided.
    Nothing,
    /// This is asked for.
    For(CallContent, &'a str),
    /// Nothing is asked for any more.
    Withdrawn,
}

fn asked<'a>(call: &'a CapitalCall, amendment: Option<i32>) -> Asked<'a> {
    match (call.decision, amendment) {
        (CallDecision::PendingApproval, None) => Asked::For(call.content(), &call.requested_by),
        (CallDecision::Cancelled, None) => Asked::Withdrawn,
        (_, None) => Asked::Nothing,
        (_, Some(number)) if call.amendment >= number => Asked::Nothing,
        (_, Some(number)) => match &call.amending {
            Some(amending) if amending.number == number => Asked::For(amending.content.clone(), &amending.requested_by),
            _ => Asked::Withdrawn,
        },
    }
}

/// Whether something may have changed that a workflow waits for; most news of a call is about cash.
fn may_concern(call: &CapitalCall) -> bool {
    matches!(call.decision, CallDecision::PendingApproval | CallDecision::Cancelled) || call.amendments_asked > 0
}

/// Has votes cast again on what was changed, and ends what was taken back.
pub async fn follow(tx: &mut Tx, news: &[&Seen<CapitalCall>]) -> Result<(), Fault> {
    let concerned: HashMap<Uuid, &Seen<CapitalCall>> =
        news.iter().filter(|seen| may_concern(&seen.state)).map(|seen| (seen.state.id, *seen)).collect();
    if concerned.is_empty() {
        return Ok(());
    }
    let mut changed: Vec<(Instance, &Context)> = Vec::new();
    for mut instance in store::lock_incomplete(tx, &sorted_ids(concerned.keys().copied())).await? {
        let Some(seen) = concerned.get(&instance.workflow.subject_id) else { continue };
        let has_changed = match asked(&seen.state, instance.subject.amendment) {
            Asked::Nothing => false,
            Asked::Withdrawn => {
                let why = Reason::Withdrawn.with("the capital call or its amendment was cancelled");
                domain::withdraw(&mut instance.workflow, why, tx.now())
            }
            Asked::For(content, _) if content.content_hash == instance.subject.content_hash => false,
            Asked::For(content, requested_by) => {
                if let Err(rejection) = ask_again(tx, &mut instance, &seen.state, content, requested_by) {
                    domain::refuse_step(&mut instance.workflow, rejection, tx.now());
                }
                true
            }
        };
        if has_changed {
            instance.workflow.version += 1;
            instance.due_at = super::due_at(tx, &instance);
            changed.push((instance, &seen.context));
        }
    }
    void(tx, &changed).await?;
    let mut approvals = Vec::new();
    for (instance, context) in &changed {
        super::publish(tx, context, &instance.workflow, WorkflowChange::Advanced)?;
        if domain::waits_for_votes(&instance.workflow) {
            // another one for each state of the call, also when a content comes back
            let of_call = concerned.get(&instance.workflow.subject_id).map(|seen| (seen.epoch, seen.state.version));
            let id = ids::derived(&format!("approval {of_call:?}"), instance.workflow.id);
            approvals.extend(super::request_votes(tx, context, instance, id)?);
        }
    }
    let changed: Vec<&Instance> = changed.iter().map(|(instance, _)| instance).collect();
    store::save(tx, &changed).await?;
    store::save_subjects(tx, &changed).await?;
    store::insert_approvals(tx, &approvals).await
}

/// Ends the workflows of allocations or refunds that were taken back while they waited.
pub async fn withdraw(tx: &mut Tx, kind: SubjectKind, cancelled: &HashMap<Uuid, &Context>) -> Result<(), Fault> {
    if cancelled.is_empty() {
        return Ok(());
    }
    let mut ended: Vec<(Instance, &Context)> = Vec::new();
    for mut instance in store::lock_incomplete(tx, &sorted_ids(cancelled.keys().copied())).await? {
        let Some(context) = cancelled.get(&instance.workflow.subject_id) else { continue };
        let why = Reason::Withdrawn.with(format!("the {} was cancelled", chassis::row::name(&kind)));
        if instance.workflow.subject_kind == kind && domain::withdraw(&mut instance.workflow, why, tx.now()) {
            instance.workflow.version += 1;
            instance.due_at = super::due_at(tx, &instance);
            ended.push((instance, context));
        }
    }
    void(tx, &ended).await?;
    for (instance, context) in &ended {
        super::publish(tx, context, &instance.workflow, WorkflowChange::Advanced)?;
    }
    store::save(tx, &ended.iter().map(|(instance, _)| instance).collect::<Vec<_>>()).await
}

/// Has a workflow ask for other content, under the rules in force now.
fn ask_again(tx: &Tx, instance: &mut Instance, call: &CapitalCall, content: CallContent, requested_by: &str) -> Result<(), Rejection> {
    let book = tx.rules();
    let rules = book.rules(&call.fund_type, call.fund_id)?;
    instance.workflow.rules = book.used(&call.fund_type, call.fund_id);
    instance.subject.amount = super::gross(&content.purposes);
    instance.subject.authors.clone_from(&call.authors);
    instance.subject.priority = content.priority;
    instance.subject.notice_days = call.notice_days.filter(|_| instance.subject.amendment.is_none());
    instance.subject.asked += 1;
    instance.subject.content_hash = content.content_hash;
    instance.workflow.requested_by = requested_by.to_owned();
    instance.subject.keep_to(SubjectKind::CapitalCall, &rules);
    // the steps are those of the rules in force now, as the tier is
    let steps = domain::first_steps(SubjectKind::CapitalCall, &rules, instance.workflow.created_at);
    domain::ask_again(&mut instance.workflow, steps, &instance.subject, tx.now());
    Ok(())
}

/// Voids the approvals of workflows: what was voted on is asked for no more.
pub async fn void(tx: &mut Tx, changed: &[(Instance, &Context)]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = changed.iter().map(|(instance, _)| instance.workflow.id).collect();
    let mut approvals = store::lock_pending_approvals(tx, &ids).await?;
    for approval in &mut approvals {
        let Some((_, context)) = changed.iter().find(|(instance, _)| instance.workflow.id == approval.workflow_id) else { continue };
        approval.voided = true;
        domain::derive_approval(approval);
        approval.version += 1;
        tx.emit(context, &*approval, ApprovalChange::Voided)?;
    }
    store::save_approvals(tx, &approvals.iter().collect::<Vec<_>>()).await
}
