//! Imports and entries of bank statements.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{BankEntry, BankEntryDecision, BankImport, ImportedEntry, MatchReason, Suggestion};
use ::domain::{Actor, Amount, Scope};
use chassis::row::{column, decimals};
use chassis::{Fault, RowExt, Tx, row};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{Member, OpenLine};

// ---- imports

/// Puts entries of a file aside; one that is there stays.
pub async fn stage(tx: &mut Tx, import_id: Uuid, from: i32, entries: &[ImportedEntry]) -> Result<(), Fault> {
    let places: Vec<i32> = (from..).take(entries.len()).collect();
    let now = tx.now();
    sqlx::query(
        "insert into staged_entries (import_id, place, entry, staged_at)
         select $1, place, entry, $4 from unnest($2::int[], $3::jsonb[]) as staged (place, entry)
         on conflict do nothing",
    )
    .bind(import_id)
    .bind(places)
    .bind(column(entries, Json))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How many entries of an import were put aside.
pub async fn count_staged(tx: &mut Tx, import_id: Uuid) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar("select count(*) from staged_entries where import_id = $1").bind(import_id).fetch_one(&mut **tx).await?)
}

/// The keys of the accounts that the entries of an import are on.
pub async fn staged_accounts(tx: &mut Tx, import_id: Uuid) -> Result<Vec<String>, Fault> {
    let keys = "select distinct entry ->> 'account_key' from staged_entries where import_id = $1 and entry ? 'account_key'";
    Ok(sqlx::query_scalar(keys).bind(import_id).fetch_all(&mut **tx).await?)
}

/// Takes entries of an import out of where they were put aside, in the order of the file, at most so many.
pub async fn take_staged(tx: &mut Tx, import_id: Uuid, limit: i64) -> Result<Vec<ImportedEntry>, Fault> {
    let staged = sqlx::query(
        "with first as (
            select place from staged_entries where import_id = $1 order by place limit $2
         ), taken as (
            delete from staged_entries using first where import_id = $1 and staged_entries.place = first.place
            returning staged_entries.place, entry
         )
         select entry from taken order by place",
    )
    .bind(import_id)
    .bind(limit)
    .try_map(|row: PgRow| row.json("entry"))
    .fetch_all(&mut **tx)
    .await?;
    Ok(staged)
}

/// Throws away what was put aside before a time: its file was never read to the end.
pub async fn discard_staged(tx: &mut Tx, before: chrono::DateTime<chrono::Utc>) -> Result<(), Fault> {
    let forgotten = "delete from staged_entries where staged_at < $1 and not exists (select from bank_imports where id = import_id)";
    sqlx::query(forgotten).bind(before).execute(&mut **tx).await?;
    Ok(())
}

