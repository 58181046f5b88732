//! The thread: what it knows, what it waits for, and how it brings what is watched into line with the rule.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Attach, Seat, Started, View, tell};
use crate::{
    backend::{
        Error, Watched,
        interfaces::{Interface, Memory, Request, Verdict, choose, failed, list::Listing},
        probe::{Changes, Seen},
    },
    clean::clean,
    locality::HostAddresses,
};

/// Interfaces attached to before a poll is answered. The two TCX programs of one take 30 ms, on a busy machine 170 ms:
/// the kernel waits for a grace period each.
const AT_A_TIME: usize = 2;

/// What the thread knows.
pub(super) struct Following<A> {
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
pub(super) struct Entry {
    pub name: String,
    pub up: bool,
    pub mtu: Option<u32>,
    pub stacked: bool,
    pub reason: String,
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
    pub fn new(request: Request, attach: A) -> Result<Self, Error> {
        let changes = Changes::listen();
        if let Err(error) = &changes {
            tracing::warn!("the kernel does not tell of new interfaces ({error}); looking at every interval");
        }
        let listing = Listing::new().map_err(|error| failed(&error))?;
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

    pub fn begin(&mut self) -> Result<Started, Error> {
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
        tell::unmet(&plan, &self.request, self.entries.is_empty());
        self.blind = self.entries.is_empty();
        let why = plan.why.clone();
        self.memory = plan.memory;
        Ok(Started { watched, why })
    }

    /// Until the other end of `woken` is closed; then the last view.
    pub fn run(mut self, mut woken: UnixStream, asked: &mpsc::Receiver<mpsc::Sender<View>>) -> View {
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

    /// What is new about an interface that is watched already.
    fn renew(&mut self, verdict: &Verdict) {
        let interface = &verdict.interface;
        let Some(entry) = self.entries.get_mut(&interface.index) else { return };
        tell::renewed(entry, verdict);
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
            tell::refused(name, &text);
            self.refused.insert(*index, text);
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
