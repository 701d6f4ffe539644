//! Amnesia: notices that the broker has forgotten what it had acknowledged, and has the events wait for it once more.
//!
//! A stream that was made anew, ends below what was acknowledged, has fewer messages, or no longer has the event that was
//! acknowledged last, has lost something: the whole log is published again. After each new connection so is what was acknowledged in
//! the last seconds. If the process dies anywhere here the same is found once more.

use async_nats::jetstream;
use async_nats::jetstream::stream::DirectGetErrorKind;
use domain::delivery::{StreamMark, is_there};

use crate::database::Database;
use crate::fault::Fault;
use crate::limits;
use crate::nats::{STREAMS, ensure_streams};
use crate::shell::Shell;

/// Compares the streams before anything is published on a new connection: it may lead to a broker that forgot, and what is published
/// there would hide that.
pub(crate) async fn compare_first(shell: &Shell, database: &Database, compared_on: &mut u64) -> Result<(), Fault> {
    if connection(shell) != *compared_on {
        *compared_on = check_streams(shell, database, *compared_on).await?;
    }
    Ok(())
}

/// A position of the log below which nobody writes any more: everything that was written `$2` seconds ago is committed or gone. It is
/// looked for from the newest event backwards, by steps that double: few events are read, however many were written lately, and
/// the position is at most about twice as far back as it must be.
pub(crate) const WRITTEN: &str = "coalesce((
    with recursive settled as (select clock_timestamp() - make_interval(secs => $2) as before),
    back as (
        (select log_id, logged_at, 1::bigint as step from event_log order by log_id desc limit 1)
        union all
        select earlier.log_id, earlier.logged_at, step * 2
        from back, settled, lateral (select log_id, logged_at from event_log where log_id <= back.log_id - step
                                     order by log_id desc limit 1) as earlier
        where back.logged_at >= before
    )
    select log_id from back, settled where logged_at < before), 0)";

/// The number of the connection to the broker: it grows with every new one.
pub(crate) fn connection(shell: &Shell) -> u64 {
    shell.jetstream.client().statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
}

/// Compares the streams with what is known of them, on a connection. On another one than the last time what the broker had
/// acknowledged lately is published again, and what readers keep is compared. Returns the connection.
pub(crate) async fn check_streams(shell: &Shell, database: &Database, compared_on: u64) -> Result<u64, Fault> {
    database.within(database.make_partitions()).await?;
    ensure_streams(&shell.jetstream, shell.config.nats_replicas).await?;
    let now_on = connection(shell);
    for (name, _) in STREAMS {
        compare_stream(shell, database, name).await?;
        if now_on != compared_on {
            publish_unsettled(database, name).await?;
        } else if connection(shell) == now_on {
            database.within(settle(database, name)).await?;
        }
    }
    // a service compares when it starts, anyway
    if now_on != compared_on && compared_on != 0 {
        shell.compare.notify_one();
    }
    Ok(now_on)
}

/// Compares a stream with what the relay knows of it. A stream that was made anew, that ends below what was acknowledged, or
/// that has fewer messages than before means that the broker forgot: all its events wait again.
async fn compare_stream(shell: &Shell, database: &Database, name: &str) -> Result<(), Fault> {
    // what is known is read before the stream, so that a publish in between cannot look like a loss
    let known = database.within(known(database, name)).await?;
    let stream = shell.jetstream.get_stream(name).await.map_err(|error| Fault::Transient(error.to_string()))?;
    let (state, number) = (&stream.cached_info().state, |number: u64| i64::try_from(number).unwrap_or(i64::MAX));
    let stands = StreamMark {
        created: stream.cached_info().created.to_rfc3339(),
        first_seq: number(state.first_sequence.max(1)),
        last_seq: number(state.last_sequence),
        messages: number(state.messages),
    };
    let subject = known.as_ref().and_then(|(.., subject)| subject.clone());
    let known = known.map(|(created, first_seq, last_seq, messages, _)| StreamMark { created, first_seq, last_seq, messages });
    let holds = known.as_ref().is_some_and(|known| known.holds(&stands));
    if holds && has_acknowledged(&stream, subject.as_deref(), known.as_ref().map_or(0, |known| known.last_seq)).await? {
        return database.within(note_growth(database, name, &stands)).await;
    }
    if known.is_some() {
        tracing::warn!(stream = name, "the broker forgot; publishing again from the event log");
        metrics::counter!("tranche_broker_forgot_total").increment(1);
        publish_again(database, name, 0).await?;
    }
    // last: if the process dies before this, the broker is found to have forgotten once more
    database.within(note_stream(database, name, &stands)).await?;
    if known.is_some() {
        shell.compare.notify_one();
    }
    Ok(())
}

