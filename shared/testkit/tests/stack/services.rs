//! Each service by itself, over NATS and its own HTTP side, and with more than one replica.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{SERVICES, Stack};
use uuid::Uuid;

use crate::office::{Office, assert_no_deadlocks, assert_sums, id, lines, payment, sum};

fn headers(user: &str, key: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-actor", user);
    headers.insert("ce-actorroles", "admin");
    if let Some(key) = key {
        headers.insert("Idempotency-Key", key);
    }
    headers
}

#[tokio::test]
async fn every_service_is_found_ready_and_measured() {
    let stack = Stack::start().await;
    let ops = stack.nats_as("ops").await;
    let inbox = ops.new_inbox();
    let mut answers = ops.subscribe(inbox.clone()).await.unwrap();
    ops.publish_with_reply("$SRV.INFO", inbox, "".into()).await.unwrap();
    let mut found = BTreeSet::new();
    while found.len() < SERVICES.len() {
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.next()).await.expect("a service does not answer").unwrap();
        let info: Value = serde_json::from_slice(&answer.payload).unwrap();
        let name = info["name"].as_str().unwrap().to_owned();
        assert!(name == "gateway" || !info["endpoints"].as_array().unwrap().is_empty(), "{name} answers nothing");
        found.insert(name);
    }
    assert_eq!(found, SERVICES.map(str::to_owned).into());
    for (name, replica) in &stack.replicas {
        for path in ["healthz", "readyz", "metrics"] {
            let reply = reqwest::get(format!("{}/{path}", replica.url())).await.unwrap();
            assert!(reply.status().is_success(), "{name} /{path}");
        }
        let asked = stack.settings.command(name, replica.port).arg("health").status();
        assert!(asked.unwrap().success(), "{name} health");
    }
    let measured = testkit::wait::until(Duration::from_secs(10), || async {
        let metrics = reqwest::get(format!("{}/metrics", stack.replicas["workflow"].url())).await.unwrap();
        metrics.text().await.unwrap().contains("tranche_outbox_depth")
    });
    assert!(measured.await);
}

#[tokio::test]
async fn commands_over_nats_need_a_key_and_are_answered_once() {
    let stack = Stack::start().await;
    let ops = stack.nats_as("ops").await;
    let subject = "tranche.cmd.allocation-status.register-fund";
    let fund = |name: &str| {
        json!({"name": name, "fund_type": "buyout", "currency": "KWD", "vintage_year": 2026, "size": "1000.125", "calendar": "GB", "timezone": "Asia/Kuwait"}).to_string()
    };
    let send = |headers: HeaderMap, body: String| ops.request_with_headers(subject, headers, body.into());
    let refused = send(headers("ada", None), fund("A")).await.unwrap();
    assert_eq!(refused.headers.as_ref().unwrap().get("Nats-Service-Error-Code").unwrap().as_str(), "400");
    let problem: Value = serde_json::from_slice(&refused.payload).unwrap();
    assert_eq!(problem["code"], "idempotency_key_missing");
    let first = send(headers("ada", Some("k1")), fund("A")).await.unwrap();
    let again = send(headers("ada", Some("k1")), fund("A")).await.unwrap();
    assert_eq!(first.payload, again.payload);
    assert!(first.headers.is_none_or(|headers| headers.get("Idempotent-Replayed").is_none()));
    assert_eq!(again.headers.unwrap().get("Idempotent-Replayed").unwrap().as_str(), "true");
    let state: Value = serde_json::from_slice(&first.payload).unwrap();
    assert_eq!((state["size"].as_str(), state["allocated"].as_str()), (Some("1000.125"), Some("0.000")));
    // the same key with another body is another request; somebody else's key is another key
    for (user, code) in [("ada", "idempotency_key_reused"), ("eve", "invalid_text")] {
        let reply: Value = serde_json::from_slice(&send(headers(user, Some("k1")), fund(" ")).await.unwrap().payload).unwrap();
        assert_eq!(reply["code"], code);
    }
    // a refusal is kept under its key as well
    let taken = send(headers("ada", Some("k2")), fund("A")).await.unwrap();
    let repeated = send(headers("ada", Some("k2")), fund("A")).await.unwrap();
    assert_eq!(taken.payload, repeated.payload);
    assert_eq!(serde_json::from_slice::<Value>(&taken.payload).unwrap()["code"], "duplicate_fund");
    // the event is a CloudEvent in binary mode
    let jetstream = async_nats::jetstream::new(ops.clone());
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    let event_subject = format!("tranche.evt.fund.registered.{}", state["id"].as_str().unwrap());
    let published =
        testkit::wait::until(Duration::from_secs(5), || async { stream.get_last_raw_message_by_subject(&event_subject).await.is_ok() });
    assert!(published.await);
    let event = stream.get_last_raw_message_by_subject(&event_subject).await.unwrap();
    let header = |name: &str| event.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
    assert_eq!(
        (header("ce-specversion"), header("ce-type"), header("ce-actor")),
        ("1.0".into(), "tranche.evt.fund.registered".into(), "ada".into())
    );
    assert_eq!(
        (header("ce-aggregateid"), header("ce-aggregateversion"), header("ce-epoch")),
        (state["id"].as_str().unwrap().into(), "1".into(), "1".into())
    );
    assert_eq!(serde_json::from_slice::<Value>(&event.payload).unwrap()["state"], state);
}

