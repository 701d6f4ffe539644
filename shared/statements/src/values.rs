//! Numbers and dates as the formats write them.

use chrono::{Datelike, NaiveDate, NaiveTime};
use domain::{Amount, Currency};

use crate::limits::YEARS;
use crate::unreadable::{Cause, Place, Unreadable, excerpt};

/// Most digits of a decimal amount (`totalDigits` of ISO 20022). Sums of as many amounts as a file can have stay
/// within what a decimal holds.
const DECIMAL_DIGITS_MAX: usize = 18;

/// Most digits of minor units: control totals are larger than any amount.
const MINOR_DIGITS_MAX: usize = 22;

/// A plain decimal of an amount that is not negative. Decimals beyond the currency's must be zeros.
pub(crate) fn decimal(text: &str, currency: Currency, place: Place) -> Result<Amount, Unreadable> {
    let wrong = |why: String| place.unreadable(Cause::InvalidAmount, format!("{:?} is not an amount: {why}", excerpt(text)));
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.starts_with('-') {
        return Err(wrong("the direction is told apart from it, and it is not negative".into()));
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > currency.decimals() as usize {
        return Err(wrong(format!("{} has {} decimals", currency.code(), currency.decimals())));
    }
    if whole.trim_start_matches('0').len() + fraction.len() > DECIMAL_DIGITS_MAX {
        return Err(wrong(format!("it has more than {DECIMAL_DIGITS_MAX} digits")));
    }
    let plain = match (whole.is_empty(), digits.trim_matches('.').is_empty() || digits.matches('.').count() > 1) {
        (_, true) => return Err(wrong("digits with one decimal point at most are expected".into())),
        (true, _) => format!("0.{fraction}0"),
        _ if fraction.is_empty() => whole.to_owned(),
        _ => format!("{whole}.{fraction}"),
    };
    let amount: Amount = plain.parse().map_err(|error: domain::Rejection| wrong(error.detail))?;
    Ok(currency.from_minor(amount.minor(currency)))
}

/// Digits of minor units, with a sign or without.
pub(crate) fn minor_units(text: &str, place: Place) -> Result<i128, Unreadable> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.trim_start_matches('0').len() > MINOR_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(place.unreadable(Cause::InvalidAmount, format!("{:?} is not an amount in minor units", excerpt(text))));
    }
    let units: i128 = digits.trim_start_matches('0').parse().unwrap_or_default();
    Ok(if text.starts_with('-') { -units } else { units })
}

/// The currency of a code.
pub(crate) fn currency(code: &str, place: Place) -> Result<Currency, Unreadable> {
    code.parse().map_err(|error: domain::Rejection| place.unreadable(Cause::InvalidAmount, excerpt(&error.detail)))
}

/// The date of an ISO 8601 date or time: what is written, whatever the offset.
pub(crate) fn iso_date(text: &str, place: Place) -> Result<NaiveDate, Unreadable> {
    // the time of a day says nothing, and yet it is one (ISO 8601; midnight may end a day)
    let is_time = |time: &str| time == "24:00:00" || NaiveTime::parse_from_str(time, "%H:%M:%S").is_ok();
    let ends = |rest: &str| match rest.strip_prefix('T') {
        Some(time) => time.get(..8).is_some_and(is_time),
        None => rest.is_empty() || rest.starts_with(['Z', '+', '-']),
    };
    match (text.get(..10), text.get(10..)) {
        (Some(date), Some(rest)) if ends(rest) => date_by(date, "%Y-%m-%d", place),
        _ => Err(place.unreadable(Cause::InvalidDate, format!("{:?} is not a date", excerpt(text)))),
    }
}

/// A date by its format, in the notation of `strftime`, within plausible years.
pub(crate) fn date_by(text: &str, format: &str, place: Place) -> Result<NaiveDate, Unreadable> {
    let date = NaiveDate::parse_from_str(text, format)
        .map_err(|_| place.unreadable(Cause::InvalidDate, format!("{:?} is not a date of the form {format}", excerpt(text))))?;
    if !YEARS.contains(&date.year()) {
        return Err(place.unreadable(Cause::InvalidDate, format!("the year of {date} is not plausible")));
    }
    Ok(date)
}

/// None for a text that is empty.
pub(crate) fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

/// An account number without blanks.
pub(crate) fn compact(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// Trims a value, joins its lines and drops marks that nobody sees (zero-width ones and those that turn a text's direction), which
/// would hide a reference; none if it holds control characters.
pub(crate) fn tidy(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_ascii() && !text.contains(char::is_control) {
        return Some(text.to_owned());
    }
    let seen: String = text.chars().filter(|letter| !is_invisible(*letter)).collect();
    if seen.contains(|letter: char| letter.is_control() && !matches!(letter, '\t' | '\n' | '\r')) {
        return None;
    }
    if !seen.contains(char::is_control) {
        return Some(seen.trim().to_owned());
    }
    Some(seen.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
