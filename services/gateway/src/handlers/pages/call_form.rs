//! The page on which a capital call is written, or written anew, with a preview of its lines.

use ::domain::messages::allocation_status::{AllocationDecision, ListAllocations};
use ::domain::messages::capital_calls::{
    ADJUSTMENTS_MAX, CallDecision, CallPreview, CapitalCall, LinePreview, PURPOSES_MAX, PreviewCapitalCall, ShareExplained,
};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawForm};
use serde_json::{Map, Value};

use super::forms::{message, pairs_of};
use super::money::{known_investors, name_of, parsed};
use super::*;
use crate::domain::CALLERS;

/// Empty rows for purposes, and for investors who are asked for something else, unless more are asked for.
const FORM_ROWS: usize = 4;
/// Most empty rows of each.
const FORM_ROWS_MAX: usize = 50;

/// What is asked of the page.
#[derive(Deserialize)]
pub struct Shown {
    #[serde(default)]
    rows: Option<usize>,
}

fn rows_shown(shown: Result<Query<Shown>, QueryRejection>) -> Result<Option<usize>, Rejection> {
    shown.map(|Query(shown)| shown.rows).map_err(|error| Reason::MalformedRequest.with(error.to_string()))
}

/// Rows of a table that takes so many: what is given, so that nothing is lost when the form is sent, and some more to write in.
fn rows_for(asked: Option<usize>, given: usize, most: usize) -> usize {
    (given + asked.unwrap_or(FORM_ROWS).min(FORM_ROWS_MAX)).min(most).max(given)
}

/// What is written: a new call of a fund, or one that is there.
struct Written {
    fund_id: Uuid,
    call: Option<CapitalCall>,
    /// The page with the form.
    page: String,
    /// The route that takes it.
    route: String,
    /// Where it is seen afterwards.
    back: String,
}

impl Written {
    fn new(fund_id: Uuid) -> Written {
        let fund = format!("/funds/{fund_id}");
        Written { fund_id, call: None, page: format!("{fund}/capital-calls/new"), route: format!("/act{fund}/capital-calls"), back: fund }
    }

    fn anew(call: CapitalCall) -> Written {
        let back = format!("/capital-calls/{}", call.id);
        Written { fund_id: call.fund_id, page: format!("{back}/edit"), route: format!("/act{back}/amend"), back, call: Some(call) }
    }

    /// Whether its lines can be shown before: those of an issued call are what they are.
    fn has_preview(&self) -> bool {
        self.call.as_ref().is_none_or(|call| matches!(call.decision, CallDecision::Draft | CallDecision::PendingApproval))
    }
}

/// A form for a new call.
pub async fn new(
    State(door): State<Arc<Door>>,
    Path(fund_id): Path<String>,
    shown: Result<Query<Shown>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let written = Written::new(parsed(&fund_id, Reason::UnknownFund)?);
        form_page(&visit, &written, &Value::Null, rows_shown(shown)?, html! {}).await
    };
    let page = page.await;
    visit.end(page).await
}

/// A form with what a call says.
pub async fn edit(
    State(door): State<Arc<Door>>,
    Path(call_id): Path<String>,
    shown: Result<Query<Shown>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let call = load_call(&visit, &call_id).await?.call;
        let given = serde_json::to_value(call.content()).map_err(|error| Reason::Internal.with(error.to_string()))?;
        form_page(&visit, &Written::anew(call), &given, rows_shown(shown)?, html! {}).await
    };
    let page = page.await;
    visit.end(page).await
}

