//! The soak: half of what is sustained, for long. Memory must stay as it is, and so must the tables whose rows are only changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{self, Door, Form};
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// One step; after each it is noted where memory and tables stand.
const STEP: Duration = Duration::from_secs(60);
/// What is noted after so many steps is what the end is compared with: until then caches and free space fill.
const SETTLED_AFTER: usize = 5;
/// Requests in flight at most.
const IN_FLIGHT: usize = 256;
/// The tables whose rows are changed again and again while their number stays.
const CHANGED_ONLY: &str = "capital_calls.call_lines, capital_calls.capital_calls, capital_calls.outbox_pending, capital_calls.summaries_due, \
     allocation_status.allocations, allocation_status.line_shares, fund_metrics.lines, fund_metrics.totals, fund_metrics.due_totals, \
     notifications.lines";

/// Runs it for the plan's minutes; returns how many payments were accepted.
pub async fn measure(world: &mut World, plan: &Plan, notes: &mut Notes) -> Result<u64, String> {
    if plan.soak_minutes == 0 || !plan.asks_for("soak") {
        return Ok(0);
    }
    let rate = notes.rate("payments_nats_single").unwrap_or(2_000.0) / 2.0;
    let lines = world.firm.lines.len() - load::TRACED_LINES;
    let form = Form { door: Door::Nats, in_flight: IN_FLIGHT, per_request: 1, rate: Some(rate), lines };
    let (mut accepted, mut seconds, mut busy) = (0, 0.0, 0);
    let (mut replies, mut end_to_end) = (load::histogram(), load::histogram());
    let mut measured = Measured::default();
    for minute in 1..=plan.soak_minutes {
        let stop = Arc::new(AtomicBool::new(false));
        let load = async {
            let outcome = load::run(world, &form, STEP).await;
            stop.store(true, Ordering::Relaxed);
            outcome
        };
        let (outcome, trace) = tokio::join!(load, load::trace(world, stop.clone()));
        let (outcome, trace) = (outcome?, trace?);
        accepted += outcome.accepted + trace.sent;
        seconds += outcome.elapsed.as_secs_f64();
        busy += outcome.busy;
        replies.add(&outcome.replies).map_err(|error| error.to_string())?;
        end_to_end.add(&trace.histogram).map_err(|error| error.to_string())?;
        let standing = standing(world).await?;
        let shown: Vec<String> = standing.iter().map(|(name, value)| format!("{name} {value:.0}")).collect();
        println!("  soak, minute {minute}: {}", shown.join(", "));
        let place = if minute <= SETTLED_AFTER { "settled" } else { "end" };
        measured.figures.extend(standing.into_iter().map(|(name, value)| (format!("{place}_{name}"), value)));
    }
    measured.rate = accepted as f64 / seconds;
    measured.figures.insert("told_to_wait".into(), busy as f64);
    measured.note_latency("", &replies);
    measured.note_latency("end_to_end_", &end_to_end);
    notes.add("soak", measured);
    Ok(accepted)
}

/// Resident memory of the services, size of the tables whose rows are only changed, and the share of dead rows in them.
async fn standing(world: &World) -> Result<Vec<(String, f64)>, String> {
    let (bytes, dead): (i64, f64) = sqlx::query_as(
        "select sum(pg_relation_size(relid))::bigint, (sum(n_dead_tup) / greatest(sum(n_live_tup), 1))::float8
         from pg_stat_user_tables where relid = any(string_to_array($1, ', ')::regclass[])",
    )
    .bind(CHANGED_ONLY)
    .fetch_one(&world.database)
    .await
    .map_err(|error| format!("soak: {error}"))?;
    let memory = world.memory().into_iter().map(|(service, mib)| (format!("memory_{}_mib", service.replace('-', "_")), mib));
    let tables = [("changed_tables_mib".to_owned(), bytes as f64 / f64::from(1 << 20)), ("dead_rows_percent".to_owned(), 100.0 * dead)];
    Ok(memory.chain(tables).collect())
}
