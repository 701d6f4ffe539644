//! The fixture: a firm of a given size, made from a seed and loaded by COPY.
//!
//! The same shape and seed give the same rows, ids included. The owners' tables hold what their own commands
//! would have left: funds and allocations, investors, commitments, issued calls with their lines, and payments
//! of 1.00 spread evenly over the lines, each with its idempotency key and answer. The event log has the newest
//! state of each aggregate, but of the payments only the newest [`Shape::history`]: a firm with ten million
//! payments has put older months aside. The read models are filled from the owners' tables, as their readers would.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use domain::messages::allocation_status::{Allocation, AllocationChange, AllocationDecision, Fund, FundChange, FundStatus, FundingStatus};
use domain::messages::capital_calls::{
    CallDecision, CallLine, CallLineChange, CallStatus, CapitalCall, CapitalCallChange, Clearing, Commitment, CommitmentChange,
    CommitmentStatus, Investor, InvestorChange, LinePurpose, LineStatus, LineTiming, Payment, PaymentChange, PaymentMethod, PaymentStatus,
    Priority, Purpose, PurposeKind,
};
use domain::{Aggregate, Amount, Currency, Event, ids};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::{Builder, Uuid};

mod maker;

use maker::{Maker, Row, json, name, row};

/// Bytes of a COPY that are sent at once.
const COPY_BYTES: usize = 4 << 20;
/// What one line asks for, in cents: a million, nine tenths of it for the investment.
const LINE_CENTS: i128 = 100_000_000;
/// What one investor has promised to a fund, in cents.
const COMMITMENT_CENTS: i128 = 100_000_000_000;
/// Who recorded the payments.
const TREASURER: &str = "treasurer";

/// How large the firm is.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Shape {
    /// Ids are derived from it.
    pub seed: u64,
    /// Funds.
    pub funds: usize,
    /// Investors of each fund, and so lines of each call.
    pub investors: usize,
    /// Issued calls of each fund.
    pub calls: usize,
    /// Payments stored.
    pub payments: usize,
    /// Payments whose events are in the log.
    pub history: usize,
}

/// What the load needs to know of the firm.
#[derive(Clone, Debug)]
pub struct Firm {
    /// Funds.
    pub funds: Vec<Uuid>,
    /// Calls, fund by fund.
    pub calls: Vec<Uuid>,
    /// Lines, call by call.
    pub lines: Vec<Uuid>,
    /// Lines of each call.
    pub investors: usize,
    /// One of the investors.
    pub investor: Uuid,
}

const LOG: &str = "event_log (log_id, event_id, stream, subject, aggregate, aggregate_id, epoch, version, at, actor, correlation_id, causation_id, traceparent, body)";

async fn copy(database: &PgPool, table: &str, rows: impl Iterator<Item = Result<Row, String>>) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("copy {table}: {error}");
    let mut connection = database.acquire().await.map_err(|error| fault(&error))?;
    let statement = format!("copy {table} from stdin (format csv)");
    let mut sink = connection.copy_in_raw(&statement).await.map_err(|error| fault(&error))?;
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(COPY_BYTES));
    let mut bytes = 0;
    for row in rows {
        let row = row?;
        bytes += row.iter().map(String::len).sum::<usize>();
        writer.write_record(&row).map_err(|error| fault(&error))?;
        if bytes >= COPY_BYTES {
            let full = writer.into_inner().map_err(|error| fault(&error))?;
            sink.send(full).await.map_err(|error| fault(&error))?;
            writer = csv::Writer::from_writer(Vec::with_capacity(COPY_BYTES));
            bytes = 0;
        }
    }
    let rest = writer.into_inner().map_err(|error| fault(&error))?;
    sink.send(rest).await.map_err(|error| fault(&error))?;
    sink.finish().await.map_err(|error| fault(&error))?;
    Ok(())
}

/// Loads a firm of this shape into an empty, migrated database.
pub async fn load(database: &PgPool, shape: Shape) -> Result<Firm, String> {
    let now = Utc::now();
    let usd: Currency = "USD".parse().map_err(|error| format!("{error}"))?;
    let maker = Maker { shape, logged: AtomicI64::new(1), usd, now, today: now.date_naive() };
    load_funds(database, &maker).await?;
    load_investors(database, &maker).await?;
    load_calls(database, &maker).await?;
    load_payments(database, &maker).await?;
    for statement in include_str!("read_models.sql").split(";\n").filter(|statement| !statement.trim().is_empty()) {
        sqlx::raw_sql(statement).execute(database).await.map_err(|error| format!("{statement}: {error}"))?;
    }
    sqlx::raw_sql("vacuum analyze").execute(database).await.map_err(|error| error.to_string())?;
    Ok(Firm {
        funds: (0..shape.funds).map(|n| maker.id("fund", n)).collect(),
        lines: (0..maker.lines()).map(|n| maker.id("line", n)).collect(),
        calls: (0..shape.funds * shape.calls).map(|n| maker.id("call", n)).collect(),
        investors: shape.investors,
        investor: maker.id("investor", 0),
    })
}

