//! Rules: put at once where nobody else must agree, else proposed, simulated, approved by others and put in force at their time.
//!
//! A version is written in one transaction with the change that it comes from and with both events: a process that dies in between has
//! done nothing, and who asks again, or the next look at what is due, does it. Changes are locked before their scope.

use std::collections::BTreeMap;

use ::domain::message::PAGE_MAX;
use ::domain::messages::workflow::{
    EditRuleChange, GetRuleChange, GetRules, ListRuleChanges, ListRuleVersions, ProposeRules, PutRules, RollBackRules, RuleChange,
    RuleChangeChange, RuleChangeStatus, RuleSet, RuleSetChange, RuleSetStatus, RulesView, SimulateRuleChange, SimulateRules, Simulation,
    VoteOnRules, WithdrawRuleChange,
};
use ::domain::rules::{RuleBook, RuleLayer, RuleOrigin, RuleScope, Rules, built_in, built_in_environment};
use ::domain::{Page, Reason, Rejection, ids};
use chassis::rules::RuleSource;
use chassis::{Answer, Answers, Batch, Context, Courier, Errand, Fault, Handle, Sent, Show, Tx, cursor};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::hash;
use crate::domain::{self, Written};
use crate::{WorkflowService, store};

/// Most changes put in force in one transaction: each holds a scope until it ends.
const ACTIVATE_MAX: i64 = 10;

impl Handle<PutRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<PutRules>) -> Result<Answers<RuleSet>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let scope = match check_put(tx, context, body) {
                Ok(scope) => scope,
                Err(rejection) => {
                    answers.push(Err(rejection));
                    continue;
                }
            };
            let newest = lock_layer(tx, &scope).await?;
            let rules = version_of(tx, &scope, newest.version + 1, &body.rules, &context.actor.user, None)?;
            put_in_force(tx, context, &rules).await?;
            answers.push(Ok(rules));
        }
        Ok(answers)
    }
}

/// Refuses a layer that cannot be meant, that contradicts others, or that somebody else must approve.
fn check_put(tx: &Tx, context: &Context, command: &PutRules) -> Result<RuleScope, Rejection> {
    let scope = domain::scope_of(&command.scope, &context.actor)?;
    match votes_needed(&tx.rules(), &scope) {
        0 => {}
        votes => return Err(Reason::RulesNeedApproval.with(format!("a change of {scope} needs {votes} other people"))),
    }
    match tx.rules().contradictions(&scope, &command.rules) {
        problems if problems.is_empty() => Ok(scope),
        problems => Err(Reason::InvalidRules.with(problems.join("; "))),
    }
}

/// How many people, besides those who wrote it, must approve a change of a scope's layer, by the rules in force in this deployment.
fn votes_needed(book: &RuleBook, scope: &RuleScope) -> u16 {
    let (fund_type, fund_id) = above_environment(scope, None);
    book.merged(fund_type, fund_id).rule_votes.unwrap_or_default()
}

/// The fund type and the fund up to which layers are merged for a scope.
fn above_environment<'a>(scope: &'a RuleScope, fund_type: Option<&'a str>) -> (Option<&'a str>, Option<Uuid>) {
    match scope {
        RuleScope::Global | RuleScope::Environment(_) => (None, None),
        RuleScope::FundType(name) => (Some(name.as_str()), None),
        RuleScope::Fund(id) => (fund_type, Some(*id)),
    }
}

/// Keeps others from putting a version of a scope's layer, and returns the newest.
async fn lock_layer(tx: &mut Tx, scope: &RuleScope) -> Result<RuleSet, Fault> {
    let name = scope.to_string();
    store::lock_scope(tx, &name).await?;
    match store::rule_versions(tx, &name, 1).await?.pop() {
        Some(newest) => Ok(newest),
        None => first_version(scope),
    }
}

/// Version 0 of a scope: what `deploy/rules` says.
fn first_version(scope: &RuleScope) -> Result<RuleSet, Fault> {
    let layer = match scope {
        RuleScope::Global => built_in(),
        RuleScope::Environment(name) => built_in_environment(name),
        RuleScope::FundType(_) | RuleScope::Fund(_) => RuleLayer::default(),
    };
    let scope = scope.to_string();
    Ok(RuleSet {
        id: ids::rule_set_id(&scope),
        version: 0,
        created_at: DateTime::UNIX_EPOCH,
        scope,
        content_hash: hash(&serde_json::to_vec(&layer)?),
        rules: layer,
        changed_by: "deploy/rules".into(),
        rule_change_id: None,
        status: RuleSetStatus::Active,
    })
}

