//! Analytics of capital calls: how well is collected, how old is what is overdue, how long it takes to fund, and the trend. All of it is of
//! the facts as they stand now: `as_of` says which lines count, not what was known on that day. One entry a currency.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{Page, Query};
use crate::money::{Amount, Currency, Ratio};

/// What became of the lines of one or many due dates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Collected {
    /// Called by these lines.
    pub called: Amount,
    /// Paid of it.
    pub paid_in: Amount,
    /// `called - paid_in`.
    pub outstanding: Amount,
    /// `paid_in / called`. None when nothing is called.
    pub collection_rate: Option<Ratio>,
    /// Number of lines.
    pub lines: i64,
    /// Number of lines paid in full.
    pub lines_paid: i64,
    /// `lines_paid / lines`. None without lines.
    pub collection_rate_by_count: Option<Ratio>,
    /// Lines paid in full by their due date, by the value date of what came last.
    pub lines_on_time: i64,
    /// Lines paid in full after their due date. With those on time it is less than `lines_paid` where a value date is
    /// not known, and where others paid the rest.
    pub lines_late: i64,
    /// Amount of the lines on time.
    pub funded_on_time: Amount,
    /// Amount of the late lines, instalments that came before the due date included.
    pub funded_late: Amount,
}

/// The lines of one due date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DueCohort {
    /// The due date.
    pub due_on: NaiveDate,
    /// What became of them.
    #[serde(flatten)]
    pub collected: Collected,
}

/// The lines that are due within a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonthCohort {
    /// First day of the month.
    pub month: NaiveDate,
    /// What became of them.
    #[serde(flatten)]
    pub collected: Collected,
}

/// How well is collected in one currency, by due date. Dates and months without lines are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrencyCollections {
    /// Currency of all amounts.
    pub currency: Currency,
    /// First due date that counts.
    pub from: NaiveDate,
    /// Last due date that counts: `to` or `as_of`, whichever is earlier.
    pub to: NaiveDate,
    /// The business date that the figures are for.
    pub as_of: NaiveDate,
    /// All lines due from the first date to the last.
    pub total: Collected,
    /// The same by month of the due date.
    pub months: Vec<MonthCohort>,
    /// The same by due date.
    pub due_dates: Vec<DueCohort>,
}

/// What is outstanding of lines so many days past due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgeBucket {
    /// Fewest days past due.
    pub days_from: i32,
    /// Most days past due; none in the oldest bucket.
    pub days_to: Option<i32>,
    /// Amount outstanding.
    pub outstanding: Amount,
    /// Number of lines with something outstanding.
    pub lines: i64,
}

/// How old what is outstanding is, in one currency. Days are calendar days after the due date; grace does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrencyAgeing {
    /// Currency of all amounts.
    pub currency: Currency,
    /// The business date that the figures are for.
    pub as_of: NaiveDate,
    /// Outstanding of lines that are due on `as_of` or later.
    pub not_overdue: Amount,
    /// Number of these lines.
    pub lines_not_overdue: i64,
    /// Outstanding of lines whose due date is before `as_of`: the sum of the buckets.
    pub overdue: Amount,
    /// Number of these lines.
    pub lines_overdue: i64,
    /// The buckets 1-7, 8-15, 16-30, 31-60 and from 61 days on.
    pub buckets: Vec<AgeBucket>,
}

/// Days from a start to the value date that funded the line: below zero when it came earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Days {
    /// Number of lines paid in full whose days are known.
    pub lines: i64,
    /// Median by nearest rank: the smallest number of days that at least half of the lines do not exceed. None without lines.
    pub median: Option<i32>,
    /// The same for nine lines in ten.
    pub p90: Option<i32>,
    /// Sum of the days, by the lines. None without lines.
    pub average: Option<Ratio>,
}

/// How long it takes until lines are paid in full, over all currencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaysToFund {
    /// Days from the due date.
    pub from_due: Days,
    /// Days from the business date of the issue.
    pub from_issue: Days,
}

/// How long it takes one investor of a fund to pay in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvestorDaysToFund {
    /// The investor.
    pub investor_id: Uuid,
    /// Days over the fund's lines.
    #[serde(flatten)]
    pub days: DaysToFund,
}

/// One month of a trend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonthTrend {
    /// First day of the month.
    pub month: NaiveDate,
    /// Called by lines issued in the month.
    pub issued: Amount,
    /// Number of lines issued in the month.
    pub lines_issued: i64,
    /// Lines that are due in the month, by `as_of`.
    #[serde(flatten)]
    pub collected: Collected,
    /// Amount of lines that were paid in full in the month, by the value date of what came last. Instalments count when the last has come:
    /// their own value dates are not kept here.
    pub funded: Amount,
    /// Days that those lines took from their due dates.
    pub days_to_fund: Days,
}

