//! Deals that are split over funds, and allocations that are proposed many at once.

use serde_json::{Value, json};
use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, id, items};

#[tokio::test]
async fn a_deal_is_split_over_funds_and_proposed_as_it_was_previewed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let deal = office.deal(&stack).await;
    let funds = [office.fund_of("300000.00", 1, "100.00").await, office.fund_of("700000.01", 1, "100.00").await];
    let preview = async |amount: &str, ids: &[Uuid]| {
        let takers: Vec<Value> = ids.iter().map(|id| json!({"fund_id": id})).collect();
        let body = json!({"amount": amount, "security_type": "equity", "by": "size", "funds": takers});
        office.analyst.post(&format!("/deals/{deal}/allocations/preview"), body).await
    };
    let ids = [funds[0].id, funds[1].id];
    let split = preview("100000.00", &ids).await.expect(200);
    let amounts: Vec<&str> = split["shares"].as_array().unwrap().iter().map(|share| share["amount"].as_str().unwrap()).collect();
    assert_eq!((amounts, split["left"].as_str()), (vec!["30000.00", "70000.00"], Some("0.00")), "{split:#}");
    let none = office.analyst.get(&format!("/allocations?fund_id={}", ids[0])).await.expect(200);
    assert!(items(&none).is_empty(), "a preview stores nothing");
    let body = json!({"allocations": split["allocations"]});
    let proposed = office.analyst.post("/allocations/batch", body).await.expect(200);
    assert_eq!((&proposed["accepted"], &proposed["refused"]), (&json!(2), &json!(0)), "{proposed:#}");
    for (outcome, amount) in proposed["outcomes"].as_array().unwrap().iter().zip(["30000.00", "70000.00"]) {
        let path = format!("/allocations/{}", id(outcome, "allocation_id"));
        let active = office.analyst.until(&path, |allocation| allocation["decision"] == "active").await;
        assert_eq!(active["amount"], amount);
    }
    // both have an allocation now
    let again = preview("100000.00", &ids).await.expect(200);
    assert_eq!(
        (&again["left"], &again["shares"][1]["problem"]["code"]),
        (&json!("100000.00"), &json!("duplicate_allocation")),
        "{again:#}"
    );
    for (wrong, status, code) in [
        (preview("100000.00", &[]).await, 400, "malformed_request"),
        (preview("100000.00", &[ids[0], ids[0]]).await, 400, "malformed_request"),
        (preview("100000.00", &[ids[0], Uuid::nil()]).await, 404, "unknown_fund"),
        (preview("0.00", &ids).await, 422, "invalid_amount"),
    ] {
        assert_eq!(wrong.refused(status), code);
    }
}

#[tokio::test]
async fn a_thousand_allocations_in_one_request_are_each_accepted_or_refused_and_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, deal) = (office.fund_of("10000000.00", 1, "100.00").await, office.deal(&stack).await);
    let of = |deal: Uuid, fund: Uuid, amount: &str| json!({"deal_id": deal, "fund_id": fund, "amount": amount, "security_type": "equity"});
    let mut all = vec![of(deal, fund.id, "5000.00"), of(deal, fund.id, "6000.00"), of(Uuid::nil(), fund.id, "5000.00")];
    all.extend((3..1_000).map(|_| of(deal, Uuid::nil(), "5000.00")));
    let propose = async |all: &[Value]| office.analyst.post_as("/allocations/batch", "batch", json!({"allocations": all})).await;
    let first = propose(&all).await;
    let told = first.clone().expect(200);
    assert_eq!((&told["accepted"], &told["refused"]), (&json!(1), &json!(999)));
    let code = |place: usize| told["outcomes"][place]["problem"]["code"].as_str().unwrap();
    assert_eq!([code(1), code(2), code(999)], ["duplicate_allocation", "unknown_deal", "unknown_fund"]);
    assert_eq!(propose(&all).await.body, first.body, "the same key gives the same answer");
    let path = format!("/allocations/{}", id(&told["outcomes"][0], "allocation_id"));
    office.analyst.until(&path, |allocation| allocation["decision"] == "active").await;
    let held = office.analyst.get(&format!("/funds/{}", fund.id)).await.expect(200);
    assert_eq!(held["allocated"], "5000.00");
    let too_many = json!({"allocations": vec![of(deal, fund.id, "5000.00"); 1_001]});
    assert_eq!(office.analyst.post("/allocations/batch", too_many).await.refused(413), "request_too_large");
    assert_eq!(office.auditor.post("/allocations/batch", json!({"allocations": all})).await.refused(403), "forbidden");
}

#[tokio::test]
async fn what_an_allocation_says_of_itself_has_the_shape_of_its_type() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let deal = office.deal(&stack).await;
    let propose = |security_type: &str, details: Value| {
        let mut body = json!({"deal_id": deal, "fund_id": fund.id, "amount": "5000", "security_type": security_type});
        body["details"] = details;
        office.analyst.post("/allocations", body)
    };
    for (security_type, details, named) in [
        ("debt", json!({"seniority": "highest"}), "/seniority"),
        ("debt", json!({"seniority": "senior", "other": 1}), "other"),
        ("debt", json!({"matures_on": "soon"}), "/matures_on"),
        ("debt", json!("senior"), "object"),
        ("royalty", json!({"percent": "2"}), "no such type"),
    ] {
        let refused = propose(security_type, details).await;
        assert_eq!(refused.refused(422), "invalid_details");
        assert!(refused.text("detail").contains(named), "{}", refused.text("detail"));
    }
    let details = json!({"seniority": "senior", "interest_percent": "7.25", "matures_on": "2031-06-30", "is_secured": true});
    let accepted = propose("debt", details.clone()).await.expect(202);
    let path = format!("/allocations/{}", id(&accepted, "allocation_id"));
    let allocation = office.analyst.until(&path, |allocation| allocation["decision"] == "active").await;
    assert_eq!((&allocation["details"], &allocation["security_type"]), (&details, &json!("debt")));
    // a firm adds a type of its own
    let royalty = json!({"type": "object", "required": ["percent"], "properties": {"percent": {"type": "string"}}});
    let types = json!({"investment_types": {"royalty": {"label": "Royalty", "details": royalty}}});
    office.admin.put(&format!("/rules/fund:{}", fund.id), types).await.expect(200);
    let line = format!("rules in force scope=\"fund:{}\" version=1", fund.id);
    assert!(testkit::wait::until(std::time::Duration::from_secs(10), || async { stack.log("allocation-status").contains(&line) }).await);
    let other = office.deal(&stack).await;
    let body =
        |details: Value| json!({"deal_id": other, "fund_id": fund.id, "amount": "5000", "security_type": "royalty", "details": details});
    assert_eq!(office.analyst.post("/allocations", body(json!({}))).await.refused(422), "invalid_details");
    office.analyst.post("/allocations", body(json!({"percent": "2"}))).await.expect(202);
}
