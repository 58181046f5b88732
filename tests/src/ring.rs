//! Sending by a packet socket's transmit ring. The kernel copies only the Ethernet header of such a frame into
//! the packet's linear part (`tpacket_fill_skb`); the rest stays where it is, in pages of the ring.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
};

/// The longest frame.
pub const MAX_FRAME: usize = SLOT - DATA;

/// Bytes of a slot, and of the ring: few slots are enough, as sending waits.
const SLOT: usize = 2048;
const RING: usize = 4096;
/// Where the frame begins in a slot: `TPACKET_ALIGN(sizeof(struct tpacket2_hdr))`.
const DATA: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);

/// A transmit ring on one interface.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    /// The kernel takes the slots in turn.
    next: usize,
}

impl Ring {
    /// A ring on the interface `index` of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(index: u32) -> io::Result<Self> {
        // SAFETY: takes no pointers. Protocol 0: nothing is received.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now; nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        option(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
        let request = libc::tpacket_req {
            tp_block_size: RING as u32,
            tp_block_nr: 1,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: (RING / SLOT) as u32,
        };
        option(&socket, libc::PACKET_TX_RING, &request)?;
        // SAFETY: sockaddr_ll is integers and bytes; all zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: `address` outlives the call and has the size given.
        let bound = unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new mapping at a place of the kernel's choice, of the size of the ring.
        let memory = unsafe {
            libc::mmap(ptr::null_mut(), RING, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("a ring at address 0"))?;
        Ok(Self { socket, memory, next: 0 })
    }

    /// Sends one frame and waits until it has left.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidInput` for a frame beyond [`MAX_FRAME`].
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if frame.len() > MAX_FRAME {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: both slots lie within the mapping, aligned to 2048; the kernel touches a slot only from
        // the moment its status says so until it says the contrary.
        unsafe {
            let header = self.memory.as_ptr().add(self.next * SLOT);
            ptr::copy_nonoverlapping(frame.as_ptr(), header.add(DATA), frame.len());
            let header: *mut libc::tpacket2_hdr = header.cast();
            (*header).tp_len = frame.len() as u32;
            (&raw mut (*header).tp_status).write_volatile(libc::TP_STATUS_SEND_REQUEST);
        }
        // SAFETY: an empty message: all is in the ring.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), ptr::null(), 0, 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        self.next = (self.next + 1) % (RING / SLOT);
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, with this size, and used by nobody else.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), RING) };
    }
}

fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` outlives the call and has the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
