//! What bank details must be, and who may decide about them.

use ::domain::messages::capital_calls::{BankDetails, BankDetailsDecision, BankDetailsStatus, CallBack, PaymentInstructions};
use ::domain::rejection::check_text;
use ::domain::{Reason, Rejection};
use chrono::{DateTime, TimeDelta, Utc};
use iban::Iban;
use sha2::{Digest, Sha256};

use super::bank::written_account;

/// Longest name and free text of a payment (ISO 20022, Max140Text).
const TEXT_CHARACTERS_MAX: usize = 140;
/// Letters and digits of an account that is no IBAN (ISO 20022, Max34Text; shorter ones are typing errors).
const ACCOUNT_CHARACTERS: std::ops::RangeInclusive<usize> = 4..=34;
/// Longest text about a call back.
const CALL_BACK_CHARACTERS_MAX: usize = 200;

/// Instructions as they are kept: without blanks in numbers, in capitals; or what is wrong with them, which never repeats them.
pub fn written_instructions(given: &PaymentInstructions) -> Result<PaymentInstructions, Rejection> {
    let refuse = |why: &str| Reason::InvalidBankDetails.with(why.to_owned());
    let mut written = given.clone();
    written.account = written_account(&given.account);
    for code in [&mut written.bic, &mut written.routing_number, &mut written.intermediary_bic].into_iter().flatten() {
        *code = written_account(code);
    }
    for (field, text) in [
        ("account_name", Some(&written.account_name)),
        ("bank_name", Some(&written.bank_name)),
        ("further_credit", written.further_credit.as_ref()),
    ] {
        if text.is_some_and(|text| check_text(field, text, TEXT_CHARACTERS_MAX).is_err()) {
            return Err(refuse(&format!(
                "{field} is empty, has more than {TEXT_CHARACTERS_MAX} characters, or ones that cannot be printed"
            )));
        }
    }
    for (field, code) in [("bic", &written.bic), ("intermediary_bic", &written.intermediary_bic)] {
        if code.as_ref().is_some_and(|code| !is_bic(code)) {
            return Err(refuse(&format!("{field} is no business identifier code of 8 or 11 letters and digits")));
        }
    }
    if written.routing_number.as_ref().is_some_and(|number| !is_routing_number(number)) {
        return Err(refuse("routing_number does not have 9 digits with the right check sum"));
    }
    let is_iban = check_account(&written.account).map_err(refuse)?;
    if !is_iban && written.bic.is_none() && written.routing_number.is_none() {
        return Err(refuse("an account that is no IBAN needs a bic or a routing_number"));
    }
    Ok(written)
}

/// Checks the number of an account that is written without blanks. Returns whether it is an IBAN, or what is wrong with it.
pub fn check_account(account: &str) -> Result<bool, &'static str> {
    if !ACCOUNT_CHARACTERS.contains(&account.len()) || !account.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err("account does not have 4 to 34 letters and digits");
    }
    let looks_like_iban = account.bytes().take(4).map(|byte| byte.is_ascii_digit()).eq([false, false, true, true]);
    if looks_like_iban && account.parse::<Iban>().is_err() {
        return Err("account is no IBAN: its country, length or check digits are wrong");
    }
    Ok(looks_like_iban)
}

/// ISO 9362: four letters, the country's two, two and perhaps three more letters or digits.
fn is_bic(code: &str) -> bool {
    matches!(code.len(), 8 | 11)
        && code.bytes().enumerate().all(|(place, byte)| if place < 6 { byte.is_ascii_uppercase() } else { byte.is_ascii_alphanumeric() })
}

/// American Bankers Association: the digits times 3, 7, 1, 3, 7, 1, 3, 7, 1 add up to a multiple of ten.
fn is_routing_number(number: &str) -> bool {
    let sum: u32 =
        number.bytes().zip([3, 7, 1].into_iter().cycle()).map(|(byte, weight)| u32::from(byte.wrapping_sub(b'0')) * weight).sum();
    number.len() == 9 && number.bytes().all(|byte| byte.is_ascii_digit()) && sum.is_multiple_of(10) && sum > 0
}

/// The hash of instructions with their salt: see [`::domain::messages::capital_calls::RevealedBankDetails`].
pub fn instructions_hash(salt: &str, instructions: &PaymentInstructions) -> String {
    let text = serde_json::to_string(instructions).unwrap_or_default();
    hex::encode(Sha256::digest(format!("{salt}{text}")))
}

/// Confirms bank details, as a second person, after a call.
pub fn confirm(
    details: &mut BankDetails,
    user: &str,
    hash: &str,
    call_back: &CallBack,
    now: DateTime<Utc>,
    cooling_off: TimeDelta,
) -> Result<(), Rejection> {
    if details.decision != BankDetailsDecision::Proposed {
        return Err(decided(details));
    }
    if details.hash != hash {
        return Err(Reason::BankDetailsDiffer.with(format!("bank details {} have the hash {}", details.id, details.hash)));
    }
    if details.proposed_by == user {
        return Err(Reason::SecondPersonNeeded.with(format!("{user} proposed bank details {}", details.id)));
    }
    for (field, text) in [("call_back.number_from", &call_back.number_from), ("call_back.spoken_to", &call_back.spoken_to)] {
        check_text(field, text, CALL_BACK_CHARACTERS_MAX)?;
    }
    if call_back.called_at < details.created_at || call_back.called_at > now {
        let why = format!("called_at {} is not between {}, when they were proposed, and now", call_back.called_at, details.created_at);
        return Err(Reason::CallBackMismatch.with(why));
    }
    details.decision = BankDetailsDecision::Confirmed;
    details.decided_by = Some(user.to_owned());
    details.call_back = Some(call_back.clone());
    details.usable_from = Some(now + cooling_off);
    Ok(())
}

