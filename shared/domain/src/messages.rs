//! Every command, query and event, one module for each service: its whole public contract.

pub mod allocation_status;
pub mod audit;
pub mod capital_calls;
pub mod chassis;
pub mod deals;
pub mod fund_metrics;
pub mod notifications;
pub mod workflow;
