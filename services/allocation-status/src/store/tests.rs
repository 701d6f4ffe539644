use ::domain::Currency;
use ::domain::messages::capital_calls::{CallLineChange, LinePurpose, LineStatus, LineTiming, PurposeKind};
use ::domain::messages::deals::DealChange;
use chassis::{Context, Database, clock::Clock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

async fn database() -> Database {
    let url = testkit::database::fresh("allocation-status").await;
    Database::connect("allocation-status", &url, "development", Clock::default()).await.unwrap().0
}

fn usd(amount: i128) -> Amount {
    "USD".parse::<Currency>().unwrap().from_minor(amount)
}

fn deal_event(id: u128, version: i64, stage: &str, epoch: i32) -> Seen<Deal> {
    let state = Deal {
        id: Uuid::from_u128(id),
        version,
        schema_version: 1,
        name: "Deal".into(),
        stage: stage.into(),
        company: Some("Company".into()),
        sector: None,
        currency: Some("EUR".parse().unwrap()),
        size: Some("12.50".parse().unwrap()),
        stage_replies: vec![],
        created_at: None,
    };
    Seen { state, change: DealChange::Registered, epoch, context: Context::default() }
}

fn fund_of(tx: &Tx, name: &str) -> Fund {
    Fund {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        name: name.into(),
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        vintage_year: 2026,
        size: usd(1_000),
        calendar: "NYSE".into(),
        timezone: "UTC".into(),
        allocated: usd(0),
        status: FundStatus::Open,
    }
}

fn allocation_of(tx: &Tx, fund: &Fund, deal_id: Uuid) -> Allocation {
    let id = tx.new_id();
    let mut allocation = Allocation {
        id,
        version: 1,
        created_at: tx.now(),
        deal_id,
        fund_id: fund.id,
        fund_type: fund.fund_type.clone(),
        currency: fund.currency,
        amount: usd(500),
        security_type: "equity".into(),
        details: None,
        requested_by: "mia".into(),
        workflow_id: ids::workflow_id(id),
        rules: Default::default(),
        decision: AllocationDecision::PendingApproval,
        called: usd(0),
        paid: usd(0),
        concentration: None,
        withdrawal: None,
        funding_status: FundingStatus::Committed,
        status: String::new(),
    };
    domain::derive(&mut allocation);
    allocation
}

#[tokio::test]
async fn deals_keep_the_newest_version() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let id = Uuid::from_u128(1);
    for (epoch, version, stage, expected) in [(1, 2, "b", "b"), (1, 1, "a", "b"), (1, 3, "c", "c"), (2, 1, "d", "d")] {
        copy_deals(&mut tx, &[deal_event(1, version, stage, epoch)]).await.unwrap();
        assert_eq!(find_deal(&mut tx, id).await.unwrap().unwrap().stage, expected);
    }
    let deal = lock_deals(&mut tx, &[id]).await.unwrap().remove(&id).unwrap();
    assert_eq!((deal.company.as_deref(), deal.size.unwrap().to_string()), (Some("Company"), "12.50".into()));
    assert_eq!(list_deals(&mut tx, Some("d"), Uuid::nil(), 5).await.unwrap().len(), 1);
    assert!(list_deals(&mut tx, Some("a"), Uuid::nil(), 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn funds_and_allocations_read_back_as_written() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let (mut fund, same_name) = (fund_of(&tx, "A"), fund_of(&tx, "A"));
    assert_eq!(insert_funds(&mut tx, &[fund.clone(), same_name]).await.unwrap(), [fund.id]);
    fund.version = 2;
    fund.allocated = usd(500);
    save_funds(&mut tx, &[&fund]).await.unwrap();
    assert_eq!(find_fund(&mut tx, fund.id).await.unwrap(), Some(fund.clone()));
    assert_eq!(lock_funds(&mut tx, &[fund.id]).await.unwrap()[&fund.id], fund);
    assert_eq!(list_funds(&mut tx, Some(&[fund.id]), "", 5).await.unwrap(), [fund.clone()]);
    assert!(list_funds(&mut tx, Some(&[]), "", 5).await.unwrap().is_empty(), "no fund may be seen");
    copy_deals(&mut tx, &[deal_event(1, 1, "a", 1)]).await.unwrap();
    let mut allocation = allocation_of(&tx, &fund, Uuid::from_u128(1));
    insert_allocations(&mut tx, std::slice::from_ref(&allocation)).await.unwrap();
    assert_eq!(allocations_of_deals(&mut tx, &[Uuid::from_u128(1)]).await.unwrap(), [allocation.clone()]);
    allocation.version = 2;
    allocation.decision = AllocationDecision::Active;
    (allocation.called, allocation.paid) = (usd(300), usd(100));
    domain::derive(&mut allocation);
    save_allocations(&mut tx, &[&allocation]).await.unwrap();
    assert_eq!(find_allocation(&mut tx, allocation.id).await.unwrap(), Some(allocation.clone()));
    assert_eq!(lock_allocations(&mut tx, &[allocation.id]).await.unwrap()[&allocation.id], allocation);
    let active = AllocationFilter { decision: Some(AllocationDecision::Active), ..AllocationFilter::default() };
    assert_eq!(list_allocations(&mut tx, &active, Uuid::max(), 5).await.unwrap(), [allocation]);
    fund.allocated = usd(1_001);
    assert!(save_funds(&mut tx, &[&fund]).await.is_err(), "Postgres itself refuses more than the size");
}

fn line(id: u128, version: i64, paid: i128) -> Seen<CallLine> {
    let part = |allocation: u128, amount: i128, paid: i128| LinePurpose {
        kind: PurposeKind::Investment,
        allocation_id: Some(Uuid::from_u128(allocation)),
        inside_commitment: true,
        amount: usd(amount),
        paid: usd(paid),
    };
    let state = CallLine {
        id: Uuid::from_u128(id),
        version,
        created_at: chrono::DateTime::UNIX_EPOCH,
        call_id: Uuid::from_u128(50),
        fund_id: Uuid::from_u128(51),
        fund_type: "buyout".into(),
        investor_id: Uuid::from_u128(52),
        currency: "USD".parse().unwrap(),
        amount: usd(1_000),
        impact_on_unfunded: usd(-1_000),
        amendment: 0,
        disposition: Default::default(),
        paid: usd(paid),
        unapplied: usd(0),
        charges: usd(0),
        outstanding: usd(1_000 - paid),
        last_paid_on: None,
        reference: String::new(),
        interest_paid: usd(0),
        interest_due: usd(0),
        closing_id: None,
        default_interest: None,
        failure_notice: None,
        covered: vec![],
        default: None,
        cured_on: None,
        instructions: None,
        due_on: "2026-01-01".parse().unwrap(),
        issued_on: "2026-01-01".parse().unwrap(),
        grace_days: 0,
        timezone: "UTC".into(),
        // two parts for one allocation, one for another
        purposes: vec![part(1, 400, paid * 4 / 10), part(1, 100, paid / 10), part(2, 500, paid / 2)],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    Seen { state, change: CallLineChange::Issued, epoch: 1, context: Context::default() }
}

#[test]
fn shares_of_lines_in_any_order_with_duplicates_give_the_same_called_and_paid() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let history: Vec<Seen<CallLine>> =
        (1..=4u128).flat_map(|id| [(1, 0), (2, 600), (3, 1_000), (4, 200)].map(|(version, paid)| line(id, version, paid))).collect();
    let order = Just((0..history.len()).collect::<Vec<_>>()).prop_flat_map(|all| {
        prop::collection::vec(0..all.len(), 0..20).prop_flat_map(move |extra| Just([all.clone(), extra].concat()).prop_shuffle())
    });
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let result = runner.run(&order, |order| {
        let sums = runtime.block_on(async {
            let database = database().await;
            let mut sums: HashMap<Uuid, (Amount, Amount)> = HashMap::new();
            for position in order {
                let mut tx = database.begin().await.unwrap();
                for (id, (called, paid)) in keep_line_shares(&mut tx, std::slice::from_ref(&history[position])).await.unwrap() {
                    let sum = sums.entry(id).or_default();
                    *sum = (sum.0 + called, sum.1 + paid);
                }
                tx.commit().await.unwrap();
            }
            sums
        });
        // the newest version of each of the four lines is paid 2.00 of 10.00
        prop_assert_eq!(sums[&Uuid::from_u128(1)], (usd(2_000), usd(400)));
        prop_assert_eq!(sums[&Uuid::from_u128(2)], (usd(2_000), usd(400)));
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}
