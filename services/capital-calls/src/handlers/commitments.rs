//! What investors promise: recorded, changed, transferred, excused.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    ChangeCommitment, ChangeKind, Commitment, CommitmentChange, CommitmentEntry, CommitmentStatus, CommitmentTransferred, EntryKind,
    ExcuseInvestor, RecordCommitment, TransferCommitment,
};
use ::domain::money::same_currency;
use ::domain::rejection::check_text;
use ::domain::rules::Transition;
use ::domain::{Amount, Currency, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::investor_types::Promises;
use crate::domain::{self, FundCopy};
use crate::{CapitalCalls, store};

/// What an entry says.
pub struct Entered<'a> {
    /// Why the amount changed.
    pub kind: EntryKind,
    /// By how much.
    pub amount: Amount,
    /// By how much what is unfunded changed.
    pub impact_on_unfunded: Amount,
    /// From when it counts.
    pub effective_on: NaiveDate,
    /// The other side of a transfer.
    pub counterpart_id: Option<Uuid>,
    /// The closing that it belongs to.
    pub closing_id: Option<Uuid>,
    /// Why, in a person's words.
    pub reason: &'a str,
}

/// Enters a change into a commitment.
pub fn enter(tx: &Tx, context: &Context, commitment: &mut Commitment, entered: &Entered<'_>) -> CommitmentEntry {
    let entry = CommitmentEntry {
        id: tx.new_id(),
        commitment_id: commitment.id,
        version: commitment.version + 1,
        at: tx.now(),
        kind: entered.kind,
        amount: entered.amount,
        impact_on_unfunded: entered.impact_on_unfunded,
        effective_on: entered.effective_on,
        counterpart_id: entered.counterpart_id,
        closing_id: entered.closing_id,
        reason: entered.reason.to_owned(),
        recorded_by: context.actor.user.clone(),
    };
    domain::enter(commitment, &entry);
    entry
}

/// A commitment of nothing, for its first entry.
pub fn blank(tx: &Tx, fund_id: Uuid, investor_id: Uuid, currency: Currency, effective_on: NaiveDate) -> Commitment {
    let zero = currency.zero();
    Commitment {
        id: tx.new_id(),
        version: 0,
        created_at: tx.now(),
        fund_id,
        investor_id,
        currency,
        amount: zero,
        effective_on,
        called: zero,
        unfunded: zero,
        drawn_transferred: zero,
        released_on: None,
        defaulted_on: None,
        remedy: None,
        excused_from: vec![],
        status: CommitmentStatus::Active,
    }
}

impl Handle<RecordCommitment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordCommitment>) -> Result<Answers<Commitment>, Fault> {
        let fund_ids = batch.ids(|command| command.fund_id);
        store::lock_funds(tx, &fund_ids).await?;
        let funds = store::funds(tx, &fund_ids).await?;
        let investors = store::known_investors(tx, &batch.ids(|command| command.investor_id)).await?;
        let mut promises = Promises::load(tx, &funds, &investors).await?;
        let holders: Vec<(Uuid, Uuid)> = batch.iter().map(|sent| (sent.body.fund_id, sent.body.investor_id)).collect();
        let mut known: HashSet<(Uuid, Uuid)> = store::commitment_ids(tx, &holders).await?.into_keys().collect();
        let mut answers = Answers::new();
        let mut entries = Vec::new();
        for sent in batch.iter() {
            let holder = (sent.body.fund_id, sent.body.investor_id);
            let recorded = match known.contains(&holder) {
                // what is there counts already
                true => Err(Reason::CommitmentExists.with(format!("investor {} and fund {}", holder.1, holder.0))),
                false => record(tx, sent, funds.get(&sent.body.fund_id), &investors, &mut promises),
            };
            if recorded.is_ok() {
                known.insert(holder);
            }
            answers.push(recorded.map(|(commitment, entry)| {
                entries.push(entry);
                commitment
            }));
        }
        let wanted: Vec<Commitment> = answers.iter().flatten().cloned().collect();
        let added: HashSet<Uuid> = store::insert_commitments(tx, &wanted).await?.into_iter().collect();
        entries.retain(|entry| added.contains(&entry.commitment_id));
        store::insert_entries(tx, &entries).await?;
        for (answer, Sent { context, .. }) in answers.iter_mut().zip(batch.iter()) {
            match answer {
                Ok(commitment) if added.contains(&commitment.id) => tx.emit(context, commitment, CommitmentChange::Recorded)?,
                Ok(commitment) => {
                    *answer =
                        Err(Reason::CommitmentExists.with(format!("investor {} and fund {}", commitment.investor_id, commitment.fund_id)));
                }
                Err(_) => {}
            }
        }
        Ok(answers)
    }
}

