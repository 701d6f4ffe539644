//! BAI2 (Cash Management Balance Reporting Specifications, version 2, of the Bank Administration Institute).
//!
//! Amounts are in minor units of the account's currency, else the group's, else USD. All control totals and counts
//! are checked: 49 counts its own and every record of its account, continuations too; 98 those of its group and 99 those of the
//! file, themselves too. A control total is the algebraic sum of the amounts of the records 03 and 16;
//! amounts by availability are not part of it.

mod records;

use chrono::NaiveDate;
use domain::Currency;

use crate::entry::{Account, BankCode, Details, Entry, Status, Transaction};
use crate::identity::{Identities, Identity};
use crate::limits::BALANCES_MAX;
use crate::source::Source;
use crate::unreadable::{Cause, Place, Unreadable, excerpt};
use crate::values::{self, compact, some};
use records::{Fields, Record, Records};

/// Types that undo an earlier entry, of appendix A: 252 debit reversal, 254 and 554 posting error corrections, 255 check posted and returned, 257
/// individual ACH return item, 258 ACH reversal credit, 261 individual rejected credit, 266 return item, 552 credit reversal, 555 deposited item
/// returned, 557 individual ACH return item, 558 ACH reversal debit, 561 individual rejected debit, 566 return item.
const REVERSALS: [u16; 14] = [252, 254, 255, 257, 258, 261, 266, 552, 554, 555, 557, 558, 561, 566];

/// Most parts of a distributed availability (`D`); the specification shows three.
const PARTS_MAX: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Outside,
    File,
    Group,
    Account,
}

/// What the records so far add up to.
#[derive(Clone, Copy, Default)]
struct Totals {
    units: i128,
    members: u64,
    records: u64,
}

pub(crate) struct Bai2<'a> {
    records: Records<'a>,
    level: Level,
    files: usize,
    file_id: String,
    group: Group,
    account: Account,
    currency: Option<Currency>,
    /// Of file, group and account.
    totals: [Totals; 3],
    identities: Identities,
}

#[derive(Default)]
struct Group {
    originator: String,
    as_of: Option<NaiveDate>,
    currency: Option<Currency>,
    interim: bool,
}

impl<'a> Bai2<'a> {
    pub fn new(source: Source<'a>) -> Self {
        Bai2 {
            records: Records::new(source),
            level: Level::Outside,
            files: 0,
            file_id: String::new(),
            group: Group::default(),
            account: Account::default(),
            currency: None,
            totals: [Totals::default(); 3],
            identities: Identities::default(),
        }
    }

    /// The next entry, or none at the end of a file that is whole.
    pub fn entry(&mut self) -> Result<Option<Entry>, Unreadable> {
        loop {
            let Some(record) = self.records.next()? else {
                return match (self.level, self.files) {
                    (Level::Outside, 1..) => Ok(None),
                    _ => Err(self.records.place().unreadable(Cause::Truncated, "the file ends before its trailer (99)")),
                };
            };
            match (record.code.as_str(), self.level) {
                ("01", Level::Outside) => self.file_header(&record)?,
                ("02", Level::File) => self.group_header(&record)?,
                ("03", Level::Group) => self.account_identifier(&record)?,
                ("16", Level::Account) => return self.detail(&record).map(Some),
                ("49", Level::Account) => self.trailer(&record, Level::Group, 2)?,
                ("98", Level::Group) => self.trailer(&record, Level::File, 1)?,
                ("99", Level::File) => {
                    self.trailer(&record, Level::Outside, 0)?;
                    self.files += 1;
                }
                _ => return Err(record.malformed(&format!("does not belong here: the reader is within {:?}", self.level))),
            }
        }
    }

    fn file_header(&mut self, record: &Record) -> Result<(), Unreadable> {
        let mut fields = record.fields()?;
        let header: Vec<&str> = std::iter::from_fn(|| fields.field()).take(8).collect();
        let [_, _, created, _, id, _, _, version] = header[..] else { return Err(record.malformed("has not its eight fields")) };
        if !matches!(version, "2" | "") {
            return Err(record.place.unreadable(Cause::WrongFormat, format!("BAI version {:?} is not read, only 2", excerpt(version))));
        }
        self.file_id = format!("{created}/{id}");
        (self.level, self.totals[0]) = (Level::File, Totals { records: record.lines, ..Totals::default() });
        Ok(())
    }

