//! `/healthz` (the process runs), `/readyz` (it can do its work) and `/metrics` (Prometheus); and what the service answers about
//! itself to `get-health`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use domain::messages::chassis::{GetServiceHealth, ServiceHealth};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::context::Context;
use crate::database::Tx;
use crate::fault::Fault;
use crate::limits;
use crate::query::{Answer, Show};
use crate::relay;
use crate::shell::Shell;

/// What a service answers about itself.
pub(crate) struct Own {
    pub shell: Arc<Shell>,
}

impl Show<GetServiceHealth> for Own {
    async fn show(&self, tx: &mut Tx, _: &Context, _: GetServiceHealth) -> Answer<ServiceHealth> {
        let waits = relay::depth(tx).await?;
        let parked = "select count(*) from dead_letters where status = 'parked'";
        let dead_letters = sqlx::query_scalar(parked).fetch_one(&mut **tx).await.map_err(Fault::from)?;
        Ok(ServiceHealth {
            service: self.shell.service.into(),
            epoch: tx.epoch(),
            events_waiting: waits.events,
            waiting_seconds: waits.seconds as i64,
            readers_lag_millis: u64::try_from(self.shell.lag().as_millis()).unwrap_or(u64::MAX),
            dead_letters,
            overload: self.shell.overload(),
        })
    }
}

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

/// Asks the service at this address whether it is ready.
pub async fn ask(address: SocketAddr) -> Result<(), Fault> {
    let answered = tokio::time::timeout(limits::REQUEST_TIMEOUT, read_ready(address)).await;
    answered.unwrap_or_else(|_| Err(Fault::Transient(format!("{address} does not answer"))))
}

async fn read_ready(address: SocketAddr) -> Result<(), Fault> {
    let fault = |error: std::io::Error| Fault::Transient(format!("{address}: {error}"));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.map_err(fault)?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.map_err(fault)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(fault)?;
    match answer.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(Fault::Transient(format!("{address} is not ready: {answer}"))),
    }
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let shell = &health.shell;
    // asked, because a broker that hangs is still connected
    let nats = tokio::time::timeout(limits::READY_WITHIN, shell.jetstream.query_account()).await.is_ok_and(|asked| asked.is_ok());
    let postgres = match &shell.database {
        Some(database) => {
            let pool = database.pool();
            let asked = sqlx::query("select 1").execute(&pool);
            tokio::time::timeout(limits::READY_WITHIN, asked).await.is_ok_and(|answered| answered.is_ok())
        }
        None => true,
    };
    let rules = shell.rules_loaded();
    let ready = nats && postgres && rules && shell.is_serving() && !shell.is_stopped();
    let body = json!({
        "service": shell.service,
        "status": if ready { "ready" } else { "not_ready" },
        "nats": nats, "postgres": postgres, "rules": rules,
        "outbox_depth": shell.outbox_depth.load(std::sync::atomic::Ordering::Relaxed),
    });
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body))
}
