//! What investors have promised, from when, and what is left of it.

use std::collections::BTreeMap;

use ::domain::messages::capital_calls::{ChangeKind, Commitment, CommitmentEntry, CommitmentStatus, EXCUSES_MAX, EntryKind, RemedyKind};
use ::domain::{Amount, Reason, Rejection};
use chrono::NaiveDate;
use uuid::Uuid;

use super::{AllocationCopy, amount_in};

/// Enters a change of what is promised.
pub fn enter(commitment: &mut Commitment, entry: &CommitmentEntry) {
    commitment.version += 1;
    commitment.amount += entry.amount;
    commitment.unfunded += entry.impact_on_unfunded;
    commitment.drawn_transferred += entry.amount - entry.impact_on_unfunded;
    commitment.released_on = match entry.kind {
        EntryKind::Release => Some(entry.effective_on),
        EntryKind::Reduction | EntryKind::TransferOut => commitment.released_on,
        EntryKind::Initial | EntryKind::Increase | EntryKind::TransferIn => None,
    };
    commitment.status = commitment_status(commitment);
}

/// Takes what a line calls into its commitment; negative amounts give it back.
pub fn draw(commitment: &mut Commitment, amount: Amount, impact_on_unfunded: Amount) {
    commitment.version += 1;
    commitment.called += amount;
    commitment.unfunded += impact_on_unfunded;
    commitment.status = commitment_status(commitment);
}

/// The status of a commitment, from what is promised and unfunded.
pub fn commitment_status(commitment: &Commitment) -> CommitmentStatus {
    match (commitment.defaulted_on, commitment.remedy) {
        (Some(_), Some(RemedyKind::Forfeit)) => return CommitmentStatus::Forfeited,
        (Some(_), Some(RemedyKind::Sale)) => return CommitmentStatus::Sold,
        (Some(_), _) => return CommitmentStatus::Defaulted,
        (None, _) => {}
    }
    match commitment.released_on {
        _ if !commitment.amount.is_positive() => CommitmentStatus::Transferred,
        Some(_) => CommitmentStatus::Released,
        None if commitment.unfunded.is_positive() => CommitmentStatus::Active,
        None => CommitmentStatus::FullyCalled,
    }
}

/// The least that is unfunded at the end of a date or later, if nothing else is called: what a call due on that date, and anything
/// that takes effect then, may take. `later` is what changes it after the date.
pub fn least_unfunded(commitment: &Commitment, later: impl Iterator<Item = (NaiveDate, Amount)>) -> Amount {
    let mut by_date: BTreeMap<NaiveDate, Amount> = BTreeMap::new();
    for (date, impact) in later {
        *by_date.entry(date).or_default() += impact;
    }
    let mut unfunded = commitment.unfunded;
    let mut least = unfunded;
    for impact in by_date.into_values().rev() {
        unfunded -= impact;
        least = least.min(unfunded);
    }
    least
}

/// When an entry changes what is unfunded, and by how much.
pub fn impact(entry: &CommitmentEntry) -> (NaiveDate, Amount) {
    (entry.effective_on, entry.impact_on_unfunded)
}

/// What a line draws on its commitment: it may draw on what is promised only by its due date.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The call.
    pub call_id: Uuid,
    /// When the line is due.
    pub due_on: NaiveDate,
    /// What it does to the unfunded commitment.
    pub impact_on_unfunded: Amount,
}

/// An entry with its number among those of its fund.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The number.
    pub position: i64,
    /// The entry.
    pub entry: CommitmentEntry,
}

/// A commitment as a call sees it that is due on a date: what is promised by then, and the least that is unfunded from then on. None
/// when nothing is promised by then. A call that was issued has seen the entries up to a position and stays with them, but what was promised at a
/// closing counts for every call, whenever the closing was. Who was released has nothing unfunded from then on. `draws` are the lines of
/// other calls where more is promised after the date: those that are due after it do not draw on what is promised by then.
pub fn effective(
    commitment: &Commitment,
    entries: &[Recorded],
    draws: impl Iterator<Item = Draw>,
    due_on: NaiveDate,
    seen: Option<i64>,
) -> Option<Commitment> {
    let is_own = |recorded: &&Recorded| recorded.entry.commitment_id == commitment.id && recorded.entry.closing_id.is_none();
    let own = || entries.iter().filter(is_own);
    let later = || own().map(|recorded| &recorded.entry).filter(|entry| entry.effective_on > due_on);
    let is_after = |recorded: &&Recorded| recorded.entry.effective_on > due_on || seen.is_some_and(|seen| recorded.position > seen);
    let after = || own().filter(is_after).map(|recorded| &recorded.entry);
    let promised = commitment.amount - after().map(|entry| entry.amount).sum();
    // what a closing or a rescission gives back to who was released is called no more; a call that had seen the release stays with it,
    // also where it is due before
    let is_news = |recorded: &&Recorded| seen.map_or(recorded.entry.effective_on > due_on, |seen| recorded.position > seen);
    let release = own().find(|recorded| recorded.entry.kind == EntryKind::Release && is_news(recorded));
    let is_released = commitment.released_on.is_some() && release.is_none();
    // the share goes by what was promised then, and is capped by what is unfunded now
    let drawn_later = draws.filter(|draw| draw.due_on > due_on).map(|draw| (draw.due_on, draw.impact_on_unfunded));
    let unfunded =
        if is_released { commitment.currency.zero() } else { least_unfunded(commitment, later().map(impact).chain(drawn_later)) };
    promised.is_positive().then(|| Commitment { amount: promised, unfunded, ..commitment.clone() })
}

