//! All SQL of allocation status.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::{BTreeMap, HashMap};

use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund, FundStatus, FundingStatus};
use ::domain::messages::capital_calls::CallLine;
use ::domain::messages::deals::{DEAL_SCHEMA_VERSION, Deal, STAGES_CLOSED_TO_ALLOCATION};
use ::domain::rules::concentration::UNSPECIFIED;
use ::domain::{Amount, ids};
use chassis::row::column;
use chassis::{Fault, RowExt, Seen, Tx, row};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain;

/// The funds and allocations that this service owns, and the lines that it follows.
pub const FUNDS: &str = "select id, version from funds";
/// See [`FUNDS`].
pub const ALLOCATIONS: &str = "select id, version from allocations";
/// See [`FUNDS`]; a line that no allocation has a part of stands there under the nil id.
pub const LINES: &str = "select distinct line_id as id, epoch, version from line_shares";

/// What is kept beside its rows.
pub const TOTALS: [chassis::Total; 3] = [
    (
        "allocated of funds",
        "select funds.id::text, allocated::text, coalesce(computed, 0)::text
         from funds left join (select fund_id, sum(amount) as computed from allocations where decision in ('pending_approval', 'active') group by fund_id)
              as allocations on fund_id = funds.id
         where allocated <> coalesce(computed, 0)",
    ),
    (
        "called and paid of allocations",
        "select id::text, format('%s/%s', allocations.called, allocations.paid), format('%s/%s', shares.called, shares.paid)
         from allocations left join (select allocation_id as id, sum(called) as called, sum(paid) as paid from line_shares group by allocation_id)
              as shares using (id)
         where (allocations.called, allocations.paid) is distinct from (coalesce(shares.called, 0), coalesce(shares.paid, 0))",
    ),
    (
        "allocations that cash is called for",
        "select allocation_id::text, 'forgotten', format('%s called, %s paid', sum(called), sum(paid))
         from line_shares
         where called <> 0 and allocation_id <> '00000000-0000-0000-0000-000000000000'
           and not exists (select from allocations where id = allocation_id)
         group by allocation_id",
    ),
];

// ---- deals

/// Keeps the newest version of each deal.
pub async fn copy_deals(tx: &mut Tx, deals: &[Seen<Deal>]) -> Result<(), Fault> {
    let now = tx.now();
    sqlx::query(
        "insert into deals (id, epoch, version, name, stage, company, sector, currency, size, created_at, off_since)
         select *, $10, case when stage = any($11) then version end
         from unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::numeric[])
              as new (id, epoch, version, name, stage, company, sector, currency, size)
         on conflict (id) do update
         set epoch = excluded.epoch, version = excluded.version, name = excluded.name, stage = excluded.stage,
             company = excluded.company, sector = excluded.sector, currency = excluded.currency, size = excluded.size,
             off_since = case when excluded.off_since is not null and deals.stage = any($11) then deals.off_since else excluded.off_since end
         where (excluded.epoch, excluded.version) > (deals.epoch, deals.version)",
    )
    .bind(column(deals, |seen| seen.state.id))
    .bind(column(deals, |seen| seen.epoch))
    .bind(column(deals, |seen| seen.state.version))
    .bind(column(deals, |seen| seen.state.name.as_str()))
    .bind(column(deals, |seen| seen.state.stage.as_str()))
    .bind(column(deals, |seen| seen.state.company.as_deref()))
    .bind(column(deals, |seen| seen.state.sector.as_deref()))
    .bind(column(deals, |seen| seen.state.currency.map(|currency| currency.code())))
    .bind(column(deals, |seen| seen.state.size.map(Amount::decimal)))
    .bind(now)
    .bind(STAGES_CLOSED_TO_ALLOCATION)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn deal(row: &PgRow) -> Result<Deal, Error> {
    Ok(Deal {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        schema_version: DEAL_SCHEMA_VERSION,
        name: row.try_get("name")?,
        stage: row.try_get("stage")?,
        company: row.try_get("company")?,
        sector: row.try_get("sector")?,
        currency: row.try_get::<Option<String>, _>("currency")?.and_then(|code| code.parse().ok()),
        size: row.try_get::<Option<Decimal>, _>("size")?.map(Amount::from_decimal),
        stage_replies: vec![],
        created_at: row.try_get("created_at")?,
    })
}

