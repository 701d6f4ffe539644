//! How much of a fund may be in one place.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::interest::check_rate;
use crate::money::{Amount, Ratio};
use crate::rejection::{Reason, Rejection};

/// What stands for all that a map does not name.
pub const OTHERS: &str = "*";
/// What an investor or a deal is called that does not say what it is.
pub const UNSPECIFIED: &str = "unspecified";
/// Most names of one map.
const NAMES_MAX: usize = 100;
/// Longest name.
const NAME_CHARACTERS_MAX: usize = 100;

/// Limits in percent of a fund's size, by name; `*` is for all others. What is not named has no limit.
pub type Percents = BTreeMap<String, Ratio>;

/// What share of its fund an allocation took when it was proposed, the allocations before it included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Concentration {
    /// Of the deal, in percent of the fund's size, rounded to four decimals.
    pub deal_percent: Ratio,
    /// The deal's sector; `unspecified` where it has none.
    pub sector: String,
    /// Of the sector, in percent of the fund's size, rounded to four decimals.
    pub sector_percent: Ratio,
}

/// How many percent of a size an amount is, rounded to four decimals; for people, limits are compared exactly.
pub fn percent_of(amount: Amount, size: Amount) -> Ratio {
    let percent = (amount.decimal() * Decimal::ONE_HUNDRED).checked_div(size.decimal()).unwrap_or_default();
    Ratio(percent.round_dp(4))
}

/// The limit of a name.
pub fn limit<'a>(percents: &'a Percents, name: &str) -> Option<&'a Ratio> {
    percents.get(name).or_else(|| percents.get(OTHERS))
}

/// Whether an amount is more than so many percent of a size.
pub fn is_above(amount: Amount, size: Amount, percent: Ratio) -> bool {
    amount.decimal() * Decimal::ONE_HUNDRED > size.decimal() * percent.0
}

/// Refuses limits that cannot be meant.
pub(super) fn check(field: &str, percents: &Percents) -> Result<(), Rejection> {
    if percents.len() > NAMES_MAX {
        return Err(Reason::InvalidRules.with(format!("{field} has more than {NAMES_MAX} names")));
    }
    for (name, percent) in percents {
        if name.trim().is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
            return Err(Reason::InvalidRules.with(format!("{field}: the name {name:?} has not 1 to {NAME_CHARACTERS_MAX} characters")));
        }
        check_rate(&format!("{field}.{name}"), *percent)?;
    }
    Ok(())
}
