//! The CIDR filter: one trie of prefixes for each set of tables, so that an interval is counted by one filter.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{ArrayOfMaps, LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use wherefore_common::{
    FlowKey,
    cidr::{EXCLUDE_DST, EXCLUDE_SRC, INCLUDE_DST, INCLUDE_SRC, Prefix, full_length},
};

/// The tries, made by user space in the size they need. A value is the lists that hold the prefix, or one
/// around it.
#[btf_map]
static CIDR: ArrayOfMaps<LpmTrie<Prefix, u32, 1, { BPF_F_NO_PREALLOC as usize }>, 2> = ArrayOfMaps::new();

/// 1: there is a filter. 2: and it includes, so that what is in no list is rejected.
#[btf_map]
static CIDR_MODE: aya_ebpf::btf_maps::Array<u32, 2> = aya_ebpf::btf_maps::Array::new();

/// 1 where user space may ever set a filter.
#[unsafe(no_mangle)]
static CIDR_FILTER: Global<u8> = Global::new(0);

/// `Key<Prefix>` in whole words.
#[repr(C)]
struct Aligned {
    len: u32,
    family: u32,
    address: [u64; 2],
}

const _: () = assert!(size_of::<Aligned>() == size_of::<Key<Prefix>>());

/// True where user space may ever set a filter.
#[inline(always)]
pub fn is_on() -> bool {
    CIDR_FILTER.load() != 0
}

/// Whether the filter rejects the flow with these words.
#[inline(always)]
pub fn rejects(generation: u32, words: [u64; 6]) -> bool {
    if !is_on() {
        return false;
    }
    let set = generation & 1;
    let mode = CIDR_MODE.get(set).map_or(0, |mode| *mode);
    if mode == 0 {
        return false;
    }
    let Some(trie) = CIDR.get(set) else { return false };
    let family = FlowKey::from_words(words).family;
    let lists = |high: u64, low: u64| {
        // The trie's key is packed: written as such it would be single bytes, which the verifier refuses at odd
        // places of the stack.
        let key = Aligned { len: full_length(), family: u32::from(family), address: [high, low] };
        // SAFETY: 24 bytes laid out as `Key<Prefix>`, which wants no alignment.
        trie.get(unsafe { &*(&raw const key).cast::<Key<Prefix>>() }).copied()
    };
    let src = lists(words[0], words[1]).unwrap_or(0);
    let dst = lists(words[2], words[3]).unwrap_or(0);
    src & EXCLUDE_SRC != 0
        || dst & EXCLUDE_DST != 0
        || (mode == 2 && src & INCLUDE_SRC == 0 && dst & INCLUDE_DST == 0)
}
