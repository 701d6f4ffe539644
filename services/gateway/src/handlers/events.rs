//! Live events: the event stream as server-sent events, resumable by `Last-Event-ID`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::domain::Reason;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::live::{self, Live};
use futures::StreamExt;
use serde::Deserialize;
use uuid::Uuid;

use super::Door;
use super::access::Attempt;
use super::api::refuse;
use crate::domain::{READERS, check_role};

/// How often a silent connection gets a comment, so that proxies keep it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A connection ends after so long; the listener comes back with `Last-Event-ID`, and with a token
/// that is looked at again.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// Listeners of one gateway; each has a consumer of its own at the broker.
pub const LISTENERS_MAX: usize = 1_000;

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

async fn listen(
    State(door): State<Arc<Door>>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let resource = request.uri().path_and_query().map_or("", |resource| resource.as_str());
    let actor = door.actor(headers);
    let who = actor.clone().unwrap_or_else(|_| ::domain::Actor { user: "anonymous".into(), ..Default::default() });
    let checked = actor.and_then(|actor| {
        check_role(&actor, READERS)?;
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
            let context = door.context(headers, who);
            let status = rejection.reason.entry().0;
            door.access.record(Attempt { context: &context, method: "GET", resource, status, refusal: Some(&rejection) }).await;
            return refuse(rejection);
        }
    };
    let context = door.context(headers, actor.clone());
    door.access.record(Attempt { context: &context, method: "GET", resource, status: 200, refusal: None }).await;
    let funds = wanted.fund_id.map(|fund_id| vec![fund_id]).or_else(|| actor.scope.funds().map(<[Uuid]>::to_vec));
    // filters that overlap are refused by the broker, and no filter at all means everything
    let funds = funds.map(|funds| funds.into_iter().collect::<BTreeSet<Uuid>>());
    if funds.as_ref().is_some_and(BTreeSet::is_empty) {
        return refuse(Reason::FundOutOfScope.with(format!("{} may see no fund", context.actor.user)));
    }
    let filters = match funds {
        None => vec!["tranche.evt.>".to_owned()],
        Some(funds) => funds.iter().map(|fund_id| format!("tranche.evt.*.*.{fund_id}")).collect(),
    };
    let Ok(place) = door.listeners.clone().try_acquire_owned() else {
        return refuse(Reason::Overloaded.with(format!("{LISTENERS_MAX} listeners are connected to this gateway")));
    };
    let events = match live::listen(&door.shell, filters, last).await {
        Ok(events) => events,
        Err(fault) => return refuse(Reason::ServiceUnavailable.with(fault.to_string())),
    };
    let until = door.shell.clone();
    let events = events.filter_map(move |live| {
        // held for as long as the events are listened to
        let _place = &place;
        std::future::ready(event(live, wanted.about))
    });
    let ended = async move {
        tokio::select! {
            () = until.stopped() => {}
            () = tokio::time::sleep(CONNECTION_MAX) => {}
        }
    };
    let events = events.map(Ok::<_, Infallible>).take_until(Box::pin(ended));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One server-sent event; its type is `message`, so that any listener gets it, its kind a comment.
fn event(live: Live, about: Option<Uuid>) -> Option<Event> {
    let body = std::str::from_utf8(&live.body).ok()?;
    if about.is_some_and(|id| !body.contains(&id.to_string())) {
        return None;
    }
    let kind = live.subject.rsplit_once('.').map_or("event", |(kind, _)| kind);
    Some(Event::default().id(live.sequence.to_string()).event("message").comment(kind).data(body))
}
