//! One approval: all that is asked for, the rules that ask for votes, and what happens next.

use ::domain::messages::allocation_status::{GetAllocation, GetDeal, GetFund};
use ::domain::messages::capital_calls::{GetBankDetails, GetCapitalCall, GetRefund};
use ::domain::messages::workflow::{Approval, ApprovalStatus, GetApproval, GetWorkflow, ListDelegations, SubjectKind, Workflow};
use serde::Serialize;
use serde_json::Value;

use super::money::{card, parsed};
use super::*;

/// The page.
pub async fn page(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let approval = visit.ask(&GetApproval { approval_id: parsed(&id, Reason::UnknownApproval)? }).await?;
        let workflow = visit.ask(&GetWorkflow { workflow_id: approval.workflow_id }).await?;
        let delegations = visit.ask(&ListDelegations { limit: Some(ROWS), ..Default::default() }).await?.items;
        let content = content(&visit, &approval).await?;
        let voters = approvals::voters(visit.actor(), &approval, &delegations);
        let may_vote = approval.status == ApprovalStatus::Pending && !voters.is_empty();
        let key = || door.shell.clock.new_id();
        let layers: Vec<String> = workflow.rules.layers.iter().map(|origin| format!("{} {}", origin.scope, origin.version)).collect();
        let body = html! {
            h1 { "Approval of a " (title(&approval.subject_kind)) " " (status(&approval.status)) }
            p { a href="/approvals" { "All approvals" } " " a href={ "/workflows/" (workflow.id) } { "Its workflow" } }
            dl.cards {
                (card("Amount", format!("{} {}", grouped(approval.amount), approval.currency.code()))) (card("Urgency", title(&approval.priority)))
                (card("Asked by", &approval.requested_by)) (card("Since", approval.created_at.format("%Y-%m-%d %H:%M").to_string()))
            }
            h2 { "What is asked for" }
            @if !is_shown(&approval, &content) { div.problem role="alert" { p { "It has been changed since: what is shown is not what these votes are on." } } }
            (fields(&content))
            p.note { "Votes are on the content " code { (approval.content_hash) } }
            h2 { "Why votes are needed" }
            p { (approvals::rule(&approval)) }
            p.note { "by the rules " code { (workflow.rules.content_hash) } " of " (layers.join(", ")) }
            h2 { "What is next" }
            @if approval.status == ApprovalStatus::Pending { p { (approvals::next(&approval)) } }
            (steps(&workflow))
            h2 { "Votes" }
            (approvals::table(visit.actor(), &[(&approval, voters)], may_vote.then_some(&key as &dyn Fn() -> Uuid)))
        };
        Ok(shell("Approval", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// All that is asked for, field by field, and the names of the fund and the deal.
async fn content(visit: &Visit<'_>, approval: &Approval) -> Result<Vec<(String, Value)>, Rejection> {
    let mut named = Vec::new();
    if !approval.fund_id.is_nil() {
        named.push(("fund".to_owned(), visit.ask(&GetFund { fund_id: approval.fund_id }).await?.name.into()));
    }
    let id = approval.subject_id;
    let state = match approval.subject_kind {
        SubjectKind::Allocation | SubjectKind::Withdrawal => {
            let allocation = visit.ask(&GetAllocation { allocation_id: id }).await?;
            named.push(("deal".to_owned(), visit.ask(&GetDeal { deal_id: allocation.deal_id }).await?.name.into()));
            said(&allocation)?
        }
        SubjectKind::CapitalCall => said(&visit.ask(&GetCapitalCall { call_id: id }).await?.call)?,
        SubjectKind::Refund => said(&visit.ask(&GetRefund { refund_id: id }).await?)?,
        SubjectKind::BankDetails => said(&visit.ask(&GetBankDetails { bank_details_id: id }).await?)?,
        // voted on where it is shown
        SubjectKind::RuleChange => vec![],
    };
    named.extend(state);
    // what an amendment asks for comes before what is in force
    named.sort_by_key(|(name, _)| name != "amending");
    Ok(named)
}

/// The fields of a state that say something.
fn said(state: &impl Serialize) -> Result<Vec<(String, Value)>, Rejection> {
    let value = serde_json::to_value(state).map_err(|error| Reason::Internal.with(error.to_string()))?;
    let fields = value.as_object().cloned().unwrap_or_default().into_iter();
    Ok(fields.filter(|(_, value)| !value.is_null() && *value != Value::Array(vec![])).collect())
}

fn fields(content: &[(String, Value)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="What is asked for" { table {
            thead { tr { th scope="col" { "Field" } th scope="col" { "Value" } } }
            tbody { @for (name, value) in content { tr { td { (name.replace('_', " ")) } td.text { (whole(value)) } } } }
        } }
    }
}

/// A value with all that is in it.
fn whole(value: &Value) -> Markup {
    html! {
        @match value {
            Value::Object(fields) => ul { @for (name, value) in fields { @if !value.is_null() { li { (name.replace('_', " ")) ": " (whole(value)) } } } },
            Value::Array(items) => ul { @for item in items { li { (whole(item)) } } },
            Value::String(text) => (text),
            other => (other.to_string()),
        }
    }
}

/// Whether the content that is voted on is among what is shown. Allocations do not change while votes are asked for.
fn is_shown(approval: &Approval, content: &[(String, Value)]) -> bool {
    fn has(value: &Value, hash: &str) -> bool {
        match value {
            Value::String(text) => text == hash,
            Value::Array(items) => items.iter().any(|item| has(item, hash)),
            Value::Object(fields) => fields.values().any(|field| has(field, hash)),
            _ => false,
        }
    }
    match approval.subject_kind {
        SubjectKind::CapitalCall | SubjectKind::Refund | SubjectKind::BankDetails => {
            content.iter().any(|(_, value)| has(value, &approval.content_hash))
        }
        SubjectKind::Allocation | SubjectKind::Withdrawal | SubjectKind::RuleChange => true,
    }
}

/// The steps that are still to be done.
fn steps(workflow: &Workflow) -> Markup {
    let open: Vec<String> = workflow.steps.iter().filter(|step| step.status.is_open()).map(|step| title(&step.name)).collect();
    html! { p.note { @if open.is_empty() { "Nothing is left to do." } @else { "Steps to be done: " (open.join(", ")) } } }
}
