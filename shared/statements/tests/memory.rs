//! A file of 100 MB in bounded memory. A test of its own process, so that it sees its own peak.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::io::{BufReader, Read};

use statements::{Format, Reader, Unreadable};

const BYTES: usize = 100 << 20;

/// The peak of the process's memory beyond what it had, in kB: the hashes of 180,000 entries and some buffers.
const GROWTH_MAX: u64 = 32 << 10;

/// Bytes made as they are read: a head, entries, a tail.
struct Made {
    entry: fn(usize) -> String,
    tail: Option<String>,
    piece: Vec<u8>,
    given: usize,
    made: usize,
    number: usize,
}

impl Read for Made {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.piece.len() {
            self.piece = if self.made < BYTES {
                self.number += 1;
                (self.entry)(self.number).into_bytes()
            } else {
                self.tail.take().unwrap_or_default().into_bytes()
            };
            (self.given, self.made) = (0, self.made + self.piece.len());
        }
        let count = buffer.len().min(self.piece.len() - self.given);
        buffer[..count].copy_from_slice(&self.piece[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

fn made(head: &str, entry: fn(usize) -> String, tail: &str) -> Made {
    Made { entry, tail: Some(tail.into()), piece: head.into(), given: 0, made: head.len(), number: 0 }
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn count(format: Option<Format>, made: Made) -> usize {
    let entries: Result<Vec<()>, Unreadable> = Reader::new(format, BufReader::new(made)).unwrap().map(|entry| entry.map(|_| ())).collect();
    entries.unwrap().len()
}

fn ntry(number: usize) -> String {
    format!(
        "<Ntry><Amt Ccy=\"EUR\">1250.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-02</Dt></BookgDt>\n\
         <ValDt><Dt>2026-11-02</Dt></ValDt><AcctSvcrRef>BANK{number}</AcctSvcrRef><BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd>\
         <SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>E{number}</EndToEndId></Refs>\n\
         <RltdPties><Dbtr><Pty><Nm>Investor {number}</Nm></Pty></Dbtr><DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct></RltdPties>\
         <RmtInf><Ustrd>Capital call 7 RF18 5390 0754 7034</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>\n"
    )
}

#[test]
fn a_hundred_megabytes_are_read_in_bounded_memory() {
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\"><BkToCstmrStmt>\
                <GrpHdr><MsgId>M</MsgId></GrpHdr><Stmt><Id>S</Id><Acct><Id><IBAN>DE89370400440532013000</IBAN></Id></Acct>";
    let before = peak();
    let read = count(None, made(head, ntry, "</Stmt></BkToCstmrStmt></Document>"));
    let growth = peak() - before;
    println!("{read} entries, the peak grew by {growth} kB");
    assert!(read > 130_000, "{read} entries");
    assert!(growth < GROWTH_MAX, "the peak grew by {growth} kB");
}