/// What is known of a stream: when it was made, where it begins and ends, how many messages it has, and the last one's subject.
async fn known(database: &Database, name: &str) -> Result<Option<(String, i64, i64, i64, Option<String>)>, Fault> {
    let known = sqlx::query_as("select created_at, first_seq, last_seq, messages, last_subject from relay_state where stream = $1");
    Ok(known.bind(name).fetch_optional(&database.pool()).await?)
}

/// Notes that a stream has grown, or that its oldest messages have gone.
async fn note_growth(database: &Database, name: &str, stands: &StreamMark) -> Result<(), Fault> {
    sqlx::query("update relay_state set messages = $2, first_seq = $3 where stream = $1 and (messages, first_seq) <> ($2, $3)")
        .bind(name)
        .bind(stands.messages)
        .bind(stands.first_seq)
        .execute(&database.pool())
        .await?;
    Ok(())
}

/// Notes where a stream begins and ends that was not known, or not as it is.
async fn note_stream(database: &Database, name: &str, stands: &StreamMark) -> Result<(), Fault> {
    sqlx::query(
        "insert into relay_state (stream, created_at, last_seq, messages, first_seq) values ($1, $2, $3, $4, $5)
         on conflict (stream) do update
         set created_at = excluded.created_at, first_seq = excluded.first_seq, last_seq = excluded.last_seq,
             messages = excluded.messages, last_subject = null",
    )
    .bind(name)
    .bind(&stands.created)
    .bind(stands.last_seq)
    .bind(stands.messages)
    .bind(stands.first_seq)
    .execute(&database.pool())
    .await?;
    Ok(())
}

