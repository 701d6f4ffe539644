//! The rules of a scope, where each value comes from, and the changes that are proposed, simulated and voted on.

use ::domain::messages::allocation_status::GetFund;
use ::domain::messages::workflow::{
    GetRuleChange, GetRules, ListRuleChanges, RuleChange, RuleChangeStatus, RulesView, Simulation, Verdict, VoteDecision,
};
use axum::extract::Query as Parameters;
use serde_json::Value;

use super::forms::{Field, form};
use super::money::{card, parsed};
use super::*;

/// Which rules the page shows.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// What they hold for; empty for every fund.
    scope: String,
}

/// Most characters of a value that a table shows; the whole is its title.
const VALUE_CHARACTERS_MAX: usize = 160;

/// The rules of a scope, and the changes of all.
pub async fn page(State(door): State<Arc<Door>>, Parameters(asked): Parameters<Asked>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let scope = if asked.scope.trim().is_empty() { "global".to_owned() } else { asked.scope.trim().to_owned() };
        let rules = in_force(&visit, &scope).await?;
        let changes = visit.ask(&ListRuleChanges { limit: Some(ROWS), ..Default::default() }).await?.items;
        let body = html! {
            h1 { "Rules" }
            form.votes method="get" action="/rules" {
                input type="text" name="scope" value=(rules.scope) aria-label="Scope" placeholder="global, env:production, fund-type:buyout, fund:<id>";
                button.quiet { "Show" }
            }
            h2 { "Changes" }
            (changes_table(&changes))
            h2 { "In force for " (rules.scope) @if rules.version > 0 { ", version " (rules.version) } }
            (values(&rules)?)
        };
        Ok(shell("Rules", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The rules in force for a scope; of a fund with those of its type.
async fn in_force(visit: &Visit<'_>, scope: &str) -> Result<RulesView, Rejection> {
    let fund_type = match scope.strip_prefix("fund:").and_then(|id| id.parse().ok()) {
        Some(fund_id) => Some(visit.ask(&GetFund { fund_id }).await?.fund_type),
        None => None,
    };
    visit.ask(&GetRules { scope: scope.to_owned(), fund_type }).await
}

/// Changes of rules.
pub fn changes_table(changes: &[RuleChange]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Changes of rules" { table {
            thead { tr { th scope="col" { "Scope" } th scope="col" { "Why" } th scope="col" { "Proposed by" } th scope="col" { "In force from" } th.number scope="col" { "Votes" } th scope="col" { "Status" } } }
            tbody {
                @for change in changes {
                    tr {
                        td { a href={ "/rule-changes/" (change.id) } { (change.scope) } } td.text { (change.comment) }
                        td { (change.proposed_by) div.note { (change.created_at.format("%Y-%m-%d %H:%M")) } } td { (from(change)) }
                        td.number { (change.votes.len()) " of " (change.votes_needed) } td { (status(&change.status)) }
                    }
                }
                @if changes.is_empty() { tr { td.note colspan="6" { "None so far: the files under deploy/rules hold." } } }
            }
        } }
    }
}

