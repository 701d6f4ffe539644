//! Files that are cut short, or made to harm.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::{bai2, balance, camt053, data, entries, ntry};
use statements::{Cause, limits};

fn cause(file: impl AsRef<[u8]>) -> Cause {
    entries(None, file).unwrap_err().cause
}

fn good() -> String {
    camt053("08", &ntry("1.00", "CRDT", "<AddtlNtryInf>a&amp;b</AddtlNtryInf>"))
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let files = [
        data("camt.053.001.08-sepa-statement.xml"),
        data("mock-bank/camt.054-payment-returned.xml"),
        data("bai2-sample1.txt"),
        data("bai2-sample3.txt"),
        bai2("16,195,1234/\n88,V,261103,,B1,C1,RF18 5390\n88,0754 7034/", 1234).into_bytes(),
        camt053("02", &format!("{}{}", balance("OPBD", "1.00", "CRDT"), ntry("1.00", "CRDT", ""))).into_bytes(),
    ];
    for file in files {
        assert!(entries(None, &file).is_ok());
        let whole = file.trim_ascii_end().len();
        for end in 0..whole {
            let cut = entries(None, &file[..end]);
            assert!(cut.is_err(), "cut after {end} of {whole} bytes: {:?}", cut.map(|entries| entries.len()));
        }
    }
}

#[test]
fn document_types_and_entities_are_refused() {
    let bombs = [
        "<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;&lol;&lol;\">]>",
        "<!DOCTYPE Document SYSTEM \"file:///etc/passwd\">",
        "<!DOCTYPE Document>",
    ];
    for bomb in bombs {
        assert_eq!(cause(good().replacen('\n', &format!("\n{bomb}"), 1)), Cause::Entity, "{bomb}");
    }
    for entity in ["&lol;", "&#0;", "&#xFFFFFFFF;", "&#x110000;", "&#;"] {
        assert_eq!(cause(good().replace("&amp;", entity)), Cause::Entity, "{entity}");
    }
    assert_eq!(cause(good().replace("&amp;", "&#1;")), Cause::Malformed);
    assert_eq!(cause(good().replace("&amp;", "& ")), Cause::Malformed);
}

#[test]
fn depth_attributes_and_lengths_are_bounded() {
    let deep = "<A>".repeat(1_000_000);
    assert_eq!(cause(good().replace("<Ntry>", &format!("{deep}<Ntry>"))), Cause::TooLarge);
    assert_eq!(cause("<a>".repeat(100_000)), Cause::TooLarge);
    let many: String = (0..100_000).map(|n| format!(" a{n}=\"1\"")).collect();
    assert_eq!(cause(good().replace("<Ntry>", &format!("<Ntry{many}>"))), Cause::TooLarge);
    let some: String = (0..30).map(|n| format!(" a{n}=\"1\"")).collect();
    assert_eq!(cause(good().replace("<Ntry>", &format!("<Ntry{some}>"))), Cause::TooLarge);
    let long = "x".repeat(limits::PIECE_BYTES_MAX + 100_000);
    assert_eq!(cause(good().replace("a&amp;b", &long)), Cause::TooLarge);
    assert_eq!(cause(good().replace("a&amp;b", &long[..limits::TEXT_CHARACTERS_MAX + 1])), Cause::TooLarge);
    assert_eq!(cause(good().replace("<Ntry>", &format!("<!--{long}--><Ntry>"))), Cause::TooLarge);
    assert_eq!(cause(good().replace("a&amp;b", &"&amp;".repeat(limits::TEXT_CHARACTERS_MAX + 1))), Cause::TooLarge);
    let with_id = |length: usize| {
        let id = "x".repeat(length);
        let details = format!("<NtryDtls><TxDtls><Refs><EndToEndId>{id}</EndToEndId></Refs></TxDtls></NtryDtls><AddtlNtryInf>");
        entries(None, good().replace("<AddtlNtryInf>", &details))
    };
    assert!(with_id(limits::ID_CHARACTERS_MAX).is_ok());
    let long = with_id(limits::ID_CHARACTERS_MAX + 1).unwrap_err();
    assert_eq!((long.cause, long.line), (Cause::TooLarge, 4), "{long}");
    let transaction = "<TxDtls/>".repeat(limits::TRANSACTIONS_MAX + 1);
    assert_eq!(cause(good().replace("<AddtlNtryInf>", &format!("<NtryDtls>{transaction}</NtryDtls><AddtlNtryInf>"))), Cause::TooLarge);
    assert_eq!(cause(camt053("08", &balance("OPBD", "1.00", "CRDT").repeat(limits::BALANCES_MAX + 1))), Cause::TooLarge);
    let wide = format!("16,195,5,Z,,,{}", "x".repeat(limits::RECORD_BYTES_MAX + 20_000));
    assert_eq!(cause(bai2(&wide, 5)), Cause::TooLarge);
    let continued = format!("16,195,5,Z,,,{}", "\n88,xxxxxxxxxxxxxxxxxxxx".repeat(limits::RECORD_BYTES_MAX / 20));
    assert_eq!(cause(bai2(&continued, 5)), Cause::TooLarge);
}

