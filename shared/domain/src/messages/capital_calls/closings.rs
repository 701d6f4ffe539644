//! Later closings: investors who join a fund after it has called capital, and what they owe for that.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Query};
use crate::money::{Amount, Currency, Ratio};

/// A later closing of a fund: the calls that were issued before are shared anew, as if all had joined at the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closing {
    /// Id.
    pub id: Uuid,
    /// Version: always 1.
    pub version: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// The fund.
    pub fund_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Date of the closing: from then on its commitments count, and until then interest runs.
    pub closed_on: NaiveDate,
    /// When what is owed for earlier calls is due.
    pub due_on: NaiveDate,
    /// Interest for late joining, percent a year, simple, actual/365.
    pub interest_percent: Ratio,
    /// Sum of the commitments that it added.
    pub committed: Amount,
    /// What those who joined owe for earlier calls: the others owe so much less.
    pub equalised: Amount,
    /// The interest that they owe on it, outside their commitments; it belongs to the others.
    pub interest: Amount,
    /// The call whose lines ask for the interest; none without interest.
    pub interest_call_id: Option<Uuid>,
    /// What it did to each earlier call.
    pub calls: Vec<CallEqualised>,
    /// Who recorded it.
    pub recorded_by: String,
    /// Always `held`.
    pub status: String,
}

/// What a closing did to one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallEqualised {
    /// The call.
    pub call_id: Uuid,
    /// From when interest runs: the due date of the call.
    pub from: NaiveDate,
    /// Days of interest.
    pub days: i64,
    /// What those owe in addition for it whose share rises: who joined, and whom a fixed amount or a netted return leaves more.
    pub equalised: Amount,
    /// The interest on that, before who owes some for one call and is owed some for another does with the difference.
    pub interest: Amount,
}

/// What happened to a closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ClosingChange {
    /// It was held.
    Held,
}

impl Aggregate for Closing {
    type Change = ClosingChange;
    const KIND: &'static str = "closing";
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
    fn change_name(_: &ClosingChange) -> &'static str {
        "held"
    }
}

/// What one investor promises at a closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosingCommitment {
    /// The investor; one who has a commitment to the fund promises so much more.
    pub investor_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
}

/// Most investors of one closing.
pub const CLOSING_COMMITMENTS_MAX: usize = 1_000;
/// Most issued calls that a closing shares anew; with them its event stays small.
pub const CLOSING_CALLS_MAX: usize = 200;

/// Holds a later closing: records its commitments, shares every issued call anew over all commitments as if these had been there from
/// the first, and asks those who joined for their parts with interest. What the others have paid above their new parts is their credit.
/// Refused while others pay for an investor of an issued call who has not (`shortfall_covered`), and where an issued call does not fit
/// all those commitments (`call_not_shareable`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct HoldClosing {
    /// The fund.
    pub fund_id: Uuid,
    /// What is promised, 1 to 1,000 investors.
    pub commitments: Vec<ClosingCommitment>,
    /// Date of the closing.
    pub closed_on: NaiveDate,
    /// When what is owed for earlier calls is due, not before `closed_on`.
    pub due_on: NaiveDate,
    /// Interest, percent a year, from the due date of each earlier call to `closed_on`; 0 to 100, at most four decimals.
    pub interest_percent: Ratio,
    /// Currency of the amounts; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
}

impl Command for HoldClosing {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.hold-closing";
    type Reply = ClosingView;
}

/// What a closing would do; nothing is stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PreviewClosing(pub HoldClosing);

impl Query for PreviewClosing {
    const SUBJECT: &'static str = "tranche.query.capital-calls.preview-closing";
    type Reply = ClosingView;
}

/// What a closing means for one investor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClosingShare {
    /// The investor.
    pub investor_id: Uuid,
    /// By how much its lines of earlier calls changed: above zero what it owes, below zero what it owes less.
    pub equalised: Amount,
    /// The interest: above zero what it owes, below zero what it is owed, to be paid out when those who owe it have paid.
    pub interest: Amount,
}

/// A closing, and what it means for each investor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClosingView {
    /// The closing.
    #[serde(flatten)]
    pub closing: Closing,
    /// One share an investor that has any.
    pub shares: Vec<ClosingShare>,
}

/// One closing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetClosing {
    /// The closing.
    pub closing_id: Uuid,
}

impl Query for GetClosing {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-closing";
    type Reply = ClosingView;
}
