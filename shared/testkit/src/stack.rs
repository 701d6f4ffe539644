//! The whole system: servers, seven services, and clients of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::client::{Client, readiness, token};
use crate::nats::Nats;
use crate::process::{self, Process, free_port};
use crate::{SERVICES, TEST_PASSWORD, binaries, database};

/// Folders of stacks under the system's folder for temporary files.
const FOLDER_PREFIX: &str = "tranche-s_";
/// File with the ids of a stack's processes, the test's own first.
const PIDS: &str = "pids";

/// A service is ready within this time, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How services are started and reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the binaries.
    pub binaries: PathBuf,
    /// Folder for logs.
    pub logs: PathBuf,
    /// Address of the database for a superuser.
    pub database: String,
    /// Address of NATS without a user.
    pub nats: String,
    /// Password of every role and user.
    pub password: String,
    /// Secret that tokens are signed with.
    pub jwt_secret: String,
    /// Name of the deployment.
    pub environment: String,
    /// Further variables for every service.
    pub variables: Vec<(String, String)>,
}

impl Settings {
    /// The command of a service, with its environment.
    pub fn command(&self, service: &str, port: u16) -> Command {
        let schema = database::schema_of(service);
        let name = self.database.rsplit('/').next().unwrap_or_default();
        let mut command = Command::new(self.binaries.join(service));
        command
            .env("DATABASE_URL", self.with_password(&schema, name))
            .env("MIGRATE_DATABASE_URL", self.with_password(&format!("{schema}_owner"), name))
            .env("NATS_URL", &self.nats)
            .env("NATS_USER", service)
            .env("NATS_PASSWORD", &self.password)
            .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("ENCRYPTION_KEYS_FILE", self.logs.join("encryption-keys"))
            .env("TRANCHE_ENV", &self.environment)
            .env("CLOCK_SETTABLE", "true")
            .env("JWT_SECRET", &self.jwt_secret)
            .envs(self.variables.iter().cloned());
        command
    }

    fn with_password(&self, user: &str, name: &str) -> String {
        let address = database::address(&self.database, user, name);
        let host = address.rsplit('@').next().unwrap_or_default().to_owned();
        format!("postgres://{user}:{}@{host}", self.password)
    }

