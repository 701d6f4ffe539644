//! Money: an exact decimal amount in an ISO 4217 currency.
//!
//! [`Amount`] is a number of currency units without the currency, as it stands beside a `currency`
//! field in messages and tables. [`Money`] joins the two where amounts of different origin meet, so
//! that adding two currencies is refused.

use std::borrow::Cow;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::rejection::{Reason, Rejection};

/// Largest amount that is accepted from outside: ten trillion. In minor units that is 10^17, so that an
/// amount times a weight stays in i128, and sums of 10^9 amounts can be read back.
pub const AMOUNT_MAX: i64 = 10_000_000_000_000;

/// Most integer digits that are read: sums are larger than any amount that is accepted.
const DIGITS_MAX: usize = 22;

/// Most decimals that any currency of ISO 4217 has (CLF: 4).
pub const DECIMALS_MAX: usize = 4;

/// An ISO 4217 currency that has minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The three-letter code, for example `USD`.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Number of decimals of the currency: JPY 0, USD 2, KWD 3.
    pub fn decimals(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }

    /// An amount of this currency from its integer number of minor units (cents of a dollar).
    pub fn from_minor(self, minor: i128) -> Amount {
        Amount(Decimal::from_i128_with_scale(minor, self.decimals()))
    }

    /// Zero, written with the currency's number of decimals.
    pub fn zero(self) -> Amount {
        self.from_minor(0)
    }
}

impl FromStr for Currency {
    type Err = Rejection;

    /// Refuses codes that ISO 4217 does not list and those without minor units (XAU, XTS).
    fn from_str(code: &str) -> Result<Self, Rejection> {
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.exponent().is_some())
            .map(Currency)
            .ok_or_else(|| Reason::UnknownCurrency.with(format!("{code:?} is not an ISO 4217 currency with minor units")))
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 currency code", "examples": ["USD"]})
    }
}

/// A number of currency units, exact; on the wire a string such as `"33.34"`. May be negative only
/// where a field says so (`impact_on_unfunded`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

impl Amount {
    /// Zero without decimals; sums start from it.
    pub const ZERO: Amount = Amount(Decimal::ZERO);

    /// Wraps a decimal that comes from a NUMERIC column.
    pub const fn from_decimal(decimal: Decimal) -> Amount {
        Amount(decimal)
    }

    /// The decimal, for a NUMERIC column.
    pub const fn decimal(self) -> Decimal {
        self.0
    }

    /// Whether the amount is above zero.
    pub fn is_positive(self) -> bool {
        self.0 > Decimal::ZERO
    }

    /// The amount in minor units of `currency`; decimals beyond the currency's are cut (they are
    /// refused where amounts enter, by [`Money::positive`]).
    pub fn minor(self, currency: Currency) -> i128 {
        let mut scaled = self.0.trunc_with_scale(currency.decimals());
        scaled.rescale(currency.decimals());
        scaled.mantissa()
    }

    /// `self / whole`, or none when `whole` is zero. Twelve decimals, half to even.
    pub fn ratio(self, whole: Amount) -> Option<Ratio> {
        self.0.checked_div(whole.0).map(|ratio| Ratio(ratio.round_dp(12).normalize()))
    }

    /// `100 * self / whole`, or none when `whole` is zero. Ten decimals, half to even.
    pub fn percent(self, whole: Amount) -> Option<Ratio> {
        self.0.checked_div(whole.0).map(|ratio| Ratio((ratio * Decimal::ONE_HUNDRED).round_dp(10).normalize()))
    }
}

impl FromStr for Amount {
    type Err = Rejection;

    /// Reads plain decimal notation only: no exponent, no sign but `-`, no spaces, no separators.
    fn from_str(text: &str) -> Result<Self, Rejection> {
        let refuse = |why: &str| Reason::InvalidAmount.with(format!("{text:?} is not an amount: {why}"));
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(refuse("plain decimal notation such as \"1000.00\" is expected"));
        }
        if whole.len() > DIGITS_MAX {
            return Err(refuse("it has more than 22 digits before the decimal point"));
        }
        if fraction.len() > DECIMALS_MAX {
            return Err(refuse("no currency has more than 4 decimals"));
        }
        Decimal::from_str_exact(text).map(Amount).map_err(|error| refuse(&error.to_string()))
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^-?[0-9]{1,22}(\\.[0-9]{1,4})?$",
            "description": "decimal amount in currency units, never a float", "examples": ["1000000.00"]})
    }
}

impl Add for Amount {
    type Output = Amount;
    fn add(self, other: Amount) -> Amount {
        Amount(self.0 + other.0)
    }
}
impl Sub for Amount {
    type Output = Amount;
    fn sub(self, other: Amount) -> Amount {
        Amount(self.0 - other.0)
    }
}
impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.0 += other.0;
    }
}
impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        self.0 -= other.0;
    }
}
impl Neg for Amount {
    type Output = Amount;
    fn neg(self) -> Amount {
        // zero has no sign: "-0.00" is nothing that anybody wants to read
        if self.0.is_zero() { self } else { Amount(-self.0) }
    }
}
impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}

