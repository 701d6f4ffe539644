//! Rebuild: makes a read model anew beside the one that is read, compares it with the owners, and puts it in its place.
//!
//! The tables are made once more, empty, in the schema `<own>_rebuild`; there the service's own handlers fill them from the
//! streams' beginnings, with consumers of their own, while the service goes on. What the owners have beside that they send again;
//! what they have forgotten is taken out. Then the tables are locked, the last messages read, and the tables exchanged in one
//! transaction. If the process dies before that, nothing has changed; the next rebuild begins anew.

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, Message};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::nats;
use crate::reconcile::{Comparisons, Copied, Reconciler};

/// A read model that can be made anew.
#[derive(Clone, Copy, Debug)]
pub struct ReadModel {
    /// Its tables: all that its handlers write.
    pub tables: &'static [&'static str],
    /// Statements of the exchange, with the old tables as `{live}.<table>` and the new ones by their names alone: what the old
    /// ones have that no event brings back, such as versions of summaries.
    pub carry_over: &'static [&'static str],
}

/// The tables that every service has.
const SHELLS_TABLES: [&str; 13] = [
    "_sqlx_migrations",
    "dead_letters",
    "epochs_met",
    "event_log",
    "idempotency",
    "inbox",
    "log_positions",
    "outbox_pending",
    "relay_state",
    "sealed_secrets",
    "service_state",
    "summaries_due",
    "timers",
];

/// Handles messages of one kind again.
pub(crate) type Refill<S> = for<'a> fn(&'a S, &'a mut Tx, &'a [Message]) -> BoxFuture<'a, Result<(), Fault>>;

/// What a rebuild did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Rebuilt {
    /// Messages read.
    pub messages: u64,
    /// Aggregates that the owners sent again, because the stream did not have them.
    pub sent_again: usize,
    /// Aggregates that the stream has and their owners have forgotten.
    pub forgotten: usize,
    /// Rows of each table: how many there are, and how many were not in the old one.
    pub tables: Vec<(String, i64, i64)>,
}

/// One kind of aggregate while it is read again.
struct Source<'a, S> {
    copied: &'a Copied<S>,
    refill: Refill<S>,
    consumer: jetstream::consumer::PullConsumer,
    messages: pull::Stream,
    /// Messages of the consumer that were taken.
    taken: u64,
}

impl<S> Source<'_, S> {
    fn fault(&self, error: &dyn std::fmt::Display) -> Fault {
        Fault::Transient(format!("{} is read again: {error}", self.copied.kind))
    }

    /// The messages that are there, at most a batch; none when all were taken.
    async fn next(&mut self) -> Result<Vec<Message>, Fault> {
        let mut together = Vec::new();
        loop {
            let next = match tokio::task::unconstrained(self.messages.next()).now_or_never() {
                Some(next) => next,
                None if !together.is_empty() => return Ok(together),
                None => {
                    let info = self.consumer.get_info().await.map_err(|error| self.fault(&error))?;
                    if info.num_pending == 0 && info.delivered.consumer_sequence <= self.taken {
                        return Ok(together);
                    }
                    tokio::time::timeout(limits::REQUEST_TIMEOUT, self.messages.next()).await.map_err(|error| self.fault(&error))?
                }
            };
            let message = next.ok_or_else(|| self.fault(&"the broker has ended it"))?.map_err(|error| self.fault(&error))?;
            self.taken = self.taken.max(message.info().map_or(0, |info| info.consumer_sequence));
            together.push(message);
            if together.len() == limits::FOLLOW_MAX {
                return Ok(together);
            }
        }
    }
}

