//! Fifty malformed requests to each endpoint: every answer names the fault, and nothing is stored.

use serde_json::{Value, json};
use testkit::{Client, Reply, Stack};
use uuid::Uuid;

use crate::office::{Office, deal, id, items, lines, publish_deal};

/// Values that no field takes, or that a field takes only where it is text.
fn odd_values() -> Vec<Value> {
    let mut values: Vec<Value> = vec![
        Value::Null,
        json!(true),
        json!(1),
        json!(-1.5),
        json!(1e308),
        json!([]),
        json!({}),
        json!([[[[1]]]]),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("\u{7}"),
        json!("-1"),
        json!("0"),
        json!("0.00"),
        json!("1.005"),
        json!("1.23456"),
        json!("1e5"),
        json!("NaN"),
        json!("Infinity"),
        json!("１００"),
        json!("1,000"),
        json!("0x10"),
        json!("99999999999999999999"),
        json!("2026-02-30"),
        json!("0001-01-01"),
        json!("9999-12-31"),
        json!("' or 1=1 --"),
        json!("<script>"),
        json!("../../etc"),
        json!("USD"),
        json!("XAU"),
        json!("null"),
        json!("\u{202e}abc"),
    ];
    values.push(json!("x".repeat(5_000)));
    values
}

/// Endpoints with a body that would be accepted, but for ids that are unknown.
fn endpoints() -> Vec<(&'static str, String, Value)> {
    let unknown = Uuid::now_v7();
    let purposes = json!([{"kind": "reserve", "amount": "10.00", "inside_commitment": true}]);
    vec![
        (
            "admin",
            "/funds".into(),
            json!({"name": "", "fund_type": "buyout", "currency": "USD", "vintage_year": 2026, "size": "1000000", "calendar": "NYSE", "timezone": "UTC"}),
        ),
        (
            "admin",
            format!("/funds/{unknown}/commitments"),
            json!({"investor_id": unknown, "amount": "10.00", "effective_on": "2026-01-01"}),
        ),
        ("admin", "/investors".into(), json!({"name": "", "email": "cash@pension.example"})),
        ("analyst", "/allocations".into(), json!({"deal_id": unknown, "fund_id": unknown, "amount": "5000", "security_type": "equity"})),
        (
            "fund_manager",
            format!("/funds/{unknown}/capital-calls"),
            json!({"purposes": purposes, "due_on": "2099-12-31", "priority": "normal"}),
        ),
        ("fund_manager", "/capital-calls/preview".into(), json!({"fund_id": unknown, "purposes": purposes, "due_on": "2099-12-31"})),
        (
            "treasurer",
            format!("/call-lines/{unknown}/payments"),
            json!({"amount": "10.00", "method": "wire", "reference": "r", "received_on": "2026-01-01"}),
        ),
        ("treasurer", format!("/payments/{unknown}/reverse"), json!({"reason": "r", "effective_on": "2026-01-01"})),
        ("committee", format!("/approvals/{unknown}/votes"), json!({"decision": "approve", "comment": "fine"})),
    ]
}

fn check(what: &str, reply: &Reply) {
    assert!((400..500).contains(&reply.status), "{what}: {} {:#}", reply.status, reply.body);
    assert_eq!(reply.content_type, "application/problem+json", "{what}");
    for field in ["type", "title", "detail", "code", "recommendation"] {
        assert!(!reply.text(field).is_empty(), "{what} has no {field}: {:#}", reply.body);
    }
    assert_eq!(reply.body["status"], reply.status, "{what}");
}

