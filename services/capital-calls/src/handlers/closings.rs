//! Later closings: investors who join, and what they owe for the calls before.

use std::collections::{BTreeMap, HashMap, HashSet};

use ::domain::messages::capital_calls::{
    CLOSING_CALLS_MAX, CLOSING_COMMITMENTS_MAX, CallEqualised, CapitalCall, Closing, ClosingShare, ClosingView, Commitment,
    CommitmentEntry, EntryKind, HoldClosing, LinePreview, PreviewClosing,
};
use ::domain::rules::Transition;
use ::domain::{Amount, Reason, Rejection, calendar, interest};
use chassis::row::sorted_ids;
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Sent, Show, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::today;
use super::commitments::{Entered, blank, check_investor, enter};
use super::covers::check_not_covered;
use super::equalise::{Held, hold};
use super::investor_types::Promises;
use super::issue::Books;
use crate::domain::{self, Earlier, Equalisation, FundCopy, LineTerms, Recorded};
use crate::{CapitalCalls, store};

/// What a closing is planned with.
struct Before<'a> {
    fund: &'a FundCopy,
    commitments: &'a [Commitment],
    /// All entries of the fund's commitments.
    entries: &'a [Recorded],
    /// The calls that are shared anew, in the order in which they were issued.
    calls: Vec<Earlier<'a>>,
    investors: &'a [Uuid],
    promises: &'a Promises,
}

/// What a closing does.
pub struct Plan {
    /// The closing.
    pub closing: Closing,
    /// What it comes to for each investor.
    pub shares: Vec<ClosingShare>,
    /// The commitments that it changes, with their entries.
    pub entered: Vec<(Commitment, CommitmentEntry)>,
    /// The lines that each call would have.
    pub shared: Vec<Vec<LinePreview>>,
    /// Who owes interest.
    pub owed: BTreeMap<Uuid, Amount>,
    /// Of new lines.
    pub terms: LineTerms,
    /// The business date of the fund.
    pub today: NaiveDate,
}

fn mismatch<T>(why: String) -> Result<T, Rejection> {
    Err(Reason::ClosingMismatch.with(why))
}

fn check(context: &Context, body: &HoldClosing) -> Result<(), Rejection> {
    context.actor.check_fund(body.fund_id)?;
    calendar::plausible_date("due_on", body.due_on)?;
    interest::check_rate("interest_percent", body.interest_percent)?;
    let count = body.commitments.len();
    if count == 0 || count > CLOSING_COMMITMENTS_MAX {
        return mismatch(format!("the closing has {count} commitments, expected 1 to {CLOSING_COMMITMENTS_MAX}"));
    }
    if body.due_on < body.closed_on {
        return mismatch(format!("what is owed is due on {}, before the closing on {}", body.due_on, body.closed_on));
    }
    let mut named = HashSet::new();
    match body.commitments.iter().find(|commitment| !named.insert(commitment.investor_id)) {
        Some(twice) => mismatch(format!("investor {} is named twice", twice.investor_id)),
        None => Ok(()),
    }
}

fn enter_all(
    tx: &Tx,
    context: &Context,
    body: &HoldClosing,
    before: &Before<'_>,
    id: Uuid,
) -> Result<Vec<(Commitment, CommitmentEntry)>, Rejection> {
    let known: HashMap<Uuid, &Commitment> = before.commitments.iter().map(|commitment| (commitment.investor_id, commitment)).collect();
    let mut promises = before.promises.clone();
    let mut entered = Vec::with_capacity(body.commitments.len());
    for wanted in &body.commitments {
        check_investor(before.investors, wanted.investor_id)?;
        let amount = domain::amount_in(before.fund.currency, wanted.amount, body.currency)?;
        promises.add(before.fund, wanted.investor_id, amount)?;
        let (kind, mut commitment) = match known.get(&wanted.investor_id) {
            Some(commitment) => (EntryKind::Increase, (*commitment).clone()),
            None => (EntryKind::Initial, blank(tx, body.fund_id, wanted.investor_id, before.fund.currency, body.closed_on)),
        };
        let says = Entered {
            kind,
            amount,
            impact_on_unfunded: amount,
            effective_on: body.closed_on,
            counterpart_id: None,
            closing_id: Some(id),
            reason: "promised at a later closing",
        };
        let entry = enter(tx, context, &mut commitment, &says);
        entered.push((commitment, entry));
    }
    Ok(entered)
}

