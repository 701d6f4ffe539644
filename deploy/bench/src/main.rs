//! Measures the whole path, as ratios to pgbench on the same server in the same run: see `cargo xtask bench --help`.

use std::process::ExitCode;

mod allocations;
mod calls;
mod check;
mod fixture;
mod load;
mod payments;
mod peer;
mod reads;
mod replay;
mod report;
mod soak;
mod statements;
mod world;

use clap::{Parser, ValueEnum};

use crate::fixture::Shape;
use crate::report::{Measured, Report};
use crate::world::World;

/// Measures the whole path on private servers, beside pgbench on the same server.
#[derive(Parser)]
#[command(name = "cargo xtask bench", version, about)]
struct Line {
    /// quick: a look, a few minutes; full: what may be quoted
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// Only measurements whose name begins so; several with commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Runs of each load, instead of the profile's
    #[arg(long)]
    runs: Option<usize>,
    /// Seconds of each run, instead of the profile's
    #[arg(long)]
    seconds: Option<u64>,
    /// Minutes of the soak, instead of the profile's: quick has none, full half an hour
    #[arg(long)]
    soak_minutes: Option<usize>,
    /// Payments that are stored before
    #[arg(long, default_value_t = 100_000)]
    payments: usize,
    /// Funds
    #[arg(long, default_value_t = 100)]
    funds: usize,
    /// Investors of each call
    #[arg(long, default_value_t = 100)]
    investors: usize,
    /// Seed of the fixture
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replicas of a service, for example capital-calls=2; may be given several times
    #[arg(long, value_parser = parse_scale)]
    scale: Vec<(String, usize)>,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    hold: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    Quick,
    Full,
}

fn parse_scale(text: &str) -> Result<(String, usize), String> {
    let (service, number) = text.split_once('=').ok_or("expected SERVICE=NUMBER")?;
    Ok((service.to_owned(), number.parse().map_err(|_| "expected a number of replicas")?))
}

/// What is measured, how often and how long.
pub struct Plan {
    only: Vec<String>,
    /// Runs of each load.
    pub runs: usize,
    /// Seconds of each run.
    pub seconds: u64,
    /// Minutes of the soak.
    pub soak_minutes: usize,
}

impl Plan {
    /// Whether a measurement is asked for.
    pub fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// All measurements so far, in their order.
#[derive(Default)]
pub struct Notes(Vec<(String, Vec<Measured>)>);

impl Notes {
    /// Adds one run of a measurement and prints it.
    pub fn add(&mut self, name: &str, measured: Measured) {
        let figures: Vec<String> = measured.figures.iter().map(|(name, value)| format!("{name} {value:.1}")).collect();
        let ratio = if measured.pgbench > 0.0 { format!(" = {:.2} x pgbench", measured.rate / measured.pgbench) } else { String::new() };
        println!("  {name}: {:.1} a second{ratio}; {}", measured.rate, figures.join(", "));
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, runs)) => runs.push(measured),
            None => self.0.push((name.to_owned(), vec![measured])),
        }
    }

    /// Median of a measurement's rate.
    pub fn rate(&self, name: &str) -> Option<f64> {
        let runs = self.0.iter().find(|(known, _)| known == name)?;
        let mut rates: Vec<f64> = runs.1.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }
}

fn main() -> ExitCode {
    let line = Line::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("runtime: {error}")),
    };
    let mut notes = Notes::default();
    let done = runtime.block_on(async {
        tokio::select! {
            done = measure(line, &mut notes) => done,
            // what was started is stopped when it is dropped
            () = told_to_stop() => Err("interrupted; the report has what was measured so far".into()),
        }
    });
    if notes.0.is_empty() {
        return done.err().map_or(ExitCode::SUCCESS, |why| fail(&why));
    }
    let report = Report::of(&notes.0);
    println!("\n{}", report.table());
    match report.write(&testkit::root().join("target/bench")).and(done) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
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

async fn measure(line: Line, notes: &mut Notes) -> Result<(), String> {
    let (runs, seconds, soak_minutes) = if line.profile == Profile::Full { (5, 10, 30) } else { (2, 4, 0) };
    let plan = Plan {
        only: line.only,
        runs: line.runs.unwrap_or(runs),
        seconds: line.seconds.unwrap_or(seconds),
        soak_minutes: line.soak_minutes.unwrap_or(soak_minutes),
    };
    let shape =
        Shape { seed: line.seed, funds: line.funds, investors: line.investors, calls: 10, payments: line.payments, history: 1_000_000 };
    let mut world = World::start(shape, &line.scale).await?;
    world.drained().await?;
    let accepted = payments::measure(&mut world, &plan, notes).await?;
    let accepted = accepted + peer::measure(&mut world, &plan, notes).await?;
    let accepted = accepted + reads::measure(&mut world, &plan, notes).await?;
    let accepted = accepted + soak::measure(&mut world, &plan, notes).await?;
    world.check(accepted).await?;
    replay::measure(&mut world, &plan, notes).await?;
    world.check(accepted).await?;
    println!("  check: money is conserved, the services agree");
    if line.hold {
        println!("  {} {}", world.settings.database, world.settings.nats);
        std::future::pending::<()>().await;
    }
    world.stop().await;
    allocations::measure(&plan, notes).await?;
    calls::measure(&plan, notes).await?;
    statements::measure(&plan, notes).await
}
