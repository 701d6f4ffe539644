//! Reconciliation: a reader compares its copies with their owners, a recorder its records with the owners' logs, and who
//! keeps totals compares them with their rows. What was lost on the way is asked for again; what differs is reported.
//!
//! Something counts as lost when the reader has read all that was in the stream after the owner was asked, and is behind
//! still. If the process dies anywhere here, nothing has changed but what the owner sends once more, which is harmless.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream;
use domain::messages::chassis::{Digest, Divergence, DivergenceChange, GetDigest, ListVersions, Resend};
use domain::{Command, Query};
use futures::future::BoxFuture;
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::Context;
use crate::courier::Courier;
use crate::database::{Database, Tx};
use crate::digest::{Copies, digest};
use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// Takes back what is kept of aggregates.
type Forget<S> = for<'a> fn(&'a S, &'a mut Tx, &'a [Uuid]) -> BoxFuture<'a, Result<(), Fault>>;

/// Copies of one kind of aggregate.
pub(crate) struct Copied<S> {
    /// The stream that their events are kept in.
    pub stream: &'static str,
    /// Kind of aggregate.
    pub kind: &'static str,
    /// The service that owns it.
    pub owner: &'static str,
    /// Where the copies stand.
    pub copies: Copies,
    /// What is done with those that their owner has forgotten.
    pub forget: Forget<S>,
}

/// A total that is kept beside its rows: what it is called, and a select of `id`, `kept` and `computed` (all text) of those
/// that differ.
pub type Total = (&'static str, &'static str);

/// What one comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Compared {
    /// What was compared.
    pub what: String,
    /// How many differed.
    pub differed: usize,
    /// Some of them.
    pub examples: Vec<String>,
    /// How many were right when they were looked at again.
    pub repaired: usize,
}

impl Compared {
    pub(crate) fn note(&mut self, example: String) {
        self.differed += 1;
        if self.examples.len() < limits::EXAMPLES_MAX {
            self.examples.push(example);
        }
    }
}

/// Epoch and version by id.
pub(crate) type VersionsById = BTreeMap<Uuid, (i32, i64)>;

/// Where copies and their owner differ.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    /// What the owner has newer.
    pub behind: VersionsById,
    /// What is newer here.
    pub ahead: VersionsById,
    /// What the owner has forgotten, because its database was set back.
    pub forgotten: Vec<Uuid>,
}

/// Those of an owner that a reader has not, or only older ones of; and those that a reader has newer than their owner.
fn differences(ours: &VersionsById, theirs: &VersionsById) -> (VersionsById, VersionsById) {
    let behind = theirs.iter().filter(|(id, version)| ours.get(id).is_none_or(|known| known < version));
    let ahead = ours.iter().filter(|(id, version)| theirs.get(id).is_none_or(|known| known < version));
    (behind.map(|(id, version)| (*id, *version)).collect(), ahead.map(|(id, version)| (*id, *version)).collect())
}

/// The recorder's comparison, where a service is one.
pub(crate) type Recorder<S> = Box<dyn Fn(Arc<S>, Reconciler) -> BoxFuture<'static, Vec<Result<Compared, Fault>>> + Send + Sync>;

/// All that a service compares.
pub(crate) struct Comparisons<S> {
    pub copied: Vec<Copied<S>>,
    pub totals: &'static [Total],
    pub recorder: Option<Recorder<S>>,
}

/// Compares copies and records at start, hourly and after the broker forgot, totals once a day, until the service stops.
pub(crate) async fn serve<S: Send + Sync + 'static>(service: Arc<S>, shell: Arc<Shell>, database: Database, comparisons: Comparisons<S>) {
    let reconciler = Reconciler::new(database.clone(), shell.jetstream.clone());
    let mut recomputed = Instant::now();
    let mut failures = 0;
    loop {
        let all = async {
            let mut found = reconciler.all(&comparisons, &service).await;
            if recomputed.elapsed() >= limits::RECOMPUTE_EVERY {
                recomputed = Instant::now();
                found.extend(reconciler.totals(comparisons.totals).await);
            }
            found
        };
        let found = tokio::select! {
            // no sign of a silent database: there is much to compare
            found = tokio::time::timeout(limits::RECONCILE_WITHIN, all) => found.unwrap_or_else(|_| {
                vec![Err(Fault::Transient(format!("not all was compared within {} s", limits::RECONCILE_WITHIN.as_secs())))]
            }),
            () = shell.stopped() => return,
        };
        let is_whole = |one: &Result<Compared, Fault>| one.as_ref().is_ok_and(|compared| compared.repaired == compared.differed);
        failures = if found.iter().all(is_whole) { 0 } else { failures + 1 };
        for fault in found.into_iter().filter_map(Result::err) {
            tracing::warn!(%fault, "not compared; tried again soon");
        }
        tokio::select! {
            () = tokio::time::sleep(limits::reconcile_pause(failures)) => {}
            () = shell.compare.notified() => {}
            () = shell.stopped() => return,
        }
    }
}

