//! Who pays when: the collections of a fund, an investor or the portfolio.

use ::domain::Currency;
use ::domain::message::Page;
use ::domain::messages::fund_metrics::{
    AgeBucket, Collected, CurrencyAgeing, CurrencyCollections, CurrencyTrend, Days, DaysToFund, GetFundAgeing, GetFundCollections,
    GetFundDaysToFund, GetFundTrends, GetInvestorAgeing, GetInvestorCollections, GetInvestorDaysToFund, GetInvestorTrends,
    GetPortfolioAgeing, GetPortfolioCollections, GetPortfolioDaysToFund, GetPortfolioTrends, InvestorDaysToFund, ListFundDaysToFund,
};
use axum::extract::rejection::QueryRejection;
use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::money::{card, name_of, parsed};
use super::parts::{grouped, percent, share_bar};
use super::*;

/// Months of the trend.
const MONTHS: u16 = 12;

/// What a visitor may choose.
#[derive(Clone, Copy, Default, Deserialize)]
pub struct Choice {
    /// The business date that the figures are for; without it today.
    as_of: Option<NaiveDate>,
}

type Chosen = Result<axum::extract::Query<Choice>, QueryRejection>;

fn chosen(choice: Chosen) -> Result<Choice, Rejection> {
    choice.map(|axum::extract::Query(choice)| choice).map_err(|error| Reason::MalformedRequest.with(error.to_string()))
}

/// All figures of a page.
struct Figured {
    collections: Page<CurrencyCollections>,
    ageing: Page<CurrencyAgeing>,
    trends: Page<CurrencyTrend>,
    days: DaysToFund,
}

