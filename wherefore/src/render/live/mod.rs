//! What `wherefore run` shows while it runs: the live table on a terminal, a line per interval elsewhere,
//! and the closing summary.

mod rows;
mod status;
mod words;

use std::{fmt::Write as _, time::Duration};

use self::status::{ordinary, rates, unaccounted_by_reason, warnings};
use super::text::{clean, clip, count, duration, wrap};
use crate::{backend::Description, snapshot::Snapshot};

pub use words::{Totals, closing, interval_line, too_short};

/// What the live table shows besides the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct LiveView<'a> {
    /// What is watched.
    pub description: &'a Description,
    /// The interval asked for.
    pub interval: Duration,
    /// Alerts since the start.
    pub alerts: u64,
    /// The latest alerts and log lines, oldest first; as many of the last ones are shown as fit, broken between
    /// words.
    pub recent: &'a [String],
    /// Columns of the terminal.
    pub width: usize,
    /// Lines of the terminal.
    pub height: usize,
    /// Use ANSI colours; false with `NO_COLOR` or `--color never`.
    pub color: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Warning,
}

/// Lines that fit, with their style.
struct Screen {
    width: usize,
    color: bool,
    lines: Vec<String>,
}

impl Screen {
    /// One line of the screen: cut to the width, styled afterwards, so that no escape sequence is cut.
    fn line(&self, text: &str, style: Style) -> String {
        let text = clip(text.trim_end(), self.width);
        let code = match style {
            _ if !self.color || text.is_empty() => return text.into_owned(),
            Style::Plain => return text.into_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Warning => "1;33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn push(&mut self, text: &str, style: Style) {
        let line = self.line(text, style);
        self.lines.push(line);
    }
}

/// The screen of a running `wherefore`: at most `height` lines of at most `width` columns, joined by line
/// feeds, without one at the end (it would scroll).
///
/// From the top: what is watched and why so, totals and rates, warnings, the flows with most wire bytes in
/// this interval, the latest alerts, how to stop. Where lines are short, flows and alerts go first. A flow
/// whose addresses do not fit one line takes two.
#[must_use]
pub fn live_table(snapshot: &Snapshot, view: &LiveView<'_>) -> String {
    let LiveView { width, height, color, .. } = *view;
    if width == 0 || height == 0 {
        return String::new();
    }
    let mut head = Screen { width, color, lines: Vec::new() };
    head.push(&format!("wherefore: watching {}", watched(snapshot, view.description)), Style::Bold);
    head.push(&format!("{}: {}", view.description.backend, clean(&view.description.why)), Style::Dim);
    if snapshot.length.is_zero() {
        head.push(&format!("first figures in {}", duration(view.interval)), Style::Plain);
    } else {
        let mut line = rates(snapshot);
        let others = unaccounted_by_reason(snapshot, ordinary);
        if !others.is_empty() {
            let _ = write!(line, " · in no flow: {others}");
        }
        head.push(&line, Style::Plain);
        for warning in warnings(snapshot) {
            head.push(&format!("! {warning}"), Style::Warning);
        }
    }
    let mut foot = Screen { width, color, lines: Vec::new() };
    foot.push(
        &format!(
            "{} · every {} · Ctrl-C stops",
            count(view.alerts, "alert", "alerts"),
            duration(view.interval)
        ),
        if view.alerts > 0 { Style::Bold } else { Style::Dim },
    );
    head.lines.truncate(height.saturating_sub(1).max(1));
    if head.lines.len() == height {
        return head.lines.join("\n");
    }
    let mut room = height - head.lines.len() - foot.lines.len();

    let mut alerts = Screen { width, color, lines: Vec::new() };
    for line in recent_lines(view.recent, width, room / 3) {
        alerts.push(&line, Style::Warning);
    }
    room -= alerts.lines.len();
    head.lines.extend(rows::flow_lines(snapshot, width, room, color));
    head.lines.append(&mut alerts.lines);
    head.lines.append(&mut foot.lines);
    head.lines.join("\n")
}

/// The interfaces of this interval, before the first those of the start, with the hooks these had.
fn watched(snapshot: &Snapshot, description: &Description) -> String {
    let with_hook = |name: &str| match description.watched.iter().find(|watched| watched.name == name) {
        Some(watched) => format!("{} ({})", clean(name), clean(&watched.hook)),
        None => clean(name).into_owned(),
    };
    let names: Vec<String> = if snapshot.length.is_zero() {
        description.watched.iter().map(|watched| with_hook(&watched.name)).collect()
    } else {
        // Number 0 is none of them.
        snapshot.interfaces.iter().filter(|(index, _)| **index > 0).map(|(_, name)| with_hook(name)).collect()
    };
    if names.is_empty() { "no interface".to_owned() } else { names.join(", ") }
}

/// The last of `recent` in at most `room` lines, oldest first. What follows the first line of one is indented.
fn recent_lines(recent: &[String], width: usize, room: usize) -> Vec<String> {
    let mut newest_first = Vec::new();
    let mut left = room;
    for text in recent.iter().rev() {
        let mut lines = wrap(&clean(text), width.saturating_sub(2));
        lines.iter_mut().skip(1).for_each(|line| line.insert_str(0, "  "));
        // The newest is shown even if it must be cut.
        if lines.len() > left && left < room {
            break;
        }
        lines.truncate(left);
        left -= lines.len();
        newest_first.push(lines);
    }
    newest_first.into_iter().rev().flatten().collect()
}

#[cfg(test)]
mod tests;
