//! Follows the interfaces as they come, go and change their names, and lets a backend watch them.
//!
//! A thread of its own in the network namespace of whoever began: it waits for what rtnetlink tells, so that a new
//! interface is counted milliseconds later and not at the next poll, and only there can be attached. A poll asks it
//! for the names of the interval; then all that changed before the question has been heeded.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Interface, Memory, Plan, Request, Verdict, choose, list::Listing};
use crate::{
    backend::{
        Error, Watched,
        probe::{Changes, Seen},
    },
    clean::clean,
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

/// Interfaces attached to before a poll is answered. The two TCX programs of one take 30 ms, on a busy machine 170 ms:
/// the kernel waits for a grace period each.
const AT_A_TIME: usize = 2;

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

/// What the thread knows.
struct Following<A> {
    attach: A,
    request: Request,
    /// `None` where the kernel does not tell of changes: then every look lists anew.
    changes: Option<Changes>,
    /// Changes that could not be looked at yet.
    pending: Seen,
    listing: Listing,
    memory: Memory,
    entries: BTreeMap<u32, Entry>,
    /// Those that went since the last look.
    gone: BTreeMap<u32, Entry>,
    /// All addresses since the last look.
    addresses: HostAddresses,
    /// Those to attach to next.
    new: VecDeque<Verdict>,
    /// Those to detach from when that is done.
    unwanted: Vec<Verdict>,
    /// What was said about those that cannot be watched.
    refused: BTreeMap<u32, String>,
    /// Nothing is watched, and that was said.
    blind: bool,
    /// Until then changes may wait: never more than half of the time is spent on listing, whatever happens out there.
    rest: Instant,
}

/// A watched interface.
struct Entry {
    name: String,
    up: bool,
    mtu: Option<u32>,
    stacked: bool,
    reason: String,
}

impl Entry {
    fn new(verdict: &Verdict) -> Self {
        Self {
            name: verdict.interface.name.clone(),
            up: verdict.interface.up,
            mtu: verdict.interface.mtu,
            stacked: verdict.stacked,
            reason: verdict.reason.clone(),
        }
    }
}

impl<A: Attach> Following<A> {
    fn new(request: Request, attach: A) -> Result<Self, Error> {
        let changes = Changes::listen();
        if let Err(error) = &changes {
            tracing::warn!("the kernel does not tell of new interfaces ({error}); looking at every interval");
        }
        let listing = Listing::new().map_err(|error| super::failed(&error))?;
        let addresses = listing.host_addresses();
        Ok(Self {
            attach,
            request,
            changes: changes.ok(),
            pending: Seen::default(),
            listing,
            memory: Memory::default(),
            entries: BTreeMap::new(),
            gone: BTreeMap::new(),
            addresses,
            new: VecDeque::new(),
            unwanted: Vec::new(),
            refused: BTreeMap::new(),
            blind: false,
            rest: Instant::now(),
        })
    }

    fn begin(&mut self) -> Result<Started, Error> {
        let plan = choose(&self.listing.interfaces(), &self.request, &Memory::default());
        plan.check()?;
        let mut watched = Vec::new();
        let mut first_error = None;
        for verdict in plan.watched() {
            let interface = &verdict.interface;
            let must = verdict.named || self.request.include.is_empty();
            if !must && self.attach.wants_up() && !interface.up {
                continue;
            }
            match self.attach.attach(interface) {
                Ok(hook) => {
                    watched.push(Watched { name: interface.name.clone(), hook });
                    self.entries.insert(interface.index, Entry::new(verdict));
                }
                Err(error) if must || matches!(error, Error::Permission(_)) => return Err(error),
                Err(error) => {
                    self.refuse(verdict, &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error.filter(|_| watched.is_empty()) {
            return Err(error);
        }
        for verdict in &plan.verdicts {
            tracing::debug!("{}: {}", clean(&verdict.interface.name), verdict.reason);
        }
        self.say_unmet(&plan);
        self.blind = self.entries.is_empty();
        let why = plan.why.clone();
        self.memory = plan.memory;
        Ok(Started { watched, why })
    }

    /// Until the other end of `woken` is closed; then the last view.
    fn run(mut self, mut woken: UnixStream, asked: &mpsc::Receiver<mpsc::Sender<View>>) -> View {
        let mut bytes = [0; 64];
        loop {
            if let Err(error) = self.wait(woken.as_fd()) {
                // What cannot be waited for is seen at the next look.
                tracing::warn!("cannot wait for changes of interfaces: {error}");
                self.changes = None;
            }
            if matches!(woken.read(&mut bytes), Ok(0)) {
                let view = self.view();
                self.attach.detach(&self.entries.keys().copied().collect::<Vec<_>>());
                return view;
            }
            let questions: Vec<_> = asked.try_iter().collect();
            if !questions.is_empty() || Instant::now() >= self.rest {
                self.update(!questions.is_empty());
            }
            self.work();
            if !questions.is_empty() {
                self.attach.check();
            }
            for question in questions {
                // Whoever asked may be gone.
                let _ = question.send(self.view());
            }
        }
    }

    /// Waits for a question, or after a rest for a change.
    fn wait(&self, woken: BorrowedFd<'_>) -> Result<(), Errno> {
        let left = self.rest.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(woken, PollFlags::POLLIN)];
        let mut timeout = if self.new.is_empty() { PollTimeout::NONE } else { PollTimeout::ZERO };
        if let Some(changes) = &self.changes {
            if left.is_zero() {
                fds.push(PollFd::new(changes.as_fd(), PollFlags::POLLIN));
            } else if self.new.is_empty() {
                let left = left + Duration::from_millis(1);
                timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes in what changed.
    fn update(&mut self, asked: bool) {
        let seen = match self.changes.as_ref().map(Changes::take) {
            Some(Ok(seen)) => seen,
            Some(Err(_)) => Seen::ALL,
            None if asked => Seen::ALL,
            None => Seen::default(),
        };
        let seen = seen.and(self.pending);
        if seen.is_nothing() {
            return;
        }
        let begun = Instant::now();
        let listed = self.listing.renew(seen);
        self.rest = Instant::now() + begun.elapsed();
        if let Err(error) = listed {
            if self.pending.is_nothing() {
                tracing::warn!("cannot list the interfaces, trying again: {error}");
            }
            self.pending = seen;
            return;
        }
        self.pending = Seen::default();
        self.addresses.extend(&self.listing.host_addresses());
        self.follow();
    }

    /// Finds out what to attach to and what to detach from, by the rule and what there is now.
    fn follow(&mut self) {
        let interfaces = self.listing.interfaces();
        self.forget_gone(&interfaces);
        let plan = choose(&interfaces, &self.request, &self.memory);
        (self.new, self.unwanted) = (VecDeque::new(), Vec::new());
        for verdict in plan.verdicts {
            let known = self.entries.contains_key(&verdict.interface.index);
            match (verdict.watched, known) {
                (true, true) => self.renew(&verdict),
                (true, false) => self.new.push_back(verdict),
                (false, true) => self.unwanted.push(verdict),
                (false, false) => drop(self.refused.remove(&verdict.interface.index)),
            }
        }
        self.memory = plan.memory;
    }

    /// Attaches to the next few, and when all are attached detaches from those that are no longer wanted, so that
    /// nothing is missed between two. Each change is said once.
    fn work(&mut self) {
        for _ in 0..AT_A_TIME {
            let Some(verdict) = self.new.pop_front() else { break };
            self.begin_one(&verdict);
        }
        if self.new.is_empty() && !self.unwanted.is_empty() {
            let unwanted = std::mem::take(&mut self.unwanted);
            self.attach.detach(&unwanted.iter().map(|verdict| verdict.interface.index).collect::<Vec<_>>());
            for verdict in unwanted {
                let index = verdict.interface.index;
                if let Some(entry) = self.entries.remove(&index) {
                    tracing::info!("{} is no longer watched: {}", clean(&entry.name), verdict.reason);
                    self.gone.insert(index, entry);
                }
            }
        }
        if self.new.is_empty() && self.entries.is_empty() && !std::mem::replace(&mut self.blind, true) {
            tracing::warn!("every watched interface is gone: nothing is counted until one is back");
        }
    }

    fn forget_gone(&mut self, interfaces: &[Interface]) {
        let here: BTreeSet<u32> = interfaces.iter().map(|interface| interface.index).collect();
        self.refused.retain(|index, _| here.contains(index));
        let gone: Vec<u32> = self.entries.keys().copied().filter(|index| !here.contains(index)).collect();
        self.attach.detach(&gone);
        for index in gone {
            if let Some(entry) = self.entries.remove(&index) {
                tracing::warn!(
                    "{} is gone and no longer watched; what it carried is in this interval",
                    clean(&entry.name)
                );
                self.gone.insert(index, entry);
            }
        }
    }

    fn begin_one(&mut self, verdict: &Verdict) {
        let interface = &verdict.interface;
        if self.attach.wants_up() && !interface.up {
            return;
        }
        let attached = self.attach.attach(interface);
        // Attached by its name, which another one may have by now; then more is heard of it.
        if if_nametoindex(interface.name.as_str()) != Ok(interface.index) {
            if attached.is_ok() {
                self.attach.detach(&[interface.index]);
            }
            return;
        }
        match attached {
            Ok(hook) => {
                let totals = if verdict.stacked { "; not part of the host's totals" } else { "" };
                tracing::info!(
                    "{} ({hook}) is watched now: {}{totals}",
                    clean(&interface.name),
                    verdict.reason
                );
                self.blind = false;
                self.refused.remove(&interface.index);
                self.gone.remove(&interface.index);
                self.entries.insert(interface.index, Entry::new(verdict));
            }
            Err(error) => self.refuse(verdict, &error),
        }
    }

    /// Says what is new about an interface that is watched already.
    fn renew(&mut self, verdict: &Verdict) {
        let interface = &verdict.interface;
        let Some(entry) = self.entries.get_mut(&interface.index) else { return };
        if entry.name != interface.name {
            tracing::info!("{} is called {} now", clean(&entry.name), clean(&interface.name));
        }
        let name = clean(&interface.name);
        if entry.up != interface.up {
            tracing::info!("{name} is {}", if interface.up { "up" } else { "down" });
        }
        match (entry.stacked, verdict.stacked) {
            (false, true) => {
                tracing::info!("{name} is no longer part of the host's totals: {}", verdict.reason);
            }
            (true, false) => tracing::info!("{name} is part of the host's totals now"),
            _ if entry.reason != verdict.reason => tracing::info!("{name} is watched: {}", verdict.reason),
            _ => {}
        }
        let changed =
            (entry.name.as_str(), entry.up, entry.mtu) != (&interface.name, interface.up, interface.mtu);
        *entry = Entry::new(verdict);
        if changed {
            self.attach.renew(interface);
        }
    }

    /// Says once why an interface cannot be watched; it is tried again when something changes.
    fn refuse(&mut self, verdict: &Verdict, error: &Error) {
        let Interface { index, name, .. } = &verdict.interface;
        let text = error.to_string();
        if self.refused.get(index) != Some(&text) {
            tracing::warn!("{} is not watched: {text}", clean(name));
            self.refused.insert(*index, text);
        }
    }

    fn say_unmet(&self, plan: &Plan) {
        let watched = self.entries.len();
        for text in &plan.unmet {
            let hidden = plan.verdicts.iter().find(|verdict| {
                verdict.stacked
                    && self.request.include.iter().any(|pattern| {
                        pattern.to_string() == *text && pattern.matches(&verdict.interface.name)
                    })
            });
            match hidden {
                Some(verdict) => tracing::warn!(
                    "-i {text}: what it matches is counted on other interfaces already ({}: {}); --stacked watches \
                     it all the same",
                    clean(&verdict.interface.name),
                    verdict.reason
                ),
                None if watched == 0 => {
                    tracing::warn!("-i {text} matches no interface: nothing is counted until one is there");
                }
                None => tracing::warn!("-i {text} matches no interface yet"),
            }
        }
    }

    /// For the interval that ended; the next one begins without those that are gone.
    fn view(&mut self) -> View {
        let mut view = View {
            addresses: std::mem::replace(&mut self.addresses, self.listing.host_addresses()),
            ..View::default()
        };
        let gone = std::mem::take(&mut self.gone);
        for (index, entry) in gone.iter().chain(&self.entries) {
            view.interfaces.insert(*index, Seat { name: entry.name.clone(), stacked: entry.stacked });
        }
        view
    }
}
