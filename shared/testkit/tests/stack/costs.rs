//! What payments cost, in counts that no machine's speed changes: a change that makes each payment dearer is seen here.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, id, lines, payment};

/// Requests, and payments of each: a thousand in all.
const REQUESTS: usize = 10;
const PER_REQUEST: usize = 100;
/// Lines that the payments are spread over.
const LINES: usize = 50;

/// What is counted of the statements. How many rows a reader writes depends on which events it found together, so what it
/// writes for one row is counted. A row that is written more often finds room on its page more often, so each request is
/// read by all before the next is sent.
const CALLS: &str = "sum(calls)";
const ROWS: &str = "sum(rows)";
const WAL: &str = "sum(wal_bytes)";
const WAL_A_ROW: &str = "sum(wal_bytes) / sum(rows)";

/// What a thousand payments cost: who, which statement, what is counted, and how much of it there is. A change that makes
/// one of them cheaper by as much also fails, so that the table stays true. The commands of a request share one
/// transaction: as many commits as calls of its statements. Audit's rows are the messages that were published.
const COSTS: [(&str, &str, &str, f64); 14] = [
    ("capital_calls", "insert into payments", CALLS, 10.0),
    ("capital_calls", "insert into payments", WAL, 969_000.0),
    ("capital_calls", "from call_lines where id = any", CALLS, 10.0),
    ("capital_calls", "insert into event_log", WAL, 2_620_000.0),
    ("capital_calls", "idempotency where id = any", CALLS, 0.0),
    ("capital_calls", "asked (fund_id, investor_id, amount, received_on, source)", CALLS, 10.0),
    ("audit", "insert into records", ROWS, 2_030.0),
    ("audit", "insert into records", WAL, 2_998_000.0),
    ("fund_metrics", "insert into lines", WAL_A_ROW, 231.0),
    ("fund_metrics", "insert into totals", WAL_A_ROW, 132.0),
    ("fund_metrics", "insert into due_totals", WAL_A_ROW, 132.0),
    ("fund_metrics", "insert into funding_days", CALLS, 0.0),
    ("allocation_status", "insert into line_shares", WAL_A_ROW, 157.0),
    ("notifications", "insert into lines", WAL_A_ROW, 201.0),
];
/// Part by which a count may differ.
const TOLERANCE: f64 = 0.1;

async fn counted(database: &PgPool, role: &str, statement: &str, what: &str) -> f64 {
    let query = format!(
        "select coalesce({what}, 0)::float8 from pg_stat_statements as statement join pg_roles on pg_roles.oid = userid
         where rolname = $1 and position($2 in query) > 0 and dbid = (select oid from pg_database where datname = current_database())"
    );
    sqlx::query_scalar(&query).bind(role).bind(statement).fetch_one(database).await.unwrap()
}

#[tokio::test]
async fn a_thousand_payments_cost_what_they_did() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, LINES, "400000.00").await;
    let line_ids: Vec<Uuid> = lines(&call).iter().map(|line| id(line, "id")).collect();
    let database = stack.database().await;
    sqlx::raw_sql("create extension pg_stat_statements").execute(&database).await.unwrap();
    let settled = || async {
        let waiting = "select (select count(*) from capital_calls.outbox_pending) + (select count(*) from capital_calls.summaries_due)
                            + (select count(*) from allocation_status.summaries_due) + (select count(*) from fund_metrics.summaries_due)
                            + (select count(*) from capital_calls.event_log where not exists (select from audit.records where source_id = event_id))
                            + (select count(*) from capital_calls.call_lines as line where not exists
                                  (select from notifications.lines as kept where kept.id = line.id and kept.version = line.version))";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&database).await.unwrap() == 0
    };
    let record = |request: usize| {
        let payments: Vec<_> = (0..PER_REQUEST)
            .map(|place| {
                let mut payment = payment("1.00", &format!("{request}/{place}"));
                payment["line_id"] = json!(line_ids[place % LINES]);
                payment
            })
            .collect();
        office.treasurer.post("/payments/batch", json!({"payments": payments}))
    };
    // the first request fills caches and makes plans
    record(0).await.expect(200);
    assert!(testkit::wait::until(Duration::from_secs(20), settled).await);
    sqlx::raw_sql("select pg_stat_statements_reset(0, (select oid from pg_database where datname = current_database()), 0)")
        .execute(&database)
        .await
        .unwrap();
    let events = "select count(*) from capital_calls.event_log where aggregate in ('call_line', 'payment')";
    let before: i64 = sqlx::query_scalar(events).fetch_one(&database).await.unwrap();
    for request in 1..=REQUESTS {
        assert_eq!(record(request).await.expect(200)["accepted"], PER_REQUEST);
        assert!(testkit::wait::until(Duration::from_secs(20), settled).await);
    }
    let after: i64 = sqlx::query_scalar(events).fetch_one(&database).await.unwrap();
    assert_eq!(after - before, 2_000, "two events a payment");
    let mut table = String::new();
    let mut wrong = 0;
    for (role, statement, what, expected) in COSTS {
        let counted = counted(&database, role, statement, what).await;
        let differs = (counted - expected).abs() > expected * TOLERANCE;
        wrong += usize::from(differs);
        table
            .push_str(&format!("{} {role:>20} {what:>27} {counted:>10.1} (was {expected}) {statement}\n", if differs { "!" } else { " " }));
    }
    assert_eq!(wrong, 0, "a thousand payments cost:\n{table}");

    // what is not needed above is needed by a request that comes again, with more than is outstanding: it funds a line
    let mut large = payment("400000.00", "large");
    large["line_id"] = json!(line_ids[0]);
    for _ in 0..2 {
        office.treasurer.post_as("/payments/batch", "large", json!({"payments": [large]})).await.expect(200);
    }
    for (role, statement, what, _) in COSTS.iter().filter(|(.., expected)| *expected == 0.0) {
        let happens = || async { counted(&database, role, statement, what).await > 0.0 };
        assert!(testkit::wait::until(Duration::from_secs(10), happens).await, "{statement}");
    }
}
