//! Changes of rules: validated, simulated, approved by somebody else, in force at their time; decisions name the rules that they used.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Office, assert_no_deadlocks, id, items};
use crate::programs::{AGREES, Program, REFUSES, THINKS};

async fn simulated(office: &Office, scope: &str, rules: Value) -> Value {
    let change = office.admin.post(&format!("/rules/{scope}/changes"), json!({"rules": rules, "comment": "why"})).await.expect(201);
    assert_eq!((change["status"].as_str(), &change["problems"]), (Some("validated"), &json!([])));
    office.admin.post(&format!("/rule-changes/{}/simulate", id(&change, "id")), json!({})).await.expect(200)
}

fn vote(change: &Value, decision: &str) -> Value {
    json!({"content_hash": change["content_hash"], "decision": decision})
}

fn workflow_of(change: &Value) -> String {
    format!("/workflows/{}", id(change, "workflow_id"))
}

fn alerts_of<'a>(page: &'a Value, kind: &str) -> Vec<&'a Value> {
    items(page).iter().filter(|alert| alert["kind"] == kind).collect()
}

/// The steps of a workflow and how far each is.
fn steps_of(workflow: &Value) -> Vec<String> {
    let steps = workflow["steps"].as_array().unwrap().iter();
    steps.map(|step| format!("{} {}", step["name"].as_str().unwrap(), step["status"].as_str().unwrap())).collect()
}

fn votes_of(change: &Value) -> String {
    format!("/rule-changes/{}/votes", id(change, "id"))
}

