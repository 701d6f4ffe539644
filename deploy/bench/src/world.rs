//! The servers and services of one measurement, and what they use of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sqlx::PgPool;
use testkit::nats::Nats;
use testkit::postgres::{self, Postgres};
use testkit::process::Process;
use testkit::stack::{Replica, Settings};
use testkit::{SERVICES, TEST_PASSWORD, database};

use crate::check;
use crate::fixture::{self, Firm, Shape};

/// Settings of the Postgres that both sides use: durable, and with memory as a server of this size would have.
const POSTGRES: [&str; 6] = [
    "shared_buffers=2GB",
    "min_wal_size=4GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "random_page_cost=1.1",
    "shared_preload_libraries=pg_stat_statements",
];
/// Rows of pgbench's tables, in hundred thousands of accounts.
const PGBENCH_SCALE: &str = "10";
/// Clients of pgbench.
const PGBENCH_CLIENTS: &str = "8";
/// Segments of the write-ahead log that are there before the load, as on a server that has run for a while: it uses old
/// segments again, where a new server fills each with zeros and syncs it first, and everybody waits.
const WAL_SEGMENTS: i32 = 160;
/// Everything is handled when nothing was left to do at two looks this far apart.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for everything to be handled: a rebuild reads millions of events.
pub const DRAIN_MAX: Duration = Duration::from_secs(900);
/// Secret that tokens are signed with.
const JWT_SECRET: &str = "bench-secret-bench-secret-bench-secret";

/// Servers, services and the firm in them.
pub struct World {
    /// Database server.
    pub postgres: Postgres,
    /// Broker.
    pub nats: Nats,
    /// How services are started.
    pub settings: Settings,
    /// The services.
    pub replicas: Vec<Replica>,
    /// A superuser's connections.
    pub database: PgPool,
    /// The broker, as one who may look at everything.
    pub ops: async_nats::Client,
    /// The firm.
    pub firm: Firm,
    /// Payments that the firm had at first, and when the load began.
    stored: u64,
    began: chrono::DateTime<chrono::Utc>,
    folder: PathBuf,
}

impl World {
    /// Starts everything with a firm of this shape; `scale` has the replicas of services that shall have several.
    pub async fn start(shape: Shape, scale: &[(String, usize)]) -> Result<World, String> {
        let folder = &testkit::local().join("bench");
        postgres::forget(folder);
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut postgres = Postgres::start(folder, TEST_PASSWORD, &POSTGRES)?;
        postgres.ready().await?;
        let mut nats = Nats::start(folder, TEST_PASSWORD)?;
        nats.ready().await?;
        let server = postgres.url("admin", "postgres");
        for name in ["tranche", "pgbench"] {
            database::create(&server, name).await?;
        }
        let address = postgres.url("admin", "tranche");
        database::provision(&address, TEST_PASSWORD).await?;
        let settings = Settings {
            binaries: testkit::binaries()?,
            logs: folder.to_path_buf(),
            database: address.clone(),
            nats: nats.address(),
            password: TEST_PASSWORD.into(),
            jwt_secret: JWT_SECRET.into(),
            environment: "development".into(),
            variables: vec![("RUST_LOG".into(), "warn".into())],
        };
        settings.migrate()?;
        let database = PgPool::connect(&address).await.map_err(|error| error.to_string())?;
        sqlx::raw_sql("create extension pg_stat_statements").execute(&database).await.map_err(|error| error.to_string())?;
        let since = Instant::now();
        let firm = fixture::load(&database, shape).await?;
        println!("  fixture: {} lines, {} payments in {:.1} s", firm.lines.len(), shape.payments, since.elapsed().as_secs_f64());
        run(postgres::programs()?.join("pgbench"), &["-i", "-q", "-s", PGBENCH_SCALE, &postgres.url("admin", "pgbench")])?;
        let ops = testkit::nats::connect(&nats.url("ops")).await?;
        let (stored, began) = (shape.payments as u64, chrono::Utc::now());
        let folder = folder.to_path_buf();
        let mut world = World { postgres, nats, settings, replicas: vec![], database, ops, firm, stored, began, folder };
        for service in SERVICES {
            let wanted = scale.iter().find(|(name, _)| name == service).map_or(1, |(_, number)| *number);
            for number in 1..=wanted {
                world.replicas.push(world.settings.start(service, number)?);
            }
        }
        for replica in &mut world.replicas {
            replica.ready().await?;
        }
        world.settle().await?;
        let memory: Vec<String> = world.memory().iter().map(|(service, mib)| format!("{service} {mib:.0}")).collect();
        println!("  idle, MiB: {}", memory.join(", "));
        Ok(world)
    }

