//! What waits for votes: for those of whoever looks, also for somebody else, and for those of others.

use std::collections::BTreeMap;

use ::domain::messages::workflow::{
    Approval, ApprovalStatus, CastVote, Delegation, DelegationStatus, GetRules, ListApprovals, ListDelegations, ListRuleChanges,
    RuleChange, RuleChangeStatus, VoteDecision,
};

use super::forms::{Field, form};
use super::*;

/// The page.
pub async fn page(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let pending =
            visit.ask(&ListApprovals { status: Some(ApprovalStatus::Pending), limit: Some(ROWS), ..Default::default() }).await?.items;
        let delegations = visit.ask(&ListDelegations { limit: Some(ROWS), ..Default::default() }).await?.items;
        let waiting: Vec<(&Approval, Vec<&str>)> =
            pending.iter().map(|approval| (approval, voters(visit.actor(), approval, &delegations))).collect();
        let (for_me, for_others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, voters)| !voters.is_empty());
        let rules = ListRuleChanges { status: Some(RuleChangeStatus::Simulated), limit: Some(ROWS), ..Default::default() };
        let rules = votable(&visit, visit.ask(&rules).await?.items).await?;
        let (rules_for_me, rules_for_others): (Vec<_>, Vec<_>) = rules.into_iter().partition(|change| may_vote_on(visit.actor(), change));
        let key = || door.shell.clock.new_id();
        let fields = [
            Field::text("granted_to", "To whom"),
            Field::instant("starts_at", "From"),
            Field::instant("ends_at", "Until"),
            Field::text("reason", "Why"),
        ];
        let body = html! {
            h1 { "Approvals" }
            h2 { "Waiting for me" }
            (table(visit.actor(), &for_me, Some(&key)))
            @if !rules_for_me.is_empty() { (rules::changes_table(&rules_for_me)) }
            h2 { "Waiting for others" }
            (table(visit.actor(), &for_others, None))
            @if !rules_for_others.is_empty() { (rules::changes_table(&rules_for_others)) }
            h2 { "Votes that others cast" }
            (delegations_table(visit.actor(), &delegations, &key))
            (form(visit.actor(), key(), "/delegations", "/approvals", "Delegate my votes", &fields))
        };
        Ok(shell("Approvals", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The changes that are written against what is in force: no other can be voted on.
async fn votable(visit: &Visit<'_>, changes: Vec<RuleChange>) -> Result<Vec<RuleChange>, Rejection> {
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    for change in &changes {
        if !versions.contains_key(&change.scope) {
            let rules = visit.ask(&GetRules { scope: change.scope.clone(), fund_type: None }).await?;
            versions.insert(change.scope.clone(), rules.version);
        }
    }
    Ok(changes.into_iter().filter(|change| versions.get(&change.scope) == Some(&change.replaces)).collect())
}

/// Whether somebody may vote on a change of rules now.
fn may_vote_on(actor: &Actor, change: &RuleChange) -> bool {
    let has_part = change.authors.contains(&actor.user) || change.votes.iter().any(|vote| vote.user == actor.user);
    !has_part && actor.roles.iter().any(|role| matches!(role.as_str(), "admin" | "committee"))
}

/// For whom somebody may vote on an approval: for themselves, and for those who have delegated their votes.
pub fn voters<'a>(actor: &'a Actor, approval: &Approval, delegations: &'a [Delegation]) -> Vec<&'a str> {
    let has_part = |person: &str| {
        let voted = approval.votes.iter().any(|vote| vote.user == person || vote.on_behalf_of.as_deref() == Some(person));
        voted || approval.requested_by == person || approval.authors.iter().any(|author| author == person)
    };
    if has_part(&actor.user) {
        return vec![];
    }
    let is_turn_of = |roles: &[String]| approval.open_roles().any(|open| roles.iter().any(|role| role == open));
    let mut voters: Vec<&str> = is_turn_of(&actor.roles).then_some(actor.user.as_str()).into_iter().collect();
    let for_others = delegations.iter().filter(|delegation| {
        let of_fund = delegation.funds.as_ref().is_none_or(|funds| funds.contains(&approval.fund_id));
        delegation.granted_to == actor.user && delegation.status == DelegationStatus::Active && of_fund && is_turn_of(&delegation.roles)
    });
    voters.extend(for_others.map(|delegation| delegation.granted_by.as_str()).filter(|member| !has_part(member)));
    voters.dedup();
    voters
}

/// Approvals, with a form for a vote where there are keys.
pub fn table(actor: &Actor, approvals: &[(&Approval, Vec<&str>)], key: Option<&dyn Fn() -> Uuid>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Approvals" { table {
            thead { tr { th scope="col" { "What" } th.number scope="col" { "Amount" } th scope="col" { "Why a vote is needed" } th scope="col" { "What is next" } @if key.is_some() { th scope="col" { "My vote" } } } }
            tbody {
                @for (approval, voters) in approvals {
                    tr {
                        td { (subject(approval)) } td.number { (grouped(approval.amount)) " " (approval.currency.code()) div.note { (title(&approval.priority)) } }
                        td { (rule(approval)) (votes(approval)) } td { (next(approval)) }
                        @if let Some(key) = key {
                            td { form.votes method="post" action={ "/approvals/" (approval.id) "/vote" } {
                                input type="hidden" name="key" value=(key());
                                @if voters.as_slice() != [actor.user.as_str()] {
                                    select.choice name="on_behalf_of" aria-label="For whom" {
                                        @for voter in voters { option value=(if *voter == actor.user { "" } else { voter }) { "for " (voter) } }
                                    }
                                }
                                input type="text" name="comment" maxlength="500" placeholder="Comment" aria-label="Comment";
                                button name="decision" value="approve" { "Approve" }
                                button.quiet name="decision" value="deny" { "Deny" }
                            } }
                        }
                    }
                }
                @if approvals.is_empty() { tr { td.note colspan="5" { "Nothing." } } }
            }
        } }
    }
}

