//! Numbers, names and addresses as people read them.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use serde::Serialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};
use wherefore_common::Reason;

pub use crate::{clean::clean, units::grouped};

/// `value` with three significant digits and a decimal prefix, then `unit`: `1.23 GB`, `999 B`.
#[must_use]
pub fn scaled(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    let mut prefix = 0;
    // 999.5 would round to 1000 in three digits.
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let digits = match value {
        _ if prefix == 0 && value.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}{unit}", PREFIXES[prefix])
}

/// Bytes in decimal units: `1.23 GB`.
#[must_use]
pub fn bytes(value: u64) -> String {
    scaled(value as f64, "B")
}

/// Bytes per second of `bytes` in `length`: `1.23 GB/s`; `-` where the length is zero.
#[must_use]
pub fn rate(bytes: u64, length: Duration) -> String {
    if length.is_zero() { "-".to_owned() } else { scaled(bytes as f64 / length.as_secs_f64(), "B/s") }
}

/// What stands before a figure of which `packets` are estimated: `~`, or nothing where none is.
#[must_use]
pub const fn estimated_mark(packets: u64) -> &'static str {
    if packets > 0 { "~" } else { "" }
}

/// The part of `whole` in per cent: `12.3%`; `-` where the whole is zero. Only all of it is `100%`.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "-".to_owned(),
        (part, whole) if part >= whole => "100%".to_owned(),
        (part, whole) => format!("{:.1}%", (part as f64 / whole as f64 * 100.0).min(99.9)),
    }
}

/// A duration in words: `5 s`, `5.003 s`, from a minute on `1h 2m 3s`. Days are the longest unit: months and years
/// have no fixed length.
#[must_use]
pub fn duration(value: Duration) -> String {
    if value < Duration::from_secs(60) {
        let text = format!("{:.3}", value.as_secs_f64());
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    let seconds = value.as_secs();
    let parts =
        [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let parts =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}"));
    parts.collect::<Vec<_>>().join(" ")
}

/// `one` after 1, else `many`, with the number grouped before it.
#[must_use]
pub fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(value), if value == 1 { one } else { many })
}

/// The stable name of an unaccounted reason; `unknown_N` for a number this version does not know.
#[must_use]
pub fn reason(number: u8) -> Cow<'static, str> {
    match Reason::from_u8(number) {
        Some(reason) => Cow::Borrowed(reason.name()),
        None => Cow::Owned(format!("unknown_{number}")),
    }
}

/// Name of an IP protocol (IANA's keyword in lower case), or its number.
#[must_use]
pub fn protocol(number: u8) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipv4",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        _ => return Cow::Owned(number.to_string()),
    })
}

/// `192.0.2.1:443`, `[2001:db8::1]:443`; the address alone where `port` is `None`.
#[must_use]
pub fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// Both ports of a flow as [`endpoint`] takes them: none where both are 0, as in ICMP or a later fragment.
#[must_use]
pub fn ports(sport: u16, dport: u16) -> (Option<u16>, Option<u16>) {
    if sport == 0 && dport == 0 { (None, None) } else { (Some(sport), Some(dport)) }
}

/// Columns `text` takes on a terminal.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in at most `width` columns; where it was cut it ends in `…`.
#[must_use]
pub fn clip(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

/// `text` broken between words into lines of at most `width` columns; a longer word has a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let needed = columns(word) + usize::from(used > 0);
        if used > 0 && used + needed > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += columns(word);
        }
    }
    lines
}

/// A value as one line of JSON, line feed included.
#[must_use]
pub fn json_line<T: Serialize>(value: &T) -> String {
    // Strings and numbers under string keys always have a JSON form.
    let mut line = serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    line.push('\n');
    line
}

/// `text` as one CSV field (RFC 4180): quoted where it holds a comma, a quote or a line break.
#[must_use]
pub fn csv(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

/// Fields as one CSV line, line feed included.
#[must_use]
pub fn csv_line<S: AsRef<str>>(fields: impl IntoIterator<Item = S>) -> String {
    let mut line = String::new();
    for (i, field) in fields.into_iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        line.push_str(&csv(field.as_ref()));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_never_round_to_a_thousand() {
        for (value, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1234, "1.23 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(rate(5_000_000, Duration::from_secs(2)), "2.50 MB/s");
        assert_eq!(rate(5, Duration::ZERO), "-");
    }

    #[test]
    fn a_share_is_100_only_when_it_is_all() {
        assert_eq!(share(9_999_999, 10_000_000), "99.9%");
        assert_eq!(share(10, 10), "100%");
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn durations_are_short() {
        for (millis, text) in
            [(0, "0 s"), (5_000, "5 s"), (5_003, "5.003 s"), (10_100, "10.1 s"), (3_723_900, "1h 2m 3s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn ports_follow_bracketed_addresses() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap_or(IpAddr::from([0; 4]));
        assert_eq!(endpoint(v6, Some(443)), "[2001:db8::1]:443");
        assert_eq!(endpoint(v6, None), "2001:db8::1");
        assert_eq!(ports(0, 53), (Some(0), Some(53)));
        assert_eq!(ports(0, 0), (None, None));
    }

    #[test]
    fn csv_fields_are_quoted_only_where_they_must() {
        assert_eq!(csv_line(["a", "b,c", "d\"e", "f\ng"]), "a,\"b,c\",\"d\"\"e\",\"f\ng\"\n");
    }

    proptest! {
        #[test]
        fn clipping_never_exceeds_the_width(text in "\\PC{0,40}", width in 0usize..50) {
            let clipped = clip(&text, width);
            prop_assert!(columns(&clipped) <= width);
            prop_assert!(columns(&text) > width || clipped == text);
        }

        #[test]
        fn wrapping_keeps_every_word_and_the_width(text in "[a-z]{1,9}( [a-z]{1,9}){0,20}", width in 9usize..40) {
            let lines = wrap(&text, width);
            prop_assert_eq!(lines.join(" "), text);
            prop_assert!(lines.iter().all(|line| columns(line) <= width));
        }
    }
}
