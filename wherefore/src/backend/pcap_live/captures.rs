//! Captures that come and go with the interfaces.

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::Ordering},
    thread,
};

use wherefore_common::Direction;

use super::{HAND_OVER, Shared, expression::Expressions, lock, open, watch::Watch};
use crate::{
    backend::{
        Error, LiveSettings,
        interfaces::{Attach, Interface},
    },
    clean::clean,
};

/// Opens and closes captures as interfaces come and go.
pub(super) struct Captures {
    settings: LiveSettings,
    expressions: Option<Expressions>,
    shared: Arc<Shared>,
    /// What is captured on.
    interfaces: BTreeMap<u32, Interface>,
    /// A byte tells the reader to look at the list of captures.
    news: UnixStream,
}

impl Captures {
    /// None yet; `news` tells the reader.
    pub(super) fn new(settings: LiveSettings, shared: Arc<Shared>, news: UnixStream) -> Self {
        let expressions = settings.expression.clone().map(Expressions::new);
        Self { settings, expressions, shared, interfaces: BTreeMap::new(), news }
    }
}

impl Attach for Captures {
    fn attach(&mut self, interface: &Interface) -> Result<String, Error> {
        let directions: &[Direction] =
            if interface.loopback { &[Direction::Ingress] } else { &[Direction::Ingress, Direction::Egress] };
        let (settings, expressions) = (&self.settings, &mut self.expressions);
        let opened: Vec<_> = directions
            .iter()
            .map(|&way| open::open(settings, expressions.as_mut(), interface, way).map(Arc::new))
            .collect::<Result<_, _>>()?;
        lock(&self.shared.watches).extend(opened);
        self.interfaces.insert(interface.index, interface.clone());
        self.tell();
        Ok("libpcap".into())
    }

    fn detach(&mut self, indexes: &[u32]) {
        let closed: Vec<Arc<Watch>> =
            lock(&self.shared.watches).extract_if(.., |watch| indexes.contains(&watch.index)).collect();
        self.interfaces.retain(|index, _| !indexes.contains(index));
        if closed.is_empty() {
            return;
        }
        // What arrived last is handed over within that time.
        thread::sleep(2 * HAND_OVER);
        for watch in closed {
            let mut handle = lock(&watch.capture);
            // libpcap tells that the interface is gone before it hands over what is left in the ring.
            for _ in 0..2 {
                handle.gone = false;
                watch.catch_up(&mut handle, &self.shared.table);
            }
            self.shared.dropped.fetch_add(handle.new_drops(), Ordering::Relaxed);
            handle.gone = true;
        }
        self.tell();
    }

    fn renew(&mut self, interface: &Interface) {
        if let Some(mtu) = interface.mtu {
            for watch in lock(&self.shared.watches).iter().filter(|watch| watch.index == interface.index) {
                watch.mtu.store(mtu, Ordering::Relaxed);
            }
        }
        self.interfaces.insert(interface.index, interface.clone());
        self.check();
    }

    /// A capture on an interface that had another name when it began ends when that goes down: libpcap asks for the
    /// interface by the old name. Begins a new one once it is up.
    fn check(&mut self) {
        let broken: Vec<Interface> = self
            .interfaces
            .values()
            .filter(|interface| interface.up && self.is_broken(interface.index))
            .cloned()
            .collect();
        for interface in broken {
            self.detach(&[interface.index]);
            if let Err(error) = self.attach(&interface) {
                tracing::warn!("{}: no longer captured: {error}", clean(&interface.name));
            }
        }
    }

    fn wants_up(&self) -> bool {
        true
    }
}

impl Captures {
    fn is_broken(&self, index: u32) -> bool {
        let watches = lock(&self.shared.watches).clone();
        watches.iter().filter(|watch| watch.index == index).any(|watch| {
            let mut handle = lock(&watch.capture);
            // Only by reading does it come to light.
            watch.count(&mut handle, &self.shared.table);
            handle.gone
        })
    }

    fn tell(&mut self) {
        // Fails only when the reader has ended, or its pipe is full of such news.
        let _ = self.news.write(&[0]);
    }
}
