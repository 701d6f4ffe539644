//! What funds are proposed to put into deals: one by one, many at once, and split beforehand.

use std::collections::{BTreeSet, HashMap};

use ::domain::message::Outcomes;
use ::domain::messages::allocation_status::{
    Allocation, AllocationAccepted, AllocationChange, AllocationsPreview, Fund, PreviewAllocations, ProposeAllocation, ProposeAllocations,
};
use ::domain::messages::deals::Deal;
use ::domain::{Amount, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Show, Tx};
use uuid::Uuid;

use super::save_capacity;
use crate::{AllocationStatus, domain, store};

impl Handle<ProposeAllocation> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeAllocation>) -> Result<Answers<AllocationAccepted>, Fault> {
        let proposed: Vec<(&Context, &ProposeAllocation)> = batch.iter().map(|sent| (&sent.context, &sent.body)).collect();
        propose_all(tx, &proposed).await
    }
}

impl Handle<ProposeAllocations> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeAllocations>) -> Result<Answers<Outcomes<AllocationAccepted>>, Fault> {
        let decided = propose_all(tx, &batch.parts()).await?;
        batch.answers_of_parts(tx, decided)
    }
}

/// Decides proposals one on top of the other and stores those that are accepted.
async fn propose_all(tx: &mut Tx, proposed: &[(&Context, &ProposeAllocation)]) -> Result<Answers<AllocationAccepted>, Fault> {
    let deal_ids = sorted_ids(proposed.iter().map(|(_, body)| body.deal_id));
    let deals = store::lock_deals(tx, &deal_ids).await?;
    let mut funds = store::lock_funds(tx, &sorted_ids(proposed.iter().map(|(_, body)| body.fund_id))).await?;
    let mut of_deals: HashMap<Uuid, Vec<Allocation>> = HashMap::new();
    for allocation in store::allocations_of_deals(tx, &deal_ids).await? {
        of_deals.entry(allocation.deal_id).or_default().push(allocation);
    }
    let mut of_sectors = of_sectors(tx, &sorted_ids(funds.keys().copied()), deals.values()).await?;
    let mut added = Vec::new();
    let mut answers = Answers::with_capacity(proposed.len());
    let mut last_context = HashMap::new();
    for (context, body) in proposed {
        let of_deal = of_deals.entry(body.deal_id).or_default();
        let deal = deals.get(&body.deal_id);
        let of_sector = deal.map(|deal| (body.fund_id, domain::sector(deal).to_owned()));
        let before = of_sector.as_ref().and_then(|key| of_sectors.get(key)).copied().unwrap_or_default();
        let decided = propose(tx, context, body, (deal, funds.get(&body.fund_id)), (of_deal, before));
        if let Ok(allocation) = &decided {
            if let Some(key) = of_sector {
                of_sectors.insert(key, before + allocation.amount);
            }
            tx.emit(context, allocation, AllocationChange::Proposed)?;
            if let Some(fund) = funds.get_mut(&allocation.fund_id) {
                domain::take_capacity(fund, allocation.amount);
                last_context.insert(fund.id, (*context).clone());
            }
            of_deal.push(allocation.clone());
            added.push(allocation.clone());
        }
        answers.push(decided.map(|allocation| AllocationAccepted { workflow_id: allocation.workflow_id, allocation_id: allocation.id }));
    }
    store::insert_allocations(tx, &added).await?;
    save_capacity(tx, &mut funds, &last_context).await?;
    Ok(answers)
}

/// What funds have in deals of the sectors of these, by fund and sector.
async fn of_sectors<'a>(
    tx: &mut Tx,
    fund_ids: &[Uuid],
    deals: impl Iterator<Item = &'a Deal>,
) -> Result<HashMap<(Uuid, String), Amount>, Fault> {
    let sectors: BTreeSet<&str> = deals.map(domain::sector).collect();
    store::allocated_by_sector(tx, fund_ids, &sectors.into_iter().collect::<Vec<_>>()).await
}

fn unknown_fund(id: Uuid) -> Rejection {
    Reason::UnknownFund.with(format!("fund {id}"))
}

fn unknown_deal(id: Uuid) -> Rejection {
    Reason::UnknownDeal.with(format!("deal {id}"))
}

fn propose(
    tx: &Tx,
    context: &Context,
    body: &ProposeAllocation,
    (deal, fund): (Option<&Deal>, Option<&Fund>),
    (of_deal, of_sector): (&[Allocation], Amount),
) -> Result<Allocation, Rejection> {
    context.actor.check_fund(body.fund_id)?;
    let fund = fund.ok_or_else(|| unknown_fund(body.fund_id))?;
    let deal = deal.ok_or_else(|| unknown_deal(body.deal_id))?;
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    let proposal = domain::Proposal { fund, deal, rules: &rules, of_deal, of_sector };
    let amount = domain::propose(&proposal, body).map_err(|rejection| tx.rules().named(&fund.fund_type, fund.id, rejection))?;
    let used = tx.rules().used(&fund.fund_type, fund.id);
    let made = domain::Made { id: tx.new_id(), at: tx.now(), by: context.actor.user.clone(), rules: used };
    Ok(domain::allocation(&proposal, body, amount, made))
}

impl Show<PreviewAllocations> for AllocationStatus {
    async fn show(&self, tx: &mut Tx, context: &Context, query: PreviewAllocations) -> Answer<AllocationsPreview> {
        let ids = sorted_ids(query.funds.iter().map(|taker| taker.fund_id));
        for id in &ids {
            context.actor.check_fund(*id)?;
        }
        let deal = store::find_deal(tx, query.deal_id).await?.ok_or_else(|| unknown_deal(query.deal_id))?;
        let of_deal = store::allocations_of_deals(tx, &[deal.id]).await?;
        let mut funds = store::find_funds(tx, &ids).await?;
        let of_sectors = of_sectors(tx, &ids, std::iter::once(&deal)).await?;
        let mut takers = Vec::with_capacity(query.funds.len());
        for taker in &query.funds {
            // named twice, the second one is not there any more
            let fund = funds.remove(&taker.fund_id).ok_or_else(|| match ids.binary_search(&taker.fund_id) {
                Ok(_) if takers.iter().any(|known: &domain::Taker| known.fund.id == taker.fund_id) => {
                    Reason::MalformedRequest.with(format!("fund {} is named twice", taker.fund_id))
                }
                _ => unknown_fund(taker.fund_id),
            })?;
            let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
            let of_sector = of_sectors.get(&(fund.id, domain::sector(&deal).to_owned())).copied().unwrap_or_default();
            takers.push(domain::Taker { fund, weight: taker.weight, rules, of_sector });
        }
        Ok(domain::split_deal(&query, &deal, takers, of_deal)?)
    }
}
