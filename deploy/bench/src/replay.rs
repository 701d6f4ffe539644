//! Replay after the broker lost its store, and the rebuild of all projections from what it then holds.

use std::time::{Duration, Instant};

use crate::report::Measured;
use crate::world::{DRAIN_MAX, World};
use crate::{Notes, Plan};

/// The services whose projections are rebuilt.
const READERS: [&str; 3] = ["fund-metrics", "allocation-status", "notifications"];
/// Their projections, emptied; of the totals the versions stay, of the reminders what was sent.
const EMPTY: &str =
    "truncate fund_metrics.funds, fund_metrics.commitments, fund_metrics.allocations, fund_metrics.lines, fund_metrics.due_totals,
              fund_metrics.issue_totals, fund_metrics.funding_days, allocation_status.line_shares;
                     update fund_metrics.totals set committed = 0, called = 0, paid_in = 0, impact = 0, unapplied = 0, allocated = 0,
                                                    commitments = 0, lines = 0, lines_paid = 0, allocations = 0;
                     update allocation_status.allocations set called = 0, paid = 0;
                     update notifications.lines set version = 0, outstanding = amount;";
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Measures both.
pub async fn measure(world: &mut World, plan: &Plan, notes: &mut Notes) -> Result<(), String> {
    if !plan.asks_for("replay") && !plan.asks_for("rebuild") {
        return Ok(());
    }
    world.wipe_broker().await?;
    let known = world.logged().await?;
    // the relays notice within a few seconds; counted from the first event that is there again
    published(world, 1).await?;
    let since = Instant::now();
    published(world, known).await?;
    let mut measured = Measured { rate: known as f64 / since.elapsed().as_secs_f64(), ..Measured::default() };
    world.drained().await?;
    measured.figures.insert("events".into(), known as f64);
    measured.figures.insert("read_again_s".into(), since.elapsed().as_secs_f64());
    notes.add("replay", measured);

    world.stop_services(&READERS);
    sqlx::raw_sql(EMPTY).execute(&world.database).await.map_err(|error| format!("rebuild: {error}"))?;
    world.forget_readers(&READERS).await?;
    let since = Instant::now();
    world.start_again(&READERS).await?;
    world.drained().await?;
    let events = world.published().await?;
    let mut measured = Measured { rate: events as f64 / since.elapsed().as_secs_f64(), ..Measured::default() };
    measured.figures.insert("events".into(), events as f64);
    notes.add("rebuild", measured);
    Ok(())
}

/// Waits until the stream has so many events.
async fn published(world: &World, events: u64) -> Result<(), String> {
    let since = Instant::now();
    // the stream is not there at first
    while world.published().await.unwrap_or_default() < events {
        if since.elapsed() > DRAIN_MAX {
            return Err(format!("{events} events are not published again within {} s", DRAIN_MAX.as_secs()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
