//! Loads from a packet: directly where the bytes are in its linear part, by `bpf_skb_load_bytes` where not, and
//! as on the wire where a VLAN tag was stripped.

use super::{
    Dialect,
    assembler::{Alu, Assembler, Cmp, Label, Reg, Size},
};

/// The program's context, for the whole of it.
pub const CONTEXT: Reg = Reg::R6;
/// Where the packet's linear part begins.
const DATA: Reg = Reg::R9;
/// Where it ends; calls destroy it, so whatever calls loads it again.
const END: Reg = Reg::R5;

/// Fields of `struct __sk_buff` and `struct xdp_md`, linux/bpf.h.
pub mod field {
    pub const SKB_LEN: i16 = 0;
    pub const SKB_VLAN_PRESENT: i16 = 20;
    pub const SKB_VLAN_TCI: i16 = 24;
    pub const SKB_VLAN_PROTO: i16 = 28;
    pub const SKB_DATA: i16 = 76;
    pub const SKB_DATA_END: i16 = 80;
    pub const SKB_GSO_SIZE: i16 = 176;
    pub const XDP_DATA: i16 = 0;
    pub const XDP_DATA_END: i16 = 4;
}

/// Places on the stack, from its end. The memory of the classic machine lies above.
pub mod stack {
    /// Where helpers write and find keys.
    pub const SCRATCH: i16 = -72;
    /// The packet's length as on the wire, without a stripped tag; 32 bits.
    pub const LEN: i16 = -76;
    /// The stripped tag as a number: type, then control information.
    pub const TAG: i16 = -80;
    pub const OFFSET: i16 = -88;
    pub const BEFORE_TAG: i16 = -92;
    pub const BEHIND_TAG: i16 = -96;
}

/// `bpf_skb_load_bytes`.
const SKB_LOAD_BYTES: i32 = 26;

/// A load beyond this is no direct one: the instruction's own offset ends there, and no linear part is as long.
const DIRECT: u32 = 0x7fff;
/// Where a tag stands in a frame, and where it ends.
const TAG_AT: u32 = 12;
const TAG_END: u32 = 16;

/// Where to load from.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// `[k]`.
    Fixed(u32),
    /// `[x + k]`, of the register.
    Behind(Reg, u32),
}

/// How to get at the bytes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub dialect: Dialect,
    /// A tag was stripped from this one: its fourth word is in [`stack::TAG`].
    pub tagged: bool,
    /// Where to go when the packet is too short.
    pub reject: Label,
}

/// Code to put behind everything, for what happens seldom.
#[derive(Clone, Copy, Debug)]
pub enum Aside {
    /// `size` bytes at a fixed offset, or one in `R1`, are not in the linear part.
    Far { packet: Packet, at: Option<u32>, size: Size, dst: Reg, here: Label, back: Label },
    /// `size` bytes at the offset in `R1` touch the stripped tag.
    Tag { packet: Packet, size: Size, dst: Reg, here: Label, back: Label },
}

/// Loads the packet's bounds; the context is in [`CONTEXT`].
pub fn bounds(code: &mut Assembler, dialect: Dialect) {
    let data = match dialect {
        Dialect::Tc => field::SKB_DATA,
        Dialect::Xdp => field::XDP_DATA,
    };
    code.load(Size::Word, DATA, CONTEXT, data);
    end(code, dialect);
}

/// Loads the packet's end again, after a call.
pub fn end(code: &mut Assembler, dialect: Dialect) {
    let end = match dialect {
        Dialect::Tc => field::SKB_DATA_END,
        Dialect::Xdp => field::XDP_DATA_END,
    };
    code.load(Size::Word, END, CONTEXT, end);
}

/// `dst` becomes the length of a packet that is one buffer.
pub fn linear_length(code: &mut Assembler, dst: Reg) {
    code.alu64(Alu::Mov, dst, END);
    code.alu64(Alu::Sub, dst, DATA);
}

