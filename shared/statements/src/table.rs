//! CSV with a saved map of its columns.
//!
//! Whether a CSV file is whole cannot be known: it has no trailer. What can be noticed is refused: a record with fewer columns
//! than the others, a quote that is not closed. A cell that begins with `=`, `+`, `-` or `@` is a text like any other here.

use std::collections::VecDeque;
use std::io::Read;

use chrono::NaiveDate;
use domain::{Amount, Currency};
use encoding_rs::Encoding;

use crate::entry::{Account, BankCode, Details, Entry, Party, Status, Transaction};
use crate::identity::{Identities, Identity};
use crate::limits::{COLUMNS_MAX, HEADER_LINES_MAX, RECORD_BYTES_MAX, TEXT_CHARACTERS_MAX};
use crate::map::{Amounts, Column, ColumnMap, Given};
use crate::source::{Source, failed};
use crate::unreadable::{Cause, Place, Unreadable, excerpt};
use crate::values::{self, compact, some, tidy};

/// What the CSV reader reads ahead of the record it is at.
const READ_AHEAD: usize = 64 << 10;

/// Knows whether a quote is open, and where the lines end that the CSV reader has not come to yet. The reader's own
/// count is off behind blank lines.
struct Watched<'a> {
    source: Source<'a>,
    quote_open: bool,
    offset: u64,
    line_ends: VecDeque<u64>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.source.read(buffer)?;
        for byte in &buffer[..count] {
            match byte {
                b'"' => self.quote_open = !self.quote_open,
                b'\n' => self.line_ends.push_back(self.offset),
                _ => {}
            }
            self.offset += 1;
        }
        Ok(count)
    }
}

pub(crate) struct Table<'a> {
    reader: csv::Reader<Watched<'a>>,
    map: ColumnMap,
    header: Option<Vec<String>>,
    /// Lines before the end of the last record.
    passed: u64,
    identities: Identities,
}

impl<'a> Table<'a> {
    /// Begins to read. Refuses a map that contradicts itself.
    pub fn new(mut source: Source<'a>, map: ColumnMap) -> Result<Self, Unreadable> {
        let wrong = |what: String| Place::START.unreadable(Cause::WrongMap, what);
        map.check().map_err(wrong)?;
        let encoding = match Encoding::for_bom(source.head()) {
            Some((encoding, _)) => encoding,
            None => Encoding::for_label(map.encoding.as_bytes())
                .ok_or_else(|| wrong(format!("the encoding {:?} is not known", map.encoding)))?,
        };
        source.decode_as(encoding);
        for _ in 0..map.header_lines.min(HEADER_LINES_MAX) {
            source.line(RECORD_BYTES_MAX)?;
        }
        let passed = source.place().line - 1;
        let delimiter = u8::try_from(map.delimiter).unwrap_or(b',');
        let reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(Watched {
            source,
            quote_open: false,
            offset: 0,
            line_ends: VecDeque::new(),
        });
        let header = None;
        Ok(Table { reader, map, header, passed, identities: Identities::default() })
    }

    /// The next entry, or none at the end of the file.
    pub fn entry(&mut self) -> Result<Option<Entry>, Unreadable> {
        while let Some((record, place)) = self.record()? {
            if record.len() > COLUMNS_MAX {
                return Err(place.unreadable(Cause::TooLarge, format!("the file has more than {COLUMNS_MAX} columns")));
            }
            if self.map.has_header && self.header.is_none() {
                let header: Vec<String> = record.iter().map(|cell| cell.trim().to_lowercase()).collect();
                for column in self.map.columns() {
                    place_of(column, &header).map_err(|what| place.unreadable(Cause::WrongMap, what))?;
                }
                self.header = Some(header);
                continue;
            }
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            let row = Row { record: &record, header: self.header.as_deref(), place, map: &self.map };
            let (mut entry, reference) = row.entry()?;
            self.identities.name(&mut entry, reference.as_deref())?;
            return Ok(Some(entry));
        }
        if self.map.has_header && self.header.is_none() {
            return Err(Place::START.unreadable(Cause::Truncated, "the file ends before the names of its columns"));
        }
        Ok(None)
    }

