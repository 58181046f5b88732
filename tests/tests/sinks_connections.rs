//! The connections of sinks: known as the agent's own, and to servers with trusted certificates alone.
#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::{net::SocketAddr, time::Duration};

use wherefore::{
    enrich::own::OwnTraffic,
    sink::{Sink as _, Sinks, deliver::Post as _, slack::Slack, transport::Transport},
    snapshot::{Flow, Snapshot},
};
use wherefore_common::{FlowCounters, FlowKey};
use wherefore_tests::{
    PATIENCE,
    sinks::{NO_FILES, alert, assert_no_secret, settings},
    webhook::{Behaviour, SECRET, Server, answer, ok},
};

#[path = "support/https.rs"]
mod https;

/// Whether each direction of a TCP connection is marked.
fn marked(own: &OwnTraffic, local: SocketAddr, remote: SocketAddr) -> [bool; 2] {
    let bytes = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let flow = |src: SocketAddr, dst: SocketAddr| Flow {
        key: FlowKey {
            src: bytes(src),
            dst: bytes(dst),
            sport: src.port(),
            dport: dst.port(),
            proto: 6,
            family: 4,
            ..FlowKey::default()
        },
        counters: FlowCounters::default(),
        own: false,
        ignored: false,
        locality: Default::default(),
    };
    let flows = vec![flow(local, remote), flow(remote, local)];
    let mut snapshot = Snapshot { flows, ..Snapshot::default() };
    own.mark(&mut snapshot);
    [snapshot.flows[0].own, snapshot.flows[1].own]
}

#[tokio::test]
async fn connections_are_known_as_our_own_after_they_are_gone() {
    let server = Server::start(vec![answer("200 OK", "connection: close\r\n", "ok")]).await;
    let sinks = Sinks::start(&NO_FILES, Some(&settings(&server.url()))).unwrap();
    let own = sinks.own_traffic();
    sinks.tell(&alert("web1"));
    let peer = server.requests(1).await[0].peer;
    assert_eq!(sinks.shutdown(Duration::from_secs(10)).await.left(), 0);
    assert_eq!(marked(&own, peer, server.address), [true, true]);
    own.refresh().unwrap();
    assert_eq!(marked(&own, peer, server.address), [true, true]);
}

#[tokio::test]
async fn connections_without_an_answer_are_known_as_our_own() {
    let server = Server::start(vec![Behaviour::Hang]).await;
    let sinks = Sinks::start(&NO_FILES, Some(&settings(&server.url()))).unwrap();
    let own = sinks.own_traffic();
    sinks.tell(&alert("web1"));
    let peer = server.requests(1).await[0].peer;
    let waiting = async {
        while marked(&own, peer, server.address) != [true, true] {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the open connection should be known");
    assert_eq!(sinks.shutdown(Duration::ZERO).await.left(), 1);
}

/// Set for the process that speaks HTTPS: the URL to post to.
const CHILD: &str = "WHEREFORE_TEST_HTTPS_URL";

/// Run by [`https_trusts_the_systems_certificates_only`] in a process of its own, as the trusted
/// certificates come from the environment.
#[tokio::test]
async fn https_child() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let transport = Transport::new("Slack", &url, OwnTraffic::new()).unwrap();
    let request = Slack::new(settings(&url)).encode(&alert("web1"));
    println!("result: {:?}", transport.post(&request).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_trusts_the_systems_certificates_only() {
    let dir = tempfile::tempdir().unwrap();
    if !https::certificates(dir.path()) {
        eprintln!("skipped: openssl is not installed, which makes the certificates of this test");
        return;
    }
    let (server, acceptor) = (Server::start(vec![ok()]).await, https::acceptor(dir.path()));
    let address = https::forward(acceptor, server.address).await;
    let post = async |host: &str, trusted: &str| {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "https_child", "--nocapture"])
            .env(CHILD, format!("https://{host}:{}/services/{SECRET}", address.port()))
            .env("SSL_CERT_FILE", dir.path().join(trusted))
            .env_remove("SSL_CERT_DIR")
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let trusted = post("localhost", "ca.pem").await;
    assert!(trusted.contains("result: Ok(Answer { status: 200"), "{trusted}");
    // The certificate names localhost alone.
    let other_name = post("127.0.0.1", "ca.pem").await;
    assert!(other_name.contains("result: Err("), "{other_name}");
    let other_authority = post("localhost", "other-ca.pem").await;
    assert!(other_authority.contains("result: Err("), "{other_authority}");
    for text in [other_name, other_authority] {
        assert!(text.contains("certificate"), "{text}");
        assert_no_secret(&text);
    }
    assert_eq!(server.received().len(), 1);
}
