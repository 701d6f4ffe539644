//! Refusals: what a person did that the business does not allow, with a stable code and what to do
//! about it. A refusal is a value; it is answered and never retried.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod remedies;

pub use remedies::SENDER;

#[allow(missing_docs, reason = "each reason is explained by its entry")]
/// Why a request is refused. The code on the wire is the name in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    // the request itself
    MalformedRequest,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    RequestIncomplete,
    RequestTooLarge,
    UnsupportedMediaType,
    UnknownPath,
    MethodNotAllowed,
    Unauthenticated,
    Forbidden,
    FundOutOfScope,
    // values
    InvalidAmount,
    AmountPrecision,
    UnknownCurrency,
    WrongCurrency,
    InvalidText,
    UnknownTimezone,
    UnknownCalendar,
    ImplausibleDate,
    InvalidRate,
    InvalidReference,
    InvalidRules,
    UnknownScope,
    // things that are not there
    UnknownDeal,
    UnknownFund,
    UnknownInvestor,
    UnknownCommitment,
    UnknownClosing,
    UnknownAllocation,
    UnknownCapitalCall,
    UnknownCallLine,
    UnknownPayment,
    UnknownRefund,
    UnknownBankEntry,
    UnknownBankAccount,
    UnknownBankDetails,
    UnknownBankImport,
    UnknownColumnMap,
    UnknownWorkflow,
    UnknownApproval,
    UnknownRuleChange,
    UnknownRuleVersion,
    UnknownDeadLetter,
    // allocations
    AmountBelowMinimum,
    AmountAboveMaximum,
    DealClosedToAllocation,
    DuplicateAllocation,
    TooManyAllocations,
    OverCapacity,
    AllocationNotPending,
    AllocationNotActive,
    AllocationNotWithdrawn,
    DealConcentration,
    SectorConcentration,
    TransitionClosed,
    DuplicateFund,
    // capital calls and payments
    DuplicateCapitalCall,
    InvestorTypeConcentration,
    CommitmentExists,
    CommitmentDrawn,
    TransferMismatch,
    ClosingMismatch,
    CallNotShareable,
    AlreadyExcused,
    NoCommitments,
    PurposeMismatch,
    CallExceedsAllocation,
    CallExceedsUnfunded,
    CallNotPending,
    CallSaysOtherwise,
    CallNotDraft,
    CallNotIssued,
    CallNotCancellable,
    CallRescinded,
    AmendmentPending,
    NothingAmended,
    NoticeTooShort,
    AdjustmentMismatch,
    NetCallNotPositive,
    DuplicatePayment,
    PaymentReversed,
    PaymentMethodNotAllowed,
    ExternalReferenceReused,
    ReceiptMismatch,
    NoLineToPay,
    NotSuspended,
    NoCredit,
    NotCleared,
    RefundPending,
    RefundNotPending,
    RefundNotApproved,
    InterestNotPaid,
    BankAccountTaken,
    InvalidBankDetails,
    BankDetailsProposed,
    BankDetailsDiffer,
    BankDetailsDecided,
    BankDetailsCoolingOff,
    SecondPersonNeeded,
    CallBackMismatch,
    BankImportIncomplete,
    BankEntryDecided,
    NotOverdue,
    FailureNoticed,
    CureTimeRuns,
    NotInDefault,
    AlreadyInDefault,
    NothingOutstanding,
    NothingCovered,
    RemedyMismatch,
    ShortfallCovered,
    StatementUnreadable,
    // approvals
    RequesterMayNotVote,
    RoleMayNotVote,
    AlreadyVoted,
    NotYourTurn,
    RulesNeedApproval,
    RuleChangeNotReady,
    RuleChangeDiffers,
    RuleChangeDecided,
    RulesReplaced,
    EarlierRulesFirst,
    ApprovalDecided,
    ApprovalDenied,
    ApprovalExpired,
    NoDelegation,
    UnknownDelegation,
    InvalidDelegation,
    InvalidDetails,
    Withdrawn,
    PredicateRefused,
    StepRefused,
    StepUnanswered,
    StepAnswerInvalid,
    WorkflowPaused,
    StageRequestUnanswered,
    StageRequestRefused,
    WorkflowNotSteerable,
    NotYourRequest,
    // the system
    DeadLetterDecided,
    Overloaded,
    ServiceUnavailable,
    Internal,
}

