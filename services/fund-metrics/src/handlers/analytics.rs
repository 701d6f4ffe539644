//! The analytics of capital calls: each question is asked of a fund, an investor and the portfolio.

use ::domain::messages::fund_metrics::{
    CurrencyAgeing, CurrencyCollections, CurrencyTrend, DaysToFund, GetFundAgeing, GetFundCollections, GetFundDaysToFund, GetFundTrends,
    GetInvestorAgeing, GetInvestorCollections, GetInvestorDaysToFund, GetInvestorTrends, GetPortfolioAgeing, GetPortfolioCollections,
    GetPortfolioDaysToFund, GetPortfolioTrends, InvestorDaysToFund, ListFundDaysToFund,
};
use ::domain::{Page, Reason};
use chassis::{Answer, Context, Show, Tx, cursor};
use chrono::NaiveDate;
use uuid::Uuid;

use super::check_all_funds;
use crate::FundMetricsService;
use crate::domain::analytics;
use crate::store::analytics::{self as store, Asked};

/// A fund, if the asker may see it.
async fn of_fund(tx: &mut Tx, context: &Context, fund_id: Uuid) -> Answer<Asked> {
    context.actor.check_fund(fund_id)?;
    let today = store::fund_today(tx, fund_id).await?.ok_or_else(|| Reason::UnknownFund.with(format!("fund {fund_id}")))?;
    Ok(Asked { kind: "fund", ids: vec![fund_id], today })
}

/// An investor, if the asker may see every fund.
async fn of_investor(tx: &mut Tx, context: &Context, investor_id: Uuid) -> Answer<Asked> {
    check_all_funds(context, investor_id)?;
    if !store::knows_investor(tx, investor_id).await? {
        return Err(Reason::UnknownInvestor.with(format!("investor {investor_id} has no commitment")).into());
    }
    Ok(Asked { kind: "investor", ids: vec![investor_id], today: tx.now().date_naive() })
}

/// The funds that the asker may see.
fn of_portfolio(tx: &Tx, context: &Context) -> Asked {
    let (kind, ids) = match context.actor.scope.funds() {
        None => ("portfolio", vec![Uuid::nil()]),
        Some(funds) => ("fund", funds.to_vec()),
    };
    Asked { kind, ids, today: tx.now().date_naive() }
}

type Dates = (Option<NaiveDate>, Option<NaiveDate>, Option<NaiveDate>);

async fn collections(tx: &mut Tx, asked: Asked, (from, to, as_of): Dates) -> Answer<Page<CurrencyCollections>> {
    let period = analytics::period(from, to, as_of, asked.today)?;
    let items = analytics::collections(period, store::due_dates(tx, &asked, period).await?);
    Ok(Page { items, next_cursor: None })
}

async fn ageing(tx: &mut Tx, asked: Asked, as_of: Option<NaiveDate>) -> Answer<Page<CurrencyAgeing>> {
    let as_of = analytics::day(as_of, asked.today)?;
    Ok(Page { items: analytics::ageing(as_of, store::ages(tx, &asked, as_of).await?), next_cursor: None })
}

async fn days_to_fund(tx: &mut Tx, asked: Asked) -> Answer<DaysToFund> {
    Ok(analytics::days_to_fund(&store::histograms(tx, &asked).await?))
}

async fn trends(tx: &mut Tx, asked: Asked, months: Option<u16>, as_of: Option<NaiveDate>) -> Answer<Page<CurrencyTrend>> {
    let period = analytics::months(months, as_of, asked.today)?;
    Ok(Page { items: analytics::trends(period, store::months(tx, &asked, period).await?), next_cursor: None })
}

impl Show<GetFundCollections> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFundCollections) -> Answer<Page<CurrencyCollections>> {
        let asked = of_fund(tx, context, query.fund_id).await?;
        collections(tx, asked, (query.from, query.to, query.as_of)).await
    }
}

impl Show<GetInvestorCollections> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorCollections) -> Answer<Page<CurrencyCollections>> {
        let asked = of_investor(tx, context, query.investor_id).await?;
        collections(tx, asked, (query.from, query.to, query.as_of)).await
    }
}

impl Show<GetPortfolioCollections> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetPortfolioCollections) -> Answer<Page<CurrencyCollections>> {
        let asked = of_portfolio(tx, context);
        collections(tx, asked, (query.from, query.to, query.as_of)).await
    }
}

impl Show<GetFundAgeing> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFundAgeing) -> Answer<Page<CurrencyAgeing>> {
        let asked = of_fund(tx, context, query.fund_id).await?;
        ageing(tx, asked, query.as_of).await
    }
}

impl Show<GetInvestorAgeing> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorAgeing) -> Answer<Page<CurrencyAgeing>> {
        let asked = of_investor(tx, context, query.investor_id).await?;
        ageing(tx, asked, query.as_of).await
    }
}

impl Show<GetPortfolioAgeing> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetPortfolioAgeing) -> Answer<Page<CurrencyAgeing>> {
        let asked = of_portfolio(tx, context);
        ageing(tx, asked, query.as_of).await
    }
}

impl Show<GetFundDaysToFund> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFundDaysToFund) -> Answer<DaysToFund> {
        let asked = of_fund(tx, context, query.fund_id).await?;
        days_to_fund(tx, asked).await
    }
}

impl Show<ListFundDaysToFund> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListFundDaysToFund) -> Answer<Page<InvestorDaysToFund>> {
        of_fund(tx, context, query.fund_id).await?;
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or_default();
        let investors = store::histograms_of_investors(tx, query.fund_id, after, limit + 1).await?;
        let days = |(investor_id, histograms)| InvestorDaysToFund { investor_id, days: analytics::days_to_fund(&histograms) };
        Ok(Page::cut(investors.into_iter().map(days).collect(), limit, |last| cursor::write(&last.investor_id)))
    }
}

impl Show<GetInvestorDaysToFund> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorDaysToFund) -> Answer<DaysToFund> {
        let asked = of_investor(tx, context, query.investor_id).await?;
        days_to_fund(tx, asked).await
    }
}

impl Show<GetPortfolioDaysToFund> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, _: GetPortfolioDaysToFund) -> Answer<DaysToFund> {
        let asked = of_portfolio(tx, context);
        days_to_fund(tx, asked).await
    }
}

impl Show<GetFundTrends> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFundTrends) -> Answer<Page<CurrencyTrend>> {
        let asked = of_fund(tx, context, query.fund_id).await?;
        trends(tx, asked, query.months, query.as_of).await
    }
}

impl Show<GetInvestorTrends> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorTrends) -> Answer<Page<CurrencyTrend>> {
        let asked = of_investor(tx, context, query.investor_id).await?;
        trends(tx, asked, query.months, query.as_of).await
    }
}

impl Show<GetPortfolioTrends> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetPortfolioTrends) -> Answer<Page<CurrencyTrend>> {
        let asked = of_portfolio(tx, context);
        trends(tx, asked, query.months, query.as_of).await
    }
}
