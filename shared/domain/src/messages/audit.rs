//! What audit answers: the tamper-evident record of every event, access and refusal.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Page, Query};

/// One audit record. Its hash covers its own fields and the hash of the record before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Number, from 1, without gaps.
    pub n: i64,
    /// Id of the event or access recorded.
    pub source_id: Uuid,
    /// The subject that it came on.
    pub subject: String,
    /// Kind of aggregate.
    pub aggregate: String,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Epoch of its owner.
    pub epoch: i32,
    /// Version of the aggregate.
    pub version: i64,
    /// Who did it.
    pub actor: String,
    /// The request that it belongs to.
    pub correlation_id: String,
    /// When it happened, by its owner's clock.
    pub at: DateTime<Utc>,
    /// The body of the message, as it came.
    pub body: serde_json::Value,
    /// SHA-256 over the previous hash and the fields above, in hexadecimal.
    pub hash: String,
}

/// Audit records in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListAuditRecords {
    /// Of this kind of aggregate only, for example `payment` or `access`.
    #[serde(default)]
    pub aggregate: Option<String>,
    /// Of this aggregate only.
    #[serde(default)]
    pub aggregate_id: Option<Uuid>,
    /// Of this actor only.
    #[serde(default)]
    pub actor: Option<String>,
    /// With this subject, `*` and `>` as in NATS not supported: the exact subject or a prefix of it.
    #[serde(default)]
    pub subject: Option<String>,
    /// At or after this instant.
    #[serde(default)]
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    #[serde(default)]
    pub to: Option<DateTime<Utc>>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListAuditRecords {
    const SUBJECT: &'static str = "tranche.query.audit.list-records";
    type Reply = Page<AuditRecord>;
}

/// Recomputes the whole chain.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyAudit {}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Whether every record is as it was written.
    pub valid: bool,
    /// Number of records looked at.
    pub records: i64,
    /// Number of the first record that was changed, or that follows a removed one.
    pub first_bad: Option<i64>,
}

impl Query for VerifyAudit {
    const SUBJECT: &'static str = "tranche.query.audit.verify";
    type Reply = Verification;
}
