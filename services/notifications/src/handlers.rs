//! The handlers: follow the lines, and raise what is due.

use ::domain::calendar;
use ::domain::messages::capital_calls::{CallLine, Investor};
use ::domain::messages::notifications::NoticeChange;
use chassis::{Courier, Errand, Fault, Follow, Seen, Tx};
use uuid::Uuid;

use crate::{Notifications, domain, store};

mod alerts;

pub use alerts::TellAlerts;

/// Most notices raised in one transaction.
const RAISE_MAX: i64 = 500;

impl Follow<CallLine> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CallLine>]) -> Result<(), Fault> {
        let unplanned = store::keep_lines(tx, batch).await?;
        store::take_back_schedules(tx, &unplanned).await?;
        let mut schedules = Vec::new();
        // whatever their versions: the first event may have been overtaken
        for seen in batch.iter().filter(|seen| unplanned.contains(&seen.state.id)) {
            let line = &seen.state;
            let Ok(timezone) = calendar::timezone(&line.timezone) else {
                return Err(Fault::Fatal(format!("call line {} has the unknown time zone {:?}", line.id, line.timezone)));
            };
            // the merged layers, not the checked rules: a contradiction about amounts holds up no reminder
            let rules = tx.rules().merged(Some(&line.fund_type), Some(line.fund_id));
            let today = tx.today(timezone);
            for schedule in domain::schedules(&rules, line, today) {
                schedules.push((line.id, domain::start_of(schedule.on, timezone), schedule));
            }
        }
        store::add_schedules(tx, &schedules).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_lines(tx, ids).await
    }
}

impl Follow<Investor> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Investor>]) -> Result<(), Fault> {
        store::keep_investors(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_investors(tx, ids).await
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
        let (due, more) = store::take_due(tx, RAISE_MAX).await?;
        let context = tx.own_context();
        for notice in &due {
            tx.emit(&context, notice, NoticeChange::Raised)?;
        }
        if self.by_mail {
            store::add_deliveries(tx, &due).await?;
        }
        // everything is done in the claim; an item asks for another round at once
        Ok(if more { vec![()] } else { vec![] })
    }

    async fn run(&self, _: &Courier, (): &()) {}

    async fn record(&self, _: &mut Tx, _: Vec<((), ())>) -> Result<(), Fault> {
        Ok(())
    }
}
