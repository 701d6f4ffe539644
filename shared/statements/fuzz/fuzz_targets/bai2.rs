//! BAI2: any bytes. A file that is read must not be readable when its last character is missing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statements::{Entry, Format, Reader, Unreadable};

fn read(file: &[u8]) -> Result<Vec<Entry>, Unreadable> {
    Reader::new(Some(Format::Bai2), file)?.collect()
}

fuzz_target!(|file: &[u8]| {
    if read(file).is_ok() {
        let text = String::from_utf8_lossy(file);
        let whole = text.trim_end().as_bytes();
        assert!(read(&whole[..whole.len() - 1]).is_err());
    }
});
