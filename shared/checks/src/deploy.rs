//! What is deployed: compose, Dockerfile and NATS users name the same services, variables and subjects.

use std::collections::BTreeSet;

use domain::registry::{Kind, messages};

use crate::{files, root};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn compose_and_dockerfile_name_every_service() {
    let (compose, dockerfile, roles) = (read("docker-compose.yml"), read("deploy/docker/Dockerfile"), read("deploy/postgres/roles.sql"));
    for service in testkit::SERVICES {
        assert!(compose.contains(&format!("\n  {service}:")), "docker-compose.yml has no {service}");
        assert!(compose.contains(&format!("SERVICE: {service}")), "docker-compose.yml does not build {service}");
        if service != "gateway" {
            let schema = testkit::database::schema_of(service);
            assert!(roles.contains(&format!("'{schema}'")), "roles.sql has no {schema}");
            assert!(
                compose.contains(&format!("postgres://{schema}:")) && compose.contains(&format!("postgres://{schema}_owner:")),
                "docker-compose.yml: {service}'s own roles"
            );
        }
    }
    assert!(dockerfile.contains("ARG SERVICE") && dockerfile.contains("HEALTHCHECK"));
    assert!(compose.matches("healthcheck:").count() >= 2);
}

#[test]
fn every_variable_is_in_the_example() {
    let example = read(".env.example");
    let mut wanted: BTreeSet<String> =
        ["JWT_SECRET", "JWT_PUBLIC_KEY_FILE", "JWT_ALGORITHM", "SMTP_URL", "MAIL_FROM", "RUST_LOG"].map(str::to_owned).into();
    let config = read("shared/chassis/src/config.rs");
    let fields = config.split("pub struct Config {").nth(1).unwrap().split("\n}").next().unwrap();
    wanted.extend(fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next().map(str::to_uppercase)));
    for name in wanted {
        assert!(example.contains(&format!("{name}=")), ".env.example has no {name}");
    }
}

#[test]
fn every_nats_user_may_publish_what_its_service_emits_and_nothing_of_another() {
    let config = read("deploy/nats/nats-server.conf");
    let user = |name: &str| {
        config
            .split(&format!("user: \"{name}\""))
            .nth(1)
            .unwrap_or_else(|| panic!("no NATS user {name}"))
            .split("publish:")
            .nth(1)
            .unwrap()
            .split("subscribe:")
            .next()
            .unwrap()
            .to_owned()
    };
    let owner = |kind: &str| match kind {
        "workflow" | "approval" | "delegation" | "rules" | "rule_change" => Some("workflow"),
        "fund" | "allocation" => Some("allocation-status"),
        "investor" | "commitment" | "closing" | "refund" | "bank_details" | "bank_entry" | "capital_call" | "call_line" | "payment" => {
            Some("capital-calls")
        }
        "fund_metrics" => Some("fund-metrics"),
        _ => None,
    };
    for entry in messages().iter().filter(|entry| entry.kind == Kind::Events) {
        let subject = format!("\"tranche.evt.{}.>\"", entry.name);
        for service in testkit::SERVICES {
            // who compares may find that something differs
            let may = owner(entry.name) == Some(service) || entry.name == "divergence" && service != "gateway";
            assert_eq!(user(service).contains(&subject), may, "{service} and {subject}");
        }
    }
    for service in testkit::SERVICES.iter().filter(|service| !["workflow", "gateway"].contains(service)) {
        let user = user(service);
        let commands: Vec<&str> = user.lines().map(str::trim).filter(|line| line.contains("tranche.cmd")).collect();
        assert!(
            commands.iter().all(|command| command.ends_with(".resend\"")),
            "{service} sends no commands but asks for events again: {commands:?}"
        );
    }
    assert!(config.contains("sync_interval: always"));
}

#[test]
fn migrations_are_numbered_without_gaps_or_repeats() {
    for folder in ["chassis", "workflow", "allocation-status", "capital-calls", "fund-metrics", "audit", "notifications"] {
        let first = if folder == "chassis" { 1 } else { 1_001 };
        for (position, file) in files(&format!("migrations/{folder}"), ".sql").iter().enumerate() {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.starts_with(&format!("{:04}_", first + position)), "{folder}/{name}");
        }
    }
}
