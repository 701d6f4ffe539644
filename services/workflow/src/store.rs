//! All SQL of workflow.
//!
//! Lists with optional filters are not kept as prepared statements: they are planned for the filters
//! given, so that each finds its index.

use std::collections::HashMap;

use ::domain::messages::capital_calls::Priority;
use ::domain::messages::workflow::{Approval, ApprovalStatus, ListWorkflows, Workflow, WorkflowStatus};
use chassis::row::column;
use chassis::{Fault, RowExt, Tx, row};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::{self, Subject};

mod deals;
mod delegations;
mod funds;
mod rules;

pub use deals::*;
pub use delegations::*;
pub use funds::*;
pub use rules::*;

/// The aggregates that this service owns and others follow.
pub const WORKFLOWS: &str = "select id, version from workflows";
/// See [`WORKFLOWS`].
pub const APPROVALS: &str = "select id, version from approvals";

/// What was heard of allocations and calls.
pub const ALLOCATIONS: &str = "select id, epoch, version from allocations_heard";
/// The requests that have a workflow: that is all that is kept of them.
pub const REFUNDS: &str = "select subject_id as id from workflows where subject_kind = 'refund'";
/// See [`REFUNDS`].
pub const BANK_DETAILS: &str = "select subject_id as id from workflows where subject_kind = 'bank_details'";
/// The types of the funds.
pub const FUNDS: &str = "select id, epoch, version from funds";
/// See [`ALLOCATIONS`].
pub const CALLS: &str = "select id, epoch, version from calls_heard";

/// A workflow with what only its runner needs.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The workflow.
    pub workflow: Workflow,
    /// The request that it belongs to.
    pub correlation_id: String,
    /// What the steps need of the subject.
    pub subject: Subject,
    /// When the runner shall act, by the system's own time.
    pub due_at: Option<DateTime<Utc>>,
    /// The epoch of the subject's owner.
    pub subject_epoch: i32,
}

// ---- workflows

fn instance(row: &PgRow) -> Result<Instance, Error> {
    let mut workflow = Workflow {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        subject_kind: row.named("subject_kind")?,
        subject_id: row.try_get("subject_id")?,
        fund_id: row.try_get("fund_id")?,
        requested_by: row.try_get("requested_by")?,
        steps: row.json("steps")?,
        progress: 0,
        error: row.try_get::<Option<Json<_>>, _>("error")?.map(|Json(problem)| problem),
        rules: row.json("rules")?,
        paused: row.try_get::<Option<Json<_>>, _>("paused")?.map(|Json(pause)| pause),
        stuck: row.try_get("stuck")?,
        expects: None,
        status: WorkflowStatus::Running,
    };
    domain::derive(&mut workflow);
    Ok(Instance {
        workflow,
        correlation_id: row.try_get("correlation_id")?,
        subject: row.json("subject")?,
        due_at: row.try_get("due_at")?,
        subject_epoch: row.try_get("subject_epoch")?,
    })
}

/// Adds workflows that are not there yet; returns the ids of those added.
pub async fn insert(tx: &mut Tx, instances: &[Instance]) -> Result<Vec<Uuid>, Fault> {
    let added = sqlx::query_scalar(
        "insert into workflows (id, version, created_at, subject_kind, subject_id, fund_id, requested_by, correlation_id, subject, steps, error, status, due_at,
                                subject_epoch, rules, stuck_at, wait_until, asks, awaits_deal)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::text[],
                              $9::jsonb[], $10::jsonb[], $11::jsonb[], $12::text[], $13::timestamptz[], $14::int[], $15::jsonb[],
                              $16::timestamptz[], $17::timestamptz[], $18::boolean[], $19::uuid[])
         on conflict do nothing
         returning id",
    )
    .bind(column(instances, |instance| instance.workflow.id))
    .bind(column(instances, |instance| instance.workflow.version))
    .bind(column(instances, |instance| instance.workflow.created_at))
    .bind(column(instances, |instance| row::name(&instance.workflow.subject_kind)))
    .bind(column(instances, |instance| instance.workflow.subject_id))
    .bind(column(instances, |instance| instance.workflow.fund_id))
    .bind(column(instances, |instance| instance.workflow.requested_by.as_str()))
    .bind(column(instances, |instance| instance.correlation_id.as_str()))
    .bind(column(instances, |instance| Json(&instance.subject)))
    .bind(column(instances, |instance| Json(&instance.workflow.steps)))
    .bind(column(instances, |instance| instance.workflow.error.as_ref().map(Json)))
    .bind(column(instances, |instance| row::name(&instance.workflow.status)))
    .bind(column(instances, |instance| instance.due_at))
    .bind(column(instances, |instance| instance.subject_epoch))
    .bind(column(instances, |instance| Json(&instance.workflow.rules)))
    .bind(column(instances, stuck_at))
    .bind(column(instances, |instance| domain::waits_until(&instance.workflow)))
    .bind(column(instances, |instance| domain::asks(&instance.workflow)))
    .bind(column(instances, |instance| domain::awaited_deal(&instance.workflow, &instance.subject)))
    .fetch_all(&mut **tx)
    .await?;
    Ok(added)
}

