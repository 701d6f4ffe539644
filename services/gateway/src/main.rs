//! Gateway: turns HTTP requests into commands and queries over NATS, and shows the pages.
//!
//! Owns nothing. Knows who may ask what; emits `access.*`: who read or tried what.

use std::process::ExitCode;

use ::domain::messages::allocation_status as allocation;
use ::domain::messages::{audit as record, capital_calls as calls, chassis as letters, fund_metrics as metrics, workflow as flow};
use chassis::Card;

mod domain;
mod handlers;

use crate::domain::{ADMIN, AUDITORS, CALLERS, COMMITTEE, EVERYONE, KEEPERS, PROPOSERS, READERS, TREASURY};
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
        query::<calls::ListCommitments>("GET", "/funds/{fund_id}/commitments", READERS),
        command::<calls::RecordCommitment>("POST", "/funds/{fund_id}/commitments", ADMIN).gives(201),
        command::<calls::ExcuseInvestor>("POST", "/commitments/{commitment_id}/excuses", CALLERS),
        command::<calls::RegisterInvestor>("POST", "/investors", ADMIN).gives(201),
        query::<calls::ListInvestors>("GET", "/investors", READERS),
        query::<metrics::GetInvestorMetrics>("GET", "/investors/{investor_id}/metrics", READERS),
        query::<allocation::ListDeals>("GET", "/deals", READERS),
        query::<allocation::GetDeal>("GET", "/deals/{deal_id}", READERS),
        command::<allocation::ProposeAllocation>("POST", "/allocations", PROPOSERS).gives(202),
        query::<allocation::ListAllocations>("GET", "/allocations", READERS),
        query::<allocation::GetAllocation>("GET", "/allocations/{allocation_id}", READERS),
        query::<flow::ListWorkflows>("GET", "/workflows", READERS),
        query::<flow::GetWorkflow>("GET", "/workflows/{workflow_id}", READERS),
        query::<flow::ListApprovals>("GET", "/approvals", READERS),
        query::<flow::GetApproval>("GET", "/approvals/{approval_id}", READERS),
        command::<flow::CastVote>("POST", "/approvals/{approval_id}/votes", COMMITTEE),
        command::<calls::SubmitCapitalCall>("POST", "/funds/{fund_id}/capital-calls", CALLERS).gives(202),
        query::<calls::PreviewCapitalCall>("POST", "/capital-calls/preview", CALLERS),
        query::<calls::ListCapitalCalls>("GET", "/capital-calls", READERS),
        query::<calls::GetCapitalCall>("GET", "/capital-calls/{call_id}", READERS),
        query::<calls::GetCallLine>("GET", "/call-lines/{line_id}", READERS),
        query::<calls::ListCallLines>("GET", "/call-lines", READERS),
        command::<calls::SubmitDraft>("POST", "/capital-calls/{call_id}/submit", CALLERS).gives(202),
        command::<calls::AmendCapitalCall>("POST", "/capital-calls/{call_id}/amend", CALLERS).gives(202),
        command::<calls::CancelCapitalCall>("POST", "/capital-calls/{call_id}/cancel", CALLERS),
        command::<calls::RescindCapitalCall>("POST", "/capital-calls/{call_id}/rescind", CALLERS),
        command::<calls::RecordPayment>("POST", "/call-lines/{line_id}/payments", TREASURY).gives(201),
        command::<calls::RecordPayments>("POST", "/payments/batch", TREASURY),
        query::<calls::ListPayments>("GET", "/payments", READERS),
        query::<calls::GetPayment>("GET", "/payments/{payment_id}", READERS),
        command::<calls::ReversePayment>("POST", "/payments/{payment_id}/reverse", TREASURY),
        query::<metrics::ListFundMetrics>("GET", "/portfolio/funds", EVERYONE),
        query::<metrics::GetPortfolioMetrics>("GET", "/portfolio/metrics", EVERYONE),
        query::<flow::GetRules>("GET", "/rules/{scope}", READERS),
        query::<flow::ListRuleVersions>("GET", "/rules/{scope}/versions", READERS),
        command::<flow::PutRules>("PUT", "/rules/{scope}", ADMIN).with_body_as("rules"),
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
