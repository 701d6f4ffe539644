//! What people may have a workflow do.

use ::domain::messages::workflow::{Pause, Step, StepName, StepStatus, Workflow, WorkflowAction};
use ::domain::rejection::check_text;
use ::domain::rules::decisive;
use ::domain::{Actor, Reason, Rejection};

use super::{COMMENT_CHARACTERS_MAX, derive, has_ended, is_giving_back, refuse_step};

/// Refuses whom may not have a workflow do something: whoever made the request may cancel it, and admins may do everything.
///
/// # Errors
/// `fund_out_of_scope`, `invalid_text`, `not_your_request`, `forbidden`.
pub fn check_steering(workflow: &Workflow, actor: &Actor, action: WorkflowAction, reason: &str) -> Result<(), Rejection> {
    actor.check_fund(workflow.fund_id)?;
    check_text("reason", reason, COMMENT_CHARACTERS_MAX)?;
    if actor.roles.iter().any(|role| role == "admin") {
        return Ok(());
    }
    match action {
        WorkflowAction::Cancel if actor.user == workflow.requested_by => Ok(()),
        WorkflowAction::Cancel => Err(Reason::NotYourRequest.with(format!("{} asked for workflow {}", workflow.requested_by, workflow.id))),
        _ => Err(Reason::Forbidden.with(format!("to {} a workflow needs the role admin", chassis::row::name(&action)))),
    }
}

/// Has a workflow do something. Whether the votes on it do not count any more.
///
/// # Errors
/// `workflow_not_steerable`, `workflow_paused`.
pub fn steer(workflow: &mut Workflow, action: WorkflowAction, from_step: Option<u8>, pause: Pause) -> Result<bool, Rejection> {
    let refuse = |why: &str| Err(Reason::WorkflowNotSteerable.with(why));
    if has_ended(workflow) {
        return refuse("it has ended");
    }
    if from_step.is_some() && action != WorkflowAction::Retry {
        return refuse("from_step is for retry");
    }
    match action {
        WorkflowAction::Pause if workflow.paused.is_some() => return refuse("it is paused already"),
        WorkflowAction::Pause if is_giving_back(workflow) => return refuse("what was done is being given up"),
        WorkflowAction::Pause => workflow.paused = Some(pause),
        WorkflowAction::Resume if workflow.paused.is_none() => return refuse("it is not paused"),
        WorkflowAction::Resume => go_on(workflow),
        WorkflowAction::Cancel => {
            if is_giving_back(workflow) {
                return refuse("what was done is being given up already");
            }
            let decides = decisive(workflow.subject_kind);
            if workflow.steps.iter().any(|step| step.name == decides && (step.attempts > 0 || step.status == StepStatus::Done)) {
                return refuse("its subject is being decided, or is decided");
            }
            go_on(workflow);
            refuse_step(workflow, Reason::Withdrawn.with(format!("cancelled by {}: {}", pause.by, pause.reason)), pause.at);
            return Ok(true);
        }
        WorkflowAction::Retry => retry(workflow, from_step)?,
    }
    derive(workflow);
    Ok(false)
}

fn go_on(workflow: &mut Workflow) {
    workflow.paused = None;
    workflow.stuck = false;
}

/// Has the step that is next, or one before it, done anew at once with those after it.
fn retry(workflow: &mut Workflow, from_step: Option<u8>) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::WorkflowNotSteerable.with(why));
    let Some(present) = workflow.steps.iter().position(|step| step.status.is_open()) else { return refuse("it has ended".into()) };
    let from = from_step.map_or(present, |number| usize::from(number).saturating_sub(1));
    let Some(again) = workflow.steps.get(from..=present) else {
        return refuse(format!("it is at step {}; a later one cannot be done anew", present + 1));
    };
    if let Some(step) = again.iter().find(|step| step.name == StepName::Validate || step.name == StepName::Approve) {
        return refuse(format!("the step {} is not done anew: change the request, or cancel it", step.name.as_str()));
    }
    if from < present && again.iter().any(|step| !matches!(step.name, StepName::Ask | StepName::Wait)) {
        return refuse("what was decided, or is being decided, stays".into());
    }
    for step in &mut workflow.steps[from..=present] {
        // it may have been sent: what follows from that still holds, as that it cannot be cancelled, or is to be given up
        let attempts = step.attempts.min(1);
        anew(step);
        step.attempts = attempts;
    }
    go_on(workflow);
    if !is_giving_back(workflow) {
        workflow.error = None;
    }
    Ok(())
}

/// Has a step done anew.
fn anew(step: &mut Step) {
    (step.status, step.started_at, step.finished_at, step.attempts, step.note) = (StepStatus::Pending, None, None, 0, None);
    (step.until, step.answer, step.answered_wrongly) = (None, None, false);
}
