//! What relay and readers decide, as functions of what they know: whether a broker still has what it acknowledged, and whether
//! a state is news.

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMark {
    /// When it was made, as the broker says.
    pub created: String,
    /// The sequence of its first message, or of the next one if it has none; 0 where that is not known.
    pub first_seq: i64,
    /// The sequence of its last message.
    pub last_seq: i64,
    /// How many messages it has.
    pub messages: i64,
}

impl StreamMark {
    /// Whether a stream that stood here may still have everything, now that it stands there: it is the same one, and neither begins
    /// later nor ends earlier nor has fewer messages.
    pub fn holds(&self, now: &StreamMark) -> bool {
        let begins_later = self.first_seq > 0 && now.first_seq > self.first_seq;
        self.created == now.created && !begins_later && self.last_seq <= now.last_seq && self.messages <= now.messages
    }
}

/// Whether what was acknowledged last is still in a stream, whose last message of the same subject stands there: nobody else publishes
/// on the subject. A stream that was set back may have grown beyond what was acknowledged, by what others published.
pub fn is_there(acknowledged: i64, last_of_subject: Option<i64>) -> bool {
    last_of_subject.is_some_and(|last| last >= acknowledged)
}

/// Whether a state of an aggregate is news to somebody who knows another one, each by its owner's epoch and its version. A newer
/// epoch is news whatever its version.
pub fn is_news(known: Option<(i32, i64)>, seen: (i32, i64)) -> bool {
    known.is_none_or(|known| seen > known)
}
