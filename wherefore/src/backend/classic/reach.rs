//! How far into a frame a program looks.

use super::{Program, op};

/// The longest IPv4 header, and so the most that `MSH` loads.
const LONGEST_HEADER: u32 = 60;

impl Program {
    /// Bytes from the frame's first that the program may load; `None` where it computes places, as
    /// `ether[len - 1]` or `tcp[tcp[12] >> 2]` does.
    #[must_use]
    pub fn reach(&self) -> Option<u32> {
        let mut index = Some(0);
        let (mut absolute, mut indexed) = (0, None);
        for instruction in &self.0 {
            let (code, k) = (instruction.code, instruction.k);
            let end = k.saturating_add(match code & op::SIZE {
                op::B => 1,
                op::H => 2,
                _ => 4,
            });
            match (code & op::CLASS, code & op::MODE) {
                (op::LD, op::ABS) => absolute = absolute.max(end),
                (op::LD, op::IND) => indexed = indexed.max(Some(end)),
                (op::LDX, op::IMM) => index = index.max(Some(k)).filter(|_| index.is_some()),
                (op::LDX, op::MSH) => {
                    absolute = absolute.max(k.saturating_add(1));
                    index = index.map(|most: u32| most.max(LONGEST_HEADER));
                }
                (op::LDX, _) => index = None,
                (op::MISC, _) if code & op::TXA == 0 => index = None,
                _ => {}
            }
        }
        match (indexed, index) {
            (None, _) => Some(absolute),
            (Some(end), Some(index)) => Some(absolute.max(end.saturating_add(index))),
            (Some(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ETHERNET, compile};

    #[test]
    fn the_reach_is_the_furthest_byte_that_may_be_asked_for() {
        for (text, reach) in [
            ("ip", Some(14)),
            ("vlan 7 and ip6 and udp port 53", Some(14 + 4 + 40 + 4)),
            ("tcp port 443", Some(14 + 60 + 4)),
            ("udp[400:4] = 7", Some(14 + 60 + 404)),
            ("ether[600:2] = 7", Some(602)),
            ("len > 100", Some(0)),
            ("ether[len - 1] = 7", None),
            ("tcp[(tcp[12] & 0xf0) >> 2:4] = 0x47455420", None),
        ] {
            let program = compile(text, ETHERNET, false).expect(text);
            assert_eq!(program.reach(), reach, "{text}: {program:?}");
        }
    }

    proptest! {
        /// A frame that is cut off there is judged as the whole one.
        #[test]
        fn what_is_beyond_the_reach_changes_nothing(
            frame in prop::collection::vec(any::<u8>(), 14..800),
            kind in prop::sample::select(vec![[8, 0], [0x86, 0xdd], [0x81, 0]]),
            inner in prop::sample::select(vec![[8, 0], [0x86, 0xdd]]),
            words in 5_u8..16,
            proto in prop::sample::select(vec![6_u8, 17]),
        ) {
            // Headers that the expressions below get past, now and then.
            let mut frame = frame;
            let ip = if kind == [0x81, 0] { 18 } else { 14 };
            frame.resize(frame.len().max(ip + 40), 0);
            frame[12..14].copy_from_slice(&kind);
            if ip == 18 {
                frame[14..16].copy_from_slice(&[0, 7]);
                frame[16..18].copy_from_slice(&inner);
            }
            frame[ip] = 0x40 | words;
            frame[ip + 6] = 0;
            frame[ip + 7] = 0;
            frame[ip + 9] = proto;
            for text in [
                "ip",
                "vlan 7 and ip6 and udp port 53",
                "tcp port 443 or udp src port 1000",
                "udp[400:4] & 1 = 1",
                "ether[600:2] & 1 = 1",
                "tcp[13] & 2 != 0",
                "len > 100",
            ] {
                let program = compile(text, ETHERNET, false).expect(text);
                let reach = program.reach().expect(text) as usize;
                let whole = frame.len() as u32;
                let cut = &frame[..frame.len().min(reach)];
                prop_assert_eq!(program.run(cut, whole) != 0, program.run(&frame, whole) != 0, "{} cut at {}", text, reach);
            }
        }
    }
}
