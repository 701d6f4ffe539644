use ::domain::Currency;
use ::domain::rules::RuleBook;
use chrono::DateTime;
use uuid::Uuid;

use ::domain::messages::allocation_status::{AllocationsPreview, PreviewAllocations, SplitBy};
use ::domain::money::Ratio;

use super::splitting::{Taking, split};
use super::*;

fn usd(units: i64) -> Amount {
    "USD".parse::<Currency>().unwrap().from_minor(i128::from(units) * 100)
}

fn fund(size: i64, allocated: i64) -> Fund {
    Fund {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        name: "Fund".into(),
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        vintage_year: 2026,
        size: usd(size),
        calendar: "NYSE".into(),
        timezone: "UTC".into(),
        allocated: usd(allocated),
        status: FundStatus::Open,
    }
}

fn deal(stage: &str) -> Deal {
    Deal {
        id: Uuid::from_u128(2),
        version: 1,
        schema_version: 1,
        name: "Deal".into(),
        stage: stage.into(),
        company: None,
        sector: None,
        currency: None,
        size: None,
        stage_replies: vec![],
        created_at: None,
    }
}

fn allocation(fund: u128, decision: AllocationDecision) -> Allocation {
    let mut allocation = Allocation {
        id: Uuid::from_u128(3),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        deal_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(fund),
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        amount: usd(5_000),
        security_type: "equity".into(),
        details: None,
        requested_by: "mia".into(),
        workflow_id: Uuid::from_u128(4),
        rules: Default::default(),
        decision,
        called: usd(0),
        paid: usd(0),
        concentration: None,
        withdrawal: None,
        funding_status: FundingStatus::Committed,
        status: String::new(),
    };
    derive(&mut allocation);
    allocation
}

#[test]
fn proposals() {
    let rules = RuleBook::new("development").rules("buyout", Uuid::from_u128(1)).unwrap();
    let others = |count: u128| (0..count).map(|other| allocation(100 + other, AllocationDecision::Active)).collect::<Vec<_>>();
    let open = || (fund(1_000_000_000, 0), deal("due_diligence"));
    type Case = (&'static str, Option<&'static str>, (Fund, Deal), Vec<Allocation>, Result<Amount, Reason>);
    let cases: Vec<Case> = vec![
        ("1000", None, open(), vec![], Ok(usd(1_000))),
        ("1000.00", Some("USD"), open(), others(9), Ok(usd(1_000))),
        ("100000000", None, open(), vec![], Ok(usd(100_000_000))),
        ("999.99", None, open(), vec![], Err(Reason::AmountBelowMinimum)),
        ("100000000.01", None, open(), vec![], Err(Reason::AmountAboveMaximum)),
        ("0", None, open(), vec![], Err(Reason::InvalidAmount)),
        ("-1000", None, open(), vec![], Err(Reason::InvalidAmount)),
        ("1000.001", None, open(), vec![], Err(Reason::AmountPrecision)),
        ("1000", Some("EUR"), open(), vec![], Err(Reason::WrongCurrency)),
        ("1000", None, (fund(1_000_000, 0), deal("withdrawn")), vec![], Err(Reason::DealClosedToAllocation)),
        ("1000", None, open(), vec![allocation(1, AllocationDecision::Active)], Err(Reason::DuplicateAllocation)),
        ("1000", None, open(), vec![allocation(1, AllocationDecision::PendingApproval)], Err(Reason::DuplicateAllocation)),
        ("1000", None, open(), others(10), Err(Reason::TooManyAllocations)),
        ("1000", None, (fund(10_000, 9_000), deal("sourcing")), vec![], Ok(usd(1_000))),
        ("1000.01", None, (fund(10_000, 9_000), deal("sourcing")), vec![], Err(Reason::OverCapacity)),
    ];
    for (amount, currency, (fund, deal), of_deal, expected) in cases {
        let command = ProposeAllocation {
            deal_id: deal.id,
            fund_id: fund.id,
            amount: amount.parse().unwrap(),
            currency: currency.map(|code| code.parse().unwrap()),
            security_type: "equity".into(),
            details: None,
        };
        let proposal = Proposal { fund: &fund, deal: &deal, rules: &rules, of_deal: &of_deal, of_sector: usd(0) };
        assert_eq!(
            propose(&proposal, &command).map_err(|rejection| rejection.reason),
            expected,
            "{amount} {currency:?}, {} others",
            of_deal.len()
        );
    }
}

