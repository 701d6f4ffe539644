use ::domain::messages::capital_calls::ListCapitalCalls;
use ::domain::messages::capital_calls::{
    CallDecision, CallLine, CallStatus, CapitalCall, Clearing, Commitment, CommitmentStatus, LinePurpose, LineStatus, LineTiming, Payment,
    PaymentMethod, PaymentStatus, Priority, Purpose, PurposeKind, Reversal,
};
use ::domain::{Actor, Amount, Currency, ids};
use chassis::{Context, Database, clock::Clock};

use super::*;
use crate::domain;

async fn database() -> Database {
    let url = testkit::database::fresh("capital-calls").await;
    Database::connect("capital-calls", &url, "development", Clock::default()).await.unwrap().0
}

fn usd(amount: i128) -> Amount {
    "USD".parse::<Currency>().unwrap().from_minor(amount)
}

fn date(text: &str) -> chrono::NaiveDate {
    text.parse().unwrap()
}

fn investor_of(tx: &Tx, name: &str) -> Investor {
    Investor {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        name: name.into(),
        email: Some("a@b.example".into()),
        investor_type: Some("pension_fund".into()),
        status: "active".into(),
    }
}

fn commitment_of(tx: &Tx, fund_id: Uuid, investor_id: Uuid) -> Commitment {
    Commitment {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        fund_id,
        investor_id,
        currency: "USD".parse().unwrap(),
        amount: usd(100_000),
        effective_on: date("2026-01-01"),
        called: usd(0),
        unfunded: usd(100_000),
        drawn_transferred: usd(0),
        released_on: None,
        defaulted_on: None,
        remedy: None,
        excused_from: vec![],
        status: CommitmentStatus::Active,
    }
}

fn call_of(tx: &Tx, fund_id: Uuid) -> CapitalCall {
    let purposes = vec![Purpose { kind: PurposeKind::Reserve, allocation_id: None, amount: usd(1_000), inside_commitment: true }];
    let id = tx.new_id();
    let mut call = CapitalCall {
        id,
        version: 1,
        created_at: tx.now(),
        fund_id,
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        amount: usd(1_000),
        content_hash: "h".into(),
        purposes,
        due_on: date("2026-06-30"),
        priority: Priority::High,
        requested_by: "mia".into(),
        authors: vec!["mia".into(), "max".into()],
        workflow_id: ids::workflow_id(id),
        external_reference: Some("CC-1".into()),
        adjustments: vec![],
        rounding: ::domain::messages::capital_calls::Rounding::Cumulative,
        submitted_at: Some(tx.now()),
        amendment: 0,
        amendments_asked: 0,
        amending: None,
        notice_days: None,
        covers_line_id: None,
        decision: CallDecision::PendingApproval,
        decided_because: None,
        rules: Default::default(),
        issued_on: None,
        line_count: 0,
        paid: usd(0),
        status: CallStatus::PendingApproval,
    };
    call.status = domain::call_status(&call);
    call
}

