//! Network devices: their own counters, addresses and offloads.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
        socket,
    },
};

use crate::netns::Netns;

/// A device's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, link header included.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent, link header included.
    pub tx_bytes: u64,
}

impl Counters {
    /// What was added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            rx_packets: self.rx_packets - earlier.rx_packets,
            rx_bytes: self.rx_bytes - earlier.rx_bytes,
            tx_packets: self.tx_packets - earlier.tx_packets,
            tx_bytes: self.tx_bytes - earlier.tx_bytes,
        }
    }
}

/// The counters of a device, from `/proc/net/dev` of the namespace.
///
/// # Panics
/// When there is no such device.
#[must_use]
pub fn counters(netns: &Netns, device: &str) -> Counters {
    let text = netns
        .run(|| fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap_or_else(|error| panic!("/proc/net/dev: {error}"));
    let numbers: Vec<u64> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == device)
        .map(|(_, rest)| rest.split_whitespace().filter_map(|number| number.parse().ok()).collect())
        .unwrap_or_else(|| panic!("no device {device} in:\n{text}"));
    // Bytes and packets lead the eight receive columns and the eight transmit columns.
    Counters { rx_bytes: numbers[0], rx_packets: numbers[1], tx_bytes: numbers[8], tx_packets: numbers[9] }
}

/// The device's link-layer address, for `sendto` on a packet socket. To be called inside the namespace.
///
/// # Panics
/// When there is no such device.
#[must_use]
pub fn link_address(device: &str) -> LinkAddr {
    getifaddrs()
        .unwrap_or_else(|error| panic!("getifaddrs: {error}"))
        .filter(|entry| entry.interface_name == device)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .unwrap_or_else(|| panic!("no device {device}"))
}

/// The device's Ethernet address.
///
/// # Panics
/// When there is no such device, or it has none.
#[must_use]
pub fn mac(netns: &Netns, device: &str) -> [u8; 6] {
    netns.run(|| link_address(device).addr()).unwrap_or_else(|| panic!("{device} has no Ethernet address"))
}

/// The device's index in its namespace.
///
/// # Panics
/// When there is no such device.
#[must_use]
pub fn index(netns: &Netns, device: &str) -> u32 {
    netns.run(|| link_address(device).ifindex()) as u32
}

/// Commands of `linux/ethtool.h` that set TCP segmentation, generic segmentation and generic receive offload.
const OFFLOADS: [(u32, &str); 3] = [(0x1f, "tso"), (0x24, "gso"), (0x2c, "gro")];

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches segmentation and receive offloads of a device off, as `ethtool -K DEVICE tso off gso off gro
/// off` does.
///
/// # Panics
/// When the kernel refuses.
pub fn offloads_off(netns: &Netns, device: &str) {
    for (command, name) in OFFLOADS {
        netns
            .run(|| ethtool(device, EthtoolValue { command, data: 0 }))
            .unwrap_or_else(|error| panic!("{device}: {name} off: {error}"));
    }
}

/// Switches TCP segmentation of a device off alone: the stack still makes super-frames, and cuts them before the
/// device has them.
///
/// # Panics
/// When the kernel refuses.
pub fn segmentation_off(netns: &Netns, device: &str) {
    netns
        .run(|| ethtool(device, EthtoolValue { command: OFFLOADS[0].0, data: 0 }))
        .unwrap_or_else(|error| panic!("{device}: tso off: {error}"));
}

/// Switches generic receive offload of a device on, which a veth has off by itself: it then joins received
/// segments before it passes them on.
///
/// # Panics
/// When the kernel refuses.
pub fn receive_offload_on(netns: &Netns, device: &str) {
    netns
        .run(|| ethtool(device, EthtoolValue { command: OFFLOADS[2].0, data: 1 }))
        .unwrap_or_else(|error| panic!("{device}: gro on: {error}"));
}

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const TRANSMIT_CHECKSUMS: u32 = 0x17;

/// Switches transmit checksums of a device off, and with them everything that needs them: also the trains of
/// datagrams that [`offloads_off`] leaves in one piece, as no command of that kind is about them.
///
/// # Panics
/// When the kernel refuses.
pub fn checksums_off(netns: &Netns, device: &str) {
    netns
        .run(|| ethtool(device, EthtoolValue { command: TRANSMIT_CHECKSUMS, data: 0 }))
        .unwrap_or_else(|error| panic!("{device}: tx off: {error}"));
}

/// `IFLA_GSO_MAX_SIZE` and `IFLA_GSO_IPV4_MAX_SIZE` (Linux 6.3) of `linux/if_link.h`.
const SEGMENTATION_SIZES: [u16; 2] = [41, 63];

/// Lets TCP over IPv6 and IPv4 hand packets of up to `bytes` to a device, also beyond 64 KiB ("BIG TCP").
///
/// # Errors
/// What the kernel says: it may know no such packets.
pub fn segmentation_size(netns: &Netns, device: &str, bytes: u32) -> io::Result<()> {
    let index = index(netns, device);
    let mut message = Vec::new();
    // nlmsghdr without its length: RTM_NEWLINK, request with acknowledgement, neither number nor port.
    message.extend((libc::RTM_NEWLINK).to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]);
    // ifinfomsg: only the index.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    for attribute in SEGMENTATION_SIZES {
        message.extend(8_u16.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(bytes.to_ne_bytes());
    }
    let length = message.len() as u32 + 4;
    let message = [&length.to_ne_bytes()[..], &message].concat();
    netns.run(|| {
        let kernel = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let sent = sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        assert_eq!(sent, message.len());
        let mut answer = [0; 256];
        let received = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // Behind the answer's header: 0 or a negative error number.
        let code =
            answer[..received].get(16..20).map_or([0xff; 4], |code| [code[0], code[1], code[2], code[3]]);
        match i32::from_ne_bytes(code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        }
    })
}

/// A tun device, up and quiet: the file reads what the host sends and writes what it receives, IP packets
/// without anything in front. The device goes with the file.
///
/// # Panics
/// When the kernel refuses.
#[must_use]
pub fn tun(netns: &Netns, device: &str) -> File {
    tun_or_tap(netns, device, libc::IFF_TUN)
}

/// As [`tun`], with Ethernet frames.
///
/// # Panics
/// When the kernel refuses.
#[must_use]
pub fn tap(netns: &Netns, device: &str) -> File {
    tun_or_tap(netns, device, libc::IFF_TAP)
}

fn tun_or_tap(netns: &Netns, device: &str, kind: libc::c_int) -> File {
    let file = netns.run(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut request = request(device);
        request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes within the ifreq, which outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(file)
    });
    netns.ip(&format!("link set {device} multicast off addrgenmode none"));
    netns.ip(&format!("link set {device} up"));
    file.unwrap_or_else(|error| panic!("tun device {device}: {error}"))
}

/// An ioctl's request about a device.
fn request(device: &str) -> libc::ifreq {
    // SAFETY: ifreq is integers, byte arrays and a union of such; all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ethtool(device: &str, mut value: EthtoolValue) -> io::Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = request(device);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL with these commands reads one ethtool_value by ifr_data; both outlive the call.
    if unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
