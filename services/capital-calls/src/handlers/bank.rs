//! Bank accounts, statement files that were read, and the entries for which a person decides.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    BankAccount, BankEntriesStaged, BankEntry, BankEntryChange, BankEntryDecision, BankImport, CallLine, CloseBankAccount, ColumnMapSaved,
    CompleteBankImport, ImportedEntry, MatchBankEntry, MatchReason, RECEIPT_PARTS_MAX, RegisterBankAccount, RejectBankEntry, STAGED_MAX,
    SaveColumnMap, StageBankEntries, masked_account,
};
use ::domain::rejection::check_text;
use ::domain::{Amount, Reason, Rejection, Scope};
use chassis::row::sorted_ids;
use chassis::sealing::BlindIndex;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::{Duration, NaiveDate};
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use super::imports::{fund_of, open_accounts};
use super::matching::{alias_of, parts_of, settle, suspended};
use super::payments::{Desk, Recorded, Reported, publish};
use crate::domain::{self, FundCopy};
use crate::{CapitalCalls, store};

/// How long entries may wait for the rest of their file.
const STAGED_HOURS_MAX: i64 = 24;
/// Most notes about what does not add up in a file.
const DISCREPANCIES_MAX: usize = 20;

impl Handle<RegisterBankAccount> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RegisterBankAccount>) -> Result<Answers<BankAccount>, Fault> {
        let funds = store::funds(tx, &batch.ids(|command| command.fund_id)).await?;
        let index = tx.blind_index().await?;
        let wanted: Vec<Result<(String, BankAccount), Rejection>> =
            batch.iter().map(|Sent { context, body, .. }| account(tx, context, body, &funds, &index)).collect();
        let good: Vec<(String, BankAccount)> = wanted.iter().flatten().cloned().collect();
        let registered = store::register_accounts(tx, &good).await?;
        let answer = |(key, account): (String, BankAccount)| match registered.get(&key) {
            Some(known) if known.fund_id == account.fund_id => Ok(known.clone()),
            _ => Err(Reason::BankAccountTaken.with(format!("account {} is registered for another fund", account.account))),
        };
        Ok(wanted.into_iter().map(|account| account.and_then(answer)).collect())
    }
}

impl Handle<CloseBankAccount> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CloseBankAccount>) -> Result<Answers<BankAccount>, Fault> {
        let index = tx.blind_index().await?;
        let key = |body: &CloseBankAccount| index.of(&domain::written_account(&body.account));
        let keys: Vec<String> = batch.iter().map(|sent| key(&sent.body)).collect();
        let accounts = store::find_accounts(tx, &keys).await?;
        let answers: Answers<BankAccount> =
            batch.iter().zip(&keys).map(|(sent, key)| closed(tx, &sent.context, &sent.body, accounts.get(key))).collect();
        let changed = keys.iter().zip(&answers).filter_map(|(key, answer)| Some((key.clone(), answer.as_ref().ok()?.clone())));
        store::close_accounts(tx, &changed.collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// The account, closed by the actor; one that is closed already stays as it is.
fn closed(tx: &Tx, context: &Context, body: &CloseBankAccount, found: Option<&BankAccount>) -> Result<BankAccount, Rejection> {
    context.actor.check_fund(body.fund_id)?;
    let Some(found) = found.filter(|found| found.fund_id == body.fund_id) else {
        let account = masked_account(&domain::written_account(&body.account));
        return Err(Reason::UnknownBankAccount.with(format!("account {account} is not registered for fund {}", body.fund_id)));
    };
    let by = found.closed_by.clone().unwrap_or_else(|| context.actor.user.clone());
    Ok(BankAccount { closed_by: Some(by), closed_at: Some(found.closed_at.unwrap_or_else(|| tx.now())), ..found.clone() })
}

/// An account, masked, and the key by which it is found.
fn account(
    tx: &Tx,
    context: &Context,
    body: &RegisterBankAccount,
    funds: &HashMap<Uuid, FundCopy>,
    index: &BlindIndex,
) -> Result<(String, BankAccount), Rejection> {
    context.actor.check_fund(body.fund_id)?;
    let fund = funds.get(&body.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", body.fund_id)))?;
    let account = domain::written_account(&body.account);
    domain::check_account(&account).map_err(|why| Reason::InvalidBankDetails.with(why))?;
    let masked = BankAccount {
        fund_id: fund.id,
        account: masked_account(&account),
        currency: fund.currency,
        registered_by: context.actor.user.clone(),
        registered_at: tx.now(),
        closed_by: None,
        closed_at: None,
    };
    Ok((index.of(&account), masked))
}

impl Handle<SaveColumnMap> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SaveColumnMap>) -> Result<Answers<ColumnMapSaved>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let checked = check_text("name", &body.name, 60).and_then(|()| {
                let refuse = |why: String| Reason::MalformedRequest.with(format!("map: {why}"));
                let map: statements::ColumnMap = serde_json::from_value(body.map.clone()).map_err(|error| refuse(error.to_string()))?;
                map.check().map_err(refuse)
            });
            answers.push(match checked {
                Ok(()) => {
                    let map = ColumnMapSaved {
                        name: body.name.clone(),
                        map: body.map.clone(),
                        saved_by: context.actor.user.clone(),
                        saved_at: tx.now(),
                    };
                    store::save_map(tx, &map).await?;
                    Ok(map)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

impl Handle<StageBankEntries> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<StageBankEntries>) -> Result<Answers<BankEntriesStaged>, Fault> {
        let too_old = tx.now() - Duration::hours(STAGED_HOURS_MAX);
        store::discard_staged(tx, too_old).await?;
        let index = tx.blind_index().await?;
        let mut answers = Answers::new();
        for Sent { body, .. } in batch.iter() {
            let count = body.entries.len();
            answers.push(if count == 0 || count > STAGED_MAX {
                Err(Reason::RequestTooLarge.with(format!("the request has {count} entries, expected 1 to {STAGED_MAX}")))
            } else {
                let entries: Vec<ImportedEntry> =
                    body.entries.iter().map(|entry| domain::masked_entry(entry, |text| index.of(text))).collect();
                store::stage(tx, body.import_id, body.from, &entries).await?;
                Ok(BankEntriesStaged { staged: count })
            });
        }
        Ok(answers)
    }
}

impl Handle<CompleteBankImport> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CompleteBankImport>) -> Result<Answers<BankImport>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(complete(tx, context, body).await?);
        }
        Ok(answers)
    }
}

