//! Which lines a bank entry pays, and how sure that is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;

use ::domain::messages::capital_calls::{ImportedEntry, MatchReason, ReceiptPart, Suggestion, masked_account};
use ::domain::rules::ApplicationOrder;
use ::domain::{Amount, CreditorReference};
use chrono::{Days, NaiveDate};
use iban::Iban;
use uuid::Uuid;

use super::open_lines::{OpenLine, OpenLines, tells_somebody, written_name};
use super::turn;

/// Most suggestions that are kept of an entry; a person who looks through more would rather search.
const SUGGESTIONS_MAX: usize = 5;
/// Longest IBAN (ISO 13616).
const ACCOUNT_CHARACTERS_MAX: usize = 34;
/// Days between the value date and the due date within which an amount says more.
const NEAR_DAYS: Days = Days::new(30);

/// What is known of an entry besides what the bank says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The fund whose account it is on.
    pub fund_id: Option<Uuid>,
    /// Whether the account was a fund's, and is closed.
    pub is_closed: bool,
    /// The investor whose account it comes from, as a person has confirmed.
    pub payer: Option<Uuid>,
    /// The investors who have paid under the payer's name, as a person has confirmed.
    pub aliases: &'a [Uuid],
    /// By how much cash may be short.
    pub tolerance: Amount,
    /// Which line cash pays first.
    pub order: ApplicationOrder,
}

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// It pays these.
    Sure(Suggestion),
    /// A person chooses.
    Perhaps(Vec<Suggestion>),
    /// Nobody knows.
    Nothing(&'static str),
}

/// Proposes lines for an entry that has brought cash: by the references that the payer gave, by a payer's account or name that a person
/// has confirmed, and otherwise, for a person to choose, by amount and name.
pub fn propose(entry: &ImportedEntry, known: Known<'_>, open: &OpenLines, by_reference: &HashMap<String, Uuid>) -> Proposal {
    if entry.differs {
        return Proposal::Nothing("the transactions of the entry do not add up to it");
    }
    if known.is_closed {
        return Proposal::Nothing("the account is closed: look whose cash it is");
    }
    if entry.value_on.or(entry.booked_on).is_none() {
        return Proposal::Nothing("the bank gives no date: matched by hand, it counts on the day on which it was seen");
    }
    let named: Vec<&OpenLine> =
        entry.references.iter().filter_map(|reference| by_reference.get(reference)).filter_map(|id| open.line(*id)).collect();
    if !entry.references.is_empty() {
        return by_references(entry, known, &named);
    }
    let Some(fund_id) = known.fund_id else { return Proposal::Nothing("the account is no fund's, and the payer gave no reference") };
    if let Some(investor_id) = known.payer {
        let lines = open.of_investor(fund_id, entry.currency, investor_id);
        let outstanding: Amount = lines.iter().map(|line| line.outstanding).sum();
        if entry.amount <= outstanding {
            return Proposal::Sure(Suggestion { parts: spread(entry.amount, lines, known), why: MatchReason::PayerAccount, sure: 95 });
        }
    }
    if let Some(suggestion) = by_alias(entry, fund_id, known, open) {
        return Proposal::Sure(suggestion);
    }
    match suggestions(entry, fund_id, known, open) {
        found if found.is_empty() && known.payer.is_some() => Proposal::Nothing("the investor who pays from this account owes less"),
        found if found.is_empty() => Proposal::Nothing("no open line of the fund in this currency has this amount or a payer of this name"),
        found => Proposal::Perhaps(found),
    }
}

fn by_references(entry: &ImportedEntry, known: Known<'_>, named: &[&OpenLine]) -> Proposal {
    let Some(first) = named.first() else { return Proposal::Nothing("the reference that the payer gave is no line's") };
    let same = |line: &&&OpenLine| (line.fund_id, line.investor_id) == (first.fund_id, first.investor_id);
    if named.len() != named.iter().filter(same).count() {
        return Proposal::Nothing("the references that the payer gave are of several investors");
    }
    if known.fund_id.is_some_and(|fund_id| fund_id != first.fund_id) {
        return Proposal::Nothing("the reference that the payer gave is of another fund than the account");
    }
    if first.currency != entry.currency {
        return Proposal::Nothing("the entry is in another currency than the line");
    }
    if named.iter().any(|line| line.is_rescinded) {
        return Proposal::Nothing("the call of the reference that the payer gave was taken back");
    }
    Proposal::Sure(Suggestion { parts: spread(entry.amount, named.to_vec(), known), why: MatchReason::Reference, sure: 100 })
}

