//! Dead letters: messages that cannot be handled are put aside with the reason, so that they never
//! hold up the next good one. A person has them handled again, or discards them.
//!
//! Released letters are handled one by one, each in one transaction with its new status: if the process dies, the letter is
//! still released; a letter that fails again is parked again.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::messages::chassis::{
    DeadLetter, DeadLetterChange, DeadLetterGroup, DeadLetterStatus, DiscardDeadLetter, GetDeadLetter, GroupDeadLetters, ListDeadLetters,
    RedriveDeadLetters, Released,
};
use domain::{Page, Reason, Rejection};
use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::batch::{Answers, Batch, Handle, Sent};
use crate::context::Context;
use crate::crash;
use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::query::{Answer, Show};
use crate::row::RowExt;
use crate::shell::Shell;
use crate::{cursor, limits, row};

/// A message as it was put aside.
pub(crate) struct Stored {
    /// The subject that it came on.
    pub subject: String,
    /// Where it stood in the broker.
    pub place: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Bytes,
}

/// Handles a message that was put aside; a fatal fault is the reason why it is parked again.
pub(crate) type Again<S> = for<'a> fn(&'a S, &'a mut Tx, &'a Stored) -> BoxFuture<'a, Result<(), Fault>>;

/// Puts a message aside: a row of the service, and a copy on the stream `DEAD_LETTERS`.
pub(crate) async fn park(shell: &Shell, database: &Database, reaction: &str, message: &Message, reason: &str) -> Result<(), Fault> {
    database.within(park_one(shell, database, reaction, message, reason)).await
}

async fn park_one(shell: &Shell, database: &Database, reaction: &str, message: &Message, reason: &str) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    let place = place(message);
    let headers: serde_json::Map<String, serde_json::Value> = message
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .map(|(name, values)| (name.to_string(), values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(",").into()))
        .collect();
    let parked = sqlx::query(
        "insert into dead_letters (id, created_at, reaction, subject, headers, payload, reason, place)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict do nothing
         returning *",
    )
    .bind(Uuid::new_v5(&domain::ids::NAMESPACE, format!("dead-letter/{}/{reaction}/{place}", shell.service).as_bytes()))
    .bind(tx.now())
    .bind(reaction)
    .bind(message.subject.as_str())
    .bind(serde_json::Value::Object(headers))
    .bind(message.payload.as_ref())
    .bind(short(reason))
    .bind(place)
    .try_map(|row: PgRow| letter(&row, shell.service))
    .fetch_optional(&mut *tx)
    .await?;
    // none: parked before, and the process died before it was acknowledged
    if let Some(letter) = parked {
        let context = tx.own_context();
        tx.emit(&context, &letter, DeadLetterChange::Parked)?;
        tx.commit().await?;
        crash::point("letter-after-commit");
        tracing::warn!(reaction, reason, subject = %message.subject, "message parked as a dead letter");
        metrics::counter!("tranche_dead_letters_total", "reaction" => reaction.to_owned()).increment(1);
    }
    Ok(())
}

/// Where a message stands in the broker: the same for every delivery of it, another after a wipe.
pub(crate) fn place(message: &Message) -> String {
    message.info().map(|info| format!("{}/{}/{}", info.stream, info.stream_sequence, info.published)).unwrap_or_default()
}

/// A reason as far as it is kept. Postgres keeps no zero character.
fn short(reason: &str) -> String {
    reason.chars().filter(|letter| *letter != '\0').take(limits::REASON_CHARACTERS_MAX).collect()
}

fn letter(row: &PgRow, service: &str) -> Result<DeadLetter, sqlx::Error> {
    let payload = String::from_utf8_lossy(row.try_get::<&[u8], _>("payload")?);
    Ok(DeadLetter {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        service: service.into(),
        reaction: row.try_get("reaction")?,
        subject: row.try_get("subject")?,
        reason: row.try_get("reason")?,
        payload: payload.chars().filter(|letter| *letter != '\0').take(limits::PAYLOAD_CHARACTERS_MAX).collect(),
        decided_by: row.try_get("decided_by")?,
        note: row.try_get("note")?,
        status: row.named("status")?,
    })
}

fn stored(row: &PgRow) -> Result<Stored, sqlx::Error> {
    let named: serde_json::Map<String, serde_json::Value> = row.json("headers")?;
    let mut headers = HeaderMap::new();
    for (name, value) in &named {
        headers.insert(name.as_str(), value.as_str().unwrap_or_default());
    }
    let payload = Bytes::copy_from_slice(row.try_get("payload")?);
    Ok(Stored { subject: row.try_get("subject")?, place: row.try_get("place")?, headers, payload })
}

/// What a service answers about its dead letters.
pub(crate) struct DeadLetters {
    pub service: &'static str,
}

