//! The API: each route is one command or query. Path, query string and body are joined into one
//! JSON object, read as the message type, and sent.

use std::sync::Arc;
use std::time::Duration;

use ::domain::message::without_values;
use ::domain::{Command, Problem, Query, Reason, Rejection};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use chassis::Context;
use chassis::limits::REQUEST_TIMEOUT;
use futures::StreamExt;
use schemars::{Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Door;
use super::access::Attempt;
use crate::domain::{Role, check_role};

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A larger body is read and thrown away up to this size, so that the caller gets the answer.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// The one query parameter of commands: they are decided and not carried out.
const DRY_RUN: &str = "dry_run=true";
/// The header of an idempotency key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One route of the API.
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path under `/api/v1`; the names in braces are fields of the message.
    pub path: &'static str,
    /// Who may.
    pub roles: &'static [Role],
    /// The subject of the message.
    pub subject: &'static str,
    /// Whether it changes something.
    pub is_command: bool,
    /// Status of an accepted request.
    pub status: u16,
    /// How long one attempt may take.
    pub within: Duration,
    /// The field that the whole body becomes; none when the body's fields are the message's.
    pub body_field: Option<&'static str>,
    /// Schema of the message.
    pub message: fn(&mut SchemaGenerator) -> Schema,
    /// Schema of the answer.
    pub reply: fn(&mut SchemaGenerator) -> Schema,
    /// Whether it is answered only when the broker has the record of it.
    pub is_recorded_first: bool,
    read: fn(Value) -> Result<Vec<u8>, Rejection>,
}

fn read<T: ::domain::message::Wire>(value: Value) -> Result<Vec<u8>, Rejection> {
    // read once more for the name of the field, only when it cannot be read
    let refuse = |_| match serde_path_to_error::deserialize::<_, T>(&value) {
        Err(error) => Reason::MalformedRequest.with(error.to_string()),
        Ok(_) => Reason::Internal.with("a body that is read only the second time"),
    };
    let message = T::deserialize(&value).map_err(refuse)?;
    serde_json::to_vec(&message).map_err(|error| Reason::Internal.with(error.to_string()))
}

fn read_command<C: Command>(value: Value) -> Result<Vec<u8>, Rejection> {
    read::<C>(value).map_err(|refusal| if C::IS_SECRET { without_values(refusal) } else { refusal })
}

/// A route that becomes a command.
pub fn command<C: Command>(method: &'static str, path: &'static str, roles: &'static [Role]) -> Route {
    Route {
        method,
        path,
        roles,
        subject: C::SUBJECT,
        is_command: true,
        status: 200,
        within: REQUEST_TIMEOUT,
        body_field: None,
        message: SchemaGenerator::root_schema_for::<C>,
        reply: SchemaGenerator::subschema_for::<C::Reply>,
        is_recorded_first: false,
        read: read_command::<C>,
    }
}

/// A route that becomes a query.
pub fn query<Q: Query>(method: &'static str, path: &'static str, roles: &'static [Role]) -> Route {
    Route {
        method,
        path,
        roles,
        subject: Q::SUBJECT,
        is_command: false,
        status: 200,
        within: REQUEST_TIMEOUT,
        body_field: None,
        message: SchemaGenerator::root_schema_for::<Q>,
        reply: SchemaGenerator::subschema_for::<Q::Reply>,
        is_recorded_first: false,
        read: read::<Q>,
    }
}

