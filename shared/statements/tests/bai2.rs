//! BAI2: fields, continuations, funds types, control totals, counts.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::{bai2, entries};
use statements::{Cause, Entry, Status};

fn read(file: &str) -> Vec<Entry> {
    entries(None, file).unwrap_or_else(|error| panic!("{error}\n{file}"))
}

fn cause(file: &str) -> Cause {
    entries(None, file).unwrap_err().cause
}

/// After the example of the specification's appendix: summaries split at any field, the funds types S, V, 1 and D.
const EXAMPLE: &str = "01,122099999,123456789,040621,0200,1,65,,2/
02,031001234,122099999,1,040620,2359,,2/
03,0123456789,,010,+4350000,,,040,2830000,,/
88,072,1020000,,,074,500000,,/
16,115,450000,S,100000,200000,150000,,,/
49,9150000,4/
03,9876543210,,010,-500000,,,100,1000000,,,400,2000000,,,190/
88,500000,,,110,1000000,,,072,500000,,,074,500000,,,040/
88,-1500000,,/
16,115,500000,S,,200000,300000,,,LOCK BOX NO.68751/
49,4000000,5/
98,13150000,2,11/
02,053003456,122099999,1,040620,2359,,2/
03,4589761203,,010,10000000,,,040,5000000,,,074,4000000,,/
88,400,50000000,,,100,60000000,,,110,20000000,,,072,1000000,,/
16,218,20000000,V,040622,,SP4738,YRC065321/
88,PROCEEDS OF LETTER OF CREDIT FROM THE ARAMCO OIL CO/
16,195,10000000,1,,,/
49,180000000,6/
98,180000000,1,8/
02,071207890,122099999,1,040620,2359,,2/
03,0975312468,,010,500000,,,190,70000000,4,0,110/
88,70000000,15,D,3,0,20000000,1,30000000,3,20000000/
49,140500000,3/
98,140500000,1,5/
99,333650000,3,26/
";

#[test]
fn the_example_of_the_specification_is_read_in_full() {
    let entries = read(EXAMPLE);
    assert_eq!(entries.iter().map(|entry| entry.amount.to_string()).collect::<Vec<_>>(), ["4500.00", "5000.00", "200000.00", "100000.00"]);
    assert_eq!(entries[1].transactions[0].remittance.as_deref(), Some("LOCK BOX NO.68751"));
    let letter = &entries[2];
    assert_eq!(letter.value_on.unwrap().to_string(), "2004-06-22");
    assert_eq!(letter.booked_on.unwrap().to_string(), "2004-06-20");
    assert_eq!((letter.entry_id.as_str(), letter.transactions[0].end_to_end_id.as_deref()), ("SP4738", Some("YRC065321")));
    assert_eq!(letter.transactions[0].remittance.as_deref(), Some("PROCEEDS OF LETTER OF CREDIT FROM THE ARAMCO OIL CO"));
    assert_eq!((letter.line, letter.account.id.as_str()), (16, "4589761203"));
    assert_eq!(letter.account.servicer.as_deref(), Some("122099999"));
}

#[test]
fn a_detail_may_be_continued_at_any_field_and_in_its_text() {
    let whole = read(&bai2("16,195,1234,V,261103,,B1,C1,RF18 5390 0754 7034 from the fund", 1234));
    for parts in [
        "16,195,1234/\n88,V,261103,,B1,C1,RF18 5390 0754 7034 from the fund/",
        "16,195,1234,V,261103/\n88,,B1/\n88,C1,RF18 5390\n88,0754 7034\n88,from the fund /",
        "16,195,1234,V,261103,,B1,C1/\n88,RF18 5390 0754 7034 from the fund",
    ] {
        let split = read(&bai2(parts, 1234));
        assert_eq!(split, whole, "{parts}");
    }
    assert_eq!(whole[0].transactions[0].references()[0].as_str(), "RF18539007547034");
    let slashes = read(&bai2("16,195,5,,AB/GS/1,08/18/23,paid 08/18/23, thanks", 5));
    assert_eq!(slashes[0].transactions[0].remittance.as_deref(), Some("paid 08/18/23, thanks"));
    assert_eq!(slashes[0].entry_id, "AB/GS/1");
}

#[test]
fn a_payers_text_cannot_be_a_record() {
    let forged = read(&bai2("16,195,100,Z,B1,,thanks/ 16,195,900,Z,B2,,mine/", 100));
    assert_eq!(forged.len(), 1);
    assert_eq!(forged[0].amount.to_string(), "1.00");
}

