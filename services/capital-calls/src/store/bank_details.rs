//! Bank details.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{BankDetails, BankDetailsStatus, PinnedInstructions};
use chassis::sealing::{Sealed, sealed};
use chassis::{Fault, RowExt, Tx, row};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain;

/// Whether later ones have been taken into use by the time `$1`; those that were rejected since count, too.
const SUPERSEDED: &str = "exists (select from bank_details as later
                                  where later.holder_id = details.holder_id and later.currency = details.currency
                                    and later.released_at is not null and later.usable_from <= $1 and (later.usable_from, later.id) > (details.usable_from, details.id)) as superseded";

fn details(row: &PgRow, now: DateTime<Utc>) -> Result<BankDetails, Error> {
    let mut details = BankDetails {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        fund_id: row.try_get("fund_id")?,
        investor_id: row.try_get("investor_id")?,
        currency: row.parsed("currency")?,
        account: row.try_get("account")?,
        hash: row.try_get("hash")?,
        decision: row.named("decision")?,
        proposed_by: row.try_get("proposed_by")?,
        reason: row.try_get("reason")?,
        decided_by: row.try_get("decided_by")?,
        call_back: row.try_get::<Option<Json<_>>, _>("call_back")?.map(|Json(call_back)| call_back),
        usable_from: row.try_get("usable_from")?,
        released_at: row.try_get("released_at")?,
        fund_type: row.try_get("fund_type")?,
        rejected_because: row.try_get("rejected_because")?,
        status: BankDetailsStatus::Proposed,
    };
    details.status = domain::bank_details_status(&details, row.try_get("superseded")?, now);
    Ok(details)
}

/// Adds bank details; false when others of the holder are proposed.
pub async fn insert_bank_details(tx: &mut Tx, details: &BankDetails, sealed: &Sealed) -> Result<bool, Fault> {
    let added = sqlx::query(
        "insert into bank_details (id, version, created_at, fund_id, investor_id, currency, account, hash, decision, proposed_by, reason, key_id,
                                   wrapped_key, body, fund_type)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) on conflict do nothing",
    )
    .bind(details.id)
    .bind(details.version)
    .bind(details.created_at)
    .bind(details.fund_id)
    .bind(details.investor_id)
    .bind(details.currency.code())
    .bind(&details.account)
    .bind(&details.hash)
    .bind(row::name(&details.decision))
    .bind(&details.proposed_by)
    .bind(&details.reason)
    .bind(&sealed.key_id)
    .bind(&sealed.wrapped_key)
    .bind(&sealed.body)
    .bind(&details.fund_type)
    .execute(&mut **tx)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Writes what was decided about bank details that are locked.
pub async fn save_bank_details(tx: &mut Tx, details: &BankDetails) -> Result<(), Fault> {
    sqlx::query(
        "update bank_details
         set version = $2, decision = $3, decided_by = $4, call_back = $5, usable_from = $6, rejected_because = $7, released_at = $8
         where id = $1",
    )
    .bind(details.id)
    .bind(details.version)
    .bind(row::name(&details.decision))
    .bind(&details.decided_by)
    .bind(details.call_back.as_ref().map(Json))
    .bind(details.usable_from)
    .bind(&details.rejected_because)
    .bind(details.released_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The bank details with these ids, locked.
pub async fn lock_bank_details(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, BankDetails>, Fault> {
    let now = tx.now();
    let found = sqlx::query(&format!(
        "select details.*, {SUPERSEDED} from bank_details as details where id = any($2) order by id for no key update of details"
    ))
    .bind(now)
    .bind(ids)
    .try_map(|row| details(&row, now))
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().map(|details| (details.id, details)).collect())
}

/// Bank details, and what is sealed of them.
pub async fn find_bank_details(tx: &mut Tx, id: Uuid) -> Result<Option<(BankDetails, Sealed)>, Fault> {
    let now = tx.now();
    let found = sqlx::query(&format!("select details.*, {SUPERSEDED} from bank_details as details where id = $2"))
        .bind(now)
        .bind(id)
        .try_map(|row| Ok((details(&row, now)?, sealed(&row)?)))
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found)
}

/// Bank details of a holder, newest first, before an id.
pub async fn list_bank_details(tx: &mut Tx, holder_id: Uuid, before: Uuid, limit: i64) -> Result<Vec<BankDetails>, Fault> {
    let now = tx.now();
    let found = sqlx::query(&format!(
        "select details.*, {SUPERSEDED} from bank_details as details where holder_id = $2 and id < $3 order by id desc limit $4"
    ))
    .bind(now)
    .bind(holder_id)
    .bind(before)
    .bind(limit)
    .try_map(|row| details(&row, now))
    .fetch_all(&mut **tx)
    .await?;
    Ok(found)
}

/// To how many of these funds an investor has a commitment, and to how many others.
pub async fn invests_in(tx: &mut Tx, investor_id: Uuid, fund_ids: &[Uuid]) -> Result<(i64, i64), Fault> {
    let invests = sqlx::query_as(
        "select count(*) filter (where fund_id = any($2)), count(*) filter (where fund_id <> all($2)) from commitments where investor_id = $1",
    );
    Ok(invests.bind(investor_id).bind(fund_ids).fetch_one(&mut **tx).await?)
}

/// Where the cash of a refund can go.
#[derive(Clone, Debug, Default)]
pub struct RefundAccount {
    /// The investor's bank details that are in use.
    pub in_use: Option<PinnedInstructions>,
    /// Whether others are confirmed, and not used yet.
    pub cooling_off: bool,
    /// IANA time zone of the fund.
    pub timezone: String,
}

/// Where the cash of these refunds can go.
pub async fn accounts_of_refunds(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, RefundAccount>, Fault> {
    let now = tx.now();
    let accounts = sqlx::query(
        "select refunds.id as refund_id, in_use.*, (select timezone from funds where funds.id = refunds.fund_id) as timezone,
                exists (select from bank_details as details
                        where details.holder_id = refunds.investor_id and details.currency = refunds.currency and details.decision = 'confirmed'
                          and (details.usable_from > $1 or details.released_at is null)) as cooling_off
         from refunds
         left join lateral (select id, account, hash, decision from bank_details as details
                            where details.holder_id = refunds.investor_id and details.currency = refunds.currency
                              and details.released_at is not null and details.usable_from <= $1
                            order by usable_from desc, id desc limit 1) as in_use on in_use.decision = 'confirmed'
         where refunds.id = any($2)",
    )
    .bind(now)
    .bind(ids)
    .try_map(|row: PgRow| {
        let timezone = row.try_get::<Option<_>, _>("timezone")?.unwrap_or_default();
        let account = RefundAccount { in_use: pinned(&row, "id", "account", "hash")?, cooling_off: row.try_get("cooling_off")?, timezone };
        Ok((row.try_get("refund_id")?, account))
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(accounts.into_iter().collect())
}

/// Bank details that a row names, if it does.
pub fn pinned(row: &PgRow, id: &str, account: &str, hash: &str) -> Result<Option<PinnedInstructions>, Error> {
    let Some(bank_details_id) = row.try_get(id)? else { return Ok(None) };
    Ok(Some(PinnedInstructions { bank_details_id, account: row.try_get(account)?, hash: row.try_get(hash)? }))
}
