//! Cash on lines: recorded one by one or many at once.
//!
//! Rows are locked in the order lines, payments, calls, each by id: whoever changes a payment holds its line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ::domain::message::Outcomes;
use ::domain::messages::capital_calls::{
    CallLine, CallLineChange, CapitalCall, CapitalCallChange, Clearing, Payment, PaymentAccepted, PaymentChange, PaymentMethod,
    PaymentStatus, RecordPayment, RecordPayments, RecordReceipt, Suspense,
};
use ::domain::rules::Rules;
use ::domain::{Amount, Reason, Rejection, calendar};
use chassis::row::sorted_ids;
use chassis::{Answers, Batch, Context, Fault, Handle, Summarise, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::late::{Histories, dependent};
use super::today_of;
use crate::domain::{Cash, FundCopy};
use crate::store::Look;
use crate::{CapitalCalls, domain, store};

impl Handle<RecordPayment> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordPayment>) -> Result<Answers<Payment>, Fault> {
        let received: Vec<(&Context, &RecordPayment)> = batch.iter().map(|sent| (&sent.context, &sent.body)).collect();
        record_all(tx, &received).await
    }
}

impl Handle<RecordPayments> for CapitalCalls {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RecordPayments>) -> Result<Answers<Outcomes<PaymentAccepted>>, Fault> {
        let recorded = record_all(tx, &batch.parts()).await?;
        let accepted =
            |Payment { id, applied, unapplied, suspended, .. }| PaymentAccepted { payment_id: id, applied, unapplied, suspended };
        batch.answers_of_parts(tx, recorded.into_iter().map(|payment| payment.map(accepted)).collect())
    }
}

/// Decides payments one on top of the other and stores those that are accepted.
async fn record_all(tx: &mut Tx, received: &[(&Context, &RecordPayment)]) -> Result<Answers<Payment>, Fault> {
    let reported = Reported::lock(tx, received.iter().map(|(_, body)| *body)).await?;
    let mut lines = store::lock_lines(tx, &sorted_ids(received.iter().map(|(_, body)| body.line_id))).await?;
    let mut desk = Desk::open(tx, received.iter().map(|(_, body)| *body), &lines, reported).await?;
    let mut answers = Answers::with_capacity(received.len());
    for (context, body) in received {
        let recorded = match lines.get_mut(&body.line_id) {
            None => Err(Reason::UnknownCallLine.with(format!("call line {}", body.line_id))),
            Some(line) => desk.record(tx, context, body, line, None),
        };
        if let Ok(Recorded::New(payment)) = &recorded {
            publish(tx, context, payment, &lines[&payment.line_id])?;
            desk.histories.publish(tx, context)?;
        }
        answers.push(recorded.map(Recorded::payment));
    }
    desk.save(tx, &lines).await?;
    Ok(answers)
}

/// Publishes a new payment, and its line where it was applied.
pub fn publish(tx: &mut Tx, context: &Context, payment: &Payment, line: &CallLine) -> Result<(), Fault> {
    if !payment.suspended.is_positive() {
        let Payment { id, applied, unapplied, .. } = *payment;
        tx.emit(context, line, CallLineChange::PaymentApplied { payment_id: id, applied, unapplied })?;
    }
    tx.emit(context, payment, PaymentChange::Recorded)
}

/// What became of cash that was reported.
pub enum Recorded {
    /// It is a payment now.
    New(Payment),
    /// It was one before.
    Known(Payment),
}

impl Recorded {
    /// The payment.
    pub fn payment(self) -> Payment {
        match self {
            Recorded::New(payment) | Recorded::Known(payment) => payment,
        }
    }
}

type Report = (String, String);

/// Payments by the source and external reference that they were reported with.
#[derive(Clone)]
pub struct Reported(HashMap<Report, Payment>);

impl Reported {
    /// Finds the payments that were reported before; others who report them wait.
    pub async fn lock<'a>(tx: &mut Tx, received: impl Iterator<Item = &'a RecordPayment>) -> Result<Reported, Fault> {
        let reports: Vec<(&str, &str)> =
            received.filter_map(|body| Some((body.source.as_deref()?, body.external_reference.as_deref()?))).collect();
        let known = store::lock_reported(tx, &reports).await?;
        Ok(Reported(known.into_iter().filter_map(|payment| Some((report(&payment)?, payment))).collect()))
    }
}

fn report(payment: &Payment) -> Option<Report> {
    Some((payment.source.clone()?, payment.external_reference.clone()?))
}

/// How cash for a line looks.
fn look(line: &CallLine, amount: Amount, received_on: NaiveDate) -> Look {
    (line.fund_id, line.investor_id, amount, received_on)
}

