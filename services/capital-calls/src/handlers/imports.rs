//! The errand that matches the entries of statement files, slice by slice, in the order of each file.
//!
//! A slice is one transaction: its entries are taken out of where they were put aside, become bank entries, payments and reversals, and
//! the import counts them. A process that dies in between has done nothing of the slice, and another goes on with it. Entries that
//! are known already are only counted. A slice that fails is gone through entry by entry; the one that fails by itself is left to a
//! person, with the reason.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::domain::messages::capital_calls::{BankEntry, BankEntryChange, BankEntryDecision, BankImport, ImportedEntry};
use ::domain::{Actor, ids};
use chassis::{Context, Courier, Errand, Fault, Tx};
use uuid::Uuid;

use super::matching::{pay, returned, take_back};
use crate::store;

/// Entries of one slice: one transaction.
const SLICE: i64 = 1_000;
/// Imports that are gone on with in one transaction: one that fails holds up no other.
const CLAIM_MAX: i64 = 1;

/// Matches what was imported.
#[derive(Default)]
pub struct Imports {
    /// How to go on with imports of which a slice has failed.
    failed: Mutex<HashMap<Uuid, Care>>,
}

/// How to go on with an import.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Care {
    /// Entries of the next slice.
    slice: i64,
    /// Why the next entry is left to a person, and how many were left with it: another replica may have left it already.
    because: Option<(i32, String)>,
}

impl Default for Care {
    fn default() -> Care {
        Care { slice: SLICE, because: None }
    }
}

impl Care {
    /// Smaller slices: what is next when one is dropped in the middle, because it takes too long.
    fn halved(&self) -> Care {
        Care { slice: (self.slice / 2).max(1), because: self.because.clone() }
    }

    /// After a slice went well or failed that began so many entries before the end.
    fn next(&self, left: i32, went: &Result<(), Fault>) -> Care {
        match went {
            Err(Fault::Transient(_)) => self.halved(),
            Err(Fault::Fatal(_)) if self.slice > 1 => Care { slice: 1, because: None },
            Err(Fault::Fatal(because)) => Care { slice: 1, because: Some((left, because.clone())) },
            Ok(()) => Care { slice: (self.slice * 2).min(SLICE), because: None },
        }
    }

    /// Why the entry is left to a person that stands so many before the end.
    fn because(&self, left: i32) -> Option<&str> {
        self.because.as_ref().filter(|(failed, _)| *failed == left).map(|(_, why)| why.as_str())
    }
}

impl Imports {
    fn care(&self, id: Uuid) -> Care {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(&id).cloned().unwrap_or_default()
    }

    /// Notes how to go on.
    fn note(&self, id: Uuid, care: Care) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if care.slice < SLICE {
            failed.insert(id, care)
        } else {
            failed.remove(&id)
        };
    }
}

impl Errand for Imports {
    type Item = Uuid;
    type Outcome = ();
    const AT_ONCE: usize = 1;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<Uuid>, Fault> {
        store::waiting_imports(tx, CLAIM_MAX).await
    }

    async fn run(&self, _: &Courier, _: &Uuid) {}

    async fn record(&self, tx: &mut Tx, done: Vec<(Uuid, ())>) -> Result<(), Fault> {
        for (id, ()) in done {
            let Some((import, actor)) = store::lock_import(tx, id).await? else { continue };
            let (care, left) = (self.care(id), import.left);
            self.note(id, care.halved());
            let went = go_on(tx, import, actor, &care).await;
            let is_whole = left <= i32::try_from(care.slice).unwrap_or(i32::MAX) && went.is_ok();
            self.note(id, if is_whole { Care::default() } else { care.next(left, &went) });
            went?;
        }
        Ok(())
    }
}

/// Goes on with an import by one slice.
async fn go_on(tx: &mut Tx, mut import: BankImport, actor: Actor, care: &Care) -> Result<(), Fault> {
    let because = care.because(import.left);
    let staged = store::take_staged(tx, import.id, care.slice).await?;
    import.left -= i32::try_from(staged.len()).unwrap_or(import.left);
    if staged.is_empty() {
        import.left = 0;
    }
    take_in(tx, &mut import, actor, staged, because).await?;
    store::save_import(tx, &import).await
}

