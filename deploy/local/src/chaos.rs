//! `cargo xtask chaos`: builds the services with their crash points, and the fault suite, and runs it.

use std::process::Command;

use crate::run;

/// Runs the fault suite with these words.
pub fn run(words: &[String]) -> Result<(), String> {
    let binaries = run::build(false)?;
    let built = run::cargo().args(["build", "-p", "chaos"]).status().map_err(|error| format!("cargo: {error}"))?;
    if !built.success() {
        return Err("the fault suite does not build; see the messages above".into());
    }
    testkit::nats::program()?;
    let program = binaries.join("chaos");
    let done = Command::new(&program).args(words).status().map_err(|error| format!("{}: {error}", program.display()))?;
    if done.success() { Ok(()) } else { Err("the fault suite found something, see above".into()) }
}
