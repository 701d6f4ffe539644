//! The pages of commitments, lines, payments and refunds: what happened to them, and what may be done.

use ::domain::messages::capital_calls::{
    CallLineView, Commitment, CommitmentView, GetCallLine, GetCommitment, GetPayment, ListCommitments, ListInvestors, ListPayments,
    ListRefunds, Payment,
};

use ::domain::messages::allocation_status::{Allocation, AllocationDecision, ListAllocations};

use super::forms::{Field, form, may_post};
use super::parts::grouped;
use super::*;

/// An id of a path.
pub fn parsed(text: &str, unknown: Reason) -> Result<Uuid, Rejection> {
    text.parse().map_err(|_| unknown.with(format!("{text:?} is not an id")))
}

/// A figure with its name.
pub fn card(name: &str, value: impl maud::Render) -> Markup {
    html! { div.card { dt { (name) } dd { (value) } } }
}

/// The commitments of a fund, and a form for a later closing.
pub async fn commitments(State(door): State<Arc<Door>>, Path(fund_id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let fund_id = parsed(&fund_id, Reason::UnknownFund)?;
        let commitments = visit.ask(&ListCommitments { fund_id, as_of: None, limit: Some(ROWS), cursor: None }).await?;
        let investors = investors(&visit, commitments.items.iter().map(|commitment| commitment.investor_id)).await?;
        let back = format!("/funds/{fund_id}/commitments");
        let name = |commitment: &Commitment| name_of(&investors, commitment.investor_id);
        let known = if may_post(visit.actor(), &back) { known_investors(&visit).await? } else { vec![] };
        let first =
            [Field::known("investor_id", "Investor id", &known), Field::text("amount", "Amount"), Field::date("effective_on", "From")];
        let closing = [
            Field::known("commitments.0.investor_id", "Investor id", &known),
            Field::text("commitments.0.amount", "Amount"),
            Field::date("closed_on", "Closing"),
            Field::date("due_on", "Due"),
            Field::text("interest_percent", "Interest, percent a year"),
        ];
        let body = html! {
            h1 { "Commitments" }
            p { a href={ "/funds/" (fund_id) } { "Back to the fund" } }
            div.scroll tabindex="0" role="region" aria-label="Commitments" { table {
                thead { tr { th scope="col" { "Investor" } th.number scope="col" { "Promised" } th.number scope="col" { "Called" } th.number scope="col" { "Unfunded" } th scope="col" { "From" } th scope="col" { "Status" } } }
                tbody {
                    @for commitment in &commitments.items {
                        tr {
                            td { a href={ "/commitments/" (commitment.id) } { (name(commitment)) } }
                            (amount(commitment.amount)) (amount(commitment.called)) (amount(commitment.unfunded)) td { (commitment.effective_on) } td { (status(&commitment.status)) }
                        }
                    }
                    @if commitments.items.is_empty() { tr { td.note colspan="6" { "No commitment yet." } } }
                }
            } }
            h2 { "First closing" }
            (form(visit.actor(), door.shell.clock.new_id(), &back, &back, "Record the commitment", &first))
            h2 { "Later closing" }
            p.note { "An investor who joins owes its part of every call so far, with interest from the due date of each; the others owe so much less." }
            (form(visit.actor(), door.shell.clock.new_id(), &format!("/funds/{fund_id}/closings"), &back, "Hold the closing", &closing))
        };
        Ok(shell("Commitments", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The ids of investors, with their names, as far as one page has them: for whoever chooses one.
pub async fn known_investors(visit: &Visit<'_>) -> Result<Vec<(String, String)>, Rejection> {
    let known = visit.ask(&ListInvestors { limit: Some(ROWS), cursor: None }).await?.items;
    Ok(known.into_iter().map(|investor| (investor.id.to_string(), investor.name)).collect())
}

/// The name of an investor, or its id.
pub fn name_of(investors: &[Investor], id: Uuid) -> String {
    investors.iter().find(|investor| investor.id == id).map_or_else(|| id.to_string(), |investor| investor.name.clone())
}

/// One commitment: how it came about, and how it may be changed.
pub async fn commitment(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let commitment_id = parsed(&id, Reason::UnknownCommitment)?;
        let view = visit.ask(&GetCommitment { commitment_id, as_of: None }).await?;
        let investors = investors(&visit, std::iter::once(view.commitment.investor_id)).await?;
        let name = name_of(&investors, view.commitment.investor_id);
        let allocations = ListAllocations {
            fund_id: Some(view.commitment.fund_id),
            deal_id: None,
            decision: Some(AllocationDecision::Active),
            cursor: None,
            limit: Some(ROWS),
        };
        let words =
            |allocation: Allocation| (allocation.id.to_string(), format!("{} of {}", allocation.security_type, grouped(allocation.amount)));
        let path = format!("/commitments/{commitment_id}");
        let allocations: Vec<(String, String)> = match may_post(visit.actor(), &format!("{path}/excuses")) {
            true => visit.ask(&allocations).await?.items.into_iter().map(words).collect(),
            false => vec![],
        };
        let excuse = [Field::one_of("allocation_id", "Allocation", &allocations), Field::text("reason", "Reason")];
        let body = html! {
            h1 { "Commitment of " (name) }
            p { a href={ "/funds/" (view.commitment.fund_id) "/commitments" } { "Back to the commitments" } " "
                a href={ "/investors/" (view.commitment.investor_id) "/collections" } { "How the investor pays" } }
            (commitment_body(&view))
            (commitment_forms(&view.commitment, visit.actor(), &|| door.shell.clock.new_id()))
            @if !allocations.is_empty() { (form(visit.actor(), door.shell.clock.new_id(), &format!("{path}/excuses"), &path, "Excuse from", &excuse)) }
        };
        Ok(shell("Commitment", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn commitment_body(view: &CommitmentView) -> Markup {
    let commitment = &view.commitment;
    html! {
        dl.cards {
            (card("Status", status(&commitment.status))) (card("Promised", grouped(commitment.amount))) (card("Called", grouped(commitment.called)))
            (card("Paid in", grouped(view.paid_in))) (card("Unfunded", grouped(commitment.unfunded)))
        }
        h2 { "Entries" }
        div.scroll tabindex="0" role="region" aria-label="Entries" { table {
            thead { tr { th scope="col" { "From" } th scope="col" { "What" } th.number scope="col" { "Amount" } th.number scope="col" { "Unfunded" } th scope="col" { "Why" } th scope="col" { "By" } } }
            tbody { @for entry in &view.entries { tr {
                td { (entry.effective_on) } td { (title(&entry.kind)) } (amount(entry.amount)) (amount(entry.impact_on_unfunded)) td { (entry.reason) } td { (entry.recorded_by) }
            } } }
        } }
    }
}

fn commitment_forms(commitment: &Commitment, actor: &Actor, key: &dyn Fn() -> Uuid) -> Markup {
    let (path, back) = (format!("/commitments/{}", commitment.id), format!("/commitments/{}", commitment.id));
    let kinds = [("increase", "Increase"), ("reduction", "Reduction"), ("release", "Release of all that is unfunded")];
    let change = [
        Field::choice("kind", "What", &kinds),
        Field::text("amount", "Amount"),
        Field::date("effective_on", "From"),
        Field::text("reason", "Reason"),
    ];
    let transfer = [
        Field::text("to_investor_id", "To investor id"),
        Field::text("amount", "Amount"),
        Field::text("drawn", "Drawn part of it"),
        Field::date("effective_on", "From"),
        Field::text("reason", "Reason"),
    ];
    html! {
        h2 { "Change" }
        (form(actor, key(), &format!("{path}/changes"), &back, "Change", &change))
        (form(actor, key(), &format!("{path}/transfers"), &back, "Transfer", &transfer))
    }
}

/// One line: where it stands, what was paid, and what may be done.
pub async fn line(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let line_id = parsed(&id, Reason::UnknownCallLine)?;
        let view = visit.ask(&GetCallLine { line_id, as_of: None }).await?;
        let payments = visit.ask(&ListPayments { line_id: Some(line_id), limit: Some(ROWS), ..Default::default() }).await?;
        let investors = investors(&visit, std::iter::once(view.line.investor_id)).await?;
        let body = html! {
            h1 { "Call line of " (name_of(&investors, view.line.investor_id)) }
            p { a href={ "/capital-calls/" (view.line.call_id) } { "Back to the capital call" } }
            (line_body(&view))
            h2 { "Payments" }
            (payments_table(&payments.items))
            (line_forms(&view, visit.actor(), &|| door.shell.clock.new_id()))
        };
        Ok(shell("Call line", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn line_body(view: &CallLineView) -> Markup {
    let (line, standing) = (&view.line, &view.standing);
    html! {
        dl.cards {
            (card("Status", line_status(line))) (card("Time", status(&line.timing))) (card("Amount", grouped(line.amount)))
            (card("Paid", grouped(line.paid))) (card("Outstanding", grouped(line.outstanding))) (card("Credit", grouped(line.unapplied)))
            (card("Due", line.due_on.to_string())) (card("Interest outstanding", grouped(standing.interest_outstanding)))
        }
        p.note { "Reference " code { (line.reference) } }
        @if let Some(notice) = &line.failure_notice { p.note { "Failure noticed on " (notice.noticed_on) ", to be cured by " (notice.cure_by) ": " (notice.reason) } }
        @if let Some(cured_on) = line.cured_on { p.note { "Cured on " (cured_on) "." } }
        @if let Some(default) = &line.default { p.note { "In default since " (default.declared_on) ": " (default.reason) } }
        @if view.overdue_history.len() > 1 || standing.days_overdue > 0 {
            h2 { "Outstanding by value date" }
            div.scroll tabindex="0" role="region" aria-label="Outstanding by value date" { table {
                thead { tr { th scope="col" { "From" } th.number scope="col" { "Outstanding" } } }
                tbody { @for step in &view.overdue_history { tr { td { (step.from) } (amount(step.outstanding)) } } }
            } }
        }
    }
}

pub fn payments_table(payments: &[Payment]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Payments" { table {
            thead { tr { th scope="col" { "Value date" } th.number scope="col" { "Amount" } th.number scope="col" { "Applied" } th.number scope="col" { "Interest" } th.number scope="col" { "Credit" } th scope="col" { "Method" } th scope="col" { "Reference" } th scope="col" { "Status" } } }
            tbody {
                @for payment in payments { tr {
                    td { a href={ "/payments/" (payment.id) } { (payment.received_on) } }
                    (amount(payment.amount)) (amount(payment.applied)) (amount(payment.interest)) (amount(payment.unapplied))
                    td { (title(&payment.method)) } td { (payment.reference) } td { (status(&payment.status)) }
                } }
                @if payments.is_empty() { tr { td.note colspan="8" { "No payment yet." } } }
            }
        } }
    }
}

fn line_forms(view: &CallLineView, actor: &Actor, key: &dyn Fn() -> Uuid) -> Markup {
    let (path, back) = (format!("/call-lines/{}", view.line.id), format!("/call-lines/{}", view.line.id));
    let methods = [("wire", "Wire"), ("sepa", "SEPA"), ("ach", "ACH"), ("check", "Check"), ("internal_transfer", "Internal transfer")];
    let payment = [
        Field::text("amount", "Amount"),
        Field::choice("method", "Method", &methods),
        Field::text("reference", "Reference"),
        Field::date("received_on", "Value date"),
    ];
    let receipt = [
        Field::hidden("fund_id", view.line.fund_id),
        Field::hidden("investor_id", view.line.investor_id),
        Field::text("amount", "Amount"),
        Field::choice("method", "Method", &methods),
        Field::text("reference", "Reference"),
        Field::date("received_on", "Value date"),
    ];
    let kinds = [("set_off", "Set-off"), ("sale", "Sale"), ("forfeit", "Forfeit"), ("reinstate", "Reinstate")];
    let remedy = [
        Field::choice("kind", "Remedy", &kinds),
        Field::text("amount", "Amount"),
        Field::date("effective_on", "From"),
        Field::text("reason", "Reason"),
    ];
    let reason = [Field::text("reason", "Reason")];
    let cover = [Field::date("due_on", "Due"), Field::text("reason", "Reason")];
    html! {
        h2 { "Act" }
        (form(actor, key(), &format!("{path}/payments"), &back, "Record a payment", &payment))
        (form(actor, key(), "/receipts", &back, "Record a receipt for all that the investor owes", &receipt))
        @if view.line.outstanding.is_positive() && view.line.failure_notice.is_none() {
            (form(actor, key(), &format!("{path}/failure-notice"), &back, "Give notice of the failure", &reason))
        }
        @if view.line.failure_notice.is_some() && view.line.default.is_none() { (form(actor, key(), &format!("{path}/default"), &back, "Declare the default", &reason)) }
        @if view.line.default.is_some() {
            (form(actor, key(), &format!("{path}/remedies"), &back, "Record the remedy", &remedy))
            (form(actor, key(), &format!("{path}/cover"), &back, "Have the others pay", &cover))
        }
    }
}

/// One payment: what became of it, and what may be done.
pub async fn payment(State(door): State<Arc<Door>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let payment = visit.ask(&GetPayment { payment_id: parsed(&id, Reason::UnknownPayment)? }).await?;
        let body = html! {
            h1 { "Payment" }
            p { a href={ "/call-lines/" (payment.line_id) } { "Back to the line" } }
            dl.cards {
                (card("Status", status(&payment.status))) (card("Amount", grouped(payment.amount))) (card("Applied", grouped(payment.applied)))
                (card("Interest", grouped(payment.interest))) (card("Credit", grouped(payment.unapplied))) (card("In suspense", grouped(payment.suspended)))
                (card("Refunded", grouped(payment.refunded))) (card("Value date", payment.received_on.to_string())) (card("Clearing", title(&payment.clearing)))
            }
            @if let Some(suspense) = &payment.suspense { div.problem role="alert" { p { (suspense.warning) } } }
            @if let Some(reversal) = &payment.reversal { p.note { "Reversed from " (reversal.effective_on) ": " (reversal.reason) } }
            (payment_forms(&payment, visit.actor(), &|| door.shell.clock.new_id()))
        };
        Ok(shell("Payment", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn payment_forms(payment: &Payment, actor: &Actor, key: &dyn Fn() -> Uuid) -> Markup {
    let (path, back) = (format!("/payments/{}", payment.id), format!("/payments/{}", payment.id));
    let reason = [Field::text("reason", "Reason")];
    let cash = [("false", "It is gone"), ("true", "It is still there, and waits for a person again")];
    let reversal = [Field::text("reason", "Reason"), Field::date("effective_on", "From"), Field::choice("cash_stays", "The cash", &cash)];
    let refund = [Field::text("amount", "Amount, or all"), Field::text("reason", "Reason")];
    let credit = [Field::text("line_id", "Line id"), Field::text("amount", "Amount, or as much as fits")];
    html! {
        @if payment.reversal.is_none() {
            h2 { "Act" }
            @if payment.suspended.is_positive() { (form(actor, key(), &format!("{path}/release"), &back, "Release", &reason)) }
            @if payment.unapplied.is_positive() {
                (form(actor, key(), &format!("{path}/refunds"), &back, "Refund the credit", &refund))
                (form(actor, key(), &format!("{path}/credit"), &back, "Pay another line with it", &credit))
            }
            (form(actor, key(), &format!("{path}/reverse"), &back, "Reverse", &reversal))
        }
    }
}

/// Refunds: what waits, and what may be paid out.
pub async fn refunds(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let refunds = visit.ask(&ListRefunds { limit: Some(ROWS), ..Default::default() }).await?;
        let investors = investors(&visit, refunds.items.iter().map(|refund| refund.investor_id)).await?;
        let payout = [Field::date("paid_on", "Paid on"), Field::text("reference", "Reference")];
        let body = html! {
            h1 { "Refunds" }
            div.scroll tabindex="0" role="region" aria-label="Refunds" { table {
                thead { tr { th scope="col" { "Investor" } th.number scope="col" { "Amount" } th scope="col" { "Why" } th scope="col" { "Status" } th scope="col" { "Pay out" } } }
                tbody {
                    @for refund in &refunds.items { tr {
                        td { (name_of(&investors, refund.investor_id)) } td.number { (refund.amount) " " (refund.currency.code()) } td { (refund.reason) } td { (status(&refund.status)) }
                        td { @if refund.decision == ::domain::messages::capital_calls::RefundDecision::Approved && refund.payout.is_none() {
                            (form(visit.actor(), door.shell.clock.new_id(), &format!("/refunds/{}/payout", refund.id), "/refunds", "Paid out", &payout))
                        } }
                    } }
                    @if refunds.items.is_empty() { tr { td.note colspan="5" { "No refund yet." } } }
                }
            } }
        };
        Ok(shell("Refunds", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}
