//! Frames sent as fast as the machine can, from several processors at once, every one counted.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket},
    unistd::Pid,
};

use crate::device::link_address;

/// Processors that send, at most.
const PROCESSORS: usize = 4;

/// What became of a frame, over all its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Copies that passed the device's egress.
    pub left: u64,
    /// Of these, those that the other end had no room for: dropped before its ingress.
    pub dropped: u64,
}

/// Sends from each of `devices` its own frames, over and over, by a thread a processor and device, while `meanwhile`
/// runs. Returns for each device and frame what was sent. To be called inside the devices' namespace.
///
/// # Panics
/// When the kernel refuses to send.
pub fn volley<const N: usize>(devices: [(&str, &[Vec<u8>]); N], meanwhile: impl FnOnce()) -> [Vec<Sent>; N] {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut senders = Vec::new();
        for (turn, processor) in processors().into_iter().enumerate() {
            for (number, (device, frames)) in devices.into_iter().enumerate() {
                let (stop, socket) = (&stop, packets(device));
                // Each begins elsewhere, so that they meet in a flow only now and then.
                let first = turn * frames.len() / PROCESSORS;
                senders.push((
                    number,
                    scope.spawn(move || {
                        pin(processor);
                        fire(&socket, frames, first, stop)
                    }),
                ));
            }
        }
        // Lets the senders end also where `meanwhile` panics.
        let stopping = Stop(&stop);
        // Or it waits for every sender in turn where there is no processor for all.
        priority(-20);
        meanwhile();
        priority(0);
        drop(stopping);
        let mut sums = devices.map(|(_, frames)| vec![Sent::default(); frames.len()]);
        for (number, sender) in senders {
            let sent = sender.join().unwrap_or_else(|_| panic!("a sender"));
            for (sum, sent) in sums[number].iter_mut().zip(sent) {
                sum.left += sent.left;
                sum.dropped += sent.dropped;
            }
        }
        sums
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn fire(socket: &OwnedFd, frames: &[Vec<u8>], first: usize, stop: &AtomicBool) -> Vec<Sent> {
    let mut sent = vec![Sent::default(); frames.len()];
    let mut next = first;
    while !stop.load(Ordering::Acquire) {
        // The flag is looked at now and then.
        for _ in 0..32 {
            match send(socket.as_raw_fd(), &frames[next], MsgFlags::empty()) {
                Ok(_) => {}
                // The device's answer, after the packet has passed its egress.
                Err(Errno::ENOBUFS) => sent[next].dropped += 1,
                Err(error) => panic!("sending: {error}"),
            }
            sent[next].left += 1;
            next = (next + 1) % frames.len();
        }
    }
    sent
}

/// Gives the calling thread a nice value, where that is allowed.
fn priority(nice: libc::c_int) {
    // SAFETY: no pointers; 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// A packet socket that only sends, on a device.
fn packets(device: &str) -> OwnedFd {
    let address = link_address(device);
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.unwrap_or_else(|error| panic!("packet socket: {error}"));
    bind(socket.as_raw_fd(), &address).unwrap_or_else(|error| panic!("{device}: {error}"));
    socket
}

/// The processors that this process may use, up to four.
///
/// # Panics
/// When the kernel does not say.
#[must_use]
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|error| panic!("{error}"));
    let allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    allowed.take(PROCESSORS).collect()
}

/// Keeps the calling thread on one processor.
///
/// # Panics
/// When the kernel refuses.
pub fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).unwrap_or_else(|error| {
        panic!("processor {processor}: {error}");
    });
}
