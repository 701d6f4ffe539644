//! Steps that are served by programs of somebody else: they hang, lie, die, answer twice, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use testkit::process::Process;
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Fund, Office, deal, id, items, publish_deal};
use crate::python::python;

const GOOD: u8 = 0;
const HANGS: u8 = 1;
const LIES: u8 = 2;
const ANSWERS_TWICE: u8 = 3;
pub const REFUSES: u8 = 4;
const NO_JSON: u8 = 5;
/// It agrees, and gives no data.
pub const AGREES: u8 = 10;
/// So it does, too, once it is told to do something else.
pub const THINKS: u8 = 11;
/// A zero character, which Postgres does not keep.
const ZERO: u8 = 9;
/// What it does depends on the workflow: each thing one time in eight, and else it agrees.
const BY_CHANCE: u8 = 6;

/// A program that serves a step, and does what it is told to.
pub struct Program {
    behaves: Arc<AtomicU8>,
    /// How often it was told that something is given up.
    pub undone: Arc<AtomicUsize>,
    served: [tokio::task::JoinHandle<()>; 2],
    _connection: async_nats::Client,
}

impl Program {
    pub async fn start(stack: &Stack, name: &str) -> Program {
        let connection = stack.nats_as("steps").await;
        let (behaves, undone) = (Arc::new(AtomicU8::new(GOOD)), Arc::new(AtomicUsize::new(0)));
        let mut questions = connection.queue_subscribe(format!("tranche.step.{name}"), name.into()).await.unwrap();
        let mut given_up = connection.queue_subscribe(format!("tranche.step.{name}.undo"), name.into()).await.unwrap();
        connection.flush().await.unwrap();
        let (mode, client) = (behaves.clone(), connection.clone());
        let asked = tokio::spawn(async move {
            let agreed = || json!({"decision": "agreed", "note": "seen", "data": {"score": 7}}).to_string();
            let plainly = || json!({"decision": "agreed", "note": "seen"}).to_string();
            let refused = || json!({"decision": "refused", "note": "on a list"}).to_string();
            while let Some(question) = questions.next().await {
                let body: Value = serde_json::from_slice(&question.payload).unwrap();
                let by_chance = || id(&body, "workflow_id").as_bytes()[15] % 8;
                let (answers, reply) = match mode.load(Ordering::Relaxed) {
                    BY_CHANCE => match by_chance() {
                        GOOD | 6 | 7 => (vec![agreed()], question.reply),
                        HANGS => (vec![], question.reply),
                        LIES => (vec![json!({"decision": "agreed", "data": {"score": "high"}}).to_string()], question.reply),
                        ANSWERS_TWICE => (vec![agreed(), refused()], question.reply),
                        REFUSES => (vec![refused()], question.reply),
                        _ => (vec!["no json".into()], question.reply),
                    },
                    HANGS => (vec![], question.reply),
                    LIES => (vec![json!({"decision": "agreed", "data": {"score": "high"}}).to_string()], question.reply),
                    ANSWERS_TWICE => (vec![agreed(), refused()], question.reply),
                    REFUSES => (vec![refused()], question.reply),
                    NO_JSON => (vec!["no json".into()], question.reply),
                    THINKS => {
                        testkit::wait::until(Duration::from_secs(8), || async { mode.load(Ordering::Relaxed) != THINKS }).await;
                        (vec![plainly()], question.reply)
                    }
                    AGREES => (vec![plainly()], question.reply),
                    ZERO => (vec!["{\"decision\": \"agreed\", \"data\": {\"score\": 1, \"\\u0000\": 1}}".into()], question.reply),
                    _ => (vec![agreed()], question.reply),
                };
                for answer in answers {
                    client.publish(reply.clone().unwrap(), answer.into()).await.unwrap();
                }
            }
        });
        let (count, client, mode) = (undone.clone(), connection.clone(), behaves.clone());
        let told = tokio::spawn(async move {
            while let Some(message) = given_up.next().await {
                if mode.load(Ordering::Relaxed) == HANGS {
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                client.publish(message.reply.unwrap(), json!({"decision": "agreed"}).to_string().into()).await.unwrap();
            }
        });
        Program { behaves, undone, served: [asked, told], _connection: connection }
    }

    pub fn does(&self, what: u8) {
        self.behaves.store(what, Ordering::Relaxed);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.served.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn score() -> Value {
    json!({"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}, "additionalProperties": false})
}

/// Has the allocations of a fund ask a program before votes are asked for.
async fn register(office: &Office, fund: &Fund, name: &str, program: Value) {
    let steps = json!([{"step": "validate"}, {"step": "ask", "program": name}, {"step": "approve"}, {"step": "activate"}]);
    let rules = json!({"allocation_steps": steps, "programs": {name: program}, "stuck_after_hours": 24});
    office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200);
}

/// Proposes an allocation below the tiers; returns its workflow when it has ended or is paused, and its decision.
async fn carried(stack: &Stack, office: &Office, fund: &Fund) -> (Value, String) {
    let proposal = json!({"deal_id": office.deal(stack).await, "fund_id": fund.id, "amount": "5000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", proposal).await.expect(202);
    let path = format!("/workflows/{}", id(&accepted, "workflow_id"));
    let workflow = office.manager.until(&path, |workflow| ["completed", "failed", "paused"].contains(&text(workflow, "status"))).await;
    let allocation = office.analyst.get(&format!("/allocations/{}", id(&accepted, "allocation_id"))).await.expect(200);
    (workflow, text(&allocation, "decision").to_owned())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

async fn until_rules(stack: &Stack, fund: &Fund, version: i64) {
    let line = format!("rules in force scope=\"fund:{}\" version={version}", fund.id);
    assert!(testkit::wait::until(Duration::from_secs(10), || async { stack.log("workflow").contains(&line) }).await);
}

#[tokio::test]
async fn a_program_that_hangs_lies_or_answers_twice_decides_only_what_the_rules_allow() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let kyc = json!({"timeout_seconds": 1, "attempts": 2, "when_absent": "refuse", "undo": true, "answer": score()});
    register(&office, &fund, "kyc", kyc).await;
    until_rules(&stack, &fund, 1).await;
    let program = Program::start(&stack, "kyc").await;
    for (does, status, decision, code) in [
        (GOOD, "completed", "active", None),
        (ANSWERS_TWICE, "completed", "active", None),
        (REFUSES, "failed", "denied", Some("step_refused")),
        (LIES, "failed", "denied", Some("step_answer_invalid")),
        (NO_JSON, "failed", "denied", Some("step_answer_invalid")),
        (ZERO, "failed", "denied", Some("step_answer_invalid")),
        (HANGS, "failed", "denied", Some("step_unanswered")),
    ] {
        program.does(does);
        let undone = program.undone.load(Ordering::Relaxed);
        let (workflow, decided) = carried(&stack, &office, &fund).await;
        let said = (text(&workflow, "status"), decided.as_str(), workflow["error"]["code"].as_str());
        assert_eq!(said, (status, decision, code), "{does}: {workflow:#}");
        let told = program.undone.load(Ordering::Relaxed) - undone;
        let hears = usize::from(status == "failed" && does != HANGS);
        assert_eq!(told, hears, "{does}: whoever was asked is told once that it is given up, if it hears");
        if status == "completed" {
            assert_eq!((&workflow["steps"][1]["answer"], text(&workflow["steps"][1], "note")), (&json!({"score": 7}), "seen"));
        } else {
            assert!(!text(&workflow["error"], "recommendation").is_empty());
        }
    }
    // what was answered stands in the audit's record
    let records = office
        .auditor
        .until("/audit/records?aggregate=workflow&limit=500", |page| {
            page.to_string().contains("\\\"score\\\":7") || page.to_string().contains("\"score\":7")
        })
        .await;
    assert!(!items(&records).is_empty());
}

#[tokio::test]
async fn a_program_that_is_absent_holds_its_workflows_up_and_no_others_until_somebody_has_them_go_on() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, lenient, other) = (office.fund(1).await, office.fund(1).await, office.fund(1).await);
    let absent = |when: &str| json!({"timeout_seconds": 1, "attempts": 2, "when_absent": when, "answer": score()});
    register(&office, &fund, "kyc", absent("hold")).await;
    register(&office, &lenient, "list", absent("go_on")).await;
    until_rules(&stack, &fund, 1).await;
    until_rules(&stack, &lenient, 1).await;
    let (held, decision) = carried(&stack, &office, &fund).await;
    assert_eq!((text(&held, "status"), decision.as_str(), text(&held["error"], "code")), ("paused", "pending_approval", "workflow_paused"));
    assert!(text(&held, "expects").contains("kyc"), "{held:#}");
    let (passed, decision) = carried(&stack, &office, &lenient).await;
    assert_eq!((text(&passed["steps"][1], "status"), decision.as_str()), ("skipped", "active"), "{passed:#}");
    assert_eq!(carried(&stack, &office, &other).await.1, "active", "a fund that asks nobody");
    let path = format!("/workflows/{}/actions", id(&held, "id"));
    let does = |action: &str| json!({"action": action, "reason": "the program is there again"});
    assert_eq!(office.manager.post(&path, does("retry")).await.refused(403), "forbidden");
    assert_eq!(office.manager.post(&path, does("cancel")).await.refused(403), "not_your_request");
    assert_eq!(office.admin.post(&path, json!({"action": "retry", "reason": "", "from_step": 2})).await.refused(422), "invalid_text");
    assert_eq!(
        office.admin.post(&path, json!({"action": "retry", "reason": "why", "from_step": 1})).await.refused(409),
        "workflow_not_steerable"
    );
    let _program = Program::start(&stack, "kyc").await;
    office.admin.post(&path, does("retry")).await.expect(200);
    let workflow = office.manager.until(&format!("/workflows/{}", id(&held, "id")), |workflow| workflow["status"] == "completed").await;
    assert_eq!((&workflow["error"], &workflow["paused"]), (&Value::Null, &Value::Null));
    assert_eq!(office.admin.post(&path, does("cancel")).await.refused(409), "workflow_not_steerable");
    // the requester takes a request back that is held up: what was held is free again
    drop(_program);
    let (held, _) = carried(&stack, &office, &fund).await;
    let path = format!("/workflows/{}", id(&held, "id"));
    office.analyst.post(&format!("{path}/actions"), json!({"action": "cancel", "reason": "the deal is off"})).await.expect(200);
    let cancelled = office.manager.until(&path, |workflow| workflow["status"] == "failed").await;
    assert_eq!(text(&cancelled["error"], "code"), "withdrawn");
    assert_eq!(carried(&stack, &office, &other).await.1, "active");
}

#[tokio::test]
async fn times_pass_by_the_business_clock_and_what_is_held_up_for_long_is_said_to_be_stuck_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, other) = (office.fund(1).await, office.fund(1).await);
    let steps = json!([{"step": "validate"}, {"step": "wait", "hours": 48}, {"step": "approve"}, {"step": "activate"}, {"step": "wait", "hours": 1}]);
    office.admin.put(&format!("/rules/fund:{}", fund.id), json!({"allocation_steps": steps})).await.expect(200);
    register(&office, &other, "kyc", json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "hold"})).await;
    until_rules(&stack, &fund, 1).await;
    until_rules(&stack, &other, 1).await;
    let proposal = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": "5000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", proposal).await.expect(202);
    let path = format!("/workflows/{}", id(&accepted, "workflow_id"));
    let waiting = office.manager.until(&path, |workflow| workflow["status"] == "waiting").await;
    assert!(text(&waiting, "expects").starts_with("it is 20"), "{waiting:#}");
    let (held, _) = carried(&stack, &office, &other).await;
    let stuck = |page: &Value| items(page).iter().map(|workflow| id(workflow, "id")).collect::<Vec<Uuid>>();
    assert!(stuck(&office.manager.get("/workflows?stuck=true").await.expect(200)).is_empty());
    stack.set_clock(47 * 3_600).await;
    let page = office.manager.until("/workflows?stuck=true", |page| !items(page).is_empty()).await;
    assert_eq!(stuck(&page), [id(&held, "id")], "a time that is waited for is no standstill");
    assert_eq!(office.manager.get(&path).await.expect(200)["status"], "waiting", "it is not over");
    stack.set_clock(49 * 3_600).await;
    let done = office.manager.until(&path, |workflow| workflow["steps"][3]["status"] == "done").await;
    assert_eq!(done["status"], "waiting");
    stack.set_clock(51 * 3_600).await;
    office.manager.until(&path, |workflow| workflow["status"] == "completed").await;
    let versions = office.manager.get(&format!("/workflows/{}", id(&held, "id"))).await.expect(200)["version"].clone();
    stack.set_clock(100 * 3_600).await;
    office.manager.until("/workflows?status=paused", |page| stuck(page).len() == 1).await;
    assert_eq!(office.manager.get(&format!("/workflows/{}", id(&held, "id"))).await.expect(200)["version"], versions, "said once");
}

