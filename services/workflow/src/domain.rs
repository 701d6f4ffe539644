//! The decisions about workflows, approvals and votes, as functions of states and nothing else.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::Priority;
use ::domain::messages::workflow::{Step, StepName, StepStatus, SubjectKind, Workflow, WorkflowStatus};
use ::domain::predicate::{Facts, Predicate};
use ::domain::rules::{ApprovalTier, Concentration, Rules, StageAsked, StepDefinition, StepProgram, decisive};
use ::domain::{Amount, Currency, Problem, Reason, Rejection};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod approvals;
mod deals;
mod rule_changes;
mod simulation;
mod steering;

pub use approvals::*;
pub use deals::*;
pub use rule_changes::*;
pub use simulation::*;
pub use steering::*;

/// What the steps of a workflow need of its subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The deal of an allocation.
    pub deal_id: Option<Uuid>,
    /// Type of the fund when it was asked for.
    #[serde(default)]
    pub fund_type: String,
    /// Amount of the allocation or call.
    pub amount: Amount,
    /// Currency of the amount; none for a change of rules.
    pub currency: Option<Currency>,
    /// Hash of the content that is approved.
    pub content_hash: String,
    /// Urgency.
    #[serde(default)]
    pub priority: Priority,
    /// The number of a call's amendment; none for the call itself.
    #[serde(default)]
    pub amendment: Option<i32>,
    /// Who has written the content; none of them may vote on it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// How often what is asked for was changed; the commands of the steps are other ones then.
    #[serde(default)]
    pub asked: u32,
    /// The tier whose votes it needs, by the rules in force when it was asked for.
    #[serde(default)]
    pub tier: Option<ApprovalTier>,
    /// The tiers above it, that it is escalated to in turn.
    #[serde(default)]
    pub tiers_above: Vec<ApprovalTier>,
    /// The programs that its steps ask, as the rules had them then.
    #[serde(default)]
    pub programs: BTreeMap<String, StepProgram>,
    /// The conditions that its steps look at, as the rules had them then.
    #[serde(default)]
    pub predicates: BTreeMap<String, Predicate>,
    /// What an allocation says of itself.
    #[serde(default)]
    pub details: Option<serde_json::Value>,
    /// Type of the security of an allocation; empty else.
    #[serde(default)]
    pub security_type: String,
    /// Hours in one step after which it counts as stuck; 0: never.
    #[serde(default = "stuck_after_hours")]
    pub stuck_after_hours: u16,
    /// How the deal system is asked to move the deal on.
    #[serde(default)]
    pub stage: StageAsked,
    /// How often the deal system was asked.
    #[serde(default)]
    pub stage_attempts: i64,
    /// How an allocation is taken back.
    #[serde(default)]
    pub take_back: Option<TakeBack>,
    /// What share of its fund an allocation took.
    #[serde(default)]
    pub concentration: Option<Concentration>,
    /// Business days of notice that a call gave.
    #[serde(default)]
    pub notice_days: Option<u16>,
    /// When a change of rules shall be in force; none for as soon as it may be.
    #[serde(default)]
    pub active_from: Option<DateTime<Utc>>,
    /// What people have done already that steps wait for, for a person to read.
    #[serde(default)]
    pub noted: BTreeMap<StepName, String>,
}

/// How an allocation is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeBack {
    /// The version of the allocation that is taken back.
    pub version: i64,
    /// Whether calls that were issued for it and nothing else are rescinded.
    pub rescind: bool,
    /// Why.
    pub reason: String,
}

/// Hours after which a workflow counts as stuck whose rules are not known: it began before they said anything of it, or they contradict
/// each other.
const fn stuck_after_hours() -> u16 {
    24
}

impl Subject {
    /// What is asked for, of an amount in a fund of a type.
    pub fn of(fund_type: &str, amount: Amount, currency: Option<Currency>, content_hash: &str) -> Subject {
        Subject {
            deal_id: None,
            fund_type: fund_type.to_owned(),
            amount,
            currency,
            content_hash: content_hash.to_owned(),
            priority: Priority::Normal,
            amendment: None,
            authors: vec![],
            asked: 0,
            tier: None,
            tiers_above: vec![],
            programs: BTreeMap::new(),
            predicates: BTreeMap::new(),
            security_type: String::new(),
            details: None,
            stuck_after_hours: stuck_after_hours(),
            stage: StageAsked::default(),
            stage_attempts: 0,
            take_back: None,
            concentration: None,
            notice_days: None,
            active_from: None,
            noted: BTreeMap::new(),
        }
    }

