//! Back-pressure: a writer slows down, and in the end refuses, when its relay or the readers of its events fall behind.
//!
//! Only a reader that works and does not keep up counts. One that stands still is down: its events are kept for it, and
//! nobody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Info as Consumer};
use futures::TryStreamExt;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// What the relay has published, and what it is about.
#[derive(Debug, Default)]
pub struct Published {
    /// When which sequence of the stream was acknowledged; the newest ones.
    known: Mutex<VecDeque<(u64, Instant)>>,
    /// Since when what is being published has waited.
    publishing: Mutex<Option<Instant>>,
}

impl Published {
    /// Notes that everything up to a sequence is in the stream. Returns whether that is below what was noted before: then the
    /// stream is another one, or was set back.
    pub(crate) fn note(&self, sequence: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_back = known.back().is_some_and(|(last, _)| sequence < *last);
        if goes_back {
            known.clear();
        }
        known.push_back((sequence, Instant::now()));
        if known.len() > limits::PUBLISHED_NOTES_MAX {
            known.pop_front();
        }
        goes_back
    }

    /// Notes that what has waited since then is being published.
    pub(crate) fn begin(&self, since: Instant) {
        *self.publishing.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }

    /// Notes that it is done, or waits for another attempt.
    pub(crate) fn end(&self) {
        *self.publishing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// For how long what is being published has waited; zero when nothing is.
    fn waiting(&self, now: Instant) -> Duration {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// The newest sequence that was noted.
    fn newest(&self) -> u64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).back().map_or(0, |(sequence, _)| *sequence)
    }

    /// For how long the first of our events after a sequence has been in the stream; zero when there is none.
    fn age_after(&self, sequence: u64, now: Instant) -> Duration {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.partition_point(|(published, _)| *published <= sequence);
        known.get(place).map_or(Duration::ZERO, |(_, since)| now.duration_since(*since))
    }
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Everything up to this sequence is handled.
    handled: u64,
    /// Messages that it has not handled.
    waiting: u64,
}

/// Where readers stood, and since when.
#[derive(Debug, Default)]
struct Readers(HashMap<String, (u64, Instant)>);

impl Readers {
    /// The lag of the slowest reader that works.
    fn lag(&mut self, places: &[(String, Place)], published: &Published, now: Instant) -> Duration {
        let mut slowest = Duration::ZERO;
        for (name, place) in places {
            let (handled, since) = self.0.entry(name.clone()).or_insert((place.handled, now));
            if *handled != place.handled {
                (*handled, *since) = (place.handled, now);
            }
            if place.waiting >= limits::READER_BEHIND_MIN && now.duration_since(*since) < limits::READER_STANDS_STILL {
                slowest = slowest.max(published.age_after(place.handled, now));
            }
        }
        slowest
    }
}

/// Measures the readers' lag until the service stops.
pub(crate) async fn watch(shell: Arc<Shell>) {
    let mut readers = Readers::default();
    let mut looked_at = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::LAG_LOOK) => {}
            () = shell.stopped() => return,
        }
        let newest = shell.published.newest();
        if newest == looked_at && shell.lag().is_zero() && shell.published.waiting(Instant::now()).is_zero() {
            // who was not behind does not fall behind when nothing is published
            continue;
        }
        looked_at = newest;
        let lag = match places(&shell).await {
            Ok(places) => {
                let now = Instant::now();
                readers.lag(&places, &shell.published, now).max(shell.published.waiting(now))
            }
            // the outbox says how much waits while the broker is away
            Err(_) => Duration::ZERO,
        };
        metrics::gauge!("tranche_readers_lag_seconds").set(lag.as_secs_f64());
        shell.note_lag(lag);
    }
}

async fn places(shell: &Shell) -> Result<Vec<(String, Place)>, Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::Transient(format!("readers: {error}"));
    let stream = shell.jetstream.get_stream_no_info("EVENTS").await.map_err(|error| fault(&error))?;
    let consumers: Vec<_> = stream.consumers().try_collect().await.map_err(|error| fault(&error))?;
    // one that reads without acknowledging, to make a read model anew, is in nobody's way
    let is_reader = |consumer: &Consumer| consumer.config.durable_name.is_some() && consumer.config.ack_policy == AckPolicy::Explicit;
    Ok(consumers
        .into_iter()
        .filter(is_reader)
        .map(|consumer| {
            let waiting = consumer.num_pending + consumer.num_ack_pending as u64;
            (consumer.name, Place { handled: consumer.ack_floor.stream_sequence, waiting })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = limits::READER_BEHIND_MIN;

    fn lag_after(steps: &[(u64, u64)], each: Duration) -> Duration {
        let published = Published::default();
        published.note(100);
        let start = Instant::now();
        let mut readers = Readers::default();
        let mut lag = Duration::ZERO;
        for (step, (handled, waiting)) in (1..).zip(steps) {
            let place = Place { handled: *handled, waiting: *waiting };
            lag = readers.lag(&[("metrics".into(), place)], &published, start + each * step);
        }
        lag
    }

    #[test]
    fn a_reader_that_works_and_is_far_behind_counts() {
        let each = Duration::from_millis(300);
        assert!(lag_after(&[(10, MANY), (20, MANY), (30, MANY)], each) > Duration::from_millis(800));
        assert_eq!(lag_after(&[(10, MANY), (20, MANY), (30, MANY - 1)], each), Duration::ZERO, "it is done soon");
        assert_eq!(lag_after(&[(10, MANY), (20, MANY), (100, MANY)], each), Duration::ZERO, "what waits is not ours");
    }

    #[test]
    fn what_waits_for_the_broker_counts() {
        let (published, since) = (Published::default(), Instant::now());
        let later = since + Duration::from_secs(2);
        assert_eq!(published.waiting(later), Duration::ZERO);
        published.begin(since);
        assert_eq!(published.waiting(later), Duration::from_secs(2));
        published.end();
        assert_eq!(published.waiting(later), Duration::ZERO);
    }

    #[test]
    fn a_reader_that_stands_still_does_not() {
        let each = limits::READER_STANDS_STILL / 2;
        assert!(lag_after(&[(10, MANY), (20, MANY)], each) > Duration::ZERO);
        assert_eq!(lag_after(&[(10, MANY), (20, MANY), (20, MANY), (20, MANY)], each), Duration::ZERO);
        assert!(lag_after(&[(10, MANY), (20, MANY), (20, MANY), (20, MANY), (30, MANY)], each) > Duration::ZERO, "it works again");
    }
}
