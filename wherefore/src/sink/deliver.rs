//! One queue and one worker per sink: bounded, paced, patient, and never in the way of whoever submits.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Answer, Request, Sink, Verdict,
    pace::{Backoff, Bucket},
};
use crate::alert::Alert;

/// Carries a request to its server.
pub trait Post: Send + Sync + 'static {
    /// Sends `request` and waits for the answer, within the carrier's own time limit. The error is the
    /// reason why no answer came, without the request's URL.
    fn post(&self, request: &Request) -> impl Future<Output = Result<Answer, String>> + Send;
}

/// How much is kept, how fast it goes, how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most alerts that wait; past it the oldest is dropped and counted.
    pub queue: usize,
    /// Messages that may go at once ...
    pub burst: u32,
    /// ... before they must be this far apart.
    pub per: Duration,
    /// Ceiling of the wait after the first failure; it doubles with each one.
    pub first_wait: Duration,
    /// Longest wait between two tries.
    pub longest_wait: Duration,
    /// Longest `Retry-After` that is honoured.
    pub longest_retry_after: Duration,
    /// Tries that may end in a 5xx before the alert itself is taken to be the cause, and dropped. A server
    /// that cannot be reached or is busy (429) does not count: those are waited out.
    pub server_errors: u32,
    /// Seed of the jitter, so that many agents do not come back at the same moment.
    pub seed: u64,
}

impl Pace {
    /// What Slack asks for: a message a second after a burst of 4. 24 tries take half an hour on average.
    #[must_use]
    pub const fn slack(seed: u64) -> Self {
        Self {
            queue: 256,
            burst: 4,
            per: Duration::from_secs(1),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            longest_retry_after: Duration::from_secs(3600),
            server_errors: 24,
            seed,
        }
    }
}

/// What became of the alerts submitted: `submitted = delivered + refused + dropped + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Handed in.
    pub submitted: u64,
    /// Told.
    pub delivered: u64,
    /// Given up, as the server will not take them.
    pub refused: u64,
    /// Pushed out of a full queue.
    pub dropped: u64,
    /// Waiting, the one being sent included.
    pub pending: u64,
    /// Tries that failed and came, or come, again.
    pub retries: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} alerts delivered", self.delivered, self.submitted)?;
        for (count, what) in [
            (self.refused, "refused"),
            (self.dropped, "dropped from a full queue"),
            (self.pending, "undelivered"),
            (self.retries, "tries repeated"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Delivered during the shutdown.
    pub delivered: u64,
    /// Still waiting when the time was up. The one being sent may have arrived all the same.
    pub left: u64,
}

/// A sink with its queue and worker. Dropped without [`Self::drain`] it stops at once.
pub struct Delivery {
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    /// Once closing: how many were delivered before.
    closing: watch::Sender<Option<u64>>,
    worker: JoinHandle<()>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("sink", &self.sink.name()).field("status", &self.status()).finish()
    }
}

struct Shared {
    name: &'static str,
    state: Mutex<State>,
    filled: Notify,
    most: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    status: Status,
    /// The queue overflowed, which was said, and has not been empty since.
    overflowing: bool,
}