#[tokio::test]
async fn a_nats_user_may_publish_only_what_is_its_own() {
    let stack = Stack::start().await;
    let jetstream = async_nats::jetstream::new(stack.nats_as("ops").await);
    let count = || async {
        let mut messages = 0;
        for stream in ["EVENTS", "DEALS", "NOTICES"] {
            messages += jetstream.get_stream(stream).await.unwrap().cached_info().state.messages;
        }
        messages
    };
    let before = count().await;
    for (user, subject) in [
        ("capital-calls", "tranche.evt.fund.registered.-"),
        ("allocation-status", "tranche.evt.payment.recorded.-"),
        ("audit", "tranche.evt.payment.recorded.-"),
        ("deals", "tranche.evt.fund.registered.-"),
        ("notices", "deals.evt.registered"),
        ("gateway", "tranche.evt.payment.recorded.-"),
        ("fund-metrics", "tranche.notice.reminder"),
    ] {
        let client = stack.nats_as(user).await;
        client.publish(subject, "{}".into()).await.unwrap();
        client.flush().await.unwrap();
    }
    for (user, subject) in [("deals", "tranche.cmd.capital-calls.record-payment"), ("audit", "tranche.cmd.capital-calls.record-payment")] {
        let client = stack.nats_as(user).await;
        let answer = tokio::time::timeout(Duration::from_millis(500), client.request(subject, "{}".into())).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{user} may send {subject}");
    }
    assert_eq!(count().await, before);
}

#[tokio::test]
async fn payments_and_reversals_on_one_line_from_two_replicas_count_once_and_wait_in_one_order() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut other = stack.settings.start("capital-calls", 2).unwrap();
    other.ready().await.unwrap();
    let (_, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    let path = format!("/call-lines/{line}/payments");
    let mut standing: Vec<Uuid> = Vec::new();
    for round in 0..6 {
        let paid = (0..30).map(|number| office.treasurer.post(&path, payment("7.00", &format!("r{round}-{number}"))));
        let back = standing.iter().flat_map(|id| [id; 3]).map(|id| {
            let (client, reversal) = (&office.treasurer, json!({"reason": "returned", "effective_on": "2026-11-20"}));
            async move { client.post(&format!("/payments/{id}/reverse"), reversal).await }
        });
        let (paid, back) = futures::future::join(join_all(paid), join_all(back)).await;
        let taken = back.iter().filter(|reply| reply.status == 200).count();
        assert!(back.iter().all(|reply| reply.status == 200 || reply.refused(409) == "payment_reversed"));
        assert_eq!(taken, standing.len(), "each is taken back once");
        standing = paid.into_iter().map(|reply| id(&reply.expect(201), "id")).take(20 + round).collect();
    }
    // 6 rounds of 30, less what was taken back
    let there = 6 * 30 - (20 + 21 + 22 + 23 + 24);
    let line = office.auditor.get(&format!("/call-lines/{line}")).await.expect(200);
    let figures = ["paid", "unapplied"].map(|field| line[field].as_str().unwrap().to_owned());
    assert_eq!(figures, ["100.00".to_owned(), format!("{}.00", 7 * there - 100)]);
    assert_no_deadlocks(&stack).await;
    assert_sums(&stack);
}

