//! `cargo xtask bench`: builds the services and the load generator optimised, and runs the bench.

use std::process::Command;

use crate::run;

/// Runs the bench with these words.
pub fn run(words: &[String]) -> Result<(), String> {
    let binaries = run::build(true)?;
    let built = run::cargo().args(["build", "--release", "-p", "bench"]).status().map_err(|error| format!("cargo: {error}"))?;
    if !built.success() {
        return Err("the bench does not build; see the messages above".into());
    }
    let program = binaries.join("bench");
    let done = Command::new(&program).args(words).status().map_err(|error| format!("{}: {error}", program.display()))?;
    if done.success() { Ok(()) } else { Err("the bench failed".into()) }
}
