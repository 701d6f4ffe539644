//! What workflow answers and emits: workflows, approvals and rules.

mod delegations;
mod rules;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Outcomes, Page, Query, Several};
use crate::messages::capital_calls::Priority;
use crate::money::{Amount, Currency};
use crate::rejection::Problem;
use crate::rules::{ApprovalTier, RulesUsed};

pub use delegations::*;
pub use rules::*;

/// What a workflow or an approval is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// An allocation.
    Allocation,
    /// A capital call.
    CapitalCall,
    /// A refund to an investor.
    Refund,
}

/// A request on its way through its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workflow {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it started.
    pub created_at: DateTime<Utc>,
    /// What it is about.
    pub subject_kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Who asked.
    pub requested_by: String,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Steps done, in percent.
    pub progress: u8,
    /// Why it failed or is held up, and what to do.
    pub error: Option<Problem>,
    /// The rules in force when it was asked for what it asks for; it keeps to them whatever is put afterwards.
    #[serde(default)]
    pub rules: RulesUsed,
    /// Who has stopped it for a while, and why; it goes on when somebody has it go on.
    #[serde(default)]
    pub paused: Option<Pause>,
    /// Whether it has been in one step for longer than the rules think right, without a vote missing.
    #[serde(default)]
    pub stuck: bool,
    /// What it waits for now, for a person; derived.
    #[serde(default)]
    pub expects: Option<String>,
    /// Derived from the steps.
    pub status: WorkflowStatus,
}

/// That a workflow was stopped for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// By whom.
    pub by: String,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What is done.
    pub name: StepName,
    /// How far it is.
    pub status: StepStatus,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Times that it was tried.
    pub attempts: i32,
    /// What came of it, for a person.
    pub note: Option<String>,
    /// Of `ask` and `undo`: which program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Of `check`: which condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// Whether the program is told when what it agreed to is given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
    /// Of `wait`: hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u16>,
    /// Of `wait`: when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whether the program has answered what the rules do not allow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered_wrongly: bool,
    /// What the program gave as data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
}

/// The steps that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Deal and fund chosen, amount and rules checked, capacity or unfunded commitments checked.
    Validate,
    /// Approval by the committee, where the amount asks for it.
    Approve,
    /// The allocation is put in force.
    Activate,
    /// The deal system is asked to move the deal to its next stage.
    RequestStage,
    /// The call's lines are made and the investors asked.
    Issue,
    /// The refund may be paid out.
    Release,
    /// A program of somebody else is asked; see the rules, `programs`.
    Ask,
    /// A condition that the firm has written must hold; see the rules, `predicates`.
    Check,
    /// So many hours pass.
    Wait,
    /// Compensation: a program is told that what it agreed to is given up.
    Undo,
    /// Compensation: what was held is given back.
    GiveBack,
}

impl StepName {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            StepName::Validate => "validate",
            StepName::Approve => "approve",
            StepName::Activate => "activate",
            StepName::RequestStage => "request_stage",
            StepName::Issue => "issue",
            StepName::Release => "release",
            StepName::Ask => "ask",
            StepName::Check => "check",
            StepName::Wait => "wait",
            StepName::Undo => "undo",
            StepName::GiveBack => "give_back",
        }
    }

    /// Whether it gives up what was done before.
    pub const fn is_compensation(self) -> bool {
        matches!(self, StepName::Undo | StepName::GiveBack)
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Sent, no answer yet.
    Running,
    /// Waits for a person, or for a time.
    Waiting,
    /// Done.
    Done,
    /// Not needed.
    Skipped,
    /// Refused.
    Failed,
}

impl StepStatus {
    /// Whether it has not ended.
    pub const fn is_open(self) -> bool {
        matches!(self, StepStatus::Pending | StepStatus::Running | StepStatus::Waiting)
    }
}

/// The derived status of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowStatus {
    /// A step is being done.
    Running,
    /// Waits for a person, or for a time.
    Waiting,
    /// Stopped until somebody has it go on.
    Paused,
    /// Every step is done.
    Completed,
    /// Refused; what was held is given back.
    Failed,
}

/// What happened to a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkflowChange {
    /// It started.
    Started,
    /// A step began, ended or was tried again.
    Advanced,
    /// Somebody stopped it for a while, had it go on, ended it or had a step done anew.
    Steered {
        /// What was asked for.
        action: WorkflowAction,
        /// Why.
        reason: String,
    },
    /// It has been in one step for longer than the rules think right.
    Stuck,
    /// It ended well.
    Completed,
    /// It ended refused.
    Failed,
}

impl Aggregate for Workflow {
    type Change = WorkflowChange;
    const KIND: &'static str = "workflow";
    const OWNER: &'static str = "workflow";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(change: &WorkflowChange) -> &'static str {
        match change {
            WorkflowChange::Started => "started",
            WorkflowChange::Advanced => "advanced",
            WorkflowChange::Steered { .. } => "steered",
            WorkflowChange::Stuck => "stuck",
            WorkflowChange::Completed => "completed",
            WorkflowChange::Failed => "failed",
        }
    }
}

