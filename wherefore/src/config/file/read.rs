//! From text to [`Entries`], with every fault that there is and not only the first.

use std::ops::Range;

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{Fault, Place, entries::Entries};

/// Most faults told of one file.
const MOST: usize = 50;

/// Reads the keys of a file. Where there are faults, what is wrong is left out of the entries; they are `None` where
/// nothing can be told at all.
pub fn read(text: &str) -> (Option<(Entries, DeTable<'_>)>, Vec<Fault>) {
    let (mut table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let faults = syntax.iter().take(MOST).map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Fault::new(Place::of(text, at), format!("not TOML: {}", error.message()))
        });
        return (None, faults.collect());
    }
    let mut faults = Vec::new();
    let mut removed = Vec::new();
    // serde stops at the first fault. What has it is taken out, and the rest read again.
    loop {
        let error = match Entries::deserialize(Deserializer::from(table.clone())) {
            Ok(entries) => return (Some((entries, table.into_inner())), faults),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let message = error.message();
        let missing = quoted(message).next().filter(|_| message.starts_with("missing field"));
        let taken = match missing {
            Some(_) => take_table(table.get_mut(), &span),
            None => take_key(table.get_mut(), &span),
        };
        // What was taken out before is not missing.
        if !missing.is_some_and(|key| removed.contains(&(span.start, key.to_owned()))) {
            let message = plain(message, taken.as_ref().map(|taken| taken.key.as_str()));
            faults.push(Fault::new(Place::of(text, span.start), message));
        }
        match taken {
            Some(taken) if faults.len() < MOST => removed.push((taken.table, taken.key)),
            _ => return (None, faults),
        }
    }
}

/// A key that was taken out.
struct Taken {
    /// Where its table begins.
    table: usize,
    key: String,
}

/// Takes out the innermost key that has the place of a fault, itself or in its value.
fn take_key(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Taken> {
    take(table, 0, &mut |key, value| {
        let inside = |outer: Range<usize>| outer.contains(&span.start);
        inside(key) || (!matches!(value.get_ref(), DeValue::Table(_)) && inside(value.span()))
    })
}

/// Takes out the table that begins there: it lacks a key.
fn take_table(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Taken> {
    fn is_it(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
        matches!(value.get_ref(), DeValue::Table(_)) && value.span() == *span
    }
    for (_, value) in table.iter_mut() {
        if let DeValue::Array(array) = value.get_mut()
            && let Some(at) = array.iter().position(|value| is_it(value, span))
        {
            let kept = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = kept.filter(|(other, _)| *other != at).map(|(_, value)| value).collect();
            return Some(Taken { table: span.start, key: String::new() });
        }
    }
    take(table, 0, &mut |_, value| is_it(value, span))
}

/// Takes out the first key that is `wanted`, of inner tables before their own.
fn take(
    table: &mut DeTable<'_>,
    begin: usize,
    wanted: &mut impl FnMut(Range<usize>, &Spanned<DeValue<'_>>) -> bool,
) -> Option<Taken> {
    for (_, value) in table.iter_mut() {
        let begin = value.span().start;
        let inner = match value.get_mut() {
            DeValue::Table(inner) => take(inner, begin, wanted),
            DeValue::Array(array) => array.iter_mut().find_map(|value| {
                let begin = value.span().start;
                match value.get_mut() {
                    DeValue::Table(inner) => take(inner, begin, wanted),
                    _ => None,
                }
            }),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
    }
    let key = table.iter().find(|(key, value)| wanted(key.span(), value)).map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(Taken { table: begin, key: key.into_inner().into_owned() })
}

/// serde's message in our words.
fn plain(message: &str, key: Option<&str>) -> String {
    let mut names = quoted(message);
    if message.starts_with("missing field")
        && let Some(name) = names.next()
    {
        return format!("{name:?} is missing");
    }
    match (message.strip_prefix("unknown field"), key) {
        (Some(rest), Some(key)) => {
            let behind = rest.find("expected").map_or("", |at| &rest[at..]);
            let allowed: Vec<&str> = quoted(behind).collect();
            format!("unknown key {key:?}; {}", hint(key, &allowed))
        }
        _ => {
            let message = message.replace('`', "");
            let (begin, expected) = message.split_at(message.rfind("expected ").unwrap_or(message.len()));
            let expected = match expected.strip_prefix("expected ") {
                Some("f64") => "expected a number",
                Some(kind) if kind.starts_with("struct ") => "expected a table",
                _ => expected,
            };
            format!("{begin}{expected}")
        }
    }
}

/// The names between backticks.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// `did you mean "prefix"?`, or which keys there are.
pub fn hint(given: &str, allowed: &[&str]) -> String {
    let distance = |name: &&str| strsim::damerau_levenshtein(given, name);
    match allowed.iter().copied().min_by_key(distance) {
        Some(near) if distance(&near) <= (near.len() / 3).max(1) => format!("did you mean {near:?}?"),
        _ => format!("allowed are {}", allowed.join(", ")),
    }
}