/// A ratio or percentage, exact to twelve decimals; on the wire a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(pub Decimal);

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Decimal::from_str_exact(&Cow::<str>::deserialize(deserializer)?).map(Ratio).map_err(de::Error::custom)
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$", "description": "decimal number as text"})
    }
}

/// An amount with its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    amount: Amount,
    currency: Currency,
}

impl Money {
    /// Joins an amount that a person or another system gave with the currency it must be in.
    /// Refuses zero, negative amounts, more than [`AMOUNT_MAX`] and more decimals than the currency has; the result is
    /// written with exactly the currency's decimals.
    pub fn positive(amount: Amount, currency: Currency) -> Result<Money, Rejection> {
        if !amount.is_positive() {
            return Err(Reason::InvalidAmount.with(format!("amount {amount} is not above zero")));
        }
        if amount.0 > Decimal::from(AMOUNT_MAX) {
            return Err(Reason::InvalidAmount.with(format!("amount {amount} is above {AMOUNT_MAX}")));
        }
        if amount.0.normalize().scale() > currency.decimals() {
            return Err(Reason::AmountPrecision.with(format!(
                "amount {amount} has more than the {} decimals of {}",
                currency.decimals(),
                currency.code()
            )));
        }
        Ok(Money { amount: currency.from_minor(amount.minor(currency)), currency })
    }

    /// The amount, in units of [`Money::currency`].
    pub const fn amount(self) -> Amount {
        self.amount
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum; refused when the currencies differ.
    pub fn plus(self, other: Money) -> Result<Money, Rejection> {
        same_currency(self.currency, other.currency)?;
        Ok(Money { amount: self.amount + other.amount, currency: self.currency })
    }
}

/// Refuses when `given` is not the `expected` currency.
pub fn same_currency(expected: Currency, given: Currency) -> Result<(), Rejection> {
    if expected == given {
        return Ok(());
    }
    Err(Reason::WrongCurrency.with(format!("the amount is in {}, expected {}", given.code(), expected.code())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn amounts_are_read_from_plain_decimals_only() {
        for good in ["0", "1", "33.34", "-5.00", "9999999999999.9999", "0.0001"] {
            assert_eq!(good.parse::<Amount>().unwrap().to_string(), good);
        }
        for bad in ["", "1e3", "NaN", "inf", "1,000", " 1", "+1", "1.", ".5", "1.00000", "0x10", "10000000000000000000000", "--1", "１"] {
            assert_eq!(bad.parse::<Amount>().unwrap_err().reason, Reason::InvalidAmount, "{bad}");
        }
    }

    #[test]
    fn floats_are_not_amounts() {
        assert!(serde_json::from_str::<Amount>("12.5").is_err());
        assert_eq!(serde_json::to_string(&"12.50".parse::<Amount>().unwrap()).unwrap(), "\"12.50\"");
    }

    #[test]
    fn money_takes_the_currencys_own_decimals() {
        let money = |amount: &str, currency: &str| Money::positive(amount.parse().unwrap(), currency.parse().unwrap());
        assert_eq!(money("100", "USD").unwrap().amount().to_string(), "100.00");
        assert_eq!(money("100.50", "JPY").unwrap_err().reason, Reason::AmountPrecision);
        assert_eq!(money("100.00", "JPY").unwrap().amount().to_string(), "100");
        assert_eq!(money("1.234", "KWD").unwrap().amount().to_string(), "1.234");
        assert_eq!(money("1.234", "USD").unwrap_err().reason, Reason::AmountPrecision);
        assert_eq!(money("10000000000000.01", "USD").unwrap_err().reason, Reason::InvalidAmount);
        for not_positive in ["0", "0.00", "-1"] {
            assert_eq!(money(not_positive, "USD").unwrap_err().reason, Reason::InvalidAmount);
        }
    }

    #[test]
    fn two_currencies_are_never_added() {
        let one = |currency: &str| Money::positive("1".parse().unwrap(), currency.parse().unwrap()).unwrap();
        assert_eq!(one("USD").plus(one("EUR")).unwrap_err().reason, Reason::WrongCurrency);
        assert_eq!(one("USD").plus(one("USD")).unwrap().amount().to_string(), "2.00");
    }

    #[test]
    fn amounts_are_added_as_numbers_not_as_text() {
        let sum: Amount = ["400000", "600000"].iter().map(|text| text.parse::<Amount>().unwrap()).sum();
        assert_eq!(sum.to_string(), "1000000");
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!((-usd().zero()).to_string(), "0.00");
        assert_eq!((-"1.50".parse::<Amount>().unwrap()).to_string(), "-1.50");
    }

    #[test]
    fn minor_units_and_back() {
        assert_eq!("12.3".parse::<Amount>().unwrap().minor(usd()), 1230);
        assert_eq!(usd().from_minor(-1230).to_string(), "-12.30");
        assert!("XAU".parse::<Currency>().is_err());
    }
}