/// A decision that k people of a role must agree to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
    /// The workflow that waits for it.
    pub workflow_id: Uuid,
    /// What it is about.
    pub subject_kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Amount that is to be approved.
    pub amount: Amount,
    /// Currency of the amount.
    pub currency: Currency,
    /// SHA-256 of the content that is voted on.
    pub content_hash: String,
    /// Who asked; may not vote.
    pub requested_by: String,
    /// Who has written the content; none of them may vote.
    #[serde(default)]
    pub authors: Vec<String>,
    /// The tier in force at the request: how many votes of which role.
    pub tier: ApprovalTier,
    /// The votes so far.
    pub votes: Vec<Vote>,
    /// Urgency: what is urgent is shown first.
    #[serde(default)]
    pub priority: Priority,
    /// Whether the content is not what is asked for any more.
    #[serde(default)]
    pub voided: bool,
    /// Since when the tier is asked: since the request, or since it was escalated.
    #[serde(default)]
    pub asked_at: DateTime<Utc>,
    /// Whether it was said that votes of this tier are missing.
    #[serde(default)]
    pub reminded: bool,
    /// The higher tiers that are asked in turn when the tier does not decide in its time.
    #[serde(default)]
    pub escalates_to: Vec<ApprovalTier>,
    /// Whether nobody decided in time.
    #[serde(default)]
    pub expired: bool,
    /// When something happens by itself next, if nobody decides before, and what; derived.
    #[serde(default)]
    pub deadline: Option<ApprovalDeadline>,
    /// Derived from the votes.
    pub status: ApprovalStatus,
}

/// What happens to an approval by itself when the time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalDeadline {
    /// When, by the business clock.
    pub at: DateTime<Utc>,
    /// What.
    pub then: WhenOverdue,
}

/// What happens when the votes on an approval are missing for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenOverdue {
    /// It is said, by an event, that votes are missing.
    Remind,
    /// The next higher tier is asked.
    Escalate,
    /// The request is refused.
    Expire,
}

/// One person's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vote {
    /// Who.
    pub user: String,
    /// In which group it counts; empty for the first.
    #[serde(default)]
    pub role: String,
    /// Which way.
    pub decision: VoteDecision,
    /// Why.
    pub comment: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// For whom, who had delegated the vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// What the voter relied on; the files themselves are kept elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// A file that a vote relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Its name, or where it is kept; at most 200 characters.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// Which way a vote goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoteDecision {
    /// For it.
    Approve,
    /// Against it.
    Deny,
}

/// The derived status of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Votes are missing.
    Pending,
    /// Enough of each group voted for it.
    Approved,
    /// As many voted against it as end it.
    Denied,
    /// The content was changed or withdrawn: the votes do not count.
    Voided,
    /// Nobody decided in time.
    Expired,
}

/// What happened to an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ApprovalChange {
    /// It was requested.
    Requested,
    /// Somebody voted, and more votes are needed.
    Voted,
    /// Enough people agreed.
    Granted,
    /// As many voted against it as end it.
    Denied,
    /// The content was changed or withdrawn.
    Voided,
    /// Votes are missing for long: whoever reminds people hears it by this.
    Reminded,
    /// The next higher tier is asked.
    Escalated,
    /// Nobody decided in time.
    Expired,
}

impl Approval {
    /// Approving votes so far in the group of a role.
    pub fn approvals_of(&self, role: &str) -> u16 {
        let counts =
            |vote: &&Vote| vote.decision == VoteDecision::Approve && (vote.role == role || vote.role.is_empty() && role == self.tier.role);
        u16::try_from(self.votes.iter().filter(counts).count()).unwrap_or(u16::MAX)
    }

    /// The roles whose turn it is: those of groups that lack votes; in sequence only the first of them.
    pub fn open_roles(&self) -> impl Iterator<Item = &str> {
        let lacks = |(role, votes): &(&str, u16)| self.approvals_of(role) < *votes;
        let turns = if self.tier.in_sequence { 1 } else { usize::MAX };
        self.tier.groups().filter(lacks).map(|(role, _)| role).take(turns)
    }
}

impl Aggregate for Approval {
    type Change = ApprovalChange;
    const KIND: &'static str = "approval";
    const OWNER: &'static str = "workflow";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(change: &ApprovalChange) -> &'static str {
        match change {
            ApprovalChange::Requested => "requested",
            ApprovalChange::Voted => "voted",
            ApprovalChange::Granted => "granted",
            ApprovalChange::Denied => "denied",
            ApprovalChange::Voided => "voided",
            ApprovalChange::Reminded => "reminded",
            ApprovalChange::Escalated => "escalated",
            ApprovalChange::Expired => "expired",
        }
    }
}

/// Votes on an approval.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CastVote {
    /// The approval.
    pub approval_id: Uuid,
    /// Which way.
    pub decision: VoteDecision,
    /// Why, at most 500 characters.
    #[serde(default)]
    pub comment: Option<String>,
    /// For whom, who has delegated the vote to the sender; none for the sender's own vote.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// What the voter relied on, at most 10 files.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

