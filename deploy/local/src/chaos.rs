//! `cargo xtask chaos`: builds the services with their crash points, and the fault suite, and runs it.

use std::path::Path;
use std::process::{Command, Stdio};

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
    // what it mounts is seen by nobody else, and goes with it
    let apart = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let mut command = Command::new(if apart { Path::new("unshare") } else { &program });
    if apart {
        command.arg("--mount").arg(&program);
    }
    let done = command.args(words).status().map_err(|error| format!("{}: {error}", program.display()))?;
    if done.success() { Ok(()) } else { Err("the fault suite found something, see above".into()) }
}
