//! The report: a table on the terminal, `latest.json`, `latest.md` and `latest.svg` under `target/bench/`.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;
use serde::Serialize;

/// One measurement of one run.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What happened, a second.
    pub rate: f64,
    /// pgbench's transactions a second beside it, on the same server.
    pub pgbench: f64,
    /// Further figures by name, their unit last.
    pub figures: BTreeMap<String, f64>,
}

impl Measured {
    /// Adds the median and the 99th percentile of a histogram of microseconds, in milliseconds.
    pub fn note_latency(&mut self, prefix: &str, histogram: &Histogram<u64>) {
        for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99)] {
            self.figures.insert(format!("{prefix}{name}"), histogram.value_at_quantile(quantile) as f64 / 1_000.0);
        }
    }
}

/// All runs of one measurement.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name.
    pub name: String,
    /// Median a second.
    pub rate: f64,
    /// Median of the ratio to pgbench's transactions a second, run by run; none where the rate is no throughput.
    pub ratio: Option<f64>,
    /// Smallest and largest ratio.
    pub ratio_range: Option<(f64, f64)>,
    /// Runs.
    pub runs: usize,
    /// Medians of the further figures.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Processor, cores and memory.
    pub machine: String,
    /// Commit of the code.
    pub commit: String,
    /// When.
    pub at: String,
    /// Median of pgbench's transactions a second.
    pub pgbench_tps: f64,
    /// Results.
    pub results: Vec<Row>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn row(name: &str, runs: &[Measured]) -> Row {
    let ratios: Vec<f64> = runs.iter().filter(|run| run.pgbench > 0.0).map(|run| run.rate / run.pgbench).collect();
    let names = runs.iter().flat_map(|run| run.figures.keys());
    let figure = |name: &String| median(runs.iter().filter_map(|run| run.figures.get(name).copied()).collect());
    Row {
        name: name.to_owned(),
        rate: median(runs.iter().map(|run| run.rate).collect()),
        ratio: (!ratios.is_empty()).then(|| median(ratios.clone())),
        ratio_range: (!ratios.is_empty())
            .then(|| (ratios.iter().copied().fold(f64::INFINITY, f64::min), ratios.iter().copied().fold(0.0, f64::max))),
        runs: runs.len(),
        figures: names.map(|name| (name.clone(), figure(name))).collect(),
    }
}

impl Report {
    /// The report of all measurements, in their order.
    pub fn of(measurements: &[(String, Vec<Measured>)]) -> Report {
        let tps = measurements.iter().flat_map(|(_, runs)| runs).map(|run| run.pgbench).filter(|tps| *tps > 0.0).collect();
        Report {
            machine: machine(),
            commit: commit(),
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            pgbench_tps: median(tps),
            results: measurements.iter().map(|(name, runs)| row(name, runs)).collect(),
        }
    }

    /// The table as Markdown.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{}, commit {}, {}\n\npgbench (TPC-B-like, scale 10, 8 clients): {:.0} transactions a second\n\n",
            self.machine, self.commit, self.at, self.pgbench_tps
        );
        text.push_str("| what | a second | x pgbench (range) | reply p50 / p99 ms | end to end p50 / p99 ms | other |\n| --- | --- | --- | --- | --- | --- |\n");
        for row in &self.results {
            let ratio = match (row.ratio, row.ratio_range) {
                (Some(ratio), Some((least, most))) => format!("{ratio:.2} ({least:.2} to {most:.2})"),
                _ => String::new(),
            };
            let pair = |prefix: &str| {
                let get = |name: &str| row.figures.get(&format!("{prefix}{name}"));
                get("p50_ms").zip(get("p99_ms")).map(|(p50, p99)| format!("{p50:.1} / {p99:.1}")).unwrap_or_default()
            };
            let other: Vec<String> = row
                .figures
                .iter()
                .filter(|(name, _)| !name.ends_with("p50_ms") && !name.ends_with("p99_ms"))
                .map(|(name, value)| format!("{name} {value:.1}"))
                .collect();
            text.push_str(&format!(
                "| {} | {:.0} | {ratio} | {} | {} | {} |\n",
                row.name,
                row.rate,
                pair(""),
                pair("end_to_end_"),
                other.join(", ")
            ));
        }
        text
    }

    /// Writes the files.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| fault(&error))?;
        let json = serde_json::to_string_pretty(self).map_err(|error| fault(&error))?;
        std::fs::write(folder.join("latest.json"), json).map_err(|error| fault(&error))?;
        std::fs::write(folder.join("latest.md"), self.table()).map_err(|error| fault(&error))?;
        self.plot(&folder.join("latest.svg")).map_err(|error| fault(&error))
    }

    /// Bars of the ratios, each with its range.
    fn plot(&self, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let bars: Vec<(&str, f64, (f64, f64))> =
            self.results.iter().filter_map(|row| Some((row.name.as_str(), row.ratio?, row.ratio_range?))).collect();
        let most = bars.iter().map(|(_, _, (_, most))| *most).fold(1.0, f64::max) * 1.1;
        let size = (900, 60 + 34 * u32::try_from(bars.len()).unwrap_or_default());
        let area = SVGBackend::new(file, size).into_drawing_area();
        area.fill(&WHITE)?;
        let places = (0..bars.len()).into_segmented();
        let mut chart = ChartBuilder::on(&area)
            .caption("times pgbench, median and range", ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(250)
            .build_cartesian_2d(0.0..most, places)?;
        let label = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(place) => bars.get(bars.len() - 1 - place).map_or("", |bar| bar.0).to_owned(),
            _ => String::new(),
        };
        chart.configure_mesh().disable_y_mesh().y_labels(bars.len()).y_label_formatter(&label).draw()?;
        for (place, (_, ratio, (least, most))) in bars.iter().rev().enumerate() {
            let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
            let mut bar = Rectangle::new([(0.0, low), (*ratio, high)], BLUE.mix(0.6).filled());
            bar.set_margin(5, 5, 0, 0);
            chart.draw_series([bar])?;
            let middle = SegmentValue::CenterOf(place);
            chart.draw_series([PathElement::new(vec![(*least, middle.clone()), (*most, middle)], BLACK.stroke_width(2))])?;
        }
        area.present()?;
        Ok(())
    }
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(testkit::root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let value = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned())).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores, memory {}", value(&read("/proc/cpuinfo"), "model name"), value(&read("/proc/meminfo"), "MemTotal"))
}
