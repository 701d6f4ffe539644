//! Configuration from environment variables; `.env.example` lists them all.

use std::net::SocketAddr;
use std::num::NonZero;

use serde::Deserialize;

use crate::limits;

/// What every service reads from its environment.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The service's own database role. The gateway has none.
    #[serde(default)]
    pub database_url: Option<String>,
    /// The owner role, for `migrate`; `database_url` if not given.
    #[serde(default)]
    pub migrate_database_url: Option<String>,
    /// Address of NATS; those of a cluster's servers with commas between them.
    pub nats_url: String,
    /// The service's own NATS user.
    #[serde(default)]
    pub nats_user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub nats_password: Option<String>,
    /// Replicas of the streams: 1 locally, 3 in production.
    #[serde(default = "one")]
    pub nats_replicas: usize,
    /// Where health, metrics and, for the gateway, everything else is served.
    #[serde(default = "any_port")]
    pub http_addr: SocketAddr,
    /// Name of the deployment; chooses the rules of `env:<name>`.
    #[serde(default = "development")]
    pub tranche_env: String,
    /// Whether the clock follows the bucket `clock`; never in production.
    #[serde(default)]
    pub clock_settable: bool,
    /// Threads that work. A service handles one kind of message in batches, one after the other, so more gain little;
    /// more replicas do.
    #[serde(default = "one_thread")]
    pub worker_threads: NonZero<usize>,
    /// Events that may wait for the broker before new commands are answered with 429.
    #[serde(default = "outbox_max")]
    pub outbox_max: i64,
    /// Requests that the gateway answers at once; further ones are answered with 429.
    #[serde(default = "requests_max")]
    pub requests_max: NonZero<usize>,
    /// File with the keys under which records are encrypted: see [`crate::sealing`].
    #[serde(default)]
    pub encryption_keys_file: Option<String>,
    /// `text` or `json`.
    #[serde(default = "text")]
    pub log_format: String,
}

fn one() -> usize {
    1
}
fn one_thread() -> NonZero<usize> {
    NonZero::<usize>::MIN
}
fn outbox_max() -> i64 {
    limits::OUTBOX_MAX
}
fn requests_max() -> NonZero<usize> {
    limits::REQUESTS_MAX
}
fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
fn development() -> String {
    "development".into()
}
fn text() -> String {
    "text".into()
}

impl Config {
    /// Reads the environment; the error names the variable.
    pub fn read() -> Result<Config, String> {
        envy::from_env().map_err(|error| format!("configuration: {error}; see .env.example"))
    }
}