/// What the investor owes who has paid under the payer's name before. A name is less than an account, and a custodian pays for several
/// under one: it is sure where the bank tells no account, the name stands for one investor, the amount is just what this one owes, and
/// it could be no other's.
fn by_alias(entry: &ImportedEntry, fund_id: Uuid, known: Known<'_>, open: &OpenLines) -> Option<Suggestion> {
    let [alias] = known.aliases else { return None };
    if entry.payer_key.is_some() {
        return None;
    }
    let to = (fund_id, entry.currency);
    let named_so = open.named_like(to, entry.payer_name.as_deref().unwrap_or_default());
    if named_so.iter().any(|investor_id| investor_id != alias) || open.is_owed_by_others(to, entry.amount, known.tolerance, *alias) {
        return None;
    }
    let lines = open.of_investor(fund_id, entry.currency, *alias);
    let one: Vec<&OpenLine> = lines.iter().copied().filter(|line| line.outstanding == entry.amount).collect();
    let lines = match one.len() {
        1 => one,
        0 if lines.iter().map(|line| line.outstanding).sum::<Amount>() == entry.amount => lines,
        _ => return None,
    };
    Some(Suggestion { parts: spread(entry.amount, lines, known), why: MatchReason::PayerName, sure: 90 })
}

/// Gives each line what is outstanding, in order; the last one gets the rest.
fn spread(amount: Amount, mut lines: Vec<&OpenLine>, known: Known<'_>) -> Vec<ReceiptPart> {
    lines.sort_by_key(|line| (turn(known.order, line.due_on, line.issued_on, line.outstanding), line.id));
    let mut left = amount;
    let mut parts: Vec<ReceiptPart> = Vec::new();
    for line in &lines {
        let part = left.min(line.outstanding);
        if part.is_positive() {
            parts.push(ReceiptPart { line_id: line.id, amount: part });
            left -= part;
        }
    }
    match (parts.last_mut(), lines.last()) {
        (Some(part), _) => part.amount += left,
        (None, Some(line)) => parts.push(ReceiptPart { line_id: line.id, amount: left }),
        (None, None) => {}
    }
    parts
}

fn suggestions(entry: &ImportedEntry, fund_id: Uuid, known: Known<'_>, open: &OpenLines) -> Vec<Suggestion> {
    let Some(near) = entry.value_on.or(entry.booked_on).map(days_around) else { return vec![] };
    let alike = open.named_like((fund_id, entry.currency), entry.payer_name.as_deref().unwrap_or_default());
    let may_be_payer: BTreeSet<Uuid> = alike.iter().chain(known.payer.iter()).chain(known.aliases).copied().collect();
    let whole = |line: &OpenLine| vec![ReceiptPart { line_id: line.id, amount: entry.amount }];
    let of_others = |(_, id): &(NaiveDate, Uuid)| open.line(*id).filter(|line| !may_be_payer.contains(&line.investor_id));
    let by_amount: Vec<(&OpenLine, u8)> = match open.owing(fund_id, entry.currency, entry.amount) {
        None => vec![],
        Some(owing) if owing.len() == 1 => {
            let sure = |line: &OpenLine| if near.contains(&line.due_on) { 50 } else { 30 };
            owing.iter().filter_map(of_others).map(|line| (line, sure(line))).collect()
        }
        // one of many investors who owe the same is hardly known by it
        Some(owing) => {
            let near = owing.range((*near.start(), Uuid::nil())..=(*near.end(), Uuid::max()));
            near.filter_map(of_others).map(|line| (line, 10)).take(SUGGESTIONS_MAX).collect()
        }
    };
    let suggested = |(line, sure)| Suggestion { parts: whole(line), why: MatchReason::Amount, sure };
    let mut found: Vec<Suggestion> = by_amount.into_iter().map(suggested).collect();
    for investor_id in &may_be_payer {
        let lines = open.of_investor(fund_id, entry.currency, *investor_id);
        for line in lines.iter().filter(|line| line.outstanding == entry.amount) {
            let sure = if near.contains(&line.due_on) { 90 } else { 80 };
            found.push(Suggestion { parts: whole(line), why: MatchReason::AmountAndName, sure });
        }
        let outstanding: Amount = lines.iter().map(|line| line.outstanding).sum();
        let short = |outstanding: Amount| outstanding >= entry.amount && outstanding - entry.amount <= known.tolerance;
        if let [line] = lines.as_slice()
            && line.outstanding == entry.amount
        {
            continue;
        }
        if let Some(line) = lines.iter().find(|line| line.outstanding != entry.amount && short(line.outstanding)) {
            found.push(Suggestion { parts: whole(line), why: MatchReason::AmountAndName, sure: 75 });
        } else if lines.len() > 1 && short(outstanding) {
            found.push(Suggestion { parts: spread(entry.amount, lines, known), why: MatchReason::SumAndName, sure: 85 });
        } else if !lines.is_empty() {
            found.push(Suggestion { parts: spread(entry.amount, lines, known), why: MatchReason::Name, sure: 40 });
        }
    }
    found.sort_by_key(|suggestion| (u8::MAX - suggestion.sure, suggestion.parts.first().map(|part| part.line_id)));
    found.truncate(SUGGESTIONS_MAX);
    found
}

