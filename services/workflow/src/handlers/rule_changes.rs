//! Changes of rules: proposed, simulated, voted on, and put in force by their workflows.
//!
//! What people do to a change, and what becomes of its workflow by that, is written in one transaction: a process that dies in between has
//! done nothing, and who asks again does it. The workflow then has it decided by a command, as every other: one that is sent again finds
//! it decided. Whoever decides about rules holds one lock, first of all, then the workflows of the changes
//! concerned, then the changes.

use std::collections::BTreeMap;

use ::domain::messages::workflow::{
    DecideRuleChange, EditRuleChange, GetRuleChange, ListRuleChanges, ProposeRules, RollBackRules, RuleChange, RuleChangeChange,
    SimulateRuleChange, StepName, SubjectKind, VoteOnRules, WithdrawRuleChange, WorkflowChange,
};
use ::domain::rules::{RuleBook, RuleLayer, RuleScope};
use ::domain::{Amount, Page, Reason, Rejection, ids};
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Sent, Show, Tx, cursor};
use serde_json::json;
use uuid::Uuid;

use super::rules::{Rulebook, above_environment, simulate};
use super::{Request, begin, first_state, publish, step_on};
use crate::domain::{self, Subject, Written};
use crate::{WorkflowService, store};

impl Handle<ProposeRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeRules>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &[]).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let ProposeRules { scope, rules, comment, active_from } = body.clone();
            answers.push(match domain::scope_of(&scope, &context.actor) {
                Ok(scope) => propose(tx, context, &rulebook, &scope, Written { rules, comment, active_from }).await?,
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

impl Handle<RollBackRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RollBackRules>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &[]).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let RollBackRules { comment, active_from, to_version, .. } = body.clone();
            answers.push(match domain::scope_of(&body.scope, &context.actor) {
                Ok(scope) => match layer_of(tx, &scope, to_version).await? {
                    Some(rules) => propose(tx, context, &rulebook, &scope, Written { rules, comment, active_from }).await?,
                    None => Err(Reason::UnknownRuleVersion.with(format!("{scope} has no version {to_version}"))),
                },
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// The layer of a version. Of version 0 it is empty: what `deploy/rules` says stands below every layer that is put.
async fn layer_of(tx: &mut Tx, scope: &RuleScope, version: i64) -> Result<Option<RuleLayer>, Fault> {
    match version {
        0 => Ok(Some(RuleLayer::default())),
        _ => Ok(store::rule_version(tx, &scope.to_string(), version).await?.map(|rules| rules.rules)),
    }
}

async fn propose(
    tx: &mut Tx,
    context: &Context,
    rulebook: &Rulebook,
    scope: &RuleScope,
    written: Written,
) -> Result<Result<RuleChange, Rejection>, Fault> {
    if let Err(rejection) = written.check(tx.now()) {
        return Ok(Err(rejection));
    }
    let mut change = domain::first_draft(tx.new_id(), scope, &context.actor.user, tx.now());
    write(context, &rulebook.book, scope, &mut change, written);
    rulebook.save(tx, context, scope, &mut change, RuleChangeChange::Proposed).await?;
    Ok(Ok(change))
}

/// Writes a change against the version of the layer that is in force now.
fn write(context: &Context, book: &RuleBook, scope: &RuleScope, change: &mut RuleChange, written: Written) {
    let problems = book.contradictions(scope, &written.rules);
    domain::write_anew(change, written, book.version(scope), book.votes_for(scope), problems, &context.actor.user);
}

/// A change that has moved on, or shall, and its scope; or why it may not.
type Moved = Result<(RuleChange, RuleScope), Rejection>;

/// A change that is open, locked; or why the actor may not touch it.
async fn lock_open(tx: &mut Tx, context: &Context, id: Uuid) -> Result<Moved, Fault> {
    let Some(change) = store::lock_rule_change(tx, id).await? else {
        return Ok(Err(Reason::UnknownRuleChange.with(format!("change {id}"))));
    };
    let may = domain::scope_of(&change.scope, &context.actor).and_then(|scope| domain::check_open(&change).map(|()| scope));
    Ok(may.map(|scope| (change, scope)))
}

impl Rulebook {
    /// Saves a change that has moved on, where it has, and has its workflow move on.
    async fn save_moved(
        &self,
        tx: &mut Tx,
        context: &Context,
        moved: Moved,
        how: RuleChangeChange,
    ) -> Result<Result<RuleChange, Rejection>, Fault> {
        let (mut change, scope) = match moved {
            Ok(moved) => moved,
            Err(rejection) => return Ok(Err(rejection)),
        };
        change.version += 1;
        // rules that have asked for more people since it was written are obeyed
        change.votes_needed = change.votes_needed.max(self.book.votes_for(&scope));
        change.status = domain::rule_change_status(&change);
        self.save(tx, context, &scope, &mut change, how).await?;
        Ok(Ok(change))
    }

    /// Saves a change, and has its workflow begin or move on.
    async fn save(
        &self,
        tx: &mut Tx,
        context: &Context,
        scope: &RuleScope,
        change: &mut RuleChange,
        how: RuleChangeChange,
    ) -> Result<(), Fault> {
        let end = domain::end_of_rule_change(change);
        if change.workflow_id.is_none() && change.problems.is_empty() && end.is_none() {
            // another content has another one, also when the database was set back
            let name = format!("workflow of version {} {}", change.version, change.content_hash);
            change.workflow_id = Some(ids::derived(&name, change.id));
        }
        tx.emit(context, change, how)?;
        store::save_rule_change(tx, change).await?;
        match (change.workflow_id, end) {
            (Some(id), Some(why)) => give_up(tx, context, id, why).await,
            (Some(id), None) => carry_on(tx, context, (self, scope), change, id).await,
            (None, _) => Ok(()),
        }
    }

    /// Puts an approved change in force; one that does not fit any more goes back to those who wrote it.
    async fn activate(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        scope: &RuleScope,
        change: &mut RuleChange,
        mut problems: Vec<String>,
    ) -> Result<(), Fault> {
        problems.extend(self.book.contradictions(scope, &change.rules));
        if self.book.version(scope) != change.replaces {
            problems.insert(0, self.replaced(scope, change).detail);
        }
        let votes = self.book.votes_for(scope);
        if votes > change.votes_needed {
            problems.insert(0, format!("{votes} other people must approve it now, {} have", change.votes.len()));
        }
        change.version += 1;
        let how = if problems.is_empty() {
            // the version refers to the change
            store::save_rule_change(tx, change).await?;
            let rules = self.put(tx, context, scope, &change.rules, (&change.proposed_by, Some(change.id))).await?;
            change.became = Some(rules.version);
            RuleChangeChange::Activated
        } else {
            (change.problems, change.votes, change.simulation, change.workflow_id) = (problems, vec![], None, None);
            RuleChangeChange::Stopped
        };
        change.status = domain::rule_change_status(change);
        tx.emit(context, change, how)
    }

    /// Does what a change's workflow asks for; one that has been done stays as it is.
    async fn decide(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        body: &DecideRuleChange,
        mut change: RuleChange,
    ) -> Result<Result<RuleChange, Rejection>, Fault> {
        match domain::check_decision(&change, body) {
            Err(rejection) => return Ok(Err(rejection)),
            Ok(false) => return Ok(Ok(change)),
            Ok(true) => {}
        }
        match &body.refused_because {
            Some(why) => {
                change.version += 1;
                change.refused_because = Some(why.clone());
                change.status = domain::rule_change_status(&change);
                tx.emit(context, &change, RuleChangeChange::Refused)?;
            }
            None if store::is_another_first(tx, &change).await? => {
                // it is tried again in a moment
                return Ok(Err(Reason::EarlierRulesFirst.with(format!("change {} waits for one whose time came earlier", change.id))));
            }
            None => {
                let scope: RuleScope = change.scope.parse().map_err(|rejection: Rejection| Fault::Fatal(rejection.to_string()))?;
                let workflow = store::find(tx, body.workflow_id).await?;
                let rules = self.of_firm()?;
                let not_asked = workflow.map(|workflow| domain::programs_not_asked(&rules, &workflow)).unwrap_or_default();
                self.activate(tx, context, &scope, &mut change, not_asked).await?;
            }
        }
        store::save_rule_change(tx, &change).await?;
        Ok(Ok(change))
    }

    fn replaced(&self, scope: &RuleScope, change: &RuleChange) -> Rejection {
        let (newest, replaces) = (self.book.version(scope), change.replaces);
        Reason::RulesReplaced.with(format!("{scope} has version {newest} now, the change was written against version {replaces}"))
    }
}

impl Handle<EditRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<EditRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &batch.ids(|body| body.rule_change_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let EditRuleChange { rule_change_id, rules, comment, active_from } = body.clone();
            let written = Written { rules, comment, active_from };
            let may = lock_open(tx, context, rule_change_id).await?;
            answers.push(match may {
                // a request that is repeated voids no votes
                Ok((change, scope)) if domain::says(&change, &written, rulebook.book.version(&scope)) => Ok(change),
                Ok((mut change, scope)) => match check_not_paused(tx, &change).await?.and_then(|()| written.check(tx.now())) {
                    Ok(()) => {
                        if let Some(before) = change.workflow_id {
                            let why = Reason::Withdrawn.with(format!("{} has written the change anew", context.actor.user));
                            give_up(tx, context, before, why).await?;
                        }
                        write(context, &rulebook.book, &scope, &mut change, written);
                        rulebook.save_moved(tx, context, Ok((change, scope)), RuleChangeChange::Edited).await?
                    }
                    Err(rejection) => Err(rejection),
                },
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// Refuses to write a change anew whose workflow somebody has stopped: the new one would run.
async fn check_not_paused(tx: &mut Tx, change: &RuleChange) -> Result<Result<(), Rejection>, Fault> {
    let workflow = match change.workflow_id {
        Some(id) => store::find(tx, id).await?,
        None => None,
    };
    Ok(match workflow.and_then(|workflow| workflow.paused) {
        Some(pause) => Err(Reason::WorkflowPaused.with(format!("{} has paused change {}: {}", pause.by, change.id, pause.reason))),
        None => Ok(()),
    })
}

impl Handle<SimulateRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SimulateRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &batch.ids(|body| body.rule_change_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let may = lock_open(tx, context, body.rule_change_id).await?;
            let simulated = match may.and_then(|(change, scope)| domain::check_simulation(&change).map(|()| (change, scope))) {
                Ok((change, scope)) => {
                    let simulation = simulate(tx, &rulebook.book, &scope, &change.rules, (None, None), domain::DIFFERENCES_KEPT).await?;
                    simulation.map(|simulation| (RuleChange { simulation: Some(simulation), ..change }, scope))
                }
                Err(rejection) => Err(rejection),
            };
            answers.push(rulebook.save_moved(tx, context, simulated, RuleChangeChange::Simulated).await?);
        }
        Ok(answers)
    }
}

impl Handle<VoteOnRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<VoteOnRules>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &batch.ids(|body| body.rule_change_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let now = tx.now();
            let voted = lock_open(tx, context, body.rule_change_id).await?.and_then(|(mut change, scope)| {
                if rulebook.book.version(&scope) != change.replaces {
                    return Err(rulebook.replaced(&scope, &change));
                }
                change.votes.push(domain::vote_on_rules(&change, &context.actor, body, now)?);
                Ok((change, scope))
            });
            answers.push(rulebook.save_moved(tx, context, voted, RuleChangeChange::Voted).await?);
        }
        Ok(answers)
    }
}

impl Handle<WithdrawRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<WithdrawRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx, &batch.ids(|body| body.rule_change_id)).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let withdrawn_by = Some(context.actor.user.clone());
            let may = lock_open(tx, context, body.rule_change_id).await?;
            let withdrawn = may.map(|(change, scope)| (RuleChange { withdrawn_by, ..change }, scope));
            answers.push(rulebook.save_moved(tx, context, withdrawn, RuleChangeChange::Withdrawn).await?);
        }
        Ok(answers)
    }
}