    /// Makes the file with the keys under which records are sealed, where there is none.
    pub fn make_keys(&self) -> Result<(), String> {
        let output =
            self.command("capital-calls", 0).args(["new-key", "--write", "--if-missing"]).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(format!("new-key: {}", String::from_utf8_lossy(&output.stderr))) }
    }

    /// Brings the schemas of all services up to date.
    pub fn migrate(&self) -> Result<(), String> {
        self.make_keys()?;
        for service in SERVICES.iter().filter(|service| **service != "gateway") {
            let output = self.command(service, 0).arg("migrate").output().map_err(|error| format!("{service}: {error}"))?;
            if !output.status.success() {
                return Err(format!("{service} migrate: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(())
    }

    /// Starts one replica of a service.
    pub fn start(&self, service: &str, replica: usize) -> Result<Replica, String> {
        let port = free_port()?;
        let process = Process::start(service, &mut self.command(service, port), &self.logs.join(format!("{service}-{replica}.log")))?;
        note_process(&self.logs, process.pid(), service);
        Ok(Replica { service: service.to_owned(), number: replica, port, process })
    }
}

/// Keeps the id of a process, for whoever finds the folder of a test that was killed.
fn note_process(folder: &Path, pid: u32, name: &str) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(folder.join(PIDS)) {
        let _ = writeln!(file, "{pid} {name}");
    }
}

/// One running replica of a service.
#[derive(Debug)]
pub struct Replica {
    /// The service.
    pub service: String,
    /// Its number, from 1.
    pub number: usize,
    /// The port of its HTTP side.
    pub port: u16,
    /// The process.
    pub process: Process,
}

impl Replica {
    /// Address of its HTTP side.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until it can do its work: it, and not another that took its port.
    pub async fn ready(&mut self) -> Result<(), String> {
        let since = Instant::now();
        while self.process.is_running() && since.elapsed() < READY_WITHIN {
            if readiness(&self.url()).await.is_some_and(|body| body["status"] == "ready" && body["service"] == self.service.as_str()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("{} is not ready:\n{}", self.service, self.process.last_output()))
    }
}

/// A stack of its own for one test: a fresh copy of the database, a nats-server, seven services.
#[derive(Debug)]
pub struct Stack {
    /// How its services are started.
    pub settings: Settings,
    /// The broker.
    pub nats: Nats,
    /// The services.
    pub replicas: BTreeMap<String, Replica>,
    folder: PathBuf,
    server: String,
}

impl Stack {
    /// Starts everything and waits until it is ready. Panics with the reason when it cannot.
    pub async fn start() -> Stack {
        Stack::start_with(&[]).await
    }

    /// The same, with further environment variables for the services.
    pub async fn start_with(variables: &[(&str, &str)]) -> Stack {
        Stack::try_start(variables).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start(variables: &[(&str, &str)]) -> Result<Stack, String> {
        let server = std::env::var(database::TEST_SERVER)
            .map_err(|_| format!("{} is not set: run the tests with `cargo xtask test`", database::TEST_SERVER))?;
        let name = format!("s_{}", Uuid::now_v7().simple());
        let folder = std::env::temp_dir().join(format!("tranche-{name}"));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        database::copy_template(&server, &name).await?;
        note_process(&folder, std::process::id(), "stack");
        let mut nats = Nats::start(&folder, TEST_PASSWORD)?;
        note_process(&folder, nats.process().pid(), "nats-server");
        nats.ready().await?;
        let settings = Settings {
            binaries: binaries()?,
            logs: folder.clone(),
            database: database::address(&server, "admin", &name),
            nats: nats.address(),
            password: TEST_PASSWORD.into(),
            jwt_secret: "test-secret-test-secret-test-secret".into(),
            environment: "development".into(),
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        settings.make_keys()?;
        let mut replicas = BTreeMap::new();
        for service in SERVICES {
            replicas.insert(service.to_owned(), settings.start(service, 1)?);
        }
        for replica in replicas.values_mut() {
            replica.ready().await?;
        }
        Ok(Stack { settings, nats, replicas, folder, server })
    }

    /// Address of the gateway.
    pub fn gateway(&self) -> String {
        self.replicas["gateway"].url()
    }

    /// A client with this user and these roles, for every fund.
    pub fn user(&self, user: &str, roles: &[&str]) -> Client {
        Client::new(&self.gateway(), Some(token(&self.settings.jwt_secret, user, roles, None, 3_600)))
    }

    /// A client with a token as it stands.
    pub fn with_token(&self, token: Option<String>) -> Client {
        Client::new(&self.gateway(), token)
    }

    /// A connection to NATS as a user.
    pub async fn nats_as(&self, user: &str) -> async_nats::Client {
        crate::nats::connect(&self.nats.url(user)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The ids of all events that a stream has.
    pub async fn event_ids(&self, stream: &str) -> std::collections::HashSet<Uuid> {
        crate::nats::event_ids(&self.nats_as("ops").await, stream).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A connection to the database as its superuser.
    pub async fn database(&self) -> sqlx::PgPool {
        sqlx::PgPool::connect(&self.settings.database).await.unwrap_or_else(|error| panic!("database: {error}"))
    }

    /// Kills a service as a crash would, and starts it again.
    pub async fn crash(&mut self, service: &str) {
        self.kill(service);
        self.restart(service).await;
    }

    /// Kills a service as a crash would.
    pub fn kill(&mut self, service: &str) {
        if let Some(replica) = self.replicas.get_mut(service) {
            replica.process.kill();
        }
    }

    /// Starts a service that was killed, on the same port, and waits until it is ready.
    pub async fn restart(&mut self, service: &str) {
        self.start_again(service);
        let replica = self.replicas.get_mut(service).unwrap_or_else(|| panic!("{service} is no service"));
        replica.ready().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same, and does not wait.
    pub fn start_again(&mut self, service: &str) {
        let replica = self.replicas.get_mut(service).unwrap_or_else(|| panic!("{service} is no service"));
        let mut command = self.settings.command(service, replica.port);
        let log = self.folder.join(format!("{service}-1.log"));
        replica.process = Process::start(service, &mut command, &log).unwrap_or_else(|error| panic!("{error}"));
        note_process(&self.folder, replica.process.pid(), service);
    }

    /// Moves the clock of all services so many seconds away from the system's; each follows within a moment.
    pub async fn set_clock(&self, seconds: i64) {
        set_clock(&self.nats_as("ops").await, seconds).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The log of a service.
    pub fn log(&self, service: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{service}-1.log"))).unwrap_or_default()
    }

    /// Folder of the stack's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Ends the processes and removes the folders of stacks whose test was killed.
pub fn remove_left_over() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(FOLDER_PREFIX) {
            continue;
        }
        let pids = std::fs::read_to_string(entry.path().join(PIDS)).unwrap_or_default();
        let mut pids = pids.lines().filter_map(|line| line.split_once(' ')).filter_map(|(pid, name)| Some((pid.parse().ok()?, name)));
        if pids.next().is_some_and(|(owner, name)| process::is_alive(owner, name)) {
            continue;
        }
        for (pid, name) in pids.filter(|(pid, name)| process::is_alive(*pid, name)) {
            eprintln!("ending {name} of a test that was killed");
            process::signal(pid, "KILL");
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// Sets the offset of the clock of all services.
pub async fn set_clock(client: &async_nats::Client, seconds: i64) -> Result<(), String> {
    let bucket =
        async_nats::jetstream::new(client.clone()).get_key_value("clock").await.map_err(|error| format!("bucket clock: {error}"))?;
    bucket.put("offset_seconds", seconds.to_string().into()).await.map_err(|error| format!("bucket clock: {error}"))?;
    Ok(())
}

impl Drop for Stack {
    fn drop(&mut self) {
        for replica in self.replicas.values_mut() {
            replica.process.kill();
        }
        self.nats.process().kill();
        if std::thread::panicking() {
            eprintln!("the logs of the stack are kept in {}", self.folder.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.folder);
        let (server, database) = (self.server.clone(), self.settings.database.clone());
        // the runtime of the test is no place to block in: drop the database from a thread of its own
        let dropped = std::thread::spawn(move || {
            let name = database.rsplit('/').next().unwrap_or_default().to_owned();
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = runtime.block_on(database::drop(&server, &name));
            }
        });
        let _ = dropped.join();
    }
}
