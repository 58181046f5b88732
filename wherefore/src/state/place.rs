//! Which directory it is.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{OpenError, StateDir};

/// The directory where none is named and systemd sets none.
pub const DEFAULT: &str = "/var/lib/wherefore";

/// Where what was learned outlasts the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    #[default]
    Nowhere,
    /// The directory that systemd made for the service, else [`DEFAULT`].
    Usual,
    /// A directory that was named.
    Named(PathBuf),
}

impl Place {
    /// Opens the directory, if there is to be one. `variable` is `STATE_DIRECTORY`: directories separated by colons,
    /// of which the first is taken.
    ///
    /// # Errors
    /// Why it cannot be used; [`Self::must`] says whether that is a reason to stop.
    pub fn open(&self, variable: Option<&OsStr>) -> Result<Option<StateDir>, OpenError> {
        self.path(variable).map(|path| StateDir::open(&path)).transpose()
    }

    /// There is no going on without it: it was asked for by name.
    #[must_use]
    pub const fn must(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    fn path(&self, variable: Option<&OsStr>) -> Option<PathBuf> {
        match self {
            Self::Nowhere => None,
            Self::Named(path) => Some(path.clone()),
            Self::Usual => {
                let first =
                    variable.map(|all| all.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default());
                let path = first.filter(|first| !first.is_empty()).map(OsStr::from_bytes);
                Some(path.map_or_else(|| DEFAULT.into(), |path| Path::new(path).to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_of_systemd_and_only_where_none_is_named() {
        let path = |place: &Place, variable: Option<&str>| place.path(variable.map(OsStr::new));
        for (variable, expected) in [
            (None, DEFAULT),
            (Some(""), DEFAULT),
            (Some("/var/lib/one"), "/var/lib/one"),
            (Some("/var/lib/one:/var/lib/two"), "/var/lib/one"),
        ] {
            assert_eq!(path(&Place::Usual, variable), Some(expected.into()), "{variable:?}");
            assert_eq!(path(&Place::Named("here".into()), variable), Some("here".into()));
            assert_eq!(path(&Place::Nowhere, variable), None);
        }
    }
}
