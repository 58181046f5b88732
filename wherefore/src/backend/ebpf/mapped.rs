//! A kernel array read as memory: one page table entry where a system call an element would be (Linux 5.5).

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::{self, NonNull},
};

use aya::{Pod, maps::MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The elements of an array map made with `BPF_F_MMAPABLE`.
///
/// The kernel programs write to it at any time. Reads are of whatever is there; only the caller knows which
/// elements nobody writes to now.
pub struct Mapped<T> {
    start: NonNull<u8>,
    bytes: usize,
    len: u32,
    element: PhantomData<T>,
}

// SAFETY: the memory belongs to no thread; access is by volatile reads and writes.
unsafe impl<T: Pod> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// Bytes from one element to the next: the kernel rounds up to 8.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps all of `map`.
    ///
    /// # Errors
    /// What mmap(2) says, or `InvalidInput` where the map's values are not of the size of `T`.
    pub fn new(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "values of another size"));
        }
        let len = info.max_entries();
        let bytes = NonZeroUsize::new(Self::STRIDE * len as usize)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an array without elements"))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }?;
        Ok(Self { start: start.cast(), bytes: bytes.get(), len, element: PhantomData })
    }

    /// Number of elements.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// Beyond the last element.
    pub fn get(&self, index: u32) -> T {
        // SAFETY: within the mapping, aligned as the kernel's elements are, and any bytes make a `T` (Pod).
        unsafe { ptr::read_volatile(self.element(index).cast()) }
    }

    /// The 32-bit number at `offset` bytes of the element at `index`.
    ///
    /// # Panics
    /// Beyond the last element, or at an offset that is not within it.
    pub fn number(&self, index: u32, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(align_of::<u32>()) && offset + size_of::<u32>() <= Self::STRIDE);
        // SAFETY: within the element, aligned, and any bytes make a number.
        unsafe { ptr::read_volatile(self.element(index).add(offset).cast()) }
    }

    /// Writes the element at `index`.
    ///
    /// # Panics
    /// Beyond the last element.
    pub fn set(&mut self, index: u32, value: T) {
        // SAFETY: as in `get`; the kernel programs may see any mixture of bytes without harm.
        unsafe { ptr::write_volatile(self.element(index).cast(), value) }
    }

    fn element(&self, index: u32) -> *mut u8 {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: within the mapping, as index is below its length.
        unsafe { self.start.as_ptr().add(index as usize * Self::STRIDE) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference to it leaves this type.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
