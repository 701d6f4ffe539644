//! What every service answers and emits: access and refusals, and dead letters.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
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
    const OWNER: &'static str = "";
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

/// How a service is: what waits, and for how long; asked on `tranche.query.<service>.get-health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetServiceHealth {}

impl Query for GetServiceHealth {
    const SUBJECT: &'static str = "tranche.query.{service}.get-health";
    type Reply = ServiceHealth;
}

/// The answer to [`GetServiceHealth`], of one replica; its counts are of the database that all replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceHealth {
    /// The service.
    pub service: String,
    /// The epoch that it writes in.
    pub epoch: i32,
    /// Events that are accepted and not yet with the broker.
    pub events_waiting: i64,
    /// For how many seconds the oldest of them has waited; 0 when none does.
    pub waiting_seconds: i64,
    /// By how many milliseconds the slowest reader of its events that works is behind.
    pub readers_lag_millis: u64,
    /// Messages that a person must decide about.
    pub dead_letters: i64,
    /// Why new commands are answered with 429, if they are.
    pub overload: Option<String>,
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
    /// Who decided about it last, and why it was discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// See `decided_by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where it stands.
    pub status: DeadLetterStatus,
}

/// Where a dead letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterStatus {
    /// A person must decide.
    Parked,
    /// It is about to be handled again.
    Released,
    /// It was handled after all.
    Redriven,
    /// It is not handled, for a reason that a person gave.
    Discarded,
}

/// What happened to a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeadLetterChange {
    /// It was put aside, perhaps again.
    Parked,
    /// Somebody wants it to be handled again.
    Released,
    /// It was handled.
    Redriven,
    /// Somebody decided that it is not handled.
    Discarded,
}

impl Aggregate for DeadLetter {
    type Change = DeadLetterChange;
    const KIND: &'static str = "dead_letter";
    const OWNER: &'static str = "";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(change: &DeadLetterChange) -> &'static str {
        match change {
            DeadLetterChange::Parked => "parked",
            DeadLetterChange::Released => "released",
            DeadLetterChange::Redriven => "redriven",
            DeadLetterChange::Discarded => "discarded",
        }
    }
    fn subject(&self, _: &DeadLetterChange) -> String {
        format!("tranche.dlq.{}.{}", self.service, self.reaction)
    }
}

/// Dead letters of one service, newest first; asked on `tranche.query.<service>.list-dead-letters`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDeadLetters {
    /// Only those that stand so.
    #[serde(default)]
    pub status: Option<DeadLetterStatus>,
    /// Of this reaction only.
    #[serde(default)]
    pub reaction: Option<String>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListDeadLetters {
    const SUBJECT: &'static str = "tranche.query.{service}.list-dead-letters";
    type Reply = Page<DeadLetter>;
}

/// One dead letter; asked on `tranche.query.<service>.get-dead-letter`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDeadLetter {
    /// Its id.
    pub dead_letter_id: Uuid,
}

impl Query for GetDeadLetter {
    const SUBJECT: &'static str = "tranche.query.{service}.get-dead-letter";
    type Reply = DeadLetter;
}

/// Parked dead letters by reaction and cause; asked on `tranche.query.<service>.group-dead-letters`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupDeadLetters {}

impl Query for GroupDeadLetters {
    const SUBJECT: &'static str = "tranche.query.{service}.group-dead-letters";
    type Reply = Page<DeadLetterGroup>;
}

/// Parked dead letters that have the same cause.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterGroup {
    /// The reaction that was to handle them.
    pub reaction: String,
    /// The reason without its numbers and ids.
    pub cause: String,
    /// How many there are.
    pub dead_letters: i64,
    /// When the first of them was parked.
    pub oldest: DateTime<Utc>,
    /// When the last of them was parked.
    pub newest: DateTime<Utc>,
}

/// Has parked dead letters handled again: these, or all of a reaction and cause; sent on
/// `tranche.cmd.<service>.redrive-dead-letters`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveDeadLetters {
    /// Their ids; all of the reaction, if none is given.
    #[serde(default)]
    pub ids: Vec<Uuid>,
    /// Of this reaction only.
    #[serde(default)]
    pub reaction: Option<String>,
    /// With this cause only, as the groups show it.
    #[serde(default)]
    pub cause: Option<String>,
}

impl Command for RedriveDeadLetters {
    const SUBJECT: &'static str = "tranche.cmd.{service}.redrive-dead-letters";
    type Reply = Released;
}

/// The answer to [`RedriveDeadLetters`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// How many are handled again: at most 5,000 at once, ask again for the others.
    pub dead_letters: i64,
}

