//! Counting by other means: every frame that crosses a device, captured by libpcap and read by a few lines of
//! arithmetic that share nothing with the product.

use pcap::{Active, Capture};

use crate::{device, netns::Netns, tally::Count};

/// Bytes of a frame that are looked at: Ethernet and IP header.
const SNAPLEN: i32 = 64;
/// Room for the frames of one case: some 250 bytes each.
const BUFFER: i32 = 64 << 20;

/// What a device received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Frames to the device's own address.
    pub received: Count,
    /// All others.
    pub sent: Count,
    /// Bytes of the longest.
    pub longest: u64,
}

/// A capture on a device.
pub struct Wire {
    capture: Capture<Active>,
    mac: [u8; 6],
}

impl Wire {
    /// Begins to capture.
    ///
    /// # Panics
    /// When that is not possible.
    #[must_use]
    pub fn new(netns: &Netns, device: &str) -> Self {
        let mac = device::mac(netns, device);
        let capture = netns.run(|| {
            // With immediate mode a frame is there as soon as it has crossed.
            let capture = Capture::from_device(device)?.snaplen(SNAPLEN).buffer_size(BUFFER);
            capture.immediate_mode(true).open()?.setnonblock()
        });
        Self { capture: capture.unwrap_or_else(|error| panic!("capturing on {device}: {error}")), mac }
    }

    /// Adds what crossed since the last call.
    ///
    /// # Panics
    /// When a frame was lost or carries no IP.
    pub fn add_to(&mut self, sum: &mut Crossed) {
        loop {
            let packet = match self.capture.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => break,
                Err(error) => panic!("reading a capture: {error}"),
            };
            let (data, wire_bytes) = (packet.data, u64::from(packet.header.len));
            let word = |at: usize| u64::from(data[at]) << 8 | u64::from(data[at + 1]);
            let ip_bytes = match word(12) {
                0x0800 => word(16),
                0x86dd => 40 + word(18),
                other => panic!("a frame of type {other:#x}"),
            };
            sum.longest = sum.longest.max(wire_bytes);
            let count = if data[..6] == self.mac { &mut sum.received } else { &mut sum.sent };
            count.packets += 1;
            count.wire_bytes += wire_bytes;
            count.ip_bytes += ip_bytes;
        }
        let lost = self.capture.stats().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((lost.dropped, lost.if_dropped), (0, 0), "frames were not captured");
    }
}
