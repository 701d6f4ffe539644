//! Lines that are paid late.

use ::domain::messages::capital_calls::{CoveredPart, DefaultDeclared, FailureNotice};
use ::domain::money::Ratio;
use ::domain::rules::DefaultInterest;

use super::*;
use crate::domain::{check_default, check_failure, cover, overdue_history, pay_anew, standing};

fn terms(percent: &str, cap_percent: &str, free_in_grace: bool) -> Option<DefaultInterest> {
    Some(DefaultInterest { percent: Ratio(percent.parse().unwrap()), cap_percent: Ratio(cap_percent.parse().unwrap()), free_in_grace })
}

/// A line of 1,000.00 due on 2026-03-31 that bears 10 percent a year.
fn bearing() -> CallLine {
    CallLine { default_interest: terms("10", "100", false), ..line(100_000) }
}

fn paid_on(id: u128, amount: i128, value_on: &str) -> Payment {
    let mut payment = changes::payment(id, amount, 0);
    payment.received_on = date(value_on);
    payment
}

/// A line with payments that were recorded in this order.
fn recorded(line: &CallLine, payments: &[Payment], today: &str) -> (CallLine, Vec<Payment>) {
    let (mut line, mut history) = (line.clone(), Vec::new());
    for payment in payments {
        let depends = depends_on_history(&line, line.last_paid_on, payment.received_on);
        let paid = pay(&line, payment.amount, None, usd(0)).unwrap();
        let cash = Cash { value_on: Some(payment.received_on), ..paid };
        settle(&mut line, cash, date(today));
        let mut payment = payment.clone();
        (payment.applied, payment.unapplied) = (cash.applied, cash.unapplied);
        history.push(payment);
        if depends {
            pay_anew(&mut line, &mut history, date(today));
        }
    }
    (line, history)
}

#[test]
fn interest_runs_on_principal_from_the_due_date_to_the_value_date_and_is_capped() {
    let line = bearing();
    for (payments, as_of, accrued) in [
        // 1,000.00 for 365 days at 10 percent
        (vec![], "2027-03-31", 10_000),
        (vec![], "2026-03-31", 0),
        // half of it after 73 days
        (vec![paid_on(1, 50_000, "2026-06-12")], "2027-03-31", 1_000 + 5_000),
        (vec![paid_on(1, 50_000, "2026-03-31")], "2027-03-31", 5_000),
        (vec![paid_on(1, 100_000, "2026-06-12")], "2027-03-31", 2_000),
    ] {
        let (line, payments) = recorded(&line, &payments, "2027-03-31");
        assert_eq!(standing(&line, &payments, date(as_of)).interest_accrued, usd(accrued), "{payments:?} as of {as_of}");
    }
    let capped = CallLine { default_interest: terms("10", "5", false), ..line.clone() };
    assert_eq!(standing(&capped, &[], date("2027-03-31")).interest_accrued, usd(5_000));
    let free = CallLine { default_interest: terms("10", "100", true), ..line };
    assert_eq!(standing(&free, &[], date("2026-04-30")).interest_accrued, usd(0), "the last day of grace");
    assert_eq!(standing(&free, &[], date("2026-05-01")).interest_accrued, usd(849), "then from the due date: 31 days");
}

#[test]
fn cash_pays_principal_then_interest_then_is_credit() {
    let (line, payments) = recorded(&bearing(), &[paid_on(1, 100_000, "2026-06-12"), paid_on(2, 2_500, "2026-06-20")], "2026-06-20");
    assert_eq!((line.paid, line.interest_paid, line.unapplied, line.outstanding), (usd(100_000), usd(2_000), usd(500), usd(0)));
    assert_eq!((payments[1].applied, payments[1].interest, payments[1].unapplied), (usd(0), usd(2_000), usd(500)));
    // what came in time after all, though it was recorded late: less interest, more credit
    let mut early = payments.clone();
    early[0].received_on = date("2026-03-31");
    let mut corrected = line.clone();
    assert_eq!(pay_anew(&mut corrected, &mut early, date("2026-06-20")), [1]);
    assert_eq!((corrected.interest_paid, corrected.unapplied), (usd(0), usd(2_500)));
}

#[test]
fn a_failure_is_cured_by_what_was_paid_in_time_with_interest() {
    let notice =
        FailureNotice { noticed_on: date("2026-05-04"), cure_by: date("2026-05-18"), reason: "no cash".into(), noticed_by: "mia".into() };
    let noticed = CallLine { failure_notice: Some(notice), ..bearing() };
    // 48 days of 10 percent on 1,000.00 are 13.15
    for (payments, cured) in [
        (vec![paid_on(1, 101_315, "2026-05-18")], Some("2026-05-18")),
        (vec![paid_on(1, 101_314, "2026-05-18")], None),
        (vec![paid_on(1, 100_000, "2026-05-18"), paid_on(2, 1_315, "2026-05-19")], None),
        (vec![paid_on(1, 200_000, "2026-05-19")], None),
        (vec![paid_on(1, 100_000, "2026-03-31")], Some("2026-03-31")),
    ] {
        let (mut line, payments) = recorded(&noticed, &payments, "2026-06-01");
        assert_eq!(line.cured_on, cured.map(date), "{payments:?}");
        let interest_is_due = payments[0].amount == usd(101_314);
        assert_eq!(line.interest_due, usd(i128::from(interest_is_due)), "{payments:?}");
        let expected = if interest_is_due { LineTiming::DefaultNoticed } else { LineTiming::Settled };
        assert_eq!(line.timing, expected, "{payments:?}");
        derive_line(&mut line, date("2026-06-02"));
        assert_eq!(line.timing, expected, "it stays so");
    }
}

