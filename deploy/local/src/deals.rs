//! A deal system for the local stack.

use std::time::Duration;

use testkit::deal_system::{DealSystem, Habits};

use crate::state::State;

/// How it is played.
#[derive(clap::Args)]
pub struct DealSystemLine {
    /// Deals in all
    #[arg(long, default_value_t = 20)]
    deals: usize,
    /// Another seed, other deals; with the same one it goes on with those that there are
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds between two steps
    #[arg(long, default_value_t = 500)]
    pause_ms: u64,
    /// Per cent of our requests for a stage that are not answered at first
    #[arg(long, default_value_t = 20)]
    silent: u8,
    /// Per cent of our requests that are refused
    #[arg(long, default_value_t = 10)]
    refuses: u8,
    /// Per cent of its steps at which a deal comes to nothing
    #[arg(long, default_value_t = 6)]
    ends: u8,
}

/// Plays until Ctrl-C.
pub async fn play(line: DealSystemLine) -> Result<(), String> {
    if let Some((name, percent)) =
        [("silent", line.silent), ("refuses", line.refuses), ("ends", line.ends)].into_iter().find(|(_, percent)| *percent > 100)
    {
        return Err(format!("--{name} {percent}: give 0 to 100 per cent"));
    }
    let client = testkit::nats::connect(&State::read()?.nats_url("deals")).await?;
    let habits = Habits { deals: line.deals, silent: line.silent, refuses: line.refuses, ends: line.ends, ..Habits::default() };
    let mut system = DealSystem::start(client, line.seed, habits).await?;
    println!("{} deals are known; Ctrl-C ends it", system.deals().count());
    let mut rested = false;
    loop {
        for what in system.step().await? {
            println!("{what}");
        }
        if system.is_at_rest() != rested {
            rested = !rested;
            println!("{}", if rested { "every deal has ended or waits for an allocation" } else { "it goes on" });
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(line.pause_ms)) => {}
            _ = tokio::signal::ctrl_c() => return system.finish().await,
        }
    }
}
