//! The analytics of capital calls: who pays when, and how old what is not paid is.

use chrono::Days;
use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Fund, Office, id, items, lines, payment_on, today};

async fn expenses(office: &Office, fund: &Fund, amount: &str, due_on: &str) -> Value {
    let call = json!({"purposes": [{"kind": "expenses", "amount": amount, "inside_commitment": true}], "due_on": due_on});
    let accepted = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), call).await.expect(202);
    let path = format!("/capital-calls/{}", id(&accepted, "capital_call_id"));
    office.manager.until(&path, |call| call["decision"] == "issued").await
}

/// The line of an investor.
fn line_of(call: &Value, investor: Uuid) -> Uuid {
    id(lines(call).iter().find(|line| id(line, "investor_id") == investor).unwrap(), "id")
}

fn parts<'a>(value: &'a Value, fields: &[&str]) -> Vec<&'a Value> {
    fields.iter().map(|field| value.get(field).unwrap_or_else(|| panic!("no {field} in {value:#}"))).collect()
}

fn buckets(aged: &Value) -> Vec<(&str, i64)> {
    let buckets = aged["buckets"].as_array().unwrap().iter();
    buckets.map(|bucket| (bucket["outstanding"].as_str().unwrap(), bucket["lines"].as_i64().unwrap())).collect()
}

