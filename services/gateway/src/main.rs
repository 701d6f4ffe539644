//! Gateway: turns HTTP requests into commands and queries over NATS, and shows the pages.
//!
//! Owns nothing. Knows who may ask what; emits `access.*`: who read or tried what.

use std::process::ExitCode;

use ::domain::messages::allocation_status as allocation;
use ::domain::messages::{
    audit as record, capital_calls as calls, chassis as letters, fund_metrics as metrics, notifications as notices, workflow as flow,
};
use chassis::Card;

mod domain;
mod handlers;

use crate::domain::{
    ADMIN, AUDITORS, BANKERS, CALLERS, DELEGATORS, EVERYONE, KEEPERS, PROPOSERS, READERS, REQUESTERS, RULE_KEEPERS, TREASURY, VOTERS,
};
use crate::handlers::api::{Route, command, query};

/// The service.
pub struct Gateway {
    /// How tokens are checked.
    pub tokens: domain::Tokens,
}

/// The services that have a database, and so something that may wait.
pub const SERVICES: [&str; 6] = ["workflow", "allocation-status", "capital-calls", "fund-metrics", "audit", "notifications"];

/// The HTTP API under `/api/v1`: method, path, who may, what it becomes.
pub fn routes() -> Vec<Route> {
    vec![
        command::<allocation::RegisterFund>("POST", "/funds", ADMIN).gives(201),
        query::<allocation::ListFunds>("GET", "/funds", EVERYONE),
        query::<allocation::GetFund>("GET", "/funds/{fund_id}", EVERYONE),
        query::<metrics::GetFundMetrics>("GET", "/funds/{fund_id}/metrics", EVERYONE),
        query::<metrics::GetFundCollections>("GET", "/funds/{fund_id}/collections", EVERYONE),
        query::<metrics::GetFundAgeing>("GET", "/funds/{fund_id}/ageing", EVERYONE),
        query::<metrics::GetFundDaysToFund>("GET", "/funds/{fund_id}/days-to-fund", EVERYONE),
        query::<metrics::ListFundDaysToFund>("GET", "/funds/{fund_id}/days-to-fund/investors", READERS),
        query::<metrics::GetFundTrends>("GET", "/funds/{fund_id}/trends", EVERYONE),
        query::<calls::ListCommitments>("GET", "/funds/{fund_id}/commitments", READERS),
        command::<calls::RecordCommitment>("POST", "/funds/{fund_id}/commitments", ADMIN).gives(201),
        query::<calls::GetCommitment>("GET", "/commitments/{commitment_id}", READERS),
        command::<calls::ChangeCommitment>("POST", "/commitments/{commitment_id}/changes", ADMIN),
        command::<calls::TransferCommitment>("POST", "/commitments/{commitment_id}/transfers", ADMIN),
        query::<calls::PreviewClosing>("POST", "/funds/{fund_id}/closings/preview", ADMIN),
        command::<calls::HoldClosing>("POST", "/funds/{fund_id}/closings", ADMIN).gives(201),
        query::<calls::GetClosing>("GET", "/closings/{closing_id}", READERS),
        command::<calls::ExcuseInvestor>("POST", "/commitments/{commitment_id}/excuses", CALLERS),
        command::<calls::RegisterInvestor>("POST", "/investors", ADMIN).gives(201),
        query::<calls::ListInvestors>("GET", "/investors", READERS),
        query::<calls::FindInvestors>("POST", "/investors/find", READERS),
        query::<metrics::GetInvestorMetrics>("GET", "/investors/{investor_id}/metrics", READERS),
        query::<metrics::GetInvestorCollections>("GET", "/investors/{investor_id}/collections", READERS),
        query::<metrics::GetInvestorAgeing>("GET", "/investors/{investor_id}/ageing", READERS),
        query::<metrics::GetInvestorDaysToFund>("GET", "/investors/{investor_id}/days-to-fund", READERS),
        query::<metrics::GetInvestorTrends>("GET", "/investors/{investor_id}/trends", READERS),
        query::<allocation::ListDeals>("GET", "/deals", READERS),
        query::<allocation::GetDeal>("GET", "/deals/{deal_id}", READERS),
        command::<allocation::ProposeAllocation>("POST", "/allocations", PROPOSERS).gives(202),
        command::<allocation::ProposeAllocations>("POST", "/allocations/batch", PROPOSERS),
        query::<allocation::PreviewAllocations>("POST", "/deals/{deal_id}/allocations/preview", PROPOSERS),
        query::<allocation::ListAllocations>("GET", "/allocations", READERS),
        query::<allocation::GetAllocation>("GET", "/allocations/{allocation_id}", READERS),
        command::<allocation::WithdrawAllocation>("POST", "/allocations/{allocation_id}/withdraw", CALLERS).gives(202),
        query::<flow::ListWorkflows>("GET", "/workflows", READERS),
        query::<flow::GetWorkflow>("GET", "/workflows/{workflow_id}", READERS),
        command::<flow::SteerWorkflow>("POST", "/workflows/{workflow_id}/actions", REQUESTERS),
        query::<flow::ListApprovals>("GET", "/approvals", READERS),
        query::<flow::GetApproval>("GET", "/approvals/{approval_id}", READERS),
        command::<flow::CastVote>("POST", "/approvals/{approval_id}/votes", VOTERS),
        command::<flow::CastVotes>("POST", "/approvals/votes", VOTERS),
        command::<flow::GrantDelegation>("POST", "/delegations", VOTERS).gives(201),
        command::<flow::RevokeDelegation>("POST", "/delegations/{delegation_id}/revoke", DELEGATORS),
        query::<flow::ListDelegations>("GET", "/delegations", READERS),
        command::<calls::SubmitCapitalCall>("POST", "/funds/{fund_id}/capital-calls", CALLERS).gives(202),
        query::<calls::PreviewCapitalCall>("POST", "/capital-calls/preview", CALLERS),
        query::<calls::ListCapitalCalls>("GET", "/capital-calls", READERS),
        query::<calls::GetCapitalCall>("GET", "/capital-calls/{call_id}", READERS),
        query::<calls::GetCallLine>("GET", "/call-lines/{line_id}", READERS),
        query::<calls::GetNotice>("GET", "/call-lines/{line_id}/notice", READERS),
        query::<calls::ListCallLines>("GET", "/call-lines", READERS),
        command::<calls::SubmitDraft>("POST", "/capital-calls/{call_id}/submit", CALLERS).gives(202),
        command::<calls::AmendCapitalCall>("POST", "/capital-calls/{call_id}/amend", CALLERS).gives(202),
        command::<calls::CancelCapitalCall>("POST", "/capital-calls/{call_id}/cancel", CALLERS),
        command::<calls::RescindCapitalCall>("POST", "/capital-calls/{call_id}/rescind", CALLERS),
        command::<calls::RecordPayment>("POST", "/call-lines/{line_id}/payments", TREASURY).gives(201),
        command::<calls::RecordPayments>("POST", "/payments/batch", TREASURY).within(30),
        query::<calls::ListPayments>("GET", "/payments", READERS),
        query::<calls::FindPayments>("POST", "/payments/find", READERS),
        query::<calls::GetPayment>("GET", "/payments/{payment_id}", READERS),
        command::<calls::RegisterBankAccount>("POST", "/funds/{fund_id}/bank-accounts", ADMIN).gives(201),
        command::<calls::CloseBankAccount>("POST", "/funds/{fund_id}/bank-accounts/close", ADMIN),
        query::<calls::ListBankAccounts>("GET", "/funds/{fund_id}/bank-accounts", READERS),
        command::<calls::ProposeBankDetails>("POST", "/bank-details", BANKERS).gives(201),
        query::<calls::ListBankDetails>("GET", "/bank-details", READERS),
        query::<calls::GetBankDetails>("GET", "/bank-details/{bank_details_id}", READERS),
        query::<calls::RevealBankDetails>("GET", "/bank-details/{bank_details_id}/instructions", BANKERS).recorded_first(),
        command::<calls::ConfirmBankDetails>("POST", "/bank-details/{bank_details_id}/confirm", BANKERS),
        command::<calls::RejectBankDetails>("POST", "/bank-details/{bank_details_id}/reject", BANKERS),
        command::<calls::SaveColumnMap>("POST", "/column-maps", TREASURY),
        query::<calls::ListColumnMaps>("GET", "/column-maps", READERS),
        query::<calls::GetBankImport>("GET", "/bank-statements/{import_id}", READERS),
        query::<calls::ListBankEntries>("GET", "/bank-entries", READERS),
        query::<calls::GetBankEntry>("GET", "/bank-entries/{entry_id}", READERS),
        command::<calls::MatchBankEntry>("POST", "/bank-entries/{entry_id}/match", TREASURY),
        command::<calls::RejectBankEntry>("POST", "/bank-entries/{entry_id}/reject", TREASURY),
        command::<calls::NoticeFailure>("POST", "/call-lines/{line_id}/failure-notice", CALLERS),
        command::<calls::DeclareDefault>("POST", "/call-lines/{line_id}/default", CALLERS),
        command::<calls::RecordRemedy>("POST", "/call-lines/{line_id}/remedies", CALLERS).gives(201),
        query::<calls::ListRemedies>("GET", "/call-lines/{line_id}/remedies", READERS),
        command::<calls::CoverShortfall>("POST", "/call-lines/{line_id}/cover", CALLERS).gives(201),
        command::<calls::RecordReceipt>("POST", "/receipts", TREASURY).gives(201),
        command::<calls::ReleasePayment>("POST", "/payments/{payment_id}/release", TREASURY),
        command::<calls::UseCredit>("POST", "/payments/{payment_id}/credit", TREASURY).gives(201),
        command::<calls::RequestRefund>("POST", "/payments/{payment_id}/refunds", TREASURY).gives(202),
        command::<calls::RequestInterestPayout>("POST", "/closings/{closing_id}/payouts", TREASURY).gives(202),
        query::<calls::ListRefunds>("GET", "/refunds", READERS),
        query::<calls::GetRefund>("GET", "/refunds/{refund_id}", READERS),
        command::<calls::CancelRefund>("POST", "/refunds/{refund_id}/cancel", TREASURY),
        command::<calls::RecordPayout>("POST", "/refunds/{refund_id}/payout", TREASURY),
        command::<calls::ReversePayment>("POST", "/payments/{payment_id}/reverse", TREASURY),
        query::<metrics::ListFundMetrics>("GET", "/portfolio/funds", EVERYONE),
        query::<metrics::GetPortfolioMetrics>("GET", "/portfolio/metrics", EVERYONE),
        query::<metrics::GetPortfolioCollections>("GET", "/portfolio/collections", EVERYONE),
        query::<metrics::GetPortfolioAgeing>("GET", "/portfolio/ageing", EVERYONE),
        query::<metrics::GetPortfolioDaysToFund>("GET", "/portfolio/days-to-fund", EVERYONE),
        query::<metrics::GetPortfolioTrends>("GET", "/portfolio/trends", EVERYONE),
        query::<flow::GetRules>("GET", "/rules/{scope}", READERS),
        query::<flow::ListRuleVersions>("GET", "/rules/{scope}/versions", READERS),
        command::<flow::PutRules>("PUT", "/rules/{scope}", ADMIN).with_body_as("rules"),
        command::<flow::ProposeRules>("POST", "/rules/{scope}/changes", ADMIN).gives(201),
        command::<flow::RollBackRules>("POST", "/rules/{scope}/roll-back", ADMIN).gives(201),
        query::<flow::SimulateRules>("POST", "/rules/{scope}/simulate", READERS).within(60),
        query::<flow::ListRuleChanges>("GET", "/rule-changes", READERS),
        query::<flow::GetRuleChange>("GET", "/rule-changes/{rule_change_id}", READERS),
        command::<flow::EditRuleChange>("PUT", "/rule-changes/{rule_change_id}", ADMIN),
        command::<flow::SimulateRuleChange>("POST", "/rule-changes/{rule_change_id}/simulate", ADMIN).within(60),
        command::<flow::VoteOnRules>("POST", "/rule-changes/{rule_change_id}/votes", RULE_KEEPERS),
        command::<flow::WithdrawRuleChange>("POST", "/rule-changes/{rule_change_id}/withdraw", ADMIN),
        query::<notices::ListAlerts>("GET", "/alerts", READERS),
        query::<record::ListAuditRecords>("GET", "/audit/records", AUDITORS),
        // reads every record there is
        query::<record::VerifyAudit>("GET", "/audit/verify", AUDITORS).within(120),
        query::<letters::GetServiceHealth>("GET", "/services/{service}/health", EVERYONE),
        query::<letters::ListDeadLetters>("GET", "/services/{service}/dead-letters", KEEPERS),
        query::<letters::GroupDeadLetters>("GET", "/services/{service}/dead-letters/groups", KEEPERS),
        command::<letters::RedriveDeadLetters>("POST", "/services/{service}/dead-letters/redrive", ADMIN),
        query::<letters::GetDeadLetter>("GET", "/services/{service}/dead-letters/{dead_letter_id}", KEEPERS),
        command::<letters::DiscardDeadLetter>("POST", "/services/{service}/dead-letters/{dead_letter_id}/discard", ADMIN),
    ]
}

fn main() -> ExitCode {
    let card = Card { name: "gateway", description: "turns HTTP requests into commands and queries", migrations: None };
    match domain::Tokens::from_environment() {
        Ok(tokens) => chassis::service(Gateway { tokens }, card).serves(handlers::router).main(),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