#[tokio::test]
async fn two_replicas_answer_each_key_once_and_count_each_payment_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut others = Vec::new();
    for service in ["capital-calls", "fund-metrics", "allocation-status", "workflow", "audit", "notifications"] {
        let mut replica = stack.settings.start(service, 2).unwrap();
        replica.ready().await.unwrap();
        others.push(replica);
    }
    let (fund, allocation, call) = office.open_call(&stack, 3, "90.00").await;
    let line_ids: Vec<Uuid> = lines(&call).iter().map(|line| id(line, "id")).collect();
    // every payment is sent four times at once with the same key
    let payments: Vec<Value> = (0..200).map(|number| payment("0.10", &format!("r{number}"))).collect();
    let sent = (0..200usize).flat_map(|number| [number; 4]).map(|number| {
        let (client, line, payment) = (office.treasurer.clone(), line_ids[number % 3], payments[number].clone());
        async move { (number, client.post_as(&format!("/call-lines/{line}/payments"), &format!("k{number}"), payment).await) }
    });
    let replies = join_all(sent).await;
    let mut firsts = BTreeSet::new();
    let mut by_key: std::collections::BTreeMap<usize, BTreeSet<String>> = Default::default();
    for (number, reply) in replies {
        // of a key there may be none: where an answer was late the gateway has asked again
        assert!(reply.replayed || firsts.insert(number), "key {number} has two first answers");
        let payment = reply.expect(201);
        by_key.entry(number).or_default().insert(payment["id"].to_string());
    }
    assert_eq!(by_key.len(), 200);
    assert!(by_key.values().all(|ids| ids.len() == 1), "each key has one payment");
    let view = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!((view["paid"].as_str(), sum(lines(&view), "paid").to_string()), (Some("20.00"), "20.00".to_owned()));
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "20.00").await;
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["paid"] == "20.00").await;
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
}

#[tokio::test]
async fn a_service_that_is_asked_to_stop_answers_what_it_has_taken() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 1, "500.00").await;
    let line = id(&lines(&call)[0], "id");
    let path = format!("/call-lines/{line}/payments");
    let sent: Vec<_> = (0..300)
        .map(|number| {
            let (client, path) = (office.treasurer.clone(), path.clone());
            tokio::spawn(async move { client.post_as(&path, &format!("k{number}"), payment("1.00", &format!("r{number}"))).await })
        })
        .collect();
    stack.replicas.get_mut("capital-calls").unwrap().process.stop("TERM");
    assert!(stack.log("capital-calls").contains("stopping"));
    assert!(!stack.log("capital-calls").contains("still busy"), "it stops within its time");
    stack.restart("capital-calls").await;
    for reply in join_all(sent).await {
        reply.unwrap().expect(201);
    }
    let view = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!(view["paid"], "300.00");
}

#[tokio::test]
async fn connections_that_the_database_closed_are_replaced_without_anybody_noticing() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 1, "1000.00").await;
    let line = id(&lines(&call)[0], "id");
    let database = stack.database().await;
    let close = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where usename = 'capital_calls' and datname = current_database()";
    for round in 1..=3 {
        // several idle connections, so that the next request finds more than one of them dead
        let path = format!("/capital-calls/{}", id(&call, "id"));
        join_all((0..4).map(|_| office.manager.get(&path))).await;
        let closed: i64 = sqlx::query_scalar(close).fetch_one(&database).await.unwrap();
        assert!(closed > 0);
        office.manager.get(&path).await.expect(200);
        office.pay(line, "1.00", &format!("round {round}")).await;
    }
    let view = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!(lines(&view)[0]["paid"], "3.00");
}

/// Lets the broker take no further event until it is dropped; the services set the stream right again and again.
struct FullStream(tokio::task::JoinHandle<()>);

