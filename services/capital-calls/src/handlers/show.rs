//! Answers to queries.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    BankAccount, BankEntry, BankImport, CallContent, CallLine, CallLineView, CallNotice, CallPreview, CapitalCall, CapitalCallView,
    ClosingView, ColumnMapSaved, Commitment, CommitmentEntry, CommitmentView, FIND_PAYMENTS_MAX, FindInvestors, FindPayments, GetBankEntry,
    GetBankImport, GetCallLine, GetCapitalCall, GetClosing, GetCommitment, GetNotice, GetPayment, GetRefund, INVESTORS_MAX, Investor,
    InvestorsFound, ListBankAccounts, ListBankEntries, ListCallLines, ListCapitalCalls, ListColumnMaps, ListCommitments, ListInvestors,
    ListPayments, ListRefunds, ListRemedies, Payment, PaymentsFound, PreviewCapitalCall, Refund, Remedy,
};
use ::domain::{Amount, Page, Reason};
use chassis::row::sorted_ids;
use chassis::{Answer, Context, Fault, Show, Tx, cursor};
use chrono::NaiveDate;
use uuid::Uuid;

use super::bank::{age, check_scope};
use super::calls::{Firm, allocation_ids, today, written};
use super::today_of;
use crate::{CapitalCalls, domain, store};

impl Show<PreviewCapitalCall> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: PreviewCapitalCall) -> Answer<CallPreview> {
        context.actor.check_fund(query.fund_id)?;
        let firm = Firm::load(tx, &[query.fund_id], &allocation_ids(query.purposes.iter()), std::iter::once(query.due_on), &[]).await?;
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
        let lines = firm.split(fund, &content)?;
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

impl Show<FindInvestors> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, FindInvestors { investor_ids }: FindInvestors) -> Answer<InvestorsFound> {
        let count = investor_ids.len();
        if count == 0 || count > INVESTORS_MAX {
            return Err(Reason::RequestTooLarge.with(format!("there are {count} ids, expected 1 to {INVESTORS_MAX}")).into());
        }
        Ok(InvestorsFound { items: store::find_investors(tx, context.actor.scope.funds(), &investor_ids).await? })
    }
}