impl Route {
    /// Sets the status of an accepted request.
    pub fn gives(mut self, status: u16) -> Route {
        self.status = status;
        self
    }
    /// The body is the value of this field.
    pub fn with_body_as(mut self, field: &'static str) -> Route {
        self.body_field = Some(field);
        self
    }
    /// Nobody sees the answer of whom the audit does not.
    pub fn recorded_first(mut self) -> Route {
        self.is_recorded_first = true;
        self
    }
    /// Sets how long one attempt may take.
    pub fn within(mut self, seconds: u64) -> Route {
        self.within = Duration::from_secs(seconds);
        self
    }
    /// The names in braces.
    pub fn path_fields(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// The routes of the table.
pub fn router() -> Router<Arc<Door>> {
    crate::routes().into_iter().fold(Router::new(), |router, route| {
        let path = format!("/api/v1{}", route.path);
        let filter = match route.method {
            "POST" => MethodFilter::POST,
            "PUT" => MethodFilter::PUT,
            _ => MethodFilter::GET,
        };
        let route = Arc::new(route);
        let handler = move |State(door): State<Arc<Door>>, path: Result<Path<Vec<(String, String)>>, PathRejection>, request: Request| {
            let route = route.clone();
            async move { serve(&door, &route, path.map(|Path(fields)| fields).unwrap_or_default(), request).await }
        };
        router.route(&path, on(filter, handler))
    })
}

/// A refusal as an answer.
pub fn refuse(rejection: Rejection) -> Response {
    let problem = Problem::from(rejection);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, serde_json::to_vec(&problem).unwrap_or_default()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if matches!(problem.status, 429 | 503) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if problem.status == 401 {
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
    }
    response
}

/// Answers a path that there is not. The body is read first: a connection that is closed with some of it
/// unread would break the caller's next request.
pub async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let _ = read_body(request.into_body()).await;
    refuse(Reason::UnknownPath.with(path))
}

/// Answers a method that a path does not have.
pub async fn method_not_allowed(request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let _ = read_body(request.into_body()).await;
    refuse(Reason::MethodNotAllowed.with(what))
}

async fn serve(door: &Door, route: &Route, path: Vec<(String, String)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let resource = parts.uri.path_and_query().map_or("", |resource| resource.as_str()).to_owned();
    // read before anything is refused, so that a caller who is still sending gets the answer
    let body = read_body(body).await;
    let actor = door.actor(&parts.headers);
    let anonymous = || ::domain::Actor { user: "anonymous".into(), ..Default::default() };
    let context = door.context(&parts.headers, actor.as_ref().map_or_else(|_| anonymous(), Clone::clone));
    let prepared = actor
        .and_then(|actor| check_role(&actor, route.roles))
        .and_then(|()| prepare(route, &parts.headers, path, parts.uri.query(), body));
    let attempt = |status, refusal| Attempt { context: &context, method: route.method, resource: &resource, status, refusal };
    let (mut response, at_the_door) = match prepared {
        Err(rejection) => (Err(rejection), true),
        Ok(prepared) => {
            let context = Context { is_dry_run: prepared.is_dry_run, ..context.clone() };
            // what a service only tries out it does not record
            let is_recorded_here = !route.is_command || prepared.is_dry_run;
            (carry_out(door, route, &context, prepared, &parts.headers).await, is_recorded_here)
        }
    };
    // a command that a service refused is recorded by that service, beside its answer
    let unanswered = matches!(&response, Err(rejection) if rejection.reason.entry().0 >= 500);
    if at_the_door && !unanswered {
        let refusal = response.as_ref().err();
        let answered = response.as_ref().map_or(route.status, |response| response.status().as_u16());
        let recorded = door.access.record(attempt(refusal.map_or(answered, |rejection| rejection.reason.entry().0), refusal)).await;
        if route.is_recorded_first && !recorded {
            response = Err(Reason::ServiceUnavailable.with("who sees this is recorded first, and the record is not acknowledged"));
        }
    }
    if let (Ok(response), Ok(id)) = (&mut response, HeaderValue::from_str(&context.correlation_id)) {
        response.headers_mut().insert("x-correlation-id", id);
    }
    response.unwrap_or_else(refuse)
}

/// Reads a body to its end.
pub async fn read_body(body: Body) -> Result<Bytes, Rejection> {
    let mut stream = body.into_data_stream();
    let mut read = Vec::new();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Reason::MalformedRequest.with(format!("the body broke off: {error}")))?;
        length += chunk.len();
        if length <= BODY_BYTES_MAX {
            read.extend_from_slice(&chunk);
        } else if length > DRAIN_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Reason::RequestTooLarge.with(format!("the body has more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(read.into())
}

/// A request that may be sent.
struct Prepared {
    subject: String,
    key: Option<String>,
    message: Vec<u8>,
    is_dry_run: bool,
}

fn prepare(
    route: &Route,
    headers: &HeaderMap,
    path: Vec<(String, String)>,
    query: Option<&str>,
    body: Result<Bytes, Rejection>,
) -> Result<Prepared, Rejection> {
    let body = body?;
    let key = match idempotency_key(headers)? {
        None if route.is_command && route.method == "POST" => {
            return Err(Reason::IdempotencyKeyMissing.with("the request has no Idempotency-Key header"));
        }
        key => key,
    };
    let is_dry_run = route.is_command && query == Some(DRY_RUN);
    let mut fields = match route.method {
        "GET" => query_fields(route, query)?,
        _ if !is_dry_run && query.is_some_and(|query| !query.is_empty()) => {
            return Err(Reason::MalformedRequest.with("this path takes no query parameters, but a command dry_run=true"));
        }
        _ => body_fields(route, headers, &body)?,
    };
    if let Some(name) = route.path_fields().find(|name| fields.contains_key(*name)) {
        return Err(Reason::MalformedRequest.with(format!("{name} stands in the path; it may not stand anywhere else")));
    }
    if path.len() != route.path_fields().count() {
        return Err(Reason::MalformedRequest.with("the path is not UTF-8"));
    }
    let mut subject = route.subject.to_owned();
    for (name, value) in path {
        if subject.contains(&format!("{{{name}}}")) {
            subject = subject_of(&subject, &name, &value)?;
        } else {
            fields.insert(name, Value::String(value));
        }
    }
    Ok(Prepared { subject, key, message: (route.read)(Value::Object(fields))?, is_dry_run })
}

/// The message of a route, from its fields.
pub fn message(route: &Route, fields: Value) -> Result<Vec<u8>, Rejection> {
    (route.read)(fields)
}

/// Puts a service's name into a subject that every service answers on.
fn subject_of(subject: &str, name: &str, service: &str) -> Result<String, Rejection> {
    if crate::SERVICES.contains(&service) {
        return Ok(subject.replace(&format!("{{{name}}}"), service));
    }
    Err(Reason::UnknownPath.with(format!("there is no service {service:?}; there are {}", crate::SERVICES.join(", "))))
}

/// The idempotency key of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(Reason::MalformedRequest.with("there are several Idempotency-Key headers"));
    }
    let key = key.to_str().unwrap_or_default();
    check_key(key).map(|()| Some(key.to_owned()))
}

