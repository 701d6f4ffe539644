//! What the gateway serves: the API, its document, the live events, and the pages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::domain::{Actor, Rejection};
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use chassis::{Context, Courier, Shell};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::Gateway;
use crate::domain::Role;

pub mod access;
pub mod api;
pub mod events;
pub mod notices;
pub mod openapi;
pub mod pages;
pub mod parallel_run;
pub mod statements;

/// The cookie of a person who signed in on the page.
pub const TOKEN_COOKIE: &str = "tranche_token";
/// A request is repeated for so long when nobody answers, before the caller gets 503.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two repetitions.
const PAUSE: Duration = Duration::from_millis(200);
const STRICT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The API's docs page draws itself with inline styles.
const DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the handlers share.
pub struct Door {
    /// The service.
    pub gateway: Arc<Gateway>,
    /// The shell.
    pub shell: Arc<Shell>,
    /// Brings requests to the services.
    pub courier: Courier,
    /// Writes who read or tried what.
    pub access: access::Recorder,
    /// Places for those who listen to live events.
    pub listeners: Arc<Semaphore>,
    /// Places for statement files that are read.
    pub files: Arc<Semaphore>,
    /// Who may send each message, by its subject.
    pub roles: HashMap<&'static str, &'static [Role]>,
}

impl Door {
    /// The actor of a request, from its bearer token or the page's cookie.
    pub fn actor(&self, headers: &HeaderMap) -> Result<Actor, Rejection> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        self.gateway.tokens.actor(bearer.or_else(|| cookie(headers)))
    }

    /// The context of a request.
    pub fn context(&self, headers: &HeaderMap, actor: Actor) -> Context {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let message_id = self.shell.clock.new_id();
        let correlation_id =
            text("x-correlation-id").filter(|id| !id.is_empty() && id.len() <= 100).unwrap_or_else(|| message_id.to_string());
        let traceparent = text("traceparent").and_then(|text| chassis::context::trace_context(&text));
        Context { message_id, correlation_id, actor, traceparent, is_dry_run: false }
    }

    /// Sends a request until it is answered, with the same key, for as long as the caller may wait.
    pub async fn ask(
        &self,
        subject: &str,
        key: Option<&str>,
        context: &Context,
        body: bytes::Bytes,
        within: Duration,
    ) -> Result<chassis::courier::Answered, Rejection> {
        let since = tokio::time::Instant::now();
        loop {
            match self.courier.send(subject, key, context, body.clone(), within).await {
                Ok(answered) => return Ok(answered),
                Err(unanswered) if since.elapsed() + PAUSE > PATIENCE => {
                    return Err(::domain::Reason::ServiceUnavailable.with(unanswered.why));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The token in the page's cookie.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == TOKEN_COOKIE)
        .map(|(_, value)| value)
}

/// All routes.
pub fn router(gateway: Arc<Gateway>, shell: Arc<Shell>) -> Router {
    let listeners = Arc::new(Semaphore::new(events::LISTENERS_MAX));
    let files = Arc::new(Semaphore::new(statements::FILES_AT_ONCE));
    let roles = crate::routes().into_iter().map(|route| (route.subject, route.roles)).collect();
    let (courier, access) = (shell.courier(), access::Recorder::start(shell.clone()));
    let door = Arc::new(Door { gateway, courier, access, listeners, files, roles, shell });
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let docs = Router::from(SwaggerUi::new("/api/docs").config(Config::from("/api/v1/openapi.json")));
    let docs = docs.layer(header(CONTENT_SECURITY_POLICY, DOCS));
    let requests_max = door.shell.config.requests_max.get();
    // what is above the limit is refused at once: a queue of its own would only make everybody wait
    let limit = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(move |_: tower::BoxError| async move {
            api::refuse(::domain::Reason::Overloaded.with(format!("the gateway answers {requests_max} requests at once")))
        }))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(requests_max));
    api::router()
        .merge(events::router())
        .merge(statements::router())
        .merge(parallel_run::router())
        .merge(notices::router())
        .merge(openapi::router())
        .merge(pages::router())
        .fallback(api::unknown_path)
        .method_not_allowed_fallback(api::method_not_allowed)
        .with_state(door)
        .merge(docs)
        .layer(limit)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            api::refuse(::domain::Reason::Internal.with("the request could not be answered"))
        }))
        .layer(header(CONTENT_SECURITY_POLICY, STRICT))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "same-origin"))
        .layer(header(CACHE_CONTROL, "no-store"))
}