#[test]
fn types_give_direction_and_status() {
    for (kind, credit, reversal) in
        [(195, true, false), (495, false, false), (257, true, true), (557, false, true), (552, false, true), (930, true, false)]
    {
        let entry = &read(&bai2(&format!("16,{kind},100,0,B,,"), 100))[0];
        assert_eq!((entry.credit, entry.reversal, entry.is_return()), (credit, reversal, reversal), "{kind}");
        assert_eq!(entry.value_on.unwrap().to_string(), "2026-11-02");
        assert_eq!(entry.code.proprietary.as_deref(), Some(kind.to_string().as_str()));
    }
    assert_eq!(read(&bai2("16,890,,,,,SOME NEWS", 0))[0].status, Status::Information);
    for bad in ["16,040,1,Z,,,", "16,750,1,Z,,,", "16,19,1,Z,,,", "16,,1,Z,,,", "16,abc,1,,,,"] {
        assert_eq!(cause(&bai2(bad, 1)), Cause::Malformed, "{bad}");
    }
    let interim = bai2("16,195,100,Z,,,", 100).replace("USD,2/\n03", "USD,3/\n03");
    assert_eq!(read(&interim)[0].status, Status::Pending);
}

#[test]
fn amounts_are_in_the_minor_units_of_their_account() {
    for (currency, expected) in [("JPY", "1234"), ("USD", "12.34"), ("KWD", "1.234"), ("", "12.34")] {
        let file = bai2("16,195,1234,Z,,,", 1234).replace("03,12345678,", &format!("03,12345678,{currency}"));
        assert_eq!(read(&file)[0].amount.to_string(), expected, "{currency}");
    }
    let group = bai2("16,195,1234,Z,,,", 1234).replace("USD", "JPY");
    assert_eq!(read(&group)[0].currency.code(), "JPY");
    for bad in ["16,195,12.34,Z,,,", "16,195,-1234,Z,,,", "16,195,1e3,Z,,,", "16,195,12345678901234567890123,Z,,,"] {
        assert_eq!(cause(&bai2(bad, -1234)), Cause::InvalidAmount, "{bad}");
    }
    assert_eq!(cause(&bai2("16,195,100,S,1,2,3,,,", 100)), Cause::DoesNotAddUp);
    assert_eq!(cause(&bai2("16,195,100,Q,,,", 100)), Cause::Malformed);
    assert_eq!(cause(&bai2("16,195,100,V,261302,,,,", 100)), Cause::InvalidDate);
}

#[test]
fn every_control_total_and_count_must_be_right() {
    let good = bai2("16,195,100,Z,,,\n16,495,40,Z,,,", 140);
    assert_eq!(read(&good).len(), 2);
    for (right, wrong) in [
        ("49,140,4/", "49,141,4/"),
        ("49,140,4/", "49,140,5/"),
        ("98,140,1,6/", "98,139,1,6/"),
        ("98,140,1,6/", "98,140,2,6/"),
        ("98,140,1,6/", "98,140,1,7/"),
        ("99,140,1,8/", "99,0,1,8/"),
        ("99,140,1,8/", "99,140,3,8/"),
        ("99,140,1,8/", "99,140,1,80/"),
    ] {
        assert!(good.contains(right));
        assert_eq!(cause(&good.replace(right, wrong)), Cause::DoesNotAddUp, "{wrong}");
    }
    for (right, wrong) in [("16,495,40,Z,,,\n", ""), ("16,495,40,Z,,,\n", "16,495,41,Z,,,\n"), ("03,12345678,,010,0", "03,12345678,,010,7")]
    {
        assert_eq!(cause(&good.replace(right, wrong)), Cause::DoesNotAddUp, "{right}");
    }
}

#[test]
fn records_must_stand_where_they_belong() {
    let good = bai2("16,195,100,Z,,,", 100);
    for (right, wrong, expected) in [
        ("03,12345678,,010,0,,/\n", "", Cause::Malformed),
        ("02,FUND,BANK,1,261102,,USD,2/\n", "", Cause::Malformed),
        ("98,100,1,5/\n", "", Cause::Malformed),
        ("16,", "17,", Cause::Malformed),
        ("16,", "free text ", Cause::Malformed),
        ("02,FUND,BANK,1", "02,FUND,BANK,2", Cause::WrongFormat),
        ("02,FUND,BANK,1", "02,FUND,BANK,4", Cause::WrongFormat),
        (",7,,,2/", ",7,,,3/", Cause::WrongFormat),
        ("99,100,1,7/", "99,100,1,7", Cause::Malformed),
        ("261102,,USD", "261102,,XXQ", Cause::InvalidAmount),
        ("99,100,1,7/\n", "99,100,1,7/\n99,100,1,7/\n", Cause::Malformed),
    ] {
        assert!(good.contains(right), "{right}");
        assert_eq!(cause(&good.replacen(right, wrong, 1)), expected, "{wrong}");
    }
    let with_ends = good.replace('\n', "\r\n") + "\r\n \r\n";
    assert_eq!(read(&with_ends)[0].amount.to_string(), "1.00");
    assert_eq!(read(&format!("{good}{good}")).len(), 2);
}
