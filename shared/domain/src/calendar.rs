//! Business dates: the day that an instant belongs to, where the fund lives; and business days: those on which its banks work.

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use fasti::{BusinessDayConvention, Calendar, CalendarBuilder, Date, OneOff, Rule, Weekend, calendars};

use crate::rejection::{Reason, Rejection};

mod holidays;

/// Calendars of bank holidays that a fund may name; several with `+` between them.
pub const CALENDARS: [&str; 7] = ["TARGET2", "NYSE", "US", "GB", "LU", "IE", "DE"];
/// Most days that the rules may add to a fund's calendars: two years of a bank that is closed one day a week.
pub const HOLIDAYS_MAX: usize = 100;

/// The days on which a fund's banks work: all but weekends, the holidays of each calendar that the fund names, and days that its
/// rules add.
#[derive(Clone, Debug)]
pub struct BusinessDays(CalendarBuilder);

/// Where a date goes that is no business day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roll {
    /// To the next business day.
    #[default]
    Following,
    /// To the next business day, but not into another month: then to the last before.
    ModifiedFollowing,
}

fn calendar(name: &str) -> Result<Calendar<'static>, Rejection> {
    match name {
        "TARGET2" => Ok(calendars::TARGET),
        "NYSE" => Ok(calendars::us::NYSE),
        "US" => Ok(calendars::us::SETTLEMENT),
        "GB" => Ok(calendars::uk::SETTLEMENT),
        "LU" => Ok(holidays::LUXEMBOURG),
        "IE" => Ok(holidays::IRELAND),
        "DE" => Ok(holidays::GERMANY),
        _ => Err(Reason::UnknownCalendar.with(format!("{name:?} is not one of {}", CALENDARS.join(", ")))),
    }
}

fn implausible(date: NaiveDate) -> Rejection {
    Reason::ImplausibleDate.with(format!("no calendar knows {date}"))
}

impl BusinessDays {
    /// The business days of calendars with `+` between them, without further days that are closed. No calendar: all but weekends.
    ///
    /// # Errors
    /// A calendar that is not one of [`CALENDARS`], or a date before 1901 or after 2199.
    pub fn of(names: &str, closed: &[NaiveDate]) -> Result<BusinessDays, Rejection> {
        let mut days = CalendarBuilder::new(names, Weekend::SAT_SUN);
        for name in names.split('+').filter(|_| !names.is_empty()) {
            days = days.union(calendar(name)?);
            if name == "US" {
                days = days.with_rule(Rule::OneOff(OneOff::new(holidays::FIRST_JUNETEENTH)));
            }
        }
        for date in closed {
            let date = Date::try_from(*date).map_err(|_| implausible(*date))?;
            days = days.with_rule(Rule::OneOff(OneOff::new(date)));
        }
        Ok(BusinessDays(days))
    }

    /// Whether banks work on a date.
    pub fn contains(&self, date: NaiveDate) -> bool {
        Date::try_from(date).is_ok_and(|date| self.0.view().is_business_day(date))
    }

    /// The date so many business days after a date.
    ///
    /// # Errors
    /// A date before 1901 or after 2199.
    pub fn after(&self, date: NaiveDate, days: u16) -> Result<NaiveDate, Rejection> {
        let mut found = Date::try_from(date).map_err(|_| implausible(date))?;
        for _ in 0..days {
            found = self.0.view().next_business_day(found).ok_or_else(|| implausible(date))?;
        }
        Ok(found.into())
    }

    /// A date, or the business day in its stead.
    ///
    /// # Errors
    /// A date before 1901 or after 2199.
    pub fn roll(&self, date: NaiveDate, roll: Roll) -> Result<NaiveDate, Rejection> {
        let convention = match roll {
            Roll::Following => BusinessDayConvention::Following,
            Roll::ModifiedFollowing => BusinessDayConvention::ModifiedFollowing,
        };
        let given = Date::try_from(date).map_err(|_| implausible(date))?;
        self.0.view().adjust(given, convention).map(NaiveDate::from).map_err(|_| implausible(date))
    }

    /// How many business days lie after `from` up to `to`; 0 when `to` is not later.
    pub fn between(&self, from: NaiveDate, to: NaiveDate) -> u32 {
        let days = std::iter::successors(from.checked_add_days(Days::new(1)), |day| day.checked_add_days(Days::new(1)));
        days.take_while(|day| *day <= to).map(|day| u32::from(self.contains(day))).sum()
    }
}

/// The business date of an instant in a time zone.
pub fn business_date(now: DateTime<Utc>, timezone: Tz) -> NaiveDate {
    now.with_timezone(&timezone).date_naive()
}

/// Reads an IANA time zone name.
pub fn timezone(name: &str) -> Result<Tz, Rejection> {
    name.parse().map_err(|_| Reason::UnknownTimezone.with(format!("{name:?} is not an IANA time zone")))
}

