//! Answers to queries.

use ::domain::messages::capital_calls::{
    CallContent, CallLine, CallLineView, CallPreview, CapitalCall, CapitalCallView, Commitment, GetCallLine, GetCapitalCall, GetPayment,
    Investor, ListCallLines, ListCapitalCalls, ListCommitments, ListInvestors, ListPayments, Payment, PreviewCapitalCall,
};
use ::domain::{Page, Reason};
use chassis::{Answer, Context, Show, Tx, cursor};
use uuid::Uuid;

use super::calls::{Firm, allocation_ids, today, written};
use super::today_of;
use crate::domain::Terms;
use crate::{CapitalCalls, domain, store};

impl Show<PreviewCapitalCall> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: PreviewCapitalCall) -> Answer<CallPreview> {
        context.actor.check_fund(query.fund_id)?;
        let firm = Firm::load(tx, &[query.fund_id], &allocation_ids(query.purposes.iter())).await?;
        let fund = firm.fund(query.fund_id)?;
        let content = CallContent {
            purposes: query.purposes,
            amount: fund.currency.zero(),
            due_on: query.due_on,
            priority: query.priority,
            adjustments: query.adjustments,
            rounding: query.rounding,
            content_hash: String::new(),
        };
        let content = written(fund, content, None, &firm)?;
        let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
        let due_on_earliest = domain::earliest_due(fund, &rules, content.priority, today(tx, fund)?)?;
        // shown also with a due date that is too early: the earliest stands beside it
        let lines = domain::split_call(Terms::of(&content), &firm.effective(fund.id, content.due_on), fund.currency)?;
        Ok(CallPreview { currency: fund.currency, amount: content.amount, due_on_earliest, lines })
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

impl Show<GetCallLine> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetCallLine) -> Answer<CallLineView> {
        let found = store::find_line(tx, query.line_id).await?;
        let (mut line, entries) = found.ok_or_else(|| Reason::UnknownCallLine.with(format!("call line {}", query.line_id)))?;
        context.actor.check_fund(line.fund_id)?;
        let today = today_of(tx, &line);
        domain::derive_line(&mut line, today);
        Ok(CallLineView { line, entries })
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
