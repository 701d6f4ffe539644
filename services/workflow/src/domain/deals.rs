//! What the deal system is asked after an allocation, and what becomes of its answers.

use ::domain::messages::deals::{Deal, STAGES_CLOSED_TO_ALLOCATION, StageReply};
use ::domain::messages::workflow::{Step, StepName, StepStatus, Workflow};
use ::domain::rules::StageAsked;
use ::domain::{Problem, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Subject, derive, finish_step, next_step};

/// The deal whose next stage a workflow waits for.
pub fn awaited_deal(workflow: &Workflow, subject: &Subject) -> Option<Uuid> {
    let waits = |step: &Step| step.name == StepName::RequestStage && step.status == StepStatus::Waiting;
    subject.deal_id.filter(|_| workflow.steps.iter().any(waits))
}

/// What the deal system says of a deal.
#[derive(Clone, Debug, Default)]
pub struct DealHeard {
    /// The stage that it is in; empty where nothing was heard of it.
    pub stage: String,
    /// What it said to requests of ours.
    pub replies: Vec<StageReply>,
}

impl DealHeard {
    /// What a deal's newest state says.
    pub fn of(deal: &Deal) -> DealHeard {
        DealHeard { stage: deal.stage.clone(), replies: deal.stage_replies.clone() }
    }
}

/// Ends the step in which the deal system is asked for a stage, where that is answered; whether it is.
pub fn hear_of_deal(workflow: &mut Workflow, subject: &Subject, request_id: Uuid, heard: &DealHeard, now: DateTime<Utc>) -> bool {
    let asked = &subject.stage.stage;
    let reply = heard.replies.iter().find(|reply| reply.request_id == request_id);
    let is_reached = heard.stage == *asked || subject.stage.or_later.contains(&heard.stage);
    let (status, note, error) = match reply {
        _ if is_reached => (StepStatus::Done, format!("the deal is in stage {}", heard.stage), None),
        Some(reply) if reply.accepted => (StepStatus::Done, format!("the deal system moves the deal to {asked}"), None),
        Some(reply) => {
            let why = reply.reason.as_deref().unwrap_or("it gives no reason");
            (StepStatus::Skipped, format!("the deal system refused: {why}"), Some(Reason::StageRequestRefused.with(why)))
        }
        None if STAGES_CLOSED_TO_ALLOCATION.contains(&heard.stage.as_str()) => {
            (StepStatus::Skipped, format!("the deal is {}", heard.stage), None)
        }
        None => return false,
    };
    finish_step(workflow, status, Some(note), now);
    workflow.error = error.map(Problem::from);
    true
}

/// Notes that the deal system was asked once more. The step has its answer waited for, unless the rules do without.
pub fn asked_for_stage(workflow: &mut Workflow, subject: &mut Subject, now: DateTime<Utc>) {
    subject.stage_attempts += 1;
    let StageAsked { stage, answer_within_hours, attempts, .. } = &subject.stage;
    let note = format!("the deal system was asked for stage {stage}, {} of {attempts} times", subject.stage_attempts);
    workflow.error = None;
    if *answer_within_hours == 0 {
        return finish_step(workflow, StepStatus::Done, Some(note), now);
    }
    if let Some(step) = next_step(workflow) {
        (step.status, step.note) = (StepStatus::Waiting, Some(note));
        step.until = Some(now + TimeDelta::hours(i64::from(*answer_within_hours)));
    }
    derive(workflow);
}

/// Has a step done that has waited; the time until it counts as stuck begins now.
fn again(step: &mut Step, now: DateTime<Utc>) {
    (step.status, step.until, step.started_at) = (StepStatus::Pending, None, Some(now));
}

/// Ends the waiting of a workflow whose time is over: it goes on, or the deal system is asked again, until it has been asked often enough.
pub fn go_on_after_waiting(workflow: &mut Workflow, subject: &Subject, now: DateTime<Utc>) {
    match next_step(workflow) {
        Some(step) if step.name == StepName::RequestStage && subject.stage_attempts < i64::from(subject.stage.attempts) => {
            again(step, now);
            derive(workflow);
        }
        Some(step) if step.name == StepName::RequestStage => {
            let why = format!("the deal system did not move the deal to {} in {} requests", subject.stage.stage, subject.stage_attempts);
            finish_step(workflow, StepStatus::Skipped, Some(why.clone()), now);
            workflow.error = Some(Problem::from(Reason::StageRequestUnanswered.with(why)));
        }
        // only now is there something to do
        Some(step) if step.name == StepName::PutInForce => {
            again(step, now);
            derive(workflow);
        }
        _ => finish_step(workflow, StepStatus::Done, Some("the time is over".into()), now),
    }
}
