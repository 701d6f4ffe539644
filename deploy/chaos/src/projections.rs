//! What every table must say at the end, computed from the owners' event logs alone. It shares no code with the services: the
//! formulas are written here a second time, in SQL.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sqlx::{PgPool, Row};
use testkit::database::schema_of;
use uuid::Uuid;

use crate::checker::Findings;
use crate::means::POISON;

/// Services with an event log.
const OWNERS: [&str; 6] = ["workflow", "allocation-status", "capital-calls", "fund-metrics", "notifications", "audit"];

/// The streams that events of the logs are published to.
const STREAMS: [&str; 5] = ["EVENTS", "DEALS", "ACCESS", "NOTICES", "DEAD_LETTERS"];

/// A line of which its investor has paid all.
const FUNDED: &str = "(state->>'amount')::numeric > 0 and (state->>'paid')::numeric >= (state->>'amount')::numeric
                      and coalesce(state->>'disposition', 'none') <> 'covered_by_others'";

/// What a row that is not as it must be means.
#[derive(Clone, Copy)]
enum Means {
    /// Something is missing.
    Lost,
    /// Something is there twice.
    Doubled,
    /// Two places say different things.
    Diverged,
}

/// Compares rows with the newest state of each aggregate in its owner's log: owner, kind, the table, what must hold of `row` and
/// `state`. A row without a state, or a state without a row, differs.
const STATES: [(&str, &str, &str, &str); 24] = [
    ("capital_calls", "investor", "capital_calls.investors", "row.version = newest.version and row.name = state->>'name'"),
    (
        "capital_calls",
        "commitment",
        "capital_calls.commitments",
        "row.version = newest.version and row.amount = (state->>'amount')::numeric and row.unfunded = (state->>'unfunded')::numeric",
    ),
    (
        "capital_calls",
        "closing",
        "capital_calls.closings",
        "row.version = newest.version and row.equalised = (state->>'equalised')::numeric and row.interest = (state->>'interest')::numeric",
    ),
    ("capital_calls", "bank_details", "capital_calls.bank_details", "row.version = newest.version and row.decision = state->>'decision'"),
    ("capital_calls", "bank_entry", "capital_calls.bank_entries", "row.version = newest.version and row.decision = state->>'decision'"),
    (
        "capital_calls",
        "refund",
        "capital_calls.refunds",
        "row.version = newest.version and row.amount = (state->>'amount')::numeric and row.decision = state->>'decision'",
    ),
    (
        "capital_calls",
        "capital_call",
        "capital_calls.capital_calls",
        "row.version = newest.version and row.paid = (state->>'paid')::numeric and row.decision = state->>'decision'",
    ),
    (
        "capital_calls",
        "call_line",
        "capital_calls.call_lines",
        "row.version = newest.version and row.amount = (state->>'amount')::numeric and row.paid = (state->>'paid')::numeric
         and row.unapplied = (state->>'unapplied')::numeric",
    ),
    (
        "capital_calls",
        "payment",
        "capital_calls.payments",
        "row.version = newest.version and row.amount = (state->>'amount')::numeric and row.applied = (state->>'applied')::numeric
         and (row.reversal is null) = (coalesce(state->>'reversal', '') = '')",
    ),
    (
        "allocation_status",
        "fund",
        "allocation_status.funds",
        "row.version = newest.version and row.allocated = (state->>'allocated')::numeric",
    ),
    (
        "allocation_status",
        "allocation",
        "allocation_status.allocations",
        "row.version = newest.version and row.decision = state->>'decision' and row.called = (state->>'called')::numeric
         and row.paid = (state->>'paid')::numeric",
    ),
    ("workflow", "workflow", "workflow.workflows", "row.version = newest.version and row.status = state->>'status'"),
    (
        "workflow",
        "approval",
        "workflow.approvals",
        "row.version = newest.version and jsonb_array_length(row.votes) = jsonb_array_length(state->'votes')",
    ),
    (
        "workflow",
        "delegation",
        "workflow.delegations",
        "row.version = newest.version and (row.revoked_at is null) = (state->>'revoked_at' is null)",
    ),
    ("workflow", "rule_change", "workflow.rule_changes", "row.version = newest.version and row.status = state->>'status'"),
    ("allocation_status", "fund", "capital_calls.funds", "(row.epoch, row.version) = (newest.epoch, newest.version)"),
    (
        "allocation_status",
        "allocation",
        // one that its owner has forgotten while cash is called for it stays, and is reported
        "(select * from capital_calls.allocations as kept
          where called = 0 or exists (select from allocation_status.event_log where aggregate_id = kept.id))",
        "(row.epoch, row.version) = (newest.epoch, newest.version) and row.amount = (state->>'amount')::numeric",
    ),
    ("allocation_status", "fund", "workflow.funds", "(row.epoch, row.version) = (newest.epoch, newest.version)"),
    ("allocation_status", "fund", "fund_metrics.funds", "(row.epoch, row.version) = (newest.epoch, newest.version)"),
    (
        "allocation_status",
        "allocation",
        "fund_metrics.allocations",
        // what is taken back or denied holds nothing
        "(row.epoch, row.version) = (newest.epoch, newest.version)
         and row.amount = case when state->>'decision' in ('pending_approval', 'active') then (state->>'amount')::numeric else 0 end",
    ),
    (
        "capital_calls",
        "commitment",
        "fund_metrics.commitments",
        "(row.epoch, row.version) = (newest.epoch, newest.version) and row.amount = (state->>'amount')::numeric",
    ),
    (
        "capital_calls",
        "call_line",
        "fund_metrics.lines",
        "(row.epoch, row.version) = (newest.epoch, newest.version) and row.called = (state->>'amount')::numeric
         and row.paid = (state->>'paid')::numeric and row.unapplied = (state->>'unapplied')::numeric
         and row.impact = (state->>'impact_on_unfunded')::numeric",
    ),
    (
        "capital_calls",
        "call_line",
        "notifications.lines",
        "(row.epoch, row.version) = (newest.epoch, newest.version) and row.outstanding = (state->>'outstanding')::numeric",
    ),
    ("capital_calls", "investor", "notifications.investors", "(row.epoch, row.version) = (newest.epoch, newest.version)"),
];

