//! Where alerts go. A [`Sink`] is a pure encoder; [`transport`] and [`deliver`] do the sending.

pub mod deliver;
pub mod files;
pub mod log;
mod pace;
mod secret;
mod sinks;
pub mod slack;
pub mod transport;

use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;

pub use sinks::{Outcome, Sinks};

use crate::alert::Alert;

/// Turns an alert into a request, and an answer into a verdict. Pure: no clock, no socket.
pub trait Sink: Send + Sync {
    /// `slack`, …; for messages about the sink itself.
    fn name(&self) -> &'static str;

    /// The request that tells `alert`.
    fn encode(&self, alert: &Alert) -> Request;

    /// What the answer to such a request means; the default goes by the status alone.
    fn verdict(&self, answer: &Answer) -> Verdict {
        Verdict::by_status(answer)
    }
}

/// An HTTP POST.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to; may hold a secret, so it is never logged.
    pub url: String,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// The URL may be a secret: never printed.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &"<hidden>")
            .field("content_type", &self.content_type)
            .field("body", &self.body)
            .finish()
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, as time from now.
    pub retry_after: Option<Duration>,
    /// The beginning of the body, in one printable line, freed of the request's URL.
    pub body: String,
}

/// What an answer means for the alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was told.
    Delivered,
    /// Not now.
    Retry {
        /// Not before this time has passed.
        after: Option<Duration>,
        /// True where the request itself may be what the server stumbles over (5xx), so that it must not
        /// be repeated for ever; false where the server only has no time (429).
        suspicious: bool,
        /// Why, for a person.
        reason: String,
    },
    /// Never: the same request would be refused again.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

impl Verdict {
    /// 2xx is delivered; 408, 425, 429 and 5xx come again; the rest, redirects included, is refused.
    #[must_use]
    pub fn by_status(answer: &Answer) -> Self {
        let reason = if answer.body.is_empty() {
            format!("it answered {}", answer.status)
        } else {
            format!("it answered {} ({})", answer.status, answer.body)
        };
        match answer.status {
            200..=299 => Self::Delivered,
            408 | 425 | 429 => Self::Retry { after: answer.retry_after, suspicious: false, reason },
            500..=599 => Self::Retry { after: answer.retry_after, suspicious: true, reason },
            300..=399 => Self::Refused { reason: format!("{reason}, and redirects are not followed") },
            _ => Self::Refused { reason },
        }
    }
}

/// Why a sink cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A log file cannot be opened.
    #[error("cannot open {}: {source}; make its directory writable or choose another one", path.display())]
    LogFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A URL is none; the URL itself is not shown, as it may be a secret.
    #[error("the URL of {sink} cannot be used: {reason}")]
    Url {
        /// Of which sink.
        sink: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error(
        "cannot set up HTTPS: {0}; are the system's CA certificates installed (package ca-certificates)?"
    )]
    Client(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_pass_come_again_and_the_rest_does_not() {
        let verdict = |status| {
            let after = Some(Duration::from_secs(7));
            Verdict::by_status(&Answer { status, retry_after: after, body: String::new() })
        };
        for status in [200, 202, 204] {
            assert_eq!(verdict(status), Verdict::Delivered, "{status}");
        }
        for (status, expected) in [(408, false), (425, false), (429, false), (500, true), (503, true)] {
            match verdict(status) {
                Verdict::Retry { after, suspicious, reason } => {
                    assert_eq!((after, suspicious), (Some(Duration::from_secs(7)), expected), "{status}");
                    assert!(reason.contains(&status.to_string()));
                }
                other => panic!("{status}: {other:?}"),
            }
        }
        for status in [301, 307, 400, 403, 404, 410] {
            assert!(matches!(verdict(status), Verdict::Refused { .. }), "{status}");
        }
    }
}
