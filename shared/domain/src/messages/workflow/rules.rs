//! Rules: their layers' versions, and the changes that become versions once others have approved them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{SubjectKind, Vote, VoteDecision};
use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency};
use crate::rejection::Reason;
use crate::rules::{RuleLayer, RuleOrigin, Rules};

/// One version of one layer of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleSet {
    /// Id, derived from the scope.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When this version was put.
    pub created_at: DateTime<Utc>,
    /// What the layer holds for.
    pub scope: String,
    /// The layer; what is null is taken from the layer below.
    pub rules: RuleLayer,
    /// Who put it.
    pub changed_by: String,
    /// SHA-256 of the layer.
    pub content_hash: String,
    /// The change that it came from; none where it was put at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_change_id: Option<Uuid>,
    /// `active` for the newest version, else `superseded`.
    pub status: RuleSetStatus,
}

/// Whether a version is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleSetStatus {
    /// In force.
    Active,
    /// A newer version is in force.
    Superseded,
}

/// What happened to a rule set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuleSetChange {
    /// A new version is in force.
    Activated,
}

impl Aggregate for RuleSet {
    type Change = RuleSetChange;
    const KIND: &'static str = "rules";
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
    fn change_name(_: &RuleSetChange) -> &'static str {
        "activated"
    }
}

/// A change of a layer of rules, on its way to be in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleChange {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was proposed.
    pub created_at: DateTime<Utc>,
    /// What the layer holds for.
    pub scope: String,
    /// The layer as it shall be; what is null is taken from the layer below.
    pub rules: RuleLayer,
    /// The version of the layer that it was written against; 0 for what `deploy/rules` says.
    pub replaces: i64,
    /// When it shall be in force; none for as soon as it is approved.
    pub active_from: Option<DateTime<Utc>>,
    /// Why.
    pub comment: String,
    /// SHA-256 of scope, layer, replaced version and time: what is voted on.
    pub content_hash: String,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who has written it; none of them may vote on it.
    pub authors: Vec<String>,
    /// Why it cannot be approved as it is.
    pub problems: Vec<String>,
    /// What it would have changed of what was asked for in a time.
    pub simulation: Option<Simulation>,
    /// People who must approve it.
    pub votes_needed: u16,
    /// The votes so far.
    pub votes: Vec<Vote>,
    /// Its workflow: another one each time that it is written; none while it has problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<Uuid>,
    /// Why its workflow refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_because: Option<String>,
    /// Who withdrew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_by: Option<String>,
    /// The version of the layer that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<i64>,
    /// Derived.
    pub status: RuleChangeStatus,
}

/// How far a change of rules is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleChangeStatus {
    /// It has problems.
    Draft,
    /// It has none, and waits for its simulation.
    Validated,
    /// It waits for votes.
    Simulated,
    /// It waits for its time, or for the other steps that the rules have for it.
    Approved,
    /// It was put in force.
    Active,
    /// Somebody voted against it, or its workflow refused it.
    Denied,
    /// It was taken back.
    Withdrawn,
}

/// What happened to a change of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuleChangeChange {
    /// It was proposed.
    Proposed,
    /// It says something else: the votes do not count any more.
    Edited,
    /// What it would have changed was looked up.
    Simulated,
    /// Somebody voted.
    Voted,
    /// It is in force.
    Activated,
    /// Its workflow refused it.
    Refused,
    /// Its time came, and it could not be put in force: it has problems now, and the votes do not count any more.
    Stopped,
    /// It was taken back.
    Withdrawn,
}

impl Aggregate for RuleChange {
    type Change = RuleChangeChange;
    const KIND: &'static str = "rule_change";
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
    fn change_name(change: &RuleChangeChange) -> &'static str {
        match change {
            RuleChangeChange::Proposed => "proposed",
            RuleChangeChange::Edited => "edited",
            RuleChangeChange::Simulated => "simulated",
            RuleChangeChange::Voted => "voted",
            RuleChangeChange::Activated => "activated",
            RuleChangeChange::Refused => "refused",
            RuleChangeChange::Stopped => "stopped",
            RuleChangeChange::Withdrawn => "withdrawn",
        }
    }
}

