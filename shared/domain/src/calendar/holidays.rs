//! Bank holidays of the countries that the library does not have.

use fasti::{
    Calendar, Date, EasterOffset, FixedDate, LastWeekday, Month, NthWeekday, OneOff, Ordinal, Rule, Weekday, Weekend, Year, YearRange,
};

const fn on(month: Month, day: u8) -> Rule {
    Rule::Fixed(FixedDate::new(month, day))
}

/// Days of law in Luxembourg; one that falls on a weekend is not moved.
pub const LUXEMBOURG: Calendar<'static> = Calendar {
    name: "Luxembourg",
    weekend: Weekend::SAT_SUN,
    rules: &[
        on(Month::Jan, 1),
        Rule::Easter(EasterOffset::easter_monday()),
        on(Month::May, 1),
        // Europe Day
        Rule::Fixed(FixedDate::new(Month::May, 9).from_year(Year::literal(2019))),
        Rule::Easter(EasterOffset::ascension()),
        Rule::Easter(EasterOffset::whit_monday()),
        // the Grand Duke's official birthday
        on(Month::Jun, 23),
        on(Month::Aug, 15),
        on(Month::Nov, 1),
        on(Month::Dec, 25),
        on(Month::Dec, 26),
    ],
};

/// The 1st of February where that is a Friday, else the first Monday of the month; since 2023.
fn is_saint_brigids_day(date: Date) -> bool {
    let (day, weekday) = (date.day(), date.weekday());
    date.year().get() >= 2023
        && date.month() == Month::Feb
        && if day == 1 {
            matches!(weekday, Weekday::Fri | Weekday::Mon)
        } else {
            (2..=7).contains(&day) && day != 4 && weekday == Weekday::Mon
        }
}

/// Public holidays of Ireland; one that falls on a weekend is not moved.
pub const IRELAND: Calendar<'static> = Calendar {
    name: "Ireland",
    weekend: Weekend::SAT_SUN,
    rules: &[
        on(Month::Jan, 1),
        Rule::Custom(is_saint_brigids_day),
        on(Month::Mar, 17),
        Rule::Easter(EasterOffset::easter_monday()),
        Rule::NthWeekday(NthWeekday::new(Ordinal::First, Weekday::Mon, Month::May)),
        Rule::NthWeekday(NthWeekday::new(Ordinal::First, Weekday::Mon, Month::Jun)),
        Rule::NthWeekday(NthWeekday::new(Ordinal::First, Weekday::Mon, Month::Aug)),
        Rule::LastWeekday(LastWeekday::new(Weekday::Mon, Month::Oct)),
        on(Month::Dec, 25),
        on(Month::Dec, 26),
        // Day of Remembrance and Recognition
        Rule::OneOff(OneOff::new(Date::literal(2022, Month::Mar, 18))),
    ],
};

/// Public holidays of all of Germany; those of single states are days on which banks settle.
pub const GERMANY: Calendar<'static> = Calendar {
    name: "Germany",
    weekend: Weekend::SAT_SUN,
    rules: &[
        on(Month::Jan, 1),
        Rule::Easter(EasterOffset::good_friday()),
        Rule::Easter(EasterOffset::easter_monday()),
        on(Month::May, 1),
        Rule::Easter(EasterOffset::ascension()),
        Rule::Easter(EasterOffset::whit_monday()),
        on(Month::Oct, 3),
        // the Reformation's five hundredth year
        Rule::Fixed(FixedDate::new(Month::Oct, 31).years(YearRange::literal_between(2017, 2017))),
        on(Month::Dec, 25),
        on(Month::Dec, 26),
    ],
};

/// Made a holiday the day before; the library has it from 2022 on.
pub const FIRST_JUNETEENTH: Date = Date::literal(2021, Month::Jun, 18);