/// Makes the read model anew and puts it in the place of the old one.
pub(crate) async fn run<S>(
    service: &S,
    database: &Database,
    owner_url: &str,
    jetstream: &jetstream::Context,
    model: ReadModel,
    refills: Vec<(&'static str, String, Refill<S>)>,
    comparisons: &Comparisons<S>,
) -> Result<Rebuilt, Fault> {
    let mut owner = PgConnection::connect(owner_url).await?;
    let live: String = sqlx::query_scalar("select current_schema()").fetch_one(&database.pool()).await?;
    let is_alone: bool =
        sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1 || ' rebuild', 0))").bind(&live).fetch_one(&mut owner).await?;
    if !is_alone {
        return Err(Fault::Fatal("another rebuild is running".into()));
    }
    check_tables(&mut owner, &live, model).await?;
    let shadow = format!("{live}_rebuild");
    for table in model.tables {
        copy_table(&mut owner, &live, &shadow, table).await?;
    }
    let beside = database.looking_first_in(&shadow).await?;
    let mut sources = Vec::new();
    for (kind, filter, refill) in refills {
        let Some(copied) = comparisons.copied.iter().find(|copied| copied.kind == kind) else { continue };
        let name = format!("{}__{kind}__rebuild", database.service);
        let (consumer, messages) = read_from_the_beginning(jetstream, copied.stream, &name, filter).await?;
        sources.push(Source { copied, refill, consumer, messages, taken: 0 });
    }
    let mut rebuilt = Rebuilt::default();
    for source in &mut sources {
        rebuilt.messages += drain(service, &beside, source).await?;
    }
    let reconciler = Reconciler::new(beside.clone(), jetstream.clone());
    for source in &mut sources {
        bring_up(service, &beside, &reconciler, source, &mut rebuilt).await?;
    }
    for table in model.tables {
        rebuilt.tables.push(difference(&mut owner, &live, &shadow, table).await?);
    }
    let mut attempt = 0;
    while let Err(fault) = exchange(service, &mut owner, &beside, &live, &shadow, model, &mut sources, &mut rebuilt).await {
        if attempt == limits::BATCH_ATTEMPTS || matches!(fault, Fault::Fatal(_)) {
            return Err(fault);
        }
        tracing::warn!(%fault, "the tables are exchanged later");
        tokio::time::sleep(limits::backoff(attempt)).await;
        attempt += 1;
    }
    for source in sources {
        let stream = jetstream.get_stream(source.copied.stream).await.map_err(|error| Fault::Transient(error.to_string()))?;
        nats::forget_consumer(&stream, &source.consumer.cached_info().name).await?;
    }
    Ok(rebuilt)
}

/// Refuses when the service has a table that is neither the shell's nor of the read model: handlers would write it a second time.
async fn check_tables(owner: &mut PgConnection, live: &str, model: ReadModel) -> Result<(), Fault> {
    let others: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = to_regnamespace($1) and relkind in ('r', 'p') and not relispartition and relname <> all($2)",
    )
    .bind(live)
    .bind([SHELLS_TABLES.as_slice(), model.tables].concat())
    .fetch_all(owner)
    .await?;
    if others.is_empty() { Ok(()) } else { Err(Fault::Fatal(format!("the read model does not name the tables {}", others.join(", ")))) }
}

/// Makes an empty table with the columns, settings, constraints and indexes of a live one, under their names.
async fn copy_table(owner: &mut PgConnection, live: &str, shadow: &str, table: &str) -> Result<(), Fault> {
    let made = format!(
        "drop table if exists {shadow}.{table};
         create table {shadow}.{table} (like {live}.{table} including all excluding indexes)"
    );
    sqlx::raw_sql(&made).execute(&mut *owner).await?;
    let further: Vec<String> = sqlx::query_scalar(
        "select format('alter table %I.%I set (%s)', $2, $3, array_to_string(reloptions, ', '))
         from pg_class where oid = format('%I.%I', $1, $3)::regclass and reloptions is not null
         union all
         select format('alter table %I.%I add constraint %I %s', $2, $3, conname, pg_get_constraintdef(oid))
         from pg_constraint where conrelid = format('%I.%I', $1, $3)::regclass and contype in ('p', 'u')
         union all
         select replace(pg_get_indexdef(indexrelid), format(' ON %I.%I ', $1, $3), format(' ON %I.%I ', $2, $3))
         from pg_index where indrelid = format('%I.%I', $1, $3)::regclass
           and not exists (select from pg_constraint where conindid = indexrelid)",
    )
    .bind(live)
    .bind(shadow)
    .bind(table)
    .fetch_all(&mut *owner)
    .await?;
    for statement in further {
        sqlx::raw_sql(&statement).execute(&mut *owner).await?;
    }
    Ok(())
}

async fn read_from_the_beginning(
    jetstream: &jetstream::Context,
    stream: &str,
    name: &str,
    filter: String,
) -> Result<(jetstream::consumer::PullConsumer, pull::Stream), Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("consumer {name}: {error}"));
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: filter,
        // read in order by nobody else; whoever fails begins anew
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        inactive_threshold: limits::RECONCILE_WITHIN,
        ..Default::default()
    };
    let stream = jetstream.get_stream(stream).await.map_err(|error| fault(&error))?;
    // left by one that was killed
    nats::forget_consumer(&stream, name).await?;
    let consumer = stream.create_consumer(config).await.map_err(|error| fault(&error))?;
    let messages = consumer.stream().max_messages_per_batch(limits::FOLLOW_MAX).messages().await.map_err(|error| fault(&error))?;
    Ok((consumer, messages))
}

