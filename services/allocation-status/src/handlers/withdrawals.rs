//! Allocations that are taken back: because their deal will not happen, as the rules say, or because somebody asks for it.
//!
//! A pending one is cancelled in one transaction. One in force may be called for at the same moment by capital-calls, so its workflow has
//! that stopped first, and the allocation keeps its capacity until it is known what stays called.

use std::collections::HashMap;

use ::domain::messages::allocation_status::{
    Allocation, AllocationChange, AllocationDecision, AllocationWithdrawn, SettleWithdrawal, WithdrawAllocation,
};
use ::domain::messages::deals::Deal;
use ::domain::rejection::check_text;
use ::domain::rules::{Transition, WhenWithdrawn};
use ::domain::{Amount, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Seen, Sent, Tx};
use uuid::Uuid;

use super::save_capacity;
use crate::{AllocationStatus, domain, store};

/// Longest reason.
const REASON_CHARACTERS_MAX: usize = 500;

/// Allocations that are taken back, with what their funds get.
struct Books {
    allocations: HashMap<Uuid, Allocation>,
    freed: HashMap<Uuid, (Amount, Context)>,
    changed: Vec<Uuid>,
}

impl Books {
    fn of(allocations: HashMap<Uuid, Allocation>) -> Books {
        Books { allocations, freed: HashMap::new(), changed: vec![] }
    }

    /// Changes an allocation, and publishes that.
    fn change(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        id: Uuid,
        decide: impl FnOnce(&mut Allocation) -> Result<AllocationChange, Rejection>,
    ) -> Result<Result<Allocation, Rejection>, Fault> {
        let Some(allocation) = self.allocations.get_mut(&id) else {
            return Ok(Err(Reason::UnknownAllocation.with(format!("allocation {id}"))));
        };
        let held = held(allocation);
        let change = match decide(allocation) {
            Ok(change) => change,
            Err(rejection) => return Ok(Err(rejection)),
        };
        allocation.version += 1;
        tx.emit(context, &*allocation, change)?;
        let freed = held - self::held(allocation);
        if freed.is_positive() {
            let of_fund = self.freed.entry(allocation.fund_id).or_insert_with(|| (allocation.currency.zero(), context.clone()));
            *of_fund = (of_fund.0 + freed, context.clone());
        }
        self.changed.push(id);
        Ok(Ok(allocation.clone()))
    }

    /// Writes what has changed, and gives funds what is free again.
    async fn save(self, tx: &mut Tx) -> Result<(), Fault> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let changed: Vec<&Allocation> = self.allocations.values().filter(|allocation| self.changed.contains(&allocation.id)).collect();
        store::save_allocations(tx, &changed).await?;
        let mut funds = store::lock_funds(tx, &sorted_ids(self.freed.keys().copied())).await?;
        let mut contexts = HashMap::new();
        for (id, (amount, context)) in self.freed {
            if let Some(fund) = funds.get_mut(&id) {
                domain::take_capacity(fund, -amount);
                contexts.insert(id, context);
            }
        }
        save_capacity(tx, &mut funds, &contexts).await
    }
}

/// What an allocation takes of its fund's capacity.
fn held(allocation: &Allocation) -> Amount {
    if allocation.decision.holds_capacity() { allocation.amount } else { allocation.currency.zero() }
}

/// Does to the allocations of deals that will not happen what the rules say, once each time that a deal comes to be so; and has nobody
/// told any more of deals that will happen after all. The deals are locked.
pub async fn of_deals_that_are_off(tx: &mut Tx, batch: &[Seen<Deal>]) -> Result<(), Fault> {
    let contexts: HashMap<Uuid, &Context> = batch.iter().map(|seen| (seen.state.id, &seen.context)).collect();
    // by the copies: what came late, or twice, says nothing of the deal as it is
    let concerned = store::lock_allocations_of_deals(tx, &sorted_ids(contexts.keys().copied())).await?;
    if concerned.is_empty() {
        return Ok(());
    }
    let mut books = Books::of(concerned.iter().map(|(allocation, _)| (allocation.id, allocation.clone())).collect());
    let mut heeded = Vec::with_capacity(concerned.len());
    for (allocation, deal) in &concerned {
        let Some(context) = contexts.get(&allocation.deal_id) else { continue };
        // what is refused here is being taken back already, or nobody is told of it
        let _ = if deal.is_off {
            let rules = tx.rules().rules(&allocation.fund_type, allocation.fund_id);
            let asked = domain::deal_is_off(&deal.stage, allocation, &rules, tx.now());
            heeded.push(allocation.id);
            books.change(tx, context, allocation.id, |allocation| domain::withdraw(allocation, asked))?
        } else {
            books.change(tx, context, allocation.id, |allocation| domain::deal_is_on(allocation, &deal.stage))?
        };
    }
    store::heed_deals_off(tx, &heeded).await?;
    books.save(tx).await
}

impl Handle<WithdrawAllocation> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<WithdrawAllocation>) -> Result<Answers<AllocationWithdrawn>, Fault> {
        let mut books = Books::of(store::lock_allocations(tx, &batch.ids(|command| command.allocation_id)).await?);
        let mut answers = Answers::with_capacity(batch.iter().len());
        for Sent { context, body, .. } in batch.iter() {
            let asked = domain::Asked {
                then: if body.rescind { WhenWithdrawn::Rescind } else { WhenWithdrawn::Cancel },
                by: context.actor.user.clone(),
                reason: body.reason.clone(),
                at: tx.now(),
            };
            let rules = tx.rules();
            let withdrawn = books.change(tx, context, body.allocation_id, |allocation| {
                context.actor.check_fund(allocation.fund_id)?;
                check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
                if allocation.decision == AllocationDecision::Active {
                    rules.check_open(&allocation.fund_type, allocation.fund_id, Transition::AllocationWithdrawn)?;
                }
                domain::withdraw(allocation, asked)
            })?;
            answers.push(withdrawn.map(|allocation| AllocationWithdrawn {
                allocation_id: allocation.id,
                workflow_id: allocation.withdrawal.map(|withdrawal| withdrawal.workflow_id),
                status: allocation.status,
            }));
        }
        books.save(tx).await?;
        Ok(answers)
    }
}

impl Handle<SettleWithdrawal> for AllocationStatus {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SettleWithdrawal>) -> Result<Answers<Allocation>, Fault> {
        let mut books = Books::of(store::lock_allocations(tx, &batch.ids(|command| command.allocation_id)).await?);
        let mut answers = Answers::with_capacity(batch.iter().len());
        for Sent { context, body, .. } in batch.iter() {
            answers.push(books.change(tx, context, body.allocation_id, |allocation| domain::settle(allocation, body))?);
        }
        books.save(tx).await?;
        Ok(answers)
    }
}
