//! The handlers: keep what changed, add the differences to the totals, tell who watches.

use std::collections::HashMap;

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{CallLine, Commitment};
use ::domain::messages::fund_metrics::{
    CurrencyFigures, FundMetrics, FundMetricsChange, GetFundMetrics, GetInvestorMetrics, GetPortfolioMetrics, ListFundMetrics,
};
use ::domain::{Page, Reason};
use chassis::{Answer, Context, Fault, Follow, Seen, Show, Tx, cursor};
use uuid::Uuid;

use crate::domain::Changes;
use crate::{FundMetricsService, store};

impl Follow<Fund> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_funds(tx, batch, &mut changes).await?;
        save(tx, batch.iter().map(|seen| (seen.state.id, &seen.context)), &changes).await
    }
}

impl Follow<Commitment> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Commitment>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_commitments(tx, batch, &mut changes).await?;
        save(tx, batch.iter().map(|seen| (seen.state.fund_id, &seen.context)), &changes).await
    }
}

impl Follow<Allocation> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_allocations(tx, batch, &mut changes).await?;
        save(tx, batch.iter().map(|seen| (seen.state.fund_id, &seen.context)), &changes).await
    }
}

impl Follow<CallLine> for FundMetricsService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CallLine>]) -> Result<(), Fault> {
        let mut changes = Changes::default();
        store::keep_lines(tx, batch, &mut changes).await?;
        save(tx, batch.iter().map(|seen| (seen.state.fund_id, &seen.context)), &changes).await
    }
}

/// Stores the changes and publishes the metrics of the funds concerned, once each, in the name of what
/// changed them last.
async fn save<'a>(tx: &mut Tx, contexts: impl Iterator<Item = (Uuid, &'a Context)>, changes: &Changes) -> Result<(), Fault> {
    let funds: Vec<Uuid> = changes.totals.keys().filter(|holder| holder.kind == "fund").map(|holder| holder.id).collect();
    if funds.is_empty() {
        return Ok(());
    }
    let contexts: HashMap<Uuid, &Context> = contexts.collect();
    store::add_changes(tx, changes).await?;
    let most = i64::try_from(funds.len()).unwrap_or(i64::MAX);
    for metrics in store::list_fund_metrics(tx, Some(&funds), Default::default(), most).await? {
        tx.emit(contexts[&metrics.id], &metrics, FundMetricsChange::Changed)?;
    }
    Ok(())
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

impl Show<GetInvestorMetrics> for FundMetricsService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetInvestorMetrics) -> Answer<Page<CurrencyFigures>> {
        if context.actor.scope.funds().is_some() {
            let why = format!("the figures of investor {} are over all funds; {} may see some only", query.investor_id, context.actor.user);
            return Err(Reason::FundOutOfScope.with(why).into());
        }
        let items = store::figures(tx, "investor", &[query.investor_id]).await?;
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