/// Refuses a key that cannot be a header of a NATS message.
pub fn check_key(key: &str) -> Result<(), Rejection> {
    let fits = !key.is_empty() && key.len() <= chassis::limits::KEY_CHARACTERS_MAX && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(Reason::IdempotencyKeyMissing.with("the Idempotency-Key is not 1 to 200 visible ASCII characters")) }
}

fn body_fields(route: &Route, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Rejection> {
    check_encoding(headers)?;
    let body = if body.is_empty() { b"{}" } else { body };
    let UniqueKeys(value) = chassis::context::parse(body)?;
    match (value, route.body_field) {
        (value, Some(field)) => Ok(Map::from_iter([(field.to_owned(), value)])),
        (Value::Object(fields), None) => Ok(fields),
        _ => Err(Reason::MalformedRequest.with("the body is not a JSON object")),
    }
}

/// Refuses a body that is not plain JSON in UTF-8.
fn check_encoding(headers: &HeaderMap) -> Result<(), Rejection> {
    let all = |name| {
        headers
            .get_all(name)
            .iter()
            .map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
            .collect::<Vec<_>>()
            .join(", ")
            .to_ascii_lowercase()
    };
    let (kind, coding) = (all(CONTENT_TYPE), all(CONTENT_ENCODING));
    let kind_fits = matches!(kind.replace([' ', '"'], "").as_str(), "" | "application/json" | "application/json;charset=utf-8");
    if !kind_fits || !matches!(coding.as_str(), "" | "identity") {
        return Err(Reason::UnsupportedMediaType.with(format!("the body is {kind:?}, coded {coding:?}")));
    }
    Ok(())
}

/// JSON in which no object names a field twice: which of two amounts is meant cannot be known.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor).map(UniqueKeys)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueKeys(entry)) = entries.next_element()? {
            list.push(entry);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, UniqueKeys(value))) = entries.next_entry::<String, UniqueKeys>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the field {name:?} stands twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

