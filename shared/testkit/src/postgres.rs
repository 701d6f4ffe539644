//! A private PostgreSQL server: found or installed, on a free port, never another one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, free_port};
use crate::wait;

/// Oldest version that is good enough.
const VERSION_MIN: u32 = 15;
/// The system user that the server runs as when we are root, which it refuses to be.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    password: String,
}

fn version_of(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok())
}

/// The folder of the newest PostgreSQL on `PATH` or under `/usr/lib/postgresql`.
fn find() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let complete = |bin: &PathBuf| bin.join("postgres").exists() && bin.join("initdb").exists();
    let resolve =
        |bin: PathBuf| bin.join("postgres").canonicalize().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)).unwrap_or(bin);
    let found = on_path.into_iter().filter(complete).map(resolve).chain(packaged.filter(complete));
    let mut versions: Vec<(u32, PathBuf)> =
        found.filter_map(|bin| Some((version_of(&bin)?, bin))).filter(|(version, _)| *version >= VERSION_MIN).collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Installs the system's package, without letting it start a server of its own.
fn install() -> Result<(), String> {
    let missing = "PostgreSQL 15 or newer was not found and could not be installed: install it with your package manager (Debian: apt-get install postgresql)";
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    let run = |line: &[&str]| {
        let words: Vec<&str> = sudo.iter().chain(line).copied().collect();
        Command::new(words[0])
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let no_cluster = "mkdir -p /etc/postgresql-common && { [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; }";
    if run(&["sh", "-c", no_cluster]) && run(&["apt-get", "update", "-qq"]) && run(&["apt-get", "install", "-y", "-qq", "postgresql"]) {
        return Ok(());
    }
    Err(missing.into())
}

/// The folder with the programs of PostgreSQL, installed if need be.
pub fn programs() -> Result<PathBuf, String> {
    if let Some(bin) = find() {
        return Ok(bin);
    }
    install()?;
    find().ok_or_else(|| "the PostgreSQL that was installed is older than 15: install a newer one".to_owned())
}

/// A command as the user that the server runs as.
fn as_user(user: Option<&str>, program: &Path) -> Command {
    match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
            command
        }
    }
}

fn system_user() -> Result<Option<&'static str>, String> {
    if !is_root() {
        return Ok(None);
    }
    let exists = |user: &&str| Command::new("id").arg(user).output().is_ok_and(|output| output.status.success());
    USERS
        .iter()
        .copied()
        .find(|user| exists(user))
        .map(Some)
        .ok_or_else(|| "PostgreSQL does not run as root and there is no user postgres or nobody: create one".into())
}

/// The folder under /var/tmp that stands for a folder that the server's user cannot reach.
fn outside(asked: &Path) -> PathBuf {
    let name: String =
        asked.display().to_string().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    Path::new("/var/tmp").join(format!("tranche{name}"))
}

/// The folder for the data: the one asked for, or one under /var/tmp where the server's user cannot
/// reach that (a clone inside root's home).
fn reachable(user: Option<&str>, asked: &Path) -> Result<PathBuf, String> {
    let prepare = |folder: &Path| -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if let Some(user) = user {
            let owner = Command::new("chown").args(["-R", user]).arg(folder).output();
            owner.map_err(|error| format!("chown: {error}"))?;
        }
        Ok(())
    };
    prepare(asked)?;
    if as_user(user, Path::new("test")).arg("-w").arg(asked).status().is_ok_and(|status| status.success()) {
        return Ok(asked.to_path_buf());
    }
    let other = outside(asked);
    prepare(&other)?;
    Ok(other)
}

/// Removes the data of a server that does not run, wherever it is.
pub fn forget(folder: &Path) {
    let data = folder.join("data");
    let _ = std::fs::remove_dir_all(outside(&data));
    let _ = std::fs::remove_dir_all(data);
}

impl Postgres {
    /// Starts a server on the data under `folder`, which is created if need be.
    pub fn start(folder: &Path, password: &str, settings: &[&str]) -> Result<Postgres, String> {
        Postgres::start_on(folder, password, settings, free_port()?)
    }

    /// The same, on a port that is known.
    pub fn start_on(folder: &Path, password: &str, settings: &[&str], port: u16) -> Result<Postgres, String> {
        let bin = programs()?;
        let user = system_user()?;
        let data = reachable(user, &folder.join("data"))?;
        if !data.join("PG_VERSION").exists() {
            let secret = data.with_extension("password");
            std::fs::write(&secret, password).map_err(|error| format!("{}: {error}", secret.display()))?;
            if let Some(user) = user {
                let _ = Command::new("chown").arg(user).arg(&secret).status();
            }
            let mut initdb = as_user(user, &bin.join("initdb"));
            initdb.current_dir("/").args(["-U", "admin", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-D"]).arg(&data);
            let done = initdb.arg("--pwfile").arg(&secret).output().map_err(|error| format!("initdb: {error}"))?;
            let _ = std::fs::remove_file(&secret);
            if !done.status.success() {
                return Err(format!("initdb failed: {}", String::from_utf8_lossy(&done.stderr)));
            }
        }
        // left by a server that was killed
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        let mut command = as_user(user, &bin.join("postgres"));
        command.current_dir("/").arg("-D").arg(&data);
        let port_setting = format!("port={port}");
        let own = [port_setting.as_str(), "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"];
        for setting in own.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let process = Process::start("postgres", &mut command, &folder.join("postgres.log"))?;
        Ok(Postgres { process, port, password: password.to_owned() })
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) -> Result<(), String> {
        let url = self.url("admin", "postgres");
        let up = wait::until(Duration::from_secs(30), || async {
            sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await.is_ok()
        })
        .await;
        if up {
            return Ok(());
        }
        Err(format!("postgres did not come up:\n{}", self.process.last_output()))
    }

    /// Address of a database for a user.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it: connections are cut, everything is written.
    pub fn stop(&mut self) {
        self.process.stop("INT");
    }
}
