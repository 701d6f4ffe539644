//! Calls that are not split by share alone, and calls that change after their issue.

use ::domain::messages::capital_calls::{Clearing, PaymentMethod, ShareReason};

use super::*;

fn three() -> [Commitment; 3] {
    [commitment(1, 100_000, 100_000), commitment(2, 100_000, 100_000), commitment(3, 200_000, 200_000)]
}

fn amounts(lines: &[LinePreview]) -> Vec<(u128, i128)> {
    lines.iter().map(|line| (line.investor_id.as_u128(), line.amount.minor(currency()))).collect()
}

fn terms<'a>(purposes: &'a [Purpose], adjustments: &'a [LineAdjustment]) -> Terms<'a> {
    Terms { purposes, adjustments, rounding: Rounding::PerCall, drawn: None }
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
fn what_is_excused_or_capped_in_one_purpose_is_placed_in_another() {
    // the first has 120.00 unfunded; the second is excused from the allocation, not from the expenses
    let mut commitments = [commitment(1, 12_000, 12_000), commitment(2, 100_000, 100_000)];
    commitments[1].excused_from.push(Uuid::from_u128(7));
    let purposes = [purpose(PurposeKind::Expenses, 10_000, true), purpose(PurposeKind::Investment, 10_000, true)];
    let lines = split_call(terms(&purposes, &[]), &commitments, currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 11_071), (2, 8_929)]);
    commitments[0].unfunded = usd(10_500);
    let lines = split_call(terms(&purposes, &[]), &commitments, currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 10_500), (2, 9_500)]);
    // a cap is one on all that is called, wherever it is
    let purposes = [purpose(PurposeKind::Reserve, 10_000, true), purpose(PurposeKind::Expenses, 10_000, false)];
    let little = [commitment(1, 10_000, 10_000), commitment(2, 10_000, 6_000)];
    let lines = split_call(terms(&purposes, &[adjusted(1, None, Some(5_000))]), &little, currency()).unwrap();
    assert_eq!(amounts(&lines), [(1, 5_000), (2, 15_000)]);
}

#[test]
fn each_total_is_the_largest_remainder_of_all_purposes_and_no_purpose_is_a_unit_off() {
    let commitments = [1_000, 1_000, 30_000, 30_000].map(|amount| commitment(amount.max(1) as u128, amount, amount));
    let commitments: Vec<Commitment> =
        commitments.into_iter().zip(1..).map(|(it, id)| Commitment { investor_id: Uuid::from_u128(id), ..it }).collect();
    let purposes =
        [purpose(PurposeKind::Reserve, 88, true), purpose(PurposeKind::Expenses, 14, true), purpose(PurposeKind::ManagementFee, 5, false)];
    let lines = split(&purposes, &commitments).unwrap();
    assert_eq!(amounts(&lines), [(1, 2), (2, 1), (3, 52), (4, 52)]);
    let told = &lines[0].shares;
    assert_eq!((told.len(), &told[0].purposes, told[0].total, told[0].because), (1, &vec![0, 1, 2], usd(107), ShareReason::RoundedUp));
}

#[test]
fn a_share_of_less_than_a_unit_is_neither_turned_round_nor_in_the_way() {
    for (weights, amounts) in [(vec![2, 4, 10, 4, 5], [32, 27, 5, 1]), (vec![12, 2, 1, 11], [5, 0, 0, 2])] {
        let commitments: Vec<Commitment> = (1..)
            .zip(weights)
            .map(|(id, weight)| Commitment { unfunded: usd(weight * 50), ..commitment(id, weight * 100, weight * 50) })
            .collect();
        let [reserve, expenses, fee, back] = amounts;
        let all = [
            purpose(PurposeKind::Reserve, reserve, true),
            purpose(PurposeKind::Expenses, expenses, true),
            purpose(PurposeKind::ManagementFee, fee, false),
            purpose(PurposeKind::RecallableReturn, back, true),
        ];
        let purposes: Vec<Purpose> = all.into_iter().filter(|purpose| purpose.amount.is_positive()).collect();
        let lines = split(&purposes, &commitments).unwrap();
        assert_eq!(lines.iter().map(|line| line.amount).sum::<Amount>(), usd(reserve + expenses + fee - back));
        for part in lines.iter().flat_map(|line| &line.purposes) {
            assert_eq!(part.kind == PurposeKind::RecallableReturn, part.amount < usd(0), "{lines:#?}");
        }
    }
}