/// The trend in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrencyTrend {
    /// Currency of all amounts.
    pub currency: Currency,
    /// The business date that the figures are for.
    pub as_of: NaiveDate,
    /// Every month, those without lines too; the last is that of `as_of`.
    pub months: Vec<MonthTrend>,
}

/// How well a fund's capital calls are collected, by due date: at most 366 days of due dates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFundCollections {
    /// The fund.
    pub fund_id: Uuid,
    /// First due date; without it the first day of the eleventh month before that of `to`.
    #[serde(default)]
    pub from: Option<NaiveDate>,
    /// Last due date; without it `as_of`.
    #[serde(default)]
    pub to: Option<NaiveDate>,
    /// Lines that are due later do not count; without it the fund's business date.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetFundCollections {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-fund-collections";
    type Reply = Page<CurrencyCollections>;
}

/// How well an investor pays, by due date, over all funds; for those only who may see all of them. At most 366 days of due dates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInvestorCollections {
    /// The investor.
    pub investor_id: Uuid,
    /// First due date; without it the first day of the eleventh month before that of `to`.
    #[serde(default)]
    pub from: Option<NaiveDate>,
    /// Last due date; without it `as_of`.
    #[serde(default)]
    pub to: Option<NaiveDate>,
    /// Lines that are due later do not count; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetInvestorCollections {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-investor-collections";
    type Reply = Page<CurrencyCollections>;
}

/// How well the capital calls of all funds are collected that the asker may see, by due date: at most 366 days of due dates.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPortfolioCollections {
    /// First due date; without it the first day of the eleventh month before that of `to`.
    #[serde(default)]
    pub from: Option<NaiveDate>,
    /// Last due date; without it `as_of`.
    #[serde(default)]
    pub to: Option<NaiveDate>,
    /// Lines that are due later do not count; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetPortfolioCollections {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-portfolio-collections";
    type Reply = Page<CurrencyCollections>;
}

/// How old what is outstanding of a fund's capital calls is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFundAgeing {
    /// The fund.
    pub fund_id: Uuid,
    /// The day that ages are counted to; without it the fund's business date.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetFundAgeing {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-fund-ageing";
    type Reply = Page<CurrencyAgeing>;
}

/// How old what an investor owes is, over all funds; for those only who may see all of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInvestorAgeing {
    /// The investor.
    pub investor_id: Uuid,
    /// The day that ages are counted to; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetInvestorAgeing {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-investor-ageing";
    type Reply = Page<CurrencyAgeing>;
}

/// How old what is outstanding of all funds is that the asker may see.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPortfolioAgeing {
    /// The day that ages are counted to; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetPortfolioAgeing {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-portfolio-ageing";
    type Reply = Page<CurrencyAgeing>;
}

/// How long it takes until a fund's lines are paid in full.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFundDaysToFund {
    /// The fund.
    pub fund_id: Uuid,
}

impl Query for GetFundDaysToFund {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-fund-days-to-fund";
    type Reply = DaysToFund;
}

/// How long it takes each investor of a fund to pay its lines in full, by id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFundDaysToFund {
    /// The fund.
    pub fund_id: Uuid,
    /// Where the page starts.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most items, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Query for ListFundDaysToFund {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.list-fund-days-to-fund";
    type Reply = Page<InvestorDaysToFund>;
}

/// How long it takes an investor to pay in full, over all funds; for those only who may see all of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInvestorDaysToFund {
    /// The investor.
    pub investor_id: Uuid,
}

impl Query for GetInvestorDaysToFund {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-investor-days-to-fund";
    type Reply = DaysToFund;
}

/// How long it takes until lines of all funds are paid in full that the asker may see.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPortfolioDaysToFund {}

impl Query for GetPortfolioDaysToFund {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-portfolio-days-to-fund";
    type Reply = DaysToFund;
}

/// A fund's capital calls by month.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFundTrends {
    /// The fund.
    pub fund_id: Uuid,
    /// How many months, 1 to 120; 12 without it.
    #[serde(default)]
    pub months: Option<u16>,
    /// A day of the last month; without it the fund's business date.
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetFundTrends {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-fund-trends";
    type Reply = Page<CurrencyTrend>;
}

/// What an investor was called and paid by month, over all funds; for those only who may see all of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInvestorTrends {
    /// The investor.
    pub investor_id: Uuid,
    /// How many months, 1 to 120; 12 without it.
    #[serde(default)]
    pub months: Option<u16>,
    /// A day of the last month; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetInvestorTrends {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-investor-trends";
    type Reply = Page<CurrencyTrend>;
}

/// The capital calls of all funds that the asker may see, by month.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPortfolioTrends {
    /// How many months, 1 to 120; 12 without it.
    #[serde(default)]
    pub months: Option<u16>,
    /// A day of the last month; without it today (UTC).
    #[serde(default)]
    pub as_of: Option<NaiveDate>,
}

impl Query for GetPortfolioTrends {
    const SUBJECT: &'static str = "tranche.query.fund-metrics.get-portfolio-trends";
    type Reply = Page<CurrencyTrend>;
}
