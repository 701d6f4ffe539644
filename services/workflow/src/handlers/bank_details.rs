//! Changes of bank details: their steps begin when they are proposed, and wait for the second person.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{BankDetails, BankDetailsDecision};
use ::domain::messages::workflow::{StepName, SubjectKind};
use ::domain::{Amount, ids};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Follow, Seen, Tx};
use uuid::Uuid;

use super::{Request, changes, start, step_on};
use crate::domain::{Decided, Subject};
use crate::{WorkflowService, domain, store};

impl Follow<BankDetails> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<BankDetails>]) -> Result<(), Fault> {
        start(tx, batch.iter().map(|seen| (&seen.context, request(seen))).collect()).await?;
        confirm(tx, batch).await?;
        let rejected = batch.iter().filter(|seen| seen.state.decision == BankDetailsDecision::Rejected);
        changes::withdraw(tx, SubjectKind::BankDetails, &rejected.map(|seen| (seen.state.id, &seen.context)).collect()).await
    }
}

fn request(seen: &Seen<BankDetails>) -> Request {
    let state = &seen.state;
    Request {
        kind: SubjectKind::BankDetails,
        workflow_id: ids::workflow_id(state.id),
        subject_id: state.id,
        // an investor's belong to no fund
        fund_id: state.fund_id.unwrap_or_default(),
        requested_by: state.proposed_by.clone(),
        created_at: state.created_at,
        subject: Subject::of(state.fund_type.as_deref().unwrap_or_default(), Amount::ZERO, Some(state.currency), &state.hash),
        epoch: seen.epoch,
        decided: match (state.decision, state.released_at) {
            (BankDetailsDecision::Rejected, _) => Some(Decided::Denied),
            (BankDetailsDecision::Confirmed, Some(_)) => Some(Decided::Granted),
            (BankDetailsDecision::Proposed | BankDetailsDecision::Confirmed, _) => None,
        },
    }
}

/// Has the workflows of bank details go on that a second person has confirmed.
async fn confirm(tx: &mut Tx, batch: &[Seen<BankDetails>]) -> Result<(), Fault> {
    let is_confirmed = |seen: &&Seen<BankDetails>| seen.state.decision == BankDetailsDecision::Confirmed;
    let confirmed: HashMap<Uuid, &Seen<BankDetails>> = batch.iter().filter(is_confirmed).map(|seen| (seen.state.id, seen)).collect();
    if confirmed.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    let (mut noted, mut waited) = (vec![], vec![]);
    let mut contexts: HashMap<Uuid, &Context> = HashMap::new();
    for mut instance in store::lock_incomplete(tx, &sorted_ids(confirmed.keys().copied())).await? {
        let Some(seen) = confirmed.get(&instance.workflow.subject_id) else { continue };
        if instance.subject.noted.contains_key(&StepName::Confirm) {
            continue;
        }
        let note = format!("confirmed by {}", seen.state.decided_by.as_deref().unwrap_or("somebody"));
        let has_waited = domain::note(&mut instance.workflow, &mut instance.subject, StepName::Confirm, note, now);
        noted.push(instance.clone());
        if has_waited {
            contexts.insert(instance.workflow.id, &seen.context);
            instance.due_at = None;
            waited.push(instance);
        }
    }
    store::save_subjects(tx, &noted.iter().collect::<Vec<_>>()).await?;
    step_on(tx, &mut waited, |instance| contexts[&instance.workflow.id].clone()).await
}
