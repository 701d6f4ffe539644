//! Capital calls: what they say, and what becomes of them.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency, Ratio};
use crate::rules::RulesUsed;

use super::{CallLine, LinePurpose};

/// What a call, or a part of a line, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurposeKind {
    /// An investment in an allocation.
    Investment,
    /// Management fee.
    ManagementFee,
    /// Fund expenses.
    Expenses,
    /// Reserve.
    Reserve,
    /// Capital that is returned and netted against the call; it may be called again, so it adds to what is unfunded.
    RecallableReturn,
    /// Interest that investors of a later closing owe to the earlier ones; always outside the commitment, and never called by hand.
    ClosingInterest,
}

/// One purpose of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// What for.
    pub kind: PurposeKind,
    /// The allocation of an investment; none for the other kinds.
    #[serde(default)]
    pub allocation_id: Option<Uuid>,
    /// Amount in the fund's currency; of a recallable return what is returned.
    pub amount: Amount,
    /// Whether it changes the unfunded commitments; a recallable return always does.
    pub inside_commitment: bool,
}

/// What one investor's line shall be, other than its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineAdjustment {
    /// The investor.
    pub investor_id: Uuid,
    /// Exactly so much of the call, before a return is netted; the others share the rest.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// At most so much of the call, before a return is netted; the others share what is above.
    #[serde(default)]
    pub cap: Option<Amount>,
    /// Why, at most 500 characters.
    pub reason: String,
}

/// Most purposes of one call.
pub const PURPOSES_MAX: usize = 50;
/// Most adjustments of one call, so that its events stay small.
pub const ADJUSTMENTS_MAX: usize = 100;

/// How shares are rounded to the minor unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Each call by itself: largest remainder.
    #[default]
    PerCall,
    /// What each investor has been called inside its commitment in all: largest remainder of the sum to date, less what was called
    /// before, so that many calls do not drift. It makes up for rounding only, and for less than three units of an investor: where
    /// somebody was excused or paid for another, a commitment has changed since, or many calls were rounded by themselves, this one is, too.
    Cumulative,
}

/// What a call says: the part of it that is approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallContent {
    /// What for.
    pub purposes: Vec<Purpose>,
    /// Sum of the purposes, less what is returned.
    pub amount: Amount,
    /// Due date.
    pub due_on: NaiveDate,
    /// Urgency.
    pub priority: Priority,
    /// Lines that are not what their share would be.
    pub adjustments: Vec<LineAdjustment>,
    /// How shares are rounded.
    pub rounding: Rounding,
    /// SHA-256 of all this and the fund.
    pub content_hash: String,
}

/// A change of an issued call that waits for its approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amendment {
    /// Its number: the first that is asked for of a call is 1. The number of one that is cancelled or refused is not given again.
    pub number: i32,
    /// What the call shall say.
    pub content: CallContent,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// The workflow that carries it through.
    pub workflow_id: Uuid,
}

/// How urgent a call is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// As usual.
    #[default]
    Normal,
    /// Before others.
    High,
    /// At once.
    Urgent,
}

