//! What fund-metrics answers and emits: read models of funds, investors and the portfolio.

mod analytics;

pub use analytics::*;
use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Aggregate, Page, Query};
use crate::money::{Amount, Currency, Ratio};

/// The figures of a fund, an investor or a portfolio in one currency, by the terms of the ILPA
/// reporting template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// Sum of the commitments.
    pub committed: Amount,
    /// Sum of issued lines.
    pub called: Amount,
    /// Cash applied, less reversals.
    pub paid_in: Amount,
    /// `called - paid_in`.
    pub outstanding: Amount,
    /// Outstanding of lines whose due date is before `as_of`.
    pub overdue: Amount,
    /// `committed` plus the lines' impact on unfunded; of an investor, less what was drawn before of interests that were transferred to it,
    /// and plus that of those it gave away.
    pub unfunded: Amount,
    /// Cash received above what was outstanding.
    pub unapplied: Amount,
    /// Pending and active allocations.
    pub allocated: Amount,
    /// `100 * called / committed`; may pass 100. None without commitments.
    pub called_pct: Option<Ratio>,
    /// `paid_in / called` over lines due by `as_of`. None when none is due.
    pub collection_rate: Option<Ratio>,
    /// PIC: `paid_in / committed`. None without commitments or payments.
    pub pic: Option<Ratio>,
    /// Number of commitments.
    pub commitments: i64,
    /// Number of issued lines.
    pub lines: i64,
    /// Number of lines paid in full.
    pub lines_paid: i64,
    /// Number of lines with something overdue.
    pub lines_overdue: i64,
    /// Number of active allocations.
    pub allocations: i64,
}

/// The metrics of one fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FundMetrics {
    /// Id of the fund.
    pub id: Uuid,
    /// Version of the metrics that were published last; 0 before the first time.
    pub version: i64,
    /// Name of the fund.
    pub name: String,
    /// Currency of all amounts.
    pub currency: Currency,
    /// The business date that the figures are for.
    pub as_of: NaiveDate,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What happened to the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FundMetricsChange {
    /// A figure changed.
    Changed,
}

impl Aggregate for FundMetrics {
    type Change = FundMetricsChange;
    const KIND: &'static str = "fund_metrics";
    const OWNER: &'static str = "fund-metrics";
    fn id(&self) -> Uuid {
        crate::ids::derived("fund_metrics", self.id)
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn fund_id(&self) -> Option<Uuid> {
        Some(self.id)
    }
    fn change_name(_: &FundMetricsChange) -> &'static str {
        "changed"
    }
}

/// The metrics of one fund.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFundMetrics {
    /// The fund.
    pub fund_id: Uuid,
}

impl Query for GetFundMetrics {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-fund";
    type Reply = FundMetrics;
}

/// The metrics of every fund, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFundMetrics {
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListFundMetrics {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.list-funds";
    type Reply = Page<FundMetrics>;
}

/// The figures of an investor or of the portfolio, one entry a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrencyFigures {
    /// Currency of all amounts.
    pub currency: Currency,
    /// The business date (UTC) that the figures are for.
    pub as_of: NaiveDate,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The metrics of one investor over all funds; for those only who may see all of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInvestorMetrics {
    /// The investor.
    pub investor_id: Uuid,
}

impl Query for GetInvestorMetrics {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-investor";
    type Reply = Page<CurrencyFigures>;
}

/// The metrics over all funds that the asker may see.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPortfolioMetrics {}

impl Query for GetPortfolioMetrics {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-portfolio";
    type Reply = Page<CurrencyFigures>;
}
