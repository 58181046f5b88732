//! A small HTTP server on loopback and the caller's runtime, which behaves as badly as servers do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::PATIENCE;

/// A path such as Slack's: it is all it takes to write into somebody's channel.
pub const SECRET: &str = "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with these bytes.
    Answer(String),
    /// Reads it and closes the connection.
    Close,
    /// Reads it and says nothing, with the connection open.
    Hang,
}

/// An answer with its length.
#[must_use]
pub fn answer(status: &str, headers: &str, body: &str) -> Behaviour {
    let length = body.len();
    Behaviour::Answer(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
}

/// What Slack says.
#[must_use]
pub fn ok() -> Behaviour {
    answer("200 OK", "content-type: text/html\r\n", "ok")
}

/// A request as it came, with the address it came from.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and headers.
    pub head: String,
    /// Body.
    pub body: String,
    /// Who sent it.
    pub peer: SocketAddr,
}

/// The server, until the runtime ends.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    arrived: Arc<Notify>,
}

impl Server {
    /// Behaves as `script` says, in order, the last for ever.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(script: Vec<Behaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::new(Notify::new());
        let (log, bell) = (Arc::clone(&received), Arc::clone(&arrived));
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(serve(stream, peer, script.clone(), Arc::clone(&log), Arc::clone(&bell)));
            }
        });
        Self { address, received, arrived }
    }

    /// A webhook of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/services/{SECRET}", self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are `count` requests.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn requests(&self, count: usize) -> Vec<Received> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            tokio::time::timeout(PATIENCE, arrived).await.expect("a request should have come");
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    script: Vec<Behaviour>,
    log: Arc<Mutex<Vec<Received>>>,
    bell: Arc<Notify>,
) {
    let mut bytes = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut bytes).await {
        let behaviour = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(Received { head, body, peer });
            script[(log.len() - 1).min(script.len() - 1)].clone()
        };
        bell.notify_waiters();
        match behaviour {
            Behaviour::Answer(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Behaviour::Close => return,
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

/// The next request of a connection; `None` at its end.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                let request = (head.to_owned(), body[..length].to_owned());
                bytes.drain(..head.len() + 4 + length);
                return Some(request);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
