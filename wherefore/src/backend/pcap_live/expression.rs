//! A tcpdump expression on the packets of one capture.
//!
//! It is the program that libpcap makes for a capture file, as in the kernel's hooks. What files do not tell, and a
//! live capture does (`inbound`, `outbound`, `ifindex`), libpcap compiles for the capture itself: such a program reads
//! it at offsets that no frame has. Here each of them has one answer, as a capture is of one interface in one
//! direction; and no tag is outside of the frame.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use pcap::{Active, Capture};
use wherefore_common::Direction;

use crate::backend::{
    Error,
    classic::{self, Instruction, Program, Unusable, op},
    counter::Packet,
    interfaces::Interface,
};

/// An expression, with a program for each link type met: libpcap takes seconds for one of some hundred hosts.
pub(super) struct Expressions {
    text: String,
    programs: BTreeMap<i32, Compiled>,
}

/// What libpcap makes of an expression for a link type.
enum Compiled {
    /// The same for every capture.
    Same(Arc<Program>),
    /// It asks for what no frame tells: each capture has answers of its own.
    Asks(Program),
}

/// Which packets of a capture have a flow.
pub(super) struct Expression(Arc<Program>);

impl Expressions {
    pub(super) const fn new(text: String) -> Self {
        Self { text, programs: BTreeMap::new() }
    }

    /// Whether compiling for such frames takes no time any more.
    pub(super) fn has(&self, linktype: i32) -> bool {
        self.programs.contains_key(&linktype)
    }

    /// Compiles for the frames of `capture`, which is of `interface` in the direction `way`.
    ///
    /// # Errors
    /// [`Error::Expression`] where libpcap does not take it.
    pub(super) fn compile(
        &mut self,
        capture: &Capture<Active>,
        interface: &Interface,
        way: Direction,
    ) -> Result<Expression, Error> {
        // The numbers of the link types that Linux has live are those of files (raw IP's 12 is known there too).
        let linktype = capture.get_datalink().0;
        let compiled = match self.programs.entry(linktype) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => {
                place.insert(compile(&self.text, linktype, capture).map_err(|refused| Error::Expression {
                    expression: self.text.clone(),
                    reason: format!("{}: {refused}", interface.name),
                })?)
            }
        };
        Ok(Expression(match compiled {
            Compiled::Same(program) => Arc::clone(program),
            Compiled::Asks(program) => Arc::new(answered(program.clone(), interface.index, way)),
        }))
    }
}

fn compile(text: &str, linktype: i32, capture: &Capture<Active>) -> Result<Compiled, Unusable> {
    let refused = match classic::compile(text, linktype, false) {
        Ok(program) => return Ok(Compiled::Same(Arc::new(program))),
        Err(refused) => refused,
    };
    match classic::compile_for(capture, text) {
        Ok(program) if !matches!(refused, Unusable::RejectsAll(_)) => Ok(Compiled::Asks(program)),
        _ => Err(refused),
    }
}

impl Expression {
    /// Bytes from the frame's first that may be looked at; `None`: any.
    pub(super) fn reach(&self) -> Option<u32> {
        self.0.reach()
    }

    /// Whether a packet matches. `len` is the length of its first frame on the wire, as far as that can be known.
    #[inline]
    pub(super) fn matches(&self, packet: &Packet<'_>) -> bool {
        self.0.run(packet.frame, packet.first_frame_len()) != 0
    }
}

/// The program with an answer in place of each load of what is not in the frame (`SKF_AD_` of `linux/filter.h`).
fn answered(mut program: Program, ifindex: u32, way: Direction) -> Program {
    const AT: i32 = libc::SKF_AD_OFF;
    let packet_type = if way == Direction::Egress { libc::PACKET_OUTGOING } else { libc::PACKET_HOST };
    let answers = [
        (libc::SKF_AD_PKTTYPE, u32::from(packet_type)),
        (libc::SKF_AD_IFINDEX, ifindex),
        (libc::SKF_AD_VLAN_TAG, 0),
        (libc::SKF_AD_VLAN_TAG_PRESENT, 0),
    ];
    for instruction in &mut program.0 {
        if instruction.code & (op::CLASS | op::MODE) != op::LD | op::ABS {
            continue;
        }
        let offset = instruction.k.cast_signed().wrapping_sub(AT);
        if let Some((_, answer)) = answers.iter().find(|(what, _)| *what == offset) {
            *instruction = Instruction { code: op::LD | op::IMM, jt: 0, jf: 0, k: *answer };
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_frame_tells_has_an_answer_of_its_own() {
        let load = |size, what: i32| Instruction {
            code: op::LD | op::ABS | size,
            jt: 0,
            jf: 0,
            k: (libc::SKF_AD_OFF + what).cast_unsigned(),
        };
        let result = Instruction { code: op::RET | op::RET_A, jt: 0, jf: 0, k: 0 };
        let run = |first, way| answered(Program(vec![first, result]), 7, way).run(&[9; 60], 60);
        let packet_type = load(op::H, libc::SKF_AD_PKTTYPE);
        assert_eq!(run(packet_type, Direction::Egress), 4);
        assert_eq!(run(packet_type, Direction::Ingress), 0);
        assert_eq!(run(load(op::W, libc::SKF_AD_IFINDEX), Direction::Ingress), 7);
        assert_eq!(run(load(op::B, libc::SKF_AD_VLAN_TAG_PRESENT), Direction::Ingress), 0);
        let frame = Instruction { code: op::LD | op::ABS | op::B, jt: 0, jf: 0, k: 4 };
        assert_eq!(run(frame, Direction::Egress), 9);
    }
}
