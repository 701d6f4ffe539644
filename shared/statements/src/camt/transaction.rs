//! A transaction within an entry.

use domain::{Amount, Currency};

use super::parts::{Sum, amount, charges, direction, once, party_account, party_name, reference, repeated, total};
use crate::entry::{ReturnReason, Transaction};
use crate::unreadable::Unreadable;
use crate::values::some;
use crate::xml::Xml;

/// A transaction as far as it is read.
#[derive(Default)]
pub(super) struct TransactionDraft {
    transaction: Transaction,
    amount: Option<Sum>,
    booked: Option<Sum>,
    instructed: Option<Sum>,
    credit: Option<bool>,
    charges: Vec<Sum>,
}

impl TransactionDraft {
    /// `TxDtls`.
    pub fn read(xml: &mut Xml<'_>) -> Result<TransactionDraft, Unreadable> {
        let mut draft = TransactionDraft::default();
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "Refs" => draft.references(xml)?,
                "Amt" => once(&mut draft.amount, amount(xml)?, &name, xml)?,
                "CdtDbtInd" => once(&mut draft.credit, direction(xml)?, &name, xml)?,
                "AmtDtls" => draft.amounts(xml)?,
                "Chrgs" => charges(xml, &mut draft.charges)?,
                "RltdPties" => draft.parties(xml)?,
                "RmtInf" => draft.remittance(xml)?,
                "RtrInf" => draft.transaction.return_reason = Some(return_reason(xml)?),
                "AddtlTxInf" => draft.transaction.information = some(xml.text()?),
                _ => xml.skip()?,
            }
            repeated(xml, draft.charges.len())?;
        }
        Ok(draft)
    }

    fn references(&mut self, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        let transaction = &mut self.transaction;
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "AcctSvcrRef" => transaction.account_servicer_reference = reference(xml)?,
                "InstrId" => transaction.instruction_id = some(xml.text()?),
                "EndToEndId" => transaction.end_to_end_id = reference(xml)?,
                "TxId" => transaction.transaction_id = some(xml.text()?),
                "UETR" => transaction.uetr = some(xml.text()?),
                _ => xml.skip()?,
            }
        }
        Ok(())
    }

    fn amounts(&mut self, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        while let Some(name) = xml.child()? {
            if !matches!(name.as_str(), "InstdAmt" | "TxAmt") {
                xml.skip()?;
                continue;
            }
            while let Some(inner) = xml.child()? {
                match (name.as_str(), inner.as_str()) {
                    ("InstdAmt", "Amt") => self.instructed = Some(amount(xml)?),
                    (_, "Amt") => self.booked = Some(amount(xml)?),
                    _ => xml.skip()?,
                }
            }
        }
        Ok(())
    }

    fn parties(&mut self, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        let Transaction { payer, payee, .. } = &mut self.transaction;
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "Dbtr" => payer.name = party_name(xml)?,
                "DbtrAcct" => payer.account = party_account(xml)?,
                "UltmtDbtr" => payer.ultimate_name = party_name(xml)?,
                "Cdtr" => payee.name = party_name(xml)?,
                "CdtrAcct" => payee.account = party_account(xml)?,
                "UltmtCdtr" => payee.ultimate_name = party_name(xml)?,
                _ => xml.skip()?,
            }
        }
        Ok(())
    }

    fn remittance(&mut self, xml: &mut Xml<'_>) -> Result<(), Unreadable> {
        let (mut lines, mut structured) = (Vec::new(), 0);
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "Ustrd" => lines.extend(some(xml.text()?)),
                "Strd" => {
                    structured += 1;
                    self.structured(xml, &mut lines)?;
                }
                _ => xml.skip()?,
            }
            repeated(xml, lines.len().max(structured))?;
        }
        self.transaction.remittance = some(lines.join(" "));
        Ok(())
    }

    fn structured(&mut self, xml: &mut Xml<'_>, lines: &mut Vec<String>) -> Result<(), Unreadable> {
        while let Some(name) = xml.child()? {
            match name.as_str() {
                "CdtrRefInf" => {
                    while let Some(name) = xml.child()? {
                        match name.as_str() {
                            "Ref" | "CdtrRef" => self.transaction.creditor_references.extend(some(xml.text()?)),
                            _ => xml.skip()?,
                        }
                    }
                }
                "AddtlRmtInf" => lines.extend(some(xml.text()?)),
                _ => xml.skip()?,
            }
            repeated(xml, lines.len().max(self.transaction.creditor_references.len()))?;
        }
        Ok(())
    }

    /// The transaction within its entry; `only` when it is the entry's only one, which then has the entry's amount
    /// if its own is not in the entry's currency.
    pub fn finish(mut self, entry: Amount, currency: Currency, credit: bool, only: bool) -> Transaction {
        let given = [self.amount, self.booked, self.instructed];
        let own = given.into_iter().flatten().find(|sum| sum.1 == currency).map(|sum| sum.0);
        self.transaction.amount = own.or(only.then_some(entry));
        self.transaction.instructed = given.into_iter().flatten().find(|sum| sum.1 != currency);
        self.transaction.opposite = self.credit.is_some_and(|own| own != credit);
        self.transaction.charges = total(&self.charges, currency);
        self.transaction
    }
}

/// `RtrInf`.
fn return_reason(xml: &mut Xml<'_>) -> Result<ReturnReason, Unreadable> {
    let (mut code, mut texts) = (None, Vec::new());
    while let Some(name) = xml.child()? {
        match name.as_str() {
            "Rsn" => code = some(xml.first_text()?),
            "AddtlInf" => texts.extend(some(xml.text()?)),
            _ => xml.skip()?,
        }
        repeated(xml, texts.len())?;
    }
    Ok(ReturnReason { code, text: some(texts.join(" ")) })
}
