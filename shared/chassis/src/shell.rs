//! The shell around a running service: its connections, its clock, whether it shall stop.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::service::{Service as Micro, endpoint::Endpoint};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::courier::Courier;
use crate::database::Database;
use crate::limits;
use crate::pressure::Published;

/// What the tasks of a running service share.
pub struct Shell {
    /// Name of the service.
    pub service: &'static str,
    /// Configuration.
    pub config: Config,
    /// The broker.
    pub jetstream: jetstream::Context,
    /// The database, if the service has one.
    pub database: Option<Database>,
    /// The clock.
    pub clock: Clock,
    /// Events that wait for the broker.
    pub outbox_depth: AtomicI64,
    /// What the relay has published, with its time.
    pub(crate) published: Published,
    /// Lag of the slowest reader that works, in milliseconds.
    pub(crate) lag_millis: AtomicU64,
    /// Woken when the broker has forgotten, or an owner: what is kept is compared then.
    pub(crate) compare: Notify,
    pub(crate) micro: Micro,
    pub(crate) is_serving: AtomicBool,
    pub(crate) rules_loaded: AtomicBool,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Shell {
    /// Returns when the service shall stop.
    pub async fn stopped(&self) {
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
    /// Whether the service shall stop.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
    /// Why new commands are refused for now, if they are.
    pub fn overload(&self) -> Option<String> {
        let depth = self.outbox_depth.load(Ordering::Relaxed);
        if depth > self.config.outbox_max {
            return Some(format!("{depth} events wait for the broker"));
        }
        let lag = self.lag();
        (lag > limits::LAG_MAX).then(|| format!("the readers of the events are {} ms behind", lag.as_millis()))
    }
    /// Whether the broker is connected.
    pub fn is_connected(&self) -> bool {
        self.jetstream.client().connection_state() == async_nats::connection::State::Connected
    }
    /// Lag of the slowest reader that works.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag_millis.load(Ordering::Relaxed))
    }
    pub(crate) fn note_lag(&self, lag: Duration) {
        self.lag_millis.store(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    /// Whether commands and events are handled.
    pub fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::Relaxed)
    }
    /// Whether the rules have been read once.
    pub fn rules_loaded(&self) -> bool {
        self.rules_loaded.load(Ordering::Relaxed)
    }
    pub(crate) fn rules_are_loaded(&self) {
        self.rules_loaded.store(true, Ordering::Relaxed);
    }
    /// A courier on this service's connection.
    pub fn courier(&self) -> Courier {
        Courier::new(self.jetstream.client())
    }
    /// An endpoint of the micro-service; replicas share its requests. `{service}` in the subject stands for this one.
    pub(crate) async fn endpoint(&self, subject: &str) -> Option<Endpoint> {
        let subject = &subject.replace("{service}", self.service);
        // what stands after the kind of request and the service
        let name = &subject.split('.').skip(3).collect::<Vec<_>>().join("-");
        match self.micro.endpoint_builder().name(name).queue_group(self.service).add(subject).await {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::error!(subject, %error, "endpoint cannot be served");
                None
            }
        }
    }
}
