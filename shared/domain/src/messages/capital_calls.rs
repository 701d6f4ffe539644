//! What capital-calls answers and emits: investors, commitments, calls, lines and payments.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency, Ratio};
use crate::rejection::Problem;

/// A limited partner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Investor {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Name.
    pub name: String,
    /// Where notices are mailed to.
    pub email: Option<String>,
    /// Always `active` so far.
    pub status: String,
}

/// What happened to an investor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InvestorChange {
    /// The investor was registered.
    Registered,
}

impl Aggregate for Investor {
    type Change = InvestorChange;
    const KIND: &'static str = "investor";
    const OWNER: &'static str = "capital-calls";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(_: &InvestorChange) -> &'static str {
        "registered"
    }
}

/// What an investor has promised to a fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Commitment {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount promised.
    pub amount: Amount,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// Sum of issued lines, inside and outside the commitment.
    pub called: Amount,
    /// `amount` plus the lines' impact on unfunded; never below zero.
    pub unfunded: Amount,
    /// The allocations that the investor is excused from: others pay its share of later calls for them.
    #[serde(default)]
    pub excused_from: Vec<Uuid>,
    /// `active`, or `fully_called` when nothing is unfunded.
    pub status: CommitmentStatus,
}

/// The derived status of a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommitmentStatus {
    /// Something can still be called.
    Active,
    /// Nothing is unfunded.
    FullyCalled,
}

/// What happened to a commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommitmentChange {
    /// The initial commitment was recorded.
    Recorded,
    /// A call was issued on it, amended or taken back.
    Called,
    /// The investor was excused from an allocation.
    Excused {
        /// The allocation.
        allocation_id: Uuid,
        /// Why.
        reason: String,
    },
}

impl Aggregate for Commitment {
    type Change = CommitmentChange;
    const KIND: &'static str = "commitment";
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
    fn change_name(change: &CommitmentChange) -> &'static str {
        match change {
            CommitmentChange::Recorded => "recorded",
            CommitmentChange::Called => "called",
            CommitmentChange::Excused { .. } => "excused",
        }
    }
}

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
    /// before, so that many calls do not drift.
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
    /// Its number: the first amendment of a call is 1.
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
    /// The last amendment that is in force; 0 as issued.
    #[serde(default)]
    pub amendment: i32,
    /// How many amendments were asked for.
    #[serde(default)]
    pub amendments_asked: i32,
    /// An amendment that waits for its approval.
    #[serde(default)]
    pub amending: Option<Amendment>,
    /// What was decided.
    pub decision: CallDecision,
    /// Why it was cancelled or rescinded.
    #[serde(default)]
    pub decided_because: Option<String>,
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
            CapitalCallChange::Rescinded { .. } => "rescinded",
            CapitalCallChange::Issued => "issued",
            CapitalCallChange::Cancelled { .. } => "cancelled",
            CapitalCallChange::FundingChanged => "funding_changed",
        }
    }
}

/// The part of a line that is for one purpose of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinePurpose {
    /// What for.
    pub kind: PurposeKind,
    /// The allocation of an investment.
    pub allocation_id: Option<Uuid>,
    /// Its part of the line's amount; below zero for a return that is netted.
    pub amount: Amount,
    /// Its part of what is paid and netted, pro rata to the amounts.
    pub paid: Amount,
}

/// What became of a line other than by being paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Nothing.
    #[default]
    None,
    /// The investor does not take part.
    Excused,
    /// The call was taken back.
    Rescinded,
}

/// What one investor owes for one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLine {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// The call.
    pub call_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Type of the fund; chooses the rules.
    pub fund_type: String,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount called.
    pub amount: Amount,
    /// What it does to the unfunded commitment: minus the part inside the commitment, plus what is returned and may be called again.
    pub impact_on_unfunded: Amount,
    /// The amendment of the call that last changed it; 0 as issued.
    #[serde(default)]
    pub amendment: i32,
    /// What became of it other than by being paid.
    #[serde(default)]
    pub disposition: Disposition,
    /// Cash applied, less reversals.
    pub paid: Amount,
    /// Cash received above what was outstanding.
    pub unapplied: Amount,
    /// `amount - paid`.
    pub outstanding: Amount,
    /// Due date.
    pub due_on: NaiveDate,
    /// Business date of the issue.
    pub issued_on: NaiveDate,
    /// Days after the due date before the line is overdue.
    pub grace_days: i32,
    /// IANA time zone of the fund's business dates.
    pub timezone: String,
    /// The parts for each purpose.
    pub purposes: Vec<LinePurpose>,
    /// Settlement, from applied cash.
    pub status: LineStatus,
    /// Time axis, on the business date of the answer or event.
    pub timing: LineTiming,
}

