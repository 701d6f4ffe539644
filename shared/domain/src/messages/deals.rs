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
    /// What was said to requests of ours to move the deal to another stage; at most the newest 20, so that none is missed that is followed
    /// by another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage_replies: Vec<StageReply>,
    /// When the deal was first copied here; set by us.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
}

/// Most answers that a deal carries.
pub const STAGE_REPLIES_MAX: usize = 20;

/// The deal system's answer to a [`StageRequest`]. Where the deal is in the stage that was asked for, that is the answer, and this may be
/// left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageReply {
    /// Id of the request.
    pub request_id: Uuid,
    /// Whether the deal is moved.
    pub accepted: bool,
    /// Why not, at most 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

fn deal_schema_version() -> u16 {
    DEAL_SCHEMA_VERSION
}

/// Stages in which a deal takes no further allocation.
pub const STAGES_CLOSED_TO_ALLOCATION: [&str; 3] = ["withdrawn", "rejected", "lost"];

impl Deal {
    /// Whether it will not happen.
    pub fn is_off(&self) -> bool {
        STAGES_CLOSED_TO_ALLOCATION.contains(&self.stage.as_str())
    }
}

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
    /// A request of ours to move it to another stage was answered.
    StageReplied,
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
        check_text("stage", &self.stage, 60)?;
        if self.stage_replies.len() > STAGE_REPLIES_MAX {
            let count = self.stage_replies.len();
            return Err(Reason::MalformedRequest.with(format!("there are {count} stage_replies, at most {STAGE_REPLIES_MAX} are read")));
        }
        for (field, text, longest) in [("company", &self.company, 300), ("sector", &self.sector, 100)] {
            text.as_ref().map_or(Ok(()), |text| check_text(field, text, longest))?;
        }
        let mut reasons = self.stage_replies.iter().filter_map(|reply| reply.reason.as_ref());
        reasons.try_for_each(|reason| check_text("stage_replies.reason", reason, 500))
    }
    fn check_change(&self, change: &DealChange) -> Result<(), Rejection> {
        // what becomes of its allocations goes by the stage: a deal that is said to be off and does not look so is for a person
        match change {
            DealChange::Withdrawn if !STAGES_CLOSED_TO_ALLOCATION.contains(&self.stage.as_str()) => {
                let stages = STAGES_CLOSED_TO_ALLOCATION.join(", ");
                Err(Reason::MalformedRequest
                    .with(format!("the deal is said to be withdrawn, its stage is {}, not one of {stages}", self.stage)))
            }
            _ => Ok(()),
        }
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
            DealChange::StageReplied => "stage_replied",
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
    /// How often it has been asked, from 1; nothing else of it changes.
    #[serde(default = "first_attempt")]
    pub attempt: i64,
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

const fn first_attempt() -> i64 {
    1
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
        self.attempt
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
