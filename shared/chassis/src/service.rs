//! A service: a card and a table of what it answers, shows, follows and runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_nats::jetstream;
use async_nats::service::ServiceExt;
use axum::Router;
use domain::messages::chassis::{
    DiscardDeadLetter, GetDeadLetter, GetDigest, GetServiceHealth, GroupDeadLetters, ListDeadLetters, ListLogged, ListVersions,
    RedriveDeadLetters, Resend,
};
use domain::{Aggregate, Command, Query};
use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::batch::{self, Handle};
use crate::clock::Clock;
use crate::config::Config;
use crate::database::Database;
use crate::dead_letters::{Again, DeadLetters};
use crate::digest::{Copies, Owner};
use crate::errand::{self, Errand};
use crate::fault::Fault;
use crate::follow::{self, Follow};
use crate::outcome::Handed;
use crate::query::{self, Show};
use crate::rebuild::{ReadModel, Refill};
use crate::reconcile::{self, Comparisons, Copied, Total};
use crate::record::{self, Record};
use crate::rules::RuleSource;
use crate::shell::Shell;
use crate::summary::{self, Summarise};
use crate::{crash, dead_letters, health, limits, logs, nats, pressure, relay, rules, telemetry};

/// What a service is called and owns.
pub struct Card {
    /// Folder, crate, binary, subject token and consumer prefix.
    pub name: &'static str,
    /// One sentence, shown by `nats micro ls`.
    pub description: &'static str,
    /// Its migrations; none for a service without a schema.
    pub migrations: Option<Migrator>,
}

type Task<S> = Box<dyn FnOnce(Arc<S>, Arc<Shell>, Database) -> BoxFuture<'static, ()> + Send>;
type Pages<S> = Box<dyn FnOnce(Arc<S>, Arc<Shell>) -> Router + Send>;

/// A service while its table is written.
pub struct Service<S> {
    pub(crate) card: Card,
    pub(crate) handlers: S,
    tasks: Vec<Task<S>>,
    owner: Owner,
    pub(crate) comparisons: Comparisons<S>,
    reactions: Vec<(&'static str, Again<S>)>,
    pub(crate) refills: Vec<(&'static str, String, Refill<S>)>,
    /// Tables whose rows are sealed.
    pub(crate) sealed: &'static [&'static str],
    pub(crate) read_model: Option<ReadModel>,
    rules: Option<Task<S>>,
    pages: Option<Pages<S>>,
}

/// Begins a service.
pub fn service<S: Send + Sync + 'static>(handlers: S, card: Card) -> Service<S> {
    let comparisons = Comparisons { copied: vec![], totals: &[], recorder: None };
    Service {
        card,
        handlers,
        tasks: vec![],
        owner: Owner::default(),
        comparisons,
        reactions: vec![],
        refills: vec![],
        sealed: &[],
        read_model: None,
        rules: None,
        pages: None,
    }
}

