//! `cargo xtask up`: starts everything, keeps it running, stops it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::nats::Nats;
use testkit::postgres::{self, Postgres};
use testkit::process::{Process, is_alive, signal};
use testkit::stack::{Replica, Settings};
use testkit::{SERVICES, database};

use crate::run::{self, Step};
use crate::state::{self, Running, State};
use crate::{demo, status};

/// A service that ends is started again after this pause.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// How often the supervisor looks after the processes.
const LOOK: Duration = Duration::from_millis(100);
/// The stack's database.
const DATABASE: &str = "tranche";

/// How to start.
#[derive(clap::Args)]
pub struct Up {
    /// Return when all is ready and leave it running
    #[arg(long)]
    detach: bool,
    /// Start empty
    #[arg(long)]
    no_demo: bool,
    /// Keep the data of the last time instead of starting anew
    #[arg(long)]
    keep: bool,
    /// Build and run optimised binaries
    #[arg(long)]
    release: bool,
    /// Replicas of a service, for example capital-calls=2; may be given several times
    #[arg(long, value_parser = parse_scale)]
    scale: Vec<(String, usize)>,
}

fn parse_scale(text: &str) -> Result<(String, usize), String> {
    let (service, number) = text.split_once('=').ok_or("expected SERVICE=NUMBER")?;
    if !SERVICES.contains(&service) {
        return Err(format!("{service:?} is not one of {}", SERVICES.join(", ")));
    }
    match number.parse() {
        Ok(number @ 1..=20) => Ok((service.to_owned(), number)),
        _ => Err("expected 1 to 20 replicas".into()),
    }
}

/// Runs the command.
pub async fn up(up: Up) -> Result<(), String> {
    if State::read().is_ok() {
        return Err("a local stack is running already: see `cargo xtask status`, stop it with `cargo xtask down`".into());
    }
    run::build(up.release)?;
    if up.detach {
        return detach();
    }
    let folder = state::folder();
    clean_up();
    if !up.keep {
        postgres::forget(&folder);
        let _ = std::fs::remove_dir_all(&folder);
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut stack = start(&up).await?;
    let loaded = if up.no_demo { Ok(()) } else { demo_or_stop(&stack.state).await };
    if let Err(why) = loaded {
        stack.stop();
        return Err(why);
    }
    stack.state.ready = true;
    stack.state.write()?;
    status::greet(&stack.state);
    let stopped = stack.keep_running().await;
    stack.stop();
    stopped
}

async fn demo_or_stop(state: &State) -> Result<(), String> {
    let _step = Step::begin("demo");
    tokio::select! {
        done = demo::run(state, None) => done,
        () = asked_to_stop() => Err("stopped while the demo was loading".into()),
    }
}

/// Starts this very program again in the background and follows its output until all is ready.
fn detach() -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    std::fs::create_dir_all(testkit::local()).map_err(|error| error.to_string())?;
    let log = testkit::local().join("up.log");
    let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--detach");
    let mut command = Command::new(own);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let mut supervisor = command.spawn().map_err(|error| error.to_string())?;
    let mut lines = BufReader::new(File::open(&log).map_err(|error| error.to_string())?);
    let mut line = String::new();
    loop {
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            print!("{line}");
            line.clear();
        }
        if State::left().is_some_and(|state| state.ready && state.supervisor == supervisor.id()) {
            return Ok(());
        }
        if let Ok(Some(_)) = supervisor.try_wait() {
            return Err(format!("the stack did not start; see {}", log.display()));
        }
        std::thread::sleep(LOOK);
    }
}

/// Ends processes that a supervisor left when it was killed.
fn clean_up() {
    let Some(left) = State::left() else { return };
    for process in &left.processes {
        let program = process.name.split('-').next().unwrap_or_default();
        if is_alive(process.pid, program) {
            signal(process.pid, "KILL");
        }
    }
    State::remove();
}

struct LocalStack {
    state: State,
    settings: Settings,
    postgres: Postgres,
    nats: Nats,
    replicas: Vec<Replica>,
}

