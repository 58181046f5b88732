//! The programs tell time in ticks of the kernel's timer, which cost them nothing; user space makes nanoseconds of
//! them.
//!
//! A small program, run by hand (`BPF_PROG_TEST_RUN`, 2 µs), tells how both belong together at one moment.

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions},
};
use nix::time::{ClockId, clock_getres};

use super::{
    Error,
    load::{self, take},
    permission::explain,
};

const PROGRAM: &str = "wherefore_clock";
/// The kernel wants a frame for a test run, of an Ethernet header at least.
const FRAME: [u8; 64] = [0; 64];

/// Reads the kernel's ticks.
pub struct Clock {
    reading: Array<MapData, [u64; 2]>,
    tick_ns: u64,
}

impl Clock {
    /// Loads the small program.
    ///
    /// # Errors
    /// [`Error::Permission`] or [`Error::System`].
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let reading =
            Array::try_from(take(ebpf, "CLOCK")?).map_err(|error| explain("use the map CLOCK", &error))?;
        load::program(ebpf, PROGRAM)?;
        // The coarse clocks move once a tick.
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(|error| explain("ask for the length of a tick", &error))?;
        Ok(Self { reading, tick_ns: u64::try_from(resolution.tv_nsec()).unwrap_or(0) })
    }

    /// Ticks and time at this moment.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn read(&self, ebpf: &Ebpf) -> Result<Reading, Error> {
        let failed = |error: &(dyn std::error::Error + 'static)| explain("read the kernel's ticks", error);
        let program: &SchedClassifier = ebpf
            .program(PROGRAM)
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .map_err(|error| failed(&error))?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&FRAME);
        program.test_run(options).map_err(|error| failed(&error))?;
        let [tick, monotonic] = self.reading.get(&0, 0).map_err(|error| failed(&error))?;
        Ok(Reading { tick, monotonic, tick_ns: self.tick_ns })
    }
}

/// Ticks and `CLOCK_MONOTONIC` at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    tick: u64,
    monotonic: u64,
    tick_ns: u64,
}

impl Reading {
    /// The time of a tick of which the low half of its number is known, in nanoseconds of `CLOCK_MONOTONIC`: within
    /// a tick (1 to 10 ms) of the truth. Of all ticks with that half it is the nearest: 2^31 ticks are 24 days and
    /// more.
    pub const fn nanoseconds(&self, tick: u32) -> u64 {
        let before = (self.tick as u32).wrapping_sub(tick).cast_signed();
        let ns = (before.unsigned_abs() as u64).saturating_mul(self.tick_ns);
        if before < 0 { self.monotonic.saturating_add(ns) } else { self.monotonic.saturating_sub(ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_before_and_after_the_reading() {
        let reading = Reading { tick: 1000, monotonic: 50_000_000_000, tick_ns: 4_000_000 };
        assert_eq!(reading.nanoseconds(1000), 50_000_000_000);
        assert_eq!(reading.nanoseconds(999), 49_996_000_000);
        assert_eq!(reading.nanoseconds(1002), 50_008_000_000);
        let late = Reading { tick: (5 << 32) + 3, ..reading };
        assert_eq!(late.nanoseconds(u32::MAX), reading.nanoseconds(996));
        assert_eq!(Reading { monotonic: 7, ..reading }.nanoseconds(0), 0);
    }
}
