//! A service's own database and its transactions. A transaction knows the time, makes ids, and
//! writes the events of what it changed: they are committed together or not at all.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use domain::messages::chassis::{Access, AccessChange};
use domain::rules::RuleBook;
use domain::{Aggregate, Command, Event, Rejection, calendar, ids};
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres, Transaction};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use crate::clock::Clock;
use crate::context::Context;
use crate::fault::Fault;
use crate::limits;
use crate::outcome::{self, Handed, Kept, Outcome, Written};

/// An event as it stands in the log, ready to be published.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// Position in the log; 0 before it is written.
    pub log_id: i64,
    /// Derived from aggregate, epoch and version.
    pub event_id: Uuid,
    /// The stream that keeps it.
    pub stream: &'static str,
    /// The subject that it travels on.
    pub subject: String,
    /// Kind of aggregate.
    pub aggregate: Cow<'static, str>,
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
            stream: crate::nats::stream_of(&subject),
            subject,
            aggregate: A::KIND.into(),
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
    /// The pool, and how it is made anew; only the shell opens transactions on it.
    pool: Arc<RwLock<PgPool>>,
    options: PgConnectOptions,
    /// Name of the service.
    pub service: &'static str,
    pub(crate) epoch: Arc<AtomicI32>,
    /// The clock.
    pub clock: Clock,
    rules: Arc<RwLock<Arc<RuleBook>>>,
    keys_file: Option<Arc<str>>,
    committed: mpsc::Sender<Handed>,
    /// Woken after each commit that wrote events.
    pub(crate) changed: Arc<Notify>,
    /// Changed after each commit that asked for summaries.
    pub(crate) summaries: Arc<watch::Sender<()>>,
}

impl Database {
    /// Connects. The receiver gets the events of each committed transaction, for the relay.
    pub async fn connect(
        service: &'static str,
        url: &str,
        environment: &str,
        clock: Clock,
    ) -> Result<(Database, mpsc::Receiver<Handed>), Fault> {
        // Every statement names its rows by key. A plan that was made while a table was empty would read or hash the whole
        // of it, and would be kept: so the planner is told that this is never the way (it says so by a high cost, which
        // must not make it compile the statement), and that a page costs little beside the rows that are looked at: else
        // it walks through the whole index of a table that was small when the plan was made.
        let by_key = [
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
            ("random_page_cost", "0.1"),
            ("seq_page_cost", "0.1"),
        ];
        // a service that stands still, or whose machine is gone, keeps no row locked for long
        let idle = limits::DATABASE_WITHIN.as_millis().to_string();
        let gone = [
            ("idle_in_transaction_session_timeout", idle.as_str()),
            ("tcp_user_timeout", idle.as_str()),
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ];
        // a name of this process: it ends what it has given up, and nothing of other replicas
        let name = format!("{service} {}", Uuid::new_v4().simple());
        let options = url.parse::<PgConnectOptions>()?.application_name(&name).options(by_key).options(gone);
        let pool = pool_options().connect_with(options.clone()).await?;
        let epoch: i32 = sqlx::query_scalar("select epoch from service_state").fetch_one(&pool).await?;
        let (committed, relay) = mpsc::channel(limits::RELAY_QUEUE);
        let rules = Arc::new(RwLock::new(Arc::new(RuleBook::new(environment))));
        let epoch = Arc::new(AtomicI32::new(epoch));
        let pool = Arc::new(RwLock::new(pool));
        let (changed, summaries) = (Arc::default(), Arc::default());
        let keys_file = None;
        let database = Database { pool, options, service, epoch, clock, rules, keys_file, committed, changed, summaries };
        database.make_partitions().await?;
        Ok((database, relay))
    }

    /// The same database, whose records are sealed with the keys of this file.
    pub(crate) fn with_keys_file(self, file: Option<&str>) -> Database {
        Database { keys_file: file.map(Arc::from), ..self }
    }

    /// The file with the keys with which records are sealed.
    pub(crate) fn keys_file(&self) -> Option<&str> {
        self.keys_file.as_deref()
    }

    /// Makes the event log's partitions of this month and the two after it, where they are missing.
    pub(crate) async fn make_partitions(&self) -> Result<(), Fault> {
        sqlx::query("select make_event_log_partitions()").execute(&self.pool()).await?;
        Ok(())
    }

