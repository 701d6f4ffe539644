//! Bank details: two people, a call back, a cooling-off time; secret at rest, in answers, events and logs.

use serde_json::{Value, json};
use sqlx::Row;
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Fund, Office, id, items, lines, payment};

const ACCOUNT: &str = "DE89370400440532013000";
const OTHER_ACCOUNT: &str = "GB82WEST12345698765432";
const DAY: i64 = 24 * 3_600;

fn proposal(holder: &str, id: Uuid, account: &str) -> Value {
    json!({holder: id, "currency": "USD", "reason": "first closing",
           "instructions": {"account_name": "Tranche Growth I", "account": account, "bank_name": "Bank", "bic": "COBADEFFXXX"}})
}

async fn now(stack: &Stack) -> String {
    let row = sqlx::query("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    row.fetch_one(&stack.database().await).await.unwrap().get(0)
}

/// What a second person says after a call at the present time.
async fn call_back(stack: &Stack, details: &Value) -> Value {
    json!({"hash": details["hash"], "call_back": {"called_at": now(stack).await, "number_from": "file of the subscription", "spoken_to": "J. Doe"}})
}

/// Bank details that are proposed by one and confirmed by another.
async fn confirmed(stack: &Stack, office: &Office, proposal: Value) -> Value {
    let details = office.treasurer.post("/bank-details", proposal).await.expect(201);
    let confirm = call_back(stack, &details).await;
    office.admin.post(&format!("/bank-details/{}/confirm", id(&details, "id")), confirm).await.expect(200)
}

async fn issued_line(stack: &Stack, office: &Office, fund: &Fund) -> Value {
    let allocation = office.allocation(stack, fund, "5000").await;
    lines(&office.call(fund, allocation, "100.00", "2099-12-31").await)[0].clone()
}

async fn status_of(client: &Client, details: &Value) -> String {
    client.get(&format!("/bank-details/{}", id(details, "id"))).await.expect(200)["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn bank_details_are_used_after_a_second_person_a_call_back_and_a_cooling_off_time_and_a_notice_pins_them() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let before = issued_line(&stack, &office, &fund).await;
    assert_eq!(before["instructions"], Value::Null);

    let details = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, ACCOUNT)).await.expect(201);
    let path = format!("/bank-details/{}", id(&details, "id"));
    assert_eq!((details["account"].as_str(), details["status"].as_str()), (Some("****3000"), Some("proposed")));
    let again = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, OTHER_ACCOUNT)).await;
    assert_eq!(again.refused(409), "bank_details_proposed");

    // nobody confirms alone, other details, or without a call after the proposal
    let confirm = call_back(&stack, &details).await;
    assert_eq!(office.treasurer.post(&format!("{path}/confirm"), confirm.clone()).await.refused(403), "second_person_needed");
    assert_eq!(office.manager.post(&format!("{path}/confirm"), confirm.clone()).await.refused(403), "forbidden");
    let with = |field: &str, value: Value| {
        let mut changed = confirm.clone();
        *changed.pointer_mut(field).unwrap() = value;
        changed
    };
    for (field, value, status, reason) in [
        ("/hash", json!("00"), 409, "bank_details_differ"),
        ("/call_back/called_at", json!("2020-01-01T00:00:00Z"), 422, "call_back_mismatch"),
        ("/call_back/called_at", json!("2099-01-01T00:00:00Z"), 422, "call_back_mismatch"),
        ("/call_back/spoken_to", json!(""), 422, "invalid_text"),
    ] {
        assert_eq!(office.admin.post(&format!("{path}/confirm"), with(field, value)).await.refused(status), reason, "{field}");
    }
    let confirmed_first = office.admin.post(&format!("{path}/confirm"), confirm.clone()).await.expect(200);
    assert_eq!(confirmed_first["status"], "cooling_off");
    assert_eq!(office.admin.post(&format!("{path}/confirm"), confirm).await.refused(409), "bank_details_decided");

    // not used before the cooling-off time is over
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"], Value::Null);
    stack.set_clock(2 * DAY).await;
    office.admin.until(&path, |details| details["status"] == "in_use").await;
    let line = issued_line(&stack, &office, &fund).await;
    assert_eq!(line["instructions"], json!({"bank_details_id": details["id"], "account": "****3000", "hash": details["hash"]}));

    // later ones do not change what was said, and are known to be others
    let notice_path = format!("/call-lines/{}/notice", id(&line, "id"));
    let notice = office.manager.get(&notice_path).await.expect(200);
    assert_eq!((&notice["instructions"], &notice["instructions_superseded"]), (&line["instructions"], &json!(false)));
    let proposed = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, OTHER_ACCOUNT)).await.expect(201);
    let mut confirm = call_back(&stack, &proposed).await;
    // the clock of the firm is two days ahead
    confirm["call_back"]["called_at"] = proposed["created_at"].clone();
    let later = office.admin.post(&format!("/bank-details/{}/confirm", id(&proposed, "id")), confirm).await.expect(200);
    stack.set_clock(4 * DAY).await;
    office.admin.until(&format!("/bank-details/{}", id(&later, "id")), |details| details["status"] == "in_use").await;
    assert_eq!(status_of(&office.admin, &details).await, "superseded");
    let notice = office.manager.get(&notice_path).await.expect(200);
    assert_eq!((&notice["instructions"], &notice["instructions_superseded"]), (&line["instructions"], &json!(true)));
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"]["hash"], later["hash"]);
    // what turns out to be wrong is used no more, and nor are the former: one person alone does not bring them back
    let reject = format!("/bank-details/{}/reject", id(&later, "id"));
    assert_eq!(office.admin.post(&reject, json!({"reason": "fraud"})).await.expect(200)["status"], "rejected");
    assert_eq!(office.admin.post(&reject, json!({"reason": "fraud"})).await.refused(409), "bank_details_decided");
    assert_eq!(status_of(&office.admin, &details).await, "superseded");
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"], Value::Null);
    // two people bring them back, after the cooling-off time
    let proposed = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, ACCOUNT)).await.expect(201);
    let mut confirm = call_back(&stack, &proposed).await;
    confirm["call_back"]["called_at"] = proposed["created_at"].clone();
    let again = office.admin.post(&format!("/bank-details/{}/confirm", id(&proposed, "id")), confirm).await.expect(200);
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"], Value::Null);
    stack.set_clock(6 * DAY).await;
    office.admin.until(&format!("/bank-details/{}", id(&again, "id")), |details| details["status"] == "in_use").await;
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"]["hash"], again["hash"]);
    // what is rejected before its time changes nothing
    let proposed = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, OTHER_ACCOUNT)).await.expect(201);
    let reject = format!("/bank-details/{}/reject", id(&proposed, "id"));
    assert_eq!(office.admin.post(&reject, json!({"reason": "a typing error"})).await.expect(200)["usable_from"], Value::Null);
    assert_eq!(status_of(&office.admin, &again).await, "in_use");

    // what a mailbox is told
    let raised = office.admin.get(&format!("/bank-details?fund_id={}", fund.id)).await.expect(200);
    assert_eq!(items(&raised).len(), 4);
}

