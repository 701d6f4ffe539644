//! What workflow answers and emits: workflows, approvals and rules.

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
    /// Derived from the steps.
    pub status: WorkflowStatus,
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
    /// Compensation: what was held is given back.
    GiveBack,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Sent, no answer yet.
    Running,
    /// Waits for a person.
    Waiting,
    /// Done.
    Done,
    /// Not needed.
    Skipped,
    /// Refused.
    Failed,
}

/// The derived status of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowStatus {
    /// A step is being done.
    Running,
    /// Waits for a person.
    Waiting,
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
    /// Derived from the votes.
    pub status: ApprovalStatus,
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
