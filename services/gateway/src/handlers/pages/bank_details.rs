//! The page of bank details of a fund or an investor: masked, with what the two people do who change them.

use ::domain::messages::capital_calls::{BankDetails, BankDetailsStatus, ListBankAccounts, ListBankDetails};
use axum::extract::Query;

use super::forms::{Field, form};
use super::*;

/// The bank details of one holder, newest first.
pub async fn details(
    State(door): State<Arc<Door>>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<ListBankDetails>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let Query(query) = query.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        if query.fund_id.is_none() && query.investor_id.is_none() {
            return choose(&visit).await;
        }
        let found = visit.ask(&ListBankDetails { limit: Some(ROWS), cursor: None, ..query.clone() }).await?;
        let back = uri.to_string();
        let accounts = match query.fund_id {
            Some(fund_id) => accounts(&visit, fund_id, &back).await?,
            None => html! {},
        };
        let key = || door.shell.clock.new_id();
        let body = html! {
            h1 { "Bank details" }
            p.note { "A change needs two people and a call back, and is used after a cooling-off time. Only those who may propose and confirm see the account, by "
                code { "GET /api/v1/bank-details/{id}/instructions" } "." }
            (table(&found.items, visit.actor(), &back, &key))
            h2 { "Propose others" }
            (propose(&query, visit.actor(), &back, key()))
            (accounts)
        };
        Ok(shell("Bank details", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The accounts on which a fund receives cash: what a statement tells of them is matched.
async fn accounts(visit: &Visit<'_>, fund_id: Uuid, back: &str) -> Result<Markup, Rejection> {
    let accounts = visit.ask(&ListBankAccounts { fund_id }).await?;
    let path = format!("/funds/{fund_id}/bank-accounts");
    let account = [Field::text("account", "IBAN or account number")];
    let key = || visit.door.shell.clock.new_id();
    Ok(html! {
        h2 { "Accounts in bank statements" }
        ul { @for account in &accounts.items {
            li { (account.account) " (" (account.currency.code()) ")" @if account.closed_at.is_some() { span.note { " closed" } } }
        } }
        @if accounts.items.is_empty() { p.note { "None is registered: cash in statements is matched by reference only." } }
        (form(visit.actor(), key(), &path, back, "Register", &account))
        (form(visit.actor(), key(), &format!("{path}/close"), back, "Close", &account))
    })
}

/// The funds, for whoever has not said whose bank details it is about.
async fn choose(visit: &Visit<'_>) -> Result<Markup, Rejection> {
    let funds = visit.ask(&ListFundMetrics { limit: Some(ROWS), cursor: None }).await?;
    let body = html! {
        h1 { "Bank details" }
        p.note { "Of an investor: " code { "/bank-details?investor_id=" } " and its id. Of a fund:" }
        ul { @for fund in &funds.items { li { a href={ "/bank-details?fund_id=" (fund.id) } { (fund.name) } } } }
    };
    Ok(shell("Bank details", Some(visit.actor()), body))
}

fn table(found: &[BankDetails], actor: &Actor, back: &str, key: &dyn Fn() -> Uuid) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Bank details" { table {
            thead { tr { th scope="col" { "Account" } th scope="col" { "Currency" } th scope="col" { "Status" } th scope="col" { "Proposed by" } th scope="col" { "Decided by" } th scope="col" { "Used from" } th scope="col" { "Check" } } }
            tbody {
                @for details in found { tr {
                    td { (details.account) p.note { (details.reason) } }
                    td { (details.currency.code()) } td { (status(&details.status)) } td { (details.proposed_by) }
                    td { (details.decided_by.as_deref().unwrap_or("-"))
                        @if let Some(call) = &details.call_back { p.note { "called " (call.spoken_to) ", number from " (call.number_from) } } }
                    td { @match details.usable_from { Some(from) => (from.format("%Y-%m-%d %H:%M UTC")), None => "-" } }
                    td.text { code { (details.hash) } (decide(details, actor, back, key)) }
                } }
                @if found.is_empty() { tr { td.note colspan="7" { "None yet: notices say nothing about where to pay." } } }
            }
        } }
    }
}

fn decide(details: &BankDetails, actor: &Actor, back: &str, key: &dyn Fn() -> Uuid) -> Markup {
    let path = format!("/bank-details/{}", details.id);
    let call = [
        Field::hidden("hash", &details.hash),
        Field::instant("call_back.called_at", "Called at (UTC)"),
        Field::text("call_back.number_from", "Where the number is from"),
        Field::text("call_back.spoken_to", "Spoken to"),
    ];
    html! {
        @if details.status == BankDetailsStatus::Proposed && details.proposed_by != actor.user {
            (form(actor, key(), &format!("{path}/confirm"), back, "Confirm", &call))
        }
        @if matches!(details.status, BankDetailsStatus::Proposed | BankDetailsStatus::CoolingOff | BankDetailsStatus::InUse) {
            (form(actor, key(), &format!("{path}/reject"), back, "Reject", &[Field::text("reason", "Reason")]))
        }
    }
}

fn propose(query: &ListBankDetails, actor: &Actor, back: &str, key: Uuid) -> Markup {
    let holder = match (query.fund_id, query.investor_id) {
        (Some(fund_id), _) => Field::hidden("fund_id", fund_id),
        (None, investor_id) => Field::hidden("investor_id", investor_id.unwrap_or_default()),
    };
    let fields = [
        holder,
        Field::text("currency", "Currency"),
        Field::text("instructions.account_name", "Name of the account"),
        Field::text("instructions.account", "IBAN or account number"),
        Field::text("instructions.bank_name", "Name of the bank"),
        Field::text("instructions.bic", "BIC"),
        Field::text("instructions.routing_number", "ABA routing number"),
        Field::text("reason", "Reason"),
    ];
    form(actor, key, "/bank-details", back, "Propose", &fields)
}