impl Command for CastVote {
    const SUBJECT: &'static str = "tranche.cmd.workflow.cast-vote";
    type Reply = Approval;
}

/// Most votes of one [`CastVotes`]: more than a committee decides in a meeting.
pub const VOTES_MAX: usize = 500;

/// Votes on several approvals. Each vote counts or is refused by itself, as a [`CastVote`] would be, one on top of the other; the answer
/// stays the same when the request is repeated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CastVotes {
    /// The votes, 1 to 500.
    pub votes: Vec<CastVote>,
}

impl Command for CastVotes {
    const SUBJECT: &'static str = "tranche.cmd.workflow.cast-votes";
    type Reply = Outcomes<VoteCounted>;
}

/// One of several votes counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VoteCounted {
    /// The approval.
    pub approval_id: Uuid,
    /// What it is after the vote.
    pub status: ApprovalStatus,
}

impl Several for CastVotes {
    type Part = CastVote;
    type Accepted = VoteCounted;
    const PARTS: &'static str = "votes";
    const PARTS_MAX: usize = VOTES_MAX;
    fn parts(&self) -> &[CastVote] {
        &self.votes
    }
}

/// What somebody who looks after workflows may have one do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowAction {
    /// It stops after what is being done.
    Pause,
    /// It goes on.
    Resume,
    /// It ends: what was done is given up in reverse order. Not once its subject is being decided.
    Cancel,
    /// The step that is held up, or an earlier one that was not voted on, is done anew at once.
    Retry,
}

/// Has a workflow stop, go on, end, or do a step anew. Whoever made the request may cancel it; everything else is for admins.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SteerWorkflow {
    /// The workflow.
    pub workflow_id: Uuid,
    /// What it shall do.
    pub action: WorkflowAction,
    /// Why, at most 500 characters; it stands in the audit's record.
    pub reason: String,
    /// Of `retry`: the number of the step, from 1, that is done anew with those after it; none for the one that is held up.
    #[serde(default)]
    pub from_step: Option<u8>,
}

impl Command for SteerWorkflow {
    const SUBJECT: &'static str = "tranche.cmd.workflow.steer-workflow";
    type Reply = Workflow;
}

/// What a program is asked, on `tranche.step.<name>`; with the header `Idempotency-Key`, which is the same when it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepQuestion {
    /// The workflow.
    pub workflow_id: Uuid,
    /// What it is about.
    pub subject_kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The deal of an allocation.
    pub deal_id: Option<Uuid>,
    /// The fund.
    pub fund_id: Uuid,
    /// Its type.
    pub fund_type: String,
    /// Amount that is asked for.
    pub amount: Amount,
    /// Currency of the amount.
    pub currency: Currency,
    /// Type of the security of an allocation; empty else.
    pub security_type: String,
    /// What an allocation says of itself.
    pub details: Option<serde_json::Value>,
    /// Urgency.
    pub priority: Priority,
    /// Who asked.
    pub requested_by: String,
    /// SHA-256 of the content.
    pub content_hash: String,
    /// What the rules have for the program.
    pub parameters: Option<serde_json::Value>,
}

impl Query for StepQuestion {
    const SUBJECT: &'static str = "tranche.step.{name}";
    type Reply = StepAnswer;
}

/// What a program answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepAnswer {
    /// Whether it agrees.
    pub decision: StepDecision,
    /// Why, for a person, at most 500 characters.
    #[serde(default)]
    pub note: Option<String>,
    /// Data of the shape that is registered in the rules; it is kept with the step.
    #[serde(default)]
    pub data: Option<serde_json::Value>,
}

/// Whether a program agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepDecision {
    /// It does.
    Agreed,
    /// It does not.
    Refused,
}

/// One workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetWorkflow {
    /// The workflow.
    pub workflow_id: Uuid,
}

impl Query for GetWorkflow {
    const SUBJECT: &'static str = "tranche.query.workflow.get-workflow";
    type Reply = Workflow;
}

/// Workflows, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListWorkflows {
    /// With this status only.
    #[serde(default)]
    pub status: Option<WorkflowStatus>,
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// That started before this time only.
    #[serde(default)]
    pub before: Option<DateTime<Utc>>,
    /// Only those that are stuck, or only those that are not.
    #[serde(default)]
    pub stuck: Option<bool>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListWorkflows {
    const SUBJECT: &'static str = "tranche.query.workflow.list-workflows";
    type Reply = Page<Workflow>;
}

/// One approval.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetApproval {
    /// The approval.
    pub approval_id: Uuid,
}

impl Query for GetApproval {
    const SUBJECT: &'static str = "tranche.query.workflow.get-approval";
    type Reply = Approval;
}

/// Approvals, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListApprovals {
    /// With this status only.
    #[serde(default)]
    pub status: Option<ApprovalStatus>,
    /// About this allocation or call only.
    #[serde(default)]
    pub subject_id: Option<Uuid>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListApprovals {
    const SUBJECT: &'static str = "tranche.query.workflow.list-approvals";
    type Reply = Page<Approval>;
}