/// What new payments are checked against, and those that were recorded so far.
#[derive(Clone)]
pub struct Desk {
    /// What lines were paid before, and their versions.
    opening: Opening,
    /// Lines whose payments depend on each other.
    pub histories: Histories,
    rules: HashMap<Uuid, Result<Arc<Rules>, Rejection>>,
    funds: HashMap<Uuid, FundCopy>,
    reported: Reported,
    /// Payments that count, by their sources.
    similar: HashMap<Look, HashMap<Option<String>, Alike>>,
    added: Vec<Payment>,
    /// Whether what looks like other cash is known to be another: a person has decided about it already.
    pub trusts: bool,
}

/// Payments of one source that look like each other.
#[derive(Clone, Default)]
struct Alike {
    earliest: Earliest,
    /// By line, method and reference, too.
    same: HashMap<(Uuid, PaymentMethod, String), Earliest>,
}

/// A payment, and the receipt that it is a part of.
type Part = (Uuid, Option<Uuid>);

/// The earliest of some payments, by their ids, and the earliest that is no part of the same receipt: parts are not compared with each
/// other.
#[derive(Clone, Default)]
struct Earliest {
    first: Option<Part>,
    other: Option<Part>,
}

impl Earliest {
    fn note(&mut self, part: Part) {
        let Some(first) = self.first else {
            self.first = Some(part);
            return;
        };
        let (earlier, later) = if part.0 < first.0 { (part, first) } else { (first, part) };
        self.first = Some(earlier);
        if later.1.is_none() || later.1 != earlier.1 {
            self.other = Some(self.other.map_or(later, |other| other.min(later)));
        }
    }

    fn apart_from(&self, receipt_id: Option<Uuid>) -> Option<Uuid> {
        let is_apart = |(_, receipt): &Part| receipt_id.is_none() || *receipt != receipt_id;
        self.first.filter(is_apart).or(self.other).map(|(id, _)| id)
    }
}

impl Desk {
    /// Looks up what payments for these lines are checked against. The lines are locked.
    pub async fn open(
        tx: &mut Tx,
        received: impl Iterator<Item = &RecordPayment> + Clone,
        lines: &HashMap<Uuid, CallLine>,
        reported: Reported,
    ) -> Result<Desk, Fault> {
        let mut rules = HashMap::new();
        for line in lines.values() {
            rules.entry(line.fund_id).or_insert_with(|| tx.rules().rules(&line.fund_type, line.fund_id).map(Arc::new));
        }
        let mut desk = Desk {
            opening: opening(lines),
            histories: Histories::default(),
            rules,
            funds: HashMap::new(),
            reported,
            similar: HashMap::new(),
            added: vec![],
            trusts: false,
        };
        desk.look(tx, received, lines).await?;
        Ok(desk)
    }

    /// Looks for payments that these look like, and for the funds whose calendars say when they clear. What is recorded for another line of
    /// the payer at the same time is not seen.
    pub async fn look(
        &mut self,
        tx: &mut Tx,
        received: impl Iterator<Item = &RecordPayment> + Clone,
        lines: &HashMap<Uuid, CallLine>,
    ) -> Result<(), Fault> {
        let look = |body: &RecordPayment| Some((look(lines.get(&body.line_id)?, body.amount, body.received_on), body.source.clone()));
        let looks: HashSet<(Look, Option<String>)> = received.clone().filter_map(look).collect();
        if !looks.is_empty() {
            for payment in store::similar_payments(tx, &looks.into_iter().collect::<Vec<_>>()).await? {
                self.note_similar(payment);
            }
        }
        let cash = received.clone().map(|body| (body.line_id, body.received_on));
        let tolerates = |line: &CallLine| {
            let rules = self.rules.get(&line.fund_id).and_then(|rules| rules.as_ref().ok());
            rules.is_some_and(|rules| rules.short_payment_tolerance.is_positive())
        };
        let dependent = dependent(lines, cash, tolerates);
        self.histories.load(tx, &dependent, &self.added).await?;
        let slow = |body: &RecordPayment| {
            let fund_id = lines.get(&body.line_id)?.fund_id;
            let rules = self.rules.get(&fund_id)?.as_ref().ok()?;
            (rules.clearing_business_days.of(body.method) > 0 && !self.funds.contains_key(&fund_id)).then_some(fund_id)
        };
        let slow = sorted_ids(received.filter_map(slow));
        if !slow.is_empty() {
            self.funds.extend(store::funds(tx, &slow).await?);
        }
        Ok(())
    }