impl Show<FindPayments> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: FindPayments) -> Answer<PaymentsFound> {
        let count = query.external_references.len();
        if count == 0 || count > FIND_PAYMENTS_MAX {
            let refused = format!("there are {count} external_references, expected 1 to {FIND_PAYMENTS_MAX}");
            return Err(Reason::RequestTooLarge.with(refused).into());
        }
        let items = store::find_reported(tx, context.actor.scope.funds(), &query.source, &query.external_references).await?;
        Ok(PaymentsFound { items })
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
        let mut commitments = store::list_commitments(tx, query.fund_id, after, limit + 1).await?;
        if query.as_of.is_some() {
            let entries = store::entries(tx, &sorted_ids(commitments.iter().map(|commitment| commitment.id))).await?;
            let drawn = store::drawn(tx, &commitments, query.as_of).await?;
            for commitment in &mut commitments {
                stand_as_of(commitment, &entries, &drawn, query.as_of);
            }
        }
        Ok(Page::cut(commitments, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<GetCommitment> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetCommitment) -> Answer<CommitmentView> {
        let found = store::find_commitment(tx, query.commitment_id).await?;
        let mut commitment = found.ok_or_else(|| Reason::UnknownCommitment.with(format!("commitment {}", query.commitment_id)))?;
        context.actor.check_fund(commitment.fund_id)?;
        let mut entries = store::entries(tx, &[commitment.id]).await?;
        let drawn = store::drawn(tx, std::slice::from_ref(&commitment), query.as_of).await?;
        stand_as_of(&mut commitment, &entries, &drawn, query.as_of);
        entries.retain(|entry| query.as_of.is_none_or(|date| entry.effective_on <= date));
        let paid_in = drawn.get(&commitment.id).map(|drawn| drawn.paid_in).unwrap_or_default() + commitment.currency.zero();
        Ok(CommitmentView { commitment, paid_in, entries })
    }
}

/// Has a commitment stand as it did at the end of a date.
fn stand_as_of(commitment: &mut Commitment, entries: &[CommitmentEntry], drawn: &HashMap<Uuid, store::Drawn>, as_of: Option<NaiveDate>) {
    let Some(date) = as_of else { return };
    let drawn = drawn.get(&commitment.id).copied().unwrap_or_default();
    let by_then: Vec<&CommitmentEntry> =
        entries.iter().filter(|entry| entry.commitment_id == commitment.id && entry.effective_on <= date).collect();
    let zero = commitment.currency.zero();
    let unfunded = by_then.iter().map(|entry| entry.impact_on_unfunded).sum::<Amount>() + zero;
    commitment.amount = by_then.iter().map(|entry| entry.amount).sum::<Amount>() + zero;
    commitment.drawn_transferred = commitment.amount - unfunded;
    commitment.called = drawn.called + zero;
    // a line that is due when more is promised draws on that
    commitment.unfunded = (unfunded + drawn.impact_on_unfunded).max(zero);
    commitment.released_on = commitment.released_on.filter(|released_on| *released_on <= date);
    commitment.status = domain::commitment_status(commitment);
}

impl Show<GetClosing> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetClosing) -> Answer<ClosingView> {
        let found = store::find_closing(tx, query.closing_id).await?;
        let closing = found.ok_or_else(|| Reason::UnknownClosing.with(format!("closing {}", query.closing_id)))?;
        context.actor.check_fund(closing.closing.fund_id)?;
        Ok(closing)
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
        let payments = store::payments_of_lines(tx, &[line.id]).await?;
        let as_of = query.as_of.unwrap_or(today);
        let standing = domain::standing(&line, &payments, as_of);
        let overdue_history = domain::overdue_history(&line, &payments, as_of);
        Ok(CallLineView { line, entries, standing, overdue_history })
    }
}

impl Show<GetNotice> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetNotice) -> Answer<CallNotice> {
        let unknown = || Reason::UnknownCallLine.with(format!("call line {}", query.line_id));
        let (line, _) = store::find_line(tx, query.line_id).await?.ok_or_else(unknown)?;
        context.actor.check_fund(line.fund_id)?;
        let call = store::find_call(tx, line.call_id).await?.ok_or_else(unknown)?;
        let earlier_calls = store::earlier_calls(tx, &call).await?;
        let ids: Vec<Uuid> = earlier_calls.iter().map(|call| call.id).chain([call.id]).collect();
        let mut earlier_lines = store::lines_of_investor(tx, line.investor_id, &ids).await?;
        // a closing gives an investor who promised more another line of the same call
        earlier_lines.retain(|other| other.call_id != call.id || other.id < line.id);
        let holder = (line.fund_id, line.investor_id);
        let commitment_id = store::commitment_ids(tx, &[holder]).await?.remove(&holder).ok_or_else(unknown)?;
        let commitment = store::find_commitment(tx, commitment_id).await?.ok_or_else(unknown)?;
        let committed = store::committed(tx, line.fund_id).await?;
        let fund = store::funds(tx, &[line.fund_id]).await?.remove(&line.fund_id).ok_or_else(unknown)?;
        let investor_name = store::investor_names(tx, &[line.investor_id]).await?.remove(&line.investor_id).unwrap_or_default();
        Ok(domain::notice(domain::NoticeParts {
            line: &line,
            call: &call,
            earlier_calls: &earlier_calls,
            earlier_lines: &earlier_lines,
            commitment: &commitment,
            committed,
            fund: &fund,
            investor_name: &investor_name,
        }))
    }
}

impl Show<ListRemedies> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListRemedies) -> Answer<Page<Remedy>> {
        let found = store::find_line(tx, query.line_id).await?;
        let (line, _) = found.ok_or_else(|| Reason::UnknownCallLine.with(format!("call line {}", query.line_id)))?;
        context.actor.check_fund(line.fund_id)?;
        // a line has few: one page holds them
        Ok(Page { items: store::remedies_of_line(tx, line.id).await?, next_cursor: None })
    }
}

