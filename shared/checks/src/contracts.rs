//! The generated schemas equal the committed ones, and every committed example decodes.
//! With `UPDATE_SCHEMAS=1` (`cargo xtask schemas`) the files are written instead of compared.

use std::collections::BTreeMap;

use domain::messages::{allocation_status as a, capital_calls as c, chassis, deals, fund_metrics as m, notifications as n, workflow as w};
use domain::registry::{Entry, Kind, SCHEMA_VERSION, messages, schema};
use domain::{Aggregate, Event, Reason};
use serde_json::{Value, json};

use crate::root;

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

/// The file of a request's schema; `{service}` in a subject stands for each service.
fn request_file(subject: &str) -> String {
    format!("requests/{}.v{SCHEMA_VERSION}.json", subject.replace(['{', '}'], ""))
}

fn generated() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in messages() {
        let (name, content) = match entry.kind {
            Kind::Events => (format!("events/{}.v{SCHEMA_VERSION}.json", entry.name), json!(entry.body)),
            Kind::Command | Kind::Query => (request_file(entry.name), json!({"request": entry.body, "reply": entry.reply})),
        };
        files.insert(name, pretty(&content));
    }
    files.insert("asyncapi.json".into(), pretty(&asyncapi()));
    files.insert("problems.md".into(), problems());
    files
}

/// Every code of a refusal, with its status and what to do about it.
fn problems() -> String {
    let mut table = String::from(
        "# Problems\n\n| code | status | what it is | what to do | who may | where |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let codes = json!(schema::<Reason>());
    for code in codes["enum"].as_array().unwrap() {
        let reason: Reason = serde_json::from_value(code.clone()).unwrap();
        let (status, title, recommendation) = reason.entry();
        let (who, link) = reason.remedy();
        table.push_str(&format!("| `{}` | {status} | {title} | {recommendation} | {} | `{link}` |\n", reason.code(), who.join(", ")));
    }
    table
}

/// The names of an aggregate's changes, from its schema.
fn changes(entry: &Entry) -> Vec<String> {
    let schema = json!(entry.body);
    let change = schema["properties"]["change"]["$ref"].as_str().unwrap().replace('#', "");
    let change = schema.pointer(&change).unwrap();
    change["oneOf"].as_array().unwrap().iter().map(|variant| variant["properties"]["kind"]["const"].as_str().unwrap().to_owned()).collect()
}

/// The subject of an aggregate's change, with `{fund_id}` in its place.
fn subject_of(kind: &str, change: &str) -> String {
    match kind {
        "deal" => format!("deals.evt.{change}"),
        "stage_request" => "deals.cmd.stage-change".into(),
        "access" => format!("tranche.access.{change}"),
        "notice" | "alert" => "tranche.notice.{kind}".into(),
        "dead_letter" => "tranche.dlq.{service}.{reaction}".into(),
        _ => format!("tranche.evt.{kind}.{change}.{{fund_id}}"),
    }
}

fn parameters(subject: &str) -> Value {
    let names = subject.split('.').filter_map(|token| token.strip_prefix('{')?.strip_suffix('}'));
    Value::Object(
        names
            .map(|name| (name.to_owned(), json!({"description": format!("the {} of the message, or -", name.replace('_', " "))})))
            .collect(),
    )
}

/// AsyncAPI 3.0: a channel for each subject, an operation for each request and each event.
fn asyncapi() -> Value {
    let (mut channels, mut operations) = (serde_json::Map::new(), serde_json::Map::new());
    for entry in messages() {
        let id = entry.name.replace(['.', '-'], "_").replace(['{', '}'], "");
        if entry.kind == Kind::Events {
            let schema = json!({"$ref": format!("events/{}.v{SCHEMA_VERSION}.json", entry.name)});
            for change in changes(&entry) {
                let subject = subject_of(entry.name, &change);
                let channel = format!("{id}_{change}");
                channels.insert(channel.clone(), json!({"address": subject, "parameters": parameters(&subject),
                    "messages": {"event": {"name": format!("{}.{change}", entry.name), "contentType": "application/json", "payload": schema}}}));
                let action = if entry.name == "deal" { "receive" } else { "send" };
                operations
                    .insert(format!("{action}_{channel}"), json!({"action": action, "channel": {"$ref": format!("#/channels/{channel}")}}));
            }
            continue;
        }
        let part = |part: &str| json!({"$ref": format!("{}#/{part}", request_file(entry.name))});
        let request = json!({"name": entry.name, "contentType": "application/json", "payload": part("request")});
        let mut channel = json!({"address": entry.name, "messages": {"request": request}});
        if entry.name.contains('{') {
            channel["parameters"] = parameters(entry.name);
        }
        channels.insert(id.clone(), channel);
        channels.insert(
            format!("{id}_reply"),
            json!({"address": null, "messages": {"reply": {"contentType": "application/json", "payload": part("reply")}}}),
        );
        operations.insert(
            format!("answer_{id}"),
            json!({"action": "receive", "channel": {"$ref": format!("#/channels/{id}")},
            "reply": {"channel": {"$ref": format!("#/channels/{id}_reply")}}}),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "Tranche", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"},
            "description": "Commands and queries are NATS requests; events are CloudEvents 1.0 in binary mode on JetStream."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
    })
}

#[test]
fn contract_schemas_are_those_of_the_types() {
    let folder = root().join("schemas");
    let generated = generated();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        for (name, text) in &generated {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }
    for (name, text) in &generated {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == *text, "schemas/{name} is not what the types say: run `cargo xtask schemas` and look at the difference");
    }
    for part in ["events", "requests"] {
        for file in std::fs::read_dir(folder.join(part)).unwrap().flatten() {
            let name = format!("{part}/{}", file.file_name().to_string_lossy());
            assert!(generated.contains_key(&name), "schemas/{name} belongs to no message");
        }
    }
}