async fn complete(tx: &mut Tx, context: &Context, body: &CompleteBankImport) -> Result<Result<BankImport, Rejection>, Fault> {
    if let Some(known) = store::find_import(tx, body.import_id).await? {
        return Ok(Ok(known));
    }
    let checked = check_text("file_name", &body.file_name, 200).and_then(|()| check_text("format", &body.format, 60));
    if let Err(rejection) = checked {
        return Ok(Err(rejection));
    }
    let staged = store::count_staged(tx, body.import_id).await?;
    if staged != i64::from(body.entries) {
        let why = format!("{staged} of {} entries of import {} are there", body.entries, body.import_id);
        return Ok(Err(Reason::BankImportIncomplete.with(why)));
    }
    // what is seen of another's account would be known already when its own people import it
    if context.actor.scope != Scope::All {
        let keys = store::staged_accounts(tx, body.import_id).await?;
        let accounts = store::find_accounts(tx, &keys).await?;
        if let Some(refused) = accounts.values().find_map(|account| context.actor.check_fund(account.fund_id).err()) {
            return Ok(Err(refused));
        }
    }
    let import = BankImport {
        id: body.import_id,
        at: tx.now(),
        file_name: body.file_name.clone(),
        format: body.format.clone(),
        entries: body.entries,
        left: body.entries,
        known: 0,
        pending: 0,
        matched: 0,
        suggested: 0,
        unmatched: 0,
        returned: 0,
        information: 0,
        discrepancies: body.discrepancies.iter().take(DISCREPANCIES_MAX).cloned().collect(),
        imported_by: context.actor.user.clone(),
    };
    store::insert_import(tx, &import, &context.actor).await?;
    Ok(Ok(import))
}

