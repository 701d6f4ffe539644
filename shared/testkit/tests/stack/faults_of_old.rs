//! The faults of the system that came before: each shown impossible here, over HTTP against the
//! running services, concurrent where the fault was a race.

use futures::future::join_all;
use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, deal, id, items, lines, payment, publish_deal, sum};

#[tokio::test]
async fn fault_01_a_payment_was_accepted_before_any_call_existed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    for line in [Uuid::now_v7(), fund.id, fund.investors[0]] {
        let refused = office.treasurer.post(&format!("/call-lines/{line}/payments"), payment("100.00", "early")).await;
        assert_eq!(refused.refused(404), "unknown_call_line");
    }
    assert!(items(&office.treasurer.get("/payments").await.expect(200)).is_empty());
}

#[tokio::test]
async fn fault_02_amounts_were_added_as_text() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 1, "10000000").await;
    let deals = [office.deal(&stack).await, office.deal(&stack).await];
    for (deal, amount) in deals.into_iter().zip(["400000", "600000"]) {
        office
            .analyst
            .post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"}))
            .await
            .expect(202);
    }
    let number = json!({"deal_id": deals[0], "fund_id": fund.id, "amount": 600000, "security_type": "equity"});
    assert_eq!(office.analyst.post("/allocations", number).await.refused(400), "malformed_request");
    let metrics = office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["allocations"] == 2).await;
    assert_eq!(metrics["allocated"], "1000000.00");
}

#[tokio::test]
async fn fault_03_a_percentage_was_summed_as_dollars() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let deal = office.deal(&stack).await;
    for amount in ["15 %", "15%", "0.15e2", "fifteen"] {
        let refused = office
            .analyst
            .post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"}))
            .await;
        assert_eq!(refused.refused(400), "malformed_request", "{amount}");
    }
    // 15 is an amount of 15 dollars, and below the minimum
    let small =
        office.analyst.post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": "15", "security_type": "equity"})).await;
    assert_eq!(small.refused(422), "amount_below_minimum");
}

#[tokio::test]
async fn fault_04_an_upstream_event_and_a_manual_entry_allocated_the_same_deal_twice() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let deal_id = office.deal(&stack).await;
    let body = json!({"deal_id": deal_id, "fund_id": fund.id, "amount": "5000", "security_type": "equity"});
    let events = async {
        for version in 2..12 {
            publish_deal(&stack, &deal(deal_id, version)).await;
        }
    };
    let proposals = join_all((0..20).map(|_| office.analyst.post("/allocations", body.clone())));
    let (replies, ()) = tokio::join!(proposals, events);
    let (accepted, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 202);
    assert_eq!(accepted.len(), 1);
    assert!(refused.iter().all(|reply| reply.refused(409) == "duplicate_allocation"));
    let page = office.analyst.get(&format!("/allocations?deal_id={deal_id}")).await.expect(200);
    assert_eq!(items(&page).len(), 1);
}

#[tokio::test]
async fn fault_05_a_funds_capacity_was_not_enforced_also_not_under_concurrency() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000", 1, "100000").await;
    let deals = join_all((0..30).map(|_| office.deal(&stack))).await;
    let bodies: Vec<Value> =
        deals.iter().map(|deal| json!({"deal_id": deal, "fund_id": fund.id, "amount": "9000", "security_type": "equity"})).collect();
    let replies = join_all(bodies.into_iter().map(|body| office.analyst.post("/allocations", body))).await;
    let accepted = replies.iter().filter(|reply| reply.status == 202).count();
    assert_eq!(accepted, 11, "11 times 9,000 fits into 100,000, 12 times does not");
    assert!(replies.iter().filter(|reply| reply.status != 202).all(|reply| reply.refused(409) == "over_capacity"));
    let fund = office.analyst.get(&format!("/funds/{}", fund.id)).await.expect(200);
    assert_eq!(fund["allocated"], "99000.00");
}

#[tokio::test]
async fn fault_06_a_loop_wrote_several_rows_without_a_transaction() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(40).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    // the service that writes the lines is killed while calls are being issued
    let purposes = json!([{"kind": "investment", "allocation_id": allocation, "amount": "1000.00", "inside_commitment": true}]);
    let mut calls = Vec::new();
    for _ in 0..10 {
        let accepted = office
            .manager
            .post(&format!("/funds/{}/capital-calls", fund.id), json!({"purposes": purposes, "due_on": "2099-12-31"}))
            .await
            .expect(202);
        calls.push(id(&accepted, "capital_call_id"));
        if calls.len() % 3 == 0 {
            stack.crash("capital-calls").await;
        }
    }
    for call in &calls {
        let call = office.manager.until(&format!("/capital-calls/{call}"), |call| call["decision"] == "issued").await;
        assert_eq!((lines(&call).len(), sum(lines(&call), "amount").to_string()), (40, "1000.00".to_owned()));
    }
    let database = stack.database().await;
    let torn: i64 = sqlx::query_scalar("select count(*) from capital_calls.capital_calls where (decision = 'issued') <> exists (select from capital_calls.call_lines where call_id = capital_calls.id)")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(torn, 0, "a call has all of its lines or none");
}

