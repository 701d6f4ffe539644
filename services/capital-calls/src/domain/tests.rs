use ::domain::messages::capital_calls::{
    Commitment, CommitmentStatus, Disposition, LinePreview, LinePurpose, Payment, PaymentStatus, Purpose, Rounding,
};
use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;

mod changes;
mod commitments;
mod late;
mod payments;
mod simulation;

pub(super) fn usd(amount: i128) -> Amount {
    currency().from_minor(amount)
}

fn currency() -> Currency {
    "USD".parse().unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn commitment(id: u128, amount: i128, unfunded: i128) -> Commitment {
    Commitment {
        id: Uuid::from_u128(id),
        version: 1,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        fund_id: Uuid::from_u128(900),
        investor_id: Uuid::from_u128(id),
        currency: currency(),
        amount: usd(amount),
        effective_on: date("2026-01-01"),
        called: usd(amount - unfunded),
        unfunded: usd(unfunded),
        drawn_transferred: usd(0),
        released_on: None,
        defaulted_on: None,
        remedy: None,
        excused_from: vec![],
        status: if unfunded > 0 { CommitmentStatus::Active } else { CommitmentStatus::FullyCalled },
    }
}

fn purpose(kind: PurposeKind, amount: i128, inside_commitment: bool) -> Purpose {
    let allocation_id = (kind == PurposeKind::Investment).then(|| Uuid::from_u128(7));
    Purpose { kind, allocation_id, amount: usd(amount), inside_commitment }
}

fn split(purposes: &[Purpose], commitments: &[Commitment]) -> Result<Vec<LinePreview>, Rejection> {
    split_call(Terms { purposes, adjustments: &[], rounding: Rounding::PerCall, drawn: None }, commitments, currency())
}

fn cash(applied: i128, unapplied: i128) -> Cash {
    Cash { applied: usd(applied), unapplied: usd(unapplied), charges: usd(0), value_on: None }
}

fn adjusted(investor: u128, amount: Option<i128>, cap: Option<i128>) -> LineAdjustment {
    LineAdjustment { investor_id: Uuid::from_u128(investor), amount: amount.map(usd), cap: cap.map(usd), reason: "side letter".into() }
}

pub(super) fn line(amount: i128) -> CallLine {
    let half = amount / 2;
    let part = |amount| LinePurpose {
        kind: PurposeKind::Investment,
        allocation_id: None,
        inside_commitment: true,
        amount: usd(amount),
        paid: usd(0),
    };
    let mut line = CallLine {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        call_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        fund_type: "buyout".into(),
        investor_id: Uuid::from_u128(4),
        currency: currency(),
        amount: usd(amount),
        impact_on_unfunded: usd(-amount),
        amendment: 0,
        disposition: Disposition::None,
        paid: usd(0),
        unapplied: usd(0),
        charges: usd(0),
        outstanding: usd(amount),
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
        due_on: date("2026-03-31"),
        issued_on: date("2026-03-01"),
        grace_days: 30,
        timezone: "UTC".into(),
        purposes: vec![part(half), part(amount - half)],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    derive_line(&mut line, date("2026-03-01"));
    line
}

#[test]
fn time_of_a_line() {
    for (today, paid, expected) in [
        ("2026-03-30", 0, LineTiming::NotDue),
        ("2026-03-31", 0, LineTiming::Due),
        ("2026-04-01", 0, LineTiming::Grace),
        ("2026-04-30", 0, LineTiming::Grace),
        ("2026-05-01", 0, LineTiming::Overdue),
        ("2026-05-01", 99, LineTiming::Overdue),
        ("2026-05-01", 100, LineTiming::Settled),
    ] {
        let mut line = line(100);
        settle(&mut line, cash(paid, 0), date(today));
        assert_eq!(line.timing, expected, "{today}, {paid} paid");
    }
}

#[test]
fn settlement_of_a_line() {
    for (paid, unapplied, expected) in [
        (0, 0, LineStatus::Open),
        (1, 0, LineStatus::PartiallyPaid),
        (100, 0, LineStatus::Paid),
        (100, 5, LineStatus::Overpaid),
        // credit of another payment is left when the one that paid the line bounced
        (0, 5, LineStatus::Open),
    ] {
        let mut line = line(100);
        settle(&mut line, cash(paid, unapplied), date("2026-03-01"));
        assert_eq!(line.status, expected, "{paid} paid, {unapplied} credit");
    }
}

#[test]
fn payments_that_are_refused() {
    let line = line(100);
    for (amount, given, reason) in [
        ("0", None, Reason::InvalidAmount),
        ("-5", None, Reason::InvalidAmount),
        ("1.001", None, Reason::AmountPrecision),
        ("1.00", Some("EUR"), Reason::WrongCurrency),
    ] {
        let given = given.map(|code| code.parse().unwrap());
        assert_eq!(pay(&line, amount.parse().unwrap(), given, usd(0)).unwrap_err().reason, reason, "{amount}");
    }
    assert_eq!(pay(&line, "1".parse().unwrap(), Some(currency()), usd(0)).unwrap(), cash(100, 0));
    assert_eq!(pay(&line, "1.50".parse().unwrap(), None, usd(0)).unwrap(), cash(100, 50));
}

#[test]
fn purposes_that_are_refused() {
    let fund = FundCopy {
        id: Uuid::from_u128(900),
        name: "Fund".into(),
        fund_type: "buyout".into(),
        currency: currency(),
        timezone: "UTC".into(),
        calendar: "NYSE".into(),
        size: None,
        instructions: None,
    };
    let allocation = |fund_id: u128, active, called| AllocationCopy {
        id: Uuid::from_u128(7),
        fund_id: Uuid::from_u128(fund_id),
        amount: usd(1_000),
        active,
        called: usd(called),
    };
    let investment = |amount| purpose(PurposeKind::Investment, amount, true);
    let mut fee_with_allocation = purpose(PurposeKind::ManagementFee, 1, false);
    fee_with_allocation.allocation_id = Some(Uuid::from_u128(7));
    let mut without_allocation = investment(1);
    without_allocation.allocation_id = None;
    for (purposes, known, reason) in [
        (vec![], None, Reason::PurposeMismatch),
        (vec![purpose(PurposeKind::Reserve, 1, true); 51], None, Reason::PurposeMismatch),
        (vec![fee_with_allocation], Some(allocation(900, true, 0)), Reason::PurposeMismatch),
        (vec![without_allocation], Some(allocation(900, true, 0)), Reason::PurposeMismatch),
        (vec![investment(1)], None, Reason::UnknownAllocation),
        (vec![investment(1)], Some(allocation(901, true, 0)), Reason::PurposeMismatch),
        (vec![investment(1)], Some(allocation(900, false, 0)), Reason::AllocationNotActive),
        (vec![investment(1_001)], Some(allocation(900, true, 0)), Reason::CallExceedsAllocation),
        (vec![investment(600), investment(401)], Some(allocation(900, true, 0)), Reason::CallExceedsAllocation),
        (vec![investment(600)], Some(allocation(900, true, 401)), Reason::CallExceedsAllocation),
        (vec![purpose(PurposeKind::Reserve, 0, true)], None, Reason::InvalidAmount),
        (vec![purpose(PurposeKind::Reserve, 600_000_000_000_000, true); 2], None, Reason::InvalidAmount), // only together
    ] {
        let mut purposes = purposes;
        let refused = check_purposes(&mut purposes, &fund, None, |_| known.clone()).unwrap_err();
        assert_eq!(refused.reason, reason, "{purposes:?}");
    }
    let mut good = vec![investment(600), investment(400), purpose(PurposeKind::ManagementFee, 5, false)];
    assert_eq!(check_purposes(&mut good, &fund, None, |_| Some(allocation(900, true, 0))).unwrap(), usd(1_005));
    assert_eq!(
        good,
        [investment(1_000), purpose(PurposeKind::ManagementFee, 5, false)],
        "nothing but their amount told the first two apart"
    );
}

#[test]
fn inside_is_capped_by_what_is_unfunded_and_the_rest_goes_to_the_others() {
    let commitments = [commitment(1, 100_000, 1_000), commitment(2, 100_000, 100_000)];
    let lines = split(&[purpose(PurposeKind::Reserve, 10_000, true)], &commitments).unwrap();
    assert_eq!(lines.iter().map(|line| line.amount).collect::<Vec<_>>(), [usd(1_000), usd(9_000)]);
    let outside = split(&[purpose(PurposeKind::ManagementFee, 10_000, false)], &commitments).unwrap();
    assert_eq!(
        outside.iter().map(|line| (line.amount, line.impact_on_unfunded)).collect::<Vec<_>>(),
        [(usd(5_000), usd(0)), (usd(5_000), usd(0))]
    );
    let refused = split(&[purpose(PurposeKind::Reserve, 101_001, true)], &commitments).unwrap_err();
    assert_eq!((refused.reason, refused.detail.contains("0.01")), (Reason::CallExceedsUnfunded, true), "{refused}");
    assert_eq!(split(&[], &[]).unwrap_err().reason, Reason::NoCommitments);
}

#[test]
fn any_edit_changes_the_hash_of_what_is_approved() {
    let purposes = [purpose(PurposeKind::Reserve, 100, true)];
    let fund = Uuid::from_u128(1);
    let content = CallContent {
        purposes: purposes.into(),
        amount: usd(100),
        due_on: date("2026-01-01"),
        priority: Priority::Normal,
        adjustments: vec![],
        rounding: Rounding::PerCall,
        content_hash: String::new(),
    };
    let hash = content_hash(fund, &content);
    assert_eq!(hash, content_hash(fund, &CallContent { content_hash: "another".into(), ..content.clone() }));
    assert_ne!(hash, content_hash(Uuid::from_u128(2), &content));
    for edited in [
        CallContent { due_on: date("2026-01-02"), ..content.clone() },
        CallContent { purposes: vec![purpose(PurposeKind::Reserve, 101, true)], ..content.clone() },
        CallContent { purposes: vec![purpose(PurposeKind::Reserve, 100, false)], ..content.clone() },
        CallContent { priority: Priority::Urgent, ..content.clone() },
        CallContent { adjustments: vec![adjusted(1, Some(1), None)], ..content.clone() },
        CallContent { rounding: Rounding::Cumulative, ..content.clone() },
    ] {
        assert_ne!(hash, content_hash(fund, &edited), "{edited:?}");
    }
}

proptest! {
    /// Sum of lines = call; sum of purposes = call; unfunded stays at zero or above; each line's parts add up.
    #[test]
    fn a_call_is_split_exactly(
        commitments in prop::collection::vec((1i128..1_000_000, 0i128..1_000_000), 1..30),
        parts in prop::collection::vec((1i128..500_000, any::<bool>()), 1..6),
    ) {
        let mut commitments: Vec<Commitment> = commitments.iter().enumerate().map(|(n, &(amount, unfunded))| commitment(n as u128 + 1, amount, unfunded.min(amount))).collect();
        let purposes: Vec<Purpose> = parts.iter().map(|&(amount, inside)| purpose(PurposeKind::Reserve, amount, inside)).collect();
        let inside: Amount = purposes.iter().filter(|purpose| purpose.inside_commitment).map(|purpose| purpose.amount).sum();
        let unfunded: Amount = commitments.iter().map(|commitment| commitment.unfunded).sum();
        match split(&purposes, &commitments) {
            Err(rejection) => {
                prop_assert_eq!(rejection.reason, Reason::CallExceedsUnfunded);
                prop_assert!(inside > unfunded);
            }
            Ok(lines) => {
                prop_assert_eq!(lines.iter().map(|line| line.amount).sum::<Amount>(), purposes.iter().map(|purpose| purpose.amount).sum::<Amount>());
                prop_assert_eq!(lines.iter().map(|line| line.impact_on_unfunded).sum::<Amount>(), usd(0) - inside);
                for line in &lines {
                    prop_assert_eq!(line.purposes.iter().map(|part| part.amount).sum::<Amount>(), line.amount);
                    let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                    draw(commitment, line.amount, line.impact_on_unfunded);
                    prop_assert!(commitment.unfunded >= usd(0));
                }
            }
        }
    }

    /// paid = applied - reversed, never above the amount, and the parts always add up to what is paid.
    #[test]
    fn payments_and_reversals_in_any_order_keep_the_line_consistent(amount in 2i128..10_000, moves in prop::collection::vec((1i128..5_000, any::<bool>()), 1..40), tolerance in prop_oneof![Just(0i128), 1i128..500]) {
        let mut line = line(amount);
        let mut standing: Vec<Cash> = Vec::new();
        for (cash, back) in moves {
            if back && !standing.is_empty() {
                let taken = standing.remove(usize::try_from(cash).unwrap() % standing.len());
                settle(&mut line, -taken, date("2026-03-01"));
            } else {
                let applied = pay(&line, usd(cash), None, usd(tolerance)).unwrap();
                prop_assert_eq!(applied.applied + applied.unapplied - applied.charges, usd(cash));
                prop_assert!(applied.charges <= usd(tolerance));
                settle(&mut line, applied, date("2026-03-01"));
                standing.push(applied);
            }
            prop_assert_eq!(line.paid, standing.iter().map(|payment| payment.applied).sum::<Amount>());
            prop_assert_eq!(line.unapplied, standing.iter().map(|payment| payment.unapplied).sum::<Amount>());
            prop_assert_eq!(line.charges, standing.iter().map(|payment| payment.charges).sum::<Amount>());
            prop_assert!(line.paid <= line.amount && line.paid >= usd(0));
            prop_assert_eq!(line.purposes.iter().map(|part| part.paid).sum::<Amount>(), line.paid);
            prop_assert!(line.purposes.iter().all(|part| part.paid <= part.amount));
        }
    }
}
