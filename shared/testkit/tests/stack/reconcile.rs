//! What is lost on the way is found by comparing, and sent again; what differs is reported.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, id, items, lines};

/// Takes the newest message on a subject out of the stream of events, as a broker does that loses it.
async fn lose(stack: &Stack, subject: &str) {
    let stream = async_nats::jetstream::new(stack.nats_as("ops").await).get_stream("EVENTS").await.unwrap();
    let lost = stream.get_last_raw_message_by_subject(subject).await.unwrap();
    stream.delete_message(lost.sequence).await.unwrap();
    // not noticed by the relays: others may have come in the meantime, on this subject as well
    for schema in ["capital_calls", "allocation_status", "fund_metrics", "workflow", "notifications", "audit"] {
        let relay = format!("update {schema}.relay_state set messages = 0, last_subject = null");
        sqlx::raw_sql(&relay).execute(&stack.database().await).await.unwrap();
    }
}

/// Runs a subcommand of a service; whether it succeeded, and what it printed.
fn run(stack: &Stack, service: &str, arguments: &[&str]) -> (bool, String) {
    let mut command: Command = stack.settings.command(service, 0);
    let output = command.args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

async fn divergences(office: &Office) -> Vec<Value> {
    let page = office.auditor.get("/audit/records?aggregate=divergence").await.expect(200);
    items(&page).iter().map(|record| record["body"]["state"].clone()).collect()
}

#[tokio::test]
async fn an_event_that_the_broker_lost_is_sent_again_to_the_reader_that_lacks_it() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    office.pay(line, "10.00", "read").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "10.00").await;
    stack.kill("fund-metrics");
    office.pay(line, "20.00", "lost").await;
    let recorded = format!("/audit/records?aggregate_id={line}");
    office.auditor.until(&recorded, |page| items(page).iter().any(|record| record["version"] == 3)).await;
    lose(&stack, &format!("tranche.evt.call_line.payment_applied.{}", fund.id)).await;
    stack.restart("fund-metrics").await;
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "30.00").await;
    let found = office.auditor.until("/audit/records?aggregate=divergence", |page| !items(page).is_empty()).await;
    let state = &items(&found)[0]["body"]["state"];
    assert_eq!((&state["service"], &state["compared"]), (&json!("fund-metrics"), &json!("call_line of capital-calls")), "{state:#}");
    assert_eq!((&state["differed"], &state["repaired"]), (&json!(1), &json!(1)), "{state:#}");
    let (in_step, printed) = run(&stack, "fund-metrics", &["verify"]);
    assert!(in_step, "{printed}");
}

#[tokio::test]
async fn an_event_that_the_audit_never_got_is_recorded_after_all() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    stack.kill("audit");
    let payment = office.pay(id(&lines(&call)[0], "id"), "20.00", "lost").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "20.00").await;
    lose(&stack, &format!("tranche.evt.payment.recorded.{}", fund.id)).await;
    stack.restart("audit").await;
    let recorded = format!("/audit/records?aggregate_id={}", id(&payment, "id"));
    office.auditor.until(&recorded, |page| items(page).len() == 1).await;
    assert!(testkit::wait::until(Duration::from_secs(20), || async { !divergences(&office).await.is_empty() }).await);
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

#[tokio::test]
async fn a_total_that_is_not_the_sum_of_its_rows_is_found() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 3, "100.00").await;
    for (number, line) in lines(&call).iter().enumerate() {
        office.pay(id(line, "id"), "5.00", &format!("p{number}")).await;
    }
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "15.00").await;
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["paid"] == "15.00").await;
    // one that waits for votes holds its amount
    let waits = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": "1000000", "security_type": "equity"});
    office.analyst.post("/allocations", waits).await.expect(202);
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["allocated"] == "1500000.00").await;
    let services = ["capital-calls", "allocation-status", "fund-metrics"];
    for service in services {
        let (right, printed) = run(&stack, service, &["verify", "--recompute"]);
        assert!(right, "{service}: {printed}");
    }
    let wrong = [
        ("capital-calls", "update capital_calls.capital_calls set paid = paid + 1", "paid of calls"),
        ("allocation-status", "update allocation_status.funds set allocated = allocated + 1", "allocated of funds"),
        ("fund-metrics", "update fund_metrics.totals set called = called + 1 where holder = 'fund'", "totals of funds"),
        ("fund-metrics", "update fund_metrics.due_totals set paid_in = paid_in + 1 where holder = 'fund'", "totals of due dates"),
        ("fund-metrics", "update fund_metrics.issue_totals set lines = lines + 1 where holder = 'fund'", "totals of months of issue"),
        (
            "fund-metrics",
            "insert into fund_metrics.funding_days
             select holder, holder_id, currency, 'due', month, 1, 1, 1 from fund_metrics.issue_totals where holder = 'fund'",
            "days to fund",
        ),
    ];
    let database = stack.database().await;
    for (service, statement, named) in wrong {
        sqlx::query(statement).execute(&database).await.unwrap();
        let (right, printed) = run(&stack, service, &["verify", "--recompute"]);
        assert!(!right && printed.contains(named) && printed.contains("is right"), "{service}: {printed}");
    }
}