#[tokio::test]
async fn rules_are_in_force_once_somebody_else_has_approved_what_was_simulated() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let scope = "fund-type:buyout";
    let path = format!("/rules/{scope}");
    office.admin.put(&path, json!({"rule_votes": 1, "grace_days": 5})).await.expect(200);
    office.manager.until(&path, |rules| rules["effective"]["rule_votes"] == 1).await;
    assert_eq!(office.admin.put(&path, json!({})).await.refused(409), "rules_need_approval");

    // what cannot be is stored, and named, and goes no further
    let crossed = json!({"rules": {"rule_votes": 1, "allocation_min": "200000000"}, "comment": "larger tickets"});
    let change = office.admin.post(&format!("{path}/changes"), crossed).await.expect(201);
    assert_eq!((change["status"].as_str(), change["replaces"].as_i64()), (Some("draft"), Some(1)));
    assert!(change["problems"][0].as_str().unwrap().contains("allocation_max"), "{change:#}");
    let this = format!("/rule-changes/{}", id(&change, "id"));
    assert_eq!(office.ann.post(&votes_of(&change), vote(&change, "approve")).await.refused(409), "rule_change_not_ready");
    assert_eq!(office.admin.post(&format!("{this}/simulate"), json!({})).await.refused(409), "rule_change_not_ready");
    let mended = json!({"rules": {"rule_votes": 1, "allocation_min": "20000", "grace_days": 7}, "comment": "larger tickets"});
    let edited = office.admin.put(&this, mended.clone()).await.expect(200);
    assert_eq!(edited["status"], "validated");
    assert_eq!(office.ann.post(&votes_of(&edited), vote(&edited, "approve")).await.refused(409), "rule_change_not_ready");
    let other_admin = stack.user("max", &["admin", "committee"]);
    let again = json!({"rules": edited["rules"], "comment": "larger tickets, and more time"});
    let edited = other_admin.put(&this, again.clone()).await.expect(200);
    let ready = office.admin.post(&format!("{this}/simulate"), json!({})).await.expect(200);
    let repeated = other_admin.put(&this, again).await.expect(200);
    assert_eq!((&repeated, &ready["authors"]), (&ready, &json!(["ada", "max"])), "who says the same again voids nothing");
    assert_ne!(edited["content_hash"], Value::Null);
    assert_eq!((ready["status"].as_str(), ready["votes_needed"].as_i64()), (Some("simulated"), Some(1)));

    // not by who wrote it, not on something else, not by just anybody
    for author in [&office.admin, &other_admin] {
        assert_eq!(author.post(&votes_of(&ready), vote(&ready, "approve")).await.refused(403), "second_person_needed");
    }
    let of_fund = format!("/rules/fund:{}", Uuid::now_v7());
    assert_eq!(office.admin.put(&of_fund, json!({"rule_votes": 0})).await.refused(409), "rules_need_approval", "not by way of a fund");
    assert_eq!(office.ann.post(&votes_of(&ready), vote(&change, "approve")).await.refused(409), "rule_change_differs");
    assert_eq!(office.manager.post(&votes_of(&ready), vote(&ready, "approve")).await.refused(403), "forbidden");
    let other = simulated(&office, scope, json!({"rule_votes": 1, "grace_days": 9})).await;
    let told = office.ann.until("/alerts", |page| alerts_of(page, "approval_requested").len() == 2).await;
    let requested = alerts_of(&told, "approval_requested");
    let first = requested.iter().find(|alert| alert["link"] == this).unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!(first["roles"], json!(["admin", "committee"]));
    assert_eq!(first["text"], "a rule change by ada needs votes of others");
    office.ann.post(&votes_of(&ready), vote(&ready, "approve")).await.expect(200);
    let active = office.manager.until(&this, |change| change["status"] == "active").await;
    assert_eq!(active["became"], 2);
    let workflow = office.admin.until(&workflow_of(&active), |workflow| workflow["status"] == "completed").await;
    assert_eq!(steps_of(&workflow), ["validate done", "simulate done", "approve done", "put_in_force done"]);
    assert_eq!((workflow["subject_kind"].as_str(), &workflow["subject_id"]), (Some("rule_change"), &change["id"]));
    assert_eq!(workflow["steps"][2]["note"], "approved by ann");
    office.manager.until(&path, |rules| rules["version"] == 2 && rules["effective"]["allocation_min"] == "20000").await;
    let versions = office.manager.get(&format!("{path}/versions")).await.expect(200);
    assert_eq!(items(&versions)[0]["rule_change_id"], change["id"]);
    assert_eq!(office.bob.post(&votes_of(&active), vote(&active, "deny")).await.refused(409), "rule_change_decided");

    // one that was written against what is not in force any more
    assert_eq!(office.ann.post(&votes_of(&other), vote(&other, "approve")).await.refused(409), "rules_replaced");
    let other = office.admin.put(&format!("/rule-changes/{}", id(&other, "id")), mended).await.expect(200);
    assert_eq!((other["replaces"].as_i64(), &other["simulation"]), (Some(2), &Value::Null));
    let other = office.admin.post(&format!("/rule-changes/{}/simulate", id(&other, "id")), json!({})).await.expect(200);
    let denied = office.ann.post(&votes_of(&other), vote(&other, "deny")).await.expect(200);
    assert_eq!(denied["status"], "denied");
    let refused = office.admin.until(&workflow_of(&denied), |workflow| workflow["status"] == "failed").await;
    assert_eq!(refused["error"]["code"], "approval_denied");
    assert_eq!(
        office.admin.post(&format!("/rule-changes/{}/withdraw", id(&other, "id")), json!({})).await.refused(409),
        "rule_change_decided"
    );

    // back to the first version, as a new one
    let back = json!({"to_version": 1, "comment": "too few deals"});
    assert_eq!(
        office.admin.post(&format!("{path}/roll-back"), json!({"to_version": 7, "comment": "x"})).await.refused(404),
        "unknown_rule_version"
    );
    let back = office.admin.post(&format!("{path}/roll-back"), back).await.expect(201);
    let back = office.admin.post(&format!("/rule-changes/{}/simulate", id(&back, "id")), json!({})).await.expect(200);
    office.bob.post(&votes_of(&back), vote(&back, "approve")).await.expect(200);
    let rules = office.manager.until(&path, |rules| rules["version"] == 3).await;
    assert_eq!((rules["effective"]["allocation_min"].as_str(), rules["effective"]["grace_days"].as_i64()), (Some("1000"), Some(5)));
    let statuses: BTreeSet<String> = items(&office.manager.get("/rule-changes").await.expect(200))
        .iter()
        .map(|change| change["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(statuses, BTreeSet::from(["active".to_owned(), "denied".to_owned()]));
    let first = office.manager.get("/rules/global/versions").await.expect(200);
    assert_eq!((items(&first)[0]["version"].as_i64(), items(&first)[0]["changed_by"].as_str()), (Some(0), Some("deploy/rules")));
}

#[tokio::test]
async fn approved_rules_wait_for_their_time_and_go_back_when_they_do_not_fit_any_more() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let path = "/rules/fund-type:buyout";
    let propose = |rules: Value, days: i64| {
        let from = Utc::now() + chrono::TimeDelta::days(days);
        let body = json!({"rules": rules, "comment": "next year", "active_from": from});
        let admin = &office.admin;
        async move { admin.post(&format!("{path}/changes"), body).await }
    };
    for days in [-1, 400] {
        assert_eq!(propose(json!({}), days).await.refused(422), "implausible_date");
    }
    let mut waiting = Vec::new();
    for (grace_days, days) in [(8, 2), (9, 3)] {
        let change = propose(json!({"grace_days": grace_days}), days).await.expect(201);
        // nobody else is needed in development: with its simulation it is approved, and waits
        let change = office.admin.post(&format!("/rule-changes/{}/simulate", id(&change, "id")), json!({})).await.expect(200);
        assert_eq!(change["status"], "approved");
        let workflow = office.admin.get(&workflow_of(&change)).await.expect(200);
        assert_eq!((workflow["status"].as_str(), &steps_of(&workflow)[3]), (Some("waiting"), &"put_in_force waiting".to_owned()));
        waiting.push(change);
    }
    assert_eq!(office.manager.get(path).await.expect(200)["version"], 0);
    let late = office.ann.post(&votes_of(&waiting[0]), vote(&waiting[0], "deny")).await;
    assert_eq!(late.refused(409), "rule_change_decided");
    // two that each fit alone, and not together
    let mut crossed = Vec::new();
    for (scope, rules) in [("fund-type:venture", json!({"allocation_max": "5000"})), ("global", json!({"allocation_min": "6000"}))] {
        let from = Utc::now() + chrono::TimeDelta::days(2);
        let body = json!({"rules": rules, "comment": "apart", "active_from": from});
        let change = id(&office.admin.post(&format!("/rules/{scope}/changes"), body).await.expect(201), "id");
        office.admin.post(&format!("/rule-changes/{change}/simulate"), json!({})).await.expect(200);
        crossed.push(format!("/rule-changes/{change}"));
    }
    // due while its service was away
    stack.kill("workflow");
    stack.set_clock(2 * 86_400 + 60).await;
    stack.restart("workflow").await;
    office.manager.until(path, |rules| rules["effective"]["grace_days"] == 8 && rules["version"] == 1).await;
    let seen = testkit::wait::until(Duration::from_secs(1), || async {
        stack.log("capital-calls").contains("rules in force scope=\"fund-type:buyout\" version=1")
    });
    assert!(seen.await);
    office.manager.until(&crossed[0], |change| change["status"] == "active").await;
    let stopped = office.manager.until(&crossed[1], |change| change["status"] != "approved").await;
    assert!(stopped["status"] == "draft" && stopped["problems"][0].as_str().unwrap().contains("type venture"), "{stopped:#}");
    // the second was written against version 0
    stack.set_clock(3 * 86_400 + 60).await;
    let second = office.admin.until(&format!("/rule-changes/{}", id(&waiting[1], "id")), |change| change["status"] == "draft").await;
    assert!(second["problems"][0].as_str().unwrap().contains("version 1"), "{second:#}");
    assert_eq!(office.manager.get(path).await.expect(200)["version"], 1);
    let stopped = office.admin.until(&workflow_of(&waiting[1]), |workflow| workflow["status"] == "failed").await;
    assert_eq!((stopped["error"]["code"].as_str(), &second["workflow_id"]), (Some("rule_change_not_ready"), &Value::Null));
    // the venture one, and this one
    let told = office.admin.until("/alerts", |page| alerts_of(page, "rule_change_stopped").len() == 2).await;
    let link = json!(format!("/rule-changes/{}", id(&second, "id")));
    assert!(alerts_of(&told, "rule_change_stopped").iter().any(|alert| alert["link"] == link), "{told:#}");
    let withdrawn = office.admin.post(&format!("/rule-changes/{}/withdraw", id(&second, "id")), json!({})).await.expect(200);
    assert_eq!((withdrawn["status"].as_str(), withdrawn["withdrawn_by"].as_str()), (Some("withdrawn"), Some("ada")));
}