    /// Notes what the rules in force say for it; it keeps to that, whatever is put afterwards.
    pub fn keep_to(&mut self, kind: SubjectKind, rules: &Rules) {
        self.tier = rules.tier(kind, self.priority, self.amount).cloned();
        self.tiers_above = self.tier.as_ref().map(|tier| rules.tiers_above(kind, self.priority, tier)).unwrap_or_default();
        let asked: Vec<&String> = rules.steps(kind).iter().filter_map(|step| step.program.as_ref()).collect();
        self.programs =
            rules.programs.iter().filter(|(name, _)| asked.contains(name)).map(|(name, program)| (name.clone(), program.clone())).collect();
        let looked_at: Vec<&String> = rules.steps(kind).iter().filter_map(|step| step.predicate.as_ref()).collect();
        self.predicates =
            rules.predicates.iter().filter(|(name, _)| looked_at.contains(name)).map(|(name, of)| (name.clone(), of.clone())).collect();
        self.stuck_after_hours = rules.stuck_after_hours;
        self.stage = rules.stage_request.clone();
    }

    /// What conditions see of it; none of a change of rules, which has none.
    pub fn facts<'a>(&'a self, kind: SubjectKind, requested_by: &'a str) -> Option<Facts<'a>> {
        Some(Facts {
            kind,
            amount: self.amount,
            currency: self.currency?,
            fund_type: &self.fund_type,
            security_type: &self.security_type,
            priority: self.priority,
            requested_by,
            amendment: self.amendment.unwrap_or_default(),
        })
    }

    /// Why a condition refuses it; none where it holds.
    fn refusal(&self, workflow: &Workflow, name: &str) -> Option<Rejection> {
        let facts = self.facts(workflow.subject_kind, &workflow.requested_by);
        match self.predicates.get(name) {
            Some(predicate) if facts.is_some_and(|facts| predicate.holds(&facts)) => None,
            Some(predicate) => Some(Reason::PredicateRefused.with(format!("{name}: {}", predicate.message))),
            None => Some(Reason::PredicateRefused.with(format!("{name}: the rules have no such condition"))),
        }
    }
}

/// The steps of a workflow that starts, as the rules define them: the owner has validated the request already.
pub fn first_steps(kind: SubjectKind, rules: &Rules, validated_at: DateTime<Utc>) -> Vec<Step> {
    let step = |defined: &StepDefinition| {
        let done = defined.step == StepName::Validate;
        Step {
            name: defined.step,
            status: if done { StepStatus::Done } else { StepStatus::Pending },
            started_at: done.then_some(validated_at),
            finished_at: done.then_some(validated_at),
            attempts: i32::from(done),
            note: done.then(|| validated_note(kind).to_owned()),
            program: defined.program.clone(),
            predicate: defined.predicate.clone(),
            undo: defined.program.as_ref().and_then(|name| rules.programs.get(name)).is_some_and(|program| program.undo),
            hours: defined.hours,
            until: None,
            answered_wrongly: false,
            answer: None,
        }
    };
    rules.steps(kind).iter().map(step).collect()
}

fn validated_note(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Allocation => "deal selected, fund assigned, amount validated; limits, duplicates and capacity checked",
        SubjectKind::CapitalCall => "purposes, allocations and unfunded commitments checked",
        SubjectKind::Refund => "credit checked and kept for the refund",
        SubjectKind::BankDetails => "instructions checked and sealed",
        SubjectKind::RuleChange => "without contradictions in the layers that it touches",
        SubjectKind::Withdrawal => "to be taken back, as the rules or a person decided",
    }
}

/// The step that is next: the first that is neither done nor skipped nor failed.
pub fn next_step(workflow: &mut Workflow) -> Option<&mut Step> {
    workflow.steps.iter_mut().find(|step| step.status.is_open())
}

/// Ends the step that is next.
pub fn finish_step(workflow: &mut Workflow, status: StepStatus, note: Option<String>, now: DateTime<Utc>) {
    if let Some(step) = next_step(workflow) {
        step.status = status;
        step.started_at.get_or_insert(now);
        step.finished_at = Some(now);
        step.note = note;
    }
    workflow.stuck = false;
    derive(workflow);
}

