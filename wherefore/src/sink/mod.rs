//! Where alerts go. A [`Sink`] is a pure encoder; `transport` and `deliver` do the sending.

pub mod log;
pub mod slack;

use bytes::Bytes;

use crate::alert::Alert;

/// Turns an alert into a request, and an answer into a verdict. Pure: no clock, no socket.
pub trait Sink: Send + Sync {
    /// `slack`, …; for messages about the sink itself.
    fn name(&self) -> &'static str;

    /// The request that tells `alert`.
    fn encode(&self, alert: &Alert) -> Request;
}

/// An HTTP POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to; may hold a secret, so it is never logged.
    pub url: String,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}
