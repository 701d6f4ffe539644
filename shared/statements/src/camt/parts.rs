//! The parts of a statement. Elements that are not read are passed over, so that new versions read as old ones.

use chrono::NaiveDate;
use domain::{Amount, Currency};

use super::statement::{Balance, Stated, Summary};
use crate::entry::{Account, BankCode, Status};
use crate::limits::REPETITIONS_MAX;
use crate::unreadable::{Cause, Unreadable, excerpt};
use crate::values::{self, compact, some};
use crate::xml::{Step, Xml};

/// What stands where a reference is mandatory and there is none (EPC rule books, SWIFT usage, banks).
const NOT_PROVIDED: [&str; 4] = ["NOTPROVIDED", "NONREF", "NOREF", "NOTAVAILABLE"];

/// Keeps what an element says that stands once: where it stands twice nobody knows which is meant.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, name: &str, xml: &Xml<'_>) -> Result<(), Unreadable> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => malformed(xml, format!("{name} stands twice")),
    }
}

/// An amount in its currency.
pub(super) type Sum = (Amount, Currency);

fn malformed<T>(xml: &Xml<'_>, what: impl Into<String>) -> Result<T, Unreadable> {
    Err(xml.place().unreadable(Cause::Malformed, what))
}

/// `Amt Ccy="..."`.
pub(super) fn amount(xml: &mut Xml<'_>) -> Result<Sum, Unreadable> {
    let place = xml.place();
    let Some(code) = xml.currency() else { return malformed(xml, "an amount has no currency (Ccy)") };
    let currency = values::currency(&code, place)?;
    Ok((values::decimal(&xml.text()?, currency, place)?, currency))
}

/// `CdtDbtInd`: whether it is a credit.
pub(super) fn direction(xml: &mut Xml<'_>) -> Result<bool, Unreadable> {
    match xml.text()?.as_str() {
        "CRDT" => Ok(true),
        "DBIT" => Ok(false),
        other => malformed(xml, format!("{:?} is neither CRDT nor DBIT", excerpt(other))),
    }
}

/// A boolean of XML Schema.
pub(super) fn boolean(xml: &mut Xml<'_>) -> Result<bool, Unreadable> {
    match xml.text()?.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => malformed(xml, format!("{:?} is neither true nor false", excerpt(other))),
    }
}

/// `Sts`: a code as text until version 06 or so, a choice of code and the bank's own word after it.
pub(super) fn status(xml: &mut Xml<'_>) -> Result<Status, Unreadable> {
    let place = xml.place();
    let (mut text, mut own) = (String::new(), false);
    while let Step::Open(child) = xml.step(Some(&mut text))? {
        own |= child != "Cd";
        text = xml.first_text()?;
    }
    match text.trim() {
        "BOOK" => Ok(Status::Booked),
        "PDNG" | "FUTR" => Ok(Status::Pending),
        "INFO" => Ok(Status::Information),
        _ if own => Ok(Status::Information),
        other => Err(place.unreadable(Cause::Malformed, format!("{:?} is not a status of an entry", excerpt(other)))),
    }
}

/// A choice of `Dt` and `DtTm`.
pub(super) fn date(xml: &mut Xml<'_>) -> Result<NaiveDate, Unreadable> {
    let place = xml.place();
    values::iso_date(&xml.first_text()?, place)
}

/// A reference, or none where the bank writes a word for none.
pub(super) fn reference(xml: &mut Xml<'_>) -> Result<Option<String>, Unreadable> {
    Ok(some(xml.text()?).filter(|text| !NOT_PROVIDED.contains(&text.as_str())))
}

fn count(xml: &mut Xml<'_>) -> Result<u64, Unreadable> {
    let text = xml.text()?;
    match text.parse() {
        Ok(count) => Ok(count),
        Err(_) => malformed(xml, format!("{:?} is not a count", excerpt(&text))),
    }
}

