//! The rules in every replica: pushed through the bucket `rules`, in force within a second.
//!
//! The truth is workflow's database. Its replicas keep the bucket as the database says: after each
//! commit, and every few seconds, so that a bucket that was lost is filled again. A write checks the
//! revision, so that an older version never replaces a newer one; a newer epoch is newer, whatever the version: after workflow's
//! database was set back, what it has forgotten goes out of force. A replica that starts decides nothing before it has read
//! a bucket that workflow has filled.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_nats::jetstream::kv::{Operation, Store};
use domain::delivery::is_news;
use domain::messages::workflow::RuleSet;
use domain::rules::{RuleBook, RuleScope};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::nats::{CLOCK_BUCKET, RULES_BUCKET};
use crate::shell::Shell;

/// The key that says that the bucket is complete.
const COMPLETE: &str = "_complete";

/// An entry of the bucket.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// The epoch of the database that it was read from.
    #[serde(default)]
    epoch: i32,
    #[serde(flatten)]
    rules: RuleSet,
}

impl Entry {
    fn order(&self) -> (i32, i64) {
        (self.epoch, self.rules.version)
    }
}

/// The key of a scope, as `fund-type.buyout`.
fn key_of(scope: &str) -> String {
    scope.replacen(':', ".", 1)
}

fn scope_of(key: &str) -> Result<RuleScope, domain::Rejection> {
    key.replacen('.', ":", 1).parse()
}

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
    let mut pushed: HashMap<String, (i32, i64)> = HashMap::new();
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
    pushed: &mut HashMap<String, (i32, i64)>,
) -> Result<(), Fault> {
    let read = async {
        let mut tx = database.begin().await?;
        Ok::<_, Fault>((tx.epoch(), service.newest(&mut tx).await?))
    };
    let (epoch, newest) = database.within(read).await?;
    let newest: Vec<Entry> = newest.into_iter().map(|rules| Entry { epoch, rules }).collect();
    let is_first = pushed.is_empty();
    let waiting: Vec<&Entry> = newest.iter().filter(|entry| pushed.get(&entry.rules.scope) != Some(&entry.order())).collect();
    if !is_first && waiting.is_empty() {
        return Ok(());
    }
    let bucket = shell.jetstream.get_key_value(RULES_BUCKET).await.map_err(transient)?;
    for entry in waiting {
        put(&bucket, entry).await?;
    }
    if is_first {
        let there: HashSet<&str> = newest.iter().map(|entry| entry.rules.scope.as_str()).collect();
        let rules = database.rules();
        for scope in rules.scopes().map(RuleScope::to_string).filter(|scope| !there.contains(scope.as_str())) {
            forget(&bucket, &scope, epoch).await?;
        }
        if bucket.entry(COMPLETE).await.map_err(transient)?.is_none() {
            bucket.put(COMPLETE, "true".into()).await.map_err(transient)?;
        }
    }
    pushed.insert(COMPLETE.into(), (0, 0));
    pushed.extend(newest.into_iter().map(|entry| (entry.rules.scope.clone(), entry.order())));
    Ok(())
}

/// The entry that is read now, and its revision; what was deleted has a revision, too.
async fn known(bucket: &Store, key: &str) -> Result<(Option<Entry>, u64), Fault> {
    let known = bucket.entry(key).await.map_err(transient)?;
    let revision = known.as_ref().map_or(0, |known| known.revision);
    Ok((known.and_then(|known| serde_json::from_slice(&known.value).ok()), revision))
}

async fn put(bucket: &Store, entry: &Entry) -> Result<(), Fault> {
    let key = key_of(&entry.rules.scope);
    let (known, revision) = known(bucket, &key).await?;
    if is_news(known.as_ref().map(Entry::order), entry.order()) {
        bucket.update(&key, serde_json::to_vec(entry)?.into(), revision).await.map_err(transient)?;
    }
    Ok(())
}

/// Takes out what the database has forgotten because it was set back; what another replica has put meanwhile is of this epoch.
async fn forget(bucket: &Store, scope: &str, epoch: i32) -> Result<(), Fault> {
    let key = key_of(scope);
    let (known, revision) = known(bucket, &key).await?;
    if known.is_none_or(|known| known.epoch < epoch) {
        tracing::warn!(scope, epoch, "rules that the database has forgotten go out of force");
        bucket.delete_expect_revision(&key, Some(revision)).await.map_err(transient)?;
    }
    Ok(())
}

/// Shows every entry to `take`, those that are there first, until the connection ends; one that was deleted has no value. The last
/// argument says whether nothing is left of what was there.
async fn watch(bucket: &Store, mut take: impl FnMut(&str, Option<&[u8]>, bool)) -> Result<(), Fault> {
    let mut entries = bucket.watch_with_history(">").await.map_err(transient)?;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(transient)?;
        take(&entry.key, Some(&*entry.value).filter(|_| entry.operation == Operation::Put), entry.seen_current);
    }
    Ok(())
}