#[tokio::test]
async fn a_simulation_says_what_would_have_been_refused_or_approved() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    for amount in ["15000", "60000", "1000000"] {
        let allocation = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": amount, "security_type": "equity"});
        let accepted = office.analyst.post("/allocations", allocation).await.expect(202);
        office.analyst.until(&format!("/workflows/{}", id(&accepted, "workflow_id")), |_| true).await;
    }
    let tiers = json!([{"from_amount": "50000", "votes": 1, "role": "committee"}]);
    let asked = |scope: String| {
        let rules = json!({"allocation_min": "20000", "approval_tiers": tiers.clone()});
        let manager = &office.manager;
        async move { manager.post(&format!("/rules/{scope}/simulate"), json!({"rules": rules})).await }
    };
    for scope in ["global".to_owned(), "fund-type:buyout".into(), format!("fund:{}", fund.id)] {
        let found = asked(scope).await.expect(200);
        let counts =
            ["looked_at", "newly_refused", "no_longer_refused", "more_votes", "fewer_votes"].map(|field| found[field].as_u64().unwrap());
        assert_eq!(counts, [3, 1, 0, 1, 1], "{found:#}");
        assert_eq!(found["differences"][0]["before"], json!({"kind": "needs_approval", "votes": 2, "roles": ["committee"]}));
        assert_eq!(found["differences"][2]["after"], json!({"kind": "refused", "code": "amount_below_minimum"}));
    }
    assert_eq!(asked("fund-type:venture".into()).await.expect(200)["looked_at"], 0);
    // a fund's own type counts, whatever is said of it
    let layer = json!({"grace_days": 17});
    office.admin.put("/rules/fund-type:buyout", layer).await.expect(200);
    for query in ["", "?fund_type=venture"] {
        let path = format!("/rules/fund:{}{query}", fund.id);
        let rules = office.manager.until(&path, |rules| rules["effective"]["grace_days"] == 17).await;
        assert_eq!(rules["sources"]["grace_days"]["scope"], "fund-type:buyout");
    }
    for bad in
        [json!({"from": "2020-01-01T00:00:00Z"}), json!({"until": "-262143-01-01T00:00:00Z"}), json!({"until": "2999-01-01T00:00:00Z"})]
    {
        let asked = json!({"rules": {}, "from": bad["from"], "until": bad["until"]});
        assert_eq!(office.manager.post("/rules/global/simulate", asked).await.refused(422), "implausible_date", "{bad}");
    }
    let crossed = json!({"rules": {"allocation_min": "200000000"}});
    assert_eq!(office.manager.post("/rules/global/simulate", crossed).await.refused(422), "invalid_rules");
}

