//! Commitments that change, and investors who join later.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, assert_sums, id, items, lines};

async fn commitment_of(office: &Office, fund: Uuid, investor: Uuid) -> Value {
    let commitments = office.manager.get(&format!("/funds/{fund}/commitments")).await.expect(200);
    items(&commitments).iter().find(|commitment| id(commitment, "investor_id") == investor).unwrap().clone()
}

fn figures(commitment: &Value) -> [&str; 3] {
    ["amount", "called", "unfunded"].map(|field| commitment[field].as_str().unwrap())
}

fn expenses(amount: &str, due_on: &str) -> Value {
    json!({"purposes": [{"kind": "expenses", "amount": amount, "inside_commitment": true}], "due_on": due_on})
}

async fn issue(office: &Office, fund: Uuid, call: Value) -> Value {
    let accepted = office.manager.post(&format!("/funds/{fund}/capital-calls"), call).await.expect(202);
    let path = format!("/capital-calls/{}", id(&accepted, "capital_call_id"));
    office.manager.until(&path, |call| call["decision"] == "issued").await
}

#[tokio::test]
async fn commitments_are_raised_lowered_released_and_seen_as_of_a_date() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let wanted = json!({"investor_ids": [fund.investors[1], Uuid::nil()]});
    let found = office.manager.post("/investors/find", wanted).await.expect(200);
    assert_eq!((items(&found).len(), &items(&found)[0]["name"]), (1, &json!("Investor 1")), "{found:#}");
    assert_eq!(office.manager.post("/investors/find", json!({"investor_ids": []})).await.refused(413), "request_too_large");
    let commitment = commitment_of(&office, fund.id, fund.investors[0]).await;
    let path = format!("/commitments/{}", id(&commitment, "id"));
    let change = |kind: &str, amount: &str, from: &str| json!({"kind": kind, "amount": amount, "effective_on": from, "reason": "agreed"});
    let changes = format!("{path}/changes");
    office.admin.post(&changes, change("increase", "500000.00", "2021-01-01")).await.expect(200);
    let reduced = office.admin.post(&changes, change("reduction", "250000.00", "2022-01-01")).await.expect(200);
    assert_eq!(figures(&reduced), ["1250000.00", "0.00", "1250000.00"]);
    assert_eq!(office.admin.post(&changes, change("reduction", "1250000.01", "2022-01-01")).await.refused(409), "commitment_drawn");
    assert_eq!(office.admin.post(&changes, change("increase", "0.001", "2022-01-01")).await.refused(422), "amount_precision");
    assert_eq!(office.manager.post(&changes, change("increase", "1.00", "2022-01-01")).await.refused(403), "forbidden");
    let nobody = format!("/commitments/{}/changes", Uuid::nil());
    assert_eq!(office.admin.post(&nobody, change("increase", "1.00", "2022-01-01")).await.refused(404), "unknown_commitment");
    // 1,250,000 and 1,000,000 share it
    let call = issue(&office, fund.id, expenses("225.00", "2099-06-30")).await;
    let amounts: Vec<&str> = lines(&call).iter().map(|line| line["amount"].as_str().unwrap()).collect();
    assert!(amounts.contains(&"125.00") && amounts.contains(&"100.00"), "{amounts:?}");
    for (as_of, expected) in [
        ("2019-12-31", ["0.00", "0.00", "0.00"]),
        ("2020-06-01", ["1000000.00", "0.00", "1000000.00"]),
        ("2021-06-01", ["1500000.00", "0.00", "1500000.00"]),
        ("2022-06-01", ["1250000.00", "0.00", "1250000.00"]),
        ("2098-06-01", ["1250000.00", "125.00", "1249875.00"]),
    ] {
        let then = office.auditor.get(&format!("{path}?as_of={as_of}")).await.expect(200);
        assert_eq!(figures(&then), expected, "as of {as_of}");
        let of_fund = office.auditor.get(&format!("/funds/{}/commitments?as_of={as_of}", fund.id)).await.expect(200);
        let listed = items(&of_fund).iter().find(|listed| listed["id"] == commitment["id"]).unwrap();
        assert_eq!(figures(listed), expected, "listed as of {as_of}");
    }
    let released = json!({"kind": "release", "effective_on": "2026-01-01", "reason": "end of the investment period"});
    let released = office.admin.post(&changes, released).await.expect(200);
    assert_eq!((figures(&released), &released["status"]), (["125.00", "125.00", "0.00"], &json!("released")));
    let whole = office.auditor.get(&path).await.expect(200);
    let kinds: Vec<&str> = whole["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["initial", "increase", "reduction", "release"]);
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["committed"] == "1000125.00").await;
}

