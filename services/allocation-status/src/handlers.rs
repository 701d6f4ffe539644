//! The handlers: load what a batch touches, decide each command, store what changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use ::domain::messages::allocation_status::{
    Allocation, AllocationChange, DecideAllocation, Fund, FundChange, FundStatus, GetAllocation, GetDeal, GetFund, ListAllocations,
    ListDeals, ListFunds, RegisterFund,
};
use ::domain::messages::capital_calls::CallLine;
use ::domain::messages::deals::Deal;
use ::domain::{Amount, Page, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answer, Answers, Batch, Context, Fault, Follow, Handle, Seen, Sent, Show, Summarise, Tx, cursor};
use uuid::Uuid;

use crate::{AllocationStatus, domain, store};

mod proposals;
mod withdrawals;

impl Follow<Deal> for AllocationStatus {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Deal>]) -> Result<(), Fault> {
        store::copy_deals(tx, batch).await?;
        withdrawals::of_deals_that_are_off(tx, batch).await
    }
}

impl Follow<CallLine> for AllocationStatus {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CallLine>]) -> Result<(), Fault> {
        let changed = store::keep_line_shares(tx, batch).await?;
        add_funding(tx, &changed).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        let changed = store::forget_line_shares(tx, ids).await?;
        add_funding(tx, &changed).await
    }
}

/// Adds to what allocations are called and paid; their new states are published as summaries.
async fn add_funding(tx: &mut Tx, changed: &BTreeMap<Uuid, (Amount, Amount)>) -> Result<(), Fault> {
    // purposes are checked against active allocations, so the allocation is there; if this database was set back it is not, and
    // never comes back under its id: its shares are kept, and `verify --recompute` goes on naming them
    for allocation_id in store::add_funding(tx, changed).await? {
        tx.summarise_later::<Allocation>(allocation_id);
    }
    Ok(())
}

impl Summarise<Allocation> for AllocationStatus {
    async fn summarise(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, Allocation, AllocationChange)>, Fault> {
        let mut allocations = store::lock_allocations(tx, ids).await?;
        for allocation in allocations.values_mut() {
            allocation.version += 1;
        }
        store::save_allocations(tx, &allocations.values().collect::<Vec<_>>()).await?;
        Ok(allocations.into_iter().map(|(id, allocation)| (id, allocation, AllocationChange::FundingChanged)).collect())
    }
}

impl Handle<RegisterFund> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RegisterFund>) -> Result<Answers<Fund>, Fault> {
        let mut answers: Answers<Fund> = batch.iter().map(|sent| register(tx, sent)).collect();
        let wanted: Vec<Fund> = answers.iter().flatten().cloned().collect();
        let added = store::insert_funds(tx, &wanted).await?;
        for (answer, Sent { context, .. }) in answers.iter_mut().zip(batch.iter()) {
            match answer {
                Ok(fund) if added.contains(&fund.id) => tx.emit(context, fund, FundChange::Registered)?,
                Ok(fund) => *answer = Err(Reason::DuplicateFund.with(format!("the name {:?} is taken", fund.name))),
                Err(_) => {}
            }
        }
        Ok(answers)
    }
}

fn register(tx: &Tx, Sent { body, .. }: &Sent<RegisterFund>) -> Result<Fund, Rejection> {
    let size = domain::check_fund(body)?;
    Ok(Fund {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        name: body.name.clone(),
        fund_type: body.fund_type.clone(),
        currency: body.currency,
        vintage_year: body.vintage_year,
        size,
        calendar: body.calendar.clone(),
        timezone: body.timezone.clone(),
        allocated: body.currency.zero(),
        status: FundStatus::Open,
    })
}

