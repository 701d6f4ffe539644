//! What allocation-status answers and emits: funds, allocations, and the copy of upstream's deals.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Outcomes, Page, Query, Several};
use crate::messages::deals::Deal;
use crate::money::{Amount, Currency, Ratio};
use crate::rejection::Problem;
use crate::rules::{Concentration, RulesUsed, WhenWithdrawn};

/// A fund and how much of it is allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fund {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Name, unique.
    pub name: String,
    /// Type, for example `buyout`; rules may be set for a type.
    pub fund_type: String,
    /// Currency of all amounts of the fund.
    pub currency: Currency,
    /// Vintage year.
    pub vintage_year: i32,
    /// Size: the capacity for allocations.
    pub size: Amount,
    /// Calendar of bank holidays.
    pub calendar: String,
    /// IANA time zone of the fund's business dates.
    pub timezone: String,
    /// Sum of pending and active allocations; never above `size`.
    pub allocated: Amount,
    /// Derived status.
    pub status: FundStatus,
}

/// A fund is open until its capacity is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FundStatus {
    /// Something is left to allocate.
    Open,
    /// All of its size is allocated.
    FullyAllocated,
}

/// What happened to a fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FundChange {
    /// The fund was registered.
    Registered,
    /// Capacity was taken by, or given back from, an allocation.
    CapacityChanged,
}

impl Aggregate for Fund {
    type Change = FundChange;
    const KIND: &'static str = "fund";
    const OWNER: &'static str = "allocation-status";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.id)
    }
    fn change_name(change: &FundChange) -> &'static str {
        match change {
            FundChange::Registered => "registered",
            FundChange::CapacityChanged => "capacity_changed",
        }
    }
}

/// How much a fund puts into a deal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was proposed.
    pub created_at: DateTime<Utc>,
    /// The deal.
    pub deal_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Type of the fund when it was proposed; chooses the rules.
    pub fund_type: String,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount allocated.
    pub amount: Amount,
    /// Security, for example `equity`.
    pub security_type: String,
    /// What it says of itself, of the shape that the rules have for its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
    /// Who proposed it.
    pub requested_by: String,
    /// The workflow that carries it through.
    pub workflow_id: Uuid,
    /// The rules in force when it was proposed: its limits were checked by them.
    #[serde(default)]
    pub rules: RulesUsed,
    /// What share of its fund it took when it was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concentration: Option<Concentration>,
    /// That it is to be taken back: its deal will not happen, or somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// What was decided.
    pub decision: AllocationDecision,
    /// Called from investors for it: its share of issued calls.
    pub called: Amount,
    /// Paid by investors for it: its share of applied payments.
    pub paid: Amount,
    /// Derived from called and paid.
    pub funding_status: FundingStatus,
    /// The decision, or the funding status once active.
    pub status: String,
}

/// That an allocation is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Withdrawal {
    /// What becomes of it. With `alert` nothing happens until a person decides.
    pub then: WhenWithdrawn,
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// Who asked: a person, or `deal-system`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The workflow that takes it back; of `alert` there is none.
    pub workflow_id: Uuid,
}

/// The decided part of an allocation's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllocationDecision {
    /// Proposed; it holds the fund's capacity until it is decided.
    PendingApproval,
    /// In force.
    Active,
    /// Not approved; the capacity is given back.
    Denied,
    /// Taken back before anything was called for it, or after all of that was rescinded; the capacity is given back.
    Cancelled,
}

impl AllocationDecision {
    /// Whether it takes capacity of its fund.
    pub const fn holds_capacity(self) -> bool {
        matches!(self, AllocationDecision::PendingApproval | AllocationDecision::Active)
    }
}

/// The derived part of an allocation's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FundingStatus {
    /// Nothing is called.
    Committed,
    /// Called, nothing paid.
    Unfunded,
    /// Some of what is called is paid.
    PartiallyPaid,
    /// All that is called is paid.
    Funded,
}

