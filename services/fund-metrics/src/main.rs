//! Fund metrics: the figures of funds, investors and the portfolio, kept up to date line by line.
//!
//! Owns the Postgres schema `fund_metrics`: read models only. Emits `fund_metrics.changed`.

use std::process::ExitCode;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{CallLine, Commitment};
use ::domain::messages::fund_metrics::{
    FundMetrics, GetFundAgeing, GetFundCollections, GetFundDaysToFund, GetFundMetrics, GetFundTrends, GetInvestorAgeing,
    GetInvestorCollections, GetInvestorDaysToFund, GetInvestorMetrics, GetInvestorTrends, GetPortfolioAgeing, GetPortfolioCollections,
    GetPortfolioDaysToFund, GetPortfolioMetrics, GetPortfolioTrends, ListFundDaysToFund, ListFundMetrics,
};
use chassis::{Card, Copies};

mod domain;
mod handlers;
mod store;

/// The service.
pub struct FundMetricsService;

fn main() -> ExitCode {
    let card = Card {
        name: "fund-metrics",
        description: "keeps the figures of funds, investors and the portfolio",
        migrations: Some(sqlx::migrate!("../../migrations/fund-metrics")),
    };
    chassis::service(FundMetricsService, card)
        .shows::<GetFundMetrics>()
        .shows::<ListFundMetrics>()
        .shows::<GetInvestorMetrics>()
        .shows::<GetPortfolioMetrics>()
        .shows::<GetFundCollections>()
        .shows::<GetInvestorCollections>()
        .shows::<GetPortfolioCollections>()
        .shows::<GetFundAgeing>()
        .shows::<GetInvestorAgeing>()
        .shows::<GetPortfolioAgeing>()
        .shows::<GetFundDaysToFund>()
        .shows::<ListFundDaysToFund>()
        .shows::<GetInvestorDaysToFund>()
        .shows::<GetPortfolioDaysToFund>()
        .shows::<GetFundTrends>()
        .shows::<GetInvestorTrends>()
        .shows::<GetPortfolioTrends>()
        .summarises::<FundMetrics>()
        .keeps(&store::TOTALS)
        .rebuilds(store::READ_MODEL)
        .follows::<Fund>(Copies::Versions(store::FUNDS))
        .follows::<Commitment>(Copies::Versions(store::COMMITMENTS))
        .follows::<Allocation>(Copies::Versions(store::ALLOCATIONS))
        .follows::<CallLine>(Copies::Versions(store::LINES))
        .main()
}