#[test]
fn cumulative_rounding_makes_up_for_rounding_and_for_nothing_else() {
    let cumulative = |commitments: &[Commitment], amount| {
        let purposes = [purpose(PurposeKind::Reserve, amount, true)];
        let terms = Terms { purposes: &purposes, adjustments: &[], rounding: Rounding::Cumulative, drawn: None };
        amounts(&split_call(terms, commitments, currency()).unwrap())
    };
    // 3.33 each, and one has paid 3.34 before: another pays the cent now
    let thirds = [commitment(1, 10_000, 9_666), commitment(2, 10_000, 9_667), commitment(3, 10_000, 9_667)];
    assert_eq!(cumulative(&thirds, 1_000), [(1, 333), (2, 334), (3, 333)]);
    // the first was excused from what the second has paid, and does not pay for it now
    let excused = [commitment(1, 100_000, 100_000), commitment(2, 100_000, 90_000)];
    assert_eq!(cumulative(&excused, 5_000), [(1, 2_500), (2, 2_500)]);
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
fn who_has_drawn_too_much_draws_no_more_and_pays_what_is_outside() {
    let mut commitments = three();
    commitments[0].unfunded = usd(-100);
    assert_eq!(amounts(&split(&[purpose(PurposeKind::Expenses, 400, false)], &commitments).unwrap()), [(1, 100), (2, 100), (3, 200)]);
    assert_eq!(amounts(&split(&[purpose(PurposeKind::Expenses, 300, true)], &commitments).unwrap()), [(2, 100), (3, 200)]);
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
        name: "Fund".into(),
        fund_type: "buyout".into(),
        currency: currency(),
        timezone: "UTC".into(),
        calendar: "NYSE+TARGET2".into(),
        size: None,
        instructions: None,
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

pub fn payment(id: u128, amount: i128, applied: i128) -> Payment {
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
    };
    payment.status = payment_status(&payment);
    payment
}

#[test]
fn credit_is_used_oldest_first_and_made_newest_first() {
    let mut payments = [payment(1, 100, 40), payment(2, 50, 0)];
    let today = date("2026-03-01");
    let applied = |payments: &[Payment]| payments.iter().map(|payment| (payment.applied, payment.version)).collect::<Vec<_>>();
    assert_eq!(pay_anew(&mut line(120), &mut payments, today), [0, 1]);
    assert_eq!(applied(&payments), [(usd(100), 2), (usd(20), 2)]);
    assert_eq!((payments[0].status, payments[1].status), (PaymentStatus::Applied, PaymentStatus::Overpaid));
    assert_eq!(pay_anew(&mut line(90), &mut payments, today), [0, 1]);
    assert_eq!(applied(&payments), [(usd(90), 3), (usd(0), 3)]);
    assert_eq!(pay_anew(&mut line(90), &mut payments, today), [] as [usize; 0]);
}

/// A line of an investor that asks for these amounts: reserve, expenses, and a return below zero.
fn asks(id: u128, amounts: [i128; 3], impact: i128) -> CallLine {
    let mut line = line(amounts.iter().sum());
    (line.id, line.impact_on_unfunded, line.purposes) = (Uuid::from_u128(id), usd(impact), parts(amounts));
    derive_line(&mut line, date("2026-03-01"));
    line
}

fn parts(amounts: [i128; 3]) -> Vec<LinePurpose> {
    let kinds = [PurposeKind::Reserve, PurposeKind::Expenses, PurposeKind::RecallableReturn];
    let part = |(kind, amount): (PurposeKind, i128)| {
        let inside_commitment = kind != PurposeKind::Expenses;
        LinePurpose { kind, allocation_id: None, inside_commitment, amount: usd(amount), paid: usd(0) }
    };
    kinds.into_iter().zip(amounts).filter(|(_, amount)| *amount != 0).map(part).collect()
}

fn called(amounts: [i128; 3], impact: i128) -> LinePreview {
    let [preview] = <[LinePreview; 1]>::try_from(split(&[purpose(PurposeKind::Reserve, 1, true)], &three()[..1]).unwrap()).unwrap();
    LinePreview { amount: usd(amounts.iter().sum()), impact_on_unfunded: usd(impact), purposes: parts(amounts), ..preview }
}

#[test]
fn what_is_called_in_addition_is_the_newest_lines_and_so_is_what_is_called_no_more() {
    let (old, new) = (asks(1, [1_000, 0, 0], -1_000), asks(2, [50, 0, 0], -50));
    for (amount, expected) in [(1_060, [1_000, 60]), (1_020, [1_000, 20]), (1_000, [1_000, 0]), (900, [900, 0])] {
        let parts = divide(Some(&called([amount, 0, 0], -amount)), &[&old, &new]);
        let parts: Vec<(Amount, Amount)> = parts.into_iter().flatten().map(|part| (part.amount, part.impact_on_unfunded)).collect();
        assert_eq!(parts, expected.map(|amount| (usd(amount), usd(-amount))), "{amount}");
    }
    assert!(divide(None, &[&old, &new]).iter().all(Option::is_none));
    let (kept, added) = divide_with_new(&called([1_100, 0, 0], -1_100), &[&old, &new]).unwrap();
    assert_eq!(kept.into_iter().flatten().map(|part| part.amount).collect::<Vec<_>>(), [usd(1_000), usd(50)]);
    assert_eq!((added.amount, added.impact_on_unfunded), (usd(50), usd(-50)));
    assert_eq!(divide_with_new(&called([1_050, 0, 0], -1_050), &[&old, &new]), None);
    // expenses that are inside the commitments from now on stay with the line that they were paid on
    let (old, new) = (asks(1, [1_000, 70, 0], -1_000), asks(2, [50, 3, 0], -50));
    let mut inside = called([1_050, 73, 0], -1_123);
    inside.purposes.iter_mut().for_each(|part| part.inside_commitment = true);
    let parts: Vec<LinePreview> = divide(Some(&inside), &[&old, &new]).into_iter().flatten().collect();
    let of = |part: &LinePreview| (part.amount, part.impact_on_unfunded);
    assert_eq!(parts.iter().map(of).collect::<Vec<_>>(), [(usd(1_070), usd(-1_070)), (usd(53), usd(-53))]);
}

proptest! {
    /// Whoever is excused from what, a call is placed whenever it can be, and otherwise the refusal says what is missing: by Hall's
    /// theorem the most that any of the purposes need together beyond what those who share one of them have unfunded.
    #[test]
    fn a_call_is_placed_wherever_it_can_be_and_a_refusal_says_what_is_missing(
        investors in prop::collection::vec((1i128..1_000, 0i128..1_000, prop::collection::vec(any::<bool>(), 5)), 1..7),
        amounts in prop::collection::vec(1i128..1_000, 1..6),
    ) {
        let deal = |place: usize| Uuid::from_u128(50 + place as u128);
        let of = |(at, (amount, unfunded, excused)): (usize, &(i128, i128, Vec<bool>))| {
            let mut commitment = commitment(at as u128 + 1, *amount, (*unfunded).min(*amount));
            // nobody is excused from the last one
            commitment.excused_from = (0..4).filter(|place| excused[*place]).map(deal).collect();
            commitment
        };
        let commitments: Vec<Commitment> = investors.iter().enumerate().map(of).collect();
        let purposes: Vec<Purpose> = amounts.iter().enumerate().map(|(place, &amount)| Purpose { allocation_id: Some(deal(place)), ..purpose(PurposeKind::Investment, amount, true) }).collect();
        let shares = |commitment: &Commitment, place: usize| !commitment.excused_from.contains(&deal(place));
        let missing = (0u32..1 << purposes.len()).map(|chosen| {
            let chosen: Vec<usize> = (0..purposes.len()).filter(|place| chosen & (1 << place) != 0).collect();
            let needed: Amount = chosen.iter().map(|place| purposes[*place].amount).sum();
            let room: Amount = commitments.iter().filter(|commitment| chosen.iter().any(|place| shares(commitment, *place))).map(|commitment| commitment.unfunded).sum();
            needed - room
        }).max().unwrap();
        match split(&purposes, &commitments) {
            Err(rejection) => {
                prop_assert_eq!(rejection.reason, Reason::CallExceedsUnfunded);
                let said = format!("{} USD", currency().from_minor(missing.minor(currency())));
                prop_assert!(rejection.detail.starts_with(&said), "{} instead of {}", rejection, said);
            }
            Ok(lines) => {
                prop_assert!(missing <= usd(0));
                let mut sums = vec![usd(0); purposes.len()];
                for line in &lines {
                    let commitment = commitments.iter().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                    prop_assert!(line.unfunded_after >= usd(0) && line.impact_on_unfunded == usd(0) - line.amount);
                    for part in &line.purposes {
                        let place = (0..purposes.len()).find(|place| part.allocation_id == Some(deal(*place))).unwrap();
                        prop_assert!(shares(commitment, place) && part.amount > usd(0));
                        sums[place] += part.amount;
                    }
                }
                prop_assert_eq!(sums, purposes.iter().map(|purpose| purpose.amount).collect::<Vec<_>>());
                let turned: Vec<Commitment> = commitments.iter().rev().cloned().collect();
                let mut again = split(&purposes, &turned).unwrap();
                again.reverse();
                prop_assert_eq!(again, lines);
            }
        }
    }
}

proptest! {
    /// Whatever an investor is called over its lines, the lines come to it, by purpose too, and none is below zero, nor is a purpose but a return.
    #[test]
    fn the_lines_of_an_investor_come_to_what_it_is_called(
        lines in prop::collection::vec((0i128..5_000, 0i128..500, 0i128..1_000), 1..4),
        (inside, outside, back) in (1i128..9_000, 0i128..900, 0i128..2_000),
        with_new in any::<bool>(),
    ) {
        let sound = |(inside, outside, back): (i128, i128, i128)| [inside, outside, -back.min(inside + outside - 1).max(0)];
        let lines: Vec<CallLine> = (1..).zip(lines).map(|(id, amounts)| { let [inside, outside, back] = sound(amounts); asks(id, [inside, outside, back], -inside - back) }).collect();
        let lines: Vec<&CallLine> = lines.iter().collect();
        let [inside, outside, back] = sound((inside, outside, back));
        let preview = called([inside, outside, back], -inside - back);
        let targets = match divide_with_new(&preview, &lines).filter(|_| with_new) {
            Some((targets, new)) => { prop_assert!(new.amount > usd(0)); targets.into_iter().chain([Some(new)]).collect() }
            None => divide(Some(&preview), &lines),
        };
        let targets: Vec<LinePreview> = targets.into_iter().flatten().collect();
        let sum = |of: &dyn Fn(&LinePreview) -> Amount| targets.iter().map(of).sum::<Amount>();
        prop_assert_eq!(sum(&|part| part.amount), preview.amount);
        prop_assert_eq!(sum(&|part| part.impact_on_unfunded), preview.impact_on_unfunded);
        for asked in &preview.purposes {
            let of_kind = |part: &LinePreview| part.purposes.iter().filter(|purpose| purpose.kind == asked.kind).map(|purpose| purpose.amount).sum();
            prop_assert_eq!(sum(&of_kind), asked.amount);
        }
        for target in &targets {
            prop_assert!(target.amount >= usd(0));
            let is_return = |part: &LinePurpose| part.kind == PurposeKind::RecallableReturn;
            prop_assert!(target.purposes.iter().all(|part| if is_return(part) { part.amount <= usd(0) } else { part.amount >= usd(0) }), "{targets:?}");
            prop_assert_eq!(target.purposes.iter().map(|part| part.amount).sum::<Amount>(), target.amount);
            let inside: Amount = target.purposes.iter().filter(|part| part.inside_commitment).map(|part| part.amount).sum();
            prop_assert_eq!(target.impact_on_unfunded, -inside);
        }
    }

    /// Whatever a call is amended to and however its lines were paid: cash is neither made nor lost, a line has credit only when it is
    /// paid, the commitments' sums follow, and after the call is taken back everything is as it was before it.
    #[test]
    fn amendments_keep_the_sums_and_a_rescission_gives_everything_back(
        first in 100i128..50_000,
        cash in prop::collection::vec(0i128..40_000, 3),
        amendments in prop::collection::vec((100i128..100_000, any::<bool>(), 0i128..50_000), 0..6),
        tolerance in prop_oneof![Just(0i128), 1i128..5_000],
    ) {
        let mut payments: std::collections::HashMap<Uuid, Vec<Payment>> = std::collections::HashMap::new();
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
            let paid = pay(line, usd(*cash), None, usd(tolerance)).unwrap();
            settle(line, paid, today);
            let mut of_line = payment(1, *cash, *cash);
            (of_line.applied, of_line.unapplied, of_line.charges) = (paid.applied, paid.unapplied, paid.charges);
            payments.insert(line.investor_id, vec![of_line]);
        }
        let received: Vec<Amount> = lines.iter().map(|line| line.paid + line.unapplied - line.charges).collect();
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
                if let Some(of_line) = payments.get_mut(&line.investor_id) {
                    pay_anew(line, of_line, today);
                }
                let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                draw(commitment, moved.amount, moved.impact_on_unfunded);
            }
            prop_assert_eq!(lines.iter().map(|line| line.amount).sum::<Amount>(), usd(amount + 7));
            for ((line, commitment), cash) in lines.iter().zip(&commitments).zip(&received) {
                prop_assert_eq!(line.paid + line.unapplied - line.charges, *cash);
                let of_line = payments.get(&line.investor_id).into_iter().flatten();
                let sums = of_line.fold(Cash::default(), |sum, payment| Cash { applied: sum.applied + payment.applied, unapplied: sum.unapplied + payment.unapplied, charges: sum.charges + payment.charges, value_on: None });
                prop_assert_eq!((sums.applied, sums.unapplied, sums.charges), (line.paid, line.unapplied, line.charges));
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
            prop_assert_eq!(pay(line, usd(1), None, usd(0)).unwrap_err().reason, Reason::CallRescinded);
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
            let terms = Terms { purposes: &purposes, adjustments: &[], rounding: Rounding::Cumulative, drawn: None };
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
