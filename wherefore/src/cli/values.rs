//! Syntax of single values. Errors say what is allowed; clap adds the flag and what was given.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::builder::{OsStringValueParser, TypedValueParser};
use ipnet::IpNet;

use super::args::Bound;
use crate::{detect::anomalyzer::Method, units};

/// A duration.
pub fn duration(text: &str) -> Result<Duration, units::UnitError> {
    units::parse_duration(text)
}

/// A size in bytes.
pub fn size(text: &str) -> Result<u64, units::UnitError> {
    units::parse_size(text)
}

/// A prefix or a plain address. Host bits are cleared, as the original did.
pub fn prefix(text: &str) -> Result<IpNet, &'static str> {
    let text = text.trim();
    IpNet::from_str(text)
        .map(|net| net.trunc())
        .or_else(|_| IpAddr::from_str(text).map(IpNet::from))
        .map_err(|_| "give a prefix or an address, as in 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7")
}

/// A whole number.
pub fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.trim().parse().map_err(|_| "give a whole number, as in 30; no sign, no exponent, no unit")
}

/// A whole number from 1 on.
pub fn positive(text: &str) -> Result<u32, &'static str> {
    whole(text).ok().filter(|number| *number > 0).ok_or("give a whole number, 1 or more")
}

/// Any finite number, with sign and exponent.
pub fn number(text: &str) -> Result<f64, &'static str> {
    f64::from_str(text.trim())
        .ok()
        .filter(|value| value.is_finite())
        .ok_or("give a finite number, as in 0.8, -5 or 1e6")
}

/// A lower bound, or none. 5e-324, the smallest positive double, is how the original said none.
pub fn bound(text: &str) -> Result<Bound, &'static str> {
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(Bound::None);
    }
    match number(text) {
        Ok(value) if value.to_bits() == 1 => Ok(Bound::None),
        Ok(value) => Ok(Bound::At(value)),
        Err(_) => Err("give a finite number of bytes, as in 200, -5 or 1e6, or none"),
    }
}

/// A directory, or an empty text for none, as the original had it (clap's own parser of paths refuses that).
pub fn directory() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// One method's name.
pub fn method(text: &str) -> Result<Method, &'static str> {
    <Method as clap::ValueEnum>::from_str(text.trim(), true).map_err(
        |_| "the methods are magnitude, diff, highrank, lowrank, fence, ks and cdf, separated by commas",
    )
}
