//! Creditor references of ISO 11649: `RF`, two check digits, and up to 21 letters and digits. A payer puts it
//! into the remittance information, and the payment is known by it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::messages::capital_calls::RECEIPT_PARTS_MAX;
use crate::rejection::{Reason, Rejection};

/// Most characters after the check digits.
const BODY_MAX: usize = 21;

/// Characters before it: `RF` and two digits.
const HEAD: usize = 4;

/// Bits of an id that 21 characters in base 36 hold (36^21 > 2^108).
const ID_BITS: u32 = 108;

/// Most references that are looked for in one text: one more than a receipt has parts, so that more than it can have are seen.
const FOUND_MAX: usize = RECEIPT_PARTS_MAX + 1;

/// An ISO 11649 creditor reference, in its electronic form: upper case, no blanks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreditorReference(String);

impl CreditorReference {
    /// The reference of a call line, always the same for the same id: the first 108 of the 122 bits of the UUID that
    /// are not its version and variant, as 21 digits in base 36. Of a time-ordered id (v7) these are its millisecond and
    /// 60 random bits, so that two lines of one millisecond share a reference once in 10^18.
    pub fn of(line_id: Uuid) -> Self {
        let bits = line_id.as_u128();
        let (high, middle, low) = (bits >> 80, (bits >> 64) & 0xfff, bits & ((1 << 62) - 1));
        let mut rest = ((high << 74) | (middle << 62) | low) >> (122 - ID_BITS);
        let mut body = [b'0'; BODY_MAX];
        for place in body.iter_mut().rev() {
            *place = digit(rest % 36);
            rest /= 36;
        }
        let body: String = body.iter().map(|&byte| char::from(byte)).collect();
        let check = 98 - remainder(body.bytes().chain(*b"RF00"));
        CreditorReference(format!("RF{check:02}{body}"))
    }

    /// The first and the last id (v7) of call lines that have this reference; none where it cannot be a line's.
    pub fn line_ids(&self) -> Option<(Uuid, Uuid)> {
        let body = &self.0[HEAD..];
        if body.len() != BODY_MAX {
            return None;
        }
        let bits = u128::from_str_radix(body, 36).ok().filter(|bits| *bits < 1 << ID_BITS)?;
        let id = |bits: u128| {
            let (high, middle, low) = (bits >> 74, (bits >> 62) & 0xfff, bits & ((1 << 62) - 1));
            Uuid::from_u128(high << 80 | 7 << 76 | middle << 64 | 2 << 62 | low)
        };
        let first = bits << (122 - ID_BITS);
        Some((id(first), id(first | ((1 << (122 - ID_BITS)) - 1))))
    }

    /// The electronic form, for messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The printed form, in groups of four, for notices.
    pub fn printed(&self) -> String {
        let groups: Vec<String> = self.0.as_bytes().chunks(4).map(|group| group.iter().map(|&byte| char::from(byte)).collect()).collect();
        groups.join(" ")
    }

    /// The references within a free text, in its order, each once. Blanks, line ends and hyphens within one are passed over;
    /// where it ends is told by the check digits: a reference of the full length first, then the longest that ends with a word.
    pub fn find(text: &str) -> Vec<CreditorReference> {
        let letters: Vec<char> = text.chars().collect();
        let (mut found, mut from) = (Vec::new(), 0);
        while from + HEAD < letters.len() && found.len() < FOUND_MAX {
            match begins(&letters[from..]) {
                Some((reference, length)) => {
                    if !found.contains(&reference) {
                        found.push(reference);
                    }
                    from += length;
                }
                None => from += 1,
            }
        }
        found
    }
}

/// The reference that a text begins with, and how many characters it takes.
fn begins(letters: &[char]) -> Option<(CreditorReference, usize)> {
    if !letters[0].eq_ignore_ascii_case(&'R') || !letters[1].eq_ignore_ascii_case(&'F') {
        return None;
    }
    let (mut reference, mut best) = (String::with_capacity(HEAD + BODY_MAX), None);
    let mut letters = letters.iter().enumerate().peekable();
    while let Some((position, letter)) = letters.next() {
        if letter.is_ascii_alphanumeric() {
            reference.push(letter.to_ascii_uppercase());
        } else if !(letter.is_whitespace() || *letter == '-') {
            break;
        }
        let word_ends = letters.peek().is_none_or(|(_, next)| !next.is_ascii_alphanumeric());
        let full = reference.len() == HEAD + BODY_MAX;
        if letter.is_ascii_alphanumeric() && (word_ends || full) && is_valid(&reference) {
            best = Some((CreditorReference(reference.clone()), position + 1));
        }
        if full {
            break;
        }
    }
    best
}