/// Funds by the keys of their accounts; none where an account is closed.
pub type Funds = HashMap<String, Option<Uuid>>;

/// Whose accounts these are now, by their keys.
pub async fn open_accounts(tx: &mut Tx, keys: &[String]) -> Result<Funds, Fault> {
    let accounts = store::find_accounts(tx, keys).await?.into_iter();
    Ok(accounts.map(|(key, account)| (key, account.closed_at.is_none().then_some(account.fund_id))).collect())
}

/// The fund of the account that an entry is on.
pub fn fund_of(funds: &Funds, entry: &ImportedEntry) -> Option<Uuid> {
    funds.get(entry.account_key.as_ref()?).copied().flatten()
}

/// What a slice is about.
pub struct Slice {
    /// Entries that were not known.
    pub new: Vec<BankEntry>,
    /// Entries that were pending and are booked now.
    pub booked: Vec<BankEntry>,
}

impl Slice {
    /// Leaves what is to be matched to a person.
    fn leave(&mut self, why: &str) {
        for entry in self.new.iter_mut().chain(&mut self.booked).filter(|entry| entry.decision == BankEntryDecision::Unmatched) {
            entry.note = Some(format!("it failed when it was to be matched, do it by hand: {why}"));
        }
    }
}

/// Takes entries in, and matches them; or leaves them to a person, for a reason.
async fn take_in(
    tx: &mut Tx,
    import: &mut BankImport,
    actor: Actor,
    staged: Vec<ImportedEntry>,
    left_because: Option<&str>,
) -> Result<(), Fault> {
    let context = Context {
        message_id: ids::derived(&format!("bank import {}", import.left), import.id),
        correlation_id: import.id.to_string(),
        actor,
        ..Context::default()
    };
    let accounts: Vec<String> = staged.iter().filter_map(|entry| entry.account_key.clone()).collect();
    store::lock_accounts(tx, &accounts).await?;
    let funds = open_accounts(tx, &accounts).await?;
    let mut slice = sort_out(tx, import, &funds, staged).await?;
    match left_because {
        Some(why) => slice.leave(why),
        None => {
            let returned = returned(tx, &slice).await?;
            pay(tx, &context, &funds, &mut slice, &returned).await?;
            take_back(tx, &context, &mut slice, returned).await?;
        }
    }
    for (entry, change) in slice
        .new
        .iter()
        .map(|entry| (entry, BankEntryChange::Seen))
        .chain(slice.booked.iter().map(|entry| (entry, BankEntryChange::Booked)))
    {
        tx.emit(&context, entry, change)?;
        let count = match entry.decision {
            BankEntryDecision::Detected => &mut import.pending,
            BankEntryDecision::Matched => &mut import.matched,
            BankEntryDecision::Suggested => &mut import.suggested,
            BankEntryDecision::Unmatched => &mut import.unmatched,
            BankEntryDecision::Returned => &mut import.returned,
            BankEntryDecision::Information => &mut import.information,
        };
        *count += 1;
    }
    store::insert_bank_entries(tx, &slice.new.iter().collect::<Vec<_>>()).await?;
    store::save_bank_entries(tx, &slice.booked.iter().collect::<Vec<_>>()).await
}

