//! A window over a stream of bytes.

use std::io;

use crate::input::{Source, decompressed};

/// Size the window begins with, and by which it grows: only as far as bytes really arrive.
const CHUNK: usize = 64 * 1024;

/// Reads a stream through one buffer that is used again and again.
pub(super) struct Input {
    reader: Source,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    gzip: bool,
}

impl Input {
    /// Looks at the first bytes for gzip's magic number.
    ///
    /// # Errors
    /// What the system says when they cannot be read.
    pub(super) fn new(source: Source) -> io::Result<Self> {
        let (reader, gzip) = decompressed(source)?;
        Ok(Self { reader, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0, gzip })
    }

    /// True when the stream was compressed.
    pub(super) const fn is_gzip(&self) -> bool {
        self.gzip
    }

    /// Where the window begins in the (decompressed) stream.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes at hand, at least as many as the last [`Input::fill`] was asked for if it said true.
    #[inline]
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Makes the window at least `len` bytes long; false when the stream ends before.
    ///
    /// # Errors
    /// What the system or the decompressor says. The window keeps what had arrived.
    #[inline]
    pub(super) fn fill(&mut self, len: usize) -> io::Result<bool> {
        if self.end - self.start >= len { Ok(true) } else { self.read(len) }
    }

    #[cold]
    fn read(&mut self, len: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < len {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves the window on by `len` bytes that it holds.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// Moves on by `len` bytes, however many; false when the stream ends before.
    ///
    /// # Errors
    /// As [`Input::fill`].
    pub(super) fn skip(&mut self, mut len: u64) -> io::Result<bool> {
        while len > 0 {
            if !self.fill(1)? {
                return Ok(false);
            }
            let step = (self.end - self.start).min(usize::try_from(len).unwrap_or(usize::MAX));
            self.consume(step);
            len -= step as u64;
        }
        Ok(true)
    }
}
