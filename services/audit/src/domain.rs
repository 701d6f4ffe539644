//! The hash chain, as functions of records and nothing else.

use chassis::Recorded;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The hash that the first record follows.
pub const GENESIS: [u8; 32] = [0; 32];

/// What a record's hash covers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are those of AuditRecord")]
pub struct Content<'a> {
    pub n: i64,
    pub source_id: Uuid,
    pub subject: &'a str,
    pub aggregate: &'a str,
    pub aggregate_id: Uuid,
    pub epoch: i32,
    pub version: i64,
    pub actor: &'a str,
    pub correlation_id: &'a str,
    pub at: DateTime<Utc>,
    pub body: &'a [u8],
}

impl<'a> Content<'a> {
    /// The content of record `n` for a message.
    pub fn of(n: i64, message: &'a Recorded) -> Content<'a> {
        Content {
            n,
            source_id: message.source_id,
            subject: &message.subject,
            aggregate: &message.aggregate,
            aggregate_id: message.aggregate_id,
            epoch: message.epoch,
            version: message.version,
            actor: &message.context.actor.user,
            correlation_id: &message.context.correlation_id,
            at: message.at,
            body: &message.body,
        }
    }

    /// SHA-256 over the previous hash and every field, each with its length in front, so that no
    /// two different records have the same input.
    pub fn hash(&self, previous: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(previous);
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(&self.n.to_be_bytes());
        field(self.source_id.as_bytes());
        field(self.subject.as_bytes());
        field(self.aggregate.as_bytes());
        field(self.aggregate_id.as_bytes());
        field(&self.epoch.to_be_bytes());
        field(&self.version.to_be_bytes());
        field(self.actor.as_bytes());
        field(self.correlation_id.as_bytes());
        field(&self.at.timestamp_micros().to_be_bytes());
        field(self.body);
        hash.finalize().into()
    }
}

/// Checks records one after another.
#[derive(Debug)]
pub struct Chain {
    previous: Vec<u8>,
    /// Records that follow each other without a change or a gap.
    pub records: i64,
    /// The first record that does not.
    pub first_bad: Option<i64>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { previous: GENESIS.to_vec(), records: 0, first_bad: None }
    }
}

impl Chain {
    /// Takes the next record; its stored hash must be that of its content and its predecessor.
    pub fn check(&mut self, content: &Content<'_>, stored: &[u8]) {
        self.records += 1;
        let sound = content.n == self.records && content.hash(&self.previous) == stored;
        if !sound && self.first_bad.is_none() {
            self.first_bad = Some(content.n);
        }
        self.previous = stored.to_vec();
    }
}

#[cfg(test)]
mod tests;
