//! The demo: plays the real commitments of two pension systems and compares our metrics with what
//! they published.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::messages::deals::{Deal, DealChange};
use domain::{Amount, Currency, Event};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::client::token;
use testkit::{Client, Reply};
use tokio::time::Instant;
use uuid::Uuid;

use crate::state::State;

mod compare;

/// The rows, as published.
const ROWS: &str = include_str!("../demo/commitments.csv");
/// Rows that are played at once.
const AT_ONCE: usize = 64;
/// The figures are in millions with up to eight decimals (cents); further ones are noise of the
/// binary numbers that the file was written from.
const DECIMALS_PUBLISHED_MAX: u32 = 8;
/// Longest wait for a workflow to end.
const WORKFLOW_SECONDS_MAX: u64 = 120;
/// Pause between two looks at a workflow.
const WORKFLOW_POLL: std::time::Duration = std::time::Duration::from_millis(200);
/// Type of the demo's funds; their rules allow what these funds really did.
const FUND_TYPE: &str = "pension-disclosure";

/// One row of the file.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    investor: String,
    fund_name: String,
    vintage_year: i32,
    #[serde(deserialize_with = "exact")]
    commitment_mm: Decimal,
    #[serde(deserialize_with = "exact")]
    capital_called_mm: Decimal,
}

