//! The decisions about workflows, approvals and votes, as functions of states and nothing else.

use ::domain::messages::capital_calls::Priority;
use ::domain::messages::workflow::{
    Approval, ApprovalStatus, Step, StepName, StepStatus, SubjectKind, Vote, VoteDecision, Workflow, WorkflowStatus,
};
use ::domain::rejection::check_text;
use ::domain::rules::ApprovalTier;
use ::domain::{Actor, Amount, Currency, Problem, Reason, Rejection};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod rule_changes;
mod simulation;

pub use rule_changes::*;
pub use simulation::*;

/// Longest comment of a vote; with the most votes that a tier may ask for, an approval stays a small event.
pub const COMMENT_CHARACTERS_MAX: usize = 500;

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
    /// Currency of the amount.
    pub currency: Currency,
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
}

/// The steps of a kind of workflow, in order; `give_back` comes last where one is refused.
pub fn steps_of(kind: SubjectKind) -> &'static [StepName] {
    match kind {
        SubjectKind::Allocation => &[StepName::Validate, StepName::Approve, StepName::Activate, StepName::RequestStage],
        SubjectKind::CapitalCall => &[StepName::Validate, StepName::Approve, StepName::Issue],
        SubjectKind::Refund => &[StepName::Validate, StepName::Approve, StepName::Release],
    }
}

/// The steps of a workflow that starts: the owner has validated the request already.
pub fn first_steps(kind: SubjectKind, validated_at: DateTime<Utc>) -> Vec<Step> {
    let step = |name: &StepName| {
        let done = *name == StepName::Validate;
        Step {
            name: *name,
            status: if done { StepStatus::Done } else { StepStatus::Pending },
            started_at: done.then_some(validated_at),
            finished_at: done.then_some(validated_at),
            attempts: i32::from(done),
            note: done.then(|| validated_note(kind).to_owned()),
        }
    };
    steps_of(kind).iter().map(step).collect()
}

fn validated_note(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Allocation => "deal selected, fund assigned, amount validated; limits, duplicates and capacity checked",
        SubjectKind::CapitalCall => "purposes, allocations and unfunded commitments checked",
        SubjectKind::Refund => "credit checked and kept for the refund",
    }
}

/// The step that is next: the first that is neither done nor skipped nor failed.
pub fn next_step(workflow: &mut Workflow) -> Option<&mut Step> {
    workflow.steps.iter_mut().find(|step| matches!(step.status, StepStatus::Pending | StepStatus::Running | StepStatus::Waiting))
}

/// Ends the step that is next.
pub fn finish_step(workflow: &mut Workflow, status: StepStatus, note: Option<String>, now: DateTime<Utc>) {
    if let Some(step) = next_step(workflow) {
        step.status = status;
        step.started_at.get_or_insert(now);
        step.finished_at = Some(now);
        step.note = note;
    }
    derive(workflow);
}

/// Ends the step that is next as refused: nothing after it is done, and what is held is given back.
pub fn refuse_step(workflow: &mut Workflow, rejection: Rejection, now: DateTime<Utc>) {
    finish_step(workflow, StepStatus::Failed, Some(rejection.to_string()), now);
    let compensating = workflow.steps.iter().any(|step| step.name == StepName::GiveBack);
    for step in workflow.steps.iter_mut().filter(|step| step.status == StepStatus::Pending && step.name != StepName::GiveBack) {
        step.status = StepStatus::Skipped;
    }
    if !compensating {
        workflow.steps.push(Step {
            name: StepName::GiveBack,
            status: StepStatus::Pending,
            started_at: None,
            finished_at: None,
            attempts: 0,
            note: None,
        });
        workflow.error = Some(Problem::from(rejection));
    }
    derive(workflow);
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
        matches!(step.name, StepName::Activate | StepName::Issue | StepName::Release | StepName::GiveBack)
            && matches!(step.status, StepStatus::Done | StepStatus::Failed)
    };
    // what was given back was not activated: the last one decided
    let Some(step) = workflow.steps.iter_mut().rev().find(decides) else { return false };
    (step.status, step.finished_at, step.attempts) = (StepStatus::Pending, None, 0);
    step.note = Some("again: its owner has forgotten it, its database was set back".into());
    derive(workflow);
    true
}

/// Has a workflow wait for votes once more: what it asks for was changed.
pub fn ask_again(workflow: &mut Workflow, tier: Option<&ApprovalTier>, now: DateTime<Utc>) {
    // a request that failed because it was changed has nothing to give back any more
    workflow.steps.retain(|step| step.name != StepName::GiveBack);
    for step in workflow.steps.iter_mut().filter(|step| step.name != StepName::Validate) {
        (step.status, step.started_at, step.finished_at, step.attempts, step.note) = (StepStatus::Pending, None, None, 0, None);
    }
    workflow.error = None;
    ask(workflow, tier, now);
}

