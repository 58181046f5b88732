//! The keys that were put into the flow table: where they are few, user space takes them out one by one and need not
//! look through a large table, whose empty places alone cost 1.5 ms a million.

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    FlowKey,
    tables::{JOURNAL_WHOLE, Noted, part},
};

use crate::tables::{MMAPABLE, cpu};

/// Parts of [`JOURNAL_SLOTS`] keys, by CPU and set. Resized by user space.
#[btf_map]
static JOURNAL: Array<FlowKey, 2, MMAPABLE> = Array::new();

/// How many keys each part got ([`JOURNAL_WHOLE`] says where); of these, as many as it holds are there.
#[btf_map]
static NOTED: Array<Noted, { JOURNAL_WHOLE as usize + 2 }, MMAPABLE> = Array::new();

/// Keys that a part holds; 0: there is no journal, as the programs of one CPU may interrupt each other.
#[unsafe(no_mangle)]
static JOURNAL_SLOTS: Global<u32> = Global::new(0);

/// Notes the key of a flow that is new in the table.
#[inline(always)]
pub fn note(generation: u32, key: &FlowKey) {
    let slots = JOURNAL_SLOTS.load();
    if slots == 0 {
        return;
    }
    let part = part(cpu(), generation);
    let Some(noted) = NOTED.get_ptr_mut(JOURNAL_WHOLE + part) else {
        // A CPU beyond those that user space knows.
        if let Some(whole) = NOTED.get_ptr_mut(generation & 1) {
            // SAFETY: a valid pointer into the map; all that write there write the same.
            unsafe { *whole = Noted { generation, keys: u32::MAX } };
        }
        return;
    };
    // SAFETY: a valid pointer into the map, to an element that only this CPU writes to.
    let noted = unsafe { &mut *noted };
    if noted.generation != generation {
        *noted = Noted { generation, keys: 0 };
    }
    let number = noted.keys;
    noted.keys = number.saturating_add(1);
    if number < slots
        && let Some(place) = JOURNAL.get_ptr_mut(part * slots + number)
    {
        // SAFETY: as above.
        unsafe { *place = *key };
    }
}
