//! How faults are made: signals, files, streams, copies of a schema.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use testkit::process::signal;
use testkit::{database, postgres, wait};

use crate::fault::{Fault, Lane};
use crate::world::World;

/// A message that nobody can read.
pub const POISON: &str = "no deal at all";
/// Messages that are lost at once without a sign.
const LOST_AT_ONCE: u64 = 5;
/// A file that fills the broker's disk is written in pieces of this size.
const PIECE: usize = 64 << 10;
/// Services look at their streams every ten seconds, and publish then.
const STREAM_WITHIN: Duration = Duration::from_secs(20);
/// A process that is told to stand still does so within this time, and files that are deleted again and again are gone.
const FREEZES_WITHIN: Duration = Duration::from_secs(2);

/// Stops a process where it stands; whether it stands.
pub async fn freeze(pid: u32) -> bool {
    signal(pid, "STOP");
    wait::until(FREEZES_WITHIN, || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
    .await
}

/// Lets it go on.
pub fn thaw(pid: u32) {
    signal(pid, "CONT");
}

/// Signals a process and its children; returns how many.
pub fn signal_all(pid: u32, name: &str) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let all: Vec<u32> = std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect();
    for pid in &all {
        signal(*pid, name);
    }
    all.len()
}

/// Signals every process of the database.
pub fn signal_postgres(world: &mut World, name: &str) -> usize {
    world.postgres.as_mut().map_or(0, |postgres| signal_all(postgres.process().pid(), name))
}

/// The broker's streams, as one who may do anything.
pub fn jetstream(world: &World) -> jetstream::Context {
    jetstream::new(world.ops.clone())
}

/// A stream; one that was struck before is waited for until a service has made it anew.
pub async fn stream_that_is_there(world: &World, name: &str) -> Result<jetstream::stream::Stream, String> {
    wait::until(STREAM_WITHIN, || async {
        jetstream(world).get_stream(name).await.is_ok_and(|stream| stream.cached_info().state.messages > 0)
    })
    .await;
    jetstream(world).get_stream(name).await.map_err(|error| error.to_string())
}

/// Kills the broker and takes its store away; whether there was one.
pub fn wipe(world: &mut World) -> Result<bool, String> {
    world.brokers[0] = None;
    let store = world.store(0);
    let there = store.join("jetstream").exists();
    std::fs::remove_dir_all(&store).map_err(|error| format!("{}: {error}", store.display()))?;
    Ok(there)
}

/// Deletes the store under the running broker, which goes on writing meanwhile; whether it is gone.
pub async fn wipe_alive(world: &World) -> bool {
    let store = world.store(0);
    wait::until(FREEZES_WITHIN, || async { std::fs::remove_dir_all(&store).is_ok() || !store.exists() }).await
}

fn copy_of_store(world: &World) -> PathBuf {
    world.folder.join("older-store")
}

/// Copies the store of the broker while it stands still, as a snapshot of its disk.
pub async fn copy_store(world: &mut World) -> Result<bool, String> {
    let (store, copy) = (world.store(0), copy_of_store(world));
    let _ = std::fs::remove_dir_all(&copy);
    let pid = world.brokers[0].as_mut().ok_or("the broker is down")?.process().pid();
    freeze(pid).await;
    let copied = Command::new("cp").arg("-r").arg(&store).arg(&copy).status();
    thaw(pid);
    copied.map(|status| status.success()).map_err(|error| format!("cp: {error}"))
}

/// Puts the copy in the place of the store.
pub fn set_back_store(world: &mut World) -> Result<(), String> {
    let (store, copy) = (world.store(0), copy_of_store(world));
    world.brokers[0] = None;
    std::fs::remove_dir_all(&store).and_then(|()| std::fs::rename(&copy, &store)).map_err(|error| format!("{}: {error}", store.display()))
}

/// Takes some of the newest messages out of the stream of events; returns how many.
pub async fn lose_messages(world: &World) -> Result<u64, String> {
    let stream = stream_that_is_there(world, "EVENTS").await?;
    let last = stream.cached_info().state.last_sequence;
    let mut lost = 0;
    for sequence in (1..=last).rev().take(LOST_AT_ONCE as usize) {
        lost += u64::from(stream.delete_message(sequence).await.is_ok());
    }
    Ok(lost)
}

