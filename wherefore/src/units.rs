//! Durations and sizes as people write and read them. Pure.

use std::{fmt::Write as _, time::Duration};

/// Why a duration or a size was not understood; says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {allowed}")]
pub struct UnitError {
    /// What is wrong with the text given.
    pub reason: String,
    /// What would be right.
    pub allowed: &'static str,
}

const DURATIONS: &str =
    "give a number with ns, us, ms, s, m, h or d, as in 5s, 500ms or 1m30s (a plain number is seconds)";
const SIZES: &str = "give a number of bytes, or one with k, M, G, T (kB, MB: powers of 1000) or Ki, Mi, Gi, Ti \
                     (KiB, MiB: powers of 1024), as in 200kB, 1.5MB or 64KiB";

/// Parses `5s`, `500ms`, `1m30s`, `1.5h`. A plain number is a number of seconds: the original printed its
/// default as seconds, yet stopped at a number without a unit.
///
/// # Errors
/// Anything else, and what a [`Duration`] cannot hold.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let error = |reason: String| UnitError { reason, allowed: DURATIONS };
    if text.is_empty() {
        return Err(error("no duration given".into()));
    }
    if text.starts_with('-') {
        return Err(error("a duration is never negative".into()));
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let parsed =
        if plain { humantime::parse_duration(&format!("{text}s")) } else { humantime::parse_duration(text) };
    parsed.map_err(|e| error(humantime_reason(&e)))
}

/// humantime's reasons, without its lists of units: ours follows.
fn humantime_reason(error: &humantime::DurationError) -> String {
    match error {
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => "a unit is missing".into(),
        humantime::DurationError::UnknownUnit { unit, .. } => format!("unknown unit {unit:?}"),
        humantime::DurationError::NumberOverflow => "too long, or finer than a nanosecond".into(),
        _ => "not a duration".into(),
    }
}

/// Parses `1000`, `200 kB`, `1MB`, `64k` (powers of 1000) and `1 MiB`, `64Ki` (powers of 1024), in bytes.
/// Upper and lower case mean the same; there are no bits. A fraction must come out as whole bytes.
///
/// # Errors
/// Anything else, and sizes beyond 2^64 - 1 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let error = |reason: &str| UnitError { reason: reason.into(), allowed: SIZES };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if text.is_empty() {
        return Err(error("no size given"));
    }
    if text.starts_with('-') {
        return Err(error("a size is never negative"));
    }
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(error("not a size"));
    }
    let unit = unit.trim();
    let factor = size_factor(unit)
        .ok_or_else(|| UnitError { reason: format!("unknown unit {unit:?}"), allowed: SIZES })?;
    let too_large = || error("more than 2^64 - 1 bytes");
    let fraction = fraction.trim_end_matches('0');
    // 18 digits behind the point divide the largest factor, 1000^6, evenly; more never make whole bytes.
    let scale = u32::try_from(fraction.len())
        .ok()
        .filter(|&digits| digits <= 18)
        .map(|digits| 10u128.pow(digits))
        .ok_or_else(|| error("not a whole number of bytes"))?;
    let digits = format!("{whole}{fraction}");
    let value = if digits.is_empty() { 0 } else { digits.parse::<u128>().map_err(|_| too_large())? };
    let scaled = value.checked_mul(u128::from(factor)).ok_or_else(too_large)?;
    if scaled % scale != 0 {
        return Err(error("not a whole number of bytes"));
    }
    u64::try_from(scaled / scale).map_err(|_| too_large())
}

/// Parses `1000`, `10k`, `1.5M`: a number of packets or flows, in powers of 1000 (`Ki`, `Mi`: of 1024).
///
/// # Errors
/// Anything else, and numbers beyond 2^64 - 1.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let refused = || UnitError {
        reason: "not a number".into(),
        allowed: "give a whole number, or one with k, M or G, as in 1000, 10k or 1.5M",
    };
    if text.trim_end().ends_with(['b', 'B']) {
        return Err(refused());
    }
    parse_size(text).map_err(|_| refused())
}

/// Bytes in a unit, by its name in any case.
fn size_factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.strip_suffix('b').unwrap_or(&unit) {
        prefix if prefix.ends_with('i') => (prefix.trim_end_matches('i'), 1024u64),
        prefix => (prefix, 1000),
    };
    let power = match prefix {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    // "kii" is no unit: one i at most was there.
    (unit.matches('i').count() <= 1).then(|| base.pow(power))
}

/// Bytes in decimal units: two digits below ten, whole numbers above: `999 B`, `4.1 GB`, `820 MB`, `1 kB`.
#[must_use]
pub fn format_bytes(bytes: f64) -> String {
    let (number, unit) = scale_bytes(bytes);
    format!("{number} {unit}")
}

/// [`format_bytes`] with number and unit apart, for ranges that name their unit once.
#[must_use]
pub fn scale_bytes(bytes: f64) -> (String, &'static str) {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = if bytes.is_finite() { bytes.max(0.0) } else { 0.0 };
    let mut unit = 0;
    // 999.5 would round to 1000 of the smaller unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    // 9.95 rounds to 10, which needs no decimal.
    let decimals = usize::from(unit > 0 && value < 9.95);
    let number = format!("{value:.decimals$}");
    (number.strip_suffix(".0").map_or_else(|| number.clone(), str::to_owned), UNITS[unit])
}

/// A number with a comma between groups of three digits.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number as short as it can be told apart from others: in exponents where it would be long (`5e-324`, `1e300`).
#[must_use]
pub fn format_number(value: f64) -> String {
    if value == 0.0 || (1e-6..1e15).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}

