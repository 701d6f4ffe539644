//! Requests on their way through their steps: where they are, what they wait for, and what may be done about them.

use ::domain::messages::workflow::{GetWorkflow, ListWorkflows, Step, StepStatus, SubjectKind, Workflow, WorkflowStatus};
use axum::extract::Query as Parameters;

use super::forms::{Field, form};
use super::money::{card, parsed};
use super::*;

/// Which workflows the list shows.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// With this status; empty for all.
    status: String,
    /// Only those that are stuck, when it says anything.
    stuck: String,
}

/// Statuses that the list can be of.
const STATUSES: [WorkflowStatus; 5] =
    [WorkflowStatus::Running, WorkflowStatus::Waiting, WorkflowStatus::Paused, WorkflowStatus::Failed, WorkflowStatus::Completed];

/// The list, newest first.
pub async fn list(State(door): State<Arc<Door>>, Parameters(filter): Parameters<Filter>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let wanted = STATUSES.into_iter().find(|status| chassis::row::name(status) == filter.status);
        let query =
            ListWorkflows { status: wanted, stuck: (!filter.stuck.is_empty()).then_some(true), limit: Some(ROWS), ..Default::default() };
        let workflows = visit.ask(&query).await?.items;
        let body = html! {
            h1 { "Workflows" }
            form.votes method="get" action="/workflows" {
                select.choice name="status" aria-label="Status" {
                    option value="" { "every status" }
                    @for status in STATUSES { option value=(chassis::row::name(&status)) selected[wanted == Some(status)] { (title(&status)) } }
                }
                label { input type="checkbox" name="stuck" value="yes" checked[query.stuck.is_some()]; " stuck" }
                button.quiet { "Show" }
            }
            div.scroll tabindex="0" role="region" aria-label="Workflows" { table {
                thead { tr { th scope="col" { "What" } th scope="col" { "Asked by" } th scope="col" { "Since" } th.number scope="col" { "Steps done" } th scope="col" { "Waits for" } th scope="col" { "Status" } } }
                tbody {
                    @for workflow in &workflows {
                        tr {
                            td { a href={ "/workflows/" (workflow.id) } { (title(&workflow.subject_kind)) } } td { (workflow.requested_by) } td { (workflow.created_at.format("%Y-%m-%d %H:%M")) }
                            td.number { (workflow.progress) " %" } td.text { (waits_for(workflow)) } td { (status(&workflow.status)) @if workflow.stuck { " " (status(&"stuck")) } }
                        }
                    }
                    @if workflows.is_empty() { tr { td.note colspan="6" { "None." } } }
                }
            } }
        };
        Ok(shell("Workflows", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn waits_for(workflow: &Workflow) -> &str {
    workflow.expects.as_deref().or(workflow.error.as_ref().map(|error| error.detail.as_str())).unwrap_or("")
}

/// One workflow with its steps.
pub async fn one(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let workflow = visit.ask(&GetWorkflow { workflow_id: parsed(&id, Reason::UnknownWorkflow)? }).await?;
        let path = format!("/workflows/{}", workflow.id);
        let open = !matches!(workflow.status, WorkflowStatus::Completed | WorkflowStatus::Failed);
        let actions = [("pause", "Pause"), ("resume", "Go on"), ("retry", "Do the step again"), ("cancel", "Cancel the request")];
        let fields = [Field::choice("action", "Action", &actions), Field::text("reason", "Why")];
        let body = html! {
            h1 { (title(&workflow.subject_kind)) " " (status(&workflow.status)) }
            p { a href="/workflows" { "All workflows" } " " @if !workflow.fund_id.is_nil() { a href={ "/funds/" (workflow.fund_id) } { "The fund" } } " " @if let Some(page) = page_of(workflow.subject_kind, workflow.subject_id) { a href=(page) { "The " (title(&workflow.subject_kind)) } } }
            @if let Some(error) = &workflow.error {
                (told(error))
            }
            dl.cards {
                (card("Asked by", &workflow.requested_by)) (card("Since", workflow.created_at.format("%Y-%m-%d %H:%M").to_string()))
                (card("Steps done", format!("{} %", workflow.progress))) (card("Waits for", waits_for(&workflow)))
            }
            div.scroll tabindex="0" role="region" aria-label="Steps" { table {
                thead { tr { th.number scope="col" { "No." } th scope="col" { "Step" } th scope="col" { "Status" } th scope="col" { "Began" } th scope="col" { "Ended" } th.number scope="col" { "Tried" } th scope="col" { "What came of it" } } }
                tbody { @for (number, step) in (1..).zip(&workflow.steps) { (row(number, step)) } }
            } }
            @if open {
                h2 { "What it shall do" }
                (form(visit.actor(), door.shell.clock.new_id(), &format!("{path}/actions"), &path, "Have it do so", &fields))
            }
        };
        Ok(shell("Workflow", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The page of what a workflow or an approval is about, where there is one.
pub fn page_of(kind: SubjectKind, subject_id: Uuid) -> Option<String> {
    match kind {
        SubjectKind::CapitalCall => Some(format!("/capital-calls/{subject_id}")),
        SubjectKind::Refund => Some("/refunds".into()),
        SubjectKind::BankDetails => Some("/bank-details".into()),
        SubjectKind::RuleChange => Some(format!("/rule-changes/{subject_id}")),
        SubjectKind::Allocation | SubjectKind::Withdrawal => None,
    }
}

fn row(number: usize, step: &Step) -> Markup {
    let time = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default();
    html! {
        tr {
            td.number { (number) } td { (title(&step.name)) @if let Some(program) = &step.program { " " (program) } @if let Some(hours) = step.hours { " " (hours) " hours" } }
            td { (status(&step.status)) } td { (time(step.started_at)) } td { (time(step.finished_at)) } td.number { @if step.status != StepStatus::Skipped { (step.attempts) } }
            td.text { (step.note.as_deref().unwrap_or("")) @if let Some(answer) = &step.answer { div.note { code { (answer.to_string()) } } } }
        }
    }
}
