//! Our metrics beside the published figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use serde_json::Value;

use super::{Office, Played, accepted, dollars, published};

/// Lines of the table for single funds; all are compared, the largest are printed.
const PRINTED: usize = 12;
/// The readers have caught up within this time, or a figure differs.
const CATCH_UP: Duration = Duration::from_secs(60);

struct Compared {
    name: String,
    figure: &'static str,
    published: Decimal,
    ours: Decimal,
    differs: bool,
}

/// Half a unit of the last digit that was published.
fn tolerance(published: Decimal) -> Decimal {
    Decimal::new(5, published.scale() + 1)
}

fn compare_one(name: &str, figure: &'static str, expected: Decimal, metrics: &Value) -> Result<Compared, String> {
    let text = metrics[figure].as_str().ok_or_else(|| format!("{name} has no {figure}: {metrics}"))?;
    let ours = Decimal::from_str_exact(text).map_err(|error| format!("{name}: {figure} {text:?}: {error}"))? / Decimal::from(1_000_000);
    Ok(Compared {
        name: name.to_owned(),
        figure,
        published: expected,
        ours: ours.normalize(),
        differs: (ours - expected).abs() > tolerance(expected),
    })
}

async fn compare_all(office: &Office, played: &[Played]) -> Result<Vec<Compared>, String> {
    let mut ours: BTreeMap<String, Value> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = accepted(office.reader.get(&format!("/portfolio/funds?limit=500{cursor}")).await)?;
        for fund in page["items"].as_array().into_iter().flatten() {
            ours.insert(fund["id"].as_str().unwrap_or_default().to_owned(), fund.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut all = Vec::new();
    let mut sums: BTreeMap<(String, uuid::Uuid), (Decimal, Decimal)> = BTreeMap::new();
    for Played { row, fund_id, investor_id, .. } in played {
        let metrics = ours.get(&fund_id.to_string()).ok_or_else(|| format!("no metrics of fund {fund_id}"))?;
        let (committed, called) = (published(row.commitment_mm), published(row.capital_called_mm));
        let unfunded = (committed - called).max(Decimal::ZERO);
        for (figure, expected) in
            [("committed", committed), ("called", called), ("paid_in", called), ("outstanding", Decimal::ZERO), ("unfunded", unfunded)]
        {
            all.push(compare_one(&row.name(), figure, expected, metrics)?);
        }
        let sum = sums.entry((row.investor.clone(), *investor_id)).or_default();
        *sum = (sum.0 + dollars(row.commitment_mm).decimal(), sum.1 + dollars(row.capital_called_mm).decimal());
    }
    for ((investor, investor_id), (committed, called)) in sums {
        let metrics = accepted(office.reader.get(&format!("/investors/{investor_id}/metrics")).await)?;
        let million = Decimal::from(1_000_000);
        for (figure, expected) in [("committed", committed / million), ("called", called / million), ("paid_in", called / million)] {
            all.push(compare_one(&format!("all of {investor}"), figure, expected, &metrics["items"][0])?);
        }
    }
    Ok(all)
}

/// Writes every figure that was compared, one a row, under `target/local/`.
fn write_table(compared: &[Compared]) -> Result<std::path::PathBuf, String> {
    let file = testkit::local().join("demo.csv");
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut table = csv::Writer::from_path(&file).map_err(|error| fault(&error))?;
    table.write_record(["name", "figure", "published_mm", "ours_mm", "differs"]).map_err(|error| fault(&error))?;
    for one in compared {
        let (published, ours) = (one.published.to_string(), one.ours.to_string());
        let row = [one.name.as_str(), one.figure, &published, &ours, if one.differs { "yes" } else { "no" }];
        table.write_record(row).map_err(|error| fault(&error))?;
    }
    table.flush().map_err(|error| fault(&error))?;
    Ok(file)
}

/// Compares every figure, waiting for the readers to catch up; prints a table; an error when one differs.
pub async fn compare(office: &Office, played: &[Played]) -> Result<(), String> {
    let since = Instant::now();
    let compared = loop {
        let compared = compare_all(office, played).await;
        let equal = compared.as_ref().is_ok_and(|all| all.iter().all(|one| !one.differs));
        if equal || since.elapsed() > CATCH_UP {
            break compared?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut largest: Vec<&Compared> = compared.iter().filter(|one| one.figure == "called" || one.name.starts_with("all of ")).collect();
    largest.sort_by_key(|one| std::cmp::Reverse(one.published));
    println!("    {:<60} {:<12} {:>18} {:>18}", "USD million", "figure", "published", "ours");
    let differing: Vec<&Compared> = compared.iter().filter(|one| one.differs).collect();
    for one in largest.into_iter().take(PRINTED).chain(differing.iter().copied()) {
        let mark = if one.differs { "  differs" } else { "" };
        println!(
            "    {:<60} {:<12} {:>18} {:>18}{mark}",
            one.name.chars().take(60).collect::<String>(),
            one.figure,
            one.published,
            one.ours
        );
    }
    let left_out: Vec<&Played> = played.iter().filter(|played| played.left_out.is_some()).collect();
    for row in &left_out {
        println!("    {}: {}", row.row.name(), row.left_out.as_deref().unwrap_or_default());
    }
    println!(
        "    {} rows, {} of them in part; {} figures compared, {} differ",
        played.len(),
        left_out.len(),
        compared.len(),
        differing.len()
    );
    println!("    every figure stands in {}", write_table(&compared)?.display());
    if differing.is_empty() { Ok(()) } else { Err("our figures differ from the published ones".into()) }
}