/// Whether what is read has all that was written; fields that came later may stand beside it.
fn holds(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            written.iter().all(|(field, value)| read.get(field).is_some_and(|read| holds(read, value)))
        }
        (Value::Array(read), Value::Array(written)) => {
            read.len() == written.len() && read.iter().zip(written).all(|(read, written)| holds(read, written))
        }
        _ => read == written,
    }
}

fn decodes<A: Aggregate>(body: &[u8]) -> Result<(), String> {
    let event: Event<A, A::Change> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    event.state.check().map_err(|rejection| rejection.to_string())?;
    // what is read is what was written: no field is lost
    let again = serde_json::to_value(&event).map_err(|error| error.to_string())?;
    let written: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    for (field, value) in written["state"].as_object().into_iter().flatten() {
        if !holds(&again["state"][field], value) {
            return Err(format!("{field} is {value}, read as {}", again["state"][field]));
        }
    }
    Ok(())
}

#[test]
fn contract_examples_of_every_event_decode() {
    let folder = root().join("schemas/examples");
    for entry in messages().iter().filter(|entry| entry.kind == Kind::Events) {
        for change in changes(entry) {
            let name = match entry.name {
                "deal" => format!("deals.evt.{change}"),
                "stage_request" => "deals.cmd.stage-change".into(),
                "access" => format!("tranche.access.{change}"),
                "notice" => "tranche.notice.reminder".into(),
                "alert" => "tranche.notice.approval_reminder".into(),
                "dead_letter" => format!("tranche.dlq.allocation-status.deal.{change}"),
                kind => format!("tranche.evt.{kind}.{change}"),
            };
            let file = folder.join(format!("{name}.json"));
            let body = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let decoded = match entry.name {
                "deal" => decodes::<deals::Deal>(&body),
                "stage_request" => decodes::<deals::StageRequest>(&body),
                "fund" => decodes::<a::Fund>(&body),
                "allocation" => decodes::<a::Allocation>(&body),
                "investor" => decodes::<c::Investor>(&body),
                "commitment" => decodes::<c::Commitment>(&body),
                "closing" => decodes::<c::Closing>(&body),
                "refund" => decodes::<c::Refund>(&body),
                "bank_details" => decodes::<c::BankDetails>(&body),
                "bank_entry" => decodes::<c::BankEntry>(&body),
                "capital_call" => decodes::<c::CapitalCall>(&body),
                "call_line" => decodes::<c::CallLine>(&body),
                "payment" => decodes::<c::Payment>(&body),
                "workflow" => decodes::<w::Workflow>(&body),
                "approval" => decodes::<w::Approval>(&body),
                "rules" => decodes::<w::RuleSet>(&body),
                "rule_change" => decodes::<w::RuleChange>(&body),
                "delegation" => decodes::<w::Delegation>(&body),
                "fund_metrics" => decodes::<m::FundMetrics>(&body),
                "notice" => decodes::<n::Notice>(&body),
                "alert" => decodes::<n::Alert>(&body),
                "access" => decodes::<chassis::Access>(&body),
                "dead_letter" => decodes::<chassis::DeadLetter>(&body),
                "divergence" => decodes::<chassis::Divergence>(&body),
                other => Err(format!("no reader for {other}")),
            };
            assert_eq!(decoded, Ok(()), "{}", file.display());
            let kind: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(kind["change"]["kind"], change, "{}", file.display());
        }
    }
}

#[test]
fn contract_asyncapi_is_a_sound_document() {
    use roas_asyncapi::validation::Validate;
    let document: roas_asyncapi::v3_0::Document = serde_json::from_value(asyncapi()).unwrap();
    let faults = document.validate(enumset::EnumSet::empty());
    assert!(faults.is_ok(), "{faults:#?}");
    assert!(document.channels.len() > 60 && document.operations.len() > 40);
}

/// What stands between fences of a language in the README.
fn fenced(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn contract_the_examples_of_rules_in_the_readme_are_rules() {
    use domain::predicate::{Facts, Predicate};
    let conditions = fenced("cel").concat();
    assert!(conditions.lines().count() > 3);
    for expression in conditions.lines() {
        let predicate = Predicate { expression: expression.into(), message: "why".into() };
        assert_eq!(predicate.check(expression), Ok(()));
        let facts = Facts {
            kind: w::SubjectKind::Allocation,
            amount: "50000.00".parse().unwrap(),
            currency: "USD".parse().unwrap(),
            fund_type: "venture",
            security_type: "equity",
            priority: c::Priority::Normal,
            requested_by: "mia",
            amendment: 0,
        };
        assert!(predicate.holds(&facts), "{expression}");
    }
    let programs = fenced("").into_iter().find(|block| block.starts_with("{\"programs\"")).unwrap();
    let layer: domain::rules::RuleLayer = serde_json::from_str(&programs).unwrap();
    assert_eq!(layer.check().and_then(|()| layer.complete().map(drop)), Ok(()));
}