impl Handle<DecideRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<DecideRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut rulebook = Rulebook::lock(tx, &[]).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match store::lock_rule_change(tx, body.rule_change_id).await? {
                Some(change) => rulebook.decide(tx, context, body, change).await?,
                None => Err(Reason::UnknownRuleChange.with(format!("change {}", body.rule_change_id))),
            });
        }
        Ok(answers)
    }
}

/// Begins the workflow of a change, or has it go on by what people have done to it.
async fn carry_on(
    tx: &mut Tx,
    context: &Context,
    (rulebook, scope): (&Rulebook, &RuleScope),
    change: &RuleChange,
    id: Uuid,
) -> Result<(), Fault> {
    let done = domain::done_by_people(change);
    let Some(mut instance) = store::lock(tx, &[id]).await?.remove(&id) else {
        let request = request(tx, change, scope, id, done);
        let used = rulebook.book.used("", Uuid::nil());
        let instance = first_state(tx, context, &request, &(Ok(rulebook.of_firm()?), used))?;
        return begin(tx, &[context], &[instance]).await;
    };
    let mut has_waited = false;
    for (step, note) in done {
        has_waited |= domain::note(&mut instance.workflow, &mut instance.subject, step, note, tx.now());
    }
    store::save_subjects(tx, &[&instance]).await?;
    if !has_waited {
        return Ok(());
    }
    instance.due_at = None;
    step_on(tx, &mut [instance], |_| context.clone()).await
}