/// Has confirmed bank details used from their time on: the steps of their change are done.
pub fn release(details: &mut BankDetails, hash: &str, now: DateTime<Utc>) -> Result<(), Rejection> {
    if details.decision != BankDetailsDecision::Confirmed || details.released_at.is_some() {
        return Err(decided(details));
    }
    if details.hash != hash {
        return Err(Reason::BankDetailsDiffer.with(format!("bank details {} have the hash {}", details.id, details.hash)));
    }
    details.released_at = Some(now);
    Ok(())
}

/// Rejects bank details. Those that were in use keep the time from which they were: what was used before them is not used again, by the
/// word of one person, until two have confirmed it anew.
pub fn reject(details: &mut BankDetails, user: &str, reason: &str, now: DateTime<Utc>) -> Result<(), Rejection> {
    if details.decision == BankDetailsDecision::Rejected {
        return Err(decided(details));
    }
    details.decision = BankDetailsDecision::Rejected;
    details.decided_by = Some(user.to_owned());
    details.rejected_because = Some(reason.to_owned());
    details.usable_from = details.usable_from.filter(|from| details.released_at.is_some() && *from <= now);
    Ok(())
}

fn decided(details: &BankDetails) -> Rejection {
    let why = match details.decision {
        BankDetailsDecision::Proposed => "proposed",
        BankDetailsDecision::Confirmed => "confirmed",
        BankDetailsDecision::Rejected => "rejected",
    };
    Reason::BankDetailsDecided.with(format!("bank details {} are {why}", details.id))
}

/// The status at a time; `superseded` says whether later ones are in use by then.
pub fn bank_details_status(details: &BankDetails, superseded: bool, now: DateTime<Utc>) -> BankDetailsStatus {
    match details.decision {
        BankDetailsDecision::Proposed => BankDetailsStatus::Proposed,
        BankDetailsDecision::Rejected => BankDetailsStatus::Rejected,
        BankDetailsDecision::Confirmed if details.released_at.is_none() || details.usable_from.is_none_or(|from| from > now) => {
            BankDetailsStatus::CoolingOff
        }
        BankDetailsDecision::Confirmed if superseded => BankDetailsStatus::Superseded,
        BankDetailsDecision::Confirmed => BankDetailsStatus::InUse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(account: &str, bic: Option<&str>, routing_number: Option<&str>) -> PaymentInstructions {
        PaymentInstructions {
            account_name: "Tranche Growth I".into(),
            account: account.into(),
            bank_name: "Bank".into(),
            bic: bic.map(Into::into),
            routing_number: routing_number.map(Into::into),
            intermediary_bic: None,
            further_credit: None,
        }
    }

    #[test]
    fn instructions_are_taken_or_refused_without_being_repeated() {
        for (account, bic, routing_number, refused) in [
            ("DE89 3704 0044 0532 0130 00", None, None, None),
            ("de89370400440532013000", Some("cobadeffxxx"), None, None),
            ("123456789", Some("CHASUS33"), None, None),
            ("123456789", None, Some("021000021"), None),
            ("DE88 3704 0044 0532 0130 00", None, None, Some("account is no IBAN")),
            ("DE89 3704 0044 0532 0130", None, None, Some("account is no IBAN")),
            ("123456789", None, None, Some("an account that is no IBAN needs")),
            ("123456789", None, Some("021000022"), Some("routing_number")),
            ("123456789", None, Some("000000000"), Some("routing_number")),
            ("123456789", Some("CHAS1S33"), None, Some("bic is no")),
            ("123456789", Some("CHASUS3"), None, Some("bic is no")),
            ("123", Some("CHASUS33"), None, Some("account does not have")),
            ("12-34-56", Some("CHASUS33"), None, Some("account does not have")),
        ] {
            let written = written_instructions(&given(account, bic, routing_number));
            match (written, refused) {
                (Ok(written), None) => assert!(written.account.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())),
                (Err(rejection), Some(why)) => {
                    assert!(rejection.detail.starts_with(why), "{account}: {rejection}");
                    assert!(!rejection.detail.contains("0044") && !rejection.detail.contains("3456"), "{rejection}");
                }
                (written, refused) => panic!("{account}: {written:?}, expected {refused:?}"),
            }
        }
    }

    #[test]
    fn the_hash_is_that_of_the_salt_and_the_json() {
        let instructions = given("DE89370400440532013000", None, None);
        let text = r#"00ff{"account_name":"Tranche Growth I","account":"DE89370400440532013000","bank_name":"Bank","bic":null,"routing_number":null,"intermediary_bic":null,"further_credit":null}"#;
        assert_eq!(instructions_hash("00ff", &instructions), hex::encode(Sha256::digest(text)));
    }
}