/// Runs a program of Postgres.
fn postgres(program: &str, arguments: &[&str]) {
    let output = Command::new(testkit::postgres::programs().unwrap().join(program)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn readers_follow_an_owner_whose_database_was_set_back() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 2, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    office.pay(line, "10.00", "kept").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "10.00").await;
    // waits for votes in the copy, and is issued afterwards
    let large = json!({"purposes": [{"kind": "expenses", "amount": "1000000.00", "inside_commitment": true}], "due_on": "2099-12-31"});
    let large = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), large).await.expect(202);
    let large_id = id(&large, "capital_call_id");
    office.ann.until(&format!("/approvals?status=pending&subject_id={large_id}"), |page| !items(page).is_empty()).await;
    let copy = stack.folder().join("capital_calls.dump");
    let copy = copy.to_str().unwrap();
    postgres("pg_dump", &["--format=custom", "--schema=capital_calls", "--file", copy, &stack.settings.database]);
    office.pay(line, "20.00", "forgotten").await;
    office.pay(id(&lines(&call)[1], "id"), "5.00", "forgotten too").await;
    let forgotten = office.call(&fund, allocation, "40.00", "2099-12-31").await;
    let called = |metrics: &Value, called: &str, paid: &str| metrics["called"] == called && metrics["paid_in"] == paid;
    office.approve(large_id).await;
    office.manager.until(&metrics, |metrics| called(metrics, "1000140.00", "35.00")).await;
    office.manager.until(&format!("/workflows/{}", id(&large, "workflow_id")), |workflow| workflow["status"] == "completed").await;

    stack.kill("capital-calls");
    sqlx::raw_sql("drop schema capital_calls cascade").execute(&stack.database().await).await.unwrap();
    postgres("pg_restore", &["--dbname", &stack.settings.database, copy]);
    let (raised, printed) = run(&stack, "capital-calls", &["new-epoch"]);
    assert!(raised && printed.contains("states are published"), "{printed}");
    stack.restart("capital-calls").await;

    // the votes are not forgotten: the call is issued again
    office.manager.until(&metrics, |metrics| called(metrics, "1000100.00", "10.00")).await;
    office.manager.until(&format!("/workflows/{}", id(&large, "workflow_id")), |workflow| workflow["status"] == "completed").await;
    office.manager.get(&format!("/capital-calls/{}", id(&forgotten, "id"))).await.expect(404);
    // also under a service that serves: what it writes afterwards is of the newer epoch
    let (raised, printed) = run(&stack, "capital-calls", &["new-epoch"]);
    assert!(raised, "{printed}");
    office.pay(line, "7.00", "new").await;
    office.manager.until(&metrics, |metrics| called(metrics, "1000100.00", "17.00")).await;
    let funded = |allocation: &Value| allocation["paid"] == "17.00" && allocation["called"] == "100.00";
    office.manager.until(&format!("/allocations/{allocation}"), funded).await;
    for service in ["fund-metrics", "allocation-status", "notifications", "workflow", "capital-calls", "audit"] {
        let (in_step, printed) = run(&stack, service, &["verify"]);
        assert!(in_step, "{service}: {printed}");
        let (right, printed) = run(&stack, service, &["verify", "--recompute"]);
        assert!(right, "{service}: {printed}");
    }
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

#[tokio::test]
async fn rules_that_workflow_has_forgotten_go_out_of_force() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (buyout, venture) = ("/rules/fund-type:buyout", "/rules/fund-type:venture");
    let days = |days: u32| json!({"grace_days": days});
    office.admin.put(buyout, days(10)).await.expect(200);
    let copy = stack.folder().join("workflow.dump");
    let copy = copy.to_str().unwrap();
    postgres("pg_dump", &["--format=custom", "--schema=workflow", "--file", copy, &stack.settings.database]);
    office.admin.put(buyout, days(20)).await.expect(200);
    office.admin.put(venture, days(40)).await.expect(200);
    let heard = async |stack: &Stack, said: &str, times: usize| {
        let heard = testkit::wait::until(Duration::from_secs(60), || async { stack.log("capital-calls").matches(said).count() == times });
        assert!(heard.await, "capital-calls has not heard {said:?} {times} times");
    };
    heard(&stack, "rules in force scope=\"fund-type:venture\" version=1 ", 1).await;

    stack.kill("workflow");
    sqlx::raw_sql("drop schema workflow cascade").execute(&stack.database().await).await.unwrap();
    postgres("pg_restore", &["--dbname", &stack.settings.database, copy]);
    let (raised, printed) = run(&stack, "workflow", &["new-epoch"]);
    assert!(raised, "{printed}");
    stack.restart("workflow").await;

    heard(&stack, "rules in force scope=\"fund-type:buyout\" version=1 ", 2).await;
    heard(&stack, "rules out of force scope=fund-type:venture", 1).await;
    let of_fund = |fund_type: &str| format!("/rules/fund:{}?fund_type={fund_type}", Uuid::nil());
    office.admin.until(&of_fund("buyout"), |rules| rules["effective"]["grace_days"] == 10).await;
    office.admin.until(&of_fund("venture"), |rules| rules["sources"]["grace_days"]["version"] == 0).await;
    assert_eq!(office.admin.put(buyout, days(11)).await.expect(200)["version"], 2, "versions go on from what is known");
    assert_eq!(office.admin.put(venture, days(12)).await.expect(200)["version"], 1);
    heard(&stack, "rules in force scope=\"fund-type:buyout\" version=2 ", 2).await;
    heard(&stack, "rules in force scope=\"fund-type:venture\" version=1 ", 2).await;
}

