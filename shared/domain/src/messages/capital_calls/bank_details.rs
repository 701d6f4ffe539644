//! Bank details: to which account cash of a fund or an investor goes. What is secret of them is never in an event.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Page, Query};
use crate::money::Currency;

/// Where cash is sent: what only those with the right see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentInstructions {
    /// Whose account it is, at most 140 characters.
    pub account_name: String,
    /// IBAN (ISO 13616) or other number of 4 to 34 letters and digits; blanks are dropped.
    pub account: String,
    /// Name of the bank, at most 140 characters.
    pub bank_name: String,
    /// Its business identifier code (ISO 9362), 8 or 11 letters and digits. This or the routing number is needed unless the account is an
    /// IBAN.
    #[serde(default)]
    pub bic: Option<String>,
    /// Its routing number of the American Bankers Association, 9 digits.
    #[serde(default)]
    pub routing_number: Option<String>,
    /// The correspondent bank through which it is paid, a business identifier code.
    #[serde(default)]
    pub intermediary_bic: Option<String>,
    /// What the receiving bank is told besides, at most 140 characters.
    #[serde(default)]
    pub further_credit: Option<String>,
}

/// A log line of a program tells nothing.
impl fmt::Debug for PaymentInstructions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PaymentInstructions({})", masked_account(&self.account))
    }
}

/// An account's number as everybody may see it: its last four letters and digits, fewer of a short one.
pub fn masked_account(account: &str) -> String {
    let letters: Vec<char> = account.chars().filter(|letter| !letter.is_whitespace()).collect();
    let shown = (letters.len() / 3).min(4);
    format!("****{}", letters[letters.len() - shown..].iter().collect::<String>())
}

/// Bank details of a fund or of an investor, in one currency: one version of them. They are in use when a second person has confirmed
/// them by a call back and the cooling-off time is over, until later ones are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankDetails {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When they were proposed.
    pub created_at: DateTime<Utc>,
    /// The fund whose details they are.
    pub fund_id: Option<Uuid>,
    /// Or the investor.
    pub investor_id: Option<Uuid>,
    /// Currency of the account.
    pub currency: Currency,
    /// The account, masked.
    pub account: String,
    /// SHA-256 of the instructions with their salt: see [`RevealedBankDetails`].
    pub hash: String,
    /// What was decided.
    pub decision: BankDetailsDecision,
    /// Who proposed them.
    pub proposed_by: String,
    /// Why they are what they are, or why they change.
    pub reason: String,
    /// Who confirmed or rejected them.
    pub decided_by: Option<String>,
    /// The call by which they were confirmed.
    pub call_back: Option<CallBack>,
    /// From when they may be used: after the cooling-off time. None of those that are rejected before.
    pub usable_from: Option<DateTime<Utc>>,
    /// When the steps of their change were done; they are not used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<DateTime<Utc>>,
    /// Type of the fund, if they are a fund's; chooses the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fund_type: Option<String>,
    /// Why they were rejected.
    pub rejected_because: Option<String>,
    /// Derived status.
    pub status: BankDetailsStatus,
}

/// A call to somebody who is known, by a number that was known before: the only proof against instructions that somebody slipped in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallBack {
    /// When; after the proposal.
    pub called_at: DateTime<Utc>,
    /// Where the number was found, such as the file of the subscription; not what came with the change. At most 200 characters.
    pub number_from: String,
    /// Who confirmed the details, at most 200 characters.
    pub spoken_to: String,
}

/// What was decided about bank details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BankDetailsDecision {
    /// They wait for a second person.
    Proposed,
    /// A second person has confirmed them.
    Confirmed,
    /// They are not used.
    Rejected,
}

/// The derived status of bank details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BankDetailsStatus {
    /// They wait for a second person.
    Proposed,
    /// They are confirmed, and not used yet.
    CoolingOff,
    /// Cash is sent there.
    InUse,
    /// Later ones are used.
    Superseded,
    /// They are not used.
    Rejected,
}