/// Settlement of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineStatus {
    /// Nothing is paid.
    Open,
    /// Some is paid.
    PartiallyPaid,
    /// All is paid.
    Paid,
    /// More than the amount was received.
    Overpaid,
}

/// Where a line stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineTiming {
    /// The due date is ahead.
    NotDue,
    /// Due today.
    Due,
    /// Past due, within the days of grace.
    Grace,
    /// Past due and grace.
    Overdue,
    /// Nothing is outstanding.
    Settled,
}

/// What happened to a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CallLineChange {
    /// The investor was asked.
    Issued,
    /// A payment was applied.
    PaymentApplied {
        /// The payment.
        payment_id: Uuid,
        /// Part of it that reduced what is outstanding.
        applied: Amount,
        /// Part of it that is credit of the investor.
        unapplied: Amount,
    },
    /// A payment was taken back.
    PaymentReversed {
        /// The payment.
        payment_id: Uuid,
        /// What is outstanding again.
        applied: Amount,
        /// What is no credit any more.
        unapplied: Amount,
        /// Credit that other payments had left on the line, and that pays for it now.
        #[serde(default)]
        credit_used: Amount,
    },
    /// The call was amended.
    Amended {
        /// By how much the amount changed.
        amount: Amount,
        /// By how much the impact on the unfunded commitment changed.
        impact_on_unfunded: Amount,
        /// What had been paid above the new amount: credit of the investor.
        credited: Amount,
    },
    /// The call was taken back.
    Rescinded {
        /// What is called no more.
        amount: Amount,
        /// What is unfunded again.
        impact_on_unfunded: Amount,
        /// What had been paid: credit of the investor.
        credited: Amount,
    },
}

impl Aggregate for CallLine {
    type Change = CallLineChange;
    const KIND: &'static str = "call_line";
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
    fn change_name(change: &CallLineChange) -> &'static str {
        match change {
            CallLineChange::Issued => "issued",
            CallLineChange::PaymentApplied { .. } => "payment_applied",
            CallLineChange::PaymentReversed { .. } => "payment_reversed",
            CallLineChange::Amended { .. } => "amended",
            CallLineChange::Rescinded { .. } => "rescinded",
        }
    }
}

/// How cash came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the field's own")]
pub enum PaymentMethod {
    Wire,
    Ach,
    Sepa,
    Check,
    InternalTransfer,
}

/// Cash received for a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// Id.
    pub id: Uuid,
    /// Version: 1 as recorded.
    pub version: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// The line.
    pub line_id: Uuid,
    /// The call.
    pub call_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount received.
    pub amount: Amount,
    /// Part that reduced what was outstanding.
    pub applied: Amount,
    /// Part above it: credit of the investor, to be refunded or used for the next call.
    pub unapplied: Amount,
    /// How it came.
    pub method: PaymentMethod,
    /// The payer's reference.
    pub reference: String,
    /// Value date.
    pub received_on: NaiveDate,
    /// Who recorded it.
    pub recorded_by: String,
    /// The reversal, if there was one.
    pub reversal: Option<Reversal>,
    /// Derived status.
    pub status: PaymentStatus,
}

/// Why and from when a payment does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reversal {
    /// Why.
    pub reason: String,
    /// Value date of the reversal.
    pub effective_on: NaiveDate,
    /// Who recorded it.
    pub reversed_by: String,
}

/// The derived status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// All of it is applied.
    Applied,
    /// Some of it is credit.
    Overpaid,
    /// It does not count.
    Reversed,
}

/// What happened to a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PaymentChange {
    /// It was recorded and applied.
    Recorded,
    /// It was taken back.
    Reversed,
    /// Its line was changed: another part of it is applied now.
    Reapplied,
}

impl Aggregate for Payment {
    type Change = PaymentChange;
    const KIND: &'static str = "payment";
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
    fn change_name(change: &PaymentChange) -> &'static str {
        match change {
            PaymentChange::Recorded => "recorded",
            PaymentChange::Reversed => "reversed",
            PaymentChange::Reapplied => "reapplied",
        }
    }
}

/// Registers an investor.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterInvestor {
    /// Name, at most 200 characters.
    pub name: String,
    /// Where notices are mailed to.
    #[serde(default)]
    pub email: Option<String>,
}

impl Command for RegisterInvestor {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.register-investor";
    type Reply = Investor;
}

/// Records an investor's commitment to a fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordCommitment {
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// From when it counts.
    pub effective_on: NaiveDate,
}

impl Command for RecordCommitment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-commitment";
    type Reply = Commitment;
}

/// Most allocations that an investor is excused from in one fund, so that its events stay small.
pub const EXCUSES_MAX: usize = 200;

