//! Notifications: decides when whom to remind of a call line, and sends it by mail where configured; tells people of the firm what they
//! should look at.
//!
//! Owns the Postgres schema `notifications`: schedules, deliveries and alerts. Emits `tranche.notice.<kind>`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{CallLine, Investor};
use ::domain::messages::notifications::ListAlerts;
use ::domain::messages::workflow::{Approval, Workflow};
use chassis::{Card, Copies};

mod domain;
mod handlers;
mod mail;
mod store;

/// The service.
pub struct Notifications;

fn main() -> ExitCode {
    let card = Card {
        name: "notifications",
        description: "decides when whom to remind, and sends it",
        migrations: Some(sqlx::migrate!("../../migrations/notifications")),
    };
    let mail = match mail::Mail::from_environment() {
        Ok(mail) => mail,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let by_mail = mail.is_some();
    let service = chassis::service(Notifications, card)
        .follows::<CallLine>(Copies::Versions(store::LINES))
        .follows::<Investor>(Copies::Versions(store::INVESTORS))
        .follows::<Fund>(Copies::Versions(store::FUNDS))
        .follows::<Approval>(Copies::Versions(store::APPROVALS))
        .follows::<Workflow>(Copies::Versions(store::WORKFLOWS))
        .follows::<Allocation>(Copies::Versions(store::ALLOCATIONS))
        .shows::<ListAlerts>()
        .runs(handlers::TellAlerts)
        .runs(handlers::Raise { by_mail });
    match mail {
        Some(mail) => service.runs(mail).main(),
        None => service.main(),
    }
}