/// What happened to an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AllocationChange {
    /// It was proposed and passed the rules.
    Proposed,
    /// It is in force.
    Activated,
    /// It was not approved.
    Denied {
        /// Why.
        reason: String,
    },
    /// Called or paid changed.
    FundingChanged,
    /// It is to be taken back, or a person must decide whether it is.
    WithdrawalAsked,
    /// It is not taken back after all.
    WithdrawalRefused {
        /// Why.
        reason: String,
    },
    /// It was reduced to what is called for it.
    Reduced {
        /// By how much.
        by: Amount,
    },
    /// It was taken back.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl Aggregate for Allocation {
    type Change = AllocationChange;
    const KIND: &'static str = "allocation";
    const OWNER: &'static str = "allocation-status";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(change: &AllocationChange) -> &'static str {
        match change {
            AllocationChange::Proposed => "proposed",
            AllocationChange::Activated => "activated",
            AllocationChange::Denied { .. } => "denied",
            AllocationChange::FundingChanged => "funding_changed",
            AllocationChange::WithdrawalAsked => "withdrawal_asked",
            AllocationChange::WithdrawalRefused { .. } => "withdrawal_refused",
            AllocationChange::Reduced { .. } => "reduced",
            AllocationChange::Cancelled { .. } => "cancelled",
        }
    }
}

/// Registers a fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterFund {
    /// Name, unique, at most 200 characters.
    pub name: String,
    /// Type: letters, digits, `-` and `_`.
    pub fund_type: String,
    /// Currency.
    pub currency: Currency,
    /// Vintage year.
    pub vintage_year: i32,
    /// Size in the currency.
    pub size: Amount,
    /// One of TARGET2, NYSE, US, GB, LU, IE, DE.
    pub calendar: String,
    /// IANA time zone.
    pub timezone: String,
}

impl Command for RegisterFund {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.register-fund";
    type Reply = Fund;
}

/// Proposes that a fund allocates an amount to a deal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeAllocation {
    /// The deal.
    pub deal_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// Security, for example `equity`.
    pub security_type: String,
    /// What it says of itself, of the shape that the rules have for its type (`investment_types`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// A request was accepted and goes on as a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllocationAccepted {
    /// The workflow to watch.
    pub workflow_id: Uuid,
    /// The allocation.
    pub allocation_id: Uuid,
}

impl Command for ProposeAllocation {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.propose-allocation";
    type Reply = AllocationAccepted;
}

/// Most allocations of one [`ProposeAllocations`]: each of them starts a workflow.
pub const ALLOCATIONS_MAX: usize = 1_000;

/// Proposes several allocations. Each is accepted or refused by itself, as a [`ProposeAllocation`] would be, one on top of the other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeAllocations {
    /// The allocations, 1 to 1,000.
    pub allocations: Vec<ProposeAllocation>,
}

impl Command for ProposeAllocations {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.propose-allocations";
    type Reply = Outcomes<AllocationAccepted>;
}

impl Several for ProposeAllocations {
    type Part = ProposeAllocation;
    type Accepted = AllocationAccepted;
    const PARTS: &'static str = "allocations";
    const PARTS_MAX: usize = ALLOCATIONS_MAX;
    fn parts(&self) -> &[ProposeAllocation] {
        &self.allocations
    }
}

/// By what an amount is split over funds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// By what each fund has left to allocate.
    Capacity,
    /// By the weights that are given.
    Weight,
    /// By the funds' sizes.
    Size,
}

/// A fund that may take part in a deal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Taker {
    /// The fund.
    pub fund_id: Uuid,
    /// Its weight, where the amount is split by weights: above zero, at most a billion.
    #[serde(default)]
    pub weight: Option<Ratio>,
}

/// Most funds of one [`PreviewAllocations`].
pub const TAKERS_MAX: usize = 100;

/// Splits an amount for a deal over funds, and stores nothing: by the largest remainder, exact to the minor unit, each fund within what
/// it has left and within the limits of its rules. A fund whose share is below its minimum gets nothing, and the others share anew. What
/// is proposed can be sent as [`ProposeAllocations`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewAllocations {
    /// The deal.
    pub deal_id: Uuid,
    /// How much, in the currency of the funds.
    pub amount: Amount,
    /// Security, for example `equity`.
    pub security_type: String,
    /// What the allocations say of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
    /// By what it is split.
    pub by: SplitBy,
    /// The funds, 1 to 100, all of one currency.
    pub funds: Vec<Taker>,
}

