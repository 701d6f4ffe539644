//! The servers and services of one scenario, as the nemesis sees them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use testkit::nats::Nats;
use testkit::postgres::{self, Postgres};
use testkit::process::{Process, free_port};
use testkit::proxy::Proxy;
use testkit::stack::{Replica, Settings};
use testkit::{SERVICES, TEST_PASSWORD, database};

/// Secret that tokens are signed with.
const JWT_SECRET: &str = "chaos-secret-chaos-secret-chaos-secret";
/// Bytes of the broker's own disk, where it can be filled.
const DISK_BYTES: u64 = 256 << 20;
/// Longest wait for an administrator's connection to the database.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// What a scenario needs of the servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Whether each service reaches its servers by proxies.
    pub proxied: bool,
    /// Whether the broker is a cluster of three.
    pub clustered: bool,
    /// Whether the broker has a small disk of its own.
    pub small_disk: bool,
    /// Replicas of each service.
    pub replicas: usize,
}

/// The ways of one service to its servers.
#[derive(Debug)]
pub struct Lanes {
    /// To the broker.
    pub broker: Proxy,
    /// To the database.
    pub database: Proxy,
}

/// Everything that runs.
pub struct World {
    /// Folder of the servers' data and of all logs.
    pub folder: PathBuf,
    /// The database server; none while it is down.
    pub postgres: Option<Postgres>,
    postgres_port: u16,
    /// The brokers, one or three; none for one that is down.
    pub brokers: Vec<Option<Nats>>,
    broker_ports: Vec<u16>,
    routes: Vec<u16>,
    shape: Shape,
    settings: Settings,
    /// The services' ways to their servers, where they are proxied.
    pub lanes: BTreeMap<&'static str, Lanes>,
    /// The replicas, also those that are down.
    pub replicas: Vec<Replica>,
    /// Addresses of the gateways, for the clients.
    pub gateways: Arc<RwLock<Vec<String>>>,
    /// A superuser's connections.
    pub database: PgPool,
    /// One who may look at everything of the broker.
    pub ops: async_nats::Client,
}

impl World {
    /// Starts everything and waits until it is ready.
    pub async fn start(folder: &Path, shape: Shape) -> Result<World, String> {
        postgres::forget(folder);
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut postgres = Postgres::start(folder, TEST_PASSWORD, &[])?;
        postgres.ready().await?;
        database::create(&postgres.url("admin", "postgres"), "tranche").await?;
        let address = postgres.url("admin", "tranche");
        database::provision(&address, TEST_PASSWORD).await?;
        let nodes = if shape.clustered { 3 } else { 1 };
        let ports = |count: usize| (0..count).map(|_| free_port()).collect::<Result<Vec<_>, _>>();
        let (broker_ports, routes) = (ports(nodes)?, ports(nodes)?);
        let mut variables = vec![("RUST_LOG".to_owned(), "info".to_owned())];
        if shape.clustered {
            variables.push(("NATS_REPLICAS".into(), "3".into()));
        }
        let addresses: Vec<String> = broker_ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let settings = Settings {
            binaries: testkit::binaries()?,
            logs: folder.to_path_buf(),
            database: address.clone(),
            nats: addresses.join(","),
            password: TEST_PASSWORD.into(),
            jwt_secret: JWT_SECRET.into(),
            environment: "development".into(),
            variables,
        };
        settings.migrate()?;
        let pool = PgPoolOptions::new().acquire_timeout(CONNECT_WITHIN).connect(&address).await.map_err(|error| error.to_string())?;
        if shape.small_disk {
            mount(&folder.join("jetstream"))?;
        }
        let mut brokers = Vec::new();
        for number in 0..nodes {
            brokers.push(Some(start_broker(folder, shape, &broker_ports, &routes, number)?));
        }
        for broker in brokers.iter_mut().flatten() {
            broker.ready().await?;
        }
        let ops = connect(&addresses, "ops").await?;
        let mut world = World {
            folder: folder.to_path_buf(),
            postgres_port: postgres.port(),
            postgres: Some(postgres),
            brokers,
            broker_ports,
            routes,
            shape,
            settings,
            lanes: BTreeMap::new(),
            replicas: vec![],
            gateways: Arc::default(),
            database: pool,
            ops,
        };
        world.start_services().await?;
        Ok(world)
    }