#[test]
fn notice_and_default_have_their_time() {
    let mut late = line(100);
    let on = |line: &mut CallLine, today: &str| derive_line(line, date(today));
    on(&mut late, "2026-04-30");
    assert_eq!(check_failure(&late, date("2026-04-30")).unwrap_err().reason, Reason::NotOverdue);
    on(&mut late, "2026-05-01");
    assert!(check_failure(&late, date("2026-05-01")).is_ok());
    assert_eq!(check_default(&late, usd(0), date("2026-05-01")).unwrap_err().reason, Reason::CureTimeRuns);
    let notice =
        FailureNotice { noticed_on: date("2026-05-04"), cure_by: date("2026-05-18"), reason: "no cash".into(), noticed_by: "mia".into() };
    late.failure_notice = Some(notice);
    on(&mut late, "2026-05-18");
    assert_eq!(late.timing, LineTiming::DefaultNoticed);
    assert_eq!(check_failure(&late, date("2026-05-18")).unwrap_err().reason, Reason::FailureNoticed);
    assert_eq!(check_default(&late, usd(0), date("2026-05-18")).unwrap_err().reason, Reason::CureTimeRuns);
    assert!(check_default(&late, usd(0), date("2026-05-19")).is_ok());
    let mut paid = late.clone();
    settle(&mut paid, cash(100, 0), date("2026-05-19"));
    assert_eq!(check_default(&paid, usd(0), date("2026-05-19")).unwrap_err().reason, Reason::NothingOutstanding);
    assert!(check_default(&paid, usd(1), date("2026-05-19")).is_ok(), "interest is outstanding");
    late.default = Some(DefaultDeclared { declared_on: date("2026-05-19"), reason: "no cure".into(), declared_by: "mia".into() });
    on(&mut late, "2026-05-20");
    assert_eq!(late.timing, LineTiming::Defaulted);
    assert_eq!(check_default(&late, usd(0), date("2026-05-20")).unwrap_err().reason, Reason::AlreadyInDefault);
}

#[test]
fn cash_that_came_before_others_took_a_line_over_pays_no_interest_until_they_did() {
    let mut line = bearing();
    let covered = CoveredPart { on: date("2026-06-12"), amount: usd(100_000) };
    (line.amount, line.covered) = (usd(0), vec![covered]);
    line.purposes.clear();
    line.failure_notice = Some(FailureNotice {
        noticed_on: date("2026-05-01"),
        cure_by: date("2026-05-20"),
        reason: "late".into(),
        noticed_by: "mia".into(),
    });
    derive_line(&mut line, date("2026-07-01"));
    for (value_on, amount, interest) in [
        // 73 days at 10 percent
        ("2026-06-12", 100_000, 2_000),
        ("2026-06-30", 100_000, 2_000),
        ("2026-03-31", 100_000, 0),
        ("2026-03-01", 100_000, 0),
        // half of it for 73 days
        ("2026-03-31", 50_000, 1_000),
    ] {
        let mut payments = [Payment { unapplied: usd(amount), ..paid_on(1, amount, value_on) }];
        let mut line = line.clone();
        pay_anew(&mut line, &mut payments, date("2026-07-01"));
        assert_eq!((payments[0].interest, payments[0].unapplied), (usd(interest), usd(amount - interest)), "{amount} on {value_on}");
        assert_eq!(standing(&line, &payments, date("2026-07-01")).interest_accrued, usd(interest), "{amount} on {value_on}");
    }
}

