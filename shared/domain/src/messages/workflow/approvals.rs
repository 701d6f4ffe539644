//! Approvals and the votes on them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::SubjectKind;
use crate::message::{Aggregate, Command, Outcomes, Page, Query, Several};
use crate::messages::capital_calls::Priority;
use crate::money::{Amount, Currency};
use crate::rules::ApprovalTier;

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
        Some(self.fund_id).filter(|id| !id.is_nil())
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
