//! What notifications emits: notices on `tranche.notice.<kind>` for whoever sends them on.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::capital_calls::PinnedInstructions;
use crate::message::{Aggregate, Page, Query};
use crate::money::{Amount, Currency};

/// One notice about one call line. Its id is derived from line and rule, so that a consumer that
/// remembers ids never sends one twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// Id; the same for the same line and rule.
    pub id: Uuid,
    /// What it is about.
    pub kind: NoticeKind,
    /// The rule that asked for it, for example `due-7`.
    pub rule: String,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The line.
    pub line_id: Uuid,
    /// The call.
    pub call_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// The investor who is asked.
    pub investor_id: Uuid,
    /// The investor's mail address, if known.
    pub email: Option<String>,
    /// Amount of the line.
    pub amount: Amount,
    /// What is still to be paid.
    pub outstanding: Amount,
    /// Currency of the amounts.
    pub currency: Currency,
    /// Due date of the line.
    pub due_on: NaiveDate,
    /// The creditor reference of the line (ISO 11649): cash that comes with it is known to be for it.
    #[serde(default)]
    pub reference: String,
    /// The fund's bank details to pay to, masked, with their hash: compare them with those that the fund manager has told you.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<PinnedInstructions>,
}

/// The kinds of notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A capital call was issued.
    CapitalCall,
    /// The due date is near.
    Reminder,
    /// The due date has passed.
    Overdue,
    /// The line is unpaid for so long that a person must act.
    Escalation,
}

impl NoticeKind {
    /// The subject token.
    pub const fn token(self) -> &'static str {
        match self {
            NoticeKind::CapitalCall => "capital_call",
            NoticeKind::Reminder => "reminder",
            NoticeKind::Overdue => "overdue",
            NoticeKind::Escalation => "escalation",
        }
    }
}

/// The one event of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NoticeChange {
    /// The notice is due.
    Raised,
}

impl Aggregate for Notice {
    type Change = NoticeChange;
    const KIND: &'static str = "notice";
    const OWNER: &'static str = "notifications";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        1
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(_: &NoticeChange) -> &'static str {
        "raised"
    }
    fn subject(&self, _: &NoticeChange) -> String {
        format!("tranche.notice.{}", self.kind.token())
    }
}

/// Something that people of the firm should look at. Its id is derived from what it is about, so that a consumer that remembers ids never
/// tells it twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Id; the same for the same thing.
    pub id: Uuid,
    /// What it is about.
    pub kind: AlertKind,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The fund.
    pub fund_id: Uuid,
    /// The roles that should look at it.
    pub roles: Vec<String>,
    /// The approval, workflow or allocation.
    pub subject_id: Uuid,
    /// What it is, for a person.
    pub text: String,
    /// The page that shows it.
    pub link: String,
    /// How many more of the kind and the fund are told with it: the rules limit how many there are in an hour.
    pub more: u32,
}

/// The kinds of alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Votes are asked for.
    ApprovalRequested,
    /// Votes are still missing.
    ApprovalReminder,
    /// A higher tier is asked.
    ApprovalEscalated,
    /// An approval was not decided in its time.
    ApprovalExpired,
    /// A workflow has been in one step for too long.
    WorkflowStuck,
    /// A workflow waits until somebody has it go on.
    WorkflowPaused,
    /// The deal system did not answer, or refused.
    DealSystem,
    /// The deal of an allocation will not happen, and people decide what becomes of it.
    DealWithdrawn,
    /// The time of a change of rules came, and it could not be put in force.
    RuleChangeStopped,
}

impl AlertKind {
    /// The subject token.
    pub const fn token(self) -> &'static str {
        match self {
            AlertKind::ApprovalRequested => "approval_requested",
            AlertKind::ApprovalReminder => "approval_reminder",
            AlertKind::ApprovalEscalated => "approval_escalated",
            AlertKind::ApprovalExpired => "approval_expired",
            AlertKind::WorkflowStuck => "workflow_stuck",
            AlertKind::WorkflowPaused => "workflow_paused",
            AlertKind::DealSystem => "deal_system",
            AlertKind::DealWithdrawn => "deal_withdrawn",
            AlertKind::RuleChangeStopped => "rule_change_stopped",
        }
    }
}

/// The one event of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AlertChange {
    /// People are told.
    Raised,
}

impl Aggregate for Alert {
    type Change = AlertChange;
    const KIND: &'static str = "alert";
    const OWNER: &'static str = "notifications";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        1
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(_: &AlertChange) -> &'static str {
        "raised"
    }
    fn subject(&self, _: &AlertChange) -> String {
        format!("tranche.notice.{}", self.kind.token())
    }
}

/// Alerts, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListAlerts {
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

impl Query for ListAlerts {
    const SUBJECT: &'static str = "tranche.query.notifications.list-alerts";
    type Reply = Page<Alert>;
}
