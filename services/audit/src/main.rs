//! Audit: the tamper-evident record of every event, access, refusal, notice and dead letter.
//!
//! Owns the Postgres schema `audit`. Its role can add and read records, nothing else.

use std::process::ExitCode;

use ::domain::messages::audit::{ListAuditRecords, VerifyAudit};
use chassis::Card;

mod domain;
mod handlers;
mod store;

/// The service.
pub struct Audit;

fn main() -> ExitCode {
    let card = Card {
        name: "audit",
        description: "keeps the tamper-evident record of every event, access and refusal",
        migrations: Some(sqlx::migrate!("../../migrations/audit")),
    };
    chassis::service(Audit, card)
        .shows::<ListAuditRecords>()
        .shows::<VerifyAudit>()
        .records("EVENTS", "tranche.evt.>")
        .records("DEALS", "deals.>")
        .records("ACCESS", "tranche.access.>")
        .records("NOTICES", "tranche.notice.>")
        .records("DEAD_LETTERS", "tranche.dlq.>")
        .main()
}