#[tokio::test]
async fn an_account_is_seen_by_those_with_the_right_only_and_stands_nowhere_in_the_clear() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": ACCOUNT})).await.expect(201);
    let details = confirmed(&stack, &office, proposal("fund_id", fund.id, ACCOUNT)).await;
    confirmed(&stack, &office, proposal("investor_id", fund.investors[0], ACCOUNT)).await;

    let path = format!("/bank-details/{}/instructions", id(&details, "id"));
    for client in [&office.manager, &office.analyst, &office.auditor, &office.ann] {
        assert_eq!(client.get(&path).await.refused(403), "forbidden");
    }
    let revealed = office.treasurer.get(&path).await.expect(200);
    assert_eq!(revealed["instructions"]["account"], ACCOUNT);
    // who looked stands in the audit
    office
        .auditor
        .until("/audit/records?actor=tom&limit=100", |page| items(page).iter().any(|record| record.to_string().contains(&path)))
        .await;

    for wrong in [json!({"account": "DE00370400440532013000"}), json!({"account": "1"}), json!({"bic": "x"}), json!({"account_name": ""})] {
        let mut bad = proposal("fund_id", fund.id, ACCOUNT);
        for (field, value) in wrong.as_object().unwrap() {
            bad["instructions"][field] = value.clone();
        }
        let refused = office.treasurer.post("/bank-details", bad).await;
        assert_eq!(refused.refused(422), "invalid_bank_details");
        assert!(!refused.body.to_string().contains("37040044"), "{}", refused.body);
    }
    let mut wrong_type = proposal("fund_id", fund.id, ACCOUNT);
    wrong_type["instructions"] = json!(ACCOUNT);
    let mut number = proposal("fund_id", fund.id, ACCOUNT);
    number["instructions"]["account"] = json!(370400440532013000u64);
    for bad in [wrong_type, number, json!({"fund_id": fund.id, ACCOUNT: "x"})] {
        let refused = office.treasurer.post("/bank-details", bad).await;
        assert_eq!(refused.refused(400), "malformed_request");
        assert!(!refused.body.to_string().contains("37040044"), "{}", refused.body);
    }
    // who may see one fund of an investor decides nothing for the others
    let elsewhere = office.fund(1).await;
    let commitment = json!({"investor_id": fund.investors[0], "amount": "1000000", "effective_on": "2020-01-01"});
    office.admin.post(&format!("/funds/{}/commitments", elsewhere.id), commitment).await.expect(201);
    let token = testkit::client::token(&stack.settings.jwt_secret, "tim", &["treasurer"], Some(&[fund.id]), 3_600);
    let of_one_fund = stack.with_token(Some(token));
    let of_investor = of_one_fund.get(&format!("/bank-details?investor_id={}", fund.investors[0])).await.expect(200);
    let reveal = format!("/bank-details/{}/instructions", id(&items(&of_investor)[0], "id"));
    assert_eq!(of_one_fund.get(&reveal).await.refused(403), "fund_out_of_scope");
    let proposed = of_one_fund.post("/bank-details", proposal("investor_id", fund.investors[0], OTHER_ACCOUNT)).await;
    assert_eq!(proposed.refused(403), "fund_out_of_scope");
    of_one_fund.get(&path).await.expect(200);
    // a row that is given to somebody else does not open
    let database = stack.database().await;
    let given = "update capital_calls.bank_details set fund_id = $1 where id = $2";
    sqlx::query(given).bind(elsewhere.id).bind(id(&details, "id")).execute(&database).await.unwrap();
    assert_eq!(office.treasurer.get(&path).await.refused(500), "internal");
    sqlx::query(given).bind(fund.id).bind(id(&details, "id")).execute(&database).await.unwrap();
    // the hash by which a request is known again tells nothing either
    let known: i64 = sqlx::query_scalar(
        "select count(*) from capital_calls.idempotency where subject like '%register-bank-account'
         and request_hash = sha256(convert_to(format('{\"fund_id\":\"%s\",\"account\":\"%s\"}', $1::text, $2), 'UTF8'))",
    )
    .bind(fund.id.to_string())
    .bind(ACCOUNT)
    .fetch_one(&database)
    .await
    .unwrap();
    assert_eq!(known, 0);
    for (holder, id, reason) in [("fund_id", Uuid::now_v7(), "unknown_fund"), ("investor_id", Uuid::now_v7(), "unknown_investor")] {
        assert_eq!(office.treasurer.post("/bank-details", proposal(holder, id, ACCOUNT)).await.refused(404), reason);
    }

    assert_nowhere(&stack, "370400440532013000").await;
}