/// A request of a fund to its investors for cash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapitalCall {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was drafted.
    pub created_at: DateTime<Utc>,
    /// The fund.
    pub fund_id: Uuid,
    /// Type of the fund; chooses the rules.
    pub fund_type: String,
    /// Currency of the fund.
    pub currency: Currency,
    /// Sum of the purposes.
    pub amount: Amount,
    /// What for.
    pub purposes: Vec<Purpose>,
    /// Due date.
    pub due_on: NaiveDate,
    /// Urgency.
    pub priority: Priority,
    /// Who asked for it.
    pub requested_by: String,
    /// Everybody who has written its content before the issue; none of them may vote on it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// The workflow that carries it through.
    pub workflow_id: Uuid,
    /// Its number in another system; a fund has one call of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// Lines that are not what their share would be.
    #[serde(default)]
    pub adjustments: Vec<LineAdjustment>,
    /// How shares are rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// SHA-256 of what is approved: the fund, and all of the content.
    pub content_hash: String,
    /// When it was submitted; none of a draft.
    #[serde(default)]
    pub submitted_at: Option<DateTime<Utc>>,
    /// Business days from its submission, or its last revision, to its due date, as far as any rule asks for: 63 at most. None of a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_days: Option<u16>,
    /// The last amendment that is in force; 0 as issued.
    #[serde(default)]
    pub amendment: i32,
    /// How many amendments were asked for, those that were cancelled or refused included.
    #[serde(default)]
    pub amendments_asked: i32,
    /// An amendment that waits for its approval.
    #[serde(default)]
    pub amending: Option<Amendment>,
    /// The line of another call whose investor is in default, and for which the investors of this one pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_line_id: Option<Uuid>,
    /// What was decided.
    pub decision: CallDecision,
    /// Why it was cancelled or rescinded.
    #[serde(default)]
    pub decided_because: Option<String>,
    /// The rules by which its content was checked last; once it is issued those by which its lines were last made or changed.
    #[serde(default)]
    pub rules: RulesUsed,
    /// Business date of the issue.
    pub issued_on: Option<NaiveDate>,
    /// Number of lines; 0 before the issue.
    pub line_count: i32,
    /// Cash applied to its lines, less reversals.
    pub paid: Amount,
    /// Derived status.
    pub status: CallStatus,
}

impl CapitalCall {
    /// What it says.
    pub fn content(&self) -> CallContent {
        CallContent {
            purposes: self.purposes.clone(),
            amount: self.amount,
            due_on: self.due_on,
            priority: self.priority,
            adjustments: self.adjustments.clone(),
            rounding: self.rounding,
            content_hash: self.content_hash.clone(),
        }
    }
}

/// The decided part of a call's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallDecision {
    /// Written down, and shown to nobody outside.
    Draft,
    /// Submitted.
    PendingApproval,
    /// The lines exist.
    Issued,
    /// Given up before the issue.
    Cancelled,
    /// Taken back after the issue: what was called is called no more, what was paid is credit.
    Rescinded,
}

/// The derived status of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// Not yet submitted.
    Draft,
    /// Waits for approval or issue.
    PendingApproval,
    /// Issued, nothing paid.
    Issued,
    /// Some is paid.
    PartiallyFunded,
    /// All is paid.
    Funded,
    /// Given up before the issue.
    Cancelled,
    /// Taken back after the issue.
    Rescinded,
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CapitalCallChange {
    /// It was written down.
    Drafted,
    /// It was submitted.
    Submitted,
    /// What it says was changed before the issue; votes on it are void.
    Revised {
        /// Why.
        reason: String,
    },
    /// A change after the issue was submitted.
    AmendmentSubmitted,
    /// A change after the issue was given up.
    AmendmentCancelled {
        /// Why.
        reason: String,
    },
    /// It was changed after the issue: only the differences of its lines moved.
    Amended {
        /// Why.
        reason: String,
    },
    /// It was shared anew when investors joined at a later closing.
    Equalised {
        /// The closing.
        closing_id: Uuid,
    },
    /// Others pay a part of a line whose investor is in default, by a call of its own.
    Covered {
        /// The line.
        line_id: Uuid,
        /// The call to the others.
        call_id: Uuid,
        /// How much.
        amount: Amount,
    },
    /// It was taken back after the issue.
    Rescinded {
        /// Why.
        reason: String,
    },
    /// Its lines were made and the investors are asked.
    Issued,
    /// It was given up before the issue.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// What is paid changed.
    FundingChanged,
}

impl Aggregate for CapitalCall {
    type Change = CapitalCallChange;
    const KIND: &'static str = "capital_call";
    const OWNER: &'static str = "capital-calls";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(change: &CapitalCallChange) -> &'static str {
        match change {
            CapitalCallChange::Drafted => "drafted",
            CapitalCallChange::Submitted => "submitted",
            CapitalCallChange::Revised { .. } => "revised",
            CapitalCallChange::AmendmentSubmitted => "amendment_submitted",
            CapitalCallChange::AmendmentCancelled { .. } => "amendment_cancelled",
            CapitalCallChange::Amended { .. } => "amended",
            CapitalCallChange::Equalised { .. } => "equalised",
            CapitalCallChange::Covered { .. } => "covered",
            CapitalCallChange::Rescinded { .. } => "rescinded",
            CapitalCallChange::Issued => "issued",
            CapitalCallChange::Cancelled { .. } => "cancelled",
            CapitalCallChange::FundingChanged => "funding_changed",
        }
    }
}

