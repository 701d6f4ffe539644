//! The whole system, tried from outside: seven services, PostgreSQL and nats-server, over HTTP and NATS.

mod audit;
mod calls;
mod costs;
mod crash;
mod dead_letters;
mod deals;
mod faults_of_old;
mod lifecycle;
mod malformed;
mod notices;
mod office;
mod page;
mod readers;
mod reconcile;
mod rules;
mod services;
