//! The pages of bank statement files and of the maps by which CSV files are read.

use ::domain::messages::capital_calls::{BankImport, ListColumnMaps};
use axum::extract::Multipart;
use axum::extract::multipart::{Field as MultipartField, MultipartError, MultipartRejection};

use super::forms::{Field, form};
use super::money::card;
use super::*;
use crate::domain::TREASURY;
use crate::handlers::statements::{About, FILE_BYTES_MAX, Place, take_in};

/// Longest form: its file, and what stands around it.
pub const FORM_BYTES_MAX: usize = FILE_BYTES_MAX + (64 << 10);
/// Longest text of the form beside its file.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// A form that sends a statement file.
pub async fn upload_form(visit: &Visit<'_>) -> Result<Markup, Rejection> {
    if check_role(visit.actor(), TREASURY).is_err() {
        return Ok(html! {});
    }
    let maps = visit.ask(&ListColumnMaps {}).await?;
    Ok(html! {
        h2 { "Import a statement" }
        form.votes method="post" action="/bank-statements" enctype="multipart/form-data" {
            input type="hidden" name="key" value=(visit.door.shell.clock.new_id());
            select.choice name="column_map" aria-label="Format" {
                option value="" { "camt.053, camt.054 or BAI2" }
                @for map in &maps.items { option value=(map.name) { "CSV: " (map.name) } }
            }
            input type="file" name="file" required aria-label="File";
            button.quiet { "Import" }
        }
        p { a href="/column-maps" { "Maps of CSV files" } }
    })
}

/// Takes a statement file in, and shows what became of it.
pub async fn upload(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap, form: Result<Multipart, MultipartRejection>) -> Response {
    let Some(mut visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    visit.method = "POST";
    let page = async {
        same_origin(&headers)?;
        check_role(visit.actor(), TREASURY)?;
        let form = form.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        // what comes before the file is held in memory, too
        let import = import(&visit, form, Place::take(&door.files)?).await?;
        Ok(shell("Bank statement", Some(visit.actor()), told_of(&import)))
    };
    let page = page.await;
    visit.end(page).await
}

/// Reads the form up to its file, which comes last.
async fn import(visit: &Visit<'_>, mut form: Multipart, place: Place) -> Result<BankImport, Rejection> {
    let (mut key, mut about) = (String::new(), About::default());
    while let Some(field) = place.next(form.next_field()).await?.map_err(broken)? {
        match field.name() {
            Some("key") => key = text(field, &place).await?,
            Some("column_map") => about.column_map = Some(text(field, &place).await?).filter(|name| !name.is_empty()),
            Some("file") => {
                check_key(&key)?;
                about.file_name = field.file_name().map(str::to_owned).filter(|name| !name.is_empty());
                return take_in(visit.door, &visit.context, &key, about, field, place).await;
            }
            other => return Err(Reason::MalformedRequest.with(format!("the form has a field {other:?}"))),
        }
    }
    Err(Reason::MalformedRequest.with("the form has no file"))
}

fn broken(error: MultipartError) -> Rejection {
    let reason = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { Reason::RequestTooLarge } else { Reason::MalformedRequest };
    reason.with(error.body_text())
}

/// A short text of the form.
async fn text(mut field: MultipartField<'_>, place: &Place) -> Result<String, Rejection> {
    let mut bytes = Vec::new();
    while let Some(chunk) = place.next(field.chunk()).await?.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(Reason::MalformedRequest.with(format!("a field of the form has more than {TEXT_BYTES_MAX} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|error| Reason::MalformedRequest.with(error.to_string()))
}

fn told_of(import: &BankImport) -> Markup {
    html! {
        h1 { "Bank statement " (import.file_name) }
        p.note { (import.format) ", " (import.entries) " entries." }
        dl.cards {
            (card("Matched", import.matched)) (card("To be confirmed", import.suggested)) (card("In suspense", import.unmatched))
            (card("Returned", import.returned)) (card("Pending", import.pending)) (card("Known before", import.known))
            (card("No cash for a line", import.information)) (card("Still to be matched", import.left))
        }
        @for discrepancy in &import.discrepancies { p.note { (discrepancy) } }
        p { a href="/bank-entries" { "Entries that wait for a person" } }
    }
}

/// The maps, and a form for another one.
pub async fn maps(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let maps = visit.ask(&ListColumnMaps {}).await?;
        let text = |map: &serde_json::Value| serde_json::to_string_pretty(map).unwrap_or_default();
        let fields = [Field::text("name", "Name"), Field::json("map", "Map, as in the example of the README")];
        let body = html! {
            h1 { "Maps of CSV files" }
            p { a href="/bank-entries" { "Back to the bank entries" } }
            @for map in &maps.items {
                h2 { (map.name) }
                p.note { "Saved by " (map.saved_by) " on " (map.saved_at.format("%Y-%m-%d")) "." }
                pre { (text(&map.map)) }
            }
            @if maps.items.is_empty() { p.note { "None yet." } }
            h2 { "Save a map" }
            (form(visit.actor(), door.shell.clock.new_id(), "/column-maps", "/column-maps", "Save", &fields))
        };
        Ok(shell("Maps of CSV files", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}