/// Ends the step that is next as refused: nothing after it is done, and what was done before is given up, the last first.
pub fn refuse_step(workflow: &mut Workflow, rejection: Rejection, now: DateTime<Utc>) {
    let was_compensating = is_giving_back(workflow);
    // what is held is given back without waiting for anybody
    workflow.paused = None;
    finish_step(workflow, StepStatus::Failed, Some(rejection.to_string()), now);
    if !was_compensating {
        for step in workflow.steps.iter_mut().filter(|step| step.status == StepStatus::Pending) {
            (step.status, step.until) = (StepStatus::Skipped, None);
        }
        // what is decided is not given back
        if !is_decided(workflow) {
            let mut compensations: Vec<Step> = workflow.steps.iter().rev().filter_map(compensation).collect();
            if workflow.subject_kind == SubjectKind::RuleChange {
                // it takes votes until it is given back
                compensations.sort_by_key(|step| step.name != StepName::GiveBack);
            }
            workflow.steps.extend(compensations);
        }
        workflow.error = Some(Problem::from(rejection));
    }
    derive(workflow);
}

/// What gives up what a step has done.
fn compensation(of: &Step) -> Option<Step> {
    let name = match of.name {
        // what the owner holds for the request, it holds since it was validated
        StepName::Validate => StepName::GiveBack,
        // a program that was asked without an answer that counts may have agreed nevertheless
        StepName::Ask if of.undo && of.attempts > 0 => StepName::Undo,
        _ => return None,
    };
    Some(Step {
        name,
        status: StepStatus::Pending,
        started_at: None,
        finished_at: None,
        attempts: 0,
        note: None,
        program: of.program.clone(),
        predicate: None,
        undo: false,
        hours: None,
        until: None,
        answered_wrongly: false,
        answer: None,
    })
}

/// Begins the step that is next where nobody is to be asked for it: a condition holds or does not, it waits for votes or for a time, or
/// is not needed. Whether votes are
/// needed from now on.
pub fn begin_next(workflow: &mut Workflow, subject: &Subject, now: DateTime<Utc>) -> bool {
    let mut needs_votes = false;
    let kind = workflow.subject_kind;
    while let Some(step) = next_step(workflow).filter(|step| step.status == StepStatus::Pending) {
        match (step.name, &subject.tier) {
            (StepName::Check, _) => {
                let name = step.predicate.clone().unwrap_or_default();
                match subject.refusal(workflow, &name) {
                    None => finish_step(workflow, StepStatus::Done, Some(format!("{name} holds")), now),
                    Some(rejection) => refuse_step(workflow, rejection, now),
                }
                continue;
            }
            (name, _) if is_done_by_people(kind, name) => match subject.noted.get(&name) {
                Some(note) => {
                    finish_step(workflow, StepStatus::Done, Some(note.clone()), now);
                    continue;
                }
                None => (step.status, step.started_at) = (StepStatus::Waiting, Some(now)),
            },
            (StepName::Approve, None) => {
                finish_step(workflow, StepStatus::Skipped, Some("below every approval tier".into()), now);
                continue;
            }
            (StepName::Approve, Some(tier)) => {
                (step.status, step.started_at) = (StepStatus::Waiting, Some(now));
                step.note = Some(format!("{} are needed from {}", described(tier), tier.from_amount));
                needs_votes = true;
            }
            (StepName::Wait, _) => {
                let until = now + TimeDelta::hours(i64::from(step.hours.unwrap_or_default()));
                (step.status, step.started_at, step.until) = (StepStatus::Waiting, Some(now), Some(until));
            }
            (StepName::PutInForce, _) if subject.active_from.is_some_and(|from| from > now) => {
                (step.status, step.started_at, step.until) = (StepStatus::Waiting, Some(now), subject.active_from);
            }
            _ => {}
        }
        break;
    }
    derive(workflow);
    needs_votes
}

/// For how long a program may still be at a question that is given up.
pub fn time_of_question(workflow: &Workflow, subject: &Subject) -> TimeDelta {
    let next = workflow.steps.iter().find(|step| step.status.is_open());
    let told = next.filter(|step| step.name == StepName::Undo && step.attempts == 0).and_then(|step| step.program.as_ref());
    let seconds = told.and_then(|name| subject.programs.get(name)).map_or(0, |program| program.timeout_seconds);
    TimeDelta::seconds(i64::from(seconds))
}

/// Whether a step is done where its subject is kept, by people; its workflow only notes that it is.
fn is_done_by_people(kind: SubjectKind, step: StepName) -> bool {
    matches!(step, StepName::Confirm | StepName::Simulate) || step == StepName::Approve && kind == SubjectKind::RuleChange
}

