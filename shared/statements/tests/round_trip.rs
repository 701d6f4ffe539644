//! What is written in a format is read as it was, whatever it is; and no bytes whatever stop a reader.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use std::fmt::Write;

use common::entries;
use domain::Currency;
use proptest::prelude::*;
use statements::{Amounts, Column, ColumnMap, Entry, Format, Given};

#[derive(Clone, Debug)]
struct Line {
    units: i128,
    credit: bool,
    reference: String,
    id: String,
    text: String,
    day: u32,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0i128..1_000_000_000_000, any::<bool>(), "[A-Z0-9]{1,16}", "[A-Z0-9-]{1,35}", "[A-Za-zäöü&<>\"';0-9 .:+-]{0,60}", 1u32..28)
        .prop_map(|(units, credit, reference, id, text, day)| Line {
            units,
            credit,
            reference,
            id,
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            day,
        });
    prop::collection::vec(line, 1..12)
}

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn check(lines: &[Line], read: &[Entry]) -> Result<(), TestCaseError> {
    prop_assert_eq!(lines.len(), read.len());
    let mut seen = std::collections::BTreeSet::new();
    for (line, entry) in lines.iter().zip(read) {
        prop_assert_eq!(entry.amount, euro().from_minor(line.units));
        prop_assert_eq!(entry.credit, line.credit);
        prop_assert_eq!(&entry.entry_id, &line.reference);
        let transaction = &entry.transactions[0];
        prop_assert_eq!(transaction.end_to_end_id.as_deref(), Some(line.id.as_str()));
        prop_assert_eq!(transaction.remittance.as_deref().unwrap_or_default(), line.text.as_str());
        prop_assert_eq!(entry.value_on.unwrap().to_string(), format!("2026-11-{:02}", line.day));
        prop_assert!(seen.insert(entry.identity().content.clone()), "two entries have one identity");
    }
    Ok(())
}

fn camt(lines: &[Line]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut within = String::new();
    for line in lines {
        let (amount, side) = (euro().from_minor(line.units), if line.credit { "CRDT" } else { "DBIT" });
        let _ = write!(
            within,
            "<Ntry><Amt Ccy=\"EUR\">{amount}</Amt><CdtDbtInd>{side}</CdtDbtInd><Sts>BOOK</Sts><ValDt><Dt>2026-11-{:02}</Dt></ValDt>\
             <AcctSvcrRef>{}</AcctSvcrRef><NtryDtls><TxDtls><Refs><EndToEndId>{}</EndToEndId></Refs><RmtInf><Ustrd>{}</Ustrd></RmtInf>\
             </TxDtls></NtryDtls></Ntry>",
            line.day,
            line.reference,
            line.id,
            escape(&line.text)
        );
    }
    common::camt053("04", &within)
}

fn bai2(lines: &[Line]) -> String {
    let mut details = Vec::new();
    for line in lines {
        let kind = if line.credit { 195 } else { 495 };
        details.push(format!("16,{kind},{},V,2611{:02},,{}/", line.units, line.day, line.reference));
        details.push(format!("88,{},{}/", line.id, line.text));
    }
    let units = lines.iter().map(|line| i64::try_from(line.units).unwrap()).sum();
    common::bai2(&details.join("\n"), units).replacen(",,USD,2/", ",,EUR,2/", 1)
}

fn csv_map() -> ColumnMap {
    ColumnMap {
        delimiter: ';',
        encoding: "utf-8".into(),
        header_lines: 0,
        has_header: false,
        account: Given::Fixed("1".into()),
        currency: Given::Fixed("EUR".into()),
        booked_on: Column::Index(0),
        value_on: Some(Column::Index(0)),
        date_format: "%Y-%m-%d".into(),
        amount: Amounts::Signed { column: Column::Index(1), negative_is_credit: true },
        decimal_separator: ',',
        thousands_separator: None,
        bank_reference: Some(Column::Index(2)),
        end_to_end_id: Some(Column::Index(3)),
        creditor_reference: None,
        remittance: vec![Column::Index(4)],
        payer_name: None,
        payer_account: None,
        status: None,
    }
}

fn csv(lines: &[Line]) -> String {
    let mut file = String::new();
    for line in lines {
        let (sign, amount) = (if line.credit { "-" } else { "" }, euro().from_minor(line.units).to_string().replace('.', ","));
        let text = line.text.replace('"', "\"\"");
        let _ = writeln!(file, "2026-11-{:02};{sign}{amount};{};{};\"{text}\"", line.day, line.reference, line.id);
    }
    file
}

proptest! {
    #[test]
    fn camt_reads_as_written(lines in lines()) {
        check(&lines, &entries(None, camt(&lines)).unwrap())?;
    }

    #[test]
    fn bai2_reads_as_written(lines in lines()) {
        check(&lines, &entries(None, bai2(&lines)).unwrap())?;
    }

    #[test]
    fn csv_reads_as_written(lines in lines()) {
        check(&lines, &entries(Some(Format::Csv(Box::new(csv_map()))), csv(&lines)).unwrap())?;
    }

    #[test]
    fn a_changed_byte_never_stops_a_reader(lines in lines(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (format, file) in [(None, camt(&lines)), (None, bai2(&lines)), (Some(Format::Csv(Box::new(csv_map()))), csv(&lines))] {
            let mut bytes = file.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Err(error) = entries(format, &bytes) {
                prop_assert!(error.line >= 1 && error.position >= 1);
            }
        }
    }

    #[test]
    fn the_size_of_reads_does_not_matter(lines in lines(), size in 1usize..40) {
        let file = camt(&lines);
        let whole = entries(None, &file).unwrap();
        let pieces = std::io::BufReader::with_capacity(size, file.as_bytes());
        let read: Result<Vec<Entry>, _> = statements::Reader::new(None, pieces).unwrap().collect();
        prop_assert_eq!(read.unwrap(), whole);
    }
}
