//! A device's driver and offloads, by ethtool's ioctl: older than its netlink, and there on every kernel.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::netlink::text;

/// Commands of `linux/ethtool.h`.
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
/// `ETH_SS_FEATURES`, and the bytes of each of its strings.
const FEATURES: u32 = 4;
const NAME: usize = 32;
/// There are some 60 of them; what a kernel says beyond this is not believed.
const MOST_FEATURES: usize = 1024;

/// An ioctl's request about the interface `name`.
fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is integers, byte arrays and a union of such; all zeros are valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = ifreq.ifr_name.len() - 1;
    for (to, from) in ifreq.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    ifreq
}

/// Asks about devices of the network namespace of the thread that made it, whoever asks.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// # Errors
    /// What socket(2) says.
    pub fn new() -> io::Result<Self> {
        let open = |family| socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
        Ok(Self(open(AddressFamily::Inet).or_else(|_| open(AddressFamily::Inet6))?))
    }

    /// The driver's name: `veth`, `virtio_net`, `mlx5_core`, …
    ///
    /// # Errors
    /// `EOPNOTSUPP` from a device without a driver, such as the loopback device.
    pub fn driver(&self, device: &str) -> io::Result<String> {
        // struct ethtool_drvinfo: the command, 32 bytes of driver, and more that is not asked for.
        let mut info = [0; 49];
        info[0] = GDRVINFO;
        self.ask(device, &mut info)?;
        Ok(text(&bytes(&info[1..9])))
    }

    /// Names of the offloads that are on, as `ethtool -k` shows them to programs: `tx-tcp-segmentation`,
    /// `rx-gro`, `rx-lro`, …
    ///
    /// # Errors
    /// What ioctl(2) says.
    pub fn features(&self, device: &str) -> io::Result<BTreeSet<String>> {
        // struct ethtool_sset_info: command, reserved, a mask of 64 bits, then a length for each bit of it.
        let mut sizes = [GSSET_INFO, 0, 0, 0, 0];
        set_mask(&mut sizes, 1 << FEATURES);
        self.ask(device, &mut sizes)?;
        let count = sizes[4] as usize;
        if count > MOST_FEATURES {
            return Err(io::Error::other(format!("a device of {count} offloads")));
        }
        // struct ethtool_gstrings: command, which, how many, and the strings.
        let mut names = vec![0; 3 + count * NAME / 4];
        (names[0], names[1], names[2]) = (GSTRINGS, FEATURES, sizes[4]);
        self.ask(device, &mut names)?;
        // struct ethtool_gfeatures: command, blocks of 32, and for each available, requested, active, never changed.
        let blocks = count.div_ceil(32);
        let mut states = vec![0; 2 + blocks * 4];
        (states[0], states[1]) = (GFEATURES, blocks as u32);
        self.ask(device, &mut states)?;
        let names = bytes(&names[3..]);
        let active = |index: usize| states[2 + index / 32 * 4 + 2] >> (index % 32) & 1 == 1;
        let all = names.chunks_exact(NAME).enumerate();
        Ok(all.filter(|(index, _)| active(*index)).map(|(_, name)| text(name)).collect())
    }

    /// Queues in use, receiving and sending.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the driver has no such thing.
    pub fn channels(&self, device: &str) -> io::Result<(u32, u32)> {
        // struct ethtool_channels: command, four limits, and receiving, sending, other, combined.
        let mut channels = [0; 9];
        channels[0] = GCHANNELS;
        self.ask(device, &mut channels)?;
        let [.., receiving, sending, _, combined] = channels;
        Ok((receiving.saturating_add(combined), sending.saturating_add(combined)))
    }

    /// `request` is the command and room for the whole answer to it.
    fn ask(&self, device: &str, request: &mut [u32]) -> io::Result<()> {
        let mut ifreq = ifreq(device);
        ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: SIOCETHTOOL reads the command at ifr_data and writes the structure that belongs to it, for which
        // every caller above made room by `linux/ethtool.h`; both outlive the call.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut ifreq) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Puts the mask of 64 bits of a `struct ethtool_sset_info` into its words.
fn set_mask(words: &mut [u32; 5], mask: u64) {
    let mask = mask.to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = mask;
    words[2] = u32::from_ne_bytes([a, b, c, d]);
    words[3] = u32::from_ne_bytes([e, f, g, h]);
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
