//! A bank statement of 50,000 entries: how long it takes until every entry pays its line.

use std::fmt::Write;
use std::time::Instant;

use domain::CreditorReference;
use sqlx::Row;
use testkit::Client;
use uuid::Uuid;

use crate::fixture::Shape;
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// Entries of the statement: one for each line of ten calls over 5,000 investors.
const ENTRIES: usize = 50_000;
const INVESTORS: usize = 5_000;
/// Seconds of each pgbench run, before and after.
const PGBENCH_SECONDS: u64 = 5;

/// Measures the import.
pub async fn measure(plan: &Plan, notes: &mut Notes) -> Result<(), String> {
    if !plan.asks_for("statement_entries") {
        return Ok(());
    }
    let shape = Shape { seed: 1, funds: 1, investors: INVESTORS, calls: ENTRIES / INVESTORS, payments: 0, history: 0 };
    let mut world = World::start(shape, &[]).await?;
    world.drained().await?;
    let lines = sqlx::query("select id, amount::text as amount from capital_calls.call_lines order by id limit $1")
        .bind(i64::try_from(ENTRIES).unwrap_or(i64::MAX))
        .fetch_all(&world.database)
        .await
        .map_err(|error| error.to_string())?;
    let lines: Result<Vec<(Uuid, String)>, sqlx::Error> =
        lines.iter().map(|row| Ok((row.try_get("id")?, row.try_get("amount")?))).collect();
    let file = statement(&lines.map_err(|error| error.to_string())?);
    let treasurer = Client::new(&world.gateway(), Some(world.token(&["treasurer"])));
    let bytes = file.len();
    let before = world.pgbench(PGBENCH_SECONDS)?;
    let processor_before = world.processor();
    let since = Instant::now();
    let reply = treasurer.send("POST", "/bank-statements", Some(&Uuid::now_v7().to_string()), Some(file.into_bytes())).await?;
    let seconds = since.elapsed().as_secs_f64();
    let count = |field: &str| reply.body[field].as_u64().unwrap_or_default();
    if (count("matched"), count("left")) != (ENTRIES as u64, 0) {
        return Err(format!("statement: {}", reply.body));
    }
    let mut measured = Measured { rate: ENTRIES as f64 / seconds, ..Measured::default() };
    measured.figures.insert("megabytes".into(), bytes as f64 / 1e6);
    measured.figures.insert("seconds".into(), seconds);
    // from when the whole file was there
    let complete =
        reply.body["at"].as_str().and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok()).ok_or("the import has no time")?;
    let matching = (chrono::Utc::now() - complete).as_seconds_f64();
    measured.figures.insert("matched_a_second".into(), ENTRIES as f64 / matching);
    let paid: i64 = sqlx::query_scalar("select count(*) from capital_calls.call_lines where paid = amount")
        .fetch_one(&world.database)
        .await
        .map_err(|error| error.to_string())?;
    if paid != ENTRIES as i64 {
        return Err(format!("{paid} of {ENTRIES} lines are paid"));
    }
    world.drained().await?;
    for (name, seconds) in world.processor() {
        let used = seconds - processor_before.get(&name).copied().unwrap_or_default();
        measured.figures.insert(format!("processor_{}_us", name.replace([' ', '-'], "_")), (1e6 * used / ENTRIES as f64).max(0.0));
    }
    measured.pgbench = (before + world.pgbench(PGBENCH_SECONDS)?) / 2.0;
    notes.add("statement_entries", measured);
    world.stop().await;
    Ok(())
}

/// A camt.053 that pays each line with its reference.
fn statement(lines: &[(Uuid, String)]) -> String {
    let mut file = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\"><BkToCstmrStmt>\
         <GrpHdr><MsgId>M</MsgId><CreDtTm>2026-11-02T18:00:00</CreDtTm></GrpHdr><Stmt><Id>S</Id><CreDtTm>2026-11-02T18:00:00</CreDtTm>\
         <Acct><Id><IBAN>DE89370400440532013000</IBAN></Id><Ccy>USD</Ccy></Acct>",
    );
    for (number, (id, amount)) in lines.iter().enumerate() {
        let reference = CreditorReference::of(*id);
        let _ = write!(
            file,
            "<Ntry><Amt Ccy=\"USD\">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-02</Dt></BookgDt>\
             <ValDt><Dt>2026-11-02</Dt></ValDt><AcctSvcrRef>B{number}</AcctSvcrRef><BkTxCd/><NtryDtls><TxDtls><Refs><EndToEndId>E{number}</EndToEndId></Refs>\
             <Amt Ccy=\"USD\">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><RltdPties><Dbtr><Pty><Nm>Investor {number}</Nm></Pty></Dbtr></RltdPties>\
             <RmtInf><Strd><CdtrRefInf><Ref>{}</Ref></CdtrRefInf></Strd></RmtInf></TxDtls></NtryDtls></Ntry>",
            reference.as_str()
        );
    }
    file.push_str("</Stmt></BkToCstmrStmt></Document>");
    file
}
