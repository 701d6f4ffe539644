//! Workflow: carries allocations, capital calls, refunds and changes of rules and bank details through their steps, collects the
//! votes that they need, and keeps the rules.
//!
//! Owns the Postgres schema `workflow`: workflows, approvals, rule sets and their changes, and the types of the funds. Emits `workflow.*`,
//! `approval.*`, `delegation.*`, `rules.*`, `rule_change.*` and the requests to the deal system on `deals.cmd.stage-change`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{BankDetails, CapitalCall, Refund};
use ::domain::messages::deals::Deal;
use ::domain::messages::workflow::{
    Approval, CastVote, CastVotes, DecideRuleChange, EditRuleChange, GetApproval, GetRuleChange, GetRules, GetWorkflow, GrantDelegation,
    ListApprovals, ListDelegations, ListRuleChanges, ListRuleVersions, ListWorkflows, ProposeRules, PutRules, RevokeDelegation,
    RollBackRules, SimulateRuleChange, SimulateRules, SteerWorkflow, VoteOnRules, WithdrawRuleChange, Workflow,
};
use chassis::{Card, Copies};

mod domain;
mod handlers;
mod steps;
mod store;

/// The service.
pub struct WorkflowService;

fn main() -> ExitCode {
    let card = Card {
        name: "workflow",
        description: "carries requests through their steps and approvals, and keeps the rules",
        migrations: Some(sqlx::migrate!("../../migrations/workflow")),
    };
    chassis::service(WorkflowService, card)
        .answers::<CastVote>()
        .answers::<CastVotes>()
        .answers::<SteerWorkflow>()
        .answers::<GrantDelegation>()
        .answers::<RevokeDelegation>()
        .answers::<PutRules>()
        .answers::<ProposeRules>()
        .answers::<RollBackRules>()
        .answers::<EditRuleChange>()
        .answers::<SimulateRuleChange>()
        .answers::<VoteOnRules>()
        .answers::<WithdrawRuleChange>()
        .answers::<DecideRuleChange>()
        .shows::<GetWorkflow>()
        .shows::<ListWorkflows>()
        .shows::<GetApproval>()
        .shows::<ListApprovals>()
        .shows::<ListDelegations>()
        .shows::<GetRules>()
        .shows::<ListRuleVersions>()
        .shows::<SimulateRules>()
        .shows::<GetRuleChange>()
        .shows::<ListRuleChanges>()
        .follows::<Allocation>(Copies::Versions(store::ALLOCATIONS))
        .follows::<Fund>(Copies::Versions(store::FUNDS))
        .follows::<CapitalCall>(Copies::Versions(store::CALLS))
        .follows::<Refund>(Copies::Ids(store::REFUNDS))
        .follows::<BankDetails>(Copies::Ids(store::BANK_DETAILS))
        .owns::<Workflow>(store::WORKFLOWS)
        .owns::<Approval>(store::APPROVALS)
        .follows::<Deal>(Copies::OfOutsider)
        .runs(steps::Steps { asks: false })
        .runs(steps::Steps { asks: true })
        .runs(handlers::Deadlines)
        .pushes_rules()
        .main()
}
