//! How cash may come, and what becomes of what is above or below what is asked.

use ::domain::messages::capital_calls::{PaymentMethod, Reversal};

use super::*;
use crate::domain::{check_reference, check_source, interest_due, turn};

#[test]
fn each_method_has_references_of_its_own() {
    use PaymentMethod::{Ach, Check, InternalTransfer, Sepa, Wire};
    let long = "x".repeat(141);
    let (eighty, more) = ("a".repeat(80), "a".repeat(81));
    for (method, reference, good) in [
        (Wire, "F20/2026_11#25 für Fonds", true),
        (Wire, long.as_str(), false),
        (Wire, " ", false),
        (Wire, "two\nlines", false),
        (InternalTransfer, "equalisation", true),
        (Sepa, "RF18 5390 0754 7034, call 3 (Nov.)", true),
        (Sepa, "under_score", false),
        (Sepa, "für", false),
        (Ach, eighty.as_str(), true),
        (Ach, more.as_str(), false),
        (Ach, "für", false),
        (Check, "1042", true),
        (Check, "check no. 1042", true),
        (Check, "in the mail", false),
    ] {
        let checked = check_reference(method, reference);
        assert_eq!(checked.is_ok(), good, "{method:?} {reference:?}: {checked:?}");
    }
    assert!(check_source(Some("bank"), Some("2026-1")).is_ok() && check_source(None, None).is_ok());
    assert_eq!(check_source(Some("bank"), None).unwrap_err().reason, Reason::InvalidReference);
}

#[test]
fn a_payment_that_is_short_within_the_tolerance_pays_the_line() {
    let line = line(10_000);
    for (amount, tolerance, applied, unapplied, charges) in [
        (9_985, 1_500, 10_000, 0, 15),
        (8_500, 1_500, 10_000, 0, 1_500),
        (8_499, 1_500, 8_499, 0, 0),
        (9_985, 0, 9_985, 0, 0),
        (10_000, 1_500, 10_000, 0, 0),
        (10_001, 1_500, 10_000, 1, 0),
    ] {
        let paid = pay(&line, usd(amount), None, usd(tolerance)).unwrap();
        assert_eq!(
            paid,
            Cash { applied: usd(applied), unapplied: usd(unapplied), charges: usd(charges), value_on: None },
            "{amount} with {tolerance}"
        );
    }
}

#[test]
fn charges_never_become_credit() {
    let mut line = line(10_000);
    let today = date("2026-03-01");
    let paid = pay(&line, usd(9_985), None, usd(50)).unwrap();
    settle(&mut line, paid, today);
    let mut payments = [Payment { charges: paid.charges, unapplied: paid.unapplied, ..changes::payment(1, 9_985, 10_000) }];
    let moved = rescind_line(&mut line, today);
    pay_anew(&mut line, &mut payments, today);
    assert_eq!((line.paid, line.unapplied, line.charges, moved.paid), (usd(0), usd(9_985), usd(0), usd(-10_000)));
    assert_eq!((payments[0].applied, payments[0].unapplied, payments[0].charges), (usd(0), usd(9_985), usd(0)));
}

#[test]
fn a_line_stands_as_if_what_went_back_had_never_come_and_charges_are_those_of_what_came_last() {
    let today = date("2026-03-09");
    let short = |on: &str, id, amount: i128| Payment { received_on: date(on), ..changes::payment(id, amount, amount) };
    let standing = |payments: &mut [Payment], tolerance: i128| {
        let mut line = line(10_000);
        pay_anew_within(&mut line, payments, usd(tolerance), today);
        let charges: Vec<Amount> = payments.iter().map(|payment| payment.charges).collect();
        (line.charges, line.outstanding, charges)
    };
    let mut one = [short("2026-03-01", 1, 9_990)];
    assert_eq!(standing(&mut one, 10), (usd(10), usd(0), vec![usd(10)]));
    assert_eq!(standing(&mut one.clone(), 9), (usd(0), usd(10), vec![usd(0)]));
    for mut two in [[("2026-03-01", 1, 9_000), ("2026-03-05", 2, 990)], [("2026-03-01", 2, 9_000), ("2026-03-05", 1, 990)]] {
        let mut payments = two.map(|(on, id, amount)| short(on, id, amount));
        assert_eq!(standing(&mut payments, 10), (usd(10), usd(0), vec![usd(0), usd(10)]), "whichever was recorded first");
        two.reverse();
        let mut payments = two.map(|(on, id, amount)| short(on, id, amount));
        assert_eq!(standing(&mut payments, 10), (usd(10), usd(0), vec![usd(10), usd(0)]));
    }
    let refunded = Payment { applied: usd(0), refunded: usd(5), ..short("2026-03-05", 2, 5) };
    assert_eq!(standing(&mut [one[0].clone(), refunded], 10), (usd(10), usd(0), vec![usd(10), usd(0)]), "what is there");
    assert_eq!(standing(&mut [], 10_000), (usd(0), usd(10_000), vec![]), "nothing has come");
}

#[test]
fn cash_pays_lines_in_the_order_of_the_rules() {
    use ::domain::rules::ApplicationOrder;
    let of = |id: u128, due: &str, issued: &str, outstanding: i128| CallLine {
        id: Uuid::from_u128(id),
        due_on: date(due),
        issued_on: date(issued),
        outstanding: usd(outstanding),
        ..line(100)
    };
    let lines = [of(1, "2026-05-01", "2026-02-01", 30), of(2, "2026-04-01", "2026-03-01", 20), of(3, "2026-04-01", "2026-01-01", 90)];
    for (order, expected) in [
        (ApplicationOrder::OldestDue, [2, 3, 1]),
        (ApplicationOrder::OldestIssued, [3, 1, 2]),
        (ApplicationOrder::SmallestOutstanding, [2, 1, 3]),
    ] {
        let mut sorted: Vec<&CallLine> = lines.iter().collect();
        sorted.sort_by_key(|line| turn(order, line.due_on, line.issued_on, line.outstanding));
        assert_eq!(sorted.iter().map(|line| line.id.as_u128()).collect::<Vec<_>>(), expected, "{order:?}");
    }
}

#[test]
fn a_payment_is_not_reversed_from_before_it_came() {
    let reversal = |effective_on: &str| Reversal {
        reason: "bounced".into(),
        effective_on: date(effective_on),
        reversed_by: "tom".into(),
        owed_back: usd(0),
        cash_stays: false,
    };
    let payment = super::changes::payment(1, 100, 100);
    assert_eq!(reverse(&payment, reversal("2026-02-28")).unwrap_err().reason, Reason::ImplausibleDate);
    assert!(reverse(&payment, reversal("2026-03-01")).is_ok());
}

proptest! {
    /// However the interest is paid in and however often it is asked for, nobody gets more than its part, and all of it in the end.
    #[test]
    fn interest_is_paid_out_once(owed in prop::collection::vec(1i128..9_000, 1..6), steps in prop::collection::vec(1i128..4_000, 1..20)) {
        let in_all: i128 = owed.iter().sum();
        let mut paid = 0;
        let mut paid_out = vec![0; owed.len()];
        for step in steps.into_iter().chain([in_all]) {
            paid = (paid + step).min(in_all);
            for (owed, out) in owed.iter().zip(&mut paid_out) {
                let due = interest_due(usd(*owed), usd(in_all), usd(paid), usd(*out), currency()).minor(currency());
                prop_assert!(due >= 0);
                *out += due;
            }
            prop_assert!(paid_out.iter().sum::<i128>() <= paid);
        }
        prop_assert_eq!(paid_out, owed);
    }
}
