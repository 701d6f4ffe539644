//! What a fund manager does about a call on its page: submit, cancel, rescind, move the due date.

use ::domain::messages::capital_calls::{AmendCapitalCall, CallDecision, CancelCapitalCall, CapitalCall, RescindCapitalCall, SubmitDraft};
use chrono::NaiveDate;

use super::*;
use crate::domain::CALLERS;

/// What is to be done.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Submit,
    Cancel,
    Rescind,
    Amend,
}

/// The form of a call's page.
#[derive(Deserialize)]
pub struct CallForm {
    key: String,
    act: Act,
    /// The hash of the content that the page has shown.
    written_from: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    due_on: Option<NaiveDate>,
}

/// The actions that a call allows, for those who may take them.
pub fn forms(call: &CapitalCall, actor: &Actor, key: Uuid) -> Markup {
    let may = check_role(actor, CALLERS).is_ok();
    let acts: &[(&str, &str)] = match call.decision {
        CallDecision::Draft => &[("submit", "Submit"), ("cancel", "Cancel")],
        CallDecision::PendingApproval => &[("cancel", "Cancel")],
        CallDecision::Issued if call.amending.is_some() => &[("cancel", "Cancel the amendment"), ("rescind", "Rescind")],
        CallDecision::Issued => &[("rescind", "Rescind")],
        CallDecision::Cancelled | CallDecision::Rescinded => &[],
    };
    html! {
        @if let Some(why) = &call.decided_because { p.note { "Because: " (why) } }
        @if let Some(amendment) = &call.amending {
            p.note { "Amendment " (amendment.number) " waits for approval: " (amendment.content.amount) " due on " (amendment.content.due_on) ", because: " (amendment.reason) }
        }
        @if may && !acts.is_empty() {
            h2 { "Change" }
            @if call.amending.is_none() { p { a href={ "/capital-calls/" (call.id) "/edit" } { "Write it anew" } } }
            form.votes method="post" action={ "/capital-calls/" (call.id) "/change" } {
                input type="hidden" name="key" value=(key);
                input type="hidden" name="written_from" value=(call.content_hash);
                input type="text" name="reason" maxlength="500" placeholder="Reason" aria-label="Reason";
                @for (act, label) in acts { button.quiet name="act" value=(act) { (label) } }
                @if call.amending.is_none() {
                    input type="date" name="due_on" value=(call.due_on) aria-label="Due date";
                    button.quiet name="act" value="amend" { "Move the due date" }
                }
            }
        }
    }
}

/// Takes an action.
pub async fn change(
    State(door): State<Arc<Door>>,
    Path(call_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Form<CallForm>, FormRejection>,
) -> Response {
    let Some(mut visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    visit.method = "POST";
    let prepared = check_role(visit.actor(), CALLERS).and_then(|()| {
        same_origin(&headers)?;
        let call_id: Uuid = call_id.parse().map_err(|_| Reason::UnknownCapitalCall.with(format!("{call_id:?} is not an id")))?;
        let Form(form) = form.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        check_key(&form.key)?;
        Ok((call_id, form))
    });
    let (call_id, CallForm { key, act, written_from, reason, due_on }) = match prepared {
        Ok(prepared) => prepared,
        Err(rejection) => return visit.end(Err(rejection)).await,
    };
    let written_from = Some(written_from);
    let done = match act {
        Act::Submit => visit.command(&key, &SubmitDraft { call_id, written_from }).await,
        Act::Cancel => visit.command(&key, &CancelCapitalCall { call_id, reason }).await,
        Act::Rescind => visit.command(&key, &RescindCapitalCall { call_id, reason }).await,
        Act::Amend => {
            let due = AmendCapitalCall {
                call_id,
                purposes: None,
                due_on,
                priority: None,
                adjustments: None,
                rounding: None,
                written_from,
                reason,
            };
            visit.command(&key, &due).await
        }
    };
    match done {
        Ok(()) => redirect(&format!("/capital-calls/{call_id}")),
        // the service has recorded the refusal
        Err(rejection) => visit.problem(&rejection),
    }
}
