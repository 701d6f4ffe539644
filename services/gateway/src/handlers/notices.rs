//! Notices as CSV: one row a purpose, with the totals beside it.

use std::sync::Arc;

use ::domain::messages::capital_calls::{CallNotice, GetNotice, NoticeTotals};
use ::domain::{Query, Reason, Rejection};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::limits::REQUEST_TIMEOUT;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Door;
use super::access::Attempt;
use super::api::refuse;
use crate::domain::{READERS, check_role};

/// The columns.
const COLUMNS: [&str; 37] = [
    "format",
    "line_id",
    "line_version",
    "call_id",
    "amendment",
    "fund_id",
    "fund_name",
    "investor_id",
    "investor_name",
    "currency",
    "issued_on",
    "due_on",
    "wire_reference",
    "amount_due",
    "transaction",
    "allocation_id",
    "transaction_amount",
    "inside_commitment",
    "impact_on_unfunded",
    "commitment_percent",
    "fund_commitment",
    "fund_called_before",
    "fund_unfunded_before",
    "fund_called",
    "fund_impact_on_unfunded",
    "fund_called_after",
    "fund_unfunded_after",
    "investor_commitment",
    "investor_called_before",
    "investor_unfunded_before",
    "investor_called",
    "investor_impact_on_unfunded",
    "investor_called_after",
    "investor_unfunded_after",
    "account",
    "instructions_hash",
    "instructions_superseded",
];

/// The route.
pub fn router() -> Router<Arc<Door>> {
    Router::new().route("/api/v1/call-lines/{line_id}/notice.csv", get(notice))
}

async fn notice(State(door): State<Arc<Door>>, Path(line_id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let actor = match door.actor(&headers).and_then(|actor| check_role(&actor, READERS).map(|()| actor)) {
        Ok(actor) => actor,
        Err(rejection) => return refuse(rejection),
    };
    let context = door.context(&headers, actor);
    let asked = async {
        let line_id: Uuid = line_id.parse().map_err(|_| Reason::UnknownCallLine.with(format!("{line_id:?} is not an id")))?;
        let body = serde_json::to_vec(&GetNotice { line_id }).unwrap_or_default();
        let reply = door.ask(GetNotice::SUBJECT, None, &context, body.into(), REQUEST_TIMEOUT).await?.result?;
        let notice: CallNotice = serde_json::from_slice(&reply).map_err(|error| Reason::Internal.with(error.to_string()))?;
        csv(&notice)
    };
    let answer = asked.await;
    let refusal = answer.as_ref().err();
    let status = refusal.map_or(200, |rejection: &Rejection| rejection.reason.entry().0);
    door.access.record(Attempt { context: &context, method: "GET", resource: uri.path(), status, refusal }).await;
    match answer {
        Ok(text) => {
            let mut response = text.into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
            response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"notice.csv\""));
            response
        }
        Err(rejection) => refuse(rejection),
    }
}

/// A text that no spreadsheet takes for a formula.
fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

fn totals(totals: &NoticeTotals) -> [String; 7] {
    let NoticeTotals { commitment, called_before, unfunded_before, called, impact_on_unfunded, called_after, unfunded_after } = totals;
    [commitment, called_before, unfunded_before, called, impact_on_unfunded, called_after, unfunded_after].map(ToString::to_string)
}

fn csv(notice: &CallNotice) -> Result<String, Rejection> {
    let broken = |error: String| Reason::Internal.with(error);
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record(COLUMNS).map_err(|error| broken(error.to_string()))?;
    for transaction in &notice.transactions {
        let fee = notice.fees.iter().find(|fee| fee.kind == transaction.kind && fee.inside_commitment == transaction.inside_commitment);
        let percent = fee.and_then(|fee| fee.commitment_percent).map(|percent| percent.0.to_string()).unwrap_or_default();
        let head = [
            notice.format.clone(),
            notice.line_id.to_string(),
            notice.line_version.to_string(),
            notice.call_id.to_string(),
            notice.amendment.to_string(),
            notice.fund_id.to_string(),
            defused(&notice.fund_name),
            notice.investor_id.to_string(),
            defused(&notice.investor_name),
            notice.currency.code().to_owned(),
            notice.issued_on.to_string(),
            notice.due_on.to_string(),
            notice.wire_reference.clone(),
            notice.amount.to_string(),
            chassis::row::name(&transaction.kind),
            transaction.allocation_id.map(|id| id.to_string()).unwrap_or_default(),
            transaction.amount.to_string(),
            transaction.inside_commitment.to_string(),
            transaction.impact_on_unfunded.to_string(),
            percent,
        ];
        let pinned = notice.instructions.as_ref();
        let where_to = [
            pinned.map(|pinned| pinned.account.clone()).unwrap_or_default(),
            pinned.map(|pinned| pinned.hash.clone()).unwrap_or_default(),
            notice.instructions_superseded.to_string(),
        ];
        let row = head.into_iter().chain(totals(&notice.fund_totals)).chain(totals(&notice.investor_totals)).chain(where_to);
        writer.write_record(row).map_err(|error| broken(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| broken(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| broken(error.to_string()))
}

/// The operation's description.
pub fn operation(problem: &Value) -> Value {
    json!({
        "operationId": "capital-calls-get-notice-csv",
        "summary": "The notice of one line as CSV, ILPA-style: one row a purpose, with the totals beside it.",
        "description": "Roles: analyst, fund_manager, committee, treasurer, auditor, admin.",
        "parameters": [{"name": "line_id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}}],
        "responses": {
            "200": {"description": "as asked", "content": {"text/csv": {"schema": {"type": "string"}}}},
            "default": {"description": "a problem with its code and a recommendation", "content": {"application/problem+json": {"schema": problem}}},
        },
    })
}