/// Submits a capital call.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitCapitalCall {
    /// The fund.
    pub fund_id: Uuid,
    /// What for, 1 to 50.
    pub purposes: Vec<Purpose>,
    /// Due date.
    pub due_on: NaiveDate,
    /// Urgency.
    #[serde(default)]
    pub priority: Priority,
    /// Lines that shall not be what their share would be, at most 100.
    #[serde(default)]
    pub adjustments: Vec<LineAdjustment>,
    /// How shares are rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// Its number in another system, at most 140 characters; a fund has one call of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// Whether it is only written down; it is submitted later.
    #[serde(default)]
    pub draft: bool,
    /// Currency of the amounts; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
}

/// A capital call was accepted and goes on as a workflow; that of a draft starts when it is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapitalCallAccepted {
    /// The workflow to watch.
    pub workflow_id: Uuid,
    /// The capital call.
    pub capital_call_id: Uuid,
}

impl Command for SubmitCapitalCall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.submit-capital-call";
    type Reply = CapitalCallAccepted;
}

/// Submits a draft.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitDraft {
    /// The call.
    pub call_id: Uuid,
    /// The `content_hash` of what was read: it is refused when the call says something else by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_from: Option<String>,
}

impl Command for SubmitDraft {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.submit-draft";
    type Reply = CapitalCallAccepted;
}

/// Changes what a call says; what is not given stays. Before the issue the votes on it are void and it is approved anew; after the
/// issue the change is approved like a call, and then only the differences move. What would change no line of an issued call
/// (`nothing_amended`, also where only its priority is another), could not be placed (`call_exceeds_unfunded`), asks for more without
/// notice (`notice_too_short`), or is a call of which others pay a part (`shortfall_covered`) is refused at once, and again if it is so
/// when it is approved. Default interest runs from the due date that is in force: what was paid of it beyond what a later date leaves is
/// credit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmendCapitalCall {
    /// The call.
    pub call_id: Uuid,
    /// What for, 1 to 50.
    #[serde(default)]
    pub purposes: Option<Vec<Purpose>>,
    /// Due date.
    #[serde(default)]
    pub due_on: Option<NaiveDate>,
    /// Urgency.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Lines that shall not be what their share would be, at most 100.
    #[serde(default)]
    pub adjustments: Option<Vec<LineAdjustment>>,
    /// How shares are rounded.
    #[serde(default)]
    pub rounding: Option<Rounding>,
    /// The `content_hash` of what the change was written from: it is refused when the call says something else by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_from: Option<String>,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for AmendCapitalCall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.amend-capital-call";
    type Reply = CapitalCallAccepted;
}

/// Gives up a call before its issue, or an amendment that waits for approval.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelCapitalCall {
    /// The call.
    pub call_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for CancelCapitalCall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.cancel-capital-call";
    type Reply = CapitalCall;
}

/// Takes an issued call back: its lines are reversed, what they took of the commitments is unfunded again, and what was paid is the
/// investors' credit. Nothing is deleted. What others were asked for in place of one of its investors (`cover-shortfall`) is taken back
/// with it. Refused where what it gave back has been called again since (`call_exceeds_unfunded`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RescindCapitalCall {
    /// The call.
    pub call_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for RescindCapitalCall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.rescind-capital-call";
    type Reply = CapitalCall;
}

/// Has no more called for an allocation that is taken back, and rescinds the calls that were issued for it and nothing else where that is
/// asked for. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAllocation {
    /// The allocation.
    pub allocation_id: Uuid,
    /// The version of the allocation that is taken back.
    pub version: i64,
    /// Why its calls are rescinded; none leaves them as they are.
    pub rescind_because: Option<String>,
}

