//! The people of the firm are told what they should look at.
//!
//! What is heard is kept with its version, and what follows from it is written in the same transaction; telling it is another one, in
//! which it is marked as told. Both are done once, whatever comes twice.

use ::domain::Page;
use ::domain::messages::allocation_status::{Allocation, Fund};
use ::domain::messages::notifications::{Alert, AlertChange, ListAlerts};
use ::domain::messages::workflow::{Approval, Workflow};
use chassis::{Answer, Context, Courier, Errand, Fault, Follow, Seen, Show, Tx, cursor};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::Told;
use crate::{Notifications, domain, store};

/// Most alerts of one fund and kind that are looked at in one transaction.
const TELL_MAX: i64 = 500;
/// Most funds and kinds that are looked at in one transaction.
const GROUPS_MAX: i64 = 1_000;
/// Nothing is told that was noted less than so long ago: what is read from the past, or decided at once, is over by then.
const PATIENCE: TimeDelta = TimeDelta::seconds(3);

impl Follow<Fund> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        store::keep_funds(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_funds(tx, ids).await
    }
}

impl Follow<Approval> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Approval>]) -> Result<(), Fault> {
        let told = batch.iter().map(|seen| ((seen.state.id, seen.epoch, seen.state.version), domain::of_approval(&seen.state)));
        note(tx, "approval", told.collect()).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_heard(tx, ids).await
    }
}

impl Follow<Workflow> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Workflow>]) -> Result<(), Fault> {
        let told = batch.iter().map(|seen| ((seen.state.id, seen.epoch, seen.state.version), domain::of_workflow(&seen.state)));
        note(tx, "workflow", told.collect()).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_heard(tx, ids).await
    }
}

impl Follow<Allocation> for Notifications {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        let told = batch.iter().map(|seen| ((seen.state.id, seen.epoch, seen.state.version), domain::of_allocation(&seen.state)));
        note(tx, "allocation", told.collect()).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_heard(tx, ids).await
    }
}

/// Writes what is to be told of things of which this is news, and takes back what need not be told any more.
async fn note(tx: &mut Tx, kind: &str, told: Vec<((Uuid, i32, i64), Told)>) -> Result<(), Fault> {
    let seen: Vec<(Uuid, i32, i64)> = told.iter().map(|(seen, _)| *seen).collect();
    let news = store::hear(tx, kind, &seen).await?;
    let of_news = || told.iter().filter(|((id, ..), _)| news.contains(id));
    let over: Vec<Uuid> = of_news().filter(|(_, told)| told.is_over).map(|((id, ..), _)| *id).collect();
    store::take_back_alerts(tx, &over).await?;
    let alerts: Vec<Alert> = of_news().flat_map(|(_, told)| told.alerts.iter().cloned()).collect();
    store::add_alerts(tx, &alerts).await
}

/// Tells what waits, as often in an hour as the rules of the fund allow, by the business clock.
pub struct TellAlerts;

impl Errand for TellAlerts {
    type Item = ();
    type Outcome = ();
    const AT_ONCE: usize = 1;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<()>, Fault> {
        let now = tx.now();
        let before = tx.system_now() - PATIENCE;
        let groups = store::lock_groups(tx, before, GROUPS_MAX).await?;
        if groups.is_empty() {
            return Ok(vec![]);
        }
        let told_before = store::told_since(tx, now - TimeDelta::hours(1)).await?;
        let context = tx.own_context();
        let mut has_told = false;
        for group in groups {
            let (fund_id, kind) = &group;
            let fund_type = store::fund_type(tx, *fund_id).await?;
            let most = tx.rules().merged(fund_type.as_deref(), Some(*fund_id)).alerts_per_hour_max.unwrap_or_default();
            let count = told_before.get(&group).copied().unwrap_or_default();
            let room = (most > 0).then(|| usize::from(most).saturating_sub(count));
            if room == Some(0) {
                continue;
            }
            let alerts = store::lock_alerts(tx, (*fund_id, kind), before, TELL_MAX).await?;
            let ids: Vec<Uuid> = alerts.iter().map(|alert| alert.id).collect();
            let mut told = domain::told_now(alerts, room);
            for alert in &mut told {
                alert.at = now;
                tx.emit(&context, &*alert, AlertChange::Raised)?;
            }
            // those that are told with another one are told
            store::mark_told(tx, &ids, &told, now).await?;
            has_told |= !told.is_empty();
        }
        // where there is no room they wait until there is; another round at once would find the same
        Ok(if has_told { vec![()] } else { vec![] })
    }

    async fn run(&self, _: &Courier, (): &()) {}

    async fn record(&self, _: &mut Tx, _: Vec<((), ())>) -> Result<(), Fault> {
        Ok(())
    }
}

impl Show<ListAlerts> for Notifications {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListAlerts) -> Answer<Page<Alert>> {
        let limit = cursor::limit(query.limit)?;
        let first = (DateTime::<Utc>::from_timestamp(1 << 36, 0).unwrap_or_default(), Uuid::max());
        let before = cursor::read::<(DateTime<Utc>, Uuid)>(query.cursor.as_deref())?.unwrap_or(first);
        let alerts = store::list_alerts(tx, context.actor.scope.funds(), query.fund_id, before, limit + 1).await?;
        Ok(Page::cut(alerts, limit, |last| cursor::write(&(last.at, last.id))))
    }
}
