//! Replay after the broker lost its store, and the rebuild of all projections from what it then holds.

use std::time::{Duration, Instant};

use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// The services whose projections are rebuilt.
const READERS: [&str; 3] = ["fund-metrics", "allocation-status", "notifications"];
/// Their projections, emptied; of the reminders only what is copied, not what was sent.
const EMPTY: &str =
    "truncate fund_metrics.funds, fund_metrics.commitments, fund_metrics.allocations, fund_metrics.lines, fund_metrics.totals,
                              fund_metrics.due_totals, allocation_status.line_shares;
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
    while world.published().await.unwrap_or_default() == 0 {
        tokio::time::sleep(LOOK).await;
    }
    let since = Instant::now();
    while world.published().await? < known {
        tokio::time::sleep(LOOK).await;
    }
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
    let published = world.published().await?;
    let mut measured = Measured { rate: published as f64 / since.elapsed().as_secs_f64(), ..Measured::default() };
    measured.figures.insert("events".into(), published as f64);
    notes.add("rebuild", measured);
    Ok(())
}