fn record(
    tx: &Tx,
    Sent { context, body, .. }: &Sent<RecordCommitment>,
    fund: Option<&FundCopy>,
    investors: &[Uuid],
    promises: &mut Promises,
) -> Result<(Commitment, CommitmentEntry), Rejection> {
    let RecordCommitment { fund_id, investor_id, amount, currency, effective_on } = *body;
    context.actor.check_fund(fund_id)?;
    let fund = fund.ok_or_else(|| Reason::UnknownFund.with(format!("fund {fund_id}")))?;
    let amount = domain::amount_in(fund.currency, amount, currency)?;
    calendar::plausible_date("effective_on", effective_on)?;
    check_investor(investors, investor_id)?;
    promises.add(fund, investor_id, amount)?;
    let mut commitment = blank(tx, fund_id, investor_id, fund.currency, effective_on);
    let entered = Entered {
        kind: EntryKind::Initial,
        amount,
        impact_on_unfunded: amount,
        effective_on,
        counterpart_id: None,
        closing_id: None,
        reason: "initial commitment",
    };
    let entry = enter(tx, context, &mut commitment, &entered);
    Ok((commitment, entry))
}

/// Refuses an investor that is not registered.
pub fn check_investor(known: &[Uuid], id: Uuid) -> Result<(), Rejection> {
    if known.contains(&id) { Ok(()) } else { Err(Reason::UnknownInvestor.with(format!("investor {id}"))) }
}

fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownCommitment.with(format!("commitment {id}"))
}

/// Commitments that are locked, with their entries, and what a batch has changed so far.
#[derive(Default)]
struct Register {
    commitments: HashMap<Uuid, Commitment>,
    entries: Vec<CommitmentEntry>,
    added: Vec<Uuid>,
    entered: Vec<CommitmentEntry>,
    funds: HashMap<Uuid, FundCopy>,
    promises: Promises,
}

impl Register {
    async fn lock(tx: &mut Tx, ids: &[Uuid], takers: &[Uuid]) -> Result<Register, Fault> {
        let fund_ids = store::funds_of_commitments(tx, ids).await?;
        store::lock_funds(tx, &fund_ids).await?;
        let commitments = store::lock_commitments_by_id(tx, ids).await?;
        let entries = store::entries(tx, ids).await?;
        let funds = store::funds(tx, &fund_ids).await?;
        let holders = commitments.values().map(|commitment| commitment.investor_id);
        let promises = Promises::load(tx, &funds, &sorted_ids(holders.chain(takers.iter().copied()))).await?;
        Ok(Register { commitments, entries, funds, promises, ..Register::default() })
    }

    /// The fund of a commitment, where the firm has not closed what is to happen.
    fn open_fund(&self, tx: &Tx, commitment: &Commitment, transition: Transition) -> Result<FundCopy, Rejection> {
        let unknown = || Reason::UnknownFund.with(format!("fund {}", commitment.fund_id));
        let fund = self.funds.get(&commitment.fund_id).ok_or_else(unknown)?;
        tx.rules().check_open(&fund.fund_type, fund.id, transition)?;
        Ok(fund.clone())
    }

    /// The entries of a commitment that take effect after a change does.
    fn later(&self, commitment: &Commitment, effective_on: NaiveDate) -> Vec<&CommitmentEntry> {
        let is_later = |entry: &&CommitmentEntry| entry.commitment_id == commitment.id && entry.effective_on > effective_on;
        self.entries.iter().chain(&self.entered).filter(is_later).collect()
    }

    /// Enters a change, and publishes it.
    fn enter(&mut self, tx: &mut Tx, context: &Context, id: Uuid, entered: &Entered<'_>) -> Result<Commitment, Fault> {
        let Some(commitment) = self.commitments.get_mut(&id) else { return Err(Fault::Fatal(format!("commitment {id} is not locked"))) };
        let entry = enter(tx, context, commitment, entered);
        tx.emit(context, &*commitment, CommitmentChange::Changed { entry: entry.clone() })?;
        self.entered.push(entry);
        Ok(commitment.clone())
    }