#[test]
fn wrong_encodings_are_refused_where_they_are() {
    let file = good().replace("a&amp;b", "Müller");
    let latin: Vec<u8> = file.chars().map(|letter| letter as u8).collect();
    let error = entries(None, &latin).unwrap_err();
    assert_eq!((error.cause, error.line), (Cause::WrongEncoding, 4));
    assert_eq!(u64::try_from(file.lines().nth(3).unwrap().find("ü").unwrap()).unwrap() + 1, error.position);
    let declared: Vec<u8> = file.replace("UTF-8", "ISO-8859-1").chars().map(|letter| letter as u8).collect();
    assert_eq!(entries(None, declared).unwrap()[0].information.as_deref(), Some("Müller"));
    for label in ["UTF-16", "nonsense", "utf-7"] {
        assert_eq!(cause(file.replace("UTF-8", label)), Cause::WrongEncoding, "{label}");
    }
    let wide = |mark: bool, label: &str| -> Vec<u8> {
        let text = file.replace("UTF-8", label);
        let mark = if mark { vec![0xff, 0xfe] } else { vec![] };
        mark.into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    assert_eq!(entries(None, wide(true, "UTF-16")).unwrap()[0].information.as_deref(), Some("Müller"));
    assert_eq!(cause(wide(true, "UTF-8")), Cause::WrongEncoding);
    assert!(entries(None, wide(false, "UTF-16")).is_err());
    assert_eq!(cause(b"\x00\xff\x00\x01binary"), Cause::WrongFormat);
    assert_eq!(cause(b""), Cause::WrongFormat);
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for (right, wrong) in [
        ("</Ntry>", "</Entry>"),
        ("</Ntry>", ""),
        ("<Ntry>", "text<Ntry>"),
        ("<Sts>", "text<Sts>"),
        ("</Document>", "</Document><Document/>"),
        ("</Document>", "</Document>text"),
        ("<Ntry>", "<Ntry a=\"1\" a=\"2\">"),
        ("<Ntry>", "<x:Ntry>"),
        ("<Ntry>", "<?xml version=\"1.0\"?><Ntry>"),
        ("1.00</Amt>", "<Amt>1.00</Amt></Amt>"),
        ("<Acct>", "<Acct><Ntry/></Acct><Acct>"),
        ("<IBAN>DE89370400440532013000</IBAN>", ""),
    ] {
        assert!(good().contains(right), "{right}");
        let file = good().replacen(right, wrong, 1);
        let error = entries(None, &file);
        if wrong.contains("<Ntry/>") {
            continue;
        }
        let error = error.unwrap_err();
        assert!(matches!(error.cause, Cause::Malformed | Cause::Truncated), "{wrong}: {error}");
        assert!(error.line >= 1 && error.position >= 1);
    }
}

#[test]
fn a_refusal_says_where() {
    let rejection = domain::Rejection::from(entries(None, good().replace("CRDT", "BOTH")).unwrap_err());
    assert_eq!(rejection.reason, domain::Reason::StatementUnreadable);
    assert!(rejection.detail.starts_with("line 4, position "), "{rejection}");
}

#[test]
fn sums_of_the_largest_amounts_stop_nobody() {
    let charges = "<Chrgs><Amt Ccy=\"EUR\">999999999999999999</Amt></Chrgs>".repeat(limits::REPETITIONS_MAX);
    let largest = ntry("999999999999999999", "CRDT", &charges);
    let file = camt053("02", &format!("{}{}{}", balance("OPBD", "0", "CRDT"), balance("CLBD", "0", "CRDT"), largest.repeat(100)));
    assert_eq!(entries(None, file).unwrap().len(), 100);
    let many = ntry("9999999999999999.99", "DBIT", "").repeat(100_000);
    let file = camt053("02", &format!("{}{}{many}", balance("OPBD", "0", "CRDT"), balance("CLBD", "0", "CRDT")));
    assert_eq!(entries(None, file).unwrap().len(), 100_000);
    assert_eq!(cause(camt053("02", &ntry("9999999999999999999", "CRDT", ""))), Cause::InvalidAmount);
    let batch = "<NtryDtls><Btch><NbOfTxs>18446744073709551615</NbOfTxs></Btch></NtryDtls>".repeat(2);
    assert_eq!(entries(None, camt053("08", &ntry("1.00", "CRDT", &batch))).unwrap().len(), 1);
    let largest = "16,195,9999999999999999999999,Z,,,\n".repeat(10);
    assert_eq!(cause(bai2(largest.trim_end(), 0)), Cause::DoesNotAddUp);
    assert_eq!(cause("01,A,B,261102,1800,7,,,2/\n02,A,B,1,261102,,USD,2/\n03,1,,010,0,,/\n16,195,9,V,991301,,,/"), Cause::InvalidDate);
}
