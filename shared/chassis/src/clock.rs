//! The clock: the system's, moved by an offset that tests and the demo can set; and ids that sort by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// Hands out the time; clones share their offset.
#[derive(Clone)]
pub struct Clock {
    offset_seconds: Arc<AtomicI64>,
    id_order: Arc<Mutex<ContextV7>>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { offset_seconds: Arc::default(), id_order: Arc::new(Mutex::new(ContextV7::new())) }
    }
}

impl Clock {
    /// Now, to the microsecond (what Postgres keeps).
    pub fn now(&self) -> DateTime<Utc> {
        self.system_now() + TimeDelta::try_seconds(self.offset_seconds.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// The system's own time, which is never set: for leases and pauses between attempts.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn system_now(&self) -> DateTime<Utc> {
        let now = Utc::now();
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// A new id that sorts by time, also within a millisecond.
    pub fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let order = self.id_order.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(Timestamp::from_unix(&*order, seconds, now.timestamp_subsec_nanos()))
    }

    /// Moves the clock so many seconds away from the system's.
    pub fn set_offset(&self, seconds: i64) {
        self.offset_seconds.store(seconds, Ordering::Relaxed);
    }
}
