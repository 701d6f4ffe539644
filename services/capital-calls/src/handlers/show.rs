//! Answers to queries.

use ::domain::messages::capital_calls::{
    CallLine, CallPreview, CapitalCall, CapitalCallView, Commitment, GetCapitalCall, GetPayment, Investor, ListCallLines, ListCapitalCalls,
    ListCommitments, ListInvestors, ListPayments, Payment, PreviewCapitalCall,
};
use ::domain::{Page, Reason, calendar};
use chassis::{Answer, Context, Show, Tx, cursor};
use uuid::Uuid;

use super::{allocation_ids, today_of};
use crate::{CapitalCalls, domain, store};

impl Show<PreviewCapitalCall> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: PreviewCapitalCall) -> Answer<CallPreview> {
        context.actor.check_fund(query.fund_id)?;
        calendar::plausible_date("due_on", query.due_on)?;
        let funds = store::funds(tx, &[query.fund_id]).await?;
        let fund = funds.get(&query.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", query.fund_id)))?;
        let commitments = store::commitments(tx, &[fund.id]).await?;
        let allocations = store::allocations(tx, &allocation_ids(query.purposes.iter())).await?;
        let mut purposes = query.purposes;
        let amount = domain::check_purposes(&mut purposes, fund, None, |id| allocations.get(&id).cloned())?;
        let lines = domain::split_call(&purposes, &domain::effective(&commitments, fund.id, query.due_on), fund.currency)?;
        Ok(CallPreview { currency: fund.currency, amount, lines })
    }
}

impl Show<ListInvestors> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListInvestors) -> Answer<Page<Investor>> {
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<(String, Uuid)>(query.cursor.as_deref())?.unwrap_or_default();
        let investors = store::list_investors(tx, context.actor.scope.funds(), after, limit + 1).await?;
        Ok(Page::cut(investors, limit, |last| cursor::write(&(&last.name, last.id))))
    }
}

impl Show<ListCommitments> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListCommitments) -> Answer<Page<Commitment>> {
        context.actor.check_fund(query.fund_id)?;
        if store::funds(tx, &[query.fund_id]).await?.is_empty() {
            return Err(Reason::UnknownFund.with(format!("fund {}", query.fund_id)).into());
        }
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or_default();
        let commitments = store::list_commitments(tx, query.fund_id, after, limit + 1).await?;
        Ok(Page::cut(commitments, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<GetCapitalCall> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetCapitalCall) -> Answer<CapitalCallView> {
        let found = store::find_call(tx, query.call_id).await?;
        let call = found.ok_or_else(|| Reason::UnknownCapitalCall.with(format!("capital call {}", query.call_id)))?;
        context.actor.check_fund(call.fund_id)?;
        let mut lines = store::lines_of_call(tx, call.id).await?;
        for line in &mut lines {
            domain::derive_line(line, today_of(tx, line));
        }
        Ok(CapitalCallView { call, lines })
    }
}

impl Show<ListCapitalCalls> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListCapitalCalls) -> Answer<Page<CapitalCall>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let calls = store::list_calls(tx, context.actor.scope.funds(), query.fund_id, before, limit + 1).await?;
        Ok(Page::cut(calls, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<ListCallLines> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListCallLines) -> Answer<Page<CallLine>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let filter = store::LineFilter {
            scope: context.actor.scope.funds(),
            fund_id: query.fund_id,
            call_id: query.call_id,
            investor_id: query.investor_id,
        };
        let mut lines = store::list_lines(tx, &filter, before, limit + 1).await?;
        for line in &mut lines {
            domain::derive_line(line, today_of(tx, line));
        }
        Ok(Page::cut(lines, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<GetPayment> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetPayment) -> Answer<Payment> {
        let found = store::find_payment(tx, query.payment_id).await?;
        let payment = found.ok_or_else(|| Reason::UnknownPayment.with(format!("payment {}", query.payment_id)))?;
        context.actor.check_fund(payment.fund_id)?;
        Ok(payment)
    }
}

impl Show<ListPayments> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListPayments) -> Answer<Page<Payment>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let filter = store::PaymentFilter {
            scope: context.actor.scope.funds(),
            line_id: query.line_id,
            call_id: query.call_id,
            fund_id: query.fund_id,
        };
        let payments = store::list_payments(tx, &filter, before, limit + 1).await?;
        Ok(Page::cut(payments, limit, |last| cursor::write(&last.id)))
    }
}
