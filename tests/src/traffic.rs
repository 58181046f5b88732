//! Traffic of which every packet and byte is known beforehand.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    thread,
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use wherefore_common::Direction;

use crate::{
    PATIENCE,
    device::link_address,
    frame::{Frame, UDP},
    netns::Netns,
    tally::{Count, Key},
    wait_until,
};

/// UDP packets of one flow, all of one size.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Source, an address the sender has.
    pub src: SocketAddr,
    /// Destination, an address the receiver has.
    pub dst: SocketAddr,
    /// How many.
    pub packets: u64,
    /// Bytes of UDP payload in each.
    pub payload: usize,
}

impl Udp {
    /// Sends them, each one received before the next is sent, so that none is lost for want of room.
    ///
    /// # Panics
    /// When an address cannot be bound, or a packet does not arrive.
    pub fn send(&self, sender: &Netns, receiver: &Netns) {
        let (to, from) = (bind(receiver, self.dst, UdpSocket::bind), bind(sender, self.src, UdpSocket::bind));
        to.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
        let data = vec![0xa5; self.payload];
        let mut room = vec![0; self.payload + 1];
        for _ in 0..self.packets {
            from.send_to(&data, self.dst).unwrap_or_else(|error| panic!("sending to {}: {error}", self.dst));
            let received =
                to.recv(&mut room).unwrap_or_else(|error| panic!("receiving {}: {error}", self.dst));
            assert_eq!(received, self.payload);
        }
    }

    /// The flow when it goes this way.
    #[must_use]
    pub const fn key(&self, direction: Direction) -> Key {
        let (src, dst) = (self.src.ip(), self.dst.ip());
        Key { src, dst, sport: self.src.port(), dport: self.dst.port(), proto: UDP, direction }
    }

    /// What all of them add to the flow, over Ethernet.
    #[must_use]
    pub const fn count(&self) -> Count {
        let header = if self.dst.is_ipv4() { 20 } else { 40 };
        let ip = header + 8 + self.payload as u64;
        Count { packets: self.packets, wire_bytes: self.packets * (14 + ip), ip_bytes: self.packets * ip }
    }
}

/// Binds a socket. The address may be taken for a moment: a process that another test starts holds
/// copies of this one's sockets until it executes its program.
fn bind<S: Send>(netns: &Netns, address: SocketAddr, how: fn(SocketAddr) -> io::Result<S>) -> S {
    netns.run(|| {
        let mut bound = Err(io::ErrorKind::AddrInUse.into());
        wait_until(&format!("the address {address}"), PATIENCE, || {
            bound = how(address);
            !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
        });
        bound.unwrap_or_else(|error| panic!("binding {address}: {error}"))
    })
}

/// A TCP connection from `client` to `dst`, an address that `server` has, which carries `upload` bytes there
/// and `download` bytes back, and is closed by both. Returns the client's address.
///
/// # Panics
/// When the connection fails or bytes are missing.
#[must_use]
pub fn tcp(client: &Netns, server: &Netns, dst: SocketAddr, upload: usize, download: usize) -> SocketAddr {
    let listener = bind(server, dst, TcpListener::bind);
    let dst = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
    let talk = |stream: &mut TcpStream, send: usize, receive: usize| {
        let writer = stream.try_clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut writer = writer.unwrap_or_else(|error| panic!("{error}"));
                writer.write_all(&vec![0x42; send]).unwrap_or_else(|error| panic!("sending: {error}"));
                writer.shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("closing: {error}"));
            });
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap_or_else(|error| panic!("receiving: {error}"));
            assert_eq!(received.len(), receive);
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap_or_else(|error| panic!("accepting: {error}"));
            talk(&mut stream, download, upload);
        });
        let mut stream = client
            .run(|| TcpStream::connect_timeout(&dst, PATIENCE))
            .unwrap_or_else(|error| panic!("connecting to {dst}: {error}"));
        let address = stream.local_addr().unwrap_or_else(|error| panic!("{error}"));
        talk(&mut stream, upload, download);
        address
    })
}

/// Sends frames as they are from a device.
///
/// # Panics
/// When one is refused.
pub fn send_frames(netns: &Netns, device: &str, frames: &[Frame]) {
    netns.run(|| send_frames_here(device, frames));
}

/// [`send_frames`] from a device of the calling thread's namespace, by this thread.
///
/// # Panics
/// When one is refused.
pub fn send_frames_here(device: &str, frames: &[Frame]) {
    let address = link_address(device);
    let packets = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .unwrap_or_else(|error| panic!("packet socket: {error}"));
    for frame in frames {
        let sent = sendto(packets.as_raw_fd(), &frame.bytes, &address, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.bytes.len()), "{frame:?}");
    }
}

/// A flow that nobody receives or answers, to be sent in portions.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    header: u64,
    sent: Count,
}

impl Sender {
    /// From a free port of `from`, an address of the namespace.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(netns: &Netns, from: std::net::IpAddr, to: SocketAddr) -> Self {
        let socket = netns.run(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.connect(to)?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.unwrap_or_else(|error| panic!("sending to {to}: {error}"));
        Self { socket, header: if to.is_ipv4() { 28 } else { 48 }, sent: Count::default() }
    }

    /// Sends packets that together have this many IP bytes, none above 1,500, headers included; a rest too
    /// small for a packet is left.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn send(&mut self, ip_bytes: u64) {
        let data = [0x77; 1500];
        let mut rest = ip_bytes;
        while rest > self.header {
            let size = rest.min(1500);
            self.socket
                .send(&data[..(size - self.header) as usize])
                .unwrap_or_else(|error| panic!("sending: {error}"));
            self.sent.packets += 1;
            self.sent.ip_bytes += size;
            self.sent.wire_bytes += size + 14;
            rest -= size;
        }
    }

    /// What was sent so far, over Ethernet.
    #[must_use]
    pub const fn sent(&self) -> Count {
        self.sent
    }
}
