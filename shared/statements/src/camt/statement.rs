//! A statement or notification: its entries, and whether they are those that its sums speak of.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use domain::{Amount, Currency};

use super::parts;
use super::transaction::TransactionDraft;
use crate::entry::{Account, BankCode, Details, Entry, Status, Transaction, reconcile};
use crate::identity::{Identities, Identity};
use crate::limits::{BALANCES_MAX, REPETITIONS_MAX, TRANSACTIONS_MAX};
use crate::unreadable::{Cause, Place, Unreadable};
use crate::values::some;
use crate::xml::Xml;

/// A balance: code, day, currency, and signed minor units.
pub(super) struct Balance {
    pub code: String,
    pub on: Option<NaiveDate>,
    pub currency: Currency,
    pub units: i128,
}

/// Number and sum that a summary states. The sum is a decimal without a currency.
#[derive(Default)]
pub(super) struct Stated {
    pub entries: Option<u64>,
    pub sum: Option<String>,
}

/// The summary of a statement: all entries, credits, debits.
#[derive(Default)]
pub(super) struct Summary {
    pub all: Stated,
    pub credits: Stated,
    pub debits: Stated,
}

/// What was counted of one side, booked and in all.
#[derive(Clone, Copy, Default)]
struct Counted {
    entries: u64,
    booked: u64,
    sum: Amount,
    booked_sum: Amount,
}

pub(super) struct Statement {
    place: Place,
    paged: bool,
    id: Option<String>,
    account: Account,
    balances: Vec<Balance>,
    summary: Summary,
    /// Net of the booked entries by currency, in minor units.
    net: BTreeMap<&'static str, i128>,
    credits: Counted,
    debits: Counted,
}

impl Default for Statement {
    fn default() -> Self {
        Statement::begin(Place::START, false)
    }
}

impl Statement {
    pub fn begin(place: Place, paged: bool) -> Self {
        Statement {
            place,
            paged,
            id: None,
            account: Account::default(),
            balances: Vec::new(),
            summary: Summary::default(),
            net: BTreeMap::new(),
            credits: Counted::default(),
            debits: Counted::default(),
        }
    }

    /// Reads anything but an entry.
    pub fn part(&mut self, name: &str, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        match name {
            "Id" => self.id = some(xml.text()?),
            "Acct" => self.account = parts::account(xml)?,
            "StmtPgntn" | "NtfctnPgntn" => self.paged |= parts::pagination(xml)?,
            "TxsSummry" => self.summary = parts::summary(xml)?,
            "Bal" if self.balances.len() == BALANCES_MAX => {
                return Err(xml.place().unreadable(Cause::TooLarge, format!("a statement has more than {BALANCES_MAX} balances")));
            }
            "Bal" => self.balances.extend(parts::balance(xml)?),
            _ => xml.skip()?,
        }
        Ok(())
    }

    /// Reads an entry.
    pub fn entry(&mut self, xml: &mut Xml<'_>, identities: &mut Identities) -> Result<Entry, Unreadable> {
        let place = xml.place();
        xml.begin_entry();
        if self.account.id.is_empty() {
            return Err(place.unreadable(Cause::Malformed, "an entry stands before the account's id"));
        }
        let mut draft = Draft::default();
        while let Some(name) = xml.child()? {
            draft.part(&name, xml)?;
        }
        let (mut entry, reference) = draft.finish(self, place)?;
        identities.name(&mut entry, reference.as_deref())?;
        self.count(&entry);
        Ok(entry)
    }

    fn count(&mut self, entry: &Entry) {
        let side = if entry.credit { &mut self.credits } else { &mut self.debits };
        side.entries += 1;
        side.sum = plus(side.sum, entry.amount);
        if entry.status == Status::Booked {
            side.booked += 1;
            side.booked_sum = plus(side.booked_sum, entry.amount);
            let units = entry.amount.minor(entry.currency);
            *self.net.entry(entry.currency.code()).or_default() += if entry.credit { units } else { -units };
        }
    }

    /// Refuses a statement whose entries are not those of its summary; tells when they do not lead from its opening to its
    /// closing balance. Of one page of several neither is checked.
    pub fn check(&self) -> Result<Option<Unreadable>, Unreadable> {
        if self.account.id.is_empty() {
            return Err(self.place.unreadable(Cause::Malformed, "the statement has no account id"));
        }
        if self.paged {
            return Ok(None);
        }
        let summary = &self.summary;
        let all = Counted {
            entries: self.credits.entries + self.debits.entries,
            booked: self.credits.booked + self.debits.booked,
            sum: plus(self.credits.sum, self.debits.sum),
            booked_sum: plus(self.credits.booked_sum, self.debits.booked_sum),
        };
        for (side, stated, counted) in
            [("entries", &summary.all, all), ("credits", &summary.credits, self.credits), ("debits", &summary.debits, self.debits)]
        {
            self.check_side(side, stated, counted)?;
        }
        Ok(self.check_balances())
    }

    fn check_side(&self, side: &str, stated: &Stated, counted: Counted) -> Result<(), Unreadable> {
        let differ = |what: String| Err(self.place.unreadable(Cause::DoesNotAddUp, what));
        if let Some(entries) = stated.entries.filter(|entries| *entries != counted.entries && *entries != counted.booked) {
            return differ(format!("the summary states {entries} {side}, the statement has {}", counted.entries));
        }
        let Some(sum) = &stated.sum else { return Ok(()) };
        let equals = |amount: Amount| sum.parse::<Amount>().is_ok_and(|sum| sum.decimal().normalize() == amount.decimal().normalize());
        if self.net.len() <= 1 && !equals(counted.sum) && !equals(counted.booked_sum) {
            return differ(format!("the summary states a sum of {sum} of {side}, the statement has {}", counted.sum));
        }
        Ok(())
    }