    /// Writes everything that was loaded to disk, and makes the write-ahead log's segments.
    async fn settle(&self) -> Result<(), String> {
        let segments = format!(
            "do $$ begin
                for segment in 1..{WAL_SEGMENTS} loop
                    perform pg_logical_emit_message(false, 'bench', 'a segment'), pg_switch_wal();
                end loop;
             end $$"
        );
        for statement in [segments.as_str(), "checkpoint"] {
            sqlx::raw_sql(statement).execute(&self.database).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Stops services.
    pub fn stop_services(&mut self, services: &[&str]) {
        for replica in self.replicas.iter_mut().filter(|replica| services.contains(&replica.service.as_str())) {
            replica.process.stop("TERM");
        }
    }

    /// Starts services again that were stopped, each replica on its port.
    pub async fn start_again(&mut self, services: &[&str]) -> Result<(), String> {
        for replica in self.replicas.iter_mut().filter(|replica| services.contains(&replica.service.as_str())) {
            let log = self.folder.join(format!("{}-{}.log", replica.service, replica.number));
            let mut command = self.settings.command(&replica.service, replica.port);
            replica.process = Process::start(&replica.service, &mut command, &log)?;
        }
        for replica in &mut self.replicas {
            replica.ready().await?;
        }
        Ok(())
    }

    /// Removes the durable consumers of services, so that they read from the beginning.
    pub async fn forget_readers(&self, services: &[&str]) -> Result<(), String> {
        for name in self.readers().await?.into_iter().map(|consumer| consumer.name) {
            if services.iter().any(|service| name.starts_with(&format!("{service}__"))) {
                let subject = format!("$JS.API.CONSUMER.DELETE.EVENTS.{name}");
                self.ops.request(subject, "".into()).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes the broker's whole store away, as a lost disk would.
    pub async fn wipe_broker(&mut self) -> Result<(), String> {
        self.nats.process().kill();
        std::fs::remove_dir_all(self.folder.join("jetstream")).map_err(|error| error.to_string())?;
        self.nats = Nats::start_on(&self.folder, TEST_PASSWORD, self.nats.port())?;
        self.nats.ready().await
    }

    /// Events of the owners' logs that belong to the stream of events.
    pub async fn logged(&self) -> Result<u64, String> {
        let owners = SERVICES.iter().filter(|service| **service != "gateway").map(|service| database::schema_of(service));
        let parts: Vec<String> =
            owners.map(|schema| format!("(select count(*) from {schema}.event_log where stream = 'EVENTS')")).collect();
        let statement = format!("select {}", parts.join(" + "));
        let rows: i64 = sqlx::query_scalar(&statement).fetch_one(&self.database).await.map_err(|error| error.to_string())?;
        Ok(rows.unsigned_abs())
    }

    /// Events in the stream.
    pub async fn published(&self) -> Result<u64, String> {
        let stream = async_nats::jetstream::new(self.ops.clone()).get_stream("EVENTS").await.map_err(|error| error.to_string())?;
        Ok(stream.cached_info().state.messages)
    }

    /// The independent check; an error says what is wrong.
    pub async fn check(&self, accepted: u64) -> Result<(), String> {
        self.settled().await?;
        let parked = self.rows("dead_letters").await?;
        if parked > 0 {
            return Err(format!("{parked} messages could not be handled"));
        }
        check::run(&self.database, self.began, self.stored, accepted).await
    }

    /// Address of the gateway.
    pub fn gateway(&self) -> String {
        self.replicas.iter().find(|replica| replica.service == "gateway").map(Replica::url).unwrap_or_default()
    }

    /// The folder of the servers' data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Address of the database server for its superuser.
    pub fn server(&self) -> String {
        self.postgres.url("admin", "postgres")
    }

    /// A bearer token for these roles.
    pub fn token(&self, roles: &[&str]) -> String {
        testkit::client::token(JWT_SECRET, roles[0], roles, None, 86_400)
    }

    /// A connection that may send commands.
    pub async fn sender(&self) -> Result<async_nats::Client, String> {
        let options = async_nats::ConnectOptions::with_user_and_password("gateway".into(), TEST_PASSWORD.into());
        let options = options.custom_inbox_prefix("_INBOX_gateway").request_timeout(Some(Duration::from_secs(30)));
        options.connect(self.nats.address()).await.map_err(|error| error.to_string())
    }

    /// A connection of the deal system.
    pub async fn deal_system(&self) -> Result<async_nats::Client, String> {
        testkit::nats::connect(&self.nats.url("deals")).await
    }

    /// Transactions a second of pgbench's TPC-B-like script.
    pub fn pgbench(&self, seconds: u64) -> Result<f64, String> {
        let time = seconds.to_string();
        let address = self.postgres.url("admin", "pgbench");
        let line = ["-c", PGBENCH_CLIENTS, "-j", "2", "-T", &time, "-n", &address];
        let output = run(postgres::programs()?.join("pgbench"), &line)?;
        let tps = output.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.ok_or_else(|| format!("pgbench printed no tps:\n{output}"))
    }

    /// Waits until every event is published and every reader has committed and acknowledged it; returns how long that took.
    pub async fn drained(&self) -> Result<Duration, String> {
        self.wait_for_none("outbox_pending").await
    }

    /// The same, and until every summary is published.
    pub async fn settled(&self) -> Result<Duration, String> {
        self.wait_for_none("summaries_due").await?;
        self.drained().await
    }

    async fn wait_for_none(&self, table: &str) -> Result<Duration, String> {
        let since = Instant::now();
        let mut quiet = 0;
        while quiet < 2 {
            if since.elapsed() > DRAIN_MAX {
                let late: Vec<String> =
                    self.readers().await?.iter().filter(|one| one.waits() > 0).map(|one| format!("{} {}", one.name, one.waits())).collect();
                return Err(format!(
                    "not everything was handled within {} s: {} rows of {table}, {}",
                    DRAIN_MAX.as_secs(),
                    self.rows(table).await?,
                    late.join(", ")
                ));
            }
            let unread: u64 = self.readers().await?.iter().map(Consumer::waits).sum();
            quiet = if self.rows(table).await? + unread == 0 { quiet + 1 } else { 0 };
            tokio::time::sleep(LOOK).await;
        }
        Ok(since.elapsed().saturating_sub(2 * LOOK))
    }

    /// Rows of a table of the shell, in all services.
    async fn rows(&self, table: &str) -> Result<u64, String> {
        let owners = SERVICES.iter().filter(|service| **service != "gateway").map(|service| database::schema_of(service));
        let parts: Vec<String> = owners.map(|schema| format!("(select count(*) from {schema}.{table})")).collect();
        let statement = format!("select {}", parts.join(" + "));
        let rows: i64 = sqlx::query_scalar(&statement).fetch_one(&self.database).await.map_err(|error| error.to_string())?;
        Ok(rows.unsigned_abs())
    }

    /// The durable consumers of the stream of events.
    async fn readers(&self) -> Result<Vec<Consumer>, String> {
        let reply = self.ops.request("$JS.API.CONSUMER.LIST.EVENTS", "{}".into()).await.map_err(|error| error.to_string())?;
        let list: Consumers = serde_json::from_slice(&reply.payload).map_err(|error| error.to_string())?;
        Ok(list.consumers.into_iter().filter(|consumer| consumer.config.durable_name.is_some()).collect())
    }

    /// Bytes of the stream of events, and of WAL written so far.
    pub async fn bytes(&self) -> Result<(f64, f64), String> {
        let stream = async_nats::jetstream::new(self.ops.clone()).get_stream("EVENTS").await.map_err(|error| error.to_string())?;
        let wal: f64 = sqlx::query_scalar("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8")
            .fetch_one(&self.database)
            .await
            .map_err(|error| error.to_string())?;
        Ok((stream.cached_info().state.bytes as f64, wal))
    }

    /// Processor seconds used so far, by process; those of Postgres by the service whose connection it is.
    pub fn processor(&mut self) -> BTreeMap<String, f64> {
        let mut used = BTreeMap::new();
        let own = std::process::id();
        let mut note = |name: String, pid: u32| *used.entry(name).or_insert(0.0) += processor_seconds(pid);
        note("load generator".into(), own);
        note("nats-server".into(), self.nats.process().pid());
        for replica in &self.replicas {
            note(replica.service.clone(), replica.process.pid());
        }
        let postmaster = self.postgres.process().pid();
        for (pid, line) in children(postmaster) {
            let role = line.strip_prefix("postgres: ").and_then(|rest| rest.split(' ').next()).unwrap_or_default().replace('_', "-");
            let name = if SERVICES.contains(&role.as_str()) { format!("postgres for {role}") } else { "postgres itself".into() };
            note(name, pid);
        }
        used
    }

    /// Resident MiB of each service.
    pub fn memory(&self) -> BTreeMap<String, f64> {
        self.replicas.iter().map(|replica| (replica.service.clone(), resident_mib(replica.process.pid()))).collect()
    }

    /// Stops everything and removes the data.
    pub async fn stop(mut self) {
        for replica in &mut self.replicas {
            replica.process.stop("TERM");
        }
        self.database.close().await;
        self.nats.stop();
        self.postgres.stop();
        postgres::forget(&self.folder);
    }
}

/// What the broker says of its consumers.
#[derive(Deserialize)]
struct Consumers {
    #[serde(default)]
    consumers: Vec<Consumer>,
}

#[derive(Deserialize)]
struct Consumer {
    name: String,
    config: ConsumerConfig,
    num_pending: u64,
    num_ack_pending: u64,
}

impl Consumer {
    /// Messages that it has not acknowledged.
    fn waits(&self) -> u64 {
        self.num_pending + self.num_ack_pending
    }
}

#[derive(Deserialize)]
struct ConsumerConfig {
    durable_name: Option<String>,
}

fn run(program: PathBuf, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(&program).args(arguments).output().map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ticks of the system's clock for processor time; Linux has used this number everywhere for decades.
const TICKS_A_SECOND: f64 = 100.0;

fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |position: usize| fields.get(position).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1_024.0
}

/// The children of a process, with their command lines.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(parent.to_string().as_str())
    };
    let line = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    pids.filter(is_child).map(|pid| (pid, line(pid))).collect()
}
