//! Lines whose payments depend on each other: cash comes back-dated, interest is due, or a failure may be cured.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{CallLine, Payment, PaymentChange};
use ::domain::{Reason, Rejection};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Tx};
use chrono::NaiveDate;
use uuid::Uuid;

use super::today_of;
use crate::{domain, store};

/// The lines on which cash, of these value dates and in this order, depends on what else was paid.
pub fn dependent(
    lines: &HashMap<Uuid, CallLine>,
    cash: impl Iterator<Item = (Uuid, NaiveDate)>,
    may_be_short: impl Fn(&CallLine) -> bool,
) -> Vec<Uuid> {
    let mut last_paid_on: HashMap<Uuid, Option<NaiveDate>> = HashMap::new();
    let mut dependent = Vec::new();
    for (line_id, value_on) in cash {
        let Some(line) = lines.get(&line_id) else { continue };
        // what one is short by, another one of the same request may bring
        let is_another = last_paid_on.contains_key(&line_id) && may_be_short(line);
        let last = last_paid_on.entry(line_id).or_insert(line.last_paid_on);
        if is_another || domain::depends_on_history(line, *last, value_on) {
            dependent.push(line_id);
        }
        *last = (*last).max(Some(value_on));
    }
    sorted_ids(dependent.into_iter())
}

/// Most payments of one such line that are recorded in one transaction: each has all others of the line pay anew.
const DEPENDENT_MAX: usize = 500;

/// All payments of such lines.
#[derive(Clone, Default)]
pub struct Histories {
    of_line: HashMap<Uuid, Vec<Payment>>,
    /// How many of a line's are new.
    added: HashMap<Uuid, usize>,
    /// The newest state of payments that another one has changed.
    changed: HashMap<Uuid, Payment>,
    /// Each change of them that is not published yet.
    unpublished: Vec<Payment>,
}

impl Histories {
    /// Reads the payments of lines that are locked; `added` are those that are not stored yet.
    pub async fn load(&mut self, tx: &mut Tx, line_ids: &[Uuid], added: &[Payment]) -> Result<(), Fault> {
        let new: Vec<Uuid> = line_ids.iter().filter(|id| !self.of_line.contains_key(id)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.of_line.extend(new.iter().map(|id| (*id, vec![])));
        for payment in store::payments_of_lines(tx, &new).await? {
            self.of_line.entry(payment.line_id).or_default().push(payment);
        }
        for payment in added.iter().filter(|payment| new.contains(&payment.line_id)) {
            self.of_line.entry(payment.line_id).or_default().push(payment.clone());
        }
        Ok(())
    }

    /// Refuses one more payment of a line that has had as many in this transaction as it can.
    pub fn check_room(&self, line_id: Uuid) -> Result<(), Rejection> {
        if self.added.get(&line_id).is_none_or(|added| *added < DEPENDENT_MAX) {
            return Ok(());
        }
        let why = format!(
            "call line {line_id} is late or paid back-dated, and {DEPENDENT_MAX} payments of it are recorded with this one: send it by itself"
        );
        Err(Reason::RequestTooLarge.with(why))
    }

    /// Takes over what somebody else has changed about a payment.
    pub fn note(&mut self, payment: &Payment) {
        let known = self.of_line.get_mut(&payment.line_id).and_then(|of_line| of_line.iter_mut().find(|known| known.id == payment.id));
        if let Some(known) = known {
            known.clone_from(payment);
        }
    }

    /// Has all cash of a line pay anew after a payment came or was released; the payment is what it is then.
    pub fn pay_anew(&mut self, tx: &Tx, line: &mut CallLine, payment: &mut Payment) {
        let Some(history) = self.of_line.get_mut(&line.id) else { return };
        match history.iter_mut().find(|known| known.id == payment.id) {
            Some(known) => known.clone_from(payment),
            None => {
                history.push(payment.clone());
                *self.added.entry(line.id).or_default() += 1;
            }
        }
        let version = payment.version;
        for place in domain::pay_anew(line, history, today_of(tx, line)) {
            if history[place].id == payment.id {
                history[place].version = version;
                payment.clone_from(&history[place]);
            } else {
                self.unpublished.push(history[place].clone());
                self.changed.insert(history[place].id, history[place].clone());
            }
        }
    }

    /// Publishes the payments that others have changed.
    pub fn publish(&mut self, tx: &mut Tx, context: &Context) -> Result<(), Fault> {
        for payment in self.unpublished.drain(..) {
            tx.emit(context, &payment, PaymentChange::Reapplied)?;
        }
        Ok(())
    }

    /// The newest state of payments that others have changed.
    pub fn changed(&self) -> &HashMap<Uuid, Payment> {
        &self.changed
    }
}
