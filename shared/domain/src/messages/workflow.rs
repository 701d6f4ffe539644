//! What workflow answers and emits: workflows, approvals and rules.

mod approvals;
mod delegations;
mod rules;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
use crate::messages::capital_calls::Priority;
use crate::money::{Amount, Currency};
use crate::rejection::Problem;
use crate::rules::RulesUsed;

pub use approvals::*;
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
    /// An allocation that is taken back.
    Withdrawal,
    /// Bank details of a fund or an investor.
    BankDetails,
    /// A change of rules.
    RuleChange,
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
    /// Id of the allocation, call, refund, bank details or change of rules.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// A second person confirms the bank details, after a call back.
    Confirm,
    /// The bank details are used from their time on.
    PutInUse,
    /// What a change of rules would have changed of the past is looked up, for those who vote on it.
    Simulate,
    /// The change of rules is in force from its time on.
    PutInForce,
    /// No more is called for the allocation; what was called for it alone is rescinded, where that was asked for.
    TakeBack,
    /// The allocation is reduced to what is called for it, or cancelled where nothing is.
    Reduce,
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
            StepName::Confirm => "confirm",
            StepName::PutInUse => "put_in_use",
            StepName::Simulate => "simulate",
            StepName::PutInForce => "put_in_force",
            StepName::TakeBack => "take_back",
            StepName::Reduce => "reduce",
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
        // what belongs to an investor belongs to no fund
        Some(self.fund_id).filter(|id| !id.is_nil())
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
    /// Id of the allocation, call, refund, bank details or change of rules.
    pub subject_id: Uuid,
    /// The deal of an allocation.
    pub deal_id: Option<Uuid>,
    /// The fund.
    pub fund_id: Uuid,
    /// Its type.
    pub fund_type: String,
    /// Amount that is asked for; 0 for bank details and rules.
    pub amount: Amount,
    /// Currency of the amount; none for rules.
    pub currency: Option<Currency>,
    /// Type of the security of an allocation; empty else.
    pub security_type: String,
    /// What an allocation says of itself; of a change of rules its scope, the layer as it shall be, the version that it replaces and its time.
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
