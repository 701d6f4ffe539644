use std::collections::HashMap;

use ::domain::messages::allocation_status::{FundChange, FundStatus};
use ::domain::messages::capital_calls::{CallLineChange, LineStatus, LineTiming};
use ::domain::{Aggregate, Amount, Currency};
use chassis::{Context, Database, clock::Clock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

async fn database() -> Database {
    let url = testkit::database::fresh("fund-metrics").await;
    Database::connect("fund-metrics", &url, "development", Clock::default()).await.unwrap().0
}

pub(super) fn usd(amount: i128) -> Amount {
    "USD".parse::<Currency>().unwrap().from_minor(amount)
}

fn fund(id: u128) -> Seen<Fund> {
    let state = Fund {
        id: Uuid::from_u128(id),
        version: 1,
        created_at: chrono::DateTime::UNIX_EPOCH,
        name: format!("Fund {id}"),
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        vintage_year: 2026,
        size: usd(100),
        calendar: "NYSE".into(),
        timezone: "UTC".into(),
        allocated: usd(0),
        status: FundStatus::Open,
    };
    Seen { state, change: FundChange::Registered, epoch: 1, context: Context::default() }
}

/// One version of a line of 100.00: what is paid of it, and when it is due.
pub(super) fn line(id: u128, version: i64, paid: i128, due_on: &str) -> Seen<CallLine> {
    let state = CallLine {
        id: Uuid::from_u128(id),
        version,
        created_at: chrono::DateTime::UNIX_EPOCH,
        call_id: Uuid::from_u128(50),
        fund_id: Uuid::from_u128(id % 2 + 1),
        fund_type: "buyout".into(),
        investor_id: Uuid::from_u128(id % 3 + 10),
        currency: "USD".parse().unwrap(),
        amount: usd(10_000),
        impact_on_unfunded: usd(-10_000),
        amendment: 0,
        disposition: Default::default(),
        paid: usd(paid),
        unapplied: usd(0),
        charges: usd(0),
        outstanding: usd(10_000 - paid),
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
        due_on: due_on.parse().unwrap(),
        issued_on: due_on.parse().unwrap(),
        grace_days: 0,
        timezone: "UTC".into(),
        purposes: vec![],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    Seen { state, change: CallLineChange::Issued, epoch: 1, context: Context::default() }
}

pub(super) async fn apply(database: &Database, lines: &[Seen<CallLine>]) {
    let mut tx = database.begin().await.unwrap();
    let mut changes = Changes::default();
    keep_lines(&mut tx, lines, &mut changes).await.unwrap();
    add_changes(&mut tx, &changes).await.unwrap();
    tx.commit().await.unwrap();
}

async fn metrics_of(database: &Database) -> (Vec<FundMetrics>, Vec<CurrencyFigures>, Vec<CurrencyFigures>) {
    let mut tx = database.begin().await.unwrap();
    let mut funds = list_fund_metrics(&mut tx, None, Default::default(), 10).await.unwrap();
    // the version counts batches, and batches differ
    funds.iter_mut().for_each(|fund| fund.version = 0);
    let portfolio = figures(&mut tx, "portfolio", &[Uuid::nil()]).await.unwrap();
    (funds, portfolio, investor_figures(&mut tx, Uuid::from_u128(10)).await.unwrap())
}

pub(super) async fn with_funds() -> Database {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let mut changes = Changes::default();
    keep_funds(&mut tx, &[fund(1), fund(2)], &mut changes).await.unwrap();
    add_changes(&mut tx, &changes).await.unwrap();
    tx.commit().await.unwrap();
    database
}

/// Newest version of each aggregate, in the order of ids: what a reader makes of messages that wait together.
pub(super) fn newest<A: Aggregate>(batch: &[Seen<A>]) -> Vec<Seen<A>> {
    let mut newest: HashMap<Uuid, Seen<A>> = HashMap::new();
    for seen in batch {
        let known = newest.get(&seen.state.id()).map(|known| known.state.version());
        if known.is_none_or(|known| seen.state.version() > known) {
            newest.insert(seen.state.id(), seen.clone());
        }
    }
    let mut batch: Vec<Seen<A>> = newest.into_values().collect();
    batch.sort_by_key(|seen| seen.state.id());
    batch
}

#[test]
fn any_order_with_duplicates_in_any_batches_gives_the_same_totals() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // each line has a history: version n is paid so much of it, due on this day
    let history: Vec<Seen<CallLine>> = (1..=6u128)
        .flat_map(|id| {
            let due_on = if id % 2 == 0 { "2020-01-31" } else { "2099-12-31" };
            [(1, 0), (2, 2_500), (3, 10_000), (4, 7_500)].map(|(version, paid)| line(id, version, paid, due_on))
        })
        .collect();
    let expected = runtime.block_on(async {
        let database = with_funds().await;
        for seen in &history {
            apply(&database, std::slice::from_ref(seen)).await;
        }
        metrics_of(&database).await
    });
    let portfolio = &expected.1[0].figures;
    assert_eq!(
        (portfolio.called, portfolio.paid_in, portfolio.overdue, portfolio.lines_overdue),
        (usd(60_000), usd(45_000), usd(7_500), 3)
    );
    let order = prop::collection::vec(0..history.len(), 0..40).prop_flat_map({
        let all: Vec<usize> = (0..history.len()).collect();
        move |extra| Just([all.clone(), extra].concat()).prop_shuffle()
    });
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let strategy = (order, 1usize..9);
    let result = runner.run(&strategy, |(order, batch)| {
        let delivered: Vec<Seen<CallLine>> = order.iter().map(|&position| history[position].clone()).collect();
        let got = runtime.block_on(async {
            let database = with_funds().await;
            for chunk in delivered.chunks(batch) {
                apply(&database, &newest(chunk)).await;
            }
            metrics_of(&database).await
        });
        prop_assert_eq!(&got, &expected);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn two_sessions_that_overlap_count_each_difference_once() {
    let database = with_funds().await;
    apply(&database, &[line(2, 1, 0, "2099-12-31")]).await;
    // the first session has version 2 in hand and has not committed when the second brings version 3
    let mut first = database.begin().await.unwrap();
    let mut changes = Changes::default();
    keep_lines(&mut first, &[line(2, 2, 4_000, "2099-12-31")], &mut changes).await.unwrap();
    let other = database.clone();
    let second = tokio::spawn(async move { apply(&other, &[line(2, 3, 10_000, "2099-12-31")]).await });
    let mut watch = database.begin().await.unwrap();
    let waits = async || {
        let waiting: i64 = sqlx::query_scalar("select count(*) from pg_locks where not granted").fetch_one(&mut *watch).await.unwrap();
        waiting > 0
    };
    let mut waits = waits;
    while !waits().await {
        tokio::task::yield_now().await;
    }
    add_changes(&mut first, &changes).await.unwrap();
    first.commit().await.unwrap();
    second.await.unwrap();
    let (_, portfolio, _) = metrics_of(&database).await;
    assert_eq!((portfolio[0].figures.paid_in, portfolio[0].figures.lines_paid), (usd(10_000), 1));
}

#[tokio::test]
async fn commitments_and_allocations_count_by_their_newest_version() {
    use ::domain::messages::allocation_status::{AllocationChange, FundingStatus};
    use ::domain::messages::capital_calls::{CommitmentChange, CommitmentStatus};
    let database = with_funds().await;
    let commitment = |version, amount| Seen {
        state: Commitment {
            drawn_transferred: usd(0),
            released_on: None,
            defaulted_on: None,
            remedy: None,
            excused_from: vec![],
            id: Uuid::from_u128(70),
            version,
            created_at: chrono::DateTime::UNIX_EPOCH,
            fund_id: Uuid::from_u128(1),
            investor_id: Uuid::from_u128(10),
            currency: "USD".parse().unwrap(),
            amount: usd(amount),
            effective_on: "2026-01-01".parse().unwrap(),
            called: usd(0),
            unfunded: usd(amount),
            status: CommitmentStatus::Active,
        },
        change: CommitmentChange::Recorded,
        epoch: 1,
        context: Context::default(),
    };
    let allocation = |version, decision| Seen {
        state: Allocation {
            id: Uuid::from_u128(80),
            version,
            created_at: chrono::DateTime::UNIX_EPOCH,
            deal_id: Uuid::from_u128(81),
            fund_id: Uuid::from_u128(1),
            fund_type: "buyout".into(),
            currency: "USD".parse().unwrap(),
            amount: usd(900),
            security_type: "equity".into(),
            details: None,
            requested_by: "mia".into(),
            workflow_id: Uuid::from_u128(82),
            rules: Default::default(),
            decision,
            called: usd(0),
            paid: usd(0),
            concentration: None,
            withdrawal: None,
            funding_status: FundingStatus::Committed,
            status: String::new(),
        },
        change: AllocationChange::Proposed,
        epoch: 1,
        context: Context::default(),
    };
    for (seen_commitment, seen_allocation, expected) in [
        (commitment(2, 500), allocation(1, AllocationDecision::PendingApproval), (500, 1, 900, 0)),
        (commitment(1, 300), allocation(2, AllocationDecision::Active), (500, 1, 900, 1)),
        (commitment(3, 800), allocation(3, AllocationDecision::Denied), (800, 1, 0, 0)),
    ] {
        let mut tx = database.begin().await.unwrap();
        let mut changes = Changes::default();
        keep_commitments(&mut tx, &[seen_commitment], &mut changes).await.unwrap();
        keep_allocations(&mut tx, &[seen_allocation], &mut changes).await.unwrap();
        add_changes(&mut tx, &changes).await.unwrap();
        tx.commit().await.unwrap();
        let (funds, _, _) = metrics_of(&database).await;
        let figures = &funds[0].figures;
        assert_eq!(
            (figures.committed, figures.commitments, figures.allocated, figures.allocations),
            (usd(expected.0), expected.1, usd(expected.2), expected.3)
        );
    }
}
