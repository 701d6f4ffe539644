//! Why a file cannot be read, and where.

use domain::{Reason, Rejection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of faults of a file. The code on the wire is the name in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is none of the formats, or not the one that was named, or a version that is not read.
    WrongFormat,
    /// The bytes are not text in the encoding that the file, or the map, names.
    WrongEncoding,
    /// It ends before its end.
    Truncated,
    /// It breaks the rules of its format.
    Malformed,
    /// It declares a document type or uses an entity beyond the five of XML.
    Entity,
    /// It is above one of the limits of [`crate::limits`].
    TooLarge,
    /// An amount is not a number of the currency, or the currency is unknown.
    InvalidAmount,
    /// A date is not one, or implausible.
    InvalidDate,
    /// Totals, counts or balances that the file states are not those of its entries.
    DoesNotAddUp,
    /// The column map does not fit the file.
    WrongMap,
    /// The input itself failed (a disk, a connection): not the file's fault; read it again.
    Input,
}

/// A file that cannot be read: why and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("line {line}, position {position}: {what}")]
pub struct Unreadable {
    /// The kind of fault.
    pub cause: Cause,
    /// Line, from 1.
    pub line: u64,
    /// Character within the line, from 1.
    pub position: u64,
    /// What was found and what was expected.
    pub what: String,
}

impl From<Unreadable> for Rejection {
    /// For all causes but [`Cause::Input`], which is a fault of the input and is tried again.
    fn from(unreadable: Unreadable) -> Rejection {
        Reason::StatementUnreadable.with(unreadable.to_string())
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: u64,
    pub position: u64,
}

impl Place {
    pub const START: Place = Place { line: 1, position: 1 };

    pub fn unreadable(self, cause: Cause, what: impl Into<String>) -> Unreadable {
        Unreadable { cause, line: self.line, position: self.position, what: what.into() }
    }

    /// Moves over bytes of UTF-8.
    pub fn pass(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                *self = Place { line: self.line + 1, position: 1 };
            } else if byte & 0xc0 != 0x80 {
                self.position += 1;
            }
        }
    }
}

/// At most the first 60 characters of what was found, for an error text.
pub(crate) fn excerpt(text: &str) -> String {
    let mut cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
