use ::domain::messages::capital_calls::{LineStatus, LineTiming};

use super::*;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn line(issued_on: &str, amendment: i32, disposition: Disposition) -> CallLine {
    let usd: ::domain::Currency = "USD".parse().unwrap();
    CallLine {
        id: uuid::Uuid::nil(),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        call_id: uuid::Uuid::nil(),
        fund_id: uuid::Uuid::nil(),
        fund_type: "buyout".into(),
        investor_id: uuid::Uuid::nil(),
        currency: usd,
        amount: usd.from_minor(100),
        impact_on_unfunded: usd.from_minor(-100),
        amendment,
        disposition,
        paid: usd.zero(),
        unapplied: usd.zero(),
        charges: usd.zero(),
        outstanding: usd.from_minor(100),
        last_paid_on: None,
        reference: String::new(),
        interest_paid: usd.zero(),
        interest_due: usd.zero(),
        closing_id: None,
        default_interest: None,
        failure_notice: None,
        covered: vec![],
        default: None,
        cured_on: None,
        instructions: None,
        due_on: date("2026-03-31"),
        issued_on: date(issued_on),
        grace_days: 0,
        timezone: "UTC".into(),
        purposes: vec![],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    }
}

#[test]
fn an_amendment_is_told_and_reminded_of_anew_and_what_is_taken_back_only_told() {
    let rules = ::domain::rules::built_in();
    let names = |line: &CallLine, today: &str| schedules(&rules, line, date(today)).into_iter().map(|one| one.rule).collect::<Vec<_>>();
    let amended = line("2026-03-01", 2, Disposition::None);
    assert_eq!(names(&amended, "2026-03-27"), ["amended#2", "due-3#2", "due-1#2", "overdue#2", "escalation#2"]);
    assert_eq!(names(&line("2026-03-01", 2, Disposition::Rescinded), "2026-03-27"), ["rescinded"]);
}

#[test]
fn what_a_line_asks_for() {
    let rules = ::domain::rules::built_in();
    let on = |issued_on: &str| -> Vec<(String, String)> {
        schedules(&rules, &line(issued_on, 0, Disposition::None), date(issued_on))
            .into_iter()
            .map(|schedule| (schedule.rule, schedule.on.to_string()))
            .collect()
    };
    let expect =
        |rows: &[(&str, &str)]| -> Vec<(String, String)> { rows.iter().map(|(rule, on)| ((*rule).to_owned(), (*on).to_owned())).collect() };
    let after = [("overdue", "2026-04-01"), ("escalation", "2026-04-05")];
    let all = [("issued", "2026-03-01"), ("due-7", "2026-03-24"), ("due-3", "2026-03-28"), ("due-1", "2026-03-30")];
    assert_eq!(on("2026-03-01"), expect(&[&all[..], &after[..]].concat()));
    // issued five days before: the reminder of day seven is not sent late
    assert_eq!(
        on("2026-03-26"),
        expect(&[&[("issued", "2026-03-26"), ("due-3", "2026-03-28"), ("due-1", "2026-03-30")][..], &after[..]].concat())
    );
    assert_eq!(on("2026-03-31"), expect(&[&[("issued", "2026-03-31")][..], &after[..]].concat()));
}

#[test]
fn a_day_begins_where_the_fund_lives() {
    for (timezone, date_there, expected) in [
        ("UTC", "2026-03-29", "2026-03-29T00:00:00Z"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z"),
        ("America/New_York", "2026-07-01", "2026-07-01T04:00:00Z"),
        // midnight is skipped when summer time begins in Beirut
        ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z"),
    ] {
        let start = start_of(date(date_there), timezone.parse().unwrap());
        assert_eq!(start, expected.parse::<DateTime<Utc>>().unwrap(), "{timezone}");
    }
}
