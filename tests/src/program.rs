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
        LinkOrder, ProgramInfo, SchedClassifier, TcAttachType, Xdp, XdpMode, loaded_programs,
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

/// `TCX_NEXT`, `TC_ACT_UNSPEC`; `TC_ACT_SHOT`; `XDP_PASS`; `XDP_DROP`.
const TC: (i32, i32) = (-1, 2);
const XDP: (i32, i32) = (2, 1);

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
        let shape = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, 8, 1, 0);
        let map = MapData::create(shape, "other", None).unwrap_or_else(|error| panic!("a map: {error}"));
        let fd = map.fd().as_fd().as_raw_fd();
        let mut code = count(fd).to_vec();
        match act {
            Act::Pass => {}
            Act::DropOfLength(bytes) => {
                code.extend(length);
                code.extend([skip_unless(R7, bytes, 2), set(R0, drop), EXIT]);
            }
            Act::PushTag(kind, control) => {
                code.extend([copy(R1, R6), set(R2, i32::from(kind.to_be())), set(R3, i32::from(control))]);
                code.push(call(SKB_VLAN_PUSH));
            }
        }
        code.extend([set(R0, pass), EXIT]);
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

    /// Reads the counter and then sets it back, as one who believes that nothing happens in between.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn take_carelessly(&mut self) -> u64 {
        let seen = self.seen();
        self.counter.set(0, 0, 0).unwrap_or_else(|error| panic!("{error}"));
        seen
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
        let mut all = loaded_programs().filter_map(Result::ok);
        all.find(|program| program.id() == self.id).unwrap_or_else(|| panic!("the program is gone"))
    }
}

/// Code, destination, source and offset in the first word, the immediate value in the second.
type Instruction = (u32, i32);

const R0: u32 = 0;
const R1: u32 = 1;
const R2: u32 = 2;
const R3: u32 = 3;
const R6: u32 = 6;
const R7: u32 = 7;
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

/// One more in the first entry of an array; register 6 keeps the context.
const fn count(map: i32) -> [Instruction; 10] {
    [
        copy(R6, R1),
        // A word of 0 on the stack: the key.
        (0x62 | R10 << 8 | 0xfffc << 16, 0),
        copy(R2, R10),
        add(R2, -4),
        // A map's descriptor, in two instructions.
        (0x18 | R1 << 8 | 1 << 12, map),
        (0, 0),
        call(MAP_LOOKUP_ELEM),
        skip_if(R0, 0, 2),
        set(R1, 1),
        // An atomic addition of 64 bits.
        (0xdb | R0 << 8 | R1 << 12, 0),
    ]
}

const MAP_LOOKUP_ELEM: i32 = 1;
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
