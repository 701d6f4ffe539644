//! The page of bank entries: what waits for a person, with what it may be for.

use ::domain::messages::capital_calls::{BankEntry, BankEntryDecision, ListBankEntries, ListPayments, Suggestion};

use super::forms::{Field, form};
use super::imports::upload_form;
use super::money::payments_table;
use super::*;

/// Bank entries that wait for a person.
pub async fn entries(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let waiting = async |status| {
            let query = ListBankEntries { status: Some(status), limit: Some(ROWS), ..Default::default() };
            visit.ask(&query).await.map(|page| page.items)
        };
        let (suggested, unmatched) = (waiting(BankEntryDecision::Suggested).await?, waiting(BankEntryDecision::Unmatched).await?);
        let query = ListPayments { in_suspense: true, limit: Some(ROWS), ..Default::default() };
        let suspended = visit.ask(&query).await?.items;
        let key = || door.shell.clock.new_id();
        let upload = upload_form(&visit).await?;
        let body = html! {
            h1 { "Bank entries" }
            (upload)
            h2 { "To be confirmed" }
            (table(&suggested, visit.actor(), &key))
            h2 { "In suspense" }
            (table(&unmatched, visit.actor(), &key))
            @if !suspended.is_empty() { h2 { "Payments in suspense" } (payments_table(&suspended)) }
        };
        Ok(shell("Bank entries", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn table(entries: &[BankEntry], actor: &Actor, key: &dyn Fn() -> Uuid) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Bank entries" { table {
            thead { tr { th scope="col" { "Booked" } th scope="col" { "Account" } th.number scope="col" { "Amount" } th scope="col" { "Payer" } th scope="col" { "Text" } th.number scope="col" { "Days" } } }
            tbody {
                @for entry in entries {
                    tr.above {
                        td { @if let Some(date) = entry.entry.booked_on { (date) } } td { (entry.entry.account) }
                        td.number { @if !entry.entry.credit { "-" } (grouped(entry.entry.amount)) " " (entry.entry.currency.code()) }
                        td.text { (entry.entry.payer_name.as_deref().unwrap_or("-")) } td.text { (entry.entry.remittance.as_deref().unwrap_or("-")) }
                        td.number { @if let Some(days) = entry.age_days { (days) } }
                    }
                    tr { td.text colspan="6" {
                        @if let Some(note) = &entry.note { p.note { (note) } }
                        @for suggestion in &entry.suggestions { (accept(entry, suggestion, actor, key())) }
                        (match_by_hand(entry, actor, key()))
                        (reject(entry, actor, key()))
                    } }
                }
                @if entries.is_empty() { tr { td.note colspan="6" { "Nothing." } } }
            }
        } }
    }
}

fn match_by_hand(entry: &BankEntry, actor: &Actor, key: Uuid) -> Markup {
    let amount = entry.entry.amount.to_string();
    let fields = [Field::text("parts.0.line_id", "Id of a line that it pays"), Field::hidden("parts.0.amount", amount)];
    html! { @if entry.entry.credit && !entry.entry.is_return { (form(actor, key, &format!("/bank-entries/{}/match", entry.id), "/bank-entries", "Match", &fields)) } }
}

fn reject(entry: &BankEntry, actor: &Actor, key: Uuid) -> Markup {
    let path = format!("/bank-entries/{}/reject", entry.id);
    let reason = Field::text("reason", "Reason");
    if entry.suggestions.is_empty() {
        form(actor, key, &path, "/bank-entries", "No cash for a line", &[reason, Field::hidden("set_aside", true)])
    } else {
        form(actor, key, &path, "/bank-entries", "None of these", &[reason])
    }
}

fn accept(entry: &BankEntry, suggestion: &Suggestion, actor: &Actor, key: Uuid) -> Markup {
    let names: Vec<(String, String)> =
        (0..suggestion.parts.len()).map(|place| (format!("parts.{place}.line_id"), format!("parts.{place}.amount"))).collect();
    let remember = [("false", "This time"), ("true", "And remember the payer")];
    let mut fields: Vec<Field<'_>> = suggestion
        .parts
        .iter()
        .zip(&names)
        .flat_map(|(part, (line, amount))| [Field::hidden(line, part.line_id), Field::hidden(amount, part.amount)])
        .collect();
    fields.push(Field::choice("remember_payer", "Remember", &remember));
    html! {
        p {
            @for part in &suggestion.parts { a href={ "/call-lines/" (part.line_id) } { (part.amount) } " " }
            span.note { (title(&suggestion.why)) ", " (suggestion.sure) " % sure" }
        }
        (form(actor, key, &format!("/bank-entries/{}/match", entry.id), "/bank-entries", "Accept", &fields))
    }
}
