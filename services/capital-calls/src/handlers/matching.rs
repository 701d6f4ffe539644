//! What entries of bank statements pay, and what they take back.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    BankEntry, BankEntryChange, BankEntryDecision, CallLine, ImportedEntry, PaymentMethod, ReceiptPart, RecordPayment, ReversePayment,
};
use ::domain::rules::ApplicationOrder;
use ::domain::{Amount, Rejection};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Tx};
use uuid::Uuid;

use super::imports::{Funds, Slice, fund_of};
use super::ledger::Ledger;
use super::payments::{Desk, Recorded, Reported, publish};
use crate::domain::{self, Known, OpenLines, Proposal};
use crate::store;

/// Finds the lines that entries with cash pay, and pays them where it is sure.
pub async fn pay(tx: &mut Tx, context: &Context, funds: &Funds, slice: &mut Slice, returned: &Returned) -> Result<(), Fault> {
    let waits = |entry: &&mut BankEntry| entry.decision == BankEntryDecision::Unmatched && entry.entry.credit;
    let mut waiting: Vec<&mut BankEntry> = slice.new.iter_mut().chain(&mut slice.booked).filter(waits).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let ranges = domain::line_ranges(waiting.iter().flat_map(|entry| &entry.entry.references));
    let by_reference = store::lines_in_ranges(tx, &ranges).await?;
    let payer_keys: Vec<String> = waiting.iter().filter_map(|entry| entry.entry.payer_key.clone()).collect();
    let payers = store::payers(tx, &payer_keys).await?;
    let unnamed = waiting.iter().filter(|entry| entry.entry.references.is_empty());
    let aliases = store::aliases(tx, &unnamed.clone().filter_map(|entry| alias_of(entry)).collect::<Vec<_>>()).await?;
    let fund_ids = sorted_ids(unnamed.filter_map(|entry| fund_of(funds, &entry.entry)));
    let lines = store::open_lines(tx, &fund_ids, &by_reference.values().copied().collect::<Vec<_>>()).await?;
    let members = store::members(tx, &fund_ids).await?;
    let terms = terms_of(tx, &sorted_ids(waiting.iter().filter_map(|entry| fund_of(funds, &entry.entry)))).await?;
    let mut open = OpenLines::new(lines.into_iter(), &members);
    let mut sure: Vec<(usize, ::domain::messages::capital_calls::Suggestion)> = Vec::new();
    for (place, entry) in waiting.iter_mut().enumerate() {
        let fund_id = fund_of(funds, &entry.entry);
        let payer = entry.entry.payer_key.as_ref().zip(fund_id).and_then(|(account, fund)| payers.get(&(account.clone(), fund)).copied());
        let aliases = alias_of(entry).zip(fund_id).and_then(|key| aliases.get(&key)).map_or(&[][..], Vec::as_slice);
        let is_closed = entry.entry.account_key.as_ref().is_some_and(|key| funds.get(key) == Some(&None));
        let (tolerance, order) = fund_id.and_then(|id| terms.get(&id)).copied().unwrap_or_default();
        match domain::propose(&entry.entry, Known { fund_id, is_closed, payer, aliases, tolerance, order }, &open, &by_reference) {
            Proposal::Sure(suggestion) => {
                open.take(&suggestion.parts);
                sure.push((place, suggestion));
            }
            Proposal::Perhaps(suggestions) => {
                entry.decision = BankEntryDecision::Suggested;
                entry.status = entry.decision;
                entry.suggestions = suggestions;
            }
            Proposal::Nothing(why) => entry.note = Some(why.into()),
        }
    }
    let bodies: Vec<RecordPayment> = sure.iter().flat_map(|(place, sure)| parts_of(&*waiting[*place], &sure.parts)).collect();
    let reported = Reported::lock(tx, bodies.iter()).await?;
    let paid = sorted_ids(bodies.iter().map(|body| body.line_id));
    // those that are taken back from are locked with them: lines come before all else
    let mut lines = store::lock_lines(tx, &sorted_ids(paid.iter().chain(&returned.line_ids).copied())).await?;
    lines.retain(|id, _| paid.binary_search(id).is_ok());
    let mut desk = Desk::open(tx, bodies.iter(), &lines, reported).await?;
    for (place, suggestion) in sure {
        let entry = &mut *waiting[place];
        match settle(tx, context, entry, &suggestion.parts, &mut lines, &mut desk)? {
            Ok(payments) => {
                for (recorded, line) in &payments {
                    if let Recorded::New(payment) = recorded {
                        publish(tx, context, payment, line)?;
                    }
                    entry.fund_id = Some(line.fund_id);
                }
                desk.histories.publish(tx, context)?;
                entry.decision = BankEntryDecision::Matched;
                entry.status = entry.decision;
                (entry.matched_by, entry.sure) = (Some(suggestion.why), Some(suggestion.sure));
                entry.note = suspended(&payments);
                entry.payment_ids = payments.into_iter().map(|(recorded, _)| recorded.payment().id).collect();
            }
            Err(rejection) => entry.note = Some(rejection.to_string()),
        }
    }
    desk.save(tx, &lines).await
}

