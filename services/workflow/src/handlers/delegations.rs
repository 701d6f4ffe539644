//! Votes that somebody else casts for a while.

use ::domain::messages::workflow::{Delegation, DelegationChange, DelegationStatus, GrantDelegation, ListDelegations, RevokeDelegation};
use ::domain::{Page, Reason, Rejection};
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Sent, Show, Tx, cursor};
use uuid::Uuid;

use crate::{WorkflowService, domain, store};

impl Handle<GrantDelegation> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<GrantDelegation>) -> Result<Answers<Delegation>, Fault> {
        let mut answers = Answers::with_capacity(batch.iter().len());
        for Sent { context, body, .. } in batch.iter() {
            if let Err(rejection) = domain::check_delegation(&context.actor, body, tx.now()) {
                answers.push(Err(rejection));
                continue;
            }
            let mut delegation = Delegation {
                id: tx.new_id(),
                version: 1,
                created_at: tx.now(),
                granted_by: context.actor.user.clone(),
                granted_to: body.granted_to.clone(),
                roles: context.actor.roles.clone(),
                funds: context.actor.scope.funds().map(<[Uuid]>::to_vec),
                starts_at: body.starts_at,
                ends_at: body.ends_at,
                reason: body.reason.clone(),
                revoked_at: None,
                status: DelegationStatus::Scheduled,
            };
            delegation.status = delegation.status_at(tx.now());
            store::insert_delegation(tx, &delegation).await?;
            tx.emit(context, &delegation, DelegationChange::Granted)?;
            answers.push(Ok(delegation));
        }
        Ok(answers)
    }
}

impl Handle<RevokeDelegation> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RevokeDelegation>) -> Result<Answers<Delegation>, Fault> {
        let mut answers = Answers::with_capacity(batch.iter().len());
        for Sent { context, body, .. } in batch.iter() {
            answers.push(revoke(tx, context, body.delegation_id).await?);
        }
        Ok(answers)
    }
}

async fn revoke(tx: &mut Tx, context: &Context, id: Uuid) -> Result<Result<Delegation, Rejection>, Fault> {
    let found = store::lock_delegation(tx, id).await?;
    let Some(mut delegation) = found.filter(|delegation| may_see(context, delegation)) else {
        return Ok(Err(Reason::UnknownDelegation.with(format!("delegation {id}"))));
    };
    if delegation.granted_by != context.actor.user && !context.actor.roles.iter().any(|role| role == "admin") {
        return Ok(Err(Reason::Forbidden.with(format!("{} has granted delegation {id}", delegation.granted_by))));
    }
    delegation.status = delegation.status_at(tx.now());
    if matches!(delegation.status, DelegationStatus::Scheduled | DelegationStatus::Active) {
        delegation.version += 1;
        delegation.revoked_at = Some(tx.now());
        delegation.status = delegation.status_at(tx.now());
        store::save_delegation(tx, &delegation).await?;
        tx.emit(context, &delegation, DelegationChange::Revoked)?;
    }
    Ok(Ok(delegation))
}

fn sees_all(context: &Context) -> bool {
    context.actor.roles.iter().any(|role| role == "admin" || role == "auditor")
}

fn may_see(context: &Context, delegation: &Delegation) -> bool {
    sees_all(context) || [&delegation.granted_by, &delegation.granted_to].contains(&&context.actor.user)
}

impl Show<ListDelegations> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListDelegations) -> Answer<Page<Delegation>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let of = (!sees_all(context)).then_some(context.actor.user.as_str());
        let mut delegations = store::list_delegations(tx, of, before, limit + 1).await?;
        for delegation in &mut delegations {
            delegation.status = delegation.status_at(tx.now());
        }
        Ok(Page::cut(delegations, limit, |last| cursor::write(&last.id)))
    }
}
