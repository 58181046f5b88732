//! A tcpdump expression in front of counting.
//!
//! libpcap compiles it to classic BPF, [`translate()`] turns that into eBPF, and the program so made is attached at
//! each hook in place of the counting one, which it tail-calls for what matches. For what does not it calls one
//! that counts it as `filtered`. The expression sees the frame as on the wire: a VLAN tag that was stripped is
//! at its place, and `len` is the length of the first frame that a super-frame becomes. (Of a super-frame's bytes
//! it sees those of one frame too many: headers are what expressions are about.)

mod assembler;
mod object;
mod packet;
mod translate;

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::{
    Ebpf,
    maps::{Map, MapData, ProgramArray},
    programs::{Program, ProgramError},
};
use aya_obj::generated::bpf_map_type;
use wherefore_common::filter::PLACES;

pub use assembler::Insn;
pub use object::{Made, object};
pub use translate::translate;

use super::{Error, Hook, Start, Target, attach, features::uninterrupted, load, permission::explain};
use crate::backend::classic::{self, CELLS, Unusable};

/// For which kind of program instructions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// TC: the packet is an skb.
    Tc,
    /// XDP: the packet is a driver's buffer.
    Xdp,
}

impl Dialect {
    /// What a program returns that decides nothing: `TCX_NEXT`, which is also `TC_ACT_UNSPEC`; `XDP_PASS`.
    const fn pass(self) -> i32 {
        match self {
            Self::Tc => -1,
            Self::Xdp => 2,
        }
    }
}

/// Where a program goes on, as places of a program array.
#[derive(Clone, Debug)]
pub struct Exits {
    /// The array's descriptor.
    pub table: RawFd,
    /// What matches.
    pub accept: u32,
    /// What does not.
    pub reject: u32,
    /// Who knows the first frame of a super-frame. Without, `len` is the whole one's.
    pub measure: Option<Measure>,
}

/// How to have a super-frame measured.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Descriptor of the array of [`FirstSegment`](wherefore_common::filter::FirstSegment).
    pub lengths: RawFd,
    /// Place of the program that measures.
    pub place: u32,
    /// Place of the program that asks.
    pub back: u32,
}

/// Why an expression that libpcap takes cannot run in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More instructions than a jump can cross.
    #[error("it is too long: jumps there reach no further than 32767 instructions")]
    TooLong,
    /// `protochain`.
    #[error("it has a loop in it (protochain)")]
    Loop,
    /// `len`, `greater` or `less` on a `PREEMPT_RT` kernel. What a super-frame's first frame measures is kept in a place
    /// of the CPU, where a program that interrupts another would put its own.
    #[error(
        "it is about a length (len, greater, less), which cannot be kept while programs of one CPU interrupt each \
         other (PREEMPT_RT)"
    )]
    Interrupted,
    /// Cells beyond what the machine has.
    #[error("libpcap made a program with memory cell {cell}, and there are {CELLS}")]
    Memory {
        /// Its number.
        cell: u32,
    },
    /// An instruction that means nothing.
    #[error("libpcap made a program whose instruction {at} is not understood")]
    Malformed {
        /// Its number, from 0.
        at: usize,
    },
}

/// A counting program and what belongs to it.
struct Entry {
    /// Its name, and that of the expression's program in its place.
    counts: &'static str,
    /// Counts what is rejected there.
    rejects: &'static str,
    /// Measures super-frames.
    measures: Option<&'static str>,
    dialect: Dialect,
    start: Start,
}

const ENTRIES: [Entry; 5] = [
    Entry {
        counts: "wherefore_in",
        rejects: "wherefore_rin",
        measures: Some("wherefore_len"),
        dialect: Dialect::Tc,
        start: Start::Ethernet,
    },
    Entry {
        counts: "wherefore_out",
        rejects: "wherefore_rout",
        measures: Some("wherefore_len"),
        dialect: Dialect::Tc,
        start: Start::Ethernet,
    },
    Entry {
        counts: "wherefore_inip",
        rejects: "wherefore_rinip",
        measures: Some("wherefore_lenip"),
        dialect: Dialect::Tc,
        start: Start::Ip,
    },
    Entry {
        counts: "wherefore_outip",
        rejects: "wherefore_routi",
        measures: Some("wherefore_lenip"),
        dialect: Dialect::Tc,
        start: Start::Ip,
    },
    Entry {
        counts: "wherefore_xdp",
        rejects: "wherefore_rxdp",
        measures: None,
        dialect: Dialect::Xdp,
        start: Start::Ethernet,
    },
];