/// The collections of a fund, and which of its investors take how long.
pub async fn of_fund(State(door): State<Arc<Door>>, Path(id): Path<String>, choice: Chosen, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let (fund_id, Choice { as_of }) = (parsed(&id, Reason::UnknownFund)?, chosen(choice)?);
        let name = visit.ask(&GetFundMetrics { fund_id }).await?.name;
        let figured = Figured {
            collections: visit.ask(&GetFundCollections { fund_id, from: None, to: None, as_of }).await?,
            ageing: visit.ask(&GetFundAgeing { fund_id, as_of }).await?,
            trends: visit.ask(&GetFundTrends { fund_id, months: Some(MONTHS), as_of }).await?,
            days: visit.ask(&GetFundDaysToFund { fund_id }).await?,
        };
        let by_investor = match visit.may::<ListFundDaysToFund>() {
            true => {
                let days = visit.ask(&ListFundDaysToFund { fund_id, cursor: None, limit: Some(ROWS) }).await?.items;
                let investors = investors(&visit, days.iter().map(|of| of.investor_id)).await?;
                Some((days, investors))
            }
            false => None,
        };
        let body = html! {
            h1 { "Collections of " (name) }
            p { a href={ "/funds/" (fund_id) } { "Back to the fund" } }
            (figures(&figured, as_of))
            @if let Some((days, investors)) = &by_investor { h2 { "Days to fund by investor" } (investors_table(days, investors)) }
        };
        Ok(shell("Collections", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// How an investor pays, over all funds.
pub async fn of_investor(State(door): State<Arc<Door>>, Path(id): Path<String>, choice: Chosen, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let (investor_id, Choice { as_of }) = (parsed(&id, Reason::UnknownInvestor)?, chosen(choice)?);
        let figured = Figured {
            collections: visit.ask(&GetInvestorCollections { investor_id, from: None, to: None, as_of }).await?,
            ageing: visit.ask(&GetInvestorAgeing { investor_id, as_of }).await?,
            trends: visit.ask(&GetInvestorTrends { investor_id, months: Some(MONTHS), as_of }).await?,
            days: visit.ask(&GetInvestorDaysToFund { investor_id }).await?,
        };
        let name = name_of(&investors(&visit, std::iter::once(investor_id)).await?, investor_id);
        let body = html! {
            h1 { "How " (name) " pays" }
            p { a href={ "/bank-details?investor_id=" (investor_id) } { "Bank details" } }
            (figures(&figured, as_of))
        };
        Ok(shell("Collections", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

/// The collections of all funds together.
pub async fn of_portfolio(State(door): State<Arc<Door>>, choice: Chosen, uri: Uri, headers: HeaderMap) -> Response {
    let Some(visit) = Visit::begin(&door, &headers, &uri) else { return redirect("/sign-in") };
    let page = async {
        let Choice { as_of } = chosen(choice)?;
        let figured = Figured {
            collections: visit.ask(&GetPortfolioCollections { from: None, to: None, as_of }).await?,
            ageing: visit.ask(&GetPortfolioAgeing { as_of }).await?,
            trends: visit.ask(&GetPortfolioTrends { months: Some(MONTHS), as_of }).await?,
            days: visit.ask(&GetPortfolioDaysToFund {}).await?,
        };
        let body = html! { h1 { "Collections of the portfolio" } p { a href="/" { "Back to the funds" } } (figures(&figured, as_of)) };
        Ok(shell("Collections", Some(visit.actor()), body))
    };
    let page = page.await;
    visit.end(page).await
}

fn figures(figured: &Figured, as_of: Option<NaiveDate>) -> Markup {
    let collected = figured.collections.items.iter().map(|of| of.currency);
    let aged = figured.ageing.items.iter().map(|of| of.currency);
    let mut currencies: Vec<Currency> = collected.chain(aged).chain(figured.trends.items.iter().map(|of| of.currency)).collect();
    currencies.sort_by_key(|currency| currency.code().to_owned());
    currencies.dedup();
    html! {
        form.votes method="get" {
            label.date { "As of " input type="date" name="as_of" value=[as_of]; }
            button.quiet { "Show" }
        }
        h2 { "Days to fund, all currencies" }
        dl.cards { (days_cards("from the due date", &figured.days.from_due)) (days_cards("from the issue", &figured.days.from_issue)) }
        @for currency in &currencies {
            @for collections in figured.collections.items.iter().filter(|of| of.currency == *currency) {
                h2 { "Collected in " (currency.code()) }
                p.note { "Lines that are due from " (collections.from) " to " (collections.to) ", as they stand now." }
                (collected_cards(&collections.total))
            }
            @for ageing in figured.ageing.items.iter().filter(|of| of.currency == *currency) { (ageing_table(ageing)) }
            @for trend in figured.trends.items.iter().filter(|of| of.currency == *currency) { (trend_table(trend)) }
            @for collections in figured.collections.items.iter().filter(|of| of.currency == *currency) { (due_dates_table(collections)) }
        }
        @if currencies.is_empty() { p.note { "Nothing is called yet." } }
    }
}

fn days(days: Option<i32>) -> String {
    days.map_or_else(|| "-".into(), |days| days.to_string())
}

fn days_cards(since: &str, counted: &Days) -> Markup {
    html! {
        (card(&format!("Median, days {since}"), days(counted.median)))
        (card(&format!("Nine in ten, days {since}"), days(counted.p90)))
    }
}

fn collected_cards(total: &Collected) -> Markup {
    html! {
        dl.cards {
            (card("Called", grouped(total.called))) (card("Paid in", grouped(total.paid_in))) (card("Outstanding", grouped(total.outstanding)))
            (card("Collected by amount", percent(total.collection_rate))) (card("Collected by count", percent(total.collection_rate_by_count)))
            (card("Lines paid on time", total.lines_on_time)) (card("Lines paid late", total.lines_late))
        }
    }
}

fn ageing_table(ageing: &CurrencyAgeing) -> Markup {
    let whole = ageing.overdue + ageing.not_overdue;
    let width = |outstanding: Amount| outstanding.ratio(whole).map_or(Decimal::ZERO, |ratio| (ratio.0 * Decimal::ONE_HUNDRED).round_dp(2));
    let words = |bucket: &AgeBucket| match bucket.days_to {
        Some(to) => format!("{} to {to} days", bucket.days_from),
        None => format!("{} days and more", bucket.days_from),
    };
    html! {
        h2 { "Age of what is outstanding in " (ageing.currency.code()) ", on " (ageing.as_of) }
        div.scroll tabindex="0" role="region" aria-label="Age of what is outstanding" { table {
            thead { tr { th scope="col" { "Past due" } th.number scope="col" { "Lines" } th.number scope="col" { "Outstanding" } th scope="col" { "Of all that is outstanding" } } }
            tbody {
                tr { td { "not past due" } td.number { (ageing.lines_not_overdue) } (amount(ageing.not_overdue)) td { (share_bar(width(ageing.not_overdue), "called")) } }
                @for bucket in &ageing.buckets {
                    tr { td { (words(bucket)) } td.number { (bucket.lines) } (amount(bucket.outstanding)) td { (share_bar(width(bucket.outstanding), "overdue")) } }
                }
                tr { th scope="row" { "past due in all" } td.number { (ageing.lines_overdue) } (amount(ageing.overdue)) td { (share_bar(width(ageing.overdue), "overdue")) } }
            }
        } }
    }
}

fn trend_table(trend: &CurrencyTrend) -> Markup {
    html! {
        h2 { "By month in " (trend.currency.code()) }
        div.scroll tabindex="0" role="region" aria-label="By month" { table {
            thead { tr { th scope="col" { "Month" } th.number scope="col" { "Issued" } th.number scope="col" { "Due" } th.number scope="col" { "Paid of it" } th.number scope="col" { "By amount" }
                th.number scope="col" { "By count" } th.number scope="col" { "On time" } th.number scope="col" { "Late" } th.number scope="col" { "Funded in the month" } th.number scope="col" { "Median days" } } }
            tbody { @for month in &trend.months { tr {
                @let Collected { called, paid_in, collection_rate, collection_rate_by_count, lines_on_time, lines_late, .. } = month.collected;
                td { (month.month.format("%Y-%m")) } (amount(month.issued)) (amount(called)) (amount(paid_in))
                td.number { (percent(collection_rate)) } td.number { (percent(collection_rate_by_count)) }
                td.number { (lines_on_time) } td.number { (lines_late) } (amount(month.funded)) td.number { (days(month.days_to_fund.median)) }
            } } }
        } }
    }
}

fn due_dates_table(of_currency: &CurrencyCollections) -> Markup {
    html! {
        h2 { "By due date in " (of_currency.currency.code()) }
        div.scroll tabindex="0" role="region" aria-label="By due date" { table {
            thead { tr { th scope="col" { "Due" } th.number scope="col" { "Lines" } th.number scope="col" { "Paid" } th.number scope="col" { "Called" } th.number scope="col" { "Paid in" }
                th.number scope="col" { "By amount" } th.number scope="col" { "On time" } th.number scope="col" { "Late" } } }
            tbody {
                @for due in &of_currency.due_dates { tr {
                    @let Collected { lines, lines_paid, called, paid_in, collection_rate, lines_on_time, lines_late, .. } = due.collected;
                    td { (due.due_on) } td.number { (lines) } td.number { (lines_paid) } (amount(called)) (amount(paid_in)) td.number { (percent(collection_rate)) }
                    td.number { (lines_on_time) } td.number { (lines_late) }
                } }
                @if of_currency.due_dates.is_empty() { tr { td.note colspan="8" { "No line is due in this time." } } }
            }
        } }
    }
}

fn investors_table(of_investors: &[InvestorDaysToFund], investors: &[Investor]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Days to fund by investor" { table {
            thead { tr { th scope="col" { "Investor" } th.number scope="col" { "Lines" } th.number scope="col" { "Median, from due" } th.number scope="col" { "Nine in ten, from due" }
                th.number scope="col" { "Median, from issue" } } }
            tbody {
                @for InvestorDaysToFund { investor_id, days: of_investor } in of_investors { tr {
                    td { a href={ "/investors/" (investor_id) "/collections" } { (name_of(investors, *investor_id)) } } td.number { (of_investor.from_due.lines) }
                    td.number { (days(of_investor.from_due.median)) } td.number { (days(of_investor.from_due.p90)) } td.number { (days(of_investor.from_issue.median)) }
                } }
                @if of_investors.is_empty() { tr { td.note colspan="5" { "No line is paid in full yet." } } }
            }
        } }
    }
}