#[tokio::test]
async fn fault_07_status_sync_was_an_empty_stub_so_statuses_disagreed_with_payments() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, allocation, call) = office.open_call(&stack, 2, "100.00").await;
    let path = format!("/allocations/{allocation}");
    let is = |status: &'static str| move |allocation: &Value| allocation["status"] == status;
    office.analyst.until(&path, is("unfunded")).await;
    let first = office.pay(id(&lines(&call)[0], "id"), "50.00", "a").await;
    office.analyst.until(&path, is("partially_paid")).await;
    office.pay(id(&lines(&call)[1], "id"), "50.00", "b").await;
    office.analyst.until(&path, is("funded")).await;
    office
        .treasurer
        .post(&format!("/payments/{}/reverse", id(&first, "id")), json!({"reason": "bounced", "effective_on": "2026-01-20"}))
        .await
        .expect(200);
    office.analyst.until(&path, is("partially_paid")).await;
}

#[tokio::test]
async fn fault_08_an_overpayment_was_not_noticed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    let path = format!("/call-lines/{line}/payments");
    let replies = join_all((0..10).map(|number| office.treasurer.post(&path, payment("30.00", &format!("r{number}"))))).await;
    for reply in replies {
        reply.expect(201);
    }
    let payments = office.treasurer.get(&format!("/payments?line_id={line}&limit=10")).await.expect(200);
    let sums = ["applied", "unapplied"].map(|field| sum(items(&payments), field).to_string());
    assert_eq!(sums, ["100.00", "200.00"]);
    let view = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!((lines(&view)[0]["status"].as_str(), lines(&view)[0]["unapplied"].as_str()), (Some("overpaid"), Some("200.00")));
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["unapplied"] == "200.00").await;
}

#[tokio::test]
async fn fault_09_the_dashboard_made_one_query_per_deal_and_fund() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    for _ in 0..12 {
        office.fund(1).await;
    }
    office.manager.until("/portfolio/funds", |page| items(page).len() == 12).await;
    // whatever the number of funds, the page asks twice in all and the list once; a query runs in one
    // handler, and fund-metrics has one statement for a list
    let ops = stack.nats_as("ops").await;
    let served = || async {
        let mut requests = 0;
        for service in testkit::SERVICES.iter().filter(|service| **service != "gateway") {
            let reply = ops.request(format!("$SRV.STATS.{service}"), "".into()).await.unwrap();
            let stats: Value = serde_json::from_slice(&reply.payload).unwrap();
            requests +=
                stats["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["num_requests"].as_u64().unwrap()).sum::<u64>();
        }
        requests
    };
    let before = served().await;
    for _ in 0..10 {
        assert_eq!(items(&office.manager.get("/portfolio/funds").await.expect(200)).len(), 12);
    }
    assert_eq!(served().await - before, 10);
    let token = testkit::client::token(&stack.settings.jwt_secret, "mia", &["fund_manager"], None, 600);
    for _ in 0..5 {
        let page = reqwest::Client::new().get(stack.gateway()).header("cookie", format!("tranche_token={token}")).send().await.unwrap();
        assert_eq!(page.text().await.unwrap().matches("<svg").count(), 12);
    }
    assert_eq!(served().await - before, 10 + 5 * 2);
}

#[tokio::test]
async fn fault_10_two_places_defined_the_states_differently() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, allocation, call) = office.open_call(&stack, 1, "100.00").await;
    office.pay(id(&lines(&call)[0], "id"), "100.00", "a").await;
    office.analyst.until(&format!("/allocations/{allocation}"), |allocation| allocation["status"] == "funded").await;
    // what was published last, what the audit keeps, and what is shown are one and the same state
    let path = format!("/audit/records?aggregate=allocation&aggregate_id={allocation}");
    let is_funded = |page: &Value| items(page).last().is_some_and(|record| record["body"]["state"]["status"] == "funded");
    let records = office.auditor.until(&path, is_funded).await;
    let shown = office.analyst.get(&format!("/allocations/{allocation}")).await.expect(200);
    assert_eq!(items(&records).last().unwrap()["body"]["state"], shown);
    let database = stack.database().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select table_schema || '.' || table_name from information_schema.columns
         where column_name in ('status', 'funding_status') and table_schema in ('allocation_status', 'capital_calls', 'fund_metrics', 'notifications')
           and table_name <> 'dead_letters'",
    )
    .fetch_all(&database)
    .await
    .unwrap();
    assert!(columns.is_empty(), "statuses are derived from facts, never stored: {columns:?}");
}

