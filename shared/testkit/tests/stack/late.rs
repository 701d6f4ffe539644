//! Investors who pay late or not at all.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Fund, Office, assert_sums, id, lines, payment_on, today};

/// A call of 300.00 over three investors that was due long ago, with 10 percent interest and no grace.
async fn overdue_call(stack: &Stack, office: &Office) -> (Fund, Value) {
    let fund = office.fund(3).await;
    let allocation = office.allocation(stack, &fund, "500000").await;
    let rules = json!({"grace_days": 0, "cure_business_days": 3, "cover_cap_percent": "40",
                       "default_interest": {"percent": "10", "cap_percent": "100"}});
    office.admin.put(&format!("/rules/fund:{}", fund.id), rules).await.expect(200);
    // each call is issued with the rules that capital-calls knows
    let mut number = 0;
    loop {
        number += 1;
        assert!(number < 100, "the rules are not in force");
        let call = office.call(&fund, allocation, "300.00", "2026-03-31").await;
        if lines(&call)[0]["default_interest"]["percent"] == "10" {
            return (fund, call);
        }
        office
            .manager
            .post(&format!("/capital-calls/{}/rescind", id(&call, "id")), json!({"reason": "before the rules"}))
            .await
            .expect(200);
    }
}

async fn pay(office: &Office, line: Uuid, amount: &str, reference: &str, value_on: &str) -> Value {
    let payment = payment_on(amount, reference, value_on);
    office.treasurer.post(&format!("/call-lines/{line}/payments"), payment).await.expect(201)
}

fn parts(value: &Value, fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value:#}")).to_owned()).collect()
}

#[tokio::test]
async fn interest_is_paid_after_principal_and_corrected_by_what_was_paid_in_time_after_all() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = overdue_call(&stack, &office).await;
    let line = id(&lines(&call)[0], "id");
    let at = async |query: &str| office.auditor.get(&format!("/call-lines/{line}{query}")).await.expect(200);
    let standing = at("?as_of=2026-06-12").await["standing"].clone();
    // 100.00 for 73 days at 10 percent
    assert_eq!(parts(&standing, &["outstanding", "timing", "interest_accrued"]), ["100.00", "overdue", "2.00"]);
    assert_eq!(standing["days_overdue"], 73);
    pay(&office, line, "100.00", "late", "2026-06-12").await;
    let interest = pay(&office, line, "3.00", "with interest", "2026-06-20").await;
    assert_eq!(parts(&interest, &["applied", "interest", "unapplied"]), ["0.00", "2.00", "1.00"]);
    let paid = at("").await;
    assert_eq!(parts(&paid, &["paid", "interest_paid", "unapplied", "timing"]), ["100.00", "2.00", "1.00", "settled"]);
    // half of it had come on the due date: it is recorded now, and the interest is less by half
    let early = pay(&office, line, "50.00", "found in March", "2026-03-31").await;
    assert_eq!(parts(&early, &["applied", "unapplied"]), ["50.00", "0.00"]);
    let corrected = at("").await;
    assert_eq!(parts(&corrected, &["paid", "interest_paid", "unapplied"]), ["100.00", "1.00", "52.00"]);
    let history: Vec<Vec<String>> =
        corrected["overdue_history"].as_array().unwrap().iter().map(|step| parts(step, &["from", "outstanding"])).collect();
    assert_eq!(history, [["2026-03-31", "50.00"], ["2026-06-12", "0.00"]]);
    // when it bounces everything is as before, and the audit has both
    let reversal = json!({"reason": "returned", "effective_on": "2026-07-01"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&early, "id")), reversal).await.expect(200);
    assert_eq!(parts(&at("").await, &["paid", "interest_paid", "unapplied"]), ["100.00", "2.00", "1.00"]);
    assert_eq!(office.auditor.get("/audit/verify").await.expect(200)["valid"], true);
    office
        .manager
        .until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "100.00" && metrics["unapplied"] == "1.00")
        .await;
    assert_sums(&stack);
}

