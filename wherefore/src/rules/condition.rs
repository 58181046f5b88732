//! What a rule does not allow, as it is written: `rate > 1 GB/s for 10s`, `new destination`.

use std::{fmt, str::FromStr, time::Duration};

use crate::units::{UnitError, parse_count, parse_duration, parse_size};

/// Longest time a condition may name: a year.
pub const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// A condition, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is measured.
    pub kind: Kind,
    text: String,
    allowed: String,
}

/// What is measured, and how much of it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More than `limit` a second in each interval of `lasting` (zero: in any interval).
    Rate {
        /// Bytes or packets.
        of: Quantity,
        /// Allowed a second.
        limit: u64,
        /// How long it must be more before the rule is broken.
        lasting: Duration,
    },
    /// More than `limit` within any window of this length.
    Volume {
        /// Bytes or packets.
        of: Quantity,
        /// Allowed in a window.
        limit: u64,
        /// Length of the window.
        per: Duration,
    },
    /// More than `limit` flows in each interval of `lasting` (zero: in any interval).
    Flows {
        /// Allowed in an interval.
        limit: u64,
        /// How long there must be more before the rule is broken.
        lasting: Duration,
    },
    /// A remote end that was not seen before.
    NewDestination,
}

/// What a rate or a volume is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Bytes, of the kind that series hold.
    Bytes,
    /// Packets as on the wire.
    Packets,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConditionError {
    /// Byte of the text at which it goes wrong.
    pub at: usize,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

/// The forms of a condition, for messages.
const FORMS: &str = "allowed are `rate > 1 GB/s for 10s`, `volume > 50 GB per 24h`, `packets > 10k/s for 10s`, \
                     `packets > 1M per 1h`, `flows > 1000 for 10s` and `new destination`";

impl Condition {
    /// What is allowed, as it was written: `1 GB/s`, `50 GB per 24h`, `1000 flows`; empty for a new destination.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// The time it names, which must be no shorter than an interval; zero where it names none.
    #[must_use]
    pub const fn time(&self) -> Duration {
        match self.kind {
            Kind::Rate { lasting, .. } | Kind::Flows { lasting, .. } => lasting,
            Kind::Volume { per, .. } => per,
            Kind::NewDestination => Duration::ZERO,
        }
    }

    /// Whether what breaks this condition breaks `other` as well, of the same traffic or less.
    #[must_use]
    pub fn implies(&self, other: &Self) -> bool {
        match (self.kind, other.kind) {
            (Kind::Rate { of, limit, lasting }, Kind::Rate { of: of2, limit: limit2, lasting: lasting2 }) => {
                of == of2 && limit >= limit2 && lasting >= lasting2
            }
            (Kind::Flows { limit, lasting }, Kind::Flows { limit: limit2, lasting: lasting2 }) => {
                limit >= limit2 && lasting >= lasting2
            }
            (Kind::Volume { of, limit, per }, Kind::Volume { of: of2, limit: limit2, per: per2 }) => {
                of == of2 && limit >= limit2 && per <= per2
            }
            (Kind::NewDestination, Kind::NewDestination) => true,
            _ => false,
        }
    }
}

/// As it was written, in single spaces and without quotes.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(given: &str) -> Result<Self, ConditionError> {
        // Values may be quoted. A space in place of the quote keeps every place where it is.
        let text = given.replace('"', " ");
        let shown = words(&text.replace('>', " > "));
        if shown == "new destination" {
            return Ok(Self { kind: Kind::NewDestination, text: shown, allowed: String::new() });
        }
        let parts = Parts::of(&text)?;
        let amount = words(parts.amount.text);
        let (kind, allowed) = match parts.measure.text {
            "rate" => {
                let limit = parts.per_second(parse_size, "a rate is bytes a second, as in 1 GB/s")?;
                (Kind::Rate { of: Quantity::Bytes, limit, lasting: parts.lasting()? }, amount)
            }
            "volume" => {
                let limit = parts.limit(parts.amount, parse_size)?;
                let per = parts.per("a volume is of a time: volume > 50 GB per 24h")?;
                (Kind::Volume { of: Quantity::Bytes, limit, per }, parts.with_window(&amount))
            }
            "packets" if parts.amount.text.ends_with("/s") => {
                let limit = parts.per_second(parse_count, "give packets a second, as in 10k/s")?;
                let kind = Kind::Rate { of: Quantity::Packets, limit, lasting: parts.lasting()? };
                (kind, packets(amount.trim_end_matches("/s"), "/s"))
            }
            "packets" => {
                let limit = parts.limit(parts.amount, parse_count)?;
                let per =
                    parts.per("packets are of a time: packets > 10k/s for 10s, or packets > 1M per 1h")?;
                (Kind::Volume { of: Quantity::Packets, limit, per }, parts.with_window(&packets(&amount, "")))
            }
            "flows" => {
                let limit = parts.limit(parts.amount, parse_count)?;
                (Kind::Flows { limit, lasting: parts.lasting()? }, format!("{amount} flows"))
            }
            _ => return Err(parts.measure.refused(FORMS)),
        };
        Ok(Self { kind, text: shown, allowed })
    }
}

