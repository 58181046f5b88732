//! From classic BPF to eBPF. Pure.
//!
//! A and X live in `R7` and `R8`, always 32 bits with zeros above; the memory's cells on the stack. Each comparison
//! is one or two jumps, each load of a fixed offset five instructions. Where the kernel strips VLAN tags the whole
//! program is there twice, so that a packet without a tag pays one comparison for it.

use super::{
    Dialect, Exits, Refusal,
    assembler::{Alu, Assembler, Cmp, Insn, Label, Reg, Size},
    packet::{self, Aside, At, CONTEXT, Packet, field, stack},
};
use crate::backend::{
    classic::{CELLS, Instruction, Program, op},
    ebpf::Start,
};

const A: Reg = Reg::R7;
const X: Reg = Reg::R8;

/// Helpers, by their numbers in linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const TAIL_CALL: i32 = 12;

/// The same program for the kernel, in front of frames that begin with `start`.
///
/// # Errors
/// [`Refusal`] for what libpcap may compile and this cannot take.
pub fn translate(
    program: &Program,
    dialect: Dialect,
    start: Start,
    exits: &Exits,
) -> Result<Vec<Insn>, Refusal> {
    let reached = reached(program)?;
    let mut code = Assembler::default();
    let mut asides = Vec::new();
    let (accept, reject, tagged) = (code.label(), code.label(), code.label());
    let uses = |wanted: fn(&Instruction) -> bool| {
        program.0.iter().zip(&reached).any(|(instruction, reached)| *reached && wanted(instruction))
    };
    code.alu64(Alu::Mov, CONTEXT, Reg::R1);
    if uses(takes_length) && dialect == Dialect::Tc {
        length(&mut code, exits);
    }
    packet::bounds(&mut code, dialect);
    // As in the classic machine, everything begins with zeros.
    code.alu32(Alu::Mov, A, 0);
    code.alu32(Alu::Mov, X, 0);
    if uses(reads_memory) {
        for k in 0..CELLS {
            code.store_imm(Size::Word, Reg::Fp, cell(k)?, 0);
        }
    }
    let strips = dialect == Dialect::Tc && start == Start::Ethernet;
    if strips {
        code.load(Size::Word, Reg::R1, CONTEXT, field::SKB_VLAN_PRESENT);
        code.jump32(Cmp::Ne, Reg::R1, 0, tagged);
    }
    let mut body =
        Body { program, reached: &reached, accept, packet: Packet { dialect, tagged: false, reject } };
    body.emit(&mut code, &mut asides)?;
    if strips {
        code.place(tagged);
        tag(&mut code);
        body.packet.tagged = true;
        body.emit(&mut code, &mut asides)?;
    }
    for aside in asides {
        aside.emit(&mut code);
    }
    for (label, place) in [(accept, exits.accept), (reject, exits.reject)] {
        // The kernel refuses what nothing comes to.
        if !code.is_used(label) {
            continue;
        }
        code.place(label);
        tail_call(&mut code, exits.table, place);
        // Nothing stands there: as if we were not.
        code.alu32(Alu::Mov, Reg::R0, dialect.pass());
        code.exit();
    }
    code.finish()
}

/// Whether the length of a packet decides, so that super-frames are measured.
pub(super) fn is_about_length(program: &Program) -> bool {
    program.0.iter().any(takes_length)
}

const fn takes_length(instruction: &Instruction) -> bool {
    matches!(instruction.code & op::CLASS, op::LD | op::LDX) && instruction.code & op::MODE == op::LEN
}

const fn reads_memory(instruction: &Instruction) -> bool {
    matches!(instruction.code & op::CLASS, op::LD | op::LDX) && instruction.code & op::MODE == op::MEM
}

/// Which instructions any packet can come to: the kernel refuses a program that has others.
fn reached(program: &Program) -> Result<Vec<bool>, Refusal> {
    let mut reached = vec![false; program.0.len()];
    let mark = |reached: &mut Vec<bool>, at: usize| match reached.get_mut(at) {
        Some(place) => {
            *place = true;
            Ok(())
        }
        None => Err(Refusal::Malformed { at: program.0.len() }),
    };
    mark(&mut reached, 0)?;
    for (at, Instruction { code, jt, jf, k }) in program.0.iter().enumerate() {
        if !reached[at] {
            continue;
        }
        match code & op::CLASS {
            op::RET => {}
            op::JMP if code & op::KIND == op::JA => {
                if k.cast_signed() < 0 {
                    return Err(Refusal::Loop);
                }
                mark(&mut reached, at + 1 + *k as usize)?;
            }
            op::JMP => {
                mark(&mut reached, at + 1 + usize::from(*jt))?;
                mark(&mut reached, at + 1 + usize::from(*jf))?;
            }
            _ => mark(&mut reached, at + 1)?,
        }
    }
    Ok(reached)
}