/// The form of a new call, with the lines that it would have.
pub async fn preview_new(
    State(door): State<Arc<Door>>,
    Path(fund_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let written = parsed(&fund_id, Reason::UnknownFund).map(Written::new);
    preview(visit, written, &headers, &body).await
}

/// The form of a call that is there, with the lines that it would have.
pub async fn preview_edit(
    State(door): State<Arc<Door>>,
    Path(call_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let written = load_call(&visit, &call_id).await.map(|view| Written::anew(view.call));
    preview(visit, written, &headers, &body).await
}

async fn preview(mut visit: Visit<'_>, written: Result<Written, Rejection>, headers: &HeaderMap, body: &[u8]) -> Response {
    visit.method = "POST";
    let page = async {
        same_origin(headers)?;
        let (written, given) = (written?, message(pairs_of(body))?);
        let previewed = lines_of(&visit, &written, given.clone()).await;
        let told = match &previewed {
            Ok((preview, investors)) => preview_table(preview, investors),
            Err(rejection) => told(&rejection.clone().into()),
        };
        let page = form_page(&visit, &written, &Value::Object(given), None, told).await?;
        Ok((page, previewed.err()))
    };
    match page.await {
        // what was written stays on the page
        Ok((page, Some(rejection))) => visit.end_refused(&rejection, page).await,
        Ok((page, None)) => visit.end(Ok(page)).await,
        Err(rejection) => visit.end(Err(rejection)).await,
    }
}

/// The lines that a call would have, and who those are that would be called.
async fn lines_of(visit: &Visit<'_>, written: &Written, given: Map<String, Value>) -> Result<(CallPreview, Vec<Investor>), Rejection> {
    let of_preview = ["purposes", "due_on", "priority", "adjustments", "rounding"];
    let mut fields: Map<String, Value> = given.into_iter().filter(|(name, _)| of_preview.contains(&name.as_str())).collect();
    fields.insert("fund_id".into(), written.fund_id.to_string().into());
    let query: PreviewCapitalCall =
        serde_json::from_value(Value::Object(fields)).map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
    let preview = visit.ask(&query).await?;
    let investors = investors(visit, preview.lines.iter().take(usize::from(ROWS)).map(|line| line.investor_id)).await?;
    Ok((preview, investors))
}

/// The content that what is given was written from: what the form was opened with, however often it is previewed.
fn written_from(call: &CapitalCall, given: &Value) -> String {
    let opened_with = at(given, "/written_from");
    if opened_with.is_empty() { call.content_hash.clone() } else { opened_with }
}

/// What stands at a place of what is given; nothing where there is nothing.
fn at(given: &Value, pointer: &str) -> String {
    match given.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => yes.to_string(),
        _ => String::new(),
    }
}

fn choice(name: &str, label: &str, given: &str, options: &[(String, String)]) -> Markup {
    html! {
        select.choice name=(name) aria-label=(label) {
            @for (value, words) in options { option value=(value) selected[value == given] { (words) } }
        }
    }
}

fn words(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(value, words)| ((*value).to_owned(), (*words).to_owned())).collect()
}

