use ::domain::Currency;
use ::domain::rules::RuleBook;
use chrono::DateTime;
use uuid::Uuid;

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
        requested_by: "mia".into(),
        workflow_id: Uuid::from_u128(4),
        decision,
        called: usd(0),
        paid: usd(0),
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
        };
        let proposal = Proposal { fund: &fund, deal: &deal, rules: &rules, of_deal: &of_deal };
        assert_eq!(
            propose(&proposal, &command).map_err(|rejection| rejection.reason),
            expected,
            "{amount} {currency:?}, {} others",
            of_deal.len()
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