    async fn start_services(&mut self) -> Result<(), String> {
        for service in SERVICES {
            if self.shape.proxied {
                let (broker, database) = (Proxy::start(self.broker_ports[0]).await?, Proxy::start(self.postgres_port).await?);
                self.lanes.insert(service, Lanes { broker, database });
            }
            for number in 1..=self.shape.replicas.max(1) {
                let replica = self.settings_of(service).start(service, number)?;
                self.replicas.push(replica);
            }
        }
        for replica in &mut self.replicas {
            replica.ready().await?;
        }
        self.note_gateways();
        Ok(())
    }

    fn note_gateways(&self) {
        let urls = self.replicas.iter().filter(|replica| replica.service == "gateway").map(Replica::url).collect();
        if let Ok(mut gateways) = self.gateways.write() {
            *gateways = urls;
        }
    }

    /// How a service is started.
    pub fn settings_of(&self, service: &str) -> Settings {
        let mut settings = self.settings.clone();
        if let Some(lanes) = self.lanes.get(service) {
            settings.nats = format!("nats://127.0.0.1:{}", lanes.broker.port());
            settings.database = settings.database.replace(&format!(":{}/", self.postgres_port), &format!(":{}/", lanes.database.port()));
        }
        settings
    }

    /// Address of the database for its superuser, past all proxies.
    pub fn address(&self) -> String {
        self.settings.database.clone()
    }

    /// The secret that tokens are signed with.
    pub fn secret(&self) -> &str {
        &self.settings.jwt_secret
    }

    /// A connection to the broker as a user.
    pub async fn nats_as(&self, user: &str) -> Result<async_nats::Client, String> {
        let addresses: Vec<String> = self.broker_ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        connect(&addresses, user).await
    }

    /// The replica of a service that was started first.
    pub fn replica(&mut self, service: &str) -> Result<&mut Replica, String> {
        let found = self.replicas.iter_mut().find(|replica| replica.service == service);
        found.ok_or_else(|| format!("{service} has no replica"))
    }

    /// Starts a replica again whose process has ended, on its port, with further variables; does not wait for it.
    pub fn start_again(&mut self, service: &str, variables: &[(&str, &str)]) -> Result<(), String> {
        let settings = self.settings_of(service);
        let folder = self.folder.clone();
        let replica = self.replica(service)?;
        let mut command = settings.command(service, replica.port);
        command.envs(variables.iter().copied());
        replica.process = Process::start(service, &mut command, &folder.join(format!("{service}-{}.log", replica.number)))?;
        Ok(())
    }

    /// Starts one more replica of a service and waits until it is ready.
    pub async fn add_replica(&mut self, service: &'static str) -> Result<(), String> {
        let number = 1 + self.replicas.iter().filter(|replica| replica.service == service).map(|replica| replica.number).max().unwrap_or(0);
        let mut replica = self.settings_of(service).start(service, number)?;
        replica.ready().await?;
        self.replicas.push(replica);
        self.note_gateways();
        Ok(())
    }

    /// Whether the replica of a service that was started last says that it is ready.
    pub async fn newest_answers(&self, service: &str) -> bool {
        let newest = self.replicas.iter().rev().find(|replica| replica.service == service);
        let Some(replica) = newest else { return false };
        testkit::client::readiness(&replica.url()).await.is_some_and(|ready| ready["status"] == "ready")
    }

