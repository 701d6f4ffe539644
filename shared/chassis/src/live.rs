//! Live events: what the stream `EVENTS` gets, as it gets it, for people who watch.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::fault::Fault;
use crate::shell::Shell;

/// One event as it came.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its place in the stream; listening can go on after it.
    pub sequence: u64,
    /// The subject.
    pub subject: String,
    /// The body.
    pub body: Bytes,
}

/// Listens to the events with these subjects, from now on or after a sequence.
pub async fn listen(
    shell: &Shell,
    filter_subjects: Vec<String>,
    after: Option<u64>,
) -> Result<impl Stream<Item = Live> + Send + use<>, Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("live events: {error}"));
    let deliver_policy =
        after.map_or(DeliverPolicy::New, |after| DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) });
    let config = OrderedConfig { deliver_policy, filter_subjects, ..OrderedConfig::default() };
    let consumer = shell.jetstream.create_consumer_on_stream(config, "EVENTS").await.map_err(|error| fault(&error))?;
    let messages = consumer.messages().await.map_err(|error| fault(&error))?;
    Ok(messages.filter_map(|message| async move {
        let message = message.ok()?;
        let sequence = message.info().ok()?.stream_sequence;
        Some(Live { sequence, subject: message.subject.to_string(), body: message.payload.clone() })
    }))
}
