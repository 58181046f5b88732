//! What the counting programs are measured against by `cargo xtask bench`: an empty program, the smallest
//! that parses and counts, and a driver that gives either another flow with each packet.
//!
//! A test run of the kernel repeats one packet. The driver writes the next flow of a pattern into it and
//! goes on, by a tail call, to the program that is measured; what the driver costs itself shows with the
//! empty program behind it.
#![no_std]
#![no_main]
// Inline assembly on this target: atomic adds.
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, xdp_action::XDP_PASS},
    btf_maps::{Array, HashMap, PerCpuArray, ProgramArray},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Most steps of a pattern.
const STEPS: usize = 1 << 20;
/// Flows of the smallest counter.
const FLOWS: usize = 1 << 17;
/// As in the counting programs.
const NEXT: i32 = -1;

/// The flow of each step, of which 24 bits count: 8 of the source address, 16 of the source port.
#[btf_map]
static PATTERN: Array<u32, STEPS> = Array::new();

/// How many steps the pattern has, a power of two, less one.
#[btf_map]
static MASK: Array<u32, 1> = Array::new();

/// The next step of each CPU.
#[btf_map]
static POSITION: PerCpuArray<u32, 1> = PerCpuArray::new();

/// The program that is measured, by the driver's kind: a program array takes one kind only.
#[btf_map]
static TC_TARGET: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static XDP_TARGET: ProgramArray<1> = ProgramArray::new();

/// The flow of this step.
#[inline(always)]
fn step() -> Option<u32> {
    let position = POSITION.get_ptr_mut(0)?;
    let mask = MASK.get(0)?;
    // SAFETY: a valid pointer into this CPU's value.
    let at = unsafe {
        let at = *position;
        *position = at.wrapping_add(1);
        at
    };
    PATTERN.get(at & mask & (STEPS as u32 - 1)).copied()
}

/// Writes the flow into an Ethernet frame of IPv4 without options. The header's checksum is left as it is:
/// no counter looks at it.
#[inline(always)]
fn write(data: usize, end: usize, flow: u32) -> bool {
    const ADDRESS: usize = 14 + 12 + 3;
    const PORT: usize = 14 + 20;
    if data + PORT + 2 > end {
        return false;
    }
    // SAFETY: both places lie within the packet.
    unsafe {
        *((data + ADDRESS) as *mut u8) = (flow >> 16) as u8;
        *((data + PORT) as *mut u16) = flow as u16;
    }
    true
}

/// One step, then the program under test.
#[classifier]
pub fn drive(ctx: TcContext) -> i32 {
    if let Some(flow) = step()
        && write(ctx.data(), ctx.data_end(), flow)
    {
        // SAFETY: nothing here needs to be dropped.
        unsafe { TC_TARGET.tail_call(&ctx, 0) };
    }
    NEXT
}

/// As [`drive`], for XDP programs.
#[xdp]
pub fn drive_xdp(ctx: XdpContext) -> u32 {
    if let Some(flow) = step()
        && write(ctx.data(), ctx.data_end(), flow)
    {
        // SAFETY: nothing here needs to be dropped.
        unsafe { XDP_TARGET.tail_call(&ctx, 0) };
    }
    XDP_PASS
}

/// Does nothing.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    NEXT
}

/// Does nothing.
#[xdp]
pub fn empty_xdp(_: XdpContext) -> u32 {
    XDP_PASS
}

#[repr(C)]
struct Key {
    /// As IPv6 addresses: the last word is the IPv4 address, the one before `::ffff`.
    src: [u32; 4],
    dst: [u32; 4],
    /// From the lowest bits on: ports, protocol, family, the interface's lower half. One word, as fields the
    /// compiler would store them together with half of the address, where the verifier wants whole words.
    rest: u64,
}

#[repr(C)]
struct Value {
    bytes: u64,
    packets: u64,
}

#[btf_map]
static SMALLEST: HashMap<Key, Value, FLOWS> = HashMap::new();

#[inline(always)]
fn count(data: usize, end: usize, len: u32, ifindex: u32) {
    const ETHERNET: usize = 14;
    const PORTS: usize = ETHERNET + 20;
    if data + PORTS + 4 > end {
        return;
    }
    // SAFETY: all these bytes lie within the packet.
    let (kind, proto, src, dst, ports) = unsafe {
        (
            ((data + 12) as *const u16).read_unaligned(),
            ((data + ETHERNET + 9) as *const u8).read(),
            ((data + ETHERNET + 12) as *const u32).read_unaligned(),
            ((data + ETHERNET + 16) as *const u32).read_unaligned(),
            ((data + PORTS) as *const u32).read_unaligned(),
        )
    };
    if kind != 0x0800_u16.to_be() {
        return;
    }
    let mapped = 0xffff_u32.to_be();
    let kind = u64::from(proto) << 32 | 4 << 40 | u64::from(ifindex as u16) << 48;
    let key = Key { src: [0, 0, mapped, src], dst: [0, 0, mapped, dst], rest: u64::from(ports) | kind };
    if let Some(value) = SMALLEST.get_ptr_mut(&key) {
        // SAFETY: a valid pointer into the map's value.
        unsafe {
            add(&raw mut (*value).bytes, u64::from(len));
            add(&raw mut (*value).packets, 1);
        }
    } else {
        // A full table, or another CPU that was faster, is not the smallest program's concern.
        let _ = SMALLEST.insert(&key, &Value { bytes: u64::from(len), packets: 1 }, u64::from(BPF_NOEXIST));
    }
}

/// Adds atomically; `core`'s atomics have no such operation on this target.
#[inline(always)]
fn add(counter: *mut u64, value: u64) {
    // SAFETY: `counter` points to an aligned u64 in a map's value.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) counter, v = in(reg) value) };
}

/// The smallest counter: Ethernet, IPv4 without options, ports; one hash, two atomic adds.
#[classifier]
pub fn smallest(ctx: TcContext) -> i32 {
    // SAFETY: the context pointer is valid as long as the program runs.
    let (len, ifindex) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).ifindex) };
    count(ctx.data(), ctx.data_end(), len, ifindex);
    NEXT
}

/// As [`smallest`], for XDP.
#[xdp]
pub fn smallest_xdp(ctx: XdpContext) -> u32 {
    let len = (ctx.data_end() - ctx.data()) as u32;
    count(ctx.data(), ctx.data_end(), len, ctx.ingress_ifindex() as u32);
    XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