/// Keeps the newest version of each call or allocation, in the table of what was heard of its kind; returns the ids of those that were news.
pub async fn hear(tx: &mut Tx, table: Heard, seen: &[(Uuid, i32, i64)]) -> Result<Vec<Uuid>, Fault> {
    let news = sqlx::query_scalar(&format!(
        "insert into {} as known (id, epoch, version) select * from unnest($1::uuid[], $2::int[], $3::bigint[])
         on conflict (id) do update set epoch = excluded.epoch, version = excluded.version
         where (excluded.epoch, excluded.version) > (known.epoch, known.version)
         returning id",
        table.name()
    ))
    .bind(column(seen, |(id, ..)| *id))
    .bind(column(seen, |(_, epoch, _)| *epoch))
    .bind(column(seen, |(.., version)| *version))
    .fetch_all(&mut **tx)
    .await?;
    Ok(news)
}

/// Forgets that something was heard of.
pub async fn forget(tx: &mut Tx, table: Heard, ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query(&format!("delete from {} where id = any($1)", table.name())).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// What was heard of, and is told again when it is lost.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    /// Allocations.
    Allocations,
    /// Capital calls.
    Calls,
}

impl Heard {
    const fn name(self) -> &'static str {
        match self {
            Heard::Allocations => "allocations_heard",
            Heard::Calls => "calls_heard",
        }
    }
}

/// The workflows of these subjects that are not completed, locked.
pub async fn lock_incomplete(tx: &mut Tx, subject_ids: &[Uuid]) -> Result<Vec<Instance>, Fault> {
    let instances =
        sqlx::query("select * from workflows where subject_id = any($1) and status <> 'completed' order by id for no key update")
            .bind(subject_ids)
            .try_map(|row| instance(&row))
            .fetch_all(&mut **tx)
            .await?;
    Ok(instances)
}

