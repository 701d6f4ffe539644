//! Capital calls: splits a call between investors and follows every line until it is paid.
//!
//! Owns the Postgres schema `capital_calls`: investors, commitments, capital calls, call lines,
//! payments, and copies of funds and allocations. Emits `investor.*`, `commitment.*`,
//! `capital_call.*`, `call_line.*`, `payment.*`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{
    AmendCapitalCall, CallLine, CancelCapitalCall, CapitalCall, Commitment, DecideCapitalCall, ExcuseInvestor, GetCallLine, GetCapitalCall,
    GetPayment, Investor, ListCallLines, ListCapitalCalls, ListCommitments, ListInvestors, ListPayments, PreviewCapitalCall,
    RecordCommitment, RecordPayment, RecordPayments, RegisterInvestor, RescindCapitalCall, ReversePayment, SubmitCapitalCall, SubmitDraft,
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
        .answers::<ExcuseInvestor>()
        .answers::<SubmitCapitalCall>()
        .answers::<SubmitDraft>()
        .answers::<AmendCapitalCall>()
        .answers::<CancelCapitalCall>()
        .answers::<DecideCapitalCall>()
        .answers::<RescindCapitalCall>()
        .answers::<RecordPayment>()
        .answers::<RecordPayments>()
        .answers::<ReversePayment>()
        .shows::<PreviewCapitalCall>()
        .shows::<ListInvestors>()
        .shows::<ListCommitments>()
        .shows::<GetCapitalCall>()
        .shows::<ListCapitalCalls>()
        .shows::<GetCallLine>()
        .shows::<ListCallLines>()
        .shows::<GetPayment>()
        .shows::<ListPayments>()
        .summarises::<CapitalCall>()
        .owns::<Investor>(store::INVESTORS)
        .owns::<Commitment>(store::COMMITMENTS)
        .owns::<CapitalCall>(store::CALLS)
        .owns::<CallLine>(store::LINES)
        .keeps(&store::TOTALS)
        .follows::<Fund>(Copies::Versions(store::FUND_COPIES))
        .follows::<Allocation>(Copies::Versions(store::ALLOCATION_COPIES))
        .main()
}
