//! Notifications: decides when whom to remind of a call line, and sends it by mail where configured.
//!
//! Owns the Postgres schema `notifications`: schedules and deliveries. Emits `tranche.notice.<kind>`.

use std::process::ExitCode;

use ::domain::messages::capital_calls::{CallLine, Investor};
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
        .runs(handlers::Raise { by_mail });
    match mail {
        Some(mail) => service.runs(mail).main(),
        None => service.main(),
    }
}
