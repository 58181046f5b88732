//! How many flows found no room in a table, from a few kilobytes ([`wherefore_common::sketch`]).

use wherefore_common::{
    FlowKey,
    sketch::{REGISTERS, place},
};

/// Flows that found no room, each counted once however often it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Empty until there is one.
    registers: Vec<u8>,
}

impl Lost {
    /// Remembers a flow.
    pub fn add(&mut self, key: &FlowKey) {
        let (register, rank) = place(key);
        self.raise(register, rank);
    }

    /// Takes a register of the kernel's; 0 says nothing.
    pub fn raise(&mut self, register: u32, rank: u8) {
        if rank == 0 {
            return;
        }
        self.registers.resize(REGISTERS, 0);
        if let Some(greatest) = self.registers.get_mut(register as usize) {
            *greatest = rank.max(*greatest);
        }
    }

    /// Adds those of another interval or table.
    pub fn merge(&mut self, other: &Self) {
        for (register, rank) in (0..).zip(&other.registers) {
            self.raise(register, *rank);
        }
    }

    /// How many there were, with a standard error of 1.6 %; 0 exactly where there was none.
    ///
    /// The formula of Flajolet et al. 2007 (figure 3), with linear counting for few: ranks come from 52 bits of
    /// hash, so the correction for hash collisions of 32-bit hashes is not needed.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        if self.registers.is_empty() {
            return 0;
        }
        let m = REGISTERS as f64;
        let alpha = 0.7213 / (1.0 + 1.079 / m);
        let sum: f64 = self.registers.iter().map(|rank| f64::from(*rank)).map(|rank| (-rank).exp2()).sum();
        let raw = alpha * m * m / sum;
        let zeros = self.registers.iter().filter(|rank| **rank == 0).count();
        let estimate = if raw <= 2.5 * m && zeros > 0 { m * (m / zeros as f64).ln() } else { raw };
        (estimate.round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> FlowKey {
        let mut src = [0; 16];
        src[10..12].fill(0xff);
        src[12..].copy_from_slice(&number.to_be_bytes());
        FlowKey { src, dst: src, ifindex: 2, sport: 9, dport: 53, proto: 17, family: 4, ..FlowKey::default() }
    }

    #[test]
    fn estimates_within_five_standard_errors() {
        assert_eq!(Lost::default().estimate(), 0);
        for number in [1, 10, 1000, 10_000, 50_000, 300_000] {
            let mut lost = Lost::default();
            for host in 0..number {
                lost.add(&key(host));
                lost.add(&key(host / 2));
            }
            let (estimate, number) = (lost.estimate() as f64, f64::from(number));
            assert!((estimate - number).abs() <= 0.08 * number, "{estimate} for {number}");
        }
    }
}
