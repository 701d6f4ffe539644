//! What capital-calls answers and emits: investors, commitments, calls, lines and payments.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency};
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
    /// A call was issued on it.
    Called,
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
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Whether it reduces the unfunded commitments.
    pub inside_commitment: bool,
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
    /// The workflow that carries it through.
    pub workflow_id: Uuid,
    /// SHA-256 of what is approved: fund, purposes, due date.
    pub content_hash: String,
    /// What was decided.
    pub decision: CallDecision,
    /// Business date of the issue.
    pub issued_on: Option<NaiveDate>,
    /// Number of lines; 0 before the issue.
    pub line_count: i32,
    /// Cash applied to its lines, less reversals.
    pub paid: Amount,
    /// Derived status.
    pub status: CallStatus,
}

/// The decided part of a call's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallDecision {
    /// Drafted and submitted.
    PendingApproval,
    /// The lines exist.
    Issued,
    /// Given up before the issue.
    Cancelled,
}

/// The derived status of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
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
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CapitalCallChange {
    /// It was drafted and submitted.
    Submitted,
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
            CapitalCallChange::Submitted => "submitted",
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
    /// Its part of the line's amount.
    pub amount: Amount,
    /// Its part of what is paid, pro rata to the amounts.
    pub paid: Amount,
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
    /// What it does to the unfunded commitment: minus the part inside the commitment.
    pub impact_on_unfunded: Amount,
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
    /// Version: 1 recorded, 2 reversed.
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
    /// Currency of the amounts; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
}

/// A capital call was accepted and goes on as a workflow.
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

/// Issues a pending call, or cancels it. Sent by the workflow.
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
}

/// The answer to a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallPreview {
    /// Currency of the amounts.
    pub currency: Currency,
    /// Sum of the purposes.
    pub amount: Amount,
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