/// Stores and publishes the funds whose capacity changed, once each.
async fn save_capacity(tx: &mut Tx, funds: &mut HashMap<Uuid, Fund>, changed: &HashMap<Uuid, Context>) -> Result<(), Fault> {
    for (id, context) in changed {
        if let Some(fund) = funds.get_mut(id) {
            fund.version += 1;
            tx.emit(context, fund, FundChange::CapacityChanged)?;
        }
    }
    let changed: Vec<&Fund> = funds.values().filter(|fund| changed.contains_key(&fund.id)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    store::save_funds(tx, &changed).await
}

impl Handle<DecideAllocation> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideAllocation>) -> Result<Answers<Allocation>, Fault> {
        let mut allocations = store::lock_allocations(tx, &batch.ids(|command| command.allocation_id)).await?;
        let given_back: HashSet<Uuid> =
            batch.iter().filter(|sent| sent.body.denied_because.is_some()).map(|sent| sent.body.allocation_id).collect();
        let releasing = allocations.values().filter(|allocation| given_back.contains(&allocation.id));
        let mut funds = store::lock_funds(tx, &sorted_ids(releasing.map(|allocation| allocation.fund_id))).await?;
        let mut answers = Answers::new();
        let mut last_context = HashMap::new();
        for Sent { context, body, .. } in batch.iter() {
            let Some(allocation) = allocations.get_mut(&body.allocation_id) else {
                answers.push(Err(Reason::UnknownAllocation.with(format!("allocation {}", body.allocation_id))));
                continue;
            };
            let decided = domain::decide(allocation, body.denied_because.is_some());
            answers.push(decided.map(|decision| {
                allocation.decision = decision;
                allocation.version += 1;
                domain::derive(allocation);
                allocation.clone()
            }));
            let Some(Ok(allocation)) = answers.last() else { continue };
            match &body.denied_because {
                None => tx.emit(context, allocation, AllocationChange::Activated)?,
                Some(reason) => {
                    tx.emit(context, allocation, AllocationChange::Denied { reason: reason.clone() })?;
                    if let Some(fund) = funds.get_mut(&allocation.fund_id) {
                        domain::take_capacity(fund, -allocation.amount);
                        last_context.insert(fund.id, context.clone());
                    }
                }
            }
        }
        store::save_allocations(tx, &answers.iter().flatten().collect::<Vec<_>>()).await?;
        save_capacity(tx, &mut funds, &last_context).await?;
        Ok(answers)
    }
}

impl Show<GetFund> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetFund) -> Answer<Fund> {
        context.actor.check_fund(query.fund_id)?;
        let found = store::find_fund(tx, query.fund_id).await?;
        Ok(found.ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", query.fund_id)))?)
    }
}

impl Show<ListFunds> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListFunds) -> Answer<Page<Fund>> {
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<String>(query.cursor.as_deref())?.unwrap_or_default();
        let funds = store::list_funds(tx, context.actor.scope.funds(), &after, limit + 1).await?;
        Ok(Page::cut(funds, limit, |last| cursor::write(&last.name)))
    }
}

impl Show<GetDeal> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, _: &Context, query: GetDeal) -> Answer<Deal> {
        let found = store::find_deal(tx, query.deal_id).await?;
        Ok(found.ok_or_else(|| Reason::UnknownDeal.with(format!("deal {}", query.deal_id)))?)
    }
}

impl Show<ListDeals> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, _: &Context, query: ListDeals) -> Answer<Page<Deal>> {
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or_default();
        let deals = store::list_deals(tx, query.stage.as_deref(), after, limit + 1).await?;
        Ok(Page::cut(deals, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<GetAllocation> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetAllocation) -> Answer<Allocation> {
        let found = store::find_allocation(tx, query.allocation_id).await?;
        let allocation = found.ok_or_else(|| Reason::UnknownAllocation.with(format!("allocation {}", query.allocation_id)))?;
        context.actor.check_fund(allocation.fund_id)?;
        Ok(allocation)
    }
}

impl Show<ListAllocations> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListAllocations) -> Answer<Page<Allocation>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let filter = store::AllocationFilter {
            scope: context.actor.scope.funds(),
            fund_id: query.fund_id,
            deal_id: query.deal_id,
            decision: query.decision,
        };
        let allocations = store::list_allocations(tx, &filter, before, limit + 1).await?;
        Ok(Page::cut(allocations, limit, |last| cursor::write(&last.id)))
    }
}
