//! Which flows are this host's own, and which it passes on.

use crate::snapshot::Snapshot;

/// Sets each flow's [`crate::snapshot::Flow::locality`], by the addresses that came with the snapshot; without any
/// (a capture file) nothing can be said.
pub fn mark(snapshot: &mut Snapshot) {
    let Some(addresses) = snapshot.host_addresses.clone() else { return };
    for flow in &mut snapshot.flows {
        flow.locality = addresses.locality(flow.src(), flow.dst(), flow.direction());
    }
}
