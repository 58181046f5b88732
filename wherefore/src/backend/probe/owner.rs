//! Whose a clsact filter is: of an agent that runs, or left by one that was killed.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// A sign of life: as long as this process lives, a socket's abstract name says that filters with
/// `handle` belong to a running agent. The name is bound to the network namespace, as the filters are.
pub struct Owner {
    pub(in crate::backend) handle: u32,
    _alive: UnixDatagram,
}

impl Owner {
    /// A handle that no running agent of this network namespace has.
    ///
    /// # Errors
    /// What socket(2) or bind(2) says.
    pub fn new() -> io::Result<Self> {
        let seed = std::process::id();
        let mut result = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for turn in 0..64u32 {
            // Handles are 31 bits and never 0; the multiplier (Knuth's) spreads neighbouring numbers.
            let handle = (seed.wrapping_mul(64).wrapping_add(turn)).wrapping_mul(2_654_435_761) >> 1 | 1;
            result = sign_of_life(handle).map(|alive| Self { handle, _alive: alive });
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn sign_of_life(handle: u32) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("wherefore-clsact-{handle:08x}"))?)
}

/// Whether an agent of this network namespace marks its filters with `handle`: the name is taken then.
pub(super) fn lives(handle: u32) -> bool {
    sign_of_life(handle).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_is_seen_and_a_dropped_one_not() {
        let owner = Owner::new().unwrap();
        assert!(owner.handle != 0 && owner.handle <= 0x7fff_ffff);
        assert!(lives(owner.handle));
        let second = Owner::new().unwrap();
        assert_ne!(second.handle, owner.handle);
        let handle = owner.handle;
        drop(owner);
        assert!(!lives(handle));
    }
}
