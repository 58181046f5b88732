//! The original's one CIDR filter in our terms.
//!
//! Its help said "CIDR Mask to allow traffic" and "Bool operator to use CIDR filter against"; its code dropped
//! what lay inside, and with the default 0.0.0.0/0 everything. We do what the help said, and say so.

use std::ffi::OsString;

/// What the original's filter flags said.
#[derive(Debug, Default)]
pub(super) struct OldFilter {
    /// The flag's name as given, and the prefix.
    pub cidr: Option<(String, String)>,
    /// The bool was set to false: outside is wanted.
    pub outside: bool,
    /// Hold it against the source.
    pub src: bool,
    /// Hold it against the destination.
    pub dst: bool,
}

impl OldFilter {
    /// Our flag, if there is anything to filter.
    pub fn translate(&self, warnings: &mut Vec<String>) -> Option<OsString> {
        let (suffix, side) = match (self.src, self.dst) {
            (true, true) => ("", "source or destination"),
            (true, false) => ("-src", "source"),
            (false, true) => ("-dst", "destination"),
            (false, false) => {
                if let Some((flag, cidr)) = &self.cidr {
                    warnings.push(format!(
                        "{flag} {cidr}: no effect without -filter_src or -filter_dst, as in the original; \
                         --include {cidr} counts only what comes from or goes there"
                    ));
                }
                return None;
            }
        };
        let Some((flag, cidr)) = self.cidr.as_ref().filter(|(_, cidr)| cidr != "0.0.0.0/0") else {
            warnings.push(
                "-filter_src and -filter_dst without a narrower CIDR filter nothing: every packet is counted \
                 (the original dropped every packet)"
                    .into(),
            );
            return None;
        };
        let (verb, sentence) = if self.outside {
            (
                "exclude",
                format!(
                    "packets whose {side} lies in {cidr} are not counted (the original ignored the filter then)"
                ),
            )
        } else {
            (
                "include",
                format!(
                    "only packets whose {side} lies in {cidr} are counted, as its help said; the original dropped \
                     just those, which is --exclude{suffix} {cidr}"
                ),
            )
        };
        warnings.push(format!("{flag}, now --{verb}{suffix} {cidr}: {sentence}"));
        Some(format!("--{verb}{suffix}={cidr}").into())
    }
}
