//! Calls as they take effect: issued, amended, taken back.
//!
//! Rows are locked in the order payments, lines, calls, allocations, commitments, each by id: the order in which cash is recorded and
//! reversed.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    Amendment, CallDecision, CallLine, CallLineChange, CapitalCall, CapitalCallChange, Commitment, CommitmentChange, DecideCapitalCall,
    Disposition, LineEntry, LinePreview, LineStatus, LineTiming, Payment, PaymentChange, RescindCapitalCall,
};
use ::domain::rejection::check_text;
use ::domain::{Amount, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::calls::{Firm, REASON_CHARACTERS_MAX, allocation_ids, give_back, planned, take, today};
use crate::domain::{self, FundCopy, Moved, Terms};
use crate::{CapitalCalls, store};

/// Calls with all that their issue, change or end touches, locked; and what has changed so far in a batch.
struct Books {
    firm: Firm,
    /// Lines by their calls; only of calls that were issued.
    lines: HashMap<Uuid, Vec<CallLine>>,
    /// Payments that count, by their lines, in the order in which they were recorded.
    payments: HashMap<Uuid, Vec<Payment>>,
    drawn: HashSet<Uuid>,
    added: Vec<CallLine>,
    changed_lines: Vec<CallLine>,
    changed_payments: Vec<Payment>,
    entries: Vec<LineEntry>,
}

impl Books {
    /// Locks calls with all that belongs to them.
    async fn lock(tx: &mut Tx, ids: &[Uuid]) -> Result<(HashMap<Uuid, CapitalCall>, Books), Fault> {
        store::lock_changes(tx, ids).await?;
        let issued = store::issued_calls(tx, ids).await?;
        let payments = store::lock_payments_of_calls(tx, &issued).await?;
        let lines = store::lock_lines_of_calls(tx, &issued).await?;
        if store::count_payments_of_calls(tx, &issued).await? != payments.len() {
            // who waits for one of them while it holds lines may be waited for
            return Err(Fault::Transient("a payment was recorded before the lines were locked".into()));
        }
        let calls = store::lock_calls(tx, ids).await?;
        let fund_ids = sorted_ids(calls.values().map(|call| call.fund_id));
        let amended = calls.values().filter_map(|call| call.amending.as_ref()).flat_map(|amendment| &amendment.content.purposes);
        let allocations =
            store::lock_allocations(tx, &allocation_ids(calls.values().flat_map(|call| &call.purposes).chain(amended))).await?;
        let firm =
            Firm { funds: store::funds(tx, &fund_ids).await?, allocations, commitments: store::lock_commitments(tx, &fund_ids).await? };
        let mut books = Books {
            firm,
            lines: HashMap::new(),
            payments: HashMap::new(),
            drawn: HashSet::new(),
            added: vec![],
            changed_lines: vec![],
            changed_payments: vec![],
            entries: vec![],
        };
        for line in lines {
            books.lines.entry(line.call_id).or_default().push(line);
        }
        for payment in payments {
            books.payments.entry(payment.line_id).or_default().push(payment);
        }
        Ok((calls, books))
    }

    /// Writes what has changed.
    async fn save(&self, tx: &mut Tx, calls: &[&CapitalCall]) -> Result<(), Fault> {
        store::save_calls(tx, calls).await?;
        store::insert_lines(tx, &self.added).await?;
        store::save_lines(tx, &self.changed_lines, &self.entries).await?;
        store::save_applied(tx, &self.changed_payments).await?;
        let drawn: Vec<&Commitment> = self.firm.commitments.iter().filter(|commitment| self.drawn.contains(&commitment.id)).collect();
        store::save_commitments(tx, &drawn).await?;
        store::save_allocations(tx, &self.firm.allocations.values().collect::<Vec<_>>()).await
    }

    /// Draws on an investor's commitment, or gives back.
    fn draw(&mut self, tx: &mut Tx, context: &Context, line: &CallLine, amount: Amount, impact: Amount) -> Result<(), Fault> {
        let of_line = |commitment: &&mut Commitment| (commitment.fund_id, commitment.investor_id) == (line.fund_id, line.investor_id);
        if let Some(commitment) = self.firm.commitments.iter_mut().find(of_line) {
            domain::draw(commitment, amount, impact);
            self.drawn.insert(commitment.id);
            tx.emit(context, &*commitment, CommitmentChange::Called)?;
        }
        Ok(())
    }

    /// Follows a line that moved with its commitment and its payments, and notes why.
    fn follow(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        line: CallLine,
        moved: Moved,
        change: CallLineChange,
        reason: &str,
    ) -> Result<(), Fault> {
        tx.emit(context, &line, change)?;
        self.draw(tx, context, &line, moved.amount, moved.impact_on_unfunded)?;
        let payments = self.payments.entry(line.id).or_default();
        for place in domain::reapply(payments, moved.paid) {
            tx.emit(context, &payments[place], PaymentChange::Reapplied)?;
            self.changed_payments.push(payments[place].clone());
        }
        self.entries.push(LineEntry {
            id: tx.new_id(),
            line_id: line.id,
            at: tx.now(),
            version: line.version,
            amount: moved.amount,
            impact_on_unfunded: moved.impact_on_unfunded,
            paid: moved.paid,
            reason: reason.to_owned(),
            recorded_by: context.actor.user.clone(),
        });
        self.changed_lines.push(line);
        Ok(())
    }
}

impl Handle<DecideCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideCapitalCall>) -> Result<Answers<CapitalCall>, Fault> {
        let (mut calls, mut books) = Books::lock(tx, &batch.ids(|command| command.call_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let decided = match calls.get_mut(&body.call_id) {
                None => Err(Reason::UnknownCapitalCall.with(format!("capital call {}", body.call_id))),
                Some(call) => decide(tx, context, body, call, &mut books)?,
            };
            answers.push(decided);
        }
        books.save(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

/// Issues or cancels one call, or its amendment. A refusal leaves everything as it was.
fn decide(
    tx: &mut Tx,
    context: &Context,
    command: &DecideCapitalCall,
    call: &mut CapitalCall,
    books: &mut Books,
) -> Result<Result<CapitalCall, Rejection>, Fault> {
    let is_call = call.decision == CallDecision::PendingApproval && call.content_hash == command.content_hash;
    let amendment = call.amending.clone().filter(|amendment| amendment.content.content_hash == command.content_hash);
    let done = match (&command.cancelled_because, amendment) {
        (Some(reason), None) if is_call => {
            call.decision = CallDecision::Cancelled;
            call.decided_because = Some(reason.clone());
            Ok(Ok(CapitalCallChange::Cancelled { reason: reason.clone() }))
        }
        (None, None) if is_call => issue(tx, context, call, books),
        (Some(reason), Some(_)) => {
            call.amending = None;
            Ok(Ok(CapitalCallChange::AmendmentCancelled { reason: reason.clone() }))
        }
        (None, Some(amendment)) => amend(tx, context, call, &amendment, books),
        (_, None) => {
            let status = chassis::row::name(&call.status);
            Ok(Err(Reason::CallNotPending.with(format!("capital call {} is {status}, or not what was approved", call.id))))
        }
    };
    match done? {
        Ok(change) => {
            call.version += 1;
            call.status = domain::call_status(call);
            tx.emit(context, call, change)?;
            Ok(Ok(call.clone()))
        }
        Err(rejection) => Ok(Err(rejection)),
    }
}

type Done = Result<Result<CapitalCallChange, Rejection>, Fault>;

/// Makes the lines of an approved call.
fn issue(tx: &mut Tx, context: &Context, call: &mut CapitalCall, books: &mut Books) -> Done {
    let prepared = prepare_issue(tx, call, books);
    let (fund, previews, grace_days, issued_on) = match prepared {
        Ok(prepared) => prepared,
        Err(rejection) => return Ok(Err(rejection)),
    };
    take(call, &mut books.firm.allocations);
    call.decision = CallDecision::Issued;
    call.issued_on = Some(issued_on);
    call.line_count = i32::try_from(previews.len()).unwrap_or(i32::MAX);
    let mut of_investor: HashMap<Uuid, usize> = HashMap::with_capacity(previews.len());
    for (place, commitment) in books.firm.commitments.iter().enumerate().filter(|(_, commitment)| commitment.fund_id == call.fund_id) {
        of_investor.insert(commitment.investor_id, place);
    }
    for preview in previews {
        let line = new_line(tx, call, &fund, &preview, grace_days, issued_on);
        tx.emit(context, &line, CallLineChange::Issued)?;
        if let Some(commitment) = of_investor.get(&line.investor_id).and_then(|place| books.firm.commitments.get_mut(*place)) {
            domain::draw(commitment, line.amount, line.impact_on_unfunded);
            books.drawn.insert(commitment.id);
            tx.emit(context, &*commitment, CommitmentChange::Called)?;
        }
        books.added.push(line);
    }
    Ok(Ok(CapitalCallChange::Issued))
}

fn prepare_issue(tx: &Tx, call: &CapitalCall, books: &Books) -> Result<(FundCopy, Vec<LinePreview>, i32, NaiveDate), Rejection> {
    let fund = books.firm.fund(call.fund_id)?.clone();
    let content = call.content();
    domain::check_purposes(&mut content.purposes.clone(), &fund, None, |id| books.firm.allocations.get(&id).cloned())?;
    let previews = planned(tx, &fund, &content, &books.firm.effective(fund.id, content.due_on))?;
    let grace_days = i32::from(tx.rules().rules(&fund.fund_type, fund.id)?.grace_days);
    let issued_on = today(tx, &fund)?;
    Ok((fund, previews, grace_days, issued_on))
}

fn new_line(tx: &Tx, call: &CapitalCall, fund: &FundCopy, preview: &LinePreview, grace_days: i32, issued_on: NaiveDate) -> CallLine {
    let mut line = CallLine {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        call_id: call.id,
        fund_id: call.fund_id,
        fund_type: call.fund_type.clone(),
        investor_id: preview.investor_id,
        currency: call.currency,
        amount: preview.amount,
        impact_on_unfunded: preview.impact_on_unfunded,
        amendment: call.amendment,
        disposition: Disposition::None,
        paid: call.currency.zero(),
        unapplied: call.currency.zero(),
        outstanding: preview.amount,
        due_on: call.due_on,
        issued_on,
        grace_days,
        timezone: fund.timezone.clone(),
        purposes: preview.purposes.clone(),
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    domain::derive_line(&mut line, issued_on);
    line
}

/// Has an issued call say something else: each line becomes what it would be if the call were issued as it says now.
fn amend(tx: &mut Tx, context: &Context, call: &mut CapitalCall, amendment: &Amendment, books: &mut Books) -> Done {
    let (fund, mut previews, grace_days, today, allocations) = match prepare_amendment(tx, call, amendment, books) {
        Ok(prepared) => prepared,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let mut moved = Vec::new();
    for line in books.lines.get(&call.id).into_iter().flatten() {
        let mut line = line.clone();
        let preview = previews.remove(&line.investor_id);
        let change = domain::amend_line(&mut line, preview.as_ref(), amendment.content.due_on, amendment.number, today);
        moved.extend(change.map(|change| (line, change)));
    }
    let rises = !previews.is_empty() || moved.iter().any(|(_, change)| change.amount.is_positive());
    if rises && let Err(rejection) = check_notice(tx, &fund, amendment, today) {
        return Ok(Err(rejection));
    }
    if moved.is_empty() && previews.is_empty() {
        return Ok(Err(Reason::NothingAmended.with(format!("no line of capital call {} would change", call.id))));
    }
    books.firm.allocations = allocations;
    domain::put_content(call, amendment.content.clone());
    call.amendment = amendment.number;
    call.amending = None;
    for (line, moved) in moved {
        call.paid += moved.paid;
        let change = CallLineChange::Amended { amount: moved.amount, impact_on_unfunded: moved.impact_on_unfunded, credited: -moved.paid };
        replace(&mut books.lines, &line);
        books.follow(tx, context, line, moved, change, &amendment.reason)?;
    }
    let mut new: Vec<LinePreview> = previews.into_values().collect();
    new.sort_by_key(|preview| preview.investor_id);
    call.line_count += i32::try_from(new.len()).unwrap_or(i32::MAX);
    for preview in new {
        let line = new_line(tx, call, &fund, &preview, grace_days, today);
        tx.emit(context, &line, CallLineChange::Issued)?;
        books.draw(tx, context, &line, line.amount, line.impact_on_unfunded)?;
        books.added.push(line);
    }
    Ok(Ok(CapitalCallChange::Amended { reason: amendment.reason.clone() }))
}

/// What is called in addition is due like a call that is issued now.
fn check_notice(tx: &Tx, fund: &FundCopy, amendment: &Amendment, today: NaiveDate) -> Result<(), Rejection> {
    domain::check_notice(fund, &tx.rules().rules(&fund.fund_type, fund.id)?, &amendment.content, today)
}

fn replace(lines: &mut HashMap<Uuid, Vec<CallLine>>, line: &CallLine) {
    let of_call = lines.entry(line.call_id).or_default();
    if let Some(place) = of_call.iter().position(|other| other.id == line.id) {
        of_call[place] = line.clone();
    }
}

type Prepared = (FundCopy, HashMap<Uuid, LinePreview>, i32, NaiveDate, HashMap<Uuid, domain::AllocationCopy>);

fn prepare_amendment(tx: &Tx, call: &CapitalCall, amendment: &Amendment, books: &Books) -> Result<Prepared, Rejection> {
    let fund = books.firm.fund(call.fund_id)?.clone();
    let content = &amendment.content;
    let mut allocations = books.firm.allocations.clone();
    give_back(call, &mut allocations);
    domain::check_purposes(&mut content.purposes.clone(), &fund, None, |id| allocations.get(&id).cloned())?;
    // what the lines have taken of the commitments is theirs to take again
    let taken: HashMap<Uuid, &CallLine> = books.lines.get(&call.id).into_iter().flatten().map(|line| (line.investor_id, line)).collect();
    let mut commitments = books.firm.effective(fund.id, content.due_on);
    for commitment in &mut commitments {
        if let Some(line) = taken.get(&commitment.investor_id) {
            domain::draw(commitment, -line.amount, -line.impact_on_unfunded);
        }
    }
    let rules = tx.rules().rules(&fund.fund_type, fund.id)?;
    let today = today(tx, &fund)?;
    if content.due_on != call.due_on {
        domain::check_notice(&fund, &rules, content, today)?;
    }
    let previews = domain::split_call(Terms::of(content), &commitments, fund.currency)?;
    for commitment in commitments.iter().filter(|commitment| !previews.iter().any(|line| line.investor_id == commitment.investor_id)) {
        domain::check_unfunded(commitment.investor_id, commitment.unfunded)?;
    }
    let mut amended = call.clone();
    domain::put_content(&mut amended, content.clone());
    take(&amended, &mut allocations);
    let by_investor = previews.into_iter().map(|preview| (preview.investor_id, preview)).collect();
    Ok((fund, by_investor, i32::from(rules.grace_days), today, allocations))
}

impl Handle<RescindCapitalCall> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RescindCapitalCall>) -> Result<Answers<CapitalCall>, Fault> {
        let (mut calls, mut books) = Books::lock(tx, &batch.ids(|command| command.call_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let rescinded = match calls.get_mut(&body.call_id) {
                None => Err(Reason::UnknownCapitalCall.with(format!("capital call {}", body.call_id))),
                Some(call) => match may_rescind(context, body, call, &books) {
                    Ok(fund) => Ok(rescind(tx, context, body, call, &mut books, fund)?),
                    Err(rejection) => Err(rejection),
                },
            };
            answers.push(rescinded);
        }
        books.save(tx, &calls.values().collect::<Vec<_>>()).await?;
        Ok(answers)
    }
}

fn may_rescind(context: &Context, body: &RescindCapitalCall, call: &CapitalCall, books: &Books) -> Result<FundCopy, Rejection> {
    context.actor.check_fund(call.fund_id)?;
    check_text("reason", &body.reason, REASON_CHARACTERS_MAX)?;
    match call.decision {
        CallDecision::Issued => {
            for line in books.lines.get(&call.id).into_iter().flatten() {
                let of_line = |commitment: &&Commitment| (commitment.fund_id, commitment.investor_id) == (line.fund_id, line.investor_id);
                if let Some(commitment) = books.firm.commitments.iter().find(of_line) {
                    domain::check_unfunded(commitment.investor_id, commitment.unfunded - line.impact_on_unfunded)?;
                }
            }
            Ok(books.firm.fund(call.fund_id)?.clone())
        }
        CallDecision::Rescinded => Err(Reason::CallRescinded.with(format!("capital call {}", call.id))),
        _ => Err(Reason::CallNotIssued.with(format!("capital call {} is {}", call.id, chassis::row::name(&call.status)))),
    }
}

fn rescind(
    tx: &mut Tx,
    context: &Context,
    body: &RescindCapitalCall,
    call: &mut CapitalCall,
    books: &mut Books,
    fund: FundCopy,
) -> Result<CapitalCall, Fault> {
    let today = today(tx, &fund).map_err(|rejection| Fault::Fatal(rejection.to_string()))?;
    for mut line in books.lines.remove(&call.id).unwrap_or_default() {
        let moved = domain::rescind_line(&mut line, today);
        let change =
            CallLineChange::Rescinded { amount: -moved.amount, impact_on_unfunded: -moved.impact_on_unfunded, credited: -moved.paid };
        books.follow(tx, context, line, moved, change, &body.reason)?;
    }
    give_back(call, &mut books.firm.allocations);
    call.decision = CallDecision::Rescinded;
    call.decided_because = Some(body.reason.clone());
    call.amending = None;
    call.paid = call.currency.zero();
    call.version += 1;
    call.status = domain::call_status(call);
    tx.emit(context, call, CapitalCallChange::Rescinded { reason: body.reason.clone() })?;
    Ok(call.clone())
}
