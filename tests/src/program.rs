//! Kernel programs of somebody else: a few instructions that count in a map of their own, and decide.
//!
//! Assembled here, since they must not share anything with the product's. Instruction codes, helper and command
//! numbers: linux/bpf.h.

use std::{
    borrow::Cow,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::{
    maps::{Array, Map, MapData},
    programs::{
        LinkOrder, ProgramInfo, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions, Xdp, XdpMode,
        loaded_programs,
        tc::{NlOptions, TcAttachOptions, TcHandle},
    },
};
use aya_obj::{
    generated::{bpf_map_type, bpf_prog_type},
    programs::XdpAttachType,
};

/// What the kernel shall do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Let it go on.
    Pass,
    /// Drop it if it has this many bytes, Ethernet header included.
    DropOfLength(i32),
    /// Return this of every packet.
    Return(i32),
    /// Put a VLAN tag with this EtherType and control information on it; TC only.
    PushTag(u16, u16),
}

/// A program, and how many packets it has seen.
pub struct Other {
    counter: Array<MapData, u64>,
    id: u32,
    // Keeps it loaded.
    _program: OwnedFd,
}

/// `XDP_DROP`.
pub const XDP_DROP: i32 = 1;
/// `TC_ACT_OK`: the packet goes on, past all programs behind this one.
pub const TC_ACT_OK: i32 = 0;

/// `TCX_NEXT`, `TC_ACT_UNSPEC`; `TC_ACT_SHOT`; `XDP_PASS`; `XDP_DROP`.
const TC: (i32, i32) = (-1, 2);
const XDP: (i32, i32) = (2, XDP_DROP);

impl Other {
    /// A TC program.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn tc(act: Act) -> Self {
        // __sk_buff begins with the length.
        Self::load(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, TC, act, &[load_word(R7, R6, 0)])
    }

    /// An XDP program.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn xdp(act: Act) -> Self {
        // xdp_md begins with the packet's start and end.
        let length = [load_word(R7, R6, 4), load_word(R1, R6, 0), subtract(R7, R1)];
        Self::load(bpf_prog_type::BPF_PROG_TYPE_XDP, XDP, act, &length)
    }

    fn load(kind: bpf_prog_type, (pass, drop): (i32, i32), act: Act, length: &[Instruction]) -> Self {
        let map = array(8);
        let fd = map.fd().as_fd().as_raw_fd();
        let mut code = vec![copy(R6, R1)];
        code.extend(first_entry(fd));
        code.extend([skip_if(R0, 0, 2), set(R1, 1), ADD]);
        match act {
            Act::Pass | Act::Return(_) => {}
            Act::DropOfLength(bytes) => {
                code.extend(length);
                code.extend([skip_unless(R7, bytes, 2), set(R0, drop), EXIT]);
            }
            Act::PushTag(kind, control) => {
                code.extend([copy(R1, R6), set(R2, i32::from(kind.to_be())), set(R3, i32::from(control))]);
                code.push(call(SKB_VLAN_PUSH));
            }
        }
        let last = if let Act::Return(value) = act { value } else { pass };
        code.extend([set(R0, last), EXIT]);
        let program = load(kind as u32, &code).unwrap_or_else(|error| panic!("{act:?}: {error}"));
        let id = number(&program);
        let counter = Array::try_from(Map::Array(map)).unwrap_or_else(|error| panic!("{error}"));
        Self { counter, id, _program: program }
    }

    /// Packets seen so far.
    ///
    /// # Panics
    /// When the counter cannot be read.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.counter.get(&0, 0).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads the counter, and sets it back after `meanwhile`, as one who believes that nothing is counted in between.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn take_carelessly<T>(&mut self, meanwhile: impl FnOnce() -> T) -> (u64, T) {
        let seen = self.seen();
        let done = meanwhile();
        self.counter.set(0, 0, 0).unwrap_or_else(|error| panic!("{error}"));
        (seen, done)
    }

    /// Attaches by TCX, at the end of the chain where ours do not want to be. To be called inside the
    /// device's namespace. Attached until what is returned is dropped.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach_tcx(&self, device: &str, way: TcAttachType) -> impl Sized + use<> {
        let order = if way == TcAttachType::Ingress { LinkOrder::last() } else { LinkOrder::first() };
        self.attach(device, way, TcAttachOptions::TcxOrder(order))
    }

    /// As [`Self::attach_tcx`], but before everybody else.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach_tcx_first(&self, device: &str, way: TcAttachType) -> impl Sized + use<> {
        self.attach(device, way, TcAttachOptions::TcxOrder(LinkOrder::first()))
    }

    /// Attaches as a filter of the device's clsact qdisc, which must exist. As [`Self::attach_tcx`].
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach_clsact(&self, device: &str, way: TcAttachType, priority: u16) -> impl Sized + use<> {
        let options = NlOptions { priority, handle: TcHandle::from(1), classid: None };
        self.attach(device, way, TcAttachOptions::Netlink(options))
    }

    fn attach(&self, device: &str, way: TcAttachType, options: TcAttachOptions) -> impl Sized + use<> {
        let program = SchedClassifier::from_program_info(self.info(), Cow::Borrowed("other"));
        let mut program = program.unwrap_or_else(|error| panic!("{error}"));
        program.attach_with_options(device, way, options).unwrap_or_else(|error| panic!("{device}: {error}"));
        program
    }

    /// Attaches as the device's native XDP program. As [`Self::attach_tcx`].
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach_xdp(&self, device: &str) -> impl Sized + use<> {
        let program = Xdp::from_program_info(self.info(), Cow::Borrowed("other"), XdpAttachType::Interface);
        let mut program = program.unwrap_or_else(|error| panic!("{error}"));
        program.attach(device, XdpMode::Driver).unwrap_or_else(|error| panic!("{device}: {error}"));
        program
    }

    fn info(&self) -> ProgramInfo {
        info(self.id)
    }
}