async fn start(up: &Up) -> Result<LocalStack, String> {
    let folder = state::folder();
    let secrets = folder.join("secrets");
    // kept with the data, so that tokens of the last time stay good
    let kept = std::fs::read_to_string(&secrets).unwrap_or_default();
    let (password, jwt_secret) = match kept.split_once('\n') {
        Some((password, jwt_secret)) => (password.to_owned(), jwt_secret.to_owned()),
        None => (run::secret()?, run::secret()?),
    };
    std::fs::write(&secrets, format!("{password}\n{jwt_secret}")).map_err(|error| error.to_string())?;
    for service in SERVICES {
        let _ = std::fs::remove_file(held(service));
    }
    let mut state = State { supervisor: std::process::id(), password: password.clone(), jwt_secret, ..State::default() };
    let (postgres, nats) = {
        let _step = Step::begin("postgres and nats-server");
        let mut postgres = Postgres::start(&folder, &password, &[])?;
        state.processes.push(Running { name: "postgres".into(), pid: postgres.process().pid(), url: None });
        let mut nats = Nats::start(&folder, &password)?;
        state.processes.push(Running { name: "nats-server".into(), pid: nats.process().pid(), url: None });
        state.nats = nats.address();
        state.database = postgres.url("admin", DATABASE);
        state.write()?;
        postgres.ready().await?;
        nats.ready().await?;
        (postgres, nats)
    };
    let profile = if up.release { "release" } else { "debug" };
    state.binaries = testkit::binaries()?.parent().map(std::path::PathBuf::from).unwrap_or_default().join(profile);
    let mut settings = Settings {
        binaries: state.binaries.clone(),
        logs: folder.clone(),
        database: state.database.clone(),
        nats: state.nats.clone(),
        password: password.clone(),
        jwt_secret: state.jwt_secret.clone(),
        environment: "development".into(),
        variables: vec![],
    };
    settings
        .variables
        .extend(["SMTP_URL", "MAIL_FROM", "RUST_LOG"].into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))));
    {
        let _step = Step::begin("roles, schemas, migrations");
        database::create(&postgres.url("admin", "postgres"), DATABASE).await?;
        database::provision(&state.database, &password).await?;
        settings.migrate()?;
    }
    let _step = Step::begin("services");
    let wanted: BTreeMap<&str, usize> = up.scale.iter().map(|(service, number)| (service.as_str(), *number)).collect();
    let mut replicas = Vec::new();
    for service in SERVICES {
        for number in 1..=wanted.get(service).copied().unwrap_or(1) {
            replicas.push(settings.start(service, number)?);
        }
    }
    let mut stack = LocalStack { state, settings, postgres, nats, replicas };
    stack.note_processes()?;
    for replica in &mut stack.replicas {
        replica.ready().await?;
    }
    stack.state.gateway = stack.replicas.iter().find(|replica| replica.service == "gateway").map(Replica::url).unwrap_or_default();
    stack.state.write()?;
    stack.state.write_env()?;
    Ok(stack)
}

impl LocalStack {
    fn note_processes(&mut self) -> Result<(), String> {
        self.state.processes.truncate(2);
        for replica in &self.replicas {
            let name = if replica.number == 1 { replica.service.clone() } else { format!("{}-{}", replica.service, replica.number) };
            self.state.processes.push(Running { name, pid: replica.process.pid(), url: Some(replica.url()) });
        }
        self.state.write()
    }