/// The name of an entry's payer, as it is remembered.
pub fn alias_of(entry: &BankEntry) -> Option<String> {
    entry.entry.payer_name.as_deref().and_then(domain::written_alias)
}

/// The tolerance and the order of application of each fund, by the rules in force.
async fn terms_of(tx: &mut Tx, fund_ids: &[Uuid]) -> Result<HashMap<Uuid, (Amount, ApplicationOrder)>, Fault> {
    let funds = store::funds(tx, fund_ids).await?;
    let terms = |fund: &domain::FundCopy| {
        let rules = tx.rules().rules(&fund.fund_type, fund.id);
        rules.map(|rules| (rules.short_payment_tolerance, rules.application_order)).unwrap_or_default()
    };
    Ok(funds.values().map(|fund| (fund.id, terms(fund))).collect())
}

/// The payments that an entry becomes. The bank's keys keep the same entry from paying twice, whatever else is lost; one whose payments
/// were taken back pays anew.
pub fn parts_of(of: &BankEntry, parts: &[ReceiptPart]) -> Vec<RecordPayment> {
    let entry = &of.entry;
    let (reference_key, content_key) = store::keys(entry);
    let key = reference_key.unwrap_or(content_key);
    let key = if of.payment_ids.is_empty() { key } else { format!("{key} of version {}", of.version) };
    let text = entry.references.first().or(entry.end_to_end_id.as_ref()).or(entry.remittance.as_ref()).unwrap_or(&entry.entry_id);
    let clean: String = text.chars().filter(|letter| !letter.is_control()).take(domain::REFERENCE_CHARACTERS_MAX).collect();
    let reference = if clean.trim().is_empty() { "bank entry".to_owned() } else { clean };
    let fits = domain::check_reference(entry.method, &reference).is_ok();
    let seen = of.created_at;
    let of = |(place, part): (usize, &ReceiptPart)| RecordPayment {
        line_id: part.line_id,
        amount: part.amount,
        currency: Some(entry.currency),
        method: if fits { entry.method } else { PaymentMethod::Wire },
        reference: reference.clone(),
        received_on: entry.value_on.or(entry.booked_on).unwrap_or_else(|| seen.date_naive()),
        source: (place == 0).then(|| format!("bank account {}", entry.account)),
        external_reference: (place == 0).then(|| key.clone()),
    };
    parts.iter().enumerate().map(of).collect()
}

/// What a person should know of payments that an entry has become: some may wait for one.
pub fn suspended(payments: &[(Recorded, CallLine)]) -> Option<String> {
    let mut payments = payments.iter().map(|(Recorded::New(payment) | Recorded::Known(payment), _)| payment);
    let payment = payments.find(|payment| payment.suspended.is_positive())?;
    let warning = payment.suspense.as_ref().map(|suspense| suspense.warning.as_str()).unwrap_or_default();
    Some(format!("payment {} is kept in suspense: {warning}", payment.id))
}

type Settled = Result<Vec<(Recorded, CallLine)>, Rejection>;

/// Records all payments of an entry, or none.
pub fn settle(
    tx: &mut Tx,
    context: &Context,
    entry: &BankEntry,
    parts: &[ReceiptPart],
    lines: &mut HashMap<Uuid, CallLine>,
    desk: &mut Desk,
) -> Result<Settled, Fault> {
    let bodies = parts_of(entry, parts);
    // one payment is recorded or refused as a whole
    let before = (bodies.len() > 1).then(|| (lines.clone(), desk.clone()));
    let receipt_id = (bodies.len() > 1).then(|| tx.new_id());
    let mut payments = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let recorded = match lines.get_mut(&body.line_id) {
            None => return Err(Fault::Fatal(format!("call line {} is not locked", body.line_id))),
            Some(line) => desk.record(tx, context, body, line, receipt_id),
        };
        match recorded {
            Ok(recorded) => payments.push((recorded, lines[&body.line_id].clone())),
            Err(rejection) => {
                if let Some((lines_before, desk_before)) = before {
                    (*lines, *desk) = (lines_before, desk_before);
                }
                return Ok(Err(rejection));
            }
        }
    }
    Ok(Ok(payments))
}

