//! The pages: plain HTML that works without scripts; with them, a call's page updates itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::domain::messages::capital_calls::{
    CallLine, CapitalCallView, Disposition, FindInvestors, GetCapitalCall, INVESTORS_MAX, Investor, ListCallLines, ListCapitalCalls,
    ListInvestors,
};
use ::domain::messages::fund_metrics::{Figures, GetFundMetrics, GetPortfolioMetrics, ListFundMetrics};
use ::domain::{Actor, Amount, Command, Query, Reason, Rejection};
use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use chassis::Context;
use chassis::limits::REQUEST_TIMEOUT;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::access::Attempt;
use super::api::check_key;
use super::{Door, TOKEN_COOKIE};
use crate::domain::{CALLERS, VOTERS, check_role};

mod alerts;
mod approval;
mod approvals;
mod bank;
mod bank_details;
mod call_form;
mod changes;
mod collections;
mod forms;
mod imports;
mod investors;
mod money;
mod parts;
mod rules;
mod services;
mod workflows;

use parts::{amount, bar, figures_cards, grouped, problem, shell, status, title, told};

/// Rows of a page's table.
const ROWS: u16 = 500;

/// The routes of the pages.
pub fn router() -> Router<Arc<Door>> {
    Router::new()
        .route("/", get(funds))
        .route("/funds/{fund_id}", get(fund))
        .route("/funds/{fund_id}/collections", get(collections::of_fund))
        .route("/investors/{investor_id}/collections", get(collections::of_investor))
        .route("/portfolio/collections", get(collections::of_portfolio))
        .route("/funds/{fund_id}/commitments", get(money::commitments))
        .route("/funds/{fund_id}/capital-calls/new", get(call_form::new).post(call_form::preview_new))
        .route("/capital-calls/{call_id}/edit", get(call_form::edit).post(call_form::preview_edit))
        .route("/investors", get(investors::page))
        .route("/commitments/{commitment_id}", get(money::commitment))
        .route("/call-lines/{line_id}", get(money::line))
        .route("/payments/{payment_id}", get(money::payment))
        .route("/refunds", get(money::refunds))
        .route("/bank-entries", get(bank::entries))
        .route("/bank-statements", post(imports::upload).layer(DefaultBodyLimit::max(imports::FORM_BYTES_MAX)))
        .route("/column-maps", get(imports::maps))
        .route("/bank-details", get(bank_details::details))
        .route("/act/{*path}", post(forms::act))
        .route("/capital-calls/{call_id}", get(call))
        .route("/capital-calls/{call_id}/lines", get(call_lines))
        .route("/capital-calls/{call_id}/change", post(changes::change))
        .route("/alerts", get(alerts::page))
        .route("/approvals", get(approvals::page))
        .route("/approvals/{approval_id}", get(approval::page))
        .route("/rules", get(rules::page))
        .route("/rule-changes/{rule_change_id}", get(rules::change))
        .route("/workflows", get(workflows::list))
        .route("/workflows/{workflow_id}", get(workflows::one))
        .route("/services", get(services::page))
        .route("/services/banner", get(services::banner))
        .route("/approvals/{approval_id}/vote", post(approvals::vote))
        .route("/problems/{code}", get(problem_of))
        .route("/sign-in", get(sign_in).post(signed_in))
        .route("/sign-out", post(sign_out))
        .route("/assets/icon.svg", get(|| asset("image/svg+xml", include_str!("../../assets/icon.svg"))))
        .route("/assets/style.css", get(|| asset("text/css", include_str!("../../assets/style.css"))))
        .route("/assets/htmx.min.js", get(|| asset("text/javascript", include_str!("../../assets/htmx.min.js"))))
        .route("/assets/live.js", get(|| asset("text/javascript", include_str!("../../assets/live.js"))))
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")], text).into_response()
}

fn redirect(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// One request for a page: who asks, and how to ask the services.
struct Visit<'a> {
    door: &'a Door,
    context: Context,
    method: &'static str,
    path: String,
}