fn version_of(tx: &Tx, scope: &RuleScope, version: i64, layer: &RuleLayer, user: &str, from: Option<Uuid>) -> Result<RuleSet, Fault> {
    Ok(RuleSet {
        version,
        created_at: tx.now(),
        content_hash: hash(&serde_json::to_vec(layer)?),
        rules: layer.clone(),
        changed_by: user.to_owned(),
        rule_change_id: from,
        ..first_version(scope)?
    })
}

async fn put_in_force(tx: &mut Tx, context: &Context, rules: &RuleSet) -> Result<(), Fault> {
    store::insert_rule_set(tx, rules).await?;
    tx.emit(context, rules, RuleSetChange::Activated)
}

impl Handle<ProposeRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeRules>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let ProposeRules { scope, rules, comment, active_from } = body.clone();
            answers.push(match domain::scope_of(&scope, &context.actor) {
                Ok(scope) => propose(tx, context, &scope, Written { rules, comment, active_from }).await?,
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

impl Handle<RollBackRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<RollBackRules>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let RollBackRules { comment, active_from, to_version, .. } = body.clone();
            answers.push(match domain::scope_of(&body.scope, &context.actor) {
                Ok(scope) => match layer_of(tx, &scope, to_version).await? {
                    Some(rules) => propose(tx, context, &scope, Written { rules, comment, active_from }).await?,
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

async fn propose(tx: &mut Tx, context: &Context, scope: &RuleScope, written: Written) -> Result<Result<RuleChange, Rejection>, Fault> {
    if let Err(rejection) = written.check(tx.now()) {
        return Ok(Err(rejection));
    }
    let mut change = RuleChange {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        scope: scope.to_string(),
        rules: RuleLayer::default(),
        replaces: 0,
        active_from: None,
        comment: String::new(),
        content_hash: String::new(),
        proposed_by: context.actor.user.clone(),
        authors: vec![],
        problems: vec![],
        simulation: None,
        votes_needed: 0,
        votes: vec![],
        withdrawn_by: None,
        became: None,
        status: RuleChangeStatus::Draft,
    };
    write(tx, context, scope, &mut change, written).await?;
    tx.emit(context, &change, RuleChangeChange::Proposed)?;
    store::save_rule_change(tx, &change).await?;
    Ok(Ok(change))
}

/// Writes a change against the version of the layer that is in force now.
async fn write(tx: &mut Tx, context: &Context, scope: &RuleScope, change: &mut RuleChange, written: Written) -> Result<(), Fault> {
    let newest = store::rule_versions(tx, &change.scope, 1).await?.pop().map_or(0, |newest| newest.version);
    let book = tx.rules();
    let problems = book.contradictions(scope, &written.rules);
    domain::write(change, written, newest, votes_needed(&book, scope), problems, &context.actor.user);
    Ok(())
}

/// A change that is open, locked, and its scope; or why the actor may not touch it.
async fn open(tx: &mut Tx, context: &Context, id: Uuid) -> Result<Result<(RuleChange, RuleScope), Rejection>, Fault> {
    let Some(change) = store::lock_rule_change(tx, id).await? else {
        return Ok(Err(Reason::UnknownRuleChange.with(format!("change {id}"))));
    };
    let may = domain::scope_of(&change.scope, &context.actor).and_then(|scope| domain::check_open(&change).map(|()| scope));
    Ok(may.map(|scope| (change, scope)))
}

/// Writes a change that has moved on, and puts it in force where nothing more is missing.
async fn moved(tx: &mut Tx, context: &Context, scope: &RuleScope, change: &mut RuleChange, how: RuleChangeChange) -> Result<(), Fault> {
    change.version += 1;
    change.status = domain::rule_change_status(change);
    tx.emit(context, change, how)?;
    let is_due = change.active_from.is_none_or(|from| from <= tx.now());
    if change.status == RuleChangeStatus::Approved && is_due {
        activate(tx, context, scope, change).await?;
    }
    store::save_rule_change(tx, change).await
}

/// Puts an approved change in force; one that does not fit any more goes back to those who wrote it.
async fn activate(tx: &mut Tx, context: &Context, scope: &RuleScope, change: &mut RuleChange) -> Result<(), Fault> {
    let newest = lock_layer(tx, scope).await?;
    let mut problems = tx.rules().contradictions(scope, &change.rules);
    if newest.version != change.replaces {
        problems.insert(0, replaced(change, newest.version).detail);
    }
    change.version += 1;
    let how = if problems.is_empty() {
        let rules = version_of(tx, scope, newest.version + 1, &change.rules, &change.proposed_by, Some(change.id))?;
        change.became = Some(rules.version);
        // the version refers to the change
        store::save_rule_change(tx, change).await?;
        put_in_force(tx, context, &rules).await?;
        RuleChangeChange::Activated
    } else {
        (change.problems, change.votes, change.simulation) = (problems, vec![], None);
        RuleChangeChange::Stopped
    };
    change.status = domain::rule_change_status(change);
    tx.emit(context, change, how)
}

fn replaced(change: &RuleChange, newest: i64) -> Rejection {
    let RuleChange { scope, replaces, .. } = change;
    Reason::RulesReplaced.with(format!("{scope} has version {newest} now, the change was written against version {replaces}"))
}

impl Handle<EditRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<EditRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let EditRuleChange { rule_change_id, rules, comment, active_from } = body.clone();
            let written = Written { rules, comment, active_from };
            let may = open(tx, context, rule_change_id).await?;
            answers.push(match may.and_then(|open| written.check(tx.now()).map(|()| open)) {
                Ok((mut change, scope)) => {
                    write(tx, context, &scope, &mut change, written).await?;
                    moved(tx, context, &scope, &mut change, RuleChangeChange::Edited).await?;
                    Ok(change)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

impl Handle<SimulateRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SimulateRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match open(tx, context, body.rule_change_id).await? {
                Ok((change, _)) if change.status == RuleChangeStatus::Draft => {
                    Err(Reason::RuleChangeNotReady.with(format!("change {} has problems: {}", change.id, change.problems.join("; "))))
                }
                Ok((mut change, scope)) => match simulate(tx, &scope, &change.rules, body.from, body.until).await? {
                    Ok(simulation) => {
                        change.simulation = Some(simulation);
                        moved(tx, context, &scope, &mut change, RuleChangeChange::Simulated).await?;
                        Ok(change)
                    }
                    Err(rejection) => Err(rejection),
                },
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// What a layer would have changed.
async fn simulate(
    tx: &mut Tx,
    scope: &RuleScope,
    layer: &RuleLayer,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> Result<Result<Simulation, Rejection>, Fault> {
    let now = tx.now();
    let time = match domain::past(from, until, now) {
        Ok(time) => time,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let before = match scope {
        RuleScope::Environment(name) => tx.rules().for_environment(name),
        _ => (*tx.rules()).clone(),
    };
    let mut after = before.clone();
    after.put(scope.clone(), i64::MAX, layer.clone());
    let (fund_type, fund_id) = above_environment(scope, None);
    let requests = store::past_requests(tx, time, fund_type, fund_id, domain::PAST_REQUESTS_MAX + 1).await?;
    if requests.len() as i64 > domain::PAST_REQUESTS_MAX {
        let why = format!("more than {} requests were made in this time", domain::PAST_REQUESTS_MAX);
        return Ok(Err(Reason::RequestTooLarge.with(why)));
    }
    Ok(Ok(domain::simulate(&before, &after, &requests, time, now)))
}

impl Handle<VoteOnRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<VoteOnRules>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match open(tx, context, body.rule_change_id).await? {
                Ok((change, scope)) => vote(tx, context, body, change, &scope).await?,
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

async fn vote(
    tx: &mut Tx,
    context: &Context,
    body: &VoteOnRules,
    mut change: RuleChange,
    scope: &RuleScope,
) -> Result<Result<RuleChange, Rejection>, Fault> {
    let newest = store::rule_versions(tx, &change.scope, 1).await?.pop().map_or(0, |newest| newest.version);
    let may = if newest == change.replaces { Ok(()) } else { Err(replaced(&change, newest)) };
    let vote = match may.and_then(|()| domain::vote_on_rules(&change, &context.actor, body, tx.now())) {
        Ok(vote) => vote,
        Err(rejection) => return Ok(Err(rejection)),
    };
    change.votes.push(vote);
    moved(tx, context, scope, &mut change, RuleChangeChange::Voted).await?;
    Ok(Ok(change))
}

impl Handle<WithdrawRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<WithdrawRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match open(tx, context, body.rule_change_id).await? {
                Ok((mut change, scope)) => {
                    change.withdrawn_by = Some(context.actor.user.clone());
                    moved(tx, context, &scope, &mut change, RuleChangeChange::Withdrawn).await?;
                    Ok(change)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// The errand that puts approved rules in force when their time has come.
pub struct RulesInTime;

impl Errand for RulesInTime {
    type Item = ();
    type Outcome = ();
    const AT_ONCE: usize = 1;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<()>, Fault> {
        let due = store::lock_due_rule_changes(tx, ACTIVATE_MAX).await?;
        let more = due.len() as i64 == ACTIVATE_MAX;
        let context = tx.own_context();
        for mut change in due {
            let scope: RuleScope = change.scope.parse().map_err(|rejection: Rejection| Fault::Fatal(rejection.to_string()))?;
            activate(tx, &context, &scope, &mut change).await?;
            store::save_rule_change(tx, &change).await?;
        }
        // everything is done in the claim; an item asks for another round at once
        Ok(if more { vec![()] } else { vec![] })
    }

    async fn run(&self, _: &Courier, (): &()) {}

    async fn record(&self, _: &mut Tx, _: Vec<((), ())>) -> Result<(), Fault> {
        Ok(())
    }
}

impl RuleSource for WorkflowService {
    async fn newest(&self, tx: &mut Tx) -> Result<Vec<RuleSet>, Fault> {
        store::newest_rules(tx).await
    }
}

impl Show<GetRules> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetRules) -> Answer<RulesView> {
        let scope: RuleScope = query.scope.parse()?;
        if let RuleScope::Fund(id) = &scope {
            context.actor.check_fund(*id)?;
        }
        let newest = store::rule_versions(tx, &query.scope, 1).await?.pop();
        let (version, rules) = newest.map(|newest| (newest.version, newest.rules)).unwrap_or_default();
        let (effective, sources) = effective(tx, &scope, query.fund_type.as_deref(), version, &rules)?;
        Ok(RulesView { id: ids::rule_set_id(&query.scope), version, scope: query.scope, rules, effective, sources })
    }
}

/// The rules that hold for a scope if it had this layer, and where each value comes from.
fn effective(
    tx: &Tx,
    scope: &RuleScope,
    fund_type: Option<&str>,
    version: i64,
    layer: &RuleLayer,
) -> Result<(Rules, BTreeMap<String, RuleOrigin>), Rejection> {
    let mut book = match scope {
        RuleScope::Global => tx.rules().for_environment(""),
        RuleScope::Environment(name) => tx.rules().for_environment(name),
        RuleScope::FundType(_) | RuleScope::Fund(_) => (*tx.rules()).clone(),
    };
    if version > 0 {
        book.put(scope.clone(), version, layer.clone());
    }
    let (fund_type, fund_id) = above_environment(scope, fund_type);
    Ok((book.merged(fund_type, fund_id).complete()?, book.sources(fund_type, fund_id)))
}

impl Show<ListRuleVersions> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListRuleVersions) -> Answer<Page<RuleSet>> {
        let scope: RuleScope = query.scope.parse()?;
        if let RuleScope::Fund(id) = scope {
            context.actor.check_fund(id)?;
        }
        let mut items = store::rule_versions(tx, &query.scope, PAGE_MAX).await?;
        let first = first_version(&scope)?;
        if first.rules != RuleLayer::default() {
            let status = if items.is_empty() { RuleSetStatus::Active } else { RuleSetStatus::Superseded };
            items.push(RuleSet { status, ..first });
        }
        Ok(Page { items, next_cursor: None })
    }
}

impl Show<SimulateRules> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: SimulateRules) -> Answer<Simulation> {
        let scope = domain::scope_of(&query.scope, &context.actor)?;
        let problems = tx.rules().contradictions(&scope, &query.rules);
        if !problems.is_empty() {
            return Err(Reason::InvalidRules.with(problems.join("; ")).into());
        }
        Ok(simulate(tx, &scope, &query.rules, query.from, query.until).await??)
    }
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
        let changes = store::list_rule_changes(tx, query.scope.as_deref(), query.status, before, limit + 1).await?;
        let mut page = Page::cut(changes, limit, |last| cursor::write(&last.id));
        page.items.retain(|change| domain::scope_of(&change.scope, &context.actor).is_ok());
        Ok(page)
    }
}