impl Reason {
    /// HTTP status, title, and the recommendation to the person who must act.
    pub const fn entry(self) -> (u16, &'static str, &'static str) {
        use Reason as R;
        match self {
            R::MalformedRequest => (
                400,
                "malformed request",
                "send the body and parameters as the OpenAPI document describes them: dates as YYYY-MM-DD, amounts as strings, ids as UUIDs",
            ),
            R::IdempotencyKeyMissing => (
                400,
                "idempotency key missing",
                "send an Idempotency-Key header of 1 to 200 visible characters, a new one for each new intent",
            ),
            R::IdempotencyKeyReused => {
                (409, "idempotency key reused", "use a new Idempotency-Key for another request; repeat a request with the very same body")
            }
            R::RequestIncomplete => (
                408,
                "request not sent to its end",
                "send it again with the same Idempotency-Key; if it happens again, look at the connection",
            ),
            R::RequestTooLarge => (413, "request too large", "send a smaller body"),
            R::UnsupportedMediaType => (415, "unsupported media type", "send the body with Content-Type: application/json"),
            R::UnknownPath => (404, "unknown path", "see /api/v1/openapi.json for the paths there are"),
            R::MethodNotAllowed => (405, "method not allowed", "see /api/v1/openapi.json for the methods of this path"),
            R::Unauthenticated => {
                (401, "not signed in", "send a valid bearer token; ask your identity provider for a new one if it has expired")
            }
            R::Forbidden => (403, "role not sufficient", "ask someone whose role allows it, or an administrator for the role"),
            R::FundOutOfScope => (403, "fund out of scope", "ask an administrator to add the fund to your token's funds"),
            R::InvalidAmount => {
                (422, "invalid amount", "give a positive decimal amount that a fund may have, as a string, such as \"1000.00\"")
            }
            R::AmountPrecision => (422, "too many decimals", "round the amount to the currency's minor unit"),
            R::UnknownCurrency => (422, "unknown currency", "give a currency of ISO 4217, such as USD"),
            R::WrongCurrency => (422, "wrong currency", "use the fund's currency"),
            R::InvalidText => (422, "invalid text", "give a text of the length and form that the field allows, without control characters"),
            R::UnknownTimezone => (422, "unknown time zone", "give an IANA time zone, such as Europe/Luxembourg"),
            R::UnknownCalendar => (422, "unknown calendar", "give one of the calendars named"),
            R::ImplausibleDate => (422, "implausible date", "give a date, or a range of dates, within the time that is named"),
            R::InvalidRate => (422, "invalid rate", "give a rate in percent a year as a string, such as \"8.5\""),
            R::InvalidReference => {
                (422, "invalid reference", "give the reference as the payment method writes it, and an external reference with its source")
            }
            R::InvalidRules => (422, "invalid rules", "correct the field named and send the rules again"),
            R::UnknownScope => (422, "unknown rule scope", "use global, env:<name>, fund-type:<type> or fund:<id>"),
            R::UnknownDeal => (404, "unknown deal", "check the id; a deal appears once the deal system has published it"),
            R::UnknownFund => (404, "unknown fund", "check the id, or register the fund first"),
            R::UnknownInvestor => (404, "unknown investor", "check the id, or register the investor first"),
            R::UnknownCommitment => (404, "unknown commitment", "check the id; the fund's commitments are listed under the fund"),
            R::UnknownClosing => (404, "unknown closing", "check the id"),
            R::UnknownAllocation => (404, "unknown allocation", "check the id"),
            R::UnknownCapitalCall => (404, "unknown capital call", "check the id"),
            R::UnknownCallLine => (404, "unknown call line", "check the id; lines exist once the call is issued"),
            R::UnknownPayment => (404, "unknown payment", "check the id"),
            R::UnknownRefund => (404, "unknown refund", "check the id"),
            R::UnknownBankEntry => (404, "unknown bank entry", "check the id"),
            R::UnknownBankAccount => {
                (404, "unknown bank account", "look at the accounts of the fund, and write the number as the bank does")
            }
            R::UnknownBankDetails => (404, "unknown bank details", "check the id"),
            R::UnknownBankImport => (404, "unknown bank import", "check the id"),
            R::UnknownColumnMap => (404, "unknown column map", "save the map of the file's columns under this name first"),
            R::UnknownWorkflow => (404, "unknown workflow", "check the id; a workflow appears a moment after its request was accepted"),
            R::UnknownApproval => (404, "unknown approval", "check the id"),
            R::UnknownRuleChange => (404, "unknown change of rules", "check the id; GET /rule-changes lists those there are"),
            R::UnknownRuleVersion => (404, "unknown version of rules", "look at the versions there are: GET /rules/{scope}/versions"),
            R::UnknownDeadLetter => (404, "unknown dead letter", "check the id and the service"),
            R::DeadLetterDecided => (409, "dead letter decided", "only a parked dead letter can be discarded; look at its status"),
            R::AmountBelowMinimum => (422, "below the minimum", "allocate at least the minimum, or have an administrator change the rule"),
            R::AmountAboveMaximum => (422, "above the maximum", "allocate at most the maximum, or have an administrator change the rule"),
            R::DealClosedToAllocation => {
                (409, "deal closed to allocation", "choose a deal that is still open, or ask the deal team to reopen it")
            }
            R::DuplicateAllocation => (409, "allocation exists", "use the allocation there is, or cancel it first"),
            R::TooManyAllocations => {
                (409, "too many allocations for the deal", "cancel an allocation of this deal, or have an administrator change the rule")
            }
            R::OverCapacity => (409, "fund capacity exceeded", "lower the amount to what the fund has left, or choose another fund"),
            R::AllocationNotPending => (409, "allocation not pending", "look at the allocation; it has been decided already"),
            R::AllocationNotActive => (409, "allocation not active", "wait for the allocation's approval before calling capital for it"),
            R::DealConcentration => (
                422,
                "too much in one deal",
                "propose at most what the rule deal_percent_max leaves, or have an admin change the fund's rules",
            ),
            R::SectorConcentration => (
                422,
                "too much in one sector",
                "propose at most what the rule sector_percents_max leaves, or have an admin change the fund's rules",
            ),
            R::InvestorTypeConcentration => (
                422,
                "too much from one type of investor",
                "record at most what the rule investor_type_percents_max leaves, or have an admin change the fund's rules",
            ),
            R::TransitionClosed => {
                (409, "closed by the rules", "ask an admin to take it out of the rule transitions_closed of the fund, or do without")
            }
            R::AllocationNotWithdrawn => {
                (409, "allocation not taken back", "look at the allocation; it is not being taken back, or has been by another workflow")
            }
            R::DuplicateFund => (409, "fund exists", "use the fund there is, or register it under another name"),
            R::DuplicateCapitalCall => {
                (409, "capital call exists", "look at the fund's call with this external_reference; amend it instead, or give another one")
            }
            R::CommitmentExists => (409, "commitment exists", "the investor has a commitment to this fund; record a change to it instead"),
            R::CommitmentDrawn => (
                409,
                "commitment drawn already",
                "take away at most what is unfunded from the date on; of a transferred interest, say how much of it is drawn",
            ),
            R::TransferMismatch => (422, "transfer not consistent", "name another investor, and a part that is at most the whole"),
            R::ClosingMismatch => (422, "closing not consistent", "correct the field or the investor named"),
            R::CallNotShareable => {
                (409, "earlier call cannot be shared anew", "amend or rescind the capital call named, then hold the closing")
            }
            R::AlreadyExcused => (409, "excused before", "look at the commitment; amend calls that were issued before the excuse"),
            R::NoCommitments => (409, "no commitments in force", "record commitments that are effective by the due date first"),
            R::PurposeMismatch => (
                422,
                "purpose not consistent",
                "correct the purpose named: an investment has an allocation, others have none, and a return is inside the commitments",
            ),
            R::CallExceedsAllocation => (409, "call exceeds the allocation", "call at most what the allocation has left to call"),
            R::CallExceedsUnfunded => {
                (409, "call exceeds the unfunded commitments", "lower the amount by the shortfall, or call the rest outside the commitment")
            }
            R::CallSaysOtherwise => {
                (409, "capital call says something else by now", "look at what it says now, and write the change from that")
            }
            R::CallNotPending => (409, "capital call not pending", "look at the capital call; it has been decided already"),
            R::CallNotDraft => (409, "capital call not a draft", "look at the capital call; it has been submitted already"),
            R::CallNotIssued => {
                (409, "capital call not issued", "only an issued capital call can be rescinded; cancel it before its issue")
            }
            R::CallNotCancellable => (
                409,
                "nothing to cancel",
                "a capital call is cancelled before its issue, an amendment before its approval; rescind an issued call",
            ),
            R::CallRescinded => {
                (409, "capital call rescinded", "look at the capital call; record cash for another line, or refund it to the investor")
            }
            R::AmendmentPending => (409, "amendment pending", "wait for the decision about the amendment there is, or cancel it first"),
            R::NothingAmended => (422, "nothing amended", "give the fields that shall change, with other values than they have"),
            R::NoticeTooShort => (
                409,
                "notice too short",
                "choose a due date on or after the one named, or a higher priority if the rules allow less notice for it",
            ),
            R::AdjustmentMismatch => (422, "adjustment not consistent", "correct the adjustment of the investor named"),
            R::NetCallNotPositive => (422, "net call not positive", "lower what is returned, or return it without a call"),
            R::DuplicatePayment => {
                (409, "payment recorded before", "look at the payment named; if this is another one, give it its own reference")
            }
            R::PaymentReversed => {
                (409, "payment reversed before", "a payment can be reversed once; record a new payment if money came again")
            }
            R::PaymentMethodNotAllowed => {
                (409, "payment method not allowed", "ask for another way to pay, or have an administrator change the rule")
            }
            R::ExternalReferenceReused => {
                (409, "external reference reused", "look at the payment named; give other cash another external reference")
            }
            R::ReceiptMismatch => {
                (422, "receipt not consistent", "give parts for lines of one investor in one fund that add up to the amount")
            }
            R::NoLineToPay => (409, "no line to pay", "wait for a capital call to the investor, or send the cash back"),
            R::NotSuspended => (409, "payment not in suspense", "look at the payment; it is applied or reversed already"),
            R::NoCredit => (
                409,
                "not so much credit",
                "look at the payment: use at most the credit it has and what the line has outstanding; cash that was taken back is no credit",
            ),
            R::NotCleared => (409, "payment not cleared", "wait until the payment has cleared, on the date named"),
            R::RefundPending => (409, "refund not paid out yet", "pay the refund out or cancel it first"),
            R::RefundNotPending => (409, "refund not pending", "look at the refund; it has been decided or paid out already"),
            R::RefundNotApproved => (409, "refund not approved", "wait for the approval before the refund is paid out"),
            R::InterestNotPaid => {
                (409, "no interest to pay out", "wait until those who owe the interest have paid; what they have paid is paid out once")
            }
            R::StatementUnreadable => (
                422,
                "statement file not readable",
                "look at the line named, and get the file again from the bank, or name the column map of a CSV file; nothing of it was imported",
            ),
            R::BankAccountTaken => (409, "bank account taken", "look whose account it is; an account is one fund's"),
            R::InvalidBankDetails => (422, "bank details not valid", "correct the field named, as the bank has written it"),
            R::BankDetailsProposed => (409, "bank details proposed before", "have those that wait confirmed, or reject them, first"),
            R::BankDetailsDiffer => (409, "other bank details", "look at the bank details, and call back about those"),
            R::BankDetailsDecided => (409, "bank details decided", "look at the bank details; propose new ones if they must change"),
            R::BankDetailsCoolingOff => {
                (409, "bank details not used yet", "wait until the cooling-off time of the investor's bank details is over")
            }
            R::SecondPersonNeeded => (403, "second person needed", "have somebody else confirm what you have proposed"),
            R::CallBackMismatch => (422, "call back not consistent", "call after the details were proposed, and say when"),
            R::BankImportIncomplete => (409, "bank import incomplete", "send the file again"),
            R::BankEntryDecided => (409, "bank entry decided", "look at the bank entry; reverse its payment to match it anew"),
            R::NotOverdue => (409, "line not overdue", "wait until the due date and the days of grace are over"),
            R::FailureNoticed => (409, "failure noticed before", "look at the line; the notice stands there with its deadline"),
            R::CureTimeRuns => (409, "time for a cure runs", "give the failure notice first, and wait until the date named is over"),
            R::NotInDefault => (409, "line not in default", "declare the default first"),
            R::AlreadyInDefault => (409, "default declared before", "look at the line; the declaration stands there"),
            R::NothingOutstanding => (409, "nothing outstanding", "look at the line; it is paid, or others pay for it"),
            R::NothingCovered => {
                (409, "nothing can be covered", "the others have no room within their unfunded commitments and the cap of the rules")
            }
            R::RemedyMismatch => {
                (422, "remedy not consistent", "give an amount with a forfeit, a sale or a set-off, and none with a reinstatement")
            }
            R::ShortfallCovered => (
                409,
                "others pay a part of the call",
                "rescind the call whose line the others pay for, which takes the calls to them back with it, and issue another",
            ),
            R::RequesterMayNotVote => (403, "requester may not vote", "ask another member of the committee to vote"),
            R::RoleMayNotVote => (403, "role may not vote", "ask someone with the role that the approval names"),
            R::NotYourTurn => {
                (409, "not this role's turn", "wait until those who come first have voted, or ask somebody of the role named")
            }
            R::RulesNeedApproval => (
                409,
                "rules need approval",
                "propose the change, POST /rules/{scope}/changes, and have it simulated; the votes and steps that it needs follow",
            ),
            R::RuleChangeNotReady => (409, "change of rules not ready", "mend what it names as its problems, then have it simulated"),
            R::RuleChangeDiffers => (409, "another change of rules", "look at the change again, and vote on what it says now"),
            R::RuleChangeDecided => (409, "change of rules decided", "look at the change; propose another one if the rules must change"),
            R::EarlierRulesFirst => {
                (503, "earlier rules first", "nothing: it is put in force after those that are due before it, or once theirs is withdrawn")
            }
            R::RulesReplaced => {
                (409, "rules replaced meanwhile", "edit the change against the version in force now, and have it approved again")
            }
            R::AlreadyVoted => (409, "voted before", "each person has one vote; ask another member"),
            R::ApprovalDecided => (
                409,
                "approval decided",
                "no vote is needed on it any more; look for the approval that waits, if what is asked for was changed",
            ),
            R::ApprovalDenied => (409, "approval denied", "talk to those who voted, change the request and submit it again"),
            R::Withdrawn => (409, "withdrawn", "look at what was asked for; submit it again if it is still wanted"),
            R::InvalidDetails => {
                (422, "invalid details", "look at investment_types in GET /rules/{scope}: details have the schema of the security_type")
            }
            R::ApprovalExpired => {
                (409, "approval expired", "ask those who have not voted why; submit the request again if it is still wanted")
            }
            R::NoDelegation => (
                403,
                "no delegation",
                "ask the member for whom you vote to delegate the vote to you, POST /delegations, for a time that includes now",
            ),
            R::UnknownDelegation => (404, "unknown delegation", "look at the list, GET /delegations"),
            R::InvalidDelegation => {
                (422, "invalid delegation", "delegate to somebody else, for a period that has not ended and is not longer than 92 days")
            }
            R::PredicateRefused => {
                (409, "a condition of the firm does not hold", "mend the request as the condition named says, and submit it again")
            }
            R::StepRefused => (409, "a program refused it", "ask those who run the program named; mend the request and submit it again"),
            R::StepUnanswered => {
                (409, "a program did not answer", "ask those who run the program named to start it, then have the request submitted again")
            }
            R::StageRequestUnanswered => (
                409,
                "the deal system did not answer",
                "ask those who run the deal system to move the deal, or whether our requests on deals.cmd.stage-change reach it",
            ),
            R::StageRequestRefused => (
                409,
                "the deal system refused the stage",
                "ask the deal's owner in the deal system why; the allocation is in force all the same",
            ),
            R::StepAnswerInvalid => (
                409,
                "a program answered wrongly",
                "ask those who run the program named to mend it, or an admin to change its schema in the rules; then submit the request again",
            ),
            R::WorkflowPaused => (
                409,
                "workflow paused",
                "an admin mends what the reason says, then has it go on: POST /workflows/{id}/actions, resume or retry",
            ),
            R::WorkflowNotSteerable => (
                409,
                "workflow cannot be steered so",
                "look at the workflow: what has ended or is being decided stays; submit a new request",
            ),
            R::NotYourRequest => (403, "not your request", "ask who made the request, or an admin, to cancel it"),
            R::Overloaded => (429, "overloaded", "repeat the request after the time in Retry-After, with the same Idempotency-Key"),
            R::ServiceUnavailable => {
                (503, "service unavailable", "repeat the request after the time in Retry-After, with the same Idempotency-Key")
            }
            R::Internal => (500, "internal error", "report the correlation id to the operators"),
        }
    }

