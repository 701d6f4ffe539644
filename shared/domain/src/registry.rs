//! The one list of all messages; schemas, AsyncAPI and the contract tests are made from it.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::message::{Aggregate, Command, Event, Query};
use crate::messages::{
    allocation_status as a, audit as r, capital_calls as c, chassis, deals, fund_metrics as m, notifications as n, workflow as w,
};

/// Version of all schemas so far. A change that is not an added optional field makes a new message type.
pub const SCHEMA_VERSION: u32 = 1;

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that changes something.
    Command,
    /// A request that changes nothing.
    Query,
    /// All events of one kind of aggregate.
    Events,
}

/// One entry of the list.
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Subject of a request; kind of aggregate for events.
    pub name: &'static str,
    /// Schema of the body.
    pub body: Schema,
    /// Schema of the answer to a request.
    pub reply: Option<Schema>,
}

/// The JSON Schema (draft 2020-12) of a type.
pub fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

fn command<C: Command>() -> Entry {
    Entry { kind: Kind::Command, name: C::SUBJECT, body: schema::<C>(), reply: Some(schema::<C::Reply>()) }
}

fn query<Q: Query>() -> Entry {
    Entry { kind: Kind::Query, name: Q::SUBJECT, body: schema::<Q>(), reply: Some(schema::<Q::Reply>()) }
}

fn events<A: Aggregate>() -> Entry {
    Entry { kind: Kind::Events, name: A::KIND, body: schema::<Event<A, A::Change>>(), reply: None }
}

