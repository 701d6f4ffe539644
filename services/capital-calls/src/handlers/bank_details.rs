//! Bank details: proposed by one person, confirmed by another after a call back, used after a cooling-off time.
//!
//! What is secret is sealed before it is written, and nothing of it is in an event, an answer or a refusal. If the process dies
//! anywhere before the commit nothing has happened.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{
    BankDetails, BankDetailsChange, BankDetailsDecision, BankDetailsStatus, ConfirmBankDetails, DecideBankDetails, GetBankDetails,
    ListBankDetails, PaymentInstructions, ProposeBankDetails, RejectBankDetails, RevealBankDetails, RevealedBankDetails, masked_account,
};
use ::domain::money::same_currency;
use ::domain::rejection::check_text;
use ::domain::{Page, Reason, Rejection};
use chassis::sealing::{Sealed, salt};
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Sent, Show, Tx, cursor};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calls::REASON_CHARACTERS_MAX;
use crate::domain::FundCopy;
use crate::{CapitalCalls, domain, store};

/// The table whose rows are sealed.
pub const TABLE: &str = "bank_details";

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Secret {
    salt: String,
    instructions: PaymentInstructions,
    /// Whose they are: a row that is given to somebody else does not open.
    holder_id: Uuid,
}

impl Handle<ProposeBankDetails> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeBankDetails>) -> Result<Answers<BankDetails>, Fault> {
        let keys = tx.keys().await?;
        let fund_ids: Vec<Uuid> = batch.iter().filter_map(|sent| sent.body.fund_id).collect();
        let funds = store::funds(tx, &fund_ids).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let checked = match check_holder(tx, context, Wish::Decide, body.fund_id, body.investor_id).await? {
                Ok(()) => propose(tx, context, body, &funds),
                Err(rejection) => Err(rejection),
            };
            let (mut details, instructions) = match checked {
                Ok(proposed) => proposed,
                Err(rejection) => {
                    answers.push(Err(rejection));
                    continue;
                }
            };
            let secret = Secret { salt: salt()?, instructions, holder_id: holder_id(&details) };
            details.hash = domain::instructions_hash(&secret.salt, &secret.instructions);
            let sealed = keys.seal(TABLE, details.id, &serde_json::to_vec(&secret)?)?;
            answers.push(if store::insert_bank_details(tx, &details, &sealed).await? {
                tx.emit(context, &details, BankDetailsChange::Proposed)?;
                Ok(details)
            } else {
                Err(Reason::BankDetailsProposed.with(format!("others in {} wait for a second person", details.currency.code())))
            });
        }
        Ok(answers)
    }
}

fn propose(
    tx: &Tx,
    context: &Context,
    body: &ProposeBankDetails,
    funds: &HashMap<Uuid, FundCopy>,
) -> Result<(BankDetails, PaymentInstructions), Rejection> {
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    if let Some(fund_id) = body.fund_id {
        let fund = funds.get(&fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {fund_id}")))?;
        same_currency(fund.currency, body.currency)?;
    }
    let instructions = domain::written_instructions(&body.instructions)?;
    let details = BankDetails {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        fund_id: body.fund_id,
        investor_id: body.investor_id,
        currency: body.currency,
        account: masked_account(&instructions.account),
        hash: String::new(),
        decision: BankDetailsDecision::Proposed,
        proposed_by: context.actor.user.clone(),
        reason: body.reason.clone(),
        decided_by: None,
        call_back: None,
        usable_from: None,
        released_at: None,
        fund_type: body.fund_id.and_then(|fund_id| funds.get(&fund_id)).map(|fund| fund.fund_type.clone()),
        rejected_because: None,
        status: BankDetailsStatus::Proposed,
    };
    Ok((details, instructions))
}

fn holder_id(details: &BankDetails) -> Uuid {
    details.fund_id.or(details.investor_id).unwrap_or_default()
}

/// What is done with bank details.
#[derive(Clone, Copy)]
enum Wish {
    /// They are looked at, masked.
    See,
    /// They are changed, or shown in full: by who may do so for all funds that they are used for.
    Decide,
}

/// Refuses what is not of one holder, and a holder whom the actor may not see.
async fn check_holder(
    tx: &mut Tx,
    context: &Context,
    wish: Wish,
    fund_id: Option<Uuid>,
    investor_id: Option<Uuid>,
) -> Result<Result<(), Rejection>, Fault> {
    Ok(match (fund_id, investor_id) {
        (Some(fund_id), None) => context.actor.check_fund(fund_id),
        (None, Some(investor_id)) if store::known_investors(tx, &[investor_id]).await?.is_empty() => {
            Err(Reason::UnknownInvestor.with(format!("investor {investor_id}")))
        }
        (None, Some(investor_id)) => {
            let Some(scope) = context.actor.scope.funds().map(<[Uuid]>::to_vec) else { return Ok(Ok(())) };
            let (seen, unseen) = store::invests_in(tx, investor_id, &scope).await?;
            match wish {
                Wish::See if seen > 0 => Ok(()),
                Wish::Decide if seen > 0 && unseen == 0 => Ok(()),
                _ => Err(Reason::FundOutOfScope
                    .with(format!("of the funds of investor {investor_id} {} may see {seen}, and {unseen} not", context.actor.user))),
            }
        }
        _ => Err(Reason::MalformedRequest.with("give either fund_id or investor_id")),
    })
}

/// Decides about bank details that are locked.
async fn decide_all<C: ::domain::Command<Reply = BankDetails>>(
    tx: &mut Tx,
    batch: &Batch<C>,
    id: impl Fn(&C) -> Uuid,
    decide: impl Fn(&Tx, &Context, &C, &mut BankDetails) -> Result<BankDetailsChange, Rejection>,
) -> Result<Answers<BankDetails>, Fault> {
    let mut found = store::lock_bank_details(tx, &batch.ids(&id)).await?;
    let mut answers = Answers::new();
    for Sent { context, body, .. } in batch.iter() {
        let details = found.get_mut(&id(body)).ok_or_else(|| unknown(id(body)));
        let decided = match details {
            Err(rejection) => Err(rejection),
            Ok(details) => match check_holder(tx, context, Wish::Decide, details.fund_id, details.investor_id).await? {
                Ok(()) => decide(tx, context, body, details).map(|change| (details, change)),
                Err(rejection) => Err(rejection),
            },
        };
        answers.push(match decided {
            Err(rejection) => Err(rejection),
            Ok((details, change)) => {
                details.version += 1;
                details.status = domain::bank_details_status(details, false, tx.now());
                store::save_bank_details(tx, details).await?;
                tx.emit(context, &*details, change)?;
                Ok(details.clone())
            }
        });
    }
    Ok(answers)
}

fn unknown(id: Uuid) -> Rejection {
    Reason::UnknownBankDetails.with(format!("bank details {id}"))
}

impl Handle<ConfirmBankDetails> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ConfirmBankDetails>) -> Result<Answers<BankDetails>, Fault> {
        let mut types = HashMap::new();
        for (id, details) in store::lock_bank_details(tx, &batch.ids(|command| command.bank_details_id)).await? {
            let fund = store::funds(tx, details.fund_id.as_slice()).await?.into_values().next();
            types.insert(id, fund.map(|fund| fund.fund_type));
        }
        let decide = |tx: &Tx, context: &Context, body: &ConfirmBankDetails, details: &mut BankDetails| {
            let fund_type = types.get(&details.id).and_then(Option::as_deref);
            // the merged layers: a contradiction about amounts holds up no bank details
            let hours = tx.rules().merged(fund_type, details.fund_id).cooling_off_hours.unwrap_or_default();
            domain::confirm(details, &context.actor.user, &body.hash, &body.call_back, tx.now(), TimeDelta::hours(hours.into()))?;
            Ok(BankDetailsChange::Confirmed)
        };
        decide_all(tx, batch, |command| command.bank_details_id, decide).await
    }
}

