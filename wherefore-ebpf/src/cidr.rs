//! The CIDR filter: one trie of prefixes for each set of tables, so that an interval is counted by one filter.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, ArrayOfMaps, LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use wherefore_common::{
    FlowKey,
    cidr::{EXCLUDE_DST, EXCLUDE_SRC, INCLUDE_DST, INCLUDE_SRC, INCLUDES, NONE, Prefix, full_length},
};

use crate::functions;

/// The tries, made by user space in the size they need. A value is the lists that hold the prefix, or one
/// around it.
#[btf_map]
static CIDR: ArrayOfMaps<LpmTrie<Prefix, u32, 1, { BPF_F_NO_PREALLOC as usize }>, 2> = ArrayOfMaps::new();

/// Of each set: [`NONE`], [`EXCLUDES`](wherefore_common::cidr::EXCLUDES) or [`INCLUDES`].
#[btf_map]
static CIDR_MODE: Array<u32, 2> = Array::new();

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

/// Whether the filter rejects the flow with these words.
#[inline(always)]
pub fn rejects(generation: u32, words: &[u64; 6]) -> bool {
    if CIDR_FILTER.load() == 0 {
        return false;
    }
    let mode = CIDR_MODE.get(generation & 1).map_or(NONE, |mode| *mode);
    mode != NONE && functions::wherefore_judge(words, u64::from(generation), mode == INCLUDES) != 0
}

/// What the tries say of the flow with these words. `includes`: what is in no list of those to include is rejected.
#[inline(always)]
pub fn judge(generation: u32, words: &[u64; 6], includes: bool) -> bool {
    let Some(trie) = CIDR.get(generation & 1) else { return false };
    let family = u32::from(FlowKey::from_words(*words).family);
    let lists = |high: u64, low: u64| {
        // The trie's key is packed: written as such it would be single bytes, which the verifier refuses at odd
        // places of the stack.
        let key = Aligned { len: full_length(), family, address: [high, low] };
        // SAFETY: 24 bytes laid out as `Key<Prefix>`, which wants no alignment.
        trie.get(unsafe { &*(&raw const key).cast::<Key<Prefix>>() }).copied().unwrap_or(0)
    };
    let src = lists(words[0], words[1]);
    let dst = lists(words[2], words[3]);
    src & EXCLUDE_SRC != 0
        || dst & EXCLUDE_DST != 0
        || (includes && src & INCLUDE_SRC == 0 && dst & INCLUDE_DST == 0)
}
