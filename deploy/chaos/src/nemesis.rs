//! The nemesis: strikes, waits, heals; and looks now and then whether everything has come together again.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use testkit::SERVICES;
use testkit::database::schema_of;

use crate::checker::{self, Findings, SetBack};
use crate::fault::{Fault, Struck};
use crate::journal::{Entry, Journal, Outcome};
use crate::projections;
use crate::scenario::Scenario;
use crate::workload::Workload;
use crate::world::World;

/// Milliseconds for which a fault lasts.
const HOLD: std::ops::Range<u64> = 500..3_000;
/// Milliseconds between two faults.
const BETWEEN: std::ops::Range<u64> = 300..1_500;
/// A database that is set back loses so much, at least: milliseconds.
const SET_BACK_HOLD: u64 = 6_000;
/// Rounds after which the clients are silent and everything must come together.
const ROUNDS: usize = 6;
/// Everything has come together within this time after the last fault, or is reported.
const CONVERGE_WITHIN: Duration = Duration::from_secs(300);
/// What has not come together after this time is told, for whoever watches.
const TELL_AFTER: Duration = Duration::from_secs(30);
/// A fault that others hid, because nobody used what it struck meanwhile, strikes alone so often again.
const STRIKES_AGAIN: usize = 3;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// The streams whose readers are waited for.
const STREAMS: [&str; 5] = ["EVENTS", "DEALS", "ACCESS", "NOTICES", "DEAD_LETTERS"];

/// What came of a scenario.
pub struct Report {
    /// What was found wrong.
    pub findings: Findings,
    /// What was not done in time, and what should have happened at least once and did not.
    pub never: Vec<String>,
    /// Longest time from a heal to convergence.
    pub longest: Duration,
}

/// How often a fault struck, and was felt.
#[derive(Default)]
struct Count {
    struck: usize,
    felt: usize,
}

/// A scenario while it runs.
struct Run {
    world: World,
    workload: Arc<Workload>,
    journal: Arc<Journal>,
    chance: fastrand::Rng,
    counts: BTreeMap<String, Count>,
    set_backs: Vec<SetBack>,
    longest: Duration,
    /// What was still to be done when there was no time left.
    left: Vec<String>,
}

/// Runs a scenario for a time, and until each of its faults has struck.
pub async fn run(scenario: &Scenario, seed: u64, time: Duration) -> Result<Report, String> {
    let folder = testkit::root().join("target/chaos").join(scenario.name);
    let world = World::start(&folder, scenario.shape).await?;
    let journal = Arc::new(Journal::create(&folder)?);
    let workload = Arc::new(Workload::new(world.secret(), &world.gateways, &journal, world.nats_as("deals").await?));
    workload.found(seed).await?;
    let clients = workload.start(seed);
    let (chance, counts) = (fastrand::Rng::with_seed(seed), BTreeMap::new());
    let mut run = Run { world, workload, journal, chance, counts, set_backs: vec![], longest: Duration::ZERO, left: vec![] };
    let done = run.rounds(scenario, time).await;
    let healed = Instant::now();
    let silence = run.workload.silence().await;
    for client in &clients {
        client.abort();
    }
    drop(silence);
    let report = match done {
        Ok(()) => run.report(scenario, healed).await,
        Err(why) => Err(why),
    };
    run.world.stop().await;
    report
}

impl Run {
    /// The rounds of a scenario; what was not felt among others strikes alone at the end.
    async fn rounds(&mut self, scenario: &Scenario, time: Duration) -> Result<(), String> {
        self.rounds_together(scenario, time).await?;
        for fault in &scenario.faults {
            for _ in 0..STRIKES_AGAIN {
                if self.counts.get(&fault.to_string()).is_some_and(|count| count.felt == 0) {
                    self.round(vec![*fault]).await?;
                }
            }
        }
        Ok(())
    }