    /// The pool.
    pub(crate) fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something with the database, and gives up when that takes longer than [`limits::DATABASE_WITHIN`].
    pub(crate) async fn within<T, E: From<Fault>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.within_time(limits::DATABASE_WITHIN, work).await
    }

    /// Does something with the database, and gives up when it takes longer: a connection whose other end is gone never
    /// answers, and never fails. All connections are made anew then, because those that are tried next may be gone as well, and what the
    /// server still does is ended: nobody waits for it any more, but others for its locks.
    pub(crate) async fn within_time<T, E: From<Fault>>(&self, time: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let pool = self.pool();
        match tokio::time::timeout(time, work).await {
            Ok(done) => done,
            Err(_) => {
                self.replace(&pool, time);
                Err(Fault::Transient(format!("postgres has not answered within {} s", time.as_secs())).into())
            }
        }
    }

    /// A connection that has just answered.
    pub(crate) async fn answering(&self) -> Result<PoolConnection<Postgres>, Fault> {
        let mut connection = self.pool().acquire().await?;
        connection.ping().await?;
        Ok(connection)
    }

    /// The same database, whose tables are looked up in another schema first.
    pub(crate) async fn looking_first_in(&self, schema: &str) -> Result<Database, Fault> {
        let own: String = sqlx::query_scalar("select current_schema()").fetch_one(&self.pool()).await?;
        let options = self.options.clone().options([("search_path", format!("{schema},{own}"))]);
        let pool = pool_options().connect_with(options.clone()).await?;
        Ok(Database { pool: Arc::new(RwLock::new(pool)), options, ..self.clone() })
    }

    /// Makes a new pool in the place of one, unless somebody has done so.
    fn replace(&self, silent: &PgPool, given_up_after: Duration) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        // the pools of one service differ in nothing but what they are
        if silent.is_closed() {
            return;
        }
        tracing::warn!("postgres does not answer; its connections are made anew");
        *pool = pool_options().connect_lazy_with(self.options.clone());
        let silent = silent.clone();
        // closing marks the pool at once and then waits for every connection, which those without another end never give
        tokio::spawn(async move { silent.close().await });
        let pool = pool.clone();
        tokio::spawn(async move {
            if let Err(error) = end_what_was_given_up(&pool, given_up_after).await {
                tracing::warn!(%error, "ending what postgres still does");
            }
        });
    }

    /// Begins a transaction. That is also the test whether a connection still lives: when it does not, the next one is taken.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        let mut dead = 0;
        let inner = loop {
            match self.pool().begin().await {
                Ok(inner) => break inner,
                // whatever the reason, a password that is being changed as well: no message or command is to blame
                Err(error) if dead == limits::POOL_SIZE || !is_dead(&error) => return Err(Fault::Transient(error.to_string())),
                Err(_) => dead += 1,
            }
        };
        let epoch = self.epoch.load(Ordering::Relaxed);
        Ok(Tx { inner, epoch, now: self.clock.now(), rules: self.rules(), database: self.clone(), outcome: Outcome::default() })
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

/// Ends the statements of this process that have run for longer than a time.
async fn end_what_was_given_up(pool: &PgPool, time: Duration) -> Result<(), sqlx::Error> {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where usename = current_user and application_name = current_setting('application_name') and state = 'active'
                 and query_start < clock_timestamp() - make_interval(secs => $1) and pid <> pg_backend_pid()";
    sqlx::query(end).bind(time.as_secs_f64()).execute(pool).await?;
    Ok(())
}

fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(limits::POOL_SIZE).min_connections(1).test_before_acquire(false)
}

/// Runs the shell's and the service's migrations as the owner of the schema.
pub async fn migrate(url: &str, own: &Migrator) -> Result<(), Fault> {
    let shared = sqlx::migrate!("../../migrations/chassis");
    let migrations = shared.iter().chain(own.iter()).cloned().collect();
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    Migrator { migrations, ..Migrator::DEFAULT }.run(&pool).await.map_err(|error| Fault::Fatal(format!("migrate: {error}")))?;
    pool.close().await;
    Ok(())
}

/// Whether a connection is gone: closed by the other side, or told that the server stops.
fn is_dead(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_))
        || error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("57P"))
}

/// One transaction. Dropped without [`Tx::commit`] it changes nothing.
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    now: DateTime<Utc>,
    epoch: i32,
    rules: Arc<RuleBook>,
    database: Database,
    outcome: Outcome,
}

impl Tx {
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The epoch that the service writes in.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The instant that all of this transaction happens at.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The system's own time, which tests and the demo do not set: for leases and pauses between attempts, which would last for
    /// days after the business clock was set back.
    pub fn system_now(&self) -> DateTime<Utc> {
        self.database.clock.system_now()
    }

    /// The business date in a time zone.
    pub fn today(&self, timezone: Tz) -> NaiveDate {
        calendar::business_date(self.now, timezone)
    }

