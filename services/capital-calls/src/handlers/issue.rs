//! Calls as they take effect: issued, amended, taken back.
//!
//! Rows are locked in the order lines, payments, calls, allocations, commitments, each by id: the order in which cash is recorded and
//! reversed.

use std::collections::{HashMap, HashSet};

use ::domain::messages::capital_calls::{
    CallDecision, CallLine, CallLineChange, CapitalCall, CapitalCallChange, Commitment, CommitmentChange, DecideCapitalCall, Disposition,
    LineEntry, LinePreview, LineStatus, LineTiming, Payment, PaymentChange,
};
use ::domain::{Amount, CreditorReference, Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::amendments::{Issued, amend};
use super::calls::{Firm, allocation_ids, planned, take, today};
use super::today_of;
use crate::domain::{self, FundCopy, LineTerms, Moved};
use crate::{CapitalCalls, store};

/// Calls with all that their issue, change or end touches, locked; and what has changed so far in a batch.
pub struct Books {
    /// What they are checked against.
    pub firm: Firm,
    /// What those of the calls that were issued have asked for.
    pub issued: Issued,
    /// Payments that count, by their lines.
    payments: HashMap<Uuid, Vec<Payment>>,
    /// Places of the commitments, by fund and investor.
    places: HashMap<(Uuid, Uuid), usize>,
    drawn: HashSet<Uuid>,
    added: Vec<CallLine>,
    changed_lines: HashMap<Uuid, CallLine>,
    changed_payments: HashMap<Uuid, Payment>,
    entries: Vec<LineEntry>,
}

impl Books {
    /// Locks calls with all that belongs to them.
    pub async fn lock(tx: &mut Tx, ids: &[Uuid]) -> Result<(HashMap<Uuid, CapitalCall>, Books), Fault> {
        let fund_ids = store::funds_of_calls(tx, ids).await?;
        store::lock_funds(tx, &fund_ids).await?;
        Books::lock_in_funds(tx, &fund_ids, ids).await
    }

    /// Locks calls of funds that are locked, with all that belongs to them and to the funds.
    pub async fn lock_in_funds(tx: &mut Tx, fund_ids: &[Uuid], ids: &[Uuid]) -> Result<(HashMap<Uuid, CapitalCall>, Books), Fault> {
        Books::lock_with(tx, fund_ids, ids, &[]).await
    }

    /// The same, with further allocations of the funds.
    pub async fn lock_with(
        tx: &mut Tx,
        fund_ids: &[Uuid],
        ids: &[Uuid],
        allocations: &[Uuid],
    ) -> Result<(HashMap<Uuid, CapitalCall>, Books), Fault> {
        let issued = store::issued_calls(tx, ids).await?;
        let lines = store::lock_lines_of_calls(tx, &issued).await?;
        let payments = store::lock_payments_of_calls(tx, &issued).await?;
        let calls = store::lock_calls(tx, ids).await?;
        let amended = calls.values().filter_map(|call| call.amending.as_ref()).flat_map(|amendment| &amendment.content.purposes);
        let named = allocation_ids(calls.values().flat_map(|call| &call.purposes).chain(amended));
        let allocations = store::lock_allocations(tx, &sorted_ids(named.into_iter().chain(allocations.iter().copied()))).await?;
        let commitments = store::lock_commitments(tx, fund_ids).await?;
        let due = calls.values().flat_map(|call| [Some(call.due_on), call.amending.as_ref().map(|amendment| amendment.content.due_on)]);
        // a day earlier than here is the business date of every fund, or it has been
        let from = due.flatten().min().into_iter().chain(tx.now().date_naive().pred_opt()).min();
        let later = store::entries_after(tx, fund_ids, from, &issued).await?;
        let issued = Issued { lines: HashMap::new(), seen: store::entries_seen(tx, &issued).await? };
        let draws = store::draws_after(tx, &later, from).await?;
        let firm = Firm { funds: store::funds(tx, fund_ids).await?, allocations, commitments, later, draws };
        let mut books = Books {
            firm,
            issued,
            payments: HashMap::new(),
            places: HashMap::new(),
            drawn: HashSet::new(),
            added: vec![],
            changed_lines: HashMap::new(),
            changed_payments: HashMap::new(),
            entries: vec![],
        };
        books.find_places();
        for line in lines {
            books.issued.lines.entry(line.call_id).or_default().push(line);
        }
        for payment in payments {
            books.payments.entry(payment.line_id).or_default().push(payment);
        }
        Ok((calls, books))
    }

    /// Writes what has changed.
    pub async fn save(&self, tx: &mut Tx, calls: &[&CapitalCall]) -> Result<(), Fault> {
        store::save_calls(tx, calls).await?;
        store::insert_lines(tx, &self.added).await?;
        store::save_lines(tx, &self.changed_lines.values().collect::<Vec<_>>(), &self.entries).await?;
        store::save_payments(tx, &self.changed_payments.values().collect::<Vec<_>>()).await?;
        let drawn: Vec<&Commitment> = self.firm.commitments.iter().filter(|commitment| self.drawn.contains(&commitment.id)).collect();
        store::save_commitments(tx, &drawn).await?;
        store::save_allocations(tx, &self.firm.allocations.values().collect::<Vec<_>>()).await
    }

    fn find_places(&mut self) {
        let of = |(place, commitment): (usize, &Commitment)| ((commitment.fund_id, commitment.investor_id), place);
        self.places = self.firm.commitments.iter().enumerate().map(of).collect();
    }

    /// Takes commitments in that are new or have changed.
    pub fn put_commitments(&mut self, commitments: impl Iterator<Item = Commitment>) {
        for commitment in commitments {
            self.drawn.insert(commitment.id);
            match self.places.get(&(commitment.fund_id, commitment.investor_id)) {
                Some(place) => self.firm.commitments[*place] = commitment,
                None => self.firm.commitments.push(commitment),
            }
        }
        self.find_places();
    }

    /// The commitment that a line draws on.
    pub fn commitment_of(&self, line: &CallLine) -> Option<&Commitment> {
        self.places.get(&(line.fund_id, line.investor_id)).map(|place| &self.firm.commitments[*place])
    }

    /// Adds a line of an issued call, and draws on its commitment.
    pub fn add_line(&mut self, tx: &mut Tx, context: &Context, line: CallLine) -> Result<(), Fault> {
        tx.emit(context, &line, CallLineChange::Issued)?;
        self.draw(tx, context, &line, line.amount, line.impact_on_unfunded)?;
        self.issued.lines.entry(line.call_id).or_default().push(line.clone());
        self.added.push(line);
        Ok(())
    }

    /// Draws on an investor's commitment, or gives back.
    fn draw(&mut self, tx: &mut Tx, context: &Context, line: &CallLine, amount: Amount, impact: Amount) -> Result<(), Fault> {
        if let Some(place) = self.places.get(&(line.fund_id, line.investor_id)) {
            let commitment = &mut self.firm.commitments[*place];
            domain::draw(commitment, amount, impact);
            self.drawn.insert(commitment.id);
            // what is not known any more counts from now on
            if let Some(draws) = self.firm.draws.get_mut(&(line.fund_id, line.investor_id)) {
                draws.retain(|draw| draw.call_id != line.call_id);
            }
            tx.emit(context, &*commitment, CommitmentChange::Called)?;
        }
        Ok(())
    }

    /// Follows a line that moved with its commitment and its payments, and notes why. Returns how much more is paid than it moved,
    /// because cash that had paid interest pays principal now.
    pub fn follow(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        mut line: CallLine,
        moved: Moved,
        change: CallLineChange,
        (reason, effective_on): (&str, NaiveDate),
    ) -> Result<Amount, Fault> {
        let payments = self.payments.entry(line.id).or_default();
        let paid = line.paid;
        let today = today_of(tx, &line);
        for place in domain::pay_anew(&mut line, payments, today) {
            tx.emit(context, &payments[place], PaymentChange::Reapplied)?;
            self.changed_payments.insert(payments[place].id, payments[place].clone());
        }
        let paid_more = line.paid - paid;
        tx.emit(context, &line, change)?;
        self.draw(tx, context, &line, moved.amount, moved.impact_on_unfunded)?;
        self.entries.push(LineEntry {
            id: tx.new_id(),
            line_id: line.id,
            at: tx.now(),
            version: line.version,
            amount: moved.amount,
            impact_on_unfunded: moved.impact_on_unfunded,
            paid: moved.paid + paid_more,
            reason: reason.to_owned(),
            recorded_by: context.actor.user.clone(),
            effective_on,
        });
        let of_call = self.issued.lines.entry(line.call_id).or_default();
        if let Some(known) = of_call.iter_mut().find(|known| known.id == line.id) {
            known.clone_from(&line);
        }
        self.changed_lines.insert(line.id, line);
        Ok(paid_more)
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

/// What changes of a call, or why it does not.
pub type Done = Result<Result<CapitalCallChange, Rejection>, Fault>;

/// Makes the lines of an approved call.
fn issue(tx: &mut Tx, context: &Context, call: &mut CapitalCall, books: &mut Books) -> Done {
    let prepared = prepare_issue(tx, call, books);
    let (fund, previews, terms, issued_on) = match prepared {
        Ok(prepared) => prepared,
        Err(rejection) => return Ok(Err(rejection)),
    };
    take(call, &mut books.firm.allocations);
    call.decision = CallDecision::Issued;
    call.rules = tx.rules().used(&fund.fund_type, fund.id);
    call.issued_on = Some(issued_on);
    call.line_count = i32::try_from(previews.len()).unwrap_or(i32::MAX);
    for preview in previews {
        let line = new_line(tx, call, &fund, &preview, terms, issued_on);
        books.add_line(tx, context, line)?;
    }
    Ok(Ok(CapitalCallChange::Issued))
}

fn prepare_issue(tx: &Tx, call: &CapitalCall, books: &Books) -> Result<(FundCopy, Vec<LinePreview>, LineTerms, NaiveDate), Rejection> {
    let fund = books.firm.fund(call.fund_id)?.clone();
    let content = call.content();
    domain::check_purposes(&mut content.purposes.clone(), &fund, None, |id| books.firm.allocations.get(&id).cloned())?;
    let previews = planned(tx, &fund, &content, &books.firm)?;
    let terms = LineTerms::of(&tx.rules().rules(&fund.fund_type, fund.id)?);
    let issued_on = today(tx, &fund)?;
    Ok((fund, previews, terms, issued_on))
}

/// A new line of a call.
pub fn new_line(tx: &Tx, call: &CapitalCall, fund: &FundCopy, preview: &LinePreview, terms: LineTerms, issued_on: NaiveDate) -> CallLine {
    let id = tx.new_id();
    let mut line = CallLine {
        id,
        reference: CreditorReference::of(id).as_str().to_owned(),
        version: 1,
        created_at: tx.now(),
        call_id: call.id,
        fund_id: call.fund_id,
        fund_type: call.fund_type.clone(),
        investor_id: preview.investor_id,
        currency: call.currency,
        amount: preview.amount,
        impact_on_unfunded: preview.impact_on_unfunded,
        closing_id: None,
        amendment: call.amendment,
        disposition: Disposition::None,
        paid: call.currency.zero(),
        unapplied: call.currency.zero(),
        charges: call.currency.zero(),
        outstanding: preview.amount,
        last_paid_on: None,
        interest_paid: call.currency.zero(),
        interest_due: call.currency.zero(),
        default_interest: terms.default_interest,
        failure_notice: None,
        covered: vec![],
        default: None,
        cured_on: None,
        instructions: fund.instructions.clone(),
        due_on: call.due_on,
        issued_on,
        grace_days: terms.grace_days,
        timezone: fund.timezone.clone(),
        purposes: preview.purposes.clone(),
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    domain::derive_line(&mut line, issued_on);
    line
}
