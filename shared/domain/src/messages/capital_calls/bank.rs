//! Bank entries: what banks say has come and gone, and which lines it pays.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PaymentMethod, ReceiptPart};
use crate::message::{Aggregate, Command, Page, Query};
use crate::money::{Amount, Currency};

/// An account of a fund at a bank: entries on it are the fund's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankAccount {
    /// The fund.
    pub fund_id: Uuid,
    /// IBAN or other number, masked.
    pub account: String,
    /// Currency.
    pub currency: Currency,
    /// Who registered it.
    pub registered_by: String,
    /// When.
    pub registered_at: DateTime<Utc>,
    /// Who closed it; none while it is open.
    pub closed_by: Option<String>,
    /// When.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Registers an account of a fund. One that is registered already for the same fund stays as it is; one that was closed may be
/// registered for any fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterBankAccount {
    /// The fund.
    pub fund_id: Uuid,
    /// IBAN or other number, 4 to 34 letters and digits; blanks are dropped.
    pub account: String,
}

impl Command for RegisterBankAccount {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.register-bank-account";
    type Reply = BankAccount;
    const IS_SECRET: bool = true;
}

/// Closes an account of a fund, for good or because it was registered by mistake: entries on it that are imported later are no fund's.
/// One that is closed already stays as it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseBankAccount {
    /// The fund.
    pub fund_id: Uuid,
    /// IBAN or other number; blanks are dropped.
    pub account: String,
}

impl Command for CloseBankAccount {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.close-bank-account";
    type Reply = BankAccount;
    const IS_SECRET: bool = true;
}

/// Accounts of a fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListBankAccounts {
    /// The fund.
    pub fund_id: Uuid,
}

impl Query for ListBankAccounts {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-bank-accounts";
    type Reply = Page<BankAccount>;
}

/// One transaction of a statement or notification, as it was read from a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedEntry {
    /// By what it is known again, made of the bank's reference; none without one.
    pub reference_key: Option<String>,
    /// By what it is known again, made of its content.
    pub content_key: String,
    /// Number of the transaction within its entry, from 0.
    pub ordinal: i32,
    /// The account, as the file gives it; masked as soon as it is put aside.
    pub account: String,
    /// By what its account is found, made when it is put aside.
    #[serde(default)]
    pub account_key: Option<String>,
    /// Id of the statement.
    pub statement_id: Option<String>,
    /// The bank's reference of the entry.
    pub entry_id: String,
    /// Whether the money has not moved yet.
    pub pending: bool,
    /// Whether the account is credited.
    pub credit: bool,
    /// Whether a payment comes back with it.
    pub is_return: bool,
    /// Amount, above or equal zero.
    pub amount: Amount,
    /// Currency.
    pub currency: Currency,
    /// Booking date.
    pub booked_on: Option<NaiveDate>,
    /// Value date.
    pub value_on: Option<NaiveDate>,
    /// Name of the payer.
    pub payer_name: Option<String>,
    /// Account of the payer, masked as well.
    pub payer_account: Option<String>,
    /// By what it is found.
    #[serde(default)]
    pub payer_key: Option<String>,
    /// References of ISO 11649 that the payer gave.
    pub references: Vec<String>,
    /// Free text.
    pub remittance: Option<String>,
    /// The payer's own id.
    pub end_to_end_id: Option<String>,
    /// Why it came back.
    pub return_reason: Option<String>,
    /// How it came, by the bank's code.
    pub method: PaymentMethod,
    /// Whether the transactions of its entry do not add up to it: a person looks at it.
    pub differs: bool,
    /// Line of the file.
    pub line: u64,
}

/// Most entries of one [`StageBankEntries`]: with them it stays below the broker's largest message.
pub const STAGED_MAX: usize = 500;

/// Puts entries of a file aside: nothing counts until the import is completed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageBankEntries {
    /// The import.
    pub import_id: Uuid,
    /// Place of the first entry in the file, from 0.
    pub from: i32,
    /// The entries, 1 to 500.
    pub entries: Vec<ImportedEntry>,
}

