use uuid::Uuid;

use super::*;

fn units(amount: i64) -> Amount {
    Amount::from_decimal(amount.into())
}

#[test]
fn layers_are_merged_field_by_field() {
    let fund = Uuid::from_u128(7);
    let mut book = RuleBook::new("production");
    let rules = book.rules("buyout", fund).unwrap();
    assert_eq!((rules.allocation_min, rules.allocation_max), (units(10_000), units(100_000_000)));
    let votes = |amount| rules.tier(SubjectKind::Allocation, Priority::Normal, units(amount)).map(|tier| tier.votes);
    assert_eq!((votes(500_000), votes(499_999)), (Some(2), None));
    let layer = |grace_days| RuleLayer { grace_days: Some(grace_days), ..RuleLayer::default() };
    book.put("fund-type:buyout".parse().unwrap(), 1, layer(10));
    assert_eq!(book.rules("buyout", fund).unwrap().grace_days, 10);
    assert_eq!(book.rules("venture", fund).unwrap().grace_days, 30);
    book.put(RuleScope::Fund(fund), 1, layer(9));
    book.put(RuleScope::Fund(fund), 2, layer(5));
    assert_eq!(book.rules("buyout", fund).unwrap().grace_days, 5);
    let sources = book.sources(Some("buyout"), Some(fund));
    let of = |field: &str| (sources[field].scope.to_string(), sources[field].version);
    assert_eq!(of("grace_days"), (RuleScope::Fund(fund).to_string(), 2));
    assert_eq!(of("allocation_min"), ("env:production".into(), 0));
    assert_eq!(of("reminder_days"), ("global".into(), 0));
    let fields = serde_json::to_value(book.rules("buyout", fund).unwrap()).unwrap();
    assert!(fields.as_object().unwrap().keys().all(|field| sources.contains_key(field)), "each value comes from somewhere");
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    for bad in [
        r#"{"allocation_min":"0"}"#,
        r#"{"allocations_per_deal_max":0}"#,
        r#"{"approval_tiers":[{"from_amount":"1","votes":0,"role":"committee"}]}"#,
        r#"{"approval_tiers":[{"from_amount":"1","votes":1,"role":"nobody"}]}"#,
        r#"{"reminder_days":[0]}"#,
        r#"{"deal_percent_max":"0"}"#,
        r#"{"payment_methods":[]}"#,
    ] {
        assert_eq!(serde_json::from_str::<RuleLayer>(bad).unwrap().check().unwrap_err().reason, Reason::InvalidRules, "{bad}");
    }
    assert!(serde_json::from_str::<RuleLayer>(r#"{"allocation_mim":"5"}"#).is_err(), "a typing error is not ignored");
    let crossed = RuleLayer { allocation_min: Some(units(200_000_000)), ..RuleLayer::default() };
    assert_eq!(crossed.complete().unwrap_err().reason, Reason::InvalidRules);
}

#[test]
fn scopes_read_back() {
    for scope in ["global", "env:staging", "fund-type:real-assets", "fund:00000000-0000-0000-0000-000000000007"] {
        assert_eq!(scope.parse::<RuleScope>().unwrap().to_string(), scope);
    }
    for bad in ["", "all", "env:", "fund:7", "fund-type:a b", "global:x"] {
        assert!(bad.parse::<RuleScope>().is_err(), "{bad}");
    }
}

#[test]
fn the_files_say_everything_and_nothing_that_contradicts() {
    let global = serde_json::to_value(built_in()).unwrap();
    let silent: Vec<&String> = global.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).map(|(field, _)| field).collect();
    assert!(silent.is_empty(), "deploy/rules/global.yaml says nothing of {silent:?}");
    for (environment, text) in FILES {
        serde_saphyr::from_str::<RuleLayer>(text).unwrap();
        let book = RuleBook::new(environment);
        assert_eq!(book.contradictions(&RuleScope::Environment(environment.into()), &built_in_environment(environment)), [""; 0]);
    }
}

#[test]
fn an_environment_is_one_that_there_is() {
    let problems =
        |own: &str, named: &str| RuleBook::new(own).contradictions(&RuleScope::Environment(named.into()), &RuleLayer::default()).join("; ");
    for (own, named) in [("development", "production"), ("uat", "uat"), ("uat", "staging")] {
        assert_eq!(problems(own, named), "", "{named} in {own}");
    }
    for (own, named) in [("development", "prodution"), ("development", "uat"), ("production", "global")] {
        let found = problems(own, named);
        assert!(found.contains(&format!("env:{named} would hold nowhere: this is {own}")), "{found}");
    }
}

#[test]
fn contradictions_are_found_in_the_layers_above() {
    let fund = RuleScope::Fund(Uuid::from_u128(7));
    let mut book = RuleBook::new("staging");
    book.put(fund, 1, RuleLayer { allocation_max: Some(units(5_000)), ..RuleLayer::default() });
    book.put(RuleScope::FundType("venture".into()), 1, RuleLayer { allocation_max: Some(units(9_000)), ..RuleLayer::default() });
    let least = |amount| RuleLayer { allocation_min: Some(units(amount)), ..RuleLayer::default() };
    assert_eq!(book.contradictions(&RuleScope::Global, &least(5_000)), [""; 0]);
    let found = book.contradictions(&RuleScope::Global, &least(9_001));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("of type venture") && found[1].contains("for fund"), "{found:?}");
    assert!(found[2].contains("for fund") && found[2].contains("of type venture"), "{found:?}");
    assert_eq!(book.contradictions(&RuleScope::FundType("buyout".into()), &least(6_000)).len(), 1, "with the fund");
    let other = RuleScope::Fund(Uuid::from_u128(8));
    assert_eq!(book.contradictions(&other, &least(9_500)).len(), 1, "if it is of type venture");
}

