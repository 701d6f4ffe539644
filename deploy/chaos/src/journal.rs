//! The client's journal: what was asked, and what is known of the answer. The checker believes it, and nothing else.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use uuid::Uuid;

/// What a client asked for. Each operation has something of its own by which its effect is found in the database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A payment, by its reference; cents.
    Pay { line: Uuid, reference: String, cents: i64 },
    /// A reversal, by its payment.
    Reverse { payment: Uuid, reason: String },
    /// A call, by its amount; cents.
    Call { fund: Uuid, allocation: Uuid, cents: i64 },
    /// An allocation, by its deal; cents.
    Allocate { deal: Uuid, fund: Uuid, cents: i64 },
    /// An allocation that is taken back, by its reason.
    Withdraw { allocation: Uuid, reason: String },
    /// A change of rules, by its comment.
    Rules { comment: String },
    /// A vote, by its approval and member.
    Vote { approval: Uuid, member: String },
    /// A fund, by its name.
    Fund { name: String },
    /// An investor, by its name.
    Investor { name: String },
    /// A commitment, by its investor; cents.
    Commit { fund: Uuid, investor: Uuid, cents: i64 },
    /// A later closing at which one investor joins, by that investor; cents.
    Close { fund: Uuid, investor: Uuid, cents: i64 },
    /// Cash for whatever an investor owes, by its reference; cents.
    Receipt { fund: Uuid, reference: String, cents: i64 },
    /// A refund of a payment's credit, by its reason.
    Refund { payment: Uuid, reason: String },
    /// A refund that is paid out, by its reference.
    Payout { refund: Uuid, reference: String },
    /// A bank statement with one entry for a line, by the name of its file; cents.
    Statement { line: Uuid, file: String, cents: i64 },
}

impl Operation {
    /// The service that decides it.
    pub fn owner(&self) -> &'static str {
        match self {
            Operation::Fund { .. } | Operation::Allocate { .. } | Operation::Withdraw { .. } => "allocation-status",
            Operation::Vote { .. } | Operation::Rules { .. } => "workflow",
            _ => "capital-calls",
        }
    }
}

/// What a client knows of the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Acknowledged, with this id.
    Acknowledged { id: Uuid },
    /// Refused, and every attempt was answered.
    Refused { code: String },
    /// Nobody knows: an attempt was not answered.
    Unknown,
}

/// One line of the journal.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// What was asked.
    pub operation: Operation,
    /// The idempotency key.
    pub key: String,
    /// Milliseconds from the beginning of the run to the first attempt.
    pub asked: u128,
    /// And to the last answer.
    pub answered: u128,
    /// Attempts made.
    pub attempts: u32,
    /// Whether an attempt was answered with `Idempotent-Replayed`.
    pub replayed: bool,
    /// What is known.
    pub outcome: Outcome,
    /// A second answer to the same key that was not the first one.
    pub contradicted: bool,
}

/// The journal, in memory for the checker and in a file for whoever looks for a fault.
#[derive(Debug)]
pub struct Journal {
    began: Instant,
    file: Mutex<std::fs::File>,
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    /// An empty journal whose file is `journal.jsonl` in a folder.
    pub fn create(folder: &Path) -> Result<Journal, String> {
        let path = folder.join("journal.jsonl");
        let file = std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Journal { began: Instant::now(), file: Mutex::new(file), entries: Mutex::default() })
    }

    /// Milliseconds since the beginning of the run.
    pub fn now(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    /// Adds an entry.
    pub fn note(&self, entry: Entry) {
        let line = serde_json::to_string(&entry).unwrap_or_default();
        let _ = writeln!(self.file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