/// Where a cell of the memory is.
fn cell(k: u32) -> Result<i16, Refusal> {
    if k >= CELLS {
        return Err(Refusal::Memory { cell: k });
    }
    Ok(-4 * (CELLS as i16 - k as i16))
}

fn tail_call(code: &mut Assembler, table: i32, place: u32) {
    code.alu64(Alu::Mov, Reg::R1, CONTEXT);
    code.map(Reg::R2, table);
    code.alu32(Alu::Mov, Reg::R3, place.cast_signed());
    code.call(TAIL_CALL);
}

/// Leaves the length of the packet, or of the first frame it becomes, in [`stack::LEN`]. Of a super-frame another
/// program measures it, with the parser that counting uses, and calls this one again.
fn length(code: &mut Assembler, exits: &Exits) {
    let (known, whole) = (code.label(), code.label());
    code.load(Size::Word, Reg::R2, CONTEXT, field::SKB_LEN);
    if let Some(measure) = &exits.measure {
        code.load(Size::Word, Reg::R1, CONTEXT, field::SKB_GSO_SIZE);
        code.jump32(Cmp::Eq, Reg::R1, 0, known);
        code.store_imm(Size::Word, Reg::Fp, stack::SCRATCH, 0);
        code.alu64(Alu::Mov, Reg::R2, Reg::Fp);
        code.alu64(Alu::Add, Reg::R2, i32::from(stack::SCRATCH));
        code.map(Reg::R1, measure.lengths);
        code.call(MAP_LOOKUP_ELEM);
        code.jump64(Cmp::Eq, Reg::R0, 0, whole);
        // Fields of `FirstSegment`: `back`, then `len`.
        code.load(Size::Word, Reg::R2, Reg::R0, 4);
        code.store_imm(Size::Word, Reg::R0, 4, 0);
        code.jump32(Cmp::Ne, Reg::R2, 0, known);
        code.store_imm(Size::Word, Reg::R0, 0, measure.back.cast_signed());
        tail_call(code, exits.table, measure.place);
        code.place(whole);
        code.load(Size::Word, Reg::R2, CONTEXT, field::SKB_LEN);
    }
    code.place(known);
    code.store(Size::Word, Reg::Fp, stack::LEN, Reg::R2);
}

/// Leaves the stripped tag's four bytes, as a number, in [`stack::TAG`].
fn tag(code: &mut Assembler) {
    code.load(Size::Word, Reg::R1, CONTEXT, field::SKB_VLAN_PROTO);
    code.network_order(Reg::R1, Size::Half);
    code.alu32(Alu::Lsh, Reg::R1, 16);
    code.load(Size::Word, Reg::R2, CONTEXT, field::SKB_VLAN_TCI);
    code.alu32(Alu::Or, Reg::R1, Reg::R2);
    code.store(Size::Word, Reg::Fp, stack::TAG, Reg::R1);
}

/// The classic program, once.
struct Body<'a> {
    program: &'a Program,
    reached: &'a [bool],
    accept: Label,
    packet: Packet,
}

