//! What was asked for: names and globs, and what is left out.

use std::{fmt, str::FromStr};

/// A name or a glob: `*` any characters, `?` one, `[ab]` or `[0-9]` one of these, `[!ab]` none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// `None`: a name.
    glob: Option<glob::Pattern>,
}

/// Why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; a glob has * for any characters, ? for one, [ab] for one of these")]
pub struct PatternError(String);

impl Pattern {
    /// The interface of exactly this name.
    #[must_use]
    pub fn name(name: impl Into<String>) -> Self {
        Self { text: name.into(), glob: None }
    }

    /// Whether it can match several interfaces.
    #[must_use]
    pub const fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Whether an interface has this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.text == name || self.glob.as_ref().is_some_and(|glob| glob.matches(name))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // The crate keeps ** for paths, which names are not.
        let mut single = text.to_owned();
        while single.contains("**") {
            single = single.replace("**", "*");
        }
        let glob = text.contains(['*', '?', '[']).then(|| glob::Pattern::new(&single)).transpose();
        let glob = glob.map_err(|error| PatternError(error.msg.to_owned()))?;
        Ok(Self { text: text.to_owned(), glob })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The interfaces somebody wants to have watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Names and globs; none: those with a default route.
    pub include: Vec<Pattern>,
    /// Never these, whatever else says so.
    pub exclude: Vec<Pattern>,
    /// Those too whose packets another watched interface counts as well.
    pub stacked: bool,
}

impl Request {
    /// The interfaces of exactly these names.
    #[must_use]
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { include: names.into_iter().map(Pattern::name).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_and_names() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        assert!(pattern("veth*").matches("veth0abc") && !pattern("veth*").matches("eth0"));
        assert!(pattern("eth?").matches("eth0") && !pattern("eth?").matches("eth10"));
        assert!(pattern("en[op]*").matches("enp3s0") && !pattern("en[!op]*").matches("eno1"));
        assert!(pattern("eth0.100").matches("eth0.100") && !pattern("eth0.100").matches("eth0x100"));
        assert!(!pattern("eth0").is_glob() && pattern("*").is_glob());
        assert!(pattern("e***0").matches("eth0"));
        let error = "eth[0".parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains("* for any characters"), "{error}");
    }
}