fn is_valid(reference: &str) -> bool {
    let bytes = reference.as_bytes();
    (HEAD + 1..=HEAD + BODY_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && reference.starts_with("RF")
        // 00, 01 and 99 would pass the division and are never made
        && matches!(reference[2..HEAD].parse::<u8>(), Ok(2..=98))
        && remainder(bytes[HEAD..].iter().chain(&bytes[..HEAD]).copied()) == 1
}

/// ISO 7064, modulo 97: letters count as 10 to 35.
fn remainder(characters: impl Iterator<Item = u8>) -> u32 {
    characters.fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    })
}

fn digit(value: u128) -> u8 {
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(value % 36) as usize]
}

impl FromStr for CreditorReference {
    type Err = Rejection;

    /// Reads the electronic and the printed form, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, Rejection> {
        let compact: String = text
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .map(|letter| letter.to_ascii_uppercase())
            .take(HEAD + BODY_MAX + 1)
            .collect();
        if is_valid(&compact) {
            return Ok(CreditorReference(compact));
        }
        Err(Reason::InvalidText.with(format!("{text:?} is not an ISO 11649 creditor reference with valid check digits")))
    }
}

impl fmt::Display for CreditorReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for CreditorReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CreditorReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for CreditorReference {
    fn schema_name() -> Cow<'static, str> {
        "CreditorReference".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^RF[0-9]{2}[0-9A-Z]{1,21}$",
            "description": "ISO 11649 creditor reference", "examples": ["RF18539007547034"]})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        CreditorReference::find(text).into_iter().map(|reference| reference.0).collect()
    }

    #[test]
    fn published_examples_are_valid() {
        for text in ["RF18539007547034", "RF18 5390 0754 7034", "rf18 5390 0754 7034", "RF712348231", "RF97 C2H5 OH"] {
            let reference: CreditorReference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.printed().parse::<CreditorReference>().unwrap(), reference);
        }
        for text in ["", "RF", "RF18", "RF19539007547034", "RF1853900754703", "XX18539007547034", "RF18ä39007547034", "RF00539007547034"] {
            assert!(text.parse::<CreditorReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reference_is_found_in_what_payers_write() {
        for text in [
            "INV RF18 5390 0754 7034 thanks",
            "rf18539007547034",
            "Call 3/RF18-5390-0754-7034.",
            "RF18 5390\n0754 7034",
            "refRF18539007547034",
        ] {
            assert_eq!(found(text), ["RF18539007547034"], "{text}");
        }
        assert_eq!(found("RF18539007547034 and RF712348231, RF18539007547034"), ["RF18539007547034", "RF712348231"]);
        for text in ["", "RF", "RF18", "PERF 12 OF 3", "RF19 5390 0754 7034", "ÄRF18"] {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn one_wrong_character_or_two_exchanged_are_noticed() {
        let reference = CreditorReference::of(Uuid::from_u128(7)).0;
        for position in HEAD..reference.len() {
            let mut wrong = reference.clone().into_bytes();
            wrong[position] = if wrong[position] == b'7' { b'8' } else { b'7' };
            assert!(String::from_utf8(wrong).unwrap().parse::<CreditorReference>().is_err());
        }
    }

    #[test]
    fn the_reference_of_an_id_is_fixed() {
        let reference = CreditorReference::of(Uuid::from_u128(0x0199_1a2b_3c4d_7e5f_8a6b_7c8d_9eaf_b0c1));
        assert_eq!(reference.as_str().len(), 25);
        assert_eq!(reference, CreditorReference::of(Uuid::from_u128(0x0199_1a2b_3c4d_7e5f_8a6b_7c8d_9eaf_b0c1)));
        // the last 14 bits are not in it, all others are
        assert_eq!(reference, CreditorReference::of(Uuid::from_u128(0x0199_1a2b_3c4d_7e5f_8a6b_7c8d_9eaf_b0c0)));
        assert_ne!(reference, CreditorReference::of(Uuid::from_u128(0x0199_1a2b_3c4d_7e5f_8a6b_7c8d_9eaf_f0c1)));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_in_every_form(id in any::<u128>(), before in "[a-z ]{0,10}", after in " [a-z ]{0,10}") {
            let reference = CreditorReference::of(Uuid::from_u128(id));
            prop_assert_eq!(&reference.0.parse::<CreditorReference>().unwrap(), &reference);
            prop_assert_eq!(&reference.printed().to_lowercase().parse::<CreditorReference>().unwrap(), &reference);
            let text = format!("{before} {}{after}", reference.printed());
            prop_assert!(CreditorReference::find(&text).contains(&reference), "{}", text);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(&serde_json::from_str::<CreditorReference>(&json).unwrap(), &reference);
        }

        #[test]
        fn no_text_stops_the_search(text in "\\PC{0,60}|[RFrf0-9 -]{0,60}") {
            for reference in CreditorReference::find(&text) {
                prop_assert!(is_valid(reference.as_str()));
            }
        }
    }
}
