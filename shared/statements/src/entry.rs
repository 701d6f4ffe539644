//! What all formats are read into.

use chrono::NaiveDate;
use domain::reference::CreditorReference;
use domain::{Amount, Currency};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// Whether the money has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// On the books.
    #[default]
    Booked,
    /// Expected (camt `PDNG` and `FUTR`, BAI2 interim same-day data): never cash.
    Pending,
    /// Told only (camt `INFO` and statuses of the bank's own, BAI2 890 to 899): never cash.
    Information,
}

/// How the transactions of an entry add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Details {
    /// The bank gave none; the one transaction there is has the entry's amount and information and nothing else.
    #[default]
    Absent,
    /// Their sum is the entry's amount.
    Complete,
    /// Their sum is the entry's amount once the charges stated are taken off a credit or put on a debit.
    NetOfCharges,
    /// Fewer are given than the bank counts, or some have no amount in the entry's currency.
    Partial,
    /// All amounts are given and they are not the entry's: to be looked at by a person before it is applied.
    Differ,
}

/// The account of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// IBAN or the bank's number, as the file gives it, without blanks.
    pub id: String,
    /// Currency, if the file says it.
    pub currency: Option<Currency>,
    /// The account's or else its owner's name.
    pub name: Option<String>,
    /// BIC, or other id, of the bank.
    pub servicer: Option<String>,
}

/// The bank's code for a kind of entry, as far as it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankCode {
    /// ISO 20022 domain, for example `PMNT`.
    pub domain: Option<String>,
    /// ISO 20022 family, for example `RCDT`.
    pub family: Option<String>,
    /// ISO 20022 sub-family, for example `ESCT`; `RRTN` is a return.
    pub sub_family: Option<String>,
    /// The bank's own code; for BAI2 the type code.
    pub proprietary: Option<String>,
}

/// Why a payment came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnReason {
    /// Code of the ISO external list, for example `AC04`, or the bank's own.
    pub code: Option<String>,
    /// What the bank says beside it.
    pub text: Option<String>,
}

/// Someone at one end of a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// Name.
    pub name: Option<String>,
    /// IBAN or other number of the account, without blanks.
    pub account: Option<String>,
    /// Name of the one on whose behalf it is paid or received.
    pub ultimate_name: Option<String>,
}

/// One payment within an entry. For a return the ids are those of the payment that came back, as the standard has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transaction {
    /// Amount in the entry's currency, above or equal zero; none if the bank gives none.
    pub amount: Option<Amount>,
    /// Whether it goes the other way than the entry (a debit within a credit batch).
    pub opposite: bool,
    /// What was instructed, if it is in another currency.
    pub instructed: Option<(Amount, Currency)>,
    /// Charges stated, in the entry's currency.
    pub charges: Option<Amount>,
    /// The payer's own id; the standard's `NOTPROVIDED` is none.
    pub end_to_end_id: Option<String>,
    /// Id of the instruction to the payer's bank.
    pub instruction_id: Option<String>,
    /// Id of the transaction between the banks.
    pub transaction_id: Option<String>,
    /// Unique end-to-end transaction reference, a UUID.
    pub uetr: Option<String>,
    /// The bank's reference of the transaction.
    pub account_servicer_reference: Option<String>,
    /// Structured references of the creditor: ISO 11649 or a national kind, as given.
    pub creditor_references: Vec<String>,
    /// Free remittance text, lines joined by a blank.
    pub remittance: Option<String>,
    /// Further information of the bank.
    pub information: Option<String>,
    /// Who pays.
    pub payer: Party,
    /// Who is paid.
    pub payee: Party,
    /// Set when this is a payment that came back.
    pub return_reason: Option<ReturnReason>,
}

