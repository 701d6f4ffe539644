//! The command line that every service's binary has: it serves, and what is done by hand.

use std::process::ExitCode;
use std::sync::Arc;

use async_nats::jetstream;
use clap::{Parser, Subcommand};
use domain::Actor;
use domain::messages::chassis::{DiscardDeadLetter, GetDeadLetter, GroupDeadLetters, ListDeadLetters, RedriveDeadLetters};
use uuid::Uuid;

use crate::batch::{Answers, Batch, Handle, Sent};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::database::{self, Database};
use crate::dead_letters::DeadLetters;
use crate::fault::Fault;
use crate::query::{Answer, Miss, Show};
use crate::reconcile::Reconciler;
use crate::service::Service;
use crate::{epoch, health, nats, rebuild, sealing};

impl<S: Send + Sync + 'static> Service<S> {
    /// Runs the command line: `serve` (the default), `migrate`, `verify`, `rebuild`, `new-epoch`, `new-key`,
    /// `rotate-keys`, `dead-letters`, `health`.
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
                Sub::NewKey { write, if_missing } => new_key(&config, write, if_missing),
                Sub::RotateKeys => self.rotate_keys(config).await,
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

    /// Raises the epoch. What this service knows of outsiders, or records, it reads again from the beginning; what it knows of other services
    /// it compares with them when it starts.
    async fn new_epoch(self, config: Config) -> Result<(), Fault> {
        let (database, jetstream) = self.connect(&config).await?;
        let outsiders = self.comparisons.copied.iter().filter(|copied| copied.copies.select().is_none());
        let mut again: Vec<(&str, &str)> = outsiders.map(|copied| (copied.stream, copied.kind)).collect();
        if self.comparisons.recorder.is_some() {
            // what no log has, such as who read what, is in the streams only
            again.extend(nats::STREAMS.map(|(stream, _)| (stream, "record")));
        }
        for (stream, purpose) in again {
            let stream = jetstream.get_stream(stream).await.map_err(|error| Fault::Transient(error.to_string()))?;
            nats::forget_consumer(&stream, &format!("{}__{purpose}", self.card.name)).await?;
        }
        let (epoch, states) = epoch::raise(&database).await?;
        println!("epoch {epoch}: {states} states are published in it when {} serves", self.card.name);
        Ok(())
    }

    /// The service's connections, for what is done by hand.
    async fn connect(&self, config: &Config) -> Result<(Database, jetstream::Context), Fault> {
        let url = config.database_url.as_ref().ok_or_else(|| Fault::Fatal("DATABASE_URL is not set".into()))?;
        let (database, _) = Database::connect(self.card.name, url, &config.tranche_env, Clock::default()).await?;
        let database = database.with_keys_file(config.encryption_keys_file.as_deref());
        Ok((database, jetstream::new(nats::connect(config, self.card.name).await?)))
    }

    /// Compares by hand; an error when something differed and could not be repaired.
    async fn verify(self, config: Config, recompute: bool) -> Result<(), Fault> {
        let (database, jetstream) = self.connect(&config).await?;
        let reconciler = Reconciler::new(database, jetstream).patient();
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

    /// Wraps the data keys of what is sealed anew.
    async fn rotate_keys(self, config: Config) -> Result<(), Fault> {
        let (database, _) = self.connect(&config).await?;
        println!("{}", sealing::rotate(&database, self.sealed).await?);
        Ok(())
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
    /// Make a key for ENCRYPTION_KEYS_FILE, and print its line
    NewKey {
        /// Put it on top of the file instead, and make the file where there is none
        #[arg(long)]
        write: bool,
        /// Leave a file that is there alone
        #[arg(long, requires = "write")]
        if_missing: bool,
    },
    /// Have the first key of ENCRYPTION_KEYS_FILE protect everything that is sealed; the service may serve
    RotateKeys,
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

fn new_key(config: &Config, write: bool, if_missing: bool) -> Result<(), Fault> {
    match &config.encryption_keys_file {
        Some(file) if if_missing && std::path::Path::new(file).exists() => {}
        _ if !write => print!("{}", sealing::new_key()?),
        Some(file) => sealing::write_new_key(file)?,
        None => return Err(Fault::Fatal("ENCRYPTION_KEYS_FILE is not set; see .env.example".into())),
    }
    Ok(())
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
