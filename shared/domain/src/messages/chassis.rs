//! What every service answers and emits: access and refusals, and dead letters.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Page};
use crate::rejection::Reason;

/// Who read or tried what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// Id.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who; `anonymous` when no valid token came.
    pub user: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The path, or the subject of a command.
    pub resource: String,
    /// The HTTP method, or `COMMAND`.
    pub method: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Why it was refused; none for a read.
    pub reason: Option<Reason>,
    /// The values concerned.
    pub detail: Option<String>,
}

/// The kind of access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AccessChange {
    /// Something was read.
    Read,
    /// Something was refused.
    Refused,
}

impl Aggregate for Access {
    type Change = AccessChange;
    const KIND: &'static str = "access";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        1
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(change: &AccessChange) -> &'static str {
        match change {
            AccessChange::Read => "read",
            AccessChange::Refused => "refused",
        }
    }
    fn subject(&self, change: &AccessChange) -> String {
        format!("tranche.access.{}", Self::change_name(change))
    }
}

/// A message that could not be handled, kept until a person decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was parked.
    pub created_at: DateTime<Utc>,
    /// The service that could not handle it.
    pub service: String,
    /// The reaction that was to handle it.
    pub reaction: String,
    /// The subject that it came on.
    pub subject: String,
    /// Why it was parked.
    pub reason: String,
    /// The message, as far as it is text.
    pub payload: String,
    /// Always `parked` so far.
    pub status: String,
}

/// What happened to a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeadLetterChange {
    /// It was put aside.
    Parked,
}

impl Aggregate for DeadLetter {
    type Change = DeadLetterChange;
    const KIND: &'static str = "dead_letter";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(_: &DeadLetterChange) -> &'static str {
        "parked"
    }
    fn subject(&self, _: &DeadLetterChange) -> String {
        format!("tranche.dlq.{}.{}", self.service, self.reaction)
    }
}

/// Dead letters of one service, newest first; asked on `tranche.query.<service>.list-dead-letters`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDeadLetters {
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

/// The answer to [`ListDeadLetters`].
pub type DeadLetters = Page<DeadLetter>;