fn from(change: &RuleChange) -> String {
    change.active_from.map_or_else(|| "its approval".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
}

fn unreadable(error: serde_json::Error) -> Rejection {
    Reason::Internal.with(error.to_string())
}

/// The effective value of each rule, and the layer that it comes from.
fn values(rules: &RulesView) -> Result<Markup, Rejection> {
    let effective = serde_json::to_value(&rules.effective).map_err(unreadable)?;
    let effective = effective.as_object().cloned().unwrap_or_default();
    Ok(html! {
        div.scroll tabindex="0" role="region" aria-label="Rules in force" { table {
            thead { tr { th scope="col" { "Rule" } th scope="col" { "Value" } th scope="col" { "From" } } }
            tbody {
                @for (name, value) in &effective {
                    tr {
                        td { code { (name) } } td.text { (shown(value)) }
                        td { @if let Some(origin) = rules.sources.get(name) { (origin.scope) div.note { "version " (origin.version) } } }
                    }
                }
            }
        } }
    })
}

/// A value as text, cut where it is long.
pub fn shown(value: &Value) -> Markup {
    let whole = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let short: String = whole.chars().take(VALUE_CHARACTERS_MAX).collect();
    html! { code title=(whole) { (short) @if short.len() < whole.len() { "…" } } }
}

/// One change: what it says, what it would have changed, and the votes on it.
pub async fn change(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let change = visit.ask(&GetRuleChange { rule_change_id: parsed(&id, Reason::UnknownRuleChange)? }).await?;
        let before = in_force(&visit, &change.scope).await?;
        let path = format!("/rule-changes/{}", change.id);
        let key = || door.shell.clock.new_id();
        let is_open = !matches!(change.status, RuleChangeStatus::Active | RuleChangeStatus::Denied | RuleChangeStatus::Withdrawn);
        let is_overtaken = is_open && before.version != change.replaces;
        let decisions = [("approve", "Approve"), ("deny", "Deny")];
        let vote = [
            Field::hidden("content_hash", &change.content_hash),
            Field::choice("decision", "Vote", &decisions),
            Field::text("comment", "Comment"),
        ];
        let body = html! {
            h1 { "Change of " (change.scope) " " (status(&change.status)) }
            p { a href="/rules" { "All rules" } }
            dl.cards {
                (card("Proposed by", &change.proposed_by)) (card("In force from", from(&change)))
                (card("Votes", format!("{} of {}", change.votes.len(), change.votes_needed))) (card("Replaces version", change.replaces.to_string()))
            }
            p { (change.comment) }
            @if let Some(workflow) = change.workflow_id { p { a href={ "/workflows/" (workflow) } { "Its steps" } } }
            @if let Some(why) = &change.refused_because { div.problem role="alert" { p { (why) } } }
            @if is_overtaken {
                div.problem role="alert" { p { "Version " (before.version) " is in force now, and this was written against version " (change.replaces) ": it must be written anew." } }
            }
            @for problem in &change.problems { div.problem role="alert" { p { (problem) } } }
            h2 { "What it says" }
            (layer(&change, &before)?)
            h2 { "What it would have changed" }
            (simulated(change.simulation.as_ref()))
            h2 { "Votes" }
            @for vote in &change.votes { p { (said(&vote.decision)) " by " (vote.user) @if let Some(comment) = &vote.comment { ": " (comment) } } }
            @if change.votes.is_empty() { p.note { "None yet." } }
            @match change.status {
                RuleChangeStatus::Validated => (form(visit.actor(), key(), &format!("{path}/simulate"), &path, "Simulate it over the last year", &[])),
                RuleChangeStatus::Simulated if !is_overtaken && !change.authors.contains(&visit.actor().user) => (form(visit.actor(), key(), &format!("{path}/votes"), &path, "Vote", &vote)),
                _ => {},
            }
            @if is_open { (form(visit.actor(), key(), &format!("{path}/withdraw"), &path, "Take it back", &[])) }
        };
        Ok(shell("Change of rules", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn said(decision: &VoteDecision) -> String {
    title(decision)
}

/// What the layer says, beside what is in force.
fn layer(change: &RuleChange, before: &RulesView) -> Result<Markup, Rejection> {
    let wanted = serde_json::to_value(&change.rules).map_err(unreadable)?;
    let now = serde_json::to_value(&before.effective).map_err(unreadable)?;
    let said = wanted.as_object().cloned().unwrap_or_default();
    let said: Vec<(&String, &Value)> = said.iter().filter(|(_, value)| !value.is_null()).collect();
    Ok(html! {
        div.scroll tabindex="0" role="region" aria-label="What it says" { table {
            thead { tr { th scope="col" { "Rule" } th scope="col" { "Now" } th scope="col" { "Then" } } }
            tbody {
                @for (name, value) in &said { tr { td { code { (name) } } td.text { (shown(&now[name.as_str()])) } td.text { (shown(value)) } } }
                @if said.is_empty() { tr { td.note colspan="3" { "Nothing: what the layers below say holds." } } }
            }
        } }
    })
}

fn simulated(simulation: Option<&Simulation>) -> Markup {
    let Some(simulation) = simulation else { return html! { p.note { "It has not been simulated." } } };
    html! {
        p {
            (simulation.looked_at) " requests from " (simulation.from.format("%Y-%m-%d")) " to " (simulation.until.format("%Y-%m-%d")) ": "
            (simulation.newly_refused) " would have been refused, " (simulation.no_longer_refused) " no longer; "
            (simulation.more_votes) " would have needed more votes, " (simulation.fewer_votes) " fewer."
        }
        @if !simulation.differences.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Differences" { table {
                thead { tr { th scope="col" { "What" } th scope="col" { "When" } th.number scope="col" { "Amount" } th scope="col" { "As it was" } th scope="col" { "By the change" } } }
                tbody {
                    @for difference in &simulation.differences {
                        tr {
                            td { (title(&difference.subject_kind)) } td { (difference.asked_at.format("%Y-%m-%d")) }
                            td.number { (grouped(difference.amount)) " " (difference.currency.code()) }
                            td { (verdict(&difference.before)) } td { (verdict(&difference.after)) }
                        }
                    }
                }
            } }
        }
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passes => "passes".into(),
        Verdict::NeedsApproval { votes, roles } => format!("{votes} votes of {}", roles.join(", ")),
        Verdict::Refused { code } => format!("refused: {}", code.code()),
    }
}
