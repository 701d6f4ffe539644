//! A service's own database and its transactions. A transaction knows the time, makes ids, and
//! writes the events of what it changed: they are committed together or not at all.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use domain::messages::chassis::{Access, AccessChange};
use domain::rules::RuleBook;
use domain::{Aggregate, Command, Event, Rejection, calendar, ids};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{PgPool, Postgres, Row, Transaction};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::context::Context;
use crate::fault::Fault;
use crate::limits;

/// An event as it stands in the log, ready to be published.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// Position in the log; 0 before it is written.
    pub log_id: i64,
    /// Derived from aggregate, epoch and version.
    pub event_id: Uuid,
    /// The stream that keeps it.
    pub stream: String,
    /// The subject that it travels on.
    pub subject: String,
    /// Kind of aggregate.
    pub aggregate: String,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Epoch of the owner.
    pub epoch: i32,
    /// Version of the aggregate.
    pub version: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// The outermost request.
    pub correlation_id: String,
    /// The message that caused it.
    pub causation_id: String,
    /// Trace context.
    pub traceparent: Option<String>,
    /// The body, as published.
    pub body: Bytes,
}

impl LoggedEvent {
    /// An event that is not in a log yet.
    pub fn of<A: Aggregate>(context: &Context, state: &A, change: A::Change, epoch: i32, at: DateTime<Utc>) -> Result<LoggedEvent, Fault> {
        let subject = state.subject(&change);
        let body = serde_json::to_vec(&Event { state, change })?;
        if body.len() > limits::EVENT_BYTES_MAX {
            return Err(Fault::Fatal(format!("event {subject} has {} bytes, more than {}", body.len(), limits::EVENT_BYTES_MAX)));
        }
        Ok(LoggedEvent {
            log_id: 0,
            event_id: ids::event_id(state.id(), epoch, state.version()),
            stream: crate::nats::stream_of(&subject).to_owned(),
            subject,
            aggregate: A::KIND.to_owned(),
            aggregate_id: state.id(),
            epoch,
            version: state.version(),
            at,
            actor: context.actor.user.clone(),
            correlation_id: context.correlation_id.clone(),
            causation_id: context.message_id.to_string(),
            traceparent: context.traceparent.clone(),
            body: body.into(),
        })
    }
}

/// The connections of one service, and what its transactions share.
#[derive(Clone)]
pub struct Database {
    /// The pool; only the shell opens transactions on it.
    pub(crate) pool: PgPool,
    /// Name of the service.
    pub service: &'static str,
    epoch: i32,
    /// The clock.
    pub clock: Clock,
    rules: Arc<RwLock<Arc<RuleBook>>>,
    committed: mpsc::Sender<Vec<LoggedEvent>>,
    /// Woken after each commit that wrote events.
    pub(crate) changed: Arc<Notify>,
}

impl Database {
    /// Connects. The receiver gets the events of each committed transaction, for the relay.
    pub async fn connect(
        service: &'static str,
        url: &str,
        environment: &str,
        clock: Clock,
    ) -> Result<(Database, mpsc::Receiver<Vec<LoggedEvent>>), Fault> {
        let pool = PgPoolOptions::new().max_connections(limits::POOL_SIZE).min_connections(1).connect(url).await?;
        let epoch: i32 = sqlx::query_scalar("select epoch from service_state").fetch_one(&pool).await?;
        let (committed, relay) = mpsc::channel(limits::RELAY_QUEUE);
        let rules = Arc::new(RwLock::new(Arc::new(RuleBook::new(environment))));
        Ok((Database { pool, service, epoch, clock, rules, committed, changed: Arc::default() }, relay))
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        Ok(Tx { inner: self.pool.begin().await?, now: self.clock.now(), database: self.clone(), events: vec![] })
    }

    /// The rules as they are known now.
    pub fn rules(&self) -> Arc<RuleBook> {
        self.rules.read().map_or_else(|poisoned| poisoned.into_inner().clone(), |book| book.clone())
    }

    /// Changes the rules that later transactions see.
    pub fn change_rules(&self, change: impl FnOnce(&mut RuleBook)) {
        let mut rules = self.rules.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(Arc::make_mut(&mut rules));
    }

    /// A new id that sorts by time.
    pub fn new_id(&self) -> Uuid {
        self.clock.new_id()
    }
}

