//! `cargo xtask schemas`: writes what is generated under `schemas/`.

use crate::run;

/// Runs the contract tests in the mode in which they write what they would compare.
pub fn write() -> Result<(), String> {
    let mut command = run::cargo();
    command.args(["test", "--quiet", "-p", "checks", "-p", "gateway", "contract"]).env("UPDATE_SCHEMAS", "1");
    match command.status() {
        Ok(status) if status.success() => {
            println!("schemas/ is up to date");
            Ok(())
        }
        Ok(_) => Err("the schemas could not be written".into()),
        Err(error) => Err(format!("cargo: {error}")),
    }
}
