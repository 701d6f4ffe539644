//! When what is due, as functions of dates and rules and nothing else.

use ::domain::messages::notifications::NoticeKind;
use ::domain::rules::RuleLayer;
use chrono::{DateTime, Days, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;

/// One notice that a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Name of the rule; each is raised once a line.
    pub rule: String,
    /// What it is.
    pub kind: NoticeKind,
    /// The business date on which it is due.
    pub on: NaiveDate,
}

/// The notices of a line: the call itself at once, reminders before the due date, the day after it,
/// and the escalation. A reminder whose day was over when the line was issued is not asked for; one
/// whose day passes during an outage is raised afterwards.
pub fn schedules(rules: &RuleLayer, issued_on: NaiveDate, due_on: NaiveDate) -> Vec<Schedule> {
    let mut schedules = vec![Schedule { rule: "issued".into(), kind: NoticeKind::CapitalCall, on: issued_on }];
    for days in rules.reminder_days.iter().flatten() {
        let on = due_on - Days::new(u64::from(*days));
        if on >= issued_on {
            schedules.push(Schedule { rule: format!("due-{days}"), kind: NoticeKind::Reminder, on });
        }
    }
    schedules.push(Schedule { rule: "overdue".into(), kind: NoticeKind::Overdue, on: due_on + Days::new(1) });
    let escalated = due_on + Days::new(u64::from(rules.escalation_days.unwrap_or_default()));
    schedules.push(Schedule { rule: "escalation".into(), kind: NoticeKind::Escalation, on: escalated });
    schedules
}

/// The instant at which a date begins in a time zone; where midnight is skipped, the next hour.
pub fn start_of(date: NaiveDate, timezone: Tz) -> DateTime<Utc> {
    let hours = (0..=3).filter_map(|hour| date.and_hms_opt(hour, 0, 0));
    let local = hours.filter_map(|time| timezone.from_local_datetime(&time).earliest()).next();
    local.map_or_else(|| date.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc(), |start| start.with_timezone(&Utc))
}

#[cfg(test)]
mod tests;
