//! What settings would have alerted on, and which one to use.

use std::{fmt::Write as _, time::Duration};

use comfy_table::CellAlignment;

use super::{
    table::{clipped, fit, plain_table},
    text::{clean, duration},
};
use crate::tune::{Ladder, Wish};

/// What was tried.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// What was read: `3 series`, `2 captures`.
    pub what: String,
    /// What was asked for.
    pub wish: Wish,
    /// The settings tried.
    pub ladder: Ladder,
    /// What each alerted on, a line each.
    pub alerts: Vec<Vec<String>>,
    /// Flags without which the setting means nothing: `--detector anomalyzer`.
    pub flags: String,
    /// The same for the configuration file, a line each.
    pub toml: Vec<String>,
}

impl Tuning {
    /// The setting to use; the strictest where none is strict enough.
    #[must_use]
    pub fn chosen(&self) -> usize {
        self.fitting().unwrap_or_default()
    }

    /// The setting to use, if one gives what is wanted.
    #[must_use]
    pub fn fitting(&self) -> Option<usize> {
        let counts: Vec<_> = self.alerts.iter().map(Vec::len).collect();
        self.ladder.choose(&counts, &self.wish)
    }

    /// For a person, in lines of at most `width` columns where they hold what varies.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> String {
        let Self { what, wish, ladder, alerts, .. } = self;
        let at = self.chosen();
        let Some(&setting) = ladder.settings.get(at) else { return String::new() };
        let wanted = count(wish.a_day);
        let mut out = format!("{what}, {}; wanted: {wanted} a day\n", duration(whole(wish.length)));
        if !wish.is_told() {
            let _ = writeln!(
                out,
                "note: this is too short to tell {wanted} a day, for which it takes {}: rates are extrapolated, and no \
                 setting looser than the usual one is proposed",
                duration(wish.enough()),
            );
        }
        if self.fitting().is_none() {
            let _ = writeln!(out, "note: even the strictest of these settings alerts more often than wanted");
        }
        let flag = format!("--{}", setting.key().replace('_', "-"));
        let mut table = plain_table();
        table.set_header(["", &flag, "alerts", "a day"]);
        for (i, (setting, alerts)) in ladder.settings.iter().zip(alerts).enumerate() {
            let rate = wish.rate(alerts.len()).map_or_else(|| "-".to_owned(), short);
            let mark = if i == at { "→" } else { "" };
            table.add_row([mark.to_owned(), setting.to_string(), alerts.len().to_string(), rate]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let _ = write!(out, "\n{}", fit(&mut table, 2, width));
        let told = alerts.get(at).map(Vec::as_slice).unwrap_or_default();
        let _ = writeln!(
            out,
            "\n{flag} {setting} would have alerted on{}",
            if told.is_empty() { " nothing" } else { ":" }
        );
        let lines: String = told.iter().map(|line| format!("  {}\n", clean(line))).collect();
        out += &clipped(&lines, width);
        let flags = if self.flags.is_empty() { String::new() } else { format!(" {}", self.flags) };
        let _ = writeln!(out, "\nCommand line:\n  wherefore run{flags} {flag} {setting}");
        let _ = writeln!(out, "\nConfiguration file:\n  [detection]");
        for line in &self.toml {
            let _ = writeln!(out, "  {line}");
        }
        let _ = writeln!(out, "  {} = {setting}", setting.key());
        out
    }
}

/// `1 alert`, `0.5 alerts`.
fn count(alerts: f64) -> String {
    let plural = if alerts == 1.0 { "" } else { "s" };
    format!("{} alert{plural}", crate::units::format_number(alerts))
}

/// A rate with two digits that count.
fn short(rate: f64) -> String {
    match rate {
        _ if rate == 0.0 || rate >= 10.0 => format!("{rate:.0}"),
        _ if rate >= 1.0 => format!("{rate:.1}"),
        _ if rate >= 0.01 => format!("{rate:.2}"),
        _ => "<0.01".to_owned(),
    }
}

/// Without what is less than a second, unless there is nothing else.
fn whole(length: Duration) -> Duration {
    if length.as_secs() == 0 { length } else { Duration::from_secs(length.as_secs()) }
}