fn request(tx: &Tx, change: &RuleChange, scope: &RuleScope, workflow_id: Uuid, noted: BTreeMap<StepName, String>) -> Request {
    let (fund_type, fund_id) = above_environment(scope, None);
    let RuleChange { scope, rules, replaces, active_from, .. } = change;
    Request {
        kind: SubjectKind::RuleChange,
        workflow_id,
        subject_id: change.id,
        fund_id: fund_id.unwrap_or_default(),
        requested_by: change.proposed_by.clone(),
        // when it was found to be without contradictions
        created_at: tx.now(),
        subject: Subject {
            details: Some(json!({"scope": scope, "rules": rules, "replaces": replaces, "active_from": active_from})),
            active_from: *active_from,
            noted,
            ..Subject::of(fund_type.unwrap_or_default(), Amount::ZERO, None, &change.content_hash)
        },
        // this service is its owner
        epoch: 1,
        decided: None,
    }
}

/// Ends the workflow of what is asked for no more.
async fn give_up(tx: &mut Tx, context: &Context, id: Uuid, why: Rejection) -> Result<(), Fault> {
    let Some(mut instance) = store::lock(tx, &[id]).await?.remove(&id) else { return Ok(()) };
    if !domain::withdraw(&mut instance.workflow, why, tx.now()) {
        return Ok(());
    }
    instance.workflow.version += 1;
    instance.due_at = super::due_at(tx, &instance);
    publish(tx, context, &instance.workflow, WorkflowChange::Advanced)?;
    store::save(tx, &[&instance]).await
}

impl Show<GetRuleChange> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetRuleChange) -> Answer<RuleChange> {
        let id = query.rule_change_id;
        let change = store::find_rule_change(tx, id).await?.ok_or_else(|| Reason::UnknownRuleChange.with(format!("change {id}")))?;
        domain::scope_of(&change.scope, &context.actor)?;
        Ok(change)
    }
}

impl Show<ListRuleChanges> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListRuleChanges) -> Answer<Page<RuleChange>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<Uuid>(query.cursor.as_deref())?.unwrap_or(Uuid::max());
        let scope = query.scope.map(|scope| scope.parse::<RuleScope>()).transpose()?.map(|scope| scope.to_string());
        let funds = context.actor.scope.funds().map(|ids| ids.iter().map(|id| RuleScope::Fund(*id).to_string()).collect::<Vec<_>>());
        let changes = store::list_rule_changes(tx, funds.as_deref(), scope.as_deref(), query.status, before, limit + 1).await?;
        Ok(Page::cut(changes, limit, |last| cursor::write(&last.id)))
    }
}