    /// The stable code, for example `over_capacity`.
    pub fn code(self) -> String {
        let name = format!("{self:?}");
        let mut code = String::with_capacity(name.len() + 4);
        for (position, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && position > 0 {
                code.push('_');
            }
            code.push(letter.to_ascii_lowercase());
        }
        code
    }

    /// A refusal for this reason, with the values concerned.
    pub fn with(self, detail: impl Into<String>) -> Rejection {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARACTERS_MAX) {
            detail.truncate(end);
        }
        Rejection { reason: self, detail }
    }

    /// Whether the refusal may rest on a copy of another service's data that is a moment behind.
    /// The shell decides such a request again for a short time before it answers.
    pub const fn may_be_behind(self) -> bool {
        matches!(
            self,
            Reason::UnknownDeal | Reason::UnknownFund | Reason::UnknownAllocation | Reason::AllocationNotActive | Reason::UnknownWorkflow
        )
    }

    /// Whether the refusal rests on what the rules of the fund allow.
    pub const fn is_by_rules(self) -> bool {
        matches!(
            self,
            Reason::AmountBelowMinimum
                | Reason::AmountAboveMaximum
                | Reason::TooManyAllocations
                | Reason::DealConcentration
                | Reason::SectorConcentration
                | Reason::InvestorTypeConcentration
                | Reason::NoticeTooShort
                | Reason::PaymentMethodNotAllowed
                | Reason::TransitionClosed
        )
    }

    /// Whether the answer may be kept under the idempotency key. What was not found or could not
    /// be served now may be there when the caller asks again.
    pub const fn is_final(self) -> bool {
        !matches!(self.entry().0, 404 | 429 | 500 | 503)
    }
}