    fn note_similar(&mut self, payment: Payment) {
        let look = (payment.fund_id, payment.investor_id, payment.amount, payment.received_on);
        let alike = self.similar.entry(look).or_default().entry(payment.source.clone()).or_default();
        let known = (payment.id, payment.receipt_id);
        alike.earliest.note(known);
        alike.same.entry((payment.line_id, payment.method, payment.reference)).or_default().note(known);
    }

    /// The receipt that was reported before as this one.
    pub fn known_receipt(&self, body: &RecordReceipt) -> Result<Option<Uuid>, Rejection> {
        let (Some(source), Some(reference)) = (&body.source, &body.external_reference) else { return Ok(None) };
        let Some(known) = self.reported.0.get(&(source.clone(), reference.clone())) else { return Ok(None) };
        let same = (known.fund_id, known.investor_id, known.received_on) == (body.fund_id, body.investor_id, body.received_on);
        match known.receipt_id {
            Some(receipt_id) if same => Ok(Some(receipt_id)),
            _ => Err(Reason::ExternalReferenceReused.with(format!("{source} reported {reference:?} as payment {}", known.id))),
        }
    }

    /// The parts of a receipt that were recorded so far.
    pub fn parts_of(&self, receipt_id: Uuid) -> Vec<Payment> {
        self.added.iter().filter(|payment| payment.receipt_id == Some(receipt_id)).cloned().collect()
    }

    /// Decides one payment, on top of those before.
    pub fn record(
        &mut self,
        tx: &Tx,
        context: &Context,
        body: &RecordPayment,
        line: &mut CallLine,
        receipt_id: Option<Uuid>,
    ) -> Result<Recorded, Rejection> {
        context.actor.check_fund(line.fund_id)?;
        domain::check_reference(body.method, &body.reference)?;
        domain::check_source(body.source.as_deref(), body.external_reference.as_deref())?;
        calendar::value_date("received_on", body.received_on, today_of(tx, line))?;
        if let Some(known) = self.known(body)? {
            return Ok(Recorded::Known(known));
        }
        let rules = self.rules.get(&line.fund_id).cloned().ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", line.fund_id)))??;
        if !rules.payment_methods.contains(&body.method) {
            let method = chassis::row::name(&body.method);
            let refused = Reason::PaymentMethodNotAllowed.with(format!("fund {} takes no payment by {method}", line.fund_id));
            return Err(tx.rules().named(&line.fund_type, line.fund_id, refused));
        }
        self.histories.check_room(line.id)?;
        let cash =
            Cash { value_on: Some(body.received_on), ..domain::pay(line, body.amount, body.currency, rules.short_payment_tolerance)? };
        let amount = cash.applied + cash.unapplied - cash.charges;
        // the parts of a receipt are one payment of one source
        let of_receipt = self.added.iter().rev().take_while(|added| receipt_id.is_some() && added.receipt_id == receipt_id);
        let source = body.source.clone().or_else(|| of_receipt.filter_map(|added| added.source.clone()).next());
        let suspense = self.suspense(body, line, receipt_id, source.as_ref(), cash)?;
        let today = today_of(tx, line);
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
            charges: cash.charges,
            interest: line.currency.zero(),
            suspended: line.currency.zero(),
            refunded: line.currency.zero(),
            moved: line.currency.zero(),
            method: body.method,
            reference: body.reference.clone(),
            received_on: body.received_on,
            clears_on: self.clears_on(body, line, &rules)?,
            clearing: Clearing::Cleared,
            recorded_by: context.actor.user.clone(),
            source,
            external_reference: body.external_reference.clone(),
            receipt_id,
            moved_from: None,
            suspense,
            reversal: None,
            status: PaymentStatus::Applied,
        };
        if payment.suspense.is_some() {
            let zero = line.currency.zero();
            (payment.applied, payment.unapplied, payment.charges, payment.suspended) = (zero, zero, zero, amount);
        } else {
            domain::settle(line, cash, today);
            self.histories.pay_anew(tx, line, &mut payment);
        }
        domain::derive_payment(&mut payment, today);
        self.note_similar(payment.clone());
        if let Some(report) = report(&payment) {
            self.reported.0.insert(report, payment.clone());
        }
        self.added.push(payment.clone());
        Ok(Recorded::New(payment))
    }

    /// The payment that was reported before as this one.
    fn known(&self, body: &RecordPayment) -> Result<Option<Payment>, Rejection> {
        let (Some(source), Some(reference)) = (&body.source, &body.external_reference) else { return Ok(None) };
        let Some(known) = self.reported.0.get(&(source.clone(), reference.clone())) else { return Ok(None) };
        if (known.line_id, known.amount, known.received_on) == (body.line_id, body.amount, body.received_on) {
            return Ok(Some(known.clone()));
        }
        let why = format!("{source} reported {reference:?} as payment {} of {} on {}", known.id, known.amount, known.received_on);
        Err(Reason::ExternalReferenceReused.with(why))
    }

    /// Whether a person must look at it first: somebody may have recorded the same cash before.
    fn suspense(
        &self,
        body: &RecordPayment,
        line: &CallLine,
        receipt_id: Option<Uuid>,
        source: Option<&String>,
        cash: Cash,
    ) -> Result<Option<Suspense>, Rejection> {
        if self.trusts {
            return Ok(None);
        }
        // two entries of one bank account are two payments
        let apart = |of: &Option<String>| source.is_none() || of.as_ref() != source;
        let sources = self.similar.get(&look(line, body.amount, body.received_on)).into_iter().flatten();
        let similar = sources.filter(|(source, _)| apart(source)).map(|(_, alike)| alike);
        let earliest = similar.clone().filter_map(|alike| alike.earliest.apart_from(receipt_id));
        let Some(before) = earliest.min() else { return Ok(None) };
        let says = (body.line_id, body.method, body.reference.clone());
        let same = similar.filter_map(|alike| alike.same.get(&says)?.apart_from(receipt_id)).min();
        if let Some(before) = same.filter(|_| cash.unapplied.is_positive()) {
            let why =
                format!("payment {before} has the same line, amount, method, reference and date, and {} is outstanding", line.outstanding);
            return Err(Reason::DuplicatePayment.with(why));
        }
        let warning = format!("payment {before} has the same payer, amount and date: release this one if it is another, or reverse it");
        Ok(Some(Suspense { similar_to: before, warning, released_by: None }))
    }

    /// When it is certain; none for at once.
    fn clears_on(&self, body: &RecordPayment, line: &CallLine, rules: &Rules) -> Result<Option<NaiveDate>, Rejection> {
        let days = rules.clearing_business_days.of(body.method);
        if days == 0 {
            return Ok(None);
        }
        let fund = self.funds.get(&line.fund_id).ok_or_else(|| Reason::UnknownFund.with(format!("fund {}", line.fund_id)))?;
        domain::business_days_after(fund, rules, body.received_on, days).map(Some)
    }

    /// Stores the payments, and what they moved.
    pub async fn save(&self, tx: &mut Tx, lines: &HashMap<Uuid, CallLine>) -> Result<(), Fault> {
        let changed = self.histories.changed();
        // as they are in the end: a later payment of the batch may have changed an earlier one
        let added: Vec<&Payment> = self.added.iter().map(|payment| changed.get(&payment.id).unwrap_or(payment)).collect();
        save_moved(tx, &added, &moved(lines, &self.opening)).await?;
        let is_added = |payment: &&Payment| self.added.iter().any(|added| added.id == payment.id);
        store::save_payments(tx, &changed.values().filter(|payment| !is_added(payment)).collect::<Vec<_>>()).await
    }
}

