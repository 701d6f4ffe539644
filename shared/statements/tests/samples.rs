//! Files by others: the third-party samples, and what the mock bank wrote.

mod common;

use common::{data, entries};
use statements::{Cause, Details, Entry, Format, Status, detect};

fn read(name: &str) -> Vec<Entry> {
    entries(None, data(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn amounts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{}{}", if entry.credit { "" } else { "-" }, entry.amount)).collect()
}

#[test]
fn the_sepa_statement_is_read_in_full() {
    let entries = read("camt.053.001.08-sepa-statement.xml");
    assert_eq!(amounts(&entries), ["-12500.00", "98750.00"]);
    let paid = &entries[0];
    assert_eq!(paid.account.id, "NL91ABNA0417164300");
    assert_eq!(paid.account.name.as_deref(), Some("Example Company BV"));
    assert_eq!(paid.account.servicer.as_deref(), Some("ABNANL2A"));
    assert_eq!((paid.entry_id.as_str(), paid.status, paid.details), ("BK0000000001", Status::Booked, Details::Complete));
    assert_eq!(paid.code.sub_family.as_deref(), Some("ESCT"));
    assert_eq!(paid.booked_on.unwrap().to_string(), "2026-08-19");
    let transaction = &paid.transactions[0];
    assert_eq!(transaction.end_to_end_id.as_deref(), Some("INV-10042"));
    assert_eq!(transaction.payee.name.as_deref(), Some("Northern Supplies GmbH"));
    assert_eq!(transaction.payee.account.as_deref(), Some("DE89370400440532013000"));
    assert_eq!(transaction.amount.unwrap().to_string(), "12500.00");
    assert_eq!(entries[1].transactions[0].payer.name.as_deref(), Some("Pacific Imports GmbH"));
    assert_eq!((paid.line, entries[1].line), (30, 54));
    assert_eq!(paid.position, 7);
}

#[test]
fn it_is_told_that_the_sepa_statement_is_abridged() {
    let file = data("camt.053.001.08-sepa-statement.xml");
    let outcome = statements::read::<statements::Unreadable>(None, file.as_slice(), &mut |_| Ok(())).unwrap();
    assert_eq!(outcome.entries, 2);
    assert_eq!(outcome.discrepancies[0].cause, Cause::DoesNotAddUp);
    for name in ["camt.053-day-of-payments.xml", "camt.053-day-of-return.xml", "camt.053-empty-day.xml"] {
        let file = data(&format!("mock-bank/{name}"));
        let outcome = statements::read::<statements::Unreadable>(None, file.as_slice(), &mut |_| Ok(())).unwrap();
        assert_eq!(outcome.discrepancies, [], "{name}");
    }
}

#[test]
fn the_first_bai2_sample_is_read_in_full() {
    let entries = read("bai2-sample1.txt");
    assert_eq!(entries.len(), 17);
    assert_eq!(entries[0].transactions[0].remittance.as_deref(), Some("RETURNED CHEQUE"));
    assert_eq!((entries[0].amount.to_string().as_str(), entries[0].credit, entries[0].currency.code()), ("25.00", false, "CAD"));
    assert_eq!(entries[0].value_on.unwrap().to_string(), "2006-03-16");
    assert_eq!(entries[0].account.id, "10200123456");
    assert_eq!(entries.iter().filter(|entry| entry.credit).count(), 5);
}

#[test]
fn the_bai2_sample_with_records_run_together_is_read_in_full() {
    let entries = read("bai2-sample3.txt");
    assert_eq!(entries.len(), 26);
    let billing = entries.iter().find(|entry| entry.amount.to_string() == "275.00").unwrap();
    assert_eq!(billing.transactions[0].remittance.as_deref(), Some("Visa Billing FTSRE Sept 22"));
    assert_eq!(entries[3].transactions[0].remittance.as_deref(), Some("111111 ACH_SETL 1111111111 111111111111111 1111111111"));
}

#[test]
fn a_payment_order_is_no_statement() {
    let refused = entries(None, data("pain.001.001.09-remittance-parties.xml")).unwrap_err();
    assert_eq!(refused.cause, Cause::WrongFormat);
    assert!(refused.what.contains("pain.001.001.09"), "{refused}");
}

#[test]
fn the_format_is_told_by_the_first_bytes() {
    for (name, format) in [
        ("camt.053.001.08-sepa-statement.xml", Some(Format::Camt053)),
        ("mock-bank/camt.054-payment-returned.xml", Some(Format::Camt054)),
        ("bai2-sample1.txt", Some(Format::Bai2)),
        ("bai2-sample3.txt", Some(Format::Bai2)),
        ("pain.001.001.09-remittance-parties.xml", None),
        ("README.md", None),
    ] {
        assert_eq!(detect(&data(name)), format, "{name}");
    }
}

#[test]
fn what_a_notification_told_is_known_again_in_the_statement() {
    let told: Vec<Entry> =
        ["payments-settled", "money-arrived"].iter().flat_map(|name| read(&format!("mock-bank/camt.054-{name}.xml"))).collect();
    let stated = read("mock-bank/camt.053-day-of-payments.xml");
    assert_eq!((told.len(), stated.len()), (3, 3));
    for (told, stated) in told.iter().zip(&stated) {
        assert!(told.identity().same_as(stated.identity()));
        assert_eq!(told.identity(), stated.identity());
    }
    let mut all: Vec<_> = stated.iter().map(Entry::identity).collect();
    all.dedup();
    assert_eq!(all.len(), 3);
    assert!(read("mock-bank/camt.053-empty-day.xml").is_empty());
}

#[test]
fn a_reference_that_the_bank_cut_over_two_lines_is_found() {
    let arrived = &read("mock-bank/camt.054-money-arrived.xml")[0];
    assert!(arrived.credit && arrived.is_cash() && !arrived.is_return());
    assert_eq!(arrived.transactions[0].references()[0].as_str(), "RF18539007547034");
    assert_eq!(arrived.transactions[0].payer.name.as_deref(), Some("Pension Fund North"));
}

#[test]
fn a_payment_that_is_returned_later_names_the_one_it_was() {
    let paid = read("mock-bank/camt.054-payments-settled.xml");
    let (told, stated) = (read("mock-bank/camt.054-payment-returned.xml"), read("mock-bank/camt.053-day-of-return.xml"));
    let (told, stated) = (&told[0], &stated[0]);
    assert!(told.credit && told.is_return());
    assert_eq!(told.identity(), stated.identity());
    let reason = told.transactions[0].return_reason.as_ref().unwrap();
    assert_eq!(reason.code.as_deref(), Some("AC04"));
    assert_eq!(told.transactions[0].end_to_end_id, paid[1].transactions[0].end_to_end_id);
    assert!(!told.identity().same_as(paid[1].identity()));
}

#[test]
fn the_mock_banks_bai2_is_read() {
    let entries = read("mock-bank/bai2-money-arrived.txt");
    assert_eq!(amounts(&entries), ["10000.00", "2500.00"]);
    assert!(entries.iter().all(|entry| entry.is_cash()));
}
