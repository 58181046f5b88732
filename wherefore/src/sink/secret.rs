//! Keeps a URL out of texts that others wrote: a web server's error page likes to repeat it.

use crate::clean::is_hostile;

/// The parts of a URL that give access: the whole, its path with the query, and each longer piece of them.
#[derive(Clone)]
pub(super) struct Scrubber {
    /// Longest first, so that a whole is replaced before its parts.
    needles: Vec<String>,
}

/// Shorter pieces of a path ("services", "api") are no secrets, and hiding them would garble other words.
const SECRET_LENGTH: usize = 9;

impl Scrubber {
    pub(super) fn new(url: &reqwest::Url) -> Self {
        let mut needles = vec![url.as_str().to_owned()];
        let path = url.path();
        if path.len() > 1 {
            needles.push(path.to_owned());
        }
        let pieces = path.split('/').chain(url.query().unwrap_or_default().split(['&', '=']));
        let pieces = pieces.chain([url.username(), url.password().unwrap_or_default()]);
        needles.extend(pieces.filter(|piece| piece.len() >= SECRET_LENGTH).map(str::to_owned));
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        Self { needles }
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in &self.needles {
            text = text.replace(needle, "<hidden>");
        }
        text
    }
}

/// The beginning of `text` in one line, control characters replaced.
pub(super) fn one_line(text: &str, most_chars: usize) -> String {
    let mut line: String =
        text.trim().chars().take(most_chars).map(|c| if is_hostile(c) { ' ' } else { c }).collect();
    if text.trim().chars().nth(most_chars).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_the_whole_and_the_parts() {
        let url = "https://user:password1@hooks.example/services/T0000000000/B0000000000/abcdefghij?token=0123456789";
        let scrubber = Scrubber::new(&reqwest::Url::parse(url).unwrap());
        for text in [
            url,
            "not found: /services/T0000000000/B0000000000/abcdefghij",
            "no such token: abcdefghij",
            "team T0000000000",
            "token=0123456789",
            "password1",
        ] {
            let scrubbed = scrubber.scrub(text);
            for secret in ["T0000000000", "B0000000000", "abcdefghij", "0123456789", "password1"] {
                assert!(!scrubbed.contains(secret), "{text}: {scrubbed}");
            }
            assert!(scrubbed.contains("<hidden>"), "{text}");
        }
        assert_eq!(scrubber.scrub("no_service"), "no_service");
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line(" a\r\nb\u{1b}c \n", 10), "a  b c");
        assert_eq!(one_line("äöü", 2), "äö…");
    }
}
