//! The file's form. Pure: bytes in, a value or the reason against it out.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | [`MAGIC`] |
//! | 4 | [`VERSION`] |
//! | 4 | CRC-32 of all that follows |
//! | 4 | length of the header |
//! | 8 | length of the body |
//! | … | the header: a JSON object |
//! | … | the body: postcard, compressed by deflate |
//!
//! Numbers are little-endian.

use std::{
    io::{BufWriter, Read as _, Write as _},
    time::Duration,
};

use flate2::{Compression, Crc, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Form;
use crate::{
    clean::clean,
    time::Timestamp,
    units::{format_bytes, format_duration},
};

/// How every such file begins.
pub(super) const MAGIC: [u8; 8] = *b"WFLEARN\n";
/// Grows with each change of the form, of what is saved, or of what a detector remembers.
pub const VERSION: u32 = 1;
/// What was learned longer ago says nothing.
pub const OLDEST: Duration = Duration::from_secs(30 * 86_400);
/// Bytes before the header.
const PREFIX: usize = 28;
/// Bytes of a header at most; ours have some 200.
pub(super) const MOST_HEADER: usize = 16 * 1024;

/// What is told before the body is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Version of the program that wrote it.
    program: String,
    /// When the last interval in it ended: nanoseconds since 1970.
    until: u64,
    settings: Vec<(String, String)>,
}

/// What was learned, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned<T> {
    /// End of the last interval in it.
    pub until: Timestamp,
    /// What was saved.
    pub value: T,
}

/// Why a file cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not written by this program.
    #[error("it was not written by wherefore")]
    Foreign,
    /// No file at all.
    #[error("it is no regular file")]
    NoFile,
    /// Written in another form.
    #[error("its form is version {found}, this program's is {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Learned with other settings.
    #[error("it was learned with {setting} {then}, and now it is {now}")]
    Setting {
        /// The first that differs.
        setting: String,
        /// Its value in the file.
        then: String,
        /// Its value now.
        now: String,
    },
    /// Learned too long ago.
    #[error("it ends at {until}, more than {} ago", format_duration(OLDEST))]
    Old {
        /// End of its last interval.
        until: Timestamp,
    },
    /// More than there may be.
    #[error("it holds more than {}, which the settings allow", format_bytes(*limit as f64))]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// Cut short or damaged.
    #[error("it is broken: {0}")]
    Broken(String),
    /// Not to be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Why there is nothing to be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than a reader would take.
    #[error("what was learned takes {} and {} are allowed", format_bytes(*found as f64), format_bytes(*limit as f64))]
    TooLarge {
        /// Its bytes.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A value that has no such form.
    #[error("what was learned cannot be written: {0}")]
    Value(String),
}

/// A file's bytes.
///
/// # Errors
/// The value is larger than `form` allows, or is of a kind that postcard or JSON has no form for.
pub(super) fn encode<T: Serialize>(form: &Form, learned: &Learned<T>) -> Result<Vec<u8>, EncodeError> {
    let value = |error: &dyn std::fmt::Display| EncodeError::Value(error.to_string());
    let header = Header {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        until: learned.until.0,
        settings: form.settings.clone(),
    };
    let header = serde_json::to_vec(&header).map_err(|error| value(&error))?;
    if header.len() > MOST_HEADER {
        return Err(EncodeError::TooLarge { found: header.len() as u64, limit: MOST_HEADER as u64 });
    }
    let mut bytes = vec![0; PREFIX];
    bytes.extend_from_slice(&header);
    // A float at a time is what postcard writes.
    let body = BufWriter::with_capacity(1 << 16, DeflateEncoder::new(bytes, Compression::fast()));
    let mut body = postcard::to_io(&learned.value, body).map_err(|error| value(&error))?;
    body.flush().map_err(|error| value(&error))?;
    let body = body.into_inner().map_err(|error| value(&error))?;
    let found = body.total_in();
    if found > form.limit {
        return Err(EncodeError::TooLarge { found, limit: form.limit });
    }
    let mut bytes = body.finish().map_err(|error| value(&error))?;
    let body = bytes.len() - PREFIX - header.len();
    bytes[16..20].copy_from_slice(&(header.len() as u32).to_le_bytes());
    bytes[20..28].copy_from_slice(&(body as u64).to_le_bytes());
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let mut crc = Crc::new();
    crc.update(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.sum().to_le_bytes());
    Ok(bytes)
}

/// What a file of these bytes holds, at time `now`. No length in it is believed: memory grows with what is
/// there, up to the limit of `form`.
///
/// # Errors
/// Why it does not fit.
pub(super) fn decode<T: DeserializeOwned>(
    form: &Form,
    now: Timestamp,
    bytes: &[u8],
) -> Result<Learned<T>, Unfit> {
    let broken = |what: &str| Unfit::Broken(what.to_owned());
    let mut rest = bytes;
    if take(&mut rest)? != MAGIC {
        return Err(Unfit::Foreign);
    }
    let found = u32::from_le_bytes(take(&mut rest)?);
    if found != VERSION {
        return Err(Unfit::Version { found });
    }
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let mut crc = Crc::new();
    crc.update(rest);
    let lengths = (u32::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
    let expected = u64::from(lengths.0).checked_add(lengths.1);
    if expected != Some(rest.len() as u64) {
        return Err(broken("its length is another than it says"));
    }
    if crc.sum() != sum {
        return Err(broken("its check sum does not match"));
    }
    let (header, body) = rest.split_at_checked(lengths.0 as usize).ok_or_else(|| broken("its header"))?;
    let header: Header =
        serde_json::from_slice(header).map_err(|error| broken(&format!("its header: {error}")))?;
    if let Some((setting, then, now)) = difference(&header.settings, &form.settings) {
        return Err(Unfit::Setting { setting, then, now });
    }
    let until = Timestamp(header.until);
    if now.since(until) > OLDEST {
        return Err(Unfit::Old { until });
    }
    let mut plain = Vec::new();
    let inflated = DeflateDecoder::new(body).take(form.limit.saturating_add(1)).read_to_end(&mut plain);
    inflated.map_err(|error| broken(&format!("its body: {error}")))?;
    if plain.len() as u64 > form.limit {
        return Err(Unfit::TooLarge { limit: form.limit });
    }
    let value = match postcard::take_from_bytes(&plain) {
        Ok((value, [])) => value,
        Ok((_, left)) => return Err(broken(&format!("its body: {} bytes too many", left.len()))),
        Err(error) => return Err(broken(&format!("its body: {error}"))),
    };
    Ok(Learned { until, value })
}

/// The next bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unfit> {
    let (first, after) =
        rest.split_first_chunk().ok_or_else(|| Unfit::Broken("it is cut short".to_owned()))?;
    *rest = after;
    Ok(*first)
}

/// The first setting that is not the same: its name, its value then and now.
fn difference(then: &[(String, String)], now: &[(String, String)]) -> Option<(String, String, String)> {
    let value = |of: &[(String, String)], name: &str| {
        of.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    };
    let names = now.iter().chain(then).map(|(name, _)| name);
    names.into_iter().find_map(|name| {
        let (then, now) = (value(then, name), value(now, name));
        let shown = |value: Option<String>| clean(value.as_deref().unwrap_or("unset")).into_owned();
        (then != now).then(|| (clean(name).into_owned(), shown(then), shown(now)))
    })
}