/// Reads the query string; a value is a number, or true or false, where the message's field is.
fn query_fields(route: &Route, query: Option<&str>) -> Result<Map<String, Value>, Rejection> {
    let schema = (route.message)(&mut SchemaGenerator::default());
    let is_a = |name: &str, wanted: &str| {
        let kind = schema.pointer(&format!("/properties/{name}/type"));
        kind.is_some_and(|kind| kind == wanted || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted)))
    };
    let mut fields = Map::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let value = match (value.parse::<u64>(), value.parse::<bool>()) {
            (Ok(number), _) if is_a(&name, "integer") => Value::from(number),
            (_, Ok(flag)) if is_a(&name, "boolean") => Value::from(flag),
            _ => Value::String(value),
        };
        if fields.insert(name.clone(), value).is_some() {
            return Err(Reason::MalformedRequest.with(format!("the parameter {name:?} stands twice")));
        }
    }
    Ok(fields)
}

fn decode(text: &str) -> Result<String, Rejection> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| Reason::MalformedRequest.with("the query string is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(Reason::MalformedRequest.with("the query string contains a zero character"));
    }
    Ok(decoded.into_owned())
}

async fn carry_out(
    door: &Door,
    route: &Route,
    context: &Context,
    Prepared { subject, key, message, is_dry_run }: Prepared,
    headers: &HeaderMap,
) -> Result<Response, Rejection> {
    // a PUT may come without a key: its own id is one, and repeating it is harmless
    let key = route.is_command.then(|| key.unwrap_or_else(|| context.message_id.to_string()));
    let answered = door.ask(&subject, key.as_deref(), context, message.into(), route.within).await?;
    let replayed = HeaderValue::from_static(if answered.replayed { "true" } else { "false" });
    let body = match answered.result {
        Ok(body) => body,
        Err(rejection) if answered.replayed => {
            let mut response = refuse(rejection);
            response.headers_mut().insert(HeaderName::from_static("idempotent-replayed"), replayed);
            return Ok(response);
        }
        Err(rejection) => return Err(rejection),
    };
    let mut response = Response::new(Body::empty());
    let status = if is_dry_run { StatusCode::OK } else { StatusCode::from_u16(route.status).unwrap_or(StatusCode::OK) };
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if answered.replayed {
        response.headers_mut().insert(HeaderName::from_static("idempotent-replayed"), replayed);
    }
    if is_dry_run {
        response.headers_mut().insert(HeaderName::from_static("dry-run"), HeaderValue::from_static("true"));
    } else if route.status == 202 {
        show_workflow_first(door, context, &body, &mut response).await;
    }
    if route.method == Method::GET.as_str() {
        let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16]));
        let unchanged =
            headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).is_some_and(|tag| tag.split(',').any(|tag| tag.trim() == etag));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
    }
    *response.body_mut() = Body::from(body);
    Ok(response)
}

/// A caller who was given a workflow's id finds it, and its approval, at once. Whatever comes of
/// the look does not change the answer: the request is accepted.
async fn show_workflow_first(door: &Door, context: &Context, body: &[u8], response: &mut Response) {
    let accepted: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(id) = accepted.get("workflow_id").and_then(Value::as_str) else { return };
    let question = serde_json::json!({"workflow_id": id}).to_string();
    let _ = door
        .courier
        .send(<::domain::messages::workflow::GetWorkflow as Query>::SUBJECT, None, context, question.into(), REQUEST_TIMEOUT)
        .await;
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/workflows/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
}