#[tokio::test]
async fn definitions_that_lead_nowhere_or_could_not_be_unwound_are_refused() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let program = json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "refuse"});
    let (ask, validate, approve, activate) =
        (json!({"step": "ask", "program": "kyc"}), json!({"step": "validate"}), json!({"step": "approve"}), json!({"step": "activate"}));
    for (steps, named) in [
        (json!([]), "validate"),
        (json!([approve, validate, activate]), "validate"),
        (json!([validate, activate]), "approve"),
        (json!([validate, activate, approve]), "approve stands after"),
        (json!([validate, approve, {"step": "issue"}]), "activate"),
        (json!([validate, approve, {"step": "give_back"}, activate]), "give_back"),
        (json!([validate, ask, ask, approve, activate]), "twice"),
        (json!([validate, approve, activate, ask]), "nothing can be unwound"),
        (json!([validate, {"step": "ask", "program": "other"}, approve, activate]), "not registered"),
        (json!([validate, {"step": "wait"}, approve, activate]), "hours"),
        (json!([validate, {"step": "request_stage"}, approve, activate]), "request_stage"),
    ] {
        let rules = json!({"allocation_steps": steps, "programs": {"kyc": program}});
        let refused = office.admin.put("/rules/fund-type:venture", rules).await;
        assert_eq!(refused.refused(422), "invalid_rules");
        assert!(refused.text("detail").contains(named), "{steps}: {}", refused.text("detail"));
    }
    for program in [
        json!({"timeout_seconds": 11, "attempts": 1, "when_absent": "refuse"}),
        json!({"timeout_seconds": 1, "attempts": 0, "when_absent": "refuse"}),
        json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "refuse", "answer": {"type": "numbers"}}),
        json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "refuse", "answer": {"$ref": "https://example.com/a.json"}}),
    ] {
        assert_eq!(office.admin.put("/rules/fund-type:venture", json!({"programs": {"kyc": program}})).await.refused(422), "invalid_rules");
    }
}