/// Excuses an investor from an allocation: the others pay its share of later calls for it, within what they have unfunded. A call that
/// is issued already is amended to make that so.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExcuseInvestor {
    /// The investor's commitment to the fund.
    pub commitment_id: Uuid,
    /// The allocation.
    pub allocation_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for ExcuseInvestor {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.excuse-investor";
    type Reply = Commitment;
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
}

impl Command for SubmitDraft {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.submit-draft";
    type Reply = CapitalCallAccepted;
}

/// Changes what a call says; what is not given stays. Before the issue the votes on it are void and it is approved anew; after the
/// issue the change is approved like a call, and then only the differences move.
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
/// investors' credit. Nothing is deleted.
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

/// Records cash received for a line. What is above the outstanding amount becomes unapplied credit; but
/// a payment with the line, amount, method, reference and date of an earlier one that finds too little
/// outstanding is taken for the same cash entered twice, and refused as `duplicate_payment`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayment {
    /// The line.
    pub line_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// How it came.
    pub method: PaymentMethod,
    /// The payer's reference, at most 140 characters.
    pub reference: String,
    /// Value date.
    pub received_on: NaiveDate,
}

impl Command for RecordPayment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-payment";
    type Reply = Payment;
}

/// Most payments of one [`RecordPayments`]: with them the request and the answer stay below the broker's
/// largest message.
pub const PAYMENTS_MAX: usize = 10_000;

/// Records cash for several lines. Each payment is accepted or refused by itself, as a [`RecordPayment`] would be,
/// one on top of the other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayments {
    /// The payments, 1 to 10,000.
    pub payments: Vec<RecordPayment>,
}

/// What became of several payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentsRecorded {
    /// Payments accepted.
    pub accepted: usize,
    /// Payments refused.
    pub refused: usize,
    /// One outcome for each payment, in the order of the request.
    pub outcomes: Vec<PaymentOutcome>,
}

/// What became of one of several payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PaymentOutcome {
    /// It is recorded.
    Accepted {
        /// The payment.
        payment_id: Uuid,
        /// Part that reduced what was outstanding.
        applied: Amount,
        /// Part above it.
        unapplied: Amount,
    },
    /// It is not.
    Refused {
        /// Why, and what to do about it.
        problem: Problem,
    },
}

impl Command for RecordPayments {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-payments";
    type Reply = PaymentsRecorded;
}

/// Takes a payment back, once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReversePayment {
    /// The payment.
    pub payment_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
    /// Value date of the reversal.
    pub effective_on: NaiveDate,
}

impl Command for ReversePayment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.reverse-payment";
    type Reply = Payment;
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
    /// It is at the investor's unfunded commitment, or at the cap that was given.
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

/// Investors by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInvestors {
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListInvestors {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-investors";
    type Reply = Page<Investor>;
}

/// Commitments to a fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCommitments {
    /// The fund.
    pub fund_id: Uuid,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListCommitments {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-commitments";
    type Reply = Page<Commitment>;
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

/// One line, with how it changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCallLine {
    /// The line.
    pub line_id: Uuid,
}

/// How a line changed after its issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineEntry {
    /// Id.
    pub id: Uuid,
    /// The line.
    pub line_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Version of the line with the change.
    pub version: i64,
    /// By how much what is called changed.
    pub amount: Amount,
    /// By how much the impact on the unfunded commitment changed.
    pub impact_on_unfunded: Amount,
    /// By how much what is applied changed: below zero it became credit, above zero credit was used.
    pub paid: Amount,
    /// Why.
    pub reason: String,
    /// Who had it changed.
    pub recorded_by: String,
}

/// A line and how it changed; without the entries it is what was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLineView {
    /// The line.
    #[serde(flatten)]
    pub line: CallLine,
    /// The changes, in their order.
    pub entries: Vec<LineEntry>,
}

impl Query for GetCallLine {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-call-line";
    type Reply = CallLineView;
}

/// Call lines, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCallLines {
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// Of this call only.
    #[serde(default)]
    pub call_id: Option<Uuid>,
    /// Of this investor only.
    #[serde(default)]
    pub investor_id: Option<Uuid>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListCallLines {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-call-lines";
    type Reply = Page<CallLine>;
}

/// One payment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPayment {
    /// The payment.
    pub payment_id: Uuid,
}

impl Query for GetPayment {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-payment";
    type Reply = Payment;
}

/// Payments, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListPayments {
    /// For this line only.
    #[serde(default)]
    pub line_id: Option<Uuid>,
    /// For this call only.
    #[serde(default)]
    pub call_id: Option<Uuid>,
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

impl Query for ListPayments {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-payments";
    type Reply = Page<Payment>;
}
