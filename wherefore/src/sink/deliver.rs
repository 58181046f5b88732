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
            (self.pending, "not sent yet"),
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{alert::samples, sink::slack};

    /// Answers as told, in order, the last one for ever; remembers when it was asked.
    #[derive(Clone)]
    struct Server {
        answers: Arc<Vec<Result<Answer, String>>>,
        asked: Arc<Mutex<Vec<(Duration, Request)>>>,
        next: Arc<AtomicUsize>,
        start: Instant,
    }

    impl Server {
        fn new(answers: Vec<Result<Answer, String>>) -> Self {
            Self {
                answers: Arc::new(answers),
                asked: Arc::default(),
                next: Arc::default(),
                start: Instant::now(),
            }
        }

        fn seconds(&self) -> Vec<f64> {
            self.asked.lock().unwrap().iter().map(|(at, _)| at.as_secs_f64()).collect()
        }
    }

    impl Post for Server {
        async fn post(&self, request: &Request) -> Result<Answer, String> {
            self.asked.lock().unwrap().push((self.start.elapsed(), request.clone()));
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let answer = self.answers[n.min(self.answers.len() - 1)].clone();
            if answer == hangs() {
                std::future::pending::<()>().await;
            }
            answer
        }
    }

    fn status(status: u16, retry_after: Option<u64>) -> Result<Answer, String> {
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body: String::new() })
    }

    fn hangs() -> Result<Answer, String> {
        Err("hangs".into())
    }

    fn unreachable() -> Result<Answer, String> {
        Err("connection refused".into())
    }

    fn start(server: &Server, pace: Pace) -> Delivery {
        let settings = slack::Settings {
            url: "https://hooks.example/SECRET".into(),
            channel: None,
            emoji: None,
            icon: None,
        };
        Delivery::start(Arc::new(slack::Slack::new(settings)), server.clone(), pace)
    }

    async fn until(delivery: &Delivery, done: impl Fn(Status) -> bool) {
        while !done(delivery.status()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn adds_up(status: Status) -> bool {
        status.submitted == status.delivered + status.refused + status.dropped + status.pending
    }

    #[tokio::test(start_paused = true)]
    async fn four_at_once_then_one_a_second() {
        let server = Server::new(vec![status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        for _ in 0..7 {
            delivery.submit(&samples::burst());
        }
        until(&delivery, |status| status.delivered == 7).await;
        let seconds: Vec<f64> = server.seconds().iter().map(|s| s.round()).collect();
        assert_eq!(seconds, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert!(adds_up(delivery.status()));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_the_server_says_and_repeats_the_same_bytes() {
        let server = Server::new(vec![status(429, Some(120)), status(503, Some(60)), status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        delivery.submit(&samples::burst());
        until(&delivery, |status| status.delivered == 1).await;
        let seconds = server.seconds();
        assert!(seconds[1] >= 120.0 && seconds[1] < 121.0, "{seconds:?}");
        assert!(seconds[2] >= seconds[1] + 60.0 && seconds[2] < seconds[1] + 62.0, "{seconds:?}");
        let asked = server.asked.lock().unwrap();
        assert!(asked.iter().all(|(_, request)| *request == asked[0].1));
        assert_eq!(delivery.status().retries, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_hours_loses_nothing() {
        let mut answers = vec![unreachable(); 60];
        answers.push(status(200, None));
        let server = Server::new(answers);
        let delivery = start(&server, Pace::slack(7));
        for _ in 0..3 {
            delivery.submit(&samples::burst());
        }
        until(&delivery, |status| status.delivered == 3).await;
        let seconds = server.seconds();
        assert!(seconds[60] > 3600.0, "{seconds:?}");
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] <= 301.0), "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_alert_is_not_repeated_and_does_not_hold_up_the_next() {
        let server = Server::new(vec![status(404, None), status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        delivery.submit(&samples::burst());
        delivery.submit(&samples::connection());
        until(&delivery, |status| status.pending == 0).await;
        let status = delivery.status();
        assert_eq!((status.refused, status.delivered, status.retries), (1, 1, 0));
        assert_eq!(server.seconds().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_alert_the_server_stumbles_over_is_given_up() {
        let pace = Pace { server_errors: 5, ..Pace::slack(1) };
        let mut answers = vec![unreachable(); 10];
        answers.extend(vec![status(500, None); 5]);
        answers.push(status(200, None));
        let server = Server::new(answers);
        let delivery = start(&server, pace);
        delivery.submit(&samples::burst());
        delivery.submit(&samples::connection());
        until(&delivery, |status| status.pending == 0).await;
        assert_eq!((delivery.status().refused, delivery.status().delivered), (1, 1));
        assert_eq!(server.seconds().len(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_the_oldest_and_counts() {
        let server = Server::new(vec![hangs()]);
        let pace = Pace { queue: 3, ..Pace::slack(1) };
        let delivery = start(&server, pace);
        delivery.submit(&samples::burst());
        // The first is in hand, not in the queue.
        while server.seconds().is_empty() {
            tokio::task::yield_now().await;
        }
        for host in ["a", "b", "c", "d", "e"] {
            let mut alert = samples::burst();
            alert.host = host.into();
            delivery.submit(&alert);
        }
        let status = delivery.status();
        assert_eq!((status.dropped, status.pending), (2, 4));
        assert!(adds_up(status));
        let waiting: Vec<String> = {
            let state = delivery.shared.state();
            state.queue.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect()
        };
        for (body, host) in waiting.iter().zip(["c", "d", "e"]) {
            assert!(body.contains(&format!("Unusual traffic on {host}")), "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_sends_what_it_can_and_ends_in_time() {
        let server = Server::new(vec![status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        for _ in 0..10 {
            delivery.submit(&samples::burst());
        }
        let begin = Instant::now();
        // Four at once, then one in each of two seconds.
        let (drained, status) = delivery.drain(Duration::from_millis(2500)).await;
        assert_eq!(drained, Drained { delivered: 6, left: 4 });
        assert!(adds_up(status));
        assert!(begin.elapsed() <= Duration::from_millis(2501));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_tries_once_more_in_place_of_waiting_but_heeds_the_server() {
        let server = Server::new(vec![unreachable(), status(200, None)]);
        let hour = Duration::from_secs(3600);
        let delivery = start(&server, Pace { first_wait: hour, longest_wait: hour, ..Pace::slack(1) });
        delivery.submit(&samples::burst());
        until(&delivery, |status| status.retries == 1).await;
        assert_eq!(delivery.drain(Duration::from_secs(5)).await.0, Drained { delivered: 1, left: 0 });

        let server = Server::new(vec![status(429, Some(60)), status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        delivery.submit(&samples::burst());
        until(&delivery, |status| status.retries == 1).await;
        assert_eq!(delivery.drain(Duration::from_secs(5)).await.0, Drained { delivered: 0, left: 1 });
        assert_eq!(server.seconds().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_shutdown_is_immediate_and_nothing_shows_the_url() {
        let server = Server::new(vec![status(200, None)]);
        let delivery = start(&server, Pace::slack(1));
        assert!(!format!("{delivery:?}").contains("SECRET"));
        assert!(!format!("{:?}", delivery.sink.encode(&samples::burst())).contains("SECRET"));
        let begin = Instant::now();
        assert_eq!(delivery.drain(Duration::from_secs(5)).await.0, Drained::default());
        assert!(begin.elapsed() < Duration::from_millis(10));
    }
}