#[tokio::test]
async fn votes_that_are_raced_on_two_replicas_are_as_many_as_are_needed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut other = stack.settings.start("workflow", 2).unwrap();
    other.ready().await.unwrap();
    office.admin.put("/rules/fund-type:buyout", json!({"rule_votes": 3})).await.expect(200);
    office.manager.until("/rules/fund-type:buyout", |rules| rules["effective"]["rule_votes"] == 3).await;
    let members: Vec<Client> = (0..8).map(|number| stack.user(&format!("member {number}"), &["committee"])).collect();
    for version in 2..6 {
        let change = simulated(&office, "fund-type:buyout", json!({"rule_votes": 3, "grace_days": version})).await;
        let (path, body) = (votes_of(&change), vote(&change, "approve"));
        let voters = members.iter().chain([&office.admin]).chain(&members);
        let replies = join_all(voters.map(|member| member.post(&path, body.clone()))).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 3);
        for reply in replies.into_iter().filter(|reply| reply.status != 200) {
            let code = reply.body["code"].as_str().unwrap().to_owned();
            assert!(["rule_change_decided", "already_voted", "second_person_needed", "rules_replaced"].contains(&code.as_str()), "{code}");
        }
        let change = office.manager.until(&format!("/rule-changes/{}", id(&change, "id")), |change| change["status"] == "active").await;
        let who: BTreeSet<&str> = change["votes"].as_array().unwrap().iter().map(|vote| vote["user"].as_str().unwrap()).collect();
        assert_eq!((who.len(), change["became"].as_i64()), (3, Some(version)));
    }
    assert_no_deadlocks(&stack).await;
}

