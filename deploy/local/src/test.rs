//! `cargo xtask test`: private servers, a migrated template of the database, every test.

use std::path::Path;
use std::process::Command;

use testkit::postgres::{self, Postgres};
use testkit::process::{is_alive, signal};
use testkit::stack::{self, Settings};
use testkit::{TEST_PASSWORD, database, local, nats};

use crate::run::{self, Step};

/// What to run.
#[derive(clap::Args)]
pub struct Test {
    /// Words for the test runner, for example `-p domain` or the name of a test
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs the command.
pub async fn run(test: Test) -> Result<(), String> {
    remove_left_over();
    let binaries = run::build(false)?;
    let folder = local().join(format!("test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let server = {
        let _step = Step::begin("postgres, nats-server, chromium");
        nats::program()?;
        browser()?;
        // nothing of a test run outlives the machine: no need to wait for the disk
        let settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_preload_libraries=pg_stat_statements"];
        let mut postgres = Postgres::start(&folder, TEST_PASSWORD, &settings)?;
        std::fs::write(folder.join("pid"), postgres.process().pid().to_string()).map_err(|error| error.to_string())?;
        postgres.ready().await?;
        postgres
    };
    let done = prepare_and_run(&server, &folder, binaries, &test).await;
    let mut server = server;
    server.stop();
    postgres::forget(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    done
}

async fn prepare_and_run(server: &Postgres, folder: &Path, binaries: std::path::PathBuf, test: &Test) -> Result<(), String> {
    let address = server.url("admin", "postgres");
    let template = server.url("admin", database::TEMPLATE);
    {
        let _step = Step::begin("roles, schemas, migrations");
        database::create(&address, database::TEMPLATE).await?;
        database::provision(&template, TEST_PASSWORD).await?;
        let settings = Settings {
            binaries,
            logs: folder.to_path_buf(),
            database: template,
            nats: "nats://127.0.0.1:1".into(),
            password: TEST_PASSWORD.into(),
            jwt_secret: TEST_PASSWORD.into(),
            environment: "development".into(),
            variables: vec![],
        };
        settings.migrate()?;
    }
    let has_nextest = run::cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    let mut command = run::cargo();
    command.args(if has_nextest { &["nextest", "run", "--workspace"][..] } else { &["test", "--workspace"] });
    command.args(["--features", "chassis/crash-points"]).args(&test.words).env(database::TEST_SERVER, &address);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("some tests failed".into()),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// The browser of the page's tests, installed if need be.
fn browser() -> Result<(), String> {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if there("chromium") && there("chromedriver") {
        return Ok(());
    }
    let install = "S=; [ \"$(id -u)\" = 0 ] || S='sudo -n'; export DEBIAN_FRONTEND=noninteractive; $S apt-get update -qq && $S apt-get install -y -qq chromium chromium-driver";
    let _ = Command::new("sh").args(["-c", install]).output();
    if there("chromium") && there("chromedriver") {
        return Ok(());
    }
    Err("Chromium with chromedriver was not found and could not be installed: install them with your package manager (Debian: apt-get install chromium chromium-driver)".into())
}

/// Ends servers and removes folders of runs that were killed.
fn remove_left_over() {
    for entry in std::fs::read_dir(local()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix("test-").and_then(|pid| pid.parse().ok()) else { continue };
        if is_alive(owner, "xtask") {
            continue;
        }
        if let Some(pid) = std::fs::read_to_string(entry.path().join("pid")).ok().and_then(|pid| pid.parse().ok())
            && is_alive(pid, "postgres")
        {
            signal(pid, "KILL");
        }
        postgres::forget(&entry.path());
        let _ = std::fs::remove_dir_all(entry.path());
    }
    stack::remove_left_over();
}
