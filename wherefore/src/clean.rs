//! Text from outside made harmless: names of interfaces, also those a capture file claims, answers of servers.

use std::{borrow::Cow, fmt::Write as _};

/// Whether a terminal would obey `c`, or show what follows in another order: control characters, line separators,
/// invisible ones and Unicode's direction marks.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` with hostile characters escaped.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hostile(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_be_obeyed_can_be_read() {
        assert_eq!(clean("eth0\u{1b}[2J\u{202e}x"), "eth0\\u{1b}[2J\\u{202e}x");
        assert_eq!(clean("Grüße 中"), "Grüße 中");
    }

    proptest! {
        #[test]
        fn cleaned_text_has_no_hostile_characters(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_hostile));
        }
    }
}
