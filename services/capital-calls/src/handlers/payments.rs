//! Cash on lines: recorded, taken back.

use std::collections::{BTreeMap, HashMap, HashSet};

use ::domain::messages::capital_calls::{
    CallLine, CallLineChange, CapitalCall, CapitalCallChange, PAYMENTS_MAX, Payment, PaymentChange, PaymentOutcome, PaymentStatus,
    PaymentsRecorded, RecordPayment, RecordPayments, Reversal, ReversePayment,
};
use ::domain::rejection::check_text;
use ::domain::{Amount, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Sent, Summarise, Tx};
use uuid::Uuid;

use super::today_of;
use crate::{CapitalCalls, domain, store};

impl Handle<RecordPayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordPayment>) -> Result<Answers<Payment>, Fault> {
        let received: Vec<(&Context, &RecordPayment)> = batch.iter().map(|sent| (&sent.context, &sent.body)).collect();
        record_all(tx, &received).await
    }
}

impl Handle<RecordPayments> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordPayments>) -> Result<Answers<PaymentsRecorded>, Fault> {
        let fits = |command: &RecordPayments| (1..=PAYMENTS_MAX).contains(&command.payments.len());
        let accepted = batch.iter().filter(|sent| fits(&sent.body));
        let received: Vec<(&Context, &RecordPayment)> =
            accepted.flat_map(|sent| sent.body.payments.iter().map(|payment| (&sent.context, payment))).collect();
        let mut recorded = record_all(tx, &received).await?.into_iter();
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            if !fits(body) {
                let why = format!("the request has {} payments, expected 1 to {PAYMENTS_MAX}", body.payments.len());
                let reason = if body.payments.is_empty() { Reason::MalformedRequest } else { Reason::RequestTooLarge };
                answers.push(Err(reason.with(why)));
                continue;
            }
            let mut answer = PaymentsRecorded { accepted: 0, refused: 0, outcomes: Vec::with_capacity(body.payments.len()) };
            for outcome in recorded.by_ref().take(body.payments.len()) {
                match outcome {
                    Ok(payment) => {
                        answer.accepted += 1;
                        let Payment { id, applied, unapplied, .. } = payment;
                        answer.outcomes.push(PaymentOutcome::Accepted { payment_id: id, applied, unapplied });
                    }
                    Err(rejection) => {
                        answer.refused += 1;
                        tx.record_refusal::<RecordPayments>(context, &rejection)?;
                        answer.outcomes.push(PaymentOutcome::Refused { problem: rejection.into() });
                    }
                }
            }
            answers.push(Ok(answer));
        }
        Ok(answers)
    }
}

/// Decides payments one on top of the other and stores those that are accepted.
async fn record_all(tx: &mut Tx, received: &[(&Context, &RecordPayment)]) -> Result<Answers<Payment>, Fault> {
    let mut lines = store::lock_lines(tx, &line_ids(received)).await?;
    let mut seen = similar_payments(tx, received, &lines).await?;
    let mut answers = Answers::with_capacity(received.len());
    for (context, body) in received {
        let recorded = match lines.get_mut(&body.line_id) {
            None => Err(Reason::UnknownCallLine.with(format!("call line {}", body.line_id))),
            Some(line) => record(tx, context, body, line, &seen),
        };
        if let Ok(payment) = &recorded {
            let change = CallLineChange::PaymentApplied { payment_id: payment.id, applied: payment.applied, unapplied: payment.unapplied };
            tx.emit(context, &lines[&payment.line_id], change)?;
            tx.emit(context, payment, PaymentChange::Recorded)?;
            if let Some(of_line) = seen.get_mut(&payment.line_id) {
                of_line.push(payment.clone());
            }
        }
        answers.push(recorded);
    }
    let added: Vec<&Payment> = answers.iter().flatten().collect();
    save_moved(tx, &added, &moved(&lines, added.iter().map(|payment| (*payment, payment.applied)))).await?;
    Ok(answers)
}

/// The lines that payments name, sorted, each once: the order in which they are locked.
fn line_ids(received: &[(&Context, &RecordPayment)]) -> Vec<Uuid> {
    sorted_ids(received.iter().map(|(_, body)| body.line_id))
}