/// A TC program that takes its time: some 100 ms, in which the kernel's RCU waits for it.
pub struct Lengthy {
    stage: Array<MapData, u64>,
    program: SchedClassifier,
    // What it copies around.
    _maps: [MapData; 2],
}

/// How far a [`Lengthy`] program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not begun.
    Before,
    /// Running.
    Running,
    /// Over.
    After,
}

impl Lengthy {
    /// Copies of [`Self::COPY`] bytes, some 0.2 ms each.
    const COPIES: i32 = 500;
    const COPY: u32 = 1 << 20;

    /// Loads it.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        let (stage, maps) = (array(8), [array(Self::COPY), array(Self::COPY)]);
        let [stage_fd, from, to] = [&stage, &maps[0], &maps[1]].map(|map| map.fd().as_fd().as_raw_fd());
        let end = [set(R0, TC.0), EXIT];
        let mut code = Vec::new();
        for (map, register) in [(stage_fd, R8), (from, R7)] {
            code.extend(first_entry(map));
            code.push(skip_unless(R0, 0, 2));
            code.extend(end);
            code.push(copy(register, R0));
        }
        code.extend([store(R8, 1), set(R9, 0)]);
        code.extend(load_map(to));
        code.extend([
            copy(R2, R10),
            add(R2, -4),
            copy(R3, R7),
            set(R4, 0),
            call(MAP_UPDATE_ELEM),
            add(R9, 1),
        ]);
        // Back over these nine, itself included.
        code.push(skip_unless(R9, Self::COPIES, 0xffff - 8));
        code.push(store(R8, 2));
        code.extend(end);
        let loaded = load(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32, &code);
        let loaded = loaded.unwrap_or_else(|error| panic!("a lengthy program: {error}"));
        let program = SchedClassifier::from_program_info(info(number(&loaded)), Cow::Borrowed("lengthy"));
        let program = program.unwrap_or_else(|error| panic!("{error}"));
        let stage = Array::try_from(Map::Array(stage)).unwrap_or_else(|error| panic!("{error}"));
        Self { stage, program, _maps: maps }
    }

    /// Runs it once, by `BPF_PROG_TEST_RUN`, and waits for its end.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn run(&self) {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&[0; 64]);
        self.program.test_run(options).unwrap_or_else(|error| panic!("{error}"));
    }

    /// How far it is.
    ///
    /// # Panics
    /// When that cannot be read.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.get(&0, 0).unwrap_or_else(|error| panic!("{error}")) {
            0 => Stage::Before,
            1 => Stage::Running,
            _ => Stage::After,
        }
    }
}