/// Publishes, as the deal system, a message that nobody can read.
pub async fn send_poison(world: &World) -> Result<(), String> {
    let jetstream = jetstream::new(world.nats_as("deals").await?);
    let published = jetstream.publish("deals.evt.registered", POISON.into()).await.map_err(|error| error.to_string())?;
    published.await.map(drop).map_err(|error| error.to_string())
}

/// Strikes what lies between a service and a server; returns what was felt there before.
pub fn strike_lane(fault: Fault, world: &World) -> Result<i64, String> {
    let (Fault::Cut(service, lane) | Fault::Refuse(service, lane) | Fault::Stall(service, lane) | Fault::HalfOpen(service, lane)) = fault
    else {
        return Err(format!("{fault} is no fault of a connection"));
    };
    let before = felt_on(world, service, lane)?;
    let lanes = world.lanes.get(service).ok_or("the services are not reached by proxies")?;
    let proxy = if lane == Lane::Broker { &lanes.broker } else { &lanes.database };
    match fault {
        Fault::Cut(..) => drop(proxy.cut()),
        Fault::Refuse(..) => proxy.refuse(),
        Fault::Stall(..) => proxy.stall(),
        _ => proxy.half_open(),
    }
    Ok(before)
}

/// What was felt so far between a service and a server.
pub fn felt_on(world: &World, service: &str, lane: Lane) -> Result<i64, String> {
    let lanes = world.lanes.get(service).ok_or("the services are not reached by proxies")?;
    let felt = if lane == Lane::Broker { lanes.broker.felt() } else { lanes.database.felt() };
    Ok(i64::try_from(felt).unwrap_or(i64::MAX))
}

/// Events that were written under a date so many days ahead, a day at least.
pub async fn written_ahead(world: &World, days: i64) -> i64 {
    let written = "select count(*) from capital_calls.event_log where at > now() + make_interval(days => $1 - 1)";
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    sqlx::query_scalar(written).bind(days).fetch_one(&world.database).await.unwrap_or_default()
}

/// The file that fills the broker's disk.
pub fn filler(world: &World) -> PathBuf {
    world.store(0).join("filler")
}

/// Writes to the broker's disk until nothing more fits; whether it got so far.
pub fn fill_disk(world: &World) -> Result<bool, String> {
    let path = filler(world);
    let mut file = std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let piece = vec![1; PIECE];
    loop {
        if let Err(error) = file.write_all(&piece) {
            return Ok(error.kind() == std::io::ErrorKind::StorageFull);
        }
    }
}

fn copy_of_schema(world: &World, service: &str) -> PathBuf {
    world.folder.join(format!("{service}.dump"))
}

fn run(program: &str, arguments: &[&str]) -> Result<bool, String> {
    let output =
        Command::new(postgres::programs()?.join(program)).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(true) } else { Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))) }
}

/// Copies a service's schema.
pub fn copy_schema(world: &World, service: &str) -> Result<bool, String> {
    let (schema, copy, address) = (database::schema_of(service), copy_of_schema(world, service), world.address());
    run("pg_dump", &["--format=custom", "--schema", &schema, "--file", &copy.to_string_lossy(), &address])
}

/// The documented steps: stop the service, set its schema back, raise the epoch, start it.
pub async fn set_back_schema(world: &mut World, service: &'static str) -> Result<(), String> {
    for replica in world.replicas.iter_mut().filter(|replica| replica.service == service) {
        replica.process.kill();
    }
    let (schema, copy, address) = (database::schema_of(service), copy_of_schema(world, service), world.address());
    let statement = format!("drop schema {schema} cascade");
    sqlx::raw_sql(&statement).execute(&world.database).await.map_err(|error| format!("{statement}: {error}"))?;
    run("pg_restore", &["--dbname", &address, &copy.to_string_lossy()])?;
    let raised = world.settings_of(service).command(service, 0).arg("new-epoch").output().map_err(|error| error.to_string())?;
    if raised.status.success() { Ok(()) } else { Err(format!("new-epoch: {}", String::from_utf8_lossy(&raised.stderr))) }
}