#[tokio::test]
async fn a_failure_is_noticed_may_be_cured_and_ends_in_default_only_by_a_person() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = overdue_call(&stack, &office).await;
    let [cured, failed, other] = [0, 1, 2].map(|place| id(&lines(&call)[place], "id"));
    let act = async |line: Uuid, act: &str, body: Value| office.manager.post(&format!("/call-lines/{line}/{act}"), body).await;
    let why = || json!({"reason": "no cash by the due date"});
    pay(&office, other, "200.00", "in time", "2026-03-31").await;
    assert_eq!(act(other, "failure-notice", why()).await.refused(409), "nothing_outstanding");
    assert_eq!(act(cured, "default", why()).await.refused(409), "cure_time_runs");
    assert_eq!(office.treasurer.post(&format!("/call-lines/{cured}/failure-notice"), why()).await.refused(403), "forbidden");
    for line in [cured, failed] {
        let noticed = act(line, "failure-notice", why()).await.expect(200);
        assert_eq!(noticed["timing"], "default_noticed");
        assert!(noticed["failure_notice"]["cure_by"].as_str().unwrap() > today().to_string().as_str());
    }
    assert_eq!(act(failed, "failure-notice", why()).await.refused(409), "failure_noticed");
    assert_eq!(act(failed, "default", why()).await.refused(409), "cure_time_runs");
    pay(&office, cured, "150.00", "with interest", &today().to_string()).await;
    let line = office.auditor.get(&format!("/call-lines/{cured}")).await.expect(200);
    assert_eq!(parts(&line, &["cured_on", "timing"]), [today().to_string().as_str(), "settled"]);
    // after the deadline a person declares it; nothing did so before
    stack.set_clock(9 * 86_400).await;
    let declared = testkit::wait::until(std::time::Duration::from_secs(10), || async { act(failed, "default", why()).await.status == 200 });
    assert!(declared.await, "the time for a cure is over");
    assert_eq!(act(failed, "default", why()).await.refused(409), "already_in_default");
    assert_eq!(act(cured, "default", why()).await.refused(409), "nothing_outstanding");
    let line = office.auditor.get(&format!("/call-lines/{failed}")).await.expect(200);
    assert_eq!(line["timing"], "defaulted");
    let commitments = office.manager.get(&format!("/funds/{}/commitments", fund.id)).await.expect(200);
    let of =
        |investor: &Value| commitments["items"].as_array().unwrap().iter().find(|known| known["investor_id"] == *investor).unwrap().clone();
    assert_eq!(of(&line["investor_id"])["status"], "defaulted");

    // the others pay at most 40 percent of their own lines
    let due = json!({"due_on": "2099-12-31", "reason": "shortfall"});
    assert_eq!(act(cured, "cover", due.clone()).await.refused(409), "not_in_default");
    let covered = act(failed, "cover", due.clone()).await.expect(201);
    assert_eq!(covered["covered"], "80.00");
    assert_eq!(parts(&covered["line"], &["amount", "outstanding", "disposition"]), ["20.00", "20.00", "covered_by_others"]);
    let seen = office.auditor.get(&format!("/call-lines/{failed}")).await.expect(200);
    for figure in ["interest_due", "timing", "version", "paid"] {
        assert_eq!(covered["line"][figure], seen[figure], "{figure}");
    }
    let others = office.manager.get(&format!("/capital-calls/{}", id(&covered["call"], "id"))).await.expect(200);
    let amounts: Vec<&Value> = lines(&others).iter().map(|line| &line["amount"]).collect();
    assert_eq!((amounts, &others["covers_line_id"]), (vec![&json!("40.00"), &json!("40.00")], &json!(failed)));
    let reduced = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!((&reduced["amount"], &reduced["purposes"][0]["amount"]), (&json!("220.00"), &json!("220.00")));
    // the cap counts what was asked before, and the call to the others stays as long as the line is covered
    assert_eq!(act(failed, "cover", due.clone()).await.refused(409), "nothing_covered");
    let rescind = format!("/capital-calls/{}/rescind", id(&others, "id"));
    assert_eq!(office.manager.post(&rescind, json!({"reason": "?"})).await.refused(409), "shortfall_covered");
    let closing = json!({"commitments": [{"investor_id": fund.investors[0], "amount": "1.00"}], "closed_on": "2026-07-01", "due_on": "2026-07-15", "interest_percent": "0"});
    assert_eq!(office.admin.post(&format!("/funds/{}/closings", fund.id), closing).await.refused(409), "shortfall_covered");

    let remedy =
        |kind: &str, amount: Option<&str>| json!({"kind": kind, "amount": amount, "effective_on": "2026-08-01", "reason": "agreed"});
    assert_eq!(act(failed, "remedies", remedy("set_off", Some("20.01"))).await.refused(422), "remedy_mismatch");
    assert_eq!(act(failed, "remedies", remedy("reinstate", Some("1.00"))).await.refused(422), "remedy_mismatch");
    assert_eq!(act(cured, "remedies", remedy("reinstate", None)).await.refused(409), "not_in_default");
    let set_off = act(failed, "remedies", remedy("set_off", Some("20.00"))).await.expect(201);
    let line = office.auditor.get(&format!("/call-lines/{failed}")).await.expect(200);
    assert_eq!(parts(&line, &["paid", "outstanding"]), ["20.00", "0.00"]);
    let payment = office.auditor.get(&format!("/payments/{}", id(&set_off["remedy"], "payment_id"))).await.expect(200);
    assert_eq!(payment["method"], "internal_transfer");
    assert_eq!(act(failed, "remedies", remedy("sale", None)).await.refused(422), "remedy_mismatch");
    assert_eq!(act(failed, "remedies", remedy("sale", Some("100000.00"))).await.expect(201)["commitment"]["status"], "sold");
    assert_eq!(act(failed, "remedies", remedy("forfeit", Some("500000.00"))).await.expect(201)["commitment"]["status"], "forfeited");
    assert_eq!(act(failed, "remedies", remedy("reinstate", None)).await.refused(422), "implausible_date", "before the default");
    let mut reinstated = remedy("reinstate", None);
    reinstated["effective_on"] = line["default"]["declared_on"].clone();
    assert_eq!(act(failed, "remedies", reinstated).await.expect(201)["commitment"]["status"], "active");
    assert_eq!(act(failed, "remedies", remedy("forfeit", Some("1.00"))).await.refused(409), "not_in_default", "any more");
    let listed = office.auditor.get(&format!("/call-lines/{failed}/remedies")).await.expect(200);
    let kinds: Vec<&str> = listed["items"].as_array().unwrap().iter().map(|remedy| remedy["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["set_off", "sale", "forfeit", "reinstate"]);

    // interest of what others took over is owed until then, and of what was set off until its value date
    let taken_over = today() + chrono::Days::new(9) - "2026-03-31".parse::<chrono::NaiveDate>().unwrap();
    let cent_days = 80_00 * taken_over.num_days() + 20_00 * 123;
    let cents = (2 * cent_days * 10 + 36_500) / (2 * 36_500);
    let owed = format!("{}.{:02}", cents / 100, cents % 100);
    let line = office.auditor.get(&format!("/call-lines/{failed}")).await.expect(200);
    assert_eq!(parts(&line, &["interest_due", "timing"]), [owed.as_str(), "defaulted"]);
    let on = today() + chrono::Days::new(9);
    let interest = pay(&office, failed, &owed, "interest", &on.to_string()).await;
    assert_eq!(parts(&interest, &["applied", "interest", "unapplied"]), ["0.00", owed.as_str(), "0.00"]);
    let line = office.auditor.get(&format!("/call-lines/{failed}")).await.expect(200);
    assert_eq!(parts(&line, &["interest_due", "timing"]), ["0.00", "settled"]);
    assert_sums(&stack);
    // when the deal falls through nobody is asked for it any more
    let rescind = format!("/capital-calls/{}/rescind", id(&call, "id"));
    office.manager.post(&rescind, json!({"reason": "fell through"})).await.expect(200);
    let others = office.manager.get(&format!("/capital-calls/{}", id(&others, "id"))).await.expect(200);
    assert_eq!((others["decision"].as_str(), others["amount"].as_str()), (Some("rescinded"), Some("80.00")));
    assert!(lines(&others).iter().all(|line| line["amount"] == "0.00"), "{others:#}");
    assert_sums(&stack);
}