#[tokio::test]
async fn cash_for_an_allocation_that_its_owner_has_forgotten_holds_up_no_other_line() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, kept, call) = office.open_call(&stack, 1, "100.00").await;
    let paid = |paid: &'static str| move |allocation: &Value| allocation["paid"] == paid;
    let copy = stack.folder().join("allocation_status.dump");
    let copy = copy.to_str().unwrap();
    postgres("pg_dump", &["--format=custom", "--schema=allocation_status", "--file", copy, &stack.settings.database]);
    let forgotten = office.allocation(&stack, &fund, "300000").await;
    let other = office.call(&fund, forgotten, "60.00", "2099-12-31").await;
    office.manager.until(&format!("/allocations/{forgotten}"), |allocation| allocation["called"] == "60.00").await;

    stack.kill("allocation-status");
    sqlx::raw_sql("drop schema allocation_status cascade").execute(&stack.database().await).await.unwrap();
    postgres("pg_restore", &["--dbname", &stack.settings.database, copy]);
    let (raised, printed) = run(&stack, "allocation-status", &["new-epoch"]);
    assert!(raised, "{printed}");
    stack.restart("allocation-status").await;

    office.manager.get(&format!("/allocations/{forgotten}")).await.expect(404);
    office.pay(id(&lines(&other)[0], "id"), "3.00", "of the forgotten one").await;
    office.pay(id(&lines(&call)[0], "id"), "7.00", "of the other").await;
    office.manager.until(&format!("/allocations/{kept}"), paid("7.00")).await;
    let (right, printed) = run(&stack, "allocation-status", &["verify", "--recompute"]);
    assert!(!right && printed.contains(&forgotten.to_string()) && printed.contains("60.00 called"), "{printed}");
}

#[tokio::test]
async fn a_read_model_is_made_anew_while_it_is_read_and_written() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    office.pay(line, "1.00", "before").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    let before = office.manager.until(&metrics, |metrics| metrics["paid_in"] == "1.00").await;
    let database = stack.database().await;
    // somebody has meddled with it: the figures are wrong, and a line is gone
    let meddled = "update fund_metrics.totals set called = called + 7; delete from fund_metrics.lines where paid = 0";
    sqlx::raw_sql(meddled).execute(&database).await.unwrap();
    let indexes = "select string_agg(indexname || indexdef, ' ' order by indexname) from pg_indexes where schemaname = 'fund_metrics'";
    let indexes_before: String = sqlx::query_scalar(indexes).fetch_one(&database).await.unwrap();
    let paying = {
        let treasurer = office.treasurer.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                let body = crate::office::payment("0.50", &format!("meanwhile {number}"));
                treasurer.post(&format!("/call-lines/{line}/payments"), body).await.expect(201);
            }
        })
    };
    let reading = {
        let (manager, metrics) = (office.manager.clone(), metrics.clone());
        tokio::spawn(async move {
            loop {
                manager.get(&metrics).await.expect(200);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let settings = stack.settings.clone();
    let rebuilt = tokio::task::spawn_blocking(move || settings.command("fund-metrics", 0).arg("rebuild").output().unwrap()).await.unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    paying.await.unwrap();
    assert!(!reading.is_finished(), "it could be read all the time");
    reading.abort();
    let after = office.manager.until(&metrics, |metrics| metrics["paid_in"] == "21.00").await;
    assert_eq!(after["called"], before["called"]);
    let published =
        "select max((body::jsonb->'state'->>'version')::bigint), count(distinct version) = max(version) from fund_metrics.event_log
                     where aggregate = 'fund_metrics'";
    let (versions, is_gapless): (i64, bool) = sqlx::query_as(published).fetch_one(&database).await.unwrap();
    assert!(versions >= before["version"].as_i64().unwrap() && is_gapless, "the versions of the summaries go on");
    assert_eq!(indexes_before, sqlx::query_scalar::<_, String>(indexes).fetch_one(&database).await.unwrap());
    for arguments in [&["verify"][..], &["verify", "--recompute"]] {
        let (right, printed) = run(&stack, "fund-metrics", arguments);
        assert!(right, "{printed}");
    }
    let (refused, printed) = run(&stack, "notifications", &["rebuild"]);
    assert!(!refused && printed.contains("keeps no read model"), "{printed}");
}