    async fn save(&self, tx: &mut Tx) -> Result<(), Fault> {
        let changed: HashSet<Uuid> = self.entered.iter().map(|entry| entry.commitment_id).collect();
        let (new, old): (Vec<&Commitment>, Vec<&Commitment>) = self
            .commitments
            .values()
            .filter(|commitment| changed.contains(&commitment.id))
            .partition(|commitment| self.added.contains(&commitment.id));
        let new: Vec<Commitment> = new.into_iter().cloned().collect();
        if store::insert_commitments(tx, &new).await?.len() < new.len() {
            return Err(Fault::Transient("another commitment of an investor to a fund was recorded meanwhile".into()));
        }
        store::save_commitments(tx, &old).await?;
        store::insert_entries(tx, &self.entered).await
    }
}

impl Handle<ChangeCommitment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ChangeCommitment>) -> Result<Answers<Commitment>, Fault> {
        let mut register = Register::lock(tx, &batch.ids(|command| command.commitment_id), &[]).await?;
        let mut answers = Answers::new();
        for sent in batch.iter() {
            answers.push(match change(tx, sent, &mut register) {
                Ok((kind, amount)) => {
                    let ChangeCommitment { commitment_id, effective_on, reason, .. } = &sent.body;
                    let entered = Entered {
                        kind,
                        amount,
                        impact_on_unfunded: amount,
                        effective_on: *effective_on,
                        counterpart_id: None,
                        closing_id: None,
                        reason,
                    };
                    Ok(register.enter(tx, &sent.context, *commitment_id, &entered)?)
                }
                Err(rejection) => Err(rejection),
            });
        }
        register.save(tx).await?;
        Ok(answers)
    }
}

fn change(tx: &Tx, Sent { context, body, .. }: &Sent<ChangeCommitment>, register: &mut Register) -> Result<(EntryKind, Amount), Rejection> {
    let commitment = register.commitments.get(&body.commitment_id).ok_or_else(|| unknown(body.commitment_id))?;
    context.actor.check_fund(commitment.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    calendar::plausible_date("effective_on", body.effective_on)?;
    same_currency(commitment.currency, body.currency.unwrap_or(commitment.currency))?;
    if body.kind == ChangeKind::Increase && body.effective_on < commitment.effective_on {
        let why = format!("effective_on {} is before commitment {}, of {}", body.effective_on, commitment.id, commitment.effective_on);
        return Err(Reason::ImplausibleDate.with(why));
    }
    let transition = match body.kind {
        ChangeKind::Increase => Transition::CommitmentIncreased,
        ChangeKind::Reduction => Transition::CommitmentReduced,
        ChangeKind::Release => Transition::CommitmentReleased,
    };
    let (fund, investor_id) = (register.open_fund(tx, commitment, transition)?, commitment.investor_id);
    let (kind, amount) = domain::change(commitment, &register.later(commitment, body.effective_on), body.kind, body.amount)?;
    register.promises.add(&fund, investor_id, amount)?;
    Ok((kind, amount))
}

impl Handle<TransferCommitment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<TransferCommitment>) -> Result<Answers<CommitmentTransferred>, Fault> {
        let investors = store::known_investors(tx, &batch.ids(|command| command.to_investor_id)).await?;
        let givers = store::holders(tx, &batch.ids(|command| command.commitment_id)).await?;
        let to: Vec<(Uuid, Uuid)> = batch
            .iter()
            .filter_map(|sent| givers.get(&sent.body.commitment_id).map(|(fund_id, _)| (*fund_id, sent.body.to_investor_id)))
            .collect();
        let mut takers = store::commitment_ids(tx, &to).await?;
        // both sides at once, in the order of their ids
        let mut register = Register::lock(tx, &sorted_ids(givers.keys().chain(takers.values()).copied()), &investors).await?;
        let mut answers = Answers::new();
        for sent in batch.iter() {
            answers.push(match transfer(tx, sent, &mut register, &investors) {
                Ok((amount, unfunded)) => Ok(carry_over(tx, sent, &mut register, &mut takers, amount, unfunded)?),
                Err(rejection) => Err(rejection),
            });
        }
        register.save(tx).await?;
        Ok(answers)
    }
}