#[test]
fn no_more_of_a_fund_is_in_one_deal_or_sector_than_the_rules_say() {
    let mut rules = RuleBook::new("development").rules("buyout", Uuid::from_u128(1)).unwrap();
    rules.deal_percent_max = Ratio("12.5".parse().unwrap());
    rules.sector_percents_max =
        [("software".to_owned(), Ratio("20".parse().unwrap())), ("*".to_owned(), Ratio("33.33".parse().unwrap()))].into();
    let fund = fund(1_000_000, 0);
    for (sector, of_sector, amount, expected) in [
        (Some("software"), 0, "125000.00", Ok(usd(125_000))),
        (Some("software"), 0, "125000.01", Err(Reason::DealConcentration)),
        (Some("software"), 100_000, "100000", Ok(usd(100_000))),
        (Some("software"), 100_000, "100000.01", Err(Reason::SectorConcentration)),
        (Some("timber"), 300_000, "33300", Ok(usd(33_300))),
        (Some("timber"), 300_000, "33300.01", Err(Reason::SectorConcentration)),
        (None, 300_000, "33300.01", Err(Reason::SectorConcentration)),
    ] {
        let deal = Deal { sector: sector.map(str::to_owned), ..deal("due_diligence") };
        let command = ProposeAllocation {
            deal_id: deal.id,
            fund_id: fund.id,
            amount: amount.parse().unwrap(),
            currency: None,
            security_type: "equity".into(),
            details: None,
        };
        let proposal = Proposal { fund: &fund, deal: &deal, rules: &rules, of_deal: &[], of_sector: usd(of_sector) };
        let decided = propose(&proposal, &command);
        assert_eq!(decided.map_err(|rejection| rejection.reason), expected, "{sector:?} {of_sector} {amount}");
        if let Ok(amount) = expected {
            let concentration = super::allocation(&proposal, &command, amount, Made::default()).concentration.unwrap();
            assert_eq!(concentration.sector, sector.unwrap_or("unspecified"));
            assert_eq!(concentration.sector_percent, percent_of(usd(of_sector) + amount, fund.size));
        }
        // a split keeps to them as well
        let taker = Taker { fund: fund.clone(), weight: None, rules: rules.clone(), of_sector: usd(of_sector) };
        let split = split_deal(&asked(200_000, SplitBy::Size), &deal, vec![taker], vec![]).unwrap();
        assert_eq!(
            told(&split),
            [(
                if of_sector == 0 {
                    usd(125_000)
                } else if of_sector == 100_000 {
                    usd(100_000)
                } else {
                    usd(33_300)
                },
                None
            )]
        );
    }
}

#[test]
fn decisions_and_statuses() {
    use AllocationDecision::{Active, Denied, PendingApproval};
    for (before, denied, expected) in [
        (PendingApproval, false, Ok(Active)),
        (PendingApproval, true, Ok(Denied)),
        (Active, false, Err(Reason::AllocationNotPending)),
        (Active, true, Err(Reason::AllocationNotPending)),
        (Denied, false, Err(Reason::AllocationNotPending)),
    ] {
        assert_eq!(decide(&allocation(1, before), denied).map_err(|rejection| rejection.reason), expected, "{before:?}");
    }
    for (called, paid, expected) in [(0, 0, "committed"), (10, 0, "unfunded"), (10, 4, "partially_paid"), (10, 10, "funded")] {
        let mut active = allocation(1, Active);
        (active.called, active.paid) = (usd(called), usd(paid));
        derive(&mut active);
        assert_eq!(active.status, expected);
    }
    assert_eq!(allocation(1, Denied).status, "denied");
}

#[test]
fn funds_that_are_refused() {
    let good = RegisterFund {
        name: "Fund".into(),
        fund_type: "buyout".into(),
        currency: "JPY".parse().unwrap(),
        vintage_year: 2026,
        size: "1000000".parse().unwrap(),
        calendar: "TARGET2".into(),
        timezone: "Europe/Berlin".into(),
    };
    assert_eq!(check_fund(&good).unwrap().to_string(), "1000000");
    type Edit = (fn(&mut RegisterFund), Reason);
    let edits: Vec<Edit> = vec![
        (|fund| fund.name = " ".into(), Reason::InvalidText),
        (|fund| fund.fund_type = "a b".into(), Reason::InvalidText),
        (|fund| fund.vintage_year = 26, Reason::ImplausibleDate),
        (|fund| fund.calendar = "MOON".into(), Reason::UnknownCalendar),
        (|fund| fund.timezone = "Moon/Sea".into(), Reason::UnknownTimezone),
        (|fund| fund.size = "0".parse().unwrap(), Reason::InvalidAmount),
        (|fund| fund.size = "1.50".parse().unwrap(), Reason::AmountPrecision),
    ];
    for (edit, reason) in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        assert_eq!(check_fund(&bad).unwrap_err().reason, reason);
    }
}

/// A fund with a number, a size and what is allocated of it.
fn taker(number: u128, size: i64, allocated: i64) -> Taker {
    let fund = Fund { id: Uuid::from_u128(number), ..fund(size, allocated) };
    let rules = RuleBook::new("development").rules(&fund.fund_type, fund.id).unwrap();
    Taker { fund, weight: None, rules, of_sector: usd(0) }
}