/// Decides that a dead letter is not handled; sent on `tranche.cmd.<service>.discard-dead-letter`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardDeadLetter {
    /// Its id.
    pub dead_letter_id: Uuid,
    /// Why.
    pub reason: String,
}

impl Command for DiscardDeadLetter {
    const SUBJECT: &'static str = "tranche.cmd.{service}.discard-dead-letter";
    type Reply = DeadLetter;
}

/// How an owner's aggregates of one kind stand; asked on `tranche.query.<service>.digest`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDigest {
    /// Kind of aggregate.
    pub aggregate: String,
    /// Whether versions are left aside.
    #[serde(default)]
    pub ids_only: bool,
}

impl Query for GetDigest {
    const SUBJECT: &'static str = "tranche.query.{service}.digest";
    type Reply = Digest;
}

/// The answer to [`GetDigest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Epoch of the owner.
    pub epoch: i32,
    /// The buckets that have an aggregate.
    pub buckets: Vec<Bucket>,
}

/// The aggregates whose ids end in one byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// That byte, 0 to 255.
    pub bucket: i32,
    /// How many there are.
    pub aggregates: i64,
    /// Their highest version.
    pub newest: i64,
    /// Exclusive or of the first 8 bytes of MD5 over `<id>/<epoch>/<version>` of each.
    pub hash: i64,
}

/// Versions of an owner's aggregates of one kind and bucket; asked on `tranche.query.<service>.list-versions`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListVersions {
    /// Kind of aggregate.
    pub aggregate: String,
    /// Last byte of their ids.
    pub bucket: i32,
    /// Only ids after this one.
    #[serde(default)]
    pub after: Uuid,
    /// Whether versions are left aside.
    #[serde(default)]
    pub ids_only: bool,
}

impl Query for ListVersions {
    const SUBJECT: &'static str = "tranche.query.{service}.list-versions";
    type Reply = Versions;
}

/// The answer to [`ListVersions`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// Id, epoch and version, by id.
    pub items: Vec<(Uuid, i32, i64)>,
    /// Ask again after this id; none when these are all.
    pub next: Option<Uuid>,
}

/// Events of an owner's log in their order; asked on `tranche.query.<service>.list-logged`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLogged {
    /// Only events after this place in the log.
    pub after: i64,
}

impl Query for ListLogged {
    const SUBJECT: &'static str = "tranche.query.{service}.list-logged";
    type Reply = LoggedPage;
}

/// The answer to [`ListLogged`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoggedPage {
    /// The events.
    pub items: Vec<Logged>,
    /// Ask again after this place; none when these are all.
    pub next: Option<i64>,
    /// Below this place nobody writes any more.
    #[serde(default)]
    pub settled: i64,
    /// The epoch that the owner writes in.
    #[serde(default)]
    pub epoch: i32,
}

/// What names one event of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Logged {
    /// Place in the owner's log.
    pub log_id: i64,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Epoch of the owner.
    pub epoch: i32,
    /// Version of the aggregate.
    pub version: i64,
    /// Id of the event.
    pub event_id: Uuid,
}

/// Publishes events once more; sent on `tranche.cmd.<service>.resend`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// Aggregates whose newest event is sent again.
    #[serde(default)]
    pub ids: Vec<Uuid>,
    /// Places in the log whose event is sent again.
    #[serde(default)]
    pub log_ids: Vec<i64>,
}

impl Command for Resend {
    const SUBJECT: &'static str = "tranche.cmd.{service}.resend";
    type Reply = Resent;
}

/// The answer to [`Resend`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Resent {
    /// Events that were found in the log and are published again.
    pub events: i64,
}

/// A comparison that found a difference: between an owner and a reader, or between a kept total and its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    /// Id.
    pub id: Uuid,
    /// When it was found.
    pub created_at: DateTime<Utc>,
    /// The service that compared.
    pub service: String,
    /// What was compared, for example `call_line of capital-calls`.
    pub compared: String,
    /// How many differed.
    pub differed: i64,
    /// Some of them.
    pub examples: Vec<String>,
    /// How many were right when they were looked at again, after the repair.
    pub repaired: i64,
}

/// What happened to a divergence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DivergenceChange {
    /// It was found.
    Found,
}

impl Aggregate for Divergence {
    type Change = DivergenceChange;
    const KIND: &'static str = "divergence";
    const OWNER: &'static str = "";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        1
    }
    fn fund_id(&self) -> Option<Uuid> {
        None
    }
    fn change_name(_: &DivergenceChange) -> &'static str {
        "found"
    }
}