#[tokio::test]
async fn conditions_of_a_firm_refuse_with_their_own_message_and_are_checked_when_they_are_saved() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let steps = json!([{"step": "validate"}, {"step": "check", "predicate": "round"}, {"step": "approve"}, {"step": "activate"}]);
    let rules = |expression: &str| {
        let round = json!({"expression": expression, "message": "whole thousands only, in this fund"});
        json!({"allocation_steps": steps, "predicates": {"round": round}})
    };
    let path = format!("/rules/fund:{}", fund.id);
    for (expression, named) in [("amout > 1", "amout"), ("amount > 1.0", "minor units"), ("amount", "not true or false"), ("(", "")] {
        let refused = office.admin.put(&path, rules(expression)).await;
        assert_eq!(refused.refused(422), "invalid_rules");
        assert!(refused.text("detail").contains(named), "{}", refused.text("detail"));
    }
    let without = json!({"allocation_steps": steps});
    assert_eq!(office.admin.put(&path, without).await.refused(422), "invalid_rules");
    office.admin.put(&path, rules("amount % 100000 == 0")).await.expect(200);
    until_rules(&stack, &fund, 1).await;
    for (amount, status) in [("5000", "completed"), ("5000.01", "failed")] {
        let proposal = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": amount, "security_type": "equity"});
        let accepted = office.analyst.post("/allocations", proposal).await.expect(202);
        let path = format!("/workflows/{}", id(&accepted, "workflow_id"));
        let workflow = office.manager.until(&path, |workflow| workflow["status"] == status).await;
        if status == "failed" {
            let said = (text(&workflow["error"], "code"), text(&workflow["error"], "detail"));
            assert_eq!(said, ("predicate_refused", "round: whole thousands only, in this fund"));
            let allocation = format!("/allocations/{}", id(&accepted, "allocation_id"));
            assert_eq!(office.manager.get(&allocation).await.expect(200)["decision"], "denied");
        }
    }
    // what it would have refused is told before it is put
    let scope = format!("/rules/fund:{}/simulate", fund.id);
    let simulated = office.admin.post(&scope, json!({"rules": rules("amount > 600000")})).await.expect(200);
    let counts = (simulated["newly_refused"].as_u64(), simulated["no_longer_refused"].as_u64());
    assert_eq!(counts, (Some(1), Some(0)), "{simulated:#}");
}