/// Compares what one service keeps.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub(crate) database: Database,
    jetstream: jetstream::Context,
    courier: Courier,
    /// Whether it waits for its turn while another replica compares; else it leaves the comparison to that one.
    patient: bool,
}

impl Reconciler {
    pub(crate) fn new(database: Database, jetstream: jetstream::Context) -> Reconciler {
        let courier = Courier::new(jetstream.client());
        Reconciler { database, jetstream, courier, patient: false }
    }

    /// One that compares everything itself.
    pub(crate) fn patient(self) -> Reconciler {
        Reconciler { patient: true, ..self }
    }

    /// Copies and records.
    pub(crate) async fn all<S>(&self, comparisons: &Comparisons<S>, service: &Arc<S>) -> Vec<Result<Compared, Fault>> {
        let copies = comparisons
            .copied
            .iter()
            .map(|copied| async move { self.copies(&**service, copied).await.map_err(|fault| named(copied.kind, fault)) });
        let mut found = futures::future::join_all(copies).await;
        if let Some(recorder) = &comparisons.recorder {
            found.extend(recorder(service.clone(), self.clone()).await);
        }
        found
    }

    /// Forgets how far logs were compared: the next comparison is of everything.
    pub(crate) async fn forget_positions(&self) -> Result<(), Fault> {
        sqlx::query("delete from log_positions").execute(&self.database.pool()).await?;
        Ok(())
    }

    /// Totals and their rows.
    pub(crate) async fn totals(&self, totals: &[Total]) -> Vec<Result<Compared, Fault>> {
        let mut found = Vec::new();
        for (what, select) in totals {
            found.push(self.total(what, select).await.map_err(|fault| named(what, fault)));
        }
        found
    }

    async fn total(&self, what: &str, select: &str) -> Result<Compared, Fault> {
        let mut tx = self.database.begin().await?;
        let rows: Vec<(String, String, String)> = sqlx::query_as(select).persistent(false).fetch_all(&mut *tx).await?;
        drop(tx);
        let mut compared = Compared { what: what.into(), ..Compared::default() };
        for (id, kept, computed) in rows {
            compared.note(format!("{id}: {kept} is kept, {computed} is right"));
        }
        self.report(&compared).await?;
        Ok(compared)
    }

    async fn copies<S>(&self, service: &S, copied: &Copied<S>) -> Result<Compared, Fault> {
        let mut compared = Compared { what: format!("{} of {}", copied.kind, copied.owner), ..Compared::default() };
        let Some(select) = copied.copies.select() else { return Ok(compared) };
        let Some(_turn) = self.turn(&compared.what).await? else { return Ok(compared) };
        let Apart { behind, ahead, forgotten } = self.compare(copied, &select).await?;
        if behind.is_empty() && ahead.is_empty() && forgotten.is_empty() {
            return Ok(compared);
        }
        self.forget(service, copied, &forgotten).await?;
        let left = self.held(&select, None, Some(forgotten.clone())).await?;
        compared.repaired = forgotten.len() - left.len();
        for id in forgotten {
            compared.note(format!("{id}: its owner has forgotten it, its database was set back"));
        }
        for (id, (epoch, version)) in &ahead {
            compared.note(format!("{id}: {epoch}/{version} is here, its owner has less; was its database set back without new-epoch?"));
        }
        let consumer = [(copied.stream, format!("{}__{}", self.database.service, copied.kind))];
        self.settle(&consumer).await?;
        let lost = self.still_behind(&select, behind).await?;
        for (id, (epoch, version)) in &lost {
            compared.note(format!("{id}: {epoch}/{version} did not arrive"));
        }
        if !lost.is_empty() {
            self.have_sent_again(copied.owner, &lost).await?;
            self.settle(&consumer).await?;
            compared.repaired += lost.len() - self.still_behind(&select, lost).await?.len();
        }
        self.report(&compared).await?;
        Ok(compared)
    }