impl Handle<MatchBankEntry> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<MatchBankEntry>) -> Result<Answers<BankEntry>, Fault> {
        let mut entries = store::lock_bank_entries(tx, &batch.ids(|command| command.entry_id)).await?;
        let bodies: Vec<_> = batch
            .iter()
            .filter_map(|sent| entries.get(&sent.body.entry_id).map(|entry| parts_of(entry, &sent.body.parts)))
            .flatten()
            .collect();
        let reported = Reported::lock(tx, bodies.iter()).await?;
        let mut lines = store::lock_lines(tx, &sorted_ids(bodies.iter().map(|body| body.line_id))).await?;
        let mut desk = Desk::open(tx, bodies.iter(), &lines, reported).await?;
        let keys: Vec<String> = entries.values().filter_map(|entry| entry.entry.account_key.clone()).collect();
        let funds = open_accounts(tx, &keys).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let matched = match entries.get_mut(&body.entry_id) {
                None => Err(unknown(body.entry_id)),
                Some(entry) => match check_match(context, body, entry, fund_of(&funds, &entry.entry), &lines) {
                    Ok(()) => settle(tx, context, entry, &body.parts, &mut lines, &mut desk)?.map(|payments| (entry, payments)),
                    Err(rejection) => Err(rejection),
                },
            };
            answers.push(match matched {
                Err(rejection) => Err(rejection),
                Ok((entry, payments)) => {
                    for (recorded, line) in &payments {
                        if let Recorded::New(payment) = recorded {
                            publish(tx, context, payment, line)?;
                        }
                    }
                    desk.histories.publish(tx, context)?;
                    let line = payments.first().map(|(_, line)| line.clone());
                    let note = suspended(&payments);
                    decide(tx, context, entry, payments.into_iter().map(|(recorded, _)| recorded.payment().id).collect(), line.as_ref());
                    entry.note = note;
                    if let Some(line) = line.filter(|_| body.remember_payer) {
                        remember(tx, context, entry, &line).await?;
                    }
                    tx.emit(context, &*entry, BankEntryChange::Matched)?;
                    Ok(entry.clone())
                }
            });
        }
        desk.save(tx, &lines).await?;
        let changed: Vec<&BankEntry> = entries.values().filter(|entry| entry.decision == BankEntryDecision::Matched).collect();
        store::save_bank_entries(tx, &changed).await?;
        Ok(answers)
    }
}

/// Remembers from which account and under which name an investor pays.
async fn remember(tx: &mut Tx, context: &Context, entry: &BankEntry, line: &CallLine) -> Result<(), Fault> {
    let user = &context.actor.user;
    if let Some(key) = &entry.entry.payer_key {
        store::remember_payer(tx, key, line.fund_id, line.investor_id, user).await?;
    }
    match alias_of(entry) {
        Some(alias) => store::remember_alias(tx, &alias, line.fund_id, line.investor_id, user).await,
        None => Ok(()),
    }
}

fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownBankEntry.with(format!("bank entry {id}"))
}

fn decide(tx: &Tx, context: &Context, entry: &mut BankEntry, payment_ids: Vec<Uuid>, line: Option<&CallLine>) {
    entry.version += 1;
    entry.fund_id = line.map(|line| line.fund_id).or(entry.fund_id);
    entry.decision = BankEntryDecision::Matched;
    entry.status = entry.decision;
    (entry.matched_by, entry.sure, entry.note) = (Some(MatchReason::Person), Some(100), None);
    entry.suggestions.clear();
    entry.payment_ids = payment_ids;
    entry.decided_by = Some(context.actor.user.clone());
    entry.age_days = age(entry, tx.now().date_naive());
}

/// Days that an entry has waited for a person; none when it does not.
pub fn age(entry: &BankEntry, today: NaiveDate) -> Option<i64> {
    let waits = matches!(entry.decision, BankEntryDecision::Suggested | BankEntryDecision::Unmatched);
    let since = entry.entry.booked_on.or(entry.entry.value_on).unwrap_or_else(|| entry.created_at.date_naive());
    waits.then(|| (today - since).num_days().max(0))
}

fn waits_for_person(entry: &BankEntry) -> Result<(), Rejection> {
    if matches!(entry.decision, BankEntryDecision::Suggested | BankEntryDecision::Unmatched) {
        return Ok(());
    }
    Err(Reason::BankEntryDecided.with(format!("bank entry {} is {}", entry.id, chassis::row::name(&entry.decision))))
}

/// Checks what a person says an entry pays; its account is that of a fund now, or of none.
fn check_match(
    context: &Context,
    body: &MatchBankEntry,
    entry: &BankEntry,
    account_of: Option<Uuid>,
    lines: &HashMap<Uuid, CallLine>,
) -> Result<(), Rejection> {
    check_scope(context, entry)?;
    // what was set aside may turn out to be for a line
    if entry.decision != BankEntryDecision::Information {
        waits_for_person(entry)?;
    }
    let refuse = |why: String| Err(Reason::ReceiptMismatch.with(why));
    if !entry.entry.credit || entry.entry.is_return {
        return refuse(format!("bank entry {} brought no cash for a line", entry.id));
    }
    if body.parts.is_empty() || body.parts.len() > RECEIPT_PARTS_MAX {
        return refuse(format!("there are {} parts, expected 1 to {RECEIPT_PARTS_MAX}", body.parts.len()));
    }
    let mut of = None;
    let mut named = HashSet::new();
    for part in &body.parts {
        if !named.insert(part.line_id) {
            return refuse(format!("call line {} is named twice", part.line_id));
        }
        let line = lines.get(&part.line_id).ok_or_else(|| Reason::UnknownCallLine.with(format!("call line {}", part.line_id)))?;
        context.actor.check_fund(line.fund_id)?;
        domain::amount_in(line.currency, part.amount, Some(entry.entry.currency))?;
        if *of.get_or_insert((line.fund_id, line.investor_id)) != (line.fund_id, line.investor_id) {
            return refuse("the lines are of several investors or funds".into());
        }
        if account_of.is_some_and(|fund_id| fund_id != line.fund_id) {
            return refuse(format!("call line {} is of another fund than the account", line.id));
        }
    }
    let sum: Amount = body.parts.iter().map(|part| part.amount).sum();
    if sum == entry.entry.amount { Ok(()) } else { refuse(format!("the parts come to {sum}, the entry is of {}", entry.entry.amount)) }
}

