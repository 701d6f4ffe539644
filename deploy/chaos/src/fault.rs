//! The nemesis' means: each fault strikes, is felt or not, and heals.

use std::fmt;
use std::time::{Duration, Instant};

use testkit::wait;

use crate::means::{
    copy_schema, copy_store, felt_on, fill_disk, filler, freeze, jetstream, lose_messages, send_poison, set_back_schema, set_back_store,
    signal_all, signal_postgres, stream_that_is_there, strike_lane, thaw, wipe, wipe_alive, written_ahead,
};
use crate::world::World;

/// A stopping service has finished what is in hand within this time, and a little for the machine.
const STOP_WITHIN: Duration = Duration::from_secs(11);
/// What a service sends or awaits on a connection at the latest: its pings, and what its pool of connections lets lie idle.
const LANE_FELT_WITHIN: Duration = Duration::from_secs(30);
/// A crash point is reached within this time, or nothing leads there.
const CRASH_WITHIN: Duration = Duration::from_secs(30);

/// What lies between a service and one of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The broker.
    Broker,
    /// The database.
    Database,
}

/// One kind of fault and its victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again.
    Kill(&'static str),
    /// SIGSTOP, and SIGCONT.
    Freeze(&'static str),
    /// SIGTERM: it must end by itself in time.
    Terminate(&'static str),
    /// A broker gets SIGKILL.
    KillBroker(usize),
    /// A broker gets SIGSTOP, and SIGCONT.
    FreezeBroker(usize),
    /// The broker's store is gone when it starts again.
    WipeBroker,
    /// The broker's store is deleted while it runs.
    WipeBrokerAlive,
    /// The broker comes back with an older copy of its store.
    SetBackBroker,
    /// A stream is deleted.
    DeleteStream(&'static str),
    /// A stream is emptied.
    EmptyStream(&'static str),
    /// Some messages are gone without a sign.
    LoseMessages,
    /// Two brokers of three get SIGKILL, one after the other.
    LoseTwoBrokers,
    /// `pg_ctl stop -m immediate`.
    KillPostgres,
    /// Every process of the database gets SIGSTOP, and SIGCONT.
    FreezePostgres,
    /// The connections of a service are closed.
    Cut(&'static str, Lane),
    /// The connections of a service are closed, and no new ones taken.
    Refuse(&'static str, Lane),
    /// What a service and its server send waits.
    Stall(&'static str, Lane),
    /// The connections of a service lose their other end and are not told.
    HalfOpen(&'static str, Lane),
    /// The business date jumps ahead by days, and back.
    Clock(i64),
    /// The broker's disk is full.
    FillDisk,
    /// One more replica, killed again.
    AddReplica(&'static str),
    /// The service is started to die at a crash point.
    CrashPoint(&'static str, &'static str),
    /// The service's database is set back to a copy that was made before, with a new epoch.
    SetBack(&'static str),
    /// SIGKILL of all services, the broker and the database at once; the broker's store is gone.
    KillEverything,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}

/// A fault that has struck.
pub struct Struck {
    fault: Fault,
    felt: bool,
    before: i64,
}

/// How a point is armed: the fourth time that it is reached; a message that cannot be handled reaches it once.
fn armed(point: &str) -> String {
    if point.starts_with("letter-") { format!("{point}=1*return") } else { format!("{point}=3*off->return") }
}

/// What a fault strikes.
#[derive(PartialEq, Eq)]
enum Victim {
    Service(&'static str),
    Broker,
    Postgres,
    Clock,
    Everything,
}

impl Fault {
    fn victim(self) -> Victim {
        match self {
            Fault::Kill(service)
            | Fault::Freeze(service)
            | Fault::Terminate(service)
            | Fault::AddReplica(service)
            | Fault::CrashPoint(_, service)
            | Fault::Cut(service, _)
            | Fault::Refuse(service, _)
            | Fault::Stall(service, _)
            | Fault::HalfOpen(service, _) => Victim::Service(service),
            Fault::KillPostgres | Fault::FreezePostgres => Victim::Postgres,
            Fault::Clock(_) => Victim::Clock,
            // copying a schema needs its database
            Fault::SetBack(_) | Fault::KillEverything => Victim::Everything,
            _ => Victim::Broker,
        }
    }

    /// Whether two faults can be made at the same time.
    pub fn may_meet(self, other: Fault) -> bool {
        let (own, other) = (self.victim(), other.victim());
        own != other && own != Victim::Everything && other != Victim::Everything
    }

    /// Strikes. An error means that the fault cannot be made here.
    pub async fn strike(self, world: &mut World) -> Result<Struck, String> {
        let mut struck = Struck { fault: self, felt: false, before: 0 };
        match self {
            Fault::Kill(service) => {
                let process = &mut world.replica(service)?.process;
                process.kill();
                struck.felt = !process.is_running();
            }
            Fault::Freeze(service) => struck.felt = freeze(world.replica(service)?.process.pid()).await,
            Fault::Terminate(service) => {
                let since = Instant::now();
                let process = &mut world.replica(service)?.process;
                process.stop("TERM");
                struck.felt = !process.is_running();
                if since.elapsed() > STOP_WITHIN {
                    return Err(format!("{service} did not end within {} s of SIGTERM", STOP_WITHIN.as_secs()));
                }
            }
            Fault::KillBroker(number) => struck.felt = world.brokers[number].take().is_some(),
            Fault::FreezeBroker(number) => {
                let nats = world.brokers[number].as_mut().ok_or("the broker is down")?;
                struck.felt = freeze(nats.process().pid()).await;
            }
            Fault::WipeBroker => struck.felt = wipe(world)?,
            Fault::WipeBrokerAlive => struck.felt = wipe_alive(world).await,
            Fault::SetBackBroker => struck.felt = copy_store(world).await?,
            Fault::DeleteStream(name) => {
                stream_that_is_there(world, name).await?;
                struck.felt = jetstream(world).delete_stream(name).await.is_ok_and(|done| done.success);
            }
            Fault::EmptyStream(name) => {
                let stream = stream_that_is_there(world, name).await?;
                struck.felt = stream.purge().await.map_err(|error| error.to_string())?.purged > 0;
            }
            Fault::LoseMessages => struck.felt = lose_messages(world).await? > 0,
            Fault::LoseTwoBrokers => {
                struck.felt = world.brokers[1].take().is_some();
                tokio::time::sleep(Duration::from_secs(2)).await;
                struck.felt &= world.brokers[2].take().is_some();
            }
            Fault::KillPostgres => {
                let mut postgres = world.postgres.take().ok_or("postgres is down already")?;
                postgres.process().stop("QUIT");
                struck.felt = sqlx::query("select 1").execute(&world.database).await.is_err();
            }
            Fault::FreezePostgres => struck.felt = signal_postgres(world, "STOP") > 1,
            Fault::Cut(..) | Fault::Refuse(..) | Fault::Stall(..) | Fault::HalfOpen(..) => struck.before = strike_lane(self, world)?,
            Fault::Clock(days) => {
                struck.before = written_ahead(world, days).await;
                testkit::stack::set_clock(&world.ops, days * 86_400).await?;
            }
            Fault::FillDisk => struck.felt = fill_disk(world)?,
            Fault::AddReplica(service) => {
                let before = world.replicas.len();
                world.add_replica(service).await?;
                struck.felt = world.replicas.len() > before && world.newest_answers(service).await;
            }
            Fault::CrashPoint(point, service) => {
                world.replica(service)?.process.kill();
                world.start_again(service, &[("FAILPOINTS", &armed(point))])?;
                if point.starts_with("letter-") {
                    send_poison(world).await?;
                }
                let process = &mut world.replica(service)?.process;
                let ended = wait::until(CRASH_WITHIN, || {
                    let ended = !process.is_running();
                    async move { ended }
                });
                struck.felt = ended.await;
            }
            Fault::SetBack(service) => struck.felt = copy_schema(world, service)?,
            Fault::KillEverything => {
                for replica in &mut world.replicas {
                    replica.process.kill();
                }
                struck.felt = wipe(world)?;
                if let Some(mut postgres) = world.postgres.take() {
                    signal_all(postgres.process().pid(), "KILL");
                    postgres.process().kill();
                }
            }
        }
        Ok(struck)
    }
}

impl Struck {
    /// Ends the fault; returns whether it was felt. What is down is started by [`World::heal`].
    pub async fn end(self, world: &mut World) -> Result<bool, String> {
        let mut felt = self.felt;
        match self.fault {
            Fault::Freeze(service) => thaw(world.replica(service)?.process.pid()),
            Fault::FreezeBroker(number) => {
                if let Some(nats) = &mut world.brokers[number] {
                    thaw(nats.process().pid());
                }
            }
            Fault::FreezePostgres => drop(signal_postgres(world, "CONT")),
            Fault::WipeBrokerAlive => world.brokers[0] = None,
            Fault::SetBackBroker => set_back_store(world)?,
            Fault::Cut(service, lane) | Fault::Refuse(service, lane) | Fault::Stall(service, lane) | Fault::HalfOpen(service, lane) => {
                felt = wait::until(LANE_FELT_WITHIN, || async { felt_on(world, service, lane).is_ok_and(|now| now > self.before) }).await;
            }
            Fault::Clock(days) => {
                felt = written_ahead(world, days).await > self.before;
                testkit::stack::set_clock(&world.ops, 0).await?;
            }
            Fault::FillDisk => {
                std::fs::remove_file(filler(world)).map_err(|error| format!("filler: {error}"))?;
                // a stream that has met a full disk takes nothing more until its server starts again
                world.brokers[0] = None;
            }
            Fault::AddReplica(service) => world.kill_newest_replica(service)?,
            Fault::SetBack(service) => set_back_schema(world, service).await?,
            _ => {}
        }
        Ok(felt)
    }
}