fn transfer(
    tx: &Tx,
    Sent { context, body, .. }: &Sent<TransferCommitment>,
    register: &mut Register,
    investors: &[Uuid],
) -> Result<(Amount, Amount), Rejection> {
    let from = register.commitments.get(&body.commitment_id).ok_or_else(|| unknown(body.commitment_id))?;
    context.actor.check_fund(from.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    calendar::plausible_date("effective_on", body.effective_on)?;
    same_currency(from.currency, body.currency.unwrap_or(from.currency))?;
    check_investor(investors, body.to_investor_id)?;
    if body.to_investor_id == from.investor_id {
        return Err(Reason::TransferMismatch.with(format!("investor {} would transfer to itself", from.investor_id)));
    }
    let (fund, giver) = (register.open_fund(tx, from, Transition::CommitmentTransferred)?, from.investor_id);
    let (amount, unfunded) = domain::transfer(from, &register.later(from, body.effective_on), body.amount, body.drawn)?;
    register.promises.pass_on(&fund, giver, body.to_investor_id, amount)?;
    Ok((amount, unfunded))
}

/// Takes a part from one side and gives it to the other.
fn carry_over(
    tx: &mut Tx,
    Sent { context, body, .. }: &Sent<TransferCommitment>,
    register: &mut Register,
    takers: &mut HashMap<(Uuid, Uuid), Uuid>,
    amount: Amount,
    unfunded: Amount,
) -> Result<CommitmentTransferred, Fault> {
    let Some(from) = register.commitments.get(&body.commitment_id) else {
        return Err(Fault::Fatal(format!("commitment {} is not locked", body.commitment_id)));
    };
    let (fund_id, currency) = (from.fund_id, from.currency);
    let taker = *takers.entry((fund_id, body.to_investor_id)).or_insert_with(|| {
        let new = blank(tx, fund_id, body.to_investor_id, currency, body.effective_on);
        let id = new.id;
        register.added.push(id);
        register.commitments.insert(id, new);
        id
    });
    let side = |kind, amount, impact_on_unfunded, counterpart_id| Entered {
        kind,
        amount,
        impact_on_unfunded,
        effective_on: body.effective_on,
        counterpart_id: Some(counterpart_id),
        closing_id: None,
        reason: &body.reason,
    };
    let from = register.enter(tx, context, body.commitment_id, &side(EntryKind::TransferOut, -amount, -unfunded, taker))?;
    let to = register.enter(tx, context, taker, &side(EntryKind::TransferIn, amount, unfunded, body.commitment_id))?;
    Ok(CommitmentTransferred { from, to })
}

impl Handle<ExcuseInvestor> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ExcuseInvestor>) -> Result<Answers<Commitment>, Fault> {
        let mut commitments = store::lock_commitments_by_id(tx, &batch.ids(|command| command.commitment_id)).await?;
        let allocations = store::allocations(tx, &batch.ids(|command| command.allocation_id)).await?;
        let funds = store::funds(tx, &sorted_ids(commitments.values().map(|commitment| commitment.fund_id))).await?;
        let rules = tx.rules();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let allocation = allocations.get(&body.allocation_id);
            let excused = match commitments.get_mut(&body.commitment_id) {
                None => Err(unknown(body.commitment_id)),
                Some(commitment) => context
                    .actor
                    .check_fund(commitment.fund_id)
                    .and_then(|()| check_text("reason", &body.reason, REASON_CHARACTERS_MAX))
                    .and_then(|()| match funds.get(&commitment.fund_id) {
                        Some(fund) => rules.check_open(&fund.fund_type, fund.id, Transition::InvestorExcused),
                        None => Err(Reason::UnknownFund.with(format!("fund {}", commitment.fund_id))),
                    })
                    .and_then(|()| domain::excuse(commitment, body.allocation_id, allocation))
                    .map(|()| commitment.clone()),
            };
            if let Ok(commitment) = &excused {
                let change = CommitmentChange::Excused { allocation_id: body.allocation_id, reason: body.reason.clone() };
                tx.emit(context, commitment, change)?;
            }
            answers.push(excused);
        }
        let excuses: Vec<(&Commitment, Uuid)> = answers
            .iter()
            .zip(batch.iter())
            .filter_map(|(answer, sent)| answer.as_ref().ok().map(|commitment| (commitment, sent.body.allocation_id)))
            .collect();
        store::add_excuses(tx, &excuses).await?;
        Ok(answers)
    }
}
