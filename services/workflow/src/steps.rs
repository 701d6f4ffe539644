//! The runner: takes the workflows that are due, sends the command of their next step, and records
//! the answer. A step that gets no answer is sent again with the same idempotency key, for as long
//! as it takes; a refusal ends the workflow and gives back what was held. A step may be served by a program of somebody
//! else: then the rules say how long its answer is waited for, how often it is asked, and what is done when it is absent.

use std::collections::HashMap;
use std::time::Duration;

use ::domain::messages::allocation_status::{DecideAllocation, SettleWithdrawal};
use ::domain::messages::capital_calls::{AllocationReleased, DecideBankDetails, DecideCapitalCall, DecideRefund, ReleaseAllocation};
use ::domain::messages::workflow::{
    DecideRuleChange, Pause, RuleChange, Step, StepAnswer, StepDecision, StepName, StepQuestion, StepStatus, SubjectKind, Workflow,
};
use ::domain::rules::{StepProgram, WhenAbsent};
use ::domain::{Actor, Problem, Reason, Rejection, ids, shape};
use chassis::{Context, Courier, Errand, Fault, Tx, Unanswered};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain;
use crate::handlers::{request_stages, step_on};
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

/// Most characters of a program's note that are kept.
const NOTE_CHARACTERS_MAX: usize = 500;

/// The errand that carries workflows on.
pub struct Steps {
    /// Whether it does the steps that ask a program of somebody else, or all others: a program that hangs holds up no service's step.
    pub asks: bool,
}

/// What came of a step.
pub enum Outcome {
    /// It is done.
    Done(String),
    /// A program agreed.
    Agreed(StepAnswer),
    /// It is refused.
    Refused(Rejection),
    /// Nobody answered.
    Unanswered(String),
    /// A program's answer is none that the rules allow.
    Invalid(String),
}

fn outcome(kind: SubjectKind, step: StepName, attempts: i32, answer: Result<Result<(), Rejection>, Unanswered>) -> Outcome {
    // the subject's owner made it before the workflow began: it has forgotten it, its database was set back
    let forgotten = match kind {
        // capital-calls may not have heard of it yet
        SubjectKind::Withdrawal if step == StepName::TakeBack => Reason::UnknownWorkflow,
        SubjectKind::Allocation | SubjectKind::Withdrawal => Reason::UnknownAllocation,
        SubjectKind::CapitalCall => Reason::UnknownCapitalCall,
        SubjectKind::Refund => Reason::UnknownRefund,
        SubjectKind::BankDetails => Reason::UnknownBankDetails,
        SubjectKind::RuleChange => Reason::UnknownRuleChange,
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
        ..Context::default()
    }
}