    /// Where copies and owner differ.
    pub(crate) async fn compare<S>(&self, copied: &Copied<S>, select: &str) -> Result<Apart, Fault> {
        let mut apart = Apart::default();
        let (owners_epoch, unequal) = self.unequal(copied, select).await?;
        for bucket in unequal {
            // ours first: what the owner commits meanwhile makes us behind, never ahead
            let ours = self.held(select, Some(bucket), None).await?;
            let theirs = self.owned(copied, bucket).await?;
            let (older, mut newer) = differences(&ours, &theirs);
            if !copied.copies.ids_only() {
                let forgotten = newer.extract_if(.., |id, (epoch, _)| *epoch < owners_epoch && !theirs.contains_key(id));
                apart.forgotten.extend(forgotten.map(|(id, _)| id));
                apart.ahead.extend(newer);
            }
            apart.behind.extend(older);
        }
        Ok(apart)
    }

    /// Takes out what an owner has forgotten.
    pub(crate) async fn forget<S>(&self, service: &S, copied: &Copied<S>, forgotten: &[Uuid]) -> Result<(), Fault> {
        for ids in forgotten.chunks(limits::BATCH_MAX) {
            let mut tx = self.database.begin().await?;
            (copied.forget)(service, &mut tx, ids).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Asks an owner to publish the newest states of these once more.
    pub(crate) async fn have_sent_again(&self, owner: &str, lost: &VersionsById) -> Result<(), Fault> {
        let ids: Vec<Uuid> = lost.keys().copied().collect();
        for ids in ids.chunks(limits::VERSIONS_MAX) {
            self.command(owner, &Resend { ids: ids.to_vec(), log_ids: vec![] }).await?;
        }
        Ok(())
    }

    /// The owner's epoch, and the buckets that differ.
    async fn unequal<S>(&self, copied: &Copied<S>, select: &str) -> Result<(i32, Vec<i32>), Fault> {
        let asked = GetDigest { aggregate: copied.kind.into(), ids_only: copied.copies.ids_only() };
        let Digest { epoch, buckets: theirs } = self.query(copied.owner, &asked).await?;
        let ours = digest(&mut *self.database.begin().await?, select).await?;
        let buckets = theirs.iter().chain(&ours).filter(|one| !(theirs.contains(one) && ours.contains(one)));
        let mut unequal: Vec<i32> = buckets.map(|bucket| bucket.bucket).collect();
        unequal.sort_unstable();
        unequal.dedup();
        Ok((epoch, unequal))
    }

    async fn owned<S>(&self, copied: &Copied<S>, bucket: i32) -> Result<VersionsById, Fault> {
        let mut all = VersionsById::new();
        let mut asked = ListVersions { aggregate: copied.kind.into(), bucket, after: Uuid::nil(), ids_only: copied.copies.ids_only() };
        loop {
            let page = self.query(copied.owner, &asked).await?;
            all.extend(page.items.into_iter().map(|(id, epoch, version)| (id, (epoch, version))));
            match page.next {
                Some(next) => asked.after = next,
                None => return Ok(all),
            }
        }
    }

    /// What is held of a bucket, or of these ids.
    async fn held(&self, select: &str, bucket: Option<i32>, ids: Option<Vec<Uuid>>) -> Result<VersionsById, Fault> {
        let statement = format!(
            "select id, epoch, version from ({select}) as known
             where ($1::int is null or get_byte(uuid_send(id), 15) = $1) and ($2::uuid[] is null or id = any($2))"
        );
        let mut tx = self.database.begin().await?;
        let held: Vec<(Uuid, i32, i64)> = sqlx::query_as(&statement).persistent(false).bind(bucket).bind(ids).fetch_all(&mut *tx).await?;
        Ok(held.into_iter().map(|(id, epoch, version)| (id, (epoch, version))).collect())
    }

    pub(crate) async fn still_behind(&self, select: &str, behind: VersionsById) -> Result<VersionsById, Fault> {
        let held = self.held(select, None, Some(behind.keys().copied().collect())).await?;
        Ok(differences(&held, &behind).0)
    }

    /// Waits until these consumers have read what was in their streams a little after now.
    pub(crate) async fn settle(&self, consumers: &[(&str, String)]) -> Result<(), Fault> {
        let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("consumer: {error}"));
        tokio::time::sleep(2 * limits::LEFT_OVER_AFTER).await;
        let since = Instant::now();
        for (stream, consumer) in consumers {
            let stream = self.jetstream.get_stream(*stream).await.map_err(|error| fault(&error))?;
            let last = stream.cached_info().state.last_sequence;
            loop {
                let behind = match stream.consumer_info(consumer).await {
                    Ok(info) if info.ack_floor.stream_sequence >= last => 0,
                    Ok(info) => info.num_pending + info.num_ack_pending as u64,
                    // its reader makes it anew where the broker has lost it
                    Err(error) if since.elapsed() > limits::SETTLE_WITHIN => return Err(fault(&error)),
                    Err(_) => last,
                };
                if behind == 0 {
                    break;
                }
                if since.elapsed() > limits::SETTLE_WITHIN {
                    return Err(Fault::Transient(format!("{consumer} is {behind} messages behind; is the service running?")));
                }
                tokio::time::sleep(limits::LAG_LOOK).await;
            }
        }
        Ok(())
    }

    /// A connection that holds the turn to compare this until it is dropped; none when another replica has it, and there is no
    /// patience to wait for it.
    pub(crate) async fn turn(&self, what: &str) -> Result<Option<PgConnection>, Fault> {
        let mut connection = self.database.pool().acquire().await?.detach();
        if self.patient {
            sqlx::query("select set_config('lock_timeout', $1, false)")
                .bind(limits::RECONCILE_WITHIN.as_millis().to_string())
                .execute(&mut connection)
                .await?;
            sqlx::query("select pg_advisory_lock(hashtextextended(current_schema() || ' compares ' || $1, 0))")
                .bind(what)
                .execute(&mut connection)
                .await?;
            return Ok(Some(connection));
        }
        let has_turn = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended(current_schema() || ' compares ' || $1, 0))")
            .bind(what)
            .fetch_one(&mut connection)
            .await?;
        Ok(Some(connection).filter(|_| has_turn))
    }

