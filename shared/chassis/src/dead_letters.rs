//! Dead letters: messages that cannot be handled are put aside with the reason, so that they never
//! hold up the next good one.

use std::sync::Arc;

use async_nats::jetstream::Message;
use domain::Page;
use domain::message::PAGE_MAX;
use domain::messages::chassis::{DeadLetter, DeadLetterChange, DeadLetters, ListDeadLetters};
use futures::StreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use uuid::Uuid;

use crate::database::Database;
use crate::fault::Fault;
use crate::shell::Shell;

/// Puts a message aside: a row of the service, and a copy on the stream `DEAD_LETTERS`.
pub(crate) async fn park(shell: &Shell, database: &Database, reaction: &str, message: &Message, reason: &str) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    let payload = String::from_utf8_lossy(&message.payload);
    let letter = DeadLetter {
        id: letter_id(shell.service, reaction, message),
        version: 1,
        created_at: tx.now(),
        service: shell.service.into(),
        reaction: reaction.into(),
        subject: message.subject.to_string(),
        reason: reason.chars().take(2_000).collect(),
        // JSON text may not hold what Postgres cannot: a zero character
        payload: payload.chars().filter(|letter| *letter != '\0').take(10_000).collect(),
        status: "parked".into(),
    };
    let headers: serde_json::Map<String, serde_json::Value> = message
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .map(|(name, values)| (name.to_string(), values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(",").into()))
        .collect();
    let parked = sqlx::query(
        "insert into dead_letters (id, created_at, reaction, subject, headers, payload, reason)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict do nothing",
    )
    .bind(letter.id)
    .bind(letter.created_at)
    .bind(&letter.reaction)
    .bind(&letter.subject)
    .bind(serde_json::Value::Object(headers))
    .bind(message.payload.as_ref())
    .bind(letter.reason.replace('\0', ""))
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if parked == 0 {
        // parked before, and the process died before it was acknowledged
        return Ok(());
    }
    let context = tx.own_context();
    tx.emit(&context, &letter, DeadLetterChange::Parked)?;
    tx.commit().await?;
    tracing::warn!(reaction, reason, subject = %message.subject, "message parked as a dead letter");
    metrics::counter!("tranche_dead_letters_total", "reaction" => reaction.to_owned()).increment(1);
    Ok(())
}

/// The same for every delivery of the same message.
fn letter_id(service: &str, reaction: &str, message: &Message) -> Uuid {
    let place = message.info().map(|info| format!("{}/{}/{}", info.stream, info.stream_sequence, info.published)).unwrap_or_default();
    Uuid::new_v5(&domain::ids::NAMESPACE, format!("dead-letter/{service}/{reaction}/{place}").as_bytes())
}

fn letter(row: &PgRow, service: &str) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        service: service.into(),
        reaction: row.try_get("reaction")?,
        subject: row.try_get("subject")?,
        reason: row.try_get("reason")?,
        payload: String::from_utf8_lossy(row.try_get::<&[u8], _>("payload")?).into_owned(),
        status: row.try_get("status")?,
    })
}

/// The dead letters of a service, newest first.
pub async fn list(pool: &PgPool, service: &'static str, query: &ListDeadLetters) -> Result<DeadLetters, Fault> {
    let limit = i64::from(query.limit.unwrap_or(100)).clamp(1, PAGE_MAX);
    let letters = sqlx::query("select * from dead_letters order by created_at desc, id desc limit $1")
        .bind(limit)
        .try_map(|row: PgRow| letter(&row, service))
        .fetch_all(pool)
        .await?;
    Ok(Page { items: letters, next_cursor: None })
}

/// Answers `tranche.query.<service>.list-dead-letters` until the service stops.
pub(crate) async fn serve(shell: Arc<Shell>, database: Database) {
    let subject = format!("tranche.query.{}.list-dead-letters", shell.service);
    let Some(mut endpoint) = shell.endpoint(&subject).await else { return };
    loop {
        let request = tokio::select! {
            request = endpoint.next() => request,
            () = shell.stopped() => None,
        };
        let Some(request) = request else { return };
        let query = serde_json::from_slice(&request.message.payload).unwrap_or_default();
        match list(&database.pool, shell.service, &query).await {
            Ok(page) => {
                let _ = request.respond(Ok(serde_json::to_vec(&page).unwrap_or_default().into())).await;
            }
            Err(fault) => tracing::error!(%fault, "dead letters cannot be listed"),
        }
    }
}
