//! The rules in every replica: pushed through the bucket `rules`, in force within a second.
//!
//! The truth is workflow's database. Its replicas keep the bucket as the database says: after each
//! commit, and every few seconds, so that a bucket that was lost is filled again. A write checks the
//! revision, so that an older version never replaces a newer one. A replica that starts decides
//! nothing before it has read a bucket that workflow has filled.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::jetstream::kv::{Operation, Store};
use domain::messages::workflow::RuleSet;
use futures::StreamExt;

use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::nats::{CLOCK_BUCKET, RULES_BUCKET};
use crate::shell::Shell;

/// The key that says that the bucket is complete.
const COMPLETE: &str = "_complete";

fn transient(error: impl std::fmt::Display) -> Fault {
    Fault::Transient(error.to_string())
}

/// The service that owns the rules.
pub trait RuleSource: Send + Sync + 'static {
    /// The newest version of each scope's layer.
    fn newest(&self, tx: &mut Tx) -> impl Future<Output = Result<Vec<RuleSet>, Fault>> + Send;
}

/// Keeps the bucket as the database says until the service stops.
pub(crate) async fn push<S: RuleSource>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let mut pushed: HashMap<String, i64> = HashMap::new();
    let mut checked = tokio::time::Instant::now();
    while !shell.is_stopped() {
        let changed = database.changed.clone();
        let changed = changed.notified();
        if checked.elapsed() >= limits::STREAM_CHECK {
            pushed.clear();
            checked = tokio::time::Instant::now();
        }
        if let Err(fault) = push_newest(&*service, &shell, &database, &mut pushed).await {
            tracing::warn!(%fault, "the rules are pushed again");
            pushed.clear();
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(limits::STREAM_CHECK) => {}
            () = shell.stopped() => return,
        }
    }
}

async fn push_newest<S: RuleSource>(
    service: &S,
    shell: &Shell,
    database: &Database,
    pushed: &mut HashMap<String, i64>,
) -> Result<(), Fault> {
    let newest = database.within(async { service.newest(&mut database.begin().await?).await }).await?;
    let is_first = pushed.is_empty();
    if !is_first && newest.iter().all(|rules| pushed.get(&rules.scope) == Some(&rules.version)) {
        return Ok(());
    }
    let bucket = shell.jetstream.get_key_value(RULES_BUCKET).await.map_err(transient)?;
    for rules in newest.iter().filter(|rules| pushed.get(&rules.scope) != Some(&rules.version)) {
        put(&bucket, rules).await?;
    }
    if is_first && bucket.entry(COMPLETE).await.map_err(transient)?.is_none() {
        bucket.put(COMPLETE, "true".into()).await.map_err(transient)?;
    }
    pushed.insert(COMPLETE.into(), 0);
    pushed.extend(newest.into_iter().map(|rules| (rules.scope, rules.version)));
    Ok(())
}

async fn put(bucket: &Store, rules: &RuleSet) -> Result<(), Fault> {
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

/// Shows every entry to `take`, those that are there first, until the connection ends. The last
/// argument says whether nothing is left of what was there.
async fn watch(bucket: &Store, mut take: impl FnMut(&str, &[u8], bool)) -> Result<(), Fault> {
    let mut entries = bucket.watch_with_history(">").await.map_err(transient)?;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(transient)?;
        if entry.operation == Operation::Put {
            take(&entry.key, &entry.value, entry.seen_current);
        }
    }
    Ok(())
}

/// Keeps the rules of this replica up to date until the service stops.
pub(crate) async fn follow(shell: Arc<Shell>, database: Database) {
    let mut complete = false;
    let take_one = |value: &[u8]| match serde_json::from_slice::<RuleSet>(value) {
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
    let take = |key: &str, value: &[u8], seen_all: bool| {
        if key == COMPLETE {
            complete = true;
        } else {
            take_one(value);
        }
        if complete && seen_all {
            shell.rules_are_loaded();
        }
    };
    keep_watching(&shell, RULES_BUCKET, take).await;
}

/// Keeps the clock's offset up to date, where it may be set.
pub(crate) async fn follow_clock(shell: Arc<Shell>, clock: crate::clock::Clock) {
    let take = |_: &str, value: &[u8], _: bool| {
        if let Some(seconds) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
            tracing::warn!(seconds, "the clock is set");
            clock.set_offset(seconds);
        }
    };
    keep_watching(&shell, CLOCK_BUCKET, take).await;
}

async fn keep_watching(shell: &Shell, bucket: &str, mut take: impl FnMut(&str, &[u8], bool)) {
    let mut attempt = 0;
    while !shell.is_stopped() {
        let watched = async {
            let bucket = shell.jetstream.get_key_value(bucket).await.map_err(transient)?;
            watch(&bucket, &mut take).await
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
