//! When what is due, as functions of dates and rules and nothing else.

use ::domain::messages::capital_calls::{CallLine, Disposition};
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
/// whose day passes during an outage is raised afterwards. An amendment supersedes them: it is told at once, and the reminders are
/// planned anew, each once an amendment. Of a line that is taken back only that is told.
pub fn schedules(rules: &RuleLayer, line: &CallLine, today: NaiveDate) -> Vec<Schedule> {
    let rule = |name: &str| if line.amendment == 0 { name.to_owned() } else { format!("{name}#{}", line.amendment) };
    if line.disposition == Disposition::Rescinded {
        return vec![Schedule { rule: "rescinded".into(), kind: NoticeKind::CapitalCall, on: line.issued_on }];
    }
    let told = if line.amendment == 0 { "issued" } else { "amended" };
    let mut schedules = vec![Schedule { rule: rule(told), kind: NoticeKind::CapitalCall, on: line.issued_on }];
    let from = if line.amendment == 0 { line.issued_on } else { today };
    for days in rules.reminder_days.iter().flatten() {
        let on = line.due_on - Days::new(u64::from(*days));
        if on >= from {
            schedules.push(Schedule { rule: rule(&format!("due-{days}")), kind: NoticeKind::Reminder, on });
        }
    }
    schedules.push(Schedule { rule: rule("overdue"), kind: NoticeKind::Overdue, on: line.due_on + Days::new(1) });
    let escalated = line.due_on + Days::new(u64::from(rules.escalation_days.unwrap_or_default()));
    schedules.push(Schedule { rule: rule("escalation"), kind: NoticeKind::Escalation, on: escalated });
    schedules
}

/// The instant at which a date begins in a time zone; where midnight is skipped, the next hour.
pub fn start_of(date: NaiveDate, timezone: Tz) -> DateTime<Utc> {
    let hours = (0..=3).filter_map(|hour| date.and_hms_opt(hour, 0, 0));
    let local = hours.filter_map(|time| timezone.from_local_datetime(&time).earliest()).next();
    local.map_or_else(|| date.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc(), |start| start.with_timezone(&Utc))
}

mod alerts;

pub use alerts::*;

#[cfg(test)]
mod tests;
