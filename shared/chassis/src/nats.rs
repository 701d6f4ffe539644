//! The connection to NATS, and the streams that everything travels on.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config as StreamConfig, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions};

use crate::config::Config;
use crate::fault::Fault;
use crate::limits;

/// The streams: name, subjects.
pub const STREAMS: [(&str, &str); 5] = [
    ("EVENTS", "tranche.evt.>"),
    ("DEALS", "deals.>"),
    ("ACCESS", "tranche.access.>"),
    ("NOTICES", "tranche.notice.>"),
    ("DEAD_LETTERS", "tranche.dlq.>"),
];

/// Bucket of the rules: a pushed copy, the truth is workflow's Postgres.
pub const RULES_BUCKET: &str = "rules";
/// Bucket of the clock's offset, where the clock may be set.
pub const CLOCK_BUCKET: &str = "clock";

/// The stream that keeps a subject.
pub fn stream_of(subject: &str) -> &'static str {
    let holds = |filter: &str| subject.starts_with(filter.trim_end_matches('>'));
    STREAMS.iter().find(|(_, filter)| holds(filter)).map_or("EVENTS", |(name, _)| name)
}

/// Connects as the service's own user; keeps trying, at start and later.
pub async fn connect(config: &Config, service: &str) -> Result<Client, Fault> {
    let mut options = ConnectOptions::new()
        .name(service)
        .custom_inbox_prefix(format!("_INBOX_{service}"))
        .request_timeout(Some(limits::REQUEST_TIMEOUT))
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(limits::PING_EVERY)
        .reconnect_delay_callback(|attempt| limits::backoff(u32::try_from(attempt).unwrap_or(u32::MAX)))
        .retry_on_initial_connect()
        .max_reconnects(None);
    if let (Some(user), Some(password)) = (&config.nats_user, &config.nats_password) {
        options = options.user_and_password(user.clone(), password.clone());
    }
    let servers: Vec<&str> = config.nats_url.split(',').map(str::trim).collect();
    options.connect(servers.as_slice()).await.map_err(|error| Fault::Transient(format!("nats: {error}")))
}

/// Creates the streams and buckets, or brings them up to this configuration.
pub async fn ensure_streams(jetstream: &jetstream::Context, replicas: usize) -> Result<(), Fault> {
    for (name, subjects) in STREAMS {
        let config = StreamConfig {
            name: name.into(),
            subjects: vec![subjects.into()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: replicas,
            allow_atomic_publish: true,
            allow_direct: true,
            duplicate_window: Duration::from_secs(120),
            ..StreamConfig::default()
        };
        jetstream.create_or_update_stream(config).await.map_err(|error| Fault::Transient(format!("stream {name}: {error}")))?;
    }
    for bucket in [RULES_BUCKET, CLOCK_BUCKET] {
        let config =
            kv::Config { bucket: bucket.into(), history: 1, storage: StorageType::File, num_replicas: replicas, ..kv::Config::default() };
        jetstream.create_or_update_key_value(config).await.map_err(|error| Fault::Transient(format!("bucket {bucket}: {error}")))?;
    }
    Ok(())
}

/// Takes a consumer away, if it is there: whoever reads next reads from the beginning.
pub(crate) async fn forget_consumer(stream: &jetstream::stream::Stream, name: &str) -> Result<(), Fault> {
    match stream.delete_consumer(name).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(()),
            _ => Err(Fault::Transient(format!("consumer {name}: {error}"))),
        },
    }
}
