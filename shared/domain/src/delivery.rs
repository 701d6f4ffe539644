//! What relay and readers decide, as functions of what they know: whether a broker still has what it acknowledged, and whether
//! a state is news.

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMark {
    /// When it was made, as the broker says.
    pub created: String,
    /// The sequence of its last message.
    pub last_seq: i64,
    /// How many messages it has.
    pub messages: i64,
}

impl StreamMark {
    /// Whether a stream that stood here may still have everything, now that it stands there: it is the same one, and neither ends
    /// earlier nor has fewer messages.
    pub fn holds(&self, now: &StreamMark) -> bool {
        self.created == now.created && self.last_seq <= now.last_seq && self.messages <= now.messages
    }
}

/// Whether a state of an aggregate is news to somebody who knows another one, each by its owner's epoch and its version. A newer
/// epoch is news whatever its version.
pub fn is_news(known: Option<(i32, i64)>, seen: (i32, i64)) -> bool {
    known.is_none_or(|known| seen > known)
}
