//! `cargo xtask status`, and the greeting when the stack is up.

use std::collections::BTreeMap;
use std::io::Write;

use futures::TryStreamExt;
use testkit::nats;
use testkit::process::is_alive;

use crate::state::State;

/// Prints the addresses and a token.
pub fn greet(state: &State) {
    let roles = ["fund_manager", "analyst"];
    println!("\nTranche is up.\n");
    println!("  page and API   {}/  (docs: {}/api/docs/)", state.gateway, state.gateway);
    println!("  NATS           {}", state.nats);
    println!("  addresses      target/local/env");
    println!("  logs           target/local/up/");
    println!("\n  token of a fund manager (others: cargo xtask token --role ROLE):\n");
    println!("{}\n", testkit::client::token(&state.jwt_secret, "fund_manager", &roles[..1], None, 12 * 3_600));
    println!("Stop with `cargo xtask down`, or with Ctrl-C where it runs in the foreground.");
}

/// Prints each process, its health and how far its readers lag.
pub async fn status() -> Result<(), String> {
    let state = State::read()?;
    let lag = lag(&state).await.unwrap_or_default();
    let mut table = format!("{:<22} {:>8}  {:<10} {:>7} {:>7}  address\n", "process", "pid", "health", "outbox", "lag");
    for process in &state.processes {
        let program = process.name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
        let (health, outbox) = match &process.url {
            _ if !is_alive(process.pid, program) => ("dead".to_owned(), String::new()),
            None => ("running".to_owned(), String::new()),
            Some(url) => health(url).await,
        };
        let lag = lag.get(program).map(ToString::to_string).unwrap_or_default();
        let address = process.url.as_deref().unwrap_or("");
        table += &format!("{:<22} {:>8}  {:<10} {:>7} {:>7}  {address}\n", process.name, process.pid, health, outbox, lag);
    }
    // whoever reads only the first lines closes the pipe early
    let _ = std::io::stdout().write_all(table.as_bytes());
    Ok(())
}

async fn health(url: &str) -> (String, String) {
    let Some(body) = testkit::client::readiness(url).await else { return ("silent".into(), String::new()) };
    (body["status"].as_str().unwrap_or("unknown").to_owned(), body["outbox_depth"].to_string())
}

/// Messages that each service has not handled yet, by the prefix of its consumers.
async fn lag(state: &State) -> Result<BTreeMap<String, u64>, String> {
    let jetstream = async_nats::jetstream::new(nats::connect(&state.nats_url("ops")).await?);
    let mut lag = BTreeMap::new();
    let streams: Vec<_> = jetstream.streams().try_collect().await.map_err(|error| error.to_string())?;
    for info in streams {
        let stream = jetstream.get_stream(&info.config.name).await.map_err(|error| error.to_string())?;
        let consumers: Vec<_> = stream.consumers().try_collect().await.map_err(|error| error.to_string())?;
        for consumer in consumers {
            if let Some((service, _)) = consumer.name.split_once("__") {
                *lag.entry(service.to_owned()).or_default() += consumer.num_pending + consumer.num_ack_pending as u64;
            }
        }
    }
    Ok(lag)
}