/// The deals with these ids, locked against other proposals.
pub async fn lock_deals(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Deal>, Fault> {
    let deals = sqlx::query("select * from deals where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| deal(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(deals.into_iter().map(|deal| (deal.id, deal)).collect())
}

/// One deal.
pub async fn find_deal(tx: &mut Tx, id: Uuid) -> Result<Option<Deal>, Fault> {
    Ok(sqlx::query("select * from deals where id = $1").bind(id).try_map(|row| deal(&row)).fetch_optional(&mut **tx).await?)
}

/// Deals after an id.
pub async fn list_deals(tx: &mut Tx, stage: Option<&str>, after: Uuid, limit: i64) -> Result<Vec<Deal>, Fault> {
    let deals = sqlx::query("select * from deals where ($1::text is null or stage = $1) and id > $2 order by id limit $3")
        .persistent(false)
        .bind(stage)
        .bind(after)
        .bind(limit)
        .try_map(|row| deal(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(deals)
}

// ---- funds

fn fund(row: &PgRow) -> Result<Fund, Error> {
    let currency = row.parsed("currency")?;
    let mut fund = Fund {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        name: row.try_get("name")?,
        fund_type: row.try_get("fund_type")?,
        currency,
        vintage_year: row.try_get("vintage_year")?,
        size: row.amount("size", currency)?,
        calendar: row.try_get("calendar")?,
        timezone: row.try_get("timezone")?,
        allocated: row.amount("allocated", currency)?,
        status: FundStatus::Open,
    };
    fund.status = domain::fund_status(&fund);
    Ok(fund)
}

/// Adds funds; returns the ids of those whose name was free.
pub async fn insert_funds(tx: &mut Tx, funds: &[Fund]) -> Result<Vec<Uuid>, Fault> {
    let added = sqlx::query_scalar(
        "insert into funds (id, version, created_at, name, fund_type, currency, vintage_year, size, calendar, timezone, allocated)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::int[],
                              $8::numeric[], $9::text[], $10::text[], $11::numeric[])
         on conflict (name) do nothing
         returning id",
    )
    .bind(column(funds, |fund| fund.id))
    .bind(column(funds, |fund| fund.version))
    .bind(column(funds, |fund| fund.created_at))
    .bind(column(funds, |fund| fund.name.as_str()))
    .bind(column(funds, |fund| fund.fund_type.as_str()))
    .bind(column(funds, |fund| fund.currency.code()))
    .bind(column(funds, |fund| fund.vintage_year))
    .bind(column(funds, |fund| fund.size.decimal()))
    .bind(column(funds, |fund| fund.calendar.as_str()))
    .bind(column(funds, |fund| fund.timezone.as_str()))
    .bind(column(funds, |fund| fund.allocated.decimal()))
    .fetch_all(&mut **tx)
    .await?;
    Ok(added)
}

/// The funds with these ids, locked: what is allocated is decided one proposal after another.
pub async fn lock_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Fund>, Fault> {
    let funds = sqlx::query("select * from funds where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| fund(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(funds.into_iter().map(|fund| (fund.id, fund)).collect())
}

/// The funds with these ids.
pub async fn find_funds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Fund>, Fault> {
    let funds = sqlx::query("select * from funds where id = any($1)").bind(ids).try_map(|row| fund(&row)).fetch_all(&mut **tx).await?;
    Ok(funds.into_iter().map(|fund| (fund.id, fund)).collect())
}

/// Writes what is allocated of funds.
pub async fn save_funds(tx: &mut Tx, funds: &[&Fund]) -> Result<(), Fault> {
    sqlx::query(
        "update funds set version = new.version, allocated = new.allocated
         from unnest($1::uuid[], $2::bigint[], $3::numeric[]) as new (id, version, allocated)
         where funds.id = new.id",
    )
    .bind(column(funds, |fund| fund.id))
    .bind(column(funds, |fund| fund.version))
    .bind(column(funds, |fund| fund.allocated.decimal()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One fund.
pub async fn find_fund(tx: &mut Tx, id: Uuid) -> Result<Option<Fund>, Fault> {
    Ok(sqlx::query("select * from funds where id = $1").bind(id).try_map(|row| fund(&row)).fetch_optional(&mut **tx).await?)
}

/// Funds by name, after a name.
pub async fn list_funds(tx: &mut Tx, scope: Option<&[Uuid]>, after: &str, limit: i64) -> Result<Vec<Fund>, Fault> {
    let funds = sqlx::query("select * from funds where ($1::uuid[] is null or id = any($1)) and name > $2 order by name limit $3")
        .persistent(false)
        .bind(scope)
        .bind(after)
        .bind(limit)
        .try_map(|row| fund(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(funds)
}

// ---- allocations

fn allocation(row: &PgRow) -> Result<Allocation, Error> {
    let currency = row.parsed("currency")?;
    let id = row.try_get("id")?;
    let mut allocation = Allocation {
        id,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        deal_id: row.try_get("deal_id")?,
        fund_id: row.try_get("fund_id")?,
        fund_type: row.try_get("fund_type")?,
        currency,
        amount: row.amount("amount", currency)?,
        security_type: row.try_get("security_type")?,
        details: row.try_get::<Option<Json<_>>, _>("details")?.map(|Json(details)| details),
        requested_by: row.try_get("requested_by")?,
        workflow_id: ids::workflow_id(id),
        rules: row.json("rules")?,
        concentration: row.try_get::<Option<Json<_>>, _>("concentration")?.map(|Json(concentration)| concentration),
        withdrawal: row.try_get::<Option<Json<_>>, _>("withdrawal")?.map(|Json(withdrawal)| withdrawal),
        decision: row.named("decision")?,
        called: row.amount("called", currency)?,
        paid: row.amount("paid", currency)?,
        funding_status: FundingStatus::Committed,
        status: String::new(),
    };
    domain::derive(&mut allocation);
    Ok(allocation)
}

/// The allocations of these deals that are pending or active. The deals are locked.
pub async fn allocations_of_deals(tx: &mut Tx, deal_ids: &[Uuid]) -> Result<Vec<Allocation>, Fault> {
    let allocations = sqlx::query("select * from allocations where deal_id = any($1) and decision in ('pending_approval', 'active')")
        .bind(deal_ids)
        .try_map(|row| allocation(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(allocations)
}

/// What funds have in deals of these sectors, pending or active, by fund and sector. The funds are locked.
pub async fn allocated_by_sector(tx: &mut Tx, fund_ids: &[Uuid], sectors: &[&str]) -> Result<HashMap<(Uuid, String), Amount>, Fault> {
    let sums: Vec<PgRow> = sqlx::query(
        "select fund_id, coalesce(sector, $3) as sector, sum(amount) as amount
         from allocations join deals on deals.id = deal_id
         where fund_id = any($1) and decision in ('pending_approval', 'active') and coalesce(sector, $3) = any($2)
         group by fund_id, coalesce(sector, $3)",
    )
    .bind(fund_ids)
    .bind(sectors)
    .bind(UNSPECIFIED)
    .fetch_all(&mut **tx)
    .await?;
    sums.iter().map(|row| Ok(((row.try_get("fund_id")?, row.try_get("sector")?), row.number("amount")?))).collect()
}

/// Adds allocations.
pub async fn insert_allocations(tx: &mut Tx, allocations: &[Allocation]) -> Result<(), Fault> {
    sqlx::query(
        "insert into allocations (id, version, created_at, deal_id, fund_id, fund_type, currency, amount, security_type,
                                  requested_by, decision, called, paid, rules, details, concentration)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
                              $8::numeric[], $9::text[], $10::text[], $11::text[], $12::numeric[], $13::numeric[], $14::jsonb[], $15::jsonb[], $16::jsonb[])",
    )
    .bind(column(allocations, |allocation| allocation.id))
    .bind(column(allocations, |allocation| allocation.version))
    .bind(column(allocations, |allocation| allocation.created_at))
    .bind(column(allocations, |allocation| allocation.deal_id))
    .bind(column(allocations, |allocation| allocation.fund_id))
    .bind(column(allocations, |allocation| allocation.fund_type.as_str()))
    .bind(column(allocations, |allocation| allocation.currency.code()))
    .bind(column(allocations, |allocation| allocation.amount.decimal()))
    .bind(column(allocations, |allocation| allocation.security_type.as_str()))
    .bind(column(allocations, |allocation| allocation.requested_by.as_str()))
    .bind(column(allocations, |allocation| row::name(&allocation.decision)))
    .bind(column(allocations, |allocation| allocation.called.decimal()))
    .bind(column(allocations, |allocation| allocation.paid.decimal()))
    .bind(column(allocations, |allocation| Json(&allocation.rules)))
    .bind(column(allocations, |allocation| allocation.details.as_ref().map(Json)))
    .bind(column(allocations, |allocation| allocation.concentration.as_ref().map(Json)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The allocations with these ids, locked.
pub async fn lock_allocations(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Allocation>, Fault> {
    let allocations = sqlx::query("select * from allocations where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| allocation(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(allocations.into_iter().map(|allocation| (allocation.id, allocation)).collect())
}

/// Writes what changed on allocations.
pub async fn save_allocations(tx: &mut Tx, allocations: &[&Allocation]) -> Result<(), Fault> {
    sqlx::query(
        "update allocations
         set version = new.version, decision = new.decision, called = new.called, paid = new.paid, amount = new.amount,
             withdrawal = new.withdrawal
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::jsonb[])
              as new (id, version, decision, called, paid, amount, withdrawal)
         where allocations.id = new.id",
    )
    .bind(column(allocations, |allocation| allocation.id))
    .bind(column(allocations, |allocation| allocation.version))
    .bind(column(allocations, |allocation| row::name(&allocation.decision)))
    .bind(column(allocations, |allocation| allocation.called.decimal()))
    .bind(column(allocations, |allocation| allocation.paid.decimal()))
    .bind(column(allocations, |allocation| allocation.amount.decimal()))
    .bind(column(allocations, |allocation| allocation.withdrawal.as_ref().map(Json)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How a deal stands to its allocations.
#[derive(Clone, Debug)]
pub struct DealStands {
    /// Its stage.
    pub stage: String,
    /// Whether it will not happen.
    pub is_off: bool,
}

/// The allocations that hold capacity for deals of these which have come to be off since they were looked at last, and those of which
/// people are told although the deal is on again, with how the deals stand. Locked.
pub async fn lock_allocations_of_deals(tx: &mut Tx, deal_ids: &[Uuid]) -> Result<Vec<(Allocation, DealStands)>, Fault> {
    let allocations = sqlx::query(
        "select allocations.*, deals.stage, deals.off_since is not null as is_off
         from allocations join deals on deals.id = deal_id
         where deal_id = any($1) and decision in ('pending_approval', 'active')
           and case when deals.off_since is null then withdrawal ->> 'then' = 'alert' and withdrawal ->> 'by' = $2
                    else off_heeded is distinct from deals.off_since end
         order by allocations.id for no key update of allocations",
    )
    .bind(deal_ids)
    .bind(domain::DEAL_SYSTEM)
    .try_map(|row| Ok((allocation(&row)?, DealStands { stage: row.try_get("stage")?, is_off: row.try_get("is_off")? })))
    .fetch_all(&mut **tx)
    .await?;
    Ok(allocations)
}

/// Notes of allocations that are locked that their deals' being off was looked at.
pub async fn heed_deals_off(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query("update allocations set off_heeded = deals.off_since from deals where deals.id = deal_id and allocations.id = any($1)")
        .bind(ids)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// One allocation.
pub async fn find_allocation(tx: &mut Tx, id: Uuid) -> Result<Option<Allocation>, Fault> {
    Ok(sqlx::query("select * from allocations where id = $1").bind(id).try_map(|row| allocation(&row)).fetch_optional(&mut **tx).await?)
}

/// Which allocations a list shows.
#[derive(Debug, Default)]
pub struct AllocationFilter<'a> {
    /// Of these funds.
    pub scope: Option<&'a [Uuid]>,
    /// Of this fund.
    pub fund_id: Option<Uuid>,
    /// Of this deal.
    pub deal_id: Option<Uuid>,
    /// With this decision.
    pub decision: Option<AllocationDecision>,
}

/// Allocations, newest first, before an id.
pub async fn list_allocations(tx: &mut Tx, filter: &AllocationFilter<'_>, before: Uuid, limit: i64) -> Result<Vec<Allocation>, Fault> {
    let allocations = sqlx::query(
        "select * from allocations
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2)
           and ($3::uuid is null or deal_id = $3) and ($4::text is null or decision = $4) and id < $5
         order by id desc limit $6",
    )
    .persistent(false)
    .bind(filter.scope)
    .bind(filter.fund_id)
    .bind(filter.deal_id)
    .bind(filter.decision.map(|decision| row::name(&decision)))
    .bind(before)
    .bind(limit)
    .try_map(|row| allocation(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(allocations)
}

// ---- call lines

/// Keeps each line's parts for allocations, where the version is newer, and returns by how much
/// each allocation's called and paid changed, if they did. The previous values come from the locked row itself.
pub async fn keep_line_shares(tx: &mut Tx, lines: &[Seen<CallLine>]) -> Result<BTreeMap<Uuid, (Amount, Amount)>, Fault> {
    let mut shares: Vec<(Uuid, Uuid, i32, i64, Decimal, Decimal)> = Vec::new();
    for seen in lines {
        let line = &seen.state;
        let mut of_line: HashMap<Uuid, (Amount, Amount)> = HashMap::new();
        for part in &line.purposes {
            if let Some(id) = part.allocation_id {
                let sums = of_line.entry(id).or_default();
                *sums = (sums.0 + part.amount, sums.1 + part.paid);
            }
        }
        if of_line.is_empty() {
            // so that the line is known to have come
            of_line.insert(Uuid::nil(), Default::default());
        }
        shares.extend(
            of_line.into_iter().map(|(id, (called, paid))| (line.id, id, seen.epoch, line.version, called.decimal(), paid.decimal())),
        );
    }
    shares.sort_unstable();
    let rows = sqlx::query(
        "insert into line_shares as known (line_id, allocation_id, epoch, version, called, paid)
         select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::numeric[], $6::numeric[])
         on conflict (line_id, allocation_id) do update
         set epoch = excluded.epoch, version = excluded.version,
             previous_called = known.called, called = excluded.called,
             previous_paid = known.paid, paid = excluded.paid
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning allocation_id, called - previous_called as called, paid - previous_paid as paid",
    )
    .bind(column(&shares, |share| share.0))
    .bind(column(&shares, |share| share.1))
    .bind(column(&shares, |share| share.2))
    .bind(column(&shares, |share| share.3))
    .bind(column(&shares, |share| share.4))
    .bind(column(&shares, |share| share.5))
    .fetch_all(&mut **tx)
    .await?;
    changed_funding(&rows)
}

/// Forgets lines; returns by how much less each allocation is called and paid.
pub async fn forget_line_shares(tx: &mut Tx, line_ids: &[Uuid]) -> Result<BTreeMap<Uuid, (Amount, Amount)>, Fault> {
    let rows = sqlx::query("delete from line_shares where line_id = any($1) returning allocation_id, -called as called, -paid as paid")
        .bind(line_ids)
        .fetch_all(&mut **tx)
        .await?;
    changed_funding(&rows)
}

fn changed_funding(rows: &[PgRow]) -> Result<BTreeMap<Uuid, (Amount, Amount)>, Fault> {
    let mut changed: BTreeMap<Uuid, (Amount, Amount)> = BTreeMap::new();
    for row in rows {
        let sums = changed.entry(row.try_get("allocation_id")?).or_default();
        *sums = (sums.0 + row.number("called")?, sums.1 + row.number("paid")?);
    }
    changed.retain(|_, (called, paid)| !(called.decimal().is_zero() && paid.decimal().is_zero()));
    Ok(changed)
}

/// Adds to what allocations are called and paid; returns those that there are. They are locked in the order of their ids.
pub async fn add_funding(tx: &mut Tx, changed: &BTreeMap<Uuid, (Amount, Amount)>) -> Result<Vec<Uuid>, Fault> {
    if changed.is_empty() {
        return Ok(vec![]);
    }
    let known = sqlx::query_scalar(
        "with locked as materialized (
            select id, new.called, new.paid
            from unnest($1::uuid[], $2::numeric[], $3::numeric[]) as new (id, called, paid) join allocations using (id)
            order by id for no key update of allocations
         )
         update allocations set called = allocations.called + locked.called, paid = allocations.paid + locked.paid
         from locked where allocations.id = locked.id
         returning allocations.id",
    )
    .bind(changed.keys().copied().collect::<Vec<_>>())
    .bind(changed.values().map(|(called, _)| called.decimal()).collect::<Vec<_>>())
    .bind(changed.values().map(|(_, paid)| paid.decimal()).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    Ok(known)
}

#[cfg(test)]
mod tests;
