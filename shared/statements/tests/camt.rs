//! camt.053 and camt.054: versions, statuses, batches, returns, sums.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::{balance, camt053, camt054, entries, ntry};
use statements::{Cause, Details, Entry, Format, Status};

fn read(file: &str) -> Vec<Entry> {
    entries(None, file).unwrap_or_else(|error| panic!("{error}\n{file}"))
}

fn refused(file: &str) -> statements::Unreadable {
    entries(None, file).unwrap_err()
}

const OLD: &str = "<Ntry><NtryRef>1</NtryRef><Amt Ccy=\"EUR\">100.50</Amt><CdtDbtInd>CRDT</CdtDbtInd><RvslInd>false</RvslInd><Sts>BOOK</Sts>\
    <BookgDt><DtTm>2026-11-02T23:30:00+01:00</DtTm></BookgDt><ValDt><Dt>2026-11-03</Dt></ValDt><AcctSvcrRef>REF1</AcctSvcrRef>\
    <BkTxCd><Prtry><Cd>166</Cd><Issr>DK</Issr></Prtry></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>E1</EndToEndId><TxId>T1</TxId></Refs>\
    <AmtDtls><InstdAmt><Amt Ccy=\"USD\">120.00</Amt></InstdAmt><TxAmt><Amt Ccy=\"EUR\">100.50</Amt></TxAmt></AmtDtls>\
    <RltdPties><Dbtr><Nm>Müller &amp; Söhne</Nm></Dbtr><DbtrAcct><Id><Othr><Id>123 456</Id></Othr></Id></DbtrAcct>\
    <UltmtDbtr><Nm>Trust 9</Nm></UltmtDbtr></RltdPties>\
    <RmtInf><Strd><CdtrRefInf><Ref>RF18539007547034</Ref></CdtrRefInf></Strd></RmtInf></TxDtls></NtryDtls><AddtlNtryInf>SEPA</AddtlNtryInf></Ntry>";

#[test]
fn old_and_new_versions_read_alike() {
    let new = OLD
        .replace("<Sts>BOOK</Sts>", "<Sts><Cd>BOOK</Cd></Sts>")
        .replace("<Dbtr><Nm>Müller &amp; Söhne</Nm></Dbtr>", "<Dbtr><Pty><Nm><![CDATA[Müller & Söhne]]></Nm></Pty></Dbtr>")
        .replace("<UltmtDbtr><Nm>Trust 9</Nm>", "<UltmtDbtr><Pty><Nm>Trust&#32;9</Nm></Pty>")
        .replace("<AmtDtls>", "<Amt Ccy=\"EUR\">100.50000</Amt><CdtDbtInd>CRDT</CdtDbtInd><AmtDtls>");
    let first = read(&camt053("02", OLD));
    for (version, entry) in [("03", OLD), ("04", OLD), ("06", OLD), ("08", &new), ("10", &new), ("13", &new)] {
        assert_eq!(read(&camt053(version, entry)), first, "{version}");
    }
    let entry = &first[0];
    assert_eq!((entry.amount.to_string().as_str(), entry.entry_id.as_str()), ("100.50", "REF1"));
    assert_eq!(entry.booked_on.unwrap().to_string(), "2026-11-02");
    assert_eq!(entry.code.proprietary.as_deref(), Some("166"));
    let transaction = &entry.transactions[0];
    assert_eq!(transaction.payer.name.as_deref(), Some("Müller & Söhne"));
    assert_eq!(transaction.payer.account.as_deref(), Some("123456"));
    assert_eq!(transaction.payer.ultimate_name.as_deref(), Some("Trust 9"));
    assert_eq!(transaction.references()[0].as_str(), "RF18539007547034");
    assert_eq!(transaction.instructed.unwrap().0.to_string(), "120.00");
    assert_eq!(entries(Some(Format::Camt054), camt054("08", &new)).unwrap()[0].identity(), entry.identity());
}

#[test]
fn other_versions_and_messages_are_refused_by_name() {
    for version in ["01", "00", "2", "008", "xx"] {
        let error = refused(&camt053(version, OLD));
        assert_eq!((error.cause, error.line), (Cause::WrongFormat, 2));
        assert!(error.what.contains(&format!("camt.053.001.{version}")), "{error}");
    }
    assert_eq!(entries(Some(Format::Camt054), camt053("08", OLD)).unwrap_err().cause, Cause::WrongFormat);
    assert_eq!(refused("<Document/>").cause, Cause::WrongFormat);
    assert_eq!(refused("<html><body/></html>").cause, Cause::WrongFormat);
    assert_eq!(refused(&camt053("08", OLD).replace("camt.053", "camt.052")).cause, Cause::WrongFormat);
}