/// By how much a change that a person asks for changes what is promised. `later` are the commitment's entries that take effect after
/// the change does.
pub fn change(
    commitment: &Commitment,
    later: &[&CommitmentEntry],
    kind: ChangeKind,
    amount: Option<Amount>,
) -> Result<(EntryKind, Amount), Rejection> {
    let promised = commitment.amount - later.iter().map(|entry| entry.amount).sum();
    // a return that may be called again can make more unfunded than is promised
    let unfunded = least_unfunded(commitment, later.iter().copied().map(impact)).min(promised);
    let missing = || Reason::InvalidAmount.with("an increase or reduction without an amount");
    let drawn = |wanted: Amount| {
        Reason::CommitmentDrawn
            .with(format!("commitment {} has {unfunded} unfunded from then on, {wanted} is to be taken away", commitment.id))
    };
    match kind {
        ChangeKind::Increase => Ok((EntryKind::Increase, amount_in(commitment.currency, amount.ok_or_else(missing)?, None)?)),
        ChangeKind::Reduction => {
            let amount = amount_in(commitment.currency, amount.ok_or_else(missing)?, None)?;
            if amount > unfunded { Err(drawn(amount)) } else { Ok((EntryKind::Reduction, -amount)) }
        }
        ChangeKind::Release if amount.is_some() => {
            Err(Reason::InvalidAmount.with("a release takes away all that is unfunded, it has no amount"))
        }
        ChangeKind::Release if !unfunded.is_positive() => Err(drawn(unfunded)),
        ChangeKind::Release => Ok((EntryKind::Release, -unfunded)),
    }
}

/// The part of a transferred amount that is unfunded. `later` are the giving side's entries that take effect after the transfer does.
pub fn transfer(
    from: &Commitment,
    later: &[&CommitmentEntry],
    amount: Amount,
    drawn: Option<Amount>,
) -> Result<(Amount, Amount), Rejection> {
    let amount = amount_in(from.currency, amount, None)?;
    let drawn = match drawn {
        Some(drawn) if drawn != Amount::ZERO => amount_in(from.currency, drawn, None)?,
        _ => from.currency.zero(),
    };
    let promised = from.amount - later.iter().map(|entry| entry.amount).sum();
    if drawn > amount || amount > promised {
        let why = format!("{amount} of {promised}, of which {drawn} is drawn");
        return Err(Reason::TransferMismatch.with(format!("commitment {} cannot give {why}", from.id)));
    }
    let unfunded = least_unfunded(from, later.iter().copied().map(impact));
    let drawn_in_all = promised - (from.unfunded - later.iter().map(|entry| entry.impact_on_unfunded).sum());
    // a return that may be called again can make it less than nothing
    let drawn_in_all = drawn_in_all.max(from.currency.zero());
    if amount - drawn > unfunded || drawn > drawn_in_all {
        let why = format!("{unfunded} is unfunded and {drawn_in_all} drawn, {} unfunded and {drawn} drawn are to go", amount - drawn);
        return Err(Reason::CommitmentDrawn.with(format!("of commitment {} {why}", from.id)));
    }
    Ok((amount, amount - drawn))
}

/// Excuses an investor from an allocation of the fund that it is committed to, once.
pub fn excuse(commitment: &mut Commitment, allocation_id: Uuid, allocation: Option<&AllocationCopy>) -> Result<(), Rejection> {
    let allocation = allocation.ok_or_else(|| Reason::UnknownAllocation.with(format!("allocation {allocation_id}")))?;
    if allocation.fund_id != commitment.fund_id {
        return Err(Reason::PurposeMismatch.with(format!("allocation {allocation_id} does not belong to fund {}", commitment.fund_id)));
    }
    if commitment.excused_from.contains(&allocation_id) || commitment.excused_from.len() >= EXCUSES_MAX {
        return Err(Reason::AlreadyExcused.with(format!(
            "investor {} is excused from {} allocations, {allocation_id} among them or one too many",
            commitment.investor_id,
            commitment.excused_from.len()
        )));
    }
    commitment.excused_from.push(allocation_id);
    commitment.version += 1;
    Ok(())
}