impl<'a> Visit<'a> {
    /// Begins a visit; none without a valid token: the visitor is sent to the sign-in page.
    fn begin(door: &'a Door, headers: &HeaderMap, uri: &Uri) -> Option<Visit<'a>> {
        let actor = door.actor(headers).ok()?;
        Some(Visit { door, context: door.context(headers, actor), method: "GET", path: uri.path().to_owned() })
    }

    fn actor(&self) -> &Actor {
        &self.context.actor
    }

    /// Whether the visitor may ask this, as by the API.
    fn may<Q: Query>(&self) -> bool {
        self.check::<Q>().is_ok()
    }

    fn check<Q: Query>(&self) -> Result<(), Rejection> {
        match self.door.roles.get(Q::SUBJECT) {
            Some(roles) => check_role(self.actor(), roles),
            None => Err(Reason::Forbidden.with(format!("{} is asked by no route of the API", Q::SUBJECT))),
        }
    }

    async fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Reply, Rejection> {
        self.check::<Q>()?;
        let body = serde_json::to_vec(query).unwrap_or_default();
        let reply = self.door.ask(Q::SUBJECT, None, &self.context, body.into(), REQUEST_TIMEOUT).await?.result?;
        serde_json::from_slice(&reply).map_err(|error| Reason::Internal.with(error.to_string()))
    }

    /// Sends a command under the key of its form.
    async fn command<C: Command>(&self, key: &str, command: &C) -> Result<(), Rejection> {
        let body = serde_json::to_vec(command).unwrap_or_default();
        self.door.ask(C::SUBJECT, Some(key), &self.context, body.into(), REQUEST_TIMEOUT).await?.result.map(drop)
    }

    /// Ends the visit: records it, and shows the page or the problem.
    async fn end(self, page: Result<Markup, Rejection>) -> Response {
        match page {
            Ok(page) => {
                let attempt = Attempt { context: &self.context, method: self.method, resource: &self.path, status: 200, refusal: None };
                self.door.access.record(attempt).await;
                Html(page.into_string()).into_response()
            }
            Err(rejection) => {
                let page = shell("Problem", Some(self.actor()), problem(&rejection));
                self.end_refused(&rejection, page).await
            }
        }
    }

    /// Ends the visit with a page that tells of a refusal.
    async fn end_refused(self, rejection: &Rejection, page: Markup) -> Response {
        let code = rejection.reason.entry().0;
        let attempt = Attempt { context: &self.context, method: self.method, resource: &self.path, status: code, refusal: Some(rejection) };
        self.door.access.record(attempt).await;
        refused(rejection, page)
    }

    fn problem(&self, rejection: &Rejection) -> Response {
        refused(rejection, shell("Problem", Some(self.actor()), problem(rejection)))
    }
}

/// A page with the status of a refusal.
fn refused(rejection: &Rejection, page: Markup) -> Response {
    let code = StatusCode::from_u16(rejection.reason.entry().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Html(page.into_string())).into_response()
}

async fn funds(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let portfolio = visit.ask(&GetPortfolioMetrics {}).await?;
        let funds = visit.ask(&ListFundMetrics { limit: Some(ROWS), cursor: None }).await?;
        let body = html! {
            h1 { "Funds" }
            p { a href="/portfolio/collections" { "Collections of all funds" } @if visit.may::<ListInvestors>() { " " a href="/investors" { "Investors" } } }
            @for total in &portfolio.items {
                h2 { "Portfolio in " (total.currency.code()) }
                (figures_cards(&total.figures))
            }
            div.scroll tabindex="0" role="region" aria-label="Funds" { table {
                thead { tr { th scope="col" { "Fund" } th scope="col" { "Currency" } th.number scope="col" { "Committed" } th.number scope="col" { "Called" } th.number scope="col" { "Paid in" }
                    th.number scope="col" { "Overdue" } th scope="col" { "Called, paid, overdue" } } }
                tbody {
                    @for fund in &funds.items {
                        @let Figures { committed, called, paid_in, overdue, .. } = fund.figures;
                        tr {
                            td { a href={ "/funds/" (fund.id) } { (fund.name) } }
                            td { (fund.currency.code()) }
                            (amount(committed)) (amount(called)) (amount(paid_in)) (amount(overdue))
                            td { (bar(&fund.figures)) }
                        }
                    }
                    @if funds.items.is_empty() { tr { td.note colspan="7" { "No fund is registered yet." } } }
                }
            } }
            @if funds.next_cursor.is_some() { p.note { "The first " (ROWS) " funds by name are shown." } }
        };
        Ok(shell("Funds", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The investors that a page names.
async fn investors(visit: &Visit<'_>, ids: impl Iterator<Item = Uuid>) -> Result<Vec<Investor>, Rejection> {
    let ids: Vec<Uuid> = ids.collect::<BTreeSet<Uuid>>().into_iter().collect();
    let mut found = Vec::with_capacity(ids.len());
    for investor_ids in ids.chunks(INVESTORS_MAX) {
        found.extend(visit.ask(&FindInvestors { investor_ids: investor_ids.to_vec() }).await?.items);
    }
    Ok(found)
}

async fn fund(State(door): State<Arc<Door>>, Path(fund_id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let fund_id: Uuid = fund_id.parse().map_err(|_| Reason::UnknownFund.with(format!("{fund_id:?} is not an id")))?;
        let metrics = visit.ask(&GetFundMetrics { fund_id }).await?;
        let business = match visit.may::<ListCapitalCalls>() {
            true => fund_business(&visit, fund_id).await?,
            false => html! {},
        };
        let body = html! {
            h1 { (metrics.name) }
            p.note { "In " (metrics.currency.code()) ", as of " (metrics.as_of) "." }
            (figures_cards(&metrics.figures))
            (bar(&metrics.figures))
            p { a href={ "/funds/" (fund_id) "/collections" } { "Collections" } }
            (business)
        };
        Ok(shell(&metrics.name, Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// What those see of a fund who see more than its figures.
async fn fund_business(visit: &Visit<'_>, fund_id: Uuid) -> Result<Markup, Rejection> {
    let calls = visit.ask(&ListCapitalCalls { fund_id: Some(fund_id), limit: Some(ROWS), ..Default::default() }).await?;
    let lines = visit.ask(&ListCallLines { fund_id: Some(fund_id), limit: Some(ROWS), ..Default::default() }).await?;
    let investors = investors(visit, lines.items.iter().map(|line| line.investor_id)).await?;
    Ok(html! {
        p { a href={ "/funds/" (fund_id) "/commitments" } { "Commitments" } " " a href={ "/bank-details?fund_id=" (fund_id) } { "Bank details" }
            @if check_role(visit.actor(), CALLERS).is_ok() { " " a href={ "/funds/" (fund_id) "/capital-calls/new" } { "Write a capital call" } } }
        h2 { "Capital calls" }
        div.scroll tabindex="0" role="region" aria-label="Capital calls" { table {
            thead { tr { th scope="col" { "Due" } th.number scope="col" { "Amount" } th.number scope="col" { "Paid" } th.number scope="col" { "Lines" } th scope="col" { "Status" } } }
            tbody {
                @for call in &calls.items {
                    tr {
                        td { a href={ "/capital-calls/" (call.id) } { (call.due_on) } }
                        (amount(call.amount)) (amount(call.paid)) td.number { (call.line_count) } td { (status(&call.status)) }
                    }
                }
                @if calls.items.is_empty() { tr { td.note colspan="5" { "No capital call yet." } } }
            }
        } }
        h2 { "Lines" }
        (lines_table(&lines.items, &investors))
    })
}

/// What became of a line: that it is paid, or why nothing is.
fn line_status(line: &CallLine) -> Markup {
    if line.disposition == Disposition::None { status(&line.status) } else { status(&line.disposition) }
}

fn lines_table(lines: &[CallLine], investors: &[Investor]) -> Markup {
    let name = |line: &CallLine| {
        investors
            .iter()
            .find(|investor| investor.id == line.investor_id)
            .map_or_else(|| line.investor_id.to_string(), |investor| investor.name.clone())
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Lines" { table {
            thead { tr { th scope="col" { "Investor" } th scope="col" { "Due" } th.number scope="col" { "Amount" } th.number scope="col" { "Paid" } th.number scope="col" { "Outstanding" }
                th.number scope="col" { "Credit" } th scope="col" { "Status" } th scope="col" { "Time" } } }
            tbody {
                @for line in lines {
                    tr {
                        td { a href={ "/call-lines/" (line.id) } { (name(line)) } } td { a href={ "/capital-calls/" (line.call_id) } { (line.due_on) } }
                        (amount(line.amount)) (amount(line.paid)) (amount(line.outstanding)) (amount(line.unapplied))
                        td { (line_status(line)) } td { (status(&line.timing)) }
                    }
                }
                @if lines.is_empty() { tr { td.note colspan="8" { "No line yet." } } }
            }
        } }
    }
}

async fn load_call(visit: &Visit<'_>, call_id: &str) -> Result<CapitalCallView, Rejection> {
    let call_id = call_id.parse().map_err(|_| Reason::UnknownCapitalCall.with(format!("{call_id:?} is not an id")))?;
    visit.ask(&GetCapitalCall { call_id }).await
}

fn call_body(view: &CapitalCallView, investors: &[Investor]) -> Markup {
    let call = &view.call;
    let outstanding: Amount = view.lines.iter().map(|line| line.outstanding).sum::<Amount>() + call.currency.zero();
    html! {
        dl.cards {
            div.card { dt { "Status" } dd { (status(&call.status)) } }
            div.card { dt { "Amount" } dd { (grouped(call.amount)) " " (call.currency.code()) } }
            div.card { dt { "Paid" } dd { (grouped(call.paid)) } }
            div.card { dt { "Outstanding" } dd { (grouped(outstanding)) } }
            div.card { dt { "Due" } dd { (call.due_on) } }
        }
        (lines_table(&view.lines, investors))
    }
}

async fn call(State(door): State<Arc<Door>>, Path(call_id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let view = load_call(&visit, &call_id).await?;
        let investors = investors(&visit, view.lines.iter().map(|line| line.investor_id)).await?;
        let id = view.call.id;
        let body = html! {
            h1 { "Capital call" }
            p { a href={ "/funds/" (view.call.fund_id) } { "Back to the fund" } }
            div #lines aria-live="polite" data-live={ "/api/v1/events?fund_id=" (view.call.fund_id) "&about=" (id) }
                hx-get={ "/capital-calls/" (id) "/lines" } hx-trigger="live" hx-swap="innerHTML" { (call_body(&view, &investors)) }
            (changes::forms(&view.call, visit.actor(), door.shell.clock.new_id()))
            h2 { "Purposes" }
            div.scroll tabindex="0" role="region" aria-label="Purposes" { table {
                thead { tr { th scope="col" { "For" } th.number scope="col" { "Amount" } th scope="col" { "Inside the commitment" } } }
                tbody { @for purpose in &view.call.purposes { tr { td { (title(&purpose.kind)) } (amount(purpose.amount)) td { @if purpose.inside_commitment { "yes" } @else { "no" } } } } }
            } }
        };
        Ok(shell("Capital call", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

async fn call_lines(State(door): State<Arc<Door>>, Path(call_id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let view = load_call(&visit, &call_id).await?;
        Ok(call_body(&view, &investors(&visit, view.lines.iter().map(|line| line.investor_id)).await?))
    };
    let page = page.await;
    visit.end(page).await
}

/// What the `type` of a refusal leads to; for everybody, it says nothing of anybody.
async fn problem_of(Path(code): Path<String>) -> Response {
    let (status, body) = match serde_json::from_value::<Reason>(code.into()) {
        Ok(reason) => {
            let (status, title, recommendation) = reason.entry();
            let (who, link) = reason.remedy();
            let body = html! {
                h1 { (title) }
                p { "Code " code { (reason.code()) } ", HTTP status " (status) "." }
                p { "What to do: " (recommendation) "." }
                p { "Who may: " (who.join(", ").replace('_', " ")) ". " a href=(link) { "There" } }
            };
            (StatusCode::OK, body)
        }
        Err(_) => (
            StatusCode::NOT_FOUND,
            html! { h1 { "Unknown problem" } p { "Problems and what to do about them are listed in schemas/problems.md." } },
        ),
    };
    (status, Html(shell("Problem", None, body).into_string())).into_response()
}

async fn sign_in() -> Html<String> {
    Html(sign_in_page(None).into_string())
}

fn sign_in_page(refused: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Sign in" }
        @if let Some(why) = refused { div.problem role="alert" { p { (why) } } }
        p { "Paste a bearer token. In the local stack, " code { "cargo xtask token --role fund_manager" } " prints one." }
        form method="post" action="/sign-in" {
            p { label for="token" { "Token" } textarea #token name="token" rows="6" required autocomplete="off" spellcheck="false" {} }
            p { button { "Sign in" } }
        }
    };
    shell("Sign in", None, body)
}

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

async fn signed_in(State(door): State<Arc<Door>>, headers: HeaderMap, form: Result<Form<SignIn>, FormRejection>) -> Response {
    let token = form.map(|Form(form)| form.token.trim().to_owned()).unwrap_or_default();
    let checked = same_origin(&headers).and_then(|()| door.gateway.tokens.actor(Some(&token)));
    let cookie = checked.and_then(|_| {
        HeaderValue::from_str(&format!("{TOKEN_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"))
            .map_err(|_| Reason::Unauthenticated.with("the token has characters that no token has"))
    });
    match cookie {
        Ok(cookie) => {
            let mut response = redirect("/");
            response.headers_mut().insert(SET_COOKIE, cookie);
            response
        }
        Err(rejection) => {
            let context = door.context(&headers, Actor { user: "anonymous".into(), ..Actor::default() });
            let (status, _, _) = rejection.reason.entry();
            door.access
                .record(Attempt { context: &context, method: "POST", resource: "/sign-in", status, refusal: Some(&rejection) })
                .await;
            (StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED), Html(sign_in_page(Some(&rejection.detail)).into_string()))
                .into_response()
        }
    }
}

/// Refuses a form that another site's page has sent. Browsers say where a request comes from in
/// `Sec-Fetch-Site`, older ones in `Origin`; programs send neither, and bring a token of their own.
fn same_origin(headers: &HeaderMap) -> Result<(), Rejection> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (None, None, _) => true,
        (None, Some(_), None) => false,
    };
    if own { Ok(()) } else { Err(Reason::Forbidden.with("the form was sent by another site's page")) }
}

async fn sign_out() -> Response {
    let mut response = redirect("/sign-in");
    if let Ok(gone) = HeaderValue::from_str(&format!("{TOKEN_COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")) {
        response.headers_mut().insert(SET_COOKIE, gone);
    }
    response
}
