//! Business dates: the day that an instant belongs to, where the fund lives.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::rejection::{Reason, Rejection};

/// Calendars of bank holidays that a fund may name.
pub const CALENDARS: [&str; 7] = ["TARGET2", "NYSE", "US", "GB", "LU", "IE", "DE"];

/// The business date of an instant in a time zone.
pub fn business_date(now: DateTime<Utc>, timezone: Tz) -> NaiveDate {
    now.with_timezone(&timezone).date_naive()
}

/// Reads an IANA time zone name.
pub fn timezone(name: &str) -> Result<Tz, Rejection> {
    name.parse().map_err(|_| Reason::UnknownTimezone.with(format!("{name:?} is not an IANA time zone")))
}

/// Refuses a calendar that is not one of [`CALENDARS`].
pub fn known_calendar(name: &str) -> Result<(), Rejection> {
    if CALENDARS.contains(&name) {
        return Ok(());
    }
    Err(Reason::UnknownCalendar.with(format!("{name:?} is not one of {}", CALENDARS.join(", "))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_business_date_is_the_funds_own() {
        let late = "2026-03-01T23:30:00Z".parse().unwrap();
        assert_eq!(business_date(late, timezone("UTC").unwrap()).to_string(), "2026-03-01");
        assert_eq!(business_date(late, timezone("Europe/Luxembourg").unwrap()).to_string(), "2026-03-02");
        assert_eq!(business_date(late, timezone("America/New_York").unwrap()).to_string(), "2026-03-01");
        assert!(timezone("Mars/Olympus").is_err());
    }
}