fn asked(amount: i64, by: SplitBy) -> PreviewAllocations {
    PreviewAllocations {
        deal_id: Uuid::from_u128(2),
        amount: usd(amount),
        security_type: "equity".into(),
        details: None,
        by,
        funds: vec![],
    }
}

fn told(preview: &AllocationsPreview) -> Vec<(Amount, Option<Reason>)> {
    preview.shares.iter().map(|share| (share.amount, share.problem.as_ref().map(|problem| problem.code))).collect()
}

#[test]
fn a_deal_is_split_by_what_is_left_by_size_or_by_weight() {
    let takers = || vec![taker(11, 300_000, 250_000), taker(12, 200_000, 50_000), taker(13, 100_000, 100_000)];
    let split = |query: &PreviewAllocations, takers| split_deal(query, &deal("due_diligence"), takers, vec![]).unwrap();
    let by_capacity = split(&asked(100_000, SplitBy::Capacity), takers());
    let full = Some(Reason::OverCapacity);
    assert_eq!(told(&by_capacity), [(usd(25_000), None), (usd(75_000), None), (usd(0), full)]);
    // the first one has 50,000 left, the second takes the rest
    let by_size = split(&asked(150_000, SplitBy::Size), takers());
    assert_eq!(told(&by_size), [(usd(50_000), None), (usd(100_000), None), (usd(0), full)]);
    let too_much = split(&asked(210_000, SplitBy::Size), takers());
    assert_eq!((too_much.left, too_much.allocations.len()), (usd(10_000), 2));
    let mut weighed = takers();
    for (taker, text) in weighed.iter_mut().zip(["1", "0.01", "1"]) {
        taker.weight = Some(Ratio(text.parse().unwrap()));
    }
    // 495.05 would be less than the smallest allocation
    let by_weight = split(&asked(50_000, SplitBy::Weight), weighed);
    assert_eq!(told(&by_weight), [(usd(50_000), None), (usd(0), Some(Reason::AmountBelowMinimum)), (usd(0), full)]);
    assert_eq!(split_deal(&asked(50_000, SplitBy::Weight), &deal("won"), takers(), vec![]).unwrap_err().reason, Reason::MalformedRequest);
}

#[test]
fn who_may_not_take_part_in_a_deal_gets_nothing_and_says_why() {
    let takers = || vec![taker(11, 300_000, 0), taker(12, 300_000, 0)];
    let before = Allocation { fund_id: Uuid::from_u128(11), ..allocation(1, AllocationDecision::Active) };
    let query = asked(100_000, SplitBy::Size);
    let preview = split_deal(&query, &deal("due_diligence"), takers(), vec![before]).unwrap();
    assert_eq!(told(&preview), [(usd(0), Some(Reason::DuplicateAllocation)), (usd(100_000), None)]);
    let closed = split_deal(&query, &deal("withdrawn"), takers(), vec![]).unwrap();
    assert!(closed.allocations.is_empty() && closed.left == usd(100_000), "{closed:?}");
    assert!(closed.shares.iter().all(|share| share.problem.as_ref().unwrap().code == Reason::DealClosedToAllocation));
    let mut few = takers();
    few.iter_mut().for_each(|taker| taker.rules.allocations_per_deal_max = 1);
    let one = split_deal(&query, &deal("due_diligence"), few, vec![]).unwrap();
    assert_eq!(told(&one), [(usd(50_000), None), (usd(0), Some(Reason::TooManyAllocations))]);
    let mut other = takers();
    other[1].fund.currency = "EUR".parse().unwrap();
    assert_eq!(split_deal(&query, &deal("due_diligence"), other, vec![]).unwrap_err().reason, Reason::WrongCurrency);
}

proptest::proptest! {
    /// Whatever the funds have left: nothing is lost or made, nobody gets more than it can take or less than it must, and the order of
    /// the funds does not matter.
    #[test]
    fn a_split_is_exact_and_within_everybodys_limits(
        total in 1i128..1_000_000,
        funds in proptest::collection::vec((1i128..1_000, 1i128..5_000, 0i128..200_000), 1..8),
    ) {
        let taking = |(at, &(weight, least, most)): (usize, &(i128, i128, i128))| Taking { id: Uuid::from_u128(at as u128), weight, least, most };
        let takings: Vec<Taking> = funds.iter().enumerate().map(taking).collect();
        let units = split(total, &takings);
        for (units, taking) in units.iter().zip(&takings) {
            proptest::prop_assert!(*units == 0 || (taking.least..=taking.most).contains(units));
        }
        let sum: i128 = units.iter().sum();
        let taking_part = takings.iter().zip(&units).filter(|(_, units)| **units > 0);
        // what is left is left because all who take part are at their most, or nobody can take so little
        let room: i128 = taking_part.map(|(taking, _)| taking.most).sum();
        proptest::prop_assert!(sum == total.min(room));
        let mut turned = takings.clone();
        turned.reverse();
        let mut again = split(total, &turned);
        again.reverse();
        proptest::prop_assert_eq!(again, units);
    }
}