#[tokio::test]
async fn nothing_is_taken_away_before_it_was_there() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let buyer = id(&office.admin.post("/investors", json!({"name": "Secondary Buyer"})).await.expect(201), "id");
    let commitment = commitment_of(&office, fund.id, fund.investors[0]).await;
    let changes = format!("/commitments/{}/changes", id(&commitment, "id"));
    let transfers = format!("/commitments/{}/transfers", id(&commitment, "id"));
    let change = |kind: &str, amount: &str, on: &str| json!({"kind": kind, "amount": amount, "effective_on": on, "reason": "agreed"});
    let sale = |on: &str| json!({"to_investor_id": buyer, "amount": "10.00", "drawn": null, "effective_on": on, "reason": "sold"});
    // 1,000,000 from 2020 on, and as much again from March on
    office.admin.post(&changes, change("increase", "1000000.00", "2026-03-01")).await.expect(200);
    for on in ["2019-12-31", "2026-02-28"] {
        assert_eq!(office.admin.post(&changes, change("reduction", "1500000.00", on)).await.refused(409), "commitment_drawn", "{on}");
    }
    assert_eq!(office.admin.post(&changes, change("reduction", "1.00", "2019-12-31")).await.refused(409), "commitment_drawn");
    assert_eq!(office.admin.post(&changes, change("increase", "1.00", "2019-12-31")).await.refused(422), "implausible_date");
    assert_eq!(office.admin.post(&transfers, sale("2019-12-31")).await.refused(422), "transfer_mismatch");
    office.admin.post(&changes, change("reduction", "1500000.00", "2026-03-01")).await.expect(200);
    let then = office.manager.get(&format!("/commitments/{}?as_of=2026-02-28", id(&commitment, "id"))).await.expect(200);
    assert_eq!(figures(&then), ["1000000.00", "0.00", "1000000.00"]);
}

#[tokio::test]
async fn a_transfer_moves_both_sides_or_none() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let buyer = id(&office.admin.post("/investors", json!({"name": "Secondary Buyer"})).await.expect(201), "id");
    issue(&office, fund.id, expenses("400000.00", "2099-06-30")).await;
    let seller = commitment_of(&office, fund.id, fund.investors[0]).await;
    let path = format!("/commitments/{}/transfers", id(&seller, "id"));
    let transfer = |amount: &str, drawn: Option<&str>, to: Uuid| json!({"to_investor_id": to, "amount": amount, "drawn": drawn, "effective_on": "2026-07-01", "reason": "sold"});
    let moved = office.admin.post(&path, transfer("500000.00", Some("100000.00"), buyer)).await.expect(200);
    assert_eq!(figures(&moved["from"]), ["500000.00", "200000.00", "400000.00"]);
    assert_eq!(figures(&moved["to"]), ["500000.00", "0.00", "400000.00"]);
    // what was drawn of the interest before is unfunded with neither
    for (investor, called) in [(buyer, "0.00"), (fund.investors[0], "200000.00")] {
        let is_told = |metrics: &Value| metrics["items"][0]["called"] == called && metrics["items"][0]["unfunded"] == "400000.00";
        office.manager.until(&format!("/investors/{investor}/metrics"), is_told).await;
    }
    for (amount, drawn, to, expected) in [
        ("400000.01", None, buyer, "commitment_drawn"),
        ("500000.01", None, buyer, "transfer_mismatch"),
        ("1.00", None, fund.investors[0], "transfer_mismatch"),
    ] {
        let code = office.admin.post(&path, transfer(amount, drawn, to)).await;
        assert_eq!(code.text("code"), expected, "{amount}");
    }
    // several transfers at once, over and back: the sum stays
    let back = format!("/commitments/{}/transfers", id(&moved["to"], "id"));
    let crossing = (0..8).map(|number| {
        let (path, to) = if number % 2 == 0 { (&path, buyer) } else { (&back, fund.investors[0]) };
        office.admin.post(path, transfer("1000.00", None, to))
    });
    for reply in futures::future::join_all(crossing).await {
        reply.expect(200);
    }
    let of_fund = office.manager.get(&format!("/funds/{}/commitments", fund.id)).await.expect(200);
    let sum = |field: &str| crate::office::sum(items(&of_fund), field).to_string();
    assert_eq!((sum("amount"), sum("called"), sum("unfunded")), ("2000000.00".into(), "400000.00".into(), "1600000.00".into()));
    // the next call is split by who holds what now
    let call = issue(&office, fund.id, expenses("200.00", "2099-07-31")).await;
    assert_eq!(lines(&call).len(), 3);
    assert_sums(&stack);
}