/// `GrpHdr`: whether it is one page of several.
pub(super) fn group_header(xml: &mut Xml<'_>) -> Result<bool, Unreadable> {
    let mut paged = false;
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "MsgPgntn" => paged = pagination(xml)?,
            _ => xml.skip()?,
        }
    }
    Ok(paged)
}

/// `StmtPgntn` and the like: whether it is one page of several.
pub(super) fn pagination(xml: &mut Xml<'_>) -> Result<bool, Unreadable> {
    let (mut first, mut last) = (true, true);
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "PgNb" => first = count(xml)? == 1,
            "LastPgInd" => last = boolean(xml)?,
            _ => xml.skip()?,
        }
    }
    Ok(!(first && last))
}

/// `Acct`.
pub(super) fn account(xml: &mut Xml<'_>) -> Result<Account, Unreadable> {
    let (mut account, mut owner) = (Account::default(), None);
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Id" => account.id = account_id(xml)?.unwrap_or_default(),
            "Ccy" => {
                let place = xml.place();
                account.currency = Some(values::currency(&xml.text()?, place)?);
            }
            "Nm" => account.name = some(xml.text()?),
            "Ownr" => owner = party_name(xml)?,
            "Svcr" => account.servicer = servicer(xml)?,
            _ => xml.skip()?,
        }
    }
    account.name = account.name.or(owner);
    Ok(account)
}

/// The `Id` of an account: IBAN, or what stands under `Othr`.
fn account_id(xml: &mut Xml<'_>) -> Result<Option<String>, Unreadable> {
    let mut id = None;
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "IBAN" => id = some(compact(&xml.text()?).to_uppercase()),
            "Othr" => {
                while let Some(name) = xml.child()? {
                    match name.as_str() {
                        "Id" => id = id.or(some(compact(&xml.text()?))),
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
    }
    Ok(id)
}

pub(super) fn party_account(xml: &mut Xml<'_>) -> Result<Option<String>, Unreadable> {
    let mut id = None;
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Id" => id = account_id(xml)?,
            _ => xml.skip()?,
        }
    }
    Ok(id)
}

fn servicer(xml: &mut Xml<'_>) -> Result<Option<String>, Unreadable> {
    let (mut bic, mut other) = (None, None);
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "FinInstnId" => {
                while let Some(name) = xml.child()? {
                    match name.as_str() {
                        "BIC" | "BICFI" => bic = some(xml.text()?),
                        "ClrSysMmbId" | "Othr" => {
                            while let Some(name) = xml.child()? {
                                match name.as_str() {
                                    "MmbId" | "Id" => other = other.or(some(xml.text()?)),
                                    _ => xml.skip()?,
                                }
                            }
                        }
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
    }
    Ok(bic.or(other))
}

/// The name of a party: `Nm` until version 07 or so, `Pty/Nm` or `Agt/FinInstnId/Nm` after it.
pub(super) fn party_name(xml: &mut Xml<'_>) -> Result<Option<String>, Unreadable> {
    let mut found = None;
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Nm" => found = some(xml.text()?),
            "Pty" | "Agt" | "FinInstnId" => found = party_name(xml)?.or(found),
            _ => xml.skip()?,
        }
    }
    Ok(found)
}

/// `Bal`; none for a balance whose code is the bank's own.
pub(super) fn balance(xml: &mut Xml<'_>) -> Result<Option<Balance>, Unreadable> {
    let (mut code, mut sum, mut credit, mut on) = (String::new(), None, None, None);
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Tp" => {
                while let Some(name) = xml.child()? {
                    match name.as_str() {
                        "CdOrPrtry" => code = xml.first_text()?,
                        _ => xml.skip()?,
                    }
                }
            }
            "Amt" => once(&mut sum, amount(xml)?, &name, xml)?,
            "CdtDbtInd" => once(&mut credit, direction(xml)?, &name, xml)?,
            "Dt" => once(&mut on, date(xml)?, &name, xml)?,
            _ => xml.skip()?,
        }
    }
    let (Some((amount, currency)), Some(credit)) = (sum, credit) else { return malformed(xml, "a balance has no Amt or no CdtDbtInd") };
    let units = amount.minor(currency);
    Ok(Some(Balance { code, on, currency, units: if credit { units } else { -units } }))
}

