//! Who may do what a recommendation says, and where.

use super::Reason;

/// Whoever sent the request: no role is needed to mend it.
pub const SENDER: &str = "sender";

impl Reason {
    /// The roles that may do what the recommendation says, or [`SENDER`], and the page on which it is done.
    pub const fn remedy(self) -> (&'static [&'static str], &'static str) {
        use Reason as R;
        match self {
            // what the request says
            R::MalformedRequest
            | R::IdempotencyKeyMissing
            | R::IdempotencyKeyReused
            | R::RequestIncomplete
            | R::RequestTooLarge
            | R::UnsupportedMediaType
            | R::UnknownPath
            | R::MethodNotAllowed
            | R::InvalidAmount
            | R::AmountPrecision
            | R::UnknownCurrency
            | R::WrongCurrency
            | R::InvalidText
            | R::UnknownTimezone
            | R::UnknownCalendar
            | R::ImplausibleDate
            | R::InvalidRate
            | R::InvalidReference
            | R::InvalidDetails
            | R::Overloaded
            | R::ServiceUnavailable => (&["sender"], "/api/docs/"),
            // who asks
            R::Unauthenticated => (&["sender"], "/sign-in"),
            // who may ask
            R::Forbidden | R::FundOutOfScope => (&["admin"], "/"),
            // the fund and what belongs to it
            R::UnknownFund
            | R::UnknownDeal
            | R::UnknownAllocation
            | R::UnknownCommitment
            | R::UnknownClosing
            | R::UnknownCapitalCall
            | R::UnknownCallLine
            | R::UnknownPayment
            | R::UnknownInvestor => (&["sender"], "/"),
            // funds, investors and commitments
            R::DuplicateFund
            | R::CommitmentExists
            | R::CommitmentDrawn
            | R::TransferMismatch
            | R::ClosingMismatch
            | R::CallNotShareable
            | R::NoCommitments
            | R::InvestorTypeConcentration => (&["admin"], "/"),
            // allocations
            R::DealClosedToAllocation | R::DuplicateAllocation | R::OverCapacity | R::AllocationNotPending | R::AllocationNotActive => {
                (&["analyst", "fund_manager"], "/workflows")
            }
            // and what the rules allow of them
            R::AmountBelowMinimum | R::AmountAboveMaximum | R::TooManyAllocations | R::DealConcentration | R::SectorConcentration => {
                (&["analyst", "fund_manager", "admin"], "/rules")
            }
            // allocations in force, and what the deal system says of their deals
            R::AllocationNotWithdrawn | R::StageRequestUnanswered | R::StageRequestRefused => (&["fund_manager"], "/workflows"),
            // capital calls
            R::DuplicateCapitalCall
            | R::AlreadyExcused
            | R::PurposeMismatch
            | R::CallExceedsAllocation
            | R::CallExceedsUnfunded
            | R::CallNotPending
            | R::CallSaysOtherwise
            | R::CallNotDraft
            | R::CallNotIssued
            | R::CallNotCancellable
            | R::CallRescinded
            | R::AmendmentPending
            | R::NothingAmended
            | R::NoticeTooShort
            | R::AdjustmentMismatch
            | R::NetCallNotPositive
            | R::NotOverdue
            | R::FailureNoticed
            | R::CureTimeRuns
            | R::NotInDefault
            | R::AlreadyInDefault
            | R::NothingOutstanding
            | R::NothingCovered
            | R::RemedyMismatch
            | R::ShortfallCovered => (&["fund_manager"], "/"),
            // cash and bank statements
            R::DuplicatePayment
            | R::PaymentReversed
            | R::PaymentMethodNotAllowed
            | R::ExternalReferenceReused
            | R::ReceiptMismatch
            | R::NoLineToPay
            | R::NotSuspended
            | R::NoCredit
            | R::UnknownBankEntry
            | R::UnknownBankImport
            | R::UnknownColumnMap
            | R::BankImportIncomplete
            | R::BankEntryDecided
            | R::StatementUnreadable => (&["treasurer"], "/bank-entries"),
            // refunds
            R::UnknownRefund | R::NotCleared | R::RefundPending | R::RefundNotPending | R::RefundNotApproved | R::InterestNotPaid => {
                (&["treasurer"], "/refunds")
            }
            // bank accounts and bank details
            R::UnknownBankAccount
            | R::BankAccountTaken
            | R::UnknownBankDetails
            | R::InvalidBankDetails
            | R::BankDetailsProposed
            | R::BankDetailsDiffer
            | R::BankDetailsDecided
            | R::BankDetailsCoolingOff
            | R::SecondPersonNeeded
            | R::CallBackMismatch => (&["treasurer", "admin"], "/bank-details"),
            // approvals
            R::UnknownApproval
            | R::RequesterMayNotVote
            | R::RoleMayNotVote
            | R::AlreadyVoted
            | R::NotYourTurn
            | R::ApprovalDecided
            | R::NoDelegation
            | R::UnknownDelegation
            | R::InvalidDelegation => (&["committee", "fund_manager", "treasurer"], "/approvals"),
            // requests that were refused or ended
            R::UnknownWorkflow
            | R::ApprovalDenied
            | R::ApprovalExpired
            | R::Withdrawn
            | R::PredicateRefused
            | R::StepRefused
            | R::NotYourRequest => (&["sender"], "/workflows"),
            // workflows that are held up
            R::StepUnanswered | R::StepAnswerInvalid | R::WorkflowPaused | R::WorkflowNotSteerable => (&["admin"], "/workflows"),
            // rules and their changes
            R::InvalidRules
            | R::UnknownScope
            | R::TransitionClosed
            | R::UnknownRuleChange
            | R::UnknownRuleVersion
            | R::RuleChangeNotReady
            | R::RuleChangeDecided
            | R::RulesReplaced
            | R::EarlierRulesFirst => (&["admin"], "/rules"),
            // votes on changes of rules
            R::RulesNeedApproval | R::RuleChangeDiffers => (&["admin", "committee"], "/rules"),
            // the system
            R::UnknownDeadLetter | R::DeadLetterDecided | R::Internal => (&["admin"], "/services"),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;

    use super::*;

    #[test]
    fn every_reason_names_who_may_act_and_where() {
        let roles = ["analyst", "fund_manager", "committee", "treasurer", "auditor", "executive", "admin", SENDER];
        let codes = serde_json::to_value(schema_for!(Reason)).unwrap();
        for code in codes["enum"].as_array().unwrap() {
            let reason: Reason = serde_json::from_value(code.clone()).unwrap();
            let (who, link) = reason.remedy();
            assert!(!who.is_empty() && who.iter().all(|role| roles.contains(role)), "{code}");
            assert!(link.starts_with('/'), "{code}");
        }
    }
}
