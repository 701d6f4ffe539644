//! A bank statement of 50,000 entries: how long it takes until every entry pays its line, or, where payers gave no reference, until lines
//! are suggested for it.

use std::fmt::Write;
use std::time::Instant;

use domain::CreditorReference;
use testkit::Client;
use uuid::Uuid;

use crate::fixture::Shape;
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// Entries of the statement: one for each line of ten calls over 5,000 investors.
const ENTRIES: usize = 50_000;
const INVESTORS: usize = 5_000;
/// The fund's account.
const ACCOUNT: &str = "DE89370400440532013000";
/// Seconds of each pgbench run, before and after.
const PGBENCH_SECONDS: u64 = 5;

/// Measures the imports.
pub async fn measure(plan: &Plan, notes: &mut Notes) -> Result<(), String> {
    for (name, by_reference) in [("statement_entries", true), ("statement_entries_without_reference", false)] {
        if plan.asks_for(name) {
            import(name, by_reference, notes).await?;
        }
    }
    Ok(())
}

/// A line to be paid: its id, its amount, the name of its investor.
type Line = (Uuid, String, String);

async fn import(name: &str, by_reference: bool, notes: &mut Notes) -> Result<(), String> {
    let shape = Shape { seed: 1, funds: 1, investors: INVESTORS, calls: ENTRIES / INVESTORS, payments: 0, history: 0 };
    let mut world = World::start(shape, &[]).await?;
    world.drained().await?;
    let lines: Vec<Line> = sqlx::query_as(
        "select call_lines.id, amount::text, name
         from capital_calls.call_lines join capital_calls.investors on investors.id = investor_id order by call_lines.id limit $1",
    )
    .bind(i64::try_from(ENTRIES).unwrap_or(i64::MAX))
    .fetch_all(&world.database)
    .await
    .map_err(|error| error.to_string())?;
    let file = statement(&lines, by_reference);
    let fund_id: Uuid = sqlx::query_scalar("select fund_id from capital_calls.call_lines limit 1")
        .fetch_one(&world.database)
        .await
        .map_err(|error| error.to_string())?;
    let admin = Client::new(&world.gateway(), Some(world.token(&["admin"])));
    admin.post(&format!("/funds/{fund_id}/bank-accounts"), serde_json::json!({"account": ACCOUNT})).await.expect(201);
    let treasurer = Client::new(&world.gateway(), Some(world.token(&["treasurer"])));
    let bytes = file.len();
    let before = world.pgbench(PGBENCH_SECONDS)?;
    let processor_before = world.processor();
    let since = Instant::now();
    let reply = treasurer.send("POST", "/bank-statements", Some(&Uuid::now_v7().to_string()), Some(file.into_bytes())).await?;
    let seconds = since.elapsed().as_secs_f64();
    let count = |field: &str| reply.body[field].as_u64().unwrap_or_default();
    let decided = if by_reference { "matched" } else { "suggested" };
    if (count(decided), count("left")) != (ENTRIES as u64, 0) {
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
    if by_reference && paid != ENTRIES as i64 {
        return Err(format!("{paid} of {ENTRIES} lines are paid"));
    }
    world.drained().await?;
    for (name, seconds) in world.processor() {
        let used = seconds - processor_before.get(&name).copied().unwrap_or_default();
        measured.figures.insert(format!("processor_{}_us", name.replace([' ', '-'], "_")), (1e6 * used / ENTRIES as f64).max(0.0));
    }
    measured.pgbench = (before + world.pgbench(PGBENCH_SECONDS)?) / 2.0;
    notes.add(name, measured);
    world.stop().await;
    Ok(())
}

/// A camt.053 that pays each line, with its reference or by its investor's name alone.
fn statement(lines: &[Line], by_reference: bool) -> String {
    let mut file = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\"><BkToCstmrStmt>\
         <GrpHdr><MsgId>M</MsgId><CreDtTm>2026-11-02T18:00:00</CreDtTm></GrpHdr><Stmt><Id>S</Id><CreDtTm>2026-11-02T18:00:00</CreDtTm>\
         <Acct><Id><IBAN>{ACCOUNT}</IBAN></Id><Ccy>USD</Ccy></Acct>",
    );
    for (number, (id, amount, payer)) in lines.iter().enumerate() {
        let reference = CreditorReference::of(*id);
        let said = if by_reference {
            format!("<Strd><CdtrRefInf><Ref>{}</Ref></CdtrRefInf></Strd>", reference.as_str())
        } else {
            "<Ustrd>capital call</Ustrd>".into()
        };
        let _ = write!(
            file,
            "<Ntry><Amt Ccy=\"USD\">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-02</Dt></BookgDt>\
             <ValDt><Dt>2026-11-02</Dt></ValDt><AcctSvcrRef>B{number}</AcctSvcrRef><BkTxCd/><NtryDtls><TxDtls><Refs><EndToEndId>E{number}</EndToEndId></Refs>\
             <Amt Ccy=\"USD\">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><RltdPties><Dbtr><Pty><Nm>{payer}</Nm></Pty></Dbtr></RltdPties>\
             <RmtInf>{said}</RmtInf></TxDtls></NtryDtls></Ntry>"
        );
    }
    file.push_str("</Stmt></BkToCstmrStmt></Document>");
    file
}