impl FullStream {
    async fn of(stack: &Stack) -> FullStream {
        let jetstream = async_nats::jetstream::new(stack.nats_as("ops").await);
        let stream = jetstream.get_stream("EVENTS").await.unwrap();
        let config = async_nats::jetstream::stream::Config { max_messages: 1, ..stream.cached_info().config.clone() };
        jetstream.update_stream(&config).await.unwrap();
        FullStream(tokio::spawn(async move {
            loop {
                let _ = jetstream.update_stream(&config).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }

    async fn end(self, stack: &Stack) {
        self.0.abort();
        let _ = self.0.await;
        let jetstream = async_nats::jetstream::new(stack.nats_as("ops").await);
        let stream = jetstream.get_stream("EVENTS").await.unwrap();
        let config = async_nats::jetstream::stream::Config { max_messages: -1, ..stream.cached_info().config.clone() };
        jetstream.update_stream(&config).await.unwrap();
    }
}

#[tokio::test]
async fn while_the_broker_takes_no_events_commands_go_on_until_the_outbox_is_full() {
    let stack = Stack::start_with(&[("OUTBOX_MAX", "8")]).await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "500.00").await;
    let line = id(&lines(&call)[0], "id");
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["called"] == "500.00").await;
    let full = FullStream::of(&stack).await;
    let path = format!("/call-lines/{line}/payments");
    let (mut accepted, mut refused) = (0, None);
    for number in 0..500 {
        let reply = office.treasurer.post_as(&path, &format!("k{number}"), payment("1.00", &format!("r{number}"))).await;
        if reply.status == 429 {
            assert!(reply.text("detail").contains("wait for the broker"), "{:#}", reply.body);
            refused = Some(reply.refused(429));
            break;
        }
        reply.expect(201);
        accepted += 1;
    }
    assert_eq!(refused.as_deref(), Some("overloaded"));
    assert!(accepted > 3, "{accepted} were accepted while events waited");
    let health = "/services/capital-calls/health";
    let waits = office.auditor.until(health, |health| health["waiting_seconds"].as_i64() > Some(3)).await;
    assert!(waits["events_waiting"].as_i64() > Some(8), "{waits:#}");
    let page = office.auditor.page("/services/banner").await;
    assert!(page.contains("capital-calls takes nothing new for now") && page.contains("events wait for the broker"), "{page}");
    let ready: Value = reqwest::get(format!("{}/readyz", stack.replicas["capital-calls"].url())).await.unwrap().json().await.unwrap();
    assert!(ready["outbox_depth"].as_i64() > Some(8), "{ready:#}");
    full.end(&stack).await;
    let paid = format!("{accepted}.00");
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == paid.as_str()).await;
    let taken = testkit::wait::until(Duration::from_secs(20), || async {
        office.treasurer.post_as(&path, "after", payment("1.00", "after")).await.status == 201
    });
    assert!(taken.await, "payments are taken again");
    office.auditor.until(health, |health| health["events_waiting"] == 0 && health["overload"].is_null()).await;
    let quiet = testkit::wait::until(Duration::from_secs(20), || async { office.auditor.page("/services/banner").await.is_empty() });
    assert!(quiet.await, "{}", office.auditor.page("/services/banner").await);
}

#[tokio::test]
async fn more_requests_than_the_gateway_may_answer_at_once_are_refused_and_the_others_answered() {
    const AT_ONCE: usize = 8;
    let stack = Stack::start_with(&[("REQUESTS_MAX", "8")]).await;
    let office = Office::of(&stack);
    let (fund, _, _) = office.open_call(&stack, 1, "100.00").await;
    let pid = stack.replicas["fund-metrics"].process.pid();
    let path = format!("/funds/{}/metrics", fund.id);
    testkit::process::signal(pid, "STOP");
    let asked: Vec<_> = (0..3 * AT_ONCE).map(|_| office.manager.get(&path)).collect();
    let statuses = join_all(asked).await.into_iter().map(|reply| reply.status).collect::<Vec<_>>();
    testkit::process::signal(pid, "CONT");
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(503), count(429)), (AT_ONCE, 2 * AT_ONCE), "{statuses:?}");
    office.manager.until(&path, |metrics| metrics["called"] == "100.00").await;
}

#[tokio::test]
async fn a_service_that_hangs_is_silent_and_only_its_own_resources_are_unavailable() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, _) = office.open_call(&stack, 1, "100.00").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["called"] == "100.00").await;
    let replica = &stack.replicas["fund-metrics"];
    testkit::process::signal(replica.process.pid(), "STOP");
    // a thread of it may still run when the signal is sent
    let is_silent = || async { testkit::client::readiness(&replica.url()).await.is_none() };
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), is_silent).await);
    assert_eq!(office.manager.get(&metrics).await.refused(503), "service_unavailable");
    office.manager.get(&format!("/funds/{}", fund.id)).await.expect(200);
    testkit::process::signal(replica.process.pid(), "CONT");
    office.manager.until(&metrics, |metrics| metrics["called"] == "100.00").await;
}

#[tokio::test]
async fn without_the_database_of_one_service_only_its_own_resources_are_unavailable() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    let metrics = format!("/funds/{}/metrics", fund.id);
    office.manager.until(&metrics, |metrics| metrics["called"] == "100.00").await;
    let database = stack.database().await;
    let name: String = sqlx::query_scalar("select current_database()::text").fetch_one(&database).await.unwrap();
    let others = "workflow, allocation_status, capital_calls, audit, notifications";
    let shut = format!(
        "revoke connect on database \"{name}\" from public, fund_metrics; grant connect on database \"{name}\" to {others};
         select pg_terminate_backend(pid) from pg_stat_activity where usename = 'fund_metrics' and datname = current_database()"
    );
    sqlx::raw_sql(&shut).execute(&database).await.unwrap();
    let token = testkit::client::token(&stack.settings.jwt_secret, "mia", &["fund_manager"], None, 3_600);
    let url = format!("{}/api/v1{metrics}", stack.gateway());
    let reply = reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers().contains_key("retry-after")), (503, true));
    office.manager.get(&format!("/funds/{}", fund.id)).await.expect(200);
    office.pay(id(&lines(&call)[0], "id"), "40.00", "while it is away").await;
    let open = format!("grant connect on database \"{name}\" to fund_metrics");
    sqlx::raw_sql(&open).execute(&database).await.unwrap();
    office.manager.until(&metrics, |metrics| metrics["paid_in"] == "40.00").await;
}
