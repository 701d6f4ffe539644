//! Reads bank statement files: camt.053 and camt.054 of ISO 20022 (version 02 and later), BAI2, and CSV by a saved map of its
//! columns. Pure: bytes in, [`Entry`] by [`Entry`] out, in bounded memory ([`limits`]).
//!
//! Whoever imports a file keeps all entries apart until the reader has come to the end without an error: a
//! statement's sums stand partly behind its entries, so that a file that is cut short or altered is known only there.
//! Nothing of such a file may count.
//!
//! What is decided here:
//! - A reader is an iterator, and [`read`] hands its entries to a function; the input is any [`BufRead`].
//! - Text is UTF-8, or what the file declares (camt) or the map says (CSV), decoded strictly; UTF-16 with a byte order
//!   mark is read too. Document types and entities are refused, other namespaces and unknown elements passed over.
//! - camt: counts and sums of the summary must be the entries'. Where opening (OPBD, else PRCD) and closing (CLBD) balance are given and the
//!   booked entries do not lead from one to the other, [`Reader::discrepancies`] says so and the file is read: that a bank left an entry
//!   out does not undo those it lists, and published samples are abridged so. That a file is whole, its XML tells.
//!   Of one page of several neither can be checked.
//! - BAI2: all control totals and counts must be right. Groups that delete or are for test are refused.
//! - CSV: a file that ends early at the end of a record cannot be told from one that is whole.
//! - An entry whose transactions do not add up to it is no fault of the file, since banks give the net of charges, other
//!   currencies, or only some transactions: [`Details`] says how they add up.
//! - A booking that comes in several files is known by its [`identity`].

mod bai2;
mod camt;
mod entry;
pub mod identity;
pub mod limits;
mod map;
mod source;
mod table;
mod unreadable;
mod values;
mod xml;

use std::io::BufRead;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use entry::{Account, BankCode, Details, Entry, Party, ReturnReason, Status, Transaction};
pub use identity::Identity;
pub use map::{Amounts, Column, ColumnMap, Given, StatusColumn};
pub use unreadable::{Cause, Unreadable};

use source::Source;
use unreadable::Place;

/// A format of statement files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// ISO 20022 bank to customer statement.
    Camt053,
    /// ISO 20022 bank to customer debit credit notification.
    Camt054,
    /// BAI version 2.
    Bai2,
    /// CSV by a map.
    Csv(Box<ColumnMap>),
}

/// Tells the format by the first bytes of a file ([`limits::HEAD_BYTES_MAX`] are enough). None for CSV, which nothing marks.
pub fn detect(head: &[u8]) -> Option<Format> {
    let text = text_of(head);
    if text.starts_with('<') {
        let found = |name: &str| text.find(&format!("{name}.001."));
        return match (found("camt.053"), found("camt.054")) {
            (Some(statement), Some(notification)) if notification < statement => Some(Format::Camt054),
            (Some(_), _) => Some(Format::Camt053),
            (None, Some(_)) => Some(Format::Camt054),
            (None, None) => None,
        };
    }
    text.starts_with("01,").then_some(Format::Bai2)
}

fn text_of(head: &[u8]) -> String {
    let (encoding, mark) = encoding_rs::Encoding::for_bom(head).unwrap_or((encoding_rs::UTF_8, 0));
    encoding.decode_without_bom_handling(&head[mark..]).0.trim_start().to_owned()
}

/// A file, entry by entry. After an error there is nothing more.
pub struct Reader<'a> {
    inner: Inner<'a>,
    ended: bool,
}

enum Inner<'a> {
    Camt(Box<camt::Camt<'a>>),
    Bai2(Box<bai2::Bai2<'a>>),
    Csv(Box<table::Table<'a>>),
}

impl<'a> Reader<'a> {
    /// Begins to read a file of a format, or of the one that it begins as.
    ///
    /// # Errors
    /// [`Unreadable`] when the format is none of these, the encoding is not known, or the map contradicts itself.
    pub fn new(format: Option<Format>, input: impl BufRead + 'a) -> Result<Self, Unreadable> {
        let source = Source::new(Box::new(input))?;
        let begins_as_xml = || text_of(source.head()).starts_with('<');
        let inner = match format {
            // the root tells which message it is, and may stand behind the head
            None if begins_as_xml() => Inner::Camt(Box::new(camt::Camt::new(source, None)?)),
            None if detect(source.head()) == Some(Format::Bai2) => Inner::Bai2(Box::new(bai2::Bai2::new(source))),
            None => {
                let what = "the file is neither XML nor BAI2; a CSV file needs a map of its columns";
                return Err(Place::START.unreadable(Cause::WrongFormat, what));
            }
            Some(Format::Bai2) => Inner::Bai2(Box::new(bai2::Bai2::new(source))),
            Some(Format::Csv(map)) => Inner::Csv(Box::new(table::Table::new(source, *map)?)),
            Some(camt) => Inner::Camt(Box::new(camt::Camt::new(source, Some(camt))?)),
        };
        Ok(Reader { inner, ended: false })
    }

    /// The statements so far whose booked entries do not lead from their opening to their closing balance: to be looked at
    /// by a person. To be asked when the reader has come to its end.
    pub fn discrepancies(&self) -> &[Unreadable] {
        match &self.inner {
            Inner::Camt(camt) => &camt.discrepancies,
            _ => &[],
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Entry, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.inner {
            Inner::Camt(camt) => camt.entry(),
            Inner::Bai2(bai2) => bai2.entry(),
            Inner::Csv(table) => table.entry(),
        };
        let next = next.and_then(|entry| entry.map(within_limits).transpose());
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

/// Refuses an entry with an id or an account that is longer than any bank's.
fn within_limits(entry: Entry) -> Result<Entry, Unreadable> {
    let own = [Some(&entry.account.id), entry.statement_id.as_ref(), Some(&entry.entry_id)];
    let of_parts = entry.transactions.iter().flat_map(|part| [part.end_to_end_id.as_ref(), part.payer.account.as_ref()]);
    let long = own.into_iter().chain(of_parts).flatten().find(|id| id.chars().count() > limits::ID_CHARACTERS_MAX);
    match long {
        None => Ok(entry),
        Some(id) => {
            let begins: String = id.chars().take(20).collect();
            let what = format!("the id that begins with {begins:?} has more than {} characters", limits::ID_CHARACTERS_MAX);
            Err(Place { line: entry.line, position: entry.position }.unreadable(Cause::TooLarge, what))
        }
    }
}

/// What a whole file was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Number of entries.
    pub entries: usize,
    /// See [`Reader::discrepancies`].
    pub discrepancies: Vec<Unreadable>,
}

/// Reads a whole file into a function, and says what it was.
///
/// # Errors
/// [`Unreadable`] as the caller's own error, or what the function gives; what it was given before then must not count.
pub fn read<E: From<Unreadable>>(
    format: Option<Format>,
    input: impl BufRead,
    sink: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<Outcome, E> {
    let mut reader = Reader::new(format, input)?;
    let mut entries = 0;
    for entry in reader.by_ref() {
        sink(entry?)?;
        entries += 1;
    }
    Ok(Outcome { entries, discrepancies: reader.discrepancies().to_vec() })
}
