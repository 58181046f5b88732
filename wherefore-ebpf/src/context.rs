//! Reading a packet: by its pointers where the bytes are linear, by `bpf_skb_load_bytes` where not.

use core::{arch::asm, cell::UnsafeCell, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_check_mtu, bpf_skb_load_bytes},
    programs::{TcContext, XdpContext},
};
use wherefore_common::{
    Reason,
    parse::{self, Header, MAX_OFFSET, Packet, Parsed, Step},
};

use crate::functions;

/// The header `T` at `offset` of the packet memory from `data` to `end`.
#[inline(always)]
fn direct<T: Header>(data: usize, end: usize, offset: usize) -> Option<T> {
    let mut at = data;
    // SAFETY: arithmetic on two registers. Real assembly, because LLVM otherwise reorders it with the
    // comparison below, and the verifier wants "pointer plus bounded number, then compare". The mask
    // changes nothing: the parser compared the offset with MAX_OFFSET, but maybe in another register.
    unsafe {
        asm!(
            "{offset} &= {max}",
            "{at} += {offset}",
            at = inout(reg) at,
            offset = inout(reg) offset => _,
            max = const MAX_OFFSET,
        );
    };
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the bytes lie within the packet, any bytes make a valid `T` (trait Header).
    Some(unsafe { (at as *const T).read_unaligned() })
}

/// The header `T` at the first byte of the packet memory from `data` to `end`.
#[inline(always)]
fn peek<T: Header>(data: usize, end: usize) -> Option<T> {
    if data + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the bytes lie within the packet, any bytes make a valid `T` (trait Header).
    Some(unsafe { (data as *const T).read_unaligned() })
}

/// The same number, of which the verifier no longer knows anything: two exclusive ors with a number it
/// cannot know either.
#[inline(always)]
fn forget(mut value: usize, unknown: usize) -> usize {
    // SAFETY: arithmetic on registers only.
    unsafe { asm!("{v} ^= {u}", "{v} ^= {u}", v = inout(reg) value, u = in(reg) unknown) };
    value
}

/// Zeros to parse into. The zero is one the compiler cannot see: of zeros it knows it makes a call of
/// `memset`, on this target a loop over bytes that costs 50 ns a packet.
#[inline(always)]
pub fn blank() -> Parsed {
    let zero: u64;
    // SAFETY: sets a register.
    unsafe { asm!("{z} = 0", z = out(reg) zero) };
    // SAFETY: equal sizes, and any bytes make a valid pair of addresses.
    let [src, dst] = unsafe { core::mem::transmute::<[u64; 4], [[u8; 16]; 2]>([zero; 4]) };
    Parsed {
        src,
        dst,
        ip_len: zero as u32,
        sport: zero as u16,
        dport: zero as u16,
        proto: zero as u8,
        family: zero as u8,
        fragment: zero as u8,
        l3: zero as u32,
        l4: zero as u32,
    }
}

/// Reads the headers of a frame that begins with an Ethernet header.
#[inline(always)]
pub fn ethernet(skb: &Skb, parsed: &mut Parsed) -> Result<(), Reason> {
    parse::ethernet_into(skb, parsed)
}

/// Reads the headers of a frame that begins with the IP header.
#[inline(always)]
pub fn ip(skb: &Skb, parsed: &mut Parsed) -> Result<(), Reason> {
    parse::ip_into(skb, 0, parsed)
}

/// A packet in a TC program.
pub struct Skb {
    ctx: TcContext,
    /// Where `bpf_skb_load_bytes` writes: one place for all headers, as the stack has 512 bytes.
    scratch: UnsafeCell<MaybeUninit<[u64; SCRATCH / 8]>>,
}

/// The longest header read at once: IPv6.
const SCRATCH: usize = 40;

impl Skb {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        Self { ctx, scratch: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The kernel's view of the packet.
    #[inline(always)]
    pub fn meta(&self) -> &__sk_buff {
        // SAFETY: the context pointer is valid as long as the program runs.
        unsafe { &*self.ctx.skb.skb }
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    #[inline(always)]
    pub fn ctx(&self) -> &TcContext {
        &self.ctx
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        if let Some(header) = direct(self.ctx.data(), self.ctx.data_end(), offset) {
            return Some(header);
        }
        const { assert!(size_of::<T>() <= SCRATCH) };
        let scratch: *mut T = self.scratch.get().cast();
        // SAFETY: the helper writes size_of::<T>() bytes, for which there is room, or fails, as it does
        // for offsets beyond the packet.
        let failed = unsafe {
            bpf_skb_load_bytes(self.ctx.as_ptr(), offset as u32, scratch.cast(), size_of::<T>() as u32)
        };
        // SAFETY: the helper wrote the bytes, and any bytes make a valid `T` (trait Header).
        if failed == 0 { Some(unsafe { scratch.read_unaligned() }) } else { None }
    }

    #[inline(always)]
    fn peek<T: Header>(&self) -> Option<T> {
        peek(self.ctx.data(), self.ctx.data_end())
    }

    #[inline(always)]
    fn same(&self, offset: usize) -> usize {
        forget(offset, self.meta().len as usize)
    }

    #[inline(always)]
    fn link_header(&self, kind: u16, at: usize) -> Result<Step, Reason> {
        Step::unpack(functions::wherefore_link(self.ctx.skb.skb, u64::from(kind), at as u64))
    }

    #[inline(always)]
    fn extension_header(&self, kind: u8, at: usize) -> Result<Step, Reason> {
        Step::unpack(functions::wherefore_ext(self.ctx.skb.skb, u64::from(kind), at as u64))
    }
}

/// A packet in an XDP program. Fragments of a multi-buffer packet are not read: headers lie in the
/// first buffer.
pub struct Xdp {
    ctx: XdpContext,
}

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    pub fn len(&self) -> u32 {
        (self.ctx.data_end() - self.ctx.data()) as u32
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    /// The longest IP packet that the interface takes (Linux 5.12).
    #[inline(always)]
    pub fn mtu(&self) -> Option<u32> {
        let mut mtu = 0;
        // SAFETY: the context is valid as long as the program runs; interface 0 is the packet's own.
        let failed = unsafe { bpf_check_mtu(self.ctx.as_ptr(), 0, &raw mut mtu, 0, 0) };
        // Positive where the packet is too long, which it may be.
        if failed < 0 { None } else { Some(mtu) }
    }

    #[inline(always)]
    pub fn ctx(&self) -> &XdpContext {
        &self.ctx
    }
}

impl Packet for Xdp {
    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        direct(self.ctx.data(), self.ctx.data_end(), offset)
    }

    #[inline(always)]
    fn peek<T: Header>(&self) -> Option<T> {
        peek(self.ctx.data(), self.ctx.data_end())
    }

    #[inline(always)]
    fn same(&self, offset: usize) -> usize {
        forget(offset, self.ctx.rx_queue_index() as usize)
    }

    #[inline(always)]
    fn link_header(&self, kind: u16, at: usize) -> Result<Step, Reason> {
        Step::unpack(functions::wherefore_xlink(self.ctx.ctx, u64::from(kind), at as u64))
    }

    #[inline(always)]
    fn extension_header(&self, kind: u8, at: usize) -> Result<Step, Reason> {
        Step::unpack(functions::wherefore_xext(self.ctx.ctx, u64::from(kind), at as u64))
    }
}