    /// Kills the replica of a service that was started last, and forgets it.
    pub fn kill_newest_replica(&mut self, service: &str) -> Result<(), String> {
        let place =
            self.replicas.iter().rposition(|replica| replica.service == service).ok_or_else(|| format!("{service} has no replica"))?;
        drop(self.replicas.remove(place));
        self.note_gateways();
        Ok(())
    }

    /// Starts what is down, and waits until every replica is ready.
    pub async fn heal(&mut self) -> Result<(), String> {
        for lanes in self.lanes.values() {
            lanes.broker.heal();
            lanes.database.heal();
        }
        self.start_postgres().await?;
        for number in 0..self.brokers.len() {
            self.start_broker(number).await?;
        }
        for place in 0..self.replicas.len() {
            let (service, number) = (self.replicas[place].service.clone(), self.replicas[place].number);
            if !self.replicas[place].process.is_running() {
                let mut command = self.settings_of(&service).command(&service, self.replicas[place].port);
                let log = self.folder.join(format!("{service}-{number}.log"));
                self.replicas[place].process = Process::start(&service, &mut command, &log)?;
            }
        }
        for replica in &mut self.replicas {
            replica.ready().await?;
        }
        Ok(())
    }

    /// Starts the database server if it is down.
    pub async fn start_postgres(&mut self) -> Result<(), String> {
        if self.postgres.is_none() {
            let mut postgres = Postgres::start_on(&self.folder, TEST_PASSWORD, &[], self.postgres_port)?;
            postgres.ready().await?;
            self.postgres = Some(postgres);
        }
        Ok(())
    }

    /// Starts a broker if it is down.
    pub async fn start_broker(&mut self, number: usize) -> Result<(), String> {
        if self.brokers[number].is_none() {
            let mut broker = start_broker(&self.folder, self.shape, &self.broker_ports, &self.routes, number)?;
            broker.ready().await?;
            self.brokers[number] = Some(broker);
        }
        Ok(())
    }

    /// The broker's store, as it stands in the file system.
    pub fn store(&self, number: usize) -> PathBuf {
        broker_folder(&self.folder, self.shape, number).join("jetstream")
    }

    /// Stops everything and removes the servers' data; the logs and the journal stay.
    pub async fn stop(mut self) {
        for replica in &mut self.replicas {
            replica.process.kill();
        }
        self.database.close().await;
        for broker in self.brokers.iter_mut().flatten() {
            broker.process().kill();
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.process().stop("QUIT");
        }
        postgres::forget(&self.folder);
        if self.shape.small_disk {
            let _ = Command::new("umount").arg(self.store(0)).status();
        }
        for number in 0..self.brokers.len() {
            let _ = std::fs::remove_dir_all(self.store(number));
        }
    }
}

/// Puts a small disk of its own under the broker's store. It is seen by this program and its children only, and goes with them.
fn mount(store: &Path) -> Result<(), String> {
    std::fs::create_dir_all(store).map_err(|error| format!("{}: {error}", store.display()))?;
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"]).arg(store);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("a disk that can be filled needs root: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("mount: {error}")),
    }
}

fn broker_folder(folder: &Path, shape: Shape, number: usize) -> PathBuf {
    if shape.clustered { folder.join(format!("nats-{number}")) } else { folder.to_path_buf() }
}

fn start_broker(folder: &Path, shape: Shape, ports: &[u16], routes: &[u16], number: usize) -> Result<Nats, String> {
    let (own, port) = (broker_folder(folder, shape, number), ports[number]);
    if shape.clustered {
        return Nats::start_in_cluster(&own, TEST_PASSWORD, port, number, routes);
    }
    Nats::start_on(&own, TEST_PASSWORD, port)
}

async fn connect(addresses: &[String], user: &str) -> Result<async_nats::Client, String> {
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), TEST_PASSWORD.into());
    let options = options.retry_on_initial_connect().request_timeout(Some(Duration::from_secs(5)));
    options.connect(addresses).await.map_err(|error| format!("nats: {error}"))
}
