//! What people of the firm were told to look at.

use ::domain::messages::notifications::ListAlerts;

use super::*;

/// The page.
pub async fn page(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let alerts = visit.ask(&ListAlerts { limit: Some(ROWS), ..Default::default() }).await?.items;
        let body = html! {
            h1 { "Alerts" }
            div.scroll tabindex="0" role="region" aria-label="Alerts" { table {
                thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "For" } th scope="col" { "Fund" } } }
                tbody {
                    @for alert in &alerts {
                        tr {
                            td { (alert.at.format("%Y-%m-%d %H:%M")) }
                            td.text { a href=(alert.link) { (title(&alert.kind)) } ": " (alert.text) @if alert.more > 0 { div.note { "and " (alert.more) " more of the kind" } } }
                            td { (alert.roles.join(", ").replace('_', " ")) } td { a href={ "/funds/" (alert.fund_id) } { "fund" } }
                        }
                    }
                    @if alerts.is_empty() { tr { td.note colspan="4" { "None." } } }
                }
            } }
        };
        Ok(shell("Alerts", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}