    /// A new id that sorts by time.
    pub fn new_id(&self) -> Uuid {
        self.database.new_id()
    }

    /// The rules in force when the transaction began: all of it is decided by the same ones.
    pub fn rules(&self) -> Arc<RuleBook> {
        self.rules.clone()
    }

    /// A context for what the service does by itself.
    pub fn own_context(&self) -> Context {
        Context::of_service(self.database.service, self.new_id())
    }

    /// Writes an event with the aggregate's state after the change. It is published after the commit.
    pub fn emit<A: Aggregate>(&mut self, context: &Context, state: &A, change: A::Change) -> Result<(), Fault> {
        self.outcome.events.push(LoggedEvent::of(context, state, change, self.epoch, self.now)?);
        Ok(())
    }

    /// Writes an event that was made before, under another epoch.
    pub(crate) fn emit_logged(&mut self, event: LoggedEvent) {
        self.outcome.events.push(event);
    }

    /// Asks for a summary of an aggregate whose figures changed: see [`crate::Summarise`]. Call it while the
    /// aggregate's row is locked, so that whoever summarises sees the change or the mark.
    pub fn summarise_later<A: Aggregate>(&mut self, id: Uuid) {
        self.outcome.summaries.insert((A::KIND, id));
    }

    /// Keeps an answer beside the changes.
    pub(crate) fn keep_answer(&mut self, answer: Kept) {
        self.outcome.answers.push(answer);
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
    pub async fn commit(self) -> Result<(), Fault> {
        match self.commit_answers().await? {
            Committed::Yes => Ok(()),
            Committed::KeyKnown => Err(Fault::Fatal("an answer was kept outside a batch of commands".into())),
        }
    }

    /// Commits the changes of tables alone: nothing is told to anybody.
    pub(crate) async fn commit_silently(self) -> Result<(), Fault> {
        Ok(self.inner.commit().await?)
    }

    /// The same, with the answers that were kept. Nothing is committed when one of their keys is known already.
    pub(crate) async fn commit_answers(mut self) -> Result<Committed, Fault> {
        if self.outcome.is_empty() {
            self.inner.commit().await?;
            return Ok(Committed::Yes);
        }
        let handed = match outcome::write(&mut self.inner, self.now, &mut self.outcome, self.epoch).await? {
            Written::All(handed) => handed,
            Written::KeyKnown => return Ok(Committed::KeyKnown),
            Written::UnderOldEpoch(current) => {
                self.database.epoch.store(current.unwrap_or(self.epoch), Ordering::Relaxed);
                return Err(Fault::Transient("the epoch was raised; what was begun before is done again".into()));
            }
        };
        self.inner.commit().await?;
        if !self.outcome.summaries.is_empty() {
            self.database.summaries.send_replace(());
        }
        if !handed.events.is_empty() {
            // A full queue is no loss: the relay's poll finds the rows.
            let _ = self.database.committed.try_send(handed);
            self.database.changed.notify_waiters();
        }
        Ok(Committed::Yes)
    }
}

/// What became of a commit with answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// All is stored.
    Yes,
    /// Nothing is: one of the keys was answered before.
    KeyKnown,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_given_up_is_ended_and_what_else_runs_is_not() {
        let url = testkit::database::fresh("capital-calls").await;
        let connect = async || Database::connect("capital-calls", &url, "development", Clock::default()).await.unwrap().0;
        let (database, replica) = (connect().await, connect().await);
        let sleeping = async |name: &str| -> i64 {
            let count = "select count(*) from pg_stat_activity where state = 'active' and query = $1";
            sqlx::query_scalar(count).bind(format!("select pg_sleep(600) as {name}")).fetch_one(&replica.pool()).await.unwrap()
        };
        let sleep = |database: &Database, name: &str| {
            let (pool, statement) = (database.pool(), format!("select pg_sleep(600) as {name}"));
            async move { Ok::<_, Fault>(sqlx::raw_sql(&statement).execute(&pool).await.map(drop)?) }
        };
        let others = tokio::spawn(sleep(&replica, "others"));
        assert!(testkit::wait::until(Duration::from_secs(10), || async { sleeping("others").await == 1 }).await);
        let given_up = database.within_time(Duration::from_millis(500), sleep(&database, "own")).await;
        assert!(matches!(given_up, Err(Fault::Transient(_))), "{given_up:?}");
        assert!(testkit::wait::until(Duration::from_secs(10), || async { sleeping("own").await == 0 }).await);
        assert_eq!(sleeping("others").await, 1);
        others.abort();
        sqlx::query("select 1").execute(&database.pool()).await.unwrap();
    }
}
