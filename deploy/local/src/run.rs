//! Running cargo, and showing what takes how long.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Cargo, in the project's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(testkit::root());
    // what `cargo run` says of this very program would make the inner cargo build everything anew
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// What is built for this machine can be told to die at a chosen place; what is released cannot.
pub const CRASH_POINTS: [&str; 4] = ["-p", "chassis", "--features", "chassis/crash-points"];

/// Builds the binaries of all services; returns their folder.
pub fn build(release: bool) -> Result<PathBuf, String> {
    let own = testkit::binaries()?;
    let mut command = cargo();
    command.arg("build");
    for service in testkit::SERVICES {
        command.args(["-p", service]);
    }
    match release {
        true => command.arg("--release"),
        false => command.args(CRASH_POINTS),
    };
    let done = command.status().map_err(|error| format!("cargo: {error}"))?;
    if !done.success() {
        return Err("the services do not build; see the messages above".into());
    }
    let profiles = own.parent().map(PathBuf::from).unwrap_or_default();
    Ok(profiles.join(if release { "release" } else { "debug" }))
}

/// Says that a step begins; says how long it took when dropped.
pub struct Step {
    since: Instant,
}

impl Step {
    /// Begins a step.
    pub fn begin(what: &str) -> Step {
        println!("  {what} ...");
        Step { since: Instant::now() }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        println!("    {:.1} s", self.since.elapsed().as_secs_f64());
    }
}

/// A secret of 32 random bytes, as text that no configuration language takes for a number.
pub fn secret() -> Result<String, String> {
    use std::io::Read;
    let mut bytes = [0u8; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(format!("p{}", hex::encode(bytes)))
}
