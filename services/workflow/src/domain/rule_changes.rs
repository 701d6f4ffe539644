//! Changes of rules: drafted, validated, simulated, approved by others, in force from a time on.

use std::collections::BTreeMap;

use ::domain::messages::workflow::{
    DecideRuleChange, RuleChange, RuleChangeStatus, StepName, SubjectKind, Vote, VoteDecision, VoteOnRules, Workflow,
};
use ::domain::rejection::check_text;
use ::domain::rules::{RuleLayer, RuleScope, Rules};
use ::domain::{Actor, Reason, Rejection, Scope};
use chrono::{DateTime, Duration, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::COMMENT_CHARACTERS_MAX;

/// Longest time ahead for which rules may be put.
const AHEAD_DAYS_MAX: i64 = 366;
/// Largest layer, as JSON: with its votes and its simulation a change stays a small event.
const LAYER_BYTES_MAX: usize = 8_192;

/// The roles that vote on changes of rules.
const VOTING_ROLES: [&str; 2] = ["committee", "admin"];

/// What somebody writes into a change of rules.
#[derive(Clone, Debug)]
pub struct Written {
    /// The whole layer.
    pub rules: RuleLayer,
    /// Why.
    pub comment: String,
    /// From when on.
    pub active_from: Option<DateTime<Utc>>,
}

impl Written {
    /// Refuses a comment or a time that cannot be meant. The layer may have problems: they are named to whoever mends them.
    ///
    /// # Errors
    /// `invalid_text`, `implausible_date`, `request_too_large`.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), Rejection> {
        check_text("comment", &self.comment, COMMENT_CHARACTERS_MAX)?;
        let bytes = serde_json::to_string(&self.rules).map_or(usize::MAX, |text| text.len());
        if bytes > LAYER_BYTES_MAX {
            return Err(Reason::RequestTooLarge.with(format!("the layer takes {bytes} bytes, at most {LAYER_BYTES_MAX} are allowed")));
        }
        let latest = now + Duration::days(AHEAD_DAYS_MAX);
        match self.active_from {
            Some(from) if from < now => {
                Err(Reason::ImplausibleDate.with(format!("active_from {from} has passed; without it rules are in force once approved")))
            }
            Some(from) if from > latest => {
                Err(Reason::ImplausibleDate.with(format!("active_from {from} is more than {AHEAD_DAYS_MAX} days ahead")))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a scope that the actor may not change.
///
/// # Errors
/// `unknown_scope`, `fund_out_of_scope`.
pub fn scope_of(scope: &str, actor: &Actor) -> Result<RuleScope, Rejection> {
    let scope: RuleScope = scope.parse()?;
    match (&scope, &actor.scope) {
        (RuleScope::Fund(id), _) => actor.check_fund(*id)?,
        (_, Scope::Funds(_)) => {
            return Err(Reason::FundOutOfScope.with(format!("{scope} holds for funds that {} may not see", actor.user)));
        }
        (_, Scope::All) => {}
    }
    Ok(scope)
}

/// A change that says nothing yet.
pub fn first_draft(id: Uuid, scope: &RuleScope, proposed_by: &str, now: DateTime<Utc>) -> RuleChange {
    RuleChange {
        id,
        version: 1,
        created_at: now,
        scope: scope.to_string(),
        rules: RuleLayer::default(),
        replaces: 0,
        active_from: None,
        comment: String::new(),
        content_hash: String::new(),
        proposed_by: proposed_by.to_owned(),
        authors: vec![],
        problems: vec![],
        simulation: None,
        votes_needed: 0,
        votes: vec![],
        workflow_id: None,
        refused_because: None,
        withdrawn_by: None,
        became: None,
        status: RuleChangeStatus::Draft,
    }
}

/// Whether a change says this already, against this version, and is on its way: one that has been sent back is looked at anew.
pub fn says(change: &RuleChange, written: &Written, replaces: i64) -> bool {
    let same = change.rules == written.rules && change.comment == written.comment && change.active_from == written.active_from;
    same && change.replaces == replaces && change.workflow_id.is_some()
}

/// Writes a change anew: what it says, against which version, and what is wrong with it. Votes and simulation were of something else.
pub fn write_anew(change: &mut RuleChange, written: Written, replaces: i64, votes_needed: u16, problems: Vec<String>, author: &str) {
    let Written { rules, comment, active_from } = written;
    (change.rules, change.comment, change.active_from, change.replaces) = (rules, comment, active_from, replaces);
    (change.votes_needed, change.problems) = (votes_needed, problems);
    (change.votes, change.simulation, change.workflow_id) = (vec![], None, None);
    if !change.authors.iter().any(|known| known == author) {
        change.authors.push(author.to_owned());
    }
    let content = serde_json::json!({"scope": change.scope, "rules": change.rules, "replaces": replaces, "active_from": active_from});
    change.content_hash = hex::encode(Sha256::digest(content.to_string()));
    change.status = rule_change_status(change);
}

/// Takes a vote of somebody who has not written the change, on what it says now. One that is approved and waits for its time takes no more:
/// it is withdrawn or edited.
///
/// # Errors
/// `rule_change_decided`, `rule_change_not_ready`, `rule_change_differs`, `second_person_needed`, `already_voted`, `invalid_text`.
pub fn vote_on_rules(change: &RuleChange, actor: &Actor, body: &VoteOnRules, now: DateTime<Utc>) -> Result<Vote, Rejection> {
    if let Some(comment) = &body.comment {
        check_text("comment", comment, COMMENT_CHARACTERS_MAX)?;
    }
    match change.status {
        RuleChangeStatus::Simulated => {}
        RuleChangeStatus::Draft | RuleChangeStatus::Validated => return Err(not_ready(change)),
        RuleChangeStatus::Approved | RuleChangeStatus::Active | RuleChangeStatus::Denied | RuleChangeStatus::Withdrawn => {
            return Err(decided(change));
        }
    }
    if body.content_hash != change.content_hash {
        return Err(Reason::RuleChangeDiffers.with(format!("change {} has the hash {}", change.id, change.content_hash)));
    }
    if change.authors.contains(&actor.user) {
        return Err(Reason::SecondPersonNeeded.with(format!("{} has written change {}", actor.user, change.id)));
    }
    if change.votes.iter().any(|vote| vote.user == actor.user) {
        return Err(Reason::AlreadyVoted.with(format!("{} has voted on change {}", actor.user, change.id)));
    }
    Ok(Vote {
        user: actor.user.clone(),
        // whoever votes has one of these
        role: actor.roles.iter().find(|role| VOTING_ROLES.contains(&role.as_str())).cloned().unwrap_or_default(),
        decision: body.decision,
        comment: body.comment.clone(),
        at: now,
        on_behalf_of: None,
        attachments: vec![],
    })
}

/// Refuses to simulate what has problems, or what somebody has voted on: the votes were on what was seen.
///
/// # Errors
/// `rule_change_not_ready`, `rule_change_decided`.
pub fn check_simulation(change: &RuleChange) -> Result<(), Rejection> {
    match change.status {
        RuleChangeStatus::Draft => Err(not_ready(change)),
        RuleChangeStatus::Validated | RuleChangeStatus::Simulated if change.votes.is_empty() => Ok(()),
        _ => Err(decided(change)),
    }
}

/// Refuses a change that is in force or has ended.
///
/// # Errors
/// `rule_change_decided`.
pub fn check_open(change: &RuleChange) -> Result<(), Rejection> {
    match change.status {
        RuleChangeStatus::Draft | RuleChangeStatus::Validated | RuleChangeStatus::Simulated | RuleChangeStatus::Approved => Ok(()),
        RuleChangeStatus::Active | RuleChangeStatus::Denied | RuleChangeStatus::Withdrawn => Err(decided(change)),
    }
}

/// Whether there is something to do about what a change's workflow asks for. What has been done, or was of another workflow, is not refused
/// again.
///
/// # Errors
/// `rule_change_differs`, `rule_change_not_ready`, `rule_change_decided`.
pub fn check_decision(change: &RuleChange, body: &DecideRuleChange) -> Result<bool, Rejection> {
    let is_its = change.workflow_id == Some(body.workflow_id);
    match change.status {
        _ if body.refused_because.is_some() => Ok(is_its && check_open(change).is_ok()),
        _ if !is_its => Err(Reason::RuleChangeDiffers.with(format!("change {} has another workflow now", change.id))),
        RuleChangeStatus::Active => Ok(false),
        RuleChangeStatus::Approved => Ok(true),
        _ => Err(check_open(change).err().unwrap_or_else(|| not_ready(change))),
    }
}

/// Why the workflow of a change has nothing to do any more.
pub fn end_of_rule_change(change: &RuleChange) -> Option<Rejection> {
    match change.status {
        RuleChangeStatus::Withdrawn => {
            Some(Reason::Withdrawn.with(format!("withdrawn by {}", change.withdrawn_by.as_deref().unwrap_or("somebody"))))
        }
        RuleChangeStatus::Denied => {
            let denied = change.votes.iter().find(|vote| vote.decision == VoteDecision::Deny);
            Some(Reason::ApprovalDenied.with(format!("denied by {}", denied.map_or("somebody", |vote| vote.user.as_str()))))
        }
        _ => None,
    }
}

/// The steps of a change's workflow that people have done, and what is said of it there.
pub fn done_by_people(change: &RuleChange) -> BTreeMap<StepName, String> {
    let simulated = change.simulation.as_ref().map(|simulation| format!("{} requests looked at", simulation.looked_at));
    let voters: Vec<&str> = change.votes.iter().map(|vote| vote.user.as_str()).collect();
    let approved = (change.status == RuleChangeStatus::Approved).then(|| match voters.as_slice() {
        [] => "nobody else is needed".to_owned(),
        voters => format!("approved by {}", voters.join(", ")),
    });
    [(StepName::Simulate, simulated), (StepName::Approve, approved)].into_iter().filter_map(|(step, note)| Some((step, note?))).collect()
}

/// The programs that the rules ask about changes of rules before they are in force, and that the workflow of a change did not ask.
pub fn programs_not_asked(rules: &Rules, workflow: &Workflow) -> Vec<String> {
    let asked = |name: &&String| workflow.steps.iter().any(|step| step.program.as_ref() == Some(*name));
    let before = rules.steps(SubjectKind::RuleChange).iter().take_while(|step| step.step != StepName::PutInForce);
    let programs = before.filter_map(|step| step.program.as_ref());
    programs.filter(|name| !asked(name)).map(|name| format!("the rules ask the program {name} about changes of rules now")).collect()
}

/// A step that changes of rules go through besides those that every change has.
pub fn further_step(rules: &Rules) -> Option<&'static str> {
    let steps = rules.steps(SubjectKind::RuleChange).iter().map(|step| step.step);
    let usual = [StepName::Validate, StepName::Simulate, StepName::Approve, StepName::PutInForce];
    steps.filter(|step| !usual.contains(step)).map(StepName::as_str).next()
}

fn not_ready(change: &RuleChange) -> Rejection {
    let why =
        if change.problems.is_empty() { "was not simulated".to_owned() } else { format!("has problems: {}", change.problems.join("; ")) };
    Reason::RuleChangeNotReady.with(format!("change {} {why}", change.id))
}

fn decided(change: &RuleChange) -> Rejection {
    let votes = change.votes.len();
    Reason::RuleChangeDecided.with(format!("change {} is {} with {votes} votes", change.id, chassis::row::name(&change.status)))
}

/// How far a change is.
pub fn rule_change_status(change: &RuleChange) -> RuleChangeStatus {
    let approvals = change.votes.iter().filter(|vote| vote.decision == VoteDecision::Approve).count();
    match change {
        RuleChange { withdrawn_by: Some(_), .. } => RuleChangeStatus::Withdrawn,
        RuleChange { became: Some(_), .. } => RuleChangeStatus::Active,
        RuleChange { refused_because: Some(_), .. } => RuleChangeStatus::Denied,
        _ if change.votes.len() > approvals => RuleChangeStatus::Denied,
        _ if !change.problems.is_empty() => RuleChangeStatus::Draft,
        RuleChange { simulation: None, .. } => RuleChangeStatus::Validated,
        _ if approvals < usize::from(change.votes_needed) => RuleChangeStatus::Simulated,
        _ => RuleChangeStatus::Approved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::domain::messages::workflow::Simulation;
    use RuleChangeStatus::{Active, Approved, Denied, Simulated, Validated, Withdrawn};

    fn written(grace_days: u16) -> Written {
        let rules = RuleLayer { grace_days: Some(grace_days), ..RuleLayer::default() };
        Written { rules, comment: "why".into(), active_from: None }
    }

    fn change(votes_needed: u16, problems: &[&str]) -> RuleChange {
        let mut change = first_draft(Uuid::from_u128(1), &RuleScope::Global, "ada", DateTime::UNIX_EPOCH);
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        write_anew(&mut change, written(5), 0, votes_needed, problems, "ada");
        change
    }

    fn simulate(change: &mut RuleChange) {
        let at = DateTime::UNIX_EPOCH;
        let nothing = Simulation {
            from: at,
            until: at,
            at,
            looked_at: 0,
            newly_refused: 0,
            no_longer_refused: 0,
            more_votes: 0,
            fewer_votes: 0,
            other_roles: 0,
            differences: vec![],
        };
        change.simulation = Some(nothing);
        change.status = rule_change_status(change);
    }

    fn cast(change: &mut RuleChange, user: &str, decision: VoteDecision) -> Result<RuleChangeStatus, Reason> {
        let actor = Actor { user: user.into(), roles: vec!["committee".into()], scope: Scope::All };
        let body = VoteOnRules { rule_change_id: change.id, content_hash: change.content_hash.clone(), decision, comment: None };
        change.votes.push(vote_on_rules(change, &actor, &body, DateTime::UNIX_EPOCH).map_err(|rejection| rejection.reason)?);
        change.status = rule_change_status(change);
        Ok(change.status)
    }

    #[test]
    fn a_change_is_approved_by_as_many_others_as_it_needs_on_what_it_says() {
        use VoteDecision::{Approve, Deny};
        assert_eq!(cast(&mut change(1, &["crossed"]), "ann", Approve), Err(Reason::RuleChangeNotReady));
        let mut change = change(2, &[]);
        assert_eq!((change.status, cast(&mut change, "ann", Approve)), (Validated, Err(Reason::RuleChangeNotReady)));
        simulate(&mut change);
        assert_eq!(cast(&mut change, "ada", Approve), Err(Reason::SecondPersonNeeded));
        assert_eq!(cast(&mut change, "ann", Approve), Ok(Simulated));
        assert_eq!(check_simulation(&change).unwrap_err().reason, Reason::RuleChangeDecided, "somebody has voted on what was seen");
        assert_eq!(cast(&mut change, "ann", Approve), Err(Reason::AlreadyVoted));
        let mut denied = change.clone();
        assert_eq!(cast(&mut denied, "bob", Deny), Ok(Denied));
        assert_eq!(cast(&mut change, "bob", Approve), Ok(Approved));
        assert_eq!(cast(&mut change, "cid", Deny), Err(Reason::RuleChangeDecided));
        // whoever edits it is an author from then on, and what was voted is void
        let hash = change.content_hash.clone();
        assert!(!says(&change, &written(5), 0), "it has no workflow: it was sent back, or is older than they are");
        change.workflow_id = Some(Uuid::from_u128(7));
        assert!(says(&change, &written(5), 0) && !says(&change, &written(5), 1) && !says(&change, &written(6), 0));
        write_anew(&mut change, written(6), 0, 2, vec![], "max");
        assert_eq!((change.status, change.votes.len(), change.content_hash == hash), (Validated, 0, false));
        simulate(&mut change);
        assert_eq!(cast(&mut change, "max", Approve), Err(Reason::SecondPersonNeeded));
        let stale = VoteOnRules { rule_change_id: change.id, content_hash: hash, decision: Approve, comment: None };
        let ann = Actor { user: "ann".into(), roles: vec![], scope: Scope::All };
        let refused = vote_on_rules(&change, &ann, &stale, DateTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.reason, Reason::RuleChangeDiffers);
        for ended in [RuleChange { became: Some(3), ..change.clone() }, RuleChange { withdrawn_by: Some("ada".into()), ..change }] {
            let ended = RuleChange { status: rule_change_status(&ended), ..ended };
            assert!(matches!(ended.status, Active | Withdrawn));
            assert_eq!(check_open(&ended).unwrap_err().reason, Reason::RuleChangeDecided);
        }
    }

    #[test]
    fn a_workflow_has_a_change_decided_once_and_no_other_does() {
        let id = |number| Uuid::from_u128(number);
        let decide = |change: &RuleChange, workflow, why: Option<&str>| {
            let refused_because = why.map(str::to_owned);
            let body = DecideRuleChange { rule_change_id: change.id, workflow_id: id(workflow), refused_because };
            check_decision(change, &body).map_err(|rejection| rejection.reason)
        };
        let mut change = RuleChange { workflow_id: Some(id(7)), ..change(0, &[]) };
        assert_eq!(decide(&change, 7, None), Err(Reason::RuleChangeNotReady), "not simulated");
        simulate(&mut change);
        assert_eq!((decide(&change, 7, None), decide(&change, 8, None)), (Ok(true), Err(Reason::RuleChangeDiffers)));
        assert_eq!((decide(&change, 7, Some("no")), decide(&change, 8, Some("no"))), (Ok(true), Ok(false)));
        for (ended, put) in [
            (RuleChange { became: Some(3), ..change.clone() }, Ok(false)),
            (RuleChange { refused_because: Some("no".into()), ..change.clone() }, Err(Reason::RuleChangeDecided)),
            (RuleChange { withdrawn_by: Some("ada".into()), ..change.clone() }, Err(Reason::RuleChangeDecided)),
            // it did not fit any more when its time came
            (RuleChange { problems: vec!["crossed".into()], workflow_id: None, ..change }, Err(Reason::RuleChangeDiffers)),
        ] {
            let ended = RuleChange { status: rule_change_status(&ended), ..ended };
            assert_eq!((decide(&ended, 7, None), decide(&ended, 7, Some("no"))), (put, Ok(false)), "{:?}", ended.status);
        }
    }

    #[test]
    fn what_the_rules_have_come_to_ask_must_have_been_asked() {
        let rules: RuleLayer = serde_json::from_value(serde_json::json!({
            "rule_change_steps": [
                {"step": "validate"}, {"step": "simulate"}, {"step": "ask", "program": "counsel"}, {"step": "approve"}, {"step": "put_in_force"},
                {"step": "ask", "program": "archive"},
            ],
            "programs": {
                "counsel": {"timeout_seconds": 1, "attempts": 1, "when_absent": "refuse"},
                "archive": {"timeout_seconds": 1, "attempts": 1, "when_absent": "go_on", "advisory": true},
            },
        }))
        .unwrap();
        rules.check().unwrap();
        let rules = rules.complete().unwrap();
        assert_eq!(further_step(&rules), Some("ask"));
        let usual = RuleLayer::default().complete().unwrap();
        assert_eq!(further_step(&usual), None);
        let mut workflow = super::super::tests::workflow(SubjectKind::RuleChange);
        let missing = programs_not_asked(&rules, &workflow);
        assert!(missing.len() == 1 && missing[0].contains("counsel"), "the archive decides nothing: {missing:?}");
        workflow.steps = super::super::first_steps(SubjectKind::RuleChange, &rules, DateTime::UNIX_EPOCH);
        assert_eq!((programs_not_asked(&rules, &workflow), programs_not_asked(&usual, &workflow)), (vec![], vec![]));
    }

    #[test]
    fn where_nobody_else_is_needed_the_simulation_approves() {
        let mut change = change(0, &[]);
        assert_eq!(change.status, Validated);
        simulate(&mut change);
        assert_eq!(change.status, Approved);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let now = DateTime::UNIX_EPOCH + Duration::days(10_000);
        let at = |days| Some(now + Duration::days(days));
        for (active_from, comment, expected) in [
            (at(-1), "why", Some(Reason::ImplausibleDate)),
            (at(400), "why", Some(Reason::ImplausibleDate)),
            (at(1), "", Some(Reason::InvalidText)),
            (at(1), "why", None),
            (None, "why", None),
        ] {
            let written = Written { active_from, comment: comment.into(), ..written(5) };
            assert_eq!(written.check(now).err().map(|rejection| rejection.reason), expected);
        }
        let mut large = written(5);
        large.rules.reminder_days = Some(vec![12_345; 2_000]);
        assert_eq!(large.check(now).unwrap_err().reason, Reason::RequestTooLarge);
    }
}