/// `10k packets`, `10k packets/s`.
fn packets(amount: &str, per: &str) -> String {
    format!("{} packets{per}", amount.trim_end())
}

/// In single spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A part of the text, trimmed, and where it is.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    at: usize,
    text: &'a str,
}

impl<'a> Part<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        Self { at: at + (text.len() - text.trim_start().len()), text: text.trim() }
    }

    fn refused(&self, reason: impl Into<String>) -> ConditionError {
        ConditionError { at: self.at, reason: reason.into() }
    }

    fn unit(&self) -> impl Fn(UnitError) -> ConditionError {
        |error| self.refused(format!("{:?}: {error}", self.text))
    }
}

/// `measure > amount` and, behind `for` or `per`, a time.
struct Parts<'a> {
    measure: Part<'a>,
    amount: Part<'a>,
    time: Option<(&'static str, Part<'a>)>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, ConditionError> {
        let whole = Part::new(text, 0);
        let Some(sign) = text.find('>') else {
            return Err(whole.refused(format!("no condition: {FORMS}")));
        };
        let measure = Part::new(&text[..sign], 0);
        let rest = &text[sign + 1..];
        let word = ["for", "per"].into_iter().find_map(|word| Some((word, find_word(rest, word)?)));
        let amount = &rest[..word.map_or(rest.len(), |(_, at)| at)];
        let time = word.map(|(word, at)| {
            let behind = at + word.len();
            (word, Part::new(&rest[behind..], sign + 1 + behind))
        });
        Ok(Self { measure, amount: Part::new(amount, sign + 1), time })
    }

    fn limit(
        &self,
        amount: Part<'a>,
        parse: impl Fn(&str) -> Result<u64, UnitError>,
    ) -> Result<u64, ConditionError> {
        match parse(amount.text).map_err(amount.unit())? {
            0 => Err(amount.refused("a limit of 0 is broken by any traffic: give more than 0")),
            limit => Ok(limit),
        }
    }

    fn per_second(
        &self,
        parse: impl Fn(&str) -> Result<u64, UnitError>,
        otherwise: &str,
    ) -> Result<u64, ConditionError> {
        let number = self.amount.text.strip_suffix("/s").ok_or_else(|| self.amount.refused(otherwise))?;
        self.limit(Part::new(number, self.amount.at), parse)
    }

    fn lasting(&self) -> Result<Duration, ConditionError> {
        match self.time {
            None => Ok(Duration::ZERO),
            Some(("for", time)) => duration(time),
            Some((_, time)) => {
                Err(time.refused("this lasts `for` a time; `per` goes with volume and packets"))
            }
        }
    }

    fn per(&self, otherwise: &str) -> Result<Duration, ConditionError> {
        match self.time {
            Some(("per", time)) => duration(time),
            _ => Err(self.amount.refused(otherwise)),
        }
    }

    fn with_window(&self, amount: &str) -> String {
        format!("{amount} per {}", self.time.map_or("", |(_, time)| time.text))
    }
}

fn duration(time: Part<'_>) -> Result<Duration, ConditionError> {
    let duration = parse_duration(time.text).map_err(time.unit())?;
    if duration.is_zero() || duration > LONGEST {
        return Err(time.refused("give a time above 0, 365d at most"));
    }
    Ok(duration)
}

