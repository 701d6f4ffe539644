//! Which lines a bank entry pays, and how sure that is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ::domain::messages::capital_calls::{CallLine, Disposition, ImportedEntry, MatchReason, ReceiptPart, Suggestion, masked_account};
use ::domain::rules::ApplicationOrder;
use ::domain::{Amount, CreditorReference};
use iban::Iban;
use uuid::Uuid;

use super::in_order;

/// Most suggestions that are kept of an entry; a person who looks through more would rather search.
const SUGGESTIONS_MAX: usize = 5;
/// Shortest word of a name that tells something.
const WORD_CHARACTERS_MIN: usize = 3;
/// Part of the words of the shorter name that both must have, in percent.
const SIMILAR_PERCENT: usize = 60;
/// Longest IBAN (ISO 13616).
const ACCOUNT_CHARACTERS_MAX: usize = 34;
/// Days between the value date and the due date within which an amount says more.
const NEAR_DAYS: i64 = 30;

/// What is known of the lines that entries may pay.
#[derive(Debug, Default)]
pub struct OpenLines {
    lines: HashMap<Uuid, CallLine>,
    /// Open lines of a fund, by what is outstanding, and by investor.
    by_amount: HashMap<(Uuid, Amount), BTreeSet<Uuid>>,
    by_investor: HashMap<(Uuid, Uuid), Vec<Uuid>>,
    by_fund: BTreeMap<Uuid, HashSet<Uuid>>,
    /// Names of the investors, and who has a word in the name, by the name's numbers: who is alike has both.
    names: HashMap<Uuid, Name>,
    by_word: HashMap<(BTreeSet<String>, String), Vec<Uuid>>,
}

impl OpenLines {
    /// Of these lines, and the names of their investors.
    pub fn new(lines: impl Iterator<Item = CallLine>, names: &HashMap<Uuid, String>) -> OpenLines {
        let mut open = OpenLines { names: names.iter().map(|(id, name)| (*id, Name::of(name))).collect(), ..OpenLines::default() };
        for (id, name) in &open.names {
            for word in &name.words {
                open.by_word.entry((name.numbers.clone(), word.clone())).or_default().push(*id);
            }
        }
        for line in lines {
            if line.outstanding.is_positive() && line.disposition != Disposition::Rescinded {
                open.by_amount.entry((line.fund_id, line.outstanding)).or_default().insert(line.id);
                open.by_investor.entry((line.fund_id, line.investor_id)).or_default().push(line.id);
                open.by_fund.entry(line.fund_id).or_default().insert(line.investor_id);
            }
            open.lines.insert(line.id, line);
        }
        open
    }

    /// A line, whether anything is outstanding on it or not.
    pub fn line(&self, id: Uuid) -> Option<&CallLine> {
        self.lines.get(&id)
    }

    /// Takes what an entry pays off what is outstanding, so that the next one pays the rest.
    pub fn take(&mut self, parts: &[ReceiptPart]) {
        for part in parts {
            if let Some(line) = self.lines.get_mut(&part.line_id) {
                if let Some(lines) = self.by_amount.get_mut(&(line.fund_id, line.outstanding)) {
                    lines.remove(&line.id);
                }
                line.outstanding = (line.outstanding - part.amount).max(line.currency.zero());
                self.by_amount.entry((line.fund_id, line.outstanding)).or_default().insert(line.id);
            }
        }
    }

    /// Whose name is like this one.
    fn named_like(&self, name: &Name) -> HashSet<Uuid> {
        let with_word = |word: &String| self.by_word.get(&(name.numbers.clone(), word.clone()));
        let some = name.words.iter().filter_map(with_word).flatten();
        some.filter(|id| self.names.get(id).is_some_and(|other| other.is_like(name))).copied().collect()
    }

    fn of_investor(&self, fund_id: Uuid, investor_id: Uuid) -> Vec<&CallLine> {
        let ids = self.by_investor.get(&(fund_id, investor_id)).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.lines.get(id)).filter(|line| line.outstanding.is_positive()).collect()
    }
}

