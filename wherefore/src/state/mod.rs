//! What was learned, kept over a restart: a directory that one agent at a time holds, and a file in it that is
//! replaced whole.

mod file;
mod keeper;
mod place;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    file::{EncodeError, Learned, OLDEST, Unfit, VERSION},
    keeper::{Keeper, SAVE_EVERY},
    place::{DEFAULT, Place},
};
use crate::time::Timestamp;

/// What was learned.
const LEARNED: &str = "learned.bin";
/// The same while it is written.
const NEW: &str = "learned.bin.new";
/// What did not fit: this and a time.
const UNFIT: &str = "learned.bin.unfit-";
/// Files kept that did not fit.
const MOST_UNFIT: usize = 3;
/// Locked by the agent that uses the directory; holds its process id.
const LOCK: &str = "lock";

/// What a file must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Settings without which what was learned means nothing: each flag's name, and its value as text.
    pub settings: Vec<(String, String)>,
    /// Bytes that the value may take, uncompressed. The file is never larger than this and 32 KiB.
    pub limit: u64,
}

impl Form {
    /// Bytes of a file at most: the header, and what deflate adds to what it cannot compress (5 bytes in 32 KiB).
    const fn most(&self) -> u64 {
        self.limit.saturating_add(self.limit / 4096).saturating_add(2 * file::MOST_HEADER as u64)
    }
}

/// A directory that only this agent uses, as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another agent uses it.
    #[error(
        "{} is used by another agent{}; give each its own directory (--state-dir), or use none (--no-state)",
        path.display(), pid.map(|pid| format!(", process {pid}")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's process id, if it is told.
        pid: Option<u32>,
    },
    /// It cannot be made or written to.
    #[error("cannot {action} {}: {source}; name another directory (--state-dir), or use none (--no-state)", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The directory, or a file in it.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
}

/// A file did not fit.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} does not fit: {reason}; {}",
    path.display(),
    match moved {
        Ok(to) => format!("it is kept as {}", to.display()),
        Err(error) => format!("it stays there until it is replaced, as it cannot be renamed: {error}"),
    }
)]
pub struct SetAside {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: Unfit,
    /// Its new path.
    pub moved: Result<PathBuf, io::Error>,
}

/// What was learned is not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It cannot be put into a file.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file cannot be written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
}

impl StateDir {
    /// Makes the directory if it is missing, with mode 0700, and locks it.
    ///
    /// # Errors
    /// Another agent uses it, or it cannot be made or written to.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        let name = path.join(LOCK);
        // Not truncated: until it is locked, what is in it is another agent's.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&name);
        let file = file.map_err(failed("open", &name))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(OpenError::Locked { path: path.to_owned(), pid: pid(&file) });
            }
            Err((_, errno)) => return Err(failed("lock", &name)(errno.into())),
        };
        let written = lock.set_len(0).and_then(|()| writeln!(&mut *lock, "{}", std::process::id()));
        // Without room on the disk the lock holds all the same.
        if let Err(error) = written {
            tracing::debug!("{}: the process id is not in it: {error}", name.display());
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved, if anything. What does not fit is renamed, and the three newest of these are kept; `now` is
    /// part of their names, and what ends longer than [`OLDEST`] before it does not fit.
    ///
    /// # Errors
    /// There is a file, and it does not fit: learning begins anew.
    pub fn load<T: DeserializeOwned>(
        &self,
        form: &Form,
        now: Timestamp,
    ) -> Result<Option<Learned<T>>, SetAside> {
        let path = self.path.join(LEARNED);
        let read = match read(&path, form) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => file::decode(form, now, &bytes),
            Err(unfit) => Err(unfit),
        };
        read.map(Some).map_err(|reason| SetAside { moved: self.set_aside(&path, now), path, reason })
    }

    /// Replaces what was saved: a process killed at any moment leaves the old file or the new one, whole.
    ///
    /// # Errors
    /// The value is larger than the form allows, or the file cannot be written; the old file is as it was.
    pub fn save<T: Serialize>(&self, form: &Form, learned: &Learned<T>) -> Result<(), SaveError> {
        let bytes = file::encode(form, learned)?;
        let (new, path) = (self.path.join(NEW), self.path.join(LEARNED));
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SaveError::Io { action, path, source }
        };
        // Left by one that was killed; made anew, so that no link is followed.
        ignore_missing(std::fs::remove_file(&new)).map_err(failed("remove", &new))?;
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        if let Err(error) = written {
            // Half a file must not take the room that may be lacking.
            let _ = std::fs::remove_file(&new);
            return Err(failed("write", &new)(error));
        }
        std::fs::rename(&new, &path).map_err(failed("replace", &path))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.path))
    }

    fn set_aside(&self, path: &Path, now: Timestamp) -> Result<PathBuf, io::Error> {
        let to = self.path.join(format!("{UNFIT}{}", now.to_string().replace(':', "-")));
        std::fs::rename(path, &to)?;
        let entries = std::fs::read_dir(&self.path)?.filter_map(Result::ok);
        let mut unfit: Vec<_> = entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFIT)))
            .map(|entry| entry.path())
            .collect();
        unfit.sort_unstable();
        for old in unfit.iter().rev().skip(MOST_UNFIT) {
            if let Err(error) = std::fs::remove_file(old) {
                tracing::debug!("cannot remove {}: {error}", old.display());
            }
        }
        Ok(to)
    }
}

/// The file's bytes; `None` where there is none. Larger ones than may be are not read.
fn read(path: &Path, form: &Form) -> Result<Option<Vec<u8>>, Unfit> {
    let about = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    if !about.is_file() {
        return Err(Unfit::NoFile);
    }
    let too_large = Unfit::TooLarge { limit: form.limit };
    if about.len() > form.most() {
        return Err(too_large);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(form.most().saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > form.most() { Err(too_large) } else { Ok(Some(bytes)) }
}

/// The process id in a lock file, if it is one.
fn pid(mut file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let read = file.read(&mut text).ok()?;
    std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
