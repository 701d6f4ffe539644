//! Capital calls: splits a call between investors and follows every line until it is paid.
//!
//! Owns the Postgres schema `capital_calls`: investors, commitments, closings, capital calls, call
//! lines, payments, refunds, bank details, bank entries, and copies of funds and allocations. Emits `investor.*`, `commitment.*`,
//! `closing.*`, `capital_call.*`, `call_line.*`, `payment.*`, `refund.*`, `bank_details.*`, `bank_entry.*`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{
    AmendCapitalCall, BankDetails, BankEntry, CallLine, CancelCapitalCall, CancelRefund, CapitalCall, ChangeCommitment, CloseBankAccount,
    Closing, Commitment, CompleteBankImport, ConfirmBankDetails, CoverShortfall, DecideBankDetails, DecideCapitalCall, DecideRefund,
    DeclareDefault, ExcuseInvestor, FindInvestors, FindPayments, GetBankDetails, GetBankEntry, GetBankImport, GetCallLine, GetCapitalCall,
    GetClosing, GetCommitment, GetNotice, GetPayment, GetRefund, HoldClosing, Investor, ListBankAccounts, ListBankDetails, ListBankEntries,
    ListCallLines, ListCapitalCalls, ListColumnMaps, ListCommitments, ListInvestors, ListPayments, ListRefunds, ListRemedies,
    MatchBankEntry, NoticeFailure, PreviewCapitalCall, PreviewClosing, ProposeBankDetails, RecordCommitment, RecordPayment, RecordPayments,
    RecordPayout, RecordReceipt, RecordRemedy, Refund, RegisterBankAccount, RegisterInvestor, RejectBankDetails, RejectBankEntry,
    ReleaseAllocation, ReleasePayment, RequestInterestPayout, RequestRefund, RescindCapitalCall, RevealBankDetails, ReversePayment,
    SaveColumnMap, StageBankEntries, SubmitCapitalCall, SubmitDraft, TransferCommitment, UseCredit,
};
use chassis::{Card, Copies};

mod domain;
mod handlers;
mod store;

/// The service.
pub struct CapitalCalls;

fn main() -> ExitCode {
    let card = Card {
        name: "capital-calls",
        description: "splits capital calls between investors and follows every line until it is paid",
        migrations: Some(sqlx::migrate!("../../migrations/capital-calls")),
    };
    chassis::service(CapitalCalls, card)
        .answers::<RegisterInvestor>()
        .answers::<RecordCommitment>()
        .answers::<ChangeCommitment>()
        .answers::<TransferCommitment>()
        .answers::<ExcuseInvestor>()
        .answers::<HoldClosing>()
        .answers::<SubmitCapitalCall>()
        .answers::<SubmitDraft>()
        .answers::<AmendCapitalCall>()
        .answers::<CancelCapitalCall>()
        .answers::<DecideCapitalCall>()
        .answers::<RescindCapitalCall>()
        .answers::<ReleaseAllocation>()
        .answers::<RecordPayment>()
        .answers::<RecordPayments>()
        .answers::<RecordReceipt>()
        .answers::<ReleasePayment>()
        .answers::<UseCredit>()
        .answers::<ReversePayment>()
        .answers::<RegisterBankAccount>()
        .answers::<CloseBankAccount>()
        .answers::<ProposeBankDetails>()
        .answers::<ConfirmBankDetails>()
        .answers::<RejectBankDetails>()
        .answers::<DecideBankDetails>()
        .answers::<SaveColumnMap>()
        .answers::<StageBankEntries>()
        .answers::<CompleteBankImport>()
        .answers::<MatchBankEntry>()
        .answers::<RejectBankEntry>()
        .answers::<NoticeFailure>()
        .answers::<DeclareDefault>()
        .answers::<RecordRemedy>()
        .answers::<CoverShortfall>()
        .answers::<RequestRefund>()
        .answers::<RequestInterestPayout>()
        .answers::<DecideRefund>()
        .answers::<CancelRefund>()
        .answers::<RecordPayout>()
        .shows::<PreviewCapitalCall>()
        .shows::<ListInvestors>()
        .shows::<FindInvestors>()
        .shows::<ListCommitments>()
        .shows::<GetCommitment>()
        .shows::<PreviewClosing>()
        .shows::<GetClosing>()
        .shows::<GetCapitalCall>()
        .shows::<ListCapitalCalls>()
        .shows::<GetCallLine>()
        .shows::<ListCallLines>()
        .shows::<GetNotice>()
        .shows::<GetPayment>()
        .shows::<FindPayments>()
        .shows::<ListPayments>()
        .shows::<GetRefund>()
        .shows::<ListRefunds>()
        .shows::<ListRemedies>()
        .shows::<ListBankAccounts>()
        .shows::<GetBankDetails>()
        .shows::<ListBankDetails>()
        .shows::<RevealBankDetails>()
        .shows::<ListColumnMaps>()
        .shows::<GetBankImport>()
        .shows::<GetBankEntry>()
        .shows::<ListBankEntries>()
        .summarises::<CapitalCall>()
        .owns::<Investor>(store::INVESTORS)
        .owns::<Commitment>(store::COMMITMENTS)
        .owns::<Closing>(store::CLOSINGS)
        .owns::<CapitalCall>(store::CALLS)
        .owns::<CallLine>(store::LINES)
        .owns::<Refund>(store::REFUNDS)
        .owns::<BankEntry>(store::BANK_ENTRIES)
        .owns::<BankDetails>(store::BANK_DETAILS)
        .seals(&[handlers::bank_details::TABLE])
        .keeps(&store::TOTALS)
        .follows::<Fund>(Copies::Versions(store::FUND_COPIES))
        .follows::<Allocation>(Copies::Versions(store::ALLOCATION_COPIES))
        .runs(handlers::imports::Imports::default())
        .main()
}