#[tokio::test]
async fn a_call_is_taken_back_while_a_later_one_draws_on_what_is_promised_later() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 1, "1000.00").await;
    let raised = commitment_of(&office, fund.id, fund.investors[0]).await;
    let first = issue(&office, fund.id, expenses("100.00", "2099-06-01")).await;
    let more = json!({"kind": "increase", "amount": "1000.00", "effective_on": "2099-06-06", "reason": "agreed"});
    office.admin.post(&format!("/commitments/{}/changes", id(&raised, "id")), more).await.expect(200);
    issue(&office, fund.id, expenses("1500.00", "2099-06-07")).await;
    office.manager.post(&format!("/capital-calls/{}/rescind", id(&first, "id")), json!({"reason": "not needed"})).await.expect(200);
    let commitment = commitment_of(&office, fund.id, fund.investors[0]).await;
    assert_eq!(figures(&commitment), ["2000.00", "1500.00", "500.00"]);
    assert_sums(&stack);
}

#[tokio::test]
async fn a_fee_outside_the_commitments_is_called_whoever_has_drawn_to_the_last() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 1, "1000.00").await;
    issue(&office, fund.id, expenses("1000.00", "2026-01-15")).await;
    let fee = |amount: &str| json!({"kind": "management_fee", "amount": amount, "inside_commitment": false});
    let returned = json!({"kind": "recallable_return", "amount": "1.00", "inside_commitment": true});
    let netted = issue(&office, fund.id, json!({"purposes": [fee("5.00"), returned], "due_on": "2099-06-20"})).await;
    let commitment = id(&commitment_of(&office, fund.id, fund.investors[0]).await, "id");
    let less = json!({"kind": "reduction", "amount": "0.50", "effective_on": "2026-06-01", "reason": "agreed"});
    office.admin.post(&format!("/commitments/{commitment}/changes"), less).await.expect(200);
    let before = issue(&office, fund.id, json!({"purposes": [fee("500.00")], "due_on": "2026-02-01"})).await;
    // and says something else later, but for what would be drawn
    let amend = format!("/capital-calls/{}/amend", id(&before, "id"));
    office.manager.post(&amend, json!({"purposes": [fee("400.00")], "reason": "less"})).await.expect(202);
    office.manager.until(&format!("/capital-calls/{}", id(&before, "id")), |call| call["amount"] == "400.00").await;
    // half of what was returned was promised no more since: it stays returned
    let less = json!([fee("5.00"), {"kind": "recallable_return", "amount": "0.40", "inside_commitment": true}]);
    let amend = format!("/capital-calls/{}/amend", id(&netted, "id"));
    let refused = office.manager.post(&amend, json!({"purposes": less, "reason": "less"})).await;
    assert_eq!(refused.refused(409), "call_exceeds_unfunded");
    let inside = json!([{"kind": "expenses", "amount": "0.01", "inside_commitment": true}]);
    let inside = json!({"fund_id": fund.id, "purposes": inside, "due_on": "2026-02-01"});
    let refused = office.manager.post("/capital-calls/preview", inside).await;
    assert_eq!(refused.refused(409), "call_exceeds_unfunded");
    assert_sums(&stack);
}

