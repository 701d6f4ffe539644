//! What is known of the local stack, in `target/local/up/state.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use testkit::process::is_alive;

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// Name, with the number of the replica where there are several.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Address of its HTTP side, if it has one.
    pub url: Option<String>,
}

/// The local stack.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The process that keeps the others running.
    pub supervisor: u32,
    /// The others.
    pub processes: Vec<Running>,
    /// Whether everything is up and the demo is loaded.
    pub ready: bool,
    /// Address of the gateway.
    pub gateway: String,
    /// Address of NATS without a user.
    pub nats: String,
    /// Address of the database for its superuser.
    pub database: String,
    /// Password of every role and user.
    pub password: String,
    /// Secret that tokens are signed with.
    pub jwt_secret: String,
    /// Folder of the services' binaries.
    #[serde(default)]
    pub binaries: PathBuf,
}

/// The folder of the local stack.
pub fn folder() -> PathBuf {
    testkit::local().join("up")
}

fn file() -> PathBuf {
    folder().join("state.json")
}

impl State {
    /// The state of a stack that runs.
    pub fn read() -> Result<State, String> {
        State::left()
            .filter(|state| is_alive(state.supervisor, "xtask"))
            .ok_or_else(|| "no local stack is running: start it with `cargo xtask up`".to_owned())
    }

    /// The state as it was left, whether or not it runs.
    pub fn left() -> Option<State> {
        serde_json::from_slice(&std::fs::read(file()).ok()?).ok()
    }

    /// Writes it, so that a reader sees all of it or none.
    pub fn write(&self) -> Result<(), String> {
        let next = file().with_extension("next");
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, file())).map_err(|error| format!("{}: {error}", file().display()))
    }

    /// Forgets it.
    pub fn remove() {
        let _ = std::fs::remove_file(file());
    }

    /// Address of NATS for a user.
    pub fn nats_url(&self, user: &str) -> String {
        self.nats.replace("nats://", &format!("nats://{user}:{}@", self.password))
    }

    /// Writes `target/local/env`, shell assignments for whoever wants to talk to the stack.
    pub fn write_env(&self) -> Result<(), String> {
        let text = format!(
            "GATEWAY_URL='{}'\nNATS_URL='{}'\nDEALS_NATS_URL='{}'\nNOTICES_NATS_URL='{}'\nSTEPS_NATS_URL='{}'\nDATABASE_ADMIN_URL='{}'\n",
            self.gateway,
            self.nats_url("ops"),
            self.nats_url("deals"),
            self.nats_url("notices"),
            self.nats_url("steps"),
            self.database
        );
        let file = testkit::local().join("env");
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    }
}
