//! The whole system, tried from outside: seven services, PostgreSQL and nats-server, over HTTP and NATS.

mod allocations;
mod analytics;
mod approvals;
mod audit;
mod bank_details;
mod calls;
mod commitments;
mod costs;
mod crash;
mod dead_letters;
mod deals;
mod faults_of_old;
mod late;
mod lifecycle;
mod malformed;
mod mock_bank;
mod notices;
mod office;
mod page;
mod payments;
mod readers;
mod reconcile;
mod rule_changes;
mod rules;
mod services;
mod statements;
