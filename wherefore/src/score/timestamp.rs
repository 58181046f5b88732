//! The times that a series may have.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Reads whole seconds since 1970, RFC 3339, or a date and time without an offset, which is taken for UTC (seconds, or
/// the time, may be left out). Years -9999 to 9999.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'+')
        && let Ok(seconds) = text.parse()
    {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    // A civil time reads over an offset; what has one was read above or is wrong.
    let civil: DateTime = text.parse().ok()?;
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let offset = time.contains(['+', '-', 'Z', 'z', '[']);
    if offset { None } else { Offset::UTC.to_timestamp(civil).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_civil_times_and_rfc_3339() {
        for (text, seconds) in [
            ("0", 0),
            ("-300", -300),
            (" 1700000000 ", 1_700_000_000),
            ("2014-04-01 00:00:00", 1_396_310_400),
            ("2014-04-01T00:00:00", 1_396_310_400),
            ("2014-04-01 00:00", 1_396_310_400),
            ("2014-04-01", 1_396_310_400),
            ("2014-04-01T00:00:00Z", 1_396_310_400),
            ("2014-04-01T02:00:00+02:00", 1_396_310_400),
            ("2014-03-31 17:00:00-07:00", 1_396_310_400),
            ("1969-12-31 23:59:00", -60),
        ] {
            assert_eq!(parse(text).map(Timestamp::as_second), Some(seconds), "{text}");
        }
        let nanos = parse("2014-04-01T00:00:00.000000001Z").map(|time| time.subsec_nanosecond());
        assert_eq!(nanos, Some(1));
        assert_eq!(parse("2014-04-01 00:00:00.250").map(|time| time.subsec_nanosecond()), Some(250_000_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "timestamp",
            "1.5",
            "1e9",
            "0x10",
            "1700000000000000",
            "2014-02-30 00:00:00",
            "2014-04-01 25:00:00",
            "01/04/2014",
            "2014-04-01T00:00:00+99:00",
            "-",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
