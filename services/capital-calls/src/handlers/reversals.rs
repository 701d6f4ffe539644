//! Payments that are taken back.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{Payment, ReversePayment};
use chassis::{Answers, Batch, Fault, Handle, Tx};

use super::bank::reopen;
use super::ledger::Ledger;
use crate::{CapitalCalls, store};

impl Handle<ReversePayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ReversePayment>) -> Result<Answers<Payment>, Fault> {
        let ids = batch.ids(|command| command.payment_id);
        // entries come before lines: they are matched in that order
        let entries = store::lock_entries_of_payments(tx, &ids).await?;
        let mut ledger = Ledger::lock(tx, &ids).await?;
        let mut answers = Answers::new();
        let mut taken_back = HashMap::new();
        for sent in batch.iter() {
            let taken = ledger.check(tx, &sent.context, &sent.body);
            answers.push(match taken {
                Ok(reversal) => {
                    taken_back.insert(sent.body.payment_id, (&sent.context, sent.body.reason.as_str()));
                    Ok(ledger.take_back(tx, &sent.context, sent.body.payment_id, &reversal)?)
                }
                Err(rejection) => Err(rejection),
            });
        }
        ledger.save(tx).await?;
        reopen(tx, entries, &taken_back).await?;
        Ok(answers)
    }
}