#[tokio::test]
async fn fault_11_any_signed_in_user_could_see_every_fund() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (mine, _, _) = office.open_call(&stack, 1, "100.00").await;
    let (other, allocation, call) = office.open_call(&stack, 1, "100.00").await;
    let payment_id = id(&office.pay(id(&lines(&call)[0], "id"), "10.00", "a").await, "id");
    office.manager.until("/portfolio/funds", |page| items(page).len() == 2).await;
    let roles = ["analyst", "fund_manager", "treasurer", "committee"];
    let token = testkit::client::token(&stack.settings.jwt_secret, "scoped", &roles, Some(&[mine.id]), 600);
    let scoped = stack.with_token(Some(token));
    let workflow = id(&office.manager.get(&format!("/allocations/{allocation}")).await.expect(200), "workflow_id");
    for path in [
        format!("/funds/{}", other.id),
        format!("/funds/{}/metrics", other.id),
        format!("/funds/{}/commitments", other.id),
        format!("/allocations/{allocation}"),
        format!("/workflows/{workflow}"),
        format!("/capital-calls/{}", id(&call, "id")),
        format!("/payments/{payment_id}"),
        format!("/rules/fund:{}", other.id),
        format!("/events?fund_id={}", other.id),
        format!("/investors/{}/metrics", other.investors[0]),
    ] {
        assert_eq!(scoped.get(&path).await.refused(403), "fund_out_of_scope", "{path}");
    }
    for path in ["/funds", "/allocations", "/capital-calls", "/call-lines", "/payments", "/workflows", "/portfolio/funds"] {
        let page = scoped.get(path).await.expect(200);
        assert!(items(&page).iter().all(|item| item["fund_id"] == json!(mine.id) || item["id"] == json!(mine.id)), "{path}: {page:#}");
    }
    let portfolio = scoped.get("/portfolio/metrics").await.expect(200);
    assert_eq!(items(&portfolio)[0]["called"], "100.00");
    let line = id(&lines(&call)[0], "id");
    assert_eq!(scoped.post(&format!("/call-lines/{line}/payments"), payment("1.00", "x")).await.refused(403), "fund_out_of_scope");
    assert_eq!(
        scoped.post(&format!("/payments/{payment_id}/reverse"), json!({"reason": "x", "effective_on": "2026-01-20"})).await.refused(403),
        "fund_out_of_scope"
    );
    let purposes = json!([{"kind": "reserve", "amount": "1.00", "inside_commitment": true}]);
    assert_eq!(
        scoped
            .post(&format!("/funds/{}/capital-calls", other.id), json!({"purposes": purposes, "due_on": "2099-12-31"}))
            .await
            .refused(403),
        "fund_out_of_scope"
    );
    assert_eq!(stack.with_token(None).get("/funds").await.refused(401), "unauthenticated");
    let investors = scoped.get("/investors").await.expect(200);
    assert_eq!(items(&investors).iter().map(|investor| id(investor, "id")).collect::<Vec<_>>(), mine.investors);
    // no fund at all is none, not all
    let token = testkit::client::token(&stack.settings.jwt_secret, "nowhere", &roles, Some(&[]), 600);
    let nowhere = stack.with_token(Some(token));
    assert_eq!(nowhere.get("/events").await.refused(403), "fund_out_of_scope");
    for path in ["/funds", "/payments", "/portfolio/metrics", "/investors"] {
        assert!(items(&nowhere.get(path).await.expect(200)).is_empty(), "{path}");
    }
    // rules of all funds are not for who may see one
    let token = testkit::client::token(&stack.settings.jwt_secret, "scoped-admin", &["admin"], Some(&[mine.id]), 600);
    let admin = stack.with_token(Some(token));
    for scope in ["global".to_owned(), "fund-type:buyout".to_owned(), format!("fund:{}", other.id)] {
        assert_eq!(admin.put(&format!("/rules/{scope}"), json!({"grace_days": 1})).await.refused(403), "fund_out_of_scope", "{scope}");
    }
    admin.put(&format!("/rules/fund:{}", mine.id), json!({"grace_days": 1})).await.expect(200);
}

#[tokio::test]
async fn fault_12_deleting_a_deal_deleted_its_paid_calls() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 1, "100.00").await;
    let paid = office.pay(id(&lines(&call)[0], "id"), "100.00", "a").await;
    let deal_id = id(&office.analyst.get(&format!("/allocations/{allocation}")).await.expect(200), "deal_id");
    let mut withdrawn = deal(deal_id, 2);
    withdrawn.state.stage = "withdrawn".into();
    withdrawn.change = domain::messages::deals::DealChange::Withdrawn;
    publish_deal(&stack, &withdrawn).await;
    office.analyst.until(&format!("/deals/{deal_id}"), |deal| deal["stage"] == "withdrawn").await;
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200)["status"], "funded");
    assert_eq!(office.treasurer.get(&format!("/payments/{}", id(&paid, "id"))).await.expect(200)["status"], "applied");
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "100.00").await;
    for path in [format!("/deals/{deal_id}"), format!("/capital-calls/{}", id(&call, "id")), format!("/payments/{}", id(&paid, "id"))] {
        let deleted = office.admin.send("DELETE", &path, None, None).await.unwrap();
        assert_eq!(deleted.refused(405), "method_not_allowed", "nothing can be deleted");
    }
    // and no new allocation to a deal that will not happen
    let body = json!({"deal_id": deal_id, "fund_id": office.fund(1).await.id, "amount": "5000", "security_type": "equity"});
    assert_eq!(office.analyst.post("/allocations", body).await.refused(409), "deal_closed_to_allocation");
}
