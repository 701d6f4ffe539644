//! Refunds: cash that goes back to an investor, after an approval.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::PinnedInstructions;
use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency};

/// Cash that goes back to an investor: credit of a payment, or its part of a closing's interest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refund {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// The fund.
    pub fund_id: Uuid,
    /// Type of the fund; chooses the rules.
    pub fund_type: String,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount.
    pub amount: Amount,
    /// The payment whose credit it is.
    pub payment_id: Option<Uuid>,
    /// The closing whose interest it is.
    pub closing_id: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requested_by: String,
    /// The workflow that carries it through.
    pub workflow_id: Uuid,
    /// SHA-256 of what is approved.
    pub content_hash: String,
    /// What was decided.
    pub decision: RefundDecision,
    /// Why it was cancelled.
    pub cancelled_because: Option<String>,
    /// How and when it was paid out.
    pub payout: Option<Payout>,
    /// Derived status.
    pub status: RefundStatus,
}

/// How a refund was paid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payout {
    /// Value date.
    pub paid_on: NaiveDate,
    /// Our reference.
    pub reference: String,
    /// Who recorded it.
    pub recorded_by: String,
    /// The investor's bank details that were in use then; none where none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<PinnedInstructions>,
}

/// What was decided about a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundDecision {
    /// It waits for approval.
    PendingApproval,
    /// It may be paid out.
    Approved,
    /// It was denied or withdrawn: what was kept for it is credit again.
    Cancelled,
}

/// The derived status of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// It waits for approval.
    PendingApproval,
    /// It may be paid out.
    Approved,
    /// It was paid out.
    Paid,
    /// It was denied or withdrawn.
    Cancelled,
}

/// What happened to a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RefundChange {
    /// It was asked for; the credit is kept for it.
    Requested,
    /// It may be paid out.
    Approved,
    /// It was denied or withdrawn.
    Cancelled,
    /// It was paid out.
    PaidOut,
}

impl Aggregate for Refund {
    type Change = RefundChange;
    const KIND: &'static str = "refund";
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
    fn change_name(change: &RefundChange) -> &'static str {
        match change {
            RefundChange::Requested => "requested",
            RefundChange::Approved => "approved",
            RefundChange::Cancelled => "cancelled",
            RefundChange::PaidOut => "paid_out",
        }
    }
}

/// Asks for credit of a payment to be refunded. The payment must be cleared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestRefund {
    /// The payment with the credit.
    pub payment_id: Uuid,
    /// How much, at most the credit; all of it if not given.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// Why, at most 500 characters.
    pub reason: String,
}

/// A refund was accepted and goes on as a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundAccepted {
    /// The workflow to watch.
    pub workflow_id: Uuid,
    /// The refund.
    pub refund_id: Uuid,
}

impl Command for RequestRefund {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.request-refund";
    type Reply = RefundAccepted;
}

/// Asks for an investor's part of a closing's interest to be paid out, as far as those who owe it have paid. Cash that goes back before
/// the payout stops it; what goes back later is owed to the fund again by whose it was, and the investor keeps its part.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestInterestPayout {
    /// The closing.
    pub closing_id: Uuid,
    /// The investor who is owed it.
    pub investor_id: Uuid,
}

impl Command for RequestInterestPayout {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.request-interest-payout";
    type Reply = RefundAccepted;
}

/// Has a pending refund be paid out, or cancels it. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRefund {
    /// The refund.
    pub refund_id: Uuid,
    /// The content that was approved.
    pub content_hash: String,
    /// Why it is cancelled; none approves it.
    pub cancelled_because: Option<String>,
}

impl Command for DecideRefund {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.decide-refund";
    type Reply = Refund;
}

/// Withdraws a refund that is not paid out: what was kept for it is credit again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRefund {
    /// The refund.
    pub refund_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for CancelRefund {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.cancel-refund";
    type Reply = Refund;
}

/// Records that an approved refund was paid out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayout {
    /// The refund.
    pub refund_id: Uuid,
    /// Value date.
    pub paid_on: NaiveDate,
    /// Our reference, at most 140 characters.
    pub reference: String,
}

impl Command for RecordPayout {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-payout";
    type Reply = Refund;
}

/// One refund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRefund {
    /// The refund.
    pub refund_id: Uuid,
}

impl Query for GetRefund {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-refund";
    type Reply = Refund;
}

/// Refunds, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRefunds {
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

impl Query for ListRefunds {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-refunds";
    type Reply = Page<Refund>;
}
