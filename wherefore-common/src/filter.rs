//! What a tcpdump expression in front of the counting programs shares with them.

/// Places in the kernel's array of TC programs; user space says what stands where.
pub const PLACES: usize = 16;

/// How long the first frame is that a super-frame becomes. A program of an expression that asks for it leaves its
/// place, tail-calls the program that measures, and is called again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstSegment {
    /// Place of the program to go back to.
    pub back: u32,
    /// Bytes without a tag outside the data; 0: not measured.
    pub len: u32,
}
