//! The shell that all services share: configuration, telemetry, NATS, Postgres, command batches,
//! the event log and its relay, reactions, errands, dead letters, health and the command line.
//! All I/O of a service happens here or in its `store.rs`, once.

mod amnesia;
pub mod batch;
mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod courier;
mod crash;
pub mod cursor;
pub mod database;
pub mod dead_letters;
pub mod digest;
mod epoch;
pub mod errand;
pub mod fault;
pub mod follow;
pub mod health;
pub mod limits;
pub mod live;
mod logs;
pub mod nats;
mod outcome;
mod pressure;
pub mod query;
mod rebuild;
mod reconcile;
pub mod record;
pub mod relay;
pub mod row;
pub mod rules;
pub mod sealing;
pub mod service;
pub mod shell;
pub mod summary;
pub mod telemetry;

pub use batch::{Answers, Batch, Handle, Sent};
pub use context::{Context, parse};
pub use courier::{Courier, Unanswered};
pub use database::{Database, Tx};
pub use digest::Copies;
pub use errand::Errand;
pub use fault::Fault;
pub use follow::{Follow, Seen};
pub use query::{Answer, Miss, Show};
pub use rebuild::ReadModel;
pub use reconcile::Total;
pub use record::{Record, Recorded};
pub use row::RowExt;
pub use service::{Card, Service, service};
pub use shell::Shell;
pub use summary::Summarise;

/// Messages are maps of many short strings: a third of a reader's time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
