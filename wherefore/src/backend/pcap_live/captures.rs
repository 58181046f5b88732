//! Captures that come and go with the interfaces.

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::Ordering},
};

use wherefore_common::Direction;

use super::{Shared, expression::Expressions, lock, open};
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
        self.interfaces.retain(|index, _| !indexes.contains(index));
        if self.shared.leave(indexes) {
            self.tell();
        }
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
