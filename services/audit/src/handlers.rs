//! The handlers: append what arrives, show it, prove it.

use std::collections::HashSet;

use ::domain::Page;
use ::domain::messages::audit::{AuditRecord, ListAuditRecords, Verification, VerifyAudit};
use ::domain::messages::chassis::Logged;
use ::domain::{Reason, Scope};
use chassis::{Answer, Context, Fault, Record, Recorded, Show, Tx, cursor};
use uuid::Uuid;

use crate::domain::{Chain, Content};
use crate::{Audit, store};

impl Record for Audit {
    const OWNERS: &'static [&'static str] = &["workflow", "allocation-status", "capital-calls", "fund-metrics", "audit", "notifications"];

    async fn missing(&self, tx: &mut Tx, events: Vec<Logged>) -> Result<Vec<Logged>, Fault> {
        let known = store::known_events(tx, &events).await?;
        Ok(events.into_iter().filter(|event| !known.contains(&event.event_id)).collect())
    }

    async fn record(&self, tx: &mut Tx, batch: &[Recorded]) -> Result<(), Fault> {
        let (mut n, mut previous) = store::lock_end(tx).await?;
        let mut seen: HashSet<Uuid> = store::known(tx, batch).await?;
        let mut records = Vec::with_capacity(batch.len());
        for message in batch.iter().filter(|message| seen.insert(message.source_id)) {
            n += 1;
            let hash = Content::of(n, message).hash(&previous);
            previous = hash.to_vec();
            records.push((n, message, hash));
        }
        store::insert(tx, &records).await
    }
}

/// The record is of all funds; it is shown to those only who may see all of them.
fn check_scope(context: &Context) -> Result<(), ::domain::Rejection> {
    match context.actor.scope {
        Scope::All => Ok(()),
        Scope::Funds(_) => {
            Err(Reason::FundOutOfScope.with(format!("the audit record is of all funds; {} may see some only", context.actor.user)))
        }
    }
}

impl Show<ListAuditRecords> for Audit {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListAuditRecords) -> Answer<Page<AuditRecord>> {
        check_scope(context)?;
        let limit = cursor::limit(query.limit)?;
        let after = cursor::read::<i64>(query.cursor.as_deref())?.unwrap_or(0);
        let records = store::list(tx, &query, after, limit + 1).await?;
        Ok(Page::cut(records, limit, |last| cursor::write(&last.n)))
    }
}

impl Show<VerifyAudit> for Audit {
    async fn show(&self, tx: &mut Tx, context: &Context, _: VerifyAudit) -> Answer<Verification> {
        check_scope(context)?;
        let mut chain = Chain::default();
        let mut after = 0;
        while let Some(last) = store::walk(tx, after, |content, hash| chain.check(content, hash)).await? {
            after = last;
        }
        Ok(Verification { valid: chain.first_bad.is_none(), records: chain.records, first_bad: chain.first_bad })
    }
}
