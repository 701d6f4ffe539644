//! Votes: who may cast them, what they come to, and what happens when they are missing for long.

use ::domain::messages::workflow::{
    Approval, ApprovalDeadline, ApprovalStatus, Attachment, CastVote, Delegation, DelegationStatus, GrantDelegation, StepName, StepStatus,
    Vote, VoteDecision, WhenOverdue, Workflow,
};
use ::domain::rejection::check_text;
use ::domain::rules::ApprovalTier;
use ::domain::{Actor, Reason, Rejection};
use chrono::{DateTime, TimeDelta, Utc};

/// Longest comment of a vote; with the most votes that a tier may ask for, an approval stays a small event.
pub const COMMENT_CHARACTERS_MAX: usize = 500;
/// Most attachments of a vote.
const ATTACHMENTS_MAX: usize = 10;
/// Longest name of an attachment.
const ATTACHMENT_CHARACTERS_MAX: usize = 200;
/// Longest name of a person.
const USER_CHARACTERS_MAX: usize = 200;
/// Longest period of a delegation, and longest time until it begins: a quarter of a year. Who delegates keeps the roles of that day for it,
/// so it must not be long.
const DELEGATION_MAX: TimeDelta = TimeDelta::days(92);

/// Takes a vote: one a person, of a role whose turn it is, never the requester's own. A vote for somebody else counts as both persons': who
/// cast it, and whose it is, have voted.
///
/// # Errors
/// `fund_out_of_scope`, `invalid_text`, `no_delegation`, `requester_may_not_vote`, `role_may_not_vote`, `approval_decided`,
/// `already_voted`, `not_your_turn`.
pub fn vote(
    approval: &Approval,
    actor: &Actor,
    body: &CastVote,
    delegations: &[Delegation],
    now: DateTime<Utc>,
) -> Result<Vote, Rejection> {
    actor.check_fund(approval.fund_id)?;
    if let Some(comment) = &body.comment {
        check_text("comment", comment, COMMENT_CHARACTERS_MAX)?;
    }
    check_attachments(&body.attachments)?;
    if let Some(member) = &body.on_behalf_of {
        check_text("on_behalf_of", member, USER_CHARACTERS_MAX)?;
    }
    let roles = match &body.on_behalf_of {
        None => &actor.roles,
        Some(member) => &delegated(approval, actor, member, delegations, now)?.roles,
    };
    let voters = || [Some(&actor.user), body.on_behalf_of.as_ref()].into_iter().flatten();
    if let Some(voter) = voters().find(|voter| **voter == approval.requested_by || approval.authors.contains(voter)) {
        return Err(Reason::RequesterMayNotVote.with(format!("{voter} asked for approval {}", approval.id)));
    }
    let is_mine = |role: &str| roles.iter().any(|mine| mine == role);
    if !approval.tier.groups().any(|(role, _)| is_mine(role)) {
        return Err(Reason::RoleMayNotVote.with(format!("approval {} needs {}", approval.id, described(&approval.tier))));
    }
    if approval.status != ApprovalStatus::Pending {
        return Err(Reason::ApprovalDecided.with(format!("approval {} is {}", approval.id, chassis::row::name(&approval.status))));
    }
    let has_voted = |voter: &&String| approval.votes.iter().any(|vote| vote.user == **voter || vote.on_behalf_of.as_ref() == Some(voter));
    if let Some(voter) = voters().find(has_voted) {
        return Err(Reason::AlreadyVoted.with(format!("{voter} has voted on approval {}", approval.id)));
    }
    let Some(role) = approval.open_roles().find(|role| is_mine(role)) else {
        let turns: Vec<&str> = approval.open_roles().collect();
        return Err(Reason::NotYourTurn.with(format!("approval {} waits for the role {}", approval.id, turns.join(" or "))));
    };
    Ok(Vote {
        user: actor.user.clone(),
        role: role.to_owned(),
        decision: body.decision,
        comment: body.comment.clone(),
        at: now,
        on_behalf_of: body.on_behalf_of.clone(),
        attachments: body.attachments.clone(),
    })
}

/// The delegation by which somebody votes on an approval for a member.
fn delegated<'a>(
    approval: &Approval,
    actor: &Actor,
    member: &str,
    delegations: &'a [Delegation],
    now: DateTime<Utc>,
) -> Result<&'a Delegation, Rejection> {
    let holds = |delegation: &&Delegation| {
        let of_both = delegation.granted_by == member && delegation.granted_to == actor.user;
        let of_fund = delegation.funds.as_ref().is_none_or(|funds| funds.contains(&approval.fund_id));
        of_both && of_fund && delegation.status_at(now) == DelegationStatus::Active
    };
    let none = || Reason::NoDelegation.with(format!("{member} has delegated no vote on approval {} to {} now", approval.id, actor.user));
    delegations.iter().find(holds).ok_or_else(none)
}