/// What rules would have said of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// It needs no approval.
    Passes,
    /// It needs votes.
    NeedsApproval {
        /// How many.
        votes: u16,
        /// Of which roles.
        roles: Vec<String>,
    },
    /// It is refused.
    Refused {
        /// Why.
        code: Reason,
    },
}

/// A request of which the rules would have said something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What was asked for.
    pub subject_kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// How much.
    pub amount: Amount,
    /// In which currency.
    pub currency: Currency,
    /// What the rules in force now say of it.
    pub before: Verdict,
    /// What they would say.
    pub after: Verdict,
}

/// What a layer of rules would have changed of what was asked for in a time: allocations (limits, number for a deal, approval), capital
/// calls and refunds (approval). Each is looked at with the rules of now, and with the layer in place of what is put for its scope now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Simulation {
    /// From when on.
    pub from: DateTime<Utc>,
    /// The end, which is not part of it.
    pub until: DateTime<Utc>,
    /// When it was looked up.
    pub at: DateTime<Utc>,
    /// Requests that were looked at.
    pub looked_at: u32,
    /// Those that would be refused, and are not now.
    pub newly_refused: u32,
    /// Those that would not be refused, and are now.
    pub no_longer_refused: u32,
    /// Those that would need votes, or more of them.
    pub more_votes: u32,
    /// Those that would need fewer votes, or none.
    pub fewer_votes: u32,
    /// Those that would need as many votes of other roles.
    pub other_roles: u32,
    /// The first of all these, the newest first: 25 of a change, 1,000 where it is asked without one.
    pub differences: Vec<Difference>,
}

/// Proposes a change of a layer of rules.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeRules {
    /// `global`, `env:<name>`, `fund-type:<type>` or `fund:<id>`.
    pub scope: String,
    /// The whole layer as it shall be.
    pub rules: RuleLayer,
    /// Why, at most 500 characters.
    pub comment: String,
    /// When it shall be in force, at most a year ahead; none for as soon as it is approved.
    #[serde(default)]
    pub active_from: Option<DateTime<Utc>>,
}

impl Command for ProposeRules {
    const SUBJECT: &'static str = "tranche.cmd.workflow.propose-rules";
    type Reply = RuleChange;
}

/// Proposes to go back to an earlier version of a layer: a change like any other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBackRules {
    /// The scope.
    pub scope: String,
    /// The version whose layer shall be in force again; 0 for what `deploy/rules` says.
    pub to_version: i64,
    /// Why, at most 500 characters.
    pub comment: String,
    /// When it shall be in force, at most a year ahead; none for as soon as it is approved.
    #[serde(default)]
    pub active_from: Option<DateTime<Utc>>,
}

impl Command for RollBackRules {
    const SUBJECT: &'static str = "tranche.cmd.workflow.roll-back-rules";
    type Reply = RuleChange;
}

/// Has a change of rules say something else, against the version of the layer that is in force now. The simulation and the votes do not
/// count any more; one that says that already stays as it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRuleChange {
    /// The change.
    pub rule_change_id: Uuid,
    /// The whole layer as it shall be.
    pub rules: RuleLayer,
    /// Why, at most 500 characters.
    pub comment: String,
    /// When it shall be in force, at most a year ahead; none for as soon as it is approved.
    #[serde(default)]
    pub active_from: Option<DateTime<Utc>>,
}

impl Command for EditRuleChange {
    const SUBJECT: &'static str = "tranche.cmd.workflow.edit-rule-change";
    type Reply = RuleChange;
}

/// Looks up what a change of rules would have changed in the last year, for those who vote on it. Where nobody needs to, it is approved by
/// that, and its workflow puts it in force when its time has come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRuleChange {
    /// The change.
    pub rule_change_id: Uuid,
}

impl Command for SimulateRuleChange {
    const SUBJECT: &'static str = "tranche.cmd.workflow.simulate-rule-change";
    type Reply = RuleChange;
}