/// How new what was heard of each scope is: a bucket that was set back, or lost and filled again, brings nothing older into force.
#[derive(Debug, Default)]
struct Heard(BTreeMap<RuleScope, (i32, i64)>);

impl Heard {
    /// Takes an entry into the book if it is newer than what was heard, and one that was deleted out of it.
    fn take(&mut self, book: &mut RuleBook, key: &str, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(value) = value else {
            let scope = scope_of(key).map_err(transient)?;
            if self.0.remove(&scope).is_some() {
                tracing::info!(%scope, "rules out of force");
            }
            book.remove(&scope);
            return Ok(());
        };
        let entry: Entry = serde_json::from_slice(value)?;
        let scope: RuleScope = entry.rules.scope.parse().map_err(transient)?;
        if is_news(self.0.get(&scope).copied(), entry.order()) {
            self.0.insert(scope.clone(), entry.order());
            tracing::info!(scope = entry.rules.scope, version = entry.rules.version, epoch = entry.epoch, "rules in force");
            book.put(scope, entry.rules.version, entry.rules.rules);
        }
        Ok(())
    }
}

/// Keeps the rules of this replica up to date until the service stops.
pub(crate) async fn follow(shell: Arc<Shell>, database: Database) {
    let mut complete = false;
    let mut heard = Heard::default();
    let take = |key: &str, value: Option<&[u8]>, seen_all: bool| {
        if key == COMPLETE {
            complete = true;
        } else {
            database.change_rules(|book| {
                if let Err(fault) = heard.take(book, key, value) {
                    tracing::error!(key, %fault, "an entry of the rules cannot be read");
                }
            });
        }
        if complete && seen_all {
            shell.rules_are_loaded();
        }
    };
    keep_watching(&shell, RULES_BUCKET, take).await;
}

/// Keeps the clock's offset up to date, where it may be set.
pub(crate) async fn follow_clock(shell: Arc<Shell>, clock: crate::clock::Clock) {
    let take = |_: &str, value: Option<&[u8]>, _: bool| {
        if let Some(seconds) = value.and_then(|value| std::str::from_utf8(value).ok()).and_then(|text| text.parse().ok()) {
            tracing::warn!(seconds, "the clock is set");
            clock.set_offset(seconds);
        }
    };
    keep_watching(&shell, CLOCK_BUCKET, take).await;
}

async fn keep_watching(shell: &Shell, bucket: &str, mut take: impl FnMut(&str, Option<&[u8]>, bool)) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(epoch: i32, version: i64, grace_days: u32) -> Vec<u8> {
        let rules = json!({
            "epoch": epoch, "id": uuid::Uuid::nil(), "version": version, "created_at": "2026-01-01T00:00:00Z", "scope": "fund-type:buyout",
            "rules": {"grace_days": grace_days}, "changed_by": "ann", "content_hash": "", "status": "active",
        });
        serde_json::to_vec(&rules).unwrap()
    }

    #[test]
    fn a_newer_epoch_is_newer_whatever_its_version_and_what_is_deleted_goes_out_of_force() {
        let (mut heard, mut book, key) = (Heard::default(), RuleBook::new("production"), "fund-type.buyout");
        let scope = scope_of(key).unwrap();
        assert_eq!(key_of(&scope.to_string()), key);
        for (epoch, version, grace_days, in_force) in
            [(1, 3, 13, (3, 13)), (1, 2, 12, (3, 13)), (1, 4, 14, (4, 14)), (2, 3, 23, (3, 23)), (1, 5, 15, (3, 23)), (2, 4, 24, (4, 24))]
        {
            heard.take(&mut book, key, Some(&entry(epoch, version, grace_days))).unwrap();
            let found = book.merged(Some("buyout"), None).grace_days;
            assert_eq!((book.version(&scope), found), (in_force.0, Some(in_force.1)), "after {epoch}/{version}");
        }
        heard.take(&mut book, key, None).unwrap();
        assert_eq!((book.version(&scope), book.scopes().count()), (0, 0));
        heard.take(&mut book, key, Some(&entry(2, 1, 21))).unwrap();
        assert_eq!(book.version(&scope), 1, "what is put anew begins anew");
        assert!(heard.take(&mut book, key, Some(b"{}")).is_err());
    }

    #[test]
    fn an_entry_reads_back_as_written_and_one_of_before_epochs_too() {
        let read: Entry = serde_json::from_slice(&entry(7, 2, 5)).unwrap();
        let again: Entry = serde_json::from_slice(&serde_json::to_vec(&read).unwrap()).unwrap();
        assert_eq!((again.order(), &again.rules), ((7, 2), &read.rules));
        let before: Entry = serde_json::from_slice(&serde_json::to_vec(&read.rules).unwrap()).unwrap();
        assert_eq!(before.order(), (0, 2));
    }
}
