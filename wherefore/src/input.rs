//! Files and standard input as streams of bytes, gzip undone.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

/// Size of the pieces in which a compressed stream is read.
const CHUNK: usize = 64 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A stream of bytes.
pub type Source = Box<dyn Read + Send>;

/// Opens a file, `-` being standard input, without reading yet.
///
/// # Errors
/// What the system says; a directory is no file.
pub fn open(path: &Path) -> io::Result<Source> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(Box::new(file))
}

/// Looks at the first bytes for gzip's magic number; the stream decompressed, and whether it was compressed.
///
/// # Errors
/// What the system says when they cannot be read.
pub fn decompressed(mut source: Source) -> io::Result<(Source, bool)> {
    let mut magic = Vec::with_capacity(GZIP.len());
    source.by_ref().take(GZIP.len() as u64).read_to_end(&mut magic)?;
    let gzip = magic == GZIP;
    let whole = Cursor::new(magic).chain(source);
    Ok(if gzip {
        (Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole))), true)
    } else {
        (Box::new(whole), false)
    })
}
