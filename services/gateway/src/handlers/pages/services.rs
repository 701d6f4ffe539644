//! How the services are: which answer, what waits for the broker, who is behind.

use std::time::Duration;

use ::domain::messages::chassis::{GetServiceHealth, ServiceHealth};
use ::domain::{Query, Rejection};
use futures::future::join_all;

use super::*;
use crate::SERVICES;

/// A service that says nothing for so long does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// What waits no longer than this is on its way.
const ON_ITS_WAY_SECONDS: i64 = 3;

/// How one service is.
struct Seen {
    service: &'static str,
    health: Result<ServiceHealth, String>,
}

impl Seen {
    /// What somebody should know; none when all is well.
    fn trouble(&self) -> Option<String> {
        match &self.health {
            Err(_) => Some(format!("{} does not answer. What it has accepted is kept; ask again when it is back", self.service)),
            Ok(health) if health.overload.is_some() => {
                Some(format!("{} takes nothing new for now: {}", self.service, health.overload.as_deref().unwrap_or_default()))
            }
            Ok(health) if health.waiting_seconds > ON_ITS_WAY_SECONDS => Some(format!(
                "{} events of {} have waited for the broker for {} s: what others show may be older",
                health.events_waiting, self.service, health.waiting_seconds
            )),
            Ok(_) => None,
        }
    }
}

impl Visit<'_> {
    async fn health(&self, service: &'static str) -> Seen {
        let subject = GetServiceHealth::SUBJECT.replace("{service}", service);
        let answered = self.door.courier.send(&subject, None, &self.context, "{}".into(), ANSWERS_WITHIN).await;
        let read = |rejection: Rejection| rejection.detail;
        let health = match answered {
            Ok(answered) => answered.result.map_err(read).and_then(|body| serde_json::from_slice(&body).map_err(|error| error.to_string())),
            Err(unanswered) => Err(unanswered.why),
        };
        Seen { service, health }
    }

    async fn all_health(&self) -> Vec<Seen> {
        join_all(SERVICES.map(|service| self.health(service))).await
    }
}

/// The table of the services.
pub async fn page(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let all = visit.all_health().await;
    let body = html! {
        h1 { "Services" }
        p.note { "What a service has accepted is in its database. Events wait there until the broker has them." }
        div.scroll tabindex="0" role="region" aria-label="Services" { table {
            thead { tr { th scope="col" { "Service" } th scope="col" { "State" } th.number scope="col" { "Events that wait" } th.number scope="col" { "For, s" }
                th.number scope="col" { "Readers behind, ms" } th.number scope="col" { "Dead letters" } } }
            tbody { @for seen in &all { tr {
                td { (seen.service) }
                td { @match seen.trouble() { Some(why) => { span.status.bad { "needs attention" } " " (why) }, None => { span.status.good { "ready" } } } }
                @match &seen.health {
                    Ok(health) => {
                        td.number { (health.events_waiting) } td.number { (health.waiting_seconds) } td.number { (health.readers_lag_millis) }
                        td.number { (health.dead_letters) }
                    }
                    Err(_) => { td.number { "-" } td.number { "-" } td.number { "-" } td.number { "-" } }
                }
            } } }
        } }
    };
    let shown = shell("Services", Some(visit.actor()), body);
    visit.end(Ok(shown)).await
}

/// What somebody should know, on top of every page; nothing when all is well. Pages ask for it again and again, so it is no
/// access to be recorded; it names no fund.
pub async fn banner(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return StatusCode::NO_CONTENT.into_response() };
    let troubles: Vec<String> = if door.shell.is_connected() {
        let all = visit.all_health().await;
        if all.iter().all(|seen| seen.health.is_err()) {
            vec!["The broker does not answer. What was accepted is kept; nothing can be asked until it does".into()]
        } else {
            all.iter().filter_map(Seen::trouble).collect()
        }
    } else {
        vec!["The broker is not connected. What was accepted is kept; nothing can be asked until it is back".into()]
    };
    let banner = html! { @if !troubles.is_empty() { div.problem role="status" { @for trouble in &troubles { p { (trouble) "." } } } } };
    Html(banner.into_string()).into_response()
}