/// Adds an import, on behalf of somebody.
pub async fn insert_import(tx: &mut Tx, import: &BankImport, actor: &Actor) -> Result<(), Fault> {
    sqlx::query("insert into bank_imports (id, import, roles, scope, waiting) values ($1, $2, $3, $4, $5)")
        .bind(import.id)
        .bind(Json(import))
        .bind(&actor.roles)
        .bind(actor.scope.funds())
        .bind(import.left > 0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Imports with entries that are still to be matched, that nobody else is at.
pub async fn waiting_imports(tx: &mut Tx, limit: i64) -> Result<Vec<Uuid>, Fault> {
    // by chance: one that fails again and again holds up no other
    let waiting = "select id from bank_imports where waiting order by random() limit $1 for update skip locked";
    Ok(sqlx::query_scalar(waiting).bind(limit).fetch_all(&mut **tx).await?)
}

/// An import that is still to be matched, locked, and on whose behalf; none when somebody else is at it.
pub async fn lock_import(tx: &mut Tx, id: Uuid) -> Result<Option<(BankImport, Actor)>, Fault> {
    let found = sqlx::query("select * from bank_imports where id = $1 and waiting for update skip locked")
        .bind(id)
        .try_map(|row: PgRow| {
            let import: BankImport = row.json("import")?;
            let scope = row.try_get::<Option<Vec<Uuid>>, _>("scope")?.map_or(Scope::All, Scope::Funds);
            let actor = Actor { user: import.imported_by.clone(), roles: row.try_get("roles")?, scope };
            Ok((import, actor))
        })
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found)
}

/// Writes how far an import is.
pub async fn save_import(tx: &mut Tx, import: &BankImport) -> Result<(), Fault> {
    sqlx::query("update bank_imports set import = $2, waiting = $3 where id = $1")
        .bind(import.id)
        .bind(Json(import))
        .bind(import.left > 0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// One import.
pub async fn find_import(tx: &mut Tx, id: Uuid) -> Result<Option<BankImport>, Fault> {
    let import = sqlx::query("select import from bank_imports where id = $1").bind(id);
    Ok(import.try_map(|row: PgRow| row.json("import")).fetch_optional(&mut **tx).await?)
}

/// Keeps others from importing entries of these accounts until the transaction ends.
pub async fn lock_accounts(tx: &mut Tx, accounts: &[String]) -> Result<(), Fault> {
    super::lock_names(tx, "account", accounts).await
}

// ---- entries

/// What is kept of a match.
#[derive(Serialize, Deserialize)]
struct Matched {
    matched_by: Option<MatchReason>,
    sure: Option<u8>,
    note: Option<String>,
    suggestions: Vec<Suggestion>,
    decided_by: Option<String>,
}

/// By what an entry is known again: the keys of the file's entry, with the number of the transaction.
pub fn keys(entry: &ImportedEntry) -> (Option<String>, String) {
    let key = |key: &String| format!("{key}#{}", entry.ordinal);
    (entry.reference_key.as_ref().map(key), key(&entry.content_key))
}

fn bank_entry(row: &PgRow) -> Result<BankEntry, Error> {
    let Matched { matched_by, sure, note, suggestions, decided_by } = row.json("matched")?;
    let decision = row.named("decision")?;
    Ok(BankEntry {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        import_id: row.try_get("import_id")?,
        entry: row.json("entry")?,
        decision,
        matched_by,
        sure,
        note,
        payment_ids: row.try_get("payment_ids")?,
        suggestions,
        decided_by,
        age_days: None,
        status: decision,
    })
}

fn matched(entry: &BankEntry) -> Json<Matched> {
    let BankEntry { matched_by, sure, note, suggestions, decided_by, .. } = entry.clone();
    Json(Matched { matched_by, sure, note, suggestions, decided_by })
}

/// Adds entries.
pub async fn insert_bank_entries(tx: &mut Tx, entries: &[&BankEntry]) -> Result<(), Fault> {
    let keys = column(entries, |entry| keys(&entry.entry));
    sqlx::query(
        "insert into bank_entries (id, version, created_at, fund_id, import_id, account, reference_key, content_key, decision, entry, matched,
                                   end_to_end_id, amount, payment_ids)
         select id, version, created_at, fund_id, import_id, account, reference_key, content_key, decision, entry, matched, end_to_end_id,
                amount, array(select jsonb_array_elements_text(payment_ids)::uuid)
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::jsonb[], $11::jsonb[], $12::text[], $13::numeric[], $14::jsonb[])
              as new (id, version, created_at, fund_id, import_id, account, reference_key, content_key, decision, entry, matched,
                      end_to_end_id, amount, payment_ids)",
    )
    .bind(column(entries, |entry| entry.id))
    .bind(column(entries, |entry| entry.version))
    .bind(column(entries, |entry| entry.created_at))
    .bind(column(entries, |entry| entry.fund_id))
    .bind(column(entries, |entry| entry.import_id))
    .bind(column(entries, |entry| entry.entry.account.as_str()))
    .bind(column(&keys, |(reference, _)| reference.as_deref()))
    .bind(column(&keys, |(_, content)| content.as_str()))
    .bind(column(entries, |entry| row::name(&entry.decision)))
    .bind(column(entries, |entry| Json(&entry.entry)))
    .bind(column(entries, |entry| matched(entry)))
    .bind(column(entries, |entry| entry.entry.end_to_end_id.as_deref()))
    .bind(decimals(entries, |entry| entry.entry.amount))
    .bind(column(entries, |entry| Json(&entry.payment_ids)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes entries that are locked.
pub async fn save_bank_entries(tx: &mut Tx, entries: &[&BankEntry]) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let keys = column(entries, |entry| keys(&entry.entry));
    sqlx::query(
        "update bank_entries
         set version = new.version, fund_id = new.fund_id, reference_key = new.reference_key, decision = new.decision, entry = new.entry,
             matched = new.matched, amount = new.amount, payment_ids = array(select jsonb_array_elements_text(new.payment_ids)::uuid),
             content_key = new.content_key, end_to_end_id = new.end_to_end_id
         from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[], $8::numeric[], $9::jsonb[],
                     $10::text[], $11::text[])
              as new (id, version, fund_id, reference_key, decision, entry, matched, amount, payment_ids, content_key, end_to_end_id)
         where bank_entries.id = new.id",
    )
    .bind(column(entries, |entry| entry.id))
    .bind(column(entries, |entry| entry.version))
    .bind(column(entries, |entry| entry.fund_id))
    .bind(column(&keys, |(reference, _)| reference.as_deref()))
    .bind(column(entries, |entry| row::name(&entry.decision)))
    .bind(column(entries, |entry| Json(&entry.entry)))
    .bind(column(entries, |entry| matched(entry)))
    .bind(decimals(entries, |entry| entry.entry.amount))
    .bind(column(entries, |entry| Json(&entry.payment_ids)))
    .bind(column(&keys, |(_, content)| content.as_str()))
    .bind(column(entries, |entry| entry.entry.end_to_end_id.as_deref()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The entries that have one of these keys.
pub async fn known_bank_entries(tx: &mut Tx, keys: &[(Option<String>, String)]) -> Result<Vec<BankEntry>, Fault> {
    let references: Vec<&str> = keys.iter().filter_map(|(reference, _)| reference.as_deref()).collect();
    let entries = sqlx::query(
        "select * from bank_entries
         where id in (select id from bank_entries where reference_key = any($1)
                      union
                      select id from bank_entries where content_key = any($2))",
    )
    .bind(references)
    .bind(column(keys, |(_, content)| content.as_str()))
    .try_map(|row| bank_entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// Entries that have brought cash to the accounts of these keys with these end-to-end ids and amounts, locked: those that a return may be
/// of. What was taken back is not; what has paid nothing is.
pub async fn credited(tx: &mut Tx, of: &[(&str, &str, Amount)]) -> Result<Vec<BankEntry>, Fault> {
    let entries = sqlx::query(
        "select entry.* from unnest($1::text[], $2::text[], $3::numeric[]) as asked (account_key, end_to_end_id, amount)
         join bank_entries as entry using (end_to_end_id)
         where entry.entry ->> 'account_key' = asked.account_key and entry.amount = asked.amount
           and (entry.decision in ('suggested', 'unmatched') and (entry.entry ->> 'credit')::boolean
                or entry.decision = 'matched'
                   and not exists (select from payments where payments.id = any(entry.payment_ids) and payments.reversal is not null))
         order by entry.id for no key update of entry",
    )
    .bind(column(of, |(account, _, _)| *account))
    .bind(column(of, |(_, id, _)| *id))
    .bind(decimals(of, |(_, _, amount)| *amount))
    .try_map(|row| bank_entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// Returns on the accounts of these keys with these amounts that were of nothing that was known when they came, locked.
pub async fn returns_that_wait(tx: &mut Tx, of: &[(&str, Amount)]) -> Result<Vec<BankEntry>, Fault> {
    let entries = sqlx::query(
        "select * from bank_entries as entry
         where decision = 'unmatched' and not (entry.entry ->> 'credit')::boolean
           and (entry.entry ->> 'account_key', amount) in (select * from unnest($1::text[], $2::numeric[]))
         order by id for no key update of entry",
    )
    .bind(column(of, |(account, _)| *account))
    .bind(decimals(of, |(_, amount)| *amount))
    .try_map(|row| bank_entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// Entries with one of these amounts that have paid these lines, locked; what was taken back is not among them.
pub async fn credited_to_lines(tx: &mut Tx, line_ids: &[Uuid], amounts: &[Amount]) -> Result<Vec<BankEntry>, Fault> {
    if line_ids.is_empty() {
        return Ok(vec![]);
    }
    let entries = sqlx::query(
        "select * from bank_entries as entry
         where payment_ids && (select array_agg(id) from payments where line_id = any($1) and reversal is null)
           and decision = 'matched' and amount = any($2)
           and not exists (select from payments where payments.id = any(entry.payment_ids) and payments.reversal is not null)
         order by id for no key update",
    )
    .bind(line_ids)
    .bind(decimals(amounts, |amount| *amount))
    .try_map(|row| bank_entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// The entries that these payments came from, locked.
pub async fn lock_entries_of_payments(tx: &mut Tx, payment_ids: &[Uuid]) -> Result<HashMap<Uuid, BankEntry>, Fault> {
    let of_payments = "select id from bank_entries where payment_ids && $1 and decision = 'matched'";
    let ids: Vec<Uuid> = sqlx::query_scalar(of_payments).bind(payment_ids).fetch_all(&mut **tx).await?;
    if ids.is_empty() { Ok(HashMap::new()) } else { lock_bank_entries(tx, &ids).await }
}

/// The entries with these ids, locked.
pub async fn lock_bank_entries(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, BankEntry>, Fault> {
    let entries = sqlx::query("select * from bank_entries where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| bank_entry(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(entries.into_iter().map(|entry| (entry.id, entry)).collect())
}

/// One entry.
pub async fn find_bank_entry(tx: &mut Tx, id: Uuid) -> Result<Option<BankEntry>, Fault> {
    Ok(sqlx::query("select * from bank_entries where id = $1").bind(id).try_map(|row| bank_entry(&row)).fetch_optional(&mut **tx).await?)
}

/// Which entries a list shows.
#[derive(Debug, Default)]
pub struct BankEntryFilter<'a> {
    /// Of these funds.
    pub scope: Option<&'a [Uuid]>,
    /// Of this fund.
    pub fund_id: Option<Uuid>,
    /// First seen in this import.
    pub import_id: Option<Uuid>,
    /// With this decision.
    pub decision: Option<BankEntryDecision>,
}

/// Entries, newest first, before an id.
pub async fn list_bank_entries(tx: &mut Tx, filter: &BankEntryFilter<'_>, before: Uuid, limit: i64) -> Result<Vec<BankEntry>, Fault> {
    let entries = sqlx::query(
        "select * from bank_entries
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::uuid is null or fund_id = $2)
           and ($3::uuid is null or import_id = $3) and ($4::text is null or decision = $4) and id < $5
         order by id desc limit $6",
    )
    .persistent(false)
    .bind(filter.scope)
    .bind(filter.fund_id)
    .bind(filter.import_id)
    .bind(filter.decision.map(|decision| row::name(&decision)))
    .bind(before)
    .bind(limit)
    .try_map(|row| bank_entry(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}

/// The ids of the lines that ranges of ids hold, by the name of the range.
pub async fn lines_in_ranges(tx: &mut Tx, ranges: &[(String, Uuid, Uuid)]) -> Result<HashMap<String, Uuid>, Fault> {
    let lines: Vec<(String, Uuid)> = sqlx::query_as(
        "select name, call_lines.id from unnest($1::text[], $2::uuid[], $3::uuid[]) as range (name, first, last)
         join call_lines on call_lines.id between range.first and range.last",
    )
    .bind(column(ranges, |(name, _, _)| name.as_str()))
    .bind(column(ranges, |(_, first, _)| *first))
    .bind(column(ranges, |(_, _, last)| *last))
    .fetch_all(&mut **tx)
    .await?;
    Ok(lines.into_iter().collect())
}

/// The lines of these funds on which something is outstanding, and these lines: some come twice.
pub async fn open_lines(tx: &mut Tx, fund_ids: &[Uuid], ids: &[Uuid]) -> Result<Vec<OpenLine>, Fault> {
    let lines = sqlx::query(
        "select id, fund_id, investor_id, currency, amount - paid as outstanding, due_on, issued_on, disposition = 'rescinded' as is_rescinded
         from call_lines where fund_id = any($1) and amount > paid
         union all
         select id, fund_id, investor_id, currency, amount - paid, due_on, issued_on, disposition = 'rescinded'
         from call_lines where id = any($2)",
    )
    .bind(fund_ids)
    .bind(ids)
    .try_map(|row: PgRow| {
        let currency = row.parsed("currency")?;
        Ok(OpenLine {
            id: row.try_get("id")?,
            fund_id: row.try_get("fund_id")?,
            investor_id: row.try_get("investor_id")?,
            currency,
            outstanding: row.amount("outstanding", currency)?,
            due_on: row.try_get("due_on")?,
            issued_on: row.try_get("issued_on")?,
            is_rescinded: row.try_get("is_rescinded")?,
        })
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(lines)
}

/// All who have or had a commitment to these funds.
pub async fn members(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<Vec<Member>, Fault> {
    let members = sqlx::query(
        "select fund_id, investor_id, name from commitments join investors on investors.id = investor_id
         where fund_id = any($1) order by fund_id, investor_id",
    )
    .bind(fund_ids)
    .try_map(|row: PgRow| {
        Ok(Member { fund_id: row.try_get("fund_id")?, investor_id: row.try_get("investor_id")?, name: row.try_get("name")? })
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(members)
}

/// The names of investors.
pub async fn investor_names(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, Fault> {
    let names: Vec<(Uuid, String)> =
        sqlx::query_as("select id, name from investors where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    Ok(names.into_iter().collect())
}
