//! CSV: the first byte chooses a map, the rest is the file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use statements::{ColumnMap, Format, Reader};

static MAPS: LazyLock<Vec<ColumnMap>> = LazyLock::new(|| {
    [
        r#"{"has_header": false, "account": {"fixed": "1"}, "currency": {"fixed": "USD"}, "booked_on": 0,
            "amount": {"signed": {"column": 1}}, "remittance": [2]}"#,
        r#"{"delimiter": ";", "encoding": "iso-8859-1", "header_lines": 2, "date_format": "%d.%m.%Y", "account": {"fixed": "1"},
            "currency": {"column": "Ccy"}, "booked_on": "Date", "amount": {"split": {"credit": "In", "debit": "Out"}},
            "decimal_separator": ",", "thousands_separator": ".", "payer_name": "Name"}"#,
        r#"{"delimiter": "\t", "encoding": "utf-16le", "account": {"column": 3}, "currency": {"fixed": "JPY"}, "booked_on": 0,
            "amount": {"marked": {"column": 1, "mark": 2, "credit": ["C"], "debit": ["D"]}}, "thousands_separator": " "}"#,
    ]
    .iter()
    .filter_map(|map| serde_json::from_str(map).ok())
    .collect()
});

fuzz_target!(|file: &[u8]| {
    let Some((choice, file)) = file.split_first() else { return };
    let map = MAPS[usize::from(*choice) % MAPS.len()].clone();
    let Ok(reader) = Reader::new(Some(Format::Csv(Box::new(map))), file) else { return };
    for entry in reader {
        if let Err(error) = entry {
            assert!(error.line >= 1 && error.position >= 1);
        }
    }
});