/// What a closing would do.
fn plan(tx: &Tx, context: &Context, body: &HoldClosing, before: &Before<'_>) -> Result<Plan, Rejection> {
    check(context, body)?;
    let today = today(tx, before.fund)?;
    tx.rules().check_open(&before.fund.fund_type, before.fund.id, Transition::ClosingHeld)?;
    // who joins is asked for its part at once
    calendar::value_date("closed_on", body.closed_on, today)?;
    let currency = before.fund.currency;
    if before.calls.len() > CLOSING_CALLS_MAX {
        return mismatch(format!("the fund has {} calls to share anew, at most {CLOSING_CALLS_MAX} are", before.calls.len()));
    }
    for earlier in &before.calls {
        check_not_covered(earlier.lines)?;
    }
    let id = tx.new_id();
    let entered = enter_all(tx, context, body, before, id)?;
    let changed: HashSet<Uuid> = entered.iter().map(|(commitment, _)| commitment.id).collect();
    let unchanged = before.commitments.iter().filter(|commitment| !changed.contains(&commitment.id));
    let mut commitments: Vec<Commitment> = unchanged.chain(entered.iter().map(|(commitment, _)| commitment)).cloned().collect();
    commitments.sort_by_key(|commitment| commitment.id);
    let shared = domain::share_anew(&before.calls, &commitments, before.entries, currency)?;
    check_unfunded(before, &shared, &commitments)?;
    let changes: Vec<Equalisation> = before
        .calls
        .iter()
        .zip(&shared)
        .map(|(earlier, previews)| domain::equalise(*earlier, previews, body.interest_percent, body.closed_on, currency))
        .collect();
    let calls: Vec<CallEqualised> = before.calls.iter().zip(&changes).map(|(earlier, change)| equalised(body, earlier, change)).collect();
    let shares = shares(&changes, before.fund);
    let owed: BTreeMap<Uuid, Amount> =
        shares.iter().filter(|share| share.interest.is_positive()).map(|share| (share.investor_id, share.interest)).collect();
    let sum = |amounts: &mut dyn Iterator<Item = Amount>| amounts.sum::<Amount>() + currency.zero();
    let closing = Closing {
        id,
        version: 1,
        created_at: tx.now(),
        fund_id: body.fund_id,
        currency,
        closed_on: body.closed_on,
        due_on: body.due_on,
        interest_percent: body.interest_percent,
        committed: sum(&mut entered.iter().map(|(_, entry)| entry.amount)),
        equalised: sum(&mut calls.iter().map(|call| call.equalised)),
        interest: sum(&mut owed.values().copied()),
        interest_call_id: (!owed.is_empty()).then(|| tx.new_id()),
        calls,
        recorded_by: context.actor.user.clone(),
        status: "held".into(),
    };
    let terms = LineTerms::of(&tx.rules().rules(&before.fund.fund_type, before.fund.id)?);
    Ok(Plan { closing, shares, entered, shared, owed, terms, today })
}

/// Refuses what would leave somebody with less than nothing unfunded.
fn check_unfunded(before: &Before<'_>, shared: &[Vec<LinePreview>], commitments: &[Commitment]) -> Result<(), Rejection> {
    let mut moved: HashMap<Uuid, Amount> = HashMap::new();
    for (earlier, previews) in before.calls.iter().zip(shared) {
        for line in earlier.lines {
            *moved.entry(line.investor_id).or_default() -= line.impact_on_unfunded;
        }
        for preview in previews {
            *moved.entry(preview.investor_id).or_default() += preview.impact_on_unfunded;
        }
    }
    for commitment in commitments {
        let moved = moved.get(&commitment.investor_id).copied().unwrap_or_default();
        domain::check_unfunded(commitment.investor_id, commitment.unfunded + moved)?;
    }
    Ok(())
}

fn equalised(body: &HoldClosing, earlier: &Earlier<'_>, change: &Equalisation) -> CallEqualised {
    let from = earlier.call.due_on;
    let days = interest::days(from, body.closed_on);
    CallEqualised { call_id: earlier.call.id, from, days, equalised: change.equalised, interest: change.interest_in_all }
}

/// What the changes of all calls come to for each investor. Who owes interest for one call and is owed some for another does with the
/// difference.
fn shares(changes: &[Equalisation], fund: &FundCopy) -> Vec<ClosingShare> {
    let zero = fund.currency.zero();
    let mut shares: BTreeMap<Uuid, (Amount, Amount)> = BTreeMap::new();
    for change in changes {
        for (id, amount) in &change.moved {
            shares.entry(*id).or_insert((zero, zero)).0 += *amount;
        }
        for (id, amount) in &change.interest {
            shares.entry(*id).or_insert((zero, zero)).1 += *amount;
        }
    }
    shares.into_iter().map(|(investor_id, (equalised, interest))| ClosingShare { investor_id, equalised, interest }).collect()
}