impl Packet {
    /// `dst` becomes the number of `size` bytes; `R0` to `R4` are used up.
    pub fn load(self, code: &mut Assembler, asides: &mut Vec<Aside>, size: Size, dst: Reg, at: At) {
        let bytes = size.bytes();
        let done = code.label();
        match at {
            // No packet is as long.
            At::Fixed(k) if k > i32::MAX as u32 - bytes => self.never(code),
            At::Fixed(k) if !self.tagged || k + bytes <= TAG_AT => self.fixed(code, asides, size, dst, k),
            At::Fixed(k) if k >= TAG_END => self.fixed(code, asides, size, dst, k - (TAG_END - TAG_AT)),
            At::Fixed(k) if k >= TAG_AT && k + bytes <= TAG_END => {
                code.load(Size::Word, dst, Reg::Fp, stack::TAG);
                code.alu32(Alu::Rsh, dst, ((TAG_END - k - bytes) * 8) as i32);
                mask(code, dst, size);
            }
            At::Fixed(k) => {
                code.alu32(Alu::Mov, Reg::R1, k as i32);
                let here = code.label();
                code.jump(here);
                asides.push(Aside::Tag { packet: self, size, dst, here, back: done });
            }
            At::Behind(x, k) => {
                add(code, x, k);
                if self.tagged {
                    let (here, high, plain) = (code.label(), code.label(), code.label());
                    code.jump64(Cmp::Ge, Reg::R1, TAG_END as i32, high);
                    code.jump64(Cmp::Gt, Reg::R1, (TAG_AT - bytes) as i32, here);
                    code.jump(plain);
                    code.place(high);
                    code.alu64(Alu::Sub, Reg::R1, (TAG_END - TAG_AT) as i32);
                    code.place(plain);
                    asides.push(Aside::Tag { packet: self, size, dst, here, back: done });
                }
                self.variable(code, asides, size, dst);
            }
        }
        code.place(done);
    }

    fn fixed(self, code: &mut Assembler, asides: &mut Vec<Aside>, size: Size, dst: Reg, k: u32) {
        let (here, back) = (code.label(), code.label());
        if k + size.bytes() <= DIRECT {
            code.alu64(Alu::Mov, Reg::R1, DATA);
            code.alu64(Alu::Add, Reg::R1, (k + size.bytes()) as i32);
            code.jump64(Cmp::Gt, Reg::R1, END, self.beyond(here));
            code.load(size, dst, DATA, k as i16);
        } else if self.dialect == Dialect::Tc {
            code.jump(here);
        } else {
            self.never(code);
        }
        if self.dialect == Dialect::Tc {
            asides.push(Aside::Far { packet: self, at: Some(k), size, dst, here, back });
        }
        code.place(back);
        code.network_order(dst, size);
    }

    /// At the offset in `R1`.
    fn variable(self, code: &mut Assembler, asides: &mut Vec<Aside>, size: Size, dst: Reg) {
        let (here, back) = (code.label(), code.label());
        code.jump64(Cmp::Gt, Reg::R1, DIRECT as i32, self.beyond(here));
        code.alu64(Alu::Mov, Reg::R2, DATA);
        code.alu64(Alu::Add, Reg::R2, Reg::R1);
        code.alu64(Alu::Mov, Reg::R3, Reg::R2);
        code.alu64(Alu::Add, Reg::R3, size.bytes() as i32);
        code.jump64(Cmp::Gt, Reg::R3, END, self.beyond(here));
        code.load(size, dst, Reg::R2, 0);
        if self.dialect == Dialect::Tc {
            asides.push(Aside::Far { packet: self, at: None, size, dst, here, back });
        }
        code.place(back);
        code.network_order(dst, size);
    }

    /// Rejects every packet, though the kernel shall not see at first sight that nothing comes behind: it would
    /// refuse the rest.
    fn never(self, code: &mut Assembler) {
        code.alu32(Alu::Mov, Reg::R0, 0);
        code.jump32(Cmp::Eq, Reg::R0, 0, self.reject);
    }

    /// Where what is not in the linear part is looked for: `here`, or nowhere.
    const fn beyond(self, here: Label) -> Label {
        match self.dialect {
            Dialect::Tc => here,
            Dialect::Xdp => self.reject,
        }
    }
}

/// `R1 = x + k` in 64 bits, so that a sum beyond 32 is beyond every packet. In this order, because Linux 6.12 and
/// later remember of a copied register that a constant was added, and refuse a packet pointer for a large one.
fn add(code: &mut Assembler, x: Reg, k: u32) {
    code.alu32(Alu::Mov, Reg::R1, k.cast_signed());
    code.alu64(Alu::Add, Reg::R1, x);
}

fn mask(code: &mut Assembler, dst: Reg, size: Size) {
    match size {
        Size::Byte => code.alu32(Alu::And, dst, 0xff),
        Size::Half => code.alu32(Alu::And, dst, 0xffff),
        Size::Word | Size::Double => {}
    }
}

