//! Faults: what went wrong around the business, with the one question that matters: try again?

use std::fmt;

/// An I/O or programming error; never the caller's doing.
#[derive(Debug)]
pub enum Fault {
    /// May succeed when it is tried again: a lost connection, a deadlock, a server that restarts.
    Transient(String),
    /// Will fail in the same way again.
    Fatal(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Transient(why) | Fault::Fatal(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let transient = match &error {
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                // connection, resources, operator intervention, lock not available, serialization, deadlock, read-only
                ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || ["40001", "40P01", "55P03", "25006"].contains(&&*code)
            }),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        };
        if transient { Fault::Transient(error.to_string()) } else { Fault::Fatal(error.to_string()) }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Fault::Fatal(format!("cannot be written or read as JSON: {error}"))
    }
}
