//! Rules: what is in force, and how a version is put.
//!
//! A version is written in one transaction with its event and with the change that it comes from, where it comes from one: a process that
//! dies in between has done nothing, and who asks again does it. Whoever decides about rules holds one lock, first of all,
//! and decides by what the database says: a copy may be a moment behind, and rules that fit alone may contradict each other.

use std::collections::BTreeMap;

use ::domain::message::PAGE_MAX;
use ::domain::messages::workflow::{
    GetRules, ListRuleVersions, PutRules, RuleSet, RuleSetChange, RuleSetStatus, RulesView, SimulateRules, Simulation,
};
use ::domain::rules::{RuleBook, RuleLayer, RuleOrigin, RuleScope, Rules, built_in, built_in_environment};
use ::domain::{Page, Reason, Rejection, ids};
use chassis::rules::RuleSource;
use chassis::{Answer, Answers, Batch, Context, Fault, Handle, Sent, Show, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{first_rules, hash};
use crate::domain;
use crate::{WorkflowService, store};

/// All rules in force by the database, with the right to change them.
pub struct Rulebook {
    /// The rules.
    pub book: RuleBook,
}

impl Rulebook {
    /// Keeps others from deciding about rules until the transaction ends, and from the workflows of these changes: who locks workflows one
    /// by one may wait in a circle.
    pub async fn lock(tx: &mut Tx, changes: &[Uuid]) -> Result<Rulebook, Fault> {
        store::lock_rules(tx).await?;
        store::lock_workflows_of_rules(tx, changes).await?;
        let mut book = tx.rules().without_layers();
        for rules in store::newest_rules(tx).await? {
            let scope = rules.scope.parse().map_err(|rejection: Rejection| Fault::Fatal(rejection.to_string()))?;
            book.put(scope, rules.version, rules.rules);
        }
        book.take_types(store::fund_types(tx).await?);
        Ok(Rulebook { book })
    }

    /// The rules by which rules are changed. Those that contradict each other can still be mended: by the steps that every firm begins with.
    pub fn of_firm(&self) -> Result<Rules, Fault> {
        self.book.of_firm().or_else(|_| first_rules())
    }

    /// Writes the next version of a scope's layer.
    pub async fn put(
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
        let mut rulebook = Rulebook::lock(tx, &[]).await?;
        let mut answers = Answers::new();
        for Sent { context, body, .. } in batch.iter() {
            let further_step = domain::further_step(&rulebook.of_firm()?);
            answers.push(match check_put(&rulebook.book, context, body, further_step) {
                Ok(scope) => Ok(rulebook.put(tx, context, &scope, &body.rules, (&context.actor.user, None)).await?),
                Err(rejection) => Err(rejection),
            });
        }
        Ok(answers)
    }
}

/// Refuses a layer that cannot be meant, that contradicts others, or that somebody else must approve.
fn check_put(book: &RuleBook, context: &Context, command: &PutRules, further_step: Option<&str>) -> Result<RuleScope, Rejection> {
    let scope = domain::scope_of(&command.scope, &context.actor)?;
    match book.votes_for(&scope) {
        0 => {}
        votes => return Err(Reason::RulesNeedApproval.with(format!("a change of {scope} needs {votes} other people"))),
    }
    if let Some(step) = further_step {
        return Err(Reason::RulesNeedApproval.with(format!("a change of rules goes through the step {step}, too")));
    }
    match book.contradictions(&scope, &command.rules) {
        problems if problems.is_empty() => Ok(scope),
        problems => Err(Reason::InvalidRules.with(problems.join("; "))),
    }
}

/// The fund type and the fund up to which layers are merged for a scope.
pub fn above_environment<'a>(scope: &'a RuleScope, fund_type: Option<&'a str>) -> (Option<&'a str>, Option<Uuid>) {
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
        // of a fund that is known, its own type counts
        let its = match &scope {
            RuleScope::Fund(id) => store::fund_type(tx, *id).await?,
            _ => None,
        };
        let (effective, sources) = effective(tx, &scope, its.or(query.fund_type).as_deref(), version, &rules)?;
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

/// What a layer would have changed.
pub async fn simulate(
    tx: &mut Tx,
    book: &RuleBook,
    scope: &RuleScope,
    layer: &RuleLayer,
    (from, until): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    shown: usize,
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
    after.put(scope.clone(), before.version(scope) + 1, layer.clone());
    let (fund_type, fund_id) = above_environment(scope, None);
    let requests = store::past_requests(tx, time, fund_type, fund_id, domain::PAST_REQUESTS_MAX + 1).await?;
    if requests.len() as i64 > domain::PAST_REQUESTS_MAX {
        let why = format!("more than {} requests were made in this time", domain::PAST_REQUESTS_MAX);
        return Ok(Err(Reason::RequestTooLarge.with(why)));
    }
    Ok(Ok(domain::simulate(&before, &after, &requests, time, (now, shown))))
}

impl Show<SimulateRules> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: SimulateRules) -> Answer<Simulation> {
        let scope = domain::scope_of(&query.scope, &context.actor)?;
        let mut book = (*tx.rules()).clone();
        book.take_types(store::fund_types(tx).await?);
        let problems = book.contradictions(&scope, &query.rules);
        if !problems.is_empty() {
            return Err(Reason::InvalidRules.with(problems.join("; ")).into());
        }
        Ok(simulate(tx, &book, &scope, &query.rules, (query.from, query.until), domain::DIFFERENCES_SHOWN).await??)
    }
}
