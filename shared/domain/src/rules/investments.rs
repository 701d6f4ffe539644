//! Types of investments as data: what an allocation of each says of itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rejection::{Reason, Rejection, check_text};
use crate::shape::Shape;

/// Most types that rules have.
const TYPES_MAX: usize = 100;
/// Longest name of a type, and of its label.
const NAME_CHARACTERS_MAX: usize = 60;

/// A type of investment: equity, debt, a convertible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvestmentType {
    /// What people call it.
    pub label: String,
    /// JSON Schema of the `details` of such an allocation.
    pub details: Shape,
}

/// Refuses types that cannot be meant.
pub(super) fn check(types: &BTreeMap<String, InvestmentType>) -> Result<(), Rejection> {
    if types.len() > TYPES_MAX {
        return Err(Reason::InvalidRules.with(format!("investment_types: more than {TYPES_MAX}")));
    }
    for (name, InvestmentType { label, details }) in types {
        let named = check_text("name", name, NAME_CHARACTERS_MAX).and_then(|()| check_text("label", label, NAME_CHARACTERS_MAX));
        named.map_err(|rejection| Reason::InvalidRules.with(format!("investment_types: {name}: {}", rejection.detail)))?;
        details.check(&format!("investment_types: {name}: details"))?;
    }
    Ok(())
}

/// Refuses details that are not of the shape that the type of an investment asks for. A type that the rules do not have, has none.
pub(super) fn check_details(types: &BTreeMap<String, InvestmentType>, name: &str, details: Option<&Value>) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidDetails.with(format!("{name}: {why}")));
    match (types.get(name), details) {
        (None, None) => Ok(()),
        (None, Some(_)) => refuse("the rules have no such type of investment, so it has no details".into()),
        (Some(of), details) => match of.details.misfit(details.unwrap_or(&json!({}))) {
            None => Ok(()),
            Some(misfit) => refuse(misfit),
        },
    }
}