impl<S: Send + Sync + 'static> Service<S> {
    fn task<F: Future<Output = ()> + Send + 'static>(
        mut self,
        start: impl FnOnce(Arc<S>, Arc<Shell>, Database) -> F + Send + 'static,
    ) -> Self {
        self.tasks.push(Box::new(|service, shell, database| Box::pin(start(service, shell, database))));
        self
    }
    /// Answers a command.
    pub fn answers<C: Command>(self) -> Self
    where
        S: Handle<C>,
    {
        self.task(batch::serve::<C, S>).task(batch::serve_dry_runs::<C, S>)
    }
    /// Answers a query.
    pub fn shows<Q: Query>(self) -> Self
    where
        S: Show<Q>,
    {
        self.task(query::serve::<Q, S>)
    }
    /// Owns an aggregate; the statement selects `id` and `version` of each.
    pub fn owns<A: Aggregate>(mut self, states: &'static str) -> Self {
        self.owner.kinds.push((A::KIND, states));
        self
    }
    /// Follows the state of an aggregate; its copies are compared with their owner.
    pub fn follows<A: Aggregate>(mut self, copies: Copies) -> Self
    where
        S: Follow<A>,
    {
        self.reactions.push((A::KIND, |service, tx, stored| Box::pin(follow::again::<A, S>(service, tx, stored))));
        self.refills.push((A::KIND, A::filter(), |service, tx, messages| Box::pin(follow::refill::<A, S>(service, tx, messages))));
        self.comparisons.copied.push(Copied {
            stream: A::STREAM,
            kind: A::KIND,
            owner: A::OWNER,
            copies,
            forget: |service, tx, ids| Box::pin(<S as Follow<A>>::forget(service, tx, ids)),
        });
        self.task(follow::serve::<A, S>)
    }
    /// Keeps totals, which are compared with their rows.
    pub fn keeps(mut self, totals: &'static [Total]) -> Self {
        self.comparisons.totals = totals;
        self
    }
    /// Seals the rows of these tables, with the columns `id`, `key_id`, `wrapped_key` and `body`: see [`crate::sealing`].
    pub fn seals(mut self, tables: &'static [&'static str]) -> Self {
        self.sealed = tables;
        self
    }
    /// Keeps a read model, which can be made anew from what the service follows.
    pub fn rebuilds(mut self, model: ReadModel) -> Self {
        self.read_model = Some(model);
        self
    }
    /// Publishes summaries of an aggregate whose figures are sums.
    pub fn summarises<A: Aggregate>(self) -> Self
    where
        S: Summarise<A>,
    {
        self.task(summary::serve::<A, S>)
    }
    /// Records every message of a stream.
    pub fn records(mut self, stream: &'static str, filter: &'static str) -> Self
    where
        S: Record,
    {
        self.reactions.push(("record", |service, tx, stored| Box::pin(record::again(service, tx, stored))));
        self.comparisons.recorder = Some(Box::new(|service, reconciler| Box::pin(logs::compare(service, reconciler))));
        self.task(move |service, shell, database| record::serve(service, shell, database, stream, filter))
    }
    /// Runs errands.
    pub fn runs<E: Errand>(self, errand: E) -> Self {
        self.task(move |_, shell, database| errand::serve(Arc::new(errand), shell, database))
    }
    /// Keeps the bucket of the rules as this service's database says.
    pub fn pushes_rules(mut self) -> Self
    where
        S: RuleSource,
    {
        self.rules = Some(Box::new(|service, shell, database| Box::pin(rules::push(service, shell, database))));
        self
    }
    /// Serves HTTP beside health and metrics.
    pub fn serves(mut self, pages: impl FnOnce(Arc<S>, Arc<Shell>) -> Router + Send + 'static) -> Self {
        self.pages = Some(Box::new(pages));
        self
    }

    /// Serves until SIGTERM.
    pub(crate) async fn serve(self, config: Config) -> Result<(), Fault> {
        let _crash_points = crash::armed();
        telemetry::start_logs(&config.log_format);
        let metrics = telemetry::start_metrics().map_err(Fault::Fatal)?;
        let (stop, stopped) = watch::channel(false);
        let clock = Clock::default();
        let (database, committed) = match (&self.card.migrations, &config.database_url) {
            (None, _) => (None, None),
            (Some(_), None) => return Err(Fault::Fatal("DATABASE_URL is not set; see .env.example".into())),
            (Some(_), Some(url)) => {
                let (database, committed) = connect_patiently(self.card.name, url, &config.tranche_env, &clock).await?;
                (Some(database.with_keys_file(config.encryption_keys_file.as_deref())), Some(committed))
            }
        };
        let client = nats::connect(&config, self.card.name).await?;
        let jetstream = jetstream::new(client.clone());
        let micro = client
            .service_builder()
            .description(self.card.description)
            .start(self.card.name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| Fault::Transient(format!("nats service: {error}")))?;
        let shell = Arc::new(Shell {
            service: self.card.name,
            jetstream,
            database: database.clone(),
            clock: clock.clone(),
            outbox_depth: AtomicI64::new(0),
            published: Default::default(),
            compare: Default::default(),
            lag_millis: AtomicU64::new(0),
            micro,
            is_serving: AtomicBool::new(database.is_none()),
            // the gateway decides nothing and needs no rules
            rules_loaded: AtomicBool::new(database.is_none()),
            stop: stopped,
            config,
        });
        wait_for_streams(&shell).await;
        let handlers = Arc::new(self.handlers);
        let mut tasks = JoinSet::new();
        if shell.config.clock_settable {
            tasks.spawn(rules::follow_clock(shell.clone(), clock));
        }
        if let (Some(database), Some(committed)) = (database, committed) {
            tasks.spawn(pressure::watch(shell.clone()));
            tasks.spawn(relay::run(shell.clone(), database.clone(), committed));
            tasks.spawn(rules::follow(shell.clone(), database.clone()));
            let own = Arc::new(health::Own { shell: shell.clone() });
            tasks.spawn(query::serve::<GetServiceHealth, health::Own>(own, shell.clone(), database.clone()));
            let letters = Arc::new(DeadLetters { service: self.card.name });
            tasks.spawn(query::serve::<ListDeadLetters, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(query::serve::<GetDeadLetter, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(query::serve::<GroupDeadLetters, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(batch::serve::<RedriveDeadLetters, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(batch::serve_dry_runs::<RedriveDeadLetters, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(batch::serve_dry_runs::<DiscardDeadLetter, DeadLetters>(letters.clone(), shell.clone(), database.clone()));
            tasks.spawn(batch::serve::<DiscardDeadLetter, DeadLetters>(letters, shell.clone(), database.clone()));
            if let Some(push) = self.rules {
                tasks.spawn(push(handlers.clone(), shell.clone(), database.clone()));
            }
            let owner = Arc::new(self.owner);
            let mut table = self.tasks;
            table.push(Box::new(|service, shell, database| Box::pin(reconcile::serve(service, shell, database, self.comparisons))));
            table.push(Box::new(|service, shell, database| Box::pin(dead_letters::redrive(service, shell, database, self.reactions))));
            tasks.spawn(query::serve::<GetDigest, Owner>(owner.clone(), shell.clone(), database.clone()));
            tasks.spawn(query::serve::<ListVersions, Owner>(owner.clone(), shell.clone(), database.clone()));
            tasks.spawn(query::serve::<ListLogged, Owner>(owner.clone(), shell.clone(), database.clone()));
            tasks.spawn(batch::serve::<Resend, Owner>(owner, shell.clone(), database.clone()));
            let (handlers, shell) = (handlers.clone(), shell.clone());
            tasks.spawn(async move { start_with_rules(handlers, shell, database, table).await });
        }
        let mut router = health::routes(shell.clone(), metrics);
        if let Some(pages) = self.pages {
            router = router.merge(pages(handlers, shell.clone()));
        }
        let listener = tokio::net::TcpListener::bind(shell.config.http_addr)
            .await
            .map_err(|error| Fault::Fatal(format!("HTTP_ADDR {}: {error}", shell.config.http_addr)))?;
        tracing::info!(service = self.card.name, address = ?listener.local_addr().ok(), "serving");
        let until = shell.clone();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(async move { until.stopped().await }).await {
                tracing::error!(%error, "http");
            }
        });
        // a task ends before it is asked to only by a panic: better no service than half of one
        let died = tokio::select! {
            () = wait_for_signal() => false,
            Some(_) = tasks.join_next() => true,
        };
        tracing::info!(died, "stopping");
        let _ = stop.send(true);
        let all_done = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::STOP_WITHIN, all_done).await.is_err() {
            tracing::warn!("some tasks were still busy when the time to stop ran out");
        }
        let _ = tokio::time::timeout(limits::COPY_PATIENCE, client.flush()).await;
        if died { Err(Fault::Fatal("a task of the service ended by itself; see the log".into())) } else { Ok(()) }
    }
}

/// Decides nothing before the rules are known: then starts the table, and ends when one of its tasks does.
async fn start_with_rules<S>(handlers: Arc<S>, shell: Arc<Shell>, database: Database, table: Vec<Task<S>>) {
    while !shell.rules_loaded() {
        tokio::select! {
            () = tokio::time::sleep(limits::COPY_PAUSE) => {}
            () = shell.stopped() => return,
        }
    }
    let mut tasks = JoinSet::new();
    for task in table {
        tasks.spawn(task(handlers.clone(), shell.clone(), database.clone()));
    }
    shell.is_serving.store(true, Ordering::Relaxed);
    let first = tasks.join_next().await;
    if shell.is_stopped() {
        while tasks.join_next().await.is_some() {}
    } else {
        tracing::error!(?first, "a task of the service ended by itself");
    }
}

async fn connect_patiently(
    name: &'static str,
    url: &str,
    environment: &str,
    clock: &Clock,
) -> Result<(Database, tokio::sync::mpsc::Receiver<Handed>), Fault> {
    let mut attempt = 0;
    loop {
        match Database::connect(name, url, environment, clock.clone()).await {
            Err(Fault::Transient(why)) => {
                tracing::warn!(%why, "waiting for postgres");
                tokio::time::sleep(limits::backoff(attempt)).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn wait_for_streams(shell: &Shell) {
    let mut attempt = 0;
    while let Err(fault) = nats::ensure_streams(&shell.jetstream, shell.config.nats_replicas).await {
        tracing::warn!(%fault, "waiting for nats");
        tokio::time::sleep(limits::backoff(attempt)).await;
        attempt += 1;
    }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
