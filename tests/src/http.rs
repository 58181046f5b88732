//! A web server for webhooks that records what it gets and answers as it is told: well, badly or never.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{Shutdown, shutdown};

use crate::{netns::Netns, wait_until};

/// Bodies beyond this are refused, so that a fault cannot fill the memory.
const MAX_BODY: usize = 16 << 20;

/// What the server does with a request, after recording it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers with a status, headers and a body.
    Status {
        /// Status code.
        code: u16,
        /// Headers besides `Content-Length`.
        headers: Vec<(String, String)>,
        /// Body.
        body: String,
    },
    /// Keeps the connection open and says nothing.
    Hang,
    /// Closes the connection without a word.
    Close,
}

impl Answer {
    /// A status with the body `ok`, as Slack answers, or with none.
    #[must_use]
    pub fn code(code: u16) -> Self {
        let body = if code == 200 { "ok".into() } else { String::new() };
        Self::Status { code, headers: Vec::new(), body }
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `POST`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// A running server; dropped, it stops listening and closes every connection.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpServer {
    /// A server on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(answer: Answer) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), answer)
    }

    /// A server on a free port of an address inside a namespace.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start_in(netns: &Netns, address: IpAddr, answer: Answer) -> Self {
        Self::on(netns.run(|| TcpListener::bind((address, 0))), answer)
    }

    fn on(listener: io::Result<TcpListener>, answer: Answer) -> Self {
        let listener = Arc::new(listener.unwrap_or_else(|error| panic!("listening: {error}")));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            requests: Mutex::default(),
            connections: Mutex::default(),
        });
        let acceptor = {
            let (listener, state) = (Arc::clone(&listener), Arc::clone(&state));
            thread::spawn(move || {
                // Ends when drop() shuts the listener down.
                while let Ok((stream, _)) = listener.accept() {
                    let state = Arc::clone(&state);
                    if let Ok(second) = stream.try_clone() {
                        lock(&state.connections).push(second);
                    }
                    thread::spawn(move || serve(&stream, &state));
                }
            })
        };
        Self { address, listener, state, acceptor: Some(acceptor) }
    }

    /// `http://ADDRESS:PORT/` with `path` behind it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{}", self.address, path.trim_start_matches('/'))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what later requests are answered.
    pub fn set_answer(&self, answer: Answer) {
        *lock(&self.state.answer) = answer;
    }

    /// Closes every open connection.
    pub fn hang_up(&self) {
        for connection in lock(&self.state.connections).drain(..) {
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// Waits until there are at least `count` requests, and returns them all.
    ///
    /// # Panics
    /// When they do not come within `timeout`.
    #[must_use]
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Vec<Request> {
        wait_until(&format!("{count} requests"), timeout, || lock(&self.state.requests).len() >= count);
        self.requests()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Wakes accept(2), which then fails.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        self.hang_up();
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = read_request(&mut reader) {
        // Both under one lock: who sees the request sees the answer that was set before.
        let answer = {
            let mut requests = lock(&state.requests);
            requests.push(request);
            lock(&state.answer).clone()
        };
        match answer {
            Answer::Status { code, headers, body } => {
                let mut head = format!("HTTP/1.1 {code} .\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let mut writer = stream;
                if writer.write_all(format!("{head}\r\n{body}").as_bytes()).is_err() {
                    break;
                }
            }
            // Until the other side gives up, or the server is dropped.
            Answer::Hang => {
                drop(io::copy(&mut reader, &mut io::sink()));
                break;
            }
            Answer::Close => break,
        }
    }
    drop(stream.shutdown(std::net::Shutdown::Both));
}

/// One request with a body of stated length; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse::<usize>());
    let length = length.map_err(io::Error::other)?;
    if length > MAX_BODY {
        return Err(io::Error::other("body too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PATIENCE;

    fn post(server: &HttpServer, body: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(stream, "POST /hook?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut first = String::new();
        BufReader::new(stream).read_line(&mut first).unwrap();
        first.trim().into()
    }

    #[test]
    fn records_and_answers_as_told() {
        let server = HttpServer::start(Answer::code(200));
        assert_eq!(post(&server, r#"{"text":"a"}"#), "HTTP/1.1 200 .");
        server.set_answer(Answer::code(500));
        assert_eq!(post(&server, "b"), "HTTP/1.1 500 .");
        server.set_answer(Answer::Close);
        assert_eq!(post(&server, "c"), "");
        let requests = server.wait_for(3, PATIENCE);
        assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/hook?a=1"));
        assert_eq!(requests[0].json()["text"], "a");
        assert_eq!((&*requests[1].body, &*requests[2].body), (&b"b"[..], &b"c"[..]));
    }

    #[test]
    fn a_hanging_server_can_be_dropped() {
        let server = HttpServer::start(Answer::Hang);
        thread::scope(|scope| {
            let client = scope.spawn(|| post(&server, "never answered"));
            assert_eq!(server.wait_for(1, PATIENCE).len(), 1);
            assert!(!client.is_finished());
            server.hang_up();
            assert_eq!(client.join().unwrap(), "");
        });
    }
}
