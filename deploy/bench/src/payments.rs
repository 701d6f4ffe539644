//! Payments: how many a second until everything is committed everywhere, and how long each takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{self, Door, Form};
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// Seconds of each pgbench run; one stands between every two loads.
const PGBENCH_SECONDS: u64 = 3;
/// Sustained means: everything committed everywhere so soon after the load stops.
const SUSTAINED_WITHIN: f64 = 1.0;
/// The load whose rate the latencies are taken at parts of.
const SUSTAINED: &str = "payments_nats_single";

/// The loads: name, door, requests in flight, payments of a request.
const FORMS: [(&str, Door, usize, usize); 7] = [
    ("payments_nats_single", Door::Nats, 1_024, 1),
    ("payments_nats_100", Door::Nats, 64, 100),
    ("payments_nats_8_in_flight", Door::Nats, 8, 1),
    ("payments_nats_64_in_flight", Door::Nats, 64, 1),
    ("payments_http_single", Door::Http, 64, 1),
    ("payments_http_batch", Door::Http, 8, 1_000),
    ("payments_nats_hot_call", Door::Nats, 1_024, 1),
];

/// Runs the loads; returns how many payments were accepted.
pub async fn measure(world: &mut World, plan: &Plan, notes: &mut Notes) -> Result<u64, String> {
    let mut accepted = 0;
    let all_lines = world.firm.lines.len() - load::TRACED_LINES;
    let mut before = None;
    for _ in 0..plan.runs {
        for (name, door, in_flight, per_request) in FORMS.into_iter().filter(|form| plan.asks_for(form.0)) {
            let lines = if name.ends_with("hot_call") { world.firm.investors } else { all_lines };
            let form = Form { door, in_flight, per_request, rate: None, lines };
            let pgbench = match before {
                Some(tps) => tps,
                None => world.pgbench(PGBENCH_SECONDS)?,
            };
            let (mut measured, number) = run(world, &form, plan.seconds).await?;
            let after = world.pgbench(PGBENCH_SECONDS)?;
            before = Some(after);
            measured.pgbench = (pgbench + after) / 2.0;
            notes.add(name, measured);
            accepted += number;
        }
    }
    let Some(sustained) = notes.rate(SUSTAINED) else { return Ok(accepted) };
    for percent in [25, 50, 75, 100] {
        let rate = Some(sustained * f64::from(percent) / 100.0);
        let form = Form { door: Door::Nats, in_flight: 1_024, per_request: 1, rate, lines: all_lines };
        let (measured, number) = run(world, &form, plan.seconds).await?;
        notes.add(&format!("latency_at_{percent}_percent"), measured);
        accepted += number;
    }
    Ok(accepted)
}

async fn run(world: &mut World, form: &Form, seconds: u64) -> Result<(Measured, u64), String> {
    let processor_before = world.processor();
    let (stream_before, wal_before) = world.bytes().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let traced = async {
        let load = async {
            let outcome = load::run(world, form, Duration::from_secs(seconds)).await;
            stop.store(true, Ordering::Relaxed);
            outcome
        };
        tokio::join!(load, load::trace(world, stop.clone()))
    };
    let (outcome, trace) = traced.await;
    let (outcome, trace) = (outcome?, trace?);
    let memory = world.memory();
    let drained = world.drained().await?.as_secs_f64();
    let (stream, wal) = world.bytes().await?;
    let number = outcome.accepted + trace.sent;
    let each = |total: f64| total / number as f64;
    let mut measured = Measured { rate: number as f64 / (outcome.elapsed.as_secs_f64() + drained), ..Measured::default() };
    measured.note_latency("", &outcome.replies);
    measured.note_latency("end_to_end_", &trace.histogram);
    measured.figures.insert("drained_s".into(), drained);
    measured.figures.insert("sustained".into(), f64::from(u8::from(drained <= SUSTAINED_WITHIN)));
    measured.figures.insert("told_to_wait".into(), outcome.busy as f64);
    measured.figures.insert("wal_bytes".into(), each(wal - wal_before));
    measured.figures.insert("stream_bytes".into(), each(stream - stream_before));
    for (name, seconds) in world.processor() {
        // below zero where a process of Postgres has ended meanwhile
        let used = each(1e6 * (seconds - processor_before.get(&name).copied().unwrap_or_default())).max(0.0);
        measured.figures.insert(format!("processor_{}_us", name.replace([' ', '-'], "_")), used);
    }
    for (service, mib) in memory {
        measured.figures.insert(format!("memory_{}_mib", service.replace('-', "_")), mib);
    }
    Ok((measured, number))
}
