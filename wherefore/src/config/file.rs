//! The configuration file: settings by the names of the flags, rules, overrides. Pure: from text to values, or to all
//! that is wrong with it, by line and column. docs/configuration.md describes it.

mod entries;
mod read;
mod values;

use std::{fmt, ops::Range, path::PathBuf, time::Duration};

use schemars::{Schema, transform::transform_subschemas};
use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::{
    entries::{Entries, MatchEntry, OverrideEntry, RuleEntry},
    values::{List, Name, OneOf, Ports, Protocol, Size, Whole, Written},
};
use crate::rules::{self, Condition, Kind, Match, Override, Part, Rule};

/// Where the file is looked for that nobody named.
pub const DEFAULT_PATH: &str = "/etc/wherefore/wherefore.toml";

/// Sections whose keys are flags.
pub const SECTIONS: [&str; 5] = ["capture", "series", "detection", "alerts", "learning"];

/// A configuration file that was understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// The keys of [`SECTIONS`] that are there.
    pub settings: Vec<Setting>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Its overrides.
    pub overrides: Vec<Override>,
    places: Vec<RulePlaces>,
}

/// A key of a section, and what a flag of its name would be given.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub key: String,
    /// Its value, of a list each one.
    pub values: Vec<String>,
    /// Where the value is.
    pub place: Place,
}

impl Setting {
    /// Its value for people: of the webhook, which is a secret, nothing.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.key == "slack_url" { "<hidden>".to_owned() } else { self.values.join(", ") }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(f, "{line}:{column}: {}.{} = {}", self.section, self.key, self.shown())
    }
}

/// Where the parts of a rule are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RulePlaces {
    name: Place,
    wanted: Place,
    condition: Place,
    learn: Place,
}

/// A place in a file, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its line.
    pub line: usize,
    /// Its column.
    pub column: usize,
}

impl Place {
    /// The place of a byte of `text`.
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rfind('\n').map_or(0, |feed| feed + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line..].chars().count() + 1 }
    }
}

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what is allowed.
    pub message: String,
}

impl Fault {
    /// What is wrong at a place.
    #[must_use]
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

/// All that is wrong with a file: a line for each fault, `wherefore.toml:12:5: unknown key "prefx"; …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, by place.
    pub faults: Vec<Fault>,
}

impl FileError {
    /// The faults of a file in its own order.
    #[must_use]
    pub fn new(path: PathBuf, mut faults: Vec<Fault>) -> Self {
        faults.sort();
        Self { path, faults }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Fault { place: Place { line, column }, message }) in self.faults.iter().enumerate() {
            let feed = if i == 0 { "" } else { "\n" };
            write!(f, "{feed}{}:{line}:{column}: {message}", self.path.display())?;
        }
        Ok(())
    }
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// All that is wrong with it by itself; [`Self::check`] tells the rest.
    pub fn read(text: &str) -> Result<Self, Vec<Fault>> {
        let (read, mut faults) = read::read(text);
        let Some((entries, table)) = read else { return Err(faults) };
        let mut file = Self { settings: settings(text, &table), ..Self::default() };
        let mut parts = Parts { text, faults: &mut faults };
        let Entries { rules, overrides, .. } = entries;
        for entry in rules {
            if let Some((rule, places)) = parts.rule(entry) {
                file.rules.push(rule);
                file.places.push(places);
            }
        }
        for entry in overrides {
            let place = Place::of(text, entry.wanted.span().start);
            let entry = parts.override_entry(entry, place);
            if file.overrides.iter().any(|earlier| entry.wanted.is_within(&earlier.wanted)) {
                parts.faults.push(Fault::new(place, "never used: an override before it matches all of this"));
            }
            file.overrides.push(entry);
        }
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// What is wrong with the rules together, with intervals of this length and at most `table_size` flows in one.
    #[must_use]
    pub fn check(&self, interval: Duration, table_size: Option<u32>) -> Vec<Fault> {
        let faults = rules::check(&self.rules, interval, table_size).into_iter();
        faults
            .filter_map(|fault| {
                let places = self.places.get(fault.rule)?;
                let place = match fault.part {
                    Part::Name => places.name,
                    Part::Match => places.wanted,
                    Part::Condition => places.condition,
                    Part::Learn => places.learn,
                };
                Some(Fault::new(place, fault.reason))
            })
            .collect()
    }
}

/// The JSON Schema of the file (draft 2020-12), without what the flags know: help and default of each setting.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Entries);
    without_null(&mut schema);
    schema
}

/// A key that may be left out is no key that may be null, which TOML does not have; and a description is one line.
fn without_null(schema: &mut Schema) {
    schema.remove("default");
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for list in ["type", "enum", "anyOf"] {
        let Some(Value::Array(values)) = schema.get_mut(list) else { continue };
        values.retain(|value| !(value.is_null() || value == "null" || value["type"] == "null"));
        if let [only] = &values[..]
            && list != "enum"
        {
            let only = only.clone();
            schema.remove(list);
            match only {
                Value::Object(keys) => keys.into_iter().for_each(|(key, value)| {
                    schema.ensure_object().entry(key).or_insert(value);
                }),
                name => {
                    schema.insert(list.to_owned(), name);
                }
            }
        }
    }
    transform_subschemas(&mut without_null, schema);
}

