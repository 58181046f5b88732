//! Classic programs as kernel programs of their own: what matches and what does not is told by what comes back in
//! a test run, or by counters where real packets meet them.

use std::{
    error::Error,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, ProgramArray},
    programs::{
        LinkOrder, Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp,
        tc::{TcAttachOptions, TcAttachType},
    },
};
use aya_obj::generated::bpf_map_type;
use wherefore::backend::{
    classic,
    ebpf::{
        Start,
        filter::{Dialect, Exits, Insn, object, translate},
    },
};

use crate::{PATIENCE, wait_until};

/// What the program returns of a packet that matches, and of one that does not.
const ACCEPTED: i32 = 7;
const REJECTED: i32 = 8;
const NAME: &str = "expression";

struct Loaded {
    programs: Ebpf,
    _array: Map,
}

impl Loaded {
    /// With what comes behind: on acceptance and on rejection.
    fn new(
        program: &classic::Program,
        dialect: Dialect,
        start: Start,
        [accepted, rejected]: [&[Insn]; 2],
    ) -> Result<Self, Box<dyn Error>> {
        let kind = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
        let array = MapData::create(aya_obj::Map::new_from_params(kind, 4, 4, 2, 0), "verdicts", None)?;
        let table = array.fd().as_fd().as_raw_fd();
        let mut array = Map::ProgramArray(array);
        let exits = Exits { table, accept: 0, reject: 1, measure: None };
        let insns = translate(program, dialect, start, &exits)?;
        let file = object(&[
            ("accepted", dialect, accepted),
            ("rejected", dialect, rejected),
            (NAME, dialect, &insns),
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
        Ok(Self { programs, _array: array })
    }
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// `return value`.
const fn returns(value: i32) -> [Insn; 2] {
    [insn(0xb4, 0, 0, 0, value), insn(0x95, 0, 0, 0, 0)]
}

/// `array[place] += 1`, and on to the next program.
const fn counts(array: i32, place: i32) -> [Insn; 12] {
    [
        insn(0x62, 10, 0, -4, place),
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -4),
        insn(0x18, 1, 1, 0, array),
        insn(0x00, 0, 0, 0, 0),
        // bpf_map_lookup_elem
        insn(0x85, 0, 0, 0, 1),
        insn(0x15, 0, 0, 3, 0),
        insn(0x79, 1, 0, 0, 0),
        insn(0x07, 1, 0, 0, 1),
        insn(0x7b, 0, 1, 0, 0),
        insn(0xb4, 0, 0, 0, -1),
        insn(0x95, 0, 0, 0, 0),
    ]
}

/// A program for test runs.
pub struct Judge {
    dialect: Dialect,
    loaded: Loaded,
}

impl Judge {
    /// Translates and loads.
    ///
    /// # Panics
    /// Where either refuses.
    #[must_use]
    pub fn new(program: &classic::Program, dialect: Dialect, start: Start) -> Self {
        let loaded = Loaded::new(program, dialect, start, [&returns(ACCEPTED), &returns(REJECTED)]);
        Self { dialect, loaded: loaded.unwrap_or_else(|error| panic!("{program:?}: {error}")) }
    }

    /// How long a run takes on a frame that the kernel takes for test runs, on the average of `repeat`; `empty`: of
    /// a program that only returns.
    ///
    /// # Panics
    /// Where the kernel refuses.
    #[must_use]
    pub fn time(&self, frame: &[u8], repeat: u32, empty: bool) -> Duration {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = repeat;
        let name = if empty { "rejected" } else { NAME };
        let result = match self.loaded.programs.program(name) {
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            Some(Program::Xdp(program)) => program.test_run(options),
            _ => panic!("no program {name}"),
        };
        result.unwrap_or_else(|error| panic!("{error}")).duration
    }

    /// Whether the frame matches; `None` where the kernel does not take it for a test run.
    ///
    /// # Panics
    /// Where the program ends in another way.
    #[must_use]
    pub fn verdict(&self, frame: &[u8]) -> Option<bool> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        let program = self.loaded.programs.program(NAME)?;
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

/// A program at an interface's ingress (TCX), which real packets meet. It goes when dropped.
pub struct Post {
    verdicts: Array<MapData, u64>,
    _loaded: Loaded,
}

impl Post {
    /// Translates, loads and attaches. To be called inside the interface's namespace.
    ///
    /// # Panics
    /// Where any of it is refused.
    #[must_use]
    pub fn new(program: &classic::Program, device: &str) -> Self {
        Self::try_new(program, device).unwrap_or_else(|error| panic!("{program:?}: {error}"))
    }

    fn try_new(program: &classic::Program, device: &str) -> Result<Self, Box<dyn Error>> {
        let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let verdicts = MapData::create(aya_obj::Map::new_from_params(kind, 4, 8, 2, 0), "verdicts", None)?;
        let table = verdicts.fd().as_fd().as_raw_fd();
        let behind = [counts(table, 0), counts(table, 1)];
        let mut loaded = Loaded::new(program, Dialect::Tc, Start::Ethernet, [&behind[0], &behind[1]])?;
        let program: &mut SchedClassifier = loaded.programs.program_mut(NAME).ok_or(NAME)?.try_into()?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        program.attach_with_options(device, TcAttachType::Ingress, order)?;
        Ok(Self { verdicts: Array::try_from(Map::Array(verdicts))?, _loaded: loaded })
    }

    /// Whether the one packet matches that `send` lets come.
    ///
    /// # Panics
    /// When none comes.
    pub fn verdict(&self, send: impl FnOnce()) -> bool {
        let counts = || [0, 1].map(|place| self.verdicts.get(&place, 0).expect("a place of the array"));
        let [accepted, rejected] = counts();
        send();
        let mut now = counts();
        wait_until("a verdict", PATIENCE, || {
            now = counts();
            now != [accepted, rejected]
        });
        assert_eq!(now[0] + now[1], accepted + rejected + 1, "more than one packet came");
        now[0] > accepted
    }
}