fn line_of(tx: &Tx, call: &CapitalCall, investor_id: Uuid) -> CallLine {
    let mut line = CallLine {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        call_id: call.id,
        fund_id: call.fund_id,
        fund_type: call.fund_type.clone(),
        investor_id,
        currency: call.currency,
        amount: call.amount,
        impact_on_unfunded: -call.amount,
        amendment: 0,
        disposition: ::domain::messages::capital_calls::Disposition::None,
        paid: usd(0),
        unapplied: usd(0),
        charges: usd(0),
        outstanding: call.amount,
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
        due_on: call.due_on,
        issued_on: date("2026-06-01"),
        grace_days: 30,
        timezone: "UTC".into(),
        purposes: vec![LinePurpose {
            kind: PurposeKind::Reserve,
            allocation_id: None,
            inside_commitment: true,
            amount: call.amount,
            paid: usd(0),
        }],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    line.reference = ::domain::CreditorReference::of(line.id).as_str().to_owned();
    domain::derive_line(&mut line, date("2026-06-01"));
    line
}

fn payment_of(tx: &Tx, line: &CallLine, amount: i128, reference: &str) -> Payment {
    Payment {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        line_id: line.id,
        call_id: line.call_id,
        fund_id: line.fund_id,
        investor_id: line.investor_id,
        currency: line.currency,
        amount: usd(amount),
        applied: usd(amount),
        unapplied: usd(0),
        method: PaymentMethod::Sepa,
        reference: reference.into(),
        received_on: date("2026-06-15"),
        recorded_by: "tom".into(),
        interest: usd(0),
        charges: usd(0),
        suspended: usd(0),
        refunded: usd(0),
        moved: usd(0),
        clears_on: None,
        clearing: Clearing::Cleared,
        source: None,
        external_reference: None,
        receipt_id: None,
        moved_from: None,
        suspense: None,
        reversal: None,
        status: PaymentStatus::Applied,
    }
}

/// A fund with one investor, an issued call, its line.
async fn issued(tx: &mut Tx) -> (CapitalCall, CallLine) {
    let investor = investor_of(tx, "Pension");
    insert_investors(tx, std::slice::from_ref(&investor)).await.unwrap();
    let mut call = call_of(tx, tx.new_id());
    insert_calls(tx, std::slice::from_ref(&call)).await.unwrap();
    let line = line_of(tx, &call, investor.id);
    insert_lines(tx, std::slice::from_ref(&line)).await.unwrap();
    call.version = 2;
    call.decision = CallDecision::Issued;
    call.issued_on = Some(date("2026-06-01"));
    call.line_count = 1;
    call.status = domain::call_status(&call);
    save_calls(tx, &[&call]).await.unwrap();
    (call, line)
}

#[tokio::test]
async fn investors_and_commitments_read_back_as_written() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let investors = [investor_of(&tx, "B"), investor_of(&tx, "A")];
    insert_investors(&mut tx, &investors).await.unwrap();
    assert_eq!(known_investors(&mut tx, &[investors[0].id, Uuid::nil()]).await.unwrap(), [investors[0].id]);
    let listed = list_investors(&mut tx, None, Default::default(), 10).await.unwrap();
    assert_eq!(listed, [investors[1].clone(), investors[0].clone()]);
    assert_eq!(list_investors(&mut tx, None, ("A".into(), investors[1].id), 10).await.unwrap().len(), 1);
    let fund = tx.new_id();
    let mut first = commitment_of(&tx, fund, investors[0].id);
    let second = commitment_of(&tx, fund, investors[0].id);
    assert_eq!(insert_commitments(&mut tx, &[first.clone(), second]).await.unwrap(), [first.id], "one commitment of an investor to a fund");
    assert_eq!(list_investors(&mut tx, Some(&[fund]), Default::default(), 10).await.unwrap(), investors[..1]);
    first.version = 2;
    first.called = usd(40_000);
    first.unfunded = usd(60_000);
    save_commitments(&mut tx, &[&first]).await.unwrap();
    assert_eq!(commitments(&mut tx, &[fund]).await.unwrap(), [first.clone()]);
    assert_eq!(lock_commitments(&mut tx, &[fund]).await.unwrap(), [first.clone()]);
    assert_eq!(list_commitments(&mut tx, fund, Uuid::nil(), 10).await.unwrap(), [first.clone()]);
    assert!(list_commitments(&mut tx, fund, first.id, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn postgres_itself_refuses_an_unfunded_below_zero_and_a_line_paid_twice() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let investor = investor_of(&tx, "A");
    insert_investors(&mut tx, std::slice::from_ref(&investor)).await.unwrap();
    let mut commitment = commitment_of(&tx, tx.new_id(), investor.id);
    insert_commitments(&mut tx, std::slice::from_ref(&commitment)).await.unwrap();
    commitment.unfunded = usd(-1);
    assert!(save_commitments(&mut tx, &[&commitment]).await.is_err());
    let mut tx = database.begin().await.unwrap();
    let (_, mut line) = issued(&mut tx).await;
    line.paid = usd(1_001);
    assert!(save_moved(&mut tx, &[], &Moved { lines: vec![&line], ..Moved::default() }).await.is_err());
}

#[tokio::test]
async fn calls_and_lines_read_back_as_written() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let (call, mut line) = issued(&mut tx).await;
    assert_eq!(find_call(&mut tx, call.id).await.unwrap(), Some(call.clone()));
    assert_eq!(lock_calls(&mut tx, &[call.id]).await.unwrap()[&call.id], call);
    let of_fund = ListCapitalCalls { fund_id: Some(call.fund_id), external_reference: Some("CC-1".into()), ..ListCapitalCalls::default() };
    let listed = list_calls(&mut tx, None, &of_fund, Uuid::max(), 5).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&call));
    assert!(
        list_calls(&mut tx, Some(&[Uuid::nil()]), &ListCapitalCalls::default(), Uuid::max(), 5).await.unwrap().is_empty(),
        "other funds only"
    );
    domain::settle(&mut line, domain::Cash { applied: usd(400), ..domain::Cash::default() }, date("2026-06-01"));
    let moved = Moved { lines: vec![&line], paid: [(call.id, usd(400))].into() };
    save_moved(&mut tx, &[], &moved).await.unwrap();
    for mut read in [
        lines_of_call(&mut tx, call.id).await.unwrap().remove(0),
        lock_lines(&mut tx, &[line.id]).await.unwrap().remove(&line.id).unwrap(),
        list_lines(&mut tx, &LineFilter { call_id: Some(call.id), ..LineFilter::default() }, Uuid::max(), 5).await.unwrap().remove(0),
    ] {
        domain::derive_line(&mut read, date("2026-06-01"));
        assert_eq!(read, line);
    }
    let paid = next_versions(&mut tx, &[call.id]).await.unwrap();
    assert_eq!((paid[0].paid, paid[0].version, paid[0].status), (usd(400), 3, CallStatus::PartiallyFunded));
}

