//! An object file in memory, so that aya loads and attaches made programs as it does compiled ones.

use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

use super::{Dialect, assembler::Insn};

/// A program to be: its name, what it is for, its instructions.
pub type Made<'a> = (&'a str, Dialect, &'a [Insn]);

/// The file. Maps are named in the instructions by their descriptors, so there is nothing to relocate.
///
/// # Errors
/// What the writer says.
pub fn object(programs: &[Made<'_>]) -> Result<Vec<u8>, object::write::Error> {
    let endian = if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, endian);
    let license = file.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    file.append_section_data(license, b"Dual MIT/GPL\0", 1);
    for dialect in [Dialect::Tc, Dialect::Xdp] {
        let of_this = || programs.iter().filter(|(_, of, _)| *of == dialect);
        if of_this().next().is_none() {
            continue;
        }
        let name: &[u8] = match dialect {
            Dialect::Tc => b"classifier",
            Dialect::Xdp => b"xdp",
        };
        let section = file.add_section(Vec::new(), name.to_vec(), SectionKind::Text);
        for (name, _, insns) in of_this() {
            let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes()).collect();
            let value = file.append_section_data(section, &bytes, 8);
            file.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value,
                size: bytes.len() as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
        }
    }
    file.write()
}
