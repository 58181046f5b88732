//! `wherefore flows`: who sent how much to whom, from captures or a live host.

use crate::{
    backend::{self, Backend},
    render::{KeyKind, Report, Summary},
};

/// Reads `backend` to its end and sums it up.
///
/// A fault does not throw away what was counted before it: the report comes with the first error, so the
/// command prints the one, reports the other, and exits with a failure.
pub fn collect(
    backend: &mut dyn Backend,
    kind: KeyKind,
    by_interface: bool,
) -> (Report, Option<backend::Error>) {
    let mut summary = Summary::new(kind, by_interface);
    let mut fault = None;
    loop {
        match backend.poll() {
            Ok(Some(snapshot)) => summary.add(&snapshot),
            Ok(None) => break,
            // Polled again, a file backend goes on with what it still has; a second error ends it.
            Err(error) if fault.is_none() => fault = Some(error),
            Err(_) => break,
        }
    }
    (summary.finish(), fault)
}