/// Longest detail; what a caller sent may be quoted in it.
pub const DETAIL_CHARACTERS_MAX: usize = 1_000;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// The values concerned, for a person.
    pub detail: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason.code(), self.detail)
    }
}

/// A refusal on the wire: problem details of RFC 9457 with a code and a recommendation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// URI reference of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text for the kind of problem.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, with the values concerned.
    pub detail: String,
    /// Stable code.
    pub code: Reason,
    /// What to do about it.
    pub recommendation: String,
    /// The roles that may do so; `sender` for whoever sent the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub who: Vec<String>,
    /// The page on which it is done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link: String,
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let (status, title, recommendation) = rejection.reason.entry();
        let (who, link) = rejection.reason.remedy();
        Problem {
            kind: format!("/problems/{}", rejection.reason.code()),
            title: title.into(),
            status,
            detail: rejection.detail,
            code: rejection.reason,
            recommendation: recommendation.into(),
            who: who.iter().map(|role| (*role).to_owned()).collect(),
            link: link.into(),
        }
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Rejection { reason: problem.code, detail: problem.detail }
    }
}

/// Marks that make a text look like another: zero-width ones, and those that turn its direction.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Refuses a text that is empty, longer than `characters_max`, or has control characters.
pub fn check_text(field: &str, text: &str, characters_max: usize) -> Result<(), Rejection> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > characters_max {
        return Err(
            Reason::InvalidText.with(format!("{field} has {length} characters, expected 1 to {characters_max} that are not all blank"))
        );
    }
    if text.chars().any(|letter| letter.is_control() || is_invisible(letter)) {
        return Err(Reason::InvalidText.with(format!("{field} contains control or invisible characters")));
    }
    if text.trim() != text {
        return Err(Reason::InvalidText.with(format!("{field} begins or ends with a blank")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_serialised_name() {
        for reason in [Reason::OverCapacity, Reason::IdempotencyKeyReused, Reason::Internal] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
    }

    #[test]
    fn a_problem_reads_back_as_the_same_refusal() {
        let rejection = Reason::OverCapacity.with("the fund has 5.00 left");
        assert_eq!(Rejection::from(Problem::from(rejection.clone())), rejection);
    }

    #[test]
    fn texts_are_checked() {
        assert!(check_text("name", "Fund IV", 200).is_ok());
        for bad in ["", "  ", "a\u{0}b", &"x".repeat(201), "\u{202e}abc", "a\u{200b}", " a", "a\n"] {
            assert_eq!(check_text("name", bad, 200).unwrap_err().reason, Reason::InvalidText);
        }
    }
}