#[tokio::test]
async fn a_call_that_is_due_before_more_is_promised_is_shared_and_amended_as_if_there_were_no_more() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 2, "1000.00").await;
    let raised = commitment_of(&office, fund.id, fund.investors[0]).await;
    let first = issue(&office, fund.id, expenses("1000.00", "2099-06-01")).await;
    let more = json!({"kind": "increase", "amount": "1000.00", "effective_on": "2099-06-06", "reason": "agreed"});
    office.admin.post(&format!("/commitments/{}/changes", id(&raised, "id")), more).await.expect(200);
    // what is promised later is called later, all of it
    let second = issue(&office, fund.id, expenses("1500.00", "2099-06-07")).await;
    let amounts_of = |call: &Value| {
        let of = |investor: &Uuid| lines(call).iter().find(|line| id(line, "investor_id") == *investor).unwrap()["amount"].clone();
        fund.investors.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(amounts_of(&second), [json!("1000.00"), json!("500.00")]);
    // the first is amended by what was promised by its date
    let path = format!("/capital-calls/{}", id(&first, "id"));
    for (amount, expected) in [("990.00", "495.00"), ("500.00", "250.00"), ("1000.00", "500.00")] {
        let mut amended = expenses(amount, "2099-06-01");
        amended["reason"] = json!("another amount is needed");
        office.manager.post(&format!("{path}/amend"), amended).await.expect(202);
        let amended = office.manager.until(&path, |call| call["amount"] == amount).await;
        assert_eq!(amounts_of(&amended), [json!(expected), json!(expected)]);
    }
    let then = office.auditor.get(&format!("/commitments/{}?as_of=2099-06-02", id(&raised, "id"))).await.expect(200);
    assert_eq!(figures(&then), ["1000.00", "1500.00", "0.00"]);
    // and nobody is called for more than is promised by a date
    let third = office.manager.post(&format!("/funds/{}/capital-calls", fund.id), expenses("500.01", "2099-06-02")).await;
    assert_eq!(third.refused(409), "call_exceeds_unfunded");
    assert_sums(&stack);
}