#[test]
fn what_a_decision_used_is_named_by_its_layers_and_a_hash() {
    let fund = Uuid::from_u128(7);
    let mut book = RuleBook::new("staging");
    let before = book.used("buyout", fund);
    assert_eq!(before.layers.iter().map(|layer| layer.scope.to_string()).collect::<Vec<_>>(), ["global", "env:staging"]);
    let layer = |grace_days| RuleLayer { grace_days: Some(grace_days), ..RuleLayer::default() };
    book.put(RuleScope::Fund(fund), 3, layer(5));
    let after = book.used("buyout", fund);
    assert_eq!(after.layers.last().map(|layer| (layer.scope.clone(), layer.version)), Some((RuleScope::Fund(fund), 3)));
    assert_ne!(before.content_hash, after.content_hash);
    book.put(RuleScope::Fund(fund), 4, layer(30));
    assert_eq!(book.used("buyout", fund).content_hash, before.content_hash, "the same rules, whoever says so");
    assert_eq!(book.used("buyout", Uuid::from_u128(8)), before);
}

#[test]
fn a_request_reaches_the_highest_tier_that_is_for_it() {
    let layer: RuleLayer = serde_json::from_value(serde_json::json!({"approval_tiers": [
        {"from_amount": "100", "votes": 1, "role": "committee"},
        {"from_amount": "1000", "votes": 2, "role": "committee", "kinds": ["capital_call"], "then": [{"votes": 1, "role": "treasurer"}], "in_sequence": true},
        {"from_amount": "1000", "votes": 3, "role": "fund_manager", "kinds": ["allocation"]},
        {"from_amount": "50", "votes": 4, "role": "committee", "priorities": ["urgent"], "denials": 2}
    ]})).unwrap();
    layer.check().unwrap();
    let rules = layer.complete().unwrap();
    let votes = |kind, priority, amount| rules.tier(kind, priority, units(amount)).map(ApprovalTier::votes_in_all);
    let (allocation, call) = (SubjectKind::Allocation, SubjectKind::CapitalCall);
    assert_eq!((votes(allocation, Priority::Normal, 99), votes(allocation, Priority::Urgent, 99)), (None, Some(4)));
    assert_eq!((votes(call, Priority::Normal, 1_000), votes(allocation, Priority::Urgent, 1_000)), (Some(3), Some(3)));
    assert_eq!((votes(allocation, Priority::Normal, 999), votes(SubjectKind::Refund, Priority::Normal, 1)), (Some(1), Some(1)));
}

