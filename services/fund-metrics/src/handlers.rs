//! The handlers: keep what changed, add the differences to the totals, tell who watches.

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{CallLine, Commitment};
use ::domain::messages::fund_metrics::{
    CurrencyFigures, FundMetrics, FundMetricsChange, GetFundMetrics, GetInvestorMetrics, GetPortfolioMetrics, ListFundMetrics,
};
use ::domain::{Page, Reason, Rejection};
use chassis::{Answer, Context, Fault, Follow, Seen, Show, Summarise, Tx, cursor};
use uuid::Uuid;

use crate::domain::Changes;
use crate::{FundMetricsService, store};

mod analytics;

impl Follow<Fund> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_funds(tx, batch, &mut changes).await?;
        save(tx, &changes).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_funds(tx, ids).await
    }
}

impl Follow<Commitment> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Commitment>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_commitments(tx, batch, &mut changes).await?;
        save(tx, &changes).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::forget_commitments(tx, ids, &mut changes).await?;
        save(tx, &changes).await
    }
}

impl Follow<Allocation> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_allocations(tx, batch, &mut changes).await?;
        save(tx, &changes).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::forget_allocations(tx, ids, &mut changes).await?;
        save(tx, &changes).await
    }
}

impl Follow<CallLine> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CallLine>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_lines(tx, batch, &mut changes).await?;
        save(tx, &changes).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::forget_lines(tx, ids, &mut changes).await?;
        save(tx, &changes).await
    }
}

/// Stores the changes; the metrics of the funds concerned are published as summaries.
async fn save(tx: &mut Tx, changes: &Changes) -> Result<(), Fault> {
    if changes.totals.is_empty() {
        return Ok(());
    }
    store::add_changes(tx, changes).await?;
    for fund in changes.totals.keys().filter(|holder| holder.kind == "fund") {
        tx.summarise_later::<FundMetrics>(fund.id);
    }
    Ok(())
}

impl Summarise<FundMetrics> for FundMetricsService {
    async fn summarise(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, FundMetrics, FundMetricsChange)>, Fault> {
        store::next_versions(tx, ids).await?;
        let most = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let metrics = store::list_fund_metrics(tx, Some(ids), Default::default(), most).await?;
        Ok(metrics.into_iter().map(|metrics| (metrics.id, metrics, FundMetricsChange::Changed)).collect())
    }
}

impl Show<GetFundMetrics> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFundMetrics) -> Answer<FundMetrics> {
        context.actor.check_fund(query.fund_id)?;
        let found = store::list_fund_metrics(tx, Some(&[query.fund_id]), Default::default(), 1).await?.pop();
        Ok(found.ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", query.fund_id)))?)
    }
}

impl Show<ListFundMetrics> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListFundMetrics) -> Answer<Page<FundMetrics>> {
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<(String, Uuid)>(query.cursor.as_deref())?.unwrap_or_default();
        let metrics = store::list_fund_metrics(tx, context.actor.scope.funds(), after, limit + 1).await?;
        Ok(Page::cut(metrics, limit, |last| cursor::write(&(&last.name, last.id))))
    }
}

/// Refuses an asker who may not see every fund of an investor.
fn check_all_funds(context: &Context, investor_id: Uuid) -> Result<(), Rejection> {
    if context.actor.scope.funds().is_none() {
        return Ok(());
    }
    let why = format!("the figures of investor {investor_id} are over all funds; {} may see some only", context.actor.user);
    Err(Reason::FundOutOfScope.with(why))
}

impl Show<GetInvestorMetrics> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorMetrics) -> Answer<Page<CurrencyFigures>> {
        check_all_funds(context, query.investor_id)?;
        let items = store::investor_figures(tx, query.investor_id).await?;
        if items.is_empty() {
            return Err(Reason::UnknownInvestor.with(format!("investor {} has no commitment", query.investor_id)).into());
        }
        Ok(Page { items, next_cursor: None })
    }
}

impl Show<GetPortfolioMetrics> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, _: GetPortfolioMetrics) -> Answer<Page<CurrencyFigures>> {
        let items = match context.actor.scope.funds() {
            None => store::figures(tx, "portfolio", &[Uuid::nil()]).await?,
            Some(funds) => store::figures(tx, "fund", funds).await?,
        };
        Ok(Page { items, next_cursor: None })
    }
}
