//! The shape of data that others decide about: a JSON Schema that stands in the rules.

use jsonschema::{PatternOptions, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rejection::{Reason, Rejection};

/// Most bytes of a schema, written as JSON: a form of some dozens of fields.
const SCHEMA_BYTES_MAX: usize = 16_384;
/// Most bytes of data that is checked against one, written as JSON; an event that carries it stays small.
pub const DATA_BYTES_MAX: usize = 16_384;
/// Most bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1_000_000;

/// A JSON Schema, draft 2020-12 where it names no other. It refers to nothing outside of itself, and its patterns take linear time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Shape(pub Value);

impl Shape {
    fn compiled(&self) -> Result<Validator, String> {
        jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&self.0)
            .map_err(|error| error.to_string())
    }

    /// Refuses what is no schema.
    ///
    /// # Errors
    /// `invalid_rules`, with the name of the field.
    pub fn check(&self, field: &str) -> Result<(), Rejection> {
        let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
        if !self.0.is_object() {
            return refuse("a schema is an object".into());
        }
        if self.0.to_string().len() > SCHEMA_BYTES_MAX {
            return refuse(format!("the schema has more than {SCHEMA_BYTES_MAX} bytes"));
        }
        match self.compiled() {
            Ok(_) => Ok(()),
            Err(why) => refuse(why),
        }
    }

    /// What is wrong with data, with the place; none when it has the shape.
    pub fn misfit(&self, data: &Value) -> Option<String> {
        if data.to_string().len() > DATA_BYTES_MAX {
            return Some(format!("more than {DATA_BYTES_MAX} bytes"));
        }
        match self.compiled() {
            Ok(compiled) => compiled.validate(data).err().map(|error| match error.instance_path().as_str() {
                "" => error.to_string(),
                place => format!("{place}: {error}"),
            }),
            Err(why) => Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_has_a_shape_or_the_place_of_the_first_misfit_is_named() {
        let shape = Shape(json!({
            "type": "object", "required": ["score"], "additionalProperties": false,
            "properties": {"score": {"type": "integer", "minimum": 0}, "seen_on": {"type": "string", "format": "date"}}
        }));
        assert_eq!(shape.check("answer"), Ok(()));
        assert_eq!(shape.misfit(&json!({"score": 3, "seen_on": "2026-11-02"})), None);
        for (data, named) in [
            (json!({"score": "3"}), "/score"),
            (json!({}), "score"),
            (json!({"score": 1, "other": 1}), "other"),
            (json!({"score": 1, "seen_on": "yesterday"}), "/seen_on"),
            (json!({"score": 1, "seen_on": "x".repeat(DATA_BYTES_MAX)}), "bytes"),
        ] {
            let misfit = shape.misfit(&data).unwrap();
            assert!(misfit.contains(named), "{misfit}");
        }
    }

    #[test]
    fn what_is_no_schema_or_leads_elsewhere_is_refused() {
        for schema in [
            json!(true),
            json!({"type": "number or so"}),
            json!({"$ref": "https://example.com/else.json"}),
            json!({"$ref": "file:///etc/hostname"}),
            json!({"pattern": "(a"}),
            json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}),
        ] {
            let refused = Shape(schema.clone()).check("answer").unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidRules, "{schema}");
        }
    }
}