/// Notes what people have done; whether that is what the workflow has waited for.
pub fn note(workflow: &mut Workflow, subject: &mut Subject, done: StepName, note: String, now: DateTime<Utc>) -> bool {
    let waits = next_step(workflow).is_some_and(|step| step.name == done && step.status == StepStatus::Waiting);
    if waits {
        finish_step(workflow, StepStatus::Done, Some(note.clone()), now);
    }
    subject.noted.insert(done, note);
    waits
}

/// Whether votes are what a workflow waits for.
pub fn waits_for_votes(workflow: &Workflow) -> bool {
    workflow.steps.iter().any(|step| step.name == StepName::Approve && step.status == StepStatus::Waiting)
}

/// Whether a retry has a program asked again, or may have: then it is asked with another key. A decision is not.
pub fn asks_anew(workflow: &Workflow) -> bool {
    let next = workflow.steps.iter().find(|step| step.status.is_open());
    next.is_some_and(|step| matches!(step.name, StepName::Ask | StepName::Undo | StepName::Wait))
}

/// Whether the step that is next asks a program of somebody else.
pub fn asks(workflow: &Workflow) -> bool {
    workflow.steps.iter().find(|step| step.status.is_open()).is_some_and(|step| matches!(step.name, StepName::Ask | StepName::Undo))
}

/// When the time is over that a workflow waits for.
pub fn waits_until(workflow: &Workflow) -> Option<DateTime<Utc>> {
    let waits = |step: &&Step| {
        matches!(step.name, StepName::Wait | StepName::RequestStage | StepName::PutInForce) && step.status == StepStatus::Waiting
    };
    workflow.steps.iter().find(waits).filter(|_| workflow.paused.is_none())?.until
}

/// When a workflow begins to count as stuck; none while votes or a time are waited for, and once it has ended.
pub fn stuck_from(workflow: &Workflow, after_hours: u16) -> Option<DateTime<Utc>> {
    let since = match (&workflow.paused, workflow.status) {
        _ if after_hours == 0 || workflow.stuck => return None,
        (Some(pause), WorkflowStatus::Paused) => pause.at,
        (None, WorkflowStatus::Running) => {
            let begun = workflow.steps.iter().filter_map(|step| step.finished_at.or(step.started_at)).max();
            begun.unwrap_or(workflow.created_at)
        }
        _ => return None,
    };
    Some(since + TimeDelta::hours(i64::from(after_hours)))
}

/// What the owner of a workflow's subject has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The allocation is active, the call issued, the refund approved.
    Granted,
    /// The allocation is denied, the call or refund cancelled.
    Denied,
}

/// Ends a workflow whose steps were done in a time that is forgotten: its subject is decided, and nothing is left to do.
pub fn end_forgotten(workflow: &mut Workflow, decided: Decided, now: DateTime<Utc>) {
    let note = "done before; the database was set back, the audit record has what happened";
    if decided == Decided::Denied {
        refuse_step(workflow, Reason::ApprovalDenied.with(note), now);
    }
    // as many steps as there are: each round ends one
    for _ in 0..workflow.steps.len() {
        finish_step(workflow, StepStatus::Done, Some(note.into()), now);
    }
}

/// Has the step that decided about the subject done once more; whether the workflow had ended.
pub fn reopen(workflow: &mut Workflow) -> bool {
    if !matches!(workflow.status, WorkflowStatus::Completed | WorkflowStatus::Failed) {
        return false;
    }
    let decides = |step: &&mut Step| {
        // of a withdrawal the last word is its allocation's
        let decides = matches!(
            step.name,
            StepName::Activate | StepName::Issue | StepName::Release | StepName::Reduce | StepName::PutInUse | StepName::GiveBack
        );
        decides && matches!(step.status, StepStatus::Done | StepStatus::Failed)
    };
    // what was given back was not activated: the last one decided
    let Some(step) = workflow.steps.iter_mut().rev().find(decides) else { return false };
    (step.status, step.finished_at, step.attempts) = (StepStatus::Pending, None, 0);
    step.note = Some("again: its owner has forgotten it, its database was set back".into());
    derive(workflow);
    true
}

/// Has a workflow go through its steps from the first one: what it asks for was changed. A program that was asked about the old content is
/// told, too, if the new one is given up.
pub fn ask_again(workflow: &mut Workflow, mut steps: Vec<Step>, subject: &Subject, now: DateTime<Utc>) {
    for step in steps.iter_mut().filter(|step| step.name == StepName::Ask) {
        let was_asked = workflow.steps.iter().any(|old| old.name == StepName::Ask && old.program == step.program && old.attempts > 0);
        step.attempts = i32::from(was_asked);
    }
    workflow.steps = steps;
    (workflow.error, workflow.stuck) = (None, false);
    begin_next(workflow, subject, now);
}