/// Whether a return may be of an entry: its cash came, and is not known to have gone.
fn may_go_back(entry: &BankEntry) -> bool {
    let came = matches!(entry.decision, BankEntryDecision::Matched | BankEntryDecision::Suggested | BankEntryDecision::Unmatched);
    came && entry.entry.credit && !entry.entry.is_return
}

fn is_to_be_taken_back(entry: &BankEntry) -> bool {
    entry.decision == BankEntryDecision::Unmatched && !entry.entry.credit
}

/// Whether what came back may be the cash of an entry, by what the bank says of both.
fn is_return_of(back: &ImportedEntry, came: &ImportedEntry) -> bool {
    let same_id = came.end_to_end_id.is_some() && came.end_to_end_id == back.end_to_end_id;
    let same_reference = !back.references.is_empty() && came.references == back.references;
    let same_account = came.account_key.is_some() && came.account_key == back.account_key;
    same_account && came.amount == back.amount && (same_id || same_reference)
}

/// What the returns of a slice may be of, and what the cash of a slice may have come back with.
#[derive(Default)]
pub struct Returned {
    /// Entries with cash of earlier slices and files, locked.
    originals: Vec<BankEntry>,
    /// Returns of earlier slices and files, whose cash was not known then, locked.
    returns: Vec<BankEntry>,
    /// The lines that the originals paid, and those that their credit has paid.
    line_ids: Vec<Uuid>,
}

/// Looks up what the returns of a slice may be of, and what the cash of a slice may have come back with: files come in any order.
pub async fn returned(tx: &mut Tx, slice: &Slice) -> Result<Returned, Fault> {
    let all = || slice.new.iter().chain(&slice.booked);
    let came: Vec<&ImportedEntry> = all().filter(|entry| may_go_back(entry)).map(|entry| &entry.entry).collect();
    let of: Vec<(&str, Amount)> = came.iter().filter_map(|entry| Some((entry.account_key.as_deref()?, entry.amount))).collect();
    let mut earlier = store::returns_that_wait(tx, &of).await?;
    earlier.retain(|back| came.iter().any(|came| is_return_of(&back.entry, came)));
    let returns: Vec<&ImportedEntry> = all().filter(|entry| is_to_be_taken_back(entry)).chain(&earlier).map(|entry| &entry.entry).collect();
    if returns.is_empty() {
        return Ok(Returned::default());
    }
    let asked: Vec<(&str, &str, Amount)> =
        returns.iter().filter_map(|entry| Some((entry.account_key.as_deref()?, entry.end_to_end_id.as_deref()?, entry.amount))).collect();
    let mut originals = store::credited(tx, &asked).await?;
    // a bank that gives no end-to-end id gives the reference of the line again
    let ranges = domain::line_ranges(returns.iter().flat_map(|entry| &entry.references));
    let line_ids: Vec<Uuid> = store::lines_in_ranges(tx, &ranges).await?.into_values().collect();
    let amounts: Vec<Amount> = returns.iter().map(|entry| entry.amount).collect();
    let by_reference = store::credited_to_lines(tx, &line_ids, &amounts).await?;
    let known: HashSet<Uuid> = originals.iter().map(|original| original.id).collect();
    originals.extend(by_reference.into_iter().filter(|original| !known.contains(&original.id)));
    let payment_ids = sorted_ids(originals.iter().flat_map(|original| original.payment_ids.iter().copied()));
    let family = store::family(tx, &payment_ids).await?;
    Ok(Returned { originals, returns: earlier, line_ids: sorted_ids(family.into_iter().map(|(_, line_id)| line_id)) })
}