#[test]
fn the_others_pay_what_is_missing_within_their_caps() {
    let purposes = vec![purpose(PurposeKind::Reserve, 4_000, true), purpose(PurposeKind::Expenses, 400, false)];
    let commitments = [commitment(1, 10_000, 9_000), commitment(2, 10_000, 9_000), commitment(3, 20_000, 18_000)];
    let call = commitments::issued(1, purposes.clone(), Rounding::PerCall, "2026-03-31");
    let lines = commitments::lines_of(&call, &split(&purposes, &commitments).unwrap());
    let failed = lines.iter().find(|line| line.investor_id == Uuid::from_u128(1)).unwrap();
    let capped = |percent: &str| cover(failed, &lines, &commitments, Ratio(percent.parse().unwrap()), |_| usd(0));
    let amounts = |cover: &crate::domain::Cover| {
        cover.lines.iter().map(|line| (line.investor_id.as_u128(), line.amount.minor(currency()))).collect::<Vec<_>>()
    };
    let whole = capped("50");
    assert_eq!((whole.amount, whole.inside, amounts(&whole)), (usd(1_100), usd(1_000), vec![(2, 367), (3, 733)]), "totals first");
    assert_eq!(whole.lines.iter().map(|line| line.impact_on_unfunded).sum::<Amount>(), usd(-1_000));
    // 10 percent of 1,100 and of 2,200
    let part = capped("10");
    assert_eq!((part.amount, amounts(&part)), (usd(330), vec![(2, 110), (3, 220)]));
    assert_eq!(capped("0").amount, usd(0));
    let again = cover(failed, &lines, &commitments, Ratio("10".parse().unwrap()), |_| usd(100));
    assert_eq!(amounts(&again), [(2, 10), (3, 120)], "the cap counts what was asked for the line before");
    let mut little = commitments.clone();
    little[1].unfunded = usd(100);
    let within = cover(failed, &lines, &little, Ratio("50".parse().unwrap()), |_| usd(0));
    assert_eq!((within.inside, within.lines[0].impact_on_unfunded), (usd(1_000), usd(-100)));
    // what is taken off the line and put on the others' is the same, purpose by purpose
    let mut left = failed.clone();
    let moved = crate::domain::cover_line(&mut left, &part, date("2026-06-01"));
    assert_eq!((moved.amount, left.outstanding, left.disposition), (usd(-330), usd(770), Disposition::CoveredByOthers));
    let mut reduced = call.clone();
    crate::domain::cover_call(&mut reduced, &part);
    assert_eq!(reduced.amount, usd(4_070));
    assert_eq!(reduced.purposes.iter().map(|purpose| purpose.amount).sum::<Amount>(), usd(4_070));
    assert_eq!(left.purposes.iter().map(|part| part.amount).sum::<Amount>(), left.amount);
}

#[test]
fn the_history_of_what_was_overdue_goes_by_value_date() {
    let (line, payments) = recorded(
        &bearing(),
        &[paid_on(1, 40_000, "2026-05-10"), paid_on(2, 10_000, "2026-03-20"), paid_on(3, 50_000, "2026-04-15")],
        "2026-06-01",
    );
    let history: Vec<(String, Amount)> =
        overdue_history(&line, &payments, date("2026-06-01")).into_iter().map(|step| (step.from.to_string(), step.outstanding)).collect();
    assert_eq!(history, [("2026-03-31".into(), usd(90_000)), ("2026-04-15".into(), usd(40_000)), ("2026-05-10".into(), usd(0))]);
    let then = standing(&line, &payments, date("2026-04-20"));
    assert_eq!((then.outstanding, then.days_overdue, then.timing), (usd(40_000), 20, LineTiming::Grace));
}

proptest! {
    /// In whatever order cash is recorded, what is paid, the interest and the credit are those of its value dates.
    #[test]
    fn the_order_of_recording_does_not_matter(
        cash in prop::collection::vec((1i128..60_000, 0u64..200), 1..7),
        shuffle in any::<u64>(),
        bears_interest in any::<bool>(),
    ) {
        let issued = if bears_interest { bearing() } else { line(100_000) };
        let payments: Vec<Payment> = (1..).zip(&cash)
            .map(|(id, (amount, day))| paid_on(id, *amount, &(date("2026-03-01") + chrono::Days::new(*day)).to_string())).collect();
        let mut other = payments.clone();
        let mut state = shuffle;
        for place in (1..other.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            other.swap(place, usize::try_from(state >> 33).unwrap() % (place + 1));
        }
        let mut sorted = payments.clone();
        sorted.sort_by_key(|payment| payment.received_on);
        let (line, paid) = recorded(&issued, &sorted, "2026-12-01");
        let (same, shuffled) = recorded(&issued, &other, "2026-12-01");
        let all: Amount = payments.iter().map(|payment| payment.amount).sum();
        for (line, payments) in [(&line, &paid), (&same, &shuffled)] {
            prop_assert_eq!(line.paid + line.interest_paid + line.unapplied, all);
            prop_assert_eq!(line.paid, payments.iter().map(|payment| payment.applied).sum::<Amount>());
            prop_assert_eq!(line.interest_paid, payments.iter().map(|payment| payment.interest).sum::<Amount>());
            prop_assert_eq!(line.unapplied, payments.iter().map(|payment| payment.unapplied).sum::<Amount>());
            prop_assert!(line.interest_paid == usd(0) || line.outstanding == usd(0), "principal before interest");
        }
        prop_assert_eq!(
            (line.paid, line.interest_paid, line.unapplied, line.last_paid_on),
            (same.paid, same.interest_paid, same.unapplied, same.last_paid_on)
        );
        let today = date("2026-12-01");
        let steps = |line: &CallLine, payments: &[Payment]| overdue_history(line, payments, today).iter().map(|step| (step.from, step.outstanding)).collect::<Vec<_>>();
        prop_assert_eq!(steps(&line, &paid), steps(&same, &shuffled));
    }
}
