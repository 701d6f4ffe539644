//! Cash received for lines.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Command, Outcomes, Page, Query, Several};
use crate::money::{Amount, Currency};

/// How cash came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the field's own")]
pub enum PaymentMethod {
    Wire,
    Ach,
    Sepa,
    Check,
    InternalTransfer,
}

impl PaymentMethod {
    /// All of them.
    pub const ALL: [PaymentMethod; 5] =
        [PaymentMethod::Wire, PaymentMethod::Ach, PaymentMethod::Sepa, PaymentMethod::Check, PaymentMethod::InternalTransfer];
}

/// Cash received for a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// Id.
    pub id: Uuid,
    /// Version: 1 as recorded.
    pub version: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// The line.
    pub line_id: Uuid,
    /// The call.
    pub call_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Amount received. With `charges` it is the sum of `applied`, `interest`, `unapplied`, `suspended`, `refunded` and `moved`.
    pub amount: Amount,
    /// Part that reduced what was outstanding.
    pub applied: Amount,
    /// Part above it: credit of the investor, to be refunded or used for the next call.
    pub unapplied: Amount,
    /// Part that paid default interest of its line.
    #[serde(default)]
    pub interest: Amount,
    /// What banks took on the way, within the tolerance of the rules: it counts as paid and is an expense of the fund.
    #[serde(default)]
    pub charges: Amount,
    /// Part that waits for a person to say that it is no duplicate.
    #[serde(default)]
    pub suspended: Amount,
    /// Credit that was refunded, or is kept for a refund that waits for approval.
    #[serde(default)]
    pub refunded: Amount,
    /// Credit that pays another line now, as a payment of its own.
    #[serde(default)]
    pub moved: Amount,
    /// How it came.
    pub method: PaymentMethod,
    /// The payer's reference.
    pub reference: String,
    /// Value date.
    pub received_on: NaiveDate,
    /// The business date from which it is certain: a check clears later. On it and after it the payment is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears_on: Option<NaiveDate>,
    /// Whether it is certain, on the business date of the answer or event.
    #[serde(default)]
    pub clearing: Clearing,
    /// Who recorded it.
    pub recorded_by: String,
    /// The system or account that reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its name there: the same cash is not recorded twice. Of the parts of a receipt only the first has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// The receipt of which it is a part, where one payment paid several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<Uuid>,
    /// The payment whose credit it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<Uuid>,
    /// Why it waits, or waited, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspense: Option<Suspense>,
    /// The reversal, if there was one.
    pub reversal: Option<Reversal>,
    /// Derived status.
    pub status: PaymentStatus,
}

/// Whether a payment is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clearing {
    /// The bank may still take it back: it counts, but is not refunded.
    Clearing,
    /// It is certain, as far as anything is: it may still be reversed.
    #[default]
    Cleared,
}

/// Why a payment is looked at by a person before it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspense {
    /// The payment with the same amount, value date and payer.
    pub similar_to: Uuid,
    /// What to look at.
    pub warning: String,
    /// Who has released it, if somebody has.
    #[serde(default)]
    pub released_by: Option<String>,
}

/// Why and from when a payment does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reversal {
    /// Why.
    pub reason: String,
    /// Value date of the reversal: from when the cash is gone from the fund. The line is due on its due date again.
    pub effective_on: NaiveDate,
    /// Who recorded it.
    pub reversed_by: String,
    /// What of it had been refunded: the investor owes it.
    #[serde(default)]
    pub owed_back: Amount,
    /// Whether the cash is still there, and was only recorded wrongly.
    #[serde(default)]
    pub cash_stays: bool,
}

/// The derived status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// All of it is applied.
    Applied,
    /// Some of it is credit.
    Overpaid,
    /// It looks like another one, and waits for a person.
    Suspense,
    /// It does not count.
    Reversed,
}

/// What happened to a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PaymentChange {
    /// It was recorded and applied.
    Recorded,
    /// It was taken back.
    Reversed,
    /// Its line was changed: another part of it is applied now.
    Reapplied,
    /// A person said that it is no duplicate: it is applied.
    Released {
        /// Why.
        reason: String,
    },
    /// Credit of it pays another line.
    CreditUsed {
        /// The payment that it became.
        payment_id: Uuid,
        /// How much.
        amount: Amount,
    },
    /// Credit of it is refunded, or is not after all.
    RefundChanged {
        /// The refund.
        refund_id: Uuid,
        /// By how much what is refunded changed.
        amount: Amount,
    },
}

impl Aggregate for Payment {
    type Change = PaymentChange;
    const KIND: &'static str = "payment";
    const OWNER: &'static str = "capital-calls";
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.fund_id)
    }
    fn change_name(change: &PaymentChange) -> &'static str {
        match change {
            PaymentChange::Recorded => "recorded",
            PaymentChange::Reversed => "reversed",
            PaymentChange::Reapplied => "reapplied",
            PaymentChange::Released { .. } => "released",
            PaymentChange::CreditUsed { .. } => "credit_used",
            PaymentChange::RefundChanged { .. } => "refund_changed",
        }
    }
}

/// Records cash received for a line. What is above the outstanding amount becomes unapplied credit; what is short by no more than the
/// tolerance of the rules is a charge. Cash with the amount and value date of an earlier payment of the investor in the fund is kept in
/// suspense with a warning, unless the same source has reported both; if it also has its line, method and reference and finds too
/// little outstanding, it is refused as `duplicate_payment`. Cash with the source and external reference of an earlier one is that
/// one, and answered with it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayment {
    /// The line.
    pub line_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// How it came.
    pub method: PaymentMethod,
    /// The payer's reference, at most 140 characters, as the method allows it.
    pub reference: String,
    /// Value date.
    pub received_on: NaiveDate,
    /// The system or account that reports it, at most 100 characters; with `external_reference`.
    #[serde(default)]
    pub source: Option<String>,
    /// Its name there, at most 140 characters; with `source`.
    #[serde(default)]
    pub external_reference: Option<String>,
}

