//! `/healthz` (the process runs), `/readyz` (it can do its work) and `/metrics` (Prometheus).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

use crate::service::Shell;

#[derive(Clone)]
struct Health {
    shell: Arc<Shell>,
    metrics: PrometheusHandle,
}

/// The routes that every service has.
pub fn routes(shell: Arc<Shell>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(health): State<Health>| async move { health.metrics.render() }))
        .with_state(Health { shell, metrics })
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let shell = &health.shell;
    let nats = shell.jetstream.client().connection_state() == async_nats::connection::State::Connected;
    let postgres = match &shell.database {
        Some(database) => sqlx::query("select 1").execute(&database.pool).await.is_ok(),
        None => true,
    };
    let rules = shell.rules_loaded();
    let ready = nats && postgres && rules && !shell.is_stopped();
    let body = json!({
        "service": shell.service,
        "status": if ready { "ready" } else { "not_ready" },
        "nats": nats, "postgres": postgres, "rules": rules,
        "outbox_depth": shell.outbox_depth.load(std::sync::atomic::Ordering::Relaxed),
    });
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body))
}