/// Takes payments back whose cash went away again.
pub async fn take_back(tx: &mut Tx, context: &Context, slice: &mut Slice, known: Returned) -> Result<(), Fault> {
    let Returned { originals: earlier, returns: mut earlier_returns, .. } = known;
    let mut waiting: Vec<(BankEntry, &mut BankEntry)> = Vec::new();
    let here: Vec<BankEntry> = slice.new.iter().chain(&slice.booked).filter(|entry| may_go_back(entry)).cloned().collect();
    let mut returns: Vec<&mut BankEntry> =
        slice.new.iter_mut().chain(&mut slice.booked).filter(|entry| is_to_be_taken_back(entry)).chain(&mut earlier_returns).collect();
    if returns.is_empty() {
        return Ok(());
    }
    for entry in returns.drain(..) {
        if entry.entry.value_on.or(entry.entry.booked_on).is_none() {
            entry.note = Some("the bank gives no date for what came back: reverse the payment by hand".into());
            continue;
        }
        let is_of = |other: &&BankEntry| is_return_of(&entry.entry, &other.entry);
        let used = |other: &BankEntry| waiting.iter().any(|(original, _)| original.id == other.id);
        let mut originals: Vec<&BankEntry> = here.iter().chain(&earlier).filter(is_of).filter(|other| !used(other)).collect();
        originals.dedup_by_key(|other| other.id);
        match originals.as_slice() {
            [original] => waiting.push(((*original).clone(), entry)),
            [] => entry.note = Some("what came back is of no payment that is known: reverse it by hand".into()),
            _ => entry.note = Some("what came back may be of several payments: reverse the right one by hand".into()),
        }
    }
    let paid = waiting.iter().filter(|(original, _)| original.decision == BankEntryDecision::Matched);
    let payment_ids = sorted_ids(paid.flat_map(|(original, _)| original.payment_ids.iter().copied()));
    let mut ledger = Ledger::lock(tx, &payment_ids).await?;
    let mut gone: HashMap<Uuid, Uuid> = HashMap::new();
    for (original, entry) in waiting {
        if original.decision != BankEntryDecision::Matched {
            gone.insert(original.id, entry.id);
            returned_with(entry, original.fund_id, &[]);
            continue;
        }
        let reversal = |payment_id| ReversePayment {
            payment_id,
            reason: format!("returned by the bank: {}", entry.entry.return_reason.as_deref().unwrap_or("no reason given")),
            effective_on: entry.entry.value_on.or(entry.entry.booked_on).unwrap_or_default(),
            cash_stays: false,
        };
        let checked: Result<Vec<_>, Rejection> =
            original.payment_ids.iter().map(|id| ledger.check(tx, context, &reversal(*id)).map(|taken| (*id, taken))).collect();
        match checked {
            Ok(taken) => {
                for (payment_id, reversal) in taken {
                    ledger.take_back(tx, context, payment_id, &reversal)?;
                }
                returned_with(entry, original.fund_id, &original.payment_ids);
            }
            Err(rejection) => entry.note = Some(rejection.to_string()),
        }
    }
    for entry in slice.new.iter_mut().chain(&mut slice.booked).filter(|entry| gone.contains_key(&entry.id)) {
        returned_before(entry);
    }
    let mut closed: Vec<BankEntry> = earlier.iter().filter(|entry| gone.contains_key(&entry.id)).cloned().collect();
    for entry in &mut closed {
        entry.version += 1;
        returned_before(entry);
        tx.emit(context, &*entry, BankEntryChange::Returned { entry_id: gone[&entry.id] })?;
    }
    earlier_returns.retain(|entry| entry.decision == BankEntryDecision::Returned);
    for entry in &mut earlier_returns {
        entry.version += 1;
        tx.emit(context, &*entry, BankEntryChange::TookBack)?;
    }
    store::save_bank_entries(tx, &closed.iter().chain(&earlier_returns).collect::<Vec<_>>()).await?;
    ledger.save(tx).await
}

/// Writes that an entry took payments back.
fn returned_with(entry: &mut BankEntry, fund_id: Option<Uuid>, payment_ids: &[Uuid]) {
    entry.decision = BankEntryDecision::Returned;
    entry.status = entry.decision;
    entry.fund_id = fund_id;
    entry.payment_ids = payment_ids.to_vec();
    entry.note = None;
}

/// Writes that the cash of an entry that waited for a person has gone back.
fn returned_before(entry: &mut BankEntry) {
    entry.decision = BankEntryDecision::Returned;
    entry.status = entry.decision;
    entry.suggestions.clear();
    entry.note = Some("it went back before it paid any line".into());
}