/// Places of an entry, from the first of its own: its expression's program (to come back to), the counting program,
/// the one that counts what is rejected, and the one that measures.
const BACK: u32 = 0;
const ACCEPT: u32 = 1;
const REJECT: u32 = 2;
const MEASURE: u32 = 3;
const PLACES_OF_ONE: u32 = 4;

const _: () = assert!((ENTRIES.len() - 1) * PLACES_OF_ONE as usize == PLACES);

/// An expression that libpcap took, for every kind of frame it is to be asked of.
pub struct Expression {
    text: String,
    programs: Vec<(Start, classic::Program)>,
}

impl Expression {
    /// Compiles for the frames of all `targets`.
    ///
    /// # Errors
    /// [`Error::Expression`], with the interface whose frames libpcap does not take it for;
    /// [`Error::ExpressionForLibpcap`].
    pub fn compile(text: &str, targets: &[Target]) -> Result<Self, Error> {
        let mut programs: Vec<(Start, classic::Program)> = Vec::new();
        for target in targets {
            if programs.iter().any(|(start, _)| *start == target.start) {
                continue;
            }
            let linktype = match target.start {
                Start::Ethernet => classic::ETHERNET,
                Start::Ip => classic::RAW,
            };
            let program = classic::compile(text, linktype, false).map_err(|error| match error {
                Unusable::NotOfFiles(_) => Error::ExpressionForLibpcap {
                    expression: text.into(),
                    reason: "it asks for more than what is in the frame".into(),
                },
                error => {
                    Error::Expression { expression: text.into(), reason: format!("{}: {error}", target.name) }
                }
            })?;
            if translate::is_about_length(&program) && !uninterrupted() {
                return Err(Error::ExpressionForLibpcap {
                    expression: text.into(),
                    reason: Refusal::Interrupted.to_string(),
                });
            }
            programs.push((target.start, program));
        }
        Ok(Self { text: text.into(), programs })
    }

    /// Loads what `hook` needs on `targets` beside the counting programs of `ebpf`, which are loaded: what counts
    /// the rejected, what measures, and the expression's own programs; and fills the arrays by which they find
    /// each other.
    ///
    /// # Errors
    /// [`Error::ExpressionForLibpcap`] for what the kernel cannot take, else as [`attach::load`].
    pub fn load(&self, ebpf: &mut Ebpf, targets: &[Target], hook: Hook) -> Result<Filter, Error> {
        let mut arrays = Arrays::new(ebpf)?;
        let programs = self.load_into(&mut arrays, ebpf, targets, hook)?;
        Ok(Filter { programs, _arrays: arrays })
    }