/// Reads a figure from its text, never by way of a float.
fn exact<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    Decimal::from_str_exact(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl Row {
    fn name(&self) -> String {
        format!("{} ({})", self.fund_name, self.investor)
    }
    fn key(&self, step: &str) -> String {
        format!("demo/{}/{step}", Uuid::new_v5(&domain::ids::NAMESPACE, self.name().as_bytes()))
    }
}

/// A published figure in millions, without the noise, with the digits that were published.
fn published(millions: Decimal) -> Decimal {
    millions.round_dp(DECIMALS_PUBLISHED_MAX)
}

/// A published figure in dollars and cents.
fn dollars(millions: Decimal) -> Amount {
    let mut amount = published(millions) * Decimal::from(1_000_000);
    amount.rescale(2);
    Amount::from_decimal(amount)
}

/// The users of the demo.
struct Office {
    admin: Client,
    manager: Client,
    committee: [Client; 2],
    treasurer: Client,
    reader: Client,
    deals: async_nats::jetstream::Context,
    today: chrono::NaiveDate,
}

/// What became of a row.
struct Played {
    row: Row,
    fund_id: Uuid,
    investor_id: Uuid,
    /// Why a part was left out.
    left_out: Option<String>,
}

/// Plays the demo on a stack that runs; an error when a figure differs.
pub async fn run(state: &State, most: Option<usize>) -> Result<(), String> {
    let mut rows: Vec<Row> = csv::Reader::from_reader(ROWS.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()
        .map_err(|error| format!("commitments.csv: {error}"))?;
    rows.truncate(most.unwrap_or(usize::MAX));
    let office = Arc::new(open_office(state).await?);
    let investors = Arc::new(register_investors(&office, &rows).await?);
    let bar = ProgressBar::new(rows.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("    {bar:40} {pos}/{len} rows, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    let since = Instant::now();
    let count = rows.len();
    let played: Vec<Result<Played, String>> = futures::stream::iter(rows)
        .map(|row| {
            let (office, investors, bar) = (office.clone(), investors.clone(), bar.clone());
            async move {
                let played = play(&office, &investors, row.clone()).await.map_err(|why| format!("{}: {why}", row.name()));
                bar.inc(1);
                played
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    bar.finish();
    println!("    {count} rows in {:.1} s", since.elapsed().as_secs_f64());
    let (played, failed): (Vec<_>, Vec<_>) = played.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    for why in &failed {
        println!("    not played: {why}");
    }
    let played: Vec<Played> = played.into_iter().flatten().collect();
    compare::compare(&office, &played).await?;
    if failed.is_empty() { Ok(()) } else { Err(format!("{} of {count} rows could not be played; see above", failed.len())) }
}

async fn open_office(state: &State) -> Result<Office, String> {
    let user = |name: &str, role: &str| Client::new(&state.gateway, Some(token(&state.jwt_secret, name, &[role], None, 3_600)));
    let office = Office {
        admin: user("demo-admin", "admin"),
        manager: user("demo-manager", "fund_manager"),
        committee: [user("demo-member-1", "committee"), user("demo-member-2", "committee")],
        treasurer: user("demo-treasurer", "treasurer"),
        reader: user("demo-auditor", "auditor"),
        deals: async_nats::jetstream::new(testkit::nats::connect(&state.nats_url("deals")).await?),
        today: today(),
    };
    // the published calls pass the house's maximum of 100 million
    let rules = json!({"allocation_max": "10000000000", "allocations_per_deal_max": 10});
    accepted(
        office
            .admin
            .send("PUT", &format!("/rules/fund-type:{FUND_TYPE}"), Some("demo/rules"), Some(rules.to_string().into_bytes()))
            .await?,
    )?;
    Ok(office)
}

#[expect(clippy::disallowed_methods, reason = "the demo is a person at a desk, who knows what day it is")]
fn today() -> chrono::NaiveDate {
    chrono::Utc::now().date_naive()
}

fn accepted(reply: Reply) -> Result<Value, String> {
    if (200..300).contains(&reply.status) { Ok(reply.body) } else { Err(format!("{}: {}", reply.status, reply.body)) }
}

/// Sends a POST until it is answered; the key makes that safe.
async fn post(client: &Client, path: &str, key: &str, body: Value) -> Result<Value, String> {
    for _ in 0..20 {
        match client.send("POST", path, Some(key), Some(body.to_string().into_bytes())).await {
            Ok(reply) if !matches!(reply.status, 429 | 503) => return accepted(reply).map_err(|why| format!("POST {path}: {why}")),
            _ => tokio::time::sleep(std::time::Duration::from_millis(250)).await,
        }
    }
    Err(format!("POST {path}: no answer"))
}

fn id(value: &Value, field: &str) -> Result<Uuid, String> {
    value[field].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {field} in {value}"))
}

async fn register_investors(office: &Office, rows: &[Row]) -> Result<BTreeMap<String, Uuid>, String> {
    let mut investors = BTreeMap::new();
    for row in rows {
        if !investors.contains_key(&row.investor) {
            let body = post(&office.admin, "/investors", &format!("demo/investor/{}", row.investor), json!({"name": row.investor})).await?;
            investors.insert(row.investor.clone(), id(&body, "id")?);
        }
    }
    Ok(investors)
}

async fn play(office: &Office, investors: &BTreeMap<String, Uuid>, row: Row) -> Result<Played, String> {
    let (committed, called) = (dollars(row.commitment_mm), dollars(row.capital_called_mm));
    let investor_id = investors[&row.investor];
    let fund = json!({
        "name": row.name(), "fund_type": FUND_TYPE, "currency": "USD", "vintage_year": row.vintage_year,
        "size": committed.max(called), "calendar": "NYSE", "timezone": "America/New_York",
    });
    let fund_id = id(&post(&office.admin, "/funds", &row.key("fund"), fund).await?, "id")?;
    let commitment = json!({"investor_id": investor_id, "amount": committed, "effective_on": office.today});
    post(&office.admin, &format!("/funds/{fund_id}/commitments"), &row.key("commitment"), commitment).await?;
    let deal_id = publish_deal(office, &row, called).await?;
    if !called.is_positive() {
        let left_out = Some("nothing was called: no allocation, call or payment".to_owned());
        return Ok(Played { row, fund_id, investor_id, left_out });
    }
    let allocation = json!({"deal_id": deal_id, "fund_id": fund_id, "amount": called, "security_type": "fund_interest"});
    let allocation = post(&office.manager, "/allocations", &row.key("allocation"), allocation).await?;
    let allocation_id = id(&allocation, "allocation_id")?;
    finish(office, &row, &allocation, "allocation").await?;
    let mut purposes = Vec::new();
    let inside = called.min(committed);
    for (amount, inside_commitment) in [(inside, true), (called - inside, false)] {
        if amount.is_positive() {
            purposes.push(
                json!({"kind": "investment", "allocation_id": allocation_id, "amount": amount, "inside_commitment": inside_commitment}),
            );
        }
    }
    let due_on = office.today + chrono::Days::new(30);
    let call = json!({"purposes": purposes, "due_on": due_on, "priority": "normal"});
    let call = post(&office.manager, &format!("/funds/{fund_id}/capital-calls"), &row.key("call"), call).await?;
    finish(office, &row, &call, "call").await?;
    let call = accepted(office.reader.get(&format!("/capital-calls/{}", id(&call, "capital_call_id")?)).await)?;
    for line in call["lines"].as_array().into_iter().flatten() {
        let payment = json!({"amount": line["amount"], "method": "wire", "reference": row.name().chars().take(140).collect::<String>(), "received_on": office.today});
        post(&office.treasurer, &format!("/call-lines/{}/payments", id(line, "id")?), &row.key("payment"), payment).await?;
    }
    Ok(Played { row, fund_id, investor_id, left_out: None })
}

/// Publishes the deal as the deal system would, and waits until the broker has it.
async fn publish_deal(office: &Office, row: &Row, size: Amount) -> Result<Uuid, String> {
    let deal_id = Uuid::new_v5(&domain::ids::NAMESPACE, format!("demo/deal/{}", row.name()).as_bytes());
    let currency: Currency = "USD".parse().map_err(|rejection: domain::Rejection| rejection.to_string())?;
    let state = Deal {
        id: deal_id,
        version: 1,
        schema_version: domain::messages::deals::DEAL_SCHEMA_VERSION,
        name: row.name(),
        stage: "due_diligence".into(),
        company: Some(row.fund_name.clone()),
        sector: None,
        currency: Some(currency),
        size: Some(size),
        stage_replies: vec![],
        created_at: None,
    };
    let body = serde_json::to_vec(&Event { state, change: DealChange::Registered }).map_err(|error| error.to_string())?;
    let published = office.deals.publish("deals.evt.registered", body.into()).await.map_err(|error| error.to_string())?;
    published.await.map_err(|error| error.to_string())?;
    Ok(deal_id)
}

/// Casts the votes that a workflow waits for, and waits until it is completed.
async fn finish(office: &Office, row: &Row, accepted: &Value, what: &str) -> Result<(), String> {
    let workflow_id = id(accepted, "workflow_id")?;
    let subject_id = id(accepted, "allocation_id").or_else(|_| id(accepted, "capital_call_id"))?;
    let since = Instant::now();
    while since.elapsed().as_secs() < WORKFLOW_SECONDS_MAX {
        let reply = office.reader.get(&format!("/workflows/{workflow_id}")).await;
        match reply.text("status").as_str() {
            "completed" => return Ok(()),
            "failed" => return Err(format!("{what}: {}", reply.body["error"])),
            "waiting" => vote(office, row, &subject_id, what).await?,
            // not there yet, or on its way
            _ => {}
        }
        tokio::time::sleep(WORKFLOW_POLL).await;
    }
    Err(format!("{what}: workflow {workflow_id} did not end within {WORKFLOW_SECONDS_MAX} s"))
}

/// Casts the votes that a subject waits for.
async fn vote(office: &Office, row: &Row, subject_id: &Uuid, what: &str) -> Result<(), String> {
    let approvals = accepted(office.reader.get(&format!("/approvals?status=pending&subject_id={subject_id}")).await)?;
    for approval in approvals["items"].as_array().into_iter().flatten() {
        for (number, member) in office.committee.iter().enumerate() {
            let path = format!("/approvals/{}/votes", id(approval, "id")?);
            post(member, &path, &row.key(&format!("{what}/vote/{number}")), json!({"decision": "approve", "comment": "as published"}))
                .await?;
        }
    }
    Ok(())
}