impl Show<ListCapitalCalls> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListCapitalCalls) -> Answer<Page<CapitalCall>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let calls = store::list_calls(tx, context.actor.scope.funds(), &query, before, limit + 1).await?;
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
        let mut payments = [payment];
        derive_payments(tx, &mut payments).await?;
        let [payment] = payments;
        Ok(payment)
    }
}

/// Writes the derived parts of payments, each on the business date of its fund.
async fn derive_payments(tx: &mut Tx, payments: &mut [Payment]) -> Result<(), Fault> {
    let funds = store::funds(tx, &sorted_ids(payments.iter().map(|payment| payment.fund_id))).await?;
    for payment in payments {
        let today = funds.get(&payment.fund_id).and_then(|fund| today(tx, fund).ok()).unwrap_or_else(|| tx.now().date_naive());
        domain::derive_payment(payment, today);
    }
    Ok(())
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
            in_suspense: query.in_suspense,
        };
        let mut payments = store::list_payments(tx, &filter, before, limit + 1).await?;
        derive_payments(tx, &mut payments).await?;
        Ok(Page::cut(payments, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<ListBankAccounts> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListBankAccounts) -> Answer<Page<BankAccount>> {
        context.actor.check_fund(query.fund_id)?;
        // a fund has few: one page holds them
        Ok(Page { items: store::accounts_of_fund(tx, query.fund_id).await?, next_cursor: None })
    }
}

impl Show<ListColumnMaps> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, _: &Context, _: ListColumnMaps) -> Answer<Page<ColumnMapSaved>> {
        Ok(Page { items: store::maps(tx).await?, next_cursor: None })
    }
}

impl Show<GetBankImport> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetBankImport) -> Answer<BankImport> {
        let found = store::find_import(tx, query.import_id).await?;
        let import = found.ok_or_else(|| Reason::UnknownBankImport.with(format!("bank import {}", query.import_id)))?;
        // a file may be of several funds
        if context.actor.scope.funds().is_some() && import.imported_by != context.actor.user {
            return Err(Reason::FundOutOfScope.with(format!("bank import {} is {}'s", import.id, import.imported_by)).into());
        }
        Ok(import)
    }
}

impl Show<GetBankEntry> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetBankEntry) -> Answer<BankEntry> {
        let found = store::find_bank_entry(tx, query.entry_id).await?;
        let mut entry = found.ok_or_else(|| Reason::UnknownBankEntry.with(format!("bank entry {}", query.entry_id)))?;
        check_scope(context, &entry)?;
        entry.age_days = age(&entry, tx.now().date_naive());
        Ok(entry)
    }
}

impl Show<ListBankEntries> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListBankEntries) -> Answer<Page<BankEntry>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let ListBankEntries { fund_id, import_id, status, .. } = query;
        let filter = store::BankEntryFilter { scope: context.actor.scope.funds(), fund_id, import_id, decision: status };
        let mut entries = store::list_bank_entries(tx, &filter, before, limit + 1).await?;
        for entry in &mut entries {
            entry.age_days = age(entry, tx.now().date_naive());
        }
        Ok(Page::cut(entries, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<GetRefund> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetRefund) -> Answer<Refund> {
        let found = store::find_refund(tx, query.refund_id).await?;
        let refund = found.ok_or_else(|| Reason::UnknownRefund.with(format!("refund {}", query.refund_id)))?;
        context.actor.check_fund(refund.fund_id)?;
        Ok(refund)
    }
}

impl Show<ListRefunds> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListRefunds) -> Answer<Page<Refund>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let refunds = store::list_refunds(tx, context.actor.scope.funds(), query.fund_id, before, limit + 1).await?;
        Ok(Page::cut(refunds, limit, |last| cursor::write(&last.id)))
    }
}
