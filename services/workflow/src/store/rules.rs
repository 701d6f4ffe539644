//! Versions of rules, changes on their way to be one, and what was asked for in a time.

use ::domain::ids;
use ::domain::messages::workflow::{RuleChange, RuleChangeStatus, RuleSet, RuleSetStatus};
use chassis::{Fault, RowExt, Tx, row};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{PastRequest, Subject};

fn rule_set(row: &PgRow) -> Result<RuleSet, Error> {
    let scope: String = row.try_get("scope")?;
    Ok(RuleSet {
        id: ids::rule_set_id(&scope),
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        scope,
        rules: row.json("rules")?,
        changed_by: row.try_get("changed_by")?,
        content_hash: row.try_get("content_hash")?,
        rule_change_id: row.try_get("rule_change_id")?,
        status: if row.try_get("newest")? { RuleSetStatus::Active } else { RuleSetStatus::Superseded },
    })
}

/// Keeps others from deciding about rules until this transaction ends.
pub async fn lock_rules(tx: &mut Tx) -> Result<(), Fault> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('rules', 0))").execute(&mut **tx).await?;
    Ok(())
}

/// Locks the workflows of changes of rules, whose own are not given to others meanwhile: the lock on rules is held.
pub async fn lock_workflows_of_rules(tx: &mut Tx, changes: &[Uuid]) -> Result<(), Fault> {
    sqlx::query(
        "select from workflows where id in (select (change ->> 'workflow_id')::uuid from rule_changes where id = any($1))
         order by id for no key update",
    )
    .bind(changes)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds a version of a layer.
pub async fn insert_rule_set(tx: &mut Tx, rules: &RuleSet) -> Result<(), Fault> {
    sqlx::query(
        "insert into rule_sets (scope, version, created_at, rules, changed_by, content_hash, rule_change_id)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&rules.scope)
    .bind(rules.version)
    .bind(rules.created_at)
    .bind(Json(&rules.rules))
    .bind(&rules.changed_by)
    .bind(&rules.content_hash)
    .bind(rules.rule_change_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The newest version of each scope's layer.
pub async fn newest_rules(tx: &mut Tx) -> Result<Vec<RuleSet>, Fault> {
    let newest = sqlx::query("select distinct on (scope) *, true as newest from rule_sets order by scope, version desc")
        .try_map(|row| rule_set(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(newest)
}

/// The versions of a scope's layer, newest first.
pub async fn rule_versions(tx: &mut Tx, scope: &str, limit: i64) -> Result<Vec<RuleSet>, Fault> {
    let versions = sqlx::query(
        "select *, row_number() over (order by version desc) = 1 as newest
         from rule_sets where scope = $1 order by version desc limit $2",
    )
    .bind(scope)
    .bind(limit)
    .try_map(|row| rule_set(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(versions)
}

/// One version of a scope's layer.
pub async fn rule_version(tx: &mut Tx, scope: &str, version: i64) -> Result<Option<RuleSet>, Fault> {
    let found = sqlx::query(
        "select *, version = (select max(version) from rule_sets where scope = $1) as newest from rule_sets where scope = $1 and version = $2",
    )
    .bind(scope)
    .bind(version)
    .try_map(|row| rule_set(&row))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found)
}

/// Writes a change of rules, new or locked.
pub async fn save_rule_change(tx: &mut Tx, change: &RuleChange) -> Result<(), Fault> {
    sqlx::query(
        "insert into rule_changes (id, version, created_at, scope, change, status, active_from) values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do update set version = excluded.version, change = excluded.change, status = excluded.status,
                                        active_from = excluded.active_from",
    )
    .bind(change.id)
    .bind(change.version)
    .bind(change.created_at)
    .bind(&change.scope)
    .bind(Json(change))
    .bind(row::name(&change.status))
    .bind(active_from(change))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A change of rules, locked.
pub async fn lock_rule_change(tx: &mut Tx, id: Uuid) -> Result<Option<RuleChange>, Fault> {
    let found = sqlx::query("select change from rule_changes where id = $1 for no key update").bind(id);
    Ok(found.try_map(|row: PgRow| row.json("change")).fetch_optional(&mut **tx).await?)
}

/// One change of rules.
pub async fn find_rule_change(tx: &mut Tx, id: Uuid) -> Result<Option<RuleChange>, Fault> {
    let found = sqlx::query("select change from rule_changes where id = $1").bind(id);
    Ok(found.try_map(|row: PgRow| row.json("change")).fetch_optional(&mut **tx).await?)
}

/// When a change shall be in force; when it was proposed, for as soon as it is approved.
fn active_from(change: &RuleChange) -> DateTime<Utc> {
    change.active_from.unwrap_or(change.created_at)
}

/// Whether a change whose time came earlier is about to be put in force.
pub async fn is_another_first(tx: &mut Tx, change: &RuleChange) -> Result<bool, Fault> {
    let now = tx.now();
    // a workflow that runs and asks nobody has its change put in force
    let first = sqlx::query_scalar(
        "select exists (
            select from rule_changes as other join workflows on workflows.id = (other.change ->> 'workflow_id')::uuid
            where other.status = 'approved' and (other.active_from, other.id) < ($1, $2)
              and (workflows.status = 'running' and not workflows.asks or workflows.wait_until <= $3)
         )",
    );
    Ok(first.bind(active_from(change)).bind(change.id).bind(now).fetch_one(&mut **tx).await?)
}

/// Changes of rules, newest first, before an id; of these scopes only, where they are given.
pub async fn list_rule_changes(
    tx: &mut Tx,
    among: Option<&[String]>,
    scope: Option<&str>,
    status: Option<RuleChangeStatus>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<RuleChange>, Fault> {
    let changes = sqlx::query(
        "select change from rule_changes
         where ($1::text is null or scope = $1) and ($2::text is null or status = $2) and id < $3 and ($5::text[] is null or scope = any($5))
         order by id desc limit $4",
    )
    .persistent(false)
    .bind(scope)
    .bind(status.map(|status| row::name(&status)))
    .bind(before)
    .bind(limit)
    .bind(among)
    .try_map(|row: PgRow| row.json("change"))
    .fetch_all(&mut **tx)
    .await?;
    Ok(changes)
}

/// What was asked for in a time, of one fund or type of fund where these are given, the newest first. Withdrawn amendments and the like
/// are there too: they were asked for.
pub async fn past_requests(
    tx: &mut Tx,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    fund_type: Option<&str>,
    fund_id: Option<Uuid>,
    limit: i64,
) -> Result<Vec<PastRequest>, Fault> {
    let requests = sqlx::query(
        "select subject_kind, subject_id, fund_id, requested_by, created_at, subject,
                (select count(*) from workflows as other
                 where other.subject_kind = 'allocation' and asked.subject_kind = 'allocation' and other.status <> 'failed'
                   and other.subject ->> 'deal_id' = asked.subject ->> 'deal_id'
                   and (other.created_at, other.id) < (asked.created_at, asked.id)) as of_deal_before
         from workflows as asked
         where subject_kind in ('allocation', 'capital_call', 'refund') and created_at >= $1 and created_at < $2 and ($3::text is null or subject ->> 'fund_type' = $3)
           and ($4::uuid is null or fund_id = $4)
         order by created_at desc, id desc limit $5",
    )
    .persistent(false)
    .bind(from)
    .bind(until)
    .bind(fund_type)
    .bind(fund_id)
    .bind(limit)
    .try_map(|row: PgRow| {
        let subject: Subject = row.json("subject")?;
        let currency = subject.currency.ok_or_else(|| Error::Decode("a request for money has a currency".into()))?;
        Ok(PastRequest {
            kind: row.named("subject_kind")?,
            subject_id: row.try_get("subject_id")?,
            fund_id: row.try_get("fund_id")?,
            requested_by: row.try_get("requested_by")?,
            asked_at: row.try_get("created_at")?,
            currency,
            subject,
            of_deal_before: row.try_get("of_deal_before")?,
        })
    })
    .fetch_all(&mut **tx)
    .await?;
    Ok(requests)
}