/// How many entries were put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankEntriesStaged {
    /// How many.
    pub staged: usize,
}

impl Command for StageBankEntries {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.stage-bank-entries";
    const IS_SECRET: bool = true;
    type Reply = BankEntriesStaged;
}

/// Has the entries of an import count: from now on they are matched, in the order of the file, until none is left.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteBankImport {
    /// The import.
    pub import_id: Uuid,
    /// Name of the file, at most 200 characters.
    pub file_name: String,
    /// Format of the file.
    pub format: String,
    /// How many entries were put aside.
    pub entries: i32,
    /// What does not add up in the file without making it unreadable, at most 20.
    #[serde(default)]
    pub discrepancies: Vec<String>,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankImport {
    /// Id.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Name of the file.
    pub file_name: String,
    /// Format of the file.
    pub format: String,
    /// Entries in it.
    pub entries: i32,
    /// Entries that are still to be matched; 0 when the import is done.
    pub left: i32,
    /// Entries that were known before.
    pub known: i32,
    /// Entries that are pending.
    pub pending: i32,
    /// Entries that became payments, in suspense or not.
    pub matched: i32,
    /// Entries for which a person chooses.
    pub suggested: i32,
    /// Entries in suspense.
    pub unmatched: i32,
    /// Entries with which payments came back.
    pub returned: i32,
    /// Entries that are no cash for a line, such as our own payments.
    pub information: i32,
    /// What does not add up in the file.
    pub discrepancies: Vec<String>,
    /// Who imported it.
    pub imported_by: String,
}

impl Command for CompleteBankImport {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.complete-bank-import";
    type Reply = BankImport;
}

/// Why an entry is for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchReason {
    /// The payer gave the line's reference.
    Reference,
    /// The payer's account was confirmed for the investor before.
    PayerAccount,
    /// The payer's name was confirmed for the investor before, and the amount is what it owes, and nobody else.
    PayerName,
    /// The amount is what is outstanding, and the payer's name is the investor's.
    AmountAndName,
    /// The amount is what is outstanding on all lines of an investor with the payer's name.
    SumAndName,
    /// The amount is what is outstanding.
    Amount,
    /// The payer's name is the investor's; the amount is a part of what is outstanding, or more.
    Name,
    /// A person said so.
    Person,
}

/// Lines that an entry may be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suggestion {
    /// What is for which line; together the entry's amount.
    pub parts: Vec<ReceiptPart>,
    /// Why.
    pub why: MatchReason,
    /// How sure that is, in percent.
    pub sure: u8,
}

/// An entry on a bank account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankEntry {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was first seen.
    pub created_at: DateTime<Utc>,
    /// The fund whose account it is on, or whose line it pays; none while that is not known.
    pub fund_id: Option<Uuid>,
    /// The import in which it was seen first.
    pub import_id: Uuid,
    /// What the bank says.
    #[serde(flatten)]
    pub entry: ImportedEntry,
    /// What was decided.
    pub decision: BankEntryDecision,
    /// Why and how sure it is matched; why it is not, in words.
    pub matched_by: Option<MatchReason>,
    /// How sure that is, in percent.
    pub sure: Option<u8>,
    /// What a person should know.
    pub note: Option<String>,
    /// The payments that it became, or took back.
    pub payment_ids: Vec<Uuid>,
    /// Lines that it may be for, the surest first.
    pub suggestions: Vec<Suggestion>,
    /// Who matched or rejected it.
    pub decided_by: Option<String>,
    /// Days since its booking while it waits, on the date of the answer.
    pub age_days: Option<i64>,
    /// The same as `decision`.
    pub status: BankEntryDecision,
}

/// What became of a bank entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BankEntryDecision {
    /// It is pending at the bank.
    Detected,
    /// It pays lines.
    Matched,
    /// A person chooses between suggestions.
    Suggested,
    /// Nobody knows what it is for: suspense.
    Unmatched,
    /// Payments came back with it, or it went back itself before it paid any line.
    Returned,
    /// It is no cash for a line, by what the bank says or a person.
    Information,
}

