//! Delegations of votes.

use ::domain::messages::workflow::{Delegation, DelegationStatus};
use chassis::row::column;
use chassis::{Fault, Tx};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

fn delegation(row: &PgRow) -> Result<Delegation, Error> {
    Ok(Delegation {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        granted_by: row.try_get("granted_by")?,
        granted_to: row.try_get("granted_to")?,
        roles: row.try_get("roles")?,
        funds: row.try_get("funds")?,
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
        reason: row.try_get("reason")?,
        revoked_at: row.try_get("revoked_at")?,
        // derived for the time by whoever loads it
        status: DelegationStatus::Scheduled,
    })
}

/// Adds a delegation.
pub async fn insert_delegation(tx: &mut Tx, delegation: &Delegation) -> Result<(), Fault> {
    sqlx::query(
        "insert into delegations (id, version, created_at, granted_by, granted_to, roles, funds, starts_at, ends_at, reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(delegation.id)
    .bind(delegation.version)
    .bind(delegation.created_at)
    .bind(&delegation.granted_by)
    .bind(&delegation.granted_to)
    .bind(&delegation.roles)
    .bind(&delegation.funds)
    .bind(delegation.starts_at)
    .bind(delegation.ends_at)
    .bind(&delegation.reason)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A delegation, locked.
pub async fn lock_delegation(tx: &mut Tx, id: Uuid) -> Result<Option<Delegation>, Fault> {
    let found = sqlx::query("select * from delegations where id = $1 for no key update").bind(id);
    Ok(found.try_map(|row| delegation(&row)).fetch_optional(&mut **tx).await?)
}

/// Writes that a delegation, which is locked, was taken back.
pub async fn save_delegation(tx: &mut Tx, delegation: &Delegation) -> Result<(), Fault> {
    sqlx::query("update delegations set version = $2, revoked_at = $3 where id = $1")
        .bind(delegation.id)
        .bind(delegation.version)
        .bind(delegation.revoked_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The delegations from one person to another, of these pairs, that have not ended; nobody takes one back until the transaction ends.
pub async fn delegations_between(tx: &mut Tx, pairs: &[(&str, &str)]) -> Result<Vec<Delegation>, Fault> {
    if pairs.is_empty() {
        return Ok(vec![]);
    }
    let now = tx.now();
    let held = sqlx::query(
        "select delegations.* from delegations
         where (granted_by, granted_to) in (select * from unnest($1::text[], $2::text[])) and ends_at > $3 and revoked_at is null
         order by id for share",
    )
    .bind(column(pairs, |(by, _)| *by))
    .bind(column(pairs, |(_, to)| *to))
    .bind(now)
    .try_map(|row| delegation(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(held)
}

/// Delegations, newest first, before an id: those of a person, or all.
pub async fn list_delegations(tx: &mut Tx, of: Option<&str>, before: Uuid, limit: i64) -> Result<Vec<Delegation>, Fault> {
    let delegations = sqlx::query(
        "select * from delegations where ($1::text is null or granted_by = $1 or granted_to = $1) and id < $2 order by id desc limit $3",
    )
    .persistent(false)
    .bind(of)
    .bind(before)
    .bind(limit)
    .try_map(|row| delegation(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(delegations)
}