/// Writes what workflows that are locked heard of their subjects, and the rules in force then.
pub async fn save_subjects(tx: &mut Tx, instances: &[&Instance]) -> Result<(), Fault> {
    sqlx::query(
        "update workflows set subject = new.subject, requested_by = new.requested_by, rules = new.rules
         from unnest($1::uuid[], $2::jsonb[], $3::text[], $4::jsonb[]) as new (id, subject, requested_by, rules)
         where workflows.id = new.id",
    )
    .bind(column(instances, |instance| instance.workflow.id))
    .bind(column(instances, |instance| Json(&instance.subject)))
    .bind(column(instances, |instance| instance.workflow.requested_by.as_str()))
    .bind(column(instances, |instance| Json(&instance.workflow.rules)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes the epochs of subjects' owners, by workflow; returns the workflows that had heard of them in an older one only, locked.
pub async fn meet_epochs(tx: &mut Tx, met: &[(Uuid, i32)]) -> Result<Vec<Instance>, Fault> {
    let instances = sqlx::query(
        "with older as materialized (
            select workflows.id, met.epoch from unnest($1::uuid[], $2::int[]) as met (id, epoch) join workflows using (id)
            where subject_epoch < met.epoch order by id for no key update of workflows
         )
         update workflows set subject_epoch = older.epoch from older where workflows.id = older.id returning workflows.*",
    )
    .bind(column(met, |(id, _)| *id))
    .bind(column(met, |(_, epoch)| *epoch))
    .try_map(|row| instance(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(instances)
}

fn stuck_at(instance: &Instance) -> Option<DateTime<Utc>> {
    domain::stuck_from(&instance.workflow, instance.subject.stuck_after_hours)
}

/// The workflows that are due and ask a program of somebody else, or those that do not, oldest first, locked; those that another replica
/// holds are left out.
pub async fn lock_due(tx: &mut Tx, asks: bool, limit: i64) -> Result<Vec<Instance>, Fault> {
    let now = tx.system_now();
    let due = sqlx::query("select * from workflows where due_at <= $1 and asks = $3 order by due_at limit $2 for update skip locked")
        .bind(now)
        .bind(limit)
        .bind(asks)
        .try_map(|row| instance(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(due)
}

/// Workflows whose time to wait is over, locked.
pub async fn lock_waited(tx: &mut Tx, limit: i64) -> Result<Vec<Instance>, Fault> {
    let over = "select * from workflows where wait_until <= $1 order by wait_until limit $2 for update skip locked";
    let now = tx.now();
    Ok(sqlx::query(over).bind(now).bind(limit).try_map(|row| instance(&row)).fetch_all(&mut **tx).await?)
}

/// Workflows that begin to count as stuck, locked.
pub async fn lock_stuck(tx: &mut Tx, limit: i64) -> Result<Vec<Instance>, Fault> {
    let stuck = "select * from workflows where stuck_at <= $1 order by stuck_at limit $2 for update skip locked";
    let now = tx.now();
    Ok(sqlx::query(stuck).bind(now).bind(limit).try_map(|row| instance(&row)).fetch_all(&mut **tx).await?)
}

/// The workflows with these ids, locked.
pub async fn lock(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Instance>, Fault> {
    let instances = sqlx::query("select * from workflows where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| instance(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(instances.into_iter().map(|instance| (instance.workflow.id, instance)).collect())
}

/// Writes what changed on workflows that are locked.
pub async fn save(tx: &mut Tx, instances: &[&Instance]) -> Result<(), Fault> {
    sqlx::query(
        "update workflows
         set version = new.version, steps = new.steps, error = new.error, status = new.status, due_at = new.due_at,
             paused = new.paused, stuck = new.stuck, stuck_at = new.stuck_at, wait_until = new.wait_until, asks = new.asks,
             awaits_deal = new.awaits_deal
         from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::jsonb[], $5::text[], $6::timestamptz[], $7::jsonb[], $8::boolean[],
                     $9::timestamptz[], $10::timestamptz[], $11::boolean[], $12::uuid[])
              as new (id, version, steps, error, status, due_at, paused, stuck, stuck_at, wait_until, asks, awaits_deal)
         where workflows.id = new.id",
    )
    .bind(column(instances, |instance| instance.workflow.id))
    .bind(column(instances, |instance| instance.workflow.version))
    .bind(column(instances, |instance| Json(&instance.workflow.steps)))
    .bind(column(instances, |instance| instance.workflow.error.as_ref().map(Json)))
    .bind(column(instances, |instance| row::name(&instance.workflow.status)))
    .bind(column(instances, |instance| instance.due_at))
    .bind(column(instances, |instance| instance.workflow.paused.as_ref().map(Json)))
    .bind(column(instances, |instance| instance.workflow.stuck))
    .bind(column(instances, |instance| stuck_at(instance)))
    .bind(column(instances, |instance| domain::waits_until(&instance.workflow)))
    .bind(column(instances, |instance| domain::asks(&instance.workflow)))
    .bind(column(instances, |instance| domain::awaited_deal(&instance.workflow, &instance.subject)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One workflow.
pub async fn find(tx: &mut Tx, id: Uuid) -> Result<Option<Workflow>, Fault> {
    let found =
        sqlx::query("select * from workflows where id = $1").bind(id).try_map(|row| instance(&row)).fetch_optional(&mut **tx).await?;
    Ok(found.map(|instance| instance.workflow))
}

/// Workflows, newest first, before `(created_at, id)`.
pub async fn list(
    tx: &mut Tx,
    scope: Option<&[Uuid]>,
    query: &ListWorkflows,
    before: (DateTime<Utc>, Uuid),
    limit: i64,
) -> Result<Vec<Workflow>, Fault> {
    let instances = sqlx::query(
        "select * from workflows
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::text is null or status = $2)
           and ($3::uuid is null or fund_id = $3) and (created_at, id) < ($4, $5)
           and ($7::timestamptz is null or created_at < $7) and ($8::boolean is null or stuck = $8)
         order by created_at desc, id desc limit $6",
    )
    .persistent(false)
    .bind(scope)
    .bind(query.status.map(|status| row::name(&status)))
    .bind(query.fund_id)
    .bind(before.0)
    .bind(before.1)
    .bind(limit)
    .bind(query.before)
    .bind(query.stuck)
    .try_map(|row| instance(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(instances.into_iter().map(|instance| instance.workflow).collect())
}

// ---- approvals

fn approval(row: &PgRow) -> Result<Approval, Error> {
    let currency = row.parsed("currency")?;
    let mut approval = Approval {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        workflow_id: row.try_get("workflow_id")?,
        subject_kind: row.named("subject_kind")?,
        subject_id: row.try_get("subject_id")?,
        fund_id: row.try_get("fund_id")?,
        amount: row.amount("amount", currency)?,
        currency,
        content_hash: row.try_get("content_hash")?,
        requested_by: row.try_get("requested_by")?,
        tier: row.json("tier")?,
        votes: row.json("votes")?,
        priority: PRIORITIES[usize::try_from(row.try_get::<i16, _>("priority")?).unwrap_or_default().min(PRIORITIES.len() - 1)],
        voided: row.try_get("voided")?,
        authors: row.try_get("authors")?,
        asked_at: row.try_get("asked_at")?,
        reminded: row.try_get("reminded")?,
        escalates_to: row.json("escalates_to")?,
        expired: row.try_get("expired")?,
        deadline: None,
        status: ApprovalStatus::Pending,
    };
    domain::derive_approval(&mut approval);
    Ok(approval)
}

/// Adds approvals.
pub async fn insert_approvals(tx: &mut Tx, approvals: &[Approval]) -> Result<(), Fault> {
    sqlx::query(
        "insert into approvals (id, version, created_at, workflow_id, subject_kind, subject_id, fund_id, amount, currency,
                                content_hash, requested_by, tier, status, priority, authors, asked_at, escalates_to, deadline_at)
         select id, version, created_at, workflow_id, subject_kind, subject_id, fund_id, amount, currency, content_hash, requested_by, tier,
                status, priority, array(select jsonb_array_elements_text(authors)), asked_at, escalates_to, deadline_at
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[],
                              $8::numeric[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::text[], $14::smallint[], $15::jsonb[],
                              $16::timestamptz[], $17::jsonb[], $18::timestamptz[])
              as new (id, version, created_at, workflow_id, subject_kind, subject_id, fund_id, amount, currency, content_hash, requested_by,
                      tier, status, priority, authors, asked_at, escalates_to, deadline_at)",
    )
    .bind(column(approvals, |approval| approval.id))
    .bind(column(approvals, |approval| approval.version))
    .bind(column(approvals, |approval| approval.created_at))
    .bind(column(approvals, |approval| approval.workflow_id))
    .bind(column(approvals, |approval| row::name(&approval.subject_kind)))
    .bind(column(approvals, |approval| approval.subject_id))
    .bind(column(approvals, |approval| approval.fund_id))
    .bind(column(approvals, |approval| approval.amount.decimal()))
    .bind(column(approvals, |approval| approval.currency.code()))
    .bind(column(approvals, |approval| approval.content_hash.as_str()))
    .bind(column(approvals, |approval| approval.requested_by.as_str()))
    .bind(column(approvals, |approval| Json(&approval.tier)))
    .bind(column(approvals, |approval| row::name(&approval.status)))
    .bind(column(approvals, |approval| rank(approval.priority)))
    .bind(column(approvals, |approval| Json(&approval.authors)))
    .bind(column(approvals, |approval| approval.asked_at))
    .bind(column(approvals, |approval| Json(&approval.escalates_to)))
    .bind(column(approvals, |approval| approval.deadline.map(|deadline| deadline.at)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Priorities in the order in which approvals are shown.
const PRIORITIES: [Priority; 3] = [Priority::Urgent, Priority::High, Priority::Normal];

fn rank(priority: Priority) -> i16 {
    PRIORITIES.iter().zip(0..).find(|(known, _)| **known == priority).map_or(2, |(_, rank)| rank)
}

/// The approvals of these workflows that wait for votes, locked.
pub async fn lock_pending_approvals(tx: &mut Tx, workflow_ids: &[Uuid]) -> Result<Vec<Approval>, Fault> {
    let approvals = sqlx::query(
        "select * from approvals where workflow_id = any($1) and status in ('pending', 'approved') order by id for no key update",
    )
    .bind(workflow_ids)
    .try_map(|row| approval(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(approvals)
}

/// The workflows that these approvals belong to.
pub async fn workflows_of_approvals(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
    let workflows = sqlx::query_scalar("select distinct workflow_id from approvals where id = any($1)");
    Ok(workflows.bind(ids).fetch_all(&mut **tx).await?)
}

/// The approvals with these ids, locked: votes are counted one after another.
pub async fn lock_approvals(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Approval>, Fault> {
    let approvals = sqlx::query("select * from approvals where id = any($1) order by id for no key update")
        .bind(ids)
        .try_map(|row| approval(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(approvals.into_iter().map(|approval| (approval.id, approval)).collect())
}

/// Writes votes, that they do not count, or what happened without them.
pub async fn save_approvals(tx: &mut Tx, approvals: &[&Approval]) -> Result<(), Fault> {
    sqlx::query(
        "update approvals set version = new.version, votes = new.votes, status = new.status, voided = new.status = 'voided', tier = new.tier,
                              asked_at = new.asked_at, reminded = new.reminded, escalates_to = new.escalates_to,
                              expired = new.status = 'expired', deadline_at = new.deadline_at
         from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::text[], $5::jsonb[], $6::timestamptz[], $7::boolean[], $8::jsonb[],
                     $9::timestamptz[])
              as new (id, version, votes, status, tier, asked_at, reminded, escalates_to, deadline_at)
         where approvals.id = new.id",
    )
    .bind(column(approvals, |approval| approval.id))
    .bind(column(approvals, |approval| approval.version))
    .bind(column(approvals, |approval| Json(&approval.votes)))
    .bind(column(approvals, |approval| row::name(&approval.status)))
    .bind(column(approvals, |approval| Json(&approval.tier)))
    .bind(column(approvals, |approval| approval.asked_at))
    .bind(column(approvals, |approval| approval.reminded))
    .bind(column(approvals, |approval| Json(&approval.escalates_to)))
    .bind(column(approvals, |approval| approval.deadline.map(|deadline| deadline.at)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The ids of approvals that something happens to by itself now. While a workflow is paused nothing does.
pub async fn overdue_approvals(tx: &mut Tx, limit: i64) -> Result<Vec<Uuid>, Fault> {
    let now = tx.now();
    let overdue = sqlx::query_scalar(
        "select id from approvals
         where deadline_at <= $1 and not exists (select from workflows where workflows.id = workflow_id and paused is not null)
         order by deadline_at limit $2",
    );
    Ok(overdue.bind(now).bind(limit).fetch_all(&mut **tx).await?)
}

/// Where an approval stands in lists.
pub fn place(approval: &Approval) -> (i16, DateTime<Utc>, Uuid) {
    (rank(approval.priority), approval.created_at, approval.id)
}

/// One approval.
pub async fn find_approval(tx: &mut Tx, id: Uuid) -> Result<Option<Approval>, Fault> {
    Ok(sqlx::query("select * from approvals where id = $1").bind(id).try_map(|row| approval(&row)).fetch_optional(&mut **tx).await?)
}

/// Approvals, the most urgent first and the oldest of them, after `(priority, created_at, id)`.
pub async fn list_approvals(
    tx: &mut Tx,
    scope: Option<&[Uuid]>,
    status: Option<ApprovalStatus>,
    subject_id: Option<Uuid>,
    after: (i16, DateTime<Utc>, Uuid),
    limit: i64,
) -> Result<Vec<Approval>, Fault> {
    let approvals = sqlx::query(
        "select * from approvals
         where ($1::uuid[] is null or fund_id = any($1)) and ($2::text is null or status = $2)
           and ($3::uuid is null or subject_id = $3) and (priority, created_at, id) > ($4, $5, $6)
         order by priority, created_at, id limit $7",
    )
    .persistent(false)
    .bind(scope)
    .bind(status.map(|status| row::name(&status)))
    .bind(subject_id)
    .bind(after.0)
    .bind(after.1)
    .bind(after.2)
    .bind(limit)
    .try_map(|row| approval(&row))
    .fetch_all(&mut **tx)
    .await?;
    Ok(approvals)
}

#[cfg(test)]
mod tests;
