//! Every limit of the readers, in one place. Together they bound the memory: one entry at a time, and
//! for the ordinals of equal entries two hashes for each of at most [`ENTRIES_MAX`].

/// Bytes that are looked at to tell the format; an XML declaration, comments and the root stand in them.
pub const HEAD_BYTES_MAX: usize = 4_096;

/// Bytes in one markup or one text of an XML file. The longest text of the standard has 500 characters, but
/// comments and supplementary data are passed over as one piece.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Bytes of one entry with all its transactions: 20,000 transactions of 1.6 kB each.
pub const ENTRY_BYTES_MAX: usize = 32 << 20;

/// Characters of one value, after which it is refused; the standard's longest is 500, and banks join lines.
pub const TEXT_CHARACTERS_MAX: usize = 10_000;

/// Characters of an id or of the number of an account: four times the longest of the standard (Max35Text).
pub const ID_CHARACTERS_MAX: usize = 140;

/// Depth of elements. The deepest path of camt.053 has about 15.
pub const DEPTH_MAX: usize = 40;

/// Attributes of one element; the standard has one (`Ccy`), and roots declare a few namespaces.
pub const ATTRIBUTES_MAX: usize = 20;

/// Transactions of one entry. Batches of collections have some thousands.
pub const TRANSACTIONS_MAX: usize = 20_000;

/// References, charges or remittance lines of one transaction.
pub const REPETITIONS_MAX: usize = 1_000;

/// Balances of one statement, or accounts totals of one BAI2 record.
pub const BALANCES_MAX: usize = 1_000;

/// Entries of one file: what 100 MB of short CSV records hold, and ten times what 100 MB of camt.053 do. Two hashes of 64 bits are kept
/// of each: 180,000 entries of camt.053 took 8 MB, 1.2 million CSV records 56 MB.
pub const ENTRIES_MAX: usize = 2_000_000;

/// Bytes of one record of BAI2 with its continuations, or of one CSV record.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// Columns of a CSV file.
pub const COLUMNS_MAX: usize = 500;

/// Lines above the header of a CSV file.
pub const HEADER_LINES_MAX: usize = 100;

/// Earliest and latest year of a date.
pub const YEARS: std::ops::RangeInclusive<i32> = 1970..=2199;

/// Statements of one file that are told not to lead from their opening to their closing balance.
pub const DISCREPANCIES_MAX: usize = 100;
