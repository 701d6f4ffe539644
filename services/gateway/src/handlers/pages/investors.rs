//! The page of investors.

use ::domain::messages::capital_calls::ListInvestors;

use super::forms::{Field, form};
use super::*;

/// The investors, and a form for another one.
pub async fn page(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let investors = visit.ask(&ListInvestors { limit: Some(ROWS), cursor: None }).await?;
        let fields =
            [Field::text("name", "Name"), Field::text("email", "Email"), Field::text("investor_type", "Type, such as pension_fund")];
        let body = html! {
            h1 { "Investors" }
            div.scroll tabindex="0" role="region" aria-label="Investors" { table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Type" } th scope="col" { "Id" } th scope="col" { "Bank details" } } }
                tbody {
                    @for investor in &investors.items { tr {
                        td { a href={ "/investors/" (investor.id) "/collections" } { (investor.name) } } td { (investor.investor_type.as_deref().unwrap_or("-")) }
                        td { code { (investor.id) } } td { a href={ "/bank-details?investor_id=" (investor.id) } { "Bank details" } }
                    } }
                    @if investors.items.is_empty() { tr { td.note colspan="4" { "No investor yet." } } }
                }
            } }
            @if investors.next_cursor.is_some() { p.note { "The first " (ROWS) " are shown." } }
            h2 { "Register another" }
            (form(visit.actor(), door.shell.clock.new_id(), "/investors", "/investors", "Register", &fields))
        };
        Ok(shell("Investors", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}
