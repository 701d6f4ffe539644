//! The runner: takes the workflows that are due, sends the command of their next step, and records
//! the answer. A step that gets no answer is sent again with the same idempotency key, for as long
//! as it takes; a refusal ends the workflow and gives back what was held.

use std::time::Duration;

use ::domain::messages::allocation_status::DecideAllocation;
use ::domain::messages::capital_calls::{DecideCapitalCall, DecideRefund};
use ::domain::messages::deals::{StageRequest, StageRequestChange};
use ::domain::messages::workflow::{StepName, StepStatus, SubjectKind, WorkflowChange, WorkflowStatus};
use ::domain::{Actor, Problem, Reason, Rejection, ids};
use chassis::{Context, Courier, Errand, Fault, Tx, Unanswered};

use uuid::Uuid;

use crate::domain;
use crate::store::{self, Instance};

/// A claimed step is left alone by other replicas for so long.
pub const LEASE: Duration = Duration::from_secs(20);
/// Most steps claimed at once: as many as are sent at once, so that the lease covers each.
const CLAIM_MAX: i64 = 64;
/// Longest pause between two attempts of a step.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What a step's owner does not know it may not know yet: its copies are compared within a minute. A step that was refused for so many
/// attempts, more than a minute in all, names something that was forgotten, because a database was set back.
const COPY_ATTEMPTS: i32 = 10;
/// The stage that we ask the deal system for after an allocation.
const STAGE_AFTER_ALLOCATION: &str = "committed";

/// The errand that carries workflows on.
pub struct Steps;

/// What came of a step.
pub enum Outcome {
    /// It is done.
    Done(String),
    /// It is refused.
    Refused(Rejection),
    /// Nobody answered.
    Unanswered(String),
}

fn outcome(kind: SubjectKind, step: StepName, attempts: i32, answer: Result<Result<(), Rejection>, Unanswered>) -> Outcome {
    // the subject's owner made it before the workflow began: it has forgotten it, its database was set back
    let forgotten = match kind {
        SubjectKind::Allocation => Reason::UnknownAllocation,
        SubjectKind::CapitalCall => Reason::UnknownCapitalCall,
        SubjectKind::Refund => Reason::UnknownRefund,
    };
    match answer {
        Ok(Ok(())) => Outcome::Done(format!("{} decided", chassis::row::name(&kind))),
        Ok(Err(rejection)) if rejection.reason == forgotten && step == StepName::GiveBack => Outcome::Done(rejection.to_string()),
        Ok(Err(rejection)) if rejection.reason == forgotten => Outcome::Refused(rejection),
        Ok(Err(rejection)) if rejection.reason.may_be_behind() && attempts >= COPY_ATTEMPTS => Outcome::Refused(rejection),
        Ok(Err(rejection)) if !rejection.reason.is_final() => Outcome::Unanswered(rejection.to_string()),
        Ok(Err(rejection)) => Outcome::Refused(rejection),
        Err(unanswered) => Outcome::Unanswered(unanswered.why),
    }
}

fn own_context(instance: &Instance, step: StepName) -> Context {
    Context {
        message_id: ids::derived(&format!("{step:?}"), instance.workflow.id),
        correlation_id: instance.correlation_id.clone(),
        actor: Actor::service("workflow"),
        traceparent: None,
    }
}

impl Errand for Steps {
    type Item = (Instance, StepName);
    type Outcome = Outcome;
    const AT_ONCE: usize = 64;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<(Instance, StepName)>, Fault> {
        let mut due = store::lock_due(tx, CLAIM_MAX).await?;
        if due.is_empty() {
            return Ok(vec![]);
        }
        let (now, leased_until) = (tx.now(), tx.system_now() + LEASE);
        let mut claimed = Vec::with_capacity(due.len());
        for instance in &mut due {
            if let Some(step) = domain::next_step(&mut instance.workflow) {
                step.status = StepStatus::Running;
                step.started_at.get_or_insert(now);
                step.attempts += 1;
                claimed.push(step.name);
            }
            instance.due_at = Some(leased_until);
        }
        store::save(tx, &due.iter().collect::<Vec<_>>()).await?;
        Ok(due.into_iter().zip(claimed).collect())
    }