/// Whether the runner has something to do.
pub fn is_running(workflow: &Workflow) -> bool {
    workflow.status == WorkflowStatus::Running
}

/// Ends a workflow whose request was taken back by somebody: there is nothing to give back. Whether it had not ended.
pub fn withdraw(workflow: &mut Workflow, why: Rejection, now: DateTime<Utc>) -> bool {
    if has_ended(workflow) || is_giving_back(workflow) {
        return false;
    }
    workflow.paused = None;
    if is_decided(workflow) {
        // as many steps as there are: each round ends one
        for _ in 0..workflow.steps.len() {
            finish_step(workflow, StepStatus::Skipped, Some(why.detail.clone()), now);
        }
        return true;
    }
    refuse_step(workflow, why, now);
    for step in workflow.steps.iter_mut().filter(|step| step.name == StepName::GiveBack) {
        (step.status, step.started_at, step.finished_at) = (StepStatus::Skipped, Some(now), Some(now));
        step.note = Some("nothing is held".into());
    }
    derive(workflow);
    true
}

/// Whether its subject is decided as it was asked for.
fn is_decided(workflow: &Workflow) -> bool {
    let decides = decisive(workflow.subject_kind);
    workflow.steps.iter().any(|step| step.name == decides && step.status == StepStatus::Done)
}

fn is_giving_back(workflow: &Workflow) -> bool {
    workflow.steps.iter().any(|step| step.name.is_compensation())
}

fn has_ended(workflow: &Workflow) -> bool {
    matches!(workflow.status, WorkflowStatus::Completed | WorkflowStatus::Failed)
}

/// Writes the derived parts of a workflow.
pub fn derive(workflow: &mut Workflow) {
    let ended = |step: &&Step| matches!(step.status, StepStatus::Done | StepStatus::Skipped | StepStatus::Failed);
    let done = workflow.steps.iter().filter(ended).count();
    workflow.progress = u8::try_from(100 * done / workflow.steps.len().max(1)).unwrap_or(100);
    let failed = workflow.steps.iter().any(|step| step.status == StepStatus::Failed);
    let next = next_step(workflow).cloned();
    workflow.status = match next.as_ref().map(|step| step.status) {
        None if failed => WorkflowStatus::Failed,
        None => WorkflowStatus::Completed,
        Some(_) if workflow.paused.is_some() => WorkflowStatus::Paused,
        Some(StepStatus::Waiting) => WorkflowStatus::Waiting,
        Some(_) => WorkflowStatus::Running,
    };
    workflow.expects = next.map(|step| expects(workflow, &step));
}

/// What a workflow waits for in a step, for a person.
fn expects(workflow: &Workflow, step: &Step) -> String {
    if let Some(pause) = &workflow.paused {
        return format!("an admin has it go on: {} paused it, {}", pause.by, pause.reason);
    }
    let decision = match workflow.subject_kind {
        SubjectKind::Withdrawal if step.name == StepName::TakeBack => "the answer of capital-calls",
        SubjectKind::Allocation | SubjectKind::Withdrawal => "the answer of allocation-status",
        SubjectKind::CapitalCall | SubjectKind::Refund | SubjectKind::BankDetails => "the answer of capital-calls",
        SubjectKind::RuleChange => "the change of rules is decided",
    };
    match (step.name, step.until, &step.program) {
        (StepName::Approve, ..) if workflow.subject_kind == SubjectKind::RuleChange => "votes of others on the change of rules".into(),
        (StepName::Simulate, ..) => "somebody has the change of rules simulated".into(),
        (StepName::Approve, ..) => step.note.clone().unwrap_or_else(|| "votes".into()),
        (StepName::Confirm, ..) => "a second person confirms the bank details, after a call back".into(),
        (StepName::RequestStage, Some(until), _) => {
            format!("the deal system moves the deal, until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true))
        }
        (StepName::Wait | StepName::PutInForce, Some(until), _) => format!("it is {}", until.to_rfc3339_opts(SecondsFormat::Secs, true)),
        (StepName::Ask | StepName::Undo, _, Some(program)) => format!("the answer of the program {program}"),
        _ => decision.into(),
    }
}

#[cfg(test)]
mod tests;