    /// Opening balance and booked entries make the closing balance, in each currency that has both.
    fn check_balances(&self) -> Option<Unreadable> {
        let of = |code: &'static str, currency: Currency| {
            self.balances.iter().filter(move |balance| balance.code == code && balance.currency == currency)
        };
        for closing in self.balances.iter().filter(|balance| balance.code == "CLBD") {
            let currency = closing.currency;
            if of("CLBD", currency).any(|other| other.on > closing.on) {
                continue;
            }
            let opening =
                of("OPBD", currency).min_by_key(|balance| balance.on).or_else(|| of("PRCD", currency).min_by_key(|balance| balance.on));
            let Some(opening) = opening else { continue };
            let net = self.net.get(currency.code()).copied().unwrap_or_default();
            if opening.units + net != closing.units {
                return Some(self.place.unreadable(
                    Cause::DoesNotAddUp,
                    format!(
                        "the opening balance {} and the booked entries {} do not make the closing balance {} {}",
                        currency.from_minor(opening.units),
                        currency.from_minor(net),
                        currency.from_minor(closing.units),
                        currency.code()
                    ),
                ));
            }
        }
        None
    }
}

/// The sum, or zero where it is larger than can be counted: such a statement fails its balances.
fn plus(left: Amount, right: Amount) -> Amount {
    left.decimal().checked_add(right.decimal()).map(Amount::from_decimal).unwrap_or_default()
}

/// An entry as far as it is read.
#[derive(Default)]
struct Draft {
    amount: Option<(Amount, Currency)>,
    credit: Option<bool>,
    status: Option<Status>,
    reversal: Option<bool>,
    booked_on: Option<NaiveDate>,
    value_on: Option<NaiveDate>,
    reference: Option<String>,
    entry_reference: Option<String>,
    code: BankCode,
    charges: Vec<(Amount, Currency)>,
    counted: Option<u64>,
    transactions: Vec<TransactionDraft>,
    information: Option<String>,
}

impl Draft {
    fn part(&mut self, name: &str, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        match name {
            "NtryRef" => self.entry_reference = some(xml.text()?),
            "Amt" => parts::once(&mut self.amount, parts::amount(xml)?, name, xml)?,
            "CdtDbtInd" => parts::once(&mut self.credit, parts::direction(xml)?, name, xml)?,
            "RvslInd" => parts::once(&mut self.reversal, parts::boolean(xml)?, name, xml)?,
            "Sts" => parts::once(&mut self.status, parts::status(xml)?, name, xml)?,
            "BookgDt" => parts::once(&mut self.booked_on, parts::date(xml)?, name, xml)?,
            "ValDt" => parts::once(&mut self.value_on, parts::date(xml)?, name, xml)?,
            "AcctSvcrRef" => self.reference = parts::reference(xml)?,
            "BkTxCd" => self.code = parts::bank_code(xml)?,
            "Chrgs" => parts::charges(xml, &mut self.charges)?,
            "AddtlNtryInf" => self.information = some(xml.text()?),
            "NtryDtls" => self.details(xml)?,
            _ => xml.skip()?,
        }
        if self.charges.len() > REPETITIONS_MAX {
            return Err(xml.place().unreadable(Cause::TooLarge, format!("an entry has more than {REPETITIONS_MAX} charges")));
        }
        Ok(())
    }

    fn details(&mut self, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "Btch" => {
                    self.counted = parts::batch(xml)?.map(|count| count.saturating_add(self.counted.unwrap_or_default())).or(self.counted)
                }
                "TxDtls" if self.transactions.len() == TRANSACTIONS_MAX => {
                    return Err(xml.place().unreadable(Cause::TooLarge, format!("an entry has more than {TRANSACTIONS_MAX} transactions")));
                }
                "TxDtls" => self.transactions.push(TransactionDraft::read(xml)?),
                _ => xml.skip()?,
            }
        }
        Ok(())
    }

    /// The entry without its identity, and the bank's reference of it.
    fn finish(self, statement: &Statement, place: Place) -> Result<(Entry, Option<String>), Unreadable> {
        let missing = |name: &str| place.unreadable(Cause::Malformed, format!("the entry has no {name}"));
        let (amount, currency) = self.amount.ok_or_else(|| missing("Amt"))?;
        let credit = self.credit.ok_or_else(|| missing("CdtDbtInd"))?;
        let status = self.status.ok_or_else(|| missing("Sts"))?;
        let only = self.transactions.len() == 1;
        let transactions: Vec<Transaction> =
            self.transactions.into_iter().map(|draft| draft.finish(amount, currency, credit, only)).collect();
        let reference = self.reference.or_else(|| match transactions.as_slice() {
            [only] => only.account_servicer_reference.clone(),
            _ => None,
        });
        let mut entry = Entry {
            account: statement.account.clone(),
            statement_id: statement.id.clone(),
            entry_id: reference.clone().or(self.entry_reference).unwrap_or_default(),
            identity: Identity::default(),
            status,
            credit,
            reversal: self.reversal.unwrap_or_default(),
            amount,
            currency,
            booked_on: self.booked_on,
            value_on: self.value_on,
            code: self.code,
            transactions,
            details: Details::default(),
            information: self.information,
            line: place.line,
            position: place.position,
        };
        reconcile(&mut entry, self.counted, parts::total(&self.charges, currency));
        Ok((entry, reference))
    }
}