async fn load_funds(database: &PgPool, maker: &Maker) -> Result<(), String> {
    let shape = maker.shape;
    // one more than is allocated to
    let deals = (0..=shape.calls).map(|n| {
        let (id, at) = (maker.id("deal", n).to_string(), maker.now.to_rfc3339());
        Ok(row([&id, "1", "1", &at, &format!("Deal {n:05}"), "approved", "", "", "USD", ""]))
    });
    copy(database, "allocation_status.deals (id, epoch, version, created_at, name, stage, company, sector, currency, size)", deals).await?;
    let funds = (0..shape.funds).map(|n| {
        let fund = maker.fund(n);
        let (id, version, at) = (fund.id.to_string(), fund.version.to_string(), fund.created_at.to_rfc3339());
        let (size, allocated) = (fund.size.to_string(), fund.allocated.to_string());
        Ok(row([&id, &version, &at, &fund.name, &fund.fund_type, "USD", "2024", &size, &fund.calendar, &fund.timezone, &allocated]))
    });
    let columns = "(id, version, created_at, name, fund_type, currency, vintage_year, size, calendar, timezone, allocated)";
    copy(database, &format!("allocation_status.funds {columns}"), funds).await?;
    let allocations = (0..shape.funds * shape.calls).map(|n| {
        let allocation = maker.allocation(n);
        let texts = [allocation.id, allocation.deal_id, allocation.fund_id].map(|id| id.to_string());
        let (at, amount) = (allocation.created_at.to_rfc3339(), allocation.amount.to_string());
        let (called, paid) = (allocation.called.to_string(), allocation.paid.to_string());
        let [id, deal, fund] = &texts;
        Ok(row([id, "4", &at, deal, fund, "buyout", "USD", &amount, "equity", "analyst", "active", &called, &paid]))
    });
    let columns =
        "(id, version, created_at, deal_id, fund_id, fund_type, currency, amount, security_type, requested_by, decision, called, paid)";
    copy(database, &format!("allocation_status.allocations {columns}"), allocations).await?;
    let log = (0..shape.funds).map(|n| maker.logged(&maker.fund(n), FundChange::CapacityChanged));
    let log = log.chain((0..shape.funds * shape.calls).map(|n| maker.logged(&maker.allocation(n), AllocationChange::FundingChanged)));
    copy(database, &format!("allocation_status.{LOG}"), log).await
}

async fn load_investors(database: &PgPool, maker: &Maker) -> Result<(), String> {
    let shape = maker.shape;
    let investor = |n: usize| Investor {
        id: maker.id("investor", n),
        version: 1,
        created_at: maker.at(n),
        name: format!("Investor {n:06}"),
        investor_type: None,
        email: None,
        status: "active".into(),
    };
    let investors = (0..maker.investor_count()).map(|n| {
        let investor = investor(n);
        Ok(row([&investor.id.to_string(), "1", &investor.created_at.to_rfc3339(), &investor.name, ""]))
    });
    copy(database, "capital_calls.investors (id, version, created_at, name, email)", investors).await?;
    let commitments = (0..shape.funds * shape.investors).map(|n| {
        let commitment = maker.commitment(n);
        let [id, fund, investor] = [commitment.id, commitment.fund_id, commitment.investor_id].map(|id| id.to_string());
        let [amount, called, unfunded] = [commitment.amount, commitment.called, commitment.unfunded].map(|amount| amount.to_string());
        let (version, at, on) = (commitment.version.to_string(), commitment.created_at.to_rfc3339(), commitment.effective_on.to_string());
        Ok(row([&id, &version, &at, &fund, &investor, "USD", &amount, &on, &called, &unfunded]))
    });
    let columns = "(id, version, created_at, fund_id, investor_id, currency, amount, effective_on, called, unfunded)";
    copy(database, &format!("capital_calls.commitments {columns}"), commitments).await?;
    let entries = (0..shape.funds * shape.investors).map(|n| {
        let commitment = maker.commitment(n);
        let [id, fund] = [commitment.id, commitment.fund_id].map(|id| id.to_string());
        let (amount, at, on) = (commitment.amount.to_string(), commitment.created_at.to_rfc3339(), commitment.effective_on.to_string());
        Ok(row([&id, &id, &fund, "1", &at, "initial", &amount, &amount, &on, "initial commitment", "bench"]))
    });
    let columns = "(id, commitment_id, fund_id, version, at, kind, amount, impact_on_unfunded, effective_on, reason, recorded_by)";
    copy(database, &format!("capital_calls.commitment_entries {columns}"), entries).await?;
    let log = (0..maker.investor_count()).map(|n| maker.logged(&investor(n), InvestorChange::Registered));
    let log = log.chain((0..shape.funds * shape.investors).map(|n| maker.logged(&maker.commitment(n), CommitmentChange::Called)));
    copy(database, &format!("capital_calls.{LOG}"), log).await
}

