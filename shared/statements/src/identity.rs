//! By what a booking is known again when it comes in another file.
//!
//! A bank tells of the same booking more than once: pending, then booked; in a camt.054 at once and in
//! the camt.053 of the day; in a file that is sent twice. Two keys are made of each entry:
//!
//! - `reference`, when the bank gives a reference of the entry (`AcctSvcrRef`, in the entry or in its only
//!   transaction; the bank reference number of BAI2; the column for the bank's id in CSV): a hash of account, reference,
//!   direction and amount. Amount and direction are part of it, since banks give a payment and its charges, or
//!   a payment and its return, one reference. `NtryRef` is none: it is only unique within one message.
//! - `content`, always: a hash of account, value date (else booking date), amount, currency, direction,
//!   reversal mark and, of each transaction, the end-to-end id, else the creditor references, else the payer's account.
//!
//! Two entries are the same when both have a reference and the references are equal, or when one has none and
//! the contents are equal ([`Identity::same_as`]). Entries of one file that are equal and have the same status are
//! several: each key has an ordinal among its equals in the file. Of two notifications that are equal to the letter and
//! carry no reference it cannot be known whether they tell of one payment or two; they count as one
//! until the statement, which lists both, puts it right. The status is not part of a key. A pending entry that has neither a
//! reference nor yet a date is not known again when it is booked; it is no cash, so that nothing counts twice.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::entry::{Entry, Status, Transaction};
use crate::limits::ENTRIES_MAX;
use crate::unreadable::{Cause, Place, Unreadable};

/// The keys of an entry: see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// By the bank's reference: 32 hexadecimal digits, and `-n` for the n-th further equal one of the file.
    pub reference: Option<String>,
    /// By what the entry says, in the same form.
    pub content: String,
}

impl Identity {
    /// Whether the two tell of the same booking.
    pub fn same_as(&self, other: &Identity) -> bool {
        match (&self.reference, &other.reference) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.content == other.content,
        }
    }
}

/// Gives the entries of a file their identities. Of each key it holds 64 bits, hashed with a secret of this reader: nobody who
/// pays can choose two that are equal, and by chance two of a file's four million are once in two million files.
#[derive(Default)]
pub(crate) struct Identities {
    secret: RandomState,
    seen: HashSet<u64>,
    /// How often a key has come again.
    again: HashMap<u64, u32>,
    entries: usize,
}

impl Identities {
    /// Sets the entry's identity and, where the bank gave no id, its id.
    ///
    /// # Errors
    /// [`Cause::TooLarge`] when the file has more than [`ENTRIES_MAX`] entries.
    pub fn name(&mut self, entry: &mut Entry, bank_reference: Option<&str>) -> Result<(), Unreadable> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            let place = Place { line: entry.line, position: entry.position };
            return Err(place.unreadable(Cause::TooLarge, format!("the file has more than {ENTRIES_MAX} entries")));
        }
        let sum = [entry.amount.decimal().normalize().to_string(), entry.currency.code().into(), side(entry.credit).into()];
        let reference = bank_reference.map(|reference| {
            let mut parts = vec!["reference", &entry.account.id, reference];
            parts.extend(sum.iter().map(String::as_str));
            self.key(&parts, entry.status)
        });
        let on = entry.value_on.or(entry.booked_on).map(|date| date.to_string()).unwrap_or_default();
        let mut parts = vec!["content", &entry.account.id, &on, if entry.reversal { "reversal" } else { "" }];
        parts.extend(sum.iter().map(String::as_str));
        parts.extend(entry.transactions.iter().flat_map(distinguishing));
        let content = self.key(&parts, entry.status);
        if entry.entry_id.is_empty() {
            entry.entry_id.clone_from(&content);
        }
        entry.identity = Identity { reference, content };
        Ok(())
    }

    fn key(&mut self, parts: &[&str], status: Status) -> String {
        let mut hasher = Sha256::new();
        for part in parts {
            // the length keeps parts apart whatever they hold
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let mut key = hex::encode(&hasher.finalize()[..16]);
        // pending and booked lines of one file are counted apart, so that they get the same ordinals
        let hash = self.secret.hash_one((&key, status));
        if !self.seen.insert(hash) {
            let ordinal = self.again.entry(hash).or_default();
            *ordinal += 1;
            let _ = write!(key, "-{ordinal}");
        }
        key
    }
}

const fn side(credit: bool) -> &'static str {
    if credit { "credit" } else { "debit" }
}

fn distinguishing(transaction: &Transaction) -> Vec<&str> {
    if let Some(id) = &transaction.end_to_end_id {
        return vec![id];
    }
    if !transaction.creditor_references.is_empty() {
        return transaction.creditor_references.iter().map(String::as_str).collect();
    }
    transaction.payer.account.as_deref().into_iter().collect()
}