#[tokio::test]
async fn the_example_in_python_keeps_a_fund_from_putting_too_much_into_one_deal() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let answer = json!({
        "type": "object", "required": ["exposure", "limit"], "additionalProperties": false,
        "properties": {"exposure": {"type": "string", "pattern": "^[0-9.]+$"}, "limit": {"type": "string"}}
    });
    let program = json!({
        "timeout_seconds": 5, "attempts": 20, "when_absent": "hold", "undo": true, "answer": answer, "parameters": {"limit": "6000"}
    });
    register(&office, &fund, "exposure", program).await;
    until_rules(&stack, &fund, 1).await;
    let mut command =
        std::process::Command::new(python("nats-py", "2.16.0", "aeb1ff123966c05833d26c7df7e1d54c1c6d32b612428b21677a2e921f1fecae"));
    let url = stack.settings.nats.replace("nats://", &format!("nats://steps:{}@", stack.settings.password));
    command.arg(testkit::root().join("deploy/programs/exposure.py")).env("NATS_URL", url);
    let mut process = Process::start("exposure", &mut command, &stack.folder().join("exposure.log")).unwrap();
    let deal = office.deal(&stack).await;
    let propose = |amount: &'static str| {
        let (office, fund) = (&office, &fund);
        async move {
            let body = json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"});
            let accepted = office.analyst.post("/allocations", body).await.expect(202);
            let path = format!("/workflows/{}", id(&accepted, "workflow_id"));
            office.manager.until(&path, |workflow| ["completed", "failed"].contains(&text(workflow, "status"))).await
        }
    };
    let refused = propose("6000.01").await;
    assert_eq!(text(&refused["error"], "code"), "step_refused", "{refused:#} {}", process.last_output());
    assert!(text(&refused["error"], "detail").contains("6000.01 in one deal is above 6000"), "{refused:#}");
    let agreed = propose("6000").await;
    assert_eq!((text(&agreed, "status"), text(&agreed["steps"][1]["answer"], "exposure")), ("completed", "6000.00"), "{agreed:#}");
    process.stop("TERM");
}