/// Has a workflow wait for the votes of a tier; without one it goes on.
pub fn ask(workflow: &mut Workflow, tier: Option<&ApprovalTier>, now: DateTime<Utc>) {
    match tier {
        Some(tier) => {
            if let Some(step) = next_step(workflow) {
                step.status = StepStatus::Waiting;
                step.started_at = Some(now);
                step.note = Some(format!("{} are needed from {}", described(tier), tier.from_amount));
            }
        }
        None => finish_step(workflow, StepStatus::Skipped, Some("below every approval tier".into()), now),
    }
    derive(workflow);
}

/// Whether the runner has something to do.
pub fn is_running(workflow: &Workflow) -> bool {
    workflow.status == WorkflowStatus::Running
}

/// Ends a workflow whose request was taken back by somebody: there is nothing to give back. Whether it had not ended.
pub fn withdraw(workflow: &mut Workflow, why: &str, now: DateTime<Utc>) -> bool {
    if !matches!(workflow.status, WorkflowStatus::Running | WorkflowStatus::Waiting) || is_giving_back(workflow) {
        return false;
    }
    refuse_step(workflow, Reason::Withdrawn.with(why), now);
    finish_step(workflow, StepStatus::Skipped, Some("nothing is held".into()), now);
    true
}

fn is_giving_back(workflow: &Workflow) -> bool {
    workflow.steps.iter().any(|step| step.name == StepName::GiveBack)
}

/// Writes the derived parts of a workflow.
pub fn derive(workflow: &mut Workflow) {
    let ended = |step: &&Step| matches!(step.status, StepStatus::Done | StepStatus::Skipped | StepStatus::Failed);
    let done = workflow.steps.iter().filter(ended).count();
    workflow.progress = u8::try_from(100 * done / workflow.steps.len().max(1)).unwrap_or(100);
    let failed = workflow.steps.iter().any(|step| step.status == StepStatus::Failed);
    workflow.status = match next_step(workflow).map(|step| step.status) {
        None if failed => WorkflowStatus::Failed,
        None => WorkflowStatus::Completed,
        Some(StepStatus::Waiting) => WorkflowStatus::Waiting,
        Some(_) => WorkflowStatus::Running,
    };
}

/// Takes a vote: one a person, of a role whose turn it is, never the requester's own.
///
/// # Errors
/// `fund_out_of_scope`, `invalid_text`, `requester_may_not_vote`, `role_may_not_vote`, `approval_decided`, `already_voted`, `not_your_turn`.
pub fn vote(
    approval: &Approval,
    actor: &Actor,
    decision: VoteDecision,
    comment: Option<String>,
    now: DateTime<Utc>,
) -> Result<Vote, Rejection> {
    actor.check_fund(approval.fund_id)?;
    if let Some(comment) = &comment {
        check_text("comment", comment, COMMENT_CHARACTERS_MAX)?;
    }
    if actor.user == approval.requested_by || approval.authors.contains(&actor.user) {
        return Err(Reason::RequesterMayNotVote.with(format!("{} asked for approval {}", actor.user, approval.id)));
    }
    let is_mine = |role: &str| actor.roles.iter().any(|mine| mine == role);
    if !approval.tier.groups().any(|(role, _)| is_mine(role)) {
        return Err(Reason::RoleMayNotVote.with(format!("approval {} needs {}", approval.id, described(&approval.tier))));
    }
    if approval.status != ApprovalStatus::Pending {
        return Err(Reason::ApprovalDecided.with(format!("approval {} is {}", approval.id, chassis::row::name(&approval.status))));
    }
    if approval.votes.iter().any(|vote| vote.user == actor.user) {
        return Err(Reason::AlreadyVoted.with(format!("{} has voted on approval {}", actor.user, approval.id)));
    }
    let Some(role) = approval.open_roles().find(|role| is_mine(role)) else {
        let turns: Vec<&str> = approval.open_roles().collect();
        return Err(Reason::NotYourTurn.with(format!("approval {} waits for the role {}", approval.id, turns.join(" or "))));
    };
    Ok(Vote { user: actor.user.clone(), role: role.to_owned(), decision, comment, at: now })
}

/// The votes that a tier asks for, for a person.
fn described(tier: &ApprovalTier) -> String {
    let groups: Vec<String> = tier.groups().map(|(role, votes)| format!("{votes} votes of the role {role}")).collect();
    groups.join(if tier.in_sequence { ", then " } else { " and " })
}

/// The status of an approval: as many votes against it as the tier says deny it, enough votes of each group grant it.
pub fn approval_status(approval: &Approval) -> ApprovalStatus {
    if approval.voided {
        return ApprovalStatus::Voided;
    }
    let denials = approval.votes.iter().filter(|vote| vote.decision == VoteDecision::Deny).count();
    match approval.open_roles().next() {
        _ if denials >= usize::from(approval.tier.denials) => ApprovalStatus::Denied,
        None => ApprovalStatus::Approved,
        Some(_) => ApprovalStatus::Pending,
    }
}

#[cfg(test)]
mod tests;