/// The dates that are near one.
fn days_around(date: NaiveDate) -> RangeInclusive<NaiveDate> {
    date.checked_sub_days(NEAR_DAYS).unwrap_or(date)..=date.checked_add_days(NEAR_DAYS).unwrap_or(date)
}

/// Longest name of a payer (ISO 20022, Max140Text).
const ALIAS_CHARACTERS_MAX: usize = 140;

/// A payer's name as it is remembered: in small letters, with one blank between its words. None where it tells nobody from others.
pub fn written_alias(name: &str) -> Option<String> {
    let alias = written_name(name);
    let says_nothing = ["notprovided", "not provided", "unknown", "n/a", "none"].contains(&alias.as_str());
    let fits = alias.chars().count() <= ALIAS_CHARACTERS_MAX && tells_somebody(&alias);
    (fits && !says_nothing).then_some(alias)
}

/// The number of an account or a bank as it is kept and compared: in capitals, without blanks.
pub fn written_account(account: &str) -> String {
    account.chars().filter(|letter| !letter.is_whitespace()).flat_map(char::to_uppercase).collect()
}

/// An entry as it is kept: its accounts are masked and found by keys; so are its own keys, which were made of the accounts and could
/// be tried out.
pub fn masked_entry(entry: &ImportedEntry, key: impl Fn(&str) -> String) -> ImportedEntry {
    let mut masked = entry.clone();
    masked.account = masked_account(&entry.account);
    masked.account_key = Some(key(&written_account(&entry.account)));
    masked.payer_account = entry.payer_account.as_deref().map(masked_account);
    masked.payer_key = entry.payer_account.as_deref().map(|account| key(&written_account(account)));
    masked.content_key = key(&entry.content_key);
    masked.reference_key = entry.reference_key.as_deref().map(&key);
    for text in [&mut masked.remittance, &mut masked.return_reason, &mut masked.end_to_end_id, &mut masked.payer_name].into_iter().flatten()
    {
        *text = masked_text(text);
    }
    // a bank that gives no id leaves the reader's
    if entry.entry_id == entry.content_key {
        masked.entry_id.clone_from(&masked.content_key);
    }
    masked
}

/// A text in which IBANs are masked, written in one piece or in groups.
fn masked_text(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let begins = at == 0 || !letters[at - 1].is_alphanumeric();
        match begins.then(|| iban_at(&letters[at..])).flatten() {
            Some(length) => {
                masked.push_str(&masked_account(&letters[at..at + length].iter().collect::<String>()));
                at += length;
            }
            None => {
                masked.push(letters[at]);
                at += 1;
            }
        }
    }
    masked
}

/// How many characters an IBAN takes that a text begins with, with the blanks between its groups.
fn iban_at(text: &[char]) -> Option<usize> {
    let head = text.get(..4)?;
    if !head[..2].iter().all(char::is_ascii_alphabetic) || !head[2..].iter().all(char::is_ascii_digit) {
        return None;
    }
    let mut written = String::new();
    let mut length = None;
    for (at, letter) in text.iter().enumerate().filter(|(_, letter)| **letter != ' ') {
        if !letter.is_ascii_alphanumeric() || written.len() == ACCOUNT_CHARACTERS_MAX {
            break;
        }
        written.push(letter.to_ascii_uppercase());
        let ends = text.get(at + 1).is_none_or(|next| !next.is_alphanumeric());
        if ends && written.parse::<Iban>().is_ok() {
            length = Some(at + 1);
        }
    }
    length
}