    fn record(&mut self) -> Result<Option<(csv::StringRecord, Place)>, Unreadable> {
        self.reader.get_mut().source.allow(RECORD_BYTES_MAX + READ_AHEAD);
        let mut record = csv::StringRecord::new();
        let read = self.reader.read_record(&mut record);
        let place = self.place_of(&record);
        match read {
            Ok(true) if record.as_slice().len() > RECORD_BYTES_MAX => {
                Err(place.unreadable(Cause::TooLarge, format!("a record has more than {RECORD_BYTES_MAX} bytes")))
            }
            Ok(true) => Ok(Some((record, place))),
            Ok(false) if self.reader.get_ref().quote_open => Err(place.unreadable(Cause::Truncated, "a quote is not closed")),
            Ok(false) => Ok(None),
            Err(error) => Err(match error.kind() {
                csv::ErrorKind::Io(error) => failed(place, error),
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    place.unreadable(Cause::Malformed, format!("the record has {len} columns, those above have {expected_len}"))
                }
                _ => place.unreadable(Cause::Malformed, excerpt(&error.to_string())),
            }),
        }
    }

    /// The first line of the record that was read last.
    fn place_of(&mut self, record: &csv::StringRecord) -> Place {
        let end = self.reader.position().byte().saturating_sub(1);
        let line_ends = &mut self.reader.get_mut().line_ends;
        while line_ends.pop_front_if(|line_end| *line_end < end).is_some() {
            self.passed += 1;
        }
        let within = record.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
        Place { line: (self.passed + 1).saturating_sub(within).max(1), position: 1 }
    }
}

/// The index of a column, by the names in the header; or what is wrong with its name.
fn place_of(column: &Column, header: &[String]) -> Result<usize, String> {
    let name = match column {
        Column::Index(index) => return Ok(*index),
        Column::Name(name) => name,
    };
    let wanted = name.trim().to_lowercase();
    let mut named = header.iter().enumerate().filter(|(_, name)| **name == wanted);
    let (index, _) = named.next().ok_or_else(|| format!("there is no column {:?}", excerpt(name)))?;
    match named.next() {
        None => Ok(index),
        Some(_) => Err(format!("there are several columns {:?}; give its index", excerpt(name))),
    }
}

/// A record, by the map.
struct Row<'r> {
    record: &'r csv::StringRecord,
    header: Option<&'r [String]>,
    place: Place,
    map: &'r ColumnMap,
}

