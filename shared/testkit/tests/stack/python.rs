//! Programs in Python that are not ours, or that others would write: each package in a folder of its own, pinned by hash.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of a folder that has a package in it: made once, and kept with the other programs of the tests.
pub fn python(package: &str, version: &str, hash: &str) -> PathBuf {
    let folder = testkit::local().join(format!("{package}-{version}"));
    let python = folder.join("bin/python");
    if python.exists() {
        return python;
    }
    // made beside its place and then moved: another test may be at it too, or this one may be killed
    let own = testkit::local().join(format!("{package}-{}", std::process::id()));
    // the wheel, by its hash: what is fetched is what was looked at
    let wheel = format!("{package}=={version} --hash=sha256:{hash}\n");
    let moved = install(&own, &wheel).map(|()| std::fs::rename(&own, &folder));
    if !matches!(moved, Ok(Ok(()))) {
        let _ = std::fs::remove_dir_all(&own);
    }
    match moved {
        Ok(_) if python.exists() => python,
        Ok(moved) => panic!("{package} could not be moved to {}: {moved:?}", folder.display()),
        Err(why) => {
            panic!("{package} {version} could not be installed from PyPI; it needs python3 with venv and pip, and the network: {why}")
        }
    }
}

fn install(folder: &Path, wheel: &str) -> Result<(), String> {
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let wanted = folder.join("requirements.txt");
    std::fs::write(&wanted, wheel).map_err(|error| error.to_string())?;
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r"];
    run(Command::new(folder.join("bin/python")).args(pip).arg(wanted))
}