/// What is asked for, with the way to its whole content.
fn subject(approval: &Approval) -> Markup {
    let page = workflows::page_of(approval.subject_kind, approval.subject_id);
    html! {
        a href=(page.unwrap_or_else(|| format!("/workflows/{}", approval.workflow_id))) { (title(&approval.subject_kind)) }
        div.note { "by " (approval.requested_by) ", " (approval.created_at.format("%Y-%m-%d %H:%M")) }
        div.note { @if !approval.fund_id.is_nil() { a href={ "/funds/" (approval.fund_id) } { "fund" } " " } a href={ "/approvals/" (approval.id) } title=(approval.content_hash) { "all that is asked for" } }
    }
}

/// The rule that asks for the votes.
pub fn rule(approval: &Approval) -> String {
    let groups: Vec<String> = approval.tier.groups().map(|(role, votes)| format!("{votes} of {role}")).collect();
    let order = if approval.tier.in_sequence { ", then " } else { " and " };
    format!("from {}: {}", grouped(approval.tier.from_amount), groups.join(order))
}

fn votes(approval: &Approval) -> Markup {
    html! {
        div.note { (approval.votes.len()) " of " (approval.tier.votes_in_all()) " votes" }
        @for vote in &approval.votes {
            div.note { (title(&vote.decision)) " by " (vote.user) @if let Some(member) = &vote.on_behalf_of { " for " (member) } @if let Some(comment) = &vote.comment { ": " (comment) } }
        }
    }
}

pub fn next(approval: &Approval) -> Markup {
    html! {
        "votes of " (approval.open_roles().collect::<Vec<_>>().join(" or "))
        @if let Some(deadline) = approval.deadline { div.note { (title(&deadline.then)) " at " (deadline.at.format("%Y-%m-%d %H:%M")) } }
        div.note { "then " a href={ "/workflows/" (approval.workflow_id) } { "the next step" } }
    }
}

fn delegations_table(actor: &Actor, delegations: &[Delegation], key: &dyn Fn() -> Uuid) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Delegations" { table {
            thead { tr { th scope="col" { "Whose" } th scope="col" { "By whom" } th scope="col" { "From" } th scope="col" { "Until" } th scope="col" { "Why" } th scope="col" { "Status" } th scope="col" { "" } } }
            tbody {
                @for delegation in delegations {
                    tr {
                        td { (delegation.granted_by) } td { (delegation.granted_to) } td { (delegation.starts_at.format("%Y-%m-%d %H:%M")) } td { (delegation.ends_at.format("%Y-%m-%d %H:%M")) }
                        td { (delegation.reason) } td { (status(&delegation.status)) }
                        td { @if delegation.granted_by == actor.user && matches!(delegation.status, DelegationStatus::Active | DelegationStatus::Scheduled) { (form(actor, key(), &format!("/delegations/{}/revoke", delegation.id), "/approvals", "Take back", &[])) } }
                    }
                }
                @if delegations.is_empty() { tr { td.note colspan="7" { "Nobody votes for anybody else." } } }
            }
        } }
    }
}

#[derive(Deserialize)]
pub struct VoteForm {
    key: String,
    decision: VoteDecision,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    on_behalf_of: String,
}

/// A vote with a button.
pub async fn vote(
    State(door): State<Arc<Door>>,
    Path(approval_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Form<VoteForm>, FormRejection>,
) -> Response {
    let Some(mut visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    visit.method = "POST";
    let prepared = check_role(visit.actor(), VOTERS).and_then(|()| {
        same_origin(&headers)?;
        let approval_id = approval_id.parse().map_err(|_| Reason::UnknownApproval.with(format!("{approval_id:?} is not an id")))?;
        let Form(form) = form.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        check_key(&form.key)?;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let vote = CastVote {
            approval_id,
            decision: form.decision,
            comment: given(form.comment),
            on_behalf_of: given(form.on_behalf_of),
            attachments: vec![],
        };
        Ok((vote, form.key))
    });
    let (command, key) = match prepared {
        Ok(prepared) => prepared,
        Err(rejection) => return visit.end(Err(rejection)).await,
    };
    match visit.command(&key, &command).await {
        Ok(()) => redirect("/approvals"),
        // workflow has recorded the refusal
        Err(rejection) => visit.problem(&rejection),
    }
}