/// The newest state of each aggregate of a kind.
fn newest(owner: &str, kind: &str) -> String {
    format!(
        "select distinct on (aggregate_id) aggregate_id as id, epoch, version, body::jsonb->'state' as state
         from {owner}.event_log where aggregate = '{kind}' order by aggregate_id, epoch desc, version desc"
    )
}

/// Money is conserved, and sums are the sums of their parts.
fn sums() -> Vec<(String, Means, String)> {
    let lines = newest("capital_calls", "call_line");
    let sum = |what: &str, statement: String| (what.to_owned(), Means::Diverged, statement);
    vec![
        sum(
            "a line is paid what its payments applied less what was reversed",
            "select count(*) from capital_calls.call_lines as line
             left join (select line_id, sum(applied) as applied, sum(unapplied) as unapplied from capital_calls.payments
                        where reversal is null group by line_id) as paid on paid.line_id = line.id
             where line.paid <> coalesce(applied, 0) or line.unapplied <> coalesce(paid.unapplied, 0)"
                .into(),
        ),
        sum(
            "the lines of an issued call make up the call",
            "select count(*) from capital_calls.capital_calls as call
             left join (select call_id, sum(amount) as amount, sum(paid) as paid, count(*) as lines from capital_calls.call_lines group by call_id)
                  as line on line.call_id = call.id
             where call.decision = 'issued' and (call.amount, call.paid, call.line_count) is distinct from (line.amount, line.paid, line.lines)"
                .into(),
        ),
        sum(
            "what a commitment has unfunded is what is not called of it, and not below zero",
            "select count(*) from capital_calls.commitments as commitment
             left join (select fund_id, investor_id, sum(impact_on_unfunded) as impact from capital_calls.call_lines group by fund_id, investor_id)
                  as line using (fund_id, investor_id)
             where unfunded < 0 or unfunded <> commitment.amount - drawn_transferred + coalesce(impact, 0)"
                .into(),
        ),
        sum(
            "a fund has allocated what its allocations hold, and not more than its size",
            "select count(*) from allocation_status.funds as fund
             left join (select fund_id, sum(amount) as amount from allocation_status.allocations where decision in ('pending_approval', 'active') group by fund_id)
                  as allocation on allocation.fund_id = fund.id
             where allocated <> coalesce(amount, 0) or allocated > size"
                .into(),
        ),
        sum(
            "what is approved of rules is in force once, and workflows of rules end",
            "select (select count(*) from workflow.rule_changes where status = 'approved')
                  + (select count(*) from workflow.rule_changes as change
                     where (status = 'active') <> ((select count(*) from workflow.rule_sets where rule_change_id = change.id) = 1))
                  + (select count(*) from workflow.workflows where subject_kind = 'rule_change' and status = 'running')"
                .into(),
        ),
        sum(
            "no more is called for an allocation than it is",
            "select count(*) from allocation_status.allocations where called > amount and decision in ('pending_approval', 'active')".into(),
        ),
        sum(
            "an allocation is called and paid its parts of the lines",
            format!(
                "with newest as ({lines}), part as (
                    select (purpose->>'allocation_id')::uuid as id, sum((purpose->>'amount')::numeric) as called, sum((purpose->>'paid')::numeric) as paid
                    from newest cross join jsonb_array_elements(state->'purposes') as purpose where purpose->>'allocation_id' is not null group by 1
                 )
                 select count(*) from allocation_status.allocations as allocation left join part using (id)
                 where (allocation.called, allocation.paid) is distinct from (coalesce(part.called, 0), coalesce(part.paid, 0))"
            ),
        ),
        sum(
            "what is called of commitments and for allocations is what the lines and calls say",
            "select (select count(*) from capital_calls.commitments as commitment
                     left join (select fund_id, investor_id, sum(amount) as amount from capital_calls.call_lines group by fund_id, investor_id)
                          as line using (fund_id, investor_id)
                     where commitment.called <> coalesce(line.amount, 0))
                  + (select count(*) from capital_calls.allocations as allocation
                     left join (select (purpose->>'allocation_id')::uuid as id, sum((purpose->>'amount')::numeric) as amount
                                from capital_calls.capital_calls cross join jsonb_array_elements(purposes) as purpose
                                where decision = 'issued' group by 1) as purpose using (id)
                     where allocation.called <> coalesce(purpose.amount, 0))"
                .into(),
        ),
        sum(
            "the totals of funds and of the portfolio are those of lines, commitments and allocations",
            format!(
                "with line as ({lines}), commitment as ({}), allocation as ({}), fact as (
                    select state->>'fund_id' as fund_id, state->>'currency' as currency, (state->>'amount')::numeric as called,
                           (state->>'paid')::numeric as paid, (state->>'impact_on_unfunded')::numeric as impact,
                           (state->>'unapplied')::numeric as unapplied, ((state->>'amount')::numeric > 0)::int as lines,
                           ((state->>'amount')::numeric > 0 and (state->>'paid')::numeric >= (state->>'amount')::numeric)::int as lines_paid,
                           0 as committed, 0 as commitments, 0 as allocated, 0 as allocations
                    from line
                    union all
                    select state->>'fund_id', state->>'currency', 0, 0, 0, 0, 0, 0, (state->>'amount')::numeric, 1, 0, 0 from commitment
                    union all
                    select state->>'fund_id', state->>'currency', 0, 0, 0, 0, 0, 0, 0, 0, (state->>'amount')::numeric,
                           (state->>'decision' = 'active')::int
                    from allocation where state->>'decision' in ('pending_approval', 'active')
                 ), computed as (
                    select holder, holder_id, currency, array[sum(called), sum(paid), sum(impact), sum(unapplied), sum(lines), sum(lines_paid),
                           sum(committed), sum(commitments), sum(allocated), sum(allocations)] as figures
                    from fact cross join lateral (values ('fund', fund_id::uuid), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                         as holder (holder, holder_id)
                    group by holder, holder_id, currency
                 ), kept as (
                    select holder, holder_id, currency, array[called, paid_in, impact, unapplied, lines, lines_paid, committed, commitments,
                           allocated, allocations] as figures
                    from fund_metrics.totals
                 )
                 select count(*), min(format('%s %s: %s kept, %s right', holder, holder_id, kept.figures, computed.figures))
                 from computed full join kept using (holder, holder_id, currency)
                 where computed.figures is distinct from kept.figures and not (computed.figures is null and 0 = all(kept.figures))",
                newest("capital_calls", "commitment"),
                newest("allocation_status", "allocation"),
            ),
        ),
        sum(
            "the totals of due dates are those of the lines",
            format!(
                "with line as ({lines}), computed as (
                    select holder, holder_id, state->>'currency' as currency, (state->>'due_on')::date as due_on,
                           array[sum((state->>'amount')::numeric), sum((state->>'paid')::numeric),
                                 count(*) filter (where (state->>'paid')::numeric < (state->>'amount')::numeric),
                                 count(*) filter (where (state->>'amount')::numeric > 0),
                                 count(*) filter (where {FUNDED} and state->>'last_paid_on' <= state->>'due_on'),
                                 count(*) filter (where {FUNDED} and state->>'last_paid_on' > state->>'due_on')] as figures
                    from line cross join lateral (values ('fund', (state->>'fund_id')::uuid), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                         as holder (holder, holder_id)
                    group by 1, 2, 3, 4
                 ), kept as (
                    select holder, holder_id, currency, due_on, array[called, paid_in, lines_open, lines, lines_on_time, lines_late] as figures
                    from fund_metrics.due_totals
                 )
                 select count(*), min(format('%s %s %s: %s kept, %s right', holder, holder_id, due_on, kept.figures, computed.figures))
                 from computed full join kept using (holder, holder_id, currency, due_on)
                 where computed.figures is distinct from kept.figures and not (computed.figures is null and 0 = all(kept.figures))"
            ),
        ),
        sum(
            "the totals of months of issue are those of the lines",
            format!(
                "with line as ({lines}), computed as (
                    select holder, holder_id, state->>'currency' as currency, date_trunc('month', (state->>'issued_on')::date)::date as month,
                           array[count(*) filter (where (state->>'amount')::numeric > 0), sum((state->>'amount')::numeric)] as figures
                    from line cross join lateral (values ('fund', (state->>'fund_id')::uuid), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                         as holder (holder, holder_id)
                    group by 1, 2, 3, 4
                 ), kept as (
                    select holder, holder_id, currency, month, array[lines, called] as figures from fund_metrics.issue_totals
                 )
                 select count(*), min(format('%s %s %s: %s kept, %s right', holder, holder_id, month, kept.figures, computed.figures))
                 from computed full join kept using (holder, holder_id, currency, month)
                 where coalesce(computed.figures, '{{0, 0}}') is distinct from coalesce(kept.figures, '{{0, 0}}')"
            ),
        ),
        sum(
            "the days to fund are those of the lines",
            format!(
                "with line as ({lines}), computed as (
                    select holder, holder_id, state->>'currency' as currency, start, date_trunc('month', (state->>'last_paid_on')::date)::date as month,
                           (state->>'last_paid_on')::date - (state->>day)::date as days,
                           array[count(*), sum((state->>'amount')::numeric)] as figures
                    from line cross join lateral (values ('fund', (state->>'fund_id')::uuid), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
                         as holder (holder, holder_id)
                    cross join (values ('due', 'due_on'), ('issue', 'issued_on')) as starts (start, day)
                    where {FUNDED} and state->>'last_paid_on' is not null
                    group by 1, 2, 3, 4, 5, 6
                 ), kept as (
                    select holder, holder_id, currency, start, month, days, array[lines, called] as figures from fund_metrics.funding_days
                 )
                 select count(*), min(format('%s %s %s %s: %s kept, %s right', holder, holder_id, month, days, kept.figures, computed.figures))
                 from computed full join kept using (holder, holder_id, currency, start, month, days)
                 where computed.figures is distinct from kept.figures and not (computed.figures is null and 0 = all(kept.figures))"
            ),
        ),
    ]
}