/// Votes on a change of rules, as somebody who has not written it. With the last vote that it needs its workflow puts it in force when
/// its time has come; one vote against it ends it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VoteOnRules {
    /// The change.
    pub rule_change_id: Uuid,
    /// What was read: the change's `content_hash`.
    pub content_hash: String,
    /// Which way.
    pub decision: VoteDecision,
    /// Why, at most 500 characters.
    #[serde(default)]
    pub comment: Option<String>,
}

impl Command for VoteOnRules {
    const SUBJECT: &'static str = "tranche.cmd.workflow.vote-on-rules";
    type Reply = RuleChange;
}

/// Takes a change of rules back that is not in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawRuleChange {
    /// The change.
    pub rule_change_id: Uuid,
}

impl Command for WithdrawRuleChange {
    const SUBJECT: &'static str = "tranche.cmd.workflow.withdraw-rule-change";
    type Reply = RuleChange;
}

/// Puts a change of rules in force, or ends it. Sent by its workflow. One that does not fit any more goes back to those who wrote it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRuleChange {
    /// The change.
    pub rule_change_id: Uuid,
    /// The workflow of what was approved.
    pub workflow_id: Uuid,
    /// Why it is refused; none puts it in force.
    pub refused_because: Option<String>,
}

impl Command for DecideRuleChange {
    const SUBJECT: &'static str = "tranche.cmd.workflow.decide-rule-change";
    type Reply = RuleChange;
}

/// Puts a new version of a layer of rules in force at once, where the rules ask for no second person (`rule_votes` is 0) and no other steps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRules {
    /// `global`, `env:<name>`, `fund-type:<type>` or `fund:<id>`.
    pub scope: String,
    /// The layer.
    pub rules: RuleLayer,
}

impl Command for PutRules {
    const SUBJECT: &'static str = "tranche.cmd.workflow.put-rules";
    type Reply = RuleSet;
}

/// The layer of a scope and the rules that result for it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRules {
    /// The scope.
    pub scope: String,
    /// Type of the fund, to merge its layer under that of a fund.
    #[serde(default)]
    pub fund_type: Option<String>,
}

/// The answer to [`GetRules`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulesView {
    /// Id of the scope's rule set.
    pub id: Uuid,
    /// Version in force; 0 when nothing was put yet.
    pub version: i64,
    /// The scope.
    pub scope: String,
    /// The layer put for this scope.
    pub rules: RuleLayer,
    /// All layers up to this scope, merged.
    pub effective: Rules,
    /// The layer that each value of them comes from.
    pub sources: BTreeMap<String, RuleOrigin>,
}

impl Query for GetRules {
    const SUBJECT: &'static str = "tranche.query.workflow.get-rules";
    type Reply = RulesView;
}

/// All versions of a scope's layer, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRuleVersions {
    /// The scope.
    pub scope: String,
}

impl Query for ListRuleVersions {
    const SUBJECT: &'static str = "tranche.query.workflow.list-rule-versions";
    type Reply = Page<RuleSet>;
}

/// What a layer of rules would have changed. Nothing is stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRules {
    /// The scope.
    pub scope: String,
    /// The whole layer as it would be.
    pub rules: RuleLayer,
    /// From when on; none for a year before `until`.
    #[serde(default)]
    pub from: Option<DateTime<Utc>>,
    /// The end, which is not part of it; the present where nothing is said.
    #[serde(default)]
    pub until: Option<DateTime<Utc>>,
}

impl Query for SimulateRules {
    const SUBJECT: &'static str = "tranche.query.workflow.simulate-rules";
    type Reply = Simulation;
}

/// One change of rules.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRuleChange {
    /// The change.
    pub rule_change_id: Uuid,
}

impl Query for GetRuleChange {
    const SUBJECT: &'static str = "tranche.query.workflow.get-rule-change";
    type Reply = RuleChange;
}

/// Changes of rules, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRuleChanges {
    /// Of this scope only.
    #[serde(default)]
    pub scope: Option<String>,
    /// With this status only.
    #[serde(default)]
    pub status: Option<RuleChangeStatus>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListRuleChanges {
    const SUBJECT: &'static str = "tranche.query.workflow.list-rule-changes";
    type Reply = Page<RuleChange>;
}