    async fn run(&self, courier: &Courier, (instance, step): &(Instance, StepName)) -> Outcome {
        let workflow = &instance.workflow;
        let mut key = format!("{}/{}", workflow.id, chassis::row::name(step));
        if instance.subject.asked > 0 {
            key = format!("{key}/{}", instance.subject.asked);
        }
        let context = own_context(instance, *step);
        let attempts = workflow.steps.iter().find(|known| known.name == *step).map_or(0, |known| known.attempts);
        let denied = (*step == StepName::GiveBack)
            .then(|| workflow.error.as_ref().map_or_else(|| "refused".into(), |problem| problem.detail.clone()));
        let decided = |answer| outcome(workflow.subject_kind, *step, attempts, answer);
        match (step, workflow.subject_kind) {
            // written into the log when the outcome is recorded
            (StepName::RequestStage, _) => Outcome::Done(format!("deal system asked for stage {STAGE_AFTER_ALLOCATION}")),
            (StepName::Validate | StepName::Approve, _) => Outcome::Done("nothing to do".into()),
            (_, SubjectKind::Allocation) => {
                let command = DecideAllocation { allocation_id: workflow.subject_id, denied_because: denied };
                decided(courier.command(&key, &context, &command).await.map(|answer| answer.map(drop)))
            }
            (_, SubjectKind::CapitalCall) => {
                let command = DecideCapitalCall {
                    call_id: workflow.subject_id,
                    content_hash: instance.subject.content_hash.clone(),
                    cancelled_because: denied,
                };
                decided(courier.command(&key, &context, &command).await.map(|answer| answer.map(drop)))
            }
            (_, SubjectKind::Refund) => {
                let command = DecideRefund {
                    refund_id: workflow.subject_id,
                    content_hash: instance.subject.content_hash.clone(),
                    cancelled_because: denied,
                };
                decided(courier.command(&key, &context, &command).await.map(|answer| answer.map(drop)))
            }
        }
    }

    async fn record(&self, tx: &mut Tx, done: Vec<((Instance, StepName), Outcome)>) -> Result<(), Fault> {
        let (now, system_now) = (tx.now(), tx.system_now());
        let ids: Vec<Uuid> = done.iter().map(|((instance, _), _)| instance.workflow.id).collect();
        let stored = store::lock(tx, &ids).await?;
        let mut saved = Vec::with_capacity(done.len());
        for ((mut instance, step), outcome) in done {
            // a step that took longer than its lease was taken over; the other's record stands
            if stored.get(&instance.workflow.id).is_none_or(|stored| stored.workflow.version != instance.workflow.version) {
                continue;
            }
            let context = own_context(&instance, step);
            let is_done = matches!(outcome, Outcome::Done(_));
            let workflow = &mut instance.workflow;
            workflow.version += 1;
            match outcome {
                Outcome::Done(note) => {
                    workflow.error = workflow.error.take().filter(|_| step == StepName::GiveBack);
                    domain::finish_step(workflow, StepStatus::Done, Some(note), now);
                }
                Outcome::Refused(rejection) => domain::refuse_step(workflow, rejection, now),
                Outcome::Unanswered(why) => hold_up(workflow, step, &why),
            }
            let attempts = domain::next_step(workflow).map(|step| step.attempts);
            instance.due_at = attempts.map(|attempts| system_now + if attempts == 0 { Duration::ZERO } else { pause(attempts) });
            let change = match workflow.status {
                WorkflowStatus::Completed => WorkflowChange::Completed,
                WorkflowStatus::Failed => WorkflowChange::Failed,
                WorkflowStatus::Running | WorkflowStatus::Waiting => WorkflowChange::Advanced,
            };
            tx.emit(&context, workflow, change)?;
            if is_done && step == StepName::RequestStage {
                request_stage(tx, &instance)?;
            }
            saved.push(instance);
        }
        store::save(tx, &saved.iter().collect::<Vec<_>>()).await
    }
}

/// Shows why a step is held up; it is tried again.
fn hold_up(workflow: &mut ::domain::messages::workflow::Workflow, step: StepName, why: &str) {
    if step != StepName::GiveBack {
        workflow.error =
            Some(Problem::from(Reason::ServiceUnavailable.with(format!("step {} is tried again: {why}", chassis::row::name(&step)))));
    }
}

fn pause(attempts: i32) -> Duration {
    Duration::from_millis(100 << attempts.clamp(0, 9)).min(PAUSE_MAX)
}

fn request_stage(tx: &mut Tx, instance: &Instance) -> Result<(), Fault> {
    let Some(deal_id) = instance.subject.deal_id else { return Ok(()) };
    let request = StageRequest {
        id: ids::derived("stage-request", instance.workflow.id),
        deal_id,
        stage: STAGE_AFTER_ALLOCATION.into(),
        allocation_id: instance.workflow.subject_id,
        fund_id: instance.workflow.fund_id,
        amount: instance.subject.amount,
        currency: instance.subject.currency,
    };
    tx.emit(&own_context(instance, StepName::RequestStage), &request, StageRequestChange::Requested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_its_owner_has_forgotten_ends_the_workflow_and_one_that_is_not_there_yet_does_not() {
        let unknown = |reason: Reason| Ok(Err(reason.with("why")));
        let of = |step, reason| outcome(SubjectKind::CapitalCall, step, 1, unknown(reason));
        assert!(matches!(of(StepName::Issue, Reason::UnknownCapitalCall), Outcome::Refused(_)));
        assert!(matches!(of(StepName::GiveBack, Reason::UnknownCapitalCall), Outcome::Done(_)));
        assert!(matches!(of(StepName::Issue, Reason::UnknownAllocation), Outcome::Unanswered(_)), "a copy may be behind");
        let later = |reason| outcome(SubjectKind::CapitalCall, StepName::Issue, COPY_ATTEMPTS, unknown(reason));
        assert!(matches!(later(Reason::UnknownAllocation), Outcome::Refused(_)), "but not for so long");
        assert!(matches!(later(Reason::ServiceUnavailable), Outcome::Unanswered(_)));
    }
}
