//! Interest: simple, actual/365 fixed, on principal only.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::money::{Amount, Currency, Ratio};
use crate::rejection::{Reason, Rejection};

/// Most decimals of a rate in percent: a hundredth of a basis point.
const RATE_DECIMALS_MAX: u32 = 4;
/// Days of the year that rates are for.
const DAYS_OF_YEAR: i128 = 365;

/// Refuses a rate that is below zero, above 100 percent a year, or has more than four decimals.
pub fn check_rate(field: &str, percent: Ratio) -> Result<(), Rejection> {
    let Ratio(rate) = percent;
    if rate < Decimal::ZERO || rate > Decimal::ONE_HUNDRED || rate.normalize().scale() > RATE_DECIMALS_MAX {
        return Err(
            Reason::InvalidRate.with(format!("{field} of {rate} is not 0 to 100 percent with at most {RATE_DECIMALS_MAX} decimals"))
        );
    }
    Ok(())
}

/// Days of interest from a date up to another, the last one included; none when it is not later.
pub fn days(from: NaiveDate, to: NaiveDate) -> i64 {
    (to - from).num_days().max(0)
}

/// `principal * percent / 100 * days / 365`, rounded half up to the currency's minor unit, once (ISDA 2006, 4.16 (d): Actual/365
/// (Fixed)). The rate is one that [`check_rate`] lets pass; decimals beyond its own are cut off.
pub fn simple(principal: Amount, percent: Ratio, days: i64, currency: Currency) -> Amount {
    let mut rate = percent.0.trunc_with_scale(RATE_DECIMALS_MAX);
    rate.rescale(RATE_DECIMALS_MAX);
    // below 10^17 * 10^6 * 10^7: dates of the calendar are less than 10^7 days apart
    let product = principal.minor(currency).max(0) * rate.mantissa().max(0) * i128::from(days.max(0));
    let divisor = 100 * 10i128.pow(RATE_DECIMALS_MAX) * DAYS_OF_YEAR;
    currency.from_minor((2 * product + divisor) / (2 * divisor))
}

/// A share of an amount, cut off to the currency's minor unit. The rate is one that [`check_rate`] lets pass.
pub fn share(amount: Amount, percent: Ratio, currency: Currency) -> Amount {
    let mut rate = percent.0.trunc_with_scale(RATE_DECIMALS_MAX);
    rate.rescale(RATE_DECIMALS_MAX);
    currency.from_minor(amount.minor(currency) * rate.mantissa() / (100 * 10i128.pow(RATE_DECIMALS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(principal: &str, percent: &str, days: i64, currency: &str) -> String {
        let amount = simple(principal.parse().unwrap(), Ratio(percent.parse().unwrap()), days, currency.parse().unwrap());
        amount.to_string()
    }

    #[test]
    fn the_worked_example_of_a_late_close() {
        assert_eq!(of("4000000.00", "8", 90, "USD"), "78904.11");
    }

    #[test]
    fn interest_is_rounded_half_up_once_to_the_minor_unit() {
        assert_eq!(of("365.00", "1", 1, "USD"), "0.01");
        assert_eq!(of("182.50", "1", 1, "USD"), "0.01", "half a cent");
        assert_eq!(of("182.49", "1", 1, "USD"), "0.00");
        assert_eq!(of("4000000", "8", 90, "JPY"), "78904");
        assert_eq!(of("100.000", "12.3456", 365, "KWD"), "12.346");
        assert_eq!(of("100.00", "8", 0, "USD"), "0.00");
        assert_eq!(of("100.00", "8", -5, "USD"), "0.00");
        assert_eq!(of("10000000000000", "100", 3_650, "JPY"), "100000000000000");
    }

    #[test]
    fn a_share_is_cut_off() {
        let of = |amount: &str, percent: &str| {
            share(amount.parse().unwrap(), Ratio(percent.parse().unwrap()), "USD".parse().unwrap()).to_string()
        };
        assert_eq!([of("100.00", "50"), of("0.03", "50"), of("10.00", "33.3333"), of("7.00", "0")], ["50.00", "0.01", "3.33", "0.00"]);
    }

    #[test]
    fn a_rate_is_zero_to_a_hundred_percent() {
        for (rate, good) in
            [("0", true), ("8.25", true), ("100", true), ("0.0001", true), ("-1", false), ("100.01", false), ("0.00001", false)]
        {
            assert_eq!(check_rate("rate", Ratio(rate.parse().unwrap())).is_ok(), good, "{rate}");
        }
    }
}