impl Body<'_> {
    fn emit(&self, code: &mut Assembler, asides: &mut Vec<Aside>) -> Result<(), Refusal> {
        let labels: Vec<Label> = self.reached.iter().map(|_| code.label()).collect();
        let instructions = self.program.0.iter().enumerate().filter(|(at, _)| self.reached[*at]);
        for (at, instruction) in instructions {
            code.place(labels[at]);
            self.instruction(code, asides, at, *instruction, &labels)?;
        }
        Ok(())
    }

    fn instruction(
        &self,
        code: &mut Assembler,
        asides: &mut Vec<Aside>,
        at: usize,
        instruction: Instruction,
        labels: &[Label],
    ) -> Result<(), Refusal> {
        let Instruction { code: wanted, k, .. } = instruction;
        match wanted & op::CLASS {
            op::LD | op::LDX => self.load(code, asides, at, instruction)?,
            op::ST => code.store(Size::Word, Reg::Fp, cell(k)?, A),
            op::STX => code.store(Size::Word, Reg::Fp, cell(k)?, X),
            op::ALU => self.calculate(code, at, wanted, k)?,
            op::JMP => jump(code, at, instruction, labels)?,
            op::RET => match wanted & op::SIZE {
                op::RET_A => {
                    code.jump32(Cmp::Ne, A, 0, self.accept);
                    code.jump(self.packet.reject);
                }
                // X is not returned by what libpcap takes for valid.
                op::X => return Err(Refusal::Malformed { at }),
                _ => code.jump(if k == 0 { self.packet.reject } else { self.accept }),
            },
            _ if wanted & op::TXA == 0 => code.alu32(Alu::Mov, X, A),
            _ => code.alu32(Alu::Mov, A, X),
        }
        Ok(())
    }

    fn load(
        &self,
        code: &mut Assembler,
        asides: &mut Vec<Aside>,
        at: usize,
        Instruction { code: wanted, k, .. }: Instruction,
    ) -> Result<(), Refusal> {
        let to = if wanted & op::CLASS == op::LD { A } else { X };
        let size = match wanted & op::SIZE {
            op::W => Size::Word,
            op::H => Size::Half,
            op::B => Size::Byte,
            _ => return Err(Refusal::Malformed { at }),
        };
        match wanted & op::MODE {
            op::IMM => code.alu32(Alu::Mov, to, k.cast_signed()),
            op::ABS if to == A => self.packet.load(code, asides, size, A, At::Fixed(k)),
            op::IND if to == A => self.packet.load(code, asides, size, A, At::Behind(X, k)),
            op::MEM => code.load(Size::Word, to, Reg::Fp, cell(k)?),
            op::LEN if self.packet.dialect == Dialect::Xdp => packet::linear_length(code, to),
            op::LEN => {
                code.load(Size::Word, to, Reg::Fp, stack::LEN);
                if self.packet.tagged {
                    code.alu32(Alu::Add, to, 4);
                }
            }
            op::MSH if to == X => {
                self.packet.load(code, asides, Size::Byte, X, At::Fixed(k));
                code.alu32(Alu::And, X, 0xf);
                code.alu32(Alu::Lsh, X, 2);
            }
            _ => return Err(Refusal::Malformed { at }),
        }
        Ok(())
    }

    fn calculate(&self, code: &mut Assembler, at: usize, wanted: u16, k: u32) -> Result<(), Refusal> {
        let by_x = wanted & op::X != 0;
        let alu = match wanted & op::KIND {
            op::ADD => Alu::Add,
            op::SUB => Alu::Sub,
            op::MUL => Alu::Mul,
            op::DIV => Alu::Div,
            op::OR => Alu::Or,
            op::AND => Alu::And,
            op::LSH => Alu::Lsh,
            op::RSH => Alu::Rsh,
            op::NEG => Alu::Neg,
            op::MOD => Alu::Mod,
            op::XOR => Alu::Xor,
            _ => return Err(Refusal::Malformed { at }),
        };
        match alu {
            Alu::Neg => code.alu32(Alu::Neg, A, 0),
            Alu::Div | Alu::Mod => {
                // eBPF would go on with 0 or the dividend. A constant 0 too is compared here, since the kernel
                // refuses what it takes for code that nothing can come to.
                let right = if by_x { X } else { Reg::R0 };
                if !by_x {
                    code.alu32(Alu::Mov, Reg::R0, k.cast_signed());
                }
                if by_x || k == 0 {
                    code.jump32(Cmp::Eq, right, 0, self.packet.reject);
                }
                code.alu32(alu, A, right);
            }
            // A shift by 32 or more leaves nothing; eBPF would shift by the remainder.
            Alu::Lsh | Alu::Rsh if by_x => {
                let (within, done) = (code.label(), code.label());
                code.jump32(Cmp::Lt, X, 32, within);
                code.alu32(Alu::Mov, A, 0);
                code.jump(done);
                code.place(within);
                code.alu32(alu, A, X);
                code.place(done);
            }
            Alu::Lsh | Alu::Rsh if k >= 32 => code.alu32(Alu::Mov, A, 0),
            _ if by_x => code.alu32(alu, A, X),
            _ => code.alu32(alu, A, k.cast_signed()),
        }
        Ok(())
    }
}

fn jump(
    code: &mut Assembler,
    at: usize,
    Instruction { code: wanted, jt, jf, k }: Instruction,
    labels: &[Label],
) -> Result<(), Refusal> {
    // All there are: the targets were looked at.
    let skip = |number: usize| labels.get(at + 1 + number).copied().ok_or(Refusal::Malformed { at });
    let (cmp, contrary) = match wanted & op::KIND {
        op::JA => {
            code.jump(skip(k as usize)?);
            return Ok(());
        }
        op::JEQ => (Cmp::Eq, Some(Cmp::Ne)),
        op::JGT => (Cmp::Gt, Some(Cmp::Le)),
        op::JGE => (Cmp::Ge, Some(Cmp::Lt)),
        op::JSET => (Cmp::Set, None),
        _ => return Err(Refusal::Malformed { at }),
    };
    let (yes, no) = (skip(jt.into())?, skip(jf.into())?);
    let mut compare = |cmp, to| {
        if wanted & op::X == 0 {
            code.jump32(cmp, A, k.cast_signed(), to);
        } else {
            code.jump32(cmp, A, X, to);
        }
    };
    match contrary {
        _ if jf == 0 => compare(cmp, yes),
        Some(contrary) if jt == 0 => compare(contrary, no),
        _ => {
            compare(cmp, yes);
            code.jump(no);
        }
    }
    Ok(())
}