#[test]
fn prefixes_wrappers_and_other_namespaces_are_understood() {
    let file = camt053("08", &ntry("1.00", "CRDT", ""));
    let body = file.split_once('\n').unwrap().1;
    assert_eq!(
        read(&format!("<Envelope><AppHdr xmlns=\"urn:x\"><Fr><A><B><C>text</C></B></A></Fr></AppHdr><Id>7</Id>{body}</Envelope>")).len(),
        1
    );
    assert_eq!(read(&format!("\u{feff}<!-- a bank's -->\n{body}")).len(), 1);
    let prefixed = body.replace("xmlns=", "xmlns:b=").replace("</", "</b:").replace('<', "<b:").replace("<b:/b:", "</b:");
    assert_eq!(read(&prefixed).len(), 1);
    assert_eq!(read(&format!("<!-- not a camt.054.001.08 -->{body}")).len(), 1);
    let foreign = body.replace("<Ntry>", "<x:Ntry xmlns:x=\"urn:x\"><x:Amt>9</x:Amt></x:Ntry><Ntry>");
    assert_eq!(read(&foreign).len(), 1);
}

#[test]
fn statuses_are_kept_apart() {
    let with = |status: &str| ntry("1.00", "CRDT", "").replace("<Cd>BOOK</Cd>", status);
    for (status, expected) in [
        ("<Cd>PDNG</Cd>", Status::Pending),
        ("PDNG", Status::Pending),
        ("<Cd>FUTR</Cd>", Status::Pending),
        ("<Cd>INFO</Cd>", Status::Information),
        ("<Prtry>HELD</Prtry>", Status::Information),
        ("BOOK", Status::Booked),
    ] {
        let entry = &read(&camt053("08", &with(status)))[0];
        assert_eq!((entry.status, entry.is_cash()), (expected, expected == Status::Booked), "{status}");
    }
    assert_eq!(refused(&camt053("08", &with("<Cd>WHAT</Cd>"))).cause, Cause::Malformed);
}

#[test]
fn pending_and_then_booked_is_one() {
    let plain = ntry("70.00", "CRDT", "<NtryDtls><TxDtls><Refs><EndToEndId>E7</EndToEndId></Refs></TxDtls></NtryDtls>");
    let pending = plain.replace("BOOK", "PDNG").replace("<BookgDt><Dt>2026-11-02</Dt></BookgDt>", "");
    let apart = (read(&camt054("08", &pending)), read(&camt053("08", &plain)));
    assert_eq!(apart.0[0].identity(), apart.1[0].identity());
    let together = read(&camt053("08", &format!("{pending}{plain}")));
    assert_eq!(together[0].identity(), together[1].identity());
}

#[test]
fn equal_entries_of_one_statement_stay_two() {
    let same = ntry("5.00", "CRDT", "");
    let twice = read(&camt053("08", &format!("{same}{same}")));
    assert!(!twice[0].identity().same_as(twice[1].identity()));
    let once = read(&camt054("08", &same));
    assert!(once[0].identity().same_as(twice[0].identity()));
    assert_ne!(twice[0].entry_id, twice[1].entry_id);
    let referenced = ntry("5.00", "CRDT", "<AcctSvcrRef>X</AcctSvcrRef>");
    let charges = ntry("5.00", "DBIT", "<AcctSvcrRef>X</AcctSvcrRef>");
    let both = read(&camt053("08", &format!("{referenced}{charges}")));
    assert!(!both[0].identity().same_as(both[1].identity()));
    // one of the two files has the reference, the other has not
    assert!(once[0].identity().same_as(both[0].identity()));
}

fn batch(amounts: &[&str], rest: &str) -> String {
    let transactions: String = amounts
        .iter()
        .enumerate()
        .map(|(n, amount)| format!("<TxDtls><Refs><EndToEndId>E{n}</EndToEndId></Refs><Amt Ccy=\"EUR\">{amount}</Amt>{rest}</TxDtls>"))
        .collect();
    format!("<NtryDtls><Btch><NbOfTxs>{}</NbOfTxs></Btch>{transactions}</NtryDtls>", amounts.len())
}