#[tokio::test]
async fn a_change_that_is_voted_on_edited_and_withdrawn_at_once_is_put_in_force_whole_or_not_at_all() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut other = stack.settings.start("workflow", 2).unwrap();
    other.ready().await.unwrap();
    let scope = "fund-type:buyout";
    office.admin.put(&format!("/rules/{scope}"), json!({"rule_votes": 1})).await.expect(200);
    office.manager.until(&format!("/rules/{scope}"), |rules| rules["effective"]["rule_votes"] == 1).await;
    let mut ends: Vec<(Value, bool)> = Vec::new();
    // until both have been first
    for round in 0..40 {
        if round >= 8 && ends.iter().any(|(_, is_active)| *is_active) && ends.iter().any(|(_, is_active)| !is_active) {
            break;
        }
        let change = simulated(&office, scope, json!({"rule_votes": 1, "grace_days": 10 + round})).await;
        let this = format!("/rule-changes/{}", id(&change, "id"));
        let edit = json!({"rules": {"rule_votes": 1, "grace_days": 30 + round}, "comment": "more"});
        let path = votes_of(&change);
        let voting = office.ann.post(&path, vote(&change, "approve"));
        // at once, or when it is approved and the step that puts it in force begins
        let withdrawing = async {
            if round / 2 % 2 == 1 {
                office.admin.until(&this, |change| change["status"] != "simulated").await;
            }
            match round % 2 {
                0 => office.admin.post(&format!("{this}/withdraw"), json!({})).await,
                _ => office.admin.put(&this, edit).await,
            }
        };
        let (voted, second) = futures::join!(voting, withdrawing);
        assert!([200, 409].contains(&voted.status) && [200, 409].contains(&second.status), "{voted:?} {second:?}");
        let has_ended = |change: &Value| ["active", "withdrawn", "validated"].contains(&change["status"].as_str().unwrap());
        let end = office.admin.until(&this, has_ended).await;
        let is_active = end["status"] == "active";
        assert_eq!((is_active, is_active), (second.status == 409, end["became"].is_i64()), "{end:#}");
        assert_eq!(
            is_active,
            end["rules"]["grace_days"] == 10 + round && end["withdrawn_by"].is_null(),
            "what was voted on, and nothing else"
        );
        // the workflow of what was voted on ends as the change did
        let status = if is_active { "completed" } else { "failed" };
        office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == status).await;
        ends.push((end["id"].clone(), is_active));
    }
    let versions = office.manager.get(&format!("/rules/{scope}/versions")).await.expect(200);
    let of_changes: BTreeSet<String> =
        items(&versions).iter().filter_map(|version| Some(version["rule_change_id"].as_str()?.to_owned())).collect();
    let active: BTreeSet<String> = ends.iter().filter(|(_, is_active)| *is_active).map(|(id, _)| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(of_changes, active);
    assert!(!active.is_empty() && active.len() < ends.len(), "each was first at least once");
    assert_eq!(items(&versions).len(), active.len() + 1, "each in force once");
    assert_no_deadlocks(&stack).await;
}

#[tokio::test]
async fn changes_that_many_people_work_on_at_once_do_not_wait_in_a_circle() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let mut other = stack.settings.start("workflow", 2).unwrap();
    other.ready().await.unwrap();
    let mut changes = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let scope = format!("fund-type:{name}");
        office.admin.put(&format!("/rules/{scope}"), json!({"rule_votes": 1})).await.expect(200);
        office.manager.until(&format!("/rules/{scope}"), |rules| rules["effective"]["rule_votes"] == 1).await;
        changes.push(simulated(&office, &scope, json!({"rule_votes": 1, "grace_days": 9})).await);
    }
    let paths: Vec<String> = changes.iter().map(|change| format!("{}/actions", workflow_of(change))).collect();
    for _ in 0..4 {
        let steer = |action: &str| json!({"action": action, "reason": "a holiday"});
        let paused = join_all(paths.iter().rev().map(|path| office.admin.post(path, steer("pause"))));
        let voted = join_all(changes.iter().map(|change| async { office.ann.post(&votes_of(change), vote(change, "approve")).await }));
        let again =
            join_all(changes.iter().rev().map(|change| async { office.bob.post(&votes_of(change), vote(change, "approve")).await }));
        let resumed = join_all(paths.iter().map(|path| office.admin.post(path, steer("resume"))));
        let replies = futures::join!(paused, voted, again, resumed);
        for reply in [replies.0, replies.1, replies.2, replies.3].into_iter().flatten() {
            assert!([200, 409].contains(&reply.status), "{reply:?}");
        }
    }
    // what was paused last goes on
    join_all(paths.iter().map(|path| office.admin.post(path, json!({"action": "resume", "reason": "it is over"})))).await;
    for change in &changes {
        let end = office.manager.until(&format!("/rule-changes/{}", id(change, "id")), |change| change["status"] == "active").await;
        assert_eq!((end["votes"].as_array().map(Vec::len), &end["became"]), (Some(1), &json!(2)));
        office.admin.until(&workflow_of(change), |workflow| workflow["status"] == "completed").await;
    }
    assert_no_deadlocks(&stack).await;
}

