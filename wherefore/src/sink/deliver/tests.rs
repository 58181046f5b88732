//! The worker with a server that answers as told, on a clock that jumps.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{alert::samples, sink::slack};

/// Answers as told, in order, the last one for ever; remembers when it was asked.
#[derive(Clone)]
struct Server {
    answers: Arc<Vec<Result<Answer, String>>>,
    asked: Arc<Mutex<Vec<(Duration, Request)>>>,
    next: Arc<AtomicUsize>,
    /// A request is over, answered or given up.
    over: Arc<Notify>,
    start: Instant,
}

impl Server {
    fn new(answers: Vec<Result<Answer, String>>) -> Self {
        Self {
            answers: Arc::new(answers),
            asked: Arc::default(),
            next: Arc::default(),
            over: Arc::default(),
            start: Instant::now(),
        }
    }

    fn seconds(&self) -> Vec<f64> {
        self.asked.lock().unwrap().iter().map(|(at, _)| at.as_secs_f64()).collect()
    }
}

/// Tells of a request's end when dropped.
struct Over(Arc<Notify>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Post for Server {
    async fn post(&self, request: &Request) -> Result<Answer, String> {
        let _over = Over(Arc::clone(&self.over));
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

/// Waits until the counters are so. They change when a request is over, before the worker waits for anything else.
async fn until(server: &Server, delivery: &Delivery, done: impl Fn(Status) -> bool) {
    while !done(delivery.status()) {
        server.over.notified().await;
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
    until(&server, &delivery, |status| status.delivered == 7).await;
    let seconds: Vec<f64> = server.seconds().iter().map(|s| s.round()).collect();
    assert_eq!(seconds, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    assert!(adds_up(delivery.status()));
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_says_and_repeats_the_same_bytes() {
    let server = Server::new(vec![status(429, Some(120)), status(503, Some(60)), status(200, None)]);
    let delivery = start(&server, Pace::slack(1));
    delivery.submit(&samples::burst());
    until(&server, &delivery, |status| status.delivered == 1).await;
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
    until(&server, &delivery, |status| status.delivered == 3).await;
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
    until(&server, &delivery, |status| status.pending == 0).await;
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
    until(&server, &delivery, |status| status.pending == 0).await;
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
    until(&server, &delivery, |status| status.retries == 1).await;
    assert_eq!(delivery.drain(Duration::from_secs(5)).await.0, Drained { delivered: 1, left: 0 });

    let server = Server::new(vec![status(429, Some(60)), status(200, None)]);
    let delivery = start(&server, Pace::slack(1));
    delivery.submit(&samples::burst());
    until(&server, &delivery, |status| status.retries == 1).await;
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
