//! Cursors of lists: where the next page starts, opaque to the caller.

use domain::message::PAGE_MAX;
use domain::{Reason, Rejection};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Items of a page when the caller does not say.
const PAGE_DEFAULT: u16 = 100;

/// The number of items asked for.
pub fn limit(asked: Option<u16>) -> Result<i64, Rejection> {
    match i64::from(asked.unwrap_or(PAGE_DEFAULT)) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => Err(Reason::MalformedRequest.with(format!("limit {limit} is not 1 to {PAGE_MAX}"))),
    }
}

/// Writes the sort key of the last item.
pub fn write(key: &impl Serialize) -> String {
    utf8_percent_encode(&serde_json::to_string(key).unwrap_or_default(), NON_ALPHANUMERIC).to_string().replace('%', "~")
}

/// Reads a cursor back; none at the start of a list.
pub fn read<K: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<K>, Rejection> {
    let Some(cursor) = cursor else { return Ok(None) };
    let encoded = cursor.replace('~', "%");
    let refuse = || Reason::MalformedRequest.with(format!("cursor {cursor:?} was not given by this list"));
    let text = percent_decode_str(&encoded).decode_utf8().map_err(|_| refuse())?;
    serde_json::from_str(&text).map(Some).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let key = ("Zoë & 100% ~x".to_owned(), 7);
        assert_eq!(read::<(String, i32)>(Some(&write(&key))).unwrap(), Some(key));
        assert_eq!(read::<(String, i32)>(None).unwrap(), None);
        assert_eq!(read::<(String, i32)>(Some("nonsense")).unwrap_err().reason, Reason::MalformedRequest);
    }
}