#[tokio::test]
async fn who_joins_later_pays_for_the_calls_before_with_interest() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let late = id(&office.admin.post("/investors", json!({"name": "Late Pension"})).await.expect(201), "id");
    let call = issue(&office, fund.id, expenses("300.00", "2026-04-02")).await;
    let first = lines(&call)[0].clone();
    office.pay(id(&first, "id"), "150.00", "in time").await;
    let closing = json!({"commitments": [{"investor_id": late, "amount": "1000000.00"}], "closed_on": "2026-07-01", "due_on": "2026-07-15", "interest_percent": "8"});
    let path = format!("/funds/{}/closings", fund.id);
    for (field, value, code) in [
        ("interest_percent", json!("101"), "invalid_rate"),
        ("due_on", json!("2026-06-30"), "closing_mismatch"),
        ("commitments", json!([]), "closing_mismatch"),
        ("commitments", json!([{"investor_id": Uuid::nil(), "amount": "1.00"}]), "unknown_investor"),
    ] {
        let mut bad = closing.clone();
        bad[field] = value;
        assert_eq!(office.admin.post(&path, bad).await.text("code"), code, "{field}");
    }
    let previewed = office.admin.post(&format!("{path}/preview"), closing.clone()).await.expect(200);
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200)["line_count"], 2);
    let held = office.admin.post(&path, closing).await.expect(201);
    assert_eq!((&previewed["shares"], &previewed["calls"]), (&held["shares"], &held["calls"]));
    // 100.00 for 90 days at 8 percent
    let totals = ["equalised", "interest", "committed"].map(|field| held[field].as_str().unwrap());
    assert_eq!(totals, ["100.00", "1.97", "1000000.00"]);
    let share = |investor: Uuid| held["shares"].as_array().unwrap().iter().find(|share| id(share, "investor_id") == investor).unwrap();
    let of = |investor: Uuid| ["equalised", "interest"].map(|field| share(investor)[field].as_str().unwrap().to_owned());
    assert_eq!(of(late), ["100.00", "1.97"]);
    assert_eq!(of(id(&first, "investor_id")), ["-50.00", "-0.99"]);
    let after = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    let line = |investor: Uuid| lines(&after).iter().find(|line| id(line, "investor_id") == investor).unwrap();
    let standing = |line: &Value| ["amount", "paid", "unapplied", "due_on"].map(|field| line[field].as_str().unwrap().to_owned());
    assert_eq!(standing(line(late)), ["100.00", "0.00", "0.00", "2026-07-15"]);
    assert_eq!(standing(line(id(&first, "investor_id"))), ["100.00", "100.00", "50.00", "2026-04-02"]);
    assert_eq!((&after["amount"], &after["paid"], &after["line_count"]), (&json!("300.00"), &json!("100.00"), &json!(3)));
    let interest = office.manager.get(&format!("/capital-calls/{}", id(&held, "interest_call_id"))).await.expect(200);
    assert_eq!(
        (lines(&interest).len(), &lines(&interest)[0]["amount"], &lines(&interest)[0]["impact_on_unfunded"]),
        (1, &json!("1.97"), &json!("0.00"))
    );
    let amended = json!({"due_on": "2026-08-01", "reason": "later"});
    assert_eq!(
        office.manager.post(&format!("/capital-calls/{}/amend", id(&interest, "id")), amended).await.text("code"),
        "purpose_mismatch"
    );
    assert_eq!(office.auditor.get(&format!("/closings/{}", id(&held, "id"))).await.expect(200), held);
    for investor in fund.investors.iter().copied().chain([late]) {
        let commitment = commitment_of(&office, fund.id, investor).await;
        assert_eq!(commitment["unfunded"], "999900.00", "{commitment:#}");
    }
    let metrics =
        |metrics: &Value| metrics["committed"] == "3000000.00" && metrics["called"] == "301.97" && metrics["unapplied"] == "50.00";
    office.manager.until(&format!("/funds/{}/metrics", fund.id), metrics).await;
    // who raises its commitment at the next one owes for what is added; the interest of the first is no call to share
    let more = json!({"commitments": [{"investor_id": late, "amount": "3000000.00"}], "closed_on": "2026-07-01", "due_on": "2026-08-15", "interest_percent": "0"});
    let second = office.admin.post(&path, more).await.expect(201);
    assert_eq!(
        (&second["equalised"], &second["interest_call_id"], second["calls"].as_array().unwrap().len()),
        (&json!("100.00"), &Value::Null, 1)
    );
    let raised = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    // what it owed before keeps its date, what it owes in addition is a line of its own
    let of_late = |call: &Value| {
        let mut of_late: Vec<Value> = lines(call).iter().filter(|line| id(line, "investor_id") == late).cloned().collect();
        of_late.sort_by_key(|line| line["due_on"].to_string());
        let parts = |line: &Value| ["amount", "due_on", "closing_id"].map(|field| line[field].as_str().unwrap().to_owned());
        of_late.iter().map(parts).collect::<Vec<_>>()
    };
    let [first_id, second_id] = [&held, &second].map(|closing| id(closing, "id").to_string());
    let line = |amount: &str, due_on: &str, closing: &str| [amount.to_owned(), due_on.to_owned(), closing.to_owned()];
    assert_eq!(of_late(&raised), [line("100.00", "2026-07-15", &first_id), line("100.00", "2026-08-15", &second_id)]);
    // the notice of the second line counts the first
    let added = lines(&raised).iter().find(|line| line["closing_id"] == json!(second_id)).unwrap();
    let notice = office.auditor.get(&format!("/call-lines/{}/notice", id(added, "id"))).await.expect(200);
    let of_investor = ["called_before", "called", "called_after"].map(|field| notice["investor_totals"][field].as_str().unwrap());
    assert_eq!(of_investor, ["101.97", "100.00", "201.97"], "with the interest of the first closing");
    let unfunded = &commitment_of(&office, fund.id, late).await["unfunded"];
    assert_eq!((&notice["investor_totals"]["unfunded_after"], unfunded), (&json!("3999800.00"), &json!("3999800.00")));
    // an amendment that moves no date leaves who joined later its later date
    let purposes = json!([{"kind": "expenses", "amount": "240.00", "inside_commitment": true}]);
    let less = json!({"purposes": purposes, "reason": "less is needed"});
    office.manager.post(&format!("/capital-calls/{}/amend", id(&call, "id")), less).await.expect(202);
    let amended = office.manager.until(&format!("/capital-calls/{}", id(&call, "id")), |call| call["amount"] == "240.00").await;
    assert_eq!(of_late(&amended), [line("100.00", "2026-07-15", &first_id), line("60.00", "2026-08-15", &second_id)]);
    assert_eq!(lines(&amended).len(), 4, "{amended:#}");
    // as little as is called in the end comes of what was due first
    let purposes = json!([{"kind": "expenses", "amount": "120.00", "inside_commitment": true}]);
    let less = json!({"purposes": purposes, "reason": "much less is needed"});
    office.manager.post(&format!("/capital-calls/{}/amend", id(&call, "id")), less).await.expect(202);
    let amended = office.manager.until(&format!("/capital-calls/{}", id(&call, "id")), |call| call["amount"] == "120.00").await;
    assert_eq!(of_late(&amended), [line("80.00", "2026-07-15", &first_id), line("0.00", "2026-08-15", &second_id)]);
    assert_sums(&stack);
}