impl Handle<RejectBankDetails> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RejectBankDetails>) -> Result<Answers<BankDetails>, Fault> {
        let decide = |tx: &Tx, context: &Context, body: &RejectBankDetails, details: &mut BankDetails| {
            check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
            domain::reject(details, &context.actor.user, &body.reason, tx.now())?;
            Ok(BankDetailsChange::Rejected)
        };
        decide_all(tx, batch, |command| command.bank_details_id, decide).await
    }
}

impl Handle<DecideBankDetails> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideBankDetails>) -> Result<Answers<BankDetails>, Fault> {
        let decide = |tx: &Tx, context: &Context, body: &DecideBankDetails, details: &mut BankDetails| match &body.rejected_because {
            None => domain::release(details, &body.hash, tx.now()).map(|()| BankDetailsChange::Released),
            Some(reason) => domain::reject(details, &context.actor.user, reason, tx.now()).map(|()| BankDetailsChange::Rejected),
        };
        decide_all(tx, batch, |command| command.bank_details_id, decide).await
    }
}

/// Bank details that the actor may see, and what is sealed of them.
async fn find(tx: &mut Tx, context: &Context, wish: Wish, id: Uuid) -> Answer<(BankDetails, Sealed)> {
    let (details, sealed) = store::find_bank_details(tx, id).await?.ok_or_else(|| unknown(id))?;
    check_holder(tx, context, wish, details.fund_id, details.investor_id).await??;
    Ok((details, sealed))
}

impl Show<GetBankDetails> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetBankDetails) -> Answer<BankDetails> {
        Ok(find(tx, context, Wish::See, query.bank_details_id).await?.0)
    }
}

impl Show<ListBankDetails> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListBankDetails) -> Answer<Page<BankDetails>> {
        check_holder(tx, context, Wish::See, query.fund_id, query.investor_id).await??;
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let holder_id = query.fund_id.or(query.investor_id).unwrap_or_default();
        let found = store::list_bank_details(tx, holder_id, before, limit + 1).await?;
        Ok(Page::cut(found, limit, |last| cursor::write(&last.id)))
    }
}

impl Show<RevealBankDetails> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, query: RevealBankDetails) -> Answer<RevealedBankDetails> {
        let (details, sealed) = find(tx, context, Wish::Decide, query.bank_details_id).await?;
        let secret: Secret = serde_json::from_slice(&tx.keys().await?.open(TABLE, details.id, &sealed)?).map_err(Fault::from)?;
        if secret.holder_id != holder_id(&details) || domain::instructions_hash(&secret.salt, &secret.instructions) != details.hash {
            return Err(Fault::Fatal(format!("the row of bank details {} is not what was confirmed", details.id)).into());
        }
        Ok(RevealedBankDetails { bank_details_id: details.id, instructions: secret.instructions, salt: secret.salt, hash: details.hash })
    }
}
