//! tcpdump expressions as kernel programs of their own, for test runs: what matches and what does not is told by
//! what comes back.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{
    Ebpf,
    maps::{Map, MapData, ProgramArray},
    programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use aya_obj::generated::bpf_map_type;
use wherefore::backend::{
    classic,
    ebpf::{
        Start,
        filter::{Dialect, Exits, Insn, object, translate},
    },
};

/// What the program returns of a packet that matches, and of one that does not.
const ACCEPTED: i32 = 7;
const REJECTED: i32 = 8;

/// An expression's program, with exits that tell the verdict.
pub struct Judge {
    dialect: Dialect,
    programs: Ebpf,
    _array: Map,
}

/// `return value`.
fn returns(value: i32) -> [Insn; 2] {
    [
        Insn { code: 0xb4, dst: 0, src: 0, off: 0, imm: value },
        Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ]
}

impl Judge {
    /// Translates and loads.
    ///
    /// # Panics
    /// Where either refuses.
    #[must_use]
    pub fn new(program: &classic::Program, dialect: Dialect, start: Start) -> Self {
        Self::try_new(program, dialect, start).unwrap_or_else(|error| panic!("{program:?}: {error}"))
    }

    fn try_new(
        program: &classic::Program,
        dialect: Dialect,
        start: Start,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let kind = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
        let array = MapData::create(aya_obj::Map::new_from_params(kind, 4, 4, 2, 0), "verdicts", None)?;
        let table = array.fd().as_fd().as_raw_fd();
        let mut array = Map::ProgramArray(array);
        let exits = Exits { table, accept: 0, reject: 1, measure: None };
        let insns = translate(program, dialect, start, &exits)?;
        let (accepted, rejected) = (returns(ACCEPTED), returns(REJECTED));
        let file = object(&[
            ("accepted", dialect, &accepted),
            ("rejected", dialect, &rejected),
            ("expression", dialect, &insns),
        ])?;
        let mut programs = Ebpf::load(&file)?;
        for (_, program) in programs.programs_mut() {
            match program {
                Program::SchedClassifier(program) => program.load()?,
                Program::Xdp(program) => program.load()?,
                other => panic!("a program of type {:?}", other.prog_type()),
            }
        }
        let mut places = ProgramArray::try_from(&mut array)?;
        for (place, name) in [(0, "accepted"), (1, "rejected")] {
            places.set(place, programs.program(name).ok_or(name)?.fd()?, 0)?;
        }
        Ok(Self { dialect, programs, _array: array })
    }

    /// Whether the frame matches; `None` where the kernel does not take it for a test run.
    ///
    /// # Panics
    /// Where the program ends in another way.
    #[must_use]
    pub fn verdict(&self, frame: &[u8]) -> Option<bool> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        let program = self.programs.program("expression")?;
        let result = match self.dialect {
            Dialect::Tc => <&SchedClassifier>::try_from(program).ok()?.test_run(options),
            Dialect::Xdp => <&Xdp>::try_from(program).ok()?.test_run(options),
        };
        match result.ok()?.return_value as i32 {
            ACCEPTED => Some(true),
            REJECTED => Some(false),
            other => panic!("the program returned {other}"),
        }
    }
}