/// The audit has each event once, and no gap; what is due has been raised once.
fn records() -> Vec<(String, Means, String)> {
    let mut checks = Vec::new();
    for owner in OWNERS.map(schema_of) {
        checks.push((
            format!("every event of {owner} is recorded"),
            Means::Lost,
            format!("select count(*) from {owner}.event_log where not exists (select from audit.records where source_id = event_id)"),
        ));
        // of what was forgotten when the database was set back some may never have been published, and so is no gap of the record
        checks.push((
            format!("the versions of each aggregate are in the log of {owner} without a gap"),
            Means::Lost,
            format!(
                "select coalesce(sum(highest - lowest + 1 - versions), 0)::bigint,
                        min(format('%s in epoch %s', aggregate_id, epoch)) filter (where highest - lowest + 1 > versions)
                 from (select aggregate_id, epoch, min(version) as lowest, max(version) as highest, count(distinct version) as versions
                       from {owner}.event_log where subject like 'tranche.evt.%' group by aggregate_id, epoch) as logged"
            ),
        ));
        checks.push((
            format!("no message of {owner} was given up"),
            Means::Lost,
            format!("select count(*) from {owner}.dead_letters where status = 'parked' and payload <> convert_to('{POISON}', 'UTF8')"),
        ));
    }
    let check = |what: &str, means: Means, statement: &str| (what.to_owned(), means, statement.to_owned());
    checks.extend([
        check(
            "no event is recorded twice",
            Means::Doubled,
            "select count(*) from (select from audit.records where subject like 'tranche.%' group by source_id having count(*) > 1) as twice",
        ),
        check(
            "each record is hashed over the one before",
            Means::Diverged,
            "select count(*) from (
                select *, lag(hash, 1, decode(repeat('00', 32), 'hex')) over (order by n) as previous, row_number() over (order by n) as place
                from audit.records
             ) as record
             where n <> place or hash <> sha256(previous
                || int8send(8) || int8send(n) || int8send(16) || uuid_send(source_id)
                || int8send(octet_length(subject)) || convert_to(subject, 'UTF8')
                || int8send(octet_length(aggregate)) || convert_to(aggregate, 'UTF8')
                || int8send(16) || uuid_send(aggregate_id) || int8send(4) || int4send(epoch) || int8send(8) || int8send(version)
                || int8send(octet_length(actor)) || convert_to(actor, 'UTF8')
                || int8send(octet_length(correlation_id)) || convert_to(correlation_id, 'UTF8')
                || int8send(8) || int8send((extract(epoch from at) * 1000000)::bigint)
                || int8send(octet_length(body)) || body)",
        ),
        check(
            "each aggregate is recorded from its first version",
            Means::Lost,
            "select count(*) from (select from audit.records where subject like 'tranche.evt.%' group by aggregate_id having min(version) > 1) as late",
        ),
        check(
            "each notice that was raised is in the log",
            Means::Lost,
            "select count(*) from notifications.schedules as schedule where raised_at is not null and not exists (
                select from notifications.event_log where stream = 'NOTICES' and body::jsonb->'state'->>'line_id' = line_id::text
                       and body::jsonb->'state'->>'rule' = schedule.rule)",
        ),
        check(
            "each notice and alert is raised once",
            Means::Doubled,
            "select count(*) from (select from notifications.event_log where stream = 'NOTICES'
                                   group by body::jsonb->'state'->>'id' having count(*) > 1) as twice",
        ),
        check(
            "each notice that is due has been raised",
            Means::Lost,
            "select count(*) from notifications.schedules where raised_at is null and wanted and send_at < now() - interval '5 seconds'",
        ),
        check(
            "every line has its schedule",
            Means::Lost,
            "select count(*) from notifications.lines where not exists (select from notifications.schedules where line_id = lines.id)",
        ),
        check(
            "a payment is reversed once at most",
            Means::Doubled,
            "select count(*) from (select from capital_calls.event_log where subject like 'tranche.evt.payment.reversed.%'
                                   group by aggregate_id, epoch having count(*) > 1) as twice",
        ),
    ]);
    checks
}

