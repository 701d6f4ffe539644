//! The scenarios: which faults, on which servers.

use testkit::SERVICES;

use crate::fault::{Fault, Lane};
use crate::world::Shape;

/// A scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What it needs of the servers.
    pub shape: Shape,
    /// Most faults at the same time.
    pub at_once: usize,
    /// Whether there are too many faults for a short run to have each: those that strike must be felt.
    pub sampled: bool,
    /// The faults; each must be felt at least once.
    pub faults: Vec<Fault>,
}

const ONE: Shape = Shape { proxied: false, clustered: false, small_disk: false, replicas: 1 };

/// Crash points of a service that answers commands and follows others: between each commit, publish, acknowledgement and delete.
const POINTS: [(&str, &str); 23] = [
    ("command-before-commit", "capital-calls"),
    ("command-after-commit", "capital-calls"),
    ("command-after-answer", "capital-calls"),
    ("command-after-commit", "allocation-status"),
    ("command-after-commit", "workflow"),
    ("publish-before", "capital-calls"),
    ("publish-in-batch", "capital-calls"),
    ("publish-after", "capital-calls"),
    ("publish-after-delete", "capital-calls"),
    ("reader-before-commit", "fund-metrics"),
    ("reader-after-commit", "fund-metrics"),
    ("reader-after-acknowledgement", "fund-metrics"),
    ("reader-after-commit", "notifications"),
    ("reader-after-commit", "allocation-status"),
    ("record-before-commit", "audit"),
    ("record-after-commit", "audit"),
    ("record-after-acknowledgement", "audit"),
    ("summary-before-commit", "fund-metrics"),
    ("summary-after-commit", "capital-calls"),
    ("errand-after-claim", "workflow"),
    ("errand-after-run", "workflow"),
    ("errand-after-record", "workflow"),
    // reached by a message that nobody can read
    ("letter-after-commit", "allocation-status"),
];

fn of_each(fault: impl Fn(&'static str) -> Fault) -> Vec<Fault> {
    SERVICES.into_iter().map(fault).collect()
}

fn of_lanes(fault: impl Fn(&'static str, Lane) -> Fault) -> Vec<Fault> {
    let brokers = SERVICES.into_iter().map(|service| fault(service, Lane::Broker));
    // the gateway has no database
    brokers.chain(SERVICES.into_iter().filter(|service| *service != "gateway").map(|service| fault(service, Lane::Database))).collect()
}

fn broker() -> Vec<Fault> {
    vec![
        Fault::KillBroker(0),
        Fault::FreezeBroker(0),
        Fault::WipeBroker,
        Fault::WipeBrokerAlive,
        Fault::SetBackBroker,
        Fault::DeleteStream("EVENTS"),
        Fault::EmptyStream("EVENTS"),
        Fault::DeleteStream("NOTICES"),
        Fault::DeleteStream("ACCESS"),
        Fault::LoseMessages,
    ]
}

/// All scenarios, in the order in which they are run.
pub fn all() -> Vec<Scenario> {
    let services = [of_each(Fault::Kill), of_each(Fault::Freeze), of_each(Fault::Terminate)].concat();
    let network = [of_lanes(Fault::Cut), of_lanes(Fault::Refuse), of_lanes(Fault::Stall), of_lanes(Fault::HalfOpen)].concat();
    let points: Vec<Fault> = POINTS.into_iter().map(|(point, service)| Fault::CrashPoint(point, service)).collect();
    let set_back: Vec<Fault> = SERVICES.into_iter().filter(|service| *service != "gateway").map(Fault::SetBack).collect();
    let replicas: Vec<Fault> = SERVICES.into_iter().flat_map(|service| [Fault::AddReplica(service), Fault::Kill(service)]).collect();
    let everything =
        [services.clone(), broker(), vec![Fault::KillPostgres, Fault::FreezePostgres, Fault::KillEverything, Fault::Clock(40)]];
    let everything = [everything.concat(), network.clone(), set_back.clone()].concat();
    let scenario = |name, about, shape, at_once, faults| Scenario { name, about, shape, at_once, sampled: name == "everything", faults };
    vec![
        scenario("services", "services are killed, stopped, ended", ONE, 2, services),
        scenario("broker", "the broker is killed and stopped; it loses its store, streams, messages", ONE, 1, broker()),
        scenario("postgres", "the database is killed and stopped", ONE, 1, vec![Fault::KillPostgres, Fault::FreezePostgres]),
        scenario("network", "connections are cut, refused, stalled, half open", Shape { proxied: true, ..ONE }, 4, network),
        scenario("clock", "the business date jumps ahead and back", ONE, 1, vec![Fault::Clock(25), Fault::Clock(40), Fault::Clock(400)]),
        scenario("disk", "the broker's disk is full", Shape { small_disk: true, ..ONE }, 1, vec![Fault::FillDisk]),
        scenario("replicas", "two of each service; more are added and killed", Shape { replicas: 2, ..ONE }, 2, replicas),
        scenario("crash-points", "services die between commit, publish, acknowledgement and delete", ONE, 1, points),
        scenario("set-back", "a service's database is set back to an older copy", ONE, 1, set_back),
        scenario(
            "cluster",
            "three brokers lose one, and then another",
            Shape { clustered: true, ..ONE },
            1,
            vec![Fault::KillBroker(0), Fault::KillBroker(1), Fault::FreezeBroker(2), Fault::LoseTwoBrokers],
        ),
        scenario("disaster", "all services and both servers are killed, the broker's store is gone", ONE, 1, vec![Fault::KillEverything]),
        scenario("everything", "all of this at once", Shape { proxied: true, ..ONE }, 5, everything),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crash_point_of_the_shell_is_reached_by_a_scenario() {
        let folder = testkit::root().join("shared/chassis/src");
        let mut places = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            places.extend(text.split("crash::point(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
        let known: std::collections::BTreeSet<String> = POINTS.iter().map(|(point, _)| (*point).to_owned()).collect();
        assert_eq!(places, known);
    }
}
