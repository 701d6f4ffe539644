//! Every limit of the shell, in one place.

use std::num::NonZero;
use std::time::Duration;

/// Most commands decided in one transaction. Larger batches gain little and make replies late.
pub const BATCH_MAX: usize = 1_000;
/// Most events read by a reaction in one transaction; also what one pull asks for.
pub const FOLLOW_MAX: usize = 1_000;
/// Most messages of one atomic publish; the server's own limit.
pub const PUBLISH_MAX: usize = 1_000;
/// Most bytes of one event's body; keeps aggregates small.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;
/// Atomic publishes on their way at once: while one is written to disk the next travels.
pub const PUBLISHES_AT_ONCE: usize = 4;
/// So few events are published one by one: for an atomic batch the broker makes and removes files, which costs it more
/// than a few syncs to disk.
pub const PUBLISH_SINGLY_MAX: usize = 4;
/// The relay begins no publish sooner than this after the one before: an atomic batch costs the broker two milliseconds,
/// however few events are in it. What comes after a longer silence is published at once.
pub const RELAY_PAUSE: Duration = Duration::from_millis(20);
/// A reader begins no transaction sooner than this after the one before, for the same reason.
pub const FOLLOW_PAUSE: Duration = Duration::from_millis(20);
/// Transactions whose events are published together.
pub const RELAY_TOGETHER: usize = 64;
/// Transactions that may wait for the relay in memory; what does not fit is found by the poll.
pub const RELAY_QUEUE: usize = 4_096;
/// How often the relay looks for events that nobody handed to it (a crash, a broker outage).
pub const RELAY_POLL: Duration = Duration::from_secs(1);
/// What waits no longer than this may still be on its way to the broker; the poll leaves it alone.
pub const LEFT_OVER_AFTER: Duration = Duration::from_secs(1);
/// How often the relay compares the streams with what it knows of them.
pub const STREAM_CHECK: Duration = Duration::from_secs(10);
/// Queries of one kind that one replica answers at once; further ones wait, as they do for a connection.
pub const QUERIES_AT_ONCE: usize = 16;
/// Connections to Postgres of one replica.
pub const POOL_SIZE: u32 = 12;
/// For so long a refusal that rests on another service's copy is decided again before it is answered.
pub const COPY_PATIENCE: Duration = Duration::from_millis(1_500);
/// Pause between two such decisions.
pub const COPY_PAUSE: Duration = Duration::from_millis(25);
/// A batch that meets a deadlock or a lost connection is tried so often before the callers get 503.
pub const BATCH_ATTEMPTS: u32 = 6;
/// Deliveries of one message before it is parked as a dead letter, also when it kills the process.
pub const DELIVERIES_MAX: i64 = 10;
/// From the next delivery on a message is handled by itself.
pub const DELIVERIES_TOGETHER: i64 = 2;
/// The broker gives a message to another reader when it was not acknowledged for so long.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// Longest pause between two attempts of anything.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A reader without a message for so long asks the broker whether any is waiting.
pub const FOLLOW_SILENCE: Duration = Duration::from_secs(15);
/// Most bytes of commands decided in one transaction: about as much as [`BATCH_MAX`] small ones have. More would gain
/// little, and the readers' lag would be seen too late.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// The summary of an aggregate is published no more often than this: nobody reads faster.
pub const SUMMARY_PAUSE: Duration = Duration::from_secs(1);
/// How often the database is asked for summaries that a crash left.
pub const SUMMARY_POLL: Duration = Duration::from_secs(5);
/// Most summaries of one kind in one transaction: so few that nobody waits for long behind them.
pub const SUMMARY_MAX: usize = 64;
/// Pause after such a transaction when more are due. Where many aggregates change all the time each is published the
/// more rarely, and payments are not held up by their own sums.
pub const SUMMARY_MORE_PAUSE: Duration = Duration::from_millis(250);
/// Errands look for work so often when nothing woke them.
pub const ERRAND_POLL: Duration = Duration::from_millis(500);
/// One attempt of a request to a service.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A transaction that takes longer than this is given up: nothing that is decided or read takes a tenth of it, so the other end
/// of its connection is gone.
pub const DATABASE_WITHIN: Duration = Duration::from_secs(20);
/// The same for a query: a whole record may be read for one.
pub const QUERY_WITHIN: Duration = Duration::from_secs(130);
/// The same for the comparison of everything that a service keeps, with the waits for readers in it.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(1_200);
/// A broker that answers no ping for three times as long is gone.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A database that does not answer within this time is not ready.
pub const READY_WITHIN: Duration = Duration::from_secs(1);
/// A stopping service finishes what is in hand within this time.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Requests that one gateway answers at once, if `REQUESTS_MAX` is not set: ten times as many as are in hand at its highest rate,
/// so that only a service that hangs fills them.
pub const REQUESTS_MAX: NonZero<usize> = NonZero::new(2_048).unwrap();
/// Events that may wait for the broker before new commands are answered with 429, if `OUTBOX_MAX` is not set.
pub const OUTBOX_MAX: i64 = 200_000;
/// When the slowest working reader lags more than this, new commands are answered with 429.
pub const LAG_MAX: Duration = Duration::from_millis(1_500);
/// From this lag on each batch of commands waits a part of it, so that callers who wait for their answers slow down.
pub const LAG_SLOW: Duration = Duration::from_millis(300);
/// That part: one fourth.
pub const LAG_PART: u32 = 4;
/// With fewer messages than this before it a reader is done in a batch or two, however slow the machine: no overload.
pub const READER_BEHIND_MIN: u64 = 2_000;
/// A reader that has handled nothing for so long is down, not slow; below [`LAG_MAX`], so that it never stops a writer.
pub const READER_STANDS_STILL: Duration = Duration::from_millis(1_000);
/// How often a writer looks where the readers stand.
pub const LAG_LOOK: Duration = Duration::from_millis(250);
/// Publishes that are remembered with their time: several seconds of them at the fastest pace.
pub const PUBLISHED_NOTES_MAX: usize = 1_024;
/// Aggregates or events of one answer to a comparison, and of one request to send again: less than a megabyte.
pub const VERSIONS_MAX: usize = 5_000;
/// A service compares its copies with their owners so often.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(3_600);
/// What could not be compared or repaired is tried again after this time, doubled each time.
pub const RECONCILE_RETRY: Duration = Duration::from_secs(15);
/// After so many looks what is still missing from a read model that is made anew did not only come late: it is sent again.
pub const REBUILD_PATIENCE: u32 = 3;
/// Totals are compared with their rows so often.
pub const RECOMPUTE_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// A reader that has not read what was there before within this time is too busy to be compared.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Data keys that are wrapped anew in one transaction: few enough that nobody waits for long behind them.
pub const ROTATED_TOGETHER: i64 = 500;
/// Differences that are named in a report; the rest is counted.
pub const EXAMPLES_MAX: usize = 20;
/// A transaction writes its events last, and is given up after [`DATABASE_WITHIN`]: what was written to the log before this time
/// is all there.
pub const LOG_SETTLED: Duration = Duration::from_secs(30);
/// The whole log is put into the outbox within this time when the broker forgot: tens of millions of events.
pub const REPLAY_WITHIN: Duration = Duration::from_secs(600);
/// A digest of everything that an owner has, and the page of a bucket, are answered within this time.
pub const DIGEST_WITHIN: Duration = Duration::from_secs(120);
/// A dead letter is handled again so often before it is parked once more, also when it kills the process.
pub const REDRIVES_MAX: i32 = 10;
/// Characters of a reason that are kept.
pub const REASON_CHARACTERS_MAX: usize = 2_000;
/// Characters of a dead letter's body that are shown; all of it is kept.
pub const PAYLOAD_CHARACTERS_MAX: usize = 10_000;
/// What a replica of a stream does not have yet is looked for so often again.
pub const DIRECT_READS_AGAIN: u32 = 5;
/// Longest idempotency key.
pub const KEY_CHARACTERS_MAX: usize = 200;

/// The pause before attempt `n` (from 0): 50 ms doubled each time, at most [`BACKOFF_MAX`].
pub fn backoff(n: u32) -> Duration {
    Duration::from_millis(50 << n.min(10)).min(BACKOFF_MAX)
}

/// The pause before copies are compared again, after so many failures one after the other.
pub fn reconcile_pause(failures: u32) -> Duration {
    match failures {
        0 => RECONCILE_EVERY,
        failures => RECONCILE_RETRY.saturating_mul(1 << (failures - 1).min(20)).min(RECONCILE_EVERY),
    }
}
