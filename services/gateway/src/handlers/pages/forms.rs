//! Forms that do what a route of the API does: their fields are those of its message.

use std::collections::BTreeMap;

use ::domain::Actor;
use axum::extract::RawForm;
use chrono::NaiveDateTime;
use serde_json::{Map, Value};

use super::*;
use crate::handlers::api::{self, Route};

/// The field with the idempotency key of a form, and the one with the page to go to afterwards.
const OWN_FIELDS: [&str; 2] = ["key", "back"];

/// A field of a form.
pub struct Field<'a> {
    name: &'a str,
    label: &'a str,
    kind: Kind<'a>,
}

/// What is put into a field.
enum Kind<'a> {
    Text,
    Date,
    Instant,
    Hidden(String),
    Choice(Vec<(&'a str, &'a str)>),
    Known(&'a [(String, String)]),
    Json,
}

impl<'a> Field<'a> {
    /// A text or an amount.
    pub fn text(name: &'a str, label: &'a str) -> Field<'a> {
        Field { name, label, kind: Kind::Text }
    }
    /// A date.
    pub fn date(name: &'a str, label: &'a str) -> Field<'a> {
        Field { name, label, kind: Kind::Date }
    }
    /// A date and time, in UTC.
    pub fn instant(name: &'a str, label: &'a str) -> Field<'a> {
        Field { name, label, kind: Kind::Instant }
    }
    /// What the page knows.
    pub fn hidden(name: &'a str, value: impl ToString) -> Field<'a> {
        Field { name, label: "", kind: Kind::Hidden(value.to_string()) }
    }
    /// One of several: value and words.
    pub fn choice(name: &'a str, label: &'a str, options: &'a [(&'a str, &'a str)]) -> Field<'a> {
        Field { name, label, kind: Kind::Choice(options.to_vec()) }
    }
    /// One of several that the page has found: value and words.
    pub fn one_of(name: &'a str, label: &'a str, options: &'a [(String, String)]) -> Field<'a> {
        let options = options.iter().map(|(value, words)| (value.as_str(), words.as_str())).collect();
        Field { name, label, kind: Kind::Choice(options) }
    }
    /// A text that may be one of those that the page has found: value and words.
    pub fn known(name: &'a str, label: &'a str, options: &'a [(String, String)]) -> Field<'a> {
        Field { name, label, kind: Kind::Known(options) }
    }
    /// A part of the message, as JSON.
    pub fn json(name: &'a str, label: &'a str) -> Field<'a> {
        Field { name, label, kind: Kind::Json }
    }
}

/// Whether somebody may use a POST route of the API.
pub fn may_post(actor: &Actor, path: &str) -> bool {
    route_of(path).is_some_and(|(route, _)| check_role(actor, route.roles).is_ok())
}

/// A form for a POST route of the API, for those who may use it.
pub fn form(actor: &Actor, key: Uuid, path: &str, back: &str, button: &str, fields: &[Field<'_>]) -> Markup {
    html! {
        @if may_post(actor, path) {
            form.votes method="post" action={ "/act" (path) } {
                input type="hidden" name="key" value=(key);
                input type="hidden" name="back" value=(back);
                @for Field { name, label, kind } in fields {
                    @match kind {
                        Kind::Text => input type="text" name=(name) maxlength="500" placeholder=(label) aria-label=(label);,
                        Kind::Date => label.date { (label) " " input type="date" name=(name); },
                        Kind::Instant => label.date { (label) " " input type="datetime-local" step="1" name=(name); },
                        Kind::Hidden(value) => input type="hidden" name=(name) value=(value);,
                        Kind::Choice(options) => select name=(name) aria-label=(label) { @for (value, words) in options { option value=(value) { (words) } } },
                        Kind::Known(options) => {
                            input type="text" name=(name) list={ (name) "-known-" (key) } placeholder=(label) aria-label=(label);
                            datalist id={ (name) "-known-" (key) } { @for (value, words) in *options { option value=(value) { (words) } } }
                        }
                        Kind::Json => textarea name={ (name) "{}" } rows="12" placeholder=(label) aria-label=(label) spellcheck="false" {},
                    }
                }
                button.quiet { (button) }
            }
        }
    }
}

/// The route that a path under `/api/v1` belongs to, and what stands in its braces.
fn route_of(path: &str) -> Option<(Route, Vec<(String, String)>)> {
    let given: Vec<&str> = path.split('/').collect();
    crate::routes().into_iter().filter(|route| route.method == "POST" && route.is_command).find_map(|route| {
        let parts: Vec<&str> = route.path.split('/').collect();
        let name = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).map(str::to_owned);
        let fits = parts.len() == given.len() && parts.iter().zip(&given).all(|(part, given)| name(part).is_some() || part == given);
        let fields = parts.iter().zip(&given).filter_map(|(part, given)| Some((name(part)?, (*given).to_owned()))).collect();
        fits.then_some((route, fields))
    })
}

/// The names and values of a form.
pub fn pairs_of(body: &[u8]) -> Vec<(String, String)> {
    serde_urlencoded::from_bytes(body).unwrap_or_default()
}

/// The fields of a form as those of a message: `call_back.spoken_to` is a field of a part, `parts.0.line_id` one of the first of several
/// parts, `parts[]` says that these are all parts, and `map{}` is JSON; what is empty is not given, and nor is a part of which nothing is.
pub fn message(pairs: Vec<(String, String)>) -> Result<Map<String, Value>, Rejection> {
    let mut fields = Map::new();
    let mut lists: BTreeMap<String, BTreeMap<usize, Map<String, Value>>> = BTreeMap::new();
    for (name, value) in pairs.into_iter().filter(|(name, value)| !value.is_empty() && !OWN_FIELDS.contains(&name.as_str())) {
        let value = match value.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            // a browser's date and time, in UTC
            text if NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").is_ok() => Value::String(format!("{text}Z")),
            text if NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").is_ok() => Value::String(format!("{text}:00Z")),
            _ => Value::String(value),
        };
        let refuse = || Reason::MalformedRequest.with(format!("field {name:?}"));
        if let Some(list) = name.strip_suffix("[]") {
            lists.entry(list.to_owned()).or_default();
            continue;
        }
        if let (Some(name), Value::String(text)) = (name.strip_suffix("{}"), &value) {
            let json = serde_json::from_str(text).map_err(|error| Reason::MalformedRequest.with(format!("field {name:?}: {error}")))?;
            fields.insert(name.to_owned(), json);
            continue;
        }
        match name.split('.').collect::<Vec<_>>().as_slice() {
            [name] => {
                fields.insert((*name).to_owned(), value);
            }
            [name, part] => {
                let whole = fields.entry(*name).or_insert_with(|| Value::Object(Map::new()));
                whole.as_object_mut().ok_or_else(refuse)?.insert((*part).to_owned(), value);
            }
            [name, place, part] => {
                let place: usize = place.parse().map_err(|_| refuse())?;
                lists.entry((*name).to_owned()).or_default().entry(place).or_default().insert((*part).to_owned(), value);
            }
            _ => return Err(refuse()),
        }
    }
    fields.extend(lists.into_iter().map(|(name, parts)| (name, parts.into_values().map(Value::Object).collect())));
    Ok(fields)
}

/// Does what a form says.
pub async fn act(
    State(door): State<Arc<Door>>,
    Path(path): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let Some(mut visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    visit.method = "POST";
    let pairs = pairs_of(&body);
    let own = |name: &str| pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let (key, back) = (own("key"), own("back"));
    let prepared = (|| {
        same_origin(&headers)?;
        let (route, path_fields) = route_of(&format!("/{path}")).ok_or_else(|| Reason::UnknownPath.with(path.clone()))?;
        check_role(visit.actor(), route.roles)?;
        check_key(&key)?;
        let mut fields = message(pairs.clone())?;
        fields.extend(path_fields.into_iter().map(|(name, value)| (name, Value::String(value))));
        let message = api::message(&route, Value::Object(fields))?;
        Ok((route, message))
    })();
    // one key for each form that is shown, whichever of its buttons is pressed, however often
    let (route, message) = match prepared {
        Ok(prepared) => prepared,
        Err(rejection) => return visit.end(Err(rejection)).await,
    };
    let done = door.ask(route.subject, Some(&key), &visit.context, message.into(), route.within).await.and_then(|answered| answered.result);
    match done {
        // only to a page of our own
        Ok(_) if back.starts_with('/') && !back.starts_with("//") => redirect(&back),
        Ok(_) => redirect("/"),
        // the service has recorded the refusal
        Err(rejection) => visit.problem(&rejection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_form_become_those_of_the_message() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let given = pairs(&[
            ("key", "k"),
            ("amount", "1.00"),
            ("reason", ""),
            ("parts.0.line_id", "a"),
            ("parts.0.amount", "2"),
            ("parts.1.line_id", ""),
            ("parts.3.line_id", "b"),
            ("parts.3.inside", "false"),
            ("parts[]", "all"),
            ("adjustments[]", "all"),
            ("adjustments.0.reason", ""),
            ("map{}", "{\"account\": {\"fixed\": \"1\"}}"),
            ("remember_payer", "true"),
            ("call_back.called_at", "2026-11-25T10:30"),
            ("call_back.spoken_to", "J. Doe"),
        ]);
        let expected = serde_json::json!({"amount": "1.00", "parts": [{"line_id": "a", "amount": "2"}, {"line_id": "b", "inside": false}], "adjustments": [],
                                          "map": {"account": {"fixed": "1"}}, "remember_payer": true,
                                          "call_back": {"called_at": "2026-11-25T10:30:00Z", "spoken_to": "J. Doe"}});
        assert_eq!(Value::Object(message(given).unwrap()), expected);
        for bad in [("parts.x.line_id", "a"), ("parts.0.line_id.x", "a"), ("map{}", "{")] {
            assert!(message(pairs(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_form_finds_its_route() {
        let (route, fields) = route_of("/payments/7/reverse").unwrap();
        assert_eq!((route.path, fields), ("/payments/{payment_id}/reverse", vec![("payment_id".to_owned(), "7".to_owned())]));
        assert!(route_of("/payments/7").is_none() && route_of("/nothing").is_none());
    }
}