async fn send(client: &Client, path: &str, body: Vec<u8>) -> Reply {
    client.send("POST", path, Some(&Uuid::now_v7().to_string()), Some(body)).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn rows(stack: &Stack) -> i64 {
    let tables = [
        "allocation_status.funds",
        "allocation_status.allocations",
        "capital_calls.investors",
        "capital_calls.commitments",
        "capital_calls.capital_calls",
        "capital_calls.payments",
        "workflow.workflows",
    ];
    let sql = tables.map(|table| format!("(select count(*) from {table})")).join(" + ");
    sqlx::query_scalar(&format!("select {sql}")).fetch_one(&stack.database().await).await.unwrap()
}

#[tokio::test]
async fn malformed_bodies_get_a_problem_and_change_nothing() {
    let stack = Stack::start().await;
    for (role, path, good) in endpoints() {
        let client = stack.user("mallory", &[role]);
        let mut bodies: Vec<Vec<u8>> = vec![
            vec![],
            b"{".to_vec(),
            b"[]".to_vec(),
            b"null".to_vec(),
            b"\"text\"".to_vec(),
            b"not json".to_vec(),
            vec![0xff, 0xfe, 0xfd],
            b"{}".to_vec(),
            "[".repeat(100_000).into_bytes(),
            vec![b' '; 2 << 20],
        ];
        for field in good.as_object().unwrap().keys() {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(field);
            bodies.push(without.to_string().into_bytes());
            for value in odd_values() {
                let mut odd = good.clone();
                odd[field] = value;
                bodies.push(odd.to_string().into_bytes());
            }
        }
        let mut extra = good.clone();
        extra["surprise"] = json!(1);
        bodies.push(extra.to_string().into_bytes());
        assert!(bodies.len() >= 50, "{path}");
        // unknown ids wait for a moment in case the copy is behind: send them side by side
        let replies = futures::future::join_all(bodies.iter().map(|body| send(&client, &path, body.clone()))).await;
        for (body, reply) in bodies.iter().zip(&replies) {
            // an investor or a fund may have a strange name
            let named = matches!(path.as_str(), "/funds" | "/investors") && reply.status == 201;
            if !named {
                check(&format!("{path} {}", String::from_utf8_lossy(&body[..body.len().min(200)])), reply);
            }
        }
    }
    let database = stack.database().await;
    let others: i64 = sqlx::query_scalar("select (select count(*) from capital_calls.payments) + (select count(*) from capital_calls.capital_calls) + (select count(*) from allocation_status.allocations) + (select count(*) from capital_calls.commitments)")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(others, 0);
}

/// With real ids and one odd field at a time, so that nothing but that field can be refused.
#[tokio::test]
async fn each_field_that_is_no_free_text_is_checked_for_itself() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, allocation, call) = office.open_call(&stack, 1, "100.00").await;
    let deal = office.deal(&stack).await;
    let line = id(&lines(&call)[0], "id");
    let paid = id(&office.pay(line, "10.00", "good").await, "id");
    let big = office.deal(&stack).await;
    let accepted = office
        .manager
        .post("/allocations", json!({"deal_id": big, "fund_id": fund.id, "amount": "2000000", "security_type": "equity"}))
        .await
        .expect(202);
    let pending = office.ann.get(&format!("/approvals?subject_id={}", id(&accepted, "allocation_id"))).await.expect(200);
    let approval = id(&items(&pending)[0], "id");
    let purpose = json!({"kind": "investment", "allocation_id": allocation, "amount": "10.00", "inside_commitment": true});
    let cases: Vec<(&str, &str, String, Value, &[&str])> = vec![
        (
            "POST",
            "admin",
            "/funds".into(),
            json!({"name": "Odd fund", "fund_type": "buyout", "currency": "USD", "vintage_year": 2026, "size": "1000000", "calendar": "NYSE", "timezone": "UTC"}),
            &["currency", "vintage_year", "size", "calendar", "timezone"],
        ),
        (
            "POST",
            "admin",
            format!("/funds/{}/commitments", fund.id),
            json!({"investor_id": fund.investors[0], "amount": "10.00", "effective_on": "2026-01-01"}),
            &["investor_id", "amount", "effective_on"],
        ),
        (
            "POST",
            "analyst",
            "/allocations".into(),
            json!({"deal_id": deal, "fund_id": fund.id, "amount": "5000", "security_type": "equity"}),
            &["deal_id", "fund_id", "amount"],
        ),
        (
            "POST",
            "fund_manager",
            format!("/funds/{}/capital-calls", fund.id),
            json!({"purposes": [purpose], "due_on": "2099-12-31", "priority": "normal"}),
            &["purposes", "due_on", "priority"],
        ),
        (
            "POST",
            "fund_manager",
            "/capital-calls/preview".into(),
            json!({"fund_id": fund.id, "purposes": [purpose], "due_on": "2099-12-31"}),
            &["fund_id", "purposes", "due_on"],
        ),
        (
            "POST",
            "treasurer",
            format!("/call-lines/{line}/payments"),
            json!({"amount": "10.00", "method": "wire", "reference": "r", "received_on": "2026-01-01"}),
            &["amount", "method", "received_on"],
        ),
        ("POST", "treasurer", format!("/payments/{paid}/reverse"), json!({"reason": "r", "effective_on": "2026-01-01"}), &["effective_on"]),
        ("POST", "committee", format!("/approvals/{approval}/votes"), json!({"decision": "approve"}), &["decision"]),
        (
            "PUT",
            "admin",
            "/rules/global".into(),
            json!({"allocation_min": "10.00", "allocations_per_deal_max": 5, "approval_tiers": [], "grace_days": 3}),
            &["allocation_min", "allocations_per_deal_max", "approval_tiers", "grace_days"],
        ),
    ];
    // an empty list of tiers means no approval, a null field of a rule means "as the layer below", and some
    // currency has three decimals
    let means_something = |path: &str, field: &str, value: &Value| {
        let of_rules = [Value::Null, json!(1), json!("1.005")];
        path.starts_with("/rules") && (of_rules.contains(value) || (field == "approval_tiers" && *value == json!([])))
    };
    let before = rows(&stack).await;
    for (method, role, path, good, fields) in &cases {
        let client = stack.user("mallory", &[role]);
        for field in *fields {
            for value in odd_values().into_iter().filter(|value| !means_something(path, field, value)) {
                let mut odd = good.clone();
                odd[*field] = value.clone();
                // an optional field may be absent, and "USD" is a currency
                if (*field == "priority" && value.is_null()) || (*field == "currency" && value == json!("USD")) {
                    continue;
                }
                let reply = client.send(method, path, Some(&Uuid::now_v7().to_string()), Some(odd.to_string().into_bytes())).await.unwrap();
                check(&format!("{method} {path} {field} = {value:.100}"), &reply);
            }
        }
        if *path == "/capital-calls/preview" {
            client.send(method, path, Some("preview"), Some(good.to_string().into_bytes())).await.unwrap().expect(200);
        }
    }
    let long = "x".repeat(70_000);
    for field in ["name", "calendar", "timezone", "fund_type"] {
        let mut odd = cases[0].3.clone();
        odd[field] = json!(long);
        check(&format!("a long {field}"), &office.admin.post("/funds", odd).await);
    }
    let tiers: Vec<Value> = (0..1_200).map(|number| json!({"from_amount": number.to_string(), "votes": 1, "role": "committee"})).collect();
    check("many tiers", &office.admin.put("/rules/global", json!({"approval_tiers": tiers})).await);
    check("a long scope", &office.admin.put(&format!("/rules/fund-type:{}", "x".repeat(5_000)), json!({})).await);
    check("a huge amount", &office.manager.post(&format!("/funds/{}/capital-calls", fund.id), json!({"purposes": [{"kind": "reserve", "amount": "9999999999999", "inside_commitment": false}, {"kind": "reserve", "amount": "99999999999999", "inside_commitment": false}], "due_on": "2099-12-31"})).await);
    assert_eq!(rows(&stack).await, before, "nothing is stored");
}

