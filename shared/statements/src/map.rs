//! Which column of a CSV file holds what.

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};
use encoding_rs::Encoding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{COLUMNS_MAX, HEADER_LINES_MAX};

/// A column: by its name, whatever its case, or by its index from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Column {
    /// Index from 0.
    Index(usize),
    /// Name in the header.
    Name(String),
}

/// What is the same for the whole file, or stands in a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// For the whole file.
    Fixed(String),
    /// In each record.
    Column(Column),
}

/// How amount and direction are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Amounts {
    /// One column with a sign.
    Signed {
        /// The amount.
        column: Column,
        /// Whether a negative amount is a credit; else it is a debit.
        #[serde(default)]
        negative_is_credit: bool,
    },
    /// A column for credits and one for debits, of which one is empty or zero.
    Split {
        /// Credits.
        credit: Column,
        /// Debits, with a minus or without.
        debit: Column,
    },
    /// A column without a sign, and one that tells the direction.
    Marked {
        /// The amount.
        column: Column,
        /// The direction.
        mark: Column,
        /// Texts that mean a credit.
        credit: Vec<String>,
        /// Texts that mean a debit.
        debit: Vec<String>,
    },
}

/// Which entries have not been booked yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusColumn {
    /// The column.
    pub column: Column,
    /// Texts that mean pending; all others mean booked.
    pub pending: Vec<String>,
}

/// A saved map of a bank's CSV export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnMap {
    /// Between columns; one ASCII character.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Label of the encoding, such as `utf-8` or `iso-8859-1`; a byte order mark has precedence.
    #[serde(default = "utf_8")]
    pub encoding: String,
    /// Lines above the header, or above the first record, that are passed over.
    #[serde(default)]
    pub header_lines: usize,
    /// Whether a record with the names of the columns comes first.
    #[serde(default = "yes")]
    pub has_header: bool,
    /// IBAN or number of the account.
    pub account: Given,
    /// ISO 4217 code of the currency.
    pub currency: Given,
    /// When it was booked.
    pub booked_on: Column,
    /// From when it bears interest.
    #[serde(default)]
    pub value_on: Option<Column>,
    /// Form of all dates, in the notation of `strftime`, such as `%d.%m.%Y`.
    #[serde(default = "iso_date")]
    pub date_format: String,
    /// Amount and direction.
    pub amount: Amounts,
    /// Before the decimals.
    #[serde(default = "point")]
    pub decimal_separator: char,
    /// Between groups of three digits; a blank means every kind of blank.
    #[serde(default)]
    pub thousands_separator: Option<char>,
    /// The bank's own id of the entry.
    #[serde(default)]
    pub bank_reference: Option<Column>,
    /// The payer's own id.
    #[serde(default)]
    pub end_to_end_id: Option<Column>,
    /// Structured reference of the creditor.
    #[serde(default)]
    pub creditor_reference: Option<Column>,
    /// Free remittance text; several columns are joined by a blank.
    #[serde(default)]
    pub remittance: Vec<Column>,
    /// Name of the payer; of a debit, of the payee.
    #[serde(default)]
    pub payer_name: Option<Column>,
    /// Account of the payer; of a debit, of the payee.
    #[serde(default)]
    pub payer_account: Option<Column>,
    /// Which entries are pending; without it all are booked.
    #[serde(default)]
    pub status: Option<StatusColumn>,
}

fn comma() -> char {
    ','
}
fn point() -> char {
    '.'
}
fn yes() -> bool {
    true
}
fn utf_8() -> String {
    "utf-8".into()
}
fn iso_date() -> String {
    "%Y-%m-%d".into()
}

impl ColumnMap {
    /// Refuses a map by which no file can be read, whatever the file; to be asked before one is saved.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn check(&self) -> Result<(), String> {
        if !self.delimiter.is_ascii() || matches!(self.delimiter, '"' | '\n' | '\r') || self.delimiter.is_ascii_alphanumeric() {
            return Err(format!("the delimiter {:?} is not a punctuation mark, blank or tab of ASCII", self.delimiter));
        }
        if Some(self.decimal_separator) == self.thousands_separator || self.decimal_separator.is_alphanumeric() {
            return Err("decimal and thousands separator must differ from each other, and from digits and letters".into());
        }
        if self.thousands_separator.is_some_and(char::is_alphanumeric) {
            return Err("the thousands separator must be neither a digit nor a letter".into());
        }
        if let Given::Fixed(account) = &self.account
            && !account.chars().all(|letter| letter.is_ascii_alphanumeric() || letter.is_whitespace())
        {
            return Err("the account does not have letters and digits only".into());
        }
        if let Given::Fixed(currency) = &self.currency
            && !(currency.len() == 3 && currency.bytes().all(|letter| letter.is_ascii_alphabetic()))
        {
            return Err(format!("{currency:?} is no currency of ISO 4217, such as USD"));
        }
        if Encoding::for_label(self.encoding.as_bytes()).is_none() {
            return Err(format!("the encoding {:?} is not known", self.encoding));
        }
        if self.header_lines > HEADER_LINES_MAX {
            return Err(format!("there can be {HEADER_LINES_MAX} lines above the header at most"));
        }
        self.check_date_format()?;
        for column in self.columns() {
            match column {
                Column::Name(name) if !self.has_header => {
                    return Err(format!("the column {name:?} has a name, but the file has no header"));
                }
                Column::Index(index) if *index >= COLUMNS_MAX => return Err(format!("the index {index} is above {COLUMNS_MAX}")),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_date_format(&self) -> Result<(), String> {
        let items: Vec<Item<'_>> = StrftimeItems::new(&self.date_format).collect();
        let sample = NaiveDate::from_ymd_opt(2026, 11, 25).unwrap_or_default();
        // what cannot be parsed back is no form of a whole date; an item of a time would fail to be written
        let has_times = items.iter().any(|item| matches!(item, Item::Error));
        let mut written = String::new();
        use std::fmt::Write;
        let written_well = !has_times && write!(written, "{}", sample.format_with_items(items.iter())).is_ok();
        if written_well && NaiveDate::parse_from_str(&written, &self.date_format) == Ok(sample) {
            return Ok(());
        }
        Err(format!("{:?} is not the form of a date, such as %d.%m.%Y", self.date_format))
    }

    /// The columns that it names.
    pub(crate) fn columns(&self) -> Vec<&Column> {
        let mut columns = vec![&self.booked_on];
        columns.extend(&self.remittance);
        columns.extend(self.status.as_ref().map(|status| &status.column));
        for given in [&self.account, &self.currency] {
            if let Given::Column(column) = given {
                columns.push(column);
            }
        }
        for column in
            [&self.value_on, &self.bank_reference, &self.end_to_end_id, &self.creditor_reference, &self.payer_name, &self.payer_account]
        {
            columns.extend(column);
        }
        match &self.amount {
            Amounts::Signed { column, .. } => columns.push(column),
            Amounts::Split { credit, debit } => columns.extend([credit, debit]),
            Amounts::Marked { column, mark, .. } => columns.extend([column, mark]),
        }
        columns
    }
}
