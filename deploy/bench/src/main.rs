//! Measures the whole path, as ratios to pgbench on the same server in the same run.

use std::process::ExitCode;

mod check;
mod fixture;
mod load;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

/// Measures the whole path.
#[derive(Parser)]
#[command(name = "cargo xtask bench", version, about)]
struct Line {
    /// Only these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, default_value_t = 1)]
    runs: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 10_000)]
    payments: usize,
    #[arg(long, default_value_t = 100)]
    funds: usize,
    #[arg(long, default_value_t = false)]
    hold: bool,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(measure(line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(line: Line) -> Result<(), String> {
    let shape = fixture::Shape { seed: 1, funds: line.funds, investors: 100, calls: 10, payments: line.payments, history: 1_000_000 };
    let folder = testkit::local().join("bench");
    let mut world = world::World::start(&folder, shape, &BTreeMap::new()).await?;
    world.drained().await?;
    let began = chrono::Utc::now();
    let mut total = 0;
    let lines = world.firm.lines.len() - load::TRACED_LINES;
    let form = |door, in_flight, per_request| load::Form { door, in_flight, per_request, rate: None, lines };
    let forms = [
        ("payments_nats_single", form(load::Door::Nats, 1_024, 1)),
        ("payments_nats_100", form(load::Door::Nats, 64, 100)),
        ("payments_nats_8_in_flight", form(load::Door::Nats, 8, 1)),
        ("payments_nats_64_in_flight", form(load::Door::Nats, 64, 1)),
        ("payments_http_single", form(load::Door::Http, 64, 1)),
        ("payments_http_batch", form(load::Door::Http, 8, 1_000)),
    ];
    for run in 0..line.runs {
        for (name, form) in &forms {
            if !line.only.is_empty() && !line.only.iter().any(|only| only == name) {
                continue;
            }
            let tps = world.pgbench(line.seconds.min(5))?;
            let before = world.processor();
            let (stream_before, wal_before) = world.bytes().await?;
            let stop = Arc::new(AtomicBool::new(false));
            let (outcome, trace) = {
                let tracer = load::trace(&world, stop.clone());
                let load = async {
                    let outcome = load::run(&world, form, Duration::from_secs(line.seconds)).await;
                    stop.store(true, Ordering::Relaxed);
                    outcome
                };
                tokio::join!(load, tracer)
            };
            let (outcome, trace) = (outcome?, trace?);
            let drained = world.drained().await?;
            let after = world.processor();
            let (stream, wal) = world.bytes().await?;
            let n = (outcome.accepted + trace.sent) as f64;
            total += outcome.accepted + trace.sent;
            let seconds = (outcome.elapsed + drained).as_secs_f64();
            let rate = n / seconds;
            println!(
                "run {run} {name}: {rate:.0}/s = {:.2} x pgbench {tps:.0}; drained {:.2} s; busy {}; reply p50 {:.1} p99 {:.1} ms; end to end p50 {:.1} p99 {:.1} ms ({}); WAL {:.0} stream {:.0} bytes each",
                rate / tps,
                drained.as_secs_f64(),
                outcome.busy,
                outcome.replies.value_at_quantile(0.5) as f64 / 1e3,
                outcome.replies.value_at_quantile(0.99) as f64 / 1e3,
                trace.histogram.value_at_quantile(0.5) as f64 / 1e3,
                trace.histogram.value_at_quantile(0.99) as f64 / 1e3,
                trace.histogram.len(),
                (wal - wal_before) / n,
                (stream - stream_before) / n,
            );
            let used: Vec<String> = after
                .iter()
                .map(|(name, seconds)| (name, (seconds - before.get(name).copied().unwrap_or_default()) * 1e6 / n))
                .filter(|(_, micros)| *micros > 0.5)
                .map(|(name, micros)| format!("{name} {micros:.1}"))
                .collect();
            println!("    processor us each: {}", used.join(", "));
        }
    }
    println!("memory MiB: {:?}", world.memory());
    check::run(&world.database, began, shape.payments as u64, total).await?;
    println!("check: money is conserved, all projections are equal");
    if line.hold {
        println!("{} {:?}", world.settings.database, world.nats.address());
        let _ = tokio::signal::ctrl_c().await;
    }
    world.stop().await;
    Ok(())
}