#[tokio::test]
async fn an_issued_call_stays_with_those_who_had_promised_by_its_issue() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let [seller, other] = [fund.investors[0], fund.investors[1]];
    let [buyer, late] = ["Secondary Buyer", "Late Pension"].map(|name| json!({"name": name}));
    let buyer = id(&office.admin.post("/investors", buyer).await.expect(201), "id");
    let late = id(&office.admin.post("/investors", late).await.expect(201), "id");
    let call = issue(&office, fund.id, expenses("800000.00", "2099-06-30")).await;
    let path = format!("/capital-calls/{}", id(&call, "id"));
    let amounts = async || {
        let call = office.manager.get(&path).await.expect(200);
        let of = |investor: Uuid| lines(&call).iter().find(|line| id(line, "investor_id") == investor).map(|line| line["amount"].clone());
        [seller, other, buyer, late].map(|investor| of(investor).map(|amount| amount.as_str().unwrap().to_owned()))
    };
    let some = |amount: &str| Some(amount.to_owned());
    // the unfunded part is sold, and the other one promises more: neither changes what was called
    let commitment = id(&commitment_of(&office, fund.id, seller).await, "id");
    let sold = json!({"to_investor_id": buyer, "amount": "600000.00", "drawn": null, "effective_on": "2026-07-01", "reason": "sold"});
    office.admin.post(&format!("/commitments/{commitment}/transfers"), sold).await.expect(200);
    let commitment = id(&commitment_of(&office, fund.id, other).await, "id");
    let more = json!({"kind": "increase", "amount": "1000000.00", "effective_on": "2026-07-01", "reason": "wants more"});
    office.admin.post(&format!("/commitments/{commitment}/changes"), more).await.expect(200);
    // who joins with 1.00 takes its part of what was called, and nothing else moves
    let closing = json!({"commitments": [{"investor_id": late, "amount": "1.00"}], "closed_on": "2026-07-02", "due_on": "2099-07-15", "interest_percent": "0"});
    let held = office.admin.post(&format!("/funds/{}/closings", fund.id), closing).await.expect(201);
    assert_eq!(held["equalised"], "0.40");
    assert_eq!(amounts().await, [some("399999.80"), some("399999.80"), None, some("0.40")]);
    // and an amendment moves the difference only
    let purposes = json!([{"kind": "expenses", "amount": "800002.00", "inside_commitment": true}]);
    office.manager.post(&format!("{path}/amend"), json!({"purposes": purposes, "reason": "2 more"})).await.expect(202);
    office.manager.until(&path, |call| call["amount"] == "800002.00").await;
    let [seller, other, buyer, late] = amounts().await;
    assert_eq!((buyer, late), (None, some("0.40")));
    // a call that draws on the increase takes nothing from the room of the first
    issue(&office, fund.id, expenses("900000.00", "2099-08-31")).await;
    office.manager.post(&format!("{path}/amend"), json!({"due_on": "2099-06-29", "reason": "earlier"})).await.expect(202);
    office.manager.until(&path, |call| call["due_on"] == "2099-06-29").await;
    // the seller has 0.20 unfunded since the closing
    assert_eq!((seller, other), (some("400000.00"), some("400001.60")));
    assert_sums(&stack);
}

/// A call outside the commitments that gives a part of what was called back.
fn returning(expenses: &str, returned: &str) -> Value {
    json!({"due_on": "2099-06-30", "purposes": [
        {"kind": "expenses", "amount": expenses, "inside_commitment": false},
        {"kind": "recallable_return", "amount": returned, "inside_commitment": true},
    ]})
}

