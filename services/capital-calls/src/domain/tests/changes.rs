//! Calls that are not split by share alone, and calls that change after their issue.

use ::domain::messages::capital_calls::{PaymentMethod, ShareReason};

use super::*;

fn three() -> [Commitment; 3] {
    [commitment(1, 100_000, 100_000), commitment(2, 100_000, 100_000), commitment(3, 200_000, 200_000)]
}

fn amounts(lines: &[LinePreview]) -> Vec<(u128, i128)> {
    lines.iter().map(|line| (line.investor_id.as_u128(), line.amount.minor(currency()))).collect()
}

fn terms<'a>(purposes: &'a [Purpose], adjustments: &'a [LineAdjustment]) -> Terms<'a> {
    Terms { purposes, adjustments, rounding: Rounding::PerCall }
}

#[test]
fn who_is_excused_from_an_allocation_pays_no_part_of_it_and_the_others_pay_it() {
    let mut commitments = three();
    commitments[0].excused_from.push(Uuid::from_u128(7));
    let purposes = [purpose(PurposeKind::Investment, 9_000, true), purpose(PurposeKind::ManagementFee, 400, false)];
    let lines = split_call(terms(&purposes, &[]), &commitments, currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 100), (2, 3_100), (3, 6_200)]);
    commitments[1].unfunded = usd(2_000);
    let lines = split_call(terms(&purposes, &[]), &commitments, currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 100), (2, 2_100), (3, 7_200)], "within what they have unfunded");
    let too_much = [purpose(PurposeKind::Investment, 202_001, true)];
    let refused = split_call(terms(&too_much, &[]), &commitments, currency()).unwrap_err();
    assert!(refused.reason == Reason::CallExceedsUnfunded && refused.detail.contains("0.01"), "{refused}");
}

#[test]
fn an_amount_or_a_cap_may_be_given_and_the_others_share_the_rest() {
    let purposes = [purpose(PurposeKind::Reserve, 3_000, true), purpose(PurposeKind::Expenses, 1_000, false)];
    for (adjustments, expected) in [
        (vec![adjusted(1, Some(400), None)], vec![(1, 400), (2, 1_200), (3, 2_400)]),
        (vec![adjusted(3, None, Some(800))], vec![(1, 1_600), (2, 1_600), (3, 800)]),
        (vec![adjusted(3, None, Some(9_000))], vec![(1, 1_000), (2, 1_000), (3, 2_000)]),
        (vec![adjusted(1, Some(2_000), None), adjusted(2, Some(2_000), None)], vec![(1, 2_000), (2, 2_000)]),
    ] {
        let lines = split_call(terms(&purposes, &adjustments), &three(), currency()).unwrap();
        assert_eq!(amounts(&lines), expected, "{adjustments:?}");
    }
    for (adjustments, reason) in [
        (vec![adjusted(1, Some(4_001), None)], Reason::AdjustmentMismatch),
        (vec![adjusted(1, Some(2_001), None), adjusted(2, Some(2_000), None)], Reason::AdjustmentMismatch),
        (vec![adjusted(9, Some(1), None)], Reason::AdjustmentMismatch),
    ] {
        assert_eq!(split_call(terms(&purposes, &adjustments), &three(), currency()).unwrap_err().reason, reason, "{adjustments:?}");
    }
    let mut little = three();
    little[0].unfunded = usd(299);
    let refused = split_call(terms(&purposes, &[adjusted(1, Some(400), None)]), &little, currency()).unwrap_err();
    assert_eq!(refused.reason, Reason::CallExceedsUnfunded, "{refused}");
}

#[test]
fn what_is_returned_is_netted_and_may_be_called_again() {
    let purposes = [purpose(PurposeKind::Reserve, 4_000, true), purpose(PurposeKind::RecallableReturn, 1_000, true)];
    let lines = split_call(terms(&purposes, &[]), &three(), currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 750), (2, 750), (3, 1_500)]);
    assert_eq!((lines[0].impact_on_unfunded, lines[0].unfunded_after), (usd(-750), usd(99_250)));
    assert_eq!(lines[0].purposes.iter().map(|part| part.amount).collect::<Vec<_>>(), [usd(1_000), usd(-250)]);
    let too_much = [purpose(PurposeKind::Reserve, 4_000, true), purpose(PurposeKind::RecallableReturn, 4_000, true)];
    assert_eq!(split_call(terms(&too_much, &[]), &three(), currency()).unwrap_err().reason, Reason::NetCallNotPositive);
}

