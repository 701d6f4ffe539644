//! The system that came before: its files are taken in, and its figures stand beside ours. And commands that are only tried out.

use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Office, id, items};

async fn send(client: &Client, path: &str, key: &str, file: &str) -> testkit::Reply {
    client.send("POST", path, Some(key), Some(file.as_bytes().to_vec())).await.unwrap()
}

fn counts(imported: &Value) -> (u64, u64, u64) {
    let count = |field: &str| imported[field].as_u64().unwrap();
    (count("accepted"), count("there_already"), count("refused"))
}

fn problems(imported: &Value) -> Vec<(u64, &str)> {
    let of = |taken: &'static str| move |value: &'_ Value| value[taken].as_u64().unwrap();
    let results = imported["results"].as_array().unwrap();
    results.iter().filter_map(|taken| Some((of("line")(taken), taken["problem"]["code"].as_str()?))).collect()
}

#[tokio::test]
async fn files_are_tried_out_taken_in_once_and_compared() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(3).await;
    let fund_name = office.admin.get(&format!("/funds/{}", fund.id)).await.expect(200)["name"].as_str().unwrap().to_owned();
    let (first, second) = (office.deal(&stack).await, office.deal(&stack).await);
    let allocations = format!(
        "deal_id,fund,amount,security_type,called,paid,status\n\
         {first},{fund_name},90000.00,equity,30000.00,20000.00,partially_paid\n\
         {second},{},50000,debt,0,0,committed\n\
         {second},{fund_name},60000,debt,,,\n\
         {},{fund_name},60000,debt,,,\n\
         {second},No such fund,60000,debt,,,\n\
         {second},{fund_name},six,debt,,,\n",
        fund.id,
        Uuid::now_v7()
    );
    // tried out: every row is decided, the second allocation to the same deal as after the first, and nothing is there
    let path = "/imports/allocations?source=ledger";
    let tried = send(&office.analyst, &format!("{path}&dry_run=true"), "a", &allocations).await.expect(200);
    assert_eq!(counts(&tried), (2, 0, 4), "{tried:#}");
    let expected = [(4, "duplicate_allocation"), (5, "unknown_deal"), (6, "unknown_fund"), (7, "malformed_request")];
    assert_eq!(problems(&tried), expected);
    assert!(tried["results"][5]["problem"]["detail"].as_str().unwrap().starts_with("column amount"));
    assert!(items(&office.analyst.get(&format!("/allocations?fund_id={}", fund.id)).await.expect(200)).is_empty());
    // taken in with the key that was used for trying, and once more with another one
    let taken = send(&office.analyst, path, "a", &allocations).await.expect(200);
    assert_eq!((counts(&taken), problems(&taken).len()), ((2, 0, 4), 4));
    let otherwise = taken["results"][2]["problem"]["detail"].as_str().unwrap();
    assert!(otherwise.contains("amount is 50000.00, the file says 60000"), "{otherwise}");
    let again = send(&office.analyst, path, "b", &allocations).await.expect(200);
    assert_eq!(counts(&again), (0, 2, 4));
    for row in 0..2 {
        office
            .analyst
            .until(&format!("/allocations/{}", id(&taken["results"][row], "id")), |allocation| allocation["decision"] == "active")
            .await;
    }
    let calls = format!(
        "call,fund,due_on,purpose,deal_id,amount,inside_commitment,paid\n\
         CC-1,{fund_name},2099-12-31,investment,{first},30000.00,true,20000.00\n\
         CC-1,{fund_name},2099-12-31,management_fee,,3000,false,\n\
         CC-2,{fund_name},2099-12-31,investment,{second},999999,,\n\
         CC-3,{fund_name},2099-12-31,investment,,5,,\n\
         CC-4,{fund_name},2099-02-31,reserve,,5,,\n"
    );
    let path = "/imports/calls?source=ledger";
    let tried = send(&office.manager, &format!("{path}&dry_run=true"), "c", &calls).await.expect(200);
    let expected = [(4, "call_exceeds_allocation"), (5, "purpose_mismatch"), (6, "malformed_request")];
    assert_eq!((counts(&tried), problems(&tried)), ((1, 0, 3), expected.to_vec()));
    let taken = send(&office.manager, path, "c", &calls).await.expect(200);
    assert_eq!(counts(&taken), (1, 0, 3));
    assert_eq!(counts(&send(&office.manager, path, "d", &calls).await.expect(200)), (0, 1, 3));
    // the same number and sums for another deal
    let otherwise = send(&office.manager, path, "h", &calls.replace(&first.to_string(), &second.to_string())).await.expect(200);
    let why = otherwise["results"][0]["problem"]["detail"].as_str().unwrap();
    assert_eq!((counts(&otherwise), problems(&otherwise)[0]), ((0, 0, 4), (2, "duplicate_capital_call")));
    assert!(why.contains("deals is investment of allocation") && !why.contains("purposes is"), "{why}");
    let call = format!("/capital-calls/{}", id(&taken["results"][0], "id"));
    office.manager.until(&call, |call| call["decision"] == "issued").await;
    let payments = format!(
        "payment,call,fund,investor,amount,method,received_on\n\
         P-1,CC-1,{fund_name},Investor 0,11000.00,wire,2026-03-02\n\
         P-2,CC-1,{},{},9000.00,ach,2026-03-03\n\
         P-3,CC-9,{fund_name},Investor 1,1,wire,2026-03-03\n\
         P-4,CC-1,{fund_name},Nobody,1,wire,2026-03-03\n",
        fund.id, fund.investors[1]
    );
    let path = "/imports/payments?source=ledger";
    assert_eq!(send(&office.manager, path, "e", &payments).await.refused(403), "forbidden");
    let tried = send(&office.treasurer, &format!("{path}&dry_run=true"), "e", &payments).await.expect(200);
    assert_eq!((counts(&tried), problems(&tried)), ((2, 0, 2), vec![(4, "unknown_capital_call"), (5, "unknown_investor")]));
    assert!(items(&office.treasurer.get(&format!("/payments?fund_id={}", fund.id)).await.expect(200)).is_empty());
    let taken = send(&office.treasurer, path, "e", &payments).await.expect(200);
    let again = send(&office.treasurer, path, "f", &payments).await.expect(200);
    assert_eq!((counts(&taken), counts(&again)), ((2, 0, 2), (0, 2, 2)), "the same payments");
    assert_eq!(taken["results"][0]["id"], again["results"][0]["id"]);
    assert_eq!(taken["results"][2]["reference"], "P-3", "also what is refused is named");
    // a number that stands for other cash there is refused, and not taken for what is there
    let otherwise = payments.replace("Investor 0,11000.00", "Investor 0,11000.01").replace(&fund.investors[1].to_string(), "Investor 2");
    let refused = send(&office.treasurer, path, "g", &otherwise).await.expect(200);
    assert_eq!(problems(&refused)[..2], [(2, "external_reference_reused"), (3, "external_reference_reused")]);
    let why = refused["results"][0]["problem"]["detail"].as_str().unwrap();
    assert_eq!((counts(&refused), why), ((0, 0, 4), "P-1 is there otherwise: amount is 11000.00, the file says 11000.01"));
    let of_another_call = send(&office.treasurer, path, "i", &payments.replace("P-1,CC-1", "P-1,CC-9")).await.expect(200);
    assert_eq!((counts(&of_another_call), problems(&of_another_call)[0]), ((0, 1, 3), (2, "external_reference_reused")));
    assert_eq!(items(&office.treasurer.get(&format!("/payments?fund_id={}", fund.id)).await.expect(200)).len(), 2);

    // both beside each other
    office.analyst.until(&format!("/allocations?fund_id={}&deal_id={first}", fund.id), |page| items(page)[0]["paid"] != "0.00").await;
    let compare = |kind: &'static str, file: String| {
        let auditor = &office.auditor;
        async move { send(auditor, &format!("/imports/{kind}/compare?source=ledger"), "x", &file).await.expect(200) }
    };
    let standing = |compared: &Value| ["equal", "different", "only_theirs", "only_ours"].map(|name| compared[name].as_u64().unwrap());
    let compared = compare("allocations", allocations.clone()).await;
    // paid differs: a part of each payment is for the fee; the file names the second deal twice
    assert_eq!(standing(&compared), [1, 2, 3, 0], "{compared:#}");
    let paid = &compared["results"][0]["figures"][3];
    assert_eq!((paid["field"].as_str(), paid["theirs"].as_str(), paid["equal"].as_bool()), (Some("paid"), Some("20000.00"), Some(false)));
    assert_eq!(standing(&compare("calls", calls.clone()).await), [1, 0, 3, 0], "{:#}", compare("calls", calls.clone()).await);
    let lines = format!(
        "call,fund,investor,amount,paid,outstanding\n\
         CC-1,{fund_name},Investor 0,11000,11000,0\n\
         CC-1,{fund_name},Investor 1,11000,9000.01,1999.99\n"
    );
    let compared = compare("lines", lines).await;
    assert_eq!(standing(&compared), [1, 1, 0, 1], "{compared:#}");
    assert_eq!(compared["results"][2]["figures"][0]["ours"], "11000.00");
    assert_eq!(standing(&compare("payments", payments.clone()).await), [2, 0, 2, 0]);
    // what only we have, and what was changed since
    let reversal = json!({"reason": "bounced", "effective_on": "2026-03-04"});
    office.treasurer.post(&format!("/payments/{}/reverse", id(&taken["results"][1], "id")), reversal).await.expect(200);
    office.pay(id(&office.manager.get(&call).await.expect(200)["lines"][2], "id"), "7.00", "ours").await;
    let with_status = payments
        .replace("received_on\n", "received_on,status\n")
        .replace("2026-03-02\n", "2026-03-02,applied\n")
        .replace("2026-03-03\n", "2026-03-03,applied\n");
    let compared = compare("payments", with_status.clone()).await;
    assert_eq!(standing(&compared), [1, 1, 2, 1], "{compared:#}");
    // as a table
    let token = testkit::client::token(&stack.settings.jwt_secret, "olga", &["auditor"], None, 600);
    let table = reqwest::Client::new()
        .post(format!("{}/api/v1/imports/payments/compare?source=ledger", stack.gateway()))
        .bearer_auth(token)
        .header("accept", "text/csv")
        .body(with_status)
        .send()
        .await
        .unwrap();
    let table = table.text().await.unwrap();
    assert!(table.contains(",P-2,different,") && table.contains("status,applied,reversed,false"), "{table}");
    // files that are none
    for (path, body, status, code) in [
        ("/imports/allocations?source=ledger", "deal,fund\n1,2\n", 400, "malformed_request"),
        ("/imports/allocations", "deal_id,fund,amount\n", 400, "malformed_request"),
        ("/imports/lines?source=ledger", "call,fund,investor,amount\n", 404, "unknown_path"),
        ("/imports/nothing?source=ledger", "a\n", 404, "unknown_path"),
        ("/imports/allocations?source=ledger&dry_run=maybe", "a\n", 400, "malformed_request"),
    ] {
        assert_eq!(send(&office.analyst, path, "y", body).await.refused(status), code, "{path}");
    }
}