/// `bpf_skb_load_bytes` to the stack at `to`; the offset is in `R2`, and `R0` is 0 after success.
fn load_bytes(code: &mut Assembler, to: i16, bytes: u32) {
    code.alu64(Alu::Mov, Reg::R1, CONTEXT);
    code.alu64(Alu::Mov, Reg::R3, Reg::Fp);
    code.alu64(Alu::Add, Reg::R3, i32::from(to));
    code.alu32(Alu::Mov, Reg::R4, bytes as i32);
    code.call(SKB_LOAD_BYTES);
}

impl Aside {
    /// The code.
    pub fn emit(self, code: &mut Assembler) {
        match self {
            Self::Far { packet, at, size, dst, here, back } => {
                code.place(here);
                match at {
                    Some(k) => code.alu32(Alu::Mov, Reg::R2, k as i32),
                    None => {
                        // The helper takes 32 bits.
                        code.jump64(Cmp::Gt, Reg::R1, i32::MAX, packet.reject);
                        code.alu64(Alu::Mov, Reg::R2, Reg::R1);
                    }
                }
                load_bytes(code, stack::SCRATCH, size.bytes());
                code.jump32(Cmp::Ne, Reg::R0, 0, packet.reject);
                code.load(size, dst, Reg::Fp, stack::SCRATCH);
                end(code, packet.dialect);
                code.jump(back);
            }
            Self::Tag { packet, size, dst, here, back } => {
                code.place(here);
                tag_window(code, packet, size, dst);
                code.jump(back);
            }
        }
    }
}

/// `dst` becomes the number of `size` bytes at the offset in `R1`, at least one of which is of the tag: a window
/// into the four bytes before the tag and the tag, or into the tag and the four bytes behind it.
fn tag_window(code: &mut Assembler, packet: Packet, size: Size, dst: Reg) {
    let bytes = size.bytes();
    let (got, behind, shift) = (code.label(), code.label(), code.label());
    code.store(Size::Double, Reg::Fp, stack::OFFSET, Reg::R1);
    // Beyond the packet?
    code.alu64(Alu::Add, Reg::R1, bytes as i32);
    code.load(Size::Word, Reg::R2, CONTEXT, field::SKB_LEN);
    code.alu64(Alu::Add, Reg::R2, (TAG_END - TAG_AT) as i32);
    code.jump64(Cmp::Gt, Reg::R1, Reg::R2, packet.reject);
    code.alu32(Alu::Mov, Reg::R2, 8);
    load_bytes(code, stack::BEFORE_TAG, 4);
    code.jump32(Cmp::Ne, Reg::R0, 0, packet.reject);
    // No window reaches the fourth byte. What fails leaves zeros, of bytes that no window within the packet reaches.
    for length in [3, 2] {
        code.store_imm(Size::Word, Reg::Fp, stack::BEHIND_TAG, 0);
        code.alu32(Alu::Mov, Reg::R2, TAG_AT as i32);
        load_bytes(code, stack::BEHIND_TAG, length);
        code.jump32(Cmp::Eq, Reg::R0, 0, got);
    }
    code.place(got);
    code.load(Size::Double, Reg::R1, Reg::Fp, stack::OFFSET);
    code.load(Size::Word, Reg::R0, Reg::Fp, stack::TAG);
    code.jump64(Cmp::Ge, Reg::R1, TAG_AT as i32, behind);
    code.load(Size::Word, Reg::R3, Reg::Fp, stack::BEFORE_TAG);
    code.network_order(Reg::R3, Size::Word);
    code.alu64(Alu::Lsh, Reg::R3, 32);
    code.alu64(Alu::Or, Reg::R0, Reg::R3);
    code.alu32(Alu::Mov, Reg::R2, (TAG_END - bytes) as i32);
    code.jump(shift);
    code.place(behind);
    code.load(Size::Word, Reg::R3, Reg::Fp, stack::BEHIND_TAG);
    code.network_order(Reg::R3, Size::Word);
    code.alu64(Alu::Lsh, Reg::R0, 32);
    code.alu64(Alu::Or, Reg::R0, Reg::R3);
    code.alu32(Alu::Mov, Reg::R2, (TAG_END + 4 - bytes) as i32);
    code.place(shift);
    code.alu64(Alu::Sub, Reg::R2, Reg::R1);
    code.alu64(Alu::Lsh, Reg::R2, 3);
    code.alu64(Alu::Rsh, Reg::R0, Reg::R2);
    code.alu32(Alu::Mov, dst, Reg::R0);
    mask(code, dst, size);
    end(code, packet.dialect);
}