/// Every event of the logs is in its stream: whoever reads from outside has nothing else.
pub async fn in_streams(database: &PgPool, ops: &async_nats::Client) -> Result<Findings, String> {
    let mut findings = Findings::default();
    for stream in STREAMS {
        let there = testkit::nats::event_ids(ops, stream).await?;
        for owner in OWNERS.map(schema_of) {
            let logged: Vec<Uuid> = sqlx::query_scalar(&format!("select event_id from {owner}.event_log where stream = $1"))
                .bind(stream)
                .fetch_all(database)
                .await
                .map_err(|error| format!("{owner}: {error}"))?;
            let missing = logged.iter().filter(|id| !there.contains(id)).count();
            findings.lost(missing as u64, &format!("events of {owner} that the stream {stream} does not have"));
        }
    }
    Ok(findings)
}

/// The bucket that replicas take their rules from has what workflow's database has, and nothing that it has forgotten.
pub async fn in_bucket(database: &PgPool, ops: &async_nats::Client) -> Result<Findings, String> {
    let fault = |error: &dyn std::fmt::Display| format!("bucket of rules: {error}");
    let bucket = async_nats::jetstream::new(ops.clone()).get_key_value("rules").await.map_err(|error| fault(&error))?;
    let keys: Vec<String> = bucket.keys().await.map_err(|error| fault(&error))?.try_collect().await.map_err(|error| fault(&error))?;
    let mut there = BTreeMap::new();
    for key in keys.into_iter().filter(|key| key != "_complete") {
        let value = bucket.get(&key).await.map_err(|error| fault(&error))?.unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&value).map_err(|error| fault(&error))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        there.insert(text("scope"), (value["version"].as_i64(), text("content_hash")));
    }
    let newest = "select distinct on (scope) scope, version, content_hash from workflow.rule_sets order by scope, version desc";
    let newest: Vec<(String, i64, String)> = sqlx::query_as(newest).fetch_all(database).await.map_err(|error| fault(&error))?;
    let newest: BTreeMap<_, _> = newest.into_iter().map(|(scope, version, hash)| (scope, (Some(version), hash))).collect();
    let mut findings = Findings::default();
    for scope in newest.keys().chain(there.keys().filter(|scope| !newest.contains_key(*scope))) {
        let (ours, theirs) = (newest.get(scope), there.get(scope));
        findings.diverged(u64::from(ours != theirs), &format!("rules of {scope}: {ours:?} in the database, {theirs:?} in the bucket"));
    }
    Ok(findings)
}