impl Default for Lengthy {
    fn default() -> Self {
        Self::new()
    }
}

/// An array of one entry.
fn array(bytes: u32) -> MapData {
    let shape = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, bytes, 1, 0);
    MapData::create(shape, "other", None).unwrap_or_else(|error| panic!("a map: {error}"))
}

fn info(number: u32) -> ProgramInfo {
    let mut all = loaded_programs().filter_map(Result::ok);
    all.find(|program| program.id() == number).unwrap_or_else(|| panic!("the program is gone"))
}

/// Code, destination, source and offset in the first word, the immediate value in the second.
type Instruction = (u32, i32);

const R0: u32 = 0;
const R1: u32 = 1;
const R2: u32 = 2;
const R3: u32 = 3;
const R4: u32 = 4;
const R6: u32 = 6;
const R7: u32 = 7;
const R8: u32 = 8;
const R9: u32 = 9;
const R10: u32 = 10;

const EXIT: Instruction = (0x95, 0);
const fn set(to: u32, value: i32) -> Instruction {
    (0xb7 | to << 8, value)
}
const fn copy(to: u32, from: u32) -> Instruction {
    (0xbf | to << 8 | from << 12, 0)
}
const fn add(to: u32, value: i32) -> Instruction {
    (0x07 | to << 8, value)
}
const fn subtract(to: u32, from: u32) -> Instruction {
    (0x1f | to << 8 | from << 12, 0)
}
const fn load_word(to: u32, from: u32, offset: u32) -> Instruction {
    (0x61 | to << 8 | from << 12 | offset << 16, 0)
}
const fn call(helper: i32) -> Instruction {
    (0x85, helper)
}
/// Steps over `skip` instructions where they are equal.
const fn skip_if(register: u32, value: i32, skip: u32) -> Instruction {
    (0x15 | register << 8 | skip << 16, value)
}
/// Steps over `skip` instructions where they are not.
const fn skip_unless(register: u32, value: i32, skip: u32) -> Instruction {
    (0x55 | register << 8 | skip << 16, value)
}

/// The first entry of an array in register 0, or 0 there.
const fn first_entry(map: i32) -> [Instruction; 6] {
    // The key is a word of 0 on the stack.
    let key = (0x62 | R10 << 8 | 0xfffc << 16, 0);
    let [map, more] = load_map(map);
    [key, copy(R2, R10), add(R2, -4), map, more, call(MAP_LOOKUP_ELEM)]
}

/// A map's descriptor in register 1.
const fn load_map(map: i32) -> [Instruction; 2] {
    [(0x18 | R1 << 8 | 1 << 12, map), (0, 0)]
}

/// Sets the 64 bits that a register points to.
const fn store(at: u32, value: i32) -> Instruction {
    (0x7a | at << 8, value)
}

/// Adds register 1 to the 64 bits that register 0 points to, atomically.
const ADD: Instruction = (0xdb | R0 << 8 | R1 << 12, 0);

const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const SKB_VLAN_PUSH: i32 = 18;

/// `BPF_PROG_LOAD`, and the head of its part of `union bpf_attr`.
const PROG_LOAD: libc::c_long = 5;

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

fn load(kind: u32, code: &[Instruction]) -> io::Result<OwnedFd> {
    let words: Vec<[u32; 2]> = code.iter().map(|(word, value)| [*word, value.cast_unsigned()]).collect();
    let request = Load {
        kind,
        count: words.len() as u32,
        instructions: words.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: `request` is the head of bpf_attr for this command, of the size given, and points to `count`
    // instructions of 8 bytes and a string; all outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const request, size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// The kernel's number of a program.
fn number(program: &OwnedFd) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
    let number = lines.next().and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number in {text}"))
}