/// No table of any service, no stream and no log has the text.
pub async fn assert_nowhere(stack: &Stack, text: &str) {
    let database = stack.database().await;
    let tables = "select format('%I.%I', table_schema, table_name) from information_schema.tables
                  where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&database).await.unwrap();
    assert!(tables.len() > 30, "{tables:?}");
    for table in tables {
        let found: i64 = sqlx::query_scalar(&format!("select count(*) from {table} as row where row::text like '%' || $1 || '%'"))
            .bind(text)
            .fetch_one(&database)
            .await
            .unwrap();
        assert_eq!(found, 0, "{table}");
    }
    for file in std::fs::read_dir(stack.folder()).unwrap().flatten().filter(|file| file.path().extension().is_some_and(|end| end == "log"))
    {
        assert!(!std::fs::read_to_string(file.path()).unwrap().contains(text), "{}", file.path().display());
    }
}

#[tokio::test]
async fn keys_are_rotated_while_the_services_serve_and_the_old_key_is_needed_no_more() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": ACCOUNT})).await.expect(201);
    let details = confirmed(&stack, &office, proposal("fund_id", fund.id, ACCOUNT)).await;
    let file = stack.folder().join("encryption-keys");
    let old = std::fs::read_to_string(&file).unwrap();
    let old_name = old.split(' ').next().unwrap().to_owned();
    let run = |words: &[&str]| {
        let output = stack.settings.command("capital-calls", 0).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["new-key", "--write"]);
    let path = format!("/bank-details/{}/instructions", id(&details, "id"));
    assert_eq!(office.treasurer.get(&path).await.expect(200)["instructions"]["account"], ACCOUNT);
    let said = run(&["rotate-keys"]);
    assert!(said.starts_with("2 data keys wrapped under ") && said.contains(&format!("no longer needed: {old_name}")), "{said}");
    assert!(run(&["rotate-keys"]).starts_with("0 data keys"), "a second run has nothing to do");

    let both = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, both.replace(&old, "")).unwrap();
    assert_eq!(office.treasurer.get(&path).await.expect(200)["instructions"]["account"], ACCOUNT);
    // the index by which an account is found is what it was
    let other = office.fund(1).await;
    let taken = office.admin.post(&format!("/funds/{}/bank-accounts", other.id), json!({"account": ACCOUNT})).await;
    assert_eq!(taken.refused(409), "bank_account_taken");

    // sealed text that is moved to another row does not open
    let second = confirmed(&stack, &office, proposal("fund_id", other.id, OTHER_ACCOUNT)).await;
    let swap = "update capital_calls.bank_details as mine set wrapped_key = theirs.wrapped_key, body = theirs.body
                from capital_calls.bank_details as theirs where mine.id = $1 and theirs.id = $2";
    sqlx::query(swap).bind(id(&details, "id")).bind(id(&second, "id")).execute(&stack.database().await).await.unwrap();
    assert_eq!(office.treasurer.get(&path).await.refused(500), "internal");
}

