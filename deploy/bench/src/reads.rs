//! Reads: how long the page waits for each, while payments come in at half of what is sustained.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reqwest::Client;

use crate::load::{self, Door, Form};
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// Pause between two reads of the same kind: ten people who look at something else ten times a second.
const PAUSE: Duration = Duration::from_millis(100);
/// Reads of each kind go on for so many times the seconds of a load, so that a 99th percentile says something.
const TIMES_AS_LONG: u32 = 4;

/// Reads while payments come in; returns how many payments were accepted.
pub async fn measure(world: &mut World, plan: &Plan, notes: &mut Notes) -> Result<u64, String> {
    if !plan.asks_for("read_") {
        return Ok(0);
    }
    let rate = notes.rate("payments_nats_single").unwrap_or(1_000.0) / 2.0;
    let lines = world.firm.lines.len() - load::TRACED_LINES;
    let form = Form { door: Door::Nats, in_flight: 256, per_request: 1, rate: Some(rate), lines };
    let time = TIMES_AS_LONG * Duration::from_secs(plan.seconds);
    let fund = world.firm.funds[0];
    let paths = [
        ("read_fund_metrics", format!("/funds/{fund}/metrics")),
        ("read_portfolio_metrics", "/portfolio/metrics".to_owned()),
        ("read_funds", "/portfolio/funds?limit=100".to_owned()),
        ("read_calls", format!("/capital-calls?fund_id={fund}&limit=50")),
        ("read_call", format!("/capital-calls/{}", world.firm.calls[0])),
        ("read_lines", format!("/call-lines?call_id={}&limit=100", world.firm.calls[0])),
        ("read_payments", "/payments?limit=100".to_owned()),
        ("read_payments_of_fund", format!("/payments?fund_id={fund}&limit=100")),
        ("read_investor_metrics", format!("/investors/{}/metrics", world.firm.investor)),
        ("read_allocations", format!("/allocations?fund_id={fund}&limit=50")),
    ];
    let token = world.token(&["auditor"]);
    let (base, until) = (world.gateway(), Instant::now() + time);
    let reads = paths.iter().map(|(name, path)| read(name, format!("{base}/api/v1{path}"), &token, until));
    let (outcome, reads) = tokio::join!(load::run(world, &form, time), futures::future::join_all(reads));
    for read in reads {
        let (name, histogram) = read?;
        let mut measured = Measured { rate: histogram.len() as f64 / time.as_secs_f64(), ..Measured::default() };
        measured.note_latency("", &histogram);
        notes.add(name, measured);
    }
    world.drained().await?;
    Ok(outcome?.accepted)
}

async fn read(name: &'static str, url: String, token: &str, until: Instant) -> Result<(&'static str, Histogram<u64>), String> {
    let client = Client::new();
    let mut histogram = load::histogram();
    while Instant::now() < until {
        let since = Instant::now();
        let reply = client.get(&url).bearer_auth(token).send().await.map_err(|error| format!("{name}: {error}"))?;
        let status = reply.status();
        let body = reply.text().await.map_err(|error| format!("{name}: {error}"))?;
        if !status.is_success() {
            return Err(format!("{name}: {status} {body}"));
        }
        histogram.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        tokio::time::sleep(PAUSE).await;
    }
    Ok((name, histogram))
}
