//! CSV by a saved map.

mod common;

use common::entries;
use serde_json::json;
use statements::{Cause, ColumnMap, Entry, Format, Status};

fn map(value: serde_json::Value) -> ColumnMap {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
}

fn german() -> ColumnMap {
    map(json!({
        "delimiter": ";", "encoding": "iso-8859-1", "header_lines": 2, "date_format": "%d.%m.%Y",
        "account": {"fixed": "DE89 3704 0044 0532 0130 00"}, "currency": {"column": "Währung"},
        "booked_on": "Buchungstag", "value_on": "Valuta", "amount": {"signed": {"column": "Betrag"}},
        "decimal_separator": ",", "thousands_separator": ".",
        "remittance": ["Verwendungszweck"], "payer_name": "Name", "payer_account": "Konto", "bank_reference": "Ref",
        "status": {"column": "Info", "pending": ["vorgemerkt"]},
    }))
}

const GERMAN: &str = "Umsätze\nDE89\nBuchungstag;Valuta;Name;Konto;Verwendungszweck;Betrag;Währung;Ref;Info\n\
    02.11.2026;03.11.2026;Müller;DE75 5121 0800 1245 1261 99;\"Abruf \"\"7\"\"\nRF18 5390 0754 7034\";1.234.567,89;EUR;R1;gebucht\n\
    ;;;;;;;;\n\
    02.11.2026;02.11.2026;=SUM(A1);;Entgelt;-5,00;EUR;;vorgemerkt\n";

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|letter| letter as u8).collect()
}

fn csv(map: ColumnMap) -> Option<Format> {
    Some(Format::Csv(Box::new(map)))
}

fn one(map: ColumnMap, file: &str) -> Result<Entry, statements::Unreadable> {
    entries(csv(map), file).map(|mut entries| entries.remove(0))
}

#[test]
fn a_german_export_is_read() {
    let read = entries(csv(german()), latin(GERMAN)).unwrap();
    assert_eq!(read.len(), 2);
    let first = &read[0];
    assert_eq!((first.amount.to_string().as_str(), first.credit, first.currency.code()), ("1234567.89", true, "EUR"));
    assert_eq!((first.account.id.as_str(), first.entry_id.as_str()), ("DE89370400440532013000", "R1"));
    assert_eq!(first.transactions[0].payer.name.as_deref(), Some("Müller"));
    assert_eq!(first.transactions[0].payer.account.as_deref(), Some("DE75512108001245126199"));
    assert_eq!(first.transactions[0].remittance.as_deref(), Some("Abruf \"7\" RF18 5390 0754 7034"));
    assert_eq!(first.transactions[0].references()[0].as_str(), "RF18539007547034");
    assert_eq!(first.value_on.unwrap().to_string(), "2026-11-03");
    let second = &read[1];
    assert!(!second.credit && second.status == Status::Pending);
    assert_eq!(second.transactions[0].payee.name.as_deref(), Some("=SUM(A1)"));
    assert_eq!((first.line, second.line), (4, 7));
}

fn plain(amount: serde_json::Value) -> ColumnMap {
    map(json!({"has_header": false, "account": {"fixed": "1"}, "currency": {"fixed": "USD"}, "booked_on": 0, "amount": amount}))
}

#[test]
fn each_convention_of_signs_is_read() {
    let signed = |text: &str| {
        let entry = one(plain(json!({"signed": {"column": 1}})), &format!("2026-11-02,{text}\n")).unwrap();
        (entry.amount.to_string(), entry.credit)
    };
    for (text, amount, credit) in [
        ("5", "5.00", true),
        ("-5.1", "5.10", false),
        ("5.10-", "5.10", false),
        ("(5)", "5.00", false),
        ("+5", "5.00", true),
        ("−5", "5.00", false),
    ] {
        assert_eq!(signed(text), (amount.to_owned(), credit), "{text}");
    }
    let turned = one(plain(json!({"signed": {"column": 1, "negative_is_credit": true}})), "2026-11-02,-5\n").unwrap();
    assert!(turned.credit);
    let split =
        |line: &str| one(plain(json!({"split": {"credit": 1, "debit": 2}})), line).map(|entry| (entry.amount.to_string(), entry.credit));
    assert_eq!(split("2026-11-02,5,\n").unwrap(), ("5.00".into(), true));
    assert_eq!(split("2026-11-02,0.00,-7\n").unwrap(), ("7.00".into(), false));
    for bad in ["2026-11-02,5,7\n", "2026-11-02,,\n", "2026-11-02,-5,\n"] {
        assert_eq!(split(bad).unwrap_err().cause, Cause::InvalidAmount, "{bad}");
    }
    let marked = |line: &str| {
        one(plain(json!({"marked": {"column": 1, "mark": 2, "credit": ["C"], "debit": ["D"]}})), line).map(|entry| entry.credit)
    };
    assert!(marked("2026-11-02,5,C\n").unwrap());
    assert!(!marked("2026-11-02,5,D\n").unwrap());
    assert_eq!(marked("2026-11-02,5,X\n").unwrap_err().cause, Cause::Malformed);
}