    pub(crate) async fn report(&self, compared: &Compared) -> Result<(), Fault> {
        if compared.differed == 0 {
            return Ok(());
        }
        tracing::error!(?compared, "what should be the same differs");
        metrics::counter!("tranche_divergences_total", "compared" => compared.what.clone()).increment(compared.differed as u64);
        let mut tx = self.database.begin().await?;
        let divergence = Divergence {
            id: tx.new_id(),
            created_at: tx.now(),
            service: self.database.service.into(),
            compared: compared.what.clone(),
            differed: compared.differed as i64,
            examples: compared.examples.clone(),
            repaired: compared.repaired as i64,
        };
        let context = tx.own_context();
        tx.emit(&context, &divergence, DivergenceChange::Found)?;
        tx.commit().await
    }

    pub(crate) async fn query<Q: Query>(&self, service: &str, query: &Q) -> Result<Q::Reply, Fault> {
        self.ask(&Q::SUBJECT.replace("{service}", service), None, query).await
    }

    pub(crate) async fn command<C: Command>(&self, service: &str, command: &C) -> Result<C::Reply, Fault> {
        let key = self.database.new_id().to_string();
        self.ask(&C::SUBJECT.replace("{service}", service), Some(&key), command).await
    }

    async fn ask<R: serde::de::DeserializeOwned>(&self, subject: &str, key: Option<&str>, body: &impl Serialize) -> Result<R, Fault> {
        let context = Context::of_service(self.database.service, self.database.new_id());
        let body = serde_json::to_vec(body)?.into();
        let answered = self.courier.send(subject, key, &context, body, limits::DIGEST_WITHIN).await;
        match answered.map_err(|unanswered| Fault::Transient(unanswered.why))?.result {
            Ok(reply) => Ok(serde_json::from_slice(&reply)?),
            Err(rejection) => Err(Fault::Transient(format!("{subject}: {rejection}"))),
        }
    }
}

pub(crate) fn named(what: &str, fault: Fault) -> Fault {
    Fault::Transient(format!("{what}: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(all: &[(u128, i64)]) -> VersionsById {
        all.iter().map(|(id, version)| (Uuid::from_u128(*id), (1, *version))).collect()
    }

    #[test]
    fn what_is_missing_or_older_is_behind_and_what_the_owner_lacks_is_ahead() {
        let (ours, theirs) = (versions(&[(1, 1), (2, 1), (4, 3), (5, 2)]), versions(&[(1, 1), (2, 2), (3, 1), (4, 2)]));
        assert_eq!(differences(&ours, &theirs), (versions(&[(2, 2), (3, 1)]), versions(&[(4, 3), (5, 2)])));
    }

    #[test]
    fn a_newer_epoch_is_newer_whatever_its_version() {
        let (ours, theirs) = (BTreeMap::from([(Uuid::nil(), (1, 9))]), BTreeMap::from([(Uuid::nil(), (2, 3))]));
        assert_eq!(differences(&ours, &theirs), (theirs, BTreeMap::new()));
    }
}