/// A duration in its two largest units: `100 ms`, `1.5 s`, `1 min 30 s`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, next, name) in [(1_000, 1, "ns"), (1_000_000, 1_000, "us"), (1_000_000_000, 1_000_000, "ms")] {
        if nanos < unit {
            return format!("{} {name}", tenths(nanos, next));
        }
    }
    if nanos < 60_000_000_000 {
        return format!("{} s", tenths(nanos, 1_000_000_000));
    }
    let seconds = duration.as_secs();
    let (large, small) = match seconds {
        0..3_600 => ((60, "min"), (1, "s")),
        3_600..86_400 => ((3_600, "h"), (60, "min")),
        _ => ((86_400, "d"), (3_600, "h")),
    };
    let mut text = format!("{} {}", seconds / large.0, large.1);
    let rest = seconds % large.0 / small.0;
    if rest > 0 {
        let _ = write!(text, " {rest} {}", small.1);
    }
    text
}

/// `value / unit` cut to one decimal, which is left out where it is 0.
fn tenths(value: u128, unit: u128) -> String {
    match value * 10 / unit % 10 {
        0 => (value / unit).to_string(),
        tenth => format!("{}.{tenth}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!((grouped(1_234_567).as_str(), grouped(999).as_str()), ("1,234,567", "999"));
    }

    #[test]
    fn durations_with_units_fractions_and_plain_seconds() {
        for (text, millis) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h 2m", 3_720_000),
            ("1.5s", 1_500),
            ("5", 5_000),
            ("0.25", 250),
            (" 2 ", 2_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_why_and_what_is_allowed() {
        for (text, reason) in [
            ("", "no duration given"),
            ("-5s", "never negative"),
            ("5x", "unknown unit \"x\""),
            ("1m30", "a unit is missing"),
            ("fast", "not a duration"),
            ("1..5", "not a duration"),
            ("99999999999999999999s", "too long"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("as in 5s"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_exact_in_both_systems() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("17 B", 17),
            ("200 kB", 200_000),
            ("200KB", 200_000),
            ("64k", 64_000),
            ("64Ki", 65_536),
            ("1MB", 1_000_000),
            ("1 MiB", 1_048_576),
            ("1.5MB", 1_500_000),
            ("0.5KiB", 512),
            (".5k", 500),
            ("1.50", 0),
            ("16EiB", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            match parse_size(text) {
                Ok(parsed) => assert_eq!(parsed, bytes, "{text}"),
                Err(error) => assert!(["1.50", "16EiB"].contains(&text), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn bad_sizes_say_why_and_what_is_allowed() {
        for (text, reason) in [
            ("", "no size given"),
            ("-1", "never negative"),
            ("MB", "not a size"),
            ("1.2.3", "not a size"),
            ("1x", "unknown unit \"x\""),
            ("1kii", "unknown unit"),
            ("1i", "unknown unit"),
            ("1.5", "whole number"),
            ("0.0000000000000000001EB", "whole number"),
            ("18446744073709551616", "2^64"),
            ("99999999999999999999999999999999999999999999EB", "2^64"),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("200kB"), "{text}: {error}");
        }
    }

    #[test]
    fn volumes_are_decimal_and_never_round_to_a_thousand() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (1.0, "1 B"),
            (999.4, "999 B"),
            (999.6, "1 kB"),
            (1_234.0, "1.2 kB"),
            (9_960.0, "10 kB"),
            (12_600.0, "13 kB"),
            (999_700.0, "1 MB"),
            (4_100_000_000.0, "4.1 GB"),
            (1e21, "1000 EB"),
            (f64::NAN, "0 B"),
            (-1.0, "0 B"),
        ] {
            assert_eq!(format_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (-2.5, "-2.5"),
            (1e6, "1000000"),
            (5e-324, "5e-324"),
            (-1e300, "-1e300"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_number(number), text);
        }
    }

    #[test]
    fn durations_in_their_two_largest_units() {
        for (nanos, text) in [
            (0, "0 ns"),
            (1_500, "1.5 us"),
            (100_000_000, "100 ms"),
            (1_500_000_000, "1.5 s"),
            (5_000_000_000, "5 s"),
            (59_999_999_999, "59.9 s"),
            (90_000_000_000, "1 min 30 s"),
            (7_500_000_000_000, "2 h 5 min"),
            (273_600_000_000_000, "3 d 4 h"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }

        #[test]
        fn whole_sizes_multiply(n in 0u64..1_000_000, unit in 0usize..5) {
            let (decimal, binary) = [("", ""), ("k", "Ki"), ("M", "Mi"), ("G", "Gi"), ("T", "Ti")][unit];
            let power = u32::try_from(unit).unwrap();
            prop_assert_eq!(parse_size(&format!("{n}{decimal}")), Ok(n * 1000u64.pow(power)));
            prop_assert_eq!(parse_size(&format!("{n} {binary}B")), Ok(n * 1024u64.pow(power)));
        }

        #[test]
        fn formatted_bytes_are_short_and_near(bytes in 0.0f64..1e20) {
            let text = format_bytes(bytes);
            prop_assert!(text.len() <= 6, "{}", text);
            let (number, unit) = text.split_once(' ').unwrap();
            let factor = 1000f64.powi(["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter().position(|u| *u == unit).map_or(0, |p| i32::try_from(p).unwrap()));
            let near = number.parse::<f64>().unwrap() * factor;
            prop_assert!((near - bytes).abs() <= (bytes * 0.051).max(0.5), "{} {}", bytes, text);
        }
    }
}