impl Row<'_> {
    fn entry(&self) -> Result<(Entry, Option<String>), Unreadable> {
        let map = self.map;
        let currency = values::currency(&self.given(&map.currency)?, self.place)?;
        let (amount, credit) = self.amount(currency)?;
        let reference = self.optional(&map.bank_reference)?;
        let mut lines = Vec::new();
        for column in &map.remittance {
            lines.extend(some(self.cell(column)?.0));
        }
        let other = Party {
            name: self.optional(&map.payer_name)?,
            account: self.optional(&map.payer_account)?.map(|account| compact(&account)),
            ultimate_name: None,
        };
        let (payer, payee) = if credit { (other, Party::default()) } else { (Party::default(), other) };
        let transaction = Transaction {
            amount: Some(amount),
            end_to_end_id: self.optional(&map.end_to_end_id)?,
            account_servicer_reference: reference.clone(),
            creditor_references: self.optional(&map.creditor_reference)?.into_iter().collect(),
            remittance: some(lines.join(" ")),
            payer,
            payee,
            ..Transaction::default()
        };
        let pending = match &map.status {
            Some(status) => status.pending.contains(&self.cell(&status.column)?.0),
            None => false,
        };
        let entry = Entry {
            account: Account { id: compact(&self.given(&map.account)?), currency: Some(currency), name: None, servicer: None },
            statement_id: None,
            entry_id: reference.clone().unwrap_or_default(),
            identity: Identity::default(),
            status: if pending { Status::Pending } else { Status::Booked },
            credit,
            reversal: false,
            amount,
            currency,
            booked_on: Some(self.date(&map.booked_on)?),
            value_on: map.value_on.as_ref().map(|column| self.date(column)).transpose()?,
            code: BankCode::default(),
            transactions: vec![transaction],
            details: Details::Complete,
            information: None,
            line: self.place.line,
            position: self.place.position,
        };
        Ok((entry, reference))
    }

    /// A cell, trimmed, and its place: exact as long as no cell before it is quoted.
    fn cell(&self, column: &Column) -> Result<(String, Place), Unreadable> {
        let wrong = |what: String| self.place.unreadable(Cause::WrongMap, what);
        let index = place_of(column, self.header.unwrap_or_default()).map_err(wrong)?;
        let text = self.record.get(index).ok_or_else(|| wrong(format!("there is no column with the index {index}")))?;
        let before: usize = self.record.iter().take(index).map(|cell| cell.chars().count() + 1).sum();
        let place = Place { position: before as u64 + 1, ..self.place };
        if text.chars().count() > TEXT_CHARACTERS_MAX {
            return Err(place.unreadable(Cause::TooLarge, format!("a cell has more than {TEXT_CHARACTERS_MAX} characters")));
        }
        let text = tidy(text).ok_or_else(|| place.unreadable(Cause::Malformed, "a cell has control characters"))?;
        Ok((text, place))
    }

    fn optional(&self, column: &Option<Column>) -> Result<Option<String>, Unreadable> {
        Ok(column.as_ref().map(|column| self.cell(column)).transpose()?.and_then(|(text, _)| some(text)))
    }

    fn given(&self, given: &Given) -> Result<String, Unreadable> {
        match given {
            Given::Fixed(text) => Ok(text.clone()),
            Given::Column(column) => match self.cell(column)? {
                (text, place) if text.is_empty() => Err(place.unreadable(Cause::Malformed, "a cell with the account or currency is empty")),
                (text, _) => Ok(text),
            },
        }
    }

    fn date(&self, column: &Column) -> Result<NaiveDate, Unreadable> {
        let (text, place) = self.cell(column)?;
        values::date_by(&text, &self.map.date_format, place)
    }

    /// Amount and direction.
    fn amount(&self, currency: Currency) -> Result<(Amount, bool), Unreadable> {
        let wrong = |place: Place, what: &str| place.unreadable(Cause::InvalidAmount, what.to_owned());
        match &self.map.amount {
            Amounts::Signed { column, negative_is_credit } => {
                let (text, place) = self.cell(column)?;
                let (amount, negative) = self.number(&text, currency, place)?;
                Ok((amount, negative == *negative_is_credit))
            }
            Amounts::Split { credit, debit } => {
                let ((credit, at_credit), (debit, at_debit)) = (self.cell(credit)?, self.cell(debit)?);
                let credit = some(credit).map(|text| self.number(&text, currency, at_credit)).transpose()?;
                // some banks write debits with their sign although they have a column of their own
                let debit = some(debit).map(|text| self.number(&text, currency, at_debit)).transpose()?;
                match (credit, debit) {
                    (Some((_, true)), _) => Err(wrong(at_credit, "a credit is negative")),
                    (Some((amount, _)), None) => Ok((amount, true)),
                    (None, Some((amount, _))) => Ok((amount, false)),
                    (Some((amount, _)), Some((zero, _))) if !zero.is_positive() => Ok((amount, true)),
                    (Some((zero, _)), Some((amount, _))) if !zero.is_positive() => Ok((amount, false)),
                    (Some(_), Some(_)) => Err(wrong(at_credit, "the record has a credit and a debit")),
                    (None, None) => Err(wrong(at_credit, "the record has neither a credit nor a debit")),
                }
            }
            Amounts::Marked { column, mark, credit, debit } => {
                let ((text, place), (mark, at_mark)) = (self.cell(column)?, self.cell(mark)?);
                let (amount, negative) = self.number(&text, currency, place)?;
                match (credit.contains(&mark), debit.contains(&mark)) {
                    _ if negative => Err(wrong(place, "the amount is negative; the mark gives its direction")),
                    (true, false) => Ok((amount, true)),
                    (false, true) => Ok((amount, false)),
                    _ => Err(at_mark.unreadable(Cause::Malformed, format!("{:?} is not a mark of a credit or debit", excerpt(&mark)))),
                }
            }
        }
    }

    /// A number as people write it, without its sign, and whether it is negative: a minus before or behind it, or brackets around it.
    fn number(&self, text: &str, currency: Currency, place: Place) -> Result<(Amount, bool), Unreadable> {
        let wrong = |why: &str| place.unreadable(Cause::InvalidAmount, format!("{:?} is not an amount: {why}", excerpt(text)));
        let (text, bracketed) = match text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) => (inner, true),
            None => (text, false),
        };
        // U+2212 is the minus sign of typography
        let unsigned = text.strip_prefix(['-', '\u{2212}']).or_else(|| text.strip_suffix(['-', '\u{2212}']));
        let digits = unsigned.unwrap_or_else(|| text.strip_prefix('+').unwrap_or(text)).trim();
        let (whole, fraction) = digits.split_once(self.map.decimal_separator).unwrap_or((digits, ""));
        let whole = match self.map.thousands_separator {
            None => whole.to_owned(),
            Some(separator) => {
                let alike = |letter: char| letter == separator || separator == ' ' && letter.is_whitespace();
                let mut groups = whole.split(alike);
                let first = groups.next().unwrap_or_default();
                let rest: Vec<&str> = groups.collect();
                if rest.iter().any(|group| group.len() != 3) || !rest.is_empty() && !(1..=3).contains(&first.len()) {
                    return Err(wrong("its thousands are not in groups of three"));
                }
                format!("{first}{}", rest.concat())
            }
        };
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(&whole) || !plain(fraction) {
            return Err(wrong("digits are expected, with the separators of the map"));
        }
        let amount = values::decimal(&format!("{whole}.{fraction}"), currency, place)?;
        Ok((amount, unsigned.is_some() || bracketed))
    }
}
