//! The handlers: load what a batch touches, decide each command, store what changed.

use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::capital_calls::{CallLine, Investor, InvestorChange, RegisterInvestor};
use ::domain::rejection::check_text;
use ::domain::{Reason, Rejection, calendar};
use chassis::{Answers, Batch, Fault, Follow, Handle, Seen, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use crate::{CapitalCalls, store};

mod amendments;
mod bank;
pub mod bank_details;
mod calls;
mod closings;
mod commitments;
mod covers;
mod credit;
mod defaults;
mod equalise;
pub mod imports;
mod investor_types;
mod issue;
mod late;
mod ledger;
mod matching;
mod payments;
mod refunds;
mod rescind;
mod reversals;
mod show;

impl Follow<Fund> for CapitalCalls {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        store::copy_funds(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_funds(tx, ids).await
    }
}

impl Follow<Allocation> for CapitalCalls {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        store::copy_allocations(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_allocations(tx, ids).await
    }
}

impl Handle<RegisterInvestor> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RegisterInvestor>) -> Result<Answers<Investor>, Fault> {
        let mut added = Vec::new();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let checked = check_text("name", &body.name, 200)
                .and_then(|()| check_email(body.email.as_deref()))
                .and_then(|()| body.investor_type.as_ref().map_or(Ok(()), |of| check_text("investor_type", of, 60)));
            answers.push(checked.map(|()| Investor {
                id: tx.new_id(),
                version: 1,
                created_at: tx.now(),
                name: body.name.clone(),
                email: body.email.clone(),
                investor_type: body.investor_type.clone(),
                status: "active".into(),
            }));
            if let Some(Ok(investor)) = answers.last() {
                added.push(investor.clone());
                tx.emit(context, investor, InvestorChange::Registered)?;
            }
        }
        store::insert_investors(tx, &added).await?;
        Ok(answers)
    }
}

fn check_email(email: Option<&str>) -> Result<(), Rejection> {
    let Some(email) = email else { return Ok(()) };
    check_text("email", email, 254)?;
    match email.split_once('@') {
        Some((local, host)) if !local.is_empty() && host.contains('.') && !email.contains(char::is_whitespace) => Ok(()),
        _ => Err(Reason::InvalidText.with(format!("email {email:?} is not a mail address"))),
    }
}

/// The business date of a line's fund.
fn today_of(tx: &Tx, line: &CallLine) -> NaiveDate {
    tx.today(calendar::timezone(&line.timezone).unwrap_or_default())
}
