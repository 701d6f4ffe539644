//! Capital calls over many investors: how long the preview takes, and the issue.

use std::time::Instant;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use testkit::Client;
use uuid::Uuid;

use crate::fixture::Shape;
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan, load};

/// Calls that are issued one after another.
const TIMES: usize = 10;

/// Measures calls over 1,000 and 5,000 investors.
pub async fn measure(plan: &Plan, notes: &mut Notes) -> Result<(), String> {
    for investors in [1_000, 5_000] {
        if plan.asks_for(&format!("call_issue_{investors}")) || plan.asks_for(&format!("call_preview_{investors}")) {
            over(investors, notes).await?;
        }
    }
    Ok(())
}

async fn over(investors: usize, notes: &mut Notes) -> Result<(), String> {
    let shape = Shape { seed: 1, funds: 2, investors, calls: 1, payments: 0, history: 0 };
    let world = World::start(shape, &[]).await?;
    world.drained().await?;
    let manager = Client::new(&world.gateway(), Some(world.token(&["fund_manager"])));
    let sender = world.sender().await?;
    let fund_id = world.firm.funds[0];
    let (mut previews, mut issues) = (load::histogram(), load::histogram());
    for _ in 0..TIMES {
        // above every tier, so that nobody else decides it
        let purposes = json!([{"kind": "expenses", "amount": "1000000000.00", "inside_commitment": true}]);
        let since = Instant::now();
        let body = json!({"fund_id": fund_id, "purposes": purposes, "due_on": "2027-01-15"});
        let preview = manager.post("/capital-calls/preview", body).await;
        previews.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        if preview.body["lines"].as_array().map(Vec::len) != Some(investors) {
            return Err(format!("preview: {}", preview.body));
        }
        let submitted =
            manager.post(&format!("/funds/{fund_id}/capital-calls"), json!({"purposes": purposes, "due_on": "2027-01-15"})).await;
        let call_id = submitted.text("capital_call_id");
        let hash = manager.get(&format!("/capital-calls/{call_id}")).await.text("content_hash");
        let mut headers = HeaderMap::new();
        headers.insert("Idempotency-Key", Uuid::new_v4().to_string());
        headers.insert("ce-actor", "bench");
        let decision = json!({"call_id": call_id, "content_hash": hash, "cancelled_because": null}).to_string();
        let since = Instant::now();
        let subject = "tranche.cmd.capital-calls.decide-capital-call";
        let reply = sender.request_with_headers(subject, headers, decision.into()).await.map_err(|error| error.to_string())?;
        issues.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        let call: Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
        if call["line_count"] != investors {
            return Err(format!("issue: {call} {}", submitted.body));
        }
        world.drained().await?;
    }
    for (name, histogram) in [("call_preview", previews), ("call_issue", issues)] {
        let mut measured = Measured { rate: 1e6 / histogram.mean(), ..Measured::default() };
        measured.note_latency("", &histogram);
        notes.add(&format!("{name}_{investors}"), measured);
    }
    world.stop().await;
    Ok(())
}
