//! Workflow: carries allocations, capital calls and refunds through their steps, collects the votes that
//! they need, and keeps the rules.
//!
//! Owns the Postgres schema `workflow`: workflows, approvals, rule sets. Emits `workflow.*`,
//! `approval.*`, `rules.*` and the requests to the deal system on `deals.cmd.stage-change`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::Allocation;
use ::domain::messages::capital_calls::{CapitalCall, Refund};
use ::domain::messages::workflow::{
    CastVote, GetApproval, GetRules, GetWorkflow, ListApprovals, ListRuleVersions, ListWorkflows, PutRules,
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
        description: "carries allocations, capital calls and refunds through their steps, approvals and rules",
        migrations: Some(sqlx::migrate!("../../migrations/workflow")),
    };
    chassis::service(WorkflowService, card)
        .answers::<CastVote>()
        .answers::<PutRules>()
        .shows::<GetWorkflow>()
        .shows::<ListWorkflows>()
        .shows::<GetApproval>()
        .shows::<ListApprovals>()
        .shows::<GetRules>()
        .shows::<ListRuleVersions>()
        .follows::<Allocation>(Copies::Ids(store::ALLOCATIONS))
        .follows::<CapitalCall>(Copies::Versions(store::CALLS))
        .follows::<Refund>(Copies::Ids(store::REFUNDS))
        .runs(steps::Steps)
        .pushes_rules()
        .main()
}
