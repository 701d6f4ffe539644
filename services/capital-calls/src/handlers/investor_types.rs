//! How much investors of each type may promise to a fund.

use std::collections::HashMap;
use std::sync::Arc;

use ::domain::rules::concentration::{UNSPECIFIED, is_above, limit};
use ::domain::rules::{RuleBook, Rules};
use ::domain::{Amount, Reason, Rejection};
use chassis::{Fault, Tx};
use uuid::Uuid;

use crate::domain::FundCopy;
use crate::store;

/// What investors of each type have promised to funds whose rules limit that.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    book: Arc<RuleBook>,
    limited: HashMap<Uuid, Result<Rules, Rejection>>,
    types: HashMap<Uuid, String>,
    promised: HashMap<(Uuid, String), Amount>,
}

impl Promises {
    /// What there is. The funds are locked; where none of them has a limit nothing is read.
    pub async fn load(tx: &mut Tx, funds: &HashMap<Uuid, FundCopy>, investor_ids: &[Uuid]) -> Result<Promises, Fault> {
        let book = tx.rules();
        let rules = funds.values().map(|fund| (fund.id, book.rules(&fund.fund_type, fund.id)));
        // rules that contradict each other limit what they say nothing of
        let is_limit = |rules: &Result<Rules, Rejection>| rules.as_ref().map_or(true, |rules| !rules.investor_type_percents_max.is_empty());
        let limited: HashMap<Uuid, Result<Rules, Rejection>> = rules.filter(|(_, rules)| is_limit(rules)).collect();
        if limited.is_empty() {
            return Ok(Promises::default());
        }
        let types = store::investor_types(tx, investor_ids).await?;
        let promised = store::promised_by_type(tx, &limited.keys().copied().collect::<Vec<_>>()).await?;
        Ok(Promises { book, limited, types, promised })
    }

    /// Refuses what would be too much from one type of investor, and counts what is not.
    pub fn add(&mut self, fund: &FundCopy, investor_id: Uuid, amount: Amount) -> Result<(), Rejection> {
        self.check(fund, investor_id, amount)?;
        if self.limited.contains_key(&fund.id) {
            let of = self.types.get(&investor_id).map_or(UNSPECIFIED, String::as_str);
            *self.promised.entry((fund.id, of.to_owned())).or_default() += amount;
        }
        Ok(())
    }

    fn check(&self, fund: &FundCopy, investor_id: Uuid, amount: Amount) -> Result<(), Rejection> {
        let Some(rules) = self.limited.get(&fund.id) else { return Ok(()) };
        let rules = rules.as_ref().map_err(Clone::clone)?;
        let of = self.types.get(&investor_id).map_or(UNSPECIFIED, String::as_str);
        let after = self.promised.get(&(fund.id, of.to_owned())).copied().unwrap_or_default() + amount;
        if let Some(percent) = limit(&rules.investor_type_percents_max, of) {
            // asked again for a while: its owner tells it
            let size = fund.size.ok_or_else(|| Reason::UnknownFund.with(format!("the size of fund {} is not known yet", fund.id)))?;
            if amount.is_positive() && is_above(after, size, *percent) {
                let refused = Reason::InvestorTypeConcentration.with(format!(
                    "with {amount}, investors of type {of} would have promised {after} of the {size} of fund {}, at most {} percent may be",
                    fund.id, percent.0
                ));
                return Err(self.book.named(&fund.fund_type, fund.id, refused));
            }
        }
        Ok(())
    }

    /// What an investor of one type promises that one of another does no more.
    pub fn pass_on(&mut self, fund: &FundCopy, from: Uuid, to: Uuid, amount: Amount) -> Result<(), Rejection> {
        if self.types.get(&from) == self.types.get(&to) {
            return Ok(());
        }
        self.check(fund, from, -amount)?;
        self.add(fund, to, amount)?;
        self.add(fund, from, -amount)
    }
}