/// What lines are paid, and their versions.
pub type Opening = HashMap<Uuid, (Amount, i64)>;

/// What lines are before cash moves.
pub fn opening(lines: &HashMap<Uuid, CallLine>) -> Opening {
    lines.values().map(|line| (line.id, (line.paid, line.version))).collect()
}

/// What cash moved, to be stored: the lines that changed, and by how much their calls are paid more or less.
pub fn moved<'a>(lines: &'a HashMap<Uuid, CallLine>, opening: &Opening) -> store::Moved<'a> {
    let mut moved = store::Moved::default();
    for line in lines.values() {
        let Some((paid, version)) = opening.get(&line.id) else { continue };
        if line.version != *version {
            *moved.paid.entry(line.call_id).or_default() += line.paid - *paid;
            moved.lines.push(line);
        }
    }
    moved
}

/// Stores what cash moved, with new payments; what a call is paid in all is published as a summary.
pub async fn save_moved(tx: &mut Tx, added: &[&Payment], moved: &store::Moved<'_>) -> Result<(), Fault> {
    if moved.lines.is_empty() && added.is_empty() {
        return Ok(());
    }
    store::save_moved(tx, added, moved).await?;
    for call_id in moved.paid.keys() {
        tx.summarise_later::<CapitalCall>(*call_id);
    }
    Ok(())
}

/// By how much calls are paid more.
pub type PaidMore = BTreeMap<Uuid, Amount>;

impl Summarise<CapitalCall> for CapitalCalls {
    async fn summarise(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, CapitalCall, CapitalCallChange)>, Fault> {
        let calls = store::next_versions(tx, ids).await?;
        Ok(calls.into_iter().map(|call| (call.id, call, CapitalCallChange::FundingChanged)).collect())
    }
}