#[tokio::test]
async fn who_pays_on_time_late_or_not_at_all_is_seen_of_fund_investor_and_portfolio() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(3).await;
    let [punctual, slow, silent] = fund.investors[..] else { panic!("three investors") };
    let call = expenses(&office, &fund, "300.00", "2026-03-31").await;
    let pay = async |investor: Uuid, amount: &str, on: &str| {
        let path = format!("/call-lines/{}/payments", line_of(&call, investor));
        office.treasurer.post(&path, payment_on(amount, on, on)).await.expect(201)
    };
    pay(punctual, "40.00", "2026-03-20").await;
    pay(punctual, "60.00", "2026-03-31").await;
    pay(slow, "100.00", "2026-04-20").await;
    let of_silent = pay(silent, "100.00", "2026-03-30").await;
    let bounced = json!({"reason": "bounced", "effective_on": "2026-04-01"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&of_silent, "id")), bounced).await.expect(200);
    pay(silent, "25.00", "2026-04-02").await;

    let path = |what: &str| format!("/funds/{}/{what}", fund.id);
    let year = "from=2026-01-01&to=2026-12-31&as_of=2026-12-31";
    let collected = office
        .manager
        .until(&path(&format!("collections?{year}")), |page| items(page).first().is_some_and(|one| one["total"]["paid_in"] == "225.00"))
        .await;
    let collections = &items(&collected)[0];
    let fields =
        ["called", "outstanding", "collection_rate", "lines", "lines_paid", "lines_on_time", "lines_late", "funded_on_time", "funded_late"];
    let expected = json!(["300.00", "75.00", "0.75", 3, 2, 1, 1, "100.00", "100.00"]);
    for cohort in [&collections["total"], &collections["months"][0], &collections["due_dates"][0]] {
        assert_eq!(json!(parts(cohort, &fields)), expected);
    }
    assert_eq!(json!([collections["months"][0]["month"], collections["due_dates"][0]["due_on"]]), json!(["2026-03-01", "2026-03-31"]));
    // not due yet on the day before
    let before = office.manager.get(&path("collections?as_of=2026-03-30")).await.expect(200);
    assert_eq!(items(&before).len(), 0);

    for (as_of, place) in [("2026-04-07", 0), ("2026-04-08", 1), ("2026-04-15", 1), ("2026-04-16", 2), ("2026-05-30", 3), ("2026-05-31", 4)]
    {
        let aged = office.manager.get(&path(&format!("ageing?as_of={as_of}"))).await.expect(200);
        let mut expected = [("0.00", 0); 5];
        expected[place] = ("75.00", 1);
        assert_eq!(buckets(&items(&aged)[0]), expected, "as of {as_of}");
    }
    let due = office.manager.get(&path("ageing?as_of=2026-03-31")).await.expect(200);
    assert_eq!(json!(parts(&items(&due)[0], &["overdue", "not_overdue", "lines_not_overdue"])), json!(["0.00", "75.00", 1]));

    let days = office.manager.get(&path("days-to-fund")).await.expect(200);
    assert_eq!(json!(parts(&days["from_due"], &["lines", "median", "p90", "average"])), json!([2, 0, 20, "10"]));
    // issued today, by the clock of the machine
    let late = i32::try_from((today() - "2026-04-20".parse::<chrono::NaiveDate>().unwrap()).num_days()).unwrap();
    assert_eq!(days["from_issue"]["p90"], -late);

    let trends = office.manager.get(&path("trends?months=4&as_of=2026-04-30")).await.expect(200);
    let months = items(&trends)[0]["months"].as_array().unwrap();
    let row = |month: &Value| {
        json!([
            month["month"],
            month["called"],
            month["paid_in"],
            month["funded"],
            month["days_to_fund"]["lines"],
            month["days_to_fund"]["median"]
        ])
    };
    let expected = json!([
        ["2026-01-01", "0.00", "0.00", "0.00", 0, null],
        ["2026-02-01", "0.00", "0.00", "0.00", 0, null],
        ["2026-03-01", "300.00", "225.00", "100.00", 1, 0],
        ["2026-04-01", "0.00", "0.00", "100.00", 1, 20],
    ]);
    assert_eq!(json!(months.iter().map(row).collect::<Vec<_>>()), expected);
    let this_month = office.manager.get(&path("trends?months=1")).await.expect(200);
    assert_eq!(json!(parts(&items(&this_month)[0]["months"][0], &["issued", "lines_issued"])), json!(["300.00", 3]));

    // the same of one investor, and of all funds together
    let of = |investor: Uuid, what: &str| format!("/investors/{investor}/{what}");
    let rate = office.auditor.get(&of(silent, &format!("collections?{year}"))).await.expect(200);
    assert_eq!(
        json!(parts(&items(&rate)[0]["total"], &["collection_rate", "collection_rate_by_count", "lines_paid"])),
        json!(["0.25", "0", 0])
    );
    let aged = office.auditor.get(&of(silent, "ageing?as_of=2026-04-20")).await.expect(200);
    assert_eq!(buckets(&items(&aged)[0])[2], ("75.00", 1));
    let days = office.auditor.get(&of(slow, "days-to-fund")).await.expect(200);
    assert_eq!(json!(parts(&days["from_due"], &["lines", "median", "p90"])), json!([1, 20, 20]));
    let first = office.auditor.get(&path("days-to-fund/investors?limit=2")).await.expect(200);
    let next = format!("days-to-fund/investors?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = office.auditor.get(&path(&next)).await.expect(200);
    let listed: Vec<Value> =
        items(&first).iter().chain(items(&second)).map(|one| json!([one["investor_id"], one["from_due"]["median"]])).collect();
    let mut expected = [(punctual, json!(0)), (slow, json!(20)), (silent, Value::Null)];
    expected.sort_by_key(|(investor, _)| *investor);
    assert_eq!(listed, expected.map(|(investor, median)| json!([investor, median])));
    let trend = office.auditor.get(&of(slow, "trends?months=1&as_of=2026-04-01")).await.expect(200);
    assert_eq!(items(&trend)[0]["months"][0]["funded"], "100.00");
    let executive = stack.user("eve", &["executive"]);
    for what in
        [format!("collections?{year}"), "ageing?as_of=2026-04-20".into(), "days-to-fund".into(), "trends?months=4&as_of=2026-04-30".into()]
    {
        let of_fund = office.manager.get(&path(&what)).await.expect(200);
        assert_eq!(executive.get(&format!("/portfolio/{what}")).await.expect(200), of_fund, "{what}");
    }

    // paid after all: nothing is outstanding, and the line is late
    let path_of_line = format!("/call-lines/{}/payments", line_of(&call, silent));
    let on = today().checked_sub_days(Days::new(1)).unwrap().to_string();
    office.treasurer.post(&path_of_line, payment_on("75.00", "after all", &on)).await.expect(201);
    let late = |page: &Value| items(page)[0]["total"]["lines_late"] == 2;
    office.manager.until(&path(&format!("collections?{year}")), late).await;
    let output = stack.settings.command("fund-metrics", 0).args(["verify", "--recompute"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let output = stack.settings.command("fund-metrics", 0).arg("rebuild").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(late(&office.manager.get(&path(&format!("collections?{year}"))).await.expect(200)));
}

#[tokio::test]
async fn analytics_are_for_those_only_who_may_see_the_funds_and_of_dates_that_make_sense() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (mine, other) = (office.fund(1).await, office.fund(1).await);
    for fund in [&mine, &other] {
        expenses(&office, fund, "100.00", "2026-03-31").await;
        let path = format!("/funds/{}/ageing?as_of=2026-04-01", fund.id);
        office.manager.until(&path, |page| items(page).first().is_some_and(|aged| aged["overdue"] == "100.00")).await;
    }
    let token = testkit::client::token(&stack.settings.jwt_secret, "sam", &["fund_manager"], Some(&[mine.id]), 600);
    let scoped = stack.with_token(Some(token));
    let executive = stack.user("eve", &["executive"]);
    for what in ["collections", "ageing", "days-to-fund", "trends"] {
        scoped.get(&format!("/funds/{}/{what}", mine.id)).await.expect(200);
        assert_eq!(scoped.get(&format!("/funds/{}/{what}", other.id)).await.refused(403), "fund_out_of_scope");
        assert_eq!(scoped.get(&format!("/investors/{}/{what}", mine.investors[0])).await.refused(403), "fund_out_of_scope");
        assert_eq!(executive.get(&format!("/investors/{}/{what}", mine.investors[0])).await.refused(403), "forbidden");
        executive.get(&format!("/funds/{}/{what}", other.id)).await.expect(200);
    }
    for (of, code) in [("funds", "unknown_fund"), ("investors", "unknown_investor")] {
        assert_eq!(office.manager.get(&format!("/{of}/{}/trends", Uuid::nil())).await.refused(404), code);
    }
    let of_investors = format!("/funds/{}/days-to-fund/investors", other.id);
    assert_eq!(scoped.get(&of_investors).await.refused(403), "fund_out_of_scope");
    assert_eq!(executive.get(&of_investors).await.refused(403), "forbidden");
    let of_mine = scoped.get("/portfolio/ageing?as_of=2026-04-01").await.expect(200);
    assert_eq!(items(&of_mine)[0]["overdue"], "100.00");
    let of_all = executive.get("/portfolio/ageing?as_of=2026-04-01").await.expect(200);
    assert_eq!(items(&of_all)[0]["overdue"], "200.00");
    for (path, status, code) in [
        ("collections?from=2025-01-01&to=2026-06-30", 422, "implausible_date"),
        ("collections?from=2026-06-30&to=2026-01-01", 422, "implausible_date"),
        ("ageing?as_of=0001-01-01", 422, "implausible_date"),
        ("trends?as_of=9999-01-01", 422, "implausible_date"),
        ("trends?months=0", 400, "malformed_request"),
        ("trends?months=121", 400, "malformed_request"),
        ("ageing?as_of=yesterday", 400, "malformed_request"),
        ("days-to-fund?as_of=2026-01-01", 400, "malformed_request"),
    ] {
        assert_eq!(executive.get(&format!("/portfolio/{path}")).await.refused(status), code, "{path}");
    }
}

#[tokio::test]
async fn lines_that_were_kept_before_there_were_analytics_are_sent_again_and_count_once() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let call = expenses(&office, &fund, "200.00", "2026-03-31").await;
    for (investor, on) in fund.investors.iter().zip(["2026-03-30", "2026-04-10"]) {
        let path = format!("/call-lines/{}/payments", line_of(&call, *investor));
        office.treasurer.post(&path, payment_on("100.00", on, on)).await.expect(201);
    }
    let days = format!("/funds/{}/days-to-fund", fund.id);
    let known = |days: &Value| {
        json!(parts(&days["from_due"], &["lines", "median", "p90"])) == json!([2, -1, 10]) && days["from_issue"]["lines"] == 2
    };
    office.manager.until(&days, known).await;
    let totals = office.manager.get(&format!("/funds/{}/metrics", fund.id)).await.expect(200);
    // as the migration leaves them
    stack.kill("fund-metrics");
    let before = "update fund_metrics.lines set version = 0, funded_on = null, issued_on = null, previous_funded_on = null, previous_issued_on = null;
                  update fund_metrics.due_totals set lines_on_time = 0, lines_late = 0, funded_on_time = 0, funded_late = 0;
                  delete from fund_metrics.issue_totals; delete from fund_metrics.funding_days";
    sqlx::raw_sql(before).execute(&stack.database().await).await.unwrap();
    stack.restart("fund-metrics").await;
    office.manager.until(&days, known).await;
    let again = office.manager.get(&format!("/funds/{}/metrics", fund.id)).await.expect(200);
    assert_eq!(
        ["called", "paid_in", "lines_paid"].map(|field| &again[field]),
        ["called", "paid_in", "lines_paid"].map(|field| &totals[field])
    );
    let output = stack.settings.command("fund-metrics", 0).args(["verify", "--recompute"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