/// What happened to a bank entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BankEntryChange {
    /// It was seen.
    Seen,
    /// What was pending is booked.
    Booked,
    /// A person matched it.
    Matched,
    /// A person rejected its suggestions, or set it aside.
    Rejected {
        /// Why.
        reason: String,
    },
    /// A person took all payments back that it became, and the cash is still there: it waits for a person again.
    Reopened {
        /// Why they were taken back.
        reason: String,
    },
    /// It went back before it paid any line.
    Returned {
        /// The entry with which it went.
        entry_id: Uuid,
    },
    /// What it takes back was seen after it.
    TookBack,
}

impl Aggregate for BankEntry {
    type Change = BankEntryChange;
    const KIND: &'static str = "bank_entry";
    const OWNER: &'static str = "capital-calls";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        self.fund_id
    }
    fn change_name(change: &BankEntryChange) -> &'static str {
        match change {
            BankEntryChange::Seen => "seen",
            BankEntryChange::Booked => "booked",
            BankEntryChange::Matched => "matched",
            BankEntryChange::Rejected { .. } => "rejected",
            BankEntryChange::Reopened { .. } => "reopened",
            BankEntryChange::Returned { .. } => "returned",
            BankEntryChange::TookBack => "took_back",
        }
    }
}

/// Says which lines an entry pays: one of its suggestions, or others.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchBankEntry {
    /// The entry.
    pub entry_id: Uuid,
    /// What is for which line, 1 to 100, all of one investor in one fund; together the entry's amount.
    pub parts: Vec<ReceiptPart>,
    /// Whether the payer's account and name stand for this investor from now on, in this fund.
    #[serde(default)]
    pub remember_payer: bool,
}

impl Command for MatchBankEntry {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.match-bank-entry";
    type Reply = BankEntry;
}

/// Says that an entry is for none of the lines suggested: it stays in suspense, unless it is no investor's cash at all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectBankEntry {
    /// The entry.
    pub entry_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
    /// Whether it is no cash for a line, such as interest of the bank or proceeds of a sale: it leaves the suspense. It may still be
    /// matched by a person.
    #[serde(default)]
    pub set_aside: bool,
}

impl Command for RejectBankEntry {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.reject-bank-entry";
    type Reply = BankEntry;
}

/// One import.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetBankImport {
    /// The import.
    pub import_id: Uuid,
}

impl Query for GetBankImport {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-bank-import";
    type Reply = BankImport;
}

/// One bank entry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetBankEntry {
    /// The entry.
    pub entry_id: Uuid,
}

impl Query for GetBankEntry {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-bank-entry";
    type Reply = BankEntry;
}

/// Bank entries, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListBankEntries {
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// First seen in this import only.
    #[serde(default)]
    pub import_id: Option<Uuid>,
    /// With this decision only.
    #[serde(default)]
    pub status: Option<BankEntryDecision>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListBankEntries {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-bank-entries";
    type Reply = Page<BankEntry>;
}

/// A saved map of the columns of a bank's CSV files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnMapSaved {
    /// Its name.
    pub name: String,
    /// The map.
    pub map: serde_json::Value,
    /// Who saved it.
    pub saved_by: String,
    /// When.
    pub saved_at: DateTime<Utc>,
}

/// Saves a map of the columns of a bank's CSV files under a name; one of that name is replaced.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveColumnMap {
    /// Its name, at most 60 characters.
    pub name: String,
    /// The map: for each thing its column, by name or by index from 0, or what is the same for the whole file. For example
    /// `{"account": {"fixed": "DE89370400440532013000"}, "currency": {"column": "Currency"}, "booked_on": "Date", "amount": {"signed":
    /// {"column": "Amount"}}, "payer_name": "Payer", "bank_reference": "Ref", "remittance": ["Text"]}`.
    pub map: serde_json::Value,
}

impl Command for SaveColumnMap {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.save-column-map";
    type Reply = ColumnMapSaved;
}

/// The saved maps, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListColumnMaps {}

impl Query for ListColumnMaps {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-column-maps";
    type Reply = Page<ColumnMapSaved>;
}