impl Transaction {
    /// The ISO 11649 references that the payer gave: the structured ones, else those found in the
    /// remittance text, else in the end-to-end id.
    pub fn references(&self) -> Vec<CreditorReference> {
        let structured: Vec<_> = self.creditor_references.iter().filter_map(|text| text.parse().ok()).collect();
        let found = |text: &Option<String>| text.as_deref().map(CreditorReference::find).unwrap_or_default();
        [structured, found(&self.remittance), found(&self.end_to_end_id), found(&self.information)]
            .into_iter()
            .find(|references| !references.is_empty())
            .unwrap_or_default()
    }
}

/// One line of a statement or notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Whose account.
    pub account: Account,
    /// Id of the statement or notification; for BAI2 the file's id and the group's date.
    pub statement_id: Option<String>,
    /// The bank's reference of the entry (`AcctSvcrRef`), else `NtryRef`, else the hash of its content.
    pub entry_id: String,
    /// By what it is known again in another file.
    pub identity: Identity,
    /// Whether the money has moved.
    pub status: Status,
    /// Whether the account is credited.
    pub credit: bool,
    /// Whether it undoes an earlier entry (`RvslInd`; BAI2 return and reversal types).
    pub reversal: bool,
    /// Amount, never negative.
    pub amount: Amount,
    /// Currency of the amount.
    pub currency: Currency,
    /// When it was booked.
    pub booked_on: Option<NaiveDate>,
    /// From when it bears interest.
    pub value_on: Option<NaiveDate>,
    /// The bank's code.
    pub code: BankCode,
    /// The payments within, at least one.
    pub transactions: Vec<Transaction>,
    /// How they add up.
    pub details: Details,
    /// Further information of the bank.
    pub information: Option<String>,
    /// Line in the file, from 1.
    pub line: u64,
    /// Character within the line, from 1.
    pub position: u64,
}

impl Entry {
    /// By what the same booking is known again: in a notification and later in a statement, pending and later booked.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether a payment comes back with this entry: it is marked as a reversal, gives a return reason, or has the
    /// sub-family `RRTN` of returns.
    pub fn is_return(&self) -> bool {
        self.reversal
            || self.code.sub_family.as_deref() == Some("RRTN")
            || self.transactions.iter().any(|transaction| transaction.return_reason.is_some())
    }

    /// Whether this is cash on the account.
    pub fn is_cash(&self) -> bool {
        self.status == Status::Booked && self.amount.is_positive()
    }
}

/// Sets how the transactions add up to the entry; puts in the one transaction of an entry without details.
/// `counted` is the number that the bank states, `charges` those of the entry itself.
pub(crate) fn reconcile(entry: &mut Entry, counted: Option<u64>, charges: Option<Amount>) {
    if entry.transactions.is_empty() {
        let information = entry.information.clone();
        entry.transactions.push(Transaction { amount: Some(entry.amount), information, ..Transaction::default() });
        entry.details = if counted.is_some_and(|count| count > 1) { Details::Partial } else { Details::Absent };
        return;
    }
    if let [only] = entry.transactions.as_mut_slice() {
        only.amount = only.amount.or(Some(entry.amount));
    }
    let minor = |amount: Amount| amount.minor(entry.currency);
    let given = entry.transactions.len() as u64;
    let sum: Option<i128> = entry.transactions.iter().try_fold(0i128, |sum, transaction| {
        let amount = minor(transaction.amount?);
        Some(if transaction.opposite { sum - amount } else { sum + amount })
    });
    let transactions_charges: i128 = entry.transactions.iter().filter_map(|transaction| transaction.charges).map(minor).sum();
    let charges = [charges.map_or(0, minor), transactions_charges];
    let net = |sum: i128, charge: i128| if entry.credit { sum - charge } else { sum + charge };
    entry.details = match sum {
        None => Details::Partial,
        Some(_) if counted.is_some_and(|count| count > given) => Details::Partial,
        Some(sum) if sum == minor(entry.amount) => Details::Complete,
        Some(sum) if charges.iter().any(|&charge| charge > 0 && net(sum, charge) == minor(entry.amount)) => Details::NetOfCharges,
        Some(sum) if net(sum, charges[0] + charges[1]) == minor(entry.amount) => Details::NetOfCharges,
        Some(_) => Details::Differ,
    };
}
