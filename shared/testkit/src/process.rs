//! Child processes that end with their handle.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A process that ends within this time after being asked gets no SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// A running child; dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    /// What it is called, for messages.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    child: Child,
}

/// Ports are given out from here: below the range that the system takes for outgoing connections.
const PORTS: std::ops::Range<u32> = 10_000..32_000;
/// Ports apart at which processes begin to look; each takes far fewer.
const APART: u32 = 97;

/// A port that nobody listens on now, and that was not given out before by this process.
pub fn free_port() -> Result<u16, String> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports = PORTS.end - PORTS.start;
    let mut candidates = (0..ports).filter_map(|_| {
        let place = std::process::id().wrapping_mul(APART).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(PORTS.start + place % ports).ok()
    });
    candidates.find(is_free).ok_or_else(|| "no free port on 127.0.0.1".to_owned())
}

/// Sends a signal to a process by its id.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process runs whose command line names `word`.
pub fn is_alive(pid: u32, word: &str) -> bool {
    let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    !line.is_empty() && String::from_utf8_lossy(&line).contains(word)
}

impl Process {
    /// Starts a command in a process group of its own, its output appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Process, String> {
        let open = || File::options().create(true).append(true).open(log).map_err(|error| format!("{}: {error}", log.display()));
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?).process_group(0);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started ({}): {error}", command.get_program().display()))?;
        Ok(Process { name: name.to_owned(), log: log.to_path_buf(), child })
    }

    /// Id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits; kills it when it does not.
    pub fn stop(&mut self, signal_name: &str) {
        if !self.is_running() {
            return;
        }
        signal(self.pid(), signal_name);
        let since = Instant::now();
        while self.is_running() && since.elapsed() < STOP_WITHIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// The last lines of its output.
    pub fn last_output(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
