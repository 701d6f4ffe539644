//! Call lines: what each investor owes for a call.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Page, Query};
use crate::money::{Amount, Currency};

use super::{PinnedInstructions, PurposeKind};
use crate::rules::DefaultInterest;

/// The part of a line that is for one purpose of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinePurpose {
    /// What for.
    pub kind: PurposeKind,
    /// The allocation of an investment.
    pub allocation_id: Option<Uuid>,
    /// Whether it draws on the commitment, or gives back to it.
    #[serde(default)]
    pub inside_commitment: bool,
    /// Its part of the line's amount; below zero for a return that is netted.
    pub amount: Amount,
    /// Its part of what is paid and netted, pro rata to the amounts.
    pub paid: Amount,
}

impl LinePurpose {
    /// What it does to the unfunded commitment: what draws on it is below zero, what is given back above.
    pub fn impact_on_unfunded(&self) -> Amount {
        if self.inside_commitment { -self.amount } else { Amount::ZERO }
    }
}

/// What became of a line other than by being paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Nothing.
    #[default]
    None,
    /// The investor does not take part.
    Excused,
    /// The call was taken back.
    Rescinded,
    /// The others pay for an investor who has failed.
    CoveredByOthers,
}

/// What one investor owes for one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLine {
    /// Id.
    pub id: Uuid,
    /// Version.
    pub version: i64,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// The call.
    pub call_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Type of the fund; chooses the rules.
    pub fund_type: String,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency of the fund.
    pub currency: Currency,
    /// Its creditor reference by ISO 11649: cash that comes with it is known to be for the line.
    #[serde(default)]
    pub reference: String,
    /// Amount called.
    pub amount: Amount,
    /// What it does to the unfunded commitment: minus the part inside the commitment, plus what is returned and may be called again.
    pub impact_on_unfunded: Amount,
    /// The later closing at which it was added; none as issued or amended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_id: Option<Uuid>,
    /// The amendment of the call that last changed it; 0 as issued.
    #[serde(default)]
    pub amendment: i32,
    /// What became of it other than by being paid.
    #[serde(default)]
    pub disposition: Disposition,
    /// Cash applied, less reversals.
    pub paid: Amount,
    /// Cash received above what was outstanding.
    pub unapplied: Amount,
    /// Bank charges within the tolerance of the rules, that count as paid.
    #[serde(default)]
    pub charges: Amount,
    /// `amount - paid`.
    pub outstanding: Amount,
    /// The latest value date of the cash that is applied: where nothing is outstanding, the date on which it was funded.
    #[serde(default)]
    pub last_paid_on: Option<NaiveDate>,
    /// Default interest that was paid: income of the fund, no part of what is paid in.
    #[serde(default)]
    pub interest_paid: Amount,
    /// Default interest that is final since the principal was paid, and not paid itself. While principal is outstanding, `standing` says
    /// what has accrued.
    #[serde(default)]
    pub interest_due: Amount,
    /// The interest that it bears when it is paid late; none without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_interest: Option<DefaultInterest>,
    /// The notice that the investor has failed to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_notice: Option<FailureNotice>,
    /// The declaration that the investor is in default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultDeclared>,
    /// What others have taken over of it: no part of its amount any more, but it bore interest until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covered: Vec<CoveredPart>,
    /// When everything was paid, with interest, within the time for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cured_on: Option<NaiveDate>,
    /// The fund's bank details that its notice goes by: those in use when it was issued or amended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<PinnedInstructions>,
    /// Due date.
    pub due_on: NaiveDate,
    /// Business date of the issue.
    pub issued_on: NaiveDate,
    /// Days after the due date before the line is overdue.
    pub grace_days: i32,
    /// IANA time zone of the fund's business dates.
    pub timezone: String,
    /// The parts for each purpose.
    pub purposes: Vec<LinePurpose>,
    /// Settlement, from applied cash.
    pub status: LineStatus,
    /// Time axis, on the business date of the answer or event.
    pub timing: LineTiming,
}

/// The notice that an investor has failed to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureNotice {
    /// Business date of the notice.
    pub noticed_on: NaiveDate,
    /// Until when it can be cured.
    pub cure_by: NaiveDate,
    /// Why, in a person's words.
    pub reason: String,
    /// Who gave it.
    pub noticed_by: String,
}

/// A part of a line that others pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoveredPart {
    /// Business date on which they took it over.
    pub on: NaiveDate,
    /// Amount.
    pub amount: Amount,
}

/// The declaration that an investor is in default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefaultDeclared {
    /// Business date.
    pub declared_on: NaiveDate,
    /// Why, in a person's words.
    pub reason: String,
    /// Who declared it.
    pub declared_by: String,
}

/// Settlement of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineStatus {
    /// Nothing is paid.
    Open,
    /// Some is paid.
    PartiallyPaid,
    /// All is paid.
    Paid,
    /// More than the amount was received.
    Overpaid,
}

/// Where a line stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineTiming {
    /// The due date is ahead.
    NotDue,
    /// Due today.
    Due,
    /// Past due, within the days of grace.
    Grace,
    /// Past due and grace.
    Overdue,
    /// The investor was told that it has failed to pay.
    DefaultNoticed,
    /// The investor was declared to be in default.
    Defaulted,
    /// Nothing is outstanding; after a failure notice no interest either.
    Settled,
}