#[test]
fn a_batch_gives_all_its_transactions_and_says_how_they_add_up() {
    let details = |amount: &str, side: &str, rest: &str| read(&camt053("08", &ntry(amount, side, rest)))[0].details;
    let three = batch(&["10.00", "20.00", "30.00"], "");
    let entry = &read(&camt053("08", &ntry("60.00", "CRDT", &three)))[0];
    assert_eq!((entry.transactions.len(), entry.details), (3, Details::Complete));
    assert_eq!(entry.transactions[2].end_to_end_id.as_deref(), Some("E2"));
    assert_eq!(details("59.00", "CRDT", &three), Details::Differ);
    let charged = batch(&["10.00", "20.00"], "<Chrgs><Rcrd><Amt Ccy=\"EUR\">0.50</Amt></Rcrd></Chrgs>");
    assert_eq!(details("29.00", "CRDT", &charged), Details::NetOfCharges);
    assert_eq!(details("31.00", "DBIT", &charged), Details::NetOfCharges);
    assert_eq!(details("30.00", "DBIT", &charged), Details::Complete);
    let old_charges = format!("<Chrgs><Amt Ccy=\"EUR\">2.00</Amt></Chrgs>{}", batch(&["10.00", "20.00"], ""));
    assert_eq!(details("28.00", "CRDT", &old_charges), Details::NetOfCharges);
    assert_eq!(details("60.00", "CRDT", &three.replace("<NbOfTxs>3", "<NbOfTxs>4")), Details::Partial);
    assert_eq!(details("60.00", "CRDT", "<NtryDtls><Btch><NbOfTxs>9</NbOfTxs></Btch></NtryDtls>"), Details::Partial);
    assert_eq!(details("60.00", "CRDT", ""), Details::Absent);
    assert_eq!(details("60.00", "CRDT", &three.replace("Ccy=\"EUR\">30", "Ccy=\"USD\">30")), Details::Partial);
    let opposite =
        batch(&["10.00", "4.00"], "").replacen("<Amt Ccy=\"EUR\">4.00</Amt>", "<Amt Ccy=\"EUR\">4.00</Amt><CdtDbtInd>DBIT</CdtDbtInd>", 1);
    assert_eq!(details("6.00", "CRDT", &opposite), Details::Complete);
}

#[test]
fn a_reversal_and_a_return_reason_are_told() {
    let reversal = ntry("5.00", "DBIT", "").replace("<Sts>", "<RvslInd>true</RvslInd><Sts>");
    let entry = &read(&camt053("08", &reversal))[0];
    assert!(entry.reversal && entry.is_return() && !entry.credit);
    let returned = "<NtryDtls><TxDtls><Refs><EndToEndId>E1</EndToEndId></Refs><RtrInf><Rsn><Prtry>X1</Prtry></Rsn>\
                    <AddtlInf>closed</AddtlInf><AddtlInf>since May</AddtlInf></RtrInf></TxDtls></NtryDtls>";
    let entry = &read(&camt053("02", &ntry("5.00", "DBIT", returned)))[0];
    let reason = entry.transactions[0].return_reason.as_ref().unwrap();
    assert_eq!((reason.code.as_deref(), reason.text.as_deref()), (Some("X1"), Some("closed since May")));
    assert!(entry.is_return());
}

#[test]
fn it_is_told_when_balances_and_entries_do_not_agree() {
    let statement = |opening: &str, closing: &str, entries: &str| {
        camt053("08", &format!("{}{}{entries}", balance("OPBD", opening, "CRDT"), balance("CLBD", closing, "CRDT")))
    };
    let pair = format!("{}{}", ntry("30.00", "CRDT", ""), ntry("10.00", "DBIT", ""));
    assert_eq!(read(&statement("100.00", "120.00", &pair)).len(), 2);
    let pending = ntry("7.00", "CRDT", "").replace("BOOK", "PDNG");
    assert_eq!(read(&statement("100.00", "120.00", &format!("{pair}{pending}"))).len(), 3);
    let told = |file: &str| {
        let outcome = statements::read::<statements::Unreadable>(None, file.as_bytes(), &mut |_| Ok(())).unwrap();
        outcome.discrepancies.first().map(|discrepancy| (discrepancy.cause, discrepancy.line))
    };
    assert_eq!(told(&statement("100.00", "120.00", &pair)), None);
    assert_eq!(told(&statement("100.00", "121.00", &pair)), Some((Cause::DoesNotAddUp, 3)));
    let overdrawn = format!("{}{}{}", balance("PRCD", "5.00", "DBIT"), balance("CLBD", "35.00", "DBIT"), ntry("30.00", "DBIT", ""));
    assert_eq!(told(&camt053("02", &overdrawn)), None);
    let page =
        statement("100.00", "999.00", &pair).replace("<Acct>", "<StmtPgntn><PgNb>1</PgNb><LastPgInd>false</LastPgInd></StmtPgntn><Acct>");
    assert_eq!(told(&page), None);
}

