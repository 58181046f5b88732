//! One header stepped over, in one number: all that a function of a kernel program may return.

use crate::Reason;

/// What follows a header, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// `EtherType`, or protocol number behind an IPv6 extension header.
    pub kind: u16,
    /// Offset in the frame; below 2^31.
    pub at: usize,
    /// Of an IPv6 fragment header the offset (high 13 bits) and "more fragments" (the lowest); else 0.
    pub fragment: u16,
}

/// Beyond every offset.
const FAILED: u64 = 1 << 31;

impl Step {
    /// One number: offset in the low 32 bits, then kind and fragment; or the reason's number, marked.
    #[inline(always)]
    #[must_use]
    pub const fn pack(result: Result<Self, Reason>) -> u64 {
        match result {
            Ok(step) => (step.at as u32 as u64) | (step.kind as u64) << 32 | (step.fragment as u64) << 48,
            Err(reason) => FAILED | reason as u64,
        }
    }

    /// What was packed.
    ///
    /// # Errors
    /// The reason that was packed, of those that stepping over headers has.
    #[inline(always)]
    pub const fn unpack(bits: u64) -> Result<Self, Reason> {
        const NON_IP: u8 = Reason::NonIp as u8;
        const LINK_TRUNCATED: u8 = Reason::LinkTruncated as u8;
        if bits & FAILED == 0 {
            return Ok(Self {
                kind: (bits >> 32) as u16,
                at: bits as u32 as usize,
                fragment: (bits >> 48) as u16,
            });
        }
        Err(match bits as u8 {
            NON_IP => Reason::NonIp,
            LINK_TRUNCATED => Reason::LinkTruncated,
            _ => Reason::IpTruncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_comes_out_of_its_number_as_it_went_in() {
        for result in [
            Ok(Step { kind: 0x0800, at: 18, fragment: 0 }),
            Ok(Step { kind: u16::MAX, at: i32::MAX as usize, fragment: u16::MAX }),
            Ok(Step::default()),
            Err(Reason::NonIp),
            Err(Reason::LinkTruncated),
            Err(Reason::IpTruncated),
        ] {
            assert_eq!(Step::unpack(Step::pack(result)), result);
        }
    }
}