/// Whether the event that was acknowledged last is still there, or a later one of its subject, on which nobody else publishes: a
/// stream that was set back may have been filled by others beyond what was acknowledged.
async fn has_acknowledged(stream: &jetstream::stream::Stream, subject: Option<&str>, last_seq: i64) -> Result<bool, Fault> {
    let Some(subject) = subject else { return Ok(true) };
    for attempt in 0..=limits::DIRECT_READS_AGAIN {
        // a replica of the stream may be a moment behind its leader
        tokio::time::sleep(limits::COPY_PAUSE * attempt).await;
        let last = match stream.direct_get_last_for_subject(subject).await {
            Ok(message) => Some(i64::try_from(message.sequence).unwrap_or(i64::MAX)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => None,
            Err(error) => return Err(Fault::Transient(format!("stream {}: {error}", stream.cached_info().config.name))),
        };
        if is_there(last_seq, last) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the events of a stream from a position of the log on wait for the broker again. That takes long, but not on a connection
/// whose other end is gone: it must answer first.
async fn publish_again(database: &Database, stream: &str, from: i64) -> Result<(), Fault> {
    let mut connection = database.within(database.answering()).await?;
    let again = async {
        sqlx::query(
            "insert into outbox_pending (first_log_id, last_log_id, stream, events, again)
             select min(log_id), max(log_id), $1, count(*), true
             from (select log_id, (row_number() over (order by log_id) - 1) / $3 as part
                   from event_log where stream = $1 and log_id >= $2) as parts
             group by part
             on conflict (first_log_id, stream) do update
             set last_log_id = greatest(outbox_pending.last_log_id, excluded.last_log_id),
                 events = greatest(outbox_pending.events, excluded.events)",
        )
        .bind(stream)
        .bind(from)
        .bind(limits::PUBLISH_MAX as i64)
        .execute(&mut *connection)
        .await?;
        Ok(())
    };
    database.within_time(limits::REPLAY_WITHIN, again).await
}

/// The same for what the broker has acknowledged since the stream was last found whole on an unbroken connection.
pub(crate) async fn publish_unsettled(database: &Database, stream: &str) -> Result<(), Fault> {
    let settled = async {
        let settled = sqlx::query_scalar("select settled from relay_state where stream = $1");
        Ok::<Option<i64>, Fault>(settled.bind(stream).fetch_optional(&database.pool()).await?)
    };
    publish_again(database, stream, database.within(settled).await?.unwrap_or(0)).await
}

/// Notes how far the log is acknowledged: as far as nothing waits, less what transactions may still write below.
async fn settle(database: &Database, stream: &str) -> Result<(), Fault> {
    sqlx::query(&format!(
        "update relay_state set settled = greatest(settled, least(
            (select min(first_log_id) from outbox_pending where stream = $1), {WRITTEN}))
         where stream = $1"
    ))
    .bind(stream)
    .bind(limits::LOG_SETTLED.as_secs_f64())
    .execute(&database.pool())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    /// When the first event is written: in a month whose partition is there.
    const BEGIN: &str = "date_trunc('month', now()) + interval '1 month'";

    /// A log with events at these positions, written a minute after each other.
    async fn log_of(positions: &[i64]) -> PgPool {
        let database = PgPool::connect(&testkit::database::fresh("capital-calls").await).await.unwrap();
        let events = format!(
            "insert into event_log (log_id, logged_at, event_id, stream, subject, aggregate, aggregate_id, epoch, version, at, actor,
                                    correlation_id, causation_id, body)
             select log_id, {BEGIN} + make_interval(mins => minute::int), gen_random_uuid(), 'EVENTS', '', '', gen_random_uuid(), 1, 1, now(),
                    '', '', '', ''
             from unnest($1::bigint[]) with ordinality as written (log_id, minute)"
        );
        sqlx::query(&events).bind(positions).execute(&database).await.unwrap();
        database
    }

    /// The position where what was written in the first minutes is settled, and nothing else is.
    async fn written_in(database: &PgPool, minutes: usize) -> i64 {
        let ago = format!("select extract(epoch from clock_timestamp() - ({BEGIN} + make_interval(mins => $1, secs => 30)))::float8");
        let ago: f64 = sqlx::query_scalar(&ago).bind(minutes as i32).fetch_one(database).await.unwrap();
        let position = format!("select {WRITTEN} from (values ($1::int)) as unused (place)");
        sqlx::query_scalar(&position).bind(0).bind(ago).fetch_one(database).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_is_settled_too_early_and_all_is_when_nothing_more_is_written() {
        let large: Vec<i64> = (1..=3_000).collect();
        let small: Vec<i64> = (1..=3_000).map(|block| block << 12).collect();
        let both: Vec<i64> = (1..=1_000).flat_map(|block| [block << 12, (block << 12) + 1, (block << 12) + block]).collect();
        for mut positions in [large, small, both] {
            positions.dedup();
            let database = log_of(&positions).await;
            let (first, newest) = (positions[0], positions[positions.len() - 1]);
            for minutes in [0, 1, 2, 700, positions.len() - 2, positions.len() - 1, positions.len()] {
                let exact = if minutes == 0 { 0 } else { positions[minutes - 1] };
                let position = written_in(&database, minutes).await;
                assert!(position <= exact && (position == 0 || positions.contains(&position)), "{position} after {exact}");
                // a block is the widest gap
                let far = 2 * (newest - exact) + 1 + (1 << 12);
                assert!(newest - position.max(first) <= far, "{position} is far before {exact}");
                assert!(minutes < positions.len() || position == newest);
            }
        }
        assert_eq!(written_in(&log_of(&[]).await, 1).await, 0);
    }
}
