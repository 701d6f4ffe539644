//! Allocations through the whole saga: proposed, decided by the workflow, activated, the deal system asked for its stage.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use domain::messages::deals::{DEAL_SCHEMA_VERSION, Deal, DealChange};
use domain::{Event, ids};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::Shape;
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan, load};

/// Allocations of one run, each of a deal of its own.
const ALLOCATIONS: usize = 2_000;
/// Proposals on their way at once.
const IN_FLIGHT: usize = 256;
/// Seconds of each pgbench run, before and after.
const PGBENCH_SECONDS: u64 = 3;
/// Pause between two looks at what is done.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that a run may take.
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// Measures allocations that need no vote.
pub async fn measure(plan: &Plan, notes: &mut Notes) -> Result<(), String> {
    if !plan.asks_for("allocations_saga") {
        return Ok(());
    }
    let shape = Shape { seed: 1, funds: 50, investors: 10, calls: 1, payments: 0, history: 0 };
    let world = World::start(shape, &[]).await?;
    for run in 0..plan.runs {
        let deals = publish_deals(&world, run).await?;
        wait_for(&world, "select count(*) from allocation_status.deals where name like 'Saga %'", (run + 1) * ALLOCATIONS).await?;
        world.drained().await?;
        let before = world.pgbench(PGBENCH_SECONDS)?;
        let mut measured = through(&world, &deals, (run + 1) * ALLOCATIONS).await?;
        measured.pgbench = (before + world.pgbench(PGBENCH_SECONDS)?) / 2.0;
        notes.add("allocations_saga", measured);
    }
    world.stop().await;
    Ok(())
}

/// Publishes deals as the deal system does.
async fn publish_deals(world: &World, run: usize) -> Result<Vec<Uuid>, String> {
    let deals = async_nats::jetstream::new(world.deal_system().await?);
    let ids: Vec<Uuid> = (0..ALLOCATIONS).map(|n| Uuid::new_v5(&ids::NAMESPACE, format!("saga/{run}/{n}").as_bytes())).collect();
    for id in &ids {
        let state = Deal {
            id: *id,
            version: 1,
            schema_version: DEAL_SCHEMA_VERSION,
            name: format!("Saga {id}"),
            stage: "due_diligence".into(),
            company: None,
            sector: None,
            currency: None,
            size: None,
            stage_replies: vec![],
            created_at: None,
        };
        let body = serde_json::to_vec(&Event { state, change: DealChange::Registered }).map_err(|error| error.to_string())?;
        let published = deals.publish("deals.evt.registered", body.into()).await.map_err(|error| error.to_string())?;
        published.await.map_err(|error| error.to_string())?;
    }
    Ok(ids)
}

/// Proposes an allocation of each deal, and waits until every workflow is completed and everything is read everywhere.
async fn through(world: &World, deals: &[Uuid], completed: usize) -> Result<Measured, String> {
    let sender = world.sender().await?;
    let since = Instant::now();
    let proposals = deals.iter().enumerate().map(|(n, deal_id)| {
        let fund_id = world.firm.funds[n % world.firm.funds.len()];
        propose(&sender, json!({"deal_id": deal_id, "fund_id": fund_id, "amount": "20000.00", "security_type": "equity"}).to_string())
    });
    let replies: Vec<Duration> = futures::stream::iter(proposals).buffer_unordered(IN_FLIGHT).try_collect().await?;
    wait_for(world, "select count(*) from workflow.workflows where status = 'completed'", completed).await?;
    world.drained().await?;
    let mut measured = Measured { rate: deals.len() as f64 / since.elapsed().as_secs_f64(), ..Measured::default() };
    let mut histogram = load::histogram();
    for reply in replies {
        histogram.saturating_record(u64::try_from(reply.as_micros()).unwrap_or(u64::MAX));
    }
    measured.note_latency("", &histogram);
    Ok(measured)
}

async fn propose(sender: &async_nats::Client, body: String) -> Result<Duration, String> {
    let since = Instant::now();
    let mut headers = HeaderMap::new();
    headers.insert("Idempotency-Key", Uuid::new_v4().to_string());
    headers.insert("ce-actor", "analyst");
    headers.insert("ce-actorroles", "analyst");
    let subject = "tranche.cmd.allocation-status.propose-allocation";
    let reply = sender.request_with_headers(subject, headers, body.into()).await.map_err(|error| error.to_string())?;
    match reply.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code")) {
        None => Ok(since.elapsed()),
        Some(code) => Err(format!("{code}: {}", String::from_utf8_lossy(&reply.payload))),
    }
}

async fn wait_for(world: &World, count: &'static str, wanted: usize) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let number: i64 = sqlx::query_scalar(count).fetch_one(&world.database).await.map_err(|error| error.to_string())?;
        match usize::try_from(number) {
            Ok(number) if number >= wanted => return Ok(()),
            _ if since.elapsed() > DONE_WITHIN => return Err(format!("{number} of {wanted} within {} s: {count}", DONE_WITHIN.as_secs())),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
