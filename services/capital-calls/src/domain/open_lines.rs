//! The open lines that cash may be for, found by what is outstanding and by who owes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ::domain::messages::capital_calls::ReceiptPart;
use ::domain::{Amount, Currency};
use chrono::NaiveDate;
use uuid::Uuid;

/// Shortest word of a name that tells something.
const WORD_CHARACTERS_MIN: usize = 3;
/// Part of the words of the shorter name that both must have, in percent.
const SIMILAR_PERCENT: usize = 60;
/// Most investors of a like name that are told of: a name that more of them share tells nobody from others.
const ALIKE_MAX: usize = 20;

/// What is looked at of a line.
#[derive(Clone, Copy, Debug)]
pub struct OpenLine {
    /// Id.
    pub id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Currency.
    pub currency: Currency,
    /// What is called and not paid yet.
    pub outstanding: Amount,
    /// Due date.
    pub due_on: NaiveDate,
    /// Issue date.
    pub issued_on: NaiveDate,
    /// Whether its call was taken back.
    pub is_rescinded: bool,
}

/// An investor of a fund.
#[derive(Clone, Debug)]
pub struct Member {
    /// The fund.
    pub fund_id: Uuid,
    /// The investor.
    pub investor_id: Uuid,
    /// Its name.
    pub name: String,
}

/// What is outstanding in a fund's currency.
#[derive(Debug, Default)]
struct Owed {
    /// Lines by what is outstanding on each; those that are due first come first.
    on_lines: BTreeMap<Amount, BTreeSet<(NaiveDate, Uuid)>>,
    /// Investors by what each owes in all.
    in_all: BTreeMap<Amount, BTreeSet<Uuid>>,
    /// Lines by investor.
    by_investor: HashMap<Uuid, Vec<Uuid>>,
}

/// Investors who have a word in their name, with how many words it has.
type ByWord = HashMap<String, Vec<(Uuid, usize)>>;

/// The open lines of funds, and those that payers have named.
#[derive(Debug, Default)]
pub struct OpenLines {
    lines: HashMap<Uuid, OpenLine>,
    owed: HashMap<(Uuid, Currency), Owed>,
    /// By fund and name, whether they owe anything or not.
    by_name: HashMap<(Uuid, String), Vec<Uuid>>,
    /// By the numbers of the name and a word of it: who is alike has both.
    by_word: HashMap<BTreeSet<String>, ByWord>,
}

impl OpenLines {
    /// Of these lines, and all investors of the funds.
    pub fn new(lines: impl Iterator<Item = OpenLine>, members: &[Member]) -> OpenLines {
        let mut open = OpenLines::default();
        let mut named = HashSet::with_capacity(members.len());
        for Member { fund_id, investor_id, name } in members {
            open.by_name.entry((*fund_id, written_name(name))).or_default().push(*investor_id);
            if !named.insert(*investor_id) {
                continue;
            }
            let Name { words, numbers } = Name::of(name);
            let (count, by_word) = (words.len(), open.by_word.entry(numbers).or_default());
            for word in words {
                by_word.entry(word).or_default().push((*investor_id, count));
            }
        }
        open.by_name.values_mut().for_each(|ids| ids.sort_unstable());
        open.lines = lines.map(|line| (line.id, line)).collect();
        for line in open.lines.values().filter(|line| line.outstanding.is_positive() && !line.is_rescinded) {
            let owed = open.owed.entry((line.fund_id, line.currency)).or_default();
            owed.on_lines.entry(line.outstanding).or_default().insert((line.due_on, line.id));
            owed.by_investor.entry(line.investor_id).or_default().push(line.id);
        }
        for owed in open.owed.values_mut() {
            for (investor_id, ids) in &mut owed.by_investor {
                ids.sort();
                let total = ids.iter().filter_map(|id| open.lines.get(id)).map(|line| line.outstanding).sum();
                owed.in_all.entry(total).or_default().insert(*investor_id);
            }
        }
        open
    }

    /// A line, whether anything is outstanding on it or not.
    pub fn line(&self, id: Uuid) -> Option<&OpenLine> {
        self.lines.get(&id)
    }

    /// What an investor owes a fund.
    pub fn of_investor(&self, fund_id: Uuid, currency: Currency, investor_id: Uuid) -> Vec<&OpenLine> {
        let ids = self.owed.get(&(fund_id, currency)).and_then(|owed| owed.by_investor.get(&investor_id));
        ids.into_iter().flatten().filter_map(|id| self.lines.get(id)).filter(|line| line.outstanding.is_positive()).collect()
    }