/// What stays called for an allocation that no more is called for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AllocationReleased {
    /// The allocation.
    pub allocation_id: Uuid,
    /// What stays called for it.
    pub called: Amount,
    /// The calls that were rescinded, at most 20 of them.
    pub rescinded: Vec<Uuid>,
    /// The calls that stay, at most 20 of them, and why: a person decides about them.
    pub kept: Vec<CallKept>,
}

/// A call for an allocation that was not rescinded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CallKept {
    /// The call.
    pub call_id: Uuid,
    /// Why it stays.
    pub because: String,
}

impl Command for ReleaseAllocation {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.release-allocation";
    type Reply = AllocationReleased;
}

/// Issues a pending call, or cancels it; or the same with an amendment. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideCapitalCall {
    /// The call.
    pub call_id: Uuid,
    /// The content that was approved.
    pub content_hash: String,
    /// Why it is cancelled; none issues it.
    pub cancelled_because: Option<String>,
}

impl Command for DecideCapitalCall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.decide-capital-call";
    type Reply = CapitalCall;
}

/// The lines that a call would have; nothing is stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewCapitalCall {
    /// The fund.
    pub fund_id: Uuid,
    /// What for, 1 to 50.
    pub purposes: Vec<Purpose>,
    /// Due date.
    pub due_on: NaiveDate,
    /// Urgency.
    #[serde(default)]
    pub priority: Priority,
    /// Lines that shall not be what their share would be, at most 100.
    #[serde(default)]
    pub adjustments: Vec<LineAdjustment>,
    /// How shares are rounded.
    #[serde(default)]
    pub rounding: Rounding,
}

/// Why a share is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareReason {
    /// The exact share has no fraction of a minor unit, or lost it.
    RoundedDown,
    /// It got one of the units that were left over, for the largest fractions.
    RoundedUp,
    /// It is at the investor's unfunded commitment, or at the cap that was given; or below its exact share because only this investor
    /// could be asked for something else.
    Capped,
    /// It was given.
    Given,
}

/// How an investor's share of some purposes came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShareExplained {
    /// The purposes that were split together, by their places in the call from 0.
    pub purposes: Vec<usize>,
    /// What those who share them share.
    pub total: Amount,
    /// The share before rounding, with six digits more than the currency has, cut off.
    pub exact: Ratio,
    /// The share.
    pub amount: Amount,
    /// Why it is that.
    pub because: ShareReason,
}

/// One line of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinePreview {
    /// The investor.
    pub investor_id: Uuid,
    /// Amount that would be called.
    pub amount: Amount,
    /// What it would do to the unfunded commitment.
    pub impact_on_unfunded: Amount,
    /// The parts for each purpose.
    pub purposes: Vec<LinePurpose>,
    /// The commitment on the due date.
    pub commitment: Amount,
    /// What of it is unfunded before the call.
    pub unfunded_before: Amount,
    /// And after it.
    pub unfunded_after: Amount,
    /// How the amount came about.
    pub shares: Vec<ShareExplained>,
}

/// The answer to a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallPreview {
    /// Currency of the amounts.
    pub currency: Currency,
    /// Sum of the purposes, less what is returned.
    pub amount: Amount,
    /// The earliest due date that the rules allow if it were issued today.
    pub due_on_earliest: NaiveDate,
    /// One line an investor.
    pub lines: Vec<LinePreview>,
}

impl Query for PreviewCapitalCall {
    const SUBJECT: &'static str = "tranche.query.capital-calls.preview";
    type Reply = CallPreview;
}

/// One call with its lines.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCapitalCall {
    /// The call.
    pub call_id: Uuid,
}

/// A call and its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapitalCallView {
    /// The call.
    #[serde(flatten)]
    pub call: CapitalCall,
    /// One line an investor; empty before the issue.
    pub lines: Vec<CallLine>,
}

impl Query for GetCapitalCall {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-capital-call";
    type Reply = CapitalCallView;
}

/// Calls, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCapitalCalls {
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// With this number in another system only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListCapitalCalls {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-capital-calls";
    type Reply = Page<CapitalCall>;
}
