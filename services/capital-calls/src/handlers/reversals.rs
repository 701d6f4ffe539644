//! Payments that are taken back.

use ::domain::messages::capital_calls::{Payment, ReversePayment};
use chassis::{Answers, Batch, Fault, Handle, Tx};

use super::ledger::Ledger;
use crate::CapitalCalls;

impl Handle<ReversePayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ReversePayment>) -> Result<Answers<Payment>, Fault> {
        let ids = batch.ids(|command| command.payment_id);
        let mut ledger = Ledger::lock(tx, &ids).await?;
        let mut answers = Answers::new();
        for sent in batch.iter() {
            let taken = ledger.check(tx, &sent.context, &sent.body);
            answers.push(match taken {
                Ok(reversal) => Ok(ledger.take_back(tx, &sent.context, sent.body.payment_id, &reversal)?),
                Err(rejection) => Err(rejection),
            });
        }
        ledger.save(tx).await?;
        Ok(answers)
    }
}