/// What happened to bank details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BankDetailsChange {
    /// They were proposed.
    Proposed,
    /// A second person has confirmed them.
    Confirmed,
    /// The steps of their change are done.
    Released,
    /// They are not used.
    Rejected,
}

impl Aggregate for BankDetails {
    type Change = BankDetailsChange;
    const KIND: &'static str = "bank_details";
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
    fn change_name(change: &BankDetailsChange) -> &'static str {
        match change {
            BankDetailsChange::Proposed => "proposed",
            BankDetailsChange::Confirmed => "confirmed",
            BankDetailsChange::Released => "released",
            BankDetailsChange::Rejected => "rejected",
        }
    }
}

/// Proposes bank details of a fund or an investor. They change nothing before a second person confirms them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeBankDetails {
    /// The fund; either this or the investor.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// The investor.
    #[serde(default)]
    pub investor_id: Option<Uuid>,
    /// Currency of the account; a fund's is the fund's.
    pub currency: Currency,
    /// Where cash is sent.
    pub instructions: PaymentInstructions,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for ProposeBankDetails {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.propose-bank-details";
    type Reply = BankDetails;
    const IS_SECRET: bool = true;
}

/// Confirms bank details after a call back, as another person than who proposed them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
    /// Their hash, as it was shown: other details are not confirmed.
    pub hash: String,
    /// The call.
    pub call_back: CallBack,
}

impl Command for ConfirmBankDetails {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.confirm-bank-details";
    type Reply = BankDetails;
}

/// Rejects bank details: proposed ones, confirmed ones, and those in use, which leaves none in use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for RejectBankDetails {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.reject-bank-details";
    type Reply = BankDetails;
}

/// Has confirmed bank details used from their time on, or rejects them. Sent by the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
    /// The hash of what was confirmed.
    pub hash: String,
    /// Why they are rejected; none has them used.
    pub rejected_because: Option<String>,
}

impl Command for DecideBankDetails {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.decide-bank-details";
    type Reply = BankDetails;
}

/// Bank details, masked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
}

impl Query for GetBankDetails {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-bank-details";
    type Reply = BankDetails;
}

/// Bank details of a fund or of an investor, one of which is given, masked, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListBankDetails {
    /// Of this fund.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// Of this investor.
    #[serde(default)]
    pub investor_id: Option<Uuid>,
    /// Continue after this.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Items of a page, at most 200.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListBankDetails {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-bank-details";
    type Reply = Page<BankDetails>;
}

/// Bank details as only those with the right see them. Who asks stands in the audit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
}

/// Where cash is sent, with what proves it: the hash is SHA-256, in hexadecimal, of the salt and, after it, the instructions as JSON with the fields
/// `account_name`, `account`, `bank_name`, `bic`, `routing_number`, `intermediary_bic` and `further_credit`, in this order, each there (null where
/// there is none), and no blanks between them. Without the salt nobody can guess an account from its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevealedBankDetails {
    /// The bank details.
    pub bank_details_id: Uuid,
    /// Where cash is sent.
    pub instructions: PaymentInstructions,
    /// 32 hexadecimal digits.
    pub salt: String,
    /// See above.
    pub hash: String,
}

impl Query for RevealBankDetails {
    const SUBJECT: &'static str = "tranche.query.capital-calls.reveal-bank-details";
    type Reply = RevealedBankDetails;
}

/// Which bank details a notice, or a refund that was paid out, goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinnedInstructions {
    /// The bank details.
    pub bank_details_id: Uuid,
    /// The account, masked.
    pub account: String,
    /// Their hash.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_account_shows_four_letters_at_most_and_never_most_of_it() {
        for (account, masked) in
            [("DE89 3704 0044 0532 0130 00", "****3000"), ("123456789", "****789"), ("1234", "****4"), ("12", "****"), ("", "****")]
        {
            assert_eq!(masked_account(account), masked, "{account}");
        }
    }
}