impl Command for RecordPayment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-payment";
    type Reply = Payment;
}

/// Most payments of one [`RecordPayments`]: with them the request and the answer stay below the broker's
/// largest message.
pub const PAYMENTS_MAX: usize = 10_000;

/// Records cash for several lines. Each payment is accepted or refused by itself, as a [`RecordPayment`] would be,
/// one on top of the other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayments {
    /// The payments, 1 to 10,000.
    pub payments: Vec<RecordPayment>,
}

impl Command for RecordPayments {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-payments";
    type Reply = Outcomes<PaymentAccepted>;
}

impl Several for RecordPayments {
    type Part = RecordPayment;
    type Accepted = PaymentAccepted;
    const PARTS: &'static str = "payments";
    const PARTS_MAX: usize = PAYMENTS_MAX;
    fn parts(&self) -> &[RecordPayment] {
        &self.payments
    }
}

/// One of several payments is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentAccepted {
    /// The payment.
    pub payment_id: Uuid,
    /// Part that reduced what was outstanding.
    pub applied: Amount,
    /// Part above it.
    pub unapplied: Amount,
    /// Part that waits for a person, with a warning on the payment.
    #[serde(default)]
    pub suspended: Amount,
}

/// Takes a payment back, once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReversePayment {
    /// The payment.
    pub payment_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
    /// Value date of the reversal: from when the cash is gone from the fund. The line is due on its due date again.
    pub effective_on: NaiveDate,
    /// Whether the cash is still there, and was only recorded wrongly: the bank entry that it came from waits for a person again, as soon
    /// as all payments of the entry are taken back so. Not where any of it was refunded.
    #[serde(default)]
    pub cash_stays: bool,
}

impl Command for ReversePayment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.reverse-payment";
    type Reply = Payment;
}

/// The part of a receipt that is for one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptPart {
    /// The line.
    pub line_id: Uuid,
    /// Its part of the amount.
    pub amount: Amount,
}

/// Most lines of one receipt.
pub const RECEIPT_PARTS_MAX: usize = 100;

/// Records cash of an investor for several lines at once: for those named, or for its open lines of the fund by the application order
/// of the rules. Each part is a payment; what is above all that is outstanding is credit on the last one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordReceipt {
    /// The fund.
    pub fund_id: Uuid,
    /// The investor who paid.
    pub investor_id: Uuid,
    /// Amount in the fund's currency.
    pub amount: Amount,
    /// Currency of the amount; must be the fund's if given.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// How it came.
    pub method: PaymentMethod,
    /// The payer's reference, at most 140 characters, as the method allows it.
    pub reference: String,
    /// Value date.
    pub received_on: NaiveDate,
    /// What is for which line, at most 100, together the amount; none: by the rules.
    #[serde(default)]
    pub parts: Option<Vec<ReceiptPart>>,
    /// The system or account that reports it, at most 100 characters; with `external_reference`.
    #[serde(default)]
    pub source: Option<String>,
    /// Its name there, at most 140 characters; with `source`.
    #[serde(default)]
    pub external_reference: Option<String>,
}

/// Cash of an investor, and the payments that it became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The receipt.
    pub receipt_id: Uuid,
    /// One payment a line.
    pub payments: Vec<Payment>,
}

impl Command for RecordReceipt {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.record-receipt";
    type Reply = Receipt;
}

/// Applies a payment that is kept in suspense: somebody has made sure that it is no duplicate. One that is a duplicate is reversed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePayment {
    /// The payment.
    pub payment_id: Uuid,
    /// Why, at most 500 characters.
    pub reason: String,
}

impl Command for ReleasePayment {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.release-payment";
    type Reply = Payment;
}

/// Pays another line of the investor in the fund with the credit that a payment has left.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UseCredit {
    /// The payment with the credit.
    pub payment_id: Uuid,
    /// The line that it pays.
    pub line_id: Uuid,
    /// How much, at most the credit and what is outstanding; as much as there is of both if not given.
    #[serde(default)]
    pub amount: Option<Amount>,
}

impl Command for UseCredit {
    const SUBJECT: &'static str = "tranche.cmd.capital-calls.use-credit";
    type Reply = Payment;
}

/// One payment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPayment {
    /// The payment.
    pub payment_id: Uuid,
}

impl Query for GetPayment {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-payment";
    type Reply = Payment;
}

/// Payments, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListPayments {
    /// For this line only.
    #[serde(default)]
    pub line_id: Option<Uuid>,
    /// For this call only.
    #[serde(default)]
    pub call_id: Option<Uuid>,
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// Only those that are kept in suspense until a person releases or reverses them.
    #[serde(default)]
    pub in_suspense: bool,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListPayments {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-payments";
    type Reply = Page<Payment>;
}

/// Most payments of one [`FindPayments`].
pub const FIND_PAYMENTS_MAX: usize = 1_000;

/// The payments that another system has reported under these names. What is not known, or not for the sender to see, is left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindPayments {
    /// The system that reported them.
    pub source: String,
    /// Their names there, 1 to 1,000.
    pub external_references: Vec<String>,
}

/// The payments that are known.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PaymentsFound {
    /// The payments.
    pub items: Vec<Payment>,
}

impl Query for FindPayments {
    const SUBJECT: &'static str = "tranche.query.capital-calls.find-payments";
    type Reply = PaymentsFound;
}
