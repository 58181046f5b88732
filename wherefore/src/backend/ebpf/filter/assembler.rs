//! eBPF instructions one after another, with jumps to places that are not known yet. Source of the encoding:
//! RFC 9669.

use super::Refusal;

/// An eBPF instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// What to do.
    pub code: u8,
    /// Destination register, 0 to 10.
    pub dst: u8,
    /// Source register, 0 to 10.
    pub src: u8,
    /// Of a load or store: bytes from the pointer. Of a jump: instructions to skip.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

impl Insn {
    /// As the kernel of this machine reads it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [off0, off1] = self.off.to_ne_bytes();
        let [imm0, imm1, imm2, imm3] = self.imm.to_ne_bytes();
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        [self.code, registers, off0, off1, imm0, imm1, imm2, imm3]
    }
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// What a helper returns.
    R0,
    /// Helpers' arguments, which calls destroy.
    R1,
    R2,
    R3,
    R4,
    R5,
    /// These survive calls.
    R6,
    R7,
    R8,
    R9,
    /// The end of the stack's 512 bytes; cannot be written.
    Fp,
}

/// The right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Imm(i32),
    Reg(Reg),
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Imm(value)
    }
}

impl From<Reg> for Value {
    fn from(value: Reg) -> Self {
        Self::Reg(value)
    }
}

/// Arithmetic, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Neg = 0x80,
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// An unsigned comparison, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    Set = 0x40,
    Ne = 0x50,
    Lt = 0xa0,
    Le = 0xb0,
}

/// Bytes of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Byte,
    Half,
    Word,
    Double,
}

impl Size {
    /// Their number.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

const ALU32: u8 = 0x04;
const JMP64: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const SOURCE_REGISTER: u8 = 0x08;

/// The instructions so far.
#[derive(Debug, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A place that is still to be [placed](Self::place).
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    /// Whether any jump leads there so far.
    pub fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, to)| *to == label)
    }

    fn push(&mut self, code: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        self.insns.push(Insn { code, dst: dst as u8, src: src as u8, off, imm });
    }

    fn operate(&mut self, code: u8, dst: Reg, value: Value, off: i16) {
        match value {
            Value::Imm(imm) => self.push(code, dst, Reg::R0, off, imm),
            Value::Reg(src) => self.push(code | SOURCE_REGISTER, dst, src, off, 0),
        }
    }

    /// 32-bit arithmetic, which clears the upper half of `dst`.
    pub fn alu32(&mut self, alu: Alu, dst: Reg, value: impl Into<Value>) {
        self.operate(ALU32 | alu as u8, dst, value.into(), 0);
    }

    /// 64-bit arithmetic, also on pointers.
    pub fn alu64(&mut self, alu: Alu, dst: Reg, value: impl Into<Value>) {
        self.operate(ALU64 | alu as u8, dst, value.into(), 0);
    }

    /// `dst` from network byte order, `size` bytes of it.
    pub fn network_order(&mut self, dst: Reg, size: Size) {
        if matches!(size, Size::Half | Size::Word) {
            // BPF_ALU | BPF_END | BPF_TO_BE
            self.push(0xdc, dst, Reg::R0, 0, size.bytes() as i32 * 8);
        }
    }

    /// `dst = *(base + off)`.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) {
        // BPF_LDX | BPF_MEM
        self.push(0x61 | size.code(), dst, base, off, 0);
    }

    /// `*(base + off) = src`.
    pub fn store(&mut self, size: Size, base: Reg, off: i16, src: Reg) {
        // BPF_STX | BPF_MEM
        self.push(0x63 | size.code(), base, src, off, 0);
    }

    /// `*(base + off) = imm`.
    pub fn store_imm(&mut self, size: Size, base: Reg, off: i16, imm: i32) {
        // BPF_ST | BPF_MEM
        self.push(0x62 | size.code(), base, Reg::R0, off, imm);
    }

    /// `dst` is the map of that descriptor.
    pub fn map(&mut self, dst: Reg, descriptor: i32) {
        // BPF_LD | BPF_DW | BPF_IMM with BPF_PSEUDO_MAP_FD, and its second half.
        self.insns.push(Insn { code: 0x18, dst: dst as u8, src: 1, off: 0, imm: descriptor });
        self.insns.push(Insn { code: 0, dst: 0, src: 0, off: 0, imm: 0 });
    }

    /// A helper, by its number.
    pub fn call(&mut self, helper: i32) {
        self.push(JMP64 | 0x80, Reg::R0, Reg::R0, 0, helper);
    }

    /// Ends the program with what is in [`Reg::R0`].
    pub fn exit(&mut self) {
        self.push(JMP64 | 0x90, Reg::R0, Reg::R0, 0, 0);
    }

    /// Jumps in any case.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP64, Reg::R0, Reg::R0, 0, 0);
    }

    /// Jumps where the lower 32 bits compare so (Linux 5.1).
    pub fn jump32(&mut self, cmp: Cmp, dst: Reg, value: impl Into<Value>, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.operate(JMP32 | cmp as u8, dst, value.into(), 0);
    }

    /// Jumps where all 64 bits compare so, or pointers do.
    pub fn jump64(&mut self, cmp: Cmp, dst: Reg, value: impl Into<Value>, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.operate(JMP64 | cmp as u8, dst, value.into(), 0);
    }

    /// All instructions, their jumps filled in.
    ///
    /// # Errors
    /// [`Refusal::TooLong`] where a jump reaches further than its field.
    pub fn finish(mut self) -> Result<Vec<Insn>, Refusal> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].unwrap_or(self.insns.len());
            let off = target as i64 - at as i64 - 1;
            self.insns[at].off = i16::try_from(off).map_err(|_| Refusal::TooLong)?;
        }
        Ok(self.insns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_from_behind_themselves_and_not_too_far() {
        let program = |between: usize| {
            let mut code = Assembler::default();
            let (start, end) = (code.label(), code.label());
            code.place(start);
            code.jump32(Cmp::Eq, Reg::R7, -1, end);
            for _ in 0..between {
                code.alu32(Alu::Mov, Reg::R0, 0);
            }
            code.place(end);
            code.jump(start);
            code.finish()
        };
        let insns = program(3).expect("near");
        assert_eq!((insns[0].off, insns[4].off), (3, -5));
        // `if w7 == 0xffffffff goto +3`, as the kernel's own disassembler shows these bytes.
        if cfg!(target_endian = "little") {
            assert_eq!(insns[0].to_bytes(), [0x16, 0x07, 3, 0, 0xff, 0xff, 0xff, 0xff]);
        }
        assert!(program(32_765).is_ok());
        assert_eq!(program(32_768), Err(Refusal::TooLong));
    }
}
