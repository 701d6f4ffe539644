//! Parts that the pages share.

use ::domain::messages::fund_metrics::Figures;
use ::domain::money::Ratio;
use ::domain::{Actor, Amount, Problem, Rejection};
use maud::{DOCTYPE, Markup, html};
use rust_decimal::Decimal;
use serde::Serialize;

/// The frame of every page.
pub fn shell(heading: &str, actor: Option<&Actor>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="htmx-config" content=r#"{"includeIndicatorStyles":false,"allowEval":false}"#;
                title { (heading) " - Tranche" }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                script src="/assets/htmx.min.js" defer {}
                script src="/assets/live.js" defer {}
            }
            body {
                header {
                    strong { "Tranche" }
                    nav aria-label="Main" { @if actor.is_some() { a href="/" { "Funds" } a href="/approvals" { "Approvals" } a href="/workflows" { "Workflows" } a href="/alerts" { "Alerts" } a href="/rules" { "Rules" } a href="/bank-entries" { "Bank" } a href="/refunds" { "Refunds" } a href="/services" { "Services" } a href="/api/docs/" { "API" } } }
                    @if let Some(actor) = actor {
                        span.note { (actor.user) " (" (actor.roles.join(", ")) ")" }
                        form method="post" action="/sign-out" { button.quiet { "Sign out" } }
                    }
                }
                @if actor.is_some() { div hx-get="/services/banner" hx-trigger="load, every 10s" {} }
                main { (body) }
            }
        }
    }
}

/// A refusal, with what to do about it.
pub fn problem(rejection: &Rejection) -> Markup {
    let problem = Problem::from(rejection.clone());
    html! {
        h1 { (problem.title) }
        (told(&problem))
        p { a href="/" { "Back to the funds" } }
    }
}

/// What is wrong, what to do about it, who may, and where.
pub fn told(problem: &Problem) -> Markup {
    html! {
        div.problem role="alert" {
            p { (problem.detail) }
            p { "What to do: " (problem.recommendation) "." @if !problem.link.is_empty() { " " a href=(problem.link) { "There" } } }
            p.note { "Code: " a href=(problem.kind) { (problem.code.code()) } @if !problem.who.is_empty() { ". Who may: " (problem.who.join(", ").replace('_', " ")) } }
        }
    }
}

/// A cell with an amount, its thousands set apart.
pub fn amount(amount: Amount) -> Markup {
    html! { td.number { (grouped(amount)) } }
}

/// `1234567.80` as `1,234,567.80`.
pub fn grouped(amount: Amount) -> String {
    let text = amount.to_string();
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
    format!("{sign}{}{fraction}", groups.join(","))
}

/// A name of the domain, as words.
pub fn title<T: Serialize>(name: &T) -> String {
    chassis::row::name(name).replace('_', " ")
}

/// A status, coloured by whether it needs somebody; the word says it as well.
pub fn status<T: Serialize>(value: &T) -> Markup {
    let name = title(value);
    match name.as_str() {
        "funded" | "paid" | "settled" | "completed" | "approved" => html! { span.status.good { (name) } },
        "overdue" | "grace" | "default noticed" | "defaulted" | "suspense" | "reversed" | "failed" | "denied" | "overpaid"
        | "rescinded" | "voided" => html! { span.status.bad { (name) } },
        _ => html! { span.status { (name) } },
    }
}

/// A share of one, in percent.
pub fn percent(share: Option<Ratio>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{} %", (share.0 * Decimal::ONE_HUNDRED).round_dp(1)))
}

/// A bar of one part, in percent of the whole.
pub fn share_bar(percent: Decimal, class: &str) -> Markup {
    html! {
        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={ (percent) " %" } {
            rect.base width="100" height="8" {}
            rect class=(class) width=(percent) height="8" {}
        }
    }
}

/// The main figures.
pub fn figures_cards(figures: &Figures) -> Markup {
    let ratio = |ratio: Option<Ratio>| ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.0.round_dp(2).to_string());
    html! {
        dl.cards {
            div.card { dt { "Committed" } dd { (grouped(figures.committed)) } }
            div.card { dt { "Called" } dd { (grouped(figures.called)) } }
            div.card { dt { "Paid in" } dd { (grouped(figures.paid_in)) } }
            div.card { dt { "Outstanding" } dd { (grouped(figures.outstanding)) } }
            div.card { dt { "Overdue" } dd { (grouped(figures.overdue)) } }
            div.card { dt { "Unfunded" } dd { (grouped(figures.unfunded)) } }
            div.card { dt { "Called of committed" } dd { (ratio(figures.called_pct)) " %" } }
            div.card { dt { "Collection rate" } dd { (percent(figures.collection_rate)) } }
        }
    }
}

/// A bar: called of what is committed (or of what is called, where that is more), paid and overdue of it.
pub fn bar(figures: &Figures) -> Markup {
    let whole = figures.committed.max(figures.called);
    let width = |part: Amount| part.ratio(whole).map_or(Decimal::ZERO, |ratio| (ratio.0 * Decimal::ONE_HUNDRED).round_dp(2));
    let (called, paid, overdue) = (width(figures.called), width(figures.paid_in), width(figures.overdue));
    html! {
        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={ "called " (called) " %, paid " (paid) " %, overdue " (overdue) " %" } {
            rect.base width="100" height="8" {}
            rect.called width=(called) height="8" {}
            rect.paid width=(paid) height="8" {}
            rect.overdue x=(paid) width=(overdue) height="8" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (amount, expected) in [("0.00", "0.00"), ("999", "999"), ("1000", "1,000"), ("-1234567.80", "-1,234,567.80")] {
            assert_eq!(grouped(amount.parse().unwrap()), expected);
        }
    }
}
