//! The project's commands: `cargo xtask up`, `cargo xtask test`, and what helps beside them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use uuid::Uuid;

mod bench;
mod chaos;
mod deals;
mod demo;
mod run;
mod schemas;
mod state;
mod status;
mod supervise;
mod test;

/// Runs Tranche on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Start private servers and all services, load the demo, and run until Ctrl-C
    Up(supervise::Up),
    /// Stop what `up --detach` left running
    Down,
    /// Show each process, its health and its lag
    Status,
    /// Stop all replicas of a service of the local stack, and leave it stopped
    Stop {
        /// Its name
        service: String,
    },
    /// Start a service again that was stopped
    Start {
        /// Its name
        service: String,
    },
    /// Run a service's binary in the environment that it serves in, for example `exec capital-calls verify`
    Exec {
        /// Its name
        service: String,
        /// Words for the binary
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Print a bearer token for the local stack
    Token(TokenLine),
    /// Play the real commitments of two pension systems and compare the metrics with what they published
    Demo {
        /// Play only the first rows
        #[arg(long)]
        rows: Option<usize>,
    },
    /// Play a deal system for the local stack: deals come, move through their stages, end, and our requests are answered
    DealSystem(deals::DealSystemLine),
    /// Move the clock of the local stack, in days from now (0: back to the system's)
    Clock {
        /// Days from now
        #[arg(allow_hyphen_values = true)]
        days: i64,
    },
    /// Measure the whole path beside pgbench on private servers; further words go to the bench, see `-- --help`
    Bench {
        /// For example `--profile full`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Kill, stop, cut off and set back servers and services under a money workload, and check that nothing is lost or doubled;
    /// further words go to the fault suite, see `-- --help`
    Chaos {
        /// For example `--seed 7 --minutes 10 --scenario broker`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Run every test on private servers; further words go to the test runner
    Test(test::Test),
    /// Write the generated schemas under `schemas/`
    Schemas,
}

#[derive(clap::Args)]
struct TokenLine {
    /// analyst, fund_manager, committee, treasurer, auditor, executive or admin; several with commas
    #[arg(long, value_delimiter = ',', required = true)]
    role: Vec<String>,
    /// Ids of the funds that it is good for; all if not given
    #[arg(long, value_delimiter = ',')]
    funds: Option<Vec<Uuid>>,
    /// The user's name; the first role's if not given
    #[arg(long)]
    user: Option<String>,
    /// Hours that it is good for
    #[arg(long, default_value_t = 12)]
    hours: i64,
}

const ROLES: [&str; 7] = ["analyst", "fund_manager", "committee", "treasurer", "auditor", "executive", "admin"];

fn token(line: &TokenLine) -> Result<(), String> {
    if let Some(unknown) = line.role.iter().find(|role| !ROLES.contains(&role.as_str())) {
        return Err(format!("{unknown:?} is not one of {}", ROLES.join(", ")));
    }
    let state = state::State::read()?;
    let roles: Vec<&str> = line.role.iter().map(String::as_str).collect();
    let user = line.user.as_deref().unwrap_or(roles[0]);
    println!("{}", testkit::client::token(&state.jwt_secret, user, &roles, line.funds.as_deref(), line.hours * 3_600));
    Ok(())
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("runtime: {error}")),
    };
    let done = runtime.block_on(async {
        match line.command {
            Sub::Up(up) => supervise::up(up).await,
            Sub::Down => supervise::down(),
            Sub::Status => status::status().await,
            Sub::Stop { service } => supervise::hold(&service),
            Sub::Start { service } => supervise::release(&service),
            Sub::Exec { service, words } => supervise::exec(&service, &words),
            Sub::Token(line) => token(&line),
            Sub::Demo { rows } => demo::run(&state::State::read()?, rows).await,
            Sub::DealSystem(line) => deals::play(line).await,
            Sub::Clock { days } => set_clock(days).await,
            Sub::Bench { words } => bench::run(&words),
            Sub::Chaos { words } => chaos::run(&words),
            Sub::Test(test) => test::run(test).await,
            Sub::Schemas => schemas::write(),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

async fn set_clock(days: i64) -> Result<(), String> {
    let state = state::State::read()?;
    let client = testkit::nats::connect(&state.nats_url("ops")).await?;
    testkit::stack::set_clock(&client, days * 86_400).await?;
    println!("the clock is {days} days from the system's");
    Ok(())
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}