/// All messages.
pub fn messages() -> Vec<Entry> {
    vec![
        command::<a::RegisterFund>(),
        command::<a::ProposeAllocation>(),
        command::<a::ProposeAllocations>(),
        command::<a::DecideAllocation>(),
        command::<a::WithdrawAllocation>(),
        command::<a::SettleWithdrawal>(),
        command::<c::RegisterInvestor>(),
        command::<c::RecordCommitment>(),
        command::<c::ChangeCommitment>(),
        command::<c::TransferCommitment>(),
        command::<c::ExcuseInvestor>(),
        command::<c::HoldClosing>(),
        command::<c::SubmitCapitalCall>(),
        command::<c::SubmitDraft>(),
        command::<c::AmendCapitalCall>(),
        command::<c::CancelCapitalCall>(),
        command::<c::DecideCapitalCall>(),
        command::<c::ReleaseAllocation>(),
        command::<c::RescindCapitalCall>(),
        command::<c::RecordPayment>(),
        command::<c::RecordPayments>(),
        command::<c::RecordReceipt>(),
        command::<c::ReleasePayment>(),
        command::<c::UseCredit>(),
        command::<c::ReversePayment>(),
        command::<c::RequestRefund>(),
        command::<c::RequestInterestPayout>(),
        command::<c::DecideRefund>(),
        command::<c::RegisterBankAccount>(),
        command::<c::CloseBankAccount>(),
        command::<c::ProposeBankDetails>(),
        command::<c::ConfirmBankDetails>(),
        command::<c::RejectBankDetails>(),
        command::<c::DecideBankDetails>(),
        command::<c::StageBankEntries>(),
        command::<c::CompleteBankImport>(),
        command::<c::MatchBankEntry>(),
        command::<c::RejectBankEntry>(),
        command::<c::SaveColumnMap>(),
        command::<c::NoticeFailure>(),
        command::<c::DeclareDefault>(),
        command::<c::RecordRemedy>(),
        command::<c::CoverShortfall>(),
        command::<c::CancelRefund>(),
        command::<c::RecordPayout>(),
        command::<w::CastVote>(),
        command::<w::CastVotes>(),
        command::<w::SteerWorkflow>(),
        command::<w::GrantDelegation>(),
        command::<w::RevokeDelegation>(),
        command::<w::PutRules>(),
        command::<w::ProposeRules>(),
        command::<w::RollBackRules>(),
        command::<w::EditRuleChange>(),
        command::<w::SimulateRuleChange>(),
        command::<w::VoteOnRules>(),
        command::<w::WithdrawRuleChange>(),
        command::<w::DecideRuleChange>(),
        command::<chassis::Resend>(),
        command::<chassis::RedriveDeadLetters>(),
        command::<chassis::DiscardDeadLetter>(),
        query::<a::GetFund>(),
        query::<a::ListFunds>(),
        query::<a::GetDeal>(),
        query::<a::ListDeals>(),
        query::<a::GetAllocation>(),
        query::<a::ListAllocations>(),
        query::<a::PreviewAllocations>(),
        query::<c::PreviewCapitalCall>(),
        query::<c::ListInvestors>(),
        query::<c::FindInvestors>(),
        query::<c::ListCommitments>(),
        query::<c::GetCommitment>(),
        query::<c::PreviewClosing>(),
        query::<c::GetClosing>(),
        query::<c::GetCapitalCall>(),
        query::<c::ListCapitalCalls>(),
        query::<c::GetCallLine>(),
        query::<c::ListCallLines>(),
        query::<c::GetNotice>(),
        query::<c::GetPayment>(),
        query::<c::FindPayments>(),
        query::<c::ListPayments>(),
        query::<c::GetRefund>(),
        query::<c::ListRefunds>(),
        query::<c::ListRemedies>(),
        query::<c::ListBankAccounts>(),
        query::<c::GetBankDetails>(),
        query::<c::ListBankDetails>(),
        query::<c::RevealBankDetails>(),
        query::<c::GetBankImport>(),
        query::<c::GetBankEntry>(),
        query::<c::ListBankEntries>(),
        query::<c::ListColumnMaps>(),
        query::<w::GetWorkflow>(),
        query::<w::ListWorkflows>(),
        query::<w::GetApproval>(),
        query::<w::ListApprovals>(),
        query::<w::ListDelegations>(),
        query::<w::StepQuestion>(),
        query::<w::GetRules>(),
        query::<w::ListRuleVersions>(),
        query::<w::SimulateRules>(),
        query::<w::GetRuleChange>(),
        query::<w::ListRuleChanges>(),
        query::<m::GetFundMetrics>(),
        query::<m::ListFundMetrics>(),
        query::<m::GetInvestorMetrics>(),
        query::<m::GetPortfolioMetrics>(),
        query::<m::GetFundCollections>(),
        query::<m::GetInvestorCollections>(),
        query::<m::GetPortfolioCollections>(),
        query::<m::GetFundAgeing>(),
        query::<m::GetInvestorAgeing>(),
        query::<m::GetPortfolioAgeing>(),
        query::<m::GetFundDaysToFund>(),
        query::<m::ListFundDaysToFund>(),
        query::<m::GetInvestorDaysToFund>(),
        query::<m::GetPortfolioDaysToFund>(),
        query::<m::GetFundTrends>(),
        query::<m::GetInvestorTrends>(),
        query::<m::GetPortfolioTrends>(),
        query::<n::ListAlerts>(),
        query::<r::ListAuditRecords>(),
        query::<r::VerifyAudit>(),
        query::<chassis::GetServiceHealth>(),
        query::<chassis::ListDeadLetters>(),
        query::<chassis::GetDeadLetter>(),
        query::<chassis::GroupDeadLetters>(),
        query::<chassis::GetDigest>(),
        query::<chassis::ListVersions>(),
        query::<chassis::ListLogged>(),
        events::<deals::Deal>(),
        events::<deals::StageRequest>(),
        events::<a::Fund>(),
        events::<a::Allocation>(),
        events::<c::Investor>(),
        events::<c::Commitment>(),
        events::<c::Closing>(),
        events::<c::CapitalCall>(),
        events::<c::CallLine>(),
        events::<c::Payment>(),
        events::<c::Refund>(),
        events::<c::BankDetails>(),
        events::<c::BankEntry>(),
        events::<w::Workflow>(),
        events::<w::Approval>(),
        events::<w::RuleSet>(),
        events::<w::RuleChange>(),
        events::<w::Delegation>(),
        events::<m::FundMetrics>(),
        events::<n::Notice>(),
        events::<n::Alert>(),
        events::<chassis::Access>(),
        events::<chassis::DeadLetter>(),
        events::<chassis::Divergence>(),
    ]
}