#[tokio::test]
async fn what_is_given_back_is_compared_with_what_was_drawn_whatever_was_promised_since() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund_of("100000000", 2, "1000").await;
    let first = fund.investors[0];
    issue(&office, fund.id, expenses("500.00", "2099-06-30")).await;
    let netted = issue(&office, fund.id, returning("400.00", "200.00")).await;
    let commitment = commitment_of(&office, fund.id, first).await;
    let changes = format!("/commitments/{}/changes", id(&commitment, "id"));
    let change = |kind: &str, amount: &str, on: &str| json!({"kind": kind, "amount": amount, "effective_on": on, "reason": "agreed"});
    office.admin.post(&changes, change("increase", "1000.00", "2026-01-01")).await.expect(200);
    // the call stays with what was promised when it was issued, and can be amended and shared anew
    let path = format!("/capital-calls/{}", id(&netted, "id"));
    let mut more = returning("400.00", "240.00");
    (more["reason"], more["due_on"]) = (json!("more comes back"), json!("2099-07-31"));
    office.manager.post(&format!("{path}/amend"), more).await.expect(202);
    let amended = office.manager.until(&path, |call| call["amendment"] == 1).await;
    assert!(lines(&amended).iter().all(|line| line["impact_on_unfunded"] == "120.00"), "{amended:#}");
    let too_much = json!({"purposes": returning("1400.00", "600.00")["purposes"], "reason": "more than was called"});
    assert_eq!(office.manager.post(&format!("{path}/amend"), too_much).await.refused(422), "purpose_mismatch");
    let closing = json!({"closed_on": "2026-07-01", "due_on": "2099-08-15", "interest_percent": "0", "commitments": [{"investor_id": first, "amount": "1000.00"}]});
    office.admin.post(&format!("/funds/{}/closings", fund.id), closing).await.expect(201);
    // what came back is called again: then the call that gave it back cannot be taken back, by the sum of an investor's lines
    let left = commitment_of(&office, fund.id, first).await["unfunded"].clone();
    let all = json!({"due_on": "2099-06-30", "purposes": [{"kind": "expenses", "amount": left, "inside_commitment": true}],
                     "adjustments": [{"investor_id": first, "amount": left, "reason": "all of it"}]});
    issue(&office, fund.id, all).await;
    assert_eq!(commitment_of(&office, fund.id, first).await["unfunded"], "0.00");
    assert_eq!(office.manager.post(&format!("{path}/rescind"), json!({"reason": "undone"})).await.refused(409), "call_exceeds_unfunded");
    assert_sums(&stack);
}

#[tokio::test]
async fn interest_of_a_closing_is_paid_out_while_it_is_there() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let late = id(&office.admin.post("/investors", json!({"name": "Late Pension"})).await.expect(201), "id");
    issue(&office, fund.id, expenses("300.00", "2026-04-02")).await;
    let closing = json!({"commitments": [{"investor_id": late, "amount": "1000000.00"}], "closed_on": "2026-07-01", "due_on": "2026-07-15", "interest_percent": "8"});
    let held = office.admin.post(&format!("/funds/{}/closings", fund.id), closing).await.expect(201);
    let interest = office.manager.get(&format!("/capital-calls/{}", id(&held, "interest_call_id"))).await.expect(200);
    let line = id(&lines(&interest)[0], "id");
    let payouts = format!("/closings/{}/payouts", id(&held, "id"));
    let ask = || office.treasurer.post(&payouts, json!({"investor_id": fund.investors[0]}));
    assert_eq!(ask().await.refused(409), "interest_not_paid");
    // a check counts when it is certain
    let check = json!({"amount": "1.97", "method": "check", "reference": "no. 1042", "received_on": crate::office::today().to_string()});
    let check = office.treasurer.post(&format!("/call-lines/{line}/payments"), check).await.expect(201);
    assert_eq!(ask().await.refused(409), "interest_not_paid");
    let returned = json!({"reason": "returned", "effective_on": crate::office::today().to_string()});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&check, "id")), returned).await.expect(200);
    let paid = office.pay(line, "1.97", "interest").await;
    let refund = format!("/refunds/{}", id(&ask().await.expect(202), "refund_id"));
    assert_eq!(ask().await.refused(409), "interest_not_paid", "it is asked for once");
    let pending = format!("/approvals?status=pending&subject_id={}", id(&office.manager.get(&refund).await.expect(200), "id"));
    let approval = id(&items(&office.ann.until(&pending, |page| !items(page).is_empty()).await)[0], "id");
    office.ann.post(&format!("/approvals/{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
    office.manager.until(&refund, |refund| refund["status"] == "approved").await;
    let bounced = json!({"reason": "returned", "effective_on": "2026-07-20"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&paid, "id")), bounced).await.expect(200);
    let path = format!("{refund}/payout");
    let payout = || office.treasurer.post(&path, json!({"paid_on": "2026-07-21", "reference": "interest"}));
    assert_eq!(payout().await.refused(409), "interest_not_paid");
    office.pay(line, "1.97", "interest again").await;
    assert_eq!(payout().await.expect(200)["amount"], "0.99");
    assert_sums(&stack);
}
