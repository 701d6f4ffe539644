//! Rules: put at once where nobody else must agree, else proposed, simulated, approved by others and put in force at their time.
//!
//! A version is written in one transaction with the change that it comes from and with both events: a process that dies in between has
//! done nothing, and who asks again, or the next look at what is due, does it. Whoever decides about rules holds one lock, first of all,
//! and decides by what the database says: a copy may be a moment behind, and rules that fit alone may contradict each other.

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

/// Changes put in force in one transaction: one that fails holds up no other.
const ACTIVATE_MAX: i64 = 1;

/// All rules in force by the database, with the right to change them.
struct Rulebook {
    book: RuleBook,
}

impl Rulebook {
    /// Keeps others from deciding about rules until the transaction ends.
    async fn lock(tx: &mut Tx) -> Result<Rulebook, Fault> {
        store::lock_rules(tx).await?;
        let mut book = (*tx.rules()).clone();
        for rules in store::newest_rules(tx).await? {
            let scope = rules.scope.parse().map_err(|rejection: Rejection| Fault::Fatal(rejection.to_string()))?;
            book.put(scope, rules.version, rules.rules);
        }
        Ok(Rulebook { book })
    }

    /// Writes the next version of a scope's layer.
    async fn put(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        scope: &RuleScope,
        layer: &RuleLayer,
        (user, change): (&str, Option<Uuid>),
    ) -> Result<RuleSet, Fault> {
        let rules = RuleSet {
            version: self.book.version(scope) + 1,
            created_at: tx.now(),
            content_hash: hash(&serde_json::to_vec(layer)?),
            rules: layer.clone(),
            changed_by: user.to_owned(),
            rule_change_id: change,
            ..first_version(scope)?
        };
        store::insert_rule_set(tx, &rules).await?;
        tx.emit(context, &rules, RuleSetChange::Activated)?;
        self.book.put(scope.clone(), rules.version, layer.clone());
        Ok(rules)
    }
}

