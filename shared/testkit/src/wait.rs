//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Asks until the answer is yes; returns whether it was within the time.
pub async fn until<F: Future<Output = bool>>(within: Duration, mut condition: impl FnMut() -> F) -> bool {
    let since = Instant::now();
    loop {
        if condition().await {
            return true;
        }
        if since.elapsed() > within {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