    async fn rounds_together(&mut self, scenario: &Scenario, time: Duration) -> Result<(), String> {
        let began = Instant::now();
        let mut waiting: Vec<Fault> = Vec::new();
        for round in 1.. {
            if scenario.sampled && round > ROUNDS && began.elapsed() >= time {
                return Ok(());
            }
            if waiting.is_empty() {
                if round > 1 && began.elapsed() >= time {
                    return Ok(());
                }
                waiting.clone_from(&scenario.faults);
                self.chance.shuffle(&mut waiting);
            }
            let together = self.choose(&mut waiting, scenario.at_once);
            self.round(together).await?;
            if round % ROUNDS == 0 {
                let (healed, workload) = (Instant::now(), self.workload.clone());
                let _silence = workload.silence().await;
                self.converge(healed).await;
            }
        }
        Ok(())
    }

    /// Some of the faults that wait, with different victims.
    fn choose(&mut self, waiting: &mut Vec<Fault>, at_once: usize) -> Vec<Fault> {
        let wanted = self.chance.usize(1..=at_once);
        let mut together: Vec<Fault> = Vec::new();
        let mut place = waiting.len();
        while place > 0 && together.len() < wanted {
            place -= 1;
            if together.iter().all(|other| other.may_meet(waiting[place])) {
                together.push(waiting.remove(place));
            }
        }
        together
    }

    async fn round(&mut self, together: Vec<Fault>) -> Result<(), String> {
        let mut struck: Vec<(Fault, Struck, u128)> = Vec::new();
        for fault in together {
            let at = self.journal.now();
            self.tell(&format!("{fault} strikes"));
            let done = fault.strike(&mut self.world).await.map_err(|why| format!("{fault}: {why}"))?;
            self.counts.entry(fault.to_string()).or_default().struck += 1;
            struck.push((fault, done, at));
            self.pause(BETWEEN.start).await;
        }
        let least = if struck.iter().any(|(fault, ..)| matches!(fault, Fault::SetBack(_))) { SET_BACK_HOLD } else { 0 };
        let hold = self.chance.u64(HOLD).max(least);
        self.pause(hold).await;
        for (fault, one, at) in struck {
            let felt = one.end(&mut self.world).await.map_err(|why| format!("{fault}, when it ended: {why}"))?;
            self.counts.entry(fault.to_string()).or_default().felt += usize::from(felt);
            self.tell(&format!("{fault} ends, {}", if felt { "felt" } else { "not felt" }));
            if let Fault::SetBack(service) = fault {
                self.set_backs.push(SetBack { service, copied: at, restored: self.journal.now() });
            }
        }
        self.world.heal().await?;
        let between = self.chance.u64(BETWEEN);
        self.pause(between).await;
        Ok(())
    }