/// Runs the shell's and the service's migrations as the owner of the schema.
pub async fn migrate(url: &str, own: &Migrator) -> Result<(), Fault> {
    let shared = sqlx::migrate!("../../migrations/chassis");
    let all = shared.iter().chain(own.iter()).cloned().collect();
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    Migrator::with_migrations(all).run(&pool).await.map_err(|error| Fault::Fatal(format!("migrate: {error}")))?;
    pool.close().await;
    Ok(())
}

/// One transaction. Dropped without [`Tx::commit`] it changes nothing.
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    now: DateTime<Utc>,
    database: Database,
    events: Vec<LoggedEvent>,
}

impl Tx {
    /// The instant that all of this transaction happens at.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The business date in a time zone.
    pub fn today(&self, timezone: Tz) -> NaiveDate {
        calendar::business_date(self.now, timezone)
    }

    /// A new id that sorts by time.
    pub fn new_id(&self) -> Uuid {
        self.database.new_id()
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<RuleBook> {
        self.database.rules()
    }

    /// A context for what the service does by itself.
    pub fn own_context(&self) -> Context {
        Context::of_service(self.database.service, self.new_id())
    }

    /// Writes an event with the aggregate's state after the change. It is published after the commit.
    pub fn emit<A: Aggregate>(&mut self, context: &Context, state: &A, change: A::Change) -> Result<(), Fault> {
        self.events.push(LoggedEvent::of(context, state, change, self.database.epoch, self.now)?);
        Ok(())
    }

    /// Records that a command, or a part of it, is refused.
    pub fn record_refusal<C: Command>(&mut self, context: &Context, rejection: &Rejection) -> Result<(), Fault> {
        let access = Access {
            id: self.new_id(),
            at: self.now,
            user: context.actor.user.clone(),
            roles: context.actor.roles.clone(),
            resource: C::SUBJECT.into(),
            method: "COMMAND".into(),
            status: rejection.reason.entry().0,
            reason: Some(rejection.reason),
            detail: Some(rejection.detail.clone()),
        };
        self.emit(context, &access, AccessChange::Refused)
    }

    /// Writes the events and commits; then hands the events to the relay. If the process dies
    /// before the commit nothing has happened; if it dies after it, the relay of any replica finds
    /// the events in `outbox_pending`.
    pub async fn commit(mut self) -> Result<(), Fault> {
        if self.events.is_empty() {
            return Ok(self.inner.commit().await?);
        }
        let mut events = std::mem::take(&mut self.events);
        write_events(&mut self.inner, &mut events).await?;
        self.inner.commit().await?;
        // A full queue is no loss: the relay's poll finds the rows.
        let _ = self.database.committed.try_send(events);
        self.database.changed.notify_waiters();
        Ok(())
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

async fn write_events(connection: &mut PgConnection, events: &mut [LoggedEvent]) -> Result<(), Fault> {
    let column = |text: fn(&LoggedEvent) -> &str| events.iter().map(text).collect::<Vec<&str>>();
    let bodies: Vec<&str> = events.iter().map(|event| std::str::from_utf8(&event.body).unwrap_or_default()).collect();
    let rows = sqlx::query(
        "with logged as (
            insert into event_log (event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                                   at, actor, correlation_id, causation_id, traceparent, body)
            select event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                   at, actor, correlation_id, causation_id, traceparent, body::json
            from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::bigint[],
                        $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
                 as event (event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                           at, actor, correlation_id, causation_id, traceparent, body)
            returning log_id, event_id
         ), pending as (
            insert into outbox_pending (log_id) select log_id from logged
         )
         select log_id, event_id from logged",
    )
    .bind(events.iter().map(|event| event.event_id).collect::<Vec<_>>())
    .bind(column(|event| &event.stream))
    .bind(column(|event| &event.subject))
    .bind(column(|event| &event.aggregate))
    .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.epoch).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.version).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.at).collect::<Vec<_>>())
    .bind(column(|event| &event.actor))
    .bind(column(|event| &event.correlation_id))
    .bind(column(|event| &event.causation_id))
    .bind(events.iter().map(|event| event.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(bodies)
    .fetch_all(connection)
    .await?;
    let mut log_ids = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        log_ids.insert(row.try_get::<Uuid, _>("event_id")?, row.try_get::<i64, _>("log_id")?);
    }
    for event in events {
        event.log_id = log_ids.get(&event.event_id).copied().unwrap_or_default();
    }
    Ok(())
}