    /// Starts again what ends, until somebody asks to stop.
    async fn keep_running(&mut self) -> Result<(), String> {
        let stop = asked_to_stop();
        tokio::pin!(stop);
        let mut ended_at: BTreeMap<usize, Instant> = BTreeMap::new();
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let folder = state::folder();
            if !self.postgres.process().is_running() {
                eprintln!("postgres ended; starting it again");
                self.postgres = Postgres::start_on(&folder, &self.settings.password, &[], self.postgres.port())?;
                self.state.processes[0].pid = self.postgres.process().pid();
                self.state.write()?;
            }
            if !self.nats.process().is_running() {
                eprintln!("nats-server ended; starting it again");
                self.nats = Nats::start_on(&folder, &self.settings.password, self.nats.port())?;
                self.state.processes[1].pid = self.nats.process().pid();
                self.state.write()?;
            }
            let mut changed = false;
            for (position, replica) in self.replicas.iter_mut().enumerate() {
                if replica.process.is_running() {
                    ended_at.remove(&position);
                } else if is_held(&replica.service) {
                    // somebody stopped it, and starts it again
                } else if ended_at.entry(position).or_insert_with(Instant::now).elapsed() >= RESTART_PAUSE {
                    eprintln!("{} ended; starting it again", replica.service);
                    ended_at.remove(&position);
                    let log = self.settings.logs.join(format!("{}-{}.log", replica.service, replica.number));
                    replica.process = Process::start(&replica.service, &mut self.settings.command(&replica.service, replica.port), &log)?;
                    changed = true;
                }
            }
            if changed {
                self.note_processes()?;
            }
        }
    }

    fn stop(&mut self) {
        println!("stopping ...");
        for replica in &self.replicas {
            signal(replica.process.pid(), "TERM");
        }
        for replica in &mut self.replicas {
            replica.process.stop("TERM");
        }
        self.nats.stop();
        self.postgres.stop();
        State::remove();
    }
}

/// The mark of a service that shall stay stopped.
fn held(service: &str) -> std::path::PathBuf {
    state::folder().join(format!("{service}.held"))
}

fn is_held(service: &str) -> bool {
    held(service).exists()
}

fn known(service: &str) -> Result<(), String> {
    if SERVICES.contains(&service) { Ok(()) } else { Err(format!("{service:?} is not one of {}", SERVICES.join(", "))) }
}

/// Stops all replicas of a service and leaves it stopped.
pub fn hold(service: &str) -> Result<(), String> {
    known(service)?;
    let state = State::read()?;
    std::fs::write(held(service), "").map_err(|error| format!("{}: {error}", held(service).display()))?;
    let of_service =
        |name: &str| name == service || name.strip_prefix(service).is_some_and(|rest| rest.trim_start_matches('-').parse::<u32>().is_ok());
    for process in state.processes.iter().filter(|process| of_service(&process.name)) {
        signal(process.pid, "TERM");
        let since = Instant::now();
        while is_alive(process.pid, service) && since.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(LOOK);
        }
    }
    println!("{service} is stopped; `cargo xtask start {service}` starts it again");
    Ok(())
}

/// Has a service started again that was stopped.
pub fn release(service: &str) -> Result<(), String> {
    known(service)?;
    State::read()?;
    if !is_held(service) {
        return Err(format!("{service} was not stopped"));
    }
    std::fs::remove_file(held(service)).map_err(|error| format!("{}: {error}", held(service).display()))
}

/// Runs a service's binary by hand, in its environment.
pub fn exec(service: &str, words: &[String]) -> Result<(), String> {
    known(service)?;
    let state = State::read()?;
    let settings = Settings {
        binaries: state.binaries.clone(),
        logs: state::folder(),
        database: state.database.clone(),
        nats: state.nats.clone(),
        password: state.password.clone(),
        jwt_secret: state.jwt_secret.clone(),
        environment: "development".into(),
        variables: vec![],
    };
    let status = settings.command(service, 0).args(words).status().map_err(|error| format!("{service}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{service} {}: {status}", words.join(" "))) }
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Stops what `up --detach` left running.
pub fn down() -> Result<(), String> {
    let state = match State::read() {
        Ok(state) => state,
        Err(why) => {
            // a supervisor that was killed may have left processes behind
            clean_up();
            println!("{why}");
            return Ok(());
        }
    };
    signal(state.supervisor, "TERM");
    let since = Instant::now();
    while is_alive(state.supervisor, "xtask") {
        if since.elapsed() > Duration::from_secs(60) {
            return Err("the stack does not stop; see target/local/up.log".into());
        }
        std::thread::sleep(LOOK);
    }
    println!("stopped");
    Ok(())
}