    /// Writes a line to the log of the nemesis, with the time that the services' logs have.
    fn tell(&self, what: &str) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.world.folder.join("nemesis.log"));
        if let Ok(file) = &mut file {
            let _ = writeln!(file, "{} {what}", chrono::Utc::now().to_rfc3339());
        }
    }

    async fn pause(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Waits until nothing is left to do and every table is as the logs say; nothing is in flight meanwhile.
    async fn converge(&mut self, healed: Instant) {
        self.tell("everything is healed and silent");
        let since = Instant::now();
        let mut left = vec!["nothing was looked at".to_owned()];
        let mut told = String::new();
        while !left.is_empty() && since.elapsed() < CONVERGE_WITHIN {
            left = self.left().await.unwrap_or_else(|why| vec![why]);
            if left.is_empty() {
                left = self.apart().await.map_or_else(|why| vec![why], |findings| findings.told);
            }
            if !left.is_empty() {
                let text = left.join("; ");
                if since.elapsed() > TELL_AFTER && text != told {
                    self.tell(&format!("left: {text}"));
                    told = text;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.longest = self.longest.max(healed.elapsed());
        self.tell(&format!("together {:.1} s after the heal", healed.elapsed().as_secs_f64()));
        if !left.is_empty() {
            self.left.push(format!("not together after {} s: {}", since.elapsed().as_secs(), left.join("; ")));
        }
    }

    /// What differs between the tables, the streams and the logs. What was taken out of a stream without a sign stays missing there:
    /// readers ask for what they lack, and nobody else knows.
    async fn apart(&self) -> Result<Findings, String> {
        let tables = projections::compare(&self.world.database).await?;
        let tables = tables.and(projections::in_bucket(&self.world.database, &self.world.ops).await?);
        if self.counts.contains_key(&Fault::LoseMessages.to_string()) {
            return Ok(tables);
        }
        Ok(tables.and(projections::in_streams(&self.world.database, &self.world.ops).await?))
    }

    /// What is still to be done.
    async fn left(&self) -> Result<Vec<String>, String> {
        let mut left = Vec::new();
        for schema in SERVICES.into_iter().filter(|service| *service != "gateway").map(schema_of) {
            for table in ["outbox_pending", "summaries_due"] {
                let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {schema}.{table}"))
                    .fetch_one(&self.world.database)
                    .await
                    .map_err(|error| error.to_string())?;
                if rows > 0 {
                    left.push(format!("{rows} in {schema}.{table}"));
                }
            }
        }
        let running = "select count(*) from workflow.workflows where status = 'running'";
        let running: i64 = sqlx::query_scalar(running).fetch_one(&self.world.database).await.map_err(|error| error.to_string())?;
        if running > 0 {
            left.push(format!("{running} workflows run"));
        }
        for stream in STREAMS {
            let reply =
                self.world.ops.request(format!("$JS.API.CONSUMER.LIST.{stream}"), "{}".into()).await.map_err(|error| error.to_string())?;
            let list: Consumers = serde_json::from_slice(&reply.payload).map_err(|error| error.to_string())?;
            for consumer in list.consumers.iter().filter(|consumer| consumer.num_pending + consumer.num_ack_pending > 0) {
                left.push(format!("{} has {} to read", consumer.name, consumer.num_pending + consumer.num_ack_pending));
            }
        }
        Ok(left)
    }

    async fn report(&mut self, scenario: &Scenario, healed: Instant) -> Result<Report, String> {
        self.converge(healed).await;
        let entries = self.journal.entries();
        let findings = checker::commands(&self.world.database, &entries, &self.set_backs).await?.and(self.apart().await?);
        for (fault, Count { struck, felt }) in &self.counts {
            println!("  {fault}: {struck}, felt {felt}");
        }
        let never = self.never(scenario, &entries);
        let of = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
        println!(
            "  {} acknowledged, {} refused, {} unknown; {} answered again; longest from heal to convergence {:.1} s",
            of(|entry| matches!(entry.outcome, Outcome::Acknowledged { .. })),
            of(|entry| matches!(entry.outcome, Outcome::Refused { .. })),
            of(|entry| entry.outcome == Outcome::Unknown),
            of(|entry| entry.replayed),
            self.longest.as_secs_f64()
        );
        println!("  lost {}, doubled {}, diverged {}", findings.lost, findings.doubled, findings.diverged);
        Ok(Report { findings, never, longest: self.longest })
    }

    /// What was not done in time, and what should have happened at least once and did not.
    fn never(&self, scenario: &Scenario, entries: &[Entry]) -> Vec<String> {
        let never = scenario
            .faults
            .iter()
            .filter(|fault| match self.counts.get(&fault.to_string()) {
                Some(count) => count.felt == 0,
                None => !scenario.sampled,
            })
            .map(|fault| format!("{fault} was never felt"));
        let mut never: Vec<String> = self.left.iter().cloned().chain(never).collect();
        let some = |what: &str, wanted: fn(&Entry) -> bool| (!entries.iter().any(wanted)).then(|| format!("{what} never happened"));
        never.extend(some("an acknowledgement", |entry| matches!(entry.outcome, Outcome::Acknowledged { .. })));
        never.extend(some("a refusal", |entry| matches!(entry.outcome, Outcome::Refused { .. })));
        never.extend(some("an answer that was given again", |entry| entry.replayed));
        never
    }
}

#[derive(Deserialize)]
struct Consumers {
    #[serde(default)]
    consumers: Vec<Consumer>,
}

#[derive(Deserialize)]
struct Consumer {
    name: String,
    num_pending: u64,
    num_ack_pending: u64,
}
