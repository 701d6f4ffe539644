//! The deal system's answers: what the next stage of a deal was asked for, and what became of it.

use std::collections::HashMap;

use ::domain::ids;
use ::domain::messages::deals::{Deal, StageRequest, StageRequestChange};
use chassis::row::sorted_ids;
use chassis::{Context, Fault, Follow, Seen, Tx};
use uuid::Uuid;

use super::step_on;
use crate::domain::DealHeard;
use crate::store::Instance;
use crate::{WorkflowService, domain, store};

impl Follow<Deal> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Deal>]) -> Result<(), Fault> {
        // the deals are locked before the workflows that wait for them; whoever asks for a stage locks a deal when its workflow does not wait
        let news = store::hear_of_deals(tx, batch).await?;
        if news.is_empty() {
            return Ok(());
        }
        let heard: HashMap<Uuid, &Seen<Deal>> = batch.iter().map(|seen| (seen.state.id, seen)).collect();
        let (now, mut answered, mut contexts) = (tx.now(), vec![], HashMap::new());
        for mut instance in store::lock_awaiting_deals(tx, &news).await? {
            let Some(seen) = instance.subject.deal_id.and_then(|id| heard.get(&id)) else { continue };
            let request_id = request_id(&instance);
            if domain::hear_of_deal(&mut instance.workflow, &instance.subject, request_id, &DealHeard::of(&seen.state), now) {
                contexts.insert(instance.workflow.id, &seen.context);
                instance.due_at = None;
                answered.push(instance);
            }
        }
        step_on(tx, &mut answered, |instance| contexts[&instance.workflow.id].clone()).await
    }
}

fn request_id(instance: &Instance) -> Uuid {
    ids::derived("stage-request", instance.workflow.id)
}

/// Asks the deal system for the next stages of workflows' deals, where they are not there already. The requests are published with what is
/// stored, so that one is made for each time that the step is done.
pub async fn request_stages(tx: &mut Tx, instances: &mut [Instance], context: impl Fn(&Instance) -> Context) -> Result<(), Fault> {
    let deals = store::lock_deals_heard(tx, &sorted_ids(instances.iter().filter_map(|instance| instance.subject.deal_id))).await?;
    let now = tx.now();
    for instance in instances.iter_mut() {
        let (Some(deal_id), Some(currency)) = (instance.subject.deal_id, instance.subject.currency) else { continue };
        let request_id = request_id(instance);
        let heard = deals.get(&deal_id).cloned().unwrap_or_default();
        if domain::hear_of_deal(&mut instance.workflow, &instance.subject, request_id, &heard, now) {
            continue;
        }
        domain::asked_for_stage(&mut instance.workflow, &mut instance.subject, now);
        let request = StageRequest {
            id: request_id,
            attempt: instance.subject.stage_attempts,
            deal_id,
            stage: instance.subject.stage.stage.clone(),
            allocation_id: instance.workflow.subject_id,
            fund_id: instance.workflow.fund_id,
            amount: instance.subject.amount,
            currency,
        };
        let context = context(instance);
        tx.emit(&context, &request, StageRequestChange::Requested)?;
    }
    store::save_subjects(tx, &instances.iter().collect::<Vec<_>>()).await
}