#[test]
fn tiers_that_nobody_can_satisfy_or_that_overlap_are_refused() {
    let tier = |more: &str| format!(r#"{{"from_amount":"1","votes":1,"role":"committee"{more}}}"#);
    let committee = r#","then":[{"votes":1,"role":"committee"}]"#;
    for bad in [
        tier(r#","denials":0"#),
        tier(committee),
        tier(r#","then":[{"votes":1,"role":"auditor"}]"#),
        tier(r#","then":[{"votes":20,"role":"treasurer"}]"#),
        format!("{},{}", tier(""), tier(r#","kinds":["allocation"]"#)),
        format!("{},{}", tier(r#","kinds":["allocation","capital_call"]"#), tier(r#","kinds":["allocation"],"priorities":["high"]"#)),
    ] {
        let layer: RuleLayer = serde_json::from_str(&format!(r#"{{"approval_tiers":[{bad}]}}"#)).unwrap();
        assert_eq!(layer.check().unwrap_err().reason, Reason::InvalidRules, "{bad}");
    }
    let apart = format!("{},{}", tier(r#","kinds":["allocation"]"#), tier(r#","kinds":["capital_call"]"#));
    serde_json::from_str::<RuleLayer>(&format!(r#"{{"approval_tiers":[{apart}]}}"#)).unwrap().check().unwrap();
}

#[test]
fn a_layer_does_not_lower_the_votes_that_those_below_it_ask_for() {
    let votes = |votes| RuleLayer { rule_votes: Some(votes), ..RuleLayer::default() };
    let (fund, buyout) = (RuleScope::Fund(Uuid::from_u128(7)), RuleScope::FundType("buyout".into()));
    let mut book = RuleBook::new("production");
    assert_eq!([&RuleScope::Global, &buyout, &fund].map(|scope| book.votes_for(scope)), [1, 1, 1]);
    book.put(buyout.clone(), 1, votes(3));
    book.put(fund.clone(), 1, votes(0));
    assert_eq!([&RuleScope::Global, &buyout, &fund].map(|scope| book.votes_for(scope)), [1, 3, 3]);
    book.put(fund.clone(), 2, votes(4));
    assert_eq!(book.votes_for(&fund), 4);
    assert_eq!(RuleBook::new("development").votes_for(&fund), 0);
    // what all are asked for, whether its type has a layer or not
    let mut book = RuleBook::new("production");
    for scope in [&fund, &buyout] {
        book.put(scope.clone(), 1, votes(0));
        assert_eq!(book.votes_for(scope), 1);
    }
}

fn of_rule_changes(steps: serde_json::Value, programs: serde_json::Value) -> RuleLayer {
    serde_json::from_value(serde_json::json!({"rule_change_steps": steps, "programs": programs})).unwrap()
}

#[test]
fn a_fund_whose_type_is_known_is_looked_at_with_that_and_no_other() {
    let (one, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let at_most = |amount| RuleLayer { allocation_max: Some(units(amount)), ..RuleLayer::default() };
    let at_least = RuleLayer { allocation_min: Some(units(1_000_000)), rule_votes: Some(3), ..RuleLayer::default() };
    let buyout = RuleScope::FundType("buyout".into());
    let mut book = RuleBook::new("development");
    book.put(RuleScope::Fund(one), 1, at_most(500_000));
    assert_eq!(book.contradictions(&buyout, &at_least).len(), 1, "it may be of this type");
    book.take_types([(one, "venture".to_owned()), (other, "buyout".to_owned())].into());
    assert_eq!(book.contradictions(&buyout, &at_least), [""; 0]);
    assert_eq!(book.contradictions(&RuleScope::FundType("venture".into()), &at_least).len(), 1);
    book.put(buyout.clone(), 1, at_least);
    assert_eq!([one, other].map(|id| book.votes_for(&RuleScope::Fund(id))), [0, 3], "a type without votes needs none");
    assert_eq!(book.contradictions(&RuleScope::Fund(other), &at_most(500_000)).len(), 1);
    assert_eq!(book.contradictions(&RuleScope::Fund(one), &at_most(400_000)), [""; 0]);
    // what all are asked for is contradicted by a type's layer alone, which lifts it
    let lifts = RuleLayer { allocation_min: Some(units(5)), ..RuleLayer::default() };
    book.put(RuleScope::FundType("venture".into()), 1, lifts);
    assert_eq!(book.contradictions(&RuleScope::Fund(one), &at_most(10)), [""; 0], "1,000 is what its type lifts");
    assert_eq!(
        book.contradictions(&RuleScope::Fund(Uuid::from_u128(9)), &at_most(10)).len(),
        2,
        "one that nobody knows may be of any other"
    );
}

#[test]
fn a_refusal_by_rules_names_them_and_another_does_not() {
    let fund = Uuid::from_u128(7);
    let mut book = RuleBook::new("staging");
    book.put(RuleScope::FundType("buyout".into()), 3, RuleLayer::default());
    let named = |reason: Reason| book.named("buyout", fund, reason.with("why")).detail;
    let hash = book.used("buyout", fund).content_hash;
    assert_eq!(named(Reason::AmountBelowMinimum), format!("why; by the rules {hash} of global 0, env:staging 0, fund-type:buyout 3"));
    assert_eq!(named(Reason::OverCapacity), "why");
}

#[test]
fn rules_can_always_be_changed_again() {
    use serde_json::json;
    let wait = |hours: u16| json!({"step": "wait", "hours": hours});
    let with = |steps: &[serde_json::Value], programs| {
        let [validate, simulate, approve, put] = ["validate", "simulate", "approve", "put_in_force"].map(|step| json!({"step": step}));
        let mut all = vec![validate, simulate];
        all.extend_from_slice(steps);
        all.extend([approve, put]);
        of_rule_changes(json!(all), programs)
    };
    let counsel = |more: serde_json::Value| {
        let mut program = json!({"timeout_seconds": 1, "attempts": 1, "when_absent": "hold"});
        program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"counsel": program})
    };
    let ask = json!({"step": "ask", "program": "counsel"});
    let book = RuleBook::new("staging");
    let problems = |scope: &RuleScope, layer: &RuleLayer| book.contradictions(scope, layer).join("; ");
    let nothing_fits = json!({"answer": {"type": "integer", "minimum": 5, "maximum": 4}});
    for (layer, why) in [
        (with(&[wait(2_000), wait(201)], json!({})), "they wait for 2201 hours"),
        (with(&[json!({"step": "check", "predicate": "never"})], json!({})), "check is no step of such a workflow"),
        (with(std::slice::from_ref(&ask), json!({})), "counsel is not registered"),
        (with(std::slice::from_ref(&ask), counsel(nothing_fits)), "has a schema for its answers"),
    ] {
        let found = problems(&RuleScope::Global, &layer);
        assert!(found.contains(why), "{found}");
    }
    let fine = with(&[ask, wait(2_000), wait(200)], counsel(json!({})));
    let (fund, of_type) = (RuleScope::Fund(Uuid::from_u128(7)), RuleScope::FundType("buyout".into()));
    for scope in [RuleScope::Global, RuleScope::Environment("staging".into())] {
        assert_eq!(problems(&scope, &fine), "");
    }
    for scope in [&fund, &of_type] {
        assert!(problems(scope, &fine).contains("put them in global"), "{scope}");
    }
    // a fund that registers programs of its own need not know those
    let mut book = RuleBook::new("staging");
    book.put(fund, 1, RuleLayer { programs: Some(Default::default()), ..RuleLayer::default() });
    assert_eq!(book.contradictions(&RuleScope::Global, &fine), [""; 0]);
}
