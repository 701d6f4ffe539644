//! The contract with the upstream deal system: it publishes `deals.evt.<event>`, and is asked for
//! stage changes on `deals.cmd.stage-change`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::Aggregate;
use crate::money::{Amount, Currency};
use crate::rejection::{Reason, Rejection, check_text};

/// The version of this contract that is understood.
pub const DEAL_SCHEMA_VERSION: u16 = 1;

/// A deal as the deal system knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deal {
    /// Id of the deal in the deal system.
    pub id: Uuid,
    /// Version of the deal, from 1; a lower one than the one known is ignored.
    pub version: i64,
    /// Version of the contract that the body follows.
    #[serde(default = "deal_schema_version")]
    pub schema_version: u16,
    /// Name of the deal.
    pub name: String,
    /// The deal system's stage, for example `due_diligence`, `committed`, `closed`, `withdrawn`.
    pub stage: String,
    /// Company or asset.
    #[serde(default)]
    pub company: Option<String>,
    /// Sector.
    #[serde(default)]
    pub sector: Option<String>,
    /// Currency of the deal.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// Size of the deal in its currency.
    #[serde(default)]
    pub size: Option<Amount>,
    /// When the deal was first copied here; set by us.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
}

fn deal_schema_version() -> u16 {
    DEAL_SCHEMA_VERSION
}

/// Stages in which a deal takes no further allocation.
pub const STAGES_CLOSED_TO_ALLOCATION: [&str; 3] = ["withdrawn", "rejected", "lost"];

/// What happened to the deal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DealChange {
    /// The deal is new.
    Registered,
    /// Something about the deal was edited.
    Updated,
    /// The deal moved to another stage.
    StageChanged,
    /// The deal will not happen.
    Withdrawn,
}

impl Aggregate for Deal {
    type Change = DealChange;
    const KIND: &'static str = "deal";
    const OWNER: &'static str = "";
    const STREAM: &'static str = "DEALS";
    fn filter() -> String {
        "deals.evt.>".into()
    }
    fn check(&self) -> Result<(), Rejection> {
        if self.schema_version != DEAL_SCHEMA_VERSION {
            return Err(Reason::MalformedRequest.with(format!("schema_version {} is not {DEAL_SCHEMA_VERSION}", self.schema_version)));
        }
        if self.version < 1 {
            return Err(Reason::MalformedRequest.with(format!("version {} is below 1", self.version)));
        }
        if let Some(size) = self.size.filter(|size| !size.is_positive()) {
            return Err(Reason::InvalidAmount.with(format!("size {size} is not above zero")));
        }
        check_text("name", &self.name, 300)?;
        check_text("stage", &self.stage, 60)
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(change: &DealChange) -> &'static str {
        match change {
            DealChange::Registered => "registered",
            DealChange::Updated => "updated",
            DealChange::StageChanged => "stage_changed",
            DealChange::Withdrawn => "withdrawn",
        }
    }
    fn subject(&self, change: &DealChange) -> String {
        format!("deals.evt.{}", Self::change_name(change))
    }
}

/// Our request to the deal system to move a deal to another stage, after an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageRequest {
    /// Id of the request; the same whenever it is repeated.
    pub id: Uuid,
    /// The deal.
    pub deal_id: Uuid,
    /// The stage asked for.
    pub stage: String,
    /// The allocation that is the reason.
    pub allocation_id: Uuid,
    /// The fund that allocated.
    pub fund_id: Uuid,
    /// Amount allocated.
    pub amount: Amount,
    /// Currency of the amount.
    pub currency: Currency,
}

/// The one event of a stage request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageRequestChange {
    /// The request was made.
    Requested,
}

impl Aggregate for StageRequest {
    type Change = StageRequestChange;
    const KIND: &'static str = "stage_request";
    const OWNER: &'static str = "workflow";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        1
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(_: &StageRequestChange) -> &'static str {
        "requested"
    }
    fn subject(&self, _: &StageRequestChange) -> String {
        "deals.cmd.stage-change".into()
    }
}