/// Reads what is there; returns how many messages that were.
async fn drain<S>(service: &S, beside: &Database, source: &mut Source<'_, S>) -> Result<u64, Fault> {
    let mut read = 0;
    loop {
        let together = source.next().await?;
        if together.is_empty() {
            return Ok(read);
        }
        read += together.len() as u64;
        let mut tx = beside.begin().await?;
        (source.refill)(service, &mut tx, &together).await?;
        tx.commit_silently().await?;
    }
}

/// Compares what was read with the owner: what the stream did not have is sent again, what the owner has forgotten is taken out.
async fn bring_up<S>(
    service: &S,
    beside: &Database,
    reconciler: &Reconciler,
    source: &mut Source<'_, S>,
    rebuilt: &mut Rebuilt,
) -> Result<(), Fault> {
    let Some(select) = source.copied.copies.select() else { return Ok(()) };
    let apart = reconciler.compare(source.copied, &select).await?;
    for ids in apart.forgotten.chunks(limits::BATCH_MAX) {
        let mut tx = beside.begin().await?;
        (source.copied.forget)(service, &mut tx, ids).await?;
        tx.commit_silently().await?;
    }
    rebuilt.forgotten += apart.forgotten.len();
    let mut behind = apart.behind;
    for attempt in 0..=limits::BATCH_ATTEMPTS {
        tokio::time::sleep(limits::backoff(attempt)).await;
        rebuilt.messages += drain(service, beside, source).await?;
        behind = reconciler.still_behind(&select, behind).await?;
        if behind.is_empty() {
            return Ok(());
        }
        // what was on its way has arrived by now
        if attempt == limits::REBUILD_PATIENCE {
            rebuilt.sent_again += behind.len();
            reconciler.have_sent_again(source.copied.owner, &behind).await?;
        }
    }
    Err(Fault::Transient(format!("{} of {} did not arrive; the read model is as it was", behind.len(), source.copied.kind)))
}

/// How many rows a new table has, and how many of them the old one has not; versions and what was before are left aside.
async fn difference(owner: &mut PgConnection, live: &str, shadow: &str, table: &str) -> Result<(String, i64, i64), Fault> {
    let columns: String = sqlx::query_scalar(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
         where attrelid = format('%I.%I', $1, $2)::regclass and attnum > 0 and not attisdropped
           and attname not in ('version', 'is_new') and attname not like 'previous%'",
    )
    .bind(live)
    .bind(table)
    .fetch_one(&mut *owner)
    .await?;
    let statement = format!(
        "select (select count(*) from {shadow}.{table}),
                (select count(*) from (select {columns} from {shadow}.{table} except select {columns} from {live}.{table}) as new)"
    );
    let (rows, new): (i64, i64) = sqlx::query_as(&statement).fetch_one(owner).await?;
    Ok((table.to_owned(), rows, new))
}

/// Locks the tables, reads what came meanwhile, and exchanges them.
#[expect(clippy::too_many_arguments, reason = "one step of one function, which would be too long with it")]
async fn exchange<S>(
    service: &S,
    owner: &mut PgConnection,
    beside: &Database,
    live: &str,
    shadow: &str,
    model: ReadModel,
    sources: &mut [Source<'_, S>],
    rebuilt: &mut Rebuilt,
) -> Result<(), Fault> {
    for source in sources.iter_mut() {
        rebuilt.messages += drain(service, beside, source).await?;
    }
    let mut transaction = owner.begin().await?;
    let tables: Vec<String> = model.tables.iter().map(|table| format!("{live}.{table}")).collect();
    let lock = format!(
        "set local lock_timeout = {}; lock table {} in access exclusive mode",
        limits::DATABASE_WITHIN.as_millis() / 4,
        tables.join(", ")
    );
    sqlx::raw_sql(&lock).execute(&mut *transaction).await?;
    // all that the live tables have was in the stream before they were locked; who waits for them does not wait for long
    for source in sources.iter_mut() {
        let drained = tokio::time::timeout(limits::DATABASE_WITHIN / 4, drain(service, beside, source)).await;
        rebuilt.messages +=
            drained.unwrap_or_else(|_| Err(Fault::Transient("more arrives than can be read while the tables wait".into())))?;
    }
    for statement in model.carry_over {
        let statement = format!("set local search_path = {shadow}, {live}; {}", statement.replace("{live}", live));
        sqlx::raw_sql(&statement).execute(&mut *transaction).await?;
    }
    for table in model.tables {
        let statement = format!("drop table {live}.{table}; alter table {shadow}.{table} set schema {live}");
        sqlx::raw_sql(&statement).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}
