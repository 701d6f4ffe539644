//! The OpenAPI 3.1 document, made from the table of routes and the message types.

use std::sync::Arc;

use ::domain::messages::capital_calls::BankImport;
use ::domain::rejection::Problem;
use axum::routing::get;
use axum::{Json, Router};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Door;
use super::api::Route;
use crate::domain::parallel_run::{Comparison, Imported};

/// The document's route.
pub fn router() -> Router<Arc<Door>> {
    let document = Arc::new(document());
    Router::new().route("/api/v1/openapi.json", get(move || async move { Json((*document).clone()) }))
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in crate::routes() {
        let operation = operation(&route, &mut generator, &problem);
        let path = paths.entry(format!("/api/v1{}", route.path)).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation;
    }
    let import = generator.subschema_for::<BankImport>();
    paths.insert(
        "/api/v1/bank-statements".into(),
        json!({"post": super::statements::operation(&import.to_value(), &problem.clone().to_value())}),
    );
    paths.insert("/api/v1/call-lines/{line_id}/notice.csv".into(), json!({"get": super::notices::operation(&problem.clone().to_value())}));
    let (imported, comparison) = (generator.subschema_for::<Imported>(), generator.subschema_for::<Comparison>());
    let (take_in, compare) = super::parallel_run::operations(&imported.to_value(), &comparison.to_value(), &problem.clone().to_value());
    paths.insert("/api/v1/imports/{kind}".into(), json!({"post": take_in}));
    paths.insert("/api/v1/imports/{kind}/compare".into(), json!({"post": compare}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tranche",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The money side of a private-capital firm: allocations, capital calls, payments, metrics, audit.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": generator.take_definitions(true),
        },
    })
}

/// The message's own object schema; the types that it uses become components.
fn message_schema(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut schema = (route.message)(generator).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("components");
        object.remove("$schema");
        object.remove("title");
    }
    schema
}

fn operation(route: &Route, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
    let mut message = message_schema(route, generator);
    let summary = message["description"].take();
    let path_fields: Vec<&str> = route.path_fields().collect();
    let required: Vec<String> = serde_json::from_value(message["required"].take()).unwrap_or_default();
    let properties = message["properties"].as_object().cloned().unwrap_or_default();
    let mut parameters: Vec<Value> = Vec::new();
    for (name, schema) in &properties {
        let in_path = path_fields.contains(&name.as_str());
        if in_path || route.method == "GET" {
            let place = if in_path { "path" } else { "query" };
            parameters.push(json!({"name": name, "in": place, "required": in_path || required.contains(name), "schema": schema}));
        }
    }
    // what stands in the subject and not in the message: a service
    for name in path_fields.iter().filter(|name| !properties.contains_key(**name)) {
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "enum": crate::SERVICES}}));
    }
    if route.is_command {
        parameters.push(json!({
            "name": "dry_run", "in": "query", "required": false,
            "description": "true: the answer is what it would be (with 200), and nothing is changed or kept",
            "schema": {"const": true},
        }));
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": route.method == "POST",
            "description": "a new one for each new intent; the same key and body give the first answer again",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        }));
    }
    let roles: Vec<String> = route.roles.iter().map(|role| role.name()).collect();
    let mut operation = json!({
        "operationId": route.subject.rsplit('.').next().map(|name| format!("{}-{name}", route.subject.split('.').nth(2).unwrap_or_default().trim_matches(['{', '}']))),
        "summary": summary,
        "description": format!("Roles: {}.", roles.join(", ")),
        "parameters": parameters,
        "responses": {
            route.status.to_string(): {"description": "as asked", "content": {"application/json": {"schema": (route.reply)(generator)}}},
            "default": {"description": "a problem with its code and a recommendation", "content": {"application/problem+json": {"schema": problem}}},
        },
    });
    if route.method != "GET" {
        let body = match route.body_field {
            Some(field) => properties.get(field).cloned().unwrap_or_default(),
            None => {
                let own = |name: &&String| !path_fields.contains(&name.as_str());
                let fields: Map<String, Value> =
                    properties.iter().filter(|(name, _)| own(name)).map(|(name, schema)| (name.clone(), schema.clone())).collect();
                let required: Vec<&String> = required.iter().filter(own).collect();
                json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false})
            }
        };
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": body}}});
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_openapi_is_that_of_the_routes() {
        let file = testkit::root().join("schemas/openapi.json");
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == text, "schemas/openapi.json is not what the routes say: run `cargo xtask schemas` and look at the difference");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_an_id_of_its_own() {
        let document = document();
        let mut ids = std::collections::HashSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for operation in operations.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}");
                assert!(operation["summary"].is_string(), "{path}");
                for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                    let described = operation["parameters"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|parameter| parameter["name"] == name && parameter["in"] == "path");
                    assert!(described, "{path} does not describe {name}");
                }
            }
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
    }
}
