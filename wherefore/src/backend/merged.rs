//! Packets merged by offload, where their sizes are not known: marked by each backend, and said once a run here.

use crate::snapshot::Snapshot;

/// Most bytes of an IP packet of a capture file that are taken for one frame of Ethernet. No file says the MTU.
/// Network cards and switches take jumbo frames of 9,000 to 9,216 bytes; what offload merges has up to 65,535, or
/// with Linux' large segments ("BIG TCP", 5.19) 512 KiB.
pub(super) const JUMBO: u32 = 9_216;
/// The most bytes that offload merges into one packet (`GSO_MAX_SIZE` of Linux 5.19 and later).
pub(super) const LARGEST: u64 = 8 * 65_535;

/// [`JUMBO`] where a frame of a capture file went over Ethernet; elsewhere one may be as large as IP packets get. Linux'
/// loopback device, whose MTU is 65,536, has Ethernet headers too, without addresses; cooked captures (`LINKTYPE_`
/// 113 and 276, tcpdump's "any") state the kind of device, and Ethernet is 1.
pub(super) fn largest_frame(linktype: i32, frame: &[u8]) -> Option<u32> {
    let ethernet = match linktype {
        1 => frame.get(..12).is_some_and(|addresses| addresses != [0; 12]),
        113 => frame.get(2..4) == Some(&[0, 1]),
        276 => frame.get(8..10) == Some(&[0, 1]),
        _ => false,
    };
    ethernet.then_some(JUMBO)
}

/// Says once what such packets mean.
#[derive(Debug)]
pub(super) struct Merged {
    /// Who sees them: "libpcap sees", "the capture has", …
    who: &'static str,
    /// What to do about it.
    remedy: &'static str,
    said: bool,
}

impl Merged {
    pub const fn new(who: &'static str, remedy: &'static str) -> Self {
        Self { who, remedy, said: false }
    }

    /// The words, if `snapshot` is the first with such packets.
    fn words(&mut self, snapshot: &Snapshot) -> Option<String> {
        if self.said {
            return None;
        }
        let merged = snapshot.passed.iter().filter(|(_, passed)| passed.estimated.packets > 0);
        let mut names: Vec<_> = merged.map(|((ifindex, _), _)| snapshot.interface_name(*ifindex)).collect();
        names.dedup();
        let first = names.first()?;
        self.said = true;
        Some(format!(
            "{} packets that offload has merged ({}): each counts as one and is marked estimated, since how many \
             frames it is on the wire is not known. {}",
            self.who,
            names.join(", "),
            self.remedy.replace("INTERFACE", first)
        ))
    }

    /// Looks at an interval, with a warning for the first that has merged packets.
    pub fn check(&mut self, snapshot: &Snapshot) {
        if let Some(words) = self.words(snapshot) {
            tracing::warn!("{words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use wherefore_common::Amount;

    use super::*;
    use crate::snapshot::Passed;

    fn snapshot(estimated: u64) -> Snapshot {
        let passed = |packets| Passed {
            estimated: Amount { packets, wire_bytes: packets * 9000 },
            ..Passed::default()
        };
        Snapshot {
            interfaces: [(1, "eth0".to_owned()), (2, "eth1".to_owned()), (3, "eth2".to_owned())].into(),
            passed: [
                ((1, 0), passed(estimated)),
                ((1, 1), passed(2 * estimated)),
                ((2, 0), passed(estimated)),
                ((3, 0), passed(0)),
            ]
            .into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn it_is_said_once_of_which_interfaces() {
        let mut merged = Merged::new("libpcap sees", "ethtool -K INTERFACE gro off.");
        assert_eq!(merged.words(&snapshot(0)), None);
        let words = merged.words(&snapshot(2)).unwrap();
        assert!(words.starts_with("libpcap sees packets that offload has merged (eth0, eth1): "), "{words}");
        assert!(words.ends_with("ethtool -K eth0 gro off."), "{words}");
        assert_eq!(merged.words(&snapshot(2)), None);
        assert_eq!(snapshot(2).estimated(), 8);
    }

    #[test]
    fn only_ethernet_has_a_largest_frame() {
        let sll = |kind: u8| [0, 0, 0, kind, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
        let sll2 = |kind: u8| [8, 0, 0, 0, 0, 0, 0, 2, 0, kind, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(largest_frame(1, &[2; 14]), Some(JUMBO));
        assert_eq!(largest_frame(113, &sll(1)), Some(JUMBO));
        assert_eq!(largest_frame(276, &sll2(1)), Some(JUMBO));
        // Loopback is 772, 0x304.
        assert_eq!([largest_frame(113, &sll(4)), largest_frame(276, &sll2(4))], [None; 2]);
        assert_eq!(
            [largest_frame(1, &[0; 14]), largest_frame(1, &[2; 11]), largest_frame(101, &[2; 40])],
            [None; 3]
        );
    }
}