    /// As [`Self::load`], once for each kind of frame, with the arrays of all.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_into(
        &self,
        arrays: &mut Arrays,
        ebpf: &mut Ebpf,
        targets: &[Target],
        hook: Hook,
    ) -> Result<Ebpf, Error> {
        let names = attach::names(targets, hook);
        let wanted: Vec<(u32, &Entry)> = (0..)
            .step_by(PLACES_OF_ONE as usize)
            .zip(&ENTRIES)
            .filter(|(_, entry)| names.contains(entry.counts))
            .filter(|(_, entry)| self.programs.iter().any(|(start, _)| *start == entry.start))
            .collect();
        for (_, entry) in &wanted {
            for name in [Some(entry.rejects), entry.measures].into_iter().flatten() {
                load::program(ebpf, name)?;
            }
        }
        let Arrays { tc, lengths, xdp } = arrays;
        let mut made = Vec::new();
        for (base, entry) in &wanted {
            let (map, base) = entry.array(tc, xdp, *base);
            put(map, base + ACCEPT, ebpf, entry.counts)?;
            put(map, base + REJECT, ebpf, entry.rejects)?;
            let mut exits = Exits {
                table: descriptor(map)?,
                accept: base + ACCEPT,
                reject: base + REJECT,
                measure: None,
            };
            if let Some(measures) = entry.measures {
                put(map, base + MEASURE, ebpf, measures)?;
                exits.measure =
                    Some(Measure { lengths: descriptor(lengths)?, place: base + MEASURE, back: base + BACK });
            }
            made.push((entry.counts, entry.dialect, self.translate(entry, &exits)?));
        }
        let action = format!("load the kernel programs of -f {:?}", self.text);
        let parts: Vec<Made<'_>> =
            made.iter().map(|(name, dialect, insns)| (*name, *dialect, insns.as_slice())).collect();
        let file = object(&parts).map_err(|error| explain(&action, &error))?;
        let mut programs = Ebpf::load(&file).map_err(|error| explain(&action, &error))?;
        for (base, entry) in &wanted {
            load::one_program(&mut programs, entry.counts)?;
            let (map, base) = entry.array(tc, xdp, *base);
            put(map, base + BACK, &programs, entry.counts)?;
        }
        Ok(programs)
    }

    fn translate(&self, entry: &Entry, exits: &Exits) -> Result<Vec<Insn>, Error> {
        let mut programs = self.programs.iter();
        let Some((start, program)) = programs.find(|(start, _)| *start == entry.start) else {
            return Ok(Vec::new());
        };
        translate(program, entry.dialect, *start, exits).map_err(|refusal| Error::ExpressionForLibpcap {
            expression: self.text.clone(),
            reason: refusal.to_string(),
        })
    }
}

impl Entry {
    /// The array that its programs are in, and its first place there.
    const fn array<'a>(&self, tc: &'a mut Map, xdp: &'a mut Map, base: u32) -> (&'a mut Map, u32) {
        match self.dialect {
            Dialect::Tc => (tc, base),
            Dialect::Xdp => (xdp, 0),
        }
    }
}

/// An expression's loaded programs.
pub struct Filter {
    /// By the names of the counting programs in whose place they are to be attached.
    pub programs: Ebpf,
    _arrays: Arrays,
}

/// Arrays by which programs find each other. The kernel empties an array of programs when its last descriptor is
/// closed, so they are kept as long as a program is attached.
pub struct Arrays {
    tc: Map,
    lengths: Map,
    xdp: Map,
}

impl Arrays {
    /// Those of `ebpf`, which can be taken once.
    ///
    /// # Errors
    /// [`Error::Permission`] or [`Error::System`].
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            tc: load::take(ebpf, "FILTER")?,
            lengths: load::take(ebpf, "FIRST_SEGMENT")?,
            xdp: array(PLACES_OF_ONE)?,
        })
    }
}

/// An array of programs of its own.
fn array(places: u32) -> Result<Map, Error> {
    let kind = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
    let shape = aya_obj::Map::new_from_params(kind, 4, 4, places, 0);
    MapData::create(shape, "wherefore_xfilt", None)
        .map(Map::ProgramArray)
        .map_err(|error| explain("make an array of kernel programs", &error))
}

fn descriptor(map: &Map) -> Result<RawFd, Error> {
    match map {
        Map::ProgramArray(data) | Map::PerCpuArray(data) => Ok(data.fd().as_fd().as_raw_fd()),
        other => Err(Error::System {
            action: "load the kernel programs".into(),
            reason: format!("a map is no array: {other:?}"),
        }),
    }
}

fn put(map: &mut Map, place: u32, from: &Ebpf, name: &str) -> Result<(), Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        explain(&format!("hand on to the kernel program {name}"), error)
    };
    let program = from.program(name).ok_or(ProgramError::NotLoaded).and_then(Program::fd);
    let program = program.map_err(|error| failed(&error))?;
    let mut array = ProgramArray::try_from(map).map_err(|error| failed(&error))?;
    array.set(place, program, 0).map_err(|error| failed(&error))
}