/// The reason without its numbers and ids.
const CAUSE: &str = "regexp_replace(reason, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g')";

impl Show<ListDeadLetters> for DeadLetters {
    async fn show(&self, tx: &mut Tx, _: &Context, query: ListDeadLetters) -> Answer<Page<DeadLetter>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<(DateTime<Utc>, Uuid)>(query.cursor.as_deref())?;
        let letters = sqlx::query(
            "select * from dead_letters
             where ($1::text is null or status = $1) and ($2::text is null or reaction = $2)
               and ($3::timestamptz is null or (created_at, id) < ($3, $4))
             order by created_at desc, id desc limit $5",
        )
        .persistent(false)
        .bind(query.status.map(|status| row::name(&status)))
        .bind(query.reaction)
        .bind(before.map(|(at, _)| at))
        .bind(before.map(|(_, id)| id))
        .bind(limit + 1)
        .try_map(|row| letter(&row, self.service))
        .fetch_all(&mut **tx)
        .await
        .map_err(Fault::from)?;
        Ok(Page::cut(letters, limit, |last| cursor::write(&(last.created_at, last.id))))
    }
}

impl Show<GetDeadLetter> for DeadLetters {
    async fn show(&self, tx: &mut Tx, _: &Context, query: GetDeadLetter) -> Answer<DeadLetter> {
        let found = find(tx, self.service, query.dead_letter_id).await?;
        Ok(found.ok_or_else(|| unknown(query.dead_letter_id))?)
    }
}

impl Show<GroupDeadLetters> for DeadLetters {
    async fn show(&self, tx: &mut Tx, _: &Context, _: GroupDeadLetters) -> Answer<Page<DeadLetterGroup>> {
        let statement = format!(
            "select reaction, {CAUSE}, count(*), min(created_at), max(created_at) from dead_letters
             where status = 'parked' group by 1, 2 order by 3 desc, 1, 2 limit $1"
        );
        let group = |row: PgRow| {
            Ok(DeadLetterGroup {
                reaction: row.try_get(0)?,
                cause: row.try_get(1)?,
                dead_letters: row.try_get(2)?,
                oldest: row.try_get(3)?,
                newest: row.try_get(4)?,
            })
        };
        let groups =
            sqlx::query(&statement).bind(domain::message::PAGE_MAX).try_map(group).fetch_all(&mut **tx).await.map_err(Fault::from)?;
        Ok(Page { items: groups, next_cursor: None })
    }
}

impl Handle<RedriveDeadLetters> for DeadLetters {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RedriveDeadLetters>) -> Result<Answers<Released>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            if body.ids.is_empty() && body.reaction.is_none() {
                answers.push(Err(Reason::MalformedRequest.with("neither ids nor a reaction are given")));
                continue;
            }
            let statement = format!(
                "update dead_letters set status = 'released', version = version + 1, decided_by = $4, attempts = 0
                 where id in (select id from dead_letters
                              where status = 'parked' and (cardinality($1::uuid[]) = 0 or id = any($1))
                                and ($2::text is null or reaction = $2) and ($3::text is null or {CAUSE} = $3)
                              order by created_at, id limit $5 for no key update skip locked)
                 returning *"
            );
            let released = sqlx::query(&statement)
                .persistent(false)
                .bind(&body.ids)
                .bind(&body.reaction)
                .bind(&body.cause)
                .bind(&context.actor.user)
                .bind(limits::VERSIONS_MAX as i64)
                .try_map(|row| letter(&row, self.service))
                .fetch_all(&mut **tx)
                .await?;
            for letter in &released {
                tx.emit(context, letter, DeadLetterChange::Released)?;
            }
            answers.push(Ok(Released { dead_letters: released.len() as i64 }));
        }
        Ok(answers)
    }
}