#[tokio::test]
async fn huge_headers_stop_neither_the_audit_nor_the_events() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let http = reqwest::Client::new();
    let huge = "f".repeat(70_000);
    for header in ["traceparent", "x-correlation-id"] {
        let reply = http.get(format!("{}/api/v1/funds", stack.gateway())).header(header, &huge).send().await.unwrap();
        assert!((400..500).contains(&reply.status().as_u16()), "{header}: {}", reply.status());
    }
    let token = testkit::client::token(&stack.settings.jwt_secret, "ada", &["admin"], None, 600);
    let created = http
        .post(format!("{}/api/v1/investors", stack.gateway()))
        .bearer_auth(token)
        .header("idempotency-key", "huge")
        .header("traceparent", &huge)
        .header("x-correlation-id", &huge);
    assert_eq!(created.json(&json!({"name": "LP"})).send().await.unwrap().status().as_u16(), 201);
    office.auditor.until("/audit/records?aggregate=investor", |page| items(page).len() == 1).await;
    office.auditor.until("/audit/records?aggregate=access&actor=anonymous", |page| items(page).len() == 2).await;
}

#[tokio::test]
async fn requests_without_a_good_token_or_key_or_path_get_a_problem() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let before = rows(&stack).await;
    let secret = &stack.settings.jwt_secret;
    let tokens = [
        None,
        Some(String::new()),
        Some("nonsense".to_owned()),
        Some(testkit::client::token("another secret another secret another", "eve", &["admin"], None, 600)),
        Some(testkit::client::token(secret, "eve", &["admin", "treasurer", "committee", "fund_manager", "analyst", "auditor"], None, -60)),
        Some(testkit::client::token(secret, "", &["admin"], None, 600)),
    ];
    let mut paths: Vec<(&str, String)> = endpoints().into_iter().map(|(_, path, _)| ("POST", path)).collect();
    for path in [
        "/funds",
        "/investors",
        "/deals",
        "/allocations",
        "/workflows",
        "/approvals",
        "/capital-calls",
        "/payments",
        "/portfolio/metrics",
        "/rules/global",
        "/audit/records",
        "/audit/verify",
        "/events",
    ] {
        paths.push(("GET", path.to_owned()));
    }
    for (method, path) in &paths {
        for token in &tokens {
            let reply =
                stack.with_token(token.clone()).send(method, path, Some("k"), (*method == "POST").then(|| b"{}".to_vec())).await.unwrap();
            assert_eq!(reply.refused(401), "unauthenticated", "{method} {path}");
        }
        let nobody = stack.user("norah", &[]).send(method, path, Some("k"), (*method == "POST").then(|| b"{}".to_vec())).await.unwrap();
        assert_eq!(nobody.refused(403), "forbidden", "{method} {path}");
    }
    for (method, path, status, code) in [
        ("GET", "/nothing", 404, "unknown_path"),
        ("DELETE", "/funds", 405, "method_not_allowed"),
        ("GET", "/funds/not-an-id", 400, "malformed_request"),
        ("GET", "/funds/%ff%fe", 400, "malformed_request"),
        ("GET", "/funds?limit=ten", 400, "malformed_request"),
        ("GET", "/funds?limit=-1", 400, "malformed_request"),
        ("GET", "/funds?cursor=nonsense", 400, "malformed_request"),
        ("GET", "/funds?colour=red", 400, "malformed_request"),
        ("GET", "/funds?limit=0", 400, "malformed_request"),
        ("GET", "/funds?limit=501", 400, "malformed_request"),
        ("GET", "/deals/00000000-0000-0000-0000-000000000000?deal_id=1", 400, "malformed_request"),
        ("GET", "/deals?stage=%00", 400, "malformed_request"),
        ("GET", "/approvals?status=maybe", 400, "malformed_request"),
        ("GET", "/rules/everything", 422, "unknown_scope"),
        ("GET", "/events?fund_id=7", 400, "malformed_request"),
    ] {
        let reply = office.admin.send(method, path, None, None).await.unwrap();
        assert_eq!(reply.refused(status), code, "{method} {path}");
    }
    for path in ["/funds", "/deals", "/allocations", "/capital-calls", "/payments", "/workflows", "/approvals"] {
        let unknown = format!("{path}/{}", Uuid::now_v7());
        assert!(office.admin.get(&unknown).await.refused(404).starts_with("unknown_"), "{unknown}");
    }
    let without_key = office.admin.send("POST", "/investors", None, Some(b"{\"name\":\"x\"}".to_vec())).await.unwrap();
    assert_eq!(without_key.refused(400), "idempotency_key_missing");
    let long_key = office.admin.send("POST", "/investors", Some(&"k".repeat(201)), Some(b"{\"name\":\"x\"}".to_vec())).await.unwrap();
    assert_eq!(long_key.refused(400), "idempotency_key_missing");
    // which of two is meant cannot be known
    let twice = office.admin.send("POST", "/investors", Some("twice"), Some(b"{\"name\":\"a\",\"name\":\"b\"}".to_vec())).await.unwrap();
    assert_eq!(twice.refused(400), "malformed_request");
    let with_query = office.admin.send("POST", "/investors?name=b", Some("query"), Some(b"{\"name\":\"a\"}".to_vec())).await.unwrap();
    assert_eq!(with_query.refused(400), "malformed_request");
    let http = reqwest::Client::new();
    let token = testkit::client::token(secret, "ada", &["admin"], None, 600);
    let headers: [(&[(&str, &str)], u16); 4] = [
        (&[("idempotency-key", "a"), ("idempotency-key", "b"), ("content-type", "application/json")], 400),
        (&[("idempotency-key", "a"), ("content-type", "application/json"), ("content-type", "text/plain")], 415),
        (&[("idempotency-key", "a"), ("content-type", "application/json; charset=utf-16")], 415),
        (&[("idempotency-key", "a"), ("content-type", "application/json"), ("content-encoding", "gzip")], 415),
    ];
    for (headers, status) in headers {
        let mut request = http.post(format!("{}/api/v1/investors", stack.gateway())).bearer_auth(&token).body("{\"name\":\"a\"}");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{headers:?}");
    }
    // a connection on which a body met no route serves the next request
    for _ in 0..50 {
        let lost = office.admin.send("POST", "/nope", Some("k"), Some(vec![b'x'; 100_000])).await.unwrap();
        assert_eq!(lost.refused(404), "unknown_path");
    }
    let large = vec![b'x'; 20 << 20];
    assert_eq!(office.admin.send("POST", "/investors", Some("large"), Some(large)).await.unwrap().refused(413), "request_too_large");
    assert_eq!(rows(&stack).await, before, "nothing is stored");
    // and after all that the next good request is served
    publish_deal(&stack, &deal(Uuid::now_v7(), 1)).await;
    office.fund(1).await;
}