fn check_attachments(attachments: &[Attachment]) -> Result<(), Rejection> {
    if attachments.len() > ATTACHMENTS_MAX {
        return Err(Reason::InvalidText.with(format!("attachments: more than {ATTACHMENTS_MAX}")));
    }
    for Attachment { name, sha256 } in attachments {
        check_text("attachments.name", name, ATTACHMENT_CHARACTERS_MAX)?;
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Reason::InvalidText.with("attachments.sha256 is not 64 hexadecimal digits"));
        }
    }
    Ok(())
}

/// Refuses a delegation to oneself, or for a period that is none, has ended or is too long.
///
/// # Errors
/// `invalid_text`, `invalid_delegation`.
pub fn check_delegation(actor: &Actor, body: &GrantDelegation, now: DateTime<Utc>) -> Result<(), Rejection> {
    let refuse = |why: &str| Err(Reason::InvalidDelegation.with(why));
    check_text("reason", &body.reason, COMMENT_CHARACTERS_MAX)?;
    check_text("granted_to", &body.granted_to, USER_CHARACTERS_MAX)?;
    if body.granted_to == actor.user {
        return refuse("it is to the one who delegates");
    }
    if body.ends_at <= body.starts_at || body.ends_at <= now {
        return refuse("its end is not after its beginning and now");
    }
    if body.ends_at - body.starts_at > DELEGATION_MAX || body.starts_at > now + DELEGATION_MAX {
        return refuse("it is for longer than 92 days, or begins later than in 92 days");
    }
    Ok(())
}

/// The votes that a tier asks for, for a person.
pub fn described(tier: &ApprovalTier) -> String {
    let groups: Vec<String> = tier.groups().map(|(role, votes)| format!("{votes} votes of the role {role}")).collect();
    groups.join(if tier.in_sequence { ", then " } else { " and " })
}

/// Writes the derived parts of an approval: as many votes against it as the tier says deny it, enough votes of each group grant it.
pub fn derive_approval(approval: &mut Approval) {
    approval.status = approval_status(approval);
    approval.deadline = deadline(approval);
}

fn approval_status(approval: &Approval) -> ApprovalStatus {
    if approval.voided {
        return ApprovalStatus::Voided;
    }
    if approval.expired {
        return ApprovalStatus::Expired;
    }
    let denials = approval.votes.iter().filter(|vote| vote.decision == VoteDecision::Deny).count();
    match approval.open_roles().next() {
        _ if denials >= usize::from(approval.tier.denials) => ApprovalStatus::Denied,
        None => ApprovalStatus::Approved,
        Some(_) => ApprovalStatus::Pending,
    }
}

fn deadline(approval: &Approval) -> Option<ApprovalDeadline> {
    if approval.status != ApprovalStatus::Pending {
        return None;
    }
    let tier = &approval.tier;
    let remind = tier.remind_after_hours.filter(|_| !approval.reminded);
    // a tier whose votes are there already is not asked: it would decide by itself
    let would_wait =
        |above: &ApprovalTier| approval_status(&Approval { tier: above.clone(), ..approval.clone() }) == ApprovalStatus::Pending;
    let escalate = tier.escalate_after_hours.filter(|_| approval.escalates_to.first().is_some_and(would_wait));
    [(remind, WhenOverdue::Remind), (escalate, WhenOverdue::Escalate), (tier.expire_after_hours, WhenOverdue::Expire)]
        .into_iter()
        .filter_map(|(hours, then)| Some(ApprovalDeadline { at: approval.asked_at + TimeDelta::hours(i64::from(hours?)), then }))
        .min()
}

/// Does what the time has come for, if it has: the first of it.
pub fn pass_deadline(approval: &mut Approval, now: DateTime<Utc>) -> Option<WhenOverdue> {
    let ApprovalDeadline { then, .. } = approval.deadline.filter(|deadline| deadline.at <= now)?;
    match then {
        WhenOverdue::Remind => approval.reminded = true,
        WhenOverdue::Escalate => {
            approval.tier = approval.escalates_to.remove(0);
            (approval.asked_at, approval.reminded) = (now, false);
        }
        WhenOverdue::Expire => approval.expired = true,
    }
    derive_approval(approval);
    Some(then)
}

/// Says on a workflow whose votes are asked for now.
pub fn note_tier(workflow: &mut Workflow, tier: &ApprovalTier) {
    let waits = |step: &&mut super::Step| step.name == StepName::Approve && step.status == StepStatus::Waiting;
    if let Some(step) = workflow.steps.iter_mut().find(waits) {
        step.note = Some(format!("{} are needed: nobody decided before", described(tier)));
    }
    super::derive(workflow);
}
