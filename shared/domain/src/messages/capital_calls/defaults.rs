//! Investors who do not pay: notice, default, remedies, and others who pay for them.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CallLine, CapitalCall, Commitment};
use crate::message::{Command, Page, Query};
use crate::money::Amount;

/// Tells an investor that it has failed to pay a line that is past due and grace; from then on the time runs in which it can be cured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeFailure {
    /// The line.
    pub line_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for NoticeFailure {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.notice-failure";
    type Reply = CallLine;
}

/// Declares an investor to be in default with a line, after the time for a cure and while something is outstanding. Never done by itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclareDefault {
    /// The line.
    pub line_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for DeclareDefault {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.declare-default";
    type Reply = CallLine;
}

/// What is done about a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemedyKind {
    /// The investor loses its interest in the fund, or a part of it.
    Forfeit,
    /// The interest is sold; the transfer is recorded by itself.
    Sale,
    /// What the fund owes the investor pays the line.
    SetOff,
    /// The default is forgiven.
    Reinstate,
}

/// What was done about a default: a fact. Only a set-off moves money: it pays the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// Id.
    pub id: Uuid,
    /// The line in default.
    pub line_id: Uuid,
    /// The commitment.
    pub commitment_id: Uuid,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// What was done.
    pub kind: RemedyKind,
    /// The amount concerned: what is forfeited, the price of the sale, what is set off; none of a reinstatement.
    pub amount: Option<Amount>,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// Why, in a person's words.
    pub reason: String,
    /// Who recorded it.
    pub recorded_by: String,
    /// The payment of a set-off.
    pub payment_id: Option<Uuid>,
}

/// Records what was done about a default.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRemedy {
    /// The line in default.
    pub line_id: Uuid,
    /// What was done.
    pub kind: RemedyKind,
    /// The amount concerned; none of a reinstatement.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// Why, at most 500 characters.
    pub reason: String,
}

/// A remedy, and the commitment after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemedyRecorded {
    /// The remedy.
    pub remedy: Remedy,
    /// The commitment.
    pub commitment: Commitment,
}

impl Command for RecordRemedy {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-remedy";
    type Reply = RemedyRecorded;
}

/// Remedies of a line, as they were recorded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRemedies {
    /// The line.
    pub line_id: Uuid,
}

impl Query for ListRemedies {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-remedies";
    type Reply = Page<Remedy>;
}

/// Has the other investors of a call pay what one in default has not: pro rata to their commitments, within what they have unfunded and
/// the cap of the rules, by a call of its own. What cannot be placed stays with the one in default.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoverShortfall {
    /// The line in default.
    pub line_id: Uuid,
    /// When the others owe it.
    pub due_on: NaiveDate,
    /// Why, at most 500 characters.
    pub reason: String,
}

/// A shortfall that others pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortfallCovered {
    /// The line in default, with what is left of it.
    pub line: CallLine,
    /// The call to the others.
    pub call: CapitalCall,
    /// What they pay.
    pub covered: Amount,
}

impl Command for CoverShortfall {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.cover-shortfall";
    type Reply = ShortfallCovered;
}