#[tokio::test]
async fn changes_of_rules_go_through_the_steps_of_the_firm() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let step = |step: &str| json!({"step": step});
    let ask = json!({"step": "ask", "program": "counsel"});
    let steps = |steps: &[Value]| json!({"rule_change_steps": steps});
    let (validate, simulate, approve, put) = (step("validate"), step("simulate"), step("approve"), step("put_in_force"));
    for (scope, layer, why) in [
        ("fund-type:buyout", steps(&[validate.clone(), simulate.clone(), approve.clone(), put.clone()]), "put them in global"),
        ("global", steps(&[validate.clone(), approve.clone(), simulate.clone(), put.clone()]), "simulate"),
        (
            "global",
            steps(&[validate.clone(), simulate.clone(), json!({"step": "check", "predicate": "x"}), approve.clone(), put.clone()]),
            "check",
        ),
        ("global", steps(&[validate.clone(), simulate.clone(), put.clone()]), "approve"),
        (
            "global",
            json!({"approval_tiers": [{"from_amount": "0", "votes": 1, "role": "committee", "kinds": ["rule_change"]}]}),
            "rule_votes",
        ),
    ] {
        let refused = office.admin.put(&format!("/rules/{scope}"), layer).await;
        assert_eq!(refused.refused(422), "invalid_rules");
        assert!(refused.body["detail"].as_str().unwrap().contains(why), "{}", refused.body);
    }
    let of_firm = json!({
        "rule_change_steps": [validate, ask, simulate, approve, put],
        "programs": {"counsel": {"timeout_seconds": 2, "attempts": 500, "when_absent": "hold", "undo": true}},
    });
    office.admin.put("/rules/global", of_firm.clone()).await.expect(200);
    let program = Program::start(&stack, "counsel").await;
    let path = "/rules/fund-type:buyout";
    let at_once = office.admin.put(path, json!({"grace_days": 7})).await;
    assert_eq!(at_once.refused(409), "rules_need_approval");
    assert!(at_once.body["detail"].as_str().unwrap().contains("the step ask"), "{}", at_once.body);
    let propose = |grace_days: u16| {
        let body = json!({"rules": {"grace_days": grace_days}, "comment": "why"});
        let admin = &office.admin;
        async move { admin.post(&format!("{path}/changes"), body).await.expect(201) }
    };
    let this = |change: &Value| format!("/rule-changes/{}", id(change, "id"));

    // simulated while the program is at its question: it is not forgotten
    program.does(THINKS);
    let change = propose(7).await;
    office.admin.until(&workflow_of(&change), |workflow| workflow["steps"][1]["status"] == "running").await;
    let simulated = office.admin.post(&format!("{}/simulate", this(&change)), json!({})).await.expect(200);
    assert_eq!(simulated["status"], "approved", "nobody else is needed in development");
    program.does(AGREES);
    let workflow = office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "completed").await;
    assert_eq!(workflow["steps"][1]["note"], "seen");
    assert_eq!(workflow["rules"]["layers"].as_array().unwrap().iter().filter(|layer| layer["scope"] == "global").count(), 2);
    assert_eq!(office.admin.get(&this(&change)).await.expect(200)["status"], "active");
    office.manager.until(path, |rules| rules["version"] == 1 && rules["effective"]["grace_days"] == 7).await;

    // refused by the program, or ended by an admin
    program.does(REFUSES);
    let change = propose(8).await;
    let refused = office.admin.until(&this(&change), |change| change["status"] == "denied").await;
    assert!(refused["refused_because"].as_str().unwrap().contains("on a list"), "{refused:#}");
    office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "failed").await;
    assert_eq!(office.admin.post(&format!("{}/simulate", this(&change)), json!({})).await.refused(409), "rule_change_decided");
    program.does(AGREES);
    let change = propose(8).await;
    office.admin.until(&workflow_of(&change), |workflow| steps_of(workflow).contains(&"simulate waiting".into())).await;
    let cancel = json!({"action": "cancel", "reason": "not this year"});
    office.admin.post(&format!("{}/actions", workflow_of(&change)), cancel).await.expect(200);
    let ended = office.admin.until(&this(&change), |change| change["status"] == "denied").await;
    assert!(ended["refused_because"].as_str().unwrap().contains("not this year"), "{ended:#}");
    office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "failed").await;

    // one that an admin has stopped is not set going by writing it anew
    let change = propose(9).await;
    office.admin.until(&workflow_of(&change), |workflow| steps_of(workflow).contains(&"simulate waiting".into())).await;
    let actions = format!("{}/actions", workflow_of(&change));
    office.admin.post(&actions, json!({"action": "pause", "reason": "compliance"})).await.expect(200);
    let anew = json!({"rules": {"grace_days": 10}, "comment": "why"});
    let refused = office.admin.put(&this(&change), anew).await;
    assert_eq!(refused.refused(409), "workflow_paused");
    assert!(refused.body["detail"].as_str().unwrap().contains("compliance"), "{}", refused.body);
    office.admin.post(&format!("{}/withdraw", this(&change)), json!({})).await.expect(200);
    office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "failed").await;

    // written anew: the program hears that the first is given up, and is asked about the second
    let change = propose(9).await;
    office.admin.until(&workflow_of(&change), |workflow| steps_of(workflow).contains(&"simulate waiting".into())).await;
    let told = program.undone.load(Ordering::Relaxed);
    let again = office.admin.put(&this(&change), json!({"rules": {"grace_days": 10}, "comment": "why"})).await.expect(200);
    assert_ne!(again["workflow_id"], change["workflow_id"]);
    let first = office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "failed").await;
    assert_eq!((first["error"]["code"].as_str(), program.undone.load(Ordering::Relaxed)), (Some("withdrawn"), told + 1));
    office.admin.until(&workflow_of(&again), |workflow| steps_of(workflow).contains(&"simulate waiting".into())).await;
    let withdrawn = office.admin.post(&format!("{}/withdraw", this(&change)), json!({})).await.expect(200);
    assert_eq!(withdrawn["status"], "withdrawn");
    office.admin.until(&workflow_of(&again), |workflow| workflow["status"] == "failed").await;
    assert_eq!(program.undone.load(Ordering::Relaxed), told + 2);

    // taken back while the program thinks: it does not come into force when it agrees; and nobody of a single fund sees the firm's
    program.does(THINKS);
    let change = propose(11).await;
    office.admin.until(&workflow_of(&change), |workflow| workflow["steps"][1]["status"] == "running").await;
    office.admin.post(&format!("{}/simulate", this(&change)), json!({})).await.expect(200);
    office.admin.post(&format!("{}/withdraw", this(&change)), json!({})).await.expect(200);
    program.does(AGREES);
    office.admin.until(&workflow_of(&change), |workflow| workflow["status"] == "failed").await;
    assert_eq!(office.admin.get(&this(&change)).await.expect(200)["became"], Value::Null);
    let token = testkit::client::token(&stack.settings.jwt_secret, "else", &["admin"], Some(&[Uuid::now_v7()]), 600);
    let of_one_fund = stack.with_token(Some(token));
    assert_eq!(of_one_fund.get(&workflow_of(&change)).await.refused(403), "fund_out_of_scope");
    assert_eq!(of_one_fund.get(&this(&change)).await.refused(403), "fund_out_of_scope");

    // the steps themselves are changed by their own rules; what was written before them goes through the new ones, too
    let from = Utc::now() + chrono::TimeDelta::days(1);
    let later = json!({"rules": {"grace_days": 12}, "comment": "later", "active_from": from});
    let later = office.admin.post("/rules/fund-type:venture/changes", later).await.expect(201);
    office.admin.until(&workflow_of(&later), |workflow| steps_of(workflow).contains(&"simulate waiting".into())).await;
    office.admin.post(&format!("{}/simulate", this(&later)), json!({})).await.expect(200);
    let mut more = of_firm.clone();
    more["rule_change_steps"].as_array_mut().unwrap().insert(2, json!({"step": "ask", "program": "auditors"}));
    more["programs"]["auditors"] = json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "go_on"});
    let change = office.admin.post("/rules/global/changes", json!({"rules": more, "comment": "auditors, too"})).await.expect(201);
    office.admin.post(&format!("{}/simulate", this(&change)), json!({})).await.expect(200);
    office.admin.until(&this(&change), |change| change["status"] == "active").await;
    stack.set_clock(86_400 + 60).await;
    let stopped = office.admin.until(&this(&later), |change| change["status"] == "draft").await;
    assert!(stopped["problems"][0].as_str().unwrap().contains("the program auditors"), "{stopped:#}");
    // who says the same again has it looked at anew: its problem is gone, for its new workflow asks them
    let again = json!({"rules": {"grace_days": 12}, "comment": "later"});
    let again = office.admin.put(&this(&later), again).await.expect(200);
    assert_eq!((again["status"].as_str(), &again["problems"]), (Some("validated"), &json!([])));
    let back = json!({"rules": {}, "comment": "without counsel"});
    let change = office.admin.post("/rules/global/changes", back).await.expect(201);
    office.admin.post(&format!("{}/simulate", this(&change)), json!({})).await.expect(200);
    office.admin.until(&this(&change), |change| change["status"] == "active").await;
    office.admin.put(path, json!({"grace_days": 7})).await.expect(200);
}

