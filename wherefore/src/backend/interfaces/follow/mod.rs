//! Follows the interfaces as they come, go and change their names, and lets a backend watch them.
//!
//! A thread of its own in the network namespace of whoever began: it waits for what rtnetlink tells, so that a new
//! interface is counted milliseconds later and not at the next poll, and only there can be attached. A poll asks it
//! for the names of the interval; then all that changed before the question has been heeded.

mod following;
mod tell;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use self::following::Following;
use super::{Interface, Request};
use crate::{
    backend::{Error, Watched},
    locality::HostAddresses,
    snapshot::Snapshot,
};

/// How a backend begins and ends to count an interface.
pub(in crate::backend) trait Attach: Send + 'static {
    /// Begins; the hook in use.
    ///
    /// # Errors
    /// Why it cannot.
    fn attach(&mut self, interface: &Interface) -> Result<String, Error>;

    /// Ends, also where the interface is gone. What was counted stays counted.
    fn detach(&mut self, indexes: &[u32]);

    /// The interface has another name or MTU, or went up or down.
    fn renew(&mut self, interface: &Interface);

    /// Looks whether all is as it should be. At every poll.
    fn check(&mut self);

    /// Only interfaces that are up can be counted.
    fn wants_up(&self) -> bool {
        false
    }
}

/// What an interval is to be told about the interfaces: those watched in it, also those gone meanwhile.
#[derive(Debug, Default)]
struct View {
    interfaces: BTreeMap<u32, Seat>,
    addresses: HostAddresses,
}

/// A watched interface as a snapshot names it.
#[derive(Clone, Debug)]
struct Seat {
    name: String,
    stacked: bool,
}

/// The thread that follows.
pub(in crate::backend) struct Follower {
    /// Asks for a view; behind it a byte through `wake`.
    ask: mpsc::Sender<mpsc::Sender<View>>,
    /// Dropped to stop the thread.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<View>>,
    /// Those of the interval before. What libpcap hands over late may be of one that is gone since.
    before: BTreeMap<u32, Seat>,
}

/// What is watched at the start.
pub(in crate::backend) struct Started {
    pub watched: Vec<Watched>,
    /// Why these.
    pub why: String,
}

impl Follower {
    /// Attaches to what `request` asks for, and follows from then on.
    ///
    /// # Errors
    /// [`Error::NoInterface`] for a name that does not exist now; [`Error::System`] where there is nothing to watch, or
    /// the interfaces cannot be listed; what `attach` says about an interface, unless a glob asked for it and others
    /// are watched. Nothing stays attached after an error.
    pub fn start(request: &Request, attach: impl Attach) -> Result<(Self, Started), Error> {
        let failed = |error: io::Error| Error::System {
            action: "following the network interfaces".into(),
            reason: error.to_string(),
        };
        let mut following = Following::new(request.clone(), attach)?;
        let started = following.begin()?;
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        woken.set_nonblocking(true).map_err(failed)?;
        let (ask, asked) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("interfaces".into())
            .spawn(move || following.run(woken, &asked))
            .map_err(failed)?;
        Ok((Self { ask, wake: Some(wake), thread: Some(thread), before: BTreeMap::new() }, started))
    }

    /// Names the interfaces of the interval that has just ended, with all that changed until now. To be called once
    /// what it counted is known: then every interface that could be counted in it is, too. After [`Self::stop`]
    /// without effect.
    ///
    /// # Errors
    /// [`Error::System`] when the thread ended by a fault.
    pub fn describe(&mut self, snapshot: &mut Snapshot) -> Result<(), Error> {
        let Some(wake) = &mut self.wake else { return Ok(()) };
        let (answer, view) = mpsc::channel();
        let view = self
            .ask
            .send(answer)
            .ok()
            .and_then(|()| wake.write_all(&[0]).ok())
            .and_then(|()| view.recv().ok())
            .ok_or_else(crashed)?;
        self.put(view, snapshot);
        Ok(())
    }

    /// Detaches from everything; what is counted then is all there will be.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub fn stop(&mut self) -> Result<Last, Error> {
        self.wake = None;
        let view = self.thread.take().and_then(|thread| thread.join().ok());
        view.map(Last).ok_or_else(crashed)
    }

    /// As [`Self::describe`], of the last interval.
    pub fn describe_last(&mut self, last: Last, snapshot: &mut Snapshot) {
        self.put(last.0, snapshot);
    }

    fn put(&mut self, view: View, snapshot: &mut Snapshot) {
        let mut seats = view.interfaces;
        // Only where one is gone is there anything to look for.
        if self.before.keys().any(|index| !seats.contains_key(index)) {
            let flows = snapshot.flows.iter().map(|flow| flow.key.ifindex);
            let lost = snapshot.unaccounted.keys().map(|key| key.ifindex);
            let passed = snapshot.passed.keys().map(|(index, _)| *index);
            for index in flows.chain(lost).chain(passed) {
                if !seats.contains_key(&index)
                    && let Some(seat) = self.before.get(&index)
                {
                    seats.insert(index, seat.clone());
                }
            }
        }
        snapshot.interfaces.extend(seats.iter().map(|(index, seat)| (*index, seat.name.clone())));
        snapshot.stacked = seats.iter().filter(|(_, seat)| seat.stacked).map(|(index, _)| *index).collect();
        snapshot.host_addresses = Some(Arc::new(view.addresses));
        self.before = seats;
    }
}

/// What the last interval is to be told.
pub(in crate::backend) struct Last(View);

impl Drop for Follower {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(error) = self.stop()
        {
            tracing::error!("{error}");
        }
    }
}

fn crashed() -> Error {
    Error::System {
        action: "following the network interfaces".into(),
        reason: "stopped by a fault of this program; please report the message above".into(),
    }
}