#[tokio::test]
async fn a_refund_is_paid_to_bank_details_that_are_in_use() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    let line = id(&lines(&call)[0], "id");
    let paid = office.treasurer.post(&format!("/call-lines/{line}/payments"), payment("150.00", "R-1")).await.expect(201);
    let refund =
        office.treasurer.post(&format!("/payments/{}/refunds", id(&paid, "id")), json!({"reason": "paid too much"})).await.expect(202);
    let refund = id(&refund, "refund_id");
    let page = office.ann.until(&format!("/approvals?status=pending&subject_id={refund}"), |page| !items(page).is_empty()).await;
    let vote = format!("/approvals/{}/votes", id(&items(&page)[0], "id"));
    office.ann.post(&vote, json!({"decision": "approve"})).await.expect(200);
    office.manager.until(&format!("/refunds/{refund}"), |refund| refund["status"] == "approved").await;
    let details = confirmed(&stack, &office, proposal("investor_id", fund.investors[0], ACCOUNT)).await;
    let payout = json!({"paid_on": "2026-11-20", "reference": "OUT-1"});
    let path = format!("/refunds/{refund}");
    assert_eq!(office.treasurer.post(&format!("{path}/payout"), payout.clone()).await.refused(409), "bank_details_cooling_off");
    stack.set_clock(2 * DAY).await;
    office.admin.until(&format!("/bank-details/{}", id(&details, "id")), |details| details["status"] == "in_use").await;
    let paid_out = office.treasurer.post(&format!("{path}/payout"), payout).await.expect(200);
    assert_eq!(paid_out["payout"]["instructions"]["hash"], details["hash"]);
}

