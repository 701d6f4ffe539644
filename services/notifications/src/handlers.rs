//! The handlers: follow the lines, and raise what is due.

use ::domain::messages::capital_calls::{CallLine, CallLineChange, Investor};
use ::domain::messages::notifications::NoticeChange;
use ::domain::{calendar, rules::Rules};
use chassis::{Courier, Errand, Fault, Follow, Seen, Tx};

use crate::{Notifications, domain, store};

/// Most notices raised in one transaction.
const RAISE_MAX: i64 = 500;

impl Follow<CallLine> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CallLine>]) -> Result<(), Fault> {
        store::keep_lines(tx, batch).await?;
        let mut schedules = Vec::new();
        // every state carries all that is needed: a line whose first event was never seen is scheduled too
        for seen in batch.iter().filter(|seen| seen.change == CallLineChange::Issued || seen.state.version > 1) {
            let line = &seen.state;
            let Ok(timezone) = calendar::timezone(&line.timezone) else {
                return Err(Fault::Fatal(format!("call line {} has the unknown time zone {:?}", line.id, line.timezone)));
            };
            let rules: Rules = match tx.rules().rules(&line.fund_type, line.fund_id) {
                Ok(rules) => rules,
                Err(rejection) => return Err(Fault::Transient(format!("rules of fund {}: {rejection}", line.fund_id))),
            };
            for schedule in domain::schedules(&rules, line.issued_on, line.due_on) {
                schedules.push((line.id, domain::start_of(schedule.on, timezone), schedule));
            }
        }
        store::add_schedules(tx, &schedules).await
    }
}

impl Follow<Investor> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Investor>]) -> Result<(), Fault> {
        store::keep_investors(tx, batch).await
    }
}

/// Raises the notices that are due. Marking and publishing are one transaction, so that a notice is
/// raised once, also after an outage or when the clock jumps.
pub struct Raise {
    /// Whether notices are sent by mail as well.
    pub by_mail: bool,
}

impl Errand for Raise {
    type Item = ();
    type Outcome = ();
    const AT_ONCE: usize = 1;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<()>, Fault> {
        let due = store::take_due(tx, RAISE_MAX).await?;
        let more = due.len() as i64 == RAISE_MAX;
        let context = tx.own_context();
        let mut raised = Vec::new();
        for notice in due.into_iter().filter(|notice| domain::is_wanted(notice.kind, notice.outstanding)) {
            tx.emit(&context, &notice, NoticeChange::Raised)?;
            raised.push(notice);
        }
        if self.by_mail {
            store::add_deliveries(tx, &raised).await?;
        }
        // everything is done in the claim; an item asks for another round at once
        Ok(if more { vec![()] } else { vec![] })
    }

    async fn run(&self, _: &Courier, (): &()) {}

    async fn record(&self, _: &mut Tx, _: Vec<((), ())>) -> Result<(), Fault> {
        Ok(())
    }
}
