//! The context of a message: who, on whose behalf, as part of which request. It travels in the
//! headers, after CloudEvents 1.0 (binary mode, the NATS binding) and W3C Trace Context.

use std::borrow::Cow;

use async_nats::HeaderMap;
use domain::{Actor, Reason, Rejection, Scope};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Header of the idempotency key of a command.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Header of an answer that was given before.
pub const REPLAYED: &str = "Idempotent-Replayed";
/// Headers by which NATS micro-services mark an error answer.
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// The code beside [`SERVICE_ERROR`]: an HTTP status.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// The last token of the subject on which a command is decided and not carried out: nobody carries it out who does not know of it.
pub const DRY_RUN: &str = "dry-run";

/// What CloudEvents asks to be percent-encoded in a header value.
const HEADER_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The context of one message.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Id of the message itself.
    pub message_id: Uuid,
    /// Id of the outermost request.
    pub correlation_id: String,
    /// Who asks.
    pub actor: Actor,
    /// W3C trace context of the caller.
    pub traceparent: Option<String>,
    /// Whether a command is decided only: its answer is what it would be, and nothing changes.
    pub is_dry_run: bool,
}

/// Longest name or id that is read from a header; a longer one is cut. JetStream refuses messages
/// whose headers pass 64 KiB, and an event carries these on.
const HEADER_CHARACTERS_MAX: usize = 200;

/// Writes one CloudEvents attribute.
pub fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    headers.insert(name, &*Cow::from(utf8_percent_encode(value, HEADER_VALUE)));
}

/// Reads one CloudEvents attribute.
pub fn get<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<Cow<'a, str>> {
    headers?.get(name).map(|value| decoded(value.as_str()))
}

/// All headers with their values decoded: who needs several reads them in one go.
pub fn attributes(headers: Option<&HeaderMap>) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let all = headers.into_iter().flat_map(HeaderMap::iter);
    all.filter_map(|(name, values)| Some((name.as_ref(), decoded(values.first()?.as_str()))))
}

fn decoded(value: &str) -> Cow<'_, str> {
    if !value.bytes().any(|byte| matches!(byte, b'%' | 0)) {
        return Cow::Borrowed(value);
    }
    // Postgres keeps no zero character
    percent_decode_str(value).decode_utf8_lossy().replace('\0', "").into()
}

/// An attribute that is carried on, cut to a length that no header suffers from.
fn short(value: Cow<'_, str>) -> String {
    match value {
        value if value.len() <= HEADER_CHARACTERS_MAX => value.into_owned(),
        long => long.chars().take(HEADER_CHARACTERS_MAX).collect(),
    }
}

/// A trace context of W3C, version 00; anything else is dropped.
pub fn trace_context(text: &str) -> Option<String> {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<&str> = text.split('-').collect();
    let fits = parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    fits.then(|| text.to_owned())
}

/// Reads the JSON body of a request. Zero characters are refused: Postgres keeps none.
pub fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Rejection> {
    let zero = b"\\u0000";
    if payload.windows(zero.len()).any(|window| window == zero) {
        return Err(Reason::MalformedRequest.with("the body contains a zero character"));
    }
    serde_json::from_slice(payload).map_err(|error| Reason::MalformedRequest.with(error.to_string()))
}

impl Context {
    /// A context for what a service does by itself.
    pub fn of_service(name: &str, message_id: Uuid) -> Context {
        Context { message_id, correlation_id: message_id.to_string(), actor: Actor::service(name), ..Context::default() }
    }

    /// Writes the context of a request.
    pub fn write(&self, headers: &mut HeaderMap) {
        put(headers, "ce-id", &self.message_id.to_string());
        put(headers, "ce-correlationid", &self.correlation_id);
        put(headers, "ce-actor", &self.actor.user);
        put(headers, "ce-actorroles", &self.actor.roles.join(","));
        if let Some(funds) = self.actor.scope.funds() {
            put(headers, "ce-actorfunds", &funds.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
        }
        if let Some(traceparent) = &self.traceparent {
            headers.insert("traceparent", traceparent.as_str());
        }
    }

    /// Reads the context of a message; what is missing stays empty. A list of funds that cannot be
    /// read allows no fund.
    pub fn read(headers: Option<&HeaderMap>) -> Context {
        let list = |text: Cow<str>| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let mut context = Context::default();
        let (mut user, mut correlation_id) = (None, None);
        for (name, value) in attributes(headers) {
            match name {
                "ce-id" => context.message_id = value.parse().unwrap_or_default(),
                "ce-correlationid" => correlation_id = Some(short(value)),
                "ce-actor" => user = Some(short(value)),
                "ce-actorroles" => context.actor.roles = list(value),
                "ce-actorfunds" => {
                    context.actor.scope = Scope::Funds(list(value).iter().filter_map(|id| id.parse().ok()).collect());
                }
                "traceparent" => context.traceparent = trace_context(&value),
                _ => {}
            }
        }
        context.actor.user = user.unwrap_or_else(|| "unknown".into());
        context.correlation_id = correlation_id.unwrap_or_else(|| context.message_id.to_string());
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_the_headers() {
        let context = Context {
            message_id: Uuid::from_u128(7),
            correlation_id: "r 1 \"ü\" 100%".into(),
            actor: Actor {
                user: "Zoë".into(),
                roles: vec!["analyst".into(), "committee".into()],
                scope: Scope::Funds(vec![Uuid::from_u128(1)]),
            },
            is_dry_run: false,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        };
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        let read = Context::read(Some(&headers));
        assert_eq!((read.message_id, &read.correlation_id, &read.actor), (context.message_id, &context.correlation_id, &context.actor));
        assert_eq!(read.traceparent, context.traceparent);
    }

    #[test]
    fn what_is_carried_on_is_short() {
        let mut headers = HeaderMap::new();
        put(&mut headers, "ce-actor", &"x".repeat(70_000));
        put(&mut headers, "ce-correlationid", "a\0b");
        headers.insert("traceparent", "0".repeat(70_000));
        let context = Context::read(Some(&headers));
        assert_eq!((context.actor.user.len(), context.correlation_id.as_str(), context.traceparent), (200, "ab", None));
    }

    #[test]
    fn funds_that_cannot_be_read_allow_nothing() {
        let mut headers = HeaderMap::new();
        put(&mut headers, "ce-actorfunds", "all of them");
        assert_eq!(Context::read(Some(&headers)).actor.scope, Scope::Funds(vec![]));
    }
}