#[tokio::test]
async fn a_command_that_is_tried_out_is_answered_and_changes_nothing() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let body = json!({"name": "Fund X", "fund_type": "buyout", "currency": "USD", "vintage_year": 2026, "size": "1000000", "calendar": "NYSE", "timezone": "UTC"});
    let tried = office.admin.post_as("/funds?dry_run=true", "one", body.clone()).await.expect(200);
    assert_eq!((tried["name"].as_str(), tried["size"].as_str()), (Some("Fund X"), Some("1000000.00")));
    office.admin.get(&format!("/funds/{}", id(&tried, "id"))).await.refused(404);
    // its key is free, and what is refused is refused with the same words
    let made = office.admin.post_as("/funds", "one", body.clone()).await.expect(201);
    assert_ne!(made["id"], tried["id"]);
    assert_eq!(office.admin.post_as("/funds?dry_run=true", "two", body.clone()).await.refused(409), "duplicate_fund");
    assert_eq!(office.analyst.post_as("/funds?dry_run=true", "three", body.clone()).await.refused(403), "forbidden");
    assert_eq!(office.admin.post_as("/funds?dry_run=yes", "four", body.clone()).await.refused(400), "malformed_request");
    assert_eq!(
        office.admin.post_as("/investors/find?dry_run=true", "five", json!({"investor_ids": []})).await.refused(400),
        "malformed_request"
    );
    let database = stack.database().await;
    let events: i64 = sqlx::query_scalar("select count(*) from allocation_status.event_log").fetch_one(&database).await.unwrap();
    assert_eq!(events, 1, "of the one fund");
    // a vote that is tried out is none
    let fund = office.fund(1).await;
    let allocation = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": "1000000", "security_type": "equity"});
    let accepted = office.analyst.post("/allocations", allocation).await.expect(202);
    let approvals = format!("/approvals?subject_id={}", id(&accepted, "allocation_id"));
    let approval = id(&items(&office.ann.until(&approvals, |page| !items(page).is_empty()).await)[0], "id");
    let voted = office.ann.post(&format!("/approvals/{approval}/votes?dry_run=true"), json!({"decision": "deny"})).await.expect(200);
    assert_eq!(voted["status"], "denied");
    assert_eq!(office.ann.get(&format!("/approvals/{approval}")).await.expect(200)["status"], "pending");
}