async fn load_calls(database: &PgPool, maker: &Maker) -> Result<(), String> {
    let shape = maker.shape;
    let calls = (0..shape.funds * shape.calls).map(|n| {
        let call = maker.call(n);
        let [id, fund] = [call.id, call.fund_id].map(|id| id.to_string());
        let [amount, paid] = [call.amount, call.paid].map(|amount| amount.to_string());
        let (at, due, issued, lines) =
            (call.created_at.to_rfc3339(), call.due_on.to_string(), maker.today.to_string(), call.line_count.to_string());
        let purposes = json(&call.purposes);
        let hash = &call.content_hash;
        Ok(row([
            &id, "3", &at, &fund, "buyout", "USD", &amount, &purposes, &due, "normal", "manager", hash, "issued", &issued, &lines, &paid,
        ]))
    });
    let columns = "(id, version, created_at, fund_id, fund_type, currency, amount, purposes, due_on, priority, requested_by, \
                   content_hash, decision, issued_on, line_count, paid)";
    copy(database, &format!("capital_calls.capital_calls {columns}"), calls).await?;
    let lines = (0..maker.lines()).map(|n| {
        let line = maker.line(n);
        let [id, call, fund, investor] = [line.id, line.call_id, line.fund_id, line.investor_id].map(|id| id.to_string());
        let [amount, impact, paid] = [line.amount, line.impact_on_unfunded, line.paid].map(|amount| amount.to_string());
        let (version, at) = (line.version.to_string(), line.created_at.to_rfc3339());
        let (due, issued, purposes) = (line.due_on.to_string(), line.issued_on.to_string(), json(&line.purposes));
        let (zone, usd) = (&line.timezone, "USD");
        Ok(row([
            &id, &version, &at, &call, &fund, "buyout", &investor, usd, &amount, &impact, &paid, "0", &due, &issued, "0", zone, &purposes,
        ]))
    });
    let columns = "(id, version, created_at, call_id, fund_id, fund_type, investor_id, currency, amount, impact_on_unfunded, paid, \
                   unapplied, due_on, issued_on, grace_days, timezone, purposes)";
    copy(database, &format!("capital_calls.call_lines {columns}"), lines).await?;
    let log = (0..shape.funds * shape.calls).map(|n| maker.logged(&maker.call(n), CapitalCallChange::FundingChanged));
    let log = log.chain((0..maker.lines()).map(|n| maker.logged(&maker.line(n), CallLineChange::Issued)));
    copy(database, &format!("capital_calls.{LOG}"), log).await
}

async fn load_payments(database: &PgPool, maker: &Maker) -> Result<(), String> {
    let shape = maker.shape;
    let payments = (0..shape.payments).map(|n| {
        let payment = maker.payment(n);
        let [id, line, call, fund, investor] =
            [payment.id, payment.line_id, payment.call_id, payment.fund_id, payment.investor_id].map(|id| id.to_string());
        let (at, on, method) = (payment.created_at.to_rfc3339(), payment.received_on.to_string(), name(payment.method));
        let (one, reference) = (payment.amount.to_string(), &payment.reference);
        Ok(row([&id, "1", &at, &line, &call, &fund, &investor, "USD", &one, &one, "0", &method, reference, &on, TREASURER]))
    });
    let columns = "(id, version, created_at, line_id, call_id, fund_id, investor_id, currency, amount, applied, unapplied, method, \
                   reference, received_on, recorded_by)";
    copy(database, &format!("capital_calls.payments {columns}"), payments).await?;
    let answers = (0..shape.payments).map(|n| {
        let payment = maker.payment(n);
        let key = Uuid::new_v5(&ids::NAMESPACE, format!("{}/key/{n}", shape.seed).as_bytes()).to_string();
        let hash = format!("\\x{}{}", payment.id.simple(), payment.line_id.simple());
        let subject = "tranche.cmd.capital-calls.record-payment";
        let id = Sha256::digest(format!("{subject}\n{TREASURER}\n{key}"));
        let id = Uuid::from_slice(&id[..16]).map_err(|error| error.to_string())?.to_string();
        Ok(row([&id, subject, TREASURER, &key, &hash, &json(&payment), &payment.created_at.to_rfc3339()]))
    });
    copy(database, "capital_calls.idempotency (id, subject, actor, key, request_hash, reply, created_at)", answers).await?;
    let newest = shape.payments - shape.history.min(shape.payments)..shape.payments;
    let log = newest.map(|n| maker.logged(&maker.payment(n), PaymentChange::Recorded));
    copy(database, &format!("capital_calls.{LOG}"), log).await
}
