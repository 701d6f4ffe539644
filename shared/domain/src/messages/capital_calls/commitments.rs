//! Investors, and what they have promised to funds.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Remedy, RemedyKind};
use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency};

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
    /// What it is, for example `pension_fund`; rules may limit what those of a type promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub investor_type: Option<String>,
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
    /// Amount promised: the sum of its entries, also of those that take effect later.
    pub amount: Amount,
    /// From when the first of it counts.
    pub effective_on: NaiveDate,
    /// Sum of issued lines, inside and outside the commitment.
    pub called: Amount,
    /// `amount` less `drawn_transferred`, plus the lines' impact on unfunded; never below zero.
    pub unfunded: Amount,
    /// What transferred interests have brought with them of which the lines of another investor had drawn it; below zero what they
    /// have taken away.
    #[serde(default)]
    pub drawn_transferred: Amount,
    /// From when the investor is released from what was unfunded.
    #[serde(default)]
    pub released_on: Option<NaiveDate>,
    /// From when the investor is in default with a line of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaulted_on: Option<NaiveDate>,
    /// What was done about it last, if it changes what the commitment is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<RemedyKind>,
    /// The allocations that the investor is excused from: others pay its share of later calls for them.
    #[serde(default)]
    pub excused_from: Vec<Uuid>,
    /// Derived status.
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
    /// The investor was released from what was unfunded.
    Released,
    /// All of it went to other investors.
    Transferred,
    /// The investor is in default.
    Defaulted,
    /// It was forfeited after a default.
    Forfeited,
    /// It was sold after a default.
    Sold,
}

/// Why a commitment is another amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// The first promise.
    Initial,
    /// More is promised.
    Increase,
    /// Less is promised.
    Reduction,
    /// It came from another investor.
    TransferIn,
    /// It went to another investor.
    TransferOut,
    /// What was unfunded is promised no more.
    Release,
}

/// One change of a commitment's amount. Entries are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitmentEntry {
    /// Id.
    pub id: Uuid,
    /// The commitment.
    pub commitment_id: Uuid,
    /// Version of the commitment with the entry.
    pub version: i64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Why the amount changed.
    pub kind: EntryKind,
    /// By how much the amount promised changed; below zero for what is promised no more.
    pub amount: Amount,
    /// By how much what is unfunded changed: the same, but for a transfer of what was drawn already.
    pub impact_on_unfunded: Amount,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// The other side of a transfer.
    #[serde(default)]
    pub counterpart_id: Option<Uuid>,
    /// The closing that it belongs to: then it counts for the calls before it too.
    #[serde(default)]
    pub closing_id: Option<Uuid>,
    /// Why, in a person's words.
    pub reason: String,
    /// Who recorded it.
    pub recorded_by: String,
}

/// What happened to a commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommitmentChange {
    /// The initial commitment was recorded.
    Recorded,
    /// A call was issued on it, amended or taken back.
    Called,
    /// The amount promised changed.
    Changed {
        /// By how much, why and from when.
        entry: CommitmentEntry,
    },
    /// The investor is in default with a line.
    Defaulted {
        /// The line.
        line_id: Uuid,
    },
    /// Something was done about a default.
    Remedied {
        /// What, and why.
        remedy: Remedy,
    },
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
            CommitmentChange::Changed { .. } => "changed",
            CommitmentChange::Defaulted { .. } => "defaulted",
            CommitmentChange::Remedied { .. } => "remedied",
            CommitmentChange::Excused { .. } => "excused",
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
    /// What it is, for example `pension_fund`, at most 60 characters; rules may limit what those of a type promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub investor_type: Option<String>,
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

/// How a commitment is changed by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// More is promised.
    Increase,
    /// Less is promised.
    Reduction,
    /// All that is unfunded is promised no more.
    Release,
}

/// Changes what an investor has promised. Calls that are due earlier, and those issued before, stay as they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeCommitment {
    /// The commitment.
    pub commitment_id: Uuid,
    /// How.
    pub kind: ChangeKind,
    /// By how much, above zero, and for a reduction at most what is unfunded; none for a release.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for ChangeCommitment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.change-commitment";
    type Reply = Commitment;
}

/// Transfers a commitment, or a part of it, to another investor: both sides in one transaction. Lines that were issued stay with the
/// investor whom they were issued to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferCommitment {
    /// The commitment of the investor who gives.
    pub commitment_id: Uuid,
    /// The investor who takes; it may have a commitment to the fund.
    pub to_investor_id: Uuid,
    /// Part of the amount promised.
    pub amount: Amount,
    /// How much of it lines have drawn already; the rest of it is unfunded. Zero if not given.
    #[serde(default)]
    pub drawn: Option<Amount>,
    /// Currency of the amounts; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// Why, at most 500 characters.
    pub reason: String,
}

/// Both sides of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitmentTransferred {
    /// The commitment of the investor who gave.
    pub from: Commitment,
    /// That of the one who took.
    pub to: Commitment,
}

impl Command for TransferCommitment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.transfer-commitment";
    type Reply = CommitmentTransferred;
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

/// Most investors that are looked up at once.
pub const INVESTORS_MAX: usize = 500;

/// Investors by their ids; those that are not known, or that the caller may not see, are left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindInvestors {
    /// The ids, 1 to 500.
    pub investor_ids: Vec<Uuid>,
}

/// The investors that were found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvestorsFound {
    /// By name.
    pub items: Vec<Investor>,
}

impl Query for FindInvestors {
    const SUBJECT: &'static str = "tranche.query.capital-calls.find-investors";
    type Reply = InvestorsFound;
}

/// Commitments to a fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCommitments {
    /// The fund.
    pub fund_id: Uuid,
    /// As they stood at the end of this date; none shows all that is recorded, also what takes effect later.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
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

/// One commitment, with its entries.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCommitment {
    /// The commitment.
    pub commitment_id: Uuid,
    /// As it stood at the end of this date; none shows all that is recorded, also what takes effect later.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

/// A commitment and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitmentView {
    /// The commitment; as of a date, its amount, `called`, `unfunded`, `drawn_transferred` and status are those of that date.
    #[serde(flatten)]
    pub commitment: Commitment,
    /// Cash applied to its lines by value date, less what was taken back by the date from which it was gone: what the fund had then.
    pub paid_in: Amount,
    /// Its entries, as they were recorded; as of a date, those that count by then.
    pub entries: Vec<CommitmentEntry>,
}

impl Query for GetCommitment {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-commitment";
    type Reply = CommitmentView;
}