#[test]
fn what_was_returned_and_called_again_is_not_called_twice() {
    let mut commitments = three();
    // a return that was called again and is taken back now
    commitments[0].unfunded = usd(-100);
    let refused = split(&[purpose(PurposeKind::Expenses, 400, false)], &commitments).unwrap_err();
    assert_eq!(refused.reason, Reason::CallExceedsUnfunded, "{refused}");
    let more_than_was_called = [purpose(PurposeKind::Expenses, 4_000, false), purpose(PurposeKind::RecallableReturn, 40, true)];
    assert_eq!(split(&more_than_was_called, &three()).unwrap_err().reason, Reason::PurposeMismatch);
}

#[test]
fn a_preview_says_how_each_share_came_about() {
    let commitments = [commitment(1, 50_000, 50_000), commitment(2, 50_000, 50_000), commitment(3, 50_000, 1_000)];
    let lines = split(&[purpose(PurposeKind::Reserve, 10_000, true)], &commitments).unwrap();
    let told: Vec<_> = lines.iter().map(|line| (line.shares[0].exact.0.to_string(), line.shares[0].because, line.amount)).collect();
    assert_eq!(
        told,
        [
            ("45".into(), ShareReason::RoundedDown, usd(4_500)),
            ("45".into(), ShareReason::RoundedDown, usd(4_500)),
            ("33.33333333".into(), ShareReason::Capped, usd(1_000)),
        ]
    );
    let thirds = [commitment(1, 5, 5), commitment(2, 5, 5), commitment(3, 5, 5)];
    let lines = split(&[purpose(PurposeKind::Reserve, 10, true)], &thirds).unwrap();
    assert_eq!(
        lines.iter().map(|line| line.shares[0].because).collect::<Vec<_>>(),
        [ShareReason::RoundedUp, ShareReason::RoundedDown, ShareReason::RoundedDown]
    );
}

#[test]
fn the_notice_period_is_of_business_days_and_shorter_for_what_is_urgent() {
    let fund = FundCopy {
        id: Uuid::from_u128(900),
        fund_type: "buyout".into(),
        currency: currency(),
        timezone: "UTC".into(),
        calendar: "NYSE+TARGET2".into(),
    };
    let rules = ::domain::rules::built_in().complete().unwrap();
    // Thanksgiving is the 26th of November, Christmas a Friday
    for (priority, issued_on, expected) in [
        (Priority::Normal, "2026-11-20", "2026-12-07"),
        (Priority::High, "2026-12-22", "2026-12-30"),
        (Priority::Urgent, "2026-12-24", "2026-12-28"),
    ] {
        assert_eq!(earliest_due(&fund, &rules, priority, date(issued_on)), Ok(date(expected)), "{priority:?}");
    }
}

fn payment(id: u128, amount: i128, applied: i128) -> Payment {
    let mut payment = Payment {
        id: Uuid::from_u128(id),
        version: 1,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        line_id: Uuid::from_u128(1),
        call_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        investor_id: Uuid::from_u128(4),
        currency: currency(),
        amount: usd(amount),
        applied: usd(applied),
        unapplied: usd(amount - applied),
        method: PaymentMethod::Wire,
        reference: "r".into(),
        received_on: date("2026-03-01"),
        recorded_by: "tom".into(),
        reversal: None,
        status: PaymentStatus::Applied,
    };
    payment.status = payment_status(&payment);
    payment
}

#[test]
fn credit_is_used_oldest_first_and_made_newest_first() {
    let mut payments = [payment(1, 100, 40), payment(2, 50, 0)];
    assert_eq!(reapply(&mut payments, usd(80)), [0, 1]);
    assert_eq!(payments.iter().map(|payment| payment.applied).collect::<Vec<_>>(), [usd(100), usd(20)]);
    assert_eq!((payments[0].status, payments[1].status), (PaymentStatus::Applied, PaymentStatus::Overpaid));
    assert_eq!(reapply(&mut payments, usd(-30)), [1, 0]);
    assert_eq!(payments.iter().map(|payment| (payment.applied, payment.version)).collect::<Vec<_>>(), [(usd(90), 3), (usd(0), 3)]);
}

