//! A capital call notice as data, in the field groups of the ILPA way. It is ILPA-style: nobody has certified it.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PinnedInstructions, PurposeKind};
use crate::message::Query;
use crate::money::{Amount, Currency, Ratio};

/// The notice of one line, as it stands now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetNotice {
    /// The line.
    pub line_id: Uuid,
}

impl Query for GetNotice {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-notice";
    type Reply = CallNotice;
}

/// A capital call notice, ILPA-style.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallNotice {
    /// What it is: `ILPA-style capital call notice`.
    pub format: String,
    /// The line.
    pub line_id: Uuid,
    /// Version of the line.
    pub line_version: i64,
    /// The call.
    pub call_id: Uuid,
    /// The amendment of the call that it tells of; 0 as issued. It supersedes the notices of earlier ones.
    pub amendment: i32,
    /// The fund.
    pub fund_id: Uuid,
    /// Name of the fund.
    pub fund_name: String,
    /// The investor.
    pub investor_id: Uuid,
    /// Name of the investor.
    pub investor_name: String,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Date of the issue.
    pub issued_on: NaiveDate,
    /// Due date.
    pub due_on: NaiveDate,
    /// What the payer gives as reference of the wire (ISO 11649).
    pub wire_reference: String,
    /// Where the wire goes: the fund's bank details that were in use when the line was issued or amended, masked, with the hash that proves them.
    /// None where none are kept.
    pub instructions: Option<PinnedInstructions>,
    /// Whether the fund has other bank details in use by now: ask before you pay.
    pub instructions_superseded: bool,
    /// Amount due.
    pub amount: Amount,
    /// The fund in all.
    pub fund_totals: NoticeTotals,
    /// The investor in the fund.
    pub investor_totals: NoticeTotals,
    /// What is called, by purpose.
    pub transactions: Vec<NoticeTransaction>,
    /// How each fee came about.
    pub fees: Vec<FeeCalculation>,
}

/// Totals before and after a notice. Earlier calls are those that were issued before, as they stand now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeTotals {
    /// What is promised.
    pub commitment: Amount,
    /// Called by earlier calls.
    pub called_before: Amount,
    /// Unfunded before.
    pub unfunded_before: Amount,
    /// Called by this one.
    pub called: Amount,
    /// What that does to what is unfunded.
    pub impact_on_unfunded: Amount,
    /// Called with this one.
    pub called_after: Amount,
    /// Unfunded after.
    pub unfunded_after: Amount,
}

/// One purpose of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeTransaction {
    /// What for.
    pub kind: PurposeKind,
    /// The allocation of an investment.
    pub allocation_id: Option<Uuid>,
    /// Amount; below zero for a return that is netted.
    pub amount: Amount,
    /// Whether it is inside the commitment.
    pub inside_commitment: bool,
    /// What it does to what is unfunded.
    pub impact_on_unfunded: Amount,
}

/// How an investor's part of a fee came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeeCalculation {
    /// Which fee.
    pub kind: PurposeKind,
    /// The fee of the fund.
    pub fund_amount: Amount,
    /// The investor's part of all commitments, percent.
    pub commitment_percent: Option<Ratio>,
    /// The investor's part of the fee, with the rounding of the call.
    pub amount: Amount,
    /// Whether it is inside the commitment.
    pub inside_commitment: bool,
}