/// What a fund would take of a deal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The fund.
    pub fund_id: Uuid,
    /// Its name.
    pub name: String,
    /// What it would take.
    pub amount: Amount,
    /// The most that it could: what it has left, and what its rules allow.
    pub most: Amount,
    /// Why it takes nothing; none where it takes something.
    pub problem: Option<Problem>,
}

/// A deal, split over funds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AllocationsPreview {
    /// The currency of all amounts.
    pub currency: Currency,
    /// What each fund would take, in the order of the request.
    pub shares: Vec<Share>,
    /// What no fund can take.
    pub left: Amount,
    /// What would be sent as [`ProposeAllocations`].
    pub allocations: Vec<ProposeAllocation>,
}

impl Query for PreviewAllocations {
    const SUBJECT: &'static str = "tranche.query.allocation-status.preview-allocations";
    type Reply = AllocationsPreview;
}

/// Puts a pending allocation in force, or denies it. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideAllocation {
    /// The allocation.
    pub allocation_id: Uuid,
    /// Why it is denied; none puts it in force.
    pub denied_because: Option<String>,
}

impl Command for DecideAllocation {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.decide-allocation";
    type Reply = Allocation;
}

/// Takes an allocation back. One that is pending is cancelled at once; of an active one a workflow takes back what is not called, and what
/// is called too where that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawAllocation {
    /// The allocation.
    pub allocation_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
    /// Whether calls that were issued for it and nothing else are rescinded.
    #[serde(default)]
    pub rescind: bool,
}

impl Command for WithdrawAllocation {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.withdraw-allocation";
    type Reply = AllocationWithdrawn;
}

/// An allocation is taken back, or is going to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllocationWithdrawn {
    /// The allocation.
    pub allocation_id: Uuid,
    /// The workflow that takes it back; none of one that is taken back already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<Uuid>,
    /// The status of the allocation.
    pub status: String,
}

/// Reduces an allocation that is taken back to what is called for it, or leaves it as it is. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleWithdrawal {
    /// The allocation.
    pub allocation_id: Uuid,
    /// The workflow that takes it back.
    pub workflow_id: Uuid,
    /// What stays called for it.
    pub called: Amount,
    /// Why it is not taken back; none takes it back.
    pub kept_because: Option<String>,
}

impl Command for SettleWithdrawal {
    const SUBJECT: &'static str = "tranche.cmd.allocation-status.settle-withdrawal";
    type Reply = Allocation;
}

/// One fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFund {
    /// The fund.
    pub fund_id: Uuid,
}

impl Query for GetFund {
    const SUBJECT: &'static str = "tranche.query.allocation-status.get-fund";
    type Reply = Fund;
}

/// Funds by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFunds {
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListFunds {
    const SUBJECT: &'static str = "tranche.query.allocation-status.list-funds";
    type Reply = Page<Fund>;
}

/// One deal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDeal {
    /// The deal.
    pub deal_id: Uuid,
}

impl Query for GetDeal {
    const SUBJECT: &'static str = "tranche.query.allocation-status.get-deal";
    type Reply = Deal;
}

/// Deals by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDeals {
    /// Deals in this stage only.
    #[serde(default)]
    pub stage: Option<String>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListDeals {
    const SUBJECT: &'static str = "tranche.query.allocation-status.list-deals";
    type Reply = Page<Deal>;
}

/// One allocation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetAllocation {
    /// The allocation.
    pub allocation_id: Uuid,
}

impl Query for GetAllocation {
    const SUBJECT: &'static str = "tranche.query.allocation-status.get-allocation";
    type Reply = Allocation;
}

/// Allocations, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListAllocations {
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// Of this deal only.
    #[serde(default)]
    pub deal_id: Option<Uuid>,
    /// With this decision only.
    #[serde(default)]
    pub decision: Option<AllocationDecision>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListAllocations {
    const SUBJECT: &'static str = "tranche.query.allocation-status.list-allocations";
    type Reply = Page<Allocation>;
}
