//! Live events: the event stream as server-sent events, resumable by `Last-Event-ID`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::domain::Reason;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{Stream, StreamExt};
use serde::Deserialize;
use uuid::Uuid;

use super::Door;
use super::access::Attempt;
use super::api::refuse;
use crate::domain::{READERS, check_role};

/// How often a silent connection gets a comment, so that proxies keep it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a listener wants.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Events of this fund only.
    #[serde(default)]
    fund_id: Option<Uuid>,
    /// Events that name this aggregate in their state: its own, and those of its parts.
    #[serde(default)]
    about: Option<Uuid>,
}

/// The route.
pub fn router() -> Router<Arc<Door>> {
    Router::new().route("/api/v1/events", get(listen))
}

async fn listen(State(door): State<Arc<Door>>, wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>, request: Request) -> Response {
    let headers = request.headers();
    let resource = request.uri().path_and_query().map_or("", |resource| resource.as_str());
    let checked = door.actor(headers).and_then(|actor| check_role(&actor, READERS).map(|()| actor));
    let checked = checked.and_then(|actor| {
        let Query(wanted) = wanted.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        if let Some(fund_id) = wanted.fund_id {
            actor.check_fund(fund_id)?;
        }
        let last = match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse::<u64>().ok())) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return Err(Reason::MalformedRequest.with("Last-Event-ID is not a number")),
        };
        Ok((actor, wanted, last))
    });
    let (actor, wanted, last) = match checked {
        Ok(checked) => checked,
        Err(rejection) => {
            let context = door.context(headers, ::domain::Actor { user: "anonymous".into(), ..Default::default() });
            let status = rejection.reason.entry().0;
            door.access.record(Attempt { context: &context, method: "GET", resource, status, refusal: Some(&rejection) }).await;
            return refuse(rejection);
        }
    };
    let context = door.context(headers, actor.clone());
    door.access.record(Attempt { context: &context, method: "GET", resource, status: 200, refusal: None }).await;
    let funds = wanted.fund_id.map(|fund_id| vec![fund_id]).or_else(|| actor.scope.funds().map(<[Uuid]>::to_vec));
    let filters = match funds {
        None => vec!["tranche.evt.>".to_owned()],
        Some(funds) => funds.iter().map(|fund_id| format!("tranche.evt.*.*.{fund_id}")).collect(),
    };
    match subscribe(&door, filters, last).await {
        Ok(events) => {
            let until = door.shell.clone();
            let events = events.filter(move |(_, body)| std::future::ready(is_about(body, wanted.about))).map(|(event, _)| Ok::<_, Infallible>(event));
            let events = events.take_until(Box::pin(async move { until.stopped().await }));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Err(why) => refuse(Reason::ServiceUnavailable.with(why)),
    }
}

fn is_about(body: &str, about: Option<Uuid>) -> bool {
    about.is_none_or(|id| body.contains(&id.to_string()))
}

async fn subscribe(door: &Door, filter_subjects: Vec<String>, last: Option<u64>) -> Result<impl Stream<Item = (Event, String)> + Send + 'static, String> {
    let deliver_policy = last.map_or(DeliverPolicy::New, |last| DeliverPolicy::ByStartSequence { start_sequence: last + 1 });
    let config = OrderedConfig { deliver_policy, filter_subjects, ..OrderedConfig::default() };
    let consumer = door.shell.jetstream.create_consumer_on_stream(config, "EVENTS").await.map_err(|error| error.to_string())?;
    let messages = consumer.messages().await.map_err(|error| error.to_string())?;
    Ok(messages.filter_map(|message| async move {
        let message = message.ok()?;
        let sequence = message.info().ok()?.stream_sequence;
        let kind = message.subject.rsplit_once('.').map_or("event", |(kind, _)| kind).to_owned();
        let body = String::from_utf8(message.payload.to_vec()).ok()?;
        Some((Event::default().id(sequence.to_string()).event("message").comment(kind).data(&body), body))
    }))
}