/// A name as it is compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Name {
    /// Its words in lower case, without those that stand for a legal form or are short.
    words: HashSet<String>,
    /// Its numbers: what tells one fund of a house from the next.
    numbers: BTreeSet<String>,
}

impl Name {
    fn of(name: &str) -> Name {
        let clean = |word: &str| word.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
        let legal = ["gmbh", "ltd", "limited", "llc", "inc", "corp", "the", "and", "und", "sarl", "scsp", "plc"];
        let is_number = |word: &String| {
            let roman = !word.is_empty() && word.chars().all(|letter| matches!(letter, 'i' | 'v' | 'x'));
            roman || word.chars().any(|letter| letter.is_numeric())
        };
        let (numbers, words): (Vec<String>, Vec<String>) = name.split_whitespace().map(clean).partition(is_number);
        let tells = |word: &String| word.chars().count() >= WORD_CHARACTERS_MIN && !legal.contains(&word.as_str());
        Name { words: words.into_iter().filter(tells).collect(), numbers: numbers.into_iter().collect() }
    }

    fn is_like(&self, other: &Name) -> bool {
        let shorter = self.words.len().min(other.words.len());
        let same_words = self.words.intersection(&other.words).count();
        self.numbers == other.numbers && shorter > 0 && same_words * 100 >= shorter * SIMILAR_PERCENT
    }
}

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
    let named: Vec<&CallLine> =
        entry.references.iter().filter_map(|reference| by_reference.get(reference)).filter_map(|id| open.line(*id)).collect();
    if !entry.references.is_empty() {
        return by_references(entry, known, &named);
    }
    let Some(fund_id) = known.fund_id else { return Proposal::Nothing("the account is no fund's, and the payer gave no reference") };
    if let Some(investor_id) = known.payer {
        let lines = open.of_investor(fund_id, investor_id);
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

fn by_references(entry: &ImportedEntry, known: Known<'_>, named: &[&CallLine]) -> Proposal {
    let Some(first) = named.first() else { return Proposal::Nothing("the reference that the payer gave is no line's") };
    let same = |line: &&&CallLine| (line.fund_id, line.investor_id) == (first.fund_id, first.investor_id);
    if named.len() != named.iter().filter(same).count() {
        return Proposal::Nothing("the references that the payer gave are of several investors");
    }
    if known.fund_id.is_some_and(|fund_id| fund_id != first.fund_id) {
        return Proposal::Nothing("the reference that the payer gave is of another fund than the account");
    }
    if first.currency != entry.currency {
        return Proposal::Nothing("the entry is in another currency than the line");
    }
    if named.iter().any(|line| line.disposition == Disposition::Rescinded) {
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
    let owed_by = |investor_id: &Uuid| -> Vec<&CallLine> {
        open.of_investor(fund_id, *investor_id).into_iter().filter(|line| line.currency == entry.currency).collect()
    };
    let fits = |owed: Amount| owed >= entry.amount && owed - entry.amount <= known.tolerance;
    let total = |lines: &[&CallLine]| lines.iter().map(|line| line.outstanding).sum::<Amount>();
    let named_so = open.named_like(&Name::of(entry.payer_name.as_deref().unwrap_or_default()));
    let may_pay = |investor_id: &Uuid| {
        let lines = owed_by(investor_id);
        named_so.contains(investor_id) || fits(total(&lines)) || lines.iter().any(|line| fits(line.outstanding))
    };
    if open.by_fund.get(&fund_id)?.iter().any(|investor_id| investor_id != alias && may_pay(investor_id)) {
        return None;
    }
    let lines = owed_by(alias);
    let one: Vec<&CallLine> = lines.iter().copied().filter(|line| line.outstanding == entry.amount).collect();
    let lines = match one.len() {
        1 => one,
        0 if total(&lines) == entry.amount => lines,
        _ => return None,
    };
    Some(Suggestion { parts: spread(entry.amount, lines, known), why: MatchReason::PayerName, sure: 90 })
}

/// Gives each line what is outstanding, in order; the last one gets the rest.
fn spread(amount: Amount, mut lines: Vec<&CallLine>, known: Known<'_>) -> Vec<ReceiptPart> {
    in_order(&mut lines, known.order);
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
    let mut may_be_payer = open.named_like(&Name::of(entry.payer_name.as_deref().unwrap_or_default()));
    may_be_payer.extend(known.payer.iter().chain(known.aliases));
    let whole = |line: &CallLine| vec![ReceiptPart { line_id: line.id, amount: entry.amount }];
    let is_near =
        |line: &CallLine| entry.value_on.or(entry.booked_on).is_some_and(|date| (date - line.due_on).num_days().abs() <= NEAR_DAYS);
    let mut found = Vec::new();
    let owing = open.by_amount.get(&(fund_id, entry.amount));
    let of_others = owing
        .into_iter()
        .flatten()
        .filter_map(|id| open.lines.get(id))
        .filter(|line| line.currency == entry.currency && !may_be_payer.contains(&line.investor_id));
    // one of many investors who owe the same is hardly known by it
    if owing.is_some_and(|owing| owing.len() == 1) {
        found.extend(of_others.map(|line| (line, if is_near(line) { 50 } else { 30 })));
    } else {
        found.extend(of_others.filter(|line| is_near(line)).map(|line| (line, 10)).take(SUGGESTIONS_MAX));
    }
    let by_amount = |(line, sure)| Suggestion { parts: whole(line), why: MatchReason::Amount, sure };
    let mut found: Vec<Suggestion> = found.into_iter().map(by_amount).collect();
    let owe = open.by_fund.get(&fund_id);
    for investor_id in may_be_payer.iter().filter(|investor_id| owe.is_some_and(|owe| owe.contains(investor_id))) {
        let lines: Vec<&CallLine> =
            open.of_investor(fund_id, *investor_id).into_iter().filter(|line| line.currency == entry.currency).collect();
        for line in lines.iter().filter(|line| line.outstanding == entry.amount) {
            let sure = if is_near(line) { 90 } else { 80 };
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

/// Longest name of a payer (ISO 20022, Max140Text).
const ALIAS_CHARACTERS_MAX: usize = 140;

/// A payer's name as it is remembered: in small letters, with one blank between its words. None where it tells nobody from others.
pub fn written_alias(name: &str) -> Option<String> {
    let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
    let alias = words.join(" ");
    let says_nothing = ["notprovided", "not provided", "unknown", "n/a", "none"].contains(&alias.as_str());
    let fits = alias.chars().count() <= ALIAS_CHARACTERS_MAX && !Name::of(&alias).words.is_empty();
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

    #[test]
    fn names_are_alike_whatever_the_case_and_the_legal_form_but_not_with_another_number() {
        for (one, other, alike) in [
            ("Pension Fund of the Teachers", "PENSION FUND TEACHERS", true),
            ("Müller & Söhne GmbH", "müller söhne", true),
            ("Growth Partners III L.P.", "Growth Partners III", true),
            ("Growth Partners III", "Growth Partners IV", false),
            ("Investor 1", "Investor 2", false),
            ("Acme Ltd", "Other Ltd", false),
            ("", "", false),
        ] {
            assert_eq!(Name::of(one).is_like(&Name::of(other)), alike, "{one:?} and {other:?}");
        }
    }

    /// A line over 100.00 of each of so many investors, and one over 50.00 more of the first.
    fn open(investors: u128) -> OpenLines {
        let of = |id: u128, investor: u128, amount: i128| {
            let mut line = crate::domain::tests::line(amount);
            (line.id, line.fund_id, line.investor_id) = (Uuid::from_u128(id), FUND, Uuid::from_u128(investor));
            line.outstanding = line.amount;
            line
        };
        let names = (1..=investors).map(|investor| (Uuid::from_u128(investor), format!("Investor {investor}"))).collect();
        OpenLines::new((1..=investors).map(|at| of(at, at, 10_000)).chain([of(100, 1, 5_000)]), &names)
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