/// `TxsSummry`.
pub(super) fn summary(xml: &mut Xml<'_>) -> Result<Summary, Unreadable> {
    let mut summary = Summary::default();
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "TtlNtries" => summary.all = stated(xml)?,
            "TtlCdtNtries" => summary.credits = stated(xml)?,
            "TtlDbtNtries" => summary.debits = stated(xml)?,
            _ => xml.skip()?,
        }
    }
    Ok(summary)
}

fn stated(xml: &mut Xml<'_>) -> Result<Stated, Unreadable> {
    let mut stated = Stated::default();
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "NbOfNtries" => stated.entries = Some(count(xml)?),
            "Sum" => {
                let sum = xml.text()?;
                let short = if sum.contains('.') { sum.trim_end_matches('0').trim_end_matches('.') } else { &sum };
                stated.sum = Some(short.trim_start_matches('+').to_owned());
            }
            _ => xml.skip()?,
        }
    }
    Ok(stated)
}

/// `BkTxCd`.
pub(super) fn bank_code(xml: &mut Xml<'_>) -> Result<BankCode, Unreadable> {
    let mut code = BankCode::default();
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Domn" => {
                while let Some(name) = xml.child()? {
                    match name.as_str() {
                        "Cd" => code.domain = some(xml.text()?),
                        "Fmly" => {
                            while let Some(name) = xml.child()? {
                                match name.as_str() {
                                    "Cd" => code.family = some(xml.text()?),
                                    "SubFmlyCd" => code.sub_family = some(xml.text()?),
                                    _ => xml.skip()?,
                                }
                            }
                        }
                        _ => xml.skip()?,
                    }
                }
            }
            "Prtry" => code.proprietary = some(xml.first_text()?),
            _ => xml.skip()?,
        }
    }
    Ok(code)
}

/// `Chrgs`: the total where it is given, else the records; directly in version 02, under `Rcrd` later.
pub(super) fn charges(xml: &mut Xml<'_>, charges: &mut Vec<Sum>) -> Result<(), Unreadable> {
    let (mut total, mut records) = (None, Vec::new());
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "TtlChrgsAndTaxAmt" => total = Some(amount(xml)?),
            "Amt" => records.push(amount(xml)?),
            "Rcrd" => {
                while let Some(name) = xml.child()? {
                    match name.as_str() {
                        "Amt" => records.push(amount(xml)?),
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
        repeated(xml, records.len())?;
    }
    match total {
        Some(total) => charges.push(total),
        None => charges.extend(records),
    }
    Ok(())
}

pub(super) fn repeated(xml: &Xml<'_>, count: usize) -> Result<(), Unreadable> {
    if count <= REPETITIONS_MAX {
        return Ok(());
    }
    Err(xml.place().unreadable(Cause::TooLarge, format!("an element comes more than {REPETITIONS_MAX} times")))
}

/// The sum of charges in the entry's currency, or none.
pub(super) fn total(charges: &[Sum], currency: Currency) -> Option<Amount> {
    let units =
        charges.iter().filter(|charge| charge.1 == currency).map(|charge| charge.0.minor(currency)).reduce(|left, right| left + right);
    units.map(|units| currency.from_minor(units))
}

/// `Btch`: the number of transactions that the bank counts.
pub(super) fn batch(xml: &mut Xml<'_>) -> Result<Option<u64>, Unreadable> {
    let mut counted = None;
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "NbOfTxs" => counted = Some(count(xml)?),
            _ => xml.skip()?,
        }
    }
    Ok(counted)
}