impl Errand for Steps {
    type Item = (Instance, StepName);
    type Outcome = Outcome;
    const AT_ONCE: usize = 64;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<(Instance, StepName)>, Fault> {
        let mut due = store::lock_due(tx, self.asks, CLAIM_MAX).await?;
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
        let mut key = format!("{}/{}", workflow.id, step.as_str());
        if let Some(program) = program_of(instance, *step) {
            key = format!("{key}/{program}");
        }
        if instance.subject.asked > 0 {
            key = format!("{key}/{}", instance.subject.asked);
        }
        let context = own_context(instance, *step);
        let attempts = workflow.steps.iter().find(|known| known.name == *step).map_or(0, |known| known.attempts);
        let denied = (*step == StepName::GiveBack)
            .then(|| workflow.error.as_ref().map_or_else(|| "refused".into(), |problem| problem.detail.clone()));
        let decided = |answer| outcome(workflow.subject_kind, *step, attempts, answer);
        match (step, workflow.subject_kind) {
            (StepName::Ask | StepName::Undo, _) => ask(courier, &key, &context, instance, *step).await,
            // begun where nobody is asked for it
            (StepName::Wait, _) => Outcome::Done("nothing to do".into()),
            // written into the log when the outcome is recorded
            (StepName::RequestStage, _) => Outcome::Done("the deal system is asked".into()),
            (StepName::Validate | StepName::Approve, _) => Outcome::Done("nothing to do".into()),
            (_, SubjectKind::BankDetails) => {
                let command = DecideBankDetails {
                    bank_details_id: workflow.subject_id,
                    hash: instance.subject.content_hash.clone(),
                    rejected_because: denied,
                };
                decided(courier.command(&key, &context, &command).await.map(|answer| answer.map(drop)))
            }
            (_, SubjectKind::RuleChange) => {
                let command = DecideRuleChange { rule_change_id: workflow.subject_id, workflow_id: workflow.id, refused_because: denied };
                let answer = courier.command(&key, &context, &command).await;
                decided(answer.map(|answer| answer.and_then(|change| check_end(*step, &change))))
            }
            (StepName::TakeBack, _) => release(courier, &key, &context, instance, attempts).await,
            (_, SubjectKind::Withdrawal) => {
                let command = SettleWithdrawal {
                    allocation_id: workflow.subject_id,
                    workflow_id: workflow.id,
                    called: released(workflow).map_or(instance.subject.amount, |released| released.called),
                    kept_because: denied,
                };
                decided(courier.command(&key, &context, &command).await.map(|answer| answer.map(drop)))
            }
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
        let mut stored = store::lock(tx, &ids).await?;
        let mut saved = Vec::with_capacity(done.len());
        let mut for_stages = Vec::new();
        let mut steps = HashMap::new();
        for ((claimed, step), outcome) in done {
            // a step that took longer than its lease was taken over, and one that somebody stopped is done again; the other's record stands.
            // What was noted of the subject meanwhile is there, and not in what was claimed
            let is_as_claimed = |stored: &Instance| stored.workflow.version == claimed.workflow.version;
            let Some(mut instance) = stored.remove(&claimed.workflow.id).filter(is_as_claimed) else { continue };
            steps.insert(instance.workflow.id, step);
            if step == StepName::RequestStage && instance.subject.deal_id.is_some() {
                instance.due_at = None;
                for_stages.push(instance);
                continue;
            }
            conclude(&mut instance, step, outcome, now);
            let attempts = domain::next_step(&mut instance.workflow).map(|step| step.attempts);
            instance.due_at = attempts.filter(|attempts| *attempts > 0).map(|attempts| system_now + pause(attempts));
            saved.push(instance);
        }
        if !for_stages.is_empty() {
            request_stages(tx, &mut for_stages, |instance| own_context(instance, StepName::RequestStage)).await?;
            saved.append(&mut for_stages);
        }
        step_on(tx, &mut saved, |instance| own_context(instance, steps[&instance.workflow.id])).await
    }
}

/// Writes what came of a step.
fn conclude(instance: &mut Instance, step: StepName, outcome: Outcome, now: DateTime<Utc>) {
    let name = program_of(instance, step).map(str::to_owned);
    let asked = name.and_then(|name| instance.subject.programs.get(&name).cloned().map(|program| (name, program)));
    let workflow = &mut instance.workflow;
    match (outcome, asked) {
        (Outcome::Done(note), _) => {
            workflow.error = workflow.error.take().filter(|_| step.is_compensation());
            domain::finish_step(workflow, StepStatus::Done, Some(note), now);
        }
        (Outcome::Agreed(StepAnswer { note, data, .. }), _) => {
            workflow.error = workflow.error.take().filter(|_| step.is_compensation());
            if let Some(step) = domain::next_step(workflow) {
                step.answer = data;
            }
            domain::finish_step(workflow, StepStatus::Done, note, now);
        }
        (Outcome::Refused(rejection), Some((_, program))) if program.advisory && step == StepName::Ask => {
            workflow.error = None;
            domain::finish_step(workflow, StepStatus::Skipped, Some(format!("noted only: {rejection}")), now);
        }
        (Outcome::Refused(rejection), _) => domain::refuse_step(workflow, rejection, now),
        // what is held is not held for a program that does not hear
        (Outcome::Unanswered(why), Some((name, program))) if step == StepName::Undo && has_been_asked_enough(workflow, &program) => {
            domain::refuse_step(workflow, Reason::StepUnanswered.with(format!("{name} could not be told: {why}")), now);
        }
        (Outcome::Unanswered(why), Some((name, program))) if has_been_asked_enough(workflow, &program) => {
            give_up_on(workflow, &name, &program, &why, now);
        }
        (Outcome::Invalid(why), Some((name, program))) => {
            let is_enough = has_been_asked_enough(workflow, &program);
            if let Some(step) = domain::next_step(workflow) {
                step.answered_wrongly = true;
            }
            match is_enough {
                true => give_up_on(workflow, &name, &program, &why, now),
                false => hold_up(workflow, step, &format!("the answer is not taken: {why}")),
            }
        }
        (Outcome::Unanswered(why), _) => hold_up(workflow, step, &why),
        (Outcome::Invalid(why), _) => hold_up(workflow, step, &format!("the answer is not taken: {why}")),
    }
}

fn has_been_asked_enough(workflow: &mut Workflow, program: &StepProgram) -> bool {
    domain::next_step(workflow).is_some_and(|step| step.attempts >= i32::from(program.attempts))
}

/// Does what the rules say about a program that does not answer, or not as it must. One that answers wrongly is not absent: it is not
/// passed over where its refusal would count.
fn give_up_on(workflow: &mut Workflow, name: &str, program: &StepProgram, why: &str, now: DateTime<Utc>) {
    let was_wrong = domain::next_step(workflow).is_some_and(|step| step.answered_wrongly);
    let reason = if was_wrong { Reason::StepAnswerInvalid } else { Reason::StepUnanswered };
    let detail = format!("the program {name} was asked {} times: {why}", program.attempts);
    match program.when_absent {
        WhenAbsent::GoOn if !was_wrong || program.advisory => {
            workflow.error = None;
            domain::finish_step(workflow, StepStatus::Skipped, Some(detail), now);
        }
        WhenAbsent::Refuse | WhenAbsent::GoOn => domain::refuse_step(workflow, reason.with(detail), now),
        WhenAbsent::Hold => {
            workflow.error = Some(Problem::from(Reason::WorkflowPaused.with(detail.clone())));
            workflow.paused = Some(Pause { by: Actor::service("workflow").user, at: now, reason: detail });
            domain::derive(workflow);
        }
    }
}

/// The program that a workflow's step asks.
fn program_of(instance: &Instance, step: StepName) -> Option<&str> {
    let is_it = |known: &&Step| known.name == step && matches!(known.status, StepStatus::Pending | StepStatus::Running);
    instance.workflow.steps.iter().find(is_it)?.program.as_deref()
}

/// Asks a program, or tells it that what it agreed to is given up. What it answers counts only if it is whole and of the shape that the
/// rules ask for; of several answers the first one is read.
async fn ask(courier: &Courier, key: &str, context: &Context, instance: &Instance, step: StepName) -> Outcome {
    let Some((name, program)) = program_of(instance, step).and_then(|name| instance.subject.programs.get_key_value(name)) else {
        return Outcome::Refused(Reason::StepUnanswered.with("the rules have no such program"));
    };
    let Instance { workflow, subject, .. } = instance;
    let question = StepQuestion {
        workflow_id: workflow.id,
        subject_kind: workflow.subject_kind,
        subject_id: workflow.subject_id,
        deal_id: subject.deal_id,
        fund_id: workflow.fund_id,
        fund_type: subject.fund_type.clone(),
        amount: subject.amount,
        currency: subject.currency,
        security_type: subject.security_type.clone(),
        details: subject.details.clone(),
        priority: subject.priority,
        requested_by: workflow.requested_by.clone(),
        content_hash: subject.content_hash.clone(),
        parameters: program.parameters.clone(),
    };
    let undo = if step == StepName::Undo { ".undo" } else { "" };
    let body = serde_json::to_vec(&question).unwrap_or_default();
    let within = Duration::from_secs(u64::from(program.timeout_seconds));
    let sent = courier.send(&format!("tranche.step.{name}{undo}"), Some(key), context, body.into(), within).await;
    match sent.map(|answered| answered.result) {
        // what it says about giving up changes nothing: it has heard it
        Ok(Ok(_)) if step == StepName::Undo => Outcome::Done(format!("{name} was told")),
        Ok(Ok(answer)) => read(name, program, &answer),
        Ok(Err(rejection)) => Outcome::Unanswered(rejection.to_string()),
        Err(unanswered) => Outcome::Unanswered(unanswered.why),
    }
}

/// Most bytes of an answer: its data, and as much again for what is around it.
const ANSWER_BYTES_MAX: usize = 2 * shape::DATA_BYTES_MAX;

fn read(name: &str, program: &StepProgram, answer: &[u8]) -> Outcome {
    if answer.len() > ANSWER_BYTES_MAX {
        return Outcome::Invalid(format!("it has more than {ANSWER_BYTES_MAX} bytes"));
    }
    let mut answer: StepAnswer = match chassis::parse(answer) {
        Ok(answer) => answer,
        Err(rejection) => return Outcome::Invalid(rejection.detail),
    };
    let misfit = match (&program.answer, &answer.data) {
        (None, None) => None,
        (None, Some(_)) => Some("it has data, and the rules have no schema for it".into()),
        // who refuses need not give any
        (Some(_), None) if answer.decision == StepDecision::Refused => None,
        (Some(shape), data) => shape.misfit(data.as_ref().unwrap_or(&serde_json::Value::Null)),
    };
    if let Some(misfit) = misfit {
        return Outcome::Invalid(misfit);
    }
    answer.note = answer.note.map(|note| note.chars().filter(|letter| !letter.is_control()).take(NOTE_CHARACTERS_MAX).collect());
    match answer.decision {
        StepDecision::Agreed => Outcome::Agreed(answer),
        StepDecision::Refused => {
            Outcome::Refused(Reason::StepRefused.with(format!("{name}: {}", answer.note.as_deref().unwrap_or("it says no more"))))
        }
    }
}

/// Shows why a step is held up; it is tried again.
fn hold_up(workflow: &mut Workflow, step: StepName, why: &str) {
    if !step.is_compensation() {
        workflow.error = Some(Problem::from(Reason::ServiceUnavailable.with(format!("step {} is tried again: {why}", step.as_str()))));
    }
}

fn pause(attempts: i32) -> Duration {
    Duration::from_millis(100 << attempts.clamp(0, 9)).min(PAUSE_MAX)
}

/// Has no more called for an allocation; what stays called, and why, stays with the step.
async fn release(courier: &Courier, key: &str, context: &Context, instance: &Instance, attempts: i32) -> Outcome {
    let Some(take_back) = &instance.subject.take_back else {
        return Outcome::Refused(Reason::AllocationNotWithdrawn.with("it is not known how it is taken back"));
    };
    let command = ReleaseAllocation {
        allocation_id: instance.workflow.subject_id,
        version: take_back.version,
        rescind_because: take_back.rescind.then(|| take_back.reason.clone()),
    };
    match courier.command(key, context, &command).await {
        Ok(Ok(released)) => {
            let kept = released.kept.iter().map(|kept| format!("; {} stays: {}", kept.call_id, kept.because)).collect::<String>();
            let note = format!("{} stay called, {} calls rescinded{kept}", released.called, released.rescinded.len());
            Outcome::Agreed(StepAnswer { decision: StepDecision::Agreed, note: Some(note), data: serde_json::to_value(released).ok() })
        }
        answer => outcome(SubjectKind::Withdrawal, StepName::TakeBack, attempts, answer.map(|answer| answer.map(drop))),
    }
}

/// Refuses a change of rules that did not fit any more when its time came: it has gone back to those who wrote it.
fn check_end(step: StepName, change: &RuleChange) -> Result<(), Rejection> {
    match step == StepName::GiveBack || change.became.is_some() {
        true => Ok(()),
        false => Err(Reason::RuleChangeNotReady.with(change.problems.join("; "))),
    }
}

/// What stays called for an allocation that is taken back.
fn released(workflow: &Workflow) -> Option<AllocationReleased> {
    let step = workflow.steps.iter().find(|step| step.name == StepName::TakeBack)?;
    serde_json::from_value(step.answer.clone()?).ok()
}

#[cfg(test)]
mod tests;