async fn form_page(visit: &Visit<'_>, written: &Written, given: &Value, rows: Option<usize>, preview: Markup) -> Result<Markup, Rejection> {
    check_role(visit.actor(), CALLERS)?;
    let allocations = ListAllocations {
        fund_id: Some(written.fund_id),
        deal_id: None,
        decision: Some(AllocationDecision::Active),
        cursor: None,
        limit: Some(ROWS),
    };
    let mut options = words(&[("", "-")]);
    for allocation in visit.ask(&allocations).await?.items {
        let left = allocation.amount - allocation.called;
        let words = format!("{} of {}, {} left", allocation.security_type, grouped(allocation.amount), grouped(left));
        options.push((allocation.id.to_string(), words));
    }
    let investors = known_investors(visit).await?;
    let rows_of = |list: &str, most: usize| rows_for(rows, given[list].as_array().map_or(0, Vec::len), most);
    let heading = if written.call.is_none() { "New capital call" } else { "Write the capital call anew" };
    let body = html! {
        h1 { (heading) }
        p { a href=(written.back) { "Back" } }
        (preview)
        form.written method="post" action=(written.page) {
            input type="hidden" name="key" value=(visit.door.shell.clock.new_id());
            input type="hidden" name="back" value=(written.back);
            (purposes_table(given, rows_of("purposes", PURPOSES_MAX), &options))
            p { a href={ (written.page) "?rows=" (FORM_ROWS_MAX) } { "More rows" } " (what is written is lost)" }
            p.votes {
                label.date { "Due " input type="date" name="due_on" value=(at(given, "/due_on")) required; }
                (choice("priority", "Priority", &at(given, "/priority"), &words(&[("normal", "Normal"), ("high", "High"), ("urgent", "Urgent")])))
                (choice("rounding", "Rounding", &at(given, "/rounding"), &words(&[("per_call", "Each call rounded by itself"), ("cumulative", "All calls rounded together")])))
            }
            (adjustments_table(given, rows_of("adjustments", ADJUSTMENTS_MAX), &investors))
            @if let Some(call) = &written.call {
                input type="hidden" name="written_from" value=(written_from(call, given));
                p { label for="reason" { "Reason" } input #reason type="text" name="reason" maxlength="500" value=(at(given, "/reason")); }
            }
            p.votes {
                @if written.has_preview() { button { "Preview" } }
                @match written.call {
                    None => {
                        button.quiet name="draft" value="true" formaction=(written.route) { "Keep as a draft" }
                        button.quiet formaction=(written.route) { "Submit" }
                    }
                    Some(_) => button.quiet formaction=(written.route) { "Ask for the change" },
                }
            }
        }
    };
    Ok(shell(heading, Some(visit.actor()), body))
}

fn purposes_table(given: &Value, rows: usize, allocations: &[(String, String)]) -> Markup {
    let kinds = words(&[
        ("", "-"),
        ("investment", "Investment"),
        ("management_fee", "Management fee"),
        ("expenses", "Expenses"),
        ("reserve", "Reserve"),
        ("recallable_return", "Recallable return"),
    ]);
    let sides = words(&[("", "-"), ("true", "Inside the commitment"), ("false", "Outside")]);
    html! {
        h2 { "What for" }
        div.scroll tabindex="0" role="region" aria-label="Purposes" { table {
            thead { tr { th scope="col" { "Purpose" } th scope="col" { "Allocation" } th scope="col" { "Amount" } th scope="col" { "Side" } } }
            tbody { @for place in 0..rows {
                @let of = |field: &str| (format!("purposes.{place}.{field}"), at(given, &format!("/purposes/{place}/{field}")));
                @let (kind, allocation, (amount, amount_given), side) = (of("kind"), of("allocation_id"), of("amount"), of("inside_commitment"));
                tr {
                    td { (choice(&kind.0, "Purpose", &kind.1, &kinds)) } td { (choice(&allocation.0, "Allocation", &allocation.1, allocations)) }
                    td { input type="text" name=(amount) value=(amount_given) inputmode="decimal" aria-label="Amount"; }
                    td { (choice(&side.0, "Side", &side.1, &sides)) }
                }
            } }
        } }
    }
}

fn adjustments_table(given: &Value, rows: usize, investors: &[(String, String)]) -> Markup {
    html! {
        h2 { "Investors who are asked for something else" }
        // so that the last one can be taken away
        input type="hidden" name="adjustments[]" value="all";
        datalist #investors { @for (id, name) in investors { option value=(id) { (name) } } }
        div.scroll tabindex="0" role="region" aria-label="Adjustments" { table {
            thead { tr { th scope="col" { "Investor" } th scope="col" { "Just this" } th scope="col" { "Or at most" } th scope="col" { "Reason" } } }
            tbody { @for place in 0..rows {
                tr { @for (field, label) in [("investor_id", "Investor id"), ("amount", "Just this"), ("cap", "At most"), ("reason", "Reason")] {
                    td { input type="text" name={ "adjustments." (place) "." (field) } value=(at(given, &format!("/adjustments/{place}/{field}")))
                        list=[(field == "investor_id").then_some("investors")] aria-label=(label); }
                } }
            } }
        } }
    }
}

fn preview_table(preview: &CallPreview, investors: &[Investor]) -> Markup {
    let shown = preview.lines.iter().take(usize::from(ROWS));
    html! {
        h2 { "What it would be" }
        p.note { (grouped(preview.amount)) " " (preview.currency.code()) " over " (preview.lines.len()) " investors. Issued today it could be due on "
            (preview.due_on_earliest) " at the earliest. Nothing is stored." }
        div.scroll tabindex="0" role="region" aria-label="Preview" { table {
            thead { tr { th scope="col" { "Investor" } th.number scope="col" { "Commitment" } th.number scope="col" { "Unfunded" } th.number scope="col" { "Amount" }
                th.number scope="col" { "Impact" } th.number scope="col" { "Unfunded after" } th scope="col" { "Why" } } }
            tbody { @for line in shown { (preview_row(line, investors)) } }
        } }
        @if preview.lines.len() > usize::from(ROWS) { p.note { "The first " (ROWS) " lines are shown; all are in " code { "POST /api/v1/capital-calls/preview" } "." } }
    }
}

fn preview_row(line: &LinePreview, investors: &[Investor]) -> Markup {
    let why = |share: &ShareExplained| {
        format!("{} of {}: {} exactly, {}", grouped(share.amount), grouped(share.total), share.exact.0, title(&share.because))
    };
    html! { tr {
        td { (name_of(investors, line.investor_id)) } (amount(line.commitment)) (amount(line.unfunded_before)) (amount(line.amount))
        (amount(line.impact_on_unfunded)) (amount(line.unfunded_after))
        td.text { @for share in &line.shares { p.note { (why(share)) } } }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_a_row_for_all_that_a_call_says() {
        for (asked, given, rows) in
            [(None, 0, 4), (Some(8), 2, 10), (None, 80, 84), (Some(8), 80, 88), (None, 99, 100), (Some(9_999), 0, 50), (None, 101, 101)]
        {
            assert_eq!(rows_for(asked, given, 100), rows, "{asked:?} {given}");
        }
    }
}
