//! The rules in every replica: pushed through the bucket `rules`, in force within a second.
//!
//! The truth is workflow's database. Its replicas mirror each new version into the bucket; a write
//! checks the revision, so that an older version never replaces a newer one.

use std::sync::Arc;

use async_nats::jetstream::kv::{Operation, Store};
use domain::Aggregate;
use domain::messages::workflow::RuleSet;
use futures::StreamExt;

use crate::database::Database;
use crate::fault::Fault;
use crate::follow::{Reader, acknowledge, read};
use crate::limits;
use crate::nats::{CLOCK_BUCKET, RULES_BUCKET};
use crate::service::Shell;

fn transient(error: impl std::fmt::Display) -> Fault {
    Fault::Transient(error.to_string())
}

/// Mirrors rule sets into the bucket until the service stops. Only workflow runs it.
pub(crate) async fn mirror(shell: Arc<Shell>) {
    let mut reader = Reader::new(shell.clone(), RuleSet::STREAM, "rules-mirror", RuleSet::filter());
    while let Some(messages) = reader.next().await {
        for message in messages {
            let put = match read::<RuleSet>(&message) {
                Ok(seen) => put(&shell, &seen.state).await,
                // its owner is this very service; a reader that needs it parks it
                Err(why) => {
                    tracing::error!(%why, "rule set cannot be mirrored");
                    Ok(())
                }
            };
            match put {
                Ok(()) => acknowledge(std::slice::from_ref(&message)).await,
                Err(fault) => {
                    tracing::warn!(%fault, "rule set is mirrored again");
                    // not acknowledged: the broker delivers it again after ACK_WAIT at the latest
                    let _ = message.ack_with(async_nats::jetstream::AckKind::Nak(Some(limits::backoff(1)))).await;
                }
            }
        }
    }
}

async fn put(shell: &Shell, rules: &RuleSet) -> Result<(), Fault> {
    let bucket = shell.jetstream.get_key_value(RULES_BUCKET).await.map_err(transient)?;
    let key = rules.scope.replace(':', ".");
    let known = bucket.entry(&key).await.map_err(transient)?;
    let known_version =
        known.as_ref().and_then(|entry| serde_json::from_slice::<RuleSet>(&entry.value).ok()).map_or(0, |known| known.version);
    if rules.version <= known_version {
        return Ok(());
    }
    let value = serde_json::to_vec(rules)?;
    bucket.update(&key, value.into(), known.map_or(0, |entry| entry.revision)).await.map_err(transient)?;
    Ok(())
}

async fn watch(bucket: &Store, mut take: impl FnMut(&[u8]), loaded: impl Fn()) -> Result<(), Fault> {
    let mut entries = bucket.watch_with_history(">").await.map_err(transient)?;
    if bucket.status().await.map_err(transient)?.values() == 0 {
        loaded();
    }
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(transient)?;
        if entry.operation == Operation::Put {
            take(&entry.value);
        }
        if entry.seen_current {
            loaded();
        }
    }
    Ok(())
}

/// Keeps the rules of this replica up to date until the service stops.
pub(crate) async fn follow(shell: Arc<Shell>, database: Database) {
    let take = |value: &[u8]| match serde_json::from_slice::<RuleSet>(value) {
        Ok(rules) => match rules.scope.parse() {
            Ok(scope) => database.change_rules(|book| {
                if book.put(scope, rules.version, rules.rules) {
                    tracing::info!(scope = rules.scope, version = rules.version, "rules in force");
                }
            }),
            Err(rejection) => tracing::error!(%rejection, "rule set of an unknown scope"),
        },
        Err(error) => tracing::error!(%error, "rule set cannot be read"),
    };
    keep_watching(&shell, RULES_BUCKET, take, || shell.rules_are_loaded()).await;
}

/// Keeps the clock's offset up to date, where it may be set.
pub(crate) async fn follow_clock(shell: Arc<Shell>, clock: crate::clock::Clock) {
    let take = |value: &[u8]| {
        if let Some(seconds) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
            tracing::warn!(seconds, "the clock is set");
            clock.set_offset(seconds);
        }
    };
    keep_watching(&shell, CLOCK_BUCKET, take, || {}).await;
}

async fn keep_watching(shell: &Shell, bucket: &str, mut take: impl FnMut(&[u8]), loaded: impl Fn()) {
    let mut attempt = 0;
    while !shell.is_stopped() {
        let watched = async {
            let bucket = shell.jetstream.get_key_value(bucket).await.map_err(transient)?;
            watch(&bucket, &mut take, &loaded).await
        };
        let ended = tokio::select! {
            ended = watched => ended,
            () = shell.stopped() => return,
        };
        if let Err(fault) = ended {
            tracing::warn!(bucket, %fault, "watching the bucket again");
        }
        attempt += 1;
        tokio::time::sleep(limits::backoff(attempt)).await;
    }
}