#[tokio::test]
async fn payments_of_one_source_do_not_look_like_each_other() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let (_, line) = issued(&mut tx).await;
    let of = |source: &str, tx: &Tx| {
        let (source, external_reference) = (Some(source.to_owned()), Some("7".into()));
        Payment { source, external_reference, ..payment_of(tx, &line, 100, "RF18") }
    };
    let (bank, other) = (of("bank", &tx), of("other", &tx));
    save_moved(&mut tx, &[&bank, &other], &Moved::default()).await.unwrap();
    let look = (line.fund_id, line.investor_id, bank.amount, bank.received_on);
    assert_eq!(similar_payments(&mut tx, &[(look, None)]).await.unwrap().len(), 2);
    assert_eq!(similar_payments(&mut tx, &[(look, Some("third".into()))]).await.unwrap().len(), 2);
    assert_eq!(similar_payments(&mut tx, &[(look, Some("bank".into()))]).await.unwrap(), [other]);
}

#[tokio::test]
async fn payments_are_found_by_their_payer_whatever_the_tables_look_like_when_it_is_planned() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let prepare = format!(
        "set local plan_cache_mode = force_generic_plan; prepare looks (uuid[], uuid[], numeric[], date[], text[]) as {SIMILAR_PAYMENTS}"
    );
    sqlx::raw_sql(&prepare).execute(&mut *tx).await.unwrap();
    let plan: Vec<String> =
        sqlx::query_scalar("explain execute looks (null, null, null, null, null)").persistent(false).fetch_all(&mut *tx).await.unwrap();
    let plan = plan.join("\n");
    let by_payer = plan.split_once("payments_of_payer").map(|(_, rest)| rest.lines().nth(1).unwrap_or_default());
    assert!(by_payer.is_some_and(|condition| condition.contains("Index Cond: ((investor_id = asked.investor_id)")), "{plan}");
}

#[tokio::test]
async fn payments_are_found_by_their_look_until_they_are_reversed() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let (call, line) = issued(&mut tx).await;
    let mut payment = payment_of(&tx, &line, 100, "RF18");
    let other = payment_of(&tx, &line, 100, "RF19");
    save_moved(&mut tx, &[&payment, &other], &Moved::default()).await.unwrap();
    assert_eq!(find_payment(&mut tx, payment.id).await.unwrap(), Some(payment.clone()));
    let look = (line.fund_id, line.investor_id, payment.amount, payment.received_on);
    let of_any = (look, None);
    assert_eq!(similar_payments(&mut tx, &[of_any.clone(), of_any.clone()]).await.unwrap().len(), 2, "each once");
    assert_eq!(similar_payments(&mut tx, &[(look, Some("bank".into()))]).await.unwrap().len(), 2, "typed in");
    let nothing_like = [
        (look.0, look.1, usd(101), look.3),
        (look.0, look.1, look.2, date("2026-06-16")),
        (look.0, Uuid::from_u128(99), look.2, look.3),
        (Uuid::from_u128(99), look.1, look.2, look.3),
    ];
    assert!(similar_payments(&mut tx, &nothing_like.map(|look| (look, None))).await.unwrap().is_empty());
    let newest =
        list_payments(&mut tx, &PaymentFilter { call_id: Some(call.id), ..PaymentFilter::default() }, Uuid::max(), 1).await.unwrap();
    assert_eq!(newest, std::slice::from_ref(&other));
    let scope = |funds| PaymentFilter { scope: Some(funds), ..PaymentFilter::default() };
    let (twice, elsewhere) = ([call.fund_id, call.fund_id], [Uuid::from_u128(99)]);
    assert_eq!(list_payments(&mut tx, &scope(&twice), Uuid::max(), 9).await.unwrap().len(), 2);
    assert_eq!(list_payments(&mut tx, &scope(&twice), newest[0].id, 9).await.unwrap(), [payment.clone()]);
    assert!(list_payments(&mut tx, &scope(&elsewhere), Uuid::max(), 9).await.unwrap().is_empty());
    payment.version = 2;
    payment.reversal = Some(Reversal {
        reason: "bounced".into(),
        effective_on: date("2026-06-20"),
        reversed_by: "tom".into(),
        owed_back: usd(0),
        cash_stays: false,
    });
    payment.status = domain::payment_status(&payment);
    save_payments(&mut tx, &[&payment]).await.unwrap();
    assert_eq!(lock_payments_with_lines(&mut tx, &[(payment.id, payment.line_id)]).await.unwrap()[&payment.id], payment);
    assert_eq!(similar_payments(&mut tx, &[of_any]).await.unwrap(), [other]);
}

