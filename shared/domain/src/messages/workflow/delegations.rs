//! Votes that somebody else casts for a while.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};

/// That somebody votes for somebody else in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delegation {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// Whose votes they are.
    pub granted_by: String,
    /// Who casts them.
    pub granted_to: String,
    /// The roles of whose votes they are, when they delegated.
    pub roles: Vec<String>,
    /// The funds that they saw; none: all.
    pub funds: Option<Vec<Uuid>>,
    /// From when on.
    pub starts_at: DateTime<Utc>,
    /// Until when.
    pub ends_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// When it was taken back before its end.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Derived from the times.
    pub status: DelegationStatus,
}

/// The derived status of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DelegationStatus {
    /// It has not begun.
    Scheduled,
    /// It holds.
    Active,
    /// Its time is over.
    Ended,
    /// It was taken back.
    Revoked,
}

impl Delegation {
    /// Its status at a time.
    pub fn status_at(&self, now: DateTime<Utc>) -> DelegationStatus {
        match self.revoked_at {
            Some(_) => DelegationStatus::Revoked,
            None if now < self.starts_at => DelegationStatus::Scheduled,
            None if now < self.ends_at => DelegationStatus::Active,
            None => DelegationStatus::Ended,
        }
    }
}

/// What happened to a delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DelegationChange {
    /// It was granted.
    Granted,
    /// It was taken back.
    Revoked,
}

impl Aggregate for Delegation {
    type Change = DelegationChange;
    const KIND: &'static str = "delegation";
    const OWNER: &'static str = "workflow";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(change: &DelegationChange) -> &'static str {
        match change {
            DelegationChange::Granted => "granted",
            DelegationChange::Revoked => "revoked",
        }
    }
}

/// Has somebody else cast the sender's votes in a period. Nobody has two votes by it: neither who votes for somebody, nor for whom it is,
/// votes on the same approval again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantDelegation {
    /// Who casts the votes.
    pub granted_to: String,
    /// From when on.
    pub starts_at: DateTime<Utc>,
    /// Until when, at most 92 days later: the roles are those that the sender has now, also when they are taken away meanwhile.
    pub ends_at: DateTime<Utc>,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for GrantDelegation {
    const SUBJECT: &'static str = "tranche.cmd.workflow.grant-delegation";
    type Reply = Delegation;
}

/// Takes a delegation back; votes that were cast by it stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeDelegation {
    /// The delegation.
    pub delegation_id: Uuid,
}

impl Command for RevokeDelegation {
    const SUBJECT: &'static str = "tranche.cmd.workflow.revoke-delegation";
    type Reply = Delegation;
}

/// Delegations, newest first: those that the sender gave or got; all of them for admins and auditors.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDelegations {
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListDelegations {
    const SUBJECT: &'static str = "tranche.query.workflow.list-delegations";
    type Reply = Page<Delegation>;
}
