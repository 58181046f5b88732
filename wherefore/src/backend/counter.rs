//! Flows counted in user space.

use std::collections::{BTreeMap, HashMap};

use wherefore_common::{
    Amount, Direction, FlowCounters, FlowKey, Reason, UnaccountedKey,
    parse::{self, Parsed, Slice},
};

use crate::{snapshot::Flow, time::Timestamp};

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `DLT_` number of the framing.
    pub linktype: i32,
    /// Number of the interface it was seen on.
    pub ifindex: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
    /// When.
    pub time: Timestamp,
    /// What was captured of it, from its link header on.
    pub frame: &'a [u8],
    /// Length of the frame on the wire.
    pub wire_len: u32,
}

/// Counts frames into flows, at most as many as there is room for.
#[derive(Debug, Default)]
pub struct Counter {
    room: Option<u32>,
    flows: HashMap<FlowKey, FlowCounters>,
    unaccounted: BTreeMap<UnaccountedKey, Amount>,
}

/// What a [`Counter`] counted since it was last taken.
#[derive(Debug, Default)]
pub struct Counts {
    /// The flows, in no particular order.
    pub flows: Vec<Flow>,
    /// Packets without a flow.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
}

impl Counter {
    /// A counter with room for `table_size` flows an interval; `None`: as many as there are.
    #[must_use]
    pub fn new(table_size: Option<u32>) -> Self {
        Self { room: table_size, ..Self::default() }
    }

    /// Counts one packet, in its flow or by the reason why it has none.
    pub fn count(&mut self, packet: &Packet<'_>) {
        let &Packet { linktype, ifindex, direction, time, frame, wire_len } = packet;
        let (reason, proto) = match parse_frame(linktype, frame) {
            Ok(parsed) => {
                let key = FlowKey {
                    src: parsed.src,
                    dst: parsed.dst,
                    ifindex,
                    sport: parsed.sport,
                    dport: parsed.dport,
                    proto: parsed.proto,
                    family: parsed.family,
                    direction: direction as u8,
                    pad: [0; 5],
                };
                let counters = FlowCounters {
                    packets: 1,
                    wire_bytes: u64::from(wire_len),
                    ip_bytes: u64::from(parsed.ip_bytes(wire_len)),
                    first_ns: time.0,
                    last_ns: time.0,
                };
                if let Some(flow) = self.flows.get_mut(&key) {
                    flow.add(&counters);
                    return;
                }
                if self.room.is_none_or(|room| self.flows.len() < room as usize) {
                    self.flows.insert(key, counters);
                    return;
                }
                (Reason::TableFull, parsed.proto)
            }
            Err(reason) => (reason, 0),
        };
        let key = UnaccountedKey { ifindex, direction: direction as u8, reason: reason as u8, proto, pad: 0 };
        let amount = Amount { packets: 1, wire_bytes: u64::from(wire_len) };
        self.unaccounted.entry(key).or_default().add(&amount);
    }

    /// Hands over what was counted, and begins anew.
    pub fn take(&mut self) -> Counts {
        let flows = std::mem::take(&mut self.flows);
        Counts {
            flows: flows.into_iter().map(|(key, counters)| Flow { key, counters, own: false }).collect(),
            unaccounted: std::mem::take(&mut self.unaccounted),
        }
    }
}

/// The outermost IP layer of a frame of a libpcap link type.
fn parse_frame(linktype: i32, frame: &[u8]) -> Result<Parsed, Reason> {
    match linktype {
        1 => parse::ethernet(&Slice(frame)),
        12 | 14 | 101 => parse::ip(&Slice(frame), 0),
        // Linux cooked: type in the last two bytes of the 16-byte header.
        113 => match frame.get(14..16) {
            Some(&[high, low]) => parse::network(&Slice(frame), u16::from_be_bytes([high, low]), 16),
            _ => Err(Reason::LinkTruncated),
        },
        _ => Err(Reason::LinkType),
    }
}