    fn group_header(&mut self, record: &Record) -> Result<(), Unreadable> {
        let mut fields = record.fields()?;
        let (_receiver, originator, status) = (fields.or_empty(), fields.or_empty(), fields.or_empty());
        match status {
            "1" | "3" => {}
            "2" => return Err(record.place.unreadable(Cause::WrongFormat, "a group that deletes an earlier one (status 2) is not read")),
            "4" => return Err(record.place.unreadable(Cause::WrongFormat, "a group for test only (status 4) is not read")),
            other => return Err(record.malformed(&format!("has the group status {:?}", excerpt(other)))),
        }
        let as_of = date(fields.or_empty(), record.place)?;
        let (_time, currency, modifier) = (fields.or_empty(), fields.or_empty(), fields.or_empty());
        let currency = if currency.is_empty() { "USD" } else { currency };
        self.group = Group {
            originator: originator.to_owned(),
            as_of,
            currency: Some(values::currency(currency, record.place)?),
            interim: modifier == "3",
        };
        (self.level, self.totals[1]) = (Level::Group, Totals { records: record.lines, ..Totals::default() });
        Ok(())
    }

    fn account_identifier(&mut self, record: &Record) -> Result<(), Unreadable> {
        let mut fields = record.fields()?;
        let (id, currency) = (compact(fields.or_empty()), fields.or_empty());
        if id.is_empty() {
            return Err(record.malformed("has no account number"));
        }
        self.currency = if currency.is_empty() { self.group.currency } else { Some(values::currency(currency, record.place)?) };
        self.account = Account { id, currency: self.currency, name: None, servicer: some(self.group.originator.clone()) };
        let (mut units, mut summaries) = (0, 0);
        while let Some(_type_code) = fields.field() {
            summaries += 1;
            if summaries > BALANCES_MAX {
                return Err(record.place.unreadable(Cause::TooLarge, format!("an account has more than {BALANCES_MAX} summaries")));
            }
            let amount = amount(fields.or_empty(), record.place)?;
            units += amount;
            let _item_count = fields.or_empty();
            funds(&mut fields, amount, record)?;
        }
        (self.level, self.totals[2]) = (Level::Account, Totals { units, members: 0, records: record.lines });
        Ok(())
    }

    fn detail(&mut self, record: &Record) -> Result<Entry, Unreadable> {
        let mut fields = record.fields_with_text();
        let code = fields.or_empty();
        let kind =
            code.parse::<u16>().ok().filter(|_| code.len() == 3).ok_or_else(|| record.malformed("has no type code of three digits"))?;
        let (credit, told_only) =
            direction(kind).ok_or_else(|| record.malformed(&format!("has the type {code}, which has no direction")))?;
        let units = amount(fields.or_empty(), record.place)?;
        if units < 0 {
            return Err(record
                .place
                .unreadable(Cause::InvalidAmount, format!("the amount {units} is negative; the type {code} gives the direction")));
        }
        let available = funds(&mut fields, units, record)?;
        let (bank_reference, customer_reference) = (some(fields.or_empty()), some(fields.or_empty()));
        let remittance = values::tidy(fields.text().trim_start_matches('/')).and_then(some);
        let Some(currency) = self.currency else { return Err(record.malformed("has no currency")) };
        let money = currency.from_minor(units);
        let transaction = Transaction {
            amount: Some(money),
            end_to_end_id: customer_reference,
            account_servicer_reference: bank_reference.clone(),
            remittance,
            ..Transaction::default()
        };
        let mut entry = Entry {
            account: self.account.clone(),
            statement_id: Some(format!("{}/{}", self.file_id, self.group.as_of.map(|date| date.to_string()).unwrap_or_default())),
            entry_id: bank_reference.clone().unwrap_or_default(),
            identity: Identity::default(),
            status: match (told_only, self.group.interim) {
                (true, _) => Status::Information,
                (_, true) => Status::Pending,
                _ => Status::Booked,
            },
            credit,
            reversal: REVERSALS.contains(&kind),
            amount: money,
            currency,
            booked_on: self.group.as_of,
            value_on: match available {
                Available::On(date) => Some(date),
                Available::Immediately => self.group.as_of,
                Available::Otherwise => None,
            },
            code: BankCode { proprietary: Some(code.to_owned()), ..BankCode::default() },
            transactions: vec![transaction],
            details: Details::Complete,
            information: None,
            line: record.place.line,
            position: record.place.position,
        };
        self.identities.name(&mut entry, bank_reference.as_deref())?;
        let totals = &mut self.totals[2];
        (totals.units, totals.records) = (totals.units + units, totals.records + record.lines);
        Ok(entry)
    }

