//! Real servers for tests and for the local stack: PostgreSQL, nats-server and the seven services,
//! each a process of its own on a free port of 127.0.0.1.

pub mod client;
pub mod database;
pub mod deal_system;
pub mod nats;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod stack;
pub mod wait;

pub use client::{Client, Reply};
pub use stack::Stack;

/// The services, in the order in which they are started. Folder, crate and binary have this name.
pub const SERVICES: [&str; 7] = ["workflow", "allocation-status", "capital-calls", "fund-metrics", "audit", "notifications", "gateway"];

/// Password of every role of the test servers; they listen on 127.0.0.1 and live for one run.
pub const TEST_PASSWORD: &str = "p-local";

/// The root of the project.
pub fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where private servers and their data live.
pub fn local() -> std::path::PathBuf {
    root().join("target/local")
}

/// Where cargo puts the binaries of this build.
pub fn binaries() -> Result<std::path::PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let folder = own.parent().ok_or("own path has no folder")?;
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() })
}