proptest! {
    /// Whatever a call is amended to and however its lines were paid: cash is neither made nor lost, a line has credit only when it is
    /// paid, the commitments' sums follow, and after the call is taken back everything is as it was before it.
    #[test]
    fn amendments_keep_the_sums_and_a_rescission_gives_everything_back(
        first in 100i128..50_000,
        cash in prop::collection::vec(0i128..40_000, 3),
        amendments in prop::collection::vec((100i128..100_000, any::<bool>(), 0i128..50_000), 0..6),
    ) {
        let before = three();
        let mut commitments = before.clone();
        let today = date("2026-03-01");
        let mut lines = Vec::new();
        for preview in split(&[purpose(PurposeKind::Reserve, first, true)], &commitments).unwrap() {
            let mut line = CallLine { investor_id: preview.investor_id, purposes: preview.purposes.clone(), impact_on_unfunded: preview.impact_on_unfunded, ..line(first) };
            line.amount = preview.amount;
            derive_line(&mut line, today);
            let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
            draw(commitment, line.amount, line.impact_on_unfunded);
            lines.push(line);
        }
        for (line, cash) in lines.iter_mut().zip(&cash).filter(|(_, cash)| **cash > 0) {
            let paid = pay(line, usd(*cash), None).unwrap();
            settle(line, paid.applied, paid.unapplied, today);
        }
        let received: Vec<Amount> = lines.iter().map(|line| line.paid + line.unapplied).collect();
        for (number, (amount, inside, given)) in (1..).zip(amendments) {
            let purposes = [purpose(PurposeKind::Reserve, amount, inside), purpose(PurposeKind::Expenses, 7, false)];
            let adjustments = if given > 0 && given <= amount { vec![adjusted(1, Some(given), None)] } else { vec![] };
            let mut free = commitments.clone();
            for line in &lines {
                let commitment = free.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                draw(commitment, -line.amount, -line.impact_on_unfunded);
            }
            let Ok(previews) = split_call(terms(&purposes, &adjustments), &free, currency()) else { continue };
            for line in &mut lines {
                let preview = previews.iter().find(|preview| preview.investor_id == line.investor_id);
                let Some(moved) = amend_line(line, preview, date("2026-04-30"), number, today) else { continue };
                let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                draw(commitment, moved.amount, moved.impact_on_unfunded);
            }
            prop_assert_eq!(lines.iter().map(|line| line.amount).sum::<Amount>(), usd(amount + 7));
            for ((line, commitment), cash) in lines.iter().zip(&commitments).zip(&received) {
                prop_assert_eq!(line.paid + line.unapplied, *cash);
                prop_assert!(line.unapplied == usd(0) || line.outstanding == usd(0));
                prop_assert_eq!(line.purposes.iter().map(|part| part.amount).sum::<Amount>(), line.amount);
                prop_assert_eq!(line.purposes.iter().map(|part| part.paid).sum::<Amount>(), line.paid);
                prop_assert_eq!((commitment.called, commitment.unfunded), (line.amount, commitment.amount + line.impact_on_unfunded));
                prop_assert!(commitment.unfunded >= usd(0));
            }
        }
        for ((line, commitment), cash) in lines.iter_mut().zip(&mut commitments).zip(&received) {
            let moved = rescind_line(line, today);
            draw(commitment, moved.amount, moved.impact_on_unfunded);
            prop_assert_eq!((line.amount, line.paid, line.unapplied, line.disposition), (usd(0), usd(0), *cash, Disposition::Rescinded));
            prop_assert_eq!(pay(line, usd(1), None).unwrap_err().reason, Reason::CallRescinded);
        }
        for (commitment, before) in commitments.iter().zip(&before) {
            prop_assert_eq!((commitment.called, commitment.unfunded), (before.called, before.unfunded));
        }
    }

    /// However many calls there are, nobody is more than a unit away from its share of all that was called.
    #[test]
    fn cumulative_rounding_does_not_drift(weights in prop::collection::vec(1_000i128..100_000, 2..12), calls in prop::collection::vec(1i128..500, 1..40)) {
        let mut commitments: Vec<Commitment> = weights.iter().enumerate().map(|(n, weight)| commitment(n as u128 + 1, *weight * 1_000, *weight * 1_000)).collect();
        let total: i128 = weights.iter().sum();
        let mut called = 0;
        for amount in calls {
            called += amount;
            let purposes = [purpose(PurposeKind::Reserve, amount, true)];
            let terms = Terms { purposes: &purposes, adjustments: &[], rounding: Rounding::Cumulative };
            let lines = split_call(terms, &commitments, currency()).unwrap();
            prop_assert_eq!(lines.iter().map(|line| line.amount).sum::<Amount>(), usd(amount));
            for line in lines {
                let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                draw(commitment, line.amount, line.impact_on_unfunded);
            }
        }
        for (commitment, weight) in commitments.iter().zip(&weights) {
            let off = commitment.called.minor(currency()) * total - called * weight;
            prop_assert!(off.abs() < 2 * total, "{} of {called} by {weight} of {total}", commitment.called);
        }
    }
}