/// The settings of a file that was read.
fn settings(text: &str, table: &DeTable<'_>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for section in SECTIONS {
        let Some(DeValue::Table(keys)) = table.get(section).map(Spanned::get_ref) else { continue };
        settings.extend(keys.iter().map(|(key, value)| Setting {
            section,
            key: key.get_ref().to_string(),
            values: match value.get_ref() {
                DeValue::Array(values) => values.iter().map(|value| written(value.get_ref())).collect(),
                value => vec![written(value)],
            },
            place: Place::of(text, value.span().start),
        }));
    }
    settings.sort_by_key(|setting| setting.place);
    settings
}

/// A value as a flag takes it.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => {
            // In hexadecimal, octal or binary it is the number that counts.
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| number.to_string(), |number| number.to_string())
        }
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}

/// Turns entries into values, and gathers what is wrong with them.
struct Parts<'a> {
    text: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Parts<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.text, span.start)
    }

    fn fault(&mut self, at: usize, message: impl Into<String>) {
        self.faults.push(Fault::new(Place::of(self.text, at), message));
    }

    fn rule(&mut self, entry: RuleEntry) -> Option<(Rule, RulePlaces)> {
        let RuleEntry { name, condition, wanted, by, severity, learn } = entry;
        let (at, learn_at) = (condition.span(), learn.as_ref().map(Spanned::span));
        let places = RulePlaces {
            name: self.place(&name.span()),
            wanted: self.place(&wanted.as_ref().map_or_else(|| name.span(), Spanned::span)),
            condition: self.place(&at),
            learn: self.place(&learn_at.clone().unwrap_or_else(|| at.clone())),
        };
        let parsed: Condition = match condition.get_ref().parse() {
            Ok(parsed) => parsed,
            Err(error) => {
                let error: rules::ConditionError = error;
                let inside = self.inside(&at, condition.get_ref(), error.at);
                self.fault(inside, error.reason);
                return None;
            }
        };
        match (&learn_at, parsed.kind) {
            (None, Kind::NewDestination) => self.fault(
                at.start,
                "a new destination needs a time to learn which ones there are, as in learn = \"24h\"",
            ),
            (Some(span), kind) if kind != Kind::NewDestination => {
                self.fault(span.start, "learn goes with the condition \"new destination\" alone");
            }
            _ => {}
        }
        if let Some(span) = learn_at
            && learn.as_ref().is_some_and(|learn| learn.get_ref().0.0 > rules::LONGEST)
        {
            self.fault(span.start, "give 365d at most");
        }
        let Written(Name(name)) = name.into_inner();
        let rule = Rule {
            name: name.into(),
            wanted: wanted.map(|wanted| matching(wanted.into_inner())).unwrap_or_default(),
            condition: parsed,
            by: by.map(|Written(OneOf(by))| by).unwrap_or_default(),
            severity: severity.map(|Written(OneOf(severity))| severity).unwrap_or_default(),
            learn: learn.map(|learn| learn.into_inner().0.0).unwrap_or_default(),
        };
        Some((rule, places))
    }

    /// Byte of the file at which byte `at` of a text stands, whose value has this span. Where the text is written with
    /// escapes that is not told: then its beginning.
    fn inside(&self, span: &Range<usize>, value: &str, at: usize) -> usize {
        match self.text.get(span.clone()) {
            Some(raw) if raw.len() == value.len() + 2 && raw.get(1..=value.len()) == Some(value) => {
                span.start + 1 + at
            }
            _ => span.start,
        }
    }

    fn override_entry(&mut self, entry: OverrideEntry, place: Place) -> Override {
        let OverrideEntry { wanted, ignore, min_bytes, min_flows } = entry;
        let entry = Override {
            wanted: matching(wanted.into_inner()),
            ignore: ignore.unwrap_or_default(),
            min_bytes: min_bytes.map(|Written(Size(bytes))| bytes),
            min_flows: min_flows.map(|Written(Whole(flows))| flows),
        };
        let mut fault = |message: String| self.faults.push(Fault::new(place, message));
        if let Some(reason) = entry.wanted.contradiction() {
            fault(format!("no flow can match: {reason}"));
        }
        if !entry.ignore
            && let Some(key) = entry.wanted.transport_key()
        {
            fault(format!(
                "{key}: what is judged has addresses and no ports or protocol; only ignore = true can ask for them"
            ));
        }
        let settings = entry.min_bytes.is_some() || entry.min_flows.is_some();
        match (entry.ignore, settings) {
            (true, true) => fault("what is ignored needs no other setting; leave one of them out".into()),
            (false, false) => {
                fault("an override that changes nothing: give ignore = true, min_bytes or min_flows".into());
            }
            _ => {}
        }
        entry
    }
}

/// What an entry matches.
fn matching(entry: MatchEntry) -> Match {
    let ports =
        |list: Option<List<Ports>>| List::values(list).into_iter().map(|Ports(range)| range).collect();
    Match {
        prefix: List::values(entry.prefix),
        local: List::values(entry.local),
        remote: List::values(entry.remote),
        port: ports(entry.port),
        local_port: ports(entry.local_port),
        remote_port: ports(entry.remote_port),
        proto: List::values(entry.proto).into_iter().map(|Protocol(number)| number).collect(),
        direction: List::values(entry.direction),
        locality: List::values(entry.locality),
        interface: List::values(entry.interface),
    }
}

#[cfg(test)]
mod tests;
