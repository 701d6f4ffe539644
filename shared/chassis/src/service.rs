//! A service: a card and a table of what it answers, shows, follows and runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_nats::jetstream;
use async_nats::service::ServiceExt;
use axum::Router;
use clap::{Parser, Subcommand};
use domain::messages::chassis::{
    DiscardDeadLetter, GetDeadLetter, GetDigest, GetServiceHealth, GroupDeadLetters, ListDeadLetters, ListLogged, ListVersions,
    RedriveDeadLetters, Resend,
};
use domain::{Actor, Aggregate, Command, Query};
use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::batch::{self, Answers, Batch, Handle, Sent};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::database::{self, Database};
use crate::dead_letters::{Again, DeadLetters};
use crate::digest::{Copies, Owner};
use crate::errand::{self, Errand};
use crate::fault::Fault;
use crate::follow::{self, Follow};
use crate::outcome::Handed;
use crate::query::{self, Answer, Miss, Show};
use crate::rebuild::{self, ReadModel, Refill};
use crate::reconcile::{self, Comparisons, Copied, Reconciler, Total};
use crate::record::{self, Record};
use crate::rules::RuleSource;
use crate::shell::Shell;
use crate::summary::{self, Summarise};
use crate::{crash, dead_letters, epoch, health, limits, nats, pressure, relay, rules, telemetry};

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
    card: Card,
    handlers: S,
    tasks: Vec<Task<S>>,
    owner: Owner,
    comparisons: Comparisons<S>,
    reactions: Vec<(&'static str, Again<S>)>,
    refills: Vec<(&'static str, String, Refill<S>)>,
    read_model: Option<ReadModel>,
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
        self.task(batch::serve::<C, S>)
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
        self.comparisons.recorder = Some(Box::new(|service, reconciler| Box::pin(reconcile::logs(service, reconciler))));
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

    /// Runs the command line: `serve` (the default), `migrate`, `verify`, `rebuild`, `new-epoch`, `dead-letters`, `health`.
    pub fn main(self) -> ExitCode {
        let line = CommandLine::parse();
        let config = match Config::read() {
            Ok(config) => config,
            Err(why) => return fail(&why),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(config.worker_threads.get()).enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("runtime: {error}")),
        };
        let done = runtime.block_on(async {
            match line.command.unwrap_or(Sub::Serve) {
                Sub::Serve => self.serve(config).await,
                Sub::Migrate => self.migrate(config).await,
                Sub::DeadLetters { what } => self.dead_letters(config, what.unwrap_or(LettersSub::List)).await,
                Sub::NewEpoch => self.new_epoch(config).await,
                Sub::Verify { recompute } => self.verify(config, recompute).await,
                Sub::Rebuild => self.rebuild(config).await,
                Sub::Health => health::ask(config.http_addr).await,
            }
            .map_err(|fault| fault.to_string())
        });
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        }
    }

    async fn migrate(self, config: Config) -> Result<(), Fault> {
        let Some(migrations) = &self.card.migrations else { return Ok(()) };
        let url =
            config.migrate_database_url.or(config.database_url).ok_or_else(|| Fault::Fatal("MIGRATE_DATABASE_URL is not set".into()))?;
        database::migrate(&url, migrations).await
    }

    /// Shows and decides dead letters by hand.
    async fn dead_letters(self, config: Config, what: LettersSub) -> Result<(), Fault> {
        let (database, _) = self.connect(&config).await?;
        let letters = DeadLetters { service: self.card.name };
        let mut tx = database.begin().await?;
        let context = Context { actor: Actor { user: "ops".into(), ..Actor::default() }, ..tx.own_context() };
        match what {
            LettersSub::List => print(&shown(letters.show(&mut tx, &context, ListDeadLetters::default()).await)?),
            LettersSub::Groups => print(&shown(letters.show(&mut tx, &context, GroupDeadLetters {}).await)?),
            LettersSub::Show { id } => print(&shown(letters.show(&mut tx, &context, GetDeadLetter { dead_letter_id: id }).await)?),
            LettersSub::Redrive { ids, reaction, cause } => {
                let batch = by_hand(context, RedriveDeadLetters { ids, reaction, cause });
                let released = letters.handle(&mut tx, &batch).await?;
                tx.commit().await?;
                print(&answered(released)?)
            }
            LettersSub::Discard { id, reason } => {
                let batch = by_hand(context, DiscardDeadLetter { dead_letter_id: id, reason });
                let discarded = letters.handle(&mut tx, &batch).await?;
                tx.commit().await?;
                print(&answered(discarded)?)
            }
        }
    }

    /// Raises the epoch. What this service knows of outsiders it reads again from the beginning; what it knows of other services
    /// it compares with them when it starts.
    async fn new_epoch(self, config: Config) -> Result<(), Fault> {
        let (database, jetstream) = self.connect(&config).await?;
        for copied in self.comparisons.copied.iter().filter(|copied| copied.copies.select().is_none()) {
            let stream = jetstream.get_stream(copied.stream).await.map_err(|error| Fault::Transient(error.to_string()))?;
            // one that is not there reads from the beginning anyway
            let _ = stream.delete_consumer(&format!("{}__{}", self.card.name, copied.kind)).await;
        }
        let (epoch, states) = epoch::raise(&database).await?;
        println!("epoch {epoch}: {states} states are published in it when {} serves", self.card.name);
        Ok(())
    }

    /// The service's connections, for what is done by hand.
    async fn connect(&self, config: &Config) -> Result<(Database, jetstream::Context), Fault> {
        let url = config.database_url.as_ref().ok_or_else(|| Fault::Fatal("DATABASE_URL is not set".into()))?;
        let (database, _) = Database::connect(self.card.name, url, &config.tranche_env, Clock::default()).await?;
        Ok((database, jetstream::new(nats::connect(config, self.card.name).await?)))
    }

    /// Compares by hand; an error when something differed and could not be repaired.
    async fn verify(self, config: Config, recompute: bool) -> Result<(), Fault> {
        let (database, jetstream) = self.connect(&config).await?;
        let reconciler = Reconciler::new(database, jetstream);
        let found = if recompute {
            reconciler.totals(self.comparisons.totals).await
        } else {
            reconciler.forget_positions().await?;
            reconciler.all(&self.comparisons, &Arc::new(self.handlers)).await
        };
        let mut wrong = 0;
        for compared in found {
            match compared {
                Ok(compared) => {
                    wrong += compared.differed - compared.repaired;
                    println!("{}", serde_json::to_string_pretty(&compared)?);
                }
                Err(fault) => {
                    wrong += 1;
                    println!("{}", serde_json::json!({"error": fault.to_string()}));
                }
            }
        }
        if wrong == 0 { Ok(()) } else { Err(Fault::Fatal(format!("{wrong} comparisons or differences are left"))) }
    }

    /// Makes the read model anew.
    async fn rebuild(self, config: Config) -> Result<(), Fault> {
        let Some(model) = self.read_model else {
            return Err(Fault::Fatal(format!("{} keeps no read model; its copies are compared and mended by verify", self.card.name)));
        };
        let owner = config.migrate_database_url.clone().ok_or_else(|| Fault::Fatal("MIGRATE_DATABASE_URL is not set".into()))?;
        let (database, jetstream) = self.connect(&config).await?;
        let rebuilt = rebuild::run(&self.handlers, &database, &owner, &jetstream, model, self.refills, &self.comparisons).await?;
        print(&rebuilt)
    }

    async fn serve(self, config: Config) -> Result<(), Fault> {
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
                (Some(database), Some(committed))
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

#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Subcommand)]
enum Sub {
    /// Serve until SIGTERM (the default)
    Serve,
    /// Bring the schema up to date, as its owner
    Migrate,
    /// Show and decide messages that could not be handled
    DeadLetters {
        #[command(subcommand)]
        what: Option<LettersSub>,
    },
    /// Compare the copies and records with their owners, and have what was lost sent again; needs the services to run
    Verify {
        /// Compare the kept totals with their rows instead
        #[arg(long)]
        recompute: bool,
    },
    /// Make the read model anew, as the owner of the schema, and put it in the place of the old one; the service may serve
    Rebuild,
    /// After the database was set back to an older copy: raise the epoch and publish every state in it
    NewEpoch,
    /// Ask the service that runs here whether it is ready; for the health check of a container
    Health,
}

#[derive(Subcommand)]
enum LettersSub {
    /// Print the newest ones (the default)
    List,
    /// Print how many are parked of each reaction and cause
    Groups,
    /// Print one
    Show { id: Uuid },
    /// Have parked ones handled again: these, or all of a reaction, with this cause only if one is given
    Redrive {
        ids: Vec<Uuid>,
        #[arg(long)]
        reaction: Option<String>,
        #[arg(long)]
        cause: Option<String>,
    },
    /// Decide that one is not handled
    Discard {
        id: Uuid,
        #[arg(long)]
        reason: String,
    },
}

fn print(value: &impl serde::Serialize) -> Result<(), Fault> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn shown<R>(answer: Answer<R>) -> Result<R, Fault> {
    answer.map_err(|miss| match miss {
        Miss::Refused(rejection) => Fault::Fatal(rejection.to_string()),
        Miss::Failed(fault) => fault,
    })
}

fn by_hand<C>(context: Context, body: C) -> Batch<C> {
    Batch::new(vec![Sent { context, key: String::new(), body }])
}

fn answered<R>(answers: Answers<R>) -> Result<R, Fault> {
    let first = answers.into_iter().next().ok_or_else(|| Fault::Fatal("no answer".into()))?;
    first.map_err(|rejection| Fault::Fatal(rejection.to_string()))
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
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
