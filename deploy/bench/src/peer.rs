//! The peer: what a team would write instead, at equal concurrency over HTTP, with the same durability on the same server.

use std::process::Command;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use testkit::process::{Process, free_port};
use testkit::{TEST_PASSWORD, database};

use crate::load::{self, Door, Form};
use crate::report::Measured;
use crate::world::World;
use crate::{Notes, Plan};

/// Connections of both sides.
const CONCURRENCY: [usize; 3] = [1, 8, 32];
/// The peer listens within this time.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Measures the peer and ourselves in turn; returns how many payments of ours were accepted.
pub async fn measure(world: &mut World, plan: &Plan, notes: &mut Notes) -> Result<u64, String> {
    if !plan.asks_for("peer") {
        return Ok(0);
    }
    let (address, _process) = start(world).await?;
    let lines = world.firm.lines.len() - load::TRACED_LINES;
    let ours_at = world.gateway();
    let mut accepted = 0;
    for _ in 0..plan.runs {
        for in_flight in CONCURRENCY {
            let form = Form { door: Door::Http, in_flight, per_request: 1, rate: None, lines };
            let time = Duration::from_secs(plan.seconds);
            let theirs = load::run_at(world, &address, &form, time).await?;
            let ours = load::run_at(world, &ours_at, &form, time).await?;
            let drained = world.drained().await?;
            accepted += ours.accepted;
            let (theirs_rate, ours_rate) =
                (theirs.accepted as f64 / theirs.elapsed.as_secs_f64(), ours.accepted as f64 / (ours.elapsed + drained).as_secs_f64());
            for (name, rate, outcome) in [("peer", theirs_rate, &theirs), ("peer_ours", ours_rate, &ours)] {
                let mut measured = Measured { rate, ..Measured::default() };
                measured.note_latency("", &outcome.replies);
                measured.figures.insert("ours_to_peer".into(), ours_rate / theirs_rate);
                notes.add(&format!("{name}_http_{in_flight}"), measured);
            }
        }
    }
    Ok(accepted)
}

/// Installs the peer's packages as its lock file names them, and starts it on a database of its own with the firm's lines.
async fn start(world: &World) -> Result<(String, Process), String> {
    let folder = world.folder().join("peer");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let source = testkit::root().join("deploy/bench/peer");
    for file in ["package.json", "package-lock.json", "server.js"] {
        std::fs::copy(source.join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    let installed = Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder).output();
    match installed {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => return Err(format!("npm: {error}; install Node.js 20 or newer, or leave the peer out with --only")),
    }
    database::create(&world.server(), "peer").await?;
    let address = database::address(&world.server(), "admin", "peer");
    let mut connection = PgConnection::connect(&address).await.map_err(|error| error.to_string())?;
    let ids: Vec<String> = world.firm.lines.iter().map(|id| format!("('{id}', 1000000.00, 0)")).collect();
    let schema = include_str!("../peer/schema.sql");
    let statement = format!("{schema} insert into lines (id, amount, paid) values {};", ids.join(","));
    sqlx::raw_sql(&statement).execute(&mut connection).await.map_err(|error| error.to_string())?;
    let port = free_port()?;
    let mut command = Command::new("node");
    command.arg("server.js").current_dir(&folder).env("DATABASE_URL", &address).env("PORT", port.to_string());
    command.env("PGPASSWORD", TEST_PASSWORD).env("NODE_ENV", "production");
    let process = Process::start("node", &mut command, &folder.join("peer.log"))?;
    let listens = || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
    if !testkit::wait::until(READY_WITHIN, listens).await {
        return Err(format!("the peer does not listen:\n{}", process.last_output()));
    }
    Ok((format!("http://127.0.0.1:{port}"), process))
}