/// What a fund's allocations have come to.
async fn decisions(client: &Client, fund: Uuid) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    let mut path = format!("/workflows?fund_id={fund}&limit=500");
    loop {
        let page = client.get(&path).await.expect(200);
        for workflow in items(&page) {
            let code = workflow["error"]["code"].as_str().unwrap_or_default();
            *counts.entry(format!("{} {code}", text(workflow, "status"))).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/workflows?fund_id={fund}&limit=500&cursor={cursor}"),
            None => return counts,
        }
    }
}

/// A thousand workflows whose program agrees, refuses, hangs, lies or answers twice by chance, with workflow killed three times in between:
/// each ends, and what is held is what is active.
#[tokio::test]
async fn a_thousand_workflows_with_faults_at_random_steps_end_right() {
    const FUNDS: usize = 4;
    const DEALS: usize = 250;
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut funds = Vec::new();
    for _ in 0..FUNDS {
        let fund = office.fund(1).await;
        let kyc = json!({"timeout_seconds": 1, "attempts": 2, "when_absent": "refuse", "undo": true, "answer": score()});
        register(&office, &fund, "kyc", kyc).await;
        until_rules(&stack, &fund, 1).await;
        funds.push(fund);
    }
    let program = Program::start(&stack, "kyc").await;
    program.does(BY_CHANCE);
    let deals: Vec<Uuid> = (0..DEALS).map(|_| Uuid::now_v7()).collect();
    for id in &deals {
        publish_deal(&stack, &deal(*id, 1)).await;
    }
    office.analyst.until(&format!("/deals/{}", deals[DEALS - 1]), |_| true).await;
    for fund in &funds {
        let proposals: Vec<Value> =
            deals.iter().map(|deal| json!({"deal_id": deal, "fund_id": fund.id, "amount": "5000", "security_type": "equity"})).collect();
        let accepted = office.analyst.post("/allocations/batch", json!({"allocations": proposals})).await.expect(200);
        assert_eq!(accepted["accepted"].as_u64(), Some(DEALS as u64), "{accepted:#}");
        if fund.id != funds[FUNDS - 1].id {
            stack.crash("workflow").await;
        }
    }
    for fund in &funds {
        let ended = || async {
            let counts = decisions(&office.manager, fund.id).await;
            counts.values().sum::<usize>() == DEALS && counts.keys().all(|key| key.starts_with("completed") || key.starts_with("failed"))
        };
        assert!(testkit::wait::until(Duration::from_secs(240), ended).await, "{:?}", decisions(&office.manager, fund.id).await);
        let counts = decisions(&office.manager, fund.id).await;
        let completed = counts.get("completed ").copied().unwrap_or_default();
        for code in ["step_refused", "step_answer_invalid", "step_unanswered"] {
            assert!(counts.contains_key(&format!("failed {code}")), "{counts:?}");
        }
        let held = format!("{}.00", completed * 5_000);
        let path = format!("/funds/{}", fund.id);
        let state = office.manager.until(&path, |fund| fund["allocated"] == held.as_str()).await;
        assert_eq!(state["allocated"], held.as_str(), "{counts:?}");
    }
}
