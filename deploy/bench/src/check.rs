//! The independent check: what the tables of one service say against those of another. It shares no code with the services.

use sqlx::PgPool;

/// Each finds the rows on which two tables do not agree; none is right.
const CHECKS: [(&str, &str); 10] = [
    (
        "lines are paid what their payments applied",
        "select count(*) from capital_calls.call_lines as line
         left join (select line_id, sum(applied) as applied, sum(unapplied) as unapplied from capital_calls.payments
                    where reversal is null group by line_id) as paid on paid.line_id = line.id
         where line.paid <> coalesce(applied, 0) or line.unapplied <> coalesce(paid.unapplied, 0)",
    ),
    (
        "calls are paid what their lines are",
        "select count(*) from capital_calls.capital_calls as call
         join (select call_id, sum(amount) as amount, sum(paid) as paid from capital_calls.call_lines group by call_id) as line
           on line.call_id = call.id
         where call.decision = 'issued' and (call.paid <> line.paid or call.amount <> line.amount)",
    ),
    (
        "metrics have the newest version of each line",
        "select count(*) from capital_calls.call_lines as line left join fund_metrics.lines as kept using (id)
         where (line.version, line.amount, line.paid, line.unapplied) is distinct from (kept.version, kept.called, kept.paid, kept.unapplied)",
    ),
    (
        "totals of funds are the sums of their lines",
        "select count(*) from (select fund_id, sum(amount) as called, sum(paid) as paid, count(*) as lines,
                                      count(*) filter (where paid >= amount) as lines_paid
                               from capital_calls.call_lines group by fund_id) as line
         left join fund_metrics.totals on holder = 'fund' and holder_id = fund_id
         where (line.called, line.paid, line.lines, line.lines_paid) is distinct from (totals.called, totals.paid_in, totals.lines, totals.lines_paid)",
    ),
    (
        "totals of investors and of the portfolio are the sums of funds",
        "select count(*) from (select holder, sum(called) as called, sum(paid_in) as paid_in from fund_metrics.totals group by holder) as sums
         where (called, paid_in) <> (select sum(amount), sum(paid) from capital_calls.call_lines)",
    ),
    (
        "totals of due dates are the sums of their lines",
        "select count(*) from (select fund_id, due_on, sum(amount) as called, sum(paid) as paid from capital_calls.call_lines
                               group by fund_id, due_on) as line
         left join fund_metrics.due_totals as due on holder = 'fund' and holder_id = fund_id and due.due_on = line.due_on
         where (line.called, line.paid) is distinct from (due.called, due.paid_in)",
    ),
    (
        "allocations are paid their parts of the lines",
        "select count(*) from allocation_status.allocations as allocation
         join (select allocation_id as id, sum(paid) as paid from allocation_status.line_shares group by allocation_id) as share using (id)
         where allocation.paid <> share.paid",
    ),
    (
        "parts of lines are those of the newest version, and fit what is paid",
        "select count(*) from capital_calls.call_lines as line
         join (select line_id, version, sum(called) as called, sum(paid) as paid from allocation_status.line_shares group by line_id, version)
              as share on share.line_id = line.id
         where line.version <> share.version or share.called > line.amount
            or abs(share.paid * line.amount - line.paid * share.called) > line.amount",
    ),
    (
        "notices know what is outstanding",
        "select count(*) from capital_calls.call_lines as line left join notifications.lines as kept using (id)
         where (line.version, line.amount - line.paid) is distinct from (kept.version, kept.outstanding)",
    ),
    (
        "every event of a call, a line and a payment is recorded once",
        "select count(*) from capital_calls.event_log as logged
         left join (select aggregate_id, version, count(*) as times from audit.records where at > $1 group by aggregate_id, version) as recorded
           on recorded.aggregate_id = logged.aggregate_id and recorded.version = logged.version
         where stream = 'EVENTS' and at > $1 and times is distinct from 1",
    ),
];

/// Runs every check; an error names those that fail.
pub async fn run(database: &PgPool, since: chrono::DateTime<chrono::Utc>, stored: u64, accepted: u64) -> Result<(), String> {
    let fault = |error: sqlx::Error| format!("check: {error}");
    let mut wrong = Vec::new();
    for (what, statement) in CHECKS {
        let query = sqlx::query_scalar(statement);
        let query = if statement.contains("$1") { query.bind(since) } else { query };
        let differ: i64 = query.fetch_one(database).await.map_err(|error| format!("{what}: {error}"))?;
        if differ != 0 {
            wrong.push(format!("{what}: {differ} differ"));
        }
    }
    let payments: i64 = sqlx::query_scalar("select count(*) from capital_calls.payments").fetch_one(database).await.map_err(fault)?;
    if payments.unsigned_abs() != stored + accepted {
        wrong.push(format!("{stored} payments were there and {accepted} were acknowledged, but {payments} are stored"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