/// What happened to a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CallLineChange {
    /// The investor was asked.
    Issued,
    /// A payment was applied.
    PaymentApplied {
        /// The payment.
        payment_id: Uuid,
        /// Part of it that reduced what is outstanding.
        applied: Amount,
        /// Part of it that is credit of the investor.
        unapplied: Amount,
    },
    /// A payment was taken back.
    PaymentReversed {
        /// The payment.
        payment_id: Uuid,
        /// What is outstanding again.
        applied: Amount,
        /// What is no credit any more.
        unapplied: Amount,
        /// Credit that other payments had left on the line, and that pays for it now.
        #[serde(default)]
        credit_used: Amount,
    },
    /// Credit that a payment had left on the line pays another line or is refunded; below zero it came back.
    CreditUsed {
        /// The payment.
        payment_id: Uuid,
        /// How much.
        amount: Amount,
    },
    /// The investor was told that it has failed to pay.
    FailureNoticed,
    /// The investor was declared to be in default.
    DefaultDeclared,
    /// The others pay a part of it, by a call of its own.
    Covered {
        /// That call.
        call_id: Uuid,
        /// How much.
        amount: Amount,
        /// By how much the impact on the unfunded commitment changed.
        impact_on_unfunded: Amount,
    },
    /// The call was amended.
    Amended {
        /// By how much the amount changed.
        amount: Amount,
        /// By how much the impact on the unfunded commitment changed.
        impact_on_unfunded: Amount,
        /// What had been paid above the new amount: credit of the investor.
        credited: Amount,
    },
    /// The call was taken back.
    Rescinded {
        /// What is called no more.
        amount: Amount,
        /// What is unfunded again.
        impact_on_unfunded: Amount,
        /// What had been paid: credit of the investor.
        credited: Amount,
    },
}

impl Aggregate for CallLine {
    type Change = CallLineChange;
    const KIND: &'static str = "call_line";
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
    fn change_name(change: &CallLineChange) -> &'static str {
        match change {
            CallLineChange::Issued => "issued",
            CallLineChange::PaymentApplied { .. } => "payment_applied",
            CallLineChange::PaymentReversed { .. } => "payment_reversed",
            CallLineChange::CreditUsed { .. } => "credit_used",
            CallLineChange::FailureNoticed => "failure_noticed",
            CallLineChange::DefaultDeclared => "default_declared",
            CallLineChange::Covered { .. } => "covered",
            CallLineChange::Amended { .. } => "amended",
            CallLineChange::Rescinded { .. } => "rescinded",
        }
    }
}

/// One line, with how it changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCallLine {
    /// The line.
    pub line_id: Uuid,
    /// As it stood at the end of this date by what was paid by then; the business date of its fund if not given.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

/// Where a line stands on a date, by value dates: what comes late with an earlier value date counts as if it had come on it, and cash
/// that was taken back as if it had never come, whenever that takes effect: the line is due on its due date again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineStanding {
    /// The date.
    pub as_of: NaiveDate,
    /// What was outstanding at its end.
    pub outstanding: Amount,
    /// Where it stood in time.
    pub timing: LineTiming,
    /// Days past due with something outstanding.
    pub days_overdue: i64,
    /// Interest that has accrued.
    pub interest_accrued: Amount,
    /// Interest that has accrued and is not paid.
    pub interest_outstanding: Amount,
}

/// What was outstanding from a date on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutstandingFrom {
    /// The date: the due date, then each value date.
    pub from: NaiveDate,
    /// What was outstanding at its end.
    pub outstanding: Amount,
}

/// How a line changed after its issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineEntry {
    /// Id.
    pub id: Uuid,
    /// The line.
    pub line_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Version of the line with the change.
    pub version: i64,
    /// By how much what is called changed.
    pub amount: Amount,
    /// By how much the impact on the unfunded commitment changed.
    pub impact_on_unfunded: Amount,
    /// By how much what is applied changed: below zero it became credit, above zero credit was used.
    pub paid: Amount,
    /// Why.
    pub reason: String,
    /// Who had it changed.
    pub recorded_by: String,
    /// From when it counts.
    pub effective_on: NaiveDate,
}

/// A line and how it changed; without the entries it is what was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLineView {
    /// The line.
    #[serde(flatten)]
    pub line: CallLine,
    /// The changes, in their order.
    pub entries: Vec<LineEntry>,
    /// Where it stands on the date asked for.
    pub standing: LineStanding,
    /// What was outstanding from the due date on, by value dates, up to the date asked for.
    pub overdue_history: Vec<OutstandingFrom>,
}

impl Query for GetCallLine {
    const SUBJECT: &'static str = "tranche.query.capital-calls.get-call-line";
    type Reply = CallLineView;
}

/// Call lines, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCallLines {
    /// Of this fund only.
    #[serde(default)]
    pub fund_id: Option<Uuid>,
    /// Of this call only.
    #[serde(default)]
    pub call_id: Option<Uuid>,
    /// Of this investor only.
    #[serde(default)]
    pub investor_id: Option<Uuid>,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListCallLines {
    const SUBJECT: &'static str = "tranche.query.capital-calls.list-call-lines";
    type Reply = Page<CallLine>;
}