/// The ranges of ids of the lines that references may be of.
pub fn line_ranges<'a>(references: impl Iterator<Item = &'a String>) -> Vec<(String, Uuid, Uuid)> {
    let range = |text: &String| {
        let (first, last) = text.parse::<CreditorReference>().ok()?.line_ids()?;
        Some((text.clone(), first, last))
    };
    let distinct: HashSet<&String> = references.collect();
    distinct.into_iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::open_lines::tests::{line, member};

    /// A line over 100.00 of each of so many investors, and one over 50.00 more of the first.
    fn open(investors: u128) -> OpenLines {
        let named: Vec<_> = (1..=investors).map(|investor| member(investor, &format!("Investor {investor}"))).collect();
        OpenLines::new((1..=investors).map(|at| line(at, at, 10_000)).chain([line(100, 1, 5_000)]), &named)
    }

    const FUND: Uuid = Uuid::from_u128(7);

    fn entry(amount: i128, payer: &str) -> ImportedEntry {
        let mut entry: ImportedEntry = serde_json::from_value(serde_json::json!({
            "content_key": "k", "ordinal": 0, "account": "1", "entry_id": "1", "pending": false, "credit": true, "is_return": false,
            "amount": "1.00", "currency": "USD", "references": [], "method": "wire", "differs": false, "line": 1, "payer_name": payer,
            "booked_on": "2026-11-02",
        }))
        .unwrap();
        entry.amount = crate::domain::tests::usd(amount);
        entry
    }

    #[test]
    fn a_name_is_sure_only_where_it_could_be_nobody_elses() {
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let sure = |entry: &ImportedEntry, aliases: &[Uuid], open: &OpenLines| match propose(
            entry,
            Known { fund_id: Some(FUND), aliases, ..Known::default() },
            open,
            &HashMap::new(),
        ) {
            Proposal::Sure(suggestion) => Some(suggestion.parts.iter().map(|part| part.line_id.as_u128()).collect::<Vec<_>>()),
            _ => None,
        };
        let few = open(1);
        assert_eq!(sure(&entry(5_000, "Custodian"), &[one], &few), Some(vec![100]));
        assert_eq!(sure(&entry(15_000, "Custodian"), &[one], &few), Some(vec![1, 100]), "all that it owes");
        assert_eq!(sure(&entry(4_000, "Custodian"), &[one], &few), None, "a part of what it owes");
        assert_eq!(sure(&entry(5_000, "Custodian"), &[one, other], &few), None, "the name stands for two");
        let known = ImportedEntry { payer_key: Some("account".into()), ..entry(5_000, "Custodian") };
        assert_eq!(sure(&known, &[one], &few), None, "an account that nobody has confirmed");
        let mut many = open(2);
        assert_eq!(sure(&entry(10_000, "Custodian"), &[one], &many), None, "another owes as much");
        assert_eq!(sure(&entry(5_000, "Investor 2"), &[one], &many), None, "it is another's own name");
        assert_eq!(sure(&entry(5_000, "Custodian"), &[one], &many), Some(vec![100]));
        many.take(&[ReceiptPart { line_id: other, amount: crate::domain::tests::usd(5_000) }]);
        assert_eq!(sure(&entry(5_000, "Custodian"), &[one], &many), None, "another owes as much after what it has paid");
    }

    #[test]
    fn an_account_in_a_text_is_masked_and_nothing_else_is() {
        for (text, masked) in [
            ("from DE89370400440532013000, thanks", "from ****3000, thanks"),
            ("IBAN: gb82 west 1234 5698 7654 32 of Ann", "IBAN: ****5432 of Ann"),
            ("(DE89 3704 0044 0532 0130 00)", "(****3000)"),
            ("RF18 5390 0754 7034 and DE00370400440532013000", "RF18 5390 0754 7034 and DE00370400440532013000"),
            ("Capital call of 2026-11-02 für äöü", "Capital call of 2026-11-02 für äöü"),
            ("", ""),
        ] {
            let entry = ImportedEntry { remittance: Some(text.into()), ..entry(100, "Custodian") };
            assert_eq!(masked_entry(&entry, |key| key.to_owned()).remittance.as_deref(), Some(masked));
        }
    }

    #[test]
    fn an_entry_without_a_date_is_for_a_person() {
        let (open, known) = (open(1), Known { fund_id: Some(FUND), payer: Some(Uuid::from_u128(1)), ..Known::default() });
        let dated = entry(5_000, "Investor 1");
        assert!(matches!(propose(&dated, known, &open, &HashMap::new()), Proposal::Sure(_)));
        let undated = ImportedEntry { booked_on: None, value_on: None, ..dated };
        assert!(matches!(propose(&undated, known, &open, &HashMap::new()), Proposal::Nothing(why) if why.contains("no date")));
    }

    #[test]
    fn a_name_that_tells_nobody_from_others_is_not_remembered() {
        assert_eq!(written_alias(" State  STREET Bank "), Some("state street bank".into()));
        for nothing in ["", "  ", "NOTPROVIDED", "n/a", "Ltd.", &"long ".repeat(40)] {
            assert_eq!(written_alias(nothing), None, "{nothing:?}");
        }
    }
}