fn seen<A: ::domain::Aggregate>(state: A, change: A::Change, epoch: i32) -> Seen<A> {
    Seen { state, change, epoch, context: Context { actor: Actor::service("test"), ..Context::default() } }
}

#[tokio::test]
async fn copies_keep_the_newest_version_and_a_higher_epoch_wins() {
    use ::domain::messages::allocation_status::{AllocationChange, FundChange, FundStatus, FundingStatus, Withdrawal};
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let fund_of = |version, timezone: &str| Fund {
        id: Uuid::from_u128(1),
        version,
        created_at: chrono::DateTime::UNIX_EPOCH,
        name: "Fund".into(),
        fund_type: "buyout".into(),
        currency: "USD".parse().unwrap(),
        vintage_year: 2026,
        size: usd(100),
        calendar: "NYSE".into(),
        timezone: timezone.into(),
        allocated: usd(0),
        status: FundStatus::Open,
    };
    for (epoch, version, timezone, expected) in
        [(1, 5, "a", "a"), (1, 4, "b", "a"), (1, 5, "c", "a"), (1, 6, "d", "d"), (2, 1, "e", "e"), (1, 9, "f", "e")]
    {
        copy_funds(&mut tx, &[seen(fund_of(version, timezone), FundChange::Registered, epoch)]).await.unwrap();
        assert_eq!(
            funds(&mut tx, &[Uuid::from_u128(1)]).await.unwrap()[&Uuid::from_u128(1)].timezone,
            expected,
            "epoch {epoch}, version {version}"
        );
    }
    let allocation_of = |version, decision| Allocation {
        id: Uuid::from_u128(2),
        version,
        created_at: chrono::DateTime::UNIX_EPOCH,
        deal_id: Uuid::from_u128(3),
        fund_id: Uuid::from_u128(1),
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
        status: "committed".into(),
    };
    copy_allocations(&mut tx, &[seen(allocation_of(2, AllocationDecision::Active), AllocationChange::Activated, 1)]).await.unwrap();
    let mut copy = lock_allocations(&mut tx, &[Uuid::from_u128(2)]).await.unwrap().remove(&Uuid::from_u128(2)).unwrap();
    copy.called = usd(700);
    save_allocations(&mut tx, &[&copy]).await.unwrap();
    copy_allocations(&mut tx, &[seen(allocation_of(1, AllocationDecision::PendingApproval), AllocationChange::Proposed, 1)]).await.unwrap();
    let read = allocations(&mut tx, &[Uuid::from_u128(2)]).await.unwrap().remove(&Uuid::from_u128(2)).unwrap();
    assert_eq!((read.active, read.called.decimal(), read.amount.decimal()), (true, usd(700).decimal(), usd(5_000).decimal()));
    // released from version 5 on: whatever comes before it, or says so itself, is called for no more; what comes after it is again
    let id = Uuid::from_u128(2);
    let called = release_allocations(&mut tx, &[(id, 5)]).await.unwrap();
    assert_eq!(called[&id].decimal(), usd(700).decimal(), "what stays called");
    let withdrawal = Withdrawal {
        then: WhenWithdrawn::Cancel,
        at: chrono::DateTime::UNIX_EPOCH,
        by: "mia".into(),
        reason: "off".into(),
        workflow_id: Uuid::from_u128(5),
    };
    // a newer epoch of the owner has forgotten that it asked
    for (epoch, version, is_withdrawn, active) in
        [(1, 2, false, false), (1, 4, false, false), (1, 5, true, false), (1, 6, false, true), (1, 7, true, false), (2, 3, false, true)]
    {
        let withdrawal = is_withdrawn.then(|| withdrawal.clone());
        let state = Allocation { withdrawal, ..allocation_of(version, AllocationDecision::Active) };
        copy_allocations(&mut tx, &[seen(state, AllocationChange::FundingChanged, epoch)]).await.unwrap();
        assert_eq!(lock_allocations(&mut tx, &[id]).await.unwrap()[&id].active, active, "{epoch} {version}");
    }
}