impl Handle<RejectBankEntry> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RejectBankEntry>) -> Result<Answers<BankEntry>, Fault> {
        let mut entries = store::lock_bank_entries(tx, &batch.ids(|command| command.entry_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let rejected = match entries.get_mut(&body.entry_id) {
                None => Err(unknown(body.entry_id)),
                Some(entry) => reject(context, body, entry).map(|()| entry.clone()),
            };
            if let Ok(entry) = &rejected {
                tx.emit(context, entry, BankEntryChange::Rejected { reason: body.reason.clone() })?;
            }
            answers.push(rejected);
        }
        let rejected: Vec<Uuid> = answers.iter().flatten().map(|entry| entry.id).collect();
        let changed = entries.values().filter(|entry| rejected.contains(&entry.id));
        store::save_bank_entries(tx, &changed.collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// Refuses an entry of a fund that the actor may not see; one that is no fund's is for those who may see all.
pub fn check_scope(context: &Context, entry: &BankEntry) -> Result<(), Rejection> {
    match (entry.fund_id, context.actor.scope.funds()) {
        (Some(fund_id), _) => context.actor.check_fund(fund_id),
        (None, Some(_)) => Err(Reason::FundOutOfScope.with("the entry is no fund's yet")),
        (None, None) => Ok(()),
    }
}

fn reject(context: &Context, body: &RejectBankEntry, entry: &mut BankEntry) -> Result<(), Rejection> {
    check_scope(context, entry)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    waits_for_person(entry)?;
    entry.version += 1;
    entry.decision = if body.set_aside { BankEntryDecision::Information } else { BankEntryDecision::Unmatched };
    entry.status = entry.decision;
    entry.suggestions.clear();
    entry.note = Some(body.reason.clone());
    entry.decided_by = Some(context.actor.user.clone());
    Ok(())
}

/// Has entries wait for a person again of which all payments were recorded wrongly, and forgets whom they had made known as a payer.
pub async fn reopen(tx: &mut Tx, entries: HashMap<Uuid, BankEntry>, because: &HashMap<Uuid, (&Context, &str)>) -> Result<(), Fault> {
    let paid = sorted_ids(entries.values().flat_map(|entry| &entry.payment_ids).copied());
    let wrong: HashSet<Uuid> = store::wrongly_recorded(tx, &paid).await?.into_iter().collect();
    let mut changed: Vec<BankEntry> = Vec::new();
    for mut entry in entries.into_values() {
        let reversed = entry.payment_ids.iter().find_map(|payment_id| because.get(payment_id));
        let Some((context, reason)) = reversed.filter(|_| entry.decision == BankEntryDecision::Matched) else { continue };
        let left = entry.payment_ids.iter().filter(|payment_id| !wrong.contains(payment_id)).count();
        if left < entry.payment_ids.len() {
            entry.version += 1;
            reopened(&mut entry, left, reason);
            if left == 0 {
                store::forget_payer(tx, entry.entry.payer_key.as_deref(), alias_of(&entry).as_deref(), entry.fund_id).await?;
            }
            tx.emit(context, &entry, BankEntryChange::Reopened { reason: (*reason).to_owned() })?;
            changed.push(entry);
        }
    }
    store::save_bank_entries(tx, &changed.iter().collect::<Vec<_>>()).await
}

/// Writes that payments of an entry were recorded wrongly: all but so many.
fn reopened(entry: &mut BankEntry, left: usize, reason: &str) {
    if left > 0 {
        entry.note = Some(format!("a part of what it paid was taken back: {reason}; take the other {left} back to match it anew"));
        return;
    }
    entry.decision = BankEntryDecision::Unmatched;
    entry.status = entry.decision;
    (entry.matched_by, entry.sure, entry.decided_by) = (None, None, None);
    entry.note = Some(format!("what it paid was taken back: {reason}"));
}