/// The earlier payments that each line may have got twice: of those lines only on which so much cash
/// arrives that some could be above what is outstanding.
async fn similar_payments(
    tx: &mut Tx,
    received: &[(&Context, &RecordPayment)],
    lines: &HashMap<Uuid, CallLine>,
) -> Result<HashMap<Uuid, Vec<Payment>>, Fault> {
    let mut arriving: HashMap<Uuid, Amount> = HashMap::new();
    for (_, body) in received {
        if let Ok(amount) = lines.get(&body.line_id).map_or(Ok(Amount::ZERO), |line| domain::amount_in(line.currency, body.amount, None)) {
            *arriving.entry(body.line_id).or_default() += amount;
        }
    }
    let exceeded = |id: &Uuid| lines.get(id).is_some_and(|line| arriving.get(id).is_some_and(|amount| *amount > line.outstanding));
    let asked: Vec<(Uuid, &str)> =
        received.iter().filter(|(_, body)| exceeded(&body.line_id)).map(|(_, body)| (body.line_id, body.reference.as_str())).collect();
    let mut similar: HashMap<Uuid, Vec<Payment>> = asked.iter().map(|(id, _)| (*id, vec![])).collect();
    if !asked.is_empty() {
        for payment in store::payments_with_references(tx, &asked).await? {
            similar.entry(payment.line_id).or_default().push(payment);
        }
    }
    Ok(similar)
}

fn record(
    tx: &Tx,
    context: &Context,
    body: &RecordPayment,
    line: &mut CallLine,
    seen: &HashMap<Uuid, Vec<Payment>>,
) -> Result<Payment, Rejection> {
    context.actor.check_fund(line.fund_id)?;
    check_text("reference", &body.reference, 140)?;
    calendar::plausible_date("received_on", body.received_on)?;
    let cash = domain::pay(line, body.amount, body.currency)?;
    let amount = cash.applied + cash.unapplied;
    let same = |before: &&Payment| {
        (before.amount, before.method, before.received_on) == (amount, body.method, body.received_on) && before.reference == body.reference
    };
    // instalments may look alike; cash that looks like an earlier payment and finds nothing left to pay is one entered twice
    if cash.unapplied.is_positive()
        && let Some(before) = seen.get(&line.id).into_iter().flatten().find(same)
    {
        let why =
            format!("payment {} has the same line, amount, method, reference and date, and {} is outstanding", before.id, line.outstanding);
        return Err(Reason::DuplicatePayment.with(why));
    }
    domain::settle(line, cash.applied, cash.unapplied, today_of(tx, line));
    let mut payment = Payment {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        line_id: line.id,
        call_id: line.call_id,
        fund_id: line.fund_id,
        investor_id: line.investor_id,
        currency: line.currency,
        amount,
        applied: cash.applied,
        unapplied: cash.unapplied,
        method: body.method,
        reference: body.reference.clone(),
        received_on: body.received_on,
        recorded_by: context.actor.user.clone(),
        reversal: None,
        status: PaymentStatus::Applied,
    };
    payment.status = domain::payment_status(&payment);
    Ok(payment)
}

impl Handle<ReversePayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ReversePayment>) -> Result<Answers<Payment>, Fault> {
        let mut payments = store::lock_payments_with_credit(tx, &batch.ids(|command| command.payment_id)).await?;
        let mut lines = store::lock_lines(tx, &sorted_ids(payments.values().map(|payment| payment.line_id))).await?;
        let credited = sorted_ids(lines.values().filter(|line| line.unapplied.is_positive()).map(|line| line.id));
        if !credited.is_empty() && store::credit(tx, &credited).await?.iter().any(|id| !payments.contains_key(id)) {
            // who waits for one of them while it holds lines may be waited for
            return Err(Fault::Transient("a payment was recorded before its line was locked".into()));
        }
        let mut answers = Answers::new();
        let mut cash = Cash::default();
        for sent in batch.iter() {
            let answer = match payments.get_mut(&sent.body.payment_id) {
                None => Err(Reason::UnknownPayment.with(format!("payment {}", sent.body.payment_id))),
                Some(payment) => take_back(sent, payment),
            };
            if let Ok(payment) = &answer {
                let Some(line) = lines.get_mut(&payment.line_id) else {
                    return Err(Fault::Fatal(format!("payment {} has no line", payment.id)));
                };
                settle_reversal(tx, &sent.context, payment, line, &mut payments, &mut cash)?;
            }
            answers.push(answer);
        }
        let reversed: Vec<Payment> = answers.iter().flatten().cloned().collect();
        store::save_reversals(tx, &reversed).await?;
        store::save_applied(tx, &cash.reapplied(&payments)).await?;
        let moved = store::Moved { lines: lines.values().filter(|line| cash.lines.contains(&line.id)).collect(), paid: cash.paid };
        save_moved(tx, &[], &moved).await?;
        Ok(answers)
    }
}

