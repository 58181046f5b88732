//! Sinks against a real HTTP server on loopback.
#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::{
    io::Write,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use wherefore::{
    enrich::own::OwnTraffic,
    sink::{
        Sink as _, Sinks,
        deliver::{Delivery, Pace, Post as _, Status},
        log::{self, TextLog},
        slack::Slack,
        transport::Transport,
    },
};
use wherefore_tests::{
    PATIENCE,
    sinks::{NO_FILES, alert, assert_no_secret, settings},
    webhook::{Behaviour, SECRET, Server, answer, ok},
};

/// Comes again at once.
fn quick() -> Pace {
    Pace {
        per: Duration::from_millis(1),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        ..Pace::slack(1)
    }
}

/// Lets no thread be without a subscriber. `tracing` remembers for each place in the code whether anybody
/// listens; a place first reached by a test without one, while another begins to listen, can stay silent.
fn somebody_listens() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

fn deliver(server: &Server, pace: Pace) -> Delivery {
    somebody_listens();
    let transport = Transport::new("Slack", &server.url(), OwnTraffic::new()).unwrap();
    Delivery::start(Arc::new(Slack::new(settings(&server.url()))), transport, pace)
}

/// Waits for a condition of the delivery's counters.
async fn until(delivery: &Delivery, done: impl Fn(Status) -> bool) -> Status {
    let waiting = async {
        while !done(delivery.status()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delivery.status()
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it should have come to an end")
}

/// Everything said through `tracing` while it lives, on this thread (the tests' runtimes have one only).
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        somebody_listens();
        let said = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || said.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Lines of our own crate, at every level.
    fn ours(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().filter(|line| line.contains(" wherefore::")).map(str::to_owned).collect()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_alert_arrives_word_for_word_and_is_in_the_log() {
    let server = Server::start(vec![ok()]).await;
    let dir = tempfile::tempdir().unwrap();
    let log = log::Settings { dir: Some(dir.path().join("log")), max_bytes: 1 << 20 };
    let text = TextLog::open(&log).unwrap();
    let sinks = Sinks::start(&log, Some(&settings(&server.url()))).unwrap().with_text_log(text);
    sinks.tell(&alert("web1"));
    assert_eq!(sinks.pending(), 1);

    let received = server.requests(1).await;
    let head = &received[0].head;
    assert!(head.starts_with(&format!("POST /services/{SECRET} HTTP/1.1\r\n")), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\ncontent-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&received[0].body).unwrap();
    assert_eq!(
        body["text"],
        "web1: 192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), usually 12 to 40 MB, highest in 25 min"
    );
    assert_eq!(body["channel"], "#ops");
    assert_eq!(body["blocks"].as_array().unwrap().len(), 4);
    assert!(body.get("icon_emoji").is_none());
    assert_eq!(received[0].body.as_bytes(), Slack::new(settings(&server.url())).encode(&alert("web1")).body);

    // Rotation by somebody else, then one more line.
    let file = dir.path().join("log/wherefore_anomalies.log");
    let old = dir.path().join("log/old");
    std::fs::rename(&file, &old).unwrap();
    sinks.reopen();
    sinks.tell(&alert("web2"));
    let outcome = sinks.shutdown(Duration::from_secs(10)).await;
    assert_eq!(outcome.left(), 0);
    assert_eq!(outcome.to_string(), "Slack: 2 of 2 alerts delivered");
    assert_eq!(std::fs::read_to_string(&old).unwrap(), alert("web1").to_json() + "\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), alert("web2").to_json() + "\n");
}

#[tokio::test]
async fn comes_again_after_errors_with_the_same_bytes() {
    let server = Server::start(vec![
        answer("500 Internal Server Error", "", "rollup_error"),
        Behaviour::Close,
        answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
        Behaviour::Answer("this is not HTTP\r\n\r\n".into()),
        ok(),
    ])
    .await;
    let delivery = deliver(&server, quick());
    delivery.submit(&alert("web1"));
    let status = until(&delivery, |status| status.pending == 0).await;
    assert_eq!((status.delivered, status.refused, status.dropped, status.retries), (1, 0, 0, 4));
    let received = server.received();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|request| request.body == received[0].body));
}

#[tokio::test]
async fn heeds_retry_after() {
    let server =
        Server::start(vec![answer("429 Too Many Requests", "Retry-After: 3600\r\n", ""), ok()]).await;
    let delivery = deliver(&server, quick());
    delivery.submit(&alert("web1"));
    until(&delivery, |status| status.retries == 1).await;
    // Its own pace would come again within 5 ms, and a shutdown does not overrule the server either.
    let (drained, _) = delivery.drain(Duration::from_millis(100)).await;
    assert_eq!((drained.delivered, drained.left), (0, 1));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn refusals_are_said_once_and_not_repeated() {
    let said = Said::default();
    let _listening = said.listen();
    // As some web servers do, this one repeats the path.
    let page = format!("The requested URL /services/{SECRET} was not found\n");
    let server = Server::start(vec![answer("404 Not Found", "", &page)]).await;
    let delivery = deliver(&server, quick());
    for _ in 0..3 {
        delivery.submit(&alert("web1"));
    }
    let status = until(&delivery, |status| status.pending == 0).await;
    assert_eq!((status.refused, status.retries), (3, 0));
    assert_eq!(server.received().len(), 3);
    let loud: Vec<String> = said.ours().into_iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(loud.len(), 1, "{loud:?}");
    assert!(loud[0].contains("404 (The requested URL <hidden> was not found)"), "{loud:?}");
    assert_no_secret(&said.ours().concat());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::start(vec![ok()]).await;
    let there = format!("location: {}\r\n", elsewhere.url());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = Server::start(vec![answer(status, &there, "")]).await;
        let delivery = deliver(&server, quick());
        delivery.submit(&alert("web1"));
        let status = until(&delivery, |status| status.pending == 0).await;
        assert_eq!((status.delivered, status.refused), (0, 1));
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_hanging_server_delays_nobody_and_ends_with_the_deadline() {
    let server = Server::start(vec![Behaviour::Hang]).await;
    let delivery = deliver(&server, Pace { queue: 3, ..quick() });
    delivery.submit(&alert("first"));
    server.requests(1).await;
    // On a runtime with one thread none of these would return if it waited for the server.
    for _ in 0..10 {
        delivery.submit(&alert("later"));
    }
    let status = delivery.status();
    assert_eq!((status.submitted, status.dropped, status.pending), (11, 7, 4));
    let (drained, status) = delivery.drain(Duration::from_millis(100)).await;
    assert_eq!((drained.delivered, drained.left, status.pending), (0, 4, 4));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn an_unreachable_server_is_an_error_without_its_url() {
    // Bound and released: nobody listens there.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = Said::default();
    let _listening = said.listen();
    let settings = settings(&format!("http://{address}/services/{SECRET}"));
    let transport = Transport::new("Slack", &settings.url, OwnTraffic::new()).unwrap();
    let sink = Slack::new(settings.clone());
    let request = sink.encode(&alert("web1"));
    let reason = transport.post(&request).await.unwrap_err();
    assert!(reason.to_lowercase().contains("refused"), "{reason}");

    let sinks = Sinks::start(&NO_FILES, Some(&settings)).unwrap();
    sinks.tell(&alert("web1"));
    let debug = format!("{sinks:?} {transport:?} {sink:?} {request:?} {settings:?}");
    let waiting = async {
        while sinks.status()[0].1.retries == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the first try should have failed");
    let outcome = sinks.shutdown(Duration::from_millis(50)).await;
    assert_eq!(outcome.left(), 1);
    for text in [reason, debug, format!("{outcome:?} {outcome}"), said.ours().concat()] {
        assert_no_secret(&text);
    }
    assert!(said.ours().iter().any(|line| line.contains("WARN") && line.contains("trying again")));
}
