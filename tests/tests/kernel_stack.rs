//! The stack that the kernel programs need, by their object file: no kernel says more than whether it is too much, and
//! before Linux 6.9 each frame counts in steps of 32 bytes where later ones take 16 (`check_max_stack_depth`).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

static OBJECT: &[u8] = include_bytes!("../../wherefore/src/backend/ebpf/wherefore.bpf.o");

/// `MAX_BPF_STACK`.
const MOST: u64 = 512;
const STEP: u64 = 32;
const FRAME_POINTER: u8 = 10;

/// A function: its section, and where it begins there.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    end: u64,
    /// Bytes below the frame pointer.
    frame: u64,
    calls: BTreeSet<Place>,
}

/// All functions of the object.
fn functions(file: &object::File<'_>) -> BTreeMap<Place, Function> {
    let mut functions: BTreeMap<Place, Function> = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let place = (symbol.section_index().unwrap().0, symbol.address());
        let (name, end) = (symbol.name().unwrap().to_owned(), symbol.address() + symbol.size());
        functions.insert(place, Function { name, end, ..Function::default() });
    }
    let at = |functions: &BTreeMap<Place, Function>, (section, address): Place| {
        let before = functions.range(..=(section, address)).next_back();
        let (place, _) = before.filter(|((of, _), found)| *of == section && address < found.end).unwrap();
        *place
    };
    for section in file.sections() {
        if !functions.keys().any(|(of, _)| *of == section.index().0) {
            continue;
        }
        let called: BTreeMap<u64, RelocationTarget> =
            section.relocations().map(|(offset, relocation)| (offset, relocation.target())).collect();
        // How far below the frame pointer each register points.
        let mut below: [Option<i64>; 11] = [None; 11];
        for (offset, code) in (0..).step_by(8).zip(section.data().unwrap().chunks_exact(8)) {
            let (operation, dst, src) = (code[0], code[1] & 0xf, code[1] >> 4);
            let off = i64::from(i16::from_le_bytes([code[2], code[3]]));
            let imm = i64::from(i32::from_le_bytes([code[4], code[5], code[6], code[7]]));
            let place = at(&functions, (section.index().0, offset));
            let mut reaches = 0;
            match operation {
                // Moves and additions of whole registers.
                0xbf => {
                    below[usize::from(dst)] =
                        if src == FRAME_POINTER { Some(0) } else { below[usize::from(src)] };
                }
                0x07 => {
                    below[usize::from(dst)] = below[usize::from(dst)].map(|value| value + imm);
                    reaches = below[usize::from(dst)].unwrap_or(0);
                }
                0x85 if src == 1 => {
                    let target = match called.get(&offset) {
                        Some(RelocationTarget::Symbol(index)) => {
                            let symbol = file.symbol_by_index(*index).unwrap();
                            let beyond = if symbol.kind() == SymbolKind::Section { (imm + 1) * 8 } else { 0 };
                            (
                                symbol.section_index().unwrap().0,
                                symbol.address() + u64::try_from(beyond).unwrap(),
                            )
                        }
                        None => (section.index().0, offset.wrapping_add_signed((imm + 1) * 8)),
                        other => panic!("a call of {other:?}"),
                    };
                    let target = at(&functions, target);
                    functions.get_mut(&place).unwrap().calls.insert(target);
                }
                _ => match operation & 7 {
                    // Loads, and stores of two kinds.
                    1 if src == FRAME_POINTER => reaches = off,
                    2 | 3 if dst == FRAME_POINTER => reaches = off,
                    0 | 1 | 4 | 7 => below[usize::from(dst)] = None,
                    _ => {}
                },
            }
            let function = functions.get_mut(&place).unwrap();
            function.frame = function.frame.max(reaches.min(0).unsigned_abs());
        }
    }
    functions
}

/// The deepest chain of calls from a function: its bytes, and who is in it.
fn deepest(functions: &BTreeMap<Place, Function>, place: Place) -> (u64, Vec<String>) {
    let function = &functions[&place];
    let (below, mut chain) =
        function.calls.iter().map(|call| deepest(functions, *call)).max().unwrap_or_default();
    // An empty frame takes one step, too.
    let own = function.frame.max(1).next_multiple_of(STEP);
    chain.insert(0, format!("{} {}", function.name, function.frame));
    (own + below, chain)
}

#[test]
fn every_chain_of_calls_fits_the_stack_of_old_kernels() {
    let file = object::File::parse(OBJECT).unwrap();
    let functions = functions(&file);
    let mut most = 0;
    for (place, function) in &functions {
        let (bytes, chain) = deepest(&functions, *place);
        if function.name.starts_with("wherefore_") {
            println!("{bytes}: {}", chain.join(" > "));
        }
        assert!(bytes <= MOST, "{bytes} bytes of stack: {}", chain.join(" > "));
        most = most.max(bytes);
    }
    // Or nothing was read: the programs that run the whole parser need most of it.
    assert!(most > MOST / 2, "{most}");
}
