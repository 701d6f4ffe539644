//! What the tests share.
#![allow(dead_code, reason = "each test uses a part")]

use statements::{Entry, Format, Reader, Unreadable};

/// A file of the tests.
pub fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All entries of a file, or why there are none.
pub fn entries(format: Option<Format>, file: impl AsRef<[u8]>) -> Result<Vec<Entry>, Unreadable> {
    Reader::new(format, file.as_ref())?.collect()
}

/// An entry of a camt.053 of version 08 with what is given within.
pub fn ntry(amount: &str, side: &str, rest: &str) -> String {
    format!(
        "<Ntry><Amt Ccy=\"EUR\">{amount}</Amt><CdtDbtInd>{side}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>\
         <BookgDt><Dt>2026-11-02</Dt></BookgDt><ValDt><Dt>2026-11-02</Dt></ValDt>{rest}</Ntry>"
    )
}

/// A camt.053 of a version with one statement.
pub fn camt053(version: &str, within: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}\">\
         <BkToCstmrStmt><GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-11-02T18:00:00</CreDtTm></GrpHdr>\n<Stmt><Id>S1</Id>\
         <Acct><Id><IBAN>DE89370400440532013000</IBAN></Id><Ccy>EUR</Ccy></Acct>\n{within}</Stmt></BkToCstmrStmt></Document>"
    )
}

/// A camt.054 of a version with one notification.
pub fn camt054(version: &str, within: &str) -> String {
    camt053(version, within)
        .replace("camt.053", "camt.054")
        .replace("BkToCstmrStmt", "BkToCstmrDbtCdtNtfctn")
        .replace("<Stmt>", "<Ntfctn>")
        .replace("</Stmt>", "</Ntfctn>")
}

/// A booked balance.
pub fn balance(code: &str, amount: &str, side: &str) -> String {
    format!(
        "<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy=\"EUR\">{amount}</Amt>\
         <CdtDbtInd>{side}</CdtDbtInd><Dt><Dt>2026-11-02</Dt></Dt></Bal>"
    )
}

/// A BAI2 file of one group and account around lines of details, with trailers that are right.
pub fn bai2(details: &str, units: i64) -> String {
    let lines = details.lines().count();
    format!(
        "01,BANK,FUND,261102,1800,7,,,2/\n02,FUND,BANK,1,261102,,USD,2/\n03,12345678,,010,0,,/\n{details}\n49,{units},{}/\n98,{units},1,{}/\n99,{units},1,{}/\n",
        lines + 2,
        lines + 4,
        lines + 6
    )
}
