//! Allocation status: which fund puts how much into which deal, and how far that is called and paid.
//!
//! Owns the Postgres schema `allocation_status`: funds and their capacity, allocations, the copy of
//! upstream's deals. Emits `fund.*`, `allocation.*`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{
    Allocation, DecideAllocation, Fund, GetAllocation, GetDeal, GetFund, ListAllocations, ListDeals, ListFunds, PreviewAllocations,
    ProposeAllocation, ProposeAllocations, RegisterFund, SettleWithdrawal, WithdrawAllocation,
};
use ::domain::messages::capital_calls::CallLine;
use ::domain::messages::deals::Deal;
use chassis::{Card, Copies};

mod domain;
mod handlers;
mod store;

/// The service.
pub struct AllocationStatus;

fn main() -> ExitCode {
    let card = Card {
        name: "allocation-status",
        description: "decides which fund puts how much into which deal and follows how far it is funded",
        migrations: Some(sqlx::migrate!("../../migrations/allocation-status")),
    };
    chassis::service(AllocationStatus, card)
        .answers::<RegisterFund>()
        .answers::<ProposeAllocation>()
        .answers::<ProposeAllocations>()
        .answers::<DecideAllocation>()
        .answers::<WithdrawAllocation>()
        .answers::<SettleWithdrawal>()
        .shows::<GetFund>()
        .shows::<ListFunds>()
        .shows::<GetDeal>()
        .shows::<ListDeals>()
        .shows::<GetAllocation>()
        .shows::<ListAllocations>()
        .shows::<PreviewAllocations>()
        .summarises::<Allocation>()
        .owns::<Fund>(store::FUNDS)
        .owns::<Allocation>(store::ALLOCATIONS)
        .keeps(&store::TOTALS)
        .follows::<Deal>(Copies::OfOutsider)
        .follows::<CallLine>(Copies::Versions(store::LINES))
        .main()
}