/// Runs every comparison; the findings say what differs.
pub async fn compare(database: &PgPool) -> Result<Findings, String> {
    let mut checks: Vec<(String, Means, String)> = Vec::new();
    for (owner, kind, table, holds) in STATES {
        let statement = format!(
            "with newest as ({}) select count(*) from newest full join {table} as row using (id) where ({holds}) is not true",
            newest(owner, kind)
        );
        let name = table.split_whitespace().find(|word| word.contains('.')).unwrap_or(table);
        checks.push((format!("{name} as the {kind}s in the log of {owner}"), Means::Diverged, statement));
    }
    checks.extend(sums());
    checks.extend(records());
    let mut findings = Findings::default();
    for (what, means, statement) in checks {
        let row = sqlx::query(&statement).fetch_one(database).await.map_err(|error| format!("{what}: {error}"))?;
        let rows = row.try_get::<i64, _>(0).map_err(|error| format!("{what}: {error}"))?.unsigned_abs();
        // some show one of those that differ
        let example = row.try_get::<Option<String>, _>(1).ok().flatten();
        let what = example.map_or(what.clone(), |example| format!("{what}, for example {example}"));
        match means {
            Means::Lost => findings.lost(rows, &what),
            Means::Doubled => findings.doubled(rows, &what),
            Means::Diverged => findings.diverged(rows, &what),
        }
    }
    Ok(findings)
}