    /// Compares a trailer with what was read, and adds that to the level above.
    fn trailer(&mut self, record: &Record, above: Level, level: usize) -> Result<(), Unreadable> {
        let mut fields = record.fields()?;
        let stated = values::minor_units(fields.or_empty(), record.place)?;
        let counts: Vec<u64> = std::iter::from_fn(|| fields.field()).map_while(|field| field.parse().ok()).take(2).collect();
        let read = Totals { records: self.totals[level].records + record.lines, ..self.totals[level] };
        let differ = |what: String| Err(record.place.unreadable(Cause::DoesNotAddUp, format!("the record {} states {what}", record.code)));
        if stated != read.units {
            return differ(format!("a control total of {stated}, the amounts add up to {}", read.units));
        }
        let (members, records) = match (level, counts.as_slice()) {
            (2, [records]) => (read.members, *records),
            (0 | 1, [members, records]) => (*members, *records),
            _ => return Err(record.malformed("has not its counts")),
        };
        if members != read.members {
            return differ(format!("{members} groups or accounts, there are {}", read.members));
        }
        if records != read.records {
            return differ(format!("{records} records, there are {}", read.records));
        }
        if let Some(outer) = level.checked_sub(1).and_then(|outer| self.totals.get_mut(outer)) {
            (outer.units, outer.members, outer.records) = (outer.units + read.units, outer.members + 1, outer.records + read.records);
        }
        self.level = above;
        Ok(())
    }
}

/// Whether a type is a credit, and whether it only tells something. 100 to 399 are credits, 400 to 699 debits, 720 to 729 loan payments, 760 a loan
/// disbursement, 890 to 899 carry no money, 920 to 959 the bank's own credits, 960 to 999 its own debits.
const fn direction(kind: u16) -> Option<(bool, bool)> {
    match kind {
        100..=399 | 720..=729 | 920..=959 => Some((true, false)),
        400..=699 | 760 | 960..=999 => Some((false, false)),
        890..=899 => Some((true, true)),
        _ => None,
    }
}

/// When money can be used.
enum Available {
    Immediately,
    On(NaiveDate),
    Otherwise,
}

/// Reads a funds type with the fields that belong to it; amounts by availability must add up to the amount.
fn funds(fields: &mut Fields<'_>, units: i128, record: &Record) -> Result<Available, Unreadable> {
    let place = record.place;
    let mut parts = Vec::new();
    let available = match fields.or_empty() {
        "" | "1" | "2" | "Z" => Available::Otherwise,
        "0" => Available::Immediately,
        "V" => {
            let on = date(fields.or_empty(), place)?;
            let _time = fields.or_empty();
            on.map_or(Available::Otherwise, Available::On)
        }
        "S" => {
            for _ in 0..3 {
                parts.push(amount(fields.or_empty(), place)?);
            }
            Available::Otherwise
        }
        "D" => {
            let count = fields.or_empty().parse::<u64>().ok().filter(|count| *count <= PARTS_MAX);
            for _ in 0..count.ok_or_else(|| record.malformed("has no plausible number of availabilities (funds type D)"))? {
                let _days = fields.or_empty();
                parts.push(amount(fields.or_empty(), place)?);
            }
            Available::Otherwise
        }
        other => return Err(record.malformed(&format!("has the funds type {:?}, expected 0, 1, 2, S, V, D or Z", excerpt(other)))),
    };
    if !parts.is_empty() && parts.iter().sum::<i128>() != units {
        return Err(place.unreadable(Cause::DoesNotAddUp, format!("the amounts by availability do not add up to {units}")));
    }
    Ok(available)
}

/// An amount in minor units; one that is omitted is zero.
fn amount(text: &str, place: Place) -> Result<i128, Unreadable> {
    if text.is_empty() { Ok(0) } else { values::minor_units(text, place) }
}

/// A date of six digits, or of eight as some banks write it; none when it is omitted.
fn date(text: &str, place: Place) -> Result<Option<NaiveDate>, Unreadable> {
    let format = match text.len() {
        0 => return Ok(None),
        8 => "%Y%m%d",
        _ => "%y%m%d",
    };
    if !matches!(text.len(), 6 | 8) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(place.unreadable(Cause::InvalidDate, format!("{:?} is not a date of six digits (YYMMDD)", excerpt(text))));
    }
    values::date_by(text, format, place).map(Some)
}