fn in_order(mut calls: Vec<CapitalCall>) -> Vec<CapitalCall> {
    calls.retain(domain::is_shared_anew);
    calls.sort_by_key(|call| (call.issued_on, call.id));
    calls
}

fn unknown_fund(id: Uuid) -> Rejection {
    Reason::UnknownFund.with(format!("fund {id}"))
}

impl Show<PreviewClosing> for CapitalCalls {
    async fn show(&self, tx: &mut Tx, context: &Context, PreviewClosing(query): PreviewClosing) -> Answer<ClosingView> {
        check(context, &query)?;
        let fund = store::funds(tx, &[query.fund_id]).await?.remove(&query.fund_id).ok_or_else(|| unknown_fund(query.fund_id))?;
        let commitments = store::commitments(tx, &[fund.id]).await?;
        let entries = store::entries_after(tx, &[fund.id], None, &[]).await?;
        let investors = store::known_investors(tx, &sorted_ids(query.commitments.iter().map(|wanted| wanted.investor_id))).await?;
        let promises = Promises::load(tx, &HashMap::from([(fund.id, fund.clone())]), &investors).await?;
        let ids = store::issued_calls_of_fund(tx, fund.id).await?;
        let calls = in_order(store::calls(tx, &ids).await?);
        let mut lines = HashMap::new();
        for line in store::lines_of_calls(tx, &ids).await? {
            lines.entry(line.call_id).or_insert_with(Vec::new).push(line);
        }
        let seen = store::entries_seen(tx, &ids).await?;
        let earlier = |call| Earlier { call, lines: lines.get(&call.id).map_or(&[], Vec::as_slice), seen: seen.get(&call.id).copied() };
        let before = Before {
            fund: &fund,
            commitments: &commitments,
            entries: &entries,
            calls: calls.iter().map(earlier).collect(),
            investors: &investors,
            promises: &promises,
        };
        let Plan { closing, shares, .. } = plan(tx, context, &query, &before)?;
        Ok(ClosingView { closing, shares })
    }
}

impl Handle<HoldClosing> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<HoldClosing>) -> Result<Answers<ClosingView>, Fault> {
        let mut answers = Answers::new();
        let named = batch.iter().flat_map(|sent| sent.body.commitments.iter().map(|wanted| wanted.investor_id));
        let investors = store::known_investors(tx, &sorted_ids(named)).await?;
        // all locks before the first change, in the order in which everybody takes them
        let fund_ids = batch.ids(|command| command.fund_id);
        store::lock_funds(tx, &fund_ids).await?;
        let mut ids = Vec::new();
        for fund_id in &fund_ids {
            ids.extend(store::issued_calls_of_fund(tx, *fund_id).await?);
        }
        let (mut calls, mut books) = Books::lock_in_funds(tx, &fund_ids, &sorted_ids(ids.into_iter())).await?;
        let entries = store::entries_after(tx, &fund_ids, None, &[]).await?;
        let mut promises = Promises::load(tx, &books.firm.funds, &investors).await?;
        let mut held = Held::default();
        for Sent { context, body, .. } in batch.iter() {
            let planned = {
                let of_fund = in_order(calls.values().filter(|call| call.fund_id == body.fund_id).cloned().collect());
                let lines = |call: &CapitalCall| books.issued.lines(call.id);
                let earlier = |call| Earlier { call, lines: lines(call), seen: books.issued.seen.get(&call.id).copied() };
                let commitments: Vec<Commitment> =
                    books.firm.commitments.iter().filter(|commitment| commitment.fund_id == body.fund_id).cloned().collect();
                match books.firm.fund(body.fund_id) {
                    Err(rejection) => Err(rejection),
                    Ok(fund) => {
                        let calls = of_fund.iter().map(earlier).collect();
                        let (entries, investors, commitments) = (&entries, &investors, &commitments);
                        let before = Before { fund, commitments, entries, calls, investors, promises: &promises };
                        plan(tx, context, body, &before).map(|plan| (fund.clone(), plan))
                    }
                }
            };
            answers.push(match planned {
                Ok((fund, plan)) => {
                    for (commitment, entry) in &plan.entered {
                        // checked by the plan; the next closing of the batch comes on top
                        let _ = promises.add(&fund, commitment.investor_id, entry.amount);
                    }
                    Ok(hold(tx, context, &fund, plan, &mut calls, &mut books, &mut held)?)
                }
                Err(rejection) => Err(rejection),
            });
        }
        held.save(tx, &books, &calls).await?;
        Ok(answers)
    }
}