/// Refuses calendars that are not of [`CALENDARS`], or too many of them.
pub fn known_calendars(names: &str) -> Result<(), Rejection> {
    if names.is_empty() || names.split('+').count() > CALENDARS.len() {
        return Err(Reason::UnknownCalendar.with(format!("{names:?} names not 1 to {} calendars", CALENDARS.len())));
    }
    BusinessDays::of(names, &[]).map(drop)
}

/// Dates that a person may mean; others are typing errors.
pub fn plausible_date(field: &str, date: NaiveDate) -> Result<(), Rejection> {
    let earliest = NaiveDate::from_ymd_opt(1950, 1, 1).unwrap_or(NaiveDate::MIN);
    let latest = NaiveDate::from_ymd_opt(2150, 1, 1).unwrap_or(NaiveDate::MAX);
    if (earliest..latest).contains(&date) {
        return Ok(());
    }
    Err(Reason::ImplausibleDate.with(format!("{field} {date} is not between 1950 and 2149")))
}

/// Most days that a value date may lie ahead: a bank tells of it a few days before.
pub const VALUE_DAYS_AHEAD_MAX: i64 = 7;

/// Value dates that may be meant: plausible ones that have come, or come within [`VALUE_DAYS_AHEAD_MAX`] days.
///
/// # Errors
/// [`Reason::ImplausibleDate`] for the others.
pub fn value_date(field: &str, date: NaiveDate, today: NaiveDate) -> Result<(), Rejection> {
    plausible_date(field, date)?;
    if (date - today).num_days() > VALUE_DAYS_AHEAD_MAX {
        return Err(Reason::ImplausibleDate.with(format!("{field} {date} is more than {VALUE_DAYS_AHEAD_MAX} days after {today}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Bank holidays of 2015 to 2035 by the Python package holidays 0.109 (MIT).
    const HOLIDAYS: &str = include_str!("../tests/data/holidays.csv");

    #[test]
    fn every_weekday_of_twenty_years_is_a_business_day_or_not_as_another_program_says() {
        let named = [
            ("TARGET2", "XECB_TARGET2"),
            ("NYSE", "XNYS"),
            ("US", "US_FEDERAL"),
            ("GB", "GB_ENG"),
            ("LU", "LU"),
            ("IE", "IE"),
            ("DE", "DE"),
        ];
        let mut differ = Vec::new();
        let mut compared = 0;
        for (name, theirs) in named {
            let days = BusinessDays::of(name, &[]).unwrap();
            let closed: std::collections::BTreeSet<NaiveDate> = HOLIDAYS
                .lines()
                .filter_map(|line| line.split_once(','))
                .filter(|(calendar, _)| *calendar == theirs)
                .map(|(_, rest)| date(rest.split(',').next().unwrap()))
                .collect();
            assert!(closed.len() > 100, "{theirs}");
            for day in date("2015-01-01").iter_days().take_while(|day| *day <= date("2035-12-31")) {
                let weekend = chrono::Datelike::weekday(&day).number_from_monday() > 5;
                if days.contains(day) == (weekend || closed.contains(&day)) {
                    differ.push(format!("{name} {day}"));
                }
                compared += 1;
            }
        }
        assert!(differ.is_empty(), "{differ:?}");
        assert_eq!(compared, 7 * 7_670);
    }

    #[test]
    fn business_days_are_counted_and_rolled_over_weekends_holidays_and_added_days() {
        let days = BusinessDays::of("NYSE+TARGET2", &[date("2026-04-07")]).unwrap();
        // Good Friday is the 3rd of April, Easter Monday the 6th
        assert_eq!(days.after(date("2026-04-02"), 1), Ok(date("2026-04-08")));
        assert_eq!(days.after(date("2026-04-02"), 0), Ok(date("2026-04-02")));
        assert_eq!((days.between(date("2026-04-02"), date("2026-04-09")), days.between(date("2026-04-09"), date("2026-04-02"))), (2, 0));
        assert_eq!(days.roll(date("2026-04-04"), Roll::Following), Ok(date("2026-04-08")));
        assert_eq!(days.roll(date("2026-05-30"), Roll::Following), Ok(date("2026-06-01")));
        assert_eq!(days.roll(date("2026-05-30"), Roll::ModifiedFollowing), Ok(date("2026-05-29")));
        assert_eq!(BusinessDays::of("NYSE+MARS", &[]).unwrap_err().reason, Reason::UnknownCalendar);
        assert_eq!(known_calendars(&["NYSE"; 8].join("+")).unwrap_err().reason, Reason::UnknownCalendar);
    }

    #[test]
    fn the_business_date_is_the_funds_own() {
        let late = "2026-03-01T23:30:00Z".parse().unwrap();
        assert_eq!(business_date(late, timezone("UTC").unwrap()).to_string(), "2026-03-01");
        assert_eq!(business_date(late, timezone("Europe/Luxembourg").unwrap()).to_string(), "2026-03-02");
        assert_eq!(business_date(late, timezone("America/New_York").unwrap()).to_string(), "2026-03-01");
        assert!(timezone("Mars/Olympus").is_err());
    }
}