impl Handle<DiscardDeadLetter> for DeadLetters {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DiscardDeadLetter>) -> Result<Answers<DeadLetter>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match discard(tx, self.service, context, body).await? {
                Ok(letter) => {
                    tx.emit(context, &letter, DeadLetterChange::Discarded)?;
                    Ok(letter)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

async fn discard(
    tx: &mut Tx,
    service: &str,
    context: &Context,
    DiscardDeadLetter { dead_letter_id, reason }: &DiscardDeadLetter,
) -> Result<Result<DeadLetter, Rejection>, Fault> {
    if let Err(rejection) = domain::rejection::check_text("reason", reason, limits::REASON_CHARACTERS_MAX) {
        return Ok(Err(rejection));
    }
    let discarded = sqlx::query(
        "update dead_letters set status = 'discarded', version = version + 1, decided_by = $2, note = $3
         where id = $1 and status in ('parked', 'released') returning *",
    )
    .bind(dead_letter_id)
    .bind(&context.actor.user)
    .bind(reason)
    .try_map(|row| letter(&row, service))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(match (discarded, find(tx, service, *dead_letter_id).await?) {
        (Some(letter), _) => Ok(letter),
        (None, Some(letter)) => {
            Err(Reason::DeadLetterDecided
                .with(format!("dead letter {dead_letter_id} is {}", row::name::<DeadLetterStatus>(&letter.status))))
        }
        (None, None) => Err(unknown(*dead_letter_id)),
    })
}

fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownDeadLetter.with(format!("dead letter {id}"))
}

async fn find(connection: &mut PgConnection, service: &str, id: Uuid) -> Result<Option<DeadLetter>, Fault> {
    let found = sqlx::query("select * from dead_letters where id = $1")
        .bind(id)
        .try_map(|row| letter(&row, service))
        .fetch_optional(connection)
        .await?;
    Ok(found)
}

/// Handles released letters again until the service stops.
pub(crate) async fn redrive<S: Send + Sync + 'static>(
    service: Arc<S>,
    shell: Arc<Shell>,
    database: Database,
    reactions: Vec<(&'static str, Again<S>)>,
) {
    let mut attempt = 0;
    loop {
        let changed = database.changed.clone();
        let changed = changed.notified();
        let one = redrive_one(&*service, &shell, &database, &reactions, attempt < limits::BATCH_ATTEMPTS);
        let pause = match database.within(one).await {
            Ok(true) => {
                attempt = 0;
                continue;
            }
            Ok(false) => {
                attempt = 0;
                limits::SUMMARY_POLL
            }
            Err(fault) => {
                tracing::warn!(%fault, "a dead letter is handled again later");
                attempt += 1;
                limits::backoff(attempt)
            }
        };
        tokio::select! {
            () = changed, if attempt == 0 => {}
            () = tokio::time::sleep(pause) => {}
            () = shell.stopped() => return,
        }
    }
}

/// The oldest released letter and which attempt this is, counted before it is made: one that kills the process is given up at last.
async fn count_attempt(database: &Database) -> Result<Option<(Uuid, i32)>, Fault> {
    let counted = sqlx::query_as(
        "update dead_letters set attempts = attempts + 1
         where id = (select id from dead_letters where status = 'released' order by created_at limit 1 for no key update skip locked)
         returning id, attempts",
    )
    .fetch_optional(&database.pool())
    .await?;
    Ok(counted)
}

/// Handles the oldest released letter, if there is one. When patience is over, a fault that might pass parks it too, so that
/// it does not hold up the others.
async fn redrive_one<S>(
    service: &S,
    shell: &Shell,
    database: &Database,
    reactions: &[(&'static str, Again<S>)],
    patient: bool,
) -> Result<bool, Fault> {
    let Some((id, attempts)) = count_attempt(database).await? else { return Ok(false) };
    let mut tx = database.begin().await?;
    let released = sqlx::query("select * from dead_letters where id = $1 and status = 'released' for no key update skip locked")
        .bind(id)
        .try_map(|row: PgRow| Ok((letter(&row, shell.service)?, stored(&row)?)))
        .fetch_optional(&mut *tx)
        .await?;
    // another replica was faster
    let Some((letter, stored)) = released else { return Ok(true) };
    let handled = match reactions.iter().find(|(reaction, _)| *reaction == letter.reaction) {
        _ if attempts > limits::REDRIVES_MAX => Err(Fault::Fatal(format!("given up after {} attempts", attempts - 1))),
        Some((_, again)) => again(service, &mut tx, &stored).await,
        None => Err(Fault::Fatal(format!("the service has no reaction {}", letter.reaction))),
    };
    let (mut tx, change, reason) = match handled {
        Ok(()) => (tx, DeadLetterChange::Redriven, letter.reason),
        Err(Fault::Transient(why)) if patient => return Err(Fault::Transient(why)),
        Err(Fault::Fatal(why) | Fault::Transient(why)) => {
            // what it changed is undone
            drop(tx);
            (database.begin().await?, DeadLetterChange::Parked, short(&why))
        }
    };
    let status = if change == DeadLetterChange::Redriven { DeadLetterStatus::Redriven } else { DeadLetterStatus::Parked };
    let decided = sqlx::query(
        "update dead_letters set status = $2, version = version + 1, reason = $3 where id = $1 and status = 'released' returning *",
    )
    .bind(letter.id)
    .bind(row::name(&status))
    .bind(reason)
    .try_map(|row: PgRow| self::letter(&row, shell.service))
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(letter) = decided {
        let context = tx.own_context();
        tx.emit(&context, &letter, change)?;
        tx.commit().await?;
    }
    Ok(true)
}