#[tokio::test]
async fn a_change_of_bank_details_goes_through_the_steps_of_the_firm() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let step = |step: &str| json!({"step": step});
    let scope = format!("/rules/fund:{}", fund.id);
    let without = json!({"bank_details_steps": [step("validate"), step("approve"), step("put_in_use")]});
    let refused = office.admin.put(&scope, without).await;
    assert_eq!(refused.refused(422), "invalid_rules");
    assert!(refused.body["detail"].as_str().unwrap().contains("the step confirm is missing"), "{}", refused.body);
    let rules = json!({
        "bank_details_steps": [step("validate"), {"step": "wait", "hours": 1}, step("confirm"), step("approve"), step("put_in_use")],
        "approval_tiers": [{"from_amount": "0", "votes": 1, "role": "committee", "kinds": ["bank_details"]}],
    });
    let version = office.admin.put(&scope, rules).await.expect(200)["version"].clone();
    let known = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log("workflow").contains(&known) }).await);
    // confirmed before their time to be confirmed: it is not forgotten
    let first = confirmed(&stack, &office, proposal("fund_id", fund.id, ACCOUNT)).await;
    let path = format!("/bank-details/{}", id(&first, "id"));
    let workflow = format!("/workflows/{}", domain::ids::workflow_id(id(&first, "id")));
    let waits = office.admin.until(&workflow, |workflow| workflow["status"] == "waiting").await;
    assert_eq!((waits["subject_kind"].as_str(), waits["requested_by"].as_str()), (Some("bank_details"), Some("tom")));
    // the cooling-off time alone does not put them in use
    stack.set_clock(2 * DAY).await;
    let approvals = format!("/approvals?status=pending&subject_id={}", id(&first, "id"));
    let approval = id(&items(&office.ann.until(&approvals, |page| !items(page).is_empty()).await)[0], "id");
    assert_eq!(office.admin.get(&path).await.expect(200)["status"], "cooling_off");
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"], Value::Null);
    office.ann.post(&format!("/approvals/{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
    let used = office.admin.until(&path, |details| details["status"] == "in_use").await;
    assert!(used["released_at"].is_string(), "{used:#}");
    let ended = office.admin.until(&workflow, |workflow| workflow["status"] == "completed").await;
    assert_eq!(ended["steps"][2]["note"], "confirmed by ada");
    assert_eq!(issued_line(&stack, &office, &fund).await["instructions"]["hash"], first["hash"]);
    // what the committee denies is rejected, and the former ones stay; an investor's have the firm's steps
    let proposed = office.treasurer.post("/bank-details", proposal("fund_id", fund.id, OTHER_ACCOUNT)).await.expect(201);
    let mut confirm = call_back(&stack, &proposed).await;
    confirm["call_back"]["called_at"] = proposed["created_at"].clone();
    office.admin.post(&format!("/bank-details/{}/confirm", id(&proposed, "id")), confirm).await.expect(200);
    stack.set_clock(5 * DAY).await;
    let approvals = format!("/approvals?status=pending&subject_id={}", id(&proposed, "id"));
    let approval = id(&items(&office.ann.until(&approvals, |page| !items(page).is_empty()).await)[0], "id");
    office.ann.post(&format!("/approvals/{approval}/votes"), json!({"decision": "deny"})).await.expect(200);
    office.admin.until(&format!("/bank-details/{}", id(&proposed, "id")), |details| details["status"] == "rejected").await;
    assert_eq!(status_of(&office.admin, &first).await, "in_use");
    let mut of_investor = office.treasurer.post("/bank-details", proposal("investor_id", fund.investors[0], ACCOUNT)).await.expect(201);
    let workflow = format!("/workflows/{}", domain::ids::workflow_id(id(&of_investor, "id")));
    let waits = office.admin.until(&workflow, |workflow| workflow["status"] == "waiting").await;
    assert_eq!(waits["expects"], "a second person confirms the bank details, after a call back");
    let scoped = testkit::client::token(&stack.settings.jwt_secret, "else", &["committee"], Some(&[fund.id]), 600);
    assert_eq!(stack.with_token(Some(scoped)).get(&workflow).await.refused(403), "fund_out_of_scope");
    // rejected while they wait: their workflow ends with them
    of_investor = office
        .admin
        .post(&format!("/bank-details/{}/reject", id(&of_investor, "id")), json!({"reason": "a typing error"}))
        .await
        .expect(200);
    assert_eq!(of_investor["status"], "rejected");
    office.admin.until(&workflow, |workflow| workflow["status"] == "failed").await;
}