    /// The lines of a fund on which just this is outstanding, those first that are due first; none where there is none.
    pub fn owing(&self, fund_id: Uuid, currency: Currency, amount: Amount) -> Option<&BTreeSet<(NaiveDate, Uuid)>> {
        self.owed.get(&(fund_id, currency))?.on_lines.get(&amount)
    }

    /// Whether an investor other than this one owes a fund an amount, or more by no more than a tolerance, on one line or in all.
    pub fn is_owed_by_others(&self, to: (Uuid, Currency), amount: Amount, tolerance: Amount, investor_id: Uuid) -> bool {
        let Some(owed) = self.owed.get(&to) else { return false };
        let range = amount..=amount + tolerance;
        let is_others = |id: &Uuid| self.lines.get(id).is_some_and(|line| line.investor_id != investor_id);
        owed.on_lines.range(range.clone()).any(|(_, lines)| lines.iter().any(|(_, id)| is_others(id)))
            || owed.in_all.range(range).any(|(_, investors)| investors.iter().any(|id| *id != investor_id))
    }

    /// Takes what an entry pays off what is outstanding, so that the next one pays the rest.
    pub fn take(&mut self, parts: &[ReceiptPart]) {
        for part in parts {
            let Some(line) = self.lines.get(&part.line_id).copied() else { continue };
            let total = |open: &OpenLines| {
                open.of_investor(line.fund_id, line.currency, line.investor_id).iter().map(|line| line.outstanding).sum::<Amount>()
            };
            let before = total(self);
            let outstanding = (line.outstanding - part.amount).max(line.currency.zero());
            self.lines.insert(line.id, OpenLine { outstanding, ..line });
            let after = total(self);
            let Some(owed) = self.owed.get_mut(&(line.fund_id, line.currency)) else { continue };
            take_out(&mut owed.on_lines, line.outstanding, &(line.due_on, line.id));
            take_out(&mut owed.in_all, before, &line.investor_id);
            if outstanding.is_positive() && !line.is_rescinded {
                owed.on_lines.entry(outstanding).or_default().insert((line.due_on, line.id));
            }
            if after.is_positive() {
                owed.in_all.entry(after).or_default().insert(line.investor_id);
            }
        }
    }

    /// The investors who owe a fund, of those whose name is this one; where there are none of this name, of those whose name is like
    /// it, the most alike first. At most [`ALIKE_MAX`]. Who has paid gives way to nobody of a like name: cash that comes twice is no
    /// namesake's.
    pub fn named_like(&self, to: (Uuid, Currency), name: &str) -> Vec<Uuid> {
        let Name { words, numbers } = Name::of(name);
        let owes = |id: &Uuid| !self.of_investor(to.0, to.1, *id).is_empty();
        if let Some(same) = self.by_name.get(&(to.0, written_name(name))).filter(|_| !words.is_empty()) {
            return same.iter().filter(|id| owes(id)).take(ALIKE_MAX).copied().collect();
        }
        let Some(by_word) = self.by_word.get(&numbers) else { return vec![] };
        let mut shared: HashMap<Uuid, (usize, usize)> = HashMap::new();
        for (id, count) in words.iter().filter_map(|word| by_word.get(word)).flatten() {
            shared.entry(*id).or_insert((0, *count)).0 += 1;
        }
        let is_like = |(same, count): (usize, usize)| same * 100 >= count.min(words.len()) * SIMILAR_PERCENT;
        let alike = shared.into_iter().filter(|(id, of)| is_like(*of) && owes(id));
        let mut alike: Vec<(usize, usize, Uuid)> = alike.map(|(id, (same, count))| (words.len() - same, count, id)).collect();
        alike.sort_unstable();
        alike.into_iter().map(|(_, _, id)| id).take(ALIKE_MAX).collect()
    }
}

/// Takes one out of those that have an amount.
fn take_out<T: Ord>(by_amount: &mut BTreeMap<Amount, BTreeSet<T>>, amount: Amount, gone: &T) {
    if let Some(rest) = by_amount.get_mut(&amount) {
        rest.remove(gone);
        if rest.is_empty() {
            by_amount.remove(&amount);
        }
    }
}

