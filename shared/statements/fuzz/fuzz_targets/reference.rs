//! ISO 11649 references: any text. What is found is valid and reads back as itself.
#![no_main]

use domain::CreditorReference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for reference in CreditorReference::find(text) {
        assert_eq!(reference.as_str().parse().ok().as_ref(), Some(&reference));
        assert_eq!(CreditorReference::find(&reference.printed()).first(), Some(&reference));
    }
    if let Ok(reference) = text.parse::<CreditorReference>() {
        assert!(!CreditorReference::find(reference.as_str()).is_empty());
    }
});