impl Handle<PutRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<PutRules>) -> Result<Answers<RuleSet>, Fault> {
        let mut rulebook = Rulebook::lock(tx).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match check_put(&rulebook.book, context, body) {
                Ok(scope) => Ok(rulebook.put(tx, context, &scope, &body.rules, (&context.actor.user, None)).await?),
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// Refuses a layer that cannot be meant, that contradicts others, or that somebody else must approve.
fn check_put(book: &RuleBook, context: &Context, command: &PutRules) -> Result<RuleScope, Rejection> {
    let scope = domain::scope_of(&command.scope, &context.actor)?;
    match book.votes_for(&scope) {
        0 => {}
        votes => return Err(Reason::RulesNeedApproval.with(format!("a change of {scope} needs {votes} other people"))),
    }
    match book.contradictions(&scope, &command.rules) {
        problems if problems.is_empty() => Ok(scope),
        problems => Err(Reason::InvalidRules.with(problems.join("; "))),
    }
}

/// The fund type and the fund up to which layers are merged for a scope.
fn above_environment<'a>(scope: &'a RuleScope, fund_type: Option<&'a str>) -> (Option<&'a str>, Option<Uuid>) {
    match scope {
        RuleScope::Global | RuleScope::Environment(_) => (None, None),
        RuleScope::FundType(name) => (Some(name.as_str()), None),
        RuleScope::Fund(id) => (fund_type, Some(*id)),
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

impl Handle<ProposeRules> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<ProposeRules>) -> Result<Answers<RuleChange>, Fault> {
        let rulebook = Rulebook::lock(tx).await?;
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
        let rulebook = Rulebook::lock(tx).await?;
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
    write(context, &rulebook.book, scope, &mut change, written);
    tx.emit(context, &change, RuleChangeChange::Proposed)?;
    store::save_rule_change(tx, &change).await?;
    Ok(Ok(change))
}

/// Writes a change against the version of the layer that is in force now.
fn write(context: &Context, book: &RuleBook, scope: &RuleScope, change: &mut RuleChange, written: Written) {
    let problems = book.contradictions(scope, &written.rules);
    domain::write_anew(change, written, book.version(scope), book.votes_for(scope), problems, &context.actor.user);
}

/// A change that is open, locked, and its scope; or why the actor may not touch it.
async fn lock_open(tx: &mut Tx, context: &Context, id: Uuid) -> Result<Result<(RuleChange, RuleScope), Rejection>, Fault> {
    let Some(change) = store::lock_rule_change(tx, id).await? else {
        return Ok(Err(Reason::UnknownRuleChange.with(format!("change {id}"))));
    };
    let may = domain::scope_of(&change.scope, &context.actor).and_then(|scope| domain::check_open(&change).map(|()| scope));
    Ok(may.map(|scope| (change, scope)))
}

impl Rulebook {
    /// Saves a change that has moved on, and puts it in force where nothing more is missing.
    async fn save_moved(
        &mut self,
        tx: &mut Tx,
        context: &Context,
        scope: &RuleScope,
        change: &mut RuleChange,
        how: RuleChangeChange,
    ) -> Result<(), Fault> {
        change.version += 1;
        // rules that have asked for more people since it was written are obeyed
        change.votes_needed = change.votes_needed.max(self.book.votes_for(scope));
        change.status = domain::rule_change_status(change);
        tx.emit(context, change, how)?;
        let is_due = change.active_from.is_none_or(|from| from <= tx.now());
        if change.status == RuleChangeStatus::Approved && is_due {
            self.activate(tx, context, scope, change).await?;
        }
        store::save_rule_change(tx, change).await
    }

    /// Puts an approved change in force; one that does not fit any more goes back to those who wrote it.
    async fn activate(&mut self, tx: &mut Tx, context: &Context, scope: &RuleScope, change: &mut RuleChange) -> Result<(), Fault> {
        let mut problems = self.book.contradictions(scope, &change.rules);
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
            (change.problems, change.votes, change.simulation) = (problems, vec![], None);
            RuleChangeChange::Stopped
        };
        change.status = domain::rule_change_status(change);
        tx.emit(context, change, how)
    }

    fn replaced(&self, scope: &RuleScope, change: &RuleChange) -> Rejection {
        let (newest, replaces) = (self.book.version(scope), change.replaces);
        Reason::RulesReplaced.with(format!("{scope} has version {newest} now, the change was written against version {replaces}"))
    }
}

impl Handle<EditRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<EditRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut rulebook = Rulebook::lock(tx).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let EditRuleChange { rule_change_id, rules, comment, active_from } = body.clone();
            let written = Written { rules, comment, active_from };
            let may = lock_open(tx, context, rule_change_id).await?;
            answers.push(match may {
                // a request that is repeated voids no votes
                Ok((change, scope)) if domain::says(&change, &written, rulebook.book.version(&scope)) => Ok(change),
                Ok((mut change, scope)) => match written.check(tx.now()) {
                    Ok(()) => {
                        write(context, &rulebook.book, &scope, &mut change, written);
                        rulebook.save_moved(tx, context, &scope, &mut change, RuleChangeChange::Edited).await?;
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

impl Handle<SimulateRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<SimulateRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut rulebook = Rulebook::lock(tx).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let may = lock_open(tx, context, body.rule_change_id).await?;
            let simulated = match may.and_then(|(change, scope)| domain::check_simulation(&change).map(|()| (change, scope))) {
                Ok((change, scope)) => {
                    let simulation = simulate(tx, &rulebook.book, &scope, &change.rules, None, None).await?;
                    simulation.map(|simulation| (RuleChange { simulation: Some(simulation), ..change }, scope))
                }
                Err(rejection) => Err(rejection),
            };
            answers.push(match simulated {
                Ok((mut change, scope)) => {
                    rulebook.save_moved(tx, context, &scope, &mut change, RuleChangeChange::Simulated).await?;
                    Ok(change)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// What a layer would have changed.
async fn simulate(
    tx: &mut Tx,
    book: &RuleBook,
    scope: &RuleScope,
    layer: &RuleLayer,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> Result<Result<Simulation, Rejection>, Fault> {
    let now = tx.now();
    let time = match domain::time_looked_at(from, until, now) {
        Ok(time) => time,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let before = match scope {
        RuleScope::Environment(name) => book.for_environment(name),
        _ => book.clone(),
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
        let mut rulebook = Rulebook::lock(tx).await?;
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
            answers.push(match voted {
                Ok((mut change, scope)) => {
                    rulebook.save_moved(tx, context, &scope, &mut change, RuleChangeChange::Voted).await?;
                    Ok(change)
                }
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

impl Handle<WithdrawRuleChange> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<WithdrawRuleChange>) -> Result<Answers<RuleChange>, Fault> {
        let mut rulebook = Rulebook::lock(tx).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            answers.push(match lock_open(tx, context, body.rule_change_id).await? {
                Ok((mut change, scope)) => {
                    change.withdrawn_by = Some(context.actor.user.clone());
                    rulebook.save_moved(tx, context, &scope, &mut change, RuleChangeChange::Withdrawn).await?;
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
        if !store::are_rule_changes_due(tx).await? {
            return Ok(vec![]);
        }
        let mut rulebook = Rulebook::lock(tx).await?;
        let due = store::lock_due_rule_changes(tx, ACTIVATE_MAX).await?;
        let more = due.len() as i64 == ACTIVATE_MAX;
        let context = tx.own_context();
        for mut change in due {
            let scope: RuleScope = change.scope.parse().map_err(|rejection: Rejection| Fault::Fatal(rejection.to_string()))?;
            rulebook.activate(tx, &context, &scope, &mut change).await?;
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
        let book = tx.rules();
        Ok(simulate(tx, &book, &scope, &query.rules, query.from, query.until).await??)
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
        let scope = query.scope.map(|scope| scope.parse::<RuleScope>()).transpose()?.map(|scope| scope.to_string());
        let funds = context.actor.scope.funds().map(|ids| ids.iter().map(|id| RuleScope::Fund(*id).to_string()).collect::<Vec<_>>());
        let changes = store::list_rule_changes(tx, funds.as_deref(), scope.as_deref(), query.status, before, limit + 1).await?;
        Ok(Page::cut(changes, limit, |last| cursor::write(&last.id)))
    }
}