/// What reversals have moved so far in a batch.
#[derive(Default)]
struct Cash {
    lines: HashSet<Uuid>,
    paid: BTreeMap<Uuid, Amount>,
    reapplied: HashSet<Uuid>,
}

impl Cash {
    fn reapplied(&self, payments: &HashMap<Uuid, Payment>) -> Vec<Payment> {
        payments.values().filter(|payment| self.reapplied.contains(&payment.id) && payment.reversal.is_none()).cloned().collect()
    }
}

/// Takes a reversed payment off its line, and pays what is outstanding again with the credit that other payments have left there.
fn settle_reversal(
    tx: &mut Tx,
    context: &Context,
    payment: &Payment,
    line: &mut CallLine,
    payments: &mut HashMap<Uuid, Payment>,
    cash: &mut Cash,
) -> Result<(), Fault> {
    domain::settle(line, -payment.applied, -payment.unapplied, today_of(tx, line));
    let mut of_line: Vec<Payment> =
        payments.values().filter(|other| other.line_id == line.id && other.reversal.is_none()).cloned().collect();
    of_line.sort_by_key(|other| other.id);
    let credit: Amount = of_line.iter().map(|other| other.unapplied).sum();
    let used = credit.min(line.outstanding);
    let mut changed = Vec::new();
    if used.is_positive() {
        changed = domain::reapply(&mut of_line, used);
        line.paid += used;
        line.unapplied -= used;
        domain::derive_line(line, today_of(tx, line));
    }
    let change = CallLineChange::PaymentReversed {
        payment_id: payment.id,
        applied: payment.applied,
        unapplied: payment.unapplied,
        credit_used: used + line.currency.zero(),
    };
    tx.emit(context, line, change)?;
    tx.emit(context, payment, PaymentChange::Reversed)?;
    for place in changed {
        let other = &of_line[place];
        tx.emit(context, other, PaymentChange::Reapplied)?;
        cash.reapplied.insert(other.id);
        payments.insert(other.id, other.clone());
    }
    cash.lines.insert(line.id);
    *cash.paid.entry(line.call_id).or_default() += used - payment.applied;
    Ok(())
}

fn take_back(Sent { context, body, .. }: &Sent<ReversePayment>, payment: &mut Payment) -> Result<Payment, Rejection> {
    context.actor.check_fund(payment.fund_id)?;
    check_text("reason", &body.reason, 500)?;
    calendar::plausible_date("effective_on", body.effective_on)?;
    let reversal = Reversal { reason: body.reason.clone(), effective_on: body.effective_on, reversed_by: context.actor.user.clone() };
    payment.reversal = Some(domain::reverse(payment, reversal)?);
    payment.version += 1;
    payment.status = domain::payment_status(payment);
    Ok(payment.clone())
}

/// What cash moved, to be stored: the lines, and by how much their calls are paid more or less.
fn moved<'a>(lines: &'a HashMap<Uuid, CallLine>, payments: impl Iterator<Item = (&'a Payment, Amount)>) -> store::Moved<'a> {
    let mut moved = store::Moved::default();
    let mut touched: HashSet<Uuid> = HashSet::new();
    for (payment, amount) in payments {
        *moved.paid.entry(payment.call_id).or_default() += amount;
        touched.insert(payment.line_id);
    }
    moved.lines = lines.values().filter(|line| touched.contains(&line.id)).collect();
    moved
}

/// Stores what cash moved, with new payments; what a call is paid in all is published as a summary.
async fn save_moved(tx: &mut Tx, added: &[&Payment], moved: &store::Moved<'_>) -> Result<(), Fault> {
    if moved.lines.is_empty() {
        return Ok(());
    }
    store::save_moved(tx, added, moved).await?;
    for call_id in moved.paid.keys() {
        tx.summarise_later::<CapitalCall>(*call_id);
    }
    Ok(())
}

impl Summarise<CapitalCall> for CapitalCalls {
    async fn summarise(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, CapitalCall, CapitalCallChange)>, Fault> {
        let calls = store::next_versions(tx, ids).await?;
        Ok(calls.into_iter().map(|call| (call.id, call, CapitalCallChange::FundingChanged)).collect())
    }
}