#[tokio::test]
async fn each_decision_names_rules_that_were_in_force_while_rules_change() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let scope = "fund-type:buyout";
    // by an odd version 2,000 is enough, by an even one it is not
    let layer = |version: u64| json!({"allocation_min": if version % 2 == 1 { "1000" } else { "3000" }, "allocations_per_deal_max": 20});
    office.admin.put(&format!("/rules/{scope}"), layer(1)).await.expect(200);
    let known = || async { stack.log("allocation-status").contains(&format!("rules in force scope=\"{scope}\" version=1")) };
    assert!(testkit::wait::until(Duration::from_secs(5), known).await);
    let (mut funds, mut deals) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        funds.push(office.fund(0).await.id);
    }
    for _ in 0..50 {
        deals.push(office.deal(&stack).await);
    }
    // each fund into each deal: a thousand, of which each request has a hundred
    let batch = |round: usize| {
        let of = |n: usize| json!({"deal_id": deals[n / 20], "fund_id": funds[n % 20], "amount": "2000", "security_type": "equity"});
        let allocations: Vec<Value> = (round * 100..(round + 1) * 100).map(of).collect();
        let analyst = &office.analyst;
        let body = json!({"allocations": allocations});
        async move { analyst.post_patiently("/allocations/batch", &Uuid::now_v7().to_string(), &body).await }
    };
    let put = |version: u64| {
        let admin = &office.admin;
        async move { admin.put(&format!("/rules/{scope}"), layer(version)).await.expect(200) }
    };
    let known = |version: u64| {
        let stack = &stack;
        async move {
            let line = format!("rules in force scope=\"{scope}\" version={version}");
            assert!(testkit::wait::until(Duration::from_secs(5), || async { stack.log("allocation-status").contains(&line) }).await);
        }
    };
    let first = batch(0).await;
    put(2).await;
    known(2).await;
    let second = batch(1).await;
    let rules = async {
        for version in 3..=7 {
            put(version).await;
        }
    };
    let (others, ()) = futures::join!(join_all((2..9).map(batch)), rules);
    known(7).await;
    let replies = [first, second].into_iter().chain(others).chain([batch(9).await]);
    let outcomes: Vec<Value> = replies.flat_map(|reply| reply.expect(200)["outcomes"].as_array().unwrap().clone()).collect();
    let accepted: BTreeSet<Uuid> = outcomes.iter().filter_map(|outcome| outcome["allocation_id"].as_str()?.parse().ok()).collect();
    let refused: Vec<&Value> = outcomes.iter().filter(|outcome| outcome["outcome"] == "refused").collect();
    assert_eq!(accepted.len() + refused.len(), 1_000);
    assert!(accepted.len() >= 200 && refused.len() >= 100, "the first and the last hundred are accepted, the second is refused");
    assert!(refused.iter().all(|outcome| outcome["problem"]["code"] == "amount_below_minimum"), "{refused:#?}");
    let database = stack.database().await;
    let used: Vec<(Uuid, Value)> =
        sqlx::query_as("select id, rules from allocation_status.allocations").fetch_all(&database).await.unwrap();
    assert_eq!(used.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), accepted);
    let mut versions = BTreeSet::new();
    for (allocation, rules) in &used {
        let layer = rules["layers"].as_array().unwrap().iter().find(|layer| layer["scope"] == scope).unwrap();
        let version = layer["version"].as_u64().unwrap();
        assert!(version % 2 == 1 && version <= 7, "allocation {allocation} was accepted by version {version}");
        assert_eq!(rules["content_hash"].as_str().unwrap().len(), 64);
        versions.insert(version);
    }
    assert!(versions.contains(&1) && versions.contains(&7), "{versions:?}");
    // the workflows keep to rules that were in force too
    let there =
        "select count(*) from workflow.workflows where jsonb_path_exists(rules, '$.layers[*] ? (@.version >= 1 && @.version <= 7)')";
    let all = testkit::wait::until(Duration::from_secs(20), || async {
        sqlx::query_scalar::<_, i64>(there).fetch_one(&database).await.unwrap() == accepted.len() as i64
    });
    assert!(all.await);
}