#[test]
fn faults_are_named_with_their_place() {
    let signed = || plain(json!({"signed": {"column": 1}}));
    for (file, cause, line, position) in [
        ("2026-11-02,5\n02/11/2026,5\n", Cause::InvalidDate, 2, 1),
        ("2026-11-02,5.001\n", Cause::InvalidAmount, 1, 12),
        ("2026-11-02,\"1,000\"\n", Cause::InvalidAmount, 1, 12),
        ("2026-11-02,5\n2026-11-02\n", Cause::Malformed, 2, 1),
        ("2026-11-02,5\n2026-11-02,\"5\n", Cause::Truncated, 2, 1),
        ("2026-11-02,5\n\n2026-11-02,5\u{0}\n", Cause::Malformed, 3, 12),
        ("2026-11-02,5\r\n\r\n\r\n2026-11-02,x\r\n", Cause::InvalidAmount, 4, 12),
        ("2026-11-02,5\r\n2026-11-02,5\r\n2026-11-02,x", Cause::InvalidAmount, 3, 12),
        ("2026-11-02,\"\n5\n\"\n2026-11-02,x", Cause::InvalidAmount, 4, 12),
        ("2026-11-02\n", Cause::WrongMap, 1, 1),
    ] {
        let error = entries(csv(signed()), file).unwrap_err();
        assert_eq!((error.cause, error.line, error.position), (cause, line, position), "{file:?}: {error}");
    }
    let error = entries(csv(signed()), b"2026-11-02,5\n2026-11-02,\xff\n").unwrap_err();
    assert_eq!((error.cause, error.line, error.position), (Cause::WrongEncoding, 2, 12));
    let open = map(json!({"has_header": false, "account": {"fixed": "1"}, "currency": {"fixed": "USD"}, "booked_on": 0,
        "amount": {"signed": {"column": 1}}, "remittance": [2]}));
    let error = entries(csv(open), "2026-11-02,5,a\n2026-11-02,5,\"b\n2026-11-02,5,c\n").unwrap_err();
    assert_eq!(error.cause, Cause::Truncated);
    let mut short = german();
    short.thousands_separator = Some('.');
    let wrong = GERMAN.replace("1.234.567,89", "1.23.4567,89");
    assert_eq!(entries(csv(short), latin(&wrong)).unwrap_err().cause, Cause::InvalidAmount);
    assert_eq!(entries(None, "2026-11-02,5\n").unwrap_err().cause, Cause::WrongFormat);
    assert_eq!(entries(csv(german()), "one line\n").unwrap_err().cause, Cause::Truncated);
}

#[test]
fn a_map_that_contradicts_itself_is_refused() {
    assert_eq!(german().check(), Ok(()));
    let wrong = |change: fn(&mut ColumnMap)| {
        let mut map = german();
        change(&mut map);
        assert!(map.check().is_err());
        assert_eq!(entries(csv(map), latin(GERMAN)).unwrap_err().cause, Cause::WrongMap);
    };
    wrong(|map| map.delimiter = '"');
    wrong(|map| map.delimiter = 'ä');
    wrong(|map| map.encoding = "nonsense".into());
    wrong(|map| map.date_format = "%H:%M".into());
    wrong(|map| map.date_format = "%d.%m".into());
    wrong(|map| map.date_format = "%Q".into());
    wrong(|map| map.thousands_separator = Some(','));
    wrong(|map| map.has_header = false);
    wrong(|map| map.header_lines = 1_000);
    let mut missing = german();
    missing.payer_name = Some(statements::Column::Name("Nobody".into()));
    assert_eq!(entries(csv(missing), latin(GERMAN)).unwrap_err().cause, Cause::WrongMap);
    let text = serde_json::to_string(&german()).unwrap();
    assert_eq!(serde_json::from_str::<ColumnMap>(&text).unwrap(), german());
}
