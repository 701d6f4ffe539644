use super::*;

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn amount(minor: i128) -> Amount {
    usd().from_minor(minor)
}

#[test]
fn ratios_without_a_base_are_none() {
    let none = figures(usd(), &Delta::default(), Due::default());
    assert_eq!((none.called_pct, none.collection_rate, none.pic), (None, None, None));
    assert_eq!(none.committed.to_string(), "0.00");
    let committed = Delta { committed: amount(10_000), ..Delta::default() };
    assert_eq!(figures(usd(), &committed, Due::default()).pic, None, "nothing is paid in");
}

#[test]
fn figures_follow_their_formulas() {
    let sums = Delta {
        committed: amount(10_000),
        called: amount(12_000),
        paid_in: amount(3_000),
        impact: amount(-9_000),
        lines: 2,
        ..Delta::default()
    };
    let due = Due { overdue: amount(1_000), lines_overdue: 1, called: amount(4_000), paid_in: amount(3_000) };
    let figures = figures(usd(), &sums, due);
    assert_eq!((figures.outstanding, figures.unfunded, figures.overdue), (amount(9_000), amount(1_000), amount(1_000)));
    assert_eq!(figures.called_pct.unwrap().0.to_string(), "120", "called may pass what was committed");
    assert_eq!((figures.collection_rate.unwrap().0.to_string(), figures.pic.unwrap().0.to_string()), ("0.75".into(), "0.3".into()));
}