/// Where `word` stands between spaces.
fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        before.ends_with(char::is_whitespace)
            && (behind.is_empty() || behind.starts_with(char::is_whitespace))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Condition {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_is_understood_with_and_without_quotes() {
        use Quantity::{Bytes, Packets};
        let seconds = Duration::from_secs;
        for (text, kind, allowed) in [
            (
                "rate > 1 GB/s for 10s",
                Kind::Rate { of: Bytes, limit: 1_000_000_000, lasting: seconds(10) },
                "1 GB/s",
            ),
            (
                r#"  rate>"1.5 MB/s"  for  "1m 30s" "#,
                Kind::Rate { of: Bytes, limit: 1_500_000, lasting: seconds(90) },
                "1.5 MB/s",
            ),
            ("rate > 1kB/s", Kind::Rate { of: Bytes, limit: 1_000, lasting: Duration::ZERO }, "1kB/s"),
            (
                r#"volume > "50 GB" per "24h""#,
                Kind::Volume { of: Bytes, limit: 50_000_000_000, per: seconds(86_400) },
                "50 GB per 24h",
            ),
            (
                "packets > 10 k/s for 5s",
                Kind::Rate { of: Packets, limit: 10_000, lasting: seconds(5) },
                "10 k packets/s",
            ),
            (
                "packets > 1M per 1h",
                Kind::Volume { of: Packets, limit: 1_000_000, per: seconds(3_600) },
                "1M packets per 1h",
            ),
            ("flows > 1000 for 10", Kind::Flows { limit: 1_000, lasting: seconds(10) }, "1000 flows"),
            (" new   destination", Kind::NewDestination, ""),
        ] {
            let condition = parsed(text);
            assert_eq!((condition.kind, condition.allowed()), (kind, allowed), "{text}");
            assert_eq!(parsed(&condition.to_string()), condition, "{text}");
        }
        assert_eq!(parsed(r#" rate>"1 GB/s"  for 10s"#).to_string(), "rate > 1 GB/s for 10s");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, at, reason) in [
            ("", 0, "no condition: allowed are `rate > 1 GB/s"),
            ("new destinations", 0, "no condition"),
            ("rat > 1 GB/s", 0, "allowed are `rate"),
            ("rate < 1 GB/s", 0, "no condition"),
            ("rate > 1 GB", 7, "a rate is bytes a second"),
            ("rate > 1 Gbit/s", 7, "unknown unit \"Gbit\""),
            ("rate > 0 B/s", 7, "broken by any traffic"),
            ("rate >  1 GB/s per 10s", 19, "`per` goes with volume"),
            ("rate > 1 GB/s for", 17, "no duration given"),
            ("rate > 1 GB/s for 10x", 18, "unknown unit \"x\""),
            ("rate > 1 GB/s for 0s", 18, "above 0"),
            ("volume > 1 GB", 9, "a volume is of a time"),
            ("volume > 1 GB for 1h", 9, "a volume is of a time"),
            ("volume > 1 GB per 400d", 18, "365d at most"),
            ("volume > many per 1h", 9, "not a size"),
            ("packets > 5", 10, "packets are of a time"),
            ("packets > 5 kB/s", 10, "a whole number"),
            ("flows > 1.5 per 5s", 8, "a whole number"),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.at == at && error.reason.contains(reason), "{text}: {error:?}");
        }
    }

    #[test]
    fn one_condition_implies_another_where_it_breaks_later() {
        for (stricter, wider, expected) in [
            ("rate > 2 GB/s for 10s", "rate > 1 GB/s for 10s", true),
            ("rate > 1 GB/s for 20s", "rate > 1 GB/s for 10s", true),
            ("rate > 2 GB/s for 5s", "rate > 1 GB/s for 10s", false),
            ("packets > 9/s", "rate > 1 B/s", false),
            ("volume > 2 GB per 1h", "volume > 1 GB per 24h", true),
            ("volume > 2 GB per 24h", "volume > 1 GB per 1h", false),
            ("flows > 5", "flows > 5", true),
            ("new destination", "new destination", true),
        ] {
            assert_eq!(parsed(stricter).implies(&parsed(wider)), expected, "{stricter} {wider}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused_at_a_place_in_it(text in "(rate|volume|flows|packets)? ?>? ?.{0,20}( per | for )?.{0,5}") {
            if let Err(error) = text.parse::<Condition>() {
                prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at));
            }
        }
    }
}
