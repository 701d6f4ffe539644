use ::domain::Reason;
use proptest::prelude::*;

use super::*;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn usd() -> Currency {
    "USD".parse().unwrap()
}

#[test]
fn due_dates_are_those_of_a_year_unless_said_otherwise() {
    let today = date("2026-11-25");
    let asked = |from: Option<&str>, to: Option<&str>, as_of: Option<&str>| {
        period(from.map(date), to.map(date), as_of.map(date), today)
            .map(|period| [period.from, period.to, period.as_of].map(|day| day.to_string()))
    };
    assert_eq!(asked(None, None, None).unwrap(), ["2025-12-01", "2026-11-25", "2026-11-25"]);
    assert_eq!(asked(None, None, Some("2026-03-31")).unwrap(), ["2025-04-01", "2026-03-31", "2026-03-31"]);
    // what is not due by as_of does not count
    assert_eq!(asked(None, Some("2026-12-31"), None).unwrap(), ["2026-01-01", "2026-11-25", "2026-11-25"]);
    assert_eq!(asked(Some("2024-01-01"), Some("2024-12-31"), None).unwrap(), ["2024-01-01", "2024-12-31", "2026-11-25"]);
    for (from, to, as_of) in [
        (Some("2024-01-01"), Some("2025-01-01"), None),
        (Some("2026-11-26"), None, None),
        (Some("1949-12-31"), Some("1950-02-01"), None),
        (None, None, Some("2150-01-01")),
        (None, Some("0001-01-01"), None),
    ] {
        assert_eq!(asked(from, to, as_of).unwrap_err().reason, Reason::ImplausibleDate, "{from:?} {to:?} {as_of:?}");
    }
}

#[test]
fn a_trend_has_every_month_and_ends_with_that_of_the_day() {
    let today = date("2026-03-31");
    let asked = months(Some(4), None, today).unwrap();
    assert_eq!((asked.from, asked.to), (date("2025-12-01"), today));
    let issued = LinesDelta { lines: 2, called: usd().from_minor(500) };
    let trend = trends(asked, vec![(usd(), (date("2026-01-01"), MonthSums { issued, ..MonthSums::default() }))]).remove(0);
    let lines: Vec<(String, i64)> = trend.months.iter().map(|month| (month.month.to_string(), month.lines_issued)).collect();
    let expected = [("2025-12-01", 0), ("2026-01-01", 2), ("2026-02-01", 0), ("2026-03-01", 0)];
    assert_eq!(lines, expected.map(|(month, lines)| (month.to_owned(), lines)));
    assert_eq!((trend.months[0].issued.to_string(), trend.months[0].collected.collection_rate), ("0.00".into(), None));
    for bad in [0, 121, u16::MAX] {
        assert_eq!(months(Some(bad), None, today).unwrap_err().reason, Reason::MalformedRequest);
    }
}

#[test]
fn buckets_have_no_gap_and_no_overlap() {
    let rows = (0..=AGES.len()).map(|age| (usd(), (age, usd().from_minor(100), 1))).collect();
    let aged = ageing(date("2026-01-01"), rows).remove(0);
    let bounds: Vec<(i32, Option<i32>)> = aged.buckets.iter().map(|bucket| (bucket.days_from, bucket.days_to)).collect();
    assert_eq!(bounds, [(1, Some(7)), (8, Some(15)), (16, Some(30)), (31, Some(60)), (61, None)]);
    assert_eq!((aged.overdue, aged.lines_overdue, aged.not_overdue), (usd().from_minor(500), 5, usd().from_minor(100)));
}

#[test]
fn quantiles_are_by_nearest_rank() {
    let of = |counts: &[(i32, i64)]| {
        let days = days(&counts.iter().copied().collect());
        (days.median, days.p90, days.average.map(|average| average.0.to_string()))
    };
    assert_eq!(of(&[]), (None, None, None));
    assert_eq!(of(&[(3, 1)]), (Some(3), Some(3), Some("3".into())));
    // of two the first is at the median, the second at nine in ten
    assert_eq!(of(&[(-2, 1), (5, 1)]), (Some(-2), Some(5), Some("1.5".into())));
    assert_eq!(of(&[(0, 9), (40, 1)]), (Some(0), Some(0), Some("4".into())));
    assert_eq!(of(&[(0, 8), (40, 2)]), (Some(0), Some(40), Some("8".into())));
}

proptest! {
    #[test]
    fn a_histogram_gives_the_quantiles_of_the_days_themselves(mut all in prop::collection::vec(-400i32..400, 1..200)) {
        let mut histogram = BTreeMap::new();
        for days in &all {
            *histogram.entry(*days).or_insert(0) += 1;
        }
        all.sort_unstable();
        let at = |tenths: usize| all[(all.len() * tenths).div_ceil(10) - 1];
        let found = days(&histogram);
        prop_assert_eq!((found.median, found.p90, found.lines), (Some(at(5)), Some(at(9)), all.len() as i64));
    }
}
