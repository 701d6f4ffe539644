//! Workflows that somebody has stop, go on or end, that wait for a time, or that are stuck.

use ::domain::messages::workflow::{ApprovalChange, Pause, SteerWorkflow, StepName, WhenOverdue, Workflow, WorkflowAction, WorkflowChange};
use ::domain::{Reason, ids};
use chassis::{Answers, Batch, Context, Courier, Errand, Fault, Handle, Sent, Tx};

use super::changes;
use crate::store::{self, Instance};
use crate::{WorkflowService, domain};

/// Most workflows that one transaction has go on after a time, or says to be stuck.
const TOGETHER_MAX: i64 = 200;

impl Handle<SteerWorkflow> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SteerWorkflow>) -> Result<Answers<Workflow>, Fault> {
        let mut instances = store::lock(tx, &batch.ids(|body| body.workflow_id)).await?;
        let mut answers = Answers::with_capacity(batch.iter().len());
        let mut voided: Vec<(Instance, &Context)> = Vec::new();
        let mut changed = Vec::new();
        for Sent { context, body, .. } in batch.iter() {
            let Some(instance) = instances.get_mut(&body.workflow_id) else {
                answers.push(Err(Reason::UnknownWorkflow.with(format!("workflow {}", body.workflow_id))));
                continue;
            };
            let pause = Pause { by: context.actor.user.clone(), at: tx.now(), reason: body.reason.clone() };
            let steered = domain::check_steering(&instance.workflow, &context.actor, body.action, &body.reason)
                .and_then(|()| domain::steer(&mut instance.workflow, body.action, body.from_step, pause));
            if let Err(rejection) = steered {
                answers.push(Err(rejection));
                continue;
            }
            if body.action == WorkflowAction::Retry && domain::asks_anew(&instance.workflow) {
                // a program answers a key once: it is asked with another one
                instance.subject.asked += 1;
            }
            if body.action == WorkflowAction::Retry {
                domain::begin_next(&mut instance.workflow, &instance.subject, tx.now());
            }
            instance.workflow.version += 1;
            instance.due_at = super::due_at(tx, instance);
            let change = WorkflowChange::Steered { action: body.action, reason: body.reason.clone() };
            tx.emit(context, &instance.workflow, change)?;
            if body.action == WorkflowAction::Cancel {
                voided.push((instance.clone(), context));
            }
            changed.push(body.workflow_id);
            answers.push(Ok(instance.workflow.clone()));
        }
        changes::void(tx, &voided).await?;
        let changed: Vec<&Instance> = instances.values().filter(|instance| changed.contains(&instance.workflow.id)).collect();
        store::save(tx, &changed).await?;
        store::save_subjects(tx, &changed).await?;
        Ok(answers)
    }
}

/// The errand that has workflows go on whose time to wait is over, says which are stuck, and has those who have not voted reminded, a
/// higher tier asked, or a request refused. All of it goes by the business clock, once each.
pub struct Deadlines;

impl Errand for Deadlines {
    type Item = ();
    type Outcome = ();
    const AT_ONCE: usize = 1;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<()>, Fault> {
        let context = tx.own_context();
        // one kind in one transaction: who locks workflows twice may wait in a circle. Everything is done in the claim; an item asks for
        // another round at once
        let mut waited = store::lock_waited(tx, TOGETHER_MAX).await?;
        if !waited.is_empty() {
            return go_on(tx, &context, &mut waited).await.map(|()| vec![()]);
        }
        let mut stuck = store::lock_stuck(tx, TOGETHER_MAX).await?;
        for instance in &mut stuck {
            instance.workflow.stuck = true;
            instance.workflow.version += 1;
            metrics::counter!("tranche_workflows_stuck_total").increment(1);
            tx.emit(&context, &instance.workflow, WorkflowChange::Stuck)?;
        }
        if !stuck.is_empty() {
            return store::save(tx, &stuck.iter().collect::<Vec<_>>()).await.map(|()| vec![()]);
        }
        Ok(if pass_deadlines(tx, &context).await? { vec![()] } else { vec![] })
    }

    async fn run(&self, _: &Courier, (): &()) {}

    async fn record(&self, _: &mut Tx, _: Vec<((), ())>) -> Result<(), Fault> {
        Ok(())
    }
}

/// Does what the time has come for to approvals; whether there was any.
async fn pass_deadlines(tx: &mut Tx, context: &Context) -> Result<bool, Fault> {
    let ids = store::overdue_approvals(tx, TOGETHER_MAX).await?;
    if ids.is_empty() {
        return Ok(false);
    }
    // workflows first, as whoever votes does
    let workflow_ids = store::workflows_of_approvals(tx, &ids).await?;
    let mut workflows = store::lock(tx, &workflow_ids).await?;
    let mut approvals = store::lock_approvals(tx, &ids).await?;
    let now = tx.now();
    for approval in approvals.values_mut() {
        let Some(instance) = workflows.get_mut(&approval.workflow_id) else { continue };
        while let Some(passed) = domain::pass_deadline(approval, now) {
            approval.version += 1;
            let change = match passed {
                WhenOverdue::Remind => ApprovalChange::Reminded,
                WhenOverdue::Escalate => ApprovalChange::Escalated,
                WhenOverdue::Expire => ApprovalChange::Expired,
            };
            tx.emit(context, &*approval, change)?;
            match passed {
                WhenOverdue::Remind => continue,
                WhenOverdue::Escalate => domain::note_tier(&mut instance.workflow, &approval.tier),
                WhenOverdue::Expire => {
                    let expired = Reason::ApprovalExpired.with(format!("approval {} was not decided in its time", approval.id));
                    domain::refuse_step(&mut instance.workflow, expired, now);
                }
            }
            instance.workflow.version += 1;
            instance.due_at = super::due_at(tx, &*instance);
            super::publish(tx, context, &instance.workflow, WorkflowChange::Advanced)?;
        }
    }
    store::save_approvals(tx, &approvals.values().collect::<Vec<_>>()).await?;
    store::save(tx, &workflows.values().collect::<Vec<_>>()).await?;
    Ok(true)
}

/// Ends the waiting of workflows.
async fn go_on(tx: &mut Tx, context: &Context, waited: &mut [Instance]) -> Result<(), Fault> {
    for instance in waited.iter_mut() {
        instance.due_at = None;
        domain::go_on_after_waiting(&mut instance.workflow, &instance.subject, tx.now());
    }
    step_on(tx, waited, |_| context.clone()).await
}

/// Begins the next steps of workflows one of whose steps has ended, and stores them: votes are asked for where they come to need them.
pub async fn step_on(tx: &mut Tx, instances: &mut [Instance], context: impl Fn(&Instance) -> Context) -> Result<(), Fault> {
    let mut approvals = Vec::new();
    for instance in instances.iter_mut() {
        let needs_votes = domain::begin_next(&mut instance.workflow, &instance.subject, tx.now());
        instance.workflow.version += 1;
        let context = context(instance);
        super::publish(tx, &context, &instance.workflow, WorkflowChange::Advanced)?;
        if needs_votes {
            let name = format!("{} {}", StepName::Approve.as_str(), instance.subject.asked);
            approvals.extend(super::request_votes(tx, &context, instance, ids::derived(&name, instance.workflow.id))?);
        }
        let at_once = super::due_at(tx, instance);
        instance.due_at = at_once.map(|at_once| instance.due_at.map_or(at_once, |due_at| due_at.max(at_once)));
    }
    store::save(tx, &instances.iter().collect::<Vec<_>>()).await?;
    store::insert_approvals(tx, &approvals).await
}
