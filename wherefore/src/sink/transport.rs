//! HTTP by reqwest, with rustls on ring and the system's CA certificates.

use std::{
    error::Error as _,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};

use super::{
    Answer, Error, Request,
    deliver::Post,
    secret::{Scrubber, one_line},
};
use crate::{enrich::own::OwnTraffic, time::Timestamp};

/// Time for name, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a request as a whole.
const TOTAL: Duration = Duration::from_secs(10);
/// An unused connection is kept this long: long enough for a burst of alerts.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of an answer's body that are read at most.
const BODY: usize = 4096;
/// Characters of it that are kept.
const WORDS: usize = 200;

/// The HTTP client. Its connections are known to [`OwnTraffic`] while they last.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client,
    own: OwnTraffic,
}

impl Transport {
    /// A client for `url`, which is checked here; no connection is made yet.
    ///
    /// Redirects are not followed: a POST would become a GET on the way, or go to a host nobody chose.
    /// A proxy named in the environment (`HTTPS_PROXY`, `NO_PROXY`, …) is used.
    ///
    /// # Errors
    /// When `url` is no `http` or `https` URL with a host, or (`https`) no CA certificates are found.
    pub fn new(sink: &'static str, url: &str, own: OwnTraffic) -> Result<Self, Error> {
        let secure = check(url).map_err(|reason| Error::Url { sink, reason })?;
        // An error means that one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("wherefore/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .dns_resolver(Watched { own: own.clone() });
        if !secure {
            // Certificates are not needed, so their absence is no error.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| Error::Client(words(error)))?;
        Ok(Self { client, own })
    }

    /// Waits for the answer, and meanwhile looks for the connections it takes: also one that fails, and
    /// so is in no answer, is ours.
    async fn watched(
        &self,
        sending: impl Future<Output = reqwest::Result<Response>>,
    ) -> reqwest::Result<Response> {
        let mut sending = std::pin::pin!(sending);
        let mut pause = Duration::from_millis(1);
        loop {
            tokio::select! {
                result = &mut sending => return result,
                () = tokio::time::sleep(pause) => {
                    // Without /proc the connection is still known from the answer.
                    let _ = self.own.sample();
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }
}

impl Post for Transport {
    async fn post(&self, request: &Request) -> Result<Answer, String> {
        let url = Url::parse(&request.url).map_err(|error| error.to_string())?;
        let scrubber = Scrubber::new(&url);
        let sending = self
            .client
            .post(url)
            .header(CONTENT_TYPE, request.content_type)
            .body(request.body.clone())
            .send();
        match self.watched(sending).await {
            Ok(mut response) => {
                if let Some(info) = response.extensions().get::<HttpInfo>() {
                    self.own.note(info.local_addr(), info.remote_addr());
                }
                Ok(Answer {
                    status: response.status().as_u16(),
                    retry_after: retry_after(response.headers(), Timestamp::now()),
                    body: one_line(&scrubber.scrub(&beginning(&mut response).await), WORDS),
                })
            }
            Err(error) => Err(scrubber.scrub(&words(error))),
        }
    }
}

/// True for `https`. The reason never shows the URL.
fn check(url: &str) -> Result<bool, &'static str> {
    let url = Url::parse(url).map_err(|_| "it is not a URL; it should begin with https://")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    match url.scheme() {
        "https" => Ok(true),
        "http" => Ok(false),
        _ => Err("it must begin with https:// (or http://)"),
    }
}

/// The error and its causes in one line, without the URL.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    one_line(&text, WORDS * 2)
}

/// The beginning of a body. The status has said what matters, so a body that fails ends there.
async fn beginning(response: &mut Response) -> String {
    let mut body = Vec::new();
    while body.len() < BODY
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(BODY);
    String::from_utf8_lossy(&body).into_owned()
}

/// `Retry-After` in either of its forms (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let date = Timestamp(u64::try_from(date.as_nanosecond()).ok()?);
    Some(date.since(now))
}

/// Names by the system's resolver, whose own sockets are looked for while it works.
struct Watched {
    own: OwnTraffic,
}

impl Resolve for Watched {
    fn resolve(&self, name: Name) -> Resolving {
        let own = self.own.clone();
        Box::pin(async move {
            let looked_up = tokio::task::spawn_blocking(move || {
                sampled(&own, || {
                    (name.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)
                })
            });
            let addresses: Addrs = Box::new(looked_up.await??.into_iter());
            Ok(addresses)
        })
    }
}

/// Does `work`, and takes in the connections that it opens. A name server in the same room answers
/// in some 100 µs, after which the socket is gone; one that is dead takes seconds.
fn sampled<T>(own: &OwnTraffic, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = std::thread::Builder::new().name("own-sockets".into()).spawn_scoped(scope, || {
            let mut pause = Duration::from_micros(20);
            while !done.load(Ordering::Acquire) {
                let _ = own.sample();
                std::thread::sleep(pause);
                pause = (pause * 5 / 4).min(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        // A thread that could not start only means that nobody watched.
        drop(watcher);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use wherefore_common::{FlowCounters, FlowKey};

    use super::*;
    use crate::snapshot::{Flow, Snapshot};

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        // 1994-11-15T08:12:31Z, the date of RFC 9110's example.
        let now = Timestamp(784_887_151_000_000_000 - 90_000_000_000);
        let after = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(after("30"), Some(Duration::from_secs(30)));
        assert_eq!(after("Tue, 15 Nov 1994 08:12:31 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Tue, 15 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_bad_url_is_refused_without_being_shown() {
        for url in ["", "hooks.example/SECRET", "ftp://hooks.example/SECRET", "file:///SECRET", "https:///"] {
            let error = Transport::new("Slack", url, OwnTraffic::new()).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{url}: {error:?}");
        }
    }

    /// As a resolver does: a socket that is open only while the work lasts.
    #[test]
    fn sockets_of_a_look_up_are_ours() {
        let own = OwnTraffic::new();
        let known = |key: FlowKey| {
            let flow = Flow::new(key, FlowCounters::default());
            let mut snapshot = Snapshot { flows: vec![flow], ..Snapshot::default() };
            own.mark(&mut snapshot);
            snapshot.flows[0].own
        };
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (seen, key) = sampled(&own, || {
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let loopback = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
            let key = FlowKey {
                src: loopback,
                dst: loopback,
                sport: client.local_addr().unwrap().port(),
                dport: server.local_addr().unwrap().port(),
                proto: 17,
                family: 4,
                ..FlowKey::default()
            };
            // Some seconds at the most.
            let seen = (0..100_000).any(|_| {
                std::thread::yield_now();
                std::thread::sleep(Duration::from_micros(50));
                known(key)
            });
            (seen, key)
        });
        assert!(seen);
        assert!(known(key));
    }
}
