//! How a run ends when its backend does not end well.

use std::sync::mpsc as std_mpsc;

use tokio::sync::mpsc;

use super::config;
use crate::{
    backend::{Backend, Description, Error},
    pipeline::{self, Event, Outcome, Signal, Stages},
    sink::Sinks,
    snapshot::Snapshot,
};

/// What a backend does when it has handed over one snapshot.
enum Then {
    Panics,
    /// Waits for the other end to be dropped.
    Waits(std_mpsc::Receiver<()>),
}

struct Script {
    then: Then,
    description: Description,
    polls: u32,
}

impl Backend for Script {
    fn description(&self) -> &Description {
        &self.description
    }
    fn is_live(&self) -> bool {
        false
    }
    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        self.polls += 1;
        match &self.then {
            _ if self.polls == 1 => return Ok(Some(Snapshot::default())),
            Then::Panics => panic!("a fault made for a test"),
            Then::Waits(end) => drop(end.recv()),
        }
        Ok(None)
    }
}

/// Runs it, says stop at the first interval if `stop`, and tells how it ended.
fn run(then: Then, stop: bool) -> Outcome {
    let config = config("wherefore replay a.pcap");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stages = Stages::new(&config, "host".into()).unwrap();
        let sinks = Sinks::start(&config.log, None).unwrap();
        let (signal, mut signals) = mpsc::channel(8);
        let backend = Box::new(Script { then, description: Description::default(), polls: 0 });
        pipeline::run(stages, backend, sinks, None, &mut signals, |event| {
            if stop && matches!(event, Event::Interval { .. }) {
                signal.try_send(Signal::Stop).unwrap();
            }
        })
        .await
    })
}

#[test]
fn a_backend_that_panics_is_a_failure_and_what_it_counted_is_told() {
    let outcome = run(Then::Panics, false);
    assert_eq!(outcome.totals.intervals, 1);
    assert!(matches!(&outcome.faults[..], [Error::System { .. }]), "{outcome:?}");
}

#[test]
fn a_read_that_does_not_return_holds_up_no_stop() {
    let (_end, waits) = std_mpsc::channel();
    let outcome = run(Then::Waits(waits), true);
    assert_eq!((outcome.totals.intervals, outcome.faults.len()), (1, 0));
    assert!(outcome.sinks.is_some(), "one signal, and an end in order");
}