#[test]
fn counts_and_sums_of_the_summary_must_be_right() {
    let summary = |entries: u32, sum: &str| {
        format!(
            "<TxsSummry><TtlNtries><NbOfNtries>{entries}</NbOfNtries><Sum>{sum}</Sum></TtlNtries></TxsSummry>{}",
            ntry("5.00", "CRDT", "")
        )
    };
    assert_eq!(read(&camt053("08", &summary(1, "5"))).len(), 1);
    assert_eq!(refused(&camt053("08", &summary(2, "5.00"))).cause, Cause::DoesNotAddUp);
    assert_eq!(refused(&camt053("08", &summary(1, "6.00"))).cause, Cause::DoesNotAddUp);
}

#[test]
fn amounts_and_dates_are_read_strictly() {
    for bad in ["-1.00", "1,00", "1.001", "1e3", "", "NaN", "1.2.3", ".", "12345678901234567890123"] {
        assert_eq!(refused(&camt053("08", &ntry(bad, "CRDT", ""))).cause, Cause::InvalidAmount, "{bad}");
    }
    for (good, expected) in [("1", "1.00"), ("1.5", "1.50"), ("+1.50000", "1.50"), (".5", "0.50"), ("5.", "5.00"), ("0", "0.00")] {
        assert_eq!(read(&camt053("08", &ntry(good, "CRDT", "")))[0].amount.to_string(), expected, "{good}");
    }
    let yen = ntry("100.5", "CRDT", "").replace("EUR", "JPY");
    assert_eq!(refused(&camt053("08", &yen)).cause, Cause::InvalidAmount);
    assert_eq!(refused(&camt053("08", &ntry("1.00", "CRDT", "").replace("EUR", "ZZZ"))).cause, Cause::InvalidAmount);
    assert_eq!(refused(&camt053("08", &ntry("1.00", "CRDT", "").replace(" Ccy=\"EUR\"", ""))).cause, Cause::Malformed);
    for bad in ["2026-13-01", "20261102", "02.11.2026", "9999-01-01", "2026-02-30", "2026-11-02x"] {
        assert_eq!(refused(&camt053("08", &ntry("1.00", "CRDT", "").replace("2026-11-02", bad))).cause, Cause::InvalidDate, "{bad}");
    }
    for (time, reads) in [("23:59:59", true), ("24:00:00", true), ("00:00:00.5+01:00", true), ("25:61:00", false), ("noon", false)] {
        let dated = ntry("1.00", "CRDT", "").replace("<BookgDt><Dt>2026-11-02</Dt>", &format!("<BookgDt><DtTm>2026-11-02T{time}</DtTm>"));
        assert_eq!(entries(None, camt053("08", &dated)).is_ok(), reads, "{time}");
    }
    for once in ["<CdtDbtInd>CRDT</CdtDbtInd>", "<Sts><Cd>BOOK</Cd></Sts>", "<Amt Ccy=\"EUR\">1.00</Amt>"] {
        for times in [0, 2] {
            let error = refused(&camt053("08", &ntry("1.00", "CRDT", "").replace(once, &once.repeat(times))));
            assert_eq!((error.cause, error.line), (Cause::Malformed, 4), "{once} {times} times");
        }
    }
}

#[test]
fn a_word_for_no_reference_is_none() {
    let entry = &read(&camt053(
        "08",
        &ntry("1.00", "CRDT", "<NtryRef>7</NtryRef><AcctSvcrRef>NONREF</AcctSvcrRef><AddtlNtryInf>for RF712348231</AddtlNtryInf>"),
    ))[0];
    assert_eq!((entry.identity().reference.as_deref(), entry.entry_id.as_str()), (None, "7"));
    assert_eq!(entry.transactions[0].references()[0].as_str(), "RF712348231");
    assert_eq!(entry.details, Details::Absent);
}

#[test]
fn a_message_without_a_statement_is_refused() {
    let file = camt053("08", "");
    assert!(read(&file).is_empty());
    let from = file.find("<Stmt>").unwrap();
    let until = file.find("</Stmt>").unwrap() + "</Stmt>".len();
    assert_eq!(refused(&format!("{}{}", &file[..from], &file[until..])).cause, Cause::WrongFormat);
}

#[test]
fn marks_that_nobody_sees_do_not_hide_a_reference() {
    let text = "<NtryDtls><TxDtls><RmtInf><Ustrd>RF18\u{200b}5390\n0754\u{202e}7034 für</Ustrd></RmtInf></TxDtls></NtryDtls>";
    let transaction = &read(&camt053("08", &ntry("1.00", "CRDT", text)))[0].transactions[0];
    assert_eq!(transaction.remittance.as_deref(), Some("RF185390 07547034 für"));
    assert_eq!(transaction.references()[0].as_str(), "RF18539007547034");
}