/// Tells what is new from what is known, and from what was pending.
async fn sort_out(tx: &mut Tx, import: &mut BankImport, funds: &Funds, staged: Vec<ImportedEntry>) -> Result<Slice, Fault> {
    let keys: Vec<(Option<String>, String)> = staged.iter().map(store::keys).collect();
    let mut known: Vec<BankEntry> = store::known_bank_entries(tx, &keys).await?;
    let mut slice = Slice { new: vec![], booked: vec![] };
    let mut by_key: HashMap<String, Vec<Uuid>> = HashMap::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    let mut note = |entry: &BankEntry| {
        let (reference, content) = store::keys(&entry.entry);
        for key in reference.into_iter().chain([content]) {
            by_key.entry(key).or_default().push(entry.id);
        }
    };
    known.iter().for_each(&mut note);
    for entry in staged {
        let (reference, content) = store::keys(&entry);
        // the same booking, when both have the bank's reference and it is equal, or one has none and the contents are
        let same = |other: &BankEntry| match (&reference, &store::keys(&other.entry).0) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => content == store::keys(&other.entry).1,
        };
        let ids = reference.iter().chain([&content]).filter_map(|key| by_key.get(key)).flatten();
        let found = ids.copied().find(|id| {
            let of_slice = places.get(id).and_then(|place| slice.new.get(*place));
            let before = || known.iter().chain(&slice.booked).find(|other| other.id == *id);
            of_slice.or_else(before).is_some_and(&same)
        });
        // an entry that another file gave as a whole does not come again in its parts
        let is_whole_known = found.is_none() && entry.ordinal > 0 && {
            let (reference, content) = store::keys(&ImportedEntry { ordinal: 0, ..entry.clone() });
            let ids = reference.iter().chain([&content]).filter_map(|key| by_key.get(key)).flatten();
            ids.copied().any(|id| known.iter().chain(&slice.booked).any(|other| other.id == id && other.import_id != import.id))
        };
        if is_whole_known {
            import.known += 1;
            continue;
        }
        let Some(id) = found else {
            let new = first_seen(tx, import, funds, entry);
            let (reference, content) = store::keys(&new.entry);
            for key in reference.into_iter().chain([content]) {
                by_key.entry(key).or_default().push(new.id);
            }
            places.insert(new.id, slice.new.len());
            slice.new.push(new);
            continue;
        };
        import.known += 1;
        let other = match places.get(&id) {
            Some(place) => &mut slice.new[*place],
            None => match known.iter().position(|other| other.id == id) {
                Some(place) if known[place].decision == BankEntryDecision::Detected && !entry.pending => {
                    let booked = known.swap_remove(place);
                    slice.booked.push(BankEntry { version: booked.version + 1, ..booked });
                    let Some(booked) = slice.booked.last_mut() else { continue };
                    booked
                }
                _ => continue,
            },
        };
        if other.decision == BankEntryDecision::Detected && !entry.pending {
            other.fund_id = fund_of(funds, &entry);
            other.entry = entry;
            other.decision = begins_as(&other.entry);
            other.status = other.decision;
        }
    }
    Ok(slice)
}

/// What an entry is before it is matched.
fn begins_as(entry: &ImportedEntry) -> BankEntryDecision {
    match (entry.pending, entry.credit, entry.is_return) {
        (true, ..) => BankEntryDecision::Detected,
        _ if !entry.amount.is_positive() => BankEntryDecision::Information,
        (false, false, false) => BankEntryDecision::Information,
        // our own payment that came back is no cash of an investor
        (false, true, true) => BankEntryDecision::Information,
        (false, true, false) | (false, false, true) => BankEntryDecision::Unmatched,
    }
}

fn first_seen(tx: &Tx, import: &BankImport, funds: &Funds, entry: ImportedEntry) -> BankEntry {
    let decision = begins_as(&entry);
    BankEntry {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        fund_id: fund_of(funds, &entry),
        import_id: import.id,
        entry,
        decision,
        matched_by: None,
        sure: None,
        note: None,
        payment_ids: vec![],
        suggestions: vec![],
        decided_by: None,
        age_days: None,
        status: decision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_fails_is_gone_through_one_by_one_and_only_what_fails_alone_is_left() {
        let fatal = || Err(Fault::Fatal("why".into()));
        let transient = || Err(Fault::Transient("it took too long".into()));
        let mut care = Care::default();
        let mut slices = Vec::new();
        for went in [transient(), fatal(), transient(), Ok(()), fatal(), fatal(), transient(), Ok(()), Ok(())] {
            slices.push((care.slice, care.because(7).is_some()));
            care = care.next(7, &went);
        }
        let expected = [(SLICE, false), (500, false), (1, false), (1, false), (2, false), (1, false), (1, true), (1, true), (2, false)];
        assert_eq!(slices, expected);
        let failed = Care { slice: 1, because: None }.next(7, &fatal());
        assert_eq!((failed.because(7), failed.because(6)), (Some("why"), None), "another replica has left it already");
    }

    #[test]
    fn an_import_that_goes_well_is_forgotten() {
        let imports = Imports::default();
        let id = Uuid::from_u128(1);
        imports.note(id, Care { slice: 1, because: None });
        while imports.care(id).slice < SLICE {
            imports.note(id, imports.care(id).next(7, &Ok(())));
        }
        assert!(imports.failed.lock().unwrap().is_empty());
    }
}
