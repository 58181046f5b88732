//! A capture file to read: made once, the same on every machine.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use wherefore_tests::Random;

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Number of packets.
    pub packets: u32,
    /// Flows they belong to, each packet to any of them.
    pub flows: u16,
    /// Bytes kept of each frame.
    pub snaplen: u32,
}

/// Frames of the "simple IMIX", 7 : 4 : 1, without frame check sequence.
const SIZES: [u32; 12] = [60, 60, 60, 60, 60, 60, 60, 590, 590, 590, 590, 1514];
/// Microseconds between two packets.
const GAP: u64 = 100;
const ETHERNET: usize = 14;
const UDP: u8 = 17;
const TCP: u8 = 6;

impl Traffic {
    /// The file in `folder`, written if it is not there yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self, folder: &Path) -> Result<PathBuf> {
        let Self { packets, flows, snaplen } = self;
        let path = folder.join(format!("{packets}-{flows}-{snaplen}.pcap"));
        if path.is_file() {
            return Ok(path);
        }
        // Whole or not at all: another run would take a half for the file.
        let part = path.with_extension("part");
        let write = || {
            fs::create_dir_all(folder)?;
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&part)?);
            self.write(&mut out)?;
            out.flush()?;
            fs::rename(&part, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        const MICROSECONDS: u32 = 0xa1b2_c3d4;
        let mut random = Random::new(1);
        for word in [MICROSECONDS, 0x0004_0002, 0, 0, self.snaplen, 1] {
            out.write_all(&word.to_le_bytes())?;
        }
        let mut frame = [0; 1514];
        for packet in 0..self.packets {
            let flow = random.below(self.flows.into()) as u16;
            let len = SIZES[random.below(SIZES.len())];
            headers(&mut frame, flow, len);
            let micros = 1_700_000_000_000_000 + u64::from(packet) * GAP;
            let captured = len.min(self.snaplen);
            for word in [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, captured, len] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(&frame[..captured as usize])?;
        }
        Ok(())
    }
}

/// Ethernet, IPv4, and two of three times TCP, else UDP; the flow's number lies in the addresses and ports.
fn headers(frame: &mut [u8; 1514], flow: u16, len: u32) {
    let [high, low] = flow.to_be_bytes();
    let proto = if flow.is_multiple_of(3) { UDP } else { TCP };
    let total = (len - ETHERNET as u32).to_be_bytes();
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14..34].copy_from_slice(&[
        0x45, 0, total[2], total[3], 0, 0, 0x40, 0, 64, proto, 0, 0, 192, 0, 2, low, 198, 51, 100, high,
    ]);
    frame[34..38].copy_from_slice(&[0x80 | high, low, 1, 187]);
    frame[38..60].fill(0);
    if proto == UDP {
        let length = (len - ETHERNET as u32 - 20).to_be_bytes();
        frame[38..40].copy_from_slice(&length[2..]);
    } else {
        // Header length of five words, ACK.
        frame[46] = 5 << 4;
        frame[47] = 0x10;
    }
}
