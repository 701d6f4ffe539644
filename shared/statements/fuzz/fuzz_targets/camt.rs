//! camt.053 and camt.054: any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statements::{Format, Reader};

fuzz_target!(|file: &[u8]| {
    for format in [None, Some(Format::Camt053), Some(Format::Camt054)] {
        let Ok(reader) = Reader::new(format, file) else { continue };
        for entry in reader {
            match entry {
                Ok(entry) => {
                    assert!(!entry.transactions.is_empty() && !entry.identity().content.is_empty());
                    assert!(entry.amount >= domain::Amount::ZERO);
                    entry.transactions.iter().for_each(|transaction| drop(transaction.references()));
                }
                Err(error) => assert!(error.line >= 1 && error.position >= 1),
            }
        }
    }
});