/// A name in small letters, with one blank between its words.
pub fn written_name(name: &str) -> String {
    name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// Whether a name has a word that tells somebody from others.
pub fn tells_somebody(name: &str) -> bool {
    !Name::of(name).words.is_empty()
}

/// A name as it is compared.
struct Name {
    /// Its words in lower case, without those that stand for a legal form or are short.
    words: BTreeSet<String>,
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
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const FUND: Uuid = Uuid::from_u128(7);

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    /// A line of an investor over an amount in cents, due on 2026-11-10.
    pub fn line(id: u128, investor: u128, amount: i128) -> OpenLine {
        OpenLine {
            id: Uuid::from_u128(id),
            fund_id: FUND,
            investor_id: Uuid::from_u128(investor),
            currency: usd(),
            outstanding: usd().from_minor(amount),
            due_on: "2026-11-10".parse().unwrap(),
            issued_on: "2026-10-10".parse().unwrap(),
            is_rescinded: false,
        }
    }

    pub fn member(investor: u128, name: &str) -> Member {
        Member { fund_id: FUND, investor_id: Uuid::from_u128(investor), name: name.to_owned() }
    }

    /// Investors who owe 1.00 each.
    fn named(names: &[&str]) -> OpenLines {
        let named = names.iter().zip(1..).map(|(name, id)| member(id, name));
        OpenLines::new((1..=names.len() as u128).map(|id| line(id, id, 100)), &named.collect::<Vec<_>>())
    }

    fn like(open: &OpenLines, name: &str) -> Vec<u128> {
        open.named_like((FUND, usd()), name).iter().map(Uuid::as_u128).collect()
    }

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
            assert_eq!(!like(&named(&[one]), other).is_empty(), alike, "{one:?} and {other:?}");
            assert_eq!(!like(&named(&[other]), one).is_empty(), alike, "{other:?} and {one:?}");
        }
    }

    #[test]
    fn the_same_name_comes_alone_and_the_most_alike_first() {
        let mut families = named(&["Jones Family Trust", "Smith Family Trust of Ohio", "Smith Family Trust"]);
        assert_eq!(like(&families, "SMITH  family trust"), [3]);
        assert_eq!(like(&families, "Smith Family Trust LLC"), [3, 2, 1]);
        assert!(families.named_like((Uuid::nil(), usd()), "Smith Family Trust").is_empty(), "they owe another fund");
        families.take(&[ReceiptPart { line_id: Uuid::from_u128(3), amount: usd().from_minor(100) }]);
        assert_eq!(like(&families, "Smith Family Trust LLC"), [2, 1], "who has paid is passed over");
        assert!(like(&families, "Smith Family Trust").is_empty(), "and gives way to nobody else who is called alike");
        let many: Vec<String> = (0..5_000).map(|at| format!("Family {} Trust", char::from_u32(0x4e00 + at).unwrap())).collect();
        assert_eq!(like(&named(&many.iter().map(String::as_str).collect::<Vec<_>>()), "Family Trust").len(), ALIKE_MAX);
    }

    #[test]
    fn what_is_taken_is_found_no_more_and_the_rest_is() {
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let mut open = OpenLines::new([line(10, 1, 100), line(11, 1, 50), line(20, 2, 100)].into_iter(), &[]);
        let of = |amount: i128| usd().from_minor(amount);
        let owing = |open: &OpenLines, amount| open.owing(FUND, usd(), of(amount)).map_or(0, BTreeSet::len);
        let by_others = |open: &OpenLines, amount, but| open.is_owed_by_others((FUND, usd()), of(amount), of(5), but);
        assert_eq!((owing(&open, 100), owing(&open, 50), owing(&open, 40)), (2, 1, 0));
        assert!(by_others(&open, 150, other) && by_others(&open, 146, other) && !by_others(&open, 144, other));
        assert!(!by_others(&open, 151, other) && !by_others(&open, 150, one));
        open.take(&[ReceiptPart { line_id: Uuid::from_u128(10), amount: of(60) }]);
        assert_eq!((owing(&open, 100), owing(&open, 40)), (1, 1));
        assert!(by_others(&open, 90, other) && !by_others(&open, 150, other), "50 and 40 are left");
        open.take(&[ReceiptPart { line_id: Uuid::from_u128(10), amount: of(70) }]);
        assert_eq!((owing(&open, 40), owing(&open, 0), open.of_investor(FUND, usd(), one).len()), (0, 0, 1));
        open.take(&[ReceiptPart { line_id: Uuid::from_u128(20), amount: of(100) }]);
        assert!(open.of_investor(FUND, usd(), other).is_empty() && !by_others(&open, 100, one) && !by_others(&open, 0, one));
    }
}
