//! The fault suite: the real system under a money workload, a nemesis, and a checker that believes neither. See
//! `cargo xtask chaos --help`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

mod checker;
mod client;
mod fault;
mod journal;
mod means;
mod nemesis;
mod projections;
mod scenario;
mod workload;
mod world;

use crate::checker::Findings;
use crate::scenario::Scenario;

/// Runs the real system under a money workload while servers and services are killed, stopped, cut off and set back; then heals
/// everything and compares what the clients were told with what the databases say.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", version, about)]
struct Line {
    /// Chooses the faults' order and times and the clients' operations; drawn if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Minutes in all, shared by the scenarios; each fault of a scenario is made once at least, however long that takes (of `everything` a part)
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Only these; several with commas
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Print the scenarios and what they do
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let scenarios = scenario::all();
    if line.list {
        for Scenario { name, about, .. } in scenarios {
            println!("{name:14} {about}");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = line.scenario.iter().find(|name| !scenarios.iter().any(|scenario| scenario.name == name.as_str())) {
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
        return fail(&format!("there is no scenario {unknown:?}; there are {}", names.join(", ")));
    }
    let chosen: Vec<Scenario> = scenarios
        .into_iter()
        .filter(|scenario| line.scenario.is_empty() || line.scenario.iter().any(|name| name == scenario.name))
        .collect();
    let seed = line.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("seed {seed}");
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                done = run_all(&chosen, seed, Duration::from_secs(60 * line.minutes)) => done,
                // what was started is stopped when it is dropped
                () = told_to_stop() => fail("interrupted"),
            }
        }),
        Err(error) => fail(&format!("runtime: {error}")),
    }
}

/// Returns on SIGINT or SIGTERM.
async fn told_to_stop() {
    let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

async fn run_all(scenarios: &[Scenario], seed: u64, time: Duration) -> ExitCode {
    let share = time / u32::try_from(scenarios.len()).unwrap_or(1).max(1);
    let mut findings = Findings::default();
    let mut longest = Duration::ZERO;
    let mut failures = Vec::new();
    for scenario in scenarios {
        println!("{}: {}", scenario.name, scenario.about);
        match nemesis::run(scenario, seed, share).await {
            Ok(report) => {
                longest = longest.max(report.longest);
                failures.extend(report.never.iter().map(|what| format!("{}: {what}", scenario.name)));
                findings = findings.and(report.findings);
            }
            Err(why) => failures.push(format!("{}: {why}", scenario.name)),
        }
    }
    for told in &findings.told {
        println!("  {told}");
    }
    for failure in &failures {
        println!("failed: {failure}");
    }
    println!("seed {seed}, longest from heal to convergence {:.1} s", longest.as_secs_f64());
    println!("lost {}, doubled {}, diverged {}", findings.lost, findings.doubled, findings.diverged);
    if findings.is_clean() && failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