impl Delivery {
    /// Starts the worker on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn start(sink: Arc<dyn Sink>, post: impl Post, pace: Pace) -> Self {
        let (closing, closed) = watch::channel(None);
        let shared = Arc::new(Shared {
            name: sink.name(),
            state: Mutex::default(),
            filled: Notify::new(),
            most: pace.queue.max(1),
        });
        let worker = Worker {
            sink: Arc::clone(&sink),
            post,
            shared: Arc::clone(&shared),
            closed,
            start: Instant::now(),
            bucket: Bucket::new(pace.burst, pace.per),
            backoff: Backoff::new(pace.first_wait, pace.longest_wait, pace.seed),
            failures: 0,
            refusal: None,
            pace,
        };
        Self { sink, shared, closing, worker: tokio::spawn(worker.run()) }
    }

    /// Queues an alert. Returns at once, whatever the sink does.
    pub fn submit(&self, alert: &Alert) {
        let request = self.sink.encode(alert);
        let overflow = {
            let mut state = self.shared.state();
            state.status.submitted += 1;
            state.status.pending += 1;
            state.queue.push_back(request);
            let full = state.queue.len() > self.shared.most;
            if full {
                state.queue.pop_front();
                state.status.pending -= 1;
                state.status.dropped += 1;
            }
            let news = full && !state.overflowing;
            state.overflowing |= full;
            news
        };
        self.shared.filled.notify_one();
        if overflow {
            let (name, most) = (self.shared.name, self.shared.most);
            tracing::warn!("{name}: {most} alerts wait already; the oldest are dropped from now on");
        }
    }

    /// What became of the alerts so far.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.state().status
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Begins the shutdown without waiting for it; see [`Self::drain`].
    pub fn close(&self) {
        let delivered = self.status().delivered;
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(delivered);
            first
        });
    }

    /// Sends what waits, at the usual pace, for `deadline` at most: how that went, and the totals. A wait
    /// after a failure is cut short once, as the server may be back, unless the server asked for it.
    pub async fn drain(mut self, deadline: Duration) -> (Drained, Status) {
        self.close();
        let before = self.closing.borrow().unwrap_or_default();
        let _ = tokio::time::timeout(deadline, &mut self.worker).await;
        self.worker.abort();
        let status = self.status();
        (Drained { delivered: status.delivered - before, left: status.pending }, status)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker<P> {
    sink: Arc<dyn Sink>,
    post: P,
    shared: Arc<Shared>,
    closed: watch::Receiver<Option<u64>>,
    pace: Pace,
    start: Instant,
    bucket: Bucket,
    backoff: Backoff,
    /// Failures since the server last took a message; the first one is said.
    failures: u32,
    /// The last refusal said: the same one again is only counted.
    refusal: Option<String>,
}

impl<P: Post> Worker<P> {
    async fn run(mut self) {
        while let Some(request) = self.next().await {
            let delivered = self.tell(&request).await;
            let mut state = self.shared.state();
            state.status.pending -= 1;
            if delivered {
                state.status.delivered += 1;
            } else {
                state.status.refused += 1;
            }
        }
    }

    /// The next request; `None` once the queue is empty and nothing more will come.
    async fn next(&mut self) -> Option<Request> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(request) = state.queue.pop_front() {
                    return Some(request);
                }
                if std::mem::take(&mut state.overflowing) {
                    let dropped = state.status.dropped;
                    tracing::warn!(
                        "{}: the queue is empty again; {dropped} alerts were dropped so far",
                        self.shared.name
                    );
                }
            }
            if self.closed.borrow().is_some() {
                return None;
            }
            tokio::select! {
                () = self.shared.filled.notified() => {}
                _ = self.closed.changed() => {}
            }
        }
    }

    /// Tries until it is decided: true for delivered.
    async fn tell(&mut self, request: &Request) -> bool {
        let mut tries = 0;
        let mut server_errors = 0;
        loop {
            tokio::time::sleep(self.bucket.take(self.start.elapsed())).await;
            tries += 1;
            let (after, reason) = match self.post.post(request).await {
                Ok(answer) => match self.sink.verdict(&answer) {
                    Verdict::Delivered => {
                        self.works();
                        return true;
                    }
                    Verdict::Refused { reason } => {
                        self.refused(reason);
                        return false;
                    }
                    Verdict::Retry { after, suspicious, reason } => {
                        server_errors += u32::from(suspicious);
                        if server_errors >= self.pace.server_errors {
                            self.refused(format!("{reason}, {server_errors} times in a row"));
                            return false;
                        }
                        (after, reason)
                    }
                },
                Err(reason) => (None, reason),
            };
            let after = after.unwrap_or_default().min(self.pace.longest_retry_after);
            self.failed(&reason);
            let wait = self.backoff.wait(tries).max(after);
            self.pause(wait, after.is_zero()).await;
        }
    }

    /// Waits; if `ours`, not a wait the server asked for, only until a shutdown begins.
    async fn pause(&mut self, wait: Duration, ours: bool) {
        let sleep = tokio::time::sleep(wait);
        if !ours || self.closed.borrow().is_some() {
            return sleep.await;
        }
        tokio::select! {
            () = sleep => {}
            _ = self.closed.changed() => {}
        }
    }

    fn works(&mut self) {
        if self.failures > 0 {
            tracing::info!("{}: works again after {} failed tries", self.shared.name, self.failures);
        }
        self.failures = 0;
        self.refusal = None;
    }

    fn failed(&mut self, reason: &str) {
        self.shared.state().status.retries += 1;
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!("{}: an alert could not be sent: {reason}; trying again", self.shared.name);
        } else {
            tracing::debug!("{}: try {} failed: {reason}", self.shared.name, self.failures);
        }
    }

    fn refused(&mut self, reason: String) {
        self.failures = 0;
        if self.refusal.as_ref() == Some(&reason) {
            tracing::debug!("{}: refused again: {reason}", self.shared.name);
        } else {
            tracing::error!("{}: an alert was refused and is dropped: {reason}", self.shared.name);
            self.refusal = Some(reason);
        }
    }
}

#[cfg(test)]
mod tests;
